//! How much one caller may ask for.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};

use super::problem::ApiError;
use crate::model::{OwnerKind, Principal};

/// A burst may be so many seconds' worth.
const BURST_S: u32 = 2;

/// Rate limits of one edge. A caller that is served by several edges has several times as much.
pub struct RateLimits {
    principals: DefaultKeyedRateLimiter<(OwnerKind, String)>,
    principals_per_s: u32,
    addresses: DefaultKeyedRateLimiter<IpAddr>,
    addresses_per_s: u32,
}

impl RateLimits {
    /// So many requests a second of one principal, and of one address without a token.
    pub fn new(principals_per_s: u32, addresses_per_s: u32) -> Self {
        Self {
            principals: RateLimiter::keyed(quota(principals_per_s)),
            principals_per_s,
            addresses: RateLimiter::keyed(quota(addresses_per_s)),
            addresses_per_s,
        }
    }

    /// Counts a request of a principal.
    pub fn principal(&self, principal: &Principal) -> Result<(), ApiError> {
        let checked = self.principals.check_key(&(principal.kind, principal.id.clone()));
        checked.map_err(|until| limited(&until, self.principals_per_s))
    }

    /// Counts the commands of a batch after the first, each like a request.
    pub fn batch(&self, principal: &Principal, commands: usize) -> Result<(), ApiError> {
        let more = u32::try_from(commands.saturating_sub(1)).ok().and_then(NonZeroU32::new);
        let Some(more) = more else { return Ok(()) };
        match self.principals.check_key_n(&(principal.kind, principal.id.clone()), more) {
            Ok(checked) => checked.map_err(|until| limited(&until, self.principals_per_s)),
            // More than a whole burst: counted as one request, since it could never pass.
            Err(_) => Ok(()),
        }
    }

    /// Counts a request without a token.
    pub fn address(&self, address: IpAddr) -> Result<(), ApiError> {
        let checked = self.addresses.check_key(&subscriber(address));
        checked.map_err(|until| limited(&until, self.addresses_per_s))
    }

    /// Forgets callers that have long been quiet; to be called now and then.
    pub fn tidy(&self) {
        self.principals.retain_recent();
        self.addresses.retain_recent();
    }
}

/// An IPv6 subscriber has a whole /64 of addresses.
fn subscriber(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

fn quota(per_s: u32) -> Quota {
    let per_s = NonZeroU32::new(per_s).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(per_s).allow_burst(per_s.saturating_mul(NonZeroU32::MIN.saturating_add(BURST_S - 1)))
}

fn limited(until: &NotUntil<<DefaultClock as Clock>::Instant>, per_s: u32) -> ApiError {
    let wait = until.wait_time_from(DefaultClock::default().now());
    let whole = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
    ApiError::RateLimited { retry_after_s: whole.saturating_add(1), per_s }
}
