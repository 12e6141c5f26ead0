//! Keeps one address from closing a listener to all others.
//!
//! [`Shares`] limits what one address has at once, connections or requests. [`Paced`] ends a connection whose
//! peer does not read its answers. Both doors, the front door and the edge's public listener, use them.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::TcpStream;

mod paced;

pub use paced::{Pace, Paced};

/// Connections of one address at once, an eighth of what a listener has. Hundreds of shoppers share an address
/// behind a carrier's NAT, and each holds a connection or two.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 1024;

/// Requests in progress of one address, an eighth of what the front door has. A request takes some 10 ms, so
/// this is 25 000 requests a second from one carrier's NAT.
pub const REQUESTS_PER_ADDRESS_MAX: usize = 256;

/// For a caller to read [`ANSWER_WRITE_BYTES_MIN`] of an answer that does not fit into the socket's buffer. Long
/// enough for the bloated buffers of mobile networks.
pub const ANSWER_WRITE_DEADLINE: Duration = Duration::from_secs(20);

/// What a caller reads at least within [`ANSWER_WRITE_DEADLINE`]: 0.8 KB/s, slower than any network in use.
pub const ANSWER_WRITE_BYTES_MIN: usize = 16 * 1024;

/// How long the kernel keeps a connection whose peer acknowledges nothing, or leaves no room for what is in the
/// socket's buffer: also after the last write, and after the connection was closed here.
const UNREAD_DEADLINE_MS: u32 = 30_000;

/// Locks that the addresses are spread over, so that requests of different callers rarely wait for each other.
const SHARDS: usize = 16;

/// The part of an address that belongs to one subscriber: all of an IPv4 address, the /64 of an IPv6 address.
pub fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Whether an address is in one of the networks.
pub fn is_in(address: IpAddr, networks: &[IpNet]) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

/// Lets the kernel end a connection whose peer leaves what was sent to it unread.
pub fn end_when_unread(stream: &TcpStream) {
    if let Err(error) = set_tcp_user_timeout(stream, UNREAD_DEADLINE_MS) {
        tracing::debug!(error = %error, "TCP_USER_TIMEOUT not set");
    }
}

/// Counts what each subscriber has at once.
#[derive(Debug)]
pub struct Shares {
    max: usize,
    shards: [Mutex<HashMap<IpAddr, usize>>; SHARDS],
    /// Random, so that nobody can choose addresses that share a lock.
    hasher: RandomState,
}

/// One unit of a subscriber's share, given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    subscriber: IpAddr,
}

/// An address has its share already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the address has its share already")]
pub struct Full;

impl Shares {
    /// At most `max` for each subscriber.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, shards: Default::default(), hasher: RandomState::new() })
    }

    /// One more for this address; `None` when it has its share already.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Option<Share> {
        let subscriber = subscriber(address);
        let mut counts = self.counts(subscriber);
        let count = counts.entry(subscriber).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Share { shares: Arc::clone(self), subscriber })
    }

    /// The same, and nothing to hold for an address in the `trusted` networks: a proxy speaks for many.
    pub fn take_unless_trusted(
        self: &Arc<Self>,
        address: IpAddr,
        trusted: &[IpNet],
    ) -> Result<Option<Share>, Full> {
        if is_in(address, trusted) {
            return Ok(None);
        }
        self.take(address).map(Some).ok_or(Full)
    }

    fn counts(&self, subscriber: IpAddr) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        // The remainder keeps it below the number of shards.
        let shard = usize::try_from(self.hasher.hash_one(subscriber) % SHARDS as u64).unwrap_or(0);
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.shares.counts(self.subscriber);
        if let Some(count) = counts.get_mut(&self.subscriber) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.subscriber);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn each_subscriber_has_a_share_and_gets_it_back() {
        let shares = Shares::new(2);
        let first = shares.take(address("203.0.113.9")).expect("room");
        let _second = shares.take(address("::ffff:203.0.113.9")).expect("room");
        assert!(shares.take(address("203.0.113.9")).is_none(), "a mapped address is the same subscriber");
        assert!(shares.take(address("203.0.113.10")).is_some(), "others have their own share");
        drop(first);
        assert!(shares.take(address("203.0.113.9")).is_some());
    }

    #[test]
    fn a_subscriber_of_ipv6_has_a_whole_64() {
        let shares = Shares::new(1);
        let _first = shares.take(address("2001:db8:1:2::1")).expect("room");
        assert!(shares.take(address("2001:db8:1:2:ffff::9")).is_none());
        assert!(shares.take(address("2001:db8:1:3::1")).is_some());
    }

    #[test]
    fn nothing_is_kept_of_those_who_have_nothing() {
        let shares = Shares::new(1);
        drop(shares.take(address("203.0.113.9")));
        assert!(shares.shards.iter().all(|shard| shard.lock().expect("no panic").is_empty()));
    }
}
