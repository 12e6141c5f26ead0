//! A write of a cart: locked, loaded, decided, written.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

use cart_core::Cart;
use sqlx::MySqlConnection;

use super::carts::{Locked, LockedCart};
use super::changes::Changes;
use super::connections::Share;
use super::script::{Rows, Script};
use super::session::{Failure, Session};
use super::{MySqlStore, answers, carts, catalogue, locks, orders};
use crate::model::{CART_TTL_MS, CartRecord, CartState, KeptAnswer, Millis, Principal};
use crate::store::{CartWrite, Commit, Decide, Effect, Loaded, NewOrder, StoreError, WriteOutcome};

impl MySqlStore {
    /// Claims a key for the time of one request.
    pub(super) fn claim(&self, write: &CartWrite) -> Option<Claim> {
        Claim::new(&self.in_flight, (write.unused.cart_id.clone(), write.idempotency_key.clone()))
    }

    /// One attempt at a write in a transaction of its own.
    pub(super) async fn attempt(
        &self,
        write: &CartWrite,
        decide: &mut Decide<'_>,
        progress: &mut Progress,
    ) -> Result<WriteOutcome, Failure> {
        let mut tx = Session::acquire_of(&self.connections, progress.share()).await?;
        progress.locked = false;
        let may_lock = |queue: &str| progress.turns.contains(queue) || !self.stock.is_queued_for(queue);
        let found = load(&mut tx, &[write], &may_lock).await?.pop().ok_or_else(not_loaded)?;
        self.note_size(write, &found);
        match found {
            Found::Held(queues) => {
                (progress.locked, progress.held) = (true, queues);
                tx.roll_back().await?;
                return Err(Failure::Otherwise("what it changes"));
            }
            Found::Loaded(loaded) if !progress.heavy && write.is_heavy(loaded.lines()) => {
                progress.heavy = true;
                tx.roll_back().await?;
                return Err(Failure::Otherwise("a large cart"));
            }
            _ => {}
        }
        match settle(write, found, decide, progress.commit_tried)? {
            Settled::Over(outcome) => {
                tx.roll_back().await?;
                Ok(outcome)
            }
            Settled::Commit(to_write, outcome) => {
                let mut changes = Changes::default();
                changes.answers(&to_write.answers);
                for (before, after) in &to_write.carts {
                    changes.cart(before, after, write.now_ms)?;
                }
                let has_news = changes.has_news();
                let mut script = changes.into_script();
                for (_, ended) in to_write.carts.iter().filter(|(_, after)| after.state == CartState::Merged)
                {
                    orders::hand_over(&mut script, &ended.cart_id, &write.unused.cart_id);
                }
                if let Some(order) = to_write.order {
                    // The feed tells of the cart first, and then of what its order has taken.
                    std::mem::take(&mut script).run(&mut tx).await?;
                    orders::place(&mut tx, &write.unused.cart_id, &order, write.now_ms).await?;
                }
                progress.commit_tried = true;
                self.commit_after(script, tx, has_news).await?;
                Ok(outcome)
            }
        }
    }

    /// Takes note of how large a cart is.
    pub(super) fn note_size(&self, write: &CartWrite, found: &Found) {
        if let Found::Loaded(loaded) = found {
            self.sizes.set(&write.unused.cart_id, loaded.lines());
        }
    }
}

/// What is known of a write from its attempts.
#[derive(Default)]
pub(super) struct Progress {
    /// Whether one has got as far as its commit: then, and only then, an answer that is found may be its own.
    pub(super) commit_tried: bool,
    /// Whether it takes long to decide.
    pub(super) heavy: bool,
    /// Whether the last one has met a lock.
    pub(super) locked: bool,
    /// The queues of the items and coupons that the last one has found locked.
    pub(super) held: Vec<String>,
    /// The queues of items and coupons in which it is the first.
    pub(super) turns: BTreeSet<String>,
}

impl Progress {
    fn share(&self) -> Share {
        match self {
            Self { heavy: true, .. } => Share::Heavy,
            Self { locked: true, .. } => Share::Held,
            _ => Share::Alone,
        }
    }
}

/// A key whose request is under way.
pub(super) struct Claim {
    in_flight: Arc<Mutex<HashSet<(String, String)>>>,
    key: (String, String),
}

impl Claim {
    /// Claims a key, unless somebody has it.
    pub(super) fn new(
        in_flight: &Arc<Mutex<HashSet<(String, String)>>>,
        key: (String, String),
    ) -> Option<Self> {
        let mut claimed = in_flight.lock().expect("no holder of the lock can panic");
        claimed.insert(key.clone()).then(|| Self { in_flight: Arc::clone(in_flight), key })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.in_flight.lock().expect("no holder of the lock can panic").remove(&self.key);
    }
}

/// What was found under the lock.
pub(super) enum Found {
    /// The request was done before; and the cart as it is.
    Answered(KeptAnswer, Box<CartRecord>),
    /// Another request was done under its key.
    KeyReused(KeptAnswer),
    /// There is something to decide.
    Loaded(Box<Loaded>),
    /// Somebody else has locked a cart; or items and coupons, which these queues are for.
    Held(Vec<String>),
}

