//! The primary in MySQL, shared by the edges of the home region.
//!
//! A write is one transaction, and for a cart that exists two messages: one begins it, locks and loads the cart,
//! the other changes what is to be changed and commits. The row of the cart is locked first, so everything that concerns one cart happens one after the other, whichever edge does it; what is read
//! after the lock is what is committed then (READ COMMITTED). A connection that breaks during COMMIT leaves it
//! open whether that has happened: the next attempt waits for the lock, and finds the answer under its key or not.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Executor;
use sqlx::mysql::{MySqlConnectOptions, MySqlPoolOptions};
use tokio::sync::watch;
use tracing::debug;

use self::script::Script;
use self::session::{Attempts, Connections, Failure, Session, retried};
use crate::model::{
    CartRecord, CatalogueSnapshot, CouponRecord, FeedPage, FeedPosition, ItemRecord, Millis, OrderRecord,
    OrderState, Principal,
};
use crate::store::{CartWrite, Decide, PrimaryStore, StoreError, WriteOutcome};

mod answers;
mod carts;
mod catalogue;
mod lists;
mod orders;
mod outbox;
mod script;
mod session;
mod sweep;
mod write;

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
/// So many that two carts seldom share one.
const TURNS: usize = 1024;
/// Reading the whole catalogue: as long as a region waits for it.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(30);
/// What other edges commit is noticed this often.
const NEWS_PERIOD: Duration = Duration::from_millis(100);

/// Carts in MySQL.
pub struct MySqlStore {
    connections: Connections,
    /// Keys whose first request is under way in this process. In another one it waits for the cart's lock.
    in_flight: Arc<Mutex<HashSet<(String, String)>>>,
    /// One for many carts each; whoever writes one of them from here has it.
    turns: Vec<tokio::sync::Mutex<()>>,
    news: watch::Sender<u64>,
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
        let store = Arc::new(Self {
            connections: Connections::new(pool),
            in_flight: Arc::default(),
            turns: (0..TURNS).map(|_| tokio::sync::Mutex::default()).collect(),
            news: watch::Sender::new(0),
        });
        tokio::spawn(listen(Arc::downgrade(&store)));
        store
    }

    fn turn_of(&self, cart_id: &str) -> &tokio::sync::Mutex<()> {
        let hash =
            cart_id.bytes().fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        &self.turns[hash % TURNS]
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

#[async_trait]
impl PrimaryStore for MySqlStore {
    async fn cart(&self, cart_id: &str) -> Result<Option<CartRecord>, StoreError> {
        retried(|| self.try_cart(cart_id)).await
    }

    async fn epoch(&self) -> Result<u32, StoreError> {
        retried(|| self.try_epoch()).await
    }

    async fn items(&self, item_ids: &[String]) -> Result<Vec<ItemRecord>, StoreError> {
        retried(|| self.try_items(item_ids)).await
    }

    async fn write(&self, write: &CartWrite, decide: &mut Decide<'_>) -> Result<WriteOutcome, StoreError> {
        let Some(_claim) = self.claim(write) else {
            return Ok(WriteOutcome::InProgress);
        };
        let mut attempts = Attempts::new();
        let mut repeated = false;
        loop {
            let attempt = async {
                // Who writes the same cart waits here, and not with a connection that others could use.
                let _turn = self.turn_of(&write.unused.cart_id).lock().await;
                self.attempt(write, decide, repeated).await
            };
            if let Some(ended) = attempts.make(attempt).await {
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
        retried(|| self.try_orders(owner, before, limit)).await
    }

    async fn order(&self, owner: &Principal, order_id: &str) -> Result<Option<OrderRecord>, StoreError> {
        retried(|| self.try_order(owner, order_id)).await
    }

    async fn settle_order(
        &self,
        order_id: &str,
        to: OrderState,
        now_ms: Millis,
    ) -> Result<Option<OrderRecord>, StoreError> {
        retried(|| self.try_settle(order_id, to, now_ms)).await
    }

    async fn put_item(&self, item: ItemRecord) -> Result<(), StoreError> {
        retried(|| self.try_put_item(&item)).await
    }

    async fn put_coupon(&self, coupon: CouponRecord) -> Result<CouponRecord, StoreError> {
        retried(|| self.try_put_coupon(&coupon)).await
    }

    async fn catalogue(&self) -> Result<CatalogueSnapshot, StoreError> {
        // However many items there are: no such deadline as that of a cart would be enough for all of them.
        let snapshot = tokio::time::timeout(SNAPSHOT_DEADLINE, self.try_catalogue()).await;
        snapshot.map_err(StoreError::unavailable)?.map_err(Failure::into_error)
    }

    async fn feed(
        &self,
        after: Option<&FeedPosition>,
        limit: u32,
        now_ms: Millis,
    ) -> Result<FeedPage, StoreError> {
        retried(|| self.try_feed(after, limit, now_ms)).await
    }

    fn feed_news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    async fn activate_rules(&self, revision: &str, bytes: &[u8], now_ms: Millis) -> Result<(), StoreError> {
        retried(|| self.try_activate_rules(revision, bytes, now_ms)).await
    }

    async fn rules(&self, revision: &str) -> Result<Option<Vec<u8>>, StoreError> {
        retried(|| self.try_rules(revision)).await
    }

    fn connections(&self) -> (u32, u32) {
        let idle = u32::try_from(self.connections.pool.num_idle()).unwrap_or(u32::MAX);
        (self.connections.pool.size().saturating_sub(idle), idle)
    }

    async fn sweep(&self, now_ms: Millis) -> Result<u64, StoreError> {
        self.sweep_as_one(now_ms).await.map_err(Failure::into_error)
    }
}

/// Tells those who follow the feed here of what other edges have committed, as long as there is a store.
async fn listen(store: Weak<MySqlStore>) {
    let mut seen = None;
    loop {
        tokio::time::sleep(NEWS_PERIOD).await;
        let Some(store) = store.upgrade() else { return };
        if store.news.receiver_count() == 0 {
            continue;
        }
        let last: Result<Option<u64>, _> =
            sqlx::query_scalar("SELECT MAX(seq) FROM outbox").fetch_one(&store.connections.pool).await;
        match last {
            Ok(last) if last != seen => {
                seen = last;
                store.news.send_modify(|count| *count += 1);
            }
            Ok(_) => {}
            // Those who follow find out by themselves.
            Err(error) => debug!(error = %error, "the primary does not tell what is new"),
        }
    }
}
