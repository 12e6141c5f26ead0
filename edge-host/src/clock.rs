//! The one place where the time is read, and where what would happen to all at one time is spread.

use crate::model::Millis;

/// Unix milliseconds.
pub fn now_ms() -> Millis {
    jiff::Timestamp::now().as_millisecond()
}

/// Less than `whole_ms`, as good as by chance and always the same for a name, so that it needs no randomness.
pub fn share_of(name: &str, whole_ms: Millis) -> Millis {
    let hash = name.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    Millis::from(hash).rem_euclid(whole_ms)
}
