//! The HTTP front door: a streaming reverse proxy that sends a caller to the nearest healthy region.
//!
//! The way of a request: accept, request id, who is calling, [`crate::decision`], the share of its address, the
//! body into memory (it is small, and a request that can be sent again is one that survives its region), then the edge of
//! the region with the least to do. When that does not answer, another edge does, or the next region: see
//! `delivery` for what is sent a second time. With [`Config::redirect`], callers are told where to go (307).
//!
//! Its own answers are `application/problem+json` (RFC 9457). Its own page is
//! `GET /.well-known/troli/front-door`: the regions, their health, and the order for this caller.

mod answer;
mod body;
mod budget;
mod caller;
mod delivery;
mod edges;
mod headers;
mod host;
mod internal;
mod limits;
mod observed;
mod proxy;
mod query;
#[cfg(test)]
mod tests;
mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

pub use caller::{came_by_https, client_address};
pub use headers::{NOT_SERVING, STARTING, STOPPING};
pub use host::host_is_valid;
pub use limits::Limits;

use crate::admission::{Paced, Shares, end_when_unread};
use crate::cors::Origin;
use crate::discovery::Dns;
use crate::proximity::Countries;
use crate::refusal::Explained;
use crate::regions::{Regions, probe_where};

/// The path of the front door's own page. Under `.well-known` (RFC 8615), so that it hides no path of the API.
pub const STATUS_PATH: &str = "/.well-known/troli/front-door";

/// After accepting failed, most likely for want of file descriptors: long enough to free some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a front door needs to know.
#[derive(Debug)]
pub struct Config {
    /// The regions it sends callers to; it keeps their health up to date.
    pub regions: Arc<Regions>,
    /// Where the country of an address is looked up.
    pub countries: Arc<Countries>,
    /// Peers whose `X-Forwarded-For`, `X-Forwarded-Proto` and `Forwarded` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins whose pages may read the front door's own answers; the regions decide about theirs.
    pub cors_origins: Vec<Origin>,
    /// Who is asked where names of the topology are.
    pub dns: Dns,
    /// Whether callers are told the URL of their region (307), in place of being connected to it.
    pub redirect: bool,
    /// How much and how long.
    pub limits: Limits,
}

/// Serves until `shutdown` completes. Then it says that it is not ready, and serves on for [`Limits::drain_lead`], so
/// that load balancers and probes see it; then it finishes the requests it has, for at most
/// [`Limits::drain_deadline`].
pub async fn run(listener: TcpListener, config: Config, shutdown: impl Future<Output = ()>) {
    run_with(listener, None, config, shutdown).await;
}

/// The same, with an internal listener that answers `/livez`, `/readyz` and `/metrics` until the end.
pub async fn run_with(
    listener: TcpListener,
    internal: Option<TcpListener>,
    config: Config,
    shutdown: impl Future<Output = ()>,
) {
    let (limits, dns, regions) = (config.limits, config.dns.clone(), config.regions.clone());
    let door = Arc::new(proxy::FrontDoor::new(config));
    let edges = door.edges().clone();
    let _edge_probes = edges.probe();
    let _region_probes = probe_where(&regions, &dns, move |region| edges.serves(region));
    let mut beside = JoinSet::new();
    if let Some(internal) = internal {
        beside.spawn(internal::serve(internal, door.clone()));
    }
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let shares = Shares::new(limits.connections_per_address_max);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();

    let end = async {
        shutdown.await;
        door.begin_to_drain();
        tracing::info!("stopping: not ready from now on");
        tokio::time::sleep(limits.drain_lead).await;
    };
    let mut end = std::pin::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            (stream, peer, slot) = accept(&listener, &slots) => {
                let Ok(share) = shares.take_unless_trusted(peer.ip(), door.trusted_proxies()) else {
                    tracing::debug!(client.address = %peer, "closed: too many connections of one address");
                    continue;
                };
                let connection = graceful.watch(serve(stream, peer, door.clone(), &limits));
                connections.spawn(async move {
                    if let Err(error) = connection.await {
                        tracing::debug!(client.address = %peer, error = %error, "connection ended early");
                    }
                    drop((slot, share));
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }

    drop(listener);
    tracing::info!(connections = graceful.count(), "draining");
    if tokio::time::timeout(limits.drain_deadline, graceful.shutdown()).await.is_err() {
        tracing::warn!("drain deadline passed, dropping the connections that are left");
    }
    // Its address is free when this returns.
    beside.shutdown().await;
}

/// The next connection, once there is a slot for it. Callers beyond that wait in the kernel's queue.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, slot),
            Err(error) => {
                tracing::warn!(error = %error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    door: Arc<proxy::FrontDoor>,
    limits: &Limits,
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> + use<> {
    // A socket that refuses the option works all the same, only slower.
    let _ = stream.set_nodelay(true);
    end_when_unread(&stream);
    let service = service_fn(move |request| {
        let door = door.clone();
        async move { Ok::<_, std::convert::Infallible>(door.handle(peer, request).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request_head_deadline)
        .max_buf_size(limits.request_head_bytes_max)
        .serve_connection(
            Explained::new(
                TokioIo::new(Paced::new(stream, limits.answer_pace)),
                limits.request_head_bytes_max,
            ),
            service,
        )
}
