//! The near cache: what this edge has lately read of carts, kept for as long as Redis tells it of changes.
//!
//! Redis remembers which keys a connection has read, and says on that connection when one of them changes, expires
//! or is evicted (`CLIENT TRACKING`, <https://redis.io/docs/latest/develop/reference/client-side-caching/>). So what
//! is kept belongs to one connection, and goes with it. Three things keep it true:
//!
//! - An answer that is on its way while its cart changes is not kept: the word of the change may be heard first, and
//!   there would be no second. Hence the [`Leave`], taken before the question is sent.
//! - A connection that is silent tells of nothing. What is kept is used only for a moment after a question to which
//!   there was an answer: all that was to be told before it has come in by then, since both come in order.
//! - Another epoch or generation has other keys, here as in Redis.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use redis::{PushInfo, PushKind, Value};

use crate::store::Glance;

/// Memory for all that is kept: some 70 000 rendered carts of five lines.
const WEIGHT_MAX_BYTES: u64 = 256 * 1024 * 1024;
/// About so many entries there will be.
const ENTRIES: usize = 70_000;
/// Beside the key and the document: the entry, the head of the document with some prints.
const ENTRY_OVERHEAD_BYTES: usize = 600;
/// As often Redis is asked for what is kept all the same, or it would take the carts that are read most for those
/// that nobody reads, and evict them first. It keeps them for an hour by itself.
const KEPT_FOR: Duration = Duration::from_mins(5);
/// So long after the last question that was answered, what is kept is believed. An edge with any traffic asks more
/// often by itself; and Redis that falls silent is noticed as soon as by its breaker.
const BELIEVED_FOR: Duration = Duration::from_millis(250);
/// A change of one cart forbids to keep the answers that are on their way for so many others.
const STRIPES: usize = 256;

/// What is kept of the carts that one connection has read, by their keys.
pub(super) struct NearCache {
    /// One whose look-ups do no housekeeping: with moka's, that was a twentieth of a read.
    kept: Cache<String, Kept, ByBytes>,
    /// Changes so far of the keys of a stripe.
    changes: Box<[Mutex<u64>]>,
    stripe_of: RandomState,
    began: Instant,
    /// Microseconds from the beginning.
    believed_until_us: AtomicU64,
}

#[derive(Clone)]
struct Kept {
    glance: Glance,
    until_us: u64,
}

#[derive(Clone)]
struct ByBytes;

/// Leave to keep the answer to one question; it ends when the cart changes.
pub(super) struct Leave {
    near: Arc<NearCache>,
    changes: u64,
}

impl Leave {
    /// Keeps what was answered.
    pub(super) fn keep(self, key: String, glance: Glance) {
        let changes = self.near.changes(&key);
        if *changes == self.changes {
            let until_us = self.near.since_began_us(Instant::now() + KEPT_FOR);
            self.near.kept.insert(key, Kept { glance: Glance { near: true, ..glance }, until_us });
        }
    }
}

impl NearCache {
    /// Nothing is kept yet, or believed.
    pub(super) fn new() -> Self {
        Self {
            kept: Cache::with_weighter(ENTRIES, WEIGHT_MAX_BYTES, ByBytes),
            changes: (0..STRIPES).map(|_| Mutex::default()).collect(),
            stripe_of: RandomState::new(),
            began: Instant::now(),
            believed_until_us: AtomicU64::new(0),
        }
    }

    /// What is kept of a cart, if it can be believed now.
    pub(super) fn get(&self, key: &str) -> Option<Glance> {
        let now_us = self.since_began_us(Instant::now());
        if now_us >= self.believed_until_us.load(Ordering::Acquire) {
            return None;
        }
        self.kept.get(key).filter(|kept| now_us < kept.until_us).map(|kept| kept.glance)
    }

    /// To be taken before a question is sent.
    pub(super) fn leave(self: &Arc<Self>, key: &str) -> Leave {
        Leave { near: Arc::clone(self), changes: *self.changes(key) }
    }

    /// What was asked then has been answered.
    pub(super) fn heard(&self, asked: Instant) {
        let until_us = self.since_began_us(asked + BELIEVED_FOR);
        self.believed_until_us.fetch_max(until_us, Ordering::AcqRel);
    }

    /// Forgets a cart, and what is on its way of it.
    pub(super) fn forget(&self, key: &str) {
        let mut changes = self.changes(key);
        *changes += 1;
        self.kept.remove(key);
    }

