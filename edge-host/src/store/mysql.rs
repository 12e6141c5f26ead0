//! The primary in MySQL, shared by the edges of the home region.
//!
//! A write is in one transaction, and for carts that exist that is two messages: one begins it, locks and loads the
//! carts, the other changes what is to be changed and commits. Writes that come at the same time share one
//! ([`together`]). The row of a cart is locked first, so everything that concerns one cart happens one after the
//! other, whichever edge does it; what is read after the lock is what is committed then (READ COMMITTED). A connection
//! that breaks during COMMIT leaves it open whether that has happened: the next attempt gets the lock, and finds the
//! answer under its key or not.
//!
//! No transaction waits for a lock of a cart, an item or a coupon. A write that finds one locked is undone, and waits
//! in a queue of that cart or item without a connection ([`alone`]).

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::mysql::MySqlPoolOptions;
use tokio::sync::{mpsc, watch};

use self::candidates::Candidates;
use self::connections::{Connections, Share};
use self::pulse::{Part, Word};
use self::script::Script;
use self::session::{Attempts, Failure, Session, retried};
use self::write::Progress;
use crate::clock::Clock;
use crate::epoch::KnownEpoch;
use crate::model::{
    CartRecord, CatalogueSnapshot, CouponRecord, FeedPage, FeedPosition, ItemRecord, Millis, OrderRecord,
    OrderState, Principal,
};
use crate::shares::{Queues, Sizes};
use crate::store::{
    CartWrite, Decide, DecideCoupon, DecideItem, KeyedOutcome, Late, OnceKey, PrimaryState, PrimaryStore,
    Pulse, ReplicaStore, StoreError, Swept, WriteOutcome,
};

mod alone;
mod answers;
mod candidates;
mod carts;
mod catalogue;
mod changes;
mod connections;
mod keys;
mod lists;
mod locks;
mod nodelay;
mod operator;
mod orders;
mod outbox;
mod promote;
mod pulse;
mod script;
mod session;
mod sweep;
mod target;
mod together;
mod verdict;
mod write;

pub use self::operator::{ServerStatus, Source};
pub use self::promote::{PromoteError, Promoted, Promotion, abort, promote};
pub use self::target::{MySqlTarget, MySqlTargetError};
pub use self::verdict::{Verdict, status};

/// Writes that wait for one locked cart, or for one hot item. Each takes some milliseconds, so that the last of more
/// of them would wait for longer than anybody waits.
const QUEUE_MAX: usize = 256;
/// Sizes of carts that are remembered: so many that two carts in use seldom share one.
const SIZES: usize = 4096;
/// Reading the whole catalogue: as long as a region waits for it.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(30);

/// Carts in MySQL.
pub struct MySqlStore {
    connections: Connections,
    candidates: Candidates,
    known: KnownEpoch,
    /// Set by the primary's time; not by a replica's.
    clock: Option<Clock>,
    /// Keys whose first request is under way in this process. In another one it waits for the cart's lock.
    in_flight: Arc<Mutex<HashSet<(String, String)>>>,
    /// Writes of carts that are locked elsewhere, or that go alone.
    carts: Queues,
    /// Checkouts that wait for items that others are taking from, and for coupons.
    stock: Queues,
    /// Lines of carts, as they were last seen.
    sizes: Sizes,
    /// Writes that share transactions.
    queue: mpsc::Sender<together::Asked>,
    news: watch::Sender<u64>,
    pulse: watch::Sender<Option<Pulse>>,
}

/// Brings the schema of the primary up to date. Safe to do twice, and from two hosts at once: one waits for the other.
pub async fn migrate(target: &MySqlTarget) -> anyhow::Result<()> {
    let servers = target.servers().found().await;
    let options = match servers.as_slice() {
        [one] => one,
        several => candidates::writable(several).await?,
    };
    let pool = MySqlPoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
    let migrated = sqlx::migrate!("../migrations/mysql").run(&pool).await;
    pool.close().await;
    Ok(migrated?)
}

impl MySqlStore {
    /// The primary. It is connected to when it is first asked; which of several servers it is, is found out from
    /// now on.
    pub fn open(target: &MySqlTarget, known: KnownEpoch, clock: Clock) -> Arc<Self> {
        Self::listened_to(target, known, Part::Primary, Some(clock))
    }

    /// A replica of it.
    pub fn open_replica(target: &MySqlTarget, known: KnownEpoch) -> Arc<dyn ReplicaStore> {
        Self::listened_to(target, known, Part::Replica, None)
    }

