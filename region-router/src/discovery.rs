//! Where the parts of a region listen at this moment: addresses from a fixed list, or from DNS.
//!
//! Look-ups happen in the background, as often as the answers' time to live asks for (but see [`TTL_MIN`] and
//! [`TTL_MAX`]), so that nobody waits for DNS on the way of a request. What was found last stays good for as
//! long as DNS does not answer, or answers with nothing: an address that may be stale is worth more than none.

mod dns;
mod lookup;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

pub use dns::{Dns, DnsServersMalformed};

use crate::topology::{Target, Targets};

/// An answer is used for at least this long, so that a time to live of nothing asks nobody to death.
pub const TTL_MIN: Duration = Duration::from_secs(1);

/// An answer is used for at most this long, so that an operator who moves a service waits for half a minute.
pub const TTL_MAX: Duration = Duration::from_secs(30);

/// After a look-up that found nothing, the next one follows this soon.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The addresses behind some [`Targets`], kept up to date until this is dropped.
#[derive(Debug)]
pub struct Discovery {
    found: watch::Receiver<Arc<[SocketAddr]>>,
    /// Nothing where no target has to be looked up.
    task: Option<AbortHandle>,
}

impl Discovery {
    /// Begins to look the targets up; in a runtime. Targets that are plain addresses are there when it returns,
    /// and cost nothing later.
    pub fn start(targets: &Targets, dns: &Dns) -> Arc<Self> {
        let known: Vec<Known> = targets.iter().cloned().map(Known::new).collect();
        let (sender, found) = watch::channel(merged(&known));
        let fixed = known.iter().all(|known| known.fixed);
        let task = (!fixed).then(|| tokio::spawn(follow(known, dns.clone(), sender)).abort_handle());
        Arc::new(Self { found, task })
    }

    /// The addresses as known at this moment: in the order of the targets, each once. Empty before the first
    /// answer.
    pub fn addresses(&self) -> Arc<[SocketAddr]> {
        self.found.borrow().clone()
    }

    /// Waits until there is at least one address; at once where there is one already.
    pub async fn found(&self) -> Arc<[SocketAddr]> {
        let mut found = self.found.clone();
        match found.wait_for(|addresses| !addresses.is_empty()).await {
            Ok(addresses) => addresses.clone(),
            // The task ends with this, so it is a fixed list, and an empty one.
            Err(_) => self.addresses(),
        }
    }

    /// Tells of changes: what it shows is what [`Self::addresses`] returns.
    pub fn watch(&self) -> watch::Receiver<Arc<[SocketAddr]>> {
        self.found.clone()
    }
}

impl Drop for Discovery {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What is known of one target.
struct Known {
    target: Target,
    addresses: Vec<SocketAddr>,
    /// An address as it stands.
    fixed: bool,
    look_again_at: Instant,
    failing: bool,
}

impl Known {
    fn new(target: Target) -> Self {
        let address = match &target {
            Target::Endpoint(endpoint) => endpoint.as_str().parse().ok(),
            Target::Service(_) => None,
        };
        Self {
            target,
            fixed: address.is_some(),
            addresses: address.into_iter().collect(),
            look_again_at: Instant::now(),
            failing: false,
        }
    }

    /// Looks the target up if it is time; a failure is logged when it is the first in a row.
    async fn refresh(&mut self, dns: &Dns) {
        if self.fixed || Instant::now() < self.look_again_at {
            return;
        }
        match lookup::look_up(dns, &self.target).await {
            Ok(answer) => {
                if self.failing || self.addresses != answer.addresses {
                    tracing::info!(target = %self.target, addresses = ?answer.addresses, "found in DNS");
                }
                self.addresses = answer.addresses;
                self.look_again_at = Instant::now() + answer.ttl.clamp(TTL_MIN, TTL_MAX);
                self.failing = false;
            }
            Err(error) => {
                if !self.failing {
                    let kept = self.addresses.len();
                    tracing::warn!(target = %self.target, kept, error = %error, "not found in DNS");
                }
                self.look_again_at = Instant::now() + RETRY_PAUSE;
                self.failing = true;
            }
        }
    }
}

async fn follow(mut known: Vec<Known>, dns: Dns, found: watch::Sender<Arc<[SocketAddr]>>) {
    loop {
        for target in &mut known {
            target.refresh(&dns).await;
        }
        let addresses = merged(&known);
        found.send_if_modified(|before| {
            let changed = **before != *addresses;
            if changed {
                *before = addresses;
            }
            changed
        });
        let next = known.iter().filter(|known| !known.fixed).map(|known| known.look_again_at).min();
        tokio::time::sleep_until(next.unwrap_or_else(|| Instant::now() + TTL_MAX)).await;
    }
}

fn merged(known: &[Known]) -> Arc<[SocketAddr]> {
    let mut all: Vec<SocketAddr> = Vec::new();
    for address in known.iter().flat_map(|known| &known.addresses) {
        if !all.contains(address) {
            all.push(*address);
        }
    }
    all.into()
}
