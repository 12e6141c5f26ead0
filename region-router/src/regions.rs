//! The regions as one process knows them: the topology, and a health that probes keep up to date.
//!
//! The front door acts on it, and every edge shows it.

mod probe;

use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::decision::{self, Candidate, ClientHint, RegionUnknown};
use crate::health::{Health, Probe, State};
use crate::topology::{RegionId, Topology};

pub use probe::probe;
pub(crate) use probe::{PROBE_PERIOD, ProbeClient, jittered, probe_client, probe_where};

/// The topology, and what is known of the health of each region.
#[derive(Debug)]
pub struct Regions {
    topology: Topology,
    health: RwLock<Health>,
    /// Regions that are ready and say that they cannot write now.
    only_read: RwLock<Vec<RegionId>>,
}

impl Regions {
    /// Regions of which nothing is known yet.
    pub fn new(topology: Topology) -> Self {
        let ids = topology.regions().iter().map(|region| region.id);
        let health = RwLock::new(Health::unknown(ids, Instant::now()));
        Self { topology, health, only_read: RwLock::default() }
    }

    /// The topology.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// In which order the regions are to be tried for a caller, as things stand.
    ///
    /// # Errors
    /// When the caller names a region that there is not.
    pub fn decide(&self, hint: &ClientHint<'_>) -> Result<Vec<Candidate>, RegionUnknown> {
        let health = self.health.read().unwrap_or_else(PoisonError::into_inner);
        decision::decide(&self.topology, &health, hint)
    }

    /// The state of a region, and for how long it has had it.
    pub fn state(&self, region: RegionId) -> (State, Duration) {
        let health = self.health.read().unwrap_or_else(PoisonError::into_inner);
        let age = health.changed_at(region).map(|at| at.elapsed()).unwrap_or_default();
        (health.state(region), age)
    }

    /// Whether writes can be done in a region, as far as it says.
    pub fn takes_writes(&self, region: RegionId) -> bool {
        !self.only_read.read().unwrap_or_else(PoisonError::into_inner).contains(&region)
    }

    /// Takes note of what a region says of its writes, and logs a change.
    pub fn record_writes(&self, region: RegionId, takes_writes: bool) {
        if self.takes_writes(region) == takes_writes {
            return;
        }
        let mut only_read = self.only_read.write().unwrap_or_else(PoisonError::into_inner);
        only_read.retain(|known| *known != region);
        if takes_writes {
            tracing::info!(region.id = %region, "region takes writes again");
        } else {
            only_read.push(region);
            tracing::warn!(region.id = %region, "region takes no writes");
        }
    }

    /// Takes note of a probe, or of a request that told as much, and logs a change of state.
    pub fn record(&self, region: RegionId, probe: Probe) {
        let change = {
            let mut health = self.health.write().unwrap_or_else(PoisonError::into_inner);
            health.record(region, probe, Instant::now())
        };
        match change {
            // At the start of a fleet nothing answers yet.
            Some(change) if change.from == State::Unknown && change.to == State::Down => tracing::info!(
                region.id = %region, region.health = change.to.as_str(), "region does not answer yet"
            ),
            Some(change) if change.to == State::Down => tracing::warn!(
                region.id = %region, region.health = change.to.as_str(), region.was = change.from.as_str(),
                "region is down"
            ),
            Some(change) => tracing::info!(
                region.id = %region, region.health = change.to.as_str(), region.was = change.from.as_str(),
                "region is up"
            ),
            None => {}
        }
    }
}