    /// Takes in what Redis says unasked.
    pub(super) fn hear(&self, word: &PushInfo) {
        match word.kind {
            PushKind::Invalidate => word.data.iter().for_each(|keys| match keys {
                Value::Array(keys) => keys.iter().for_each(|key| self.forget_named(key)),
                // All of them, when a database is flushed. Whatever else it were, it is safe to take it for that.
                _ => self.forget_all(),
            }),
            // There will be no further word.
            PushKind::Disconnection => self.believed_until_us.store(0, Ordering::Release),
            _ => {}
        }
    }

    fn forget_named(&self, key: &Value) {
        let Value::BulkString(key) = key else { return self.forget_all() };
        // Of those that are not ours, some are no text.
        if let Ok(key) = str::from_utf8(key) {
            self.forget(key);
        }
    }

    fn forget_all(&self) {
        // Whoever still has a leave is late by then.
        self.changes.iter().for_each(|changes| *lock(changes) += 1);
        self.kept.clear();
    }

    fn changes(&self, key: &str) -> MutexGuard<'_, u64> {
        #[expect(clippy::cast_possible_truncation, reason = "any bits of the hash do")]
        let stripe = self.stripe_of.hash_one(key) as usize % STRIPES;
        lock(&self.changes[stripe])
    }

    fn since_began_us(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_micros()).unwrap_or(u64::MAX)
    }
}

fn lock(changes: &Mutex<u64>) -> MutexGuard<'_, u64> {
    changes.lock().expect("no holder of the lock can panic")
}

impl Weighter<String, Kept> for ByBytes {
    fn weight(&self, key: &String, kept: &Kept) -> u64 {
        let document = kept.glance.document.as_ref().map_or(0, |document| document.body.len());
        (ENTRY_OVERHEAD_BYTES + key.len() + document) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CartVersion;

    const KEY: &str = "cart:1.1:c_1";

    fn near() -> Arc<NearCache> {
        let near = Arc::new(NearCache::new());
        near.heard(Instant::now());
        near
    }

    fn glance(version: u64) -> Glance {
        Glance { version: CartVersion { epoch: 1, version }, full: true, document: None, near: false }
    }

    fn kept(near: &NearCache) -> Option<u64> {
        near.get(KEY).map(|glance| glance.version.version)
    }

    fn invalidate(keys: Value) -> PushInfo {
        PushInfo { kind: PushKind::Invalidate, data: vec![keys] }
    }

    fn named(key: &str) -> Value {
        Value::Array(vec![Value::BulkString(b"other".to_vec()), Value::BulkString(key.into())])
    }

    #[test]
    fn an_answer_is_kept_until_its_cart_changes() {
        let near = near();
        for (version, change) in (1..).zip([named(KEY), Value::Nil]) {
            near.leave(KEY).keep(KEY.to_owned(), glance(version));
            assert_eq!(kept(&near), Some(version));
            near.hear(&invalidate(named("cart:1.1:c_2")));
            assert_eq!(kept(&near), Some(version), "that was another");
            near.hear(&invalidate(change));
            assert_eq!(kept(&near), None);
        }
    }

    #[test]
    fn an_answer_from_before_a_change_is_not_kept_after_it() {
        let near = near();
        for change in [named(KEY), Value::Nil] {
            let (early, late) = (near.leave(KEY), near.leave(KEY));
            near.hear(&invalidate(change));
            early.keep(KEY.to_owned(), glance(1));
            assert_eq!(kept(&near), None);
            near.leave(KEY).keep(KEY.to_owned(), glance(2));
            late.keep(KEY.to_owned(), glance(1));
            assert_eq!(kept(&near), Some(2));
        }
    }

    #[test]
    fn nothing_is_believed_of_a_connection_that_is_silent_or_gone() {
        let near = Arc::new(NearCache::new());
        near.leave(KEY).keep(KEY.to_owned(), glance(1));
        assert_eq!(kept(&near), None, "no question was answered yet");
        let long_ago = near.began;
        near.heard(long_ago + BELIEVED_FOR);
        assert_eq!(kept(&near), Some(1));
        near.heard(long_ago);
        assert_eq!(kept(&near), Some(1), "an older answer takes nothing back");
        near.hear(&PushInfo { kind: PushKind::Disconnection, data: Vec::new() });
        assert_eq!(kept(&near), None);
    }
}
