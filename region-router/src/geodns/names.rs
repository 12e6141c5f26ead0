//! The names of the zone.

use std::fmt;
use std::str::FromStr;

use hickory_server::proto::rr::Name;

use crate::topology::RegionId;

/// The zone that is answered for, for example `cart.example` or `troli.test`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    origin: Name,
}

/// What a name of the zone stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The zone itself.
    Apex,
    /// This name server.
    NameServer,
    /// Whichever region is nearest.
    Cart,
    /// One region.
    Region(RegionId),
    /// One host of a region, counted from 0.
    Host(RegionId, usize),
    /// The edges of the nearest region.
    NearestEdges,
    /// The edges of one region.
    Edges(RegionId),
    /// The listeners of one region for other regions.
    Peers(RegionId),
    /// Nothing itself, but there are names beneath it (RFC 8020).
    Between,
    /// `_tcp` beneath a region.
    BetweenRegion(RegionId),
}

impl Zone {
    /// Its name.
    pub(super) fn origin(&self) -> &Name {
        &self.origin
    }

    /// Whether a name is the zone's to answer.
    pub(super) fn contains(&self, name: &Name) -> bool {
        self.origin.zone_of(name)
    }

    /// What a name of the zone, in lower case, stands for. The region, if any, need not exist.
    pub(super) fn owner(&self, name: &Name) -> Option<Owner> {
        let above = usize::from(self.origin.num_labels());
        let labels: Option<Vec<&str>> = name.iter().map(|label| std::str::from_utf8(label).ok()).collect();
        let labels = labels?;
        let region = |label: &str| label.parse().ok();
        Some(match &labels[..labels.len().checked_sub(above)?] {
            [] => Owner::Apex,
            ["ns"] => Owner::NameServer,
            ["cart"] => Owner::Cart,
            ["_tcp", "cart"] => Owner::Between,
            ["_http", "_tcp", "cart"] => Owner::NearestEdges,
            [id, "cart"] => Owner::Region(region(id)?),
            ["_tcp", id, "cart"] => Owner::BetweenRegion(region(id)?),
            [host, id, "cart"] => Owner::Host(region(id)?, host_number(host)?),
            ["_http", "_tcp", id, "cart"] => Owner::Edges(region(id)?),
            ["_peers", "_tcp", id, "cart"] => Owner::Peers(region(id)?),
            _ => return None,
        })
    }

    /// The name of this name server.
    pub(super) fn name_server(&self) -> Name {
        self.beneath("ns")
    }

    /// The name of a host of a region.
    pub(super) fn host(&self, region: RegionId, number: usize) -> Name {
        self.beneath(&format!("e{}.{region}.cart", number + 1))
    }

    /// The mailbox of whoever runs the zone (RFC 2142).
    pub(super) fn hostmaster(&self) -> Name {
        self.beneath("hostmaster")
    }

    fn beneath(&self, labels: &str) -> Name {
        let relative: Name = labels.parse().expect("labels of our own are a name");
        relative.append_domain(&self.origin).expect("a zone is short enough for our own labels")
    }
}

/// `e1` is 0. One spelling each, so that no two names are one host.
fn host_number(label: &str) -> Option<usize> {
    let digits = label.strip_prefix('e')?;
    let number: usize = digits.parse().ok()?;
    (number > 0 && number.to_string() == digits).then(|| number - 1)
}

/// The longest zone, which leaves room for names beneath it (names have at most 255 bytes).
const ZONE_BYTES_MAX: usize = 180;

impl FromStr for Zone {
    type Err = ZoneMalformed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || ZoneMalformed { text: text.to_owned() };
        let label_known = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let bare = text.strip_suffix('.').unwrap_or(text);
        if bare.len() > ZONE_BYTES_MAX || !bare.split('.').all(label_known) {
            return Err(malformed());
        }
        let origin = Name::from_str(&format!("{}.", bare.to_ascii_lowercase())).map_err(|_| malformed())?;
        Ok(Self { origin })
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.origin.fmt(f)
    }
}

/// The text is not the name of a zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the name of a zone, for example troli.test")]
pub struct ZoneMalformed {
    /// What was given.
    pub text: String,
}
