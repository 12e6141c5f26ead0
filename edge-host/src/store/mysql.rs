//! The primary in MySQL, shared by the edges of the home region.
//!
//! A write is one transaction of eight statements at most for a cart that exists. The row of the cart is locked
//! first, so everything that concerns one cart happens one after the other, whichever edge does it; what is read
//! after the lock is what is committed then (READ COMMITTED). A connection that breaks during COMMIT leaves it
//! open whether that has happened: the next attempt waits for the lock, and finds the answer under its key or not.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use cart_core::Cart;
use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions};
use sqlx::{Executor, MySqlConnection};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::warn;

use self::outbox::{publish, publish_cart};
use self::session::{Attempts, Failure, Session};
use crate::model::{
    CART_TTL_MS, CartRecord, CartState, CatalogueSnapshot, Change, CouponRecord, FeedPage, FeedPosition,
    ItemRecord, Millis, OrderRecord, OrderState, Principal, StoredAnswer,
};
use crate::store::{CartWrite, Commit, Decide, Effect, Loaded, PrimaryStore, StoreError, WriteOutcome};

mod lists;
mod outbox;
mod rows;
mod session;
mod stock;
mod sweep;

/// Connections of one edge: as many transactions as the group commit of one server gains from.
const CONNECTIONS_MAX: u32 = 24;
/// Waiting longer than this for a connection is an outage, not a queue.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that nobody needs is closed, before the server does.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// The server hangs up on a connection that says nothing for so long, seconds, and undoes its transaction.
const IDLE_SESSION_S: u32 = 40;
/// Whoever waits for a lock this long, seconds, is better off with another attempt.
const LOCK_WAIT_S: u32 = 1;
/// More than there are statements, so that none is prepared twice on one connection.
const STATEMENTS_MAX: usize = 256;
/// What other edges commit is noticed this often.
const NEWS_PERIOD: Duration = Duration::from_millis(100);

/// Carts in MySQL.
pub struct MySqlStore {
    pool: MySqlPool,
    /// Keys whose first request is under way in this process. In another one it waits for the cart's lock.
    in_flight: Arc<Mutex<HashSet<(String, String)>>>,
    news: watch::Sender<u64>,
    listener: AbortHandle,
}

/// The URL of a database cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("not a URL such as mysql://user:password@host:3306/troli")]
pub struct MalformedUrl;

/// The options of a URL. It may have a password, so it stands in no message.
pub fn parse_url(url: &str) -> Result<MySqlConnectOptions, MalformedUrl> {
    let options: MySqlConnectOptions = url.parse().map_err(|_| MalformedUrl)?;
    if options.get_database().is_none_or(str::is_empty) { Err(MalformedUrl) } else { Ok(options) }
}

/// Brings the schema up to date. Safe to do twice, and from two hosts at once: one waits for the other.
pub async fn migrate(options: &MySqlConnectOptions) -> Result<(), sqlx::migrate::MigrateError> {
    let pool = MySqlPoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
    let migrated = sqlx::migrate!("../migrations/mysql").run(&pool).await;
    pool.close().await;
    migrated
}

