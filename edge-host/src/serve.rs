//! The listeners: HTTP/1.1 for callers and operators, and HTTP/2 over mutual TLS for other regions.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use futures_util::TryFutureExt;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use ipnet::IpNet;
use region_router::admission::{CONNECTIONS_PER_ADDRESS_MAX, Pace, Paced, Shares, end_when_unread};
use region_router::refusal::Explained;
use region_router::topology::{RegionId, Topology};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, info, warn};

use crate::home::remote::FORWARDS_IN_FLIGHT_MAX;
use crate::http::without_length_of_nothing;
use crate::peers::{AskedBy, PeerTls, region_of};

/// Connections at one listener; more wait in the kernel's queue. Needs about as many file descriptors.
const CONNECTIONS_MAX: usize = 8192;
/// From the first byte of a request to the last of its headers, and between two requests of one connection.
/// Longer than the front door keeps an idle connection, so that it is never the edge that hangs up first.
const HEADER_DEADLINE: Duration = Duration::from_secs(60);
/// Bytes of a request line with its headers: as many as the front door takes, and more than any browser sends.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// After accepting failed, most likely for want of file descriptors: long enough to free some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections of other regions: each edge of each has one, and a few more while they are made anew.
const PEER_CONNECTIONS_MAX: usize = 512;
/// To prove who one is takes two round trips. Strangers are not waited for.
const TLS_DEADLINE: Duration = Duration::from_secs(2);
/// Requests at once on one connection: all that an edge may have under way, and as many of its own as it has tasks
/// that follow something (the feed twice, the rules).
const STREAMS_MAX: usize = FORWARDS_IN_FLIGHT_MAX + 16;
/// A connection that says nothing is asked whether its region is still there, and closed when no answer comes. The
/// region that asks looks much oftener; this only tidies up.
const PEER_KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The longest round trip, many times over.
const PEER_KEEP_ALIVE_DEADLINE: Duration = Duration::from_secs(5);
/// Header bytes of one request: ours have a few hundred.
const PEER_HEADER_BYTES_MAX: u32 = 16 * 1024;

/// Serves every caller until the edge stops, then lets the requests in progress end. An address that is not `trusted` to
/// speak for others has only a share of the connections.
pub(crate) async fn anybody(
    listener: TcpListener,
    router: Router,
    trusted: Vec<IpNet>,
    stopping: CancellationToken,
) -> io::Result<()> {
    let door = Door::new(listener, CONNECTIONS_MAX, stopping);
    let shares = Shares::new(CONNECTIONS_PER_ADDRESS_MAX);
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_DEADLINE).max_buf_size(HEAD_BYTES_MAX);
    while let Some((stream, peer, slot)) = door.next().await {
        let Ok(share) = shares.take_unless_trusted(peer.ip(), &trusted) else {
            debug!(client.address = %peer, "closed: too many connections of one address");
            continue;
        };
        end_when_unread(&stream);
        let stream = Paced::new(stream, Pace::default());
        let router = router.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            router.clone().oneshot(request).map_ok(without_length_of_nothing)
        });
        let connection = graceful
            .watch(http.serve_connection(Explained::new(TokioIo::new(stream), HEAD_BYTES_MAX), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(client.address = %peer, error = %error, "connection ended early");
            }
            drop((slot, share));
        });
    }
    graceful.shutdown().await;
    Ok(())
}

/// Serves the other regions, and nobody else.
pub(crate) async fn regions(
    listener: TcpListener,
    router: Router,
    tls: Arc<PeerTls>,
    topology: Arc<Topology>,
    stopping: CancellationToken,
) -> io::Result<()> {
    let door = Door::new(listener, PEER_CONNECTIONS_MAX, stopping.clone());
    let graceful = GracefulShutdown::new();
    while let Some((stream, peer, slot)) = door.next().await {
        let acceptor = TlsAcceptor::from(tls.server());
        let (router, topology, watcher) = (router.clone(), Arc::clone(&topology), graceful.watcher());
        let stopping = stopping.clone();
        tokio::spawn(async move {
            let admitted = tokio::select! {
                admitted = tokio::time::timeout(TLS_DEADLINE, admit(&acceptor, stream, &topology)) => admitted,
                () = stopping.cancelled() => return,
            };
            match admitted {
                Ok(Ok((stream, region))) => serve_region(stream, region, router, watcher).await,
                Ok(Err(error)) => info!(client.address = %peer, error = %error, "peer refused"),
                Err(_) => info!(client.address = %peer, "peer refused: the TLS handshake took too long"),
            }
            drop(slot);
        });
    }
    graceful.shutdown().await;
    Ok(())
}

/// Finds out which region has connected.
async fn admit(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    topology: &Topology,
) -> io::Result<(TlsStream<TcpStream>, RegionId)> {
    let stream = acceptor.accept(stream).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let region = shown.and_then(|certificate| region_of(certificate, topology));
    let region = region.ok_or_else(|| io::Error::other("its certificate is of no region of the topology"))?;
    Ok((stream, region))
}

async fn serve_region(stream: TlsStream<TcpStream>, region: RegionId, router: Router, watcher: Watcher) {
    let mut http = http2::Builder::new(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .max_concurrent_streams(u32::try_from(STREAMS_MAX).unwrap_or(u32::MAX))
        .max_header_list_size(PEER_HEADER_BYTES_MAX)
        .keep_alive_interval(PEER_KEEP_ALIVE)
        .keep_alive_timeout(PEER_KEEP_ALIVE_DEADLINE);
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(AskedBy(region));
        router.clone().oneshot(request)
    });
    debug!(asked_by = %region, "region connected");
    if let Err(error) = watcher.watch(http.serve_connection(TokioIo::new(stream), service)).await {
        debug!(asked_by = %region, error = %error, "region's connection ended early");
    }
}

/// Lets connections in, a limited number at a time.
struct Door {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    stopping: CancellationToken,
}

impl Door {
    fn new(listener: TcpListener, connections_max: usize, stopping: CancellationToken) -> Self {
        Self { listener, slots: Arc::new(Semaphore::new(connections_max)), stopping }
    }

    /// The next connection; `None` when the edge stops.
    async fn next(&self) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.expect("the semaphore is never closed");
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = self.stopping.cancelled() => return None,
            };
            match accepted {
                Ok((stream, peer)) => {
                    // Small answers must not wait for more to send.
                    if let Err(error) = stream.set_nodelay(true) {
                        debug!(error = %error, "TCP_NODELAY not set");
                    }
                    return Some((stream, peer, slot));
                }
                Err(error) => {
                    warn!(error = %error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}
