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
/// Until then is kept what is only for those who wait for it.
const NOT_KEPT_US: u64 = 0;

/// What is kept of the carts that one connection has read, by their keys.
pub(super) struct NearCache {
    /// One whose look-ups do no housekeeping: with moka's, that was a twentieth of a read.
    kept: Cache<String, Kept, ByBytes>,
    began: Instant,
    /// Microseconds from the beginning.
    believed_until_us: AtomicU64,
}

/// What Redis has answered, as long as it is kept or others wait for it.
#[derive(Clone)]
struct Kept {
    answer: Result<Option<Glance>, Unanswered>,
    until_us: u64,
}

/// Redis gave no answer that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it gave no answer to another who asked the same")]
pub(super) struct Unanswered;

#[derive(Clone)]
struct ByBytes;

/// What becomes of somebody who wants to know of a cart.
pub(super) enum Entered<'a> {
    /// Somebody else has asked, and this was the answer.
    Shared(Result<Option<Glance>, Unanswered>),
    /// It is up to him to ask Redis; others wait for it.
    Asks(Turn<'a>),
}

/// The turn to ask about a cart. Whoever drops it without a word hands it on to one who waits.
pub(super) struct Turn<'a> {
    near: &'a NearCache,
    place: PlaceholderGuard<'a, String, Kept, ByBytes, DefaultHashBuilder, DefaultLifecycle<String, Kept>>,
}

impl Turn<'_> {
    /// Gives the answer to all who wait for it. It is kept unless the cart has changed meanwhile, if it has a document:
    /// without one it is a matter of a moment.
    pub(super) fn end(self, key: &str, answer: Result<Option<Glance>, Unanswered>) {
        let answer = answer.map(|glance| glance.map(|glance| Glance { near: true, ..glance }));
        let is_rendered = matches!(&answer, Ok(Some(Glance { document: Some(_), .. })));
        let until_us =
            if is_rendered { self.near.since_began_us(Instant::now() + KEPT_FOR) } else { NOT_KEPT_US };
        // It has lost its place where the cart has changed.
        let _ = self.place.insert(Kept { answer, until_us });
        if !is_rendered {
            self.near.kept.remove_if(key, |kept| kept.until_us == NOT_KEPT_US);
        }
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
        self.kept.get(key).filter(|kept| now_us < kept.until_us)?.answer.ok()?
    }

    /// The answer that somebody else gets who is asking about a cart, or the turn to ask. What is kept, and does not do,
    /// is forgotten.
    pub(super) async fn enter(&self, key: &str, does: impl Fn(&Glance) -> bool) -> Entered<'_> {
        let now_us = self.believing();
        self.kept.remove_if(key, |kept| {
            let is_believed = now_us.is_some_and(|now_us| now_us < kept.until_us);
            !(is_believed && matches!(&kept.answer, Ok(Some(glance)) if does(glance)))
        });
        match self.kept.get_value_or_guard_async(key).await {
            Ok(kept) => Entered::Shared(kept.answer),
            Err(place) => Entered::Asks(Turn { near: self, place }),
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
        let document = match &kept.answer {
            Ok(Some(Glance { document: Some(document), .. })) => document.body.len(),
            _ => 0,
        };
        (ENTRY_OVERHEAD_BYTES + key.len() + document) as u64
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
            tag: String::new(),
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
    fn enter(near: &NearCache) -> Entered<'_> {
        near.enter(KEY, |_| true).now_or_never().expect("nobody is asking")
    }

    fn turn(near: &NearCache) -> Turn<'_> {
        match enter(near) {
            Entered::Asks(turn) => turn,
            Entered::Shared(_) => panic!("nobody has asked"),
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
            turn(&near).end(KEY, Ok(rendered(number)));
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
            let early = turn(&near);
            near.hear(&invalidate(change.clone()));
            early.end(KEY, Ok(rendered(1)));
            assert_eq!(kept(&near), None);
            let early = turn(&near);
            near.hear(&invalidate(change));
            turn(&near).end(KEY, Ok(rendered(2)));
            early.end(KEY, Ok(rendered(1)));
            assert_eq!(kept(&near), Some(2));
            near.forget(KEY);
        }
    }

    #[tokio::test]
    async fn who_comes_while_somebody_asks_shares_the_answer() {
        let near = near();
        let floor = Glance { document: None, full: false, ..rendered(2).expect("a glance") };
        let answers =
            [(Ok(rendered(1)), Some(1)), (Ok(Some(floor)), None), (Ok(None), None), (Err(Unanswered), None)];
        for (answer, known_later) in answers {
            let turn = turn(&near);
            let second = async {
                match near.enter(KEY, |_| true).await {
                    Entered::Shared(answer) => answer.map(number),
                    Entered::Asks(_) => panic!("it is being asked for"),
                }
            };
            let expected = answer.clone().map(number);
            let (shared, ()) = join(second, async { turn.end(KEY, answer) }).await;
            assert_eq!(shared, expected);
            assert_eq!((kept(&near), near.kept.len()), (known_later, usize::from(known_later.is_some())));
            near.forget(KEY);
        }
    }

    #[tokio::test]
    async fn who_gives_up_lets_the_next_one_ask() {
        let near = near();
        let first = Box::pin(async {
            let _turn = turn(&near);
            pending::<()>().await;
        });
        let second = Box::pin(near.enter(KEY, |_| true));
        let waiting = select(first, second);
        assert!(waiting.now_or_never().is_none(), "the second waits");
        // Both are gone; whoever comes now asks.
        turn(&near).end(KEY, Ok(rendered(1)));
        assert_eq!(kept(&near), Some(1));
        near.forget(KEY);

        let first = turn(&near);
        let second = async { matches!(near.enter(KEY, |_| true).await, Entered::Asks(_)) };
        let (asks, ()) = join(second, async { drop(first) }).await;
        assert!(asks);
    }

    #[test]
    fn what_does_not_do_is_asked_for_anew() {
        let near = near();
        turn(&near).end(KEY, Ok(rendered(1)));
        let newer = near.enter(KEY, |glance| glance.version.version > 1).now_or_never();
        let Some(Entered::Asks(turn)) = newer else { panic!("it was said that this does not do") };
        turn.end(KEY, Ok(rendered(2)));
        assert_eq!(kept(&near), Some(2));
        let Entered::Shared(answer) = enter(&near) else { panic!("it is kept") };
        assert_eq!(answer.map(number), Ok(Some(2)));
    }

    #[test]
    fn nothing_is_believed_of_a_connection_that_is_silent_or_gone() {
        let near = NearCache::new();
        turn(&near).end(KEY, Ok(rendered(1)));
        assert_eq!(kept(&near), None, "no question was answered yet");
        let long_ago = near.began;
        near.heard(long_ago + BELIEVED_FOR);
        assert_eq!(kept(&near), Some(1));
        near.heard(long_ago);
        assert_eq!(kept(&near), Some(1), "an older answer takes nothing back");
        near.hear(&PushInfo { kind: PushKind::Disconnection, data: Vec::new() });
        assert_eq!(kept(&near), None);
        assert!(matches!(enter(&near), Entered::Asks(_)), "Redis is asked");
    }
}