    fn listened_to(target: &MySqlTarget, known: KnownEpoch, part: Part, clock: Option<Clock>) -> Arc<Self> {
        let candidates = Candidates::new(target.servers());
        let connections = Connections::new(known.clone());
        if let Some(options) = candidates.chosen() {
            connections.point_at(&options, None);
        }
        let (queue, asked) = together::queue();
        let store = Arc::new(Self {
            connections,
            candidates,
            known,
            clock,
            in_flight: Arc::default(),
            carts: Queues::new(QUEUE_MAX),
            stock: Queues::new(QUEUE_MAX),
            sizes: Sizes::new(SIZES),
            queue,
            news: watch::Sender::new(0),
            pulse: watch::Sender::new(None),
        });
        tokio::spawn(pulse::listen(Arc::downgrade(&store), part));
        if part == Part::Primary {
            tokio::spawn(pulse::look_around(Arc::downgrade(&store)));
            tokio::spawn(together::see_to(Arc::downgrade(&store), asked));
        }
        store
    }

    /// Takes note of what the server says of itself, and tells those who follow the feed what others have committed.
    fn heard(&self, word: &Word) {
        self.connections.alive();
        self.connections.note_epoch(word.epoch);
        self.known.learn(word.epoch);
        let before = self.pulse.send_replace(Some(word.pulse()));
        if before.is_none_or(|before| before.last != word.last || before.epoch != word.epoch) {
            self.news.send_modify(|count| *count += 1);
        }
    }

    async fn try_cart(&self, cart_id: &str) -> Result<Option<CartRecord>, Failure> {
        let mut session = Session::acquire(&self.connections).await?;
        let record = carts::cart(&mut session, cart_id).await?;
        session.release();
        Ok(record)
    }

    async fn try_epoch(&self) -> Result<u32, Failure> {
        let mut session = Session::acquire(&self.connections).await?;
        let epoch = sqlx::query_scalar("SELECT epoch FROM cluster").fetch_one(&mut *session).await?;
        session.release();
        Ok(epoch)
    }

    async fn try_commit_nothing(&self) -> Result<(), Failure> {
        let mut session = Session::acquire_of(&self.connections, Share::Work).await?;
        // One more heartbeat does no harm.
        let beat = "UPDATE heartbeat SET seq = seq + 1, at = CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)";
        sqlx::query(beat).execute(&mut *session).await?;
        session.release();
        Ok(())
    }

    async fn try_active_rules(&self) -> Result<Option<String>, Failure> {
        let mut session = Session::acquire(&self.connections).await?;
        let revision =
            sqlx::query_scalar("SELECT active_rules FROM cluster").fetch_one(&mut *session).await?;
        session.release();
        Ok(revision)
    }

    /// Commits, and tells those who follow the feed.
    async fn commit(&self, session: Session, has_news: bool) -> Result<(), Failure> {
        self.commit_after(Script::default(), session, has_news).await
    }

    /// Runs the last statements of a transaction, commits, and tells those who follow the feed.
    async fn commit_after(&self, script: Script, session: Session, has_news: bool) -> Result<(), Failure> {
        let news = self.news.clone();
        // In a task of its own: a caller that goes away must not take the news of its commit along.
        let committed = tokio::spawn(async move {
            let committed = session.commit_after(script).await;
            if has_news {
                news.send_modify(|count| *count += 1);
            }
            committed
        });
        committed.await.map_err(|panic| Failure::Unknown(StoreError::unavailable(panic)))?
    }
}

impl ReplicaStore for MySqlStore {
    fn cart<'a>(&'a self, cart_id: &'a str) -> BoxFuture<'a, Result<Option<CartRecord>, StoreError>> {
        Box::pin(async move { retried(|| self.try_cart(cart_id)).await })
    }

    fn epoch(&self) -> BoxFuture<'_, Result<u32, StoreError>> {
        Box::pin(async move { retried(|| self.try_epoch()).await })
    }

    fn items<'a>(&'a self, item_ids: &'a [String]) -> BoxFuture<'a, Result<Vec<ItemRecord>, StoreError>> {
        Box::pin(async move { retried(|| self.try_items(item_ids)).await })
    }

    fn catalogue(&self) -> BoxFuture<'_, Result<CatalogueSnapshot, StoreError>> {
        Box::pin(async move {
            // However many items there are: no such deadline as that of a cart would be enough for all of them.
            let snapshot = tokio::time::timeout(SNAPSHOT_DEADLINE, self.try_catalogue()).await;
            let late = |_| StoreError::overloaded(Late("the whole catalogue"));
            snapshot.map_err(late)?.map_err(Failure::into_error)
        })
    }

    fn feed<'a>(
        &'a self,
        after: Option<&'a FeedPosition>,
        limit: u32,
    ) -> BoxFuture<'a, Result<FeedPage, StoreError>> {
        Box::pin(async move { retried(|| self.try_feed(after, limit)).await })
    }

    fn feed_news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn rules<'a>(&'a self, revision: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(async move { retried(|| self.try_rules(revision)).await })
    }

    fn pulse(&self) -> watch::Receiver<Option<Pulse>> {
        self.pulse.subscribe()
    }

    fn connections(&self) -> (u32, u32) {
        self.connections.count()
    }
}

