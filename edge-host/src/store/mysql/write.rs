//! A write of a cart: one transaction, begun by locking the cart.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

use cart_core::Cart;
use sqlx::MySqlConnection;

use super::outbox::publish_cart;
use super::script::Script;
use super::session::{Failure, Session};
use super::{MySqlStore, answers, carts, catalogue, orders};
use crate::model::{CART_TTL_MS, CartRecord, CartState, Millis, Principal, StoredAnswer};
use crate::store::{CartWrite, Commit, Decide, Effect, Loaded, StoreError, WriteOutcome};

impl MySqlStore {
    /// Claims a key for the time of one request.
    pub(super) fn claim(&self, write: &CartWrite) -> Option<Claim> {
        let key = (write.unused.cart_id.clone(), write.idempotency_key.clone());
        let mut in_flight = self.in_flight.lock().expect("no holder of the lock can panic");
        in_flight.insert(key.clone()).then(|| Claim { in_flight: Arc::clone(&self.in_flight), key })
    }

    /// One attempt at a write. `commit_tried` says whether one of them, this one or one before it, has got as far as
    /// its commit: then, and only then, an answer that is found may be its own.
    pub(super) async fn attempt(
        &self,
        write: &CartWrite,
        decide: &mut Decide<'_>,
        commit_tried: &mut bool,
    ) -> Result<WriteOutcome, Failure> {
        let mut tx = Session::acquire(&self.connections).await?;
        let outcome = match load(&mut tx, write).await? {
            Found::Answered(answer) => {
                let record = carts::cart(&mut tx, &write.unused.cart_id).await?;
                match record.filter(|record| *commit_tried && record.version == answer.version) {
                    // It was this request that had come through, when the connection broke.
                    Some(record) => WriteOutcome::Done { answer, record, guest_version: None },
                    None => WriteOutcome::Replayed(answer),
                }
            }
            Found::KeyReused => WriteOutcome::KeyReused,
            Found::Loaded(loaded) => {
                let (before, guest) = (loaded.cart.clone(), loaded.guest.clone());
                if write.is_for_another(&before) {
                    WriteOutcome::VersionMismatch(before.version)
                } else if let Some(commit) = decide(*loaded) {
                    let has_news = !matches!(commit.effect, Effect::Unchanged);
                    let (changes, done) = save(&mut tx, write, &before, guest, commit).await?;
                    *commit_tried = true;
                    self.commit_after(changes, tx, has_news).await?;
                    return Ok(done);
                } else {
                    WriteOutcome::Refused
                }
            }
        };
        tx.roll_back().await?;
        Ok(outcome)
    }
}

/// A key whose request is under way.
pub(super) struct Claim {
    in_flight: Arc<Mutex<HashSet<(String, String)>>>,
    key: (String, String),
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.in_flight.lock().expect("no holder of the lock can panic").remove(&self.key);
    }
}

/// What was found under the lock.
enum Found {
    /// The request was answered before.
    Answered(StoredAnswer),
    /// Another request was answered under its key.
    KeyReused,
    /// There is something to decide.
    Loaded(Box<Loaded>),
}

async fn load(tx: &mut MySqlConnection, write: &CartWrite) -> Result<Found, Failure> {
    let mut carts = vec![(&write.principal, &write.unused)];
    carts.extend(write.guest.iter().map(|(guest, unused)| (guest, unused)));
    // Everybody locks in the order of names, so that two merges wait for each other and do not block.
    carts.sort_by_key(|(_, unused)| &unused.cart_id);
    let mut records = Vec::with_capacity(carts.len());
    let mut script = Script::transaction();
    for (owner, unused) in carts {
        let (record, fingerprint) = lock(tx, std::mem::take(&mut script), write, owner, unused).await?;
        if unused.cart_id == write.unused.cart_id
            && let Some(fingerprint) = fingerprint
        {
            if fingerprint != write.fingerprint {
                return Ok(Found::KeyReused);
            }
            let answer = answers::answer(tx, &unused.cart_id, &write.idempotency_key).await?;
            return Ok(Found::Answered(answer));
        }
        records.push(record);
    }
    let lines = records.iter().flat_map(|record| &record.cart.lines).map(|line| line.item_id.as_str());
    let item_ids: BTreeSet<&str> = lines.chain(write.item_ids.iter().map(String::as_str)).collect();
    let applied = records.iter().flat_map(|record| &record.cart.coupons);
    let codes: BTreeSet<&str> = applied.chain(&write.coupon_codes).map(String::as_str).collect();
    let known = write.known.as_deref().filter(|_| !write.takes_stock);
    let (mut items, mut coupons) = (Vec::new(), Vec::new());
    let unknown = without(item_ids, &mut items, |item_id| known.and_then(|known| known.item(item_id)));
    items.extend(catalogue::items(tx, &unknown, write.takes_stock).await?.into_iter().map(Arc::new));
    let unknown = without(codes, &mut coupons, |code| known.and_then(|known| known.coupon(code)));
    coupons.extend(catalogue::coupons(tx, &unknown, write.takes_stock).await?.into_iter().map(Arc::new));
    let is_theirs = |record: &CartRecord| record.cart_id == write.unused.cart_id;
    let (mut theirs, mut guests): (Vec<_>, Vec<_>) = records.into_iter().partition(is_theirs);
    let cart = theirs.pop().ok_or_else(|| StoreError::Corrupt("a cart was not loaded".to_owned()))?;
    Ok(Found::Loaded(Box::new(Loaded { cart, guest: guests.pop(), items, coupons })))
}