impl MySqlStore {
    /// A store that connects when it is first asked.
    pub fn open(options: &MySqlConnectOptions) -> Arc<Self> {
        let options = options.clone().statement_cache_capacity(STATEMENTS_MAX);
        let set_up = format!(
            "SET SESSION transaction_isolation = 'READ-COMMITTED', innodb_lock_wait_timeout = {LOCK_WAIT_S}, \
             wait_timeout = {IDLE_SESSION_S}"
        );
        let pool = MySqlPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(IDLE_TIMEOUT)
            // A round trip before every use; a connection that is dead is found out by using it.
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                let set_up = set_up.clone();
                Box::pin(async move {
                    connection.execute(sqlx::AssertSqlSafe(set_up)).await?;
                    Ok(())
                })
            })
            .connect_lazy_with(options);
        let news = watch::Sender::new(0);
        Arc::new_cyclic(|store| Self {
            pool,
            in_flight: Arc::default(),
            news,
            listener: tokio::spawn(listen(Weak::clone(store))).abort_handle(),
        })
    }

    /// Claims a key for the time of one request.
    fn claim(&self, write: &CartWrite) -> Option<Claim> {
        let key = (write.unused.cart_id.clone(), write.idempotency_key.clone());
        let mut in_flight = self.in_flight.lock().expect("no holder of the lock can panic");
        in_flight.insert(key.clone()).then(|| Claim { in_flight: Arc::clone(&self.in_flight), key })
    }

    /// Commits, and tells those who follow the feed.
    async fn commit(&self, session: Session, has_news: bool) -> Result<(), Failure> {
        let news = self.news.clone();
        // In a task of its own: a caller that goes away must not take the news of its commit along.
        let committed = tokio::spawn(async move {
            let committed = session.commit().await;
            if has_news {
                news.send_modify(|count| *count += 1);
            }
            committed
        });
        committed.await.map_err(|panic| Failure::Unknown(StoreError::unavailable(panic)))?
    }

    async fn attempt(
        &self,
        write: &CartWrite,
        decide: &mut Decide<'_>,
        repeated: bool,
    ) -> Result<WriteOutcome, Failure> {
        let mut tx = Session::begin(&self.pool).await?;
        let outcome = match load(&mut tx, write).await? {
            Found::Answered(answer) => {
                let record = rows::cart(&mut tx, &write.unused.cart_id).await?;
                match record.filter(|record| repeated && record.version == answer.version) {
                    // It was this request that had come through, when the connection broke.
                    Some(record) => WriteOutcome::Done { answer, record, guest_version: None },
                    None => WriteOutcome::Replayed(answer),
                }
            }
            Found::KeyReused => WriteOutcome::KeyReused,
            Found::Loaded(loaded) => {
                let (before, guest) = (loaded.cart.clone(), loaded.guest.clone());
                if write.if_match.as_ref().is_some_and(|versions| !versions.contains(&before.version)) {
                    WriteOutcome::VersionMismatch(before.version)
                } else if let Some(commit) = decide(*loaded) {
                    let has_news = !matches!(commit.effect, Effect::Unchanged);
                    let done = save(&mut tx, write, &before, guest, commit).await?;
                    self.commit(tx, has_news).await?;
                    return Ok(done);
                } else {
                    WriteOutcome::Refused
                }
            }
        };
        tx.roll_back().await?;
        Ok(outcome)
    }

    async fn try_settle(
        &self,
        order_id: &str,
        to: OrderState,
        now_ms: Millis,
    ) -> Result<Option<OrderRecord>, Failure> {
        let mut tx = Session::begin(&self.pool).await?;
        stock::settle(&mut tx, order_id, to, now_ms).await?;
        let row: Option<rows::OrderRow> =
            sqlx::query_as("SELECT order_id, state, document FROM orders WHERE order_id = ?")
                .bind(order_id)
                .fetch_optional(&mut *tx)
                .await?;
        self.commit(tx, true).await?;
        Ok(row.map(rows::order).transpose()?)
    }

    async fn try_put_item(&self, item: &ItemRecord) -> Result<(), Failure> {
        let mut tx = Session::begin(&self.pool).await?;
        rows::put_item(&mut tx, item).await?;
        publish(&mut tx, &Change::Item(item.clone()), item.changed_at_ms).await?;
        self.commit(tx, true).await
    }

    async fn try_put_coupon(&self, coupon: &CouponRecord) -> Result<CouponRecord, Failure> {
        let mut tx = Session::begin(&self.pool).await?;
        rows::put_coupon(&mut tx, coupon).await?;
        let saved = rows::coupons(&mut tx, &[&coupon.code], false).await?.pop();
        let saved = saved.ok_or_else(|| StoreError::Corrupt(format!("coupon {} is gone", coupon.code)))?;
        publish(&mut tx, &Change::Coupon(saved.clone()), coupon.changed_at_ms).await?;
        self.commit(tx, true).await?;
        Ok(saved)
    }

    async fn try_activate_rules(&self, revision: &str, bytes: &[u8], now_ms: Millis) -> Result<(), Failure> {
        let mut tx = Session::begin(&self.pool).await?;
        sqlx::query(
            "INSERT INTO rule_revisions (revision, component, activated_at) VALUES (?, ?, ?) AS new
             ON DUPLICATE KEY UPDATE activated_at = new.activated_at",
        )
        .bind(revision)
        .bind(bytes)
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
        sqlx::query("UPDATE cluster SET active_rules = ?").bind(revision).execute(&mut *tx).await?;
        publish(&mut tx, &Change::Rules { revision: revision.to_owned() }, now_ms).await?;
        self.commit(tx, true).await
    }

    async fn try_catalogue(&self) -> Result<CatalogueSnapshot, Failure> {
        let mut tx = Session::snapshot(&self.pool).await?;
        let (epoch, rules): (u32, Option<String>) =
            sqlx::query_as("SELECT epoch, active_rules FROM cluster").fetch_one(&mut *tx).await?;
        let snapshot = CatalogueSnapshot {
            position: outbox::position(&mut tx, crate::clock::now_ms()).await?,
            epoch,
            items: rows::all_items(&mut tx).await?,
            coupons: rows::all_coupons(&mut tx).await?,
            rules,
        };
        tx.roll_back().await?;
        Ok(snapshot)
    }

    async fn try_feed(
        &self,
        after: Option<&FeedPosition>,
        limit: u32,
        now_ms: Millis,
    ) -> Result<FeedPage, Failure> {
        let mut session = Session::acquire(&self.pool).await?;
        let page = match after {
            Some(after) => outbox::page(&mut session, after, limit, now_ms).await?,
            None => outbox::here(&mut session, now_ms).await?,
        };
        session.release();
        Ok(page)
    }
}

