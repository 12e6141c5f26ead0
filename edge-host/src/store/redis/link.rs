//! The connection to Redis: made when it is needed, given up when it does no good, and left alone when Redis does not
//! answer, until a ping in the background is answered.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterConfig;
use redis::cluster_async::ClusterConnection;
use redis::{Arg, AsyncConnectionConfig, Cmd, ErrorKind, PushInfo, RedisError, ServerErrorKind, Value};
use region_router::traces::{self, Kind, Span};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::near::NearCache;
use super::target::{AnyClient, COMMAND_DEADLINE, CONNECT_DEADLINE, RedisTarget};
use crate::breaker::Breaker;
use crate::store::StoreError;
use crate::telemetry::chain;

/// Failures in a row after which Redis is left alone. Five deadlines are no accident.
const FAILURES_MAX: u32 = 5;
/// While Redis is left alone, it is asked this often whether it is back, in the background.
const PROBE_PAUSE: Duration = Duration::from_millis(250);

/// A link to one Redis, up or down.
pub(super) struct Link {
    this: Weak<Self>,
    target: RedisTarget,
    breaker: Mutex<Breaker>,
    /// One for all requests of the edge: the more of them it carries at once, the less each costs.
    current: ArcSwapOption<Connection>,
    connecting: tokio::sync::Mutex<()>,
    /// How often it was connected; for those who wait, and for those who look often.
    connections: watch::Sender<u64>,
    connected: AtomicU64,
}

enum Connection {
    One {
        connection: MultiplexedConnection,
        /// Where Redis tells this connection of changes.
        near: Option<Arc<NearCache>>,
    },
    /// Its nodes come and go beneath it, and what they would have told goes with them: nothing is kept near.
    Cluster(ClusterConnection),
}

/// A script, sent by its name as long as Redis knows it.
pub(super) struct Script {
    code: &'static str,
    sha1: String,
}

impl Script {
    pub(super) fn new(code: &'static str) -> Self {
        Self { code, sha1: redis::Script::new(code).get_hash().to_owned() }
    }
}

