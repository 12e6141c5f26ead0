//! Whether the primary takes writes, by the outcome of the last ones.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tracing::{debug, info, warn};

use crate::store::{PrimaryStore, StoreError, WriteOutcome};
use crate::telemetry::chain;

/// After this many writes in a row that the primary has not taken, this edge says so. Fewer are an accident of one
/// connection.
const NOT_TAKEN_MAX: u32 = 3;
/// Meanwhile the primary is asked for a commit this often. Other regions send their writes elsewhere, so that no write
/// of a shopper would find out that it commits again.
const PROBE_PERIOD: Duration = Duration::from_millis(500);

/// Counts writes in a row that the primary has not taken.
#[derive(Debug, Default)]
pub struct Taken {
    not_taken: AtomicU32,
    refused: Notify,
}

impl Taken {
    /// Takes note of a write.
    pub(super) fn note(&self, outcome: &Result<WriteOutcome, StoreError>) {
        match outcome {
            Ok(_) => self.not_taken.store(0, Ordering::Relaxed),
            Err(StoreError::Unavailable(_)) => {
                if self.not_taken.fetch_add(1, Ordering::Relaxed) + 1 == NOT_TAKEN_MAX {
                    warn!(
                        "the primary has not taken the last writes: this edge only reads until it commits again"
                    );
                    self.refused.notify_one();
                }
            }
            Err(StoreError::Busy(_) | StoreError::Overloaded(_) | StoreError::Corrupt(_)) => {}
        }
    }

    /// Why no write can be done, as far as the last ones show.
    pub(super) fn refusal(&self) -> Option<String> {
        self.is_refused().then(|| "the primary has not taken the last writes".to_owned())
    }

    /// Asks the primary for a commit while it takes no writes.
    pub async fn probe(&self, store: &dyn PrimaryStore) {
        loop {
            self.refused.notified().await;
            while self.is_refused() {
                tokio::time::sleep(PROBE_PERIOD).await;
                match store.commit_nothing().await {
                    Ok(()) => {
                        self.not_taken.store(0, Ordering::Relaxed);
                        info!("the primary commits again");
                    }
                    Err(error) => debug!(error = %chain(&error), "the primary does not commit"),
                }
            }
        }
    }

    fn is_refused(&self) -> bool {
        self.not_taken.load(Ordering::Relaxed) >= NOT_TAKEN_MAX
    }
}