/// Reads once more when the connection was a dead one.
macro_rules! reading {
    ($attempt:expr) => {{
        let mut attempts = Attempts::new();
        loop {
            if let Some(ended) = attempts.make($attempt).await {
                break ended;
            }
        }
    }};
}

#[async_trait]
impl PrimaryStore for MySqlStore {
    async fn cart(&self, cart_id: &str) -> Result<Option<CartRecord>, StoreError> {
        reading!(async {
            let mut session = Session::acquire(&self.pool).await?;
            let record = rows::cart(&mut session, cart_id).await?;
            session.release();
            Ok(record)
        })
    }

    async fn epoch(&self) -> Result<u32, StoreError> {
        reading!(async {
            let mut session = Session::acquire(&self.pool).await?;
            let epoch = sqlx::query_scalar("SELECT epoch FROM cluster").fetch_one(&mut *session).await?;
            session.release();
            Ok(epoch)
        })
    }

    async fn items(&self, item_ids: &[String]) -> Result<Vec<ItemRecord>, StoreError> {
        let item_ids: Vec<&str> = item_ids.iter().map(String::as_str).collect();
        reading!(async {
            let mut session = Session::acquire(&self.pool).await?;
            let items = rows::items(&mut session, &item_ids, false).await?;
            session.release();
            Ok(items)
        })
    }

    async fn write(&self, write: &CartWrite, decide: &mut Decide<'_>) -> Result<WriteOutcome, StoreError> {
        let Some(_claim) = self.claim(write) else {
            return Ok(WriteOutcome::InProgress);
        };
        let mut attempts = Attempts::new();
        let mut repeated = false;
        loop {
            if let Some(ended) = attempts.make(self.attempt(write, decide, repeated)).await {
                return ended;
            }
            repeated = true;
        }
    }