/// Begins a transaction: locks the carts of these writes, and loads what each needs. Writes of one cart are all given
/// what any of them needs: each decides about what those before have made of it. Of items and coupons that stock is
/// taken of, only those are locked that it `may_lock`, by their queues.
pub(super) async fn load(
    tx: &mut MySqlConnection,
    writes: &[&CartWrite],
    may_lock: &(dyn Fn(&str) -> bool + Sync),
) -> Result<Vec<Found>, Failure> {
    let carts = lock(tx, writes).await?;
    let mut found = Vec::with_capacity(writes.len());
    for write in writes {
        let is_of_the_same = |other: &&&CartWrite| other.unused.cart_id == write.unused.cart_id;
        let same: Vec<&CartWrite> = writes.iter().filter(is_of_the_same).copied().collect();
        found.push(load_one(tx, write, &same, &carts, may_lock).await?);
    }
    Ok(found)
}

/// Locks every cart of these writes that is free, those that were never written too.
async fn lock(tx: &mut MySqlConnection, writes: &[&CartWrite]) -> Result<Locked, Failure> {
    let unused: BTreeMap<&str, (&Principal, &CartRecord)> = writes
        .iter()
        .flat_map(|write| {
            let guest = write.guest.iter().map(|(guest, unused)| (guest, unused));
            guest.chain([(&write.principal, &write.unused)])
        })
        .map(|(owner, unused)| (unused.cart_id.as_str(), (owner, unused)))
        .collect();
    let keys = |names: &[&str]| -> Vec<(&str, &str)> {
        let keys = writes.iter().map(|write| (&*write.unused.cart_id, &*write.idempotency_key));
        keys.filter(|(cart_id, _)| names.contains(cart_id)).collect()
    };
    let names: Vec<&str> = unused.keys().copied().collect();
    let mut locked = carts::lock(tx, Script::transaction(), &names, &keys(&names)).await?;
    let is_there = |name: &str| locked.carts.contains_key(name) || locked.held.contains(name);
    let missing: Vec<&str> = names.into_iter().filter(|name| !is_there(name)).collect();
    if let Some(first) = writes.first().filter(|_| !missing.is_empty()) {
        let rows: Vec<(&Principal, &CartRecord)> = missing.iter().map(|name| unused[name]).collect();
        carts::insert_unwritten(tx, &rows, first.now_ms).await?;
        let made = carts::lock(tx, Script::default(), &missing, &keys(&missing)).await?;
        locked.carts.extend(made.carts);
        locked.held.extend(made.held);
    }
    Ok(locked)
}

async fn load_one(
    tx: &mut MySqlConnection,
    write: &CartWrite,
    same: &[&CartWrite],
    carts: &Locked,
    may_lock: &(dyn Fn(&str) -> bool + Sync),
) -> Result<Found, Failure> {
    let guest_id = write.guest.iter().map(|(_, unused)| &unused.cart_id);
    if guest_id.chain([&write.unused.cart_id]).any(|cart_id| carts.held.contains(cart_id)) {
        return Ok(Found::Held(Vec::new()));
    }
    let carts = &carts.carts;
    let LockedCart { record, kept } = carts.get(&write.unused.cart_id).ok_or_else(not_loaded)?;
    let cart = written_or(record, &write.unused);
    if let Some(kept) = kept.get(&write.idempotency_key) {
        let answer = kept.answer.clone();
        return Ok(if kept.is_of(write) {
            Found::Answered(answer, Box::new(cart))
        } else {
            Found::KeyReused(answer)
        });
    }
    let guest = match &write.guest {
        Some((_, unused)) => {
            let guest = carts.get(&unused.cart_id).ok_or_else(not_loaded)?;
            Some(written_or(&guest.record, unused))
        }
        None => None,
    };
    let records = || [&cart].into_iter().chain(&guest);
    let lines = records().flat_map(|record| &record.cart.lines).map(|line| line.item_id.as_str());
    let item_ids: BTreeSet<&str> =
        lines.chain(same.iter().flat_map(|write| &write.item_ids).map(String::as_str)).collect();
    let applied = records().flat_map(|record| &record.cart.coupons);
    let codes: BTreeSet<&str> =
        applied.chain(same.iter().flat_map(|write| &write.coupon_codes)).map(String::as_str).collect();
    if write.takes_stock {
        let held = lock_stock(tx, &item_ids, &codes, may_lock).await?;
        if !held.is_empty() {
            return Ok(Found::Held(held));
        }
    }
    let known = write.known.as_deref().filter(|_| !write.takes_stock);
    let (mut items, mut coupons) = (Vec::new(), Vec::new());
    let unknown = without(item_ids, &mut items, |item_id| known.and_then(|known| known.item(item_id)));
    items.extend(catalogue::items(tx, &unknown, false).await?.into_iter().map(Arc::new));
    let unknown = without(codes, &mut coupons, |code| known.and_then(|known| known.coupon(code)));
    coupons.extend(catalogue::coupons(tx, &unknown, false).await?.into_iter().map(Arc::new));
    let unpaid_orders = if write.takes_stock { orders::unpaid(tx, &write.unused.cart_id).await? } else { 0 };
    Ok(Found::Loaded(Box::new(Loaded { cart, guest, items, coupons, unpaid_orders })))
}

