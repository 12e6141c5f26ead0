use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;

use super::{LoadError, Revision, Rules};

/// What this region runs. Swapping it never waits for a call, and no call waits for it: those that have begun
/// end on the rules they began with.
pub struct RulesHandle {
    active: ArcSwapOption<Rules>,
    activated_at_ms: AtomicI64,
    /// Also the lock that puts changes in order; a call of the rules never takes it.
    past: Mutex<Past>,
}

#[derive(Default)]
struct Past {
    previous: Option<Arc<Rules>>,
    last_refused: Option<Refusal>,
}

/// What a region says of its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesStatus {
    /// What it runs.
    pub active: Option<RunningRules>,
    /// Since when, in Unix milliseconds.
    pub activated_at_ms: Option<i64>,
    /// What a rollback goes back to, kept warm.
    pub previous: Option<RunningRules>,
    /// The last component that was not taken.
    pub last_refused: Option<Refusal>,
}

/// Who some loaded rules are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningRules {
    /// Their name by content.
    pub revision: Revision,
    /// Their author's name for them.
    pub name: String,
    /// Their author's version.
    pub version: String,
    /// One sentence.
    pub description: String,
}

/// A component that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When, in Unix milliseconds.
    pub at_ms: i64,
    /// Of which component, where its bytes were there.
    pub revision: Option<Revision>,
    /// Stable, lower snake case.
    pub code: &'static str,
    /// What was wrong, and what to do.
    pub reason: String,
}

impl RulesHandle {
    /// A region that has no rules yet.
    pub fn empty() -> Self {
        Self { active: ArcSwapOption::empty(), activated_at_ms: AtomicI64::new(0), past: Mutex::default() }
    }

    /// The rules to call now. For one request: take them again for the next one.
    pub fn current(&self) -> Option<Arc<Rules>> {
        self.active.load_full()
    }

    /// Since when they run, in Unix milliseconds; 0 before there are any.
    pub fn activated_at_ms(&self) -> i64 {
        self.activated_at_ms.load(Ordering::Acquire)
    }

    /// What a rollback would go back to.
    pub fn previous(&self) -> Option<Arc<Rules>> {
        self.past().previous.clone()
    }

    /// Runs `rules` from now on, and keeps those before warm. Returns false, and changes nothing, when they
    /// run already: a repeated activation must not push out what a rollback goes back to.
    pub fn activate(&self, rules: impl Into<Arc<Rules>>, now_ms: i64) -> bool {
        let rules = rules.into();
        let mut past = self.past();
        if self.active.load().as_ref().is_some_and(|active| active.revision() == rules.revision()) {
            return false;
        }
        past.previous = self.active.swap(Some(rules)).or(past.previous.take());
        self.activated_at_ms.store(now_ms, Ordering::Release);
        true
    }

    /// Remembers what was not taken, for [`status`](Self::status).
    pub fn record_refusal(&self, refusal: Refusal) {
        self.past().last_refused = Some(refusal);
    }

    /// What there is to say.
    pub fn status(&self) -> RulesStatus {
        let past = self.past();
        RulesStatus {
            active: self.active.load().as_deref().map(RunningRules::of),
            activated_at_ms: Some(self.activated_at_ms()).filter(|at_ms| *at_ms > 0),
            previous: past.previous.as_deref().map(RunningRules::of),
            last_refused: past.last_refused.clone(),
        }
    }

    fn past(&self) -> std::sync::MutexGuard<'_, Past> {
        // Nothing under the lock can panic half way, so a poisoned lock still holds a whole state.
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refusal {
    /// A component that [`RulesEngine::load`](super::RulesEngine::load) refused.
    pub fn new(at_ms: i64, component: &[u8], error: &LoadError) -> Self {
        Self { at_ms, revision: Some(Revision::of(component)), code: error.code(), reason: error.explain() }
    }
}

impl RunningRules {
    fn of(rules: &Rules) -> Self {
        let manifest = rules.manifest();
        Self {
            revision: *rules.revision(),
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            description: manifest.description.clone(),
        }
    }
}
