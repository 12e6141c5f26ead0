//! The connections of one edge to the server that is the primary: how many for what, and whether the server lives.
//!
//! Each kind of work has a share of the connections. What waits for a locked row, a hot item or a large cart waits
//! for its own share, and leaves those of everybody else alone. Whether the server lives is known from the listener
//! ([`super::pulse`]), which asks it all the time on a connection of its own. While it does not, a connection is
//! refused at once. A request that is slow says nothing about the server.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use sqlx::mysql::{MySqlConnectOptions, MySqlPool, MySqlPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{ConnectOptions, Executor, MySql};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{info, warn};

use super::nodelay;
use super::session::Failure;
use crate::epoch::KnownEpoch;
use crate::store::{Late, StoreError};
use crate::telemetry::chain;

/// Connections beside the shares: the janitor's statements take them from the pool directly.
const SPARE: usize = 2;
/// Longer than this nobody waits for a connection of its share: all of it is in use by others.
const QUEUE_DEADLINE: Duration = Duration::from_secs(1);
/// Waiters for one share. With more, the last would wait for longer than [`QUEUE_DEADLINE`].
const WAITING_MAX: usize = 1024;
/// To open a connection takes a few round trips within a region, and some work of both sides, which a machine with much
/// to do puts off.
const CONNECT_DEADLINE: Duration = Duration::from_millis(1500);
/// A connection that nobody needs is closed, before the server does.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// The server hangs up on a connection that says nothing for so long, seconds, and undoes its transaction.
pub(super) const IDLE_SESSION_S: u32 = 40;
/// Whoever waits for a lock this long, seconds, is better off with another attempt. It is the least there can be.
const LOCK_WAIT_S: u32 = 1;
/// More than there are statements, so that none is prepared twice on one connection.
const STATEMENTS_MAX: usize = 256;
/// The server counts as lost when what speaks against it in a row is worth so much: two silences, or five connections
/// that broke. One silence may be a server that flushes, or a machine that stood still.
const MISSES_MAX: u32 = 5;
/// What a silence is worth; it has taken a second.
const SILENCE_MISSES: u32 = 3;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// Carts, orders and items, as shoppers look at them.
    Reads,
    /// The feed, by which every region lives.
    Feed,
    /// Administration, payments and the janitor.
    Work,
    /// Writes that share a transaction.
    Together,
    /// Checkouts, merges, and what has failed before.
    Alone,
    /// Writes that have met a lock: they look again and again whether it is gone.
    Held,
    /// Writes that take long to decide.
    Heavy,
}

impl Share {
    const ALL: [Self; 7] =
        [Self::Reads, Self::Feed, Self::Work, Self::Together, Self::Alone, Self::Held, Self::Heavy];

    /// So many connections. Together they are what the group commit of one server gains from.
    pub(super) const fn connections(self) -> usize {
        match self {
            Self::Reads => 8,
            Self::Feed => 2,
            Self::Work => 3,
            Self::Together => 4,
            Self::Alone => 4,
            Self::Held => 3,
            // One decision keeps one processor busy.
            Self::Heavy => 2,
        }
    }
}

/// One share of the connections.
struct Slots {
    free: Arc<Semaphore>,
    /// Bounds those who wait.
    places: Semaphore,
}

/// What is known of the server.
#[derive(Clone, Debug)]
enum Health {
    /// Nothing yet.
    Unheard,
    /// It has answered.
    Alive,
    /// It does not answer, for this reason.
    Lost(Arc<str>),
}

/// The connections of one edge to the server that is the primary by now.
pub(super) struct Connections {
    server: ArcSwapOption<Server>,
    shares: [Slots; Share::ALL.len()],
    health: watch::Sender<Health>,
    /// What speaks against it in a row.
    misses: AtomicU32,
    known: KnownEpoch,
}

struct Server {
    pool: MySqlPool,
    /// What it was last heard to be at; [`EPOCH_UNHEARD`] before that.
    epoch: Arc<AtomicU32>,
}

/// Of a server that has not told yet.
const EPOCH_UNHEARD: u32 = u32::MAX;

