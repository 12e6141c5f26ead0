use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::proto::rr::rdata::SRV;

use super::Dns;
use crate::topology::{Endpoint, Target};

/// Addresses, never none, and for how long they are good.
pub(super) struct Answer {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) ttl: Duration,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotFound {
    #[error("the system's resolver cannot be used: {0}")]
    ResolverUnusable(String),
    #[error(transparent)]
    Unanswered(#[from] NetError),
    #[error("the answer has no address")]
    Empty,
}

pub(super) async fn look_up(dns: &Dns, target: &Target) -> Result<Answer, NotFound> {
    let resolver = dns.resolver().map_err(NotFound::ResolverUnusable)?;
    let answer = match target {
        Target::Endpoint(endpoint) => {
            let (host, port) = host_and_port(endpoint);
            host_addresses(resolver, host, port).await?
        }
        // Absolute, so that no search list is tried with it.
        Target::Service(name) => service_addresses(resolver, &format!("{name}.")).await?,
    };
    if answer.addresses.is_empty() { Err(NotFound::Empty) } else { Ok(answer) }
}

/// Of the services that come first by priority, all; a router balances over them by itself, so weights do not
/// matter here (RFC 2782).
async fn service_addresses(resolver: &TokioResolver, name: &str) -> Result<Answer, NotFound> {
    let services = resolver.srv_lookup(name).await?;
    let mut ttl = left(services.valid_until());
    let records = services.answers().iter().filter_map(|record| match &record.data {
        RData::SRV(service) => Some(service),
        _ => None,
    });
    let mut first: Vec<&SRV> = records.collect();
    let priority = first.iter().map(|service| service.priority).min();
    first.retain(|service| Some(service.priority) == priority);
    // Answers come in any order; this one is the same every time.
    first.sort_by(|a, b| (&a.target, a.port).cmp(&(&b.target, b.port)));

    let mut addresses = Vec::new();
    let mut failed = None;
    for service in first {
        match host_addresses(resolver, &service.target.to_ascii(), service.port).await {
            Ok(answer) => {
                ttl = ttl.min(answer.ttl);
                addresses.extend(answer.addresses);
            }
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) if addresses.is_empty() => Err(error),
        _ => Ok(Answer { addresses, ttl }),
    }
}

async fn host_addresses(resolver: &TokioResolver, host: &str, port: u16) -> Result<Answer, NotFound> {
    let found = resolver.lookup_ip(host).await?;
    let ttl = left(found.valid_until());
    let mut addresses: Vec<SocketAddr> = found.iter().map(|ip| SocketAddr::new(ip, port)).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(Answer { addresses, ttl })
}

fn left(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

fn host_and_port(endpoint: &Endpoint) -> (&str, u16) {
    let (host, port) = endpoint.as_str().rsplit_once(':').expect("an endpoint has a port");
    (host, port.parse().expect("the port of an endpoint is a number"))
}