impl PrimaryStore for MySqlStore {
    fn write<'a>(
        &'a self,
        write: &'a CartWrite,
        decide: &'a mut Decide<'_>,
    ) -> BoxFuture<'a, Result<WriteOutcome, StoreError>> {
        Box::pin(async move {
            let Some(_claim) = self.claim(write) else {
                return Ok(WriteOutcome::InProgress);
            };
            let mut attempts = Attempts::new();
            let mut progress = Progress::default();
            if self.goes_together(write) {
                let attempt = self.attempt_together(write, decide, &mut progress);
                if let Some(ended) = attempts.make(attempt).await {
                    return ended;
                }
            }
            self.write_alone(write, decide, attempts, progress).await
        })
    }

    fn orders<'a>(
        &'a self,
        owner: &'a Principal,
        before: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<OrderRecord>, StoreError>> {
        Box::pin(async move { retried(|| self.try_orders(owner, before, limit)).await })
    }

    fn order<'a>(
        &'a self,
        owner: &'a Principal,
        order_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<OrderRecord>, StoreError>> {
        Box::pin(async move { retried(|| self.try_order(Some(owner), order_id)).await })
    }

    fn placed_order<'a>(
        &'a self,
        order_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<OrderRecord>, StoreError>> {
        Box::pin(async move { retried(|| self.try_order(None, order_id)).await })
    }

    fn settle_order<'a>(
        &'a self,
        order_id: &'a str,
        to: OrderState,
        key: &'a OnceKey,
    ) -> BoxFuture<'a, Result<KeyedOutcome<OrderRecord>, StoreError>> {
        Box::pin(async move {
            let Some(_claim) = self.claim_key(key) else { return Ok(KeyedOutcome::InProgress) };
            let (mut attempts, mut commit_tried) = (Attempts::new(), false);
            loop {
                let attempt = self.try_settle_once(order_id, to, key, &mut commit_tried);
                if let Some(ended) = attempts.make(attempt).await {
                    return ended;
                }
            }
        })
    }

    fn write_item<'a>(
        &'a self,
        item_id: &'a str,
        key: &'a OnceKey,
        decide: &'a mut DecideItem<'_>,
    ) -> BoxFuture<'a, Result<KeyedOutcome<ItemRecord>, StoreError>> {
        Box::pin(async move {
            let Some(_claim) = self.claim_key(key) else { return Ok(KeyedOutcome::InProgress) };
            let (mut attempts, mut commit_tried) = (Attempts::new(), false);
            loop {
                let attempt = self.try_write_item(item_id, key, decide, &mut commit_tried);
                if let Some(ended) = attempts.make(attempt).await {
                    return ended;
                }
            }
        })
    }

    fn write_coupon<'a>(
        &'a self,
        code: &'a str,
        key: &'a OnceKey,
        decide: &'a mut DecideCoupon<'_>,
    ) -> BoxFuture<'a, Result<KeyedOutcome<CouponRecord>, StoreError>> {
        Box::pin(async move {
            let Some(_claim) = self.claim_key(key) else { return Ok(KeyedOutcome::InProgress) };
            let (mut attempts, mut commit_tried) = (Attempts::new(), false);
            loop {
                let attempt = self.try_write_coupon(code, key, decide, &mut commit_tried);
                if let Some(ended) = attempts.make(attempt).await {
                    return ended;
                }
            }
        })
    }

    fn activate_rules<'a>(
        &'a self,
        revision: &'a str,
        bytes: &'a [u8],
        now_ms: Millis,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { retried(|| self.try_activate_rules(revision, bytes, now_ms)).await })
    }

    fn sweep(&self, now_ms: Millis) -> BoxFuture<'_, Result<Swept, StoreError>> {
        Box::pin(async move { self.sweep_as_one(now_ms).await.map_err(Failure::into_error) })
    }

    fn active_rules(&self) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        Box::pin(async move { retried(|| self.try_active_rules()).await })
    }

    fn commit_nothing(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { retried(|| self.try_commit_nothing()).await })
    }

    fn state(&self) -> PrimaryState {
        self.candidates.state()
    }
}