/// Locks what stock is taken of. Returns the queues of what is held by others, and of what others wait for.
async fn lock_stock(
    tx: &mut MySqlConnection,
    item_ids: &BTreeSet<&str>,
    codes: &BTreeSet<&str>,
    may_lock: &(dyn Fn(&str) -> bool + Sync),
) -> Result<Vec<String>, Failure> {
    let queues = item_ids.iter().map(|id| locks::item_queue(id));
    let queues = queues.chain(codes.iter().map(|code| locks::coupon_queue(code)));
    let waited_for: Vec<String> = queues.filter(|queue| !may_lock(queue)).collect();
    if !waited_for.is_empty() {
        return Ok(waited_for);
    }
    let (item_ids, codes): (Vec<&str>, Vec<&str>) =
        (item_ids.iter().copied().collect(), codes.iter().copied().collect());
    locks::lock_stock(tx, &item_ids, &codes).await
}

/// A row that is only there to be locked says nothing but the epoch.
fn written_or(locked: &CartRecord, unused: &CartRecord) -> CartRecord {
    if locked.version.version > 0 {
        return locked.clone();
    }
    CartRecord { version: locked.version, ..unused.clone() }
}

fn not_loaded() -> StoreError {
    StoreError::Corrupt("a cart is not there to be locked".to_owned())
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

/// What is to become of a transaction, as far as one write goes.
pub(super) enum Settled {
    /// Nothing is to be written.
    Over(WriteOutcome),
    /// This is to be written; then that has happened.
    Commit(ToWrite, WriteOutcome),
}

/// What a write wants to be written.
pub(super) struct ToWrite {
    /// The answer, to be kept under its key.
    pub(super) answers: Rows,
    /// Carts as they were, and as they are to be.
    pub(super) carts: Vec<(CartRecord, CartRecord)>,
    order: Option<NewOrder>,
}

/// Decides about one write.
pub(super) fn settle(
    write: &CartWrite,
    found: Found,
    decide: &mut Decide<'_>,
    commit_tried: bool,
) -> Result<Settled, StoreError> {
    let loaded = match found {
        Found::KeyReused(answer) => return Ok(Settled::Over(WriteOutcome::KeyReused(answer))),
        Found::Answered(answer, record) => {
            // It was this request that had come through, when the connection broke.
            let is_its_own = commit_tried && record.version == answer.version;
            return Ok(Settled::Over(if is_its_own {
                WriteOutcome::Done { record: *record, guest_version: None }
            } else {
                WriteOutcome::Replayed { answer, record: *record }
            }));
        }
        Found::Held(_) => return Err(StoreError::Busy("what it changes")),
        Found::Loaded(loaded) => loaded,
    };
    let (cart, guest) = (loaded.cart.clone(), loaded.guest.clone());
    if write.is_for_another(&cart) {
        return Ok(Settled::Over(WriteOutcome::VersionMismatch(cart.version)));
    }
    match decide(*loaded) {
        Some(commit) => to_write(write, cart, guest, commit),
        None => Ok(Settled::Over(WriteOutcome::Refused)),
    }
}

fn to_write(
    write: &CartWrite,
    cart: CartRecord,
    guest: Option<CartRecord>,
    commit: Commit,
) -> Result<Settled, StoreError> {
    let mut to_write = ToWrite { answers: Rows::default(), carts: Vec::new(), order: None };
    answers::add_answer(&mut to_write.answers, write, &commit.answer)?;
    let mut record = cart.clone();
    if !matches!(commit.effect, Effect::Unchanged) {
        record.cart = commit.cart;
        record.version = cart.version.next();
        record.updated_at_ms = Some(write.now_ms);
        record.expires_at_ms = Some(write.now_ms + CART_TTL_MS);
        to_write.carts.push((cart, record.clone()));
    }
    let mut guest_version = None;
    match (commit.effect, guest) {
        (Effect::Merged, Some(guest)) => {
            let ended = ended(&guest, write.now_ms);
            guest_version = Some(ended.version);
            to_write.carts.push((guest, ended));
        }
        (Effect::Ordered(order), _) if write.takes_stock => to_write.order = Some(order),
        // The stock that it was decided by was not locked.
        (Effect::Ordered(_), _) => {
            return Err(StoreError::Corrupt("an order by a write that takes no stock".to_owned()));
        }
        _ => {}
    }
    Ok(Settled::Commit(to_write, WriteOutcome::Done { record, guest_version }))
}

/// A guest's cart that went to a user.
fn ended(guest: &CartRecord, now_ms: Millis) -> CartRecord {
    CartRecord {
        state: CartState::Merged,
        version: guest.version.next(),
        cart: Cart::empty(guest.cart.currency),
        updated_at_ms: Some(now_ms),
        expires_at_ms: Some(now_ms + CART_TTL_MS),
        cart_id: guest.cart_id.clone(),
    }
}
