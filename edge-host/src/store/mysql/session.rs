//! One connection for one transaction, and what becomes of both when something breaks.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use sqlx::error::DatabaseError;
use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlPool, MySqlPoolOptions};
use sqlx::pool::PoolConnection;
use sqlx::{ConnectOptions, Executor, MySql, MySqlConnection};
use tracing::{debug, info, warn};

use super::nodelay;
use super::script::Script;
use crate::breaker::{Breaker, BreakerOptions, Change};
use crate::epoch::KnownEpoch;
use crate::store::StoreError;

/// Connections of one edge: as many transactions as the group commit of one server gains from.
const CONNECTIONS_MAX: u32 = 24;
/// Waiting longer than this for a connection is an outage, not a queue.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that nobody needs is closed, before the server does.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// The server hangs up on a connection that says nothing for so long, seconds, and undoes its transaction.
pub(super) const IDLE_SESSION_S: u32 = 40;
/// Whoever waits for a lock this long, seconds, is better off with another attempt.
const LOCK_WAIT_S: u32 = 1;
/// More than there are statements, so that none is prepared twice on one connection.
const STATEMENTS_MAX: usize = 256;
/// One attempt at a transaction. Whoever waits for the lock of a busy cart waits behind others that take a few
/// milliseconds each, so this is hundreds of them.
pub(super) const ATTEMPT_DEADLINE: Duration = Duration::from_millis(1500);
/// All attempts together: a region that forwarded waits 3 s.
const WRITE_DEADLINE: Duration = Duration::from_millis(2500);
/// Attempts after the first. Two writers that stood in each other's way once seldom do so again.
const RETRIES_MAX: usize = 4;
/// Before the second attempt; then twice as long each time, and up to as much again by chance.
const BACKOFF: Duration = Duration::from_millis(5);

/// Failures in a row to get a connection, until nobody asks for one any more for a moment.
const OUTAGE: BreakerOptions =
    BreakerOptions { failures_max: 3, pause: Duration::from_millis(200), probe_max: Duration::from_secs(2) };

/// The connections of one edge to the server that is the primary by now. While there are none to be had, asking for
/// one fails at once.
pub(super) struct Connections {
    server: ArcSwapOption<Server>,
    breaker: Mutex<Breaker>,
    known: KnownEpoch,
}

struct Server {
    pool: MySqlPool,
    /// What it was last heard to be at; [`EPOCH_UNHEARD`] before that.
    epoch: Arc<AtomicU32>,
}

/// Of a server that has not told yet.
const EPOCH_UNHEARD: u32 = u32::MAX;

impl Connections {
    /// None to anywhere.
    pub(super) fn new(known: KnownEpoch) -> Self {
        Self { server: ArcSwapOption::empty(), breaker: Mutex::new(Breaker::new(OUTAGE)), known }
    }

