//! The edges of the home region, and one connection to each that is kept open.
//!
//! A task for every edge connects, watches over the connection by pings, and connects anew when it is lost. So a
//! request finds a connection that was alive a moment ago, or learns at once that there is none; it never waits to
//! find out.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use region_router::discovery::Discovery;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::{debug, info, warn};

use crate::breaker::{Breaker, BreakerOptions, Permit};
use crate::peers::PeerTls;
use crate::telemetry::chain;

/// To connect takes a round trip, to prove who one is another, and a first exchange a third: four times the longest
/// round trip.
pub(super) const CONNECT_DEADLINE: Duration = Duration::from_millis(500);
/// Before an edge that could not be reached is tried again: soon at first.
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(20);
/// And this often in the end: an edge that comes back is found within so long, and as much again by chance.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_millis(500);
/// A connection on which nothing has come for so long is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_millis(250);
/// It is given up when none comes: many times the longest round trip, and longer than a busy machine stands still. A
/// silent link is found out within this and the time before.
const PING_DEADLINE: Duration = Duration::from_secs(1);
/// An edge that takes requests and does not do them, three in a row, is left alone for a moment. The probe that
/// follows may take as long as a forward.
const BREAKER: BreakerOptions =
    BreakerOptions { failures_max: 3, pause: Duration::from_millis(250), probe_max: Duration::from_secs(3) };
/// Bytes of one answer. The largest is the whole catalogue: some hundred thousand items.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// A request to an edge.
pub(super) type Outgoing = Request<Full<Bytes>>;

type Sender = SendRequest<Full<Bytes>>;

/// How every edge is reached.
pub(super) struct Road {
    /// Our certificate, and whom we believe.
    pub(super) tls: Arc<PeerTls>,
    /// The name on the certificate of every edge of the home region.
    pub(super) name: ServerName<'static>,
    /// Makes the first request on a connection. Only its answer proves that we were let in.
    pub(super) greeting: Box<dyn Fn() -> Outgoing + Send + Sync>,
}

/// The edges of the home region.
pub(super) struct HomeEdges {
    edges: Arc<ArcSwap<Vec<Arc<Edge>>>>,
    /// Told whenever an edge comes, goes, or is reached or not.
    changed: watch::Sender<()>,
    /// Of edges that have as much to do, each is asked in turn.
    turn: AtomicUsize,
    _tasks: JoinSet<()>,
}

impl HomeEdges {
    /// Connects to the edges where they are found; they may come and go.
    pub(super) fn start(road: Road, found: Arc<Discovery>) -> Self {
        let edges = Arc::new(ArcSwap::default());
        let changed = watch::Sender::new(());
        let mut tasks = JoinSet::new();
        tasks.spawn(follow(Arc::new(road), found, Arc::clone(&edges), changed.clone()));
        Self { edges, changed, turn: AtomicUsize::new(0), _tasks: tasks }
    }

    /// The edge to ask next: of those that are connected, the one with the fewest requests under way, and one that
    /// was not tried yet before one that was. Waits only while an edge is being connected to that was not known to
    /// be down; `None` when there is no other.
    pub(super) async fn choose(&self, tried: &[SocketAddr], again: bool) -> Option<Turn> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let edges = self.edges.load_full();
            let first = self.turn.fetch_add(1, Ordering::Relaxed);
            let in_turn = (0..edges.len()).map(|n| &edges[first.wrapping_add(n) % edges.len()]);
            let mut candidates: Vec<&Arc<Edge>> =
                in_turn.filter(|edge| again || !tried.contains(&edge.address)).collect();
            candidates.sort_by_key(|edge| {
                (tried.contains(&edge.address), edge.outstanding.load(Ordering::Relaxed))
            });
            if let Some(turn) = candidates.iter().find_map(|edge| Turn::take(edge)) {
                return Some(turn);
            }
            if !candidates.iter().any(|edge| edge.is_connecting()) {
                return None;
            }
            // The sender is ours, so it is there.
            let _ = changed.changed().await;
        }
    }
}

/// One edge of the home region.
struct Edge {
    address: SocketAddr,
    state: Mutex<State>,
    breaker: Mutex<Breaker>,
    outstanding: AtomicUsize,
}

enum State {
    /// For the first time, or because a connection was lost: it may be there in a moment.
    Connecting,
    /// There is a connection, and it has answered.
    Up(Sender),
    /// The last attempt to connect has failed.
    Down,
}

impl Edge {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            state: Mutex::new(State::Connecting),
            breaker: Mutex::new(Breaker::new(BREAKER)),
            outstanding: AtomicUsize::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the lock can panic")
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().expect("no holder of the lock can panic")
    }

    fn is_connecting(&self) -> bool {
        match &*self.state() {
            State::Connecting => true,
            // Its keeper is about to notice.
            State::Up(sender) => sender.is_closed(),
            State::Down => false,
        }
    }
}

/// One request's turn at an edge.
pub(super) struct Turn {
    edge: Arc<Edge>,
    sender: Sender,
    permit: Permit,
}

