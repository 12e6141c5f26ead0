//! The newest epoch that this edge has heard of, and with it the fence around everything older.
//!
//! Every promotion begins an epoch. From then on the old primary, replicas of it and what caches hold of it may tell of
//! a past that did not happen. An edge that has heard of the new epoch believes none of them any more, whatever they say
//! of themselves. The home region hears of it from its own servers: the databases and its cache. The other regions hear
//! of it from home and from their replicas.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tracing::warn;

/// The newest epoch heard of; 0 before the first. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct KnownEpoch(Arc<AtomicU32>, Arc<AtomicU32>);

impl KnownEpoch {
    /// Takes note of an epoch; older ones change nothing.
    pub fn learn(&self, epoch: u32) {
        let before = self.0.fetch_max(epoch, Ordering::AcqRel);
        if before != 0 && before < epoch {
            warn!(epoch, epoch.before = before, "a new epoch has begun: nothing of the one before counts");
        }
    }

    /// Another region names an epoch that nothing here knows of. It is not believed: its word is no proof, and to
    /// believe it would be for good. Said in the log once for each.
    pub fn doubt(&self, region: &str, epoch: u32) {
        if self.1.swap(epoch, Ordering::AcqRel) != epoch {
            warn!(
                asked_by = region,
                epoch,
                epoch.known = self.current(),
                "a region names an unknown epoch: it is not answered"
            );
        }
    }

    /// The newest epoch heard of.
    pub fn current(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// Whether something of this epoch is of the past.
    pub fn is_past(&self, epoch: u32) -> bool {
        epoch < self.current()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_is_never_forgotten() {
        let known = KnownEpoch::default();
        assert!(!known.is_past(0));
        known.learn(3);
        known.clone().learn(2);
        assert_eq!(known.current(), 3);
        assert!(known.is_past(2) && !known.is_past(3) && !known.is_past(4));
    }
}
