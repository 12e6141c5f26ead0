//! The time, and where it comes from.
//!
//! What goes into data or is decided by it (expiry, kept answers, payment, coupons, what is swept) is by the clock of
//! the database, the same for all edges. This host's own clock may be wrong by a month; then the edge says so, is not
//! ready, and sweeps nothing.
//!
//! The database is not asked for each request. At home, its time comes with every look at its heartbeat; elsewhere, it
//! comes with every answer of home. In between, the host's monotonic clock counts on: it does not jump.
//!
//! An SQLite file belongs to one process, whose host's clock is the database's.
//! Tokens are checked by the host's clock, as those who issue them set `exp` by theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tracing::{error, info};

use crate::model::Millis;

/// A host whose clock differs more from the database's is wrong: clocks that are kept by NTP differ by milliseconds, and
/// a busy machine answers late by less.
const SKEW_MAX_MS: Millis = 5000;
/// The host's clock is compared this often.
const COMPARE_PERIOD: Duration = Duration::from_secs(1);
/// Of a database that has not been heard of.
const UNKNOWN: i64 = i64::MIN;

/// The clocks of an edge: its host's, and the database's as it was last heard. Clones share it.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Clocks>);

#[derive(Debug)]
struct Clocks {
    /// The time of the host, and how far it is moved.
    shift_ms: Millis,
    /// Whether the database has a clock of its own.
    database: bool,
    began: Instant,
    /// The time of the database when this began; [`UNKNOWN`] before it was heard.
    database_at_begin_ms: AtomicI64,
    was_wrong: AtomicBool,
}

impl Clock {
    /// Of an edge whose database is in this process.
    pub fn of_host(shift_ms: Millis) -> Self {
        Self::new(shift_ms, false)
    }

    /// Of an edge whose database has a clock of its own. `shift_ms` moves the host's clock, for tests.
    pub fn of_database(shift_ms: Millis) -> Self {
        Self::new(shift_ms, true)
    }

    fn new(shift_ms: Millis, database: bool) -> Self {
        Self(Arc::new(Clocks {
            shift_ms,
            database,
            began: Instant::now(),
            database_at_begin_ms: AtomicI64::new(UNKNOWN),
            was_wrong: AtomicBool::new(false),
        }))
    }

    /// The time of the database in Unix milliseconds; before it was heard, the host's.
    pub fn now_ms(&self) -> Millis {
        match self.0.database_at_begin_ms.load(Ordering::Acquire) {
            UNKNOWN => self.host_ms(),
            at_begin => at_begin + self.since_begin_ms(Instant::now()),
        }
    }

    /// The time of this host in Unix milliseconds.
    pub fn host_ms(&self) -> Millis {
        host_ms() + self.0.shift_ms
    }

    /// Whether the time of the database is known.
    pub fn is_known(&self) -> bool {
        !self.0.database || self.0.database_at_begin_ms.load(Ordering::Acquire) != UNKNOWN
    }

    /// The database has just answered that this is its time, to a question that was asked then.
    pub fn heard(&self, database_ms: Millis, asked: Instant) {
        let least = database_ms - self.since_begin_ms(Instant::now());
        // Both are cut to whole milliseconds.
        let most = database_ms - self.since_begin_ms(asked) + 1;
        let known = self.0.database_at_begin_ms.load(Ordering::Acquire);
        let at_begin =
            if known == UNKNOWN { least.midpoint(most) } else { known.clamp(least, most.max(least)) };
        self.0.database_at_begin_ms.store(at_begin, Ordering::Release);
    }

    /// How far this host's clock is ahead of the database's; `None` where that is not known.
    pub fn skew_ms(&self) -> Option<Millis> {
        let known = self.0.database_at_begin_ms.load(Ordering::Acquire) != UNKNOWN;
        known.then(|| self.host_ms() - self.now_ms())
    }

    /// What is wrong with this host's clock.
    pub fn trouble(&self) -> Option<String> {
        let skew_ms = self.skew_ms().filter(|skew_ms| skew_ms.abs() > SKEW_MAX_MS)?;
        let side = if skew_ms > 0 { "ahead of" } else { "behind" };
        Some(format!("the clock of this host is {} s {side} the database's", skew_ms.abs() / 1000))
    }

    /// Says in the log when this host's clock goes wrong and when it is right again; for ever.
    pub async fn watch(&self) {
        loop {
            let trouble = self.trouble();
            let was_wrong = self.0.was_wrong.swap(trouble.is_some(), Ordering::AcqRel);
            match (was_wrong, trouble) {
                (false, Some(trouble)) => error!(error = trouble, "wrong clock: this edge sweeps nothing"),
                (true, None) => info!("the clock of this host is right again"),
                _ => {}
            }
            tokio::time::sleep(COMPARE_PERIOD).await;
        }
    }

    fn since_begin_ms(&self, at: Instant) -> Millis {
        Millis::try_from(at.saturating_duration_since(self.0.began).as_millis()).unwrap_or(Millis::MAX)
    }
}

/// The time of this host in Unix milliseconds, for tokens.
pub fn host_ms() -> Millis {
    jiff::Timestamp::now().as_millisecond()
}

/// Less than `whole_ms`, as good as by chance and always the same for a name, so that it needs no randomness.
pub fn share_of(name: &str, whole_ms: Millis) -> Millis {
    let hash = name.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    Millis::from(hash).rem_euclid(whole_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: Millis = 3600 * 1000;

    #[test]
    fn the_time_is_the_databases_once_that_is_heard() {
        let clock = Clock::of_database(HOUR_MS);
        assert!(!clock.is_known() && clock.skew_ms().is_none() && clock.trouble().is_none());
        let database_ms = clock.host_ms() - HOUR_MS;
        clock.heard(database_ms, Instant::now());
        assert!(clock.is_known());
        // Reading the clocks takes a moment.
        assert!((0..1000).contains(&(clock.now_ms() - database_ms)));
        assert!((HOUR_MS - 1000..=HOUR_MS + 1000).contains(&clock.skew_ms().expect("it is known")));
        assert!(clock.trouble().is_some_and(|trouble| trouble.contains("ahead of the database's")));
    }

    #[test]
    fn an_answer_that_took_long_moves_nothing_that_it_agrees_with() {
        let clock = Clock::of_database(0);
        let host_ms = clock.host_ms();
        clock.heard(host_ms, Instant::now());
        let known = clock.0.database_at_begin_ms.load(Ordering::Acquire);
        let Some(long_ago) = Instant::now().checked_sub(Duration::from_secs(10)) else { return };
        clock.heard(clock.now_ms(), long_ago);
        assert_eq!(clock.0.database_at_begin_ms.load(Ordering::Acquire), known);
        // One that cannot be, does.
        clock.heard(host_ms + HOUR_MS, Instant::now());
        assert!(clock.0.database_at_begin_ms.load(Ordering::Acquire) - known > HOUR_MS - 1000);
    }

    #[test]
    fn a_database_in_this_process_has_the_hosts_clock() {
        let clock = Clock::of_host(-HOUR_MS);
        assert!(clock.is_known() && clock.trouble().is_none());
        assert!((clock.now_ms() - clock.host_ms()).abs() < 1000);
    }
}