    async fn orders(
        &self,
        owner: &Principal,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<OrderRecord>, StoreError> {
        let rows: Vec<rows::OrderRow> = reading!(async {
            let mut session = Session::acquire(&self.pool).await?;
            let rows = sqlx::query_as(
                "SELECT order_id, state, document FROM orders
                 WHERE cart_id = ? AND (? IS NULL OR order_id < ?) ORDER BY order_id DESC LIMIT ?",
            )
            .bind(owner.cart_id())
            .bind(before)
            .bind(before)
            .bind(limit)
            .fetch_all(&mut *session)
            .await?;
            session.release();
            Ok(rows)
        })?;
        rows.into_iter().map(rows::order).collect()
    }

    async fn order(&self, owner: &Principal, order_id: &str) -> Result<Option<OrderRecord>, StoreError> {
        let row: Option<rows::OrderRow> = reading!(async {
            let mut session = Session::acquire(&self.pool).await?;
            let row = sqlx::query_as(
                "SELECT order_id, state, document FROM orders WHERE cart_id = ? AND order_id = ?",
            )
            .bind(owner.cart_id())
            .bind(order_id)
            .fetch_optional(&mut *session)
            .await?;
            session.release();
            Ok(row)
        })?;
        row.map(rows::order).transpose()
    }

    async fn settle_order(
        &self,
        order_id: &str,
        to: OrderState,
        now_ms: Millis,
    ) -> Result<Option<OrderRecord>, StoreError> {
        reading!(self.try_settle(order_id, to, now_ms))
    }

    async fn put_item(&self, item: ItemRecord) -> Result<(), StoreError> {
        reading!(self.try_put_item(&item))
    }

    async fn put_coupon(&self, coupon: CouponRecord) -> Result<CouponRecord, StoreError> {
        reading!(self.try_put_coupon(&coupon))
    }

    async fn catalogue(&self) -> Result<CatalogueSnapshot, StoreError> {
        Ok(self.try_catalogue().await.map_err(Failure::into_error)?)
    }

    async fn feed(
        &self,
        after: Option<&FeedPosition>,
        limit: u32,
        now_ms: Millis,
    ) -> Result<FeedPage, StoreError> {
        reading!(self.try_feed(after, limit, now_ms))
    }

    fn feed_news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    async fn activate_rules(&self, revision: &str, bytes: &[u8], now_ms: Millis) -> Result<(), StoreError> {
        reading!(self.try_activate_rules(revision, bytes, now_ms))
    }

    async fn rules(&self, revision: &str) -> Result<Option<Vec<u8>>, StoreError> {
        reading!(async {
            let mut session = Session::acquire(&self.pool).await?;
            let query = sqlx::query_scalar("SELECT component FROM rule_revisions WHERE revision = ?");
            let component = query.bind(revision).fetch_optional(&mut *session).await?;
            session.release();
            Ok(component)
        })
    }

    fn connections(&self) -> (u32, u32) {
        let idle = u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX);
        (self.pool.size().saturating_sub(idle), idle)
    }

    async fn sweep(&self, now_ms: Millis) -> Result<u64, StoreError> {
        self.sweep_as_one(now_ms).await.map_err(Failure::into_error)
    }
}

impl Drop for MySqlStore {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// A key whose request is under way.
struct Claim {
    in_flight: Arc<Mutex<HashSet<(String, String)>>>,
    key: (String, String),
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.in_flight.lock().expect("no holder of the lock can panic").remove(&self.key);
    }
}

