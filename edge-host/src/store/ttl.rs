//! How long a cache holds what it was told.

use std::time::Duration;

/// An entry lives so long without a write: long enough to hit, short enough to bound what a lost
/// invalidation can do.
const ENTRY_TTL: Duration = Duration::from_secs(3600);
/// Entries written together must not expire together.
const ENTRY_TTL_JITTER: Duration = Duration::from_secs(360);

/// The life of an entry. The jitter comes from the name, so that it needs no randomness.
pub(super) fn entry_ttl(cart_id: &str) -> Duration {
    let spread = cart_id.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    ENTRY_TTL + ENTRY_TTL_JITTER * (spread % 1000) / 1000
}
