use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use super::{HOME, free};

/// Region, name, country, currency: those of the contract.
const REGIONS: [(&str, &str, &str, &str); 6] = [
    ("sin", "Singapore", "SG", "SGD"),
    ("kul", "Kuala Lumpur", "MY", "MYR"),
    ("jkt", "Jakarta", "ID", "IDR"),
    ("bkk", "Bangkok", "TH", "THB"),
    ("sgn", "Ho Chi Minh City", "VN", "VND"),
    ("mnl", "Manila", "PH", "PHP"),
];

/// Where the edge of a region listens. Known up front, because every region asks the others for their health.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) public: SocketAddr,
    pub(super) internal: SocketAddr,
    pub(super) peers: SocketAddr,
}

impl Addresses {
    pub(super) fn any() -> Self {
        Self { public: free(), internal: free(), peers: free() }
    }
}

/// The topology of a fleet, as the file has it.
pub(super) fn topology(
    regions: &[&'static str],
    addresses: &BTreeMap<&'static str, Addresses>,
    twins: &BTreeMap<&'static str, Addresses>,
) -> String {
    let mut text = format!("home = \"{HOME}\"\ncurrency_default = \"SGD\"\n");
    for (id, name, country, currency) in REGIONS.iter().filter(|(id, ..)| regions.contains(id)) {
        let all: Vec<Addresses> =
            [Some(addresses[id]), twins.get(id).copied()].into_iter().flatten().collect();
        let list = |of: fn(&Addresses) -> SocketAddr| {
            all.iter().map(|edge| format!("\"{}\"", of(edge))).collect::<Vec<_>>().join(", ")
        };
        let (public, internal, peers) =
            (list(|edge| edge.public), list(|edge| edge.internal), list(|edge| edge.peers));
        let _ = write!(
            text,
            "[[region]]\nid = \"{id}\"\nname = \"{name}\"\ncountry = \"{country}\"\n\
             currency = \"{currency}\"\npublic = [{public}]\ninternal = [{internal}]\n\
             peers = [{peers}]\n"
        );
    }
    text.push_str("[round_trips_assumed_ms]\n");
    // Far enough apart that the order of distance is never a draw.
    for (n, (a, b)) in pairs(regions).into_iter().enumerate() {
        let _ = writeln!(text, "{a}-{b} = {}", 10 + n);
    }
    text
}

fn pairs<'a>(regions: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    let later = |n: usize| regions[n + 1..].iter();
    regions.iter().enumerate().flat_map(|(n, a)| later(n).map(move |b| (*a, *b))).collect()
}
