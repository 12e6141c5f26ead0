use std::fmt;

use super::{CurrencyCodeMalformed, RegionId, RegionIdMalformed, TargetMalformed};
use crate::proximity::CountryMalformed;

/// Every mistake found in one topology, in the order of the file. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopologyErrors {
    mistakes: Vec<TopologyError>,
}

impl TopologyErrors {
    /// The mistakes.
    pub fn mistakes(&self) -> &[TopologyError] {
        &self.mistakes
    }

    /// Of at least one mistake.
    pub(super) fn of(mistakes: Vec<TopologyError>) -> Self {
        debug_assert!(!mistakes.is_empty(), "an error without a mistake");
        Self { mistakes }
    }

    /// Succeeds when there are no mistakes.
    pub(super) fn none_in(mistakes: Vec<TopologyError>) -> Result<(), Self> {
        if mistakes.is_empty() { Ok(()) } else { Err(Self::of(mistakes)) }
    }
}

impl From<TopologyError> for TopologyErrors {
    fn from(mistake: TopologyError) -> Self {
        Self { mistakes: vec![mistake] }
    }
}

/// One mistake a line.
impl fmt::Display for TopologyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, mistake) in self.mistakes.iter().enumerate() {
            let separator = if n == 0 { "" } else { "\n" };
            write!(f, "{separator}{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for TopologyErrors {}

/// One mistake in a topology.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// The text is not TOML of the right shape.
    #[error("not a topology: {reason}")]
    Syntax {
        /// What the parser says.
        reason: String,
    },
    /// A field is not there.
    #[error("{place}: `{field}` is missing")]
    FieldMissing {
        /// Which part of the file.
        place: String,
        /// Which field of it.
        field: &'static str,
    },
    /// There are no regions.
    #[error("there is no [[region]]")]
    NoRegions,
    /// An id is malformed.
    #[error("{place}: `{text}`: {reason}")]
    RegionId {
        /// Which part of the file.
        place: String,
        /// What is there.
        text: String,
        /// What is wrong with it.
        reason: RegionIdMalformed,
    },
    /// An id is given twice.
    #[error("region {id} is given twice")]
    RegionTwice {
        /// Which.
        id: RegionId,
    },
    /// An id names no region of this topology.
    #[error("region {id} is unknown")]
    RegionUnknown {
        /// Which.
        id: RegionId,
    },
    /// The home region is not among the chosen ones.
    #[error("region {home} is home and has to be among the chosen regions")]
    HomeLeftOut {
        /// Which.
        home: RegionId,
    },
    /// A country is malformed.
    #[error("{place}: `{text}`: {reason}")]
    Country {
        /// Which part of the file.
        place: String,
        /// What is there.
        text: String,
        /// What is wrong with it.
        reason: CountryMalformed,
    },
    /// A currency is malformed.
    #[error("{place}: `{text}`: {reason}")]
    Currency {
        /// Which part of the file.
        place: String,
        /// What is there.
        text: String,
        /// What is wrong with it.
        reason: CurrencyCodeMalformed,
    },
    /// A region has no address of that kind.
    #[error("{place}: `{field}` needs at least one address")]
    NoEndpoints {
        /// Which part of the file.
        place: String,
        /// `public`, `internal` or `peers`.
        field: &'static str,
    },
    /// An address is malformed.
    #[error("{place}: {reason}")]
    Target {
        /// Which part of the file.
        place: String,
        /// What is wrong with it.
        reason: TargetMalformed,
    },
    /// A URL is malformed.
    #[error("{place}: `{text}` is not a URL without a path, for example https://sin.cart.example")]
    Url {
        /// Which part of the file.
        place: String,
        /// What is there.
        text: String,
    },
    /// An address belongs to two listeners.
    #[error("{place}: address {endpoint} is given twice")]
    EndpointTwice {
        /// Which part of the file.
        place: String,
        /// Which.
        endpoint: String,
    },
    /// The key of a round trip is not two regions of this file.
    #[error("round trip `{key}`: the key is two different regions of this file, as in sin-kul")]
    RoundTripKey {
        /// What is there.
        key: String,
    },
    /// A round trip is out of range.
    #[error("round trip `{key}`: {ms} is not from 1 to {max} milliseconds")]
    RoundTripRange {
        /// Of which pair.
        key: String,
        /// What is there.
        ms: i64,
        /// The longest there may be.
        max: u32,
    },
    /// A pair of regions has two round trips.
    #[error("the round trip between {a} and {b} is given twice")]
    RoundTripTwice {
        /// The one region.
        a: RegionId,
        /// The other.
        b: RegionId,
    },
    /// A pair of regions has no round trip.
    #[error("the round trip between {a} and {b} is missing")]
    RoundTripMissing {
        /// The one region.
        a: RegionId,
        /// The other.
        b: RegionId,
    },
}
