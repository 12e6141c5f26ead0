//! The one decision: in which order the regions are tried for a caller, and why.
//!
//! | the caller | region tried first | reason |
//! |---|---|---|
//! | names a region | that one | `explicit` |
//! | has measured round trips | the quickest | `round_trip` |
//! | is in a country of ours | that country's | `address` |
//! | is anywhere else | home | `default` |
//!
//! The others follow, all of them for the reason `failover`: by the round trips measured, as far as they were,
//! and by the distance from the regions whose are known. Regions that
//! are not up come after all that are, in the same order: a region believed down is still a better
//! attempt than none, and after a start nothing is known of any.

mod round_trips;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::health::Health;
use crate::proximity::{self, Country};
use crate::topology::{RegionId, Topology};

pub use round_trips::{ROUND_TRIPS_HEADER, RoundTrip, RoundTripsMalformed, parse_round_trips};

/// What is known of a caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientHint<'a> {
    /// The region the caller names, as written.
    pub region: Option<&'a str>,
    /// The round trips the caller has measured.
    pub round_trips: &'a [RoundTrip],
    /// The country of the caller's address.
    pub country: Option<Country>,
}

/// Why a region is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The caller named it.
    Explicit,
    /// It has the shortest round trip that the caller has measured.
    RoundTrip,
    /// It is the one of the country of the caller's address.
    Address,
    /// It is home, and nothing is known of the caller.
    Default,
    /// The region before it is down or did not answer.
    Failover,
}

impl Reason {
    /// Lower-case, for headers and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::RoundTrip => "round_trip",
            Self::Address => "address",
            Self::Default => "default",
            Self::Failover => "failover",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One region to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub region: RegionId,
    /// Why.
    pub reason: Reason,
    /// Whether it was up when this was decided.
    pub up: bool,
}

/// The caller named a region that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no region `{named}`")]
pub struct RegionUnknown {
    /// The name given.
    pub named: String,
}

/// Every region once, in the order in which they are to be tried.
///
/// # Errors
/// When the caller names a region that there is not.
pub fn decide(
    topology: &Topology,
    health: &Health,
    hint: &ClientHint<'_>,
) -> Result<Vec<Candidate>, RegionUnknown> {
    let Preference { origins, region: preferred, reason } = preference(topology, hint)?;
    let mut candidates: Vec<Candidate> = proximity::nearest_to(topology, &origins)
        .into_iter()
        .map(|region| Candidate {
            region,
            reason: if region == preferred { reason } else { Reason::Failover },
            up: health.up(region),
        })
        .collect();
    // Stable, so that each half keeps its order of distance.
    candidates.sort_by_key(|candidate| !candidate.up);
    Ok(candidates)
}

/// What this caller would get if all were up.
struct Preference {
    region: RegionId,
    reason: Reason,
    /// From where the others are measured.
    origins: Vec<RoundTrip>,
}

impl Preference {
    fn only(region: RegionId, reason: Reason) -> Self {
        Self { region, reason, origins: vec![RoundTrip { region, ms: 0 }] }
    }
}

fn preference(topology: &Topology, hint: &ClientHint<'_>) -> Result<Preference, RegionUnknown> {
    if let Some(named) = hint.region {
        let region = named.parse().ok().and_then(|id| topology.region(id));
        return match region {
            Some(region) => Ok(Preference::only(region.id, Reason::Explicit)),
            None => Err(RegionUnknown { named: named.to_owned() }),
        };
    }
    let here = |measured: &&RoundTrip| topology.region(measured.region).is_some();
    let origins: Vec<RoundTrip> = hint.round_trips.iter().filter(here).copied().collect();
    // Of equally quick ones the one that is first in the topology, like everywhere.
    if let Some(region) = proximity::nearest_to(topology, &origins).first() {
        return Ok(Preference { region: *region, reason: Reason::RoundTrip, origins });
    }
    Ok(match hint.country.and_then(|country| topology.region_of(country)) {
        Some(region) => Preference::only(region.id, Reason::Address),
        None => Preference::only(topology.home().id, Reason::Default),
    })
}
