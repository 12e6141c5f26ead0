//! The primary in one SQLite file, for one machine without MySQL.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, OptionFuture};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use self::carts::{empty_cart, end_guest_cart, load};
use self::outbox::{feed_head, publish, publish_cart};
use self::stock::{settle, take_stock};
use crate::model::{
    CART_TTL_MS, CartRecord, CatalogueSnapshot, Change, CouponRecord, FeedEvent, FeedPage, FeedPosition,
    GUEST_PAYMENT_TTL_MS, ItemRecord, Millis, OrderRecord, OrderState, PAYMENT_TTL_MS, Principal,
};
use crate::shares::{Queues, Sizes};
use crate::store::sql::{from_json, signed, unsigned};
use crate::store::{
    CartWrite, Decide, DecideCoupon, DecideItem, Effect, KeyedOutcome, Late, OnceKey, PrimaryStore,
    ReplicaStore, StoreError, Swept, WriteOutcome,
};

mod carts;
mod merchant;
mod outbox;
mod rows;
mod stock;

/// Readers beside the one writer: more than the cores of the one machine this is for.
const READERS_MAX: u32 = 4;
/// Longer than this nobody waits for the database's one writer, or for a reader: there is too much to do.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Writes that wait for the same cart. Each takes some milliseconds, so that the last of more of them would wait for
/// longer than anybody waits.
const QUEUE_MAX: usize = 256;
/// Sizes of carts that are remembered: so many that two carts in use seldom share one.
const SIZES: usize = 4096;
/// What others wait for behind a write of it.
const CART: &str = "the cart";
/// Rows of one kind that one sweep takes, so that a sweep never holds the writer for long.
const SWEEP_ROWS_MAX: i64 = 200;
/// Events stay in the outbox so long; a region that was away longer starts from a snapshot.
const OUTBOX_TTL_MS: Millis = 3600 * 1000;

/// Carts in SQLite.
pub struct SqliteStore {
    /// SQLite has one writer at a time; one connection makes the queue ours, and fair.
    writer: SqlitePool,
    readers: SqlitePool,
    /// Of each cart one write waits for the writer; the others wait for that one.
    carts: Queues,
    /// Of all checkouts, merges and heavy writes one waits for the writer.
    slow: Semaphore,
    /// Lines of carts, as they were last seen.
    sizes: Sizes,
    /// Keys whose first request is under way in this process, which is the only one to write the file.
    in_flight: Arc<Mutex<HashSet<(String, String)>>>,
    head: watch::Sender<u64>,
}

impl SqliteStore {
    /// Opens the file, creates it where it is missing, and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Arc<Self>, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An acknowledged write survives a power cut, not only a crash.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(ACQUIRE_TIMEOUT);
        let pool = SqlitePoolOptions::new().acquire_timeout(ACQUIRE_TIMEOUT);
        let writer = pool.clone().max_connections(1).connect_with(options.clone()).await?;
        sqlx::migrate!("../migrations/sqlite").run(&writer).await.map_err(StoreError::unavailable)?;
        let readers = pool.max_connections(READERS_MAX).connect_with(options.read_only(true)).await?;
        let head = feed_head(&mut *readers.acquire().await?).await?;
        Ok(Arc::new(Self {
            writer,
            readers,
            carts: Queues::new(QUEUE_MAX),
            slow: Semaphore::new(1),
            sizes: Sizes::new(SIZES),
            in_flight: Arc::default(),
            head: watch::Sender::new(head),
        }))
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        // IMMEDIATE takes the write lock at once: a later upgrade could fail half-way.
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Commits, and tells those who follow the feed.
    async fn commit(&self, tx: Transaction<'static, Sqlite>, seq: Option<u64>) -> Result<(), StoreError> {
        let head = self.head.clone();
        // In a task of its own: a caller that goes away must not take the news of its commit along.
        let committed = tokio::spawn(async move {
            tx.commit().await?;
            if let Some(seq) = seq {
                head.send_if_modified(|head| {
                    let grown = seq > *head;
                    *head = seq.max(*head);
                    grown
                });
            }
            Ok(())
        });
        committed.await.map_err(StoreError::unavailable)?
    }

    /// Cancels an order whose time to be paid is over.
    async fn cancel(&self, order_id: &str, now_ms: Millis) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        let seq = settle(&mut tx, order_id, OrderState::Cancelled, now_ms).await?;
        self.commit(tx, seq).await
    }

    /// Claims a key for the time of one request.
    fn claim(&self, write: &CartWrite) -> Option<Claim> {
        Claim::new(&self.in_flight, (write.unused.cart_id.clone(), write.idempotency_key.clone()))
    }
}