impl Link {
    /// A link that is not connected yet.
    pub(super) fn new(target: RedisTarget) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            target,
            breaker: Mutex::new(Breaker::new(FAILURES_MAX)),
            current: ArcSwapOption::empty(),
            connecting: tokio::sync::Mutex::default(),
            connections: watch::Sender::new(0),
            connected: AtomicU64::new(0),
        })
    }

    /// How often it was connected.
    pub(super) fn connected(&self) -> u64 {
        self.connected.load(Ordering::Acquire)
    }

    /// Tells when it is connected anew.
    pub(super) fn connections(&self) -> watch::Receiver<u64> {
        self.connections.subscribe()
    }

    /// What is kept near by what the connection of now has read, if there is one that tells of changes.
    pub(super) fn near<T>(&self, look_up: impl FnOnce(&Arc<NearCache>) -> Option<T>) -> Option<T> {
        look_up(self.current.load().as_deref()?.near()?)
    }

    /// Sends a command that changes nothing.
    pub(super) async fn call(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.exchange(command, None).await.map_err(Failure::into_store_error)
    }

    /// Runs a script on one key. Redis forgets scripts when it restarts, and a node of a cluster may never have
    /// seen this one: then it is sent whole, to the very node, which learns it by that.
    pub(super) async fn run(&self, script: &Script, key: &str, args: &[&[u8]]) -> Result<Value, StoreError> {
        let command = |word: &str, body: &str| {
            let mut command = redis::cmd(word);
            command.arg(body).arg(1).arg(key).arg(args);
            command
        };
        let outcome = match self.exchange(&command("EVALSHA", &script.sha1), Some(key)).await {
            Err(Failure::Answered(error)) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.exchange(&command("EVAL", script.code), Some(key)).await
            }
            done => done,
        };
        outcome.map_err(Failure::into_store_error)
    }

    /// Sends a command; `changes` is the key that it may change.
    async fn exchange(&self, command: &Cmd, changes: Option<&str>) -> Result<Value, Failure> {
        let permit = self.breaker().enter().ok_or(Failure::Rejected)?;
        let attempt = traces::in_span(
            || span(command),
            self.attempt(command, changes),
            |outcome, span| {
                if let Err(failure) = outcome {
                    span.fail(failure.word());
                }
            },
        );
        let outcome = attempt.await;
        match &outcome {
            Err(error @ (Failure::Silent(_) | Failure::Unfit(_))) => {
                if self.breaker().failed(permit) {
                    self.leave_alone(error);
                }
            }
            _ => self.breaker().succeeded(permit),
        }
        outcome
    }

    /// Nobody waits for Redis any more until it has answered a ping.
    fn leave_alone(&self, why: &Failure) {
        // Whatever is connected is of no use: the way may be dead without saying so, or lead to an old primary.
        self.current.store(None);
        warn!(redis = %self.target, error = %chain(why), "cache lost: it is left alone until it answers");
        let this = Weak::clone(&self.this);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(PROBE_PAUSE).await;
                let Some(link) = this.upgrade() else { return };
                match link.probe().await {
                    Ok(connection) => {
                        link.take_on(Arc::new(connection));
                        link.breaker().recover();
                        info!(redis = %link.target, "cache back");
                        return;
                    }
                    Err(error) => debug!(redis = %link.target, error = %chain(&error), "cache still lost"),
                }
            }
        });
    }

    /// A new connection, over which a ping was answered.
    async fn probe(&self) -> Result<Connection, Failure> {
        let ping = async {
            let connection = open(&self.target).await?;
            connection.ask(&redis::cmd("PING")).await.map_err(Failure::of)?;
            Ok(connection)
        };
        match tokio::time::timeout(CONNECT_DEADLINE, ping).await {
            Ok(answered) => answered,
            Err(elapsed) => Err(Failure::Silent(std::io::Error::from(elapsed).into())),
        }
    }

    async fn attempt(&self, command: &Cmd, changes: Option<&str>) -> Result<Value, Failure> {
        let connection = match self.current.load_full() {
            Some(connection) => connection,
            None => Box::pin(self.connect()).await?,
        };
        let asked = Instant::now();
        let answer = connection.ask(command).await;
        if let Some(near) = connection.near() {
            if answer.is_ok() {
                near.heard(asked);
            }
            // Redis says so too, but perhaps only after whoever waits for this has gone on. A script that has changed
            // something says 1, and one that has not answered may have.
            if let (Some(key), Ok(Value::Int(1)) | Err(_)) = (changes, &answer) {
                near.forget(key);
            }
        }
        answer.map_err(|error| {
            let failure = Failure::of(error);
            if failure.ends_connection() {
                // Unless somebody has connected anew already.
                self.current.compare_and_swap(&Some(connection), None);
            }
            failure
        })
    }

    /// Connects, or waits for who is at it.
    async fn connect(&self) -> Result<Arc<Connection>, Failure> {
        let connect = async {
            let _connecting = self.connecting.lock().await;
            if let Some(connection) = self.current.load_full() {
                return Ok(connection);
            }
            let connection = Arc::new(open(&self.target).await?);
            self.take_on(Arc::clone(&connection));
            Ok(connection)
        };
        match tokio::time::timeout(CONNECT_DEADLINE, connect).await {
            Ok(connected) => connected,
            Err(elapsed) => Err(Failure::Silent(std::io::Error::from(elapsed).into())),
        }
    }

    /// Uses a new connection. It is counted before anything is asked over it.
    fn take_on(&self, connection: Arc<Connection>) {
        let count = self.connected.fetch_add(1, Ordering::AcqRel) + 1;
        self.connections.send_replace(count);
        self.current.store(Some(connection));
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().expect("no holder of the lock can panic")
    }
}

impl Connection {
    async fn ask(&self, command: &Cmd) -> Result<Value, RedisError> {
        match self {
            Self::One { connection, .. } => command.query_async(&mut connection.clone()).await,
            Self::Cluster(cluster) => command.query_async(&mut cluster.clone()).await,
        }
    }

    fn near(&self) -> Option<&Arc<NearCache>> {
        match self {
            Self::One { near, .. } => near.as_ref(),
            Self::Cluster(_) => None,
        }
    }
}

