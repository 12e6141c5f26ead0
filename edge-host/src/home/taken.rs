//! Whether the primary takes writes, by what has become of the last ones.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::store::{StoreError, WriteOutcome};

/// After this many writes in a row that the primary has not taken, this edge says so. Fewer are an accident of one
/// connection.
const NOT_TAKEN_MAX: u32 = 3;

/// Counts writes in a row that the primary has not taken.
#[derive(Debug, Default)]
pub struct Taken {
    not_taken: AtomicU32,
}

impl Taken {
    /// Takes note of a write.
    pub(super) fn note(&self, outcome: &Result<WriteOutcome, StoreError>) {
        match outcome {
            Ok(_) => self.not_taken.store(0, Ordering::Relaxed),
            Err(StoreError::Unavailable(_)) => {
                self.not_taken.fetch_add(1, Ordering::Relaxed);
            }
            Err(StoreError::Busy(_) | StoreError::Overloaded(_) | StoreError::Corrupt(_)) => {}
        }
    }

    /// Why no write can be done, as far as the last ones show.
    pub(super) fn refusal(&self) -> Option<String> {
        let not_taken = self.not_taken.load(Ordering::Relaxed) >= NOT_TAKEN_MAX;
        not_taken.then(|| "the primary has not taken the last writes".to_owned())
    }
}
