//! GeoDNS: a name server of one zone, whose answer to `cart.<zone>` is the nearest region that is up.
//!
//! | name | answers |
//! |---|---|
//! | `<zone>` | SOA, NS |
//! | `cart.<zone>` | A, AAAA: the public addresses of the nearest healthy region; TXT: which one, and why |
//! | `_http._tcp.cart.<zone>` | SRV: that region's edges, with their ports |
//! | `<region>.cart.<zone>` | A, AAAA: the public addresses of that region, whatever its health |
//! | `_http._tcp.<region>.cart.<zone>` | SRV: its edges |
//! | `_peers._tcp.<region>.cart.<zone>` | SRV: its listeners for other regions |
//! | `e1.<region>.cart.<zone>`, … | A, AAAA: one of its hosts |
//!
//! The caller is where its client subnet is (RFC 7871), or, without one, its resolver. Whoever asks for a region
//! by name gets it: health chooses only where there is a choice.
//!
//! Messages are read and written by hickory; the sockets are ours, because connections have to be few, idle ones
//! have to end, and a query is not worth two lines of log.

mod answer;
mod message;
mod names;
mod rate;
mod sockets;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

pub use names::{Zone, ZoneMalformed};
pub use sockets::{Sockets, run};

use crate::discovery::Dns;
use crate::proximity::Countries;
use crate::regions::Regions;

/// How long resolvers keep an answer: as long as a region that went down may be named after that. Clients that
/// are sent there meanwhile fail over by the front door.
pub const TTL: Duration = Duration::from_secs(30);

/// What a name server needs to know.
#[derive(Debug)]
pub struct Config {
    /// The regions, whose health somebody else keeps up to date.
    pub regions: Arc<Regions>,
    /// Where the country of an address is looked up.
    pub countries: Arc<Countries>,
    /// Who is asked where names of the topology are. Not this server.
    pub dns: Dns,
    /// The zone it answers for.
    pub zone: Zone,
    /// How long answers are good; [`TTL`], but for tests.
    pub ttl: Duration,
}
