//! The edges of every region: which of them serve, and which has the least to do.
//!
//! An edge is taken out at once when it does not take a connection, and after some failed probes when it is
//! silent; it comes back after some good ones. The probes ask the listener that callers are sent to.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use http::uri::Authority;
use http::{Method, Request};
use http_body_util::Empty;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::headers::NOT_SERVING;
use crate::discovery::{Discovery, Dns};
use crate::health::{Probe, Standing};
use crate::regions::{PROBE_PERIOD, ProbeClient, jittered, probe_client};
use crate::topology::{RegionId, Topology};

/// For one probe of an edge, connection included: eight times the longest round trip between regions. With
/// three failures to be taken out, whoever waits for a silent edge waits for about 1.2 s.
const PROBE_DEADLINE: Duration = Duration::from_millis(350);

/// What probes ask for: every edge has it, needs nothing to answer it, and limits nobody's rate there.
const PROBE_PATH: &str = "/openapi.json";

/// Where requests can be sent.
pub(super) struct Edges {
    regions: HashMap<RegionId, RegionEdges>,
}

struct RegionEdges {
    discovery: Arc<Discovery>,
    edges: RwLock<Vec<Arc<Edge>>>,
}

/// One edge, as this front door knows it.
struct Edge {
    address: SocketAddr,
    in_flight: AtomicUsize,
    standing: Mutex<Standing>,
    /// Follows the standing, for those who wait for an answer.
    serving: watch::Sender<bool>,
    /// It says that requests should be sent elsewhere. Those that it has are answered, and not asked again.
    stands_back: AtomicBool,
}

/// A request's place at an edge, until its answer has been passed on.
pub(super) struct Place {
    edge: Arc<Edge>,
}

impl Edges {
    pub(super) fn new(topology: &Topology, dns: &Dns) -> Self {
        let regions = topology.regions().iter().map(|region| {
            let discovery = Discovery::start(&region.public, dns);
            let edges = RegionEdges { discovery, edges: RwLock::default() };
            edges.follow_discovery();
            (region.id, edges)
        });
        Self { regions: regions.collect() }
    }

    /// A place at the edge of a region that has the least to do; of equals, any. Not at one that was `tried`,
    /// and only `as_a_last_resort` at one that does not serve.
    pub(super) fn place(
        &self,
        region: RegionId,
        tried: &[SocketAddr],
        as_a_last_resort: bool,
    ) -> Option<Place> {
        let edges = self.regions.get(&region)?.edges.read().unwrap_or_else(PoisonError::into_inner);
        let fit =
            |edge: &&Arc<Edge>| !tried.contains(&edge.address) && (as_a_last_resort || edge.takes_requests());
        let scatter = RandomState::new();
        let rank =
            |edge: &&Arc<Edge>| (edge.in_flight.load(Ordering::Relaxed), scatter.hash_one(edge.address));
        let edge = edges.iter().filter(fit).min_by_key(rank)?.clone();
        edge.in_flight.fetch_add(1, Ordering::Relaxed);
        Some(Place { edge })
    }

    /// Whether any edge of the region serves.
    pub(super) fn serves(&self, region: RegionId) -> bool {
        self.serving(region) > 0
    }

    /// How many edges of the region serve.
    pub(super) fn serving(&self, region: RegionId) -> usize {
        self.regions.get(&region).map_or(0, |region| {
            let edges = region.edges.read().unwrap_or_else(PoisonError::into_inner);
            edges.iter().filter(|edge| edge.takes_requests()).count()
        })
    }

    /// Asks every edge whether it serves, again and again, until the set is dropped.
    pub(super) fn probe(self: &Arc<Self>) -> JoinSet<()> {
        let client = probe_client(PROBE_DEADLINE);
        let mut probes = JoinSet::new();
        let ids: Vec<RegionId> = self.regions.keys().copied().collect();
        for id in ids {
            let (edges, client) = (self.clone(), client.clone());
            probes.spawn(async move {
                loop {
                    let next = Instant::now() + jittered(PROBE_PERIOD);
                    edges.regions[&id].probe_once(&client).await;
                    tokio::time::sleep_until(next).await;
                }
            });
        }
        probes
    }
}