/// A key whose request is under way.
struct Claim {
    in_flight: Arc<Mutex<HashSet<(String, String)>>>,
    key: (String, String),
}

impl Claim {
    /// Claims a key, unless somebody has it.
    fn new(in_flight: &Arc<Mutex<HashSet<(String, String)>>>, key: (String, String)) -> Option<Self> {
        let mut claimed = in_flight.lock().expect("no holder of the lock can panic");
        claimed.insert(key.clone()).then(|| Self { in_flight: Arc::clone(in_flight), key })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.in_flight.lock().expect("no holder of the lock can panic").remove(&self.key);
    }
}

impl ReplicaStore for SqliteStore {
    fn cart<'a>(&'a self, cart_id: &'a str) -> BoxFuture<'a, Result<Option<CartRecord>, StoreError>> {
        Box::pin(async move {
            // One transaction, so that header and lines are of one version.
            let mut tx = self.readers.begin().await?;
            rows::cart(&mut tx, cart_id).await
        })
    }

    fn epoch(&self) -> BoxFuture<'_, Result<u32, StoreError>> {
        Box::pin(async move {
            Ok(sqlx::query_scalar("SELECT epoch FROM cluster").fetch_one(&self.readers).await?)
        })
    }

    fn items<'a>(&'a self, item_ids: &'a [String]) -> BoxFuture<'a, Result<Vec<ItemRecord>, StoreError>> {
        Box::pin(async move {
            let mut reader = self.readers.acquire().await?;
            rows::items(&mut reader, Some(&item_ids.iter().collect())).await
        })
    }

    fn catalogue(&self) -> BoxFuture<'_, Result<CatalogueSnapshot, StoreError>> {
        Box::pin(async move {
            let mut tx = self.readers.begin().await?;
            let (epoch, rules): (u32, Option<String>) =
                sqlx::query_as("SELECT epoch, active_rules FROM cluster").fetch_one(&mut *tx).await?;
            Ok(CatalogueSnapshot {
                position: FeedPosition::at(feed_head(&mut tx).await?),
                epoch,
                items: rows::items(&mut tx, None).await?,
                coupons: rows::coupons(&mut tx, None).await?,
                rules,
            })
        })
    }

    fn feed<'a>(
        &'a self,
        after: Option<&'a FeedPosition>,
        limit: u32,
    ) -> BoxFuture<'a, Result<FeedPage, StoreError>> {
        Box::pin(async move {
            let mut tx = self.readers.begin().await?;
            let epoch: u32 = sqlx::query_scalar("SELECT epoch FROM cluster").fetch_one(&mut *tx).await?;
            let head = feed_head(&mut tx).await?;
            let after = after.map_or(head, |position| position.seq);
            let rows: Vec<(i64, Millis, String)> =
                sqlx::query_as("SELECT seq, at, change FROM outbox WHERE seq > ?1 ORDER BY seq LIMIT ?2")
                    .bind(signed(after)?)
                    .bind(limit)
                    .fetch_all(&mut *tx)
                    .await?;
            let event = |(seq, at_ms, change): (i64, Millis, String)| {
                Ok(FeedEvent { seq: unsigned(seq)?, at_ms, change: from_json(&change)? })
            };
            let events: Vec<FeedEvent> = rows.into_iter().map(event).collect::<Result<_, StoreError>>()?;
            // One writer, so places become visible in order and a hole means swept rows, or another database.
            let next = events.first().map_or(head + 1, |event| event.seq);
            let lost = after > head || (next != after + 1);
            let position = FeedPosition::at(events.last().map_or(after, |event| event.seq));
            let more = events.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
            Ok(FeedPage { events, position, more, epoch, beat: 0, lost })
        })
    }

    fn feed_news(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    fn rules<'a>(&'a self, revision: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(async move {
            let query = sqlx::query_scalar("SELECT component FROM rule_revisions WHERE revision = ?1");
            Ok(query.bind(revision).fetch_optional(&self.readers).await?)
        })
    }

    fn connections(&self) -> (u32, u32) {
        let pools = [&self.writer, &self.readers];
        let open: u32 = pools.iter().map(|pool| pool.size()).sum();
        let idle = pools.iter().map(|pool| u32::try_from(pool.num_idle()).unwrap_or(u32::MAX)).sum();
        (open.saturating_sub(idle), idle)
    }
}

