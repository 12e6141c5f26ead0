//! One connection for one transaction, and what becomes of both when something breaks.

use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use sqlx::MySqlConnection;
use sqlx::error::DatabaseError;
use sqlx::mysql::MySqlDatabaseError;
use tracing::debug;

use super::connections::{Connections, Held, Share};
use super::script::Script;
use crate::store::{Late, StoreError};
use crate::telemetry::chain;

/// One attempt at a transaction, its wait for a connection included. A transaction takes milliseconds, so this is
/// hundreds of them.
pub(super) const ATTEMPT_DEADLINE: Duration = Duration::from_millis(1500);
/// All attempts together: a region that forwarded waits 3 s.
const WRITE_DEADLINE: Duration = Duration::from_millis(2500);
/// Attempts after the first. Two writers that stood in each other's way once seldom do so again.
const RETRIES_MAX: usize = 4;
/// Before the second attempt; then twice as long each time, and up to as much again by chance.
const BACKOFF: Duration = Duration::from_millis(5);
/// Before it is looked whether a lock is gone; then twice as long each time, up to [`LOOK_PAUSE_MAX`], and up to as
/// much again by chance. Most locks are held for a few milliseconds.
const LOOK_PAUSE_MIN: Duration = Duration::from_millis(2);
/// The longest pause between two looks. A look is two messages, and only the first in the queue of a cart or of an
/// item looks.
const LOOK_PAUSE_MAX: Duration = Duration::from_millis(25);
/// With less time left nothing is attempted any more: it would be broken off, and its connection closed.
const LEAST_PATIENCE: Duration = Duration::from_millis(100);

/// A connection in use. It goes back to the pool when it was [`released`](Session::release); dropped otherwise,
/// wherever its transaction stands, it is closed, and the server undoes what was not committed. So a caller that
/// goes away leaves neither a transaction nor an answer to whoever comes next.
pub(super) struct Session {
    held: Held,
    began: Instant,
    released: bool,
}

impl Session {
    /// A connection for a look.
    pub(super) async fn acquire(connections: &Connections) -> Result<Self, Failure> {
        Self::acquire_of(connections, Share::Reads).await
    }

    /// A connection of a share.
    pub(super) async fn acquire_of(connections: &Connections, share: Share) -> Result<Self, Failure> {
        Ok(Self { held: connections.acquire(share).await?, began: Instant::now(), released: false })
    }

    /// A transaction that sees what others have committed at each statement, and locks what it asks to lock.
    pub(super) async fn begin(connections: &Connections) -> Result<Self, Failure> {
        let mut session = Self::acquire_of(connections, Share::Work).await?;
        session.run("START TRANSACTION").await?;
        Ok(session)
    }

    /// A transaction that only reads, all of it as of one moment.
    pub(super) async fn snapshot(connections: &Connections) -> Result<Self, Failure> {
        let mut session = Self::acquire_of(connections, Share::Work).await?;
        session.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await?;
        session.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await?;
        Ok(session)
    }

    /// Runs the last statements and commits, in one message; when that fails, nobody says at which of them. Not a
    /// moment too late: whoever follows the feed has stopped to wait for a transaction that took longer than any may.
    pub(super) async fn commit_after(mut self, mut script: Script) -> Result<(), Failure> {
        if self.began.elapsed() > ATTEMPT_DEADLINE {
            return Err(Failure::Undone(StoreError::overloaded(Late("the end of a transaction"))));
        }
        script.add("COMMIT", &[]);
        let committed = tokio::time::timeout(ATTEMPT_DEADLINE, script.run(&mut self)).await;
        match committed {
            Ok(Ok(())) => {
                self.release();
                Ok(())
            }
            Ok(Err(error)) => Err(Failure::Unknown(Failure::from(error).into_error())),
            Err(_) => Err(Failure::Unknown(StoreError::overloaded(Late("the answer to a commit")))),
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
        sqlx::raw_sql(statement).execute(&mut **self).await?;
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.released {
            self.held.connection.close_on_drop();
        }
    }
}

impl Deref for Session {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        &self.held.connection
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.held.connection
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
    /// Nothing went wrong, but it is to be attempted in another way: alone, or once a lock is gone.
    Otherwise(&'static str),
}

impl Failure {
    /// The same for one of several that have met it.
    pub(super) fn shared(&self) -> Self {
        match self {
            Self::Final(error) => Self::Final(error.shared()),
            Self::Undone(error) => Self::Undone(error.shared()),
            Self::Unknown(error) => Self::Unknown(error.shared()),
            Self::Otherwise(what) => Self::Otherwise(what),
        }
    }