async fn open(target: &RedisTarget) -> Result<Connection, Failure> {
    match &target.client {
        AnyClient::One(client) => {
            let near = Arc::new(NearCache::new());
            let hears = Arc::clone(&near);
            let config = AsyncConnectionConfig::new()
                .set_dns_resolver(target.hosts.clone())
                .set_connection_timeout(Some(CONNECT_DEADLINE))
                .set_response_timeout(Some(COMMAND_DEADLINE))
                // In the order in which it comes in, and before whatever comes after it is answered.
                .set_push_sender(move |word: PushInfo| {
                    hears.hear(&word);
                    Ok::<_, Infallible>(())
                });
            let connected = client.get_multiplexed_async_connection_with_config(&config).await;
            let mut connection = connected.map_err(Failure::Silent)?;
            let tracks = redis::cmd("CLIENT").arg("TRACKING").arg("ON").query_async(&mut connection).await;
            match tracks.map_err(Failure::of) {
                Ok(()) => Ok(Connection::One { connection, near: Some(near) }),
                Err(Failure::Answered(error)) => {
                    warn!(redis = %target, error = %error, "cache tells of no changes: every read asks it");
                    Ok(Connection::One { connection, near: None })
                }
                Err(failure) => Err(failure),
            }
        }
        AnyClient::Cluster(client) => {
            let config = ClusterConfig::new()
                .set_dns_resolver(target.hosts.clone())
                .set_connection_timeout(CONNECT_DEADLINE)
                .set_response_timeout(COMMAND_DEADLINE);
            let connected = client.get_async_connection_with_config(config).await;
            connected.map(Connection::Cluster).map_err(Failure::Silent)
        }
    }
}

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// Nobody was asked.
    #[error("it did not answer lately")]
    Rejected,
    /// No answer, or none to be had.
    #[error(transparent)]
    Silent(RedisError),
    /// An answer, but from one that cannot serve now.
    #[error(transparent)]
    Unfit(RedisError),
    /// A refusal of this one command: others may well go through.
    #[error(transparent)]
    Answered(RedisError),
}

/// Of a command, by its first word. All of those are ours.
fn span(command: &Cmd) -> Span {
    let word = match command.args_iter().next() {
        Some(Arg::Simple(word)) => String::from_utf8_lossy(word).into_owned(),
        _ => "unknown".to_owned(),
    };
    Span::new(Kind::Client, word.clone()).with("db.system.name", "redis").with("db.operation.name", word)
}

impl Failure {
    /// What kind of failure it is, for a trace.
    fn word(&self) -> &'static str {
        match self {
            Self::Rejected => "left_alone",
            Self::Silent(_) => "silent",
            Self::Unfit(_) => "unfit",
            Self::Answered(_) => "refused",
        }
    }

    fn of(error: RedisError) -> Self {
        match error.kind() {
            ErrorKind::Io | ErrorKind::ClusterConnectionNotFound | ErrorKind::AuthenticationFailed => {
                Self::Silent(error)
            }
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::TryAgain
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask,
            ) => Self::Unfit(error),
            _ if error.is_unrecoverable_error() => Self::Silent(error),
            _ => match error.code() {
                Some("BUSY" | "NOAUTH") => Self::Unfit(error),
                _ => Self::Answered(error),
            },
        }
    }

    /// A primary that has become a replica stays one: its name leads to another by now.
    fn ends_connection(&self) -> bool {
        match self {
            Self::Silent(error) => error.is_unrecoverable_error(),
            Self::Unfit(error) => error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly),
            Self::Rejected | Self::Answered(_) => false,
        }
    }

    fn into_store_error(self) -> StoreError {
        match &self {
            // Not the cart's fault: full, not able to save, not allowed.
            Self::Answered(error)
                if matches!(error.code(), Some("OOM" | "MISCONF" | "NOREPLICAS" | "NOPERM")) =>
            {
                StoreError::Unavailable(Box::new(self))
            }
            Self::Answered(error) => StoreError::Corrupt(error.to_string()),
            Self::Rejected | Self::Silent(_) | Self::Unfit(_) => StoreError::Unavailable(Box::new(self)),
        }
    }
}
