//! Response rate limiting: a datagram's source address can be forged, so answers to one network are limited.
//!
//! Beyond the limit every second question is answered without records and as truncated, so that a resolver that is
//! really there comes again by TCP, where addresses cannot be forged; the others are not answered.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Answers a second to one network. A resolver of a large provider asks once in 30 seconds for every client network
/// that it serves; 500 a second are 15 000 of them.
const ANSWERS_PER_S: u32 = 500;
/// Answers that may come at once.
const BURST: u32 = 2 * ANSWERS_PER_S;
/// Networks that are remembered, in some megabytes. Two that share a place take turns in it.
const NETWORKS: usize = 1 << 16;

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is sent.
    Send,
    /// It is sent without records, as truncated.
    Slip,
    /// It is not sent.
    Drop,
}

/// What each network may still be sent.
pub(super) struct Rates {
    buckets: Vec<Option<Bucket>>,
    /// Random, so that nobody can choose networks that share a place.
    hasher: RandomState,
}

struct Bucket {
    network: IpAddr,
    left: f64,
    at: Instant,
    slipped: bool,
}

impl Rates {
    pub(super) fn new() -> Self {
        Self { buckets: (0..NETWORKS).map(|_| None).collect(), hasher: RandomState::new() }
    }

    /// Counts an answer to an address at a moment.
    pub(super) fn count(&mut self, address: IpAddr, now: Instant) -> Verdict {
        let network = network(address);
        // The remainder keeps it below the number of places.
        let place = usize::try_from(self.hasher.hash_one(network) % NETWORKS as u64).unwrap_or(0);
        let fresh = Bucket { network, left: f64::from(BURST), at: now, slipped: false };
        let bucket = match &mut self.buckets[place] {
            Some(bucket) if bucket.network == network => bucket,
            other => other.insert(fresh),
        };
        let earned = now.saturating_duration_since(bucket.at).min(Duration::from_secs(60)).as_secs_f64();
        bucket.left = (bucket.left + earned * f64::from(ANSWERS_PER_S)).min(f64::from(BURST));
        bucket.at = now;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Verdict::Send;
        }
        bucket.slipped = !bucket.slipped;
        if bucket.slipped { Verdict::Slip } else { Verdict::Drop }
    }
}

/// The networks that addresses are given out by: a /24, or a /56 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & (u32::MAX << 8)).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 72)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn sent(rates: &mut Rates, from: &str, questions: u32, now: Instant) -> (u32, u32) {
        let (mut sent, mut slipped) = (0, 0);
        for _ in 0..questions {
            match rates.count(address(from), now) {
                Verdict::Send => sent += 1,
                Verdict::Slip => slipped += 1,
                Verdict::Drop => {}
            }
        }
        (sent, slipped)
    }

    #[test]
    fn a_network_has_a_burst_and_then_its_rate_and_every_second_question_slips() {
        let (mut rates, now) = (Rates::new(), Instant::now());
        assert_eq!(sent(&mut rates, "203.0.113.1", BURST, now), (BURST, 0));
        assert_eq!(
            sent(&mut rates, "203.0.113.200", 100, now),
            (0, 50),
            "its neighbour is of the same network"
        );
        assert_eq!(sent(&mut rates, "203.0.114.1", 100, now), (100, 0), "another network is not");
        let later = now + Duration::from_secs(1);
        assert_eq!(sent(&mut rates, "203.0.113.1", BURST, later).0, ANSWERS_PER_S);
    }

    #[test]
    fn a_network_of_ipv6_is_a_56() {
        let (mut rates, now) = (Rates::new(), Instant::now());
        sent(&mut rates, "2001:db8:1:200::1", BURST, now);
        assert_eq!(sent(&mut rates, "2001:db8:1:2ff::9", 2, now), (0, 1));
        assert_eq!(sent(&mut rates, "2001:db8:1:300::1", 2, now), (2, 0));
    }
}
