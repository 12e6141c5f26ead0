//! The near cache: what this edge has lately read of carts, kept for as long as Redis tells it of changes.
//!
//! Redis remembers which keys a connection has read, and says on that connection when one of them changes, expires
//! or is evicted (`CLIENT TRACKING`, <https://redis.io/docs/latest/develop/reference/client-side-caching/>). So what
//! is kept belongs to one connection, and goes with it. Three things keep it true:
//!
//! - An answer that is on its way while its cart changes is not kept: the word of the change may be heard first, and
//!   there would be no second. So a question has its place here before it is sent, and loses it with the change.
//! - A connection that is silent tells of nothing. What is kept is used only for a moment after a question to which
//!   there was an answer: all that was to be told before it has come in by then, since both come in order.
//! - Another epoch or generation has other keys, here as in Redis.
//!
//! Who comes while a question is under way shares its answer: a popular cart that has just changed is asked for once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quick_cache::sync::{Cache, DefaultLifecycle, PlaceholderGuard};
use quick_cache::{DefaultHashBuilder, Weighter};
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

/// What is kept of the carts that one connection has read, by their keys.
pub(super) struct NearCache {
    /// One whose look-ups do no housekeeping: with moka's, that was a twentieth of a read.
    kept: Cache<String, Kept, ByBytes>,
    began: Instant,
    /// Microseconds from the beginning.
    believed_until_us: AtomicU64,
}

/// What Redis has answered, which may be that there is nothing.
#[derive(Clone)]
struct Kept {
    glance: Option<Glance>,
    until_us: u64,
}

#[derive(Clone)]
struct ByBytes;

/// What there is of a cart.
pub(super) enum Near<'a> {
    /// Somebody else was asking, and this was the answer.
    Shared(Option<Glance>),
    /// Redis is to be asked; others wait for it.
    Ask(Leave<'a>),
}

/// Leave to ask about a cart, and to keep the answer unless the cart changes meanwhile.
pub(super) struct Leave<'a> {
    near: &'a NearCache,
    place: PlaceholderGuard<'a, String, Kept, ByBytes, DefaultHashBuilder, DefaultLifecycle<String, Kept>>,
}

impl Leave<'_> {
    /// Gives the answer to all who wait for it, and keeps it if it has a document: without one it is a matter of a
    /// moment.
    pub(super) fn answered(self, glance: Option<Glance>) {
        let is_kept = glance.as_ref().is_some_and(|glance| glance.document.is_some());
        let until_us = if is_kept { self.near.since_began_us(Instant::now() + KEPT_FOR) } else { 0 };
        let glance = glance.map(|glance| Glance { near: true, ..glance });
        // It has lost its place where the cart has changed meanwhile.
        let _ = self.place.insert(Kept { glance, until_us });
    }
}

impl NearCache {
    /// Nothing is kept yet, or believed.
    pub(super) fn new() -> Self {
        Self {
            kept: Cache::with_weighter(ENTRIES, WEIGHT_MAX_BYTES, ByBytes),
            began: Instant::now(),
            believed_until_us: AtomicU64::new(0),
        }
    }

    /// What is kept of a cart, if it can be believed now.
    pub(super) fn get(&self, key: &str) -> Option<Glance> {
        let now_us = self.believing()?;
        self.kept.get(key).filter(|kept| now_us < kept.until_us)?.glance
    }

    /// What is answered to whoever is asking about a cart, or leave to ask. What is kept, and does not do, is forgotten.
    pub(super) async fn enter(&self, key: &str, does: impl Fn(&Glance) -> bool) -> Near<'_> {
        let now_us = self.believing();
        self.kept.remove_if(key, |kept| {
            let is_believed = now_us.is_some_and(|now_us| now_us < kept.until_us);
            !(is_believed && kept.glance.as_ref().is_some_and(does))
        });
        match self.kept.get_value_or_guard_async(key).await {
            Ok(kept) => Near::Shared(kept.glance),
            Err(place) => Near::Ask(Leave { near: self, place }),
        }
    }

    /// What was asked then has been answered.
    pub(super) fn heard(&self, asked: Instant) {
        let until_us = self.since_began_us(asked + BELIEVED_FOR);
        self.believed_until_us.fetch_max(until_us, Ordering::AcqRel);
    }

    /// Forgets a cart, and what is on its way of it.
    pub(super) fn forget(&self, key: &str) {
        self.kept.remove(key);
    }

    /// Takes in what Redis says unasked.
    pub(super) fn hear(&self, word: &PushInfo) {
        match word.kind {
            PushKind::Invalidate => word.data.iter().for_each(|keys| match keys {
                Value::Array(keys) => keys.iter().for_each(|key| self.forget_named(key)),
                // All of them, when a database is flushed. Whatever else it were, it is safe to take it for that.
                _ => self.kept.clear(),
            }),
            // There will be no further word.
            PushKind::Disconnection => self.believed_until_us.store(0, Ordering::Release),
            _ => {}
        }
    }

    fn forget_named(&self, key: &Value) {
        let Value::BulkString(key) = key else { return self.kept.clear() };
        // Of those that are not ours, some are no text.
        if let Ok(key) = str::from_utf8(key) {
            self.forget(key);
        }
    }

    /// The time, microseconds from the beginning, if what is kept is believed now.
    fn believing(&self) -> Option<u64> {
        let now_us = self.since_began_us(Instant::now());
        (now_us < self.believed_until_us.load(Ordering::Acquire)).then_some(now_us)
    }

    fn since_began_us(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_micros()).unwrap_or(u64::MAX)
    }
}

