//! How much one caller may ask for.

use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};
use region_router::admission::subscriber;

use super::problem::ApiError;
use crate::config::Rates;
use crate::model::{OwnerKind, Principal};
use crate::telemetry::metric;

/// A burst may use the requests of this many windows.
const BURST_WINDOWS: NonZeroU32 = NonZeroU32::new(2).expect("two is not zero");

/// Rate limits of one edge. A caller that is served by several edges has several times as much.
pub struct RateLimits {
    region: String,
    principals: Limit<(OwnerKind, String)>,
    /// Of all guests of an address together, and of tokens that are not known yet.
    addresses: Limit<IpAddr>,
    guests: Limit<IpAddr>,
    catalogue: Limit<IpAddr>,
    guest_orders: Limit<IpAddr>,
}

impl RateLimits {
    /// At these rates, in this region.
    pub fn new(rates: &Rates, region: &str) -> Self {
        Self {
            region: region.to_owned(),
            principals: Limit::per_second(rates.principal_per_s),
            addresses: Limit::per_second(rates.address_per_s),
            guests: Limit::per_second(rates.guests_per_s),
            catalogue: Limit::per_second(rates.catalogue_per_s),
            guest_orders: Limit::per_minute(rates.guest_orders_per_min),
        }
    }

    /// Counts a request of a principal.
    pub fn principal(&self, principal: &Principal) -> Result<(), ApiError> {
        self.counted("principal", self.principals.check(&(principal.kind, principal.id.clone()), 1))
    }

    /// Counts the commands of a batch after the first, each like a request.
    pub fn batch(&self, principal: &Principal, commands: usize) -> Result<(), ApiError> {
        let more = u32::try_from(commands.saturating_sub(1)).unwrap_or(u32::MAX);
        self.counted("principal", self.principals.check(&(principal.kind, principal.id.clone()), more))
    }

    /// Counts a request by the address that it comes from: of a guest, because guests can be had for the asking, or
    /// with a token that is not known to be valid.
    pub fn address(&self, address: IpAddr) -> Result<(), ApiError> {
        self.counted("address", self.addresses.check(&subscriber(address), 1))
    }

    /// Counts a new guest.
    pub fn new_guest(&self, address: IpAddr) -> Result<(), ApiError> {
        self.counted("address", self.guests.check(&subscriber(address), 1))
    }

    /// Counts a read of the catalogue or the regions.
    pub fn catalogue(&self, address: IpAddr) -> Result<(), ApiError> {
        self.counted("address", self.catalogue.check(&subscriber(address), 1))
    }

    /// Counts a checkout of a guest: each holds stock, and a new guest may hold more.
    pub fn guest_order(&self, address: IpAddr) -> Result<(), ApiError> {
        self.counted("address", self.guest_orders.check(&subscriber(address), 1))
    }

    /// Forgets callers that have long been quiet; to be called now and then.
    pub fn tidy(&self) {
        self.principals.limiter.retain_recent();
        for limit in [&self.addresses, &self.guests, &self.catalogue, &self.guest_orders] {
            limit.limiter.retain_recent();
        }
    }

    fn counted(&self, by: &'static str, checked: Result<(), ApiError>) -> Result<(), ApiError> {
        if checked.is_err() {
            metric::rate_limited(&self.region, by);
        }
        checked
    }
}

/// A limit of requests in a window of time, for each key.
struct Limit<K: std::hash::Hash + Eq + Clone> {
    limiter: DefaultKeyedRateLimiter<K>,
    requests: u32,
    window_s: u32,
}

impl<K: std::hash::Hash + Eq + Clone> Limit<K> {
    fn per_second(requests: u32) -> Self {
        Self { limiter: RateLimiter::keyed(quota(requests, Quota::per_second)), requests, window_s: 1 }
    }

    fn per_minute(requests: u32) -> Self {
        Self { limiter: RateLimiter::keyed(quota(requests, Quota::per_minute)), requests, window_s: 60 }
    }

    fn check(&self, key: &K, requests: u32) -> Result<(), ApiError> {
        let Some(requests) = NonZeroU32::new(requests) else { return Ok(()) };
        match self.limiter.check_key_n(key, requests) {
            Ok(checked) => checked.map_err(|until| self.limited(&until)),
            // More than a whole burst, which could never pass.
            Err(_) => Ok(()),
        }
    }

    fn limited(&self, until: &NotUntil<<DefaultClock as Clock>::Instant>) -> ApiError {
        let wait = until.wait_time_from(DefaultClock::default().now());
        let whole = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX);
        ApiError::RateLimited {
            retry_after_s: whole.saturating_add(1),
            requests: self.requests,
            window_s: self.window_s,
        }
    }
}

fn quota(requests: u32, rate: fn(NonZeroU32) -> Quota) -> Quota {
    let requests = NonZeroU32::new(requests).unwrap_or(NonZeroU32::MIN);
    rate(requests).allow_burst(requests.saturating_mul(BURST_WINDOWS))
}
