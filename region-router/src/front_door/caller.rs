//! Who is calling: the address that counts, and whether the peer's word is believed.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::FORWARDED;
use ipnet::IpNet;

use super::headers::{X_FORWARDED_FOR, X_FORWARDED_PROTO};

/// The address of the client of a request, for whoever stands behind this front door: the peer's own, or,
/// from a peer in one of the `trusted` networks, the right-most address of `X-Forwarded-For` that is not.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    Caller::identify(peer, headers, trusted).address
}

/// Whether the client of a request has come by HTTPS, as a peer in one of the `trusted` networks says it, by
/// `X-Forwarded-Proto` or by `Forwarded` (RFC 7239 §5.4). Where several hops are listed, the client's own is the first.
pub fn came_by_https(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> bool {
    let first_of = |name| headers.get(name)?.to_str().ok()?.split(',').next();
    let proto = match first_of(X_FORWARDED_PROTO) {
        Some(proto) => Some(proto),
        None => first_of(FORWARDED).and_then(|hop| {
            let mut pairs = hop.split(';').filter_map(|pair| pair.trim().split_once('='));
            pairs
                .find(|(name, _)| name.eq_ignore_ascii_case("proto"))
                .map(|(_, proto)| proto.trim_matches('"'))
        }),
    };
    proto.is_some_and(|proto| proto.trim().eq_ignore_ascii_case("https"))
        && Caller::identify(peer, &HeaderMap::new(), trusted).peer_trusted
}

/// The sender of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// Whoever holds the other end of the connection.
    pub(super) peer: IpAddr,
    /// Whether that is a proxy of ours, whose headers are believed.
    pub(super) peer_trusted: bool,
    /// The client behind it, or the peer itself.
    pub(super) address: IpAddr,
}

impl Caller {
    /// A peer that is not trusted speaks for itself. Behind one that is, the client is the right-most address
    /// of `X-Forwarded-For` that is not a trusted proxy: everything to its left anybody could have written.
    pub(super) fn identify(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let peer = peer.to_canonical();
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
        let peer_trusted = is_trusted(peer);
        let mut address = peer;
        if peer_trusted {
            for hop in hops_from_the_right(headers) {
                // A hop that cannot be read ends what can be believed.
                let Some(hop) = parse_hop(hop) else { break };
                address = hop;
                if !is_trusted(hop) {
                    break;
                }
            }
        }
        Self { peer, peer_trusted, address }
    }
}

fn hops_from_the_right(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines: Vec<&str> =
        headers.get_all(X_FORWARDED_FOR).iter().map(|line| line.to_str().unwrap_or_default()).collect();
    lines.into_iter().rev().flat_map(|line| line.rsplit(',')).map(str::trim)
}

/// An address, which some proxies write with its port.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let with_port = || hop.parse::<std::net::SocketAddr>().map(|address| address.ip());
    hop.parse().or_else(|_| with_port()).ok().map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The address that counts, for a peer and the lines of `X-Forwarded-For`. 10/8 is trusted.
    fn address(peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, line.parse().expect("a header value"));
        }
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().expect("a network"));
        Caller::identify(peer.parse().expect("an address"), &headers, &trusted).address.to_string()
    }

    #[test]
    fn only_a_trusted_peer_says_how_the_client_has_come() {
        let https = |peer: &str, name: &'static str, value: &str| {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static(name),
                value.parse().expect("a header value"),
            )]);
            let trusted = ["10.0.0.0/8".parse().expect("a network")];
            came_by_https(peer.parse().expect("an address"), &headers, &trusted)
        };
        for (name, value, expected) in [
            ("x-forwarded-proto", "https", true),
            ("x-forwarded-proto", "HTTPS, http", true),
            ("x-forwarded-proto", "http", false),
            ("x-forwarded-proto", "http, https", false),
            ("forwarded", "for=192.0.2.1;proto=https;by=203.0.113.43", true),
            ("forwarded", "for=192.0.2.1; Proto=\"https\", for=10.0.0.1", true),
            ("forwarded", "for=192.0.2.1, for=10.0.0.1;proto=https", false),
            ("x-request-id", "https", false),
        ] {
            assert_eq!(https("10.0.0.1", name, value), expected, "{name}: {value}");
            assert!(!https("203.0.113.9", name, value), "a stranger: {name}: {value}");
        }
    }

    #[test]
    fn an_untrusted_peer_speaks_for_itself() {
        assert_eq!(address("203.0.113.9", &[]), "203.0.113.9");
        assert_eq!(address("203.0.113.9", &["36.64.0.1"]), "203.0.113.9");
        assert_eq!(address("::ffff:203.0.113.9", &["36.64.0.1"]), "203.0.113.9");
    }

    #[test]
    fn behind_trusted_proxies_the_right_most_untrusted_address_counts() {
        assert_eq!(address("10.0.0.1", &["36.64.0.1"]), "36.64.0.1");
        assert_eq!(address("::ffff:10.0.0.1", &["36.64.0.1"]), "36.64.0.1");
        assert_eq!(address("fd00::1", &["1.2.3.4, 36.64.0.1, 10.0.0.2"]), "36.64.0.1");
        assert_eq!(address("10.0.0.1", &["1.2.3.4", "36.64.0.1,10.0.0.2", "10.0.0.3"]), "36.64.0.1");
        assert_eq!(address("10.0.0.1", &["36.64.0.1:4711"]), "36.64.0.1");
        assert_eq!(address("10.0.0.1", &["[2001:c10::1]:4711"]), "2001:c10::1");
    }

    #[test]
    fn what_cannot_be_read_ends_what_is_believed() {
        assert_eq!(address("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(address("10.0.0.1", &["36.64.0.1, unknown"]), "10.0.0.1");
        assert_eq!(address("10.0.0.1", &["36.64.0.1, _hidden, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(address("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
    }
}