    /// From now on connections are to this server, and those to the one before are closed when they are given back.
    pub(super) fn point_at(&self, options: &MySqlConnectOptions, epoch: Option<u32>) {
        let epoch = Arc::new(AtomicU32::new(epoch.unwrap_or(EPOCH_UNHEARD)));
        let pool = pool(options, self.known.clone(), Arc::clone(&epoch));
        *self.breaker() = Breaker::new(OUTAGE);
        close(self.server.swap(Some(Arc::new(Server { pool, epoch }))));
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

    /// The pool, for a statement that needs no transaction.
    pub(super) fn pool(&self) -> Result<MySqlPool, Failure> {
        let unavailable = |why: &str| Failure::Final(StoreError::unavailable(why));
        let server = self.server.load();
        let server = server.as_ref().ok_or_else(|| unavailable("no server is the primary"))?;
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

    async fn acquire(&self) -> Result<PoolConnection<MySql>, Failure> {
        let pool = self.pool()?;
        let Some(permit) = self.breaker().enter(Instant::now()) else {
            return Err(Failure::Final(StoreError::unavailable("there was no connection lately")));
        };
        let acquired = pool.acquire().await;
        let change = match &acquired {
            Ok(_) => self.breaker().succeeded(permit),
            Err(_) => self.breaker().failed(permit, Instant::now()),
        };
        match change {
            Some(Change::Opened) => warn!("database lost: it is left alone until it answers"),
            Some(Change::Closed) => info!("database back"),
            None => {}
        }
        Ok(acquired?)
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().expect("no holder of the lock can panic")
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
    MySqlPoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .acquire_timeout(ACQUIRE_TIMEOUT)
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

/// A connection in use. It goes back to the pool when it was [`released`](Session::release); dropped otherwise,
/// wherever its transaction stands, it is closed, and the server undoes what was not committed. So a caller that
/// goes away leaves neither a transaction nor an answer to whoever comes next.
pub(super) struct Session {
    connection: PoolConnection<MySql>,
    began: Instant,
    released: bool,
}

impl Session {
    pub(super) async fn acquire(connections: &Connections) -> Result<Self, Failure> {
        Ok(Self { connection: connections.acquire().await?, began: Instant::now(), released: false })
    }

    /// A transaction that sees what others have committed at each statement, and locks what it asks to lock.
    pub(super) async fn begin(connections: &Connections) -> Result<Self, Failure> {
        let mut session = Self::acquire(connections).await?;
        session.run("START TRANSACTION").await?;
        Ok(session)
    }

    /// A transaction that only reads, all of it as of one moment.
    pub(super) async fn snapshot(connections: &Connections) -> Result<Self, Failure> {
        let mut session = Self::acquire(connections).await?;
        session.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
        session.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?;
        Ok(session)
    }

    /// Runs the last statements and commits, in one message; when that fails, nobody says at which of them. Not a
    /// moment too late: whoever follows the feed has stopped to wait for a transaction that took longer than any may.
    pub(super) async fn commit_after(mut self, mut script: Script) -> Result<(), Failure> {
        if self.began.elapsed() > ATTEMPT_DEADLINE {
            return Err(Failure::Undone(StoreError::Unavailable("the transaction took too long".into())));
        }
        script.add("COMMIT", &[]);
        let committed = tokio::time::timeout(ATTEMPT_DEADLINE, script.run(&mut self)).await;
        match committed {
            Ok(Ok(())) => {
                self.release();
                Ok(())
            }
            Ok(Err(error)) => Err(Failure::Unknown(Failure::from(error).into_error())),
            Err(elapsed) => Err(Failure::Unknown(StoreError::Unavailable(elapsed.into()))),
        }
    }

    /// Undoes the transaction.
    pub(super) async fn roll_back(mut self) -> Result<(), Failure> {
        self.run("ROLLBACK").await?;
        self.release();
        Ok(())
    }

    /// Gives the connection back.
    pub(super) fn release(mut self) {
        self.released = true;
    }

    async fn run(&mut self, statement: &'static str) -> Result<(), Failure> {
        sqlx::raw_sql(statement).execute(&mut *self.connection).await?;
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.released {
            self.connection.close_on_drop();
        }
    }
}

impl Deref for Session {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        &self.connection
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.connection
    }
}

/// Why an attempt failed, and what that means for another.
#[derive(Debug)]
pub(super) enum Failure {
    /// Another attempt would fail likewise.
    Final(StoreError),
    /// The database has undone it, or will: another attempt may do better.
    Undone(StoreError),
    /// The connection broke during COMMIT: it may have happened or not.
    Unknown(StoreError),
}

impl Failure {
    /// The same for one of several whom it has met.
    pub(super) fn shared(&self) -> Self {
        match self {
            Self::Final(error) => Self::Final(error.shared()),
            Self::Undone(error) => Self::Undone(error.shared()),
            Self::Unknown(error) => Self::Unknown(error.shared()),
        }
    }

    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Final(error) | Self::Undone(error) | Self::Unknown(error) => error,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Final(error)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        let number = number(&error);
        match (&error, number) {
            // A pool without a free connection will not have one at once.
            (sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed, _) => Self::Final(error.into()),
            // Not even that much is certain of the server.
            (sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_), _) => {
                Self::Undone(error.into())
            }
            (_, Some(number)) if passes(number) => Self::Undone(StoreError::Unavailable(Box::new(error))),
            _ => Self::Final(error.into()),
        }
    }
}

/// Errors of the server that another attempt may not meet (MySQL server error reference).
fn passes(number: u16) -> bool {
    const LOCK_WAIT_TIMEOUT: u16 = 1205;
    const LOCK_DEADLOCK: u16 = 1213;
    const SERVER_SHUTDOWN: u16 = 1053;
    const TOO_MANY_CONNECTIONS: u16 = 1040;
    const QUERY_INTERRUPTED: u16 = 1317;
    const QUERY_TIMEOUT: u16 = 3024;
    const CLIENT_INTERACTION_TIMEOUT: u16 = 4031;
    /// The three ways of a server to say that it is not the primary any more.
    const OLD_PRIMARY: [u16; 3] = [1290, 1792, 1836];
    matches!(
        number,
        LOCK_WAIT_TIMEOUT
            | LOCK_DEADLOCK
            | SERVER_SHUTDOWN
            | TOO_MANY_CONNECTIONS
            | QUERY_INTERRUPTED
            | QUERY_TIMEOUT
            | CLIENT_INTERACTION_TIMEOUT
    ) || OLD_PRIMARY.contains(&number)
}

fn number(error: &sqlx::Error) -> Option<u16> {
    let database: &dyn DatabaseError = error.as_database_error()?;
    database.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}

/// The attempts at one transaction. An attempt whose commit is unknown is repeated too, so it has to find out by
/// itself that it has happened already.
pub(super) struct Attempts {
    deadline: Instant,
    pauses: ExponentialBackoff,
}

impl Attempts {
    pub(super) fn new() -> Self {
        let pauses =
            ExponentialBuilder::new().with_min_delay(BACKOFF).with_max_times(RETRIES_MAX).with_jitter();
        Self { deadline: Instant::now() + WRITE_DEADLINE, pauses: pauses.build() }
    }

    /// Makes an attempt; `None` when there is to be another.
    pub(super) async fn make<T>(
        &mut self,
        attempt: impl Future<Output = Result<T, Failure>>,
    ) -> Option<Result<T, StoreError>> {
        let patience = ATTEMPT_DEADLINE.min(self.deadline.saturating_duration_since(Instant::now()));
        let failure = match tokio::time::timeout(patience, attempt).await {
            Ok(Ok(value)) => return Some(Ok(value)),
            Ok(Err(Failure::Final(error))) => return Some(Err(error)),
            Ok(Err(failure)) => failure.into_error(),
            Err(elapsed) => StoreError::Unavailable(elapsed.into()),
        };
        match self.pauses.next() {
            Some(pause) if Instant::now() + pause < self.deadline => {
                debug!(error = ?failure, "transaction undone, trying again");
                tokio::time::sleep(pause).await;
                None
            }
            _ => Some(Err(failure)),
        }
    }
}

/// Attempts what may be done twice.
pub(super) async fn retried<T, A: Future<Output = Result<T, Failure>>>(
    attempt: impl Fn() -> A,
) -> Result<T, StoreError> {
    let mut attempts = Attempts::new();
    loop {
        if let Some(ended) = attempts.make(attempt()).await {
            return ended;
        }
    }
}
