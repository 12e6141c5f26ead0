//! The regions there are, where their edges listen, and how far they are from each other.
//!
//! A [`Topology`] that exists is a valid one: exactly one home region, no id twice, a round trip for every
//! pair. [`Topology::parse`] reports every mistake of a file at once.

mod endpoint;
mod error;
mod parse;
mod targets;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

pub use endpoint::{Endpoint, EndpointMalformed};
pub use error::{TopologyError, TopologyErrors};
pub use targets::{ServiceName, Target, TargetMalformed, Targets};

use crate::proximity::Country;

/// The longest region id. Ids travel in headers, metrics labels and keys; real ones have three letters.
pub const REGION_ID_BYTES_MAX: usize = 8;

/// The short code of a region: 2 to 8 lower-case ASCII letters and digits, the first a letter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionId {
    // Padded with zeros, so that the derived order is the alphabet's.
    bytes: [u8; REGION_ID_BYTES_MAX],
    len: u8,
}

impl RegionId {
    /// The code, for example `sin`.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("only ASCII is ever stored")
    }
}

impl FromStr for RegionId {
    type Err = RegionIdMalformed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let code = text.as_bytes();
        let well_formed = (2..=REGION_ID_BYTES_MAX).contains(&code.len())
            && code[0].is_ascii_lowercase()
            && code.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if !well_formed {
            return Err(RegionIdMalformed);
        }
        let mut bytes = [0; REGION_ID_BYTES_MAX];
        bytes[..code.len()].copy_from_slice(code);
        Ok(Self { bytes, len: code.len() as u8 })
    }
}

impl fmt::Display for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not a region id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a region id is 2 to 8 lower-case letters and digits, the first a letter")]
pub struct RegionIdMalformed;

/// An ISO 4217 currency code, such as `SGD`. Its form is checked, not that the currency exists.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CurrencyCode([u8; 3]);

impl CurrencyCode {
    /// The three upper-case letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only ASCII is ever stored")
    }
}

impl FromStr for CurrencyCode {
    type Err = CurrencyCodeMalformed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err(CurrencyCodeMalformed),
        }
    }
}

impl fmt::Display for CurrencyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for CurrencyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not a currency code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a currency is three upper-case letters (ISO 4217), for example SGD")]
pub struct CurrencyCodeMalformed;

/// One region: a set of edges close to one country's callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its code.
    pub id: RegionId,
    /// Its name, for people.
    pub name: String,
    /// The country whose callers it is nearest to.
    pub country: Country,
    /// The currency a new cart gets there.
    pub currency: CurrencyCode,
    /// Where its edges take callers' requests. Never empty.
    pub public: Targets,
    /// Where its edges answer about health, metrics and administration. Never empty.
    pub internal: Targets,
    /// Where its edges take the requests of other regions. Empty where the file does not say.
    pub peers: Targets,
    /// Where a client reaches it directly, without a final slash; nothing when the file names neither a URL nor
    /// a public address.
    pub url: Option<String>,
}

/// All regions, and which of them is home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    home: usize,
    currency_default: CurrencyCode,
    regions: Vec<Region>,
    /// Row-major, one row per region, in the order of `regions`.
    round_trips_ms: Vec<u32>,
}

impl Topology {
    /// Reads a topology from the text of `topology.toml`.
    ///
    /// # Errors
    /// Every mistake in the text, at once; a text which is not TOML has one.
    pub fn parse(text: &str) -> Result<Self, TopologyErrors> {
        parse::parse(text)
    }

    /// The region whose primary takes every write.
    pub fn home(&self) -> &Region {
        &self.regions[self.home]
    }

    /// The currency of a cart whose region says nothing else.
    pub fn currency_default(&self) -> CurrencyCode {
        self.currency_default
    }

    /// Every region, in the order of the file. Never empty.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The region of that id.
    pub fn region(&self, id: RegionId) -> Option<&Region> {
        self.regions.iter().find(|region| region.id == id)
    }

    /// The region of that country: the first in the file's order, where a country has several.
    pub fn region_of(&self, country: Country) -> Option<&Region> {
        self.regions.iter().find(|region| region.country == country)
    }

    /// The round trip between two regions in milliseconds, 0 from a region to itself;
    /// nothing when either is not in this topology.
    pub fn rtt_ms(&self, a: RegionId, b: RegionId) -> Option<u32> {
        let (a, b) = (self.position(a)?, self.position(b)?);
        Some(self.round_trips_ms[a * self.regions.len() + b])
    }

    /// The same topology with these regions only, as `--regions sin,jkt,bkk` asks for.
    /// They keep the order of the file.
    ///
    /// # Errors
    /// Every id that is unknown or given twice, and the home region when it is not among them.
    pub fn restricted_to(&self, ids: &[RegionId]) -> Result<Self, TopologyErrors> {
        let mut mistakes = Vec::new();
        for (n, id) in ids.iter().enumerate() {
            if self.position(*id).is_none() {
                mistakes.push(TopologyError::RegionUnknown { id: *id });
            } else if ids[..n].contains(id) {
                mistakes.push(TopologyError::RegionTwice { id: *id });
            }
        }
        let home = self.home().id;
        if !ids.contains(&home) {
            mistakes.push(TopologyError::HomeLeftOut { home });
        }
        TopologyErrors::none_in(mistakes)?;

        let kept: Vec<usize> =
            (0..self.regions.len()).filter(|&n| ids.contains(&self.regions[n].id)).collect();
        let width = self.regions.len();
        Ok(Self {
            home: kept.iter().position(|&n| n == self.home).expect("home was checked to be among them"),
            currency_default: self.currency_default,
            regions: kept.iter().map(|&n| self.regions[n].clone()).collect(),
            round_trips_ms: kept
                .iter()
                .flat_map(|&a| kept.iter().map(move |&b| self.round_trips_ms[a * width + b]))
                .collect(),
        })
    }

    fn position(&self, id: RegionId) -> Option<usize> {
        self.regions.iter().position(|region| region.id == id)
    }
}
