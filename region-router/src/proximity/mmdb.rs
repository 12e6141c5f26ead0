//! Country and city databases in MaxMind's format, of whichever maker.

use std::fmt;
use std::net::IpAddr;

use maxminddb::{PathElement, Reader};

use super::Location;

/// Where makers put the country's code: MaxMind and DB-IP, then ip-location-db and IPinfo, then IPinfo's lite.
const PATHS: [&[PathElement<'static>]; 3] = [
    &[PathElement::Key("country"), PathElement::Key("iso_code")],
    &[PathElement::Key("country_code")],
    &[PathElement::Key("country")],
];

/// An open database.
pub struct Database {
    reader: Reader<Vec<u8>>,
}

impl Database {
    pub(super) fn new(bytes: Vec<u8>) -> Result<Self, MmdbMalformed> {
        let reader = Reader::from_source(bytes).map_err(|source| MmdbMalformed { source })?;
        Ok(Self { reader })
    }

    /// An entry which cannot be read says as much as one that is not there.
    pub(super) fn locate(&self, address: IpAddr) -> Location {
        let whole = if address.is_ipv4() { 32 } else { 128 };
        let Ok(entry) = self.reader.lookup(address) else {
            return Location { country: None, prefix_len: whole };
        };
        let country = PATHS.iter().find_map(|path| entry.decode_path::<&str>(path).ok()??.parse().ok());
        let prefix_len = entry.network().map_or(whole, |network| network.prefix());
        Location { country, prefix_len }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reader.metadata().database_type)
    }
}

/// The bytes are not a database in MaxMind's format.
#[derive(Debug, thiserror::Error)]
#[error("not a database in MaxMind's format (.mmdb)")]
pub struct MmdbMalformed {
    source: maxminddb::MaxMindDbError,
}