    pub(super) fn into_error(self) -> StoreError {
        match self {
            Self::Final(error) | Self::Undone(error) | Self::Unknown(error) => error,
            Self::Otherwise(what) => StoreError::Busy(what),
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
            (sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed, _) => Self::Final(error.into()),
            // Not even that much is certain of the server.
            (sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_), _) => {
                Self::Undone(error.into())
            }
            (_, Some(LOCK_WAIT_TIMEOUT | LOCK_DEADLOCK)) => Self::Undone(StoreError::Busy("a row")),
            (_, Some(TOO_MANY_CONNECTIONS | QUERY_INTERRUPTED | QUERY_TIMEOUT)) => {
                Self::Undone(StoreError::overloaded(error))
            }
            (_, Some(number)) if is_gone(number) => Self::Undone(StoreError::unavailable(error)),
            _ => Self::Final(error.into()),
        }
    }
}

// Errors of the server that another attempt may not meet (MySQL server error reference).
const LOCK_WAIT_TIMEOUT: u16 = 1205;
const LOCK_DEADLOCK: u16 = 1213;
const TOO_MANY_CONNECTIONS: u16 = 1040;
const QUERY_INTERRUPTED: u16 = 1317;
const QUERY_TIMEOUT: u16 = 3024;

/// Whether the server says that it does not serve any more.
fn is_gone(number: u16) -> bool {
    const SERVER_SHUTDOWN: u16 = 1053;
    const CLIENT_INTERACTION_TIMEOUT: u16 = 4031;
    /// The three ways of a server to say that it is not the primary any more.
    const OLD_PRIMARY: [u16; 3] = [1290, 1792, 1836];
    matches!(number, SERVER_SHUTDOWN | CLIENT_INTERACTION_TIMEOUT) || OLD_PRIMARY.contains(&number)
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
    looks: ExponentialBackoff,
}

impl Attempts {
    pub(super) fn new() -> Self {
        let pauses =
            ExponentialBuilder::new().with_min_delay(BACKOFF).with_max_times(RETRIES_MAX).with_jitter();
        let looks = ExponentialBuilder::new()
            .with_min_delay(LOOK_PAUSE_MIN)
            .with_max_delay(LOOK_PAUSE_MAX)
            .without_max_times()
            .with_jitter();
        Self { deadline: Instant::now() + WRITE_DEADLINE, pauses: pauses.build(), looks: looks.build() }
    }

    /// Makes an attempt; `None` when there is to be another.
    pub(super) async fn make<T>(
        &mut self,
        attempt: impl Future<Output = Result<T, Failure>>,
    ) -> Option<Result<T, StoreError>> {
        let patience = ATTEMPT_DEADLINE.min(self.deadline.saturating_duration_since(Instant::now()));
        let failure = match tokio::time::timeout(patience, attempt).await {
            Ok(Ok(value)) => return Some(Ok(value)),
            Ok(Err(Failure::Otherwise(_))) => return None,
            Ok(Err(Failure::Final(error))) => return Some(Err(error)),
            Ok(Err(failure)) => failure.into_error(),
            Err(_) => StoreError::overloaded(Late("the end of a transaction")),
        };
        match self.pauses.next() {
            Some(pause) if Instant::now() + pause + LEAST_PATIENCE < self.deadline => {
                debug!(error = %chain(&failure), "transaction undone, trying again");
                tokio::time::sleep(pause).await;
                None
            }
            _ => Some(Err(failure)),
        }
    }

    /// Waits for something before another attempt, without a connection; not beyond the time of all attempts.
    pub(super) async fn wait_for<T>(
        &self,
        what: &'static str,
        turn: impl Future<Output = T>,
    ) -> Result<T, StoreError> {
        let until = self.deadline.checked_sub(LEAST_PATIENCE).unwrap_or(self.deadline);
        tokio::time::timeout_at(until.into(), turn).await.map_err(|_| StoreError::Busy(what))
    }

    /// Waits a moment before it is looked again whether a lock is gone.
    pub(super) async fn look_again(&mut self, what: &'static str) -> Result<(), StoreError> {
        let pause = self.looks.next().unwrap_or(LOOK_PAUSE_MAX);
        if Instant::now() + pause + LEAST_PATIENCE >= self.deadline {
            return Err(StoreError::Busy(what));
        }
        tokio::time::sleep(pause).await;
        Ok(())
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
