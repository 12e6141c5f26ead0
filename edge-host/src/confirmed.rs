//! Which version of a cart home has named in place of a newer one that a client claimed to have seen.
//!
//! A version that home does not have is invented, or was undone by a failover. To find that out takes a question to
//! home. Its answer is believed for a moment, or each read with such a version would ask again: past the cache, and
//! whatever the version. Only the owner of a cart can name versions of it, so only an owner who does can be shown a
//! cart that is a moment old.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::sync::Cache;

use crate::model::CartVersion;

/// Home is asked about the versions of one cart that it does not have once in this time.
const BELIEVED_FOR: Duration = Duration::from_secs(1);
/// Carts. One that does not fit is asked for again.
const CARTS_MAX: u64 = 10_000;

/// Versions that home has confirmed lately.
pub(crate) struct Confirmed {
    carts: Cache<String, CartVersion>,
    began: Instant,
    /// Microseconds from the beginning until which there can be any: mostly there are none, and nothing is looked up.
    until_us: AtomicU64,
}

impl Confirmed {
    pub(crate) fn new() -> Self {
        let carts = Cache::builder().max_capacity(CARTS_MAX).time_to_live(BELIEVED_FOR).build();
        Self { carts, began: Instant::now(), until_us: AtomicU64::new(0) }
    }

    /// Home has this version of a cart, and none that is newer.
    pub(crate) fn note(&self, cart_id: &str, version: CartVersion) {
        self.carts.insert(cart_id.to_owned(), version);
        self.until_us.fetch_max(self.us(Instant::now() + BELIEVED_FOR), Ordering::AcqRel);
    }

    /// The cart has changed.
    pub(crate) fn forget(&self, cart_id: &str) {
        if self.any(Instant::now()) {
            self.carts.invalidate(cart_id);
        }
    }

    /// The version that a client who claims to have seen `seen` must get at least.
    pub(crate) fn at_most(&self, cart_id: &str, seen: CartVersion, now: Instant) -> CartVersion {
        self.of(cart_id, now).map_or(seen, |confirmed| seen.min(confirmed))
    }

    /// What home has said of a cart in the last moment.
    pub(crate) fn of(&self, cart_id: &str, now: Instant) -> Option<CartVersion> {
        if self.any(now) { self.carts.get(cart_id) } else { None }
    }

    fn any(&self, now: Instant) -> bool {
        self.us(now) < self.until_us.load(Ordering::Acquire)
    }

    fn us(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_believed_for_a_moment_and_until_the_cart_changes() {
        let version = |number| CartVersion { epoch: 1, version: number };
        let (confirmed, now) = (Confirmed::new(), Instant::now());
        assert_eq!(confirmed.at_most("c_1", version(9), now), version(9));
        confirmed.note("c_1", version(3));
        assert_eq!(confirmed.at_most("c_1", version(9), now), version(3));
        assert_eq!(
            confirmed.at_most("c_1", version(2), now),
            version(2),
            "an older one is asked for as it is"
        );
        assert_eq!(confirmed.at_most("c_2", version(9), now), version(9), "that is another cart");
        assert_eq!(confirmed.of("c_1", Instant::now() + BELIEVED_FOR), None);
        confirmed.forget("c_1");
        assert_eq!(confirmed.at_most("c_1", version(9), now), version(9));
    }
}
