//! How long a cache holds what it was told.

use std::time::Duration;

use crate::clock::share_of;
use crate::model::Millis;

/// An entry lives so long without a write: long enough to hit, short enough to bound what a lost
/// invalidation can do.
const ENTRY_TTL: Duration = Duration::from_secs(3600);
/// Entries written together must not expire together.
const ENTRY_TTL_JITTER_MS: Millis = 360 * 1000;

/// The life of an entry.
pub(super) fn entry_ttl(cart_id: &str) -> Duration {
    ENTRY_TTL + Duration::from_millis(share_of(cart_id, ENTRY_TTL_JITTER_MS).unsigned_abs())
}