impl RegionEdges {
    /// Edges that are no longer found are forgotten; new ones serve until they show otherwise.
    fn follow_discovery(&self) {
        let found = self.discovery.addresses();
        let mut edges = self.edges.write().unwrap_or_else(PoisonError::into_inner);
        if edges.iter().map(|edge| &edge.address).eq(found.iter()) {
            return;
        }
        let known = |address: &SocketAddr| edges.iter().find(|edge| edge.address == *address).cloned();
        *edges = found.iter().map(|address| known(address).unwrap_or_else(|| Edge::new(*address))).collect();
    }

    async fn probe_once(&self, client: &ProbeClient) {
        self.follow_discovery();
        let edges = self.edges.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut probes = JoinSet::new();
        for edge in edges {
            let client = client.clone();
            probes.spawn(async move {
                let asked = tokio::time::timeout(PROBE_DEADLINE, ask(&client, edge.address));
                match asked.await.unwrap_or(Said::Nothing) {
                    Said::Serves => {
                        edge.stands_back.store(false, Ordering::Relaxed);
                        edge.update(|standing| standing.record(Probe::Ready));
                    }
                    Said::Nothing => edge.update(|standing| standing.record(Probe::Failed)),
                    // Its own word needs no second one.
                    Said::SendElsewhere => edge.stands_back.store(true, Ordering::Relaxed),
                }
            });
        }
        probes.join_all().await;
    }
}

impl Edge {
    fn new(address: SocketAddr) -> Arc<Self> {
        let standing = Mutex::new(Standing::default());
        Arc::new(Self {
            address,
            in_flight: AtomicUsize::new(0),
            standing,
            serving: watch::Sender::new(true),
            stands_back: AtomicBool::new(false),
        })
    }

    fn takes_requests(&self) -> bool {
        *self.serving.borrow() && !self.stands_back.load(Ordering::Relaxed)
    }

    fn update(&self, how: impl FnOnce(&mut Standing)) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        how(&mut standing);
        let serving = standing.serving();
        let changed = self.serving.send_if_modified(|before| std::mem::replace(before, serving) != serving);
        if changed {
            tracing::info!(edge.address = %self.address, edge.serving = serving, "edge changed");
        }
    }
}

impl Place {
    pub(super) fn address(&self) -> SocketAddr {
        self.edge.address
    }

    pub(super) fn authority(&self) -> Authority {
        self.edge.address.to_string().parse().expect("an address is the authority of a URI")
    }

    /// The edge has said that requests should be sent elsewhere.
    pub(super) fn sent_elsewhere(&self) {
        self.edge.stands_back.store(true, Ordering::Relaxed);
    }

    /// The edge did not take a connection.
    pub(super) fn refused(&self) {
        self.edge.update(Standing::refuse);
    }

    /// The edge took a request, and the connection ended before the answer. That may be the request's fault, so it is
    /// worth no more than a failed probe.
    pub(super) fn failed(&self) {
        self.edge.update(|standing| standing.record(Probe::Failed));
    }

    /// Whether the edge has not been taken out.
    pub(super) fn serves(&self) -> bool {
        *self.edge.serving.borrow()
    }

    /// Waits until the edge is taken out.
    pub(super) async fn taken_out(&self) {
        let mut serving = self.edge.serving.subscribe();
        // The sender is here, in the edge, so this ends with a value only.
        let _ = serving.wait_for(|serving| !serving).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.edge.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a probe has heard.
enum Said {
    Serves,
    /// It is about to stop, or has not begun.
    SendElsewhere,
    Nothing,
}

/// Whatever an edge answers, short of an error of its own, shows that it is there.
async fn ask(client: &ProbeClient, edge: SocketAddr) -> Said {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::HEAD;
    *request.uri_mut() =
        format!("http://{edge}{PROBE_PATH}").parse().expect("an address and a path are a URI");
    match client.request(request).await {
        Ok(answer) if answer.headers().contains_key(NOT_SERVING) => Said::SendElsewhere,
        Ok(answer) if !answer.status().is_server_error() => Said::Serves,
        _ => Said::Nothing,
    }
}
