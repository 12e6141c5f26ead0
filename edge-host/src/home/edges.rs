//! The edges of the home region, and one connection to each that is kept open.
//!
//! A task for every edge connects, watches over the connection by pings, and connects anew when it is lost. So a
//! request finds a connection that was alive a moment ago, or learns at once that there is none; it never waits to
//! find out. What becomes of a request says nothing about the edge: one that is slow, busy or overloaded is not gone.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
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

use super::heard::{Ear, Heard};
use super::wire::{self, Hello};
use crate::clock::Clock;
use crate::peers::PeerTls;
use crate::telemetry::chain;

/// To connect takes a round trip, to prove who one is another, and a first exchange a third. This is many times the
/// longest of them, because a home with much to do must not count as gone.
pub(super) const CONNECT_DEADLINE: Duration = Duration::from_secs(1);
/// Before an edge that could not be reached is tried again: soon at first.
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(20);
/// And this often in the end: an edge that comes back is found within so long, and as much again by chance.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_millis(500);
/// A connection on which nothing has come for so long is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_millis(250);
/// It is given up when no byte has come for so long, the time before included: many times the longest round trip, and
/// longer than a busy machine stands still.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Of a connection, hyper waits for the answer to a ping this long. What counts is [`SILENCE_MAX`]: an answer may wait
/// behind others, or be here and not read yet.
const PING_DEADLINE: Duration = Duration::from_secs(20);
/// So long after an edge has said that it cannot serve, or was slow, others are asked before it. It is not left out:
/// whether it is there is known from its connection, and only from that.
const LAST_FOR: Duration = Duration::from_millis(500);
/// An edge is asked this often what it can do now. One that stops serves for longer than that.
const HELLO_EVERY: Duration = Duration::from_millis(500);
/// And this often while it cannot do everything.
const HELLO_SOON: Duration = Duration::from_millis(100);
/// Bytes of what an edge says of itself: a few reasons.
const HELLO_BYTES_MAX: usize = 16 * 1024;

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
    /// Set by the time that home's answers give.
    pub(super) clock: Clock,
}

/// The edges of the home region.
pub(super) struct HomeEdges {
    /// Nothing until it is known where to look.
    edges: Arc<ArcSwapOption<Vec<Arc<Edge>>>>,
    /// Told whenever an edge comes, goes, or is reached or not.
    changed: watch::Sender<()>,
    /// Of edges that have as much to do, each is asked in turn.
    turn: AtomicUsize,
    clock: Clock,
    _tasks: JoinSet<()>,
}

impl HomeEdges {
    /// Connects to the edges where they are found; they may come and go.
    pub(super) fn start(road: Road, found: Arc<Discovery>) -> Self {
        let edges = Arc::new(ArcSwapOption::empty());
        let changed = watch::Sender::new(());
        let mut tasks = JoinSet::new();
        let clock = road.clock.clone();
        tasks.spawn(follow(Arc::new(road), found, Arc::clone(&edges), changed.clone()));
        Self { edges, changed, turn: AtomicUsize::new(0), clock, _tasks: tasks }
    }

    /// The edge to ask next: of those that are connected, the one with the fewest requests under way, one that was
    /// not tried yet before one that was, and one that has served before one that could not. Waits only while an edge
    /// is being connected to that was not known to be down; `None` when there is no other. For a write, an edge that
    /// takes writes comes before one that says it does not.
    pub(super) async fn choose(&self, tried: &[SocketAddr], again: bool, writes: bool) -> Option<Turn> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(edges) = self.edges.load_full() {
                let first = self.turn.fetch_add(1, Ordering::Relaxed);
                let in_turn = (0..edges.len()).map(|n| &edges[first.wrapping_add(n) % edges.len()]);
                let mut candidates: Vec<&Arc<Edge>> =
                    in_turn.filter(|edge| again || !tried.contains(&edge.address)).collect();
                candidates.sort_by_key(|edge| {
                    let tried = tried.contains(&edge.address);
                    let refuses = writes && !edge.takes_writes();
                    (tried, refuses, edge.comes_last(), edge.outstanding.load(Ordering::Relaxed))
                });
                if let Some(turn) = candidates.iter().find_map(|edge| Turn::take(edge, &self.clock)) {
                    return Some(turn);
                }
                if !candidates.iter().any(|edge| edge.is_connecting()) {
                    return None;
                }
            }
            // The sender is ours, so it is there.
            let _ = changed.changed().await;
        }
    }
}