impl PrimaryStore for SqliteStore {
    fn write<'a>(
        &'a self,
        write: &'a CartWrite,
        decide: &'a mut Decide<'_>,
    ) -> BoxFuture<'a, Result<WriteOutcome, StoreError>> {
        Box::pin(async move {
            let Some(_claim) = self.claim(write) else {
                return Ok(WriteOutcome::InProgress);
            };
            let cart_id = &write.unused.cart_id;
            let place = self.carts.enter(cart_id).ok_or(StoreError::Busy(CART))?;
            let turn = timeout(ACQUIRE_TIMEOUT, place.turn()).await;
            let _turn = turn.map_err(|_| StoreError::Busy(CART))?;
            let is_slow =
                write.takes_stock || write.guest.is_some() || write.is_heavy(self.sizes.get(cart_id));
            let slow =
                OptionFuture::from(is_slow.then(|| timeout(ACQUIRE_TIMEOUT, self.slow.acquire()))).await;
            let late = |_| StoreError::overloaded(Late("the one writer for checkouts and large carts"));
            let _slow = slow.transpose().map_err(late)?;
            let mut tx = self.begin().await?;
            let kept = rows::answer(&mut tx, cart_id, &write.idempotency_key).await?;
            let loaded = load(&mut tx, write).await?;
            self.sizes.set(cart_id, loaded.lines());
            if let Some(kept) = kept {
                return Ok(if kept.is_of(write) {
                    WriteOutcome::Replayed { answer: kept.answer, record: loaded.cart }
                } else {
                    WriteOutcome::KeyReused(kept.answer)
                });
            }
            let before = loaded.cart.clone();
            let guest = loaded.guest.clone();
            if write.is_for_another(&before) {
                return Ok(WriteOutcome::VersionMismatch(before.version));
            }
            let Some(commit) = decide(loaded) else {
                return Ok(WriteOutcome::Refused);
            };

            rows::insert_answer(&mut tx, write, &commit.answer).await?;
            let mut record = before.clone();
            let mut seq = None;
            let mut guest_version = None;
            if !matches!(commit.effect, Effect::Unchanged) {
                record.cart = commit.cart;
                record.version = before.version.next();
                record.updated_at_ms = Some(write.now_ms);
                record.expires_at_ms = Some(write.now_ms + CART_TTL_MS);
                rows::save_cart(&mut tx, &write.principal, &before, &record).await?;
                seq = Some(publish_cart(&mut tx, &record, write.now_ms).await?);
            }
            match (&commit.effect, guest.zip(write.guest.as_ref())) {
                (Effect::Merged, Some((guest, (owner, _)))) => {
                    guest_version = Some(guest.version.next());
                    seq = Some(end_guest_cart(&mut tx, owner, &guest, write.now_ms).await?);
                    rows::hand_over_orders(&mut tx, &guest.cart_id, cart_id).await?;
                }
                (Effect::Ordered(order), _) => {
                    rows::insert_order(&mut tx, cart_id, order, write.now_ms).await?;
                    if let Some(last) = take_stock(&mut tx, order, write.now_ms).await? {
                        seq = Some(last);
                    }
                }
                _ => {}
            }
            self.commit(tx, seq).await?;
            Ok(WriteOutcome::Done { record, guest_version })
        })
    }

    fn orders<'a>(
        &'a self,
        owner: &'a Principal,
        before: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<OrderRecord>, StoreError>> {
        Box::pin(async move {
            let rows: Vec<(String, String, String)> = sqlx::query_as(
                "SELECT order_id, state, document FROM orders
             WHERE cart_id = ?1 AND (?2 IS NULL OR order_id < ?2) ORDER BY order_id DESC LIMIT ?3",
            )
            .bind(owner.cart_id())
            .bind(before)
            .bind(limit)
            .fetch_all(&self.readers)
            .await?;
            rows.into_iter().map(rows::order).collect()
        })
    }

    fn order<'a>(
        &'a self,
        owner: &'a Principal,
        order_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<OrderRecord>, StoreError>> {
        Box::pin(async move {
            let row: Option<(String, String, String)> = sqlx::query_as(
                "SELECT order_id, state, document FROM orders WHERE cart_id = ?1 AND order_id = ?2",
            )
            .bind(owner.cart_id())
            .bind(order_id)
            .fetch_optional(&self.readers)
            .await?;
            row.map(rows::order).transpose()
        })
    }

    fn placed_order<'a>(
        &'a self,
        order_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<OrderRecord>, StoreError>> {
        Box::pin(async move {
            let row: Option<(String, String, String)> =
                sqlx::query_as("SELECT order_id, state, document FROM orders WHERE order_id = ?1")
                    .bind(order_id)
                    .fetch_optional(&self.readers)
                    .await?;
            row.map(rows::order).transpose()
        })
    }

    fn settle_order<'a>(
        &'a self,
        order_id: &'a str,
        to: OrderState,
        key: &'a OnceKey,
    ) -> BoxFuture<'a, Result<KeyedOutcome<OrderRecord>, StoreError>> {
        Box::pin(async move { self.settle_order_once(order_id, to, key).await })
    }

    fn write_item<'a>(
        &'a self,
        item_id: &'a str,
        key: &'a OnceKey,
        decide: &'a mut DecideItem<'_>,
    ) -> BoxFuture<'a, Result<KeyedOutcome<ItemRecord>, StoreError>> {
        Box::pin(async move { self.write_item_once(item_id, key, decide).await })
    }

    fn write_coupon<'a>(
        &'a self,
        code: &'a str,
        key: &'a OnceKey,
        decide: &'a mut DecideCoupon<'_>,
    ) -> BoxFuture<'a, Result<KeyedOutcome<CouponRecord>, StoreError>> {
        Box::pin(async move { self.write_coupon_once(code, key, decide).await })
    }

    fn activate_rules<'a>(
        &'a self,
        revision: &'a str,
        bytes: &'a [u8],
        now_ms: Millis,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let mut tx = self.begin().await?;
            sqlx::query(
                "INSERT INTO rule_revisions (revision, component, activated_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (revision) DO UPDATE SET activated_at = excluded.activated_at",
            )
            .bind(revision)
            .bind(bytes)
            .bind(now_ms)
            .execute(&mut *tx)
            .await?;
            sqlx::query("UPDATE cluster SET active_rules = ?1").bind(revision).execute(&mut *tx).await?;
            let seq = publish(&mut tx, &Change::Rules { revision: revision.to_owned() }, now_ms).await?;
            self.commit(tx, Some(seq)).await
        })
    }

    fn sweep(&self, now_ms: Millis) -> BoxFuture<'_, Result<Swept, StoreError>> {
        Box::pin(async move {
            let mut swept = Swept::default();
            let unpaid: Vec<String> = sqlx::query_scalar(
                "SELECT order_id FROM orders LEFT JOIN carts USING (cart_id)
                 WHERE orders.state = 'pending_payment' AND placed_at <= ?1
                     AND (placed_at <= ?2 OR owner_kind = 'guest') LIMIT ?3",
            )
            .bind(now_ms - GUEST_PAYMENT_TTL_MS)
            .bind(now_ms - PAYMENT_TTL_MS)
            .bind(SWEEP_ROWS_MAX)
            .fetch_all(&self.readers)
            .await?;
            // Each by itself: one that cannot be cancelled must not keep the stock of the others.
            for order_id in unpaid {
                match self.cancel(&order_id, now_ms).await {
                    Ok(()) => swept.orders += 1,
                    Err(error) => {
                        tracing::error!(order.id = order_id, error = %error, "unpaid order not cancelled")
                    }
                }
            }
            let mut tx = self.begin().await?;
            let mut seq = None;
            let expired: Vec<String> = sqlx::query_scalar(
                "SELECT cart_id FROM carts WHERE state = 'active' AND expires_at <= ?1 LIMIT ?2",
            )
            .bind(now_ms)
            .bind(SWEEP_ROWS_MAX)
            .fetch_all(&mut *tx)
            .await?;
            for cart_id in expired {
                if let Some(record) = rows::cart(&mut tx, &cart_id).await? {
                    seq = Some(empty_cart(&mut tx, record, now_ms).await?);
                    swept.carts += 1;
                }
            }
            swept.merged = rows::delete_merged_carts(&mut tx, now_ms, SWEEP_ROWS_MAX).await?;
            swept.answers = rows::delete_expired_answers(&mut tx, now_ms, SWEEP_ROWS_MAX).await?;
            swept.answers += rows::delete_expired_keys(&mut tx, now_ms, SWEEP_ROWS_MAX).await?;
            swept.events = rows::delete_old_events(&mut tx, now_ms - OUTBOX_TTL_MS, SWEEP_ROWS_MAX).await?;
            self.commit(tx, seq).await?;
            Ok(swept)
        })
    }

    fn commit_nothing(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let mut tx = self.begin().await?;
            sqlx::query("UPDATE cluster SET epoch = epoch").execute(&mut *tx).await?;
            self.commit(tx, None).await
        })
    }

    fn active_rules(&self) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        Box::pin(async move {
            Ok(sqlx::query_scalar("SELECT active_rules FROM cluster").fetch_one(&self.readers).await?)
        })
    }
}
