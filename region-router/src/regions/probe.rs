//! Asks every region, again and again, whether it is ready.

use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Regions;
use crate::discovery::{Discovery, Dns};
use crate::health::Probe;
use crate::topology::RegionId;

/// Between the starts of two probes of a region. With three failures to go down, a region that refuses is
/// out within 0.7 s; one that is silent, where each probe takes [`PROBE_DEADLINE`], within 1.8 s.
pub(crate) const PROBE_PERIOD: Duration = Duration::from_millis(200);

/// For one probe, connection included: ten times the longest round trip between regions.
const PROBE_DEADLINE: Duration = Duration::from_millis(500);

/// The period varies by up to a tenth either way, so that many routers do not probe in step.
const PROBE_JITTER_PARTS: u64 = 10;

/// The answer says ready by its status, and in its body whether it can write.
const PROBE_BODY_BYTES_MAX: usize = 16 * 1024;

pub(crate) type ProbeClient = Client<HttpConnector, Empty<Bytes>>;

/// Asks `GET /readyz` of every region's internal listeners, until the set is dropped.
pub fn probe(regions: &Arc<Regions>, dns: &Dns) -> JoinSet<()> {
    probe_where(regions, dns, |_| true)
}

/// Like [`probe`], where a region is ready only if it also serves, as whoever sends requests there sees it.
pub(crate) fn probe_where(
    regions: &Arc<Regions>,
    dns: &Dns,
    serves: impl Fn(RegionId) -> bool + Clone + Send + 'static,
) -> JoinSet<()> {
    let client = probe_client(PROBE_DEADLINE);
    let mut probes = JoinSet::new();
    for region in regions.topology().regions() {
        let (id, edges) = (region.id, Discovery::start(&region.internal, dns));
        let (regions, client, serves) = (regions.clone(), client.clone(), serves.clone());
        probes.spawn(async move {
            loop {
                let next = Instant::now() + jittered(PROBE_PERIOD);
                let edges = edges.addresses();
                let asked = tokio::time::timeout(PROBE_DEADLINE, best_of(&client, &edges));
                let said = asked.await.unwrap_or(Said::NotReady);
                let ready = said > Said::NotReady;
                regions.record(id, if ready && serves(id) { Probe::Ready } else { Probe::Failed });
                if ready {
                    regions.record_writes(id, said == Said::Ready);
                }
                tokio::time::sleep_until(next).await;
            }
        });
    }
    probes
}

/// Connections of their own, so that a probe never waits behind a caller's request.
pub(crate) fn probe_client(connect_deadline: Duration) -> ProbeClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(connect_deadline));
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(1)
        .build(connector)
}

/// What an edge says of itself, from the worst to the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    NotReady,
    /// It reads, and cannot write now.
    OnlyReads,
    Ready,
}

/// A region can do what one of its edges can. They are asked at the same time.
async fn best_of(client: &ProbeClient, edges: &[SocketAddr]) -> Said {
    let mut answers = JoinSet::new();
    for edge in edges {
        let (client, edge) = (client.clone(), ready_uri(*edge));
        answers.spawn(async move { ask(&client, edge).await });
    }
    let mut best = Said::NotReady;
    while let Some(answer) = answers.join_next().await {
        best = best.max(answer.unwrap_or(Said::NotReady));
        if best == Said::Ready {
            break;
        }
    }
    best
}

async fn ask(client: &ProbeClient, edge: Uri) -> Said {
    let Ok(answer) = client.get(edge).await else {
        return Said::NotReady;
    };
    let ready = answer.status().is_success();
    match Limited::new(answer.into_body(), PROBE_BODY_BYTES_MAX).collect().await {
        Ok(body) if ready => said(&body.to_bytes()),
        _ => Said::NotReady,
    }
}

/// An edge that says nothing of writes can do them, as those before this one did.
fn said(body: &[u8]) -> Said {
    let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    if document["writes"] == false { Said::OnlyReads } else { Said::Ready }
}

fn ready_uri(edge: SocketAddr) -> Uri {
    format!("http://{edge}/readyz").parse().expect("an address is the authority of a URI")
}

/// Scatter needs no quality: the standard library's hasher keys are random enough.
pub(crate) fn jittered(period: Duration) -> Duration {
    let nanos = u64::try_from(period.as_nanos()).expect("a period is shorter than 500 years");
    let spread = nanos / PROBE_JITTER_PARTS;
    Duration::from_nanos(nanos - spread + RandomState::new().hash_one(()) % (2 * spread))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_says_what_it_cannot_do() {
        assert_eq!(said(br#"{"ready":true,"writes":false,"reasons":[]}"#), Said::OnlyReads);
        for all in [br#"{"ready":true,"writes":true}"#.as_slice(), br#"{"ready":true}"#, b"ready"] {
            assert_eq!(said(all), Said::Ready);
        }
    }

    #[test]
    fn periods_scatter_around_their_length() {
        for _ in 0..1000 {
            let period = jittered(PROBE_PERIOD);
            assert!(period >= PROBE_PERIOD * 9 / 10 && period < PROBE_PERIOD * 11 / 10, "{period:?}");
        }
    }
}