/// Tells those who follow the feed here of what other edges have committed.
async fn listen(store: Weak<MySqlStore>) {
    let mut seen = None;
    loop {
        tokio::time::sleep(NEWS_PERIOD).await;
        let Some(store) = store.upgrade() else { return };
        if store.news.receiver_count() == 0 {
            continue;
        }
        let last: Result<Option<u64>, _> =
            sqlx::query_scalar("SELECT MAX(seq) FROM outbox").fetch_one(&store.pool).await;
        match last {
            Ok(last) if last != seen => {
                seen = last;
                store.news.send_modify(|count| *count += 1);
            }
            Ok(_) => {}
            // Those who follow find out by themselves.
            Err(error) => warn!(error = %error, "the primary does not tell what is new"),
        }
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
    for (owner, unused) in carts {
        let (record, fingerprint) = lock(tx, write, owner, unused).await?;
        if unused.cart_id == write.unused.cart_id
            && let Some(fingerprint) = fingerprint
        {
            if fingerprint != write.fingerprint {
                return Ok(Found::KeyReused);
            }
            let answer = rows::answer(tx, &unused.cart_id, &write.idempotency_key).await?;
            return Ok(Found::Answered(answer));
        }
        records.push(record);
    }
    let lines = records.iter().flat_map(|record| &record.cart.lines).map(|line| line.item_id.as_str());
    let item_ids: BTreeSet<&str> = lines.chain(write.item_ids.iter().map(String::as_str)).collect();
    let applied = records.iter().flat_map(|record| &record.cart.coupons);
    let codes: BTreeSet<&str> = applied.chain(&write.coupon_codes).map(String::as_str).collect();
    let item_ids: Vec<&str> = item_ids.into_iter().collect();
    let items = rows::items(tx, &item_ids, write.takes_stock).await?;
    let coupons = rows::coupons(tx, &codes.into_iter().collect::<Vec<_>>(), write.takes_stock).await?;
    let is_theirs = |record: &CartRecord| record.cart_id == write.unused.cart_id;
    let (mut theirs, mut guests): (Vec<_>, Vec<_>) = records.into_iter().partition(is_theirs);
    let cart = theirs.pop().ok_or_else(|| StoreError::Corrupt("a cart was not loaded".to_owned()))?;
    Ok(Found::Loaded(Box::new(Loaded { cart, guest: guests.pop(), items, coupons })))
}

/// Locks a cart, one that was never written too.
async fn lock(
    tx: &mut MySqlConnection,
    write: &CartWrite,
    owner: &Principal,
    unused: &CartRecord,
) -> Result<rows::LockedCart, Failure> {
    let (cart_id, key) = (&unused.cart_id, &write.idempotency_key);
    let mut found = rows::locked_cart(tx, cart_id, key).await?;
    if found.is_none() {
        rows::insert_unwritten(tx, owner, unused, write.now_ms).await?;
        found = rows::locked_cart(tx, cart_id, key).await?;
    }
    let (record, fingerprint) =
        found.ok_or_else(|| StoreError::Corrupt(format!("cart {cart_id} is not there to be locked")))?;
    if record.version.version > 0 {
        return Ok((record, fingerprint));
    }
    Ok((CartRecord { version: record.version, ..unused.clone() }, fingerprint))
}

async fn save(
    tx: &mut MySqlConnection,
    write: &CartWrite,
    before: &CartRecord,
    guest: Option<CartRecord>,
    commit: Commit,
) -> Result<WriteOutcome, Failure> {
    rows::insert_answer(tx, write, &commit.answer).await?;
    let mut record = before.clone();
    let mut guest_version = None;
    if !matches!(commit.effect, Effect::Unchanged) {
        record.cart = commit.cart;
        record.view_digest = commit.view_digest;
        record.version = before.version.next();
        record.updated_at_ms = Some(write.now_ms);
        record.expires_at_ms = Some(write.now_ms + CART_TTL_MS);
        rows::save_cart(tx, before, &record).await?;
        publish_cart(tx, &record, write.now_ms).await?;
    }
    match (&commit.effect, guest) {
        (Effect::Merged, Some(guest)) => {
            guest_version = Some(guest.version.next());
            end_guest_cart(tx, &guest, write.now_ms).await?;
        }
        (Effect::Ordered(order), _) => {
            rows::insert_order(tx, &record.cart_id, order, write.now_ms).await?;
            stock::take_stock(tx, order, write.now_ms).await?;
        }
        _ => {}
    }
    Ok(WriteOutcome::Done { answer: commit.answer, record, guest_version })
}

async fn end_guest_cart(tx: &mut MySqlConnection, guest: &CartRecord, now_ms: Millis) -> Result<(), Failure> {
    let ended = CartRecord {
        state: CartState::Merged,
        version: guest.version.next(),
        cart: Cart::empty(guest.cart.currency),
        updated_at_ms: Some(now_ms),
        expires_at_ms: Some(now_ms + CART_TTL_MS),
        view_digest: None,
        cart_id: guest.cart_id.clone(),
    };
    rows::save_cart(tx, guest, &ended).await?;
    publish_cart(tx, &ended, now_ms).await
}