impl Turn {
    fn take(edge: &Arc<Edge>) -> Option<Self> {
        let sender = match &*edge.state() {
            State::Up(sender) if !sender.is_closed() => sender.clone(),
            _ => return None,
        };
        let permit = edge.breaker().enter(Instant::now())?;
        edge.outstanding.fetch_add(1, Ordering::Relaxed);
        Some(Self { edge: Arc::clone(edge), sender, permit })
    }

    /// Which edge it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.edge.address
    }

    /// Sends the request, and returns the whole answer.
    pub(super) async fn send(&mut self, request: Outgoing) -> Result<(StatusCode, Bytes), SendError> {
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok((status, body.map_err(SendError::Body)?.to_bytes()))
    }

    /// The edge has done what it was asked to.
    pub(super) fn succeeded(self) {
        if self.edge.breaker().succeeded(self.permit).is_some() {
            info!(home.edge = %self.edge.address, "home edge does its work again");
        }
    }

    /// The edge has not done what any edge should.
    pub(super) fn failed(self) {
        if self.edge.breaker().failed(self.permit, Instant::now()).is_some() {
            warn!(home.edge = %self.edge.address, "home edge does not do its work, left alone for a moment");
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.edge.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connection broke: the request may have been done or not.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("the connection broke")]
    Connection(#[from] hyper::Error),
    #[error("the answer broke off")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Keeps a connection to every address there is, and to no other.
async fn follow(
    road: Arc<Road>,
    found: Arc<Discovery>,
    edges: Arc<ArcSwap<Vec<Arc<Edge>>>>,
    changed: watch::Sender<()>,
) {
    let mut addresses = found.watch();
    let mut keepers = JoinSet::new();
    let mut kept: HashMap<SocketAddr, (Arc<Edge>, AbortHandle)> = HashMap::new();
    loop {
        let wanted = addresses.borrow_and_update().clone();
        kept.retain(|address, (_, keeper)| {
            let stays = wanted.contains(address);
            if !stays {
                info!(home.edge = %address, "home edge is gone from the list");
                // What is under way on its connection may end.
                keeper.abort();
            }
            stays
        });
        for address in wanted.iter().copied() {
            kept.entry(address).or_insert_with(|| {
                let edge = Arc::new(Edge::new(address));
                let keeper = keepers.spawn(keep(Arc::clone(&edge), Arc::clone(&road), changed.clone()));
                (edge, keeper)
            });
        }
        edges.store(Arc::new(kept.values().map(|(edge, _)| Arc::clone(edge)).collect()));
        changed.send_replace(());
        if addresses.changed().await.is_err() {
            // A fixed list: there will be no others.
            std::future::pending::<()>().await;
        }
    }
}

/// Keeps a connection to an edge, for ever.
async fn keep(edge: Arc<Edge>, road: Arc<Road>, changed: watch::Sender<()>) {
    let become_state = |state: State| {
        *edge.state() = state;
        changed.send_replace(());
    };
    let mut pauses = pauses();
    let mut down = false;
    loop {
        let connected = tokio::time::timeout(CONNECT_DEADLINE, connect(edge.address, &road)).await;
        match connected.unwrap_or_else(|late| Err(late.into())) {
            Ok((sender, connection)) => {
                info!(home.edge = %edge.address, "home edge connected");
                down = false;
                pauses = self::pauses();
                become_state(State::Up(sender));
                let ended = connection.await;
                become_state(State::Connecting);
                info!(home.edge = %edge.address, ended = ?ended, "connection to the home edge has ended");
            }
            Err(error) => {
                if !std::mem::replace(&mut down, true) {
                    warn!(home.edge = %edge.address, error = %chain(&error), "home edge cannot be reached");
                }
                become_state(State::Down);
                tokio::time::sleep(pauses.next().unwrap_or(RECONNECT_PAUSE_MAX)).await;
            }
        }
    }
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(RECONNECT_PAUSE_MIN)
        .with_max_delay(RECONNECT_PAUSE_MAX)
        .without_max_times()
        .with_jitter()
        .build()
}

/// A connection; it works as long as this is polled.
type Connection = http2::Connection<TokioIo<TlsStream<TcpStream>>, Full<Bytes>, TokioExecutor>;

async fn connect(address: SocketAddr, road: &Road) -> io::Result<(Sender, Connection)> {
    let stream = TcpStream::connect(address).await?;
    // A request must not wait for more to send.
    stream.set_nodelay(true)?;
    let stream = TlsConnector::from(road.tls.client()).connect(road.name.clone(), stream).await?;
    let (mut sender, mut connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_DEADLINE)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let answer = tokio::select! {
        answer = sender.send_request((road.greeting)()) => answer.map_err(io::Error::other)?,
        ended = &mut connection => {
            return Err(ended.err().map_or_else(|| io::ErrorKind::ConnectionReset.into(), io::Error::other));
        }
    };
    debug!(home.edge = %address, http.status = answer.status().as_u16(), "home edge greeted");
    Ok((sender, connection))
}