/// A connection, and the place in its share.
pub(super) struct Held {
    pub(super) connection: PoolConnection<MySql>,
    _slot: OwnedSemaphorePermit,
}

impl Connections {
    /// None to anywhere.
    pub(super) fn new(known: KnownEpoch) -> Self {
        let slots = |share: Share| Slots {
            free: Arc::new(Semaphore::new(share.connections())),
            places: Semaphore::new(WAITING_MAX),
        };
        Self {
            server: ArcSwapOption::empty(),
            shares: Share::ALL.map(slots),
            health: watch::Sender::new(Health::Unheard),
            misses: AtomicU32::new(0),
            known,
        }
    }

    /// From now on connections are to this server, and those to the one before are closed when they are given back.
    pub(super) fn point_at(&self, options: &MySqlConnectOptions, epoch: Option<u32>) {
        let epoch = Arc::new(AtomicU32::new(epoch.unwrap_or(EPOCH_UNHEARD)));
        let pool = pool(options, self.known.clone(), Arc::clone(&epoch));
        close(self.server.swap(Some(Arc::new(Server { pool, epoch }))));
    }

    /// The same, where there are none to anywhere.
    pub(super) fn point_again(&self, options: Option<&MySqlConnectOptions>, epoch: u32) {
        if let Some(options) = options.filter(|_| self.server.load().is_none()) {
            self.point_at(options, Some(epoch));
        }
    }

    /// From now on there are no connections to be had.
    pub(super) fn leave(&self) {
        close(self.server.swap(None));
    }

    /// Takes note of the epoch that the server is at.
    pub(super) fn note_epoch(&self, epoch: u32) {
        if let Some(server) = &*self.server.load() {
            server.epoch.store(epoch, Ordering::Release);
        }
    }

    /// The server has answered.
    pub(super) fn alive(&self) {
        self.misses.store(0, Ordering::Relaxed);
        match self.health.send_replace(Health::Alive) {
            Health::Lost(_) => info!("database back"),
            Health::Unheard | Health::Alive => {}
        }
    }

    /// The server has not answered.
    pub(super) fn missed(&self, error: &StoreError) {
        let more = if error.is_silence() { SILENCE_MISSES } else { 1 };
        let misses = self.misses.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        if !is_certain(error) && misses < MISSES_MAX {
            return;
        }
        let why: Arc<str> = chain(error).into();
        let before = self.health.send_replace(Health::Lost(Arc::clone(&why)));
        if !matches!(before, Health::Lost(_)) {
            warn!(error = %why, "database lost: what needs it is refused until it answers");
        }
    }

    /// The pool, for a statement that needs no transaction.
    pub(super) fn pool(&self) -> Result<MySqlPool, Failure> {
        let unavailable = |why: &str| Failure::Final(StoreError::unavailable(why));
        let server = self.server.load();
        let server = server.as_ref().ok_or_else(|| match &*self.health.borrow() {
            Health::Lost(why) => unavailable(why),
            Health::Unheard | Health::Alive => unavailable("no server is the primary"),
        })?;
        if self.known.is_past(server.epoch.load(Ordering::Acquire)) {
            return Err(unavailable("the server is of a past epoch"));
        }
        Ok(server.pool.clone())
    }

    /// Connections in use, and idle.
    pub(super) fn count(&self) -> (u32, u32) {
        let Some(server) = &*self.server.load() else { return (0, 0) };
        let idle = u32::try_from(server.pool.num_idle()).unwrap_or(u32::MAX);
        (server.pool.size().saturating_sub(idle), idle)
    }

