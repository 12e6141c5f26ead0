//! Bulkheads: what one key may hold of that which all have in common.
//!
//! A cart, an item or a caller that is asked about more often than it can be served fills a queue of its own. Who
//! finds that queue full is refused at once; nobody else notices.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::OwnedMutexGuard;

/// A queue of limited length for each key. Keys without anybody in their queue cost nothing.
pub struct Queues {
    per_key_max: usize,
    keys: Mutex<HashMap<String, Queue>>,
}

#[derive(Default)]
struct Queue {
    present: usize,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Queues {
    /// Queues of at most this length.
    pub fn new(per_key_max: usize) -> Self {
        Self { per_key_max, keys: Mutex::default() }
    }

    /// A place in the queue of a key; `None` when it is full.
    pub fn enter(&self, key: &str) -> Option<Place<'_>> {
        let mut keys = self.keys();
        if !keys.contains_key(key) {
            keys.insert(key.to_owned(), Queue::default());
        }
        let queue = keys.get_mut(key)?;
        if queue.present >= self.per_key_max {
            return None;
        }
        queue.present += 1;
        Some(Place { queues: self, key: key.to_owned(), turn: Arc::clone(&queue.turn) })
    }

    /// Whether anybody is in the queue of a key.
    pub fn is_queued_for(&self, key: &str) -> bool {
        self.keys().contains_key(key)
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<String, Queue>> {
        self.keys.lock().expect("no holder of the lock can panic")
    }
}

/// A place in the queue of a key, until it is dropped.
pub struct Place<'a> {
    queues: &'a Queues,
    key: String,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Place<'_> {
    /// Waits until all who have waited for longer are done.
    pub async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut keys = self.queues.keys();
        if let Some(queue) = keys.get_mut(&self.key) {
            queue.present -= 1;
            if queue.present == 0 {
                keys.remove(&self.key);
            }
        }
    }
}

/// Sizes by key, as they were last seen. Keys share places, so a size may be another key's: it is a hint.
pub struct Sizes {
    places: Vec<AtomicUsize>,
}

impl Sizes {
    /// Of this many keys a few share a place.
    pub fn new(keys: usize) -> Self {
        Self { places: (0..keys.max(1)).map(|_| AtomicUsize::new(0)).collect() }
    }

    /// The size last seen.
    pub fn get(&self, key: &str) -> usize {
        self.place(key).load(Ordering::Relaxed)
    }

    /// Takes note of a size.
    pub fn set(&self, key: &str, size: usize) {
        self.place(key).store(size, Ordering::Relaxed);
    }

    fn place(&self, key: &str) -> &AtomicUsize {
        let hash = key.bytes().fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        &self.places[hash % self.places.len()]
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_key_has_so_many_places_and_another_has_its_own() {
        let queues = Queues::new(2);
        let (first, second) =
            (queues.enter("busy").expect("a place"), queues.enter("busy").expect("a place"));
        assert!(queues.enter("busy").is_none());
        assert!(queues.enter("calm").is_some());
        let turn = first.turn().await;
        {
            let mut next = std::pin::pin!(second.turn());
            assert!(next.as_mut().now_or_never().is_none(), "one at a time");
            drop((turn, first));
            assert!(next.as_mut().now_or_never().is_some());
        }
        assert!(queues.enter("busy").is_some());
        drop(second);
        assert!(!queues.is_queued_for("busy") && queues.keys().is_empty());
    }

    #[test]
    fn a_size_is_what_was_last_seen() {
        let sizes = Sizes::new(8);
        assert_eq!(sizes.get("c_1"), 0);
        sizes.set("c_1", 500);
        assert_eq!(sizes.get("c_1"), 500);
        sizes.set("c_1", 3);
        assert_eq!(sizes.get("c_1"), 3);
    }
}