impl HomeEdges {
    /// How many edges are connected and serve.
    pub(super) fn serving(&self) -> usize {
        let edges = self.edges.load_full();
        edges.map_or(0, |edges| edges.iter().filter(|edge| edge.serves()).count())
    }

    /// Why no write can be done now, as far as the edges say.
    pub(super) fn refusal(&self) -> Option<String> {
        let edges = self.edges.load_full()?;
        let connected: Vec<&Arc<Edge>> = edges.iter().filter(|edge| !edge.is_down()).collect();
        if connected.is_empty() {
            return Some("the home region cannot be reached".to_owned());
        }
        if connected.iter().any(|edge| edge.takes_writes()) {
            return None;
        }
        let said = connected.iter().find_map(|edge| edge.hello().reasons.first().cloned());
        Some(said.unwrap_or_else(|| "the home region takes none".to_owned()))
    }
}

/// One edge of the home region.
struct Edge {
    address: SocketAddr,
    state: Mutex<State>,
    /// What it has said of itself last.
    hello: Mutex<Hello>,
    /// When it was last of no use.
    useless: Mutex<Option<Instant>>,
    outstanding: AtomicUsize,
}

enum State {
    /// For the first time, or because a connection was lost: it may be there in a moment.
    Connecting,
    /// There is a connection, and it has answered.
    Up(Sender, Ear),
    /// The last attempt to connect has failed, or it says that it cannot serve now.
    Down,
}

impl Edge {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            state: Mutex::new(State::Connecting),
            hello: Mutex::new(Hello::of_version_0()),
            useless: Mutex::default(),
            outstanding: AtomicUsize::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the lock can panic")
    }

    fn comes_last(&self) -> bool {
        let useless = *self.useless.lock().expect("no holder of the lock can panic");
        useless.is_some_and(|at| at.elapsed() < LAST_FOR)
    }

    fn hello(&self) -> Hello {
        self.hello.lock().expect("no holder of the lock can panic").clone()
    }

    fn takes_writes(&self) -> bool {
        self.hello.lock().expect("no holder of the lock can panic").writes
    }

    fn serves(&self) -> bool {
        matches!(&*self.state(), State::Up(..))
    }

    fn is_down(&self) -> bool {
        matches!(&*self.state(), State::Down)
    }

    fn is_connecting(&self) -> bool {
        match &*self.state() {
            State::Connecting => true,
            // Its keeper is about to notice.
            State::Up(sender, _) => sender.is_closed(),
            State::Down => false,
        }
    }
}

/// One request's turn at an edge.
pub(super) struct Turn {
    edge: Arc<Edge>,
    sender: Sender,
    ear: Ear,
    clock: Clock,
}

impl Turn {
    fn take(edge: &Arc<Edge>, clock: &Clock) -> Option<Self> {
        let (sender, ear) = match &*edge.state() {
            State::Up(sender, ear) if !sender.is_closed() => (sender.clone(), ear.clone()),
            _ => return None,
        };
        edge.outstanding.fetch_add(1, Ordering::Relaxed);
        Some(Self { edge: Arc::clone(edge), sender, ear, clock: clock.clone() })
    }

    /// Which edge it is.
    pub(super) fn address(&self) -> SocketAddr {
        self.edge.address
    }

    /// The version that is spoken with it.
    pub(super) fn version(&self) -> u32 {
        self.edge.hello.lock().expect("no holder of the lock can panic").version.min(wire::VERSION)
    }

    /// Sends the request, and returns the whole answer, which has at most this many bytes.
    pub(super) async fn send(
        &mut self,
        request: Outgoing,
        answer_bytes_max: usize,
    ) -> Result<(StatusCode, Bytes), SendError> {
        let asked = Instant::now();
        let answer = self.sender.send_request(request).await?;
        hear_time(&self.clock, &answer, asked);
        let status = answer.status();
        let body = Limited::new(answer.into_body(), answer_bytes_max).collect().await;
        Ok((status, body.map_err(SendError::Body)?.to_bytes()))
    }

    /// The edge has not done what any edge should: others are asked first for a moment.
    pub(super) fn was_useless(&self) {
        *self.edge.useless.lock().expect("no holder of the lock can panic") = Some(Instant::now());
    }

