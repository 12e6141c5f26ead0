//! How near the regions are to a caller: from an address to a country, from a country to an order.

mod builtin;
mod file;
mod mmdb;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

pub use file::{DatabaseFile, DatabaseUnusable};
pub use mmdb::MmdbMalformed;

use crate::decision::RoundTrip;
use crate::topology::{RegionId, Topology};

/// A country by its ISO 3166-1 alpha-2 code, such as `SG`. Its form is checked, not that it exists.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Country([u8; 2]);

impl Country {
    /// The two upper-case letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("only ASCII is ever stored")
    }
}

impl FromStr for Country {
    type Err = CountryMalformed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.as_bytes() {
            &[a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok(Self([a, b])),
            _ => Err(CountryMalformed),
        }
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not a country code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a country is two upper-case letters (ISO 3166-1), for example SG")]
pub struct CountryMalformed;

/// Where the country of an address is looked up.
#[derive(Debug, Default)]
pub enum Countries {
    /// The table that is compiled in: the six countries of Troli, and no other.
    #[default]
    BuiltIn,
    /// A country or city database in MaxMind's format.
    Mmdb(mmdb::Database),
    /// One in a file, which is read again when it changes.
    File(Arc<DatabaseFile>),
}

/// Where an address is, and how much of it had to be known to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The country; nothing for an address that is not on the public Internet (loopback, private, link-local
    /// and the like), or that the source does not know.
    pub country: Option<Country>,
    /// All addresses that share this many leading bits are in the same place, as far as the source knows.
    pub prefix_len: u8,
}

impl Countries {
    /// A country or city database from the bytes of an `.mmdb` file.
    ///
    /// # Errors
    /// When they are not such a database.
    pub fn from_mmdb(bytes: Vec<u8>) -> Result<Self, MmdbMalformed> {
        mmdb::Database::new(bytes).map(Self::Mmdb)
    }

    /// A country or city database in a file, followed as it changes. One that can no longer be used leaves the
    /// last good one in place.
    ///
    /// # Errors
    /// When the file cannot be read, or is not such a database.
    pub fn open(path: &Path) -> Result<Self, DatabaseUnusable> {
        DatabaseFile::open(path).map(Self::File)
    }

    /// The country of an address, where it is known.
    pub fn country_of(&self, address: IpAddr) -> Option<Country> {
        self.locate(address).country
    }

    /// The country of an address, and how much of the address decided it.
    pub fn locate(&self, address: IpAddr) -> Location {
        // An IPv4 caller of a dual-stack listener arrives as ::ffff:a.b.c.d.
        let address = address.to_canonical();
        if !public(address) {
            return Location { country: None, prefix_len: if address.is_ipv4() { 32 } else { 128 } };
        }
        match self {
            Self::BuiltIn => builtin::locate(address),
            Self::Mmdb(database) => database.locate(address),
            Self::File(file) => file.database().locate(address),
        }
    }
}

/// The regions by distance from a caller whose round trips to some of them, the `origins`, are known: those as
/// they are, the others by way of the origin through which they are nearest; equally far ones in the order of the
/// topology. Origins of another topology are ignored; without any there is no distance, and the answer is empty.
pub fn nearest_to(topology: &Topology, origins: &[RoundTrip]) -> Vec<RegionId> {
    let distance = |region: RegionId| {
        let known = origins.iter().find(|origin| origin.region == region).map(|origin| origin.ms);
        let through =
            |origin: &RoundTrip| Some(topology.rtt_ms(origin.region, region)?.saturating_add(origin.ms));
        known.or_else(|| origins.iter().filter_map(through).min())
    };
    let mut by_distance: Vec<(u32, RegionId)> =
        topology.regions().iter().filter_map(|region| Some((distance(region.id)?, region.id))).collect();
    by_distance.sort_by_key(|(ms, _)| *ms);
    by_distance.into_iter().map(|(_, id)| id).collect()
}

/// On the public Internet, as far as deciding where somebody is goes (RFC 6890 and its registries).
fn public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            let carrier_grade_nat = a == 100 && (64..128).contains(&b);
            !(v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_documentation()
                || carrier_grade_nat
                || a == 0
                || a >= 240)
        }
        // Global unicast is 2000::/3 (RFC 4291 §2.4); 2001:db8::/32 in it is for documentation.
        IpAddr::V6(v6) => v6.segments()[0] >> 13 == 1 && v6.segments()[..2] != [0x2001, 0x0db8],
    }
}
