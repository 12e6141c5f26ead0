//! Tokens that were verified lately.
//!
//! A shopper asks many times with one token, and to check a signature takes as long as the rest of a cached read.
//! Each token has one slot, found by its hash, and takes the place of whoever was there: no list of who was here
//! last, no housekeeping, and memory that never grows. What a token proves stays so until it ends or
//! the keys change.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use crate::model::{Millis, Principal};

/// Tokens that are remembered: at some 400 bytes each, 50 MiB. Twice as many shoppers at a time share slots, and are
/// verified more often.
const SLOTS: usize = 1 << 17;
/// A longer token is verified every time: it must not take the memory of many.
const TOKEN_BYTES_MAX: usize = 1024;

/// What was found out about tokens.
pub(super) struct VerifiedTokens {
    slots: Box<[ArcSwapOption<Entry>]>,
    /// Random, so that nobody can choose tokens that share a slot.
    hasher: RandomState,
    /// Grows when the keys change: what was found out in an earlier round counts no more.
    round: AtomicU64,
}

struct Entry {
    token: Box<str>,
    principal: Principal,
    ends_ms: Millis,
    round: u64,
}

impl VerifiedTokens {
    /// Nothing is known yet.
    pub(super) fn new() -> Self {
        let slots = (0..SLOTS).map(|_| ArcSwapOption::empty()).collect();
        Self { slots, hasher: RandomState::new(), round: AtomicU64::new(0) }
    }

    /// The round that a check begins in.
    pub(super) fn round(&self) -> u64 {
        self.round.load(Ordering::Acquire)
    }

    /// Forgets everything, also what is being found out just now.
    pub(super) fn forget(&self) {
        self.round.fetch_add(1, Ordering::AcqRel);
    }

    /// The principal that this very token proves, if it was found out lately.
    pub(super) fn get(&self, token: &str, now_ms: Millis) -> Option<Principal> {
        let slot = self.slot(token).load();
        let entry = slot.as_deref()?;
        let counts = entry.round == self.round() && now_ms < entry.ends_ms;
        (counts && *entry.token == *token).then(|| entry.principal.clone())
    }

    /// Remembers what a token proves by a check that began in this round, until it ends.
    pub(super) fn put(&self, token: &str, principal: &Principal, ends_ms: Millis, round: u64) {
        if token.len() > TOKEN_BYTES_MAX {
            return;
        }
        let entry = Entry { token: token.into(), principal: principal.clone(), ends_ms, round };
        self.slot(token).store(Some(Arc::new(entry)));
    }

    fn slot(&self, token: &str) -> &ArcSwapOption<Entry> {
        // The remainder keeps it below the number of slots.
        let hash = usize::try_from(self.hasher.hash_one(token) % SLOTS as u64).unwrap_or(0);
        &self.slots[hash]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::OwnerKind;

    const NOW_MS: Millis = 1_000_000;

    fn user(name: &str) -> Principal {
        Principal { kind: OwnerKind::User, id: name.to_owned(), currency: None }
    }

    #[test]
    fn a_token_is_known_until_it_ends() {
        let known = VerifiedTokens::new();
        known.put("token", &user("a"), NOW_MS + 1000, known.round());
        assert_eq!(known.get("token", NOW_MS + 999), Some(user("a")));
        assert_eq!(known.get("token", NOW_MS + 1000), None);
    }

    #[test]
    fn nothing_is_known_after_the_keys_have_changed() {
        let known = VerifiedTokens::new();
        let round = known.round();
        known.put("token", &user("a"), NOW_MS + 1000, round);
        known.forget();
        assert_eq!(known.get("token", NOW_MS), None);
        // A check by the old keys that ends only now.
        known.put("token", &user("a"), NOW_MS + 1000, round);
        assert_eq!(known.get("token", NOW_MS), None);
    }

    #[test]
    fn no_token_is_taken_for_another_that_has_its_slot() {
        let known = VerifiedTokens::new();
        let tokens: Vec<String> = (0..2 * SLOTS).map(|number| format!("token-{number}")).collect();
        tokens.iter().for_each(|token| known.put(token, &user(token), NOW_MS + 1000, 0));
        let found = tokens.iter().filter_map(|token| Some((token, known.get(token, NOW_MS)?)));
        let found: Vec<_> = found.inspect(|(token, of)| assert_eq!(of, &user(token))).collect();
        assert!((SLOTS / 2..=SLOTS).contains(&found.len()), "{}", found.len());
    }
}