    /// Whether nothing at all has come from the edge for so long that a ping would have been answered.
    pub(super) fn is_silent(&self) -> bool {
        self.ear.silence() > 4 * PING_EVERY
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.edge.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes over the time that an answer gives.
fn hear_time<T>(clock: &Clock, answer: &hyper::Response<T>, asked: Instant) {
    if let Some(now_ms) = wire::now_ms(answer.headers()) {
        clock.heard(now_ms, asked);
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
    edges: Arc<ArcSwapOption<Vec<Arc<Edge>>>>,
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
        edges.store(Some(Arc::new(kept.values().map(|(edge, _)| Arc::clone(edge)).collect())));
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
            Ok((sender, connection, ear, hello)) => {
                info!(home.edge = %edge.address, "home edge connected");
                down = false;
                pauses = self::pauses();
                let why = tokio::select! {
                    ended = connection => ended.err().map_or_else(|| "closed".to_owned(), |error| chain(&error)),
                    () = ear.silent_for(SILENCE_MAX) => "silent".to_owned(),
                    never = listen(&edge, &road, (sender, ear.clone()), hello, &changed) => match never {},
                };
                become_state(State::Connecting);
                info!(home.edge = %edge.address, why, "connection to the home edge has ended");
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

/// Follows what an edge says of itself, as long as its connection lives.
async fn listen(
    edge: &Edge,
    road: &Road,
    (sender, ear): (Sender, Ear),
    mut hello: Hello,
    changed: &watch::Sender<()>,
) -> Infallible {
    let mut before = None;
    loop {
        if before.as_ref() != Some(&hello) {
            if before.is_some() || !hello.ready {
                info!(home.edge = %edge.address, ready = hello.ready, writes = hello.writes, reasons = ?hello.reasons, "home edge says");
            }
            *edge.state() = if hello.ready { State::Up(sender.clone(), ear.clone()) } else { State::Down };
            *edge.hello.lock().expect("no holder of the lock can panic") = hello.clone();
            changed.send_replace(());
            before = Some(hello.clone());
        }
        let again = if hello.ready && hello.writes { HELLO_EVERY } else { HELLO_SOON };
        tokio::time::sleep(again).await;
        // Whether it is still there is found out by its connection.
        let said = tokio::time::timeout(CONNECT_DEADLINE, greet(&mut sender.clone(), road)).await;
        if let Ok(Ok(said)) = said {
            hello = said;
        }
    }
}

async fn greet(sender: &mut Sender, road: &Road) -> io::Result<Hello> {
    let asked = Instant::now();
    let answer = sender.send_request((road.greeting)()).await.map_err(io::Error::other)?;
    hear_time(&road.clock, &answer, asked);
    let status = answer.status();
    let body = Limited::new(answer.into_body(), HELLO_BYTES_MAX).collect().await.map_err(io::Error::other)?;
    match status {
        StatusCode::OK => serde_json::from_slice(&body.to_bytes()).map_err(io::Error::other),
        // One of the version before has no such path, and serves as soon as it answers.
        StatusCode::NOT_FOUND => Ok(Hello::of_version_0()),
        // It has let us in, and cannot say more now.
        _ => Ok(Hello::default()),
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
type Connection = http2::Connection<TokioIo<TlsStream<Heard<TcpStream>>>, Full<Bytes>, TokioExecutor>;

async fn connect(address: SocketAddr, road: &Road) -> io::Result<(Sender, Connection, Ear, Hello)> {
    let stream = TcpStream::connect(address).await?;
    // A request must not wait for more to send.
    stream.set_nodelay(true)?;
    let ear = Ear::new();
    let stream = Heard::new(stream, ear.clone());
    let stream = TlsConnector::from(road.tls.client()).connect(road.name.clone(), stream).await?;
    let (mut sender, mut connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_DEADLINE)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let hello = tokio::select! {
        hello = greet(&mut sender, road) => hello?,
        ended = &mut connection => {
            return Err(ended.err().map_or_else(|| io::ErrorKind::ConnectionReset.into(), io::Error::other));
        }
    };
    debug!(home.edge = %address, hello = ?hello, "home edge greeted");
    Ok((sender, connection, ear, hello))
}