/// Looks these names up, and returns those that were not found.
fn without<'a, T>(
    names: BTreeSet<&'a str>,
    found: &mut Vec<T>,
    look_up: impl Fn(&str) -> Option<T>,
) -> Vec<&'a str> {
    let mut unknown = Vec::new();
    for name in names {
        match look_up(name) {
            Some(record) => found.push(record),
            None => unknown.push(name),
        }
    }
    unknown
}

/// Locks a cart, one that was never written too.
async fn lock(
    tx: &mut MySqlConnection,
    script: Script,
    write: &CartWrite,
    owner: &Principal,
    unused: &CartRecord,
) -> Result<carts::LockedCart, Failure> {
    let (cart_id, key) = (&unused.cart_id, &write.idempotency_key);
    let mut found = carts::locked_cart(tx, script, cart_id, key).await?;
    if found.is_none() {
        carts::insert_unwritten(tx, owner, unused, write.now_ms).await?;
        found = carts::locked_cart(tx, Script::default(), cart_id, key).await?;
    }
    let (record, fingerprint) =
        found.ok_or_else(|| StoreError::Corrupt(format!("cart {cart_id} is not there to be locked")))?;
    if record.version.version > 0 {
        return Ok((record, fingerprint));
    }
    Ok((CartRecord { version: record.version, ..unused.clone() }, fingerprint))
}

/// What is left to be run before the commit, and what has happened then.
async fn save(
    tx: &mut MySqlConnection,
    write: &CartWrite,
    before: &CartRecord,
    guest: Option<CartRecord>,
    commit: Commit,
) -> Result<(Script, WriteOutcome), Failure> {
    let mut script = Script::default();
    answers::insert_answer(&mut script, write, &commit.answer)?;
    let mut record = before.clone();
    let mut guest_version = None;
    if !matches!(commit.effect, Effect::Unchanged) {
        record.cart = commit.cart;
        record.view_digest = commit.view_digest;
        record.version = before.version.next();
        record.updated_at_ms = Some(write.now_ms);
        record.expires_at_ms = Some(write.now_ms + CART_TTL_MS);
        carts::save_cart(&mut script, before, &record)?;
        publish_cart(&mut script, &record, write.now_ms)?;
    }
    match (&commit.effect, guest) {
        (Effect::Merged, Some(guest)) => {
            guest_version = Some(guest.version.next());
            end_guest_cart(&mut script, &guest, write.now_ms)?;
        }
        (Effect::Ordered(order), _) => {
            // The feed tells of the cart first, and then of what its order has taken.
            std::mem::take(&mut script).run(tx).await?;
            orders::place(tx, &record.cart_id, order, write.now_ms).await?;
        }
        _ => {}
    }
    Ok((script, WriteOutcome::Done { answer: commit.answer, record, guest_version }))
}

fn end_guest_cart(script: &mut Script, guest: &CartRecord, now_ms: Millis) -> Result<(), StoreError> {
    let ended = CartRecord {
        state: CartState::Merged,
        version: guest.version.next(),
        cart: Cart::empty(guest.cart.currency),
        updated_at_ms: Some(now_ms),
        expires_at_ms: Some(now_ms + CART_TTL_MS),
        view_digest: None,
        cart_id: guest.cart_id.clone(),
    };
    carts::save_cart(script, guest, &ended)?;
    publish_cart(script, &ended, now_ms)
}