impl Weighter<String, Kept> for ByBytes {
    fn weight(&self, key: &String, kept: &Kept) -> u64 {
        let document = kept.glance.as_ref().and_then(|glance| glance.document.as_ref());
        (ENTRY_OVERHEAD_BYTES + key.len() + document.map_or(0, |document| document.body.len())) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures_util::FutureExt;
    use futures_util::future::{join, select};

    use super::*;
    use crate::model::{CartVersion, Millis};
    use crate::rules::Revision;
    use crate::store::{CartDocument, FactPrints};

    const KEY: &str = "cart:1.1:c_1";

    fn near() -> NearCache {
        let near = NearCache::new();
        near.heard(Instant::now());
        near
    }

    /// What Redis says of a rendered cart.
    fn rendered(number: u64) -> Option<Glance> {
        let version = CartVersion { epoch: 1, version: number };
        let document = CartDocument {
            version,
            rules: Revision::of(b""),
            facts: FactPrints::default(),
            good_until_ms: Millis::MAX,
            view_digest: None,
            body: "{}".into(),
        };
        Some(Glance { version, full: true, document: Some(document.into()), near: false })
    }

    fn number(glance: Option<Glance>) -> Option<u64> {
        glance.map(|glance| glance.version.version)
    }

    fn kept(near: &NearCache) -> Option<u64> {
        number(near.get(KEY))
    }

    /// Enters, where nobody is to be waited for.
    fn enter(near: &NearCache) -> Near<'_> {
        near.enter(KEY, |_| true).now_or_never().expect("nobody is asking")
    }

    fn leave(near: &NearCache) -> Leave<'_> {
        match enter(near) {
            Near::Ask(leave) => leave,
            Near::Shared(_) => panic!("nobody has asked"),
        }
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
        for (number, change) in (1..).zip([named(KEY), Value::Nil]) {
            leave(&near).answered(rendered(number));
            assert_eq!(kept(&near), Some(number));
            near.hear(&invalidate(named("cart:1.1:c_2")));
            assert_eq!(kept(&near), Some(number), "that was another");
            near.hear(&invalidate(change));
            assert_eq!(kept(&near), None);
        }
    }

    #[test]
    fn an_answer_from_before_a_change_is_not_kept_after_it() {
        let near = near();
        for change in [named(KEY), Value::Nil] {
            let early = leave(&near);
            near.hear(&invalidate(change.clone()));
            early.answered(rendered(1));
            assert_eq!(kept(&near), None);
            let early = leave(&near);
            near.hear(&invalidate(change));
            leave(&near).answered(rendered(2));
            early.answered(rendered(1));
            assert_eq!(kept(&near), Some(2));
            near.forget(KEY);
        }
    }

    #[tokio::test]
    async fn who_comes_while_somebody_asks_shares_the_answer() {
        let near = near();
        let floor = Glance { document: None, full: false, ..rendered(2).expect("a glance") };
        for (answer, known_later) in [(rendered(1), Some(1)), (Some(floor), None), (None, None)] {
            let leave = leave(&near);
            let second = async {
                match near.enter(KEY, |_| true).await {
                    Near::Shared(glance) => number(glance),
                    Near::Ask(_) => panic!("it is being asked for"),
                }
            };
            let expected = number(answer.clone());
            let (shared, ()) = join(second, async { leave.answered(answer) }).await;
            assert_eq!(shared, expected);
            assert_eq!(kept(&near), known_later, "without a document it is not kept");
            near.forget(KEY);
        }
    }

    #[tokio::test]
    async fn who_gives_up_lets_the_next_one_ask() {
        let near = near();
        let first = Box::pin(async {
            let _leave = leave(&near);
            pending::<()>().await;
        });
        let second = Box::pin(near.enter(KEY, |_| true));
        let waiting = select(first, second);
        assert!(waiting.now_or_never().is_none(), "the second waits");
        // Both are gone; whoever comes now asks.
        leave(&near).answered(rendered(1));
        assert_eq!(kept(&near), Some(1));
        near.forget(KEY);

        let first = leave(&near);
        let second = async { matches!(near.enter(KEY, |_| true).await, Near::Ask(_)) };
        let (asks, ()) = join(second, async { drop(first) }).await;
        assert!(asks);
    }

    #[test]
    fn what_does_not_do_is_asked_for_anew() {
        let near = near();
        leave(&near).answered(rendered(1));
        let newer = near.enter(KEY, |glance| glance.version.version > 1).now_or_never();
        let Some(Near::Ask(leave)) = newer else { panic!("it was said that this does not do") };
        leave.answered(rendered(2));
        assert_eq!(kept(&near), Some(2));
        let Near::Shared(glance) = enter(&near) else { panic!("it is kept") };
        assert_eq!(number(glance), Some(2));
    }

    #[test]
    fn nothing_is_believed_of_a_connection_that_is_silent_or_gone() {
        let near = NearCache::new();
        leave(&near).answered(rendered(1));
        assert_eq!(kept(&near), None, "no question was answered yet");
        let long_ago = near.began;
        near.heard(long_ago + BELIEVED_FOR);
        assert_eq!(kept(&near), Some(1));
        near.heard(long_ago);
        assert_eq!(kept(&near), Some(1), "an older answer takes nothing back");
        near.hear(&PushInfo { kind: PushKind::Disconnection, data: Vec::new() });
        assert_eq!(kept(&near), None);
        assert!(matches!(enter(&near), Near::Ask(_)), "Redis is asked");
    }
}