    /// A connection of a share.
    pub(super) async fn acquire(&self, share: Share) -> Result<Held, Failure> {
        self.heard_of().await;
        let slots = &self.shares[share as usize];
        let overloaded = || Failure::Final(StoreError::overloaded(Late("a free connection")));
        let _place = slots.places.try_acquire().map_err(|_| overloaded())?;
        let free = tokio::time::timeout(QUEUE_DEADLINE, Arc::clone(&slots.free).acquire_owned());
        let slot = free.await.map_err(|_| overloaded())?.expect("the semaphore is never closed");
        let pool = self.pool()?;
        let acquired = tokio::select! {
            biased;
            why = self.lost() => return Err(Failure::Final(StoreError::unavailable(&*why))),
            acquired = pool.acquire() => acquired,
        };
        match acquired {
            Ok(connection) => Ok(Held { connection, _slot: slot }),
            // Its share has room, so it is the server that takes no connection.
            Err(sqlx::Error::PoolTimedOut) => {
                Err(Failure::Undone(StoreError::overloaded(Late("a new connection to the database"))))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until something is known of the server, for a moment after the start.
    async fn heard_of(&self) {
        if self.server.load().is_none() && matches!(*self.health.borrow(), Health::Unheard) {
            let mut health = self.health.subscribe();
            let known = health.wait_for(|health| !matches!(health, Health::Unheard));
            // Whatever comes of it, the next look tells.
            let _ = tokio::time::timeout(CONNECT_DEADLINE, known).await;
        }
    }

    /// Waits until the server is lost, and says why.
    async fn lost(&self) -> Arc<str> {
        let mut health = self.health.subscribe();
        loop {
            if let Health::Lost(why) = &*health.borrow_and_update() {
                return Arc::clone(why);
            }
            // The sender is ours, so it is there.
            let _ = health.changed().await;
        }
    }
}

/// Whether there is nobody at the server's address, or the server itself says that it does not serve.
fn is_certain(error: &StoreError) -> bool {
    match error {
        StoreError::Busy(_) | StoreError::Corrupt(_) => true,
        StoreError::Overloaded(source) | StoreError::Unavailable(source) => {
            match source.downcast_ref::<sqlx::Error>() {
                Some(sqlx::Error::Io(error)) => error.kind() == ErrorKind::ConnectionRefused,
                Some(sqlx::Error::Database(_)) => true,
                Some(_) => false,
                None => !error.is_silence(),
            }
        }
    }
}

/// A pool that connects when it is first asked.
fn pool(options: &MySqlConnectOptions, known: KnownEpoch, epoch: Arc<AtomicU32>) -> MySqlPool {
    // The driver would write slow statements into the log, with shoppers' data in them.
    let options = options.clone().statement_cache_capacity(STATEMENTS_MAX).disable_statement_logging();
    let set_up = format!(
        "SET SESSION transaction_isolation = 'READ-COMMITTED', innodb_lock_wait_timeout = {LOCK_WAIT_S}, \
         wait_timeout = {IDLE_SESSION_S}"
    );
    let port = options.get_port();
    let connections = Share::ALL.into_iter().map(Share::connections).sum::<usize>() + SPARE;
    MySqlPoolOptions::new()
        .max_connections(u32::try_from(connections).unwrap_or(u32::MAX))
        .acquire_timeout(CONNECT_DEADLINE)
        .idle_timeout(IDLE_TIMEOUT)
        // A round trip before every use; a connection that is dead is found out by using it.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let (set_up, known, epoch) = (set_up.clone(), known.clone(), Arc::clone(&epoch));
            Box::pin(async move {
                if let Err(error) = nodelay::send_at_once(port) {
                    warn!(error = %error, "messages to the database may wait for each other");
                }
                connection.execute(sqlx::AssertSqlSafe(set_up)).await?;
                // Who answers at an address may be another one than yesterday: the old primary, come back.
                if let Ok(here) = sqlx::query_scalar("SELECT epoch FROM cluster").fetch_one(connection).await
                {
                    epoch.store(here, Ordering::Release);
                    known.learn(here);
                    if known.is_past(here) {
                        return Err(sqlx::Error::Protocol(format!(
                            "the server is at epoch {here}, which is past"
                        )));
                    }
                }
                Ok(())
            })
        })
        .connect_lazy_with(options)
}

/// Transactions under way may end.
fn close(server: Option<Arc<Server>>) {
    if let Some(server) = server {
        tokio::spawn(async move { server.pool.close().await });
    }
}
