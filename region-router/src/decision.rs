//! The one decision: in which order the regions are tried for a caller, and why.
//!
//! | the caller | region tried first | reason |
//! |---|---|---|
//! | names a region | that one | `explicit` |
//! | is in a country of ours | that country's | `address` |
//! | is anywhere else | home | `default` |
//!
//! The others follow by distance from the first one, all of them for the reason `failover`. Regions that
//! are not up come after all that are, in the same order: a region believed down is still a better
//! attempt than none, and after a start nothing is known of any.

#[cfg(test)]
mod tests;

use std::fmt;

use crate::health::Health;
use crate::proximity::{self, Country};
use crate::topology::{RegionId, Topology};

/// What is known of a caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientHint<'a> {
    /// The region the caller names, as written.
    pub region: Option<&'a str>,
    /// The country of the caller's address.
    pub country: Option<Country>,
}

/// Why a region is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The caller named it.
    Explicit,
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
    let (preferred, reason) = preference(topology, hint)?;
    let mut candidates: Vec<Candidate> = proximity::nearest_to(topology, preferred)
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

/// The region this caller would get if all were up.
fn preference(topology: &Topology, hint: &ClientHint<'_>) -> Result<(RegionId, Reason), RegionUnknown> {
    if let Some(named) = hint.region {
        let region = named.parse().ok().and_then(|id| topology.region(id));
        return match region {
            Some(region) => Ok((region.id, Reason::Explicit)),
            None => Err(RegionUnknown { named: named.to_owned() }),
        };
    }
    match hint.country.and_then(|country| topology.region_of(country)) {
        Some(region) => Ok((region.id, Reason::Address)),
        None => Ok((topology.home().id, Reason::Default)),
    }
}
