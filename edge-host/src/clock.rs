//! The one place where the time is read.

use crate::model::Millis;

/// Unix milliseconds.
pub fn now_ms() -> Millis {
    jiff::Timestamp::now().as_millisecond()
}
