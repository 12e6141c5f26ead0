//! A circuit breaker: who has failed a few times in a row is left alone for a moment, and then asked by one at a
//! time until they answer. So an outage costs a deadline a few times, and not with every request.
//!
//! It is told the time and does nothing by itself, so it can be tested without waiting.

use std::time::{Duration, Instant};

/// When to stop asking, and when to try again.
#[derive(Clone, Copy, Debug)]
pub struct BreakerOptions {
    /// So many failures in a row open it.
    pub failures_max: u32,
    /// After opening, and after a probe that failed, nobody is let through for so long.
    pub pause: Duration,
    /// A probe that has not reported within this time was given up; the next one may go.
    pub probe_max: Duration,
}

/// Lets calls through to somebody, or not.
#[derive(Debug)]
pub struct Breaker {
    options: BreakerOptions,
    state: State,
    /// Counts changes of state, so that late news of an earlier one changes nothing.
    round: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    Open { since: Instant },
    HalfOpen { probe_since: Instant },
}

/// Leave to make one call. How it went is reported with it.
#[derive(Clone, Copy, Debug)]
pub struct Permit {
    round: u64,
}

/// What a report has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// From now on calls fail at once.
    Opened,
    /// Calls go through again.
    Closed,
}

impl Breaker {
    /// Everybody may call.
    pub const fn new(options: BreakerOptions) -> Self {
        Self { options, state: State::Closed { failures: 0 }, round: 0 }
    }

    /// Leave to make a call, if one may be made now.
    pub fn enter(&mut self, now: Instant) -> Option<Permit> {
        let probes = match self.state {
            State::Closed { .. } => return Some(Permit { round: self.round }),
            State::Open { since } => now.saturating_duration_since(since) >= self.options.pause,
            State::HalfOpen { probe_since } => {
                now.saturating_duration_since(probe_since) >= self.options.probe_max
            }
        };
        probes.then(|| {
            self.become_state(State::HalfOpen { probe_since: now });
            Permit { round: self.round }
        })
    }

    /// A call was answered.
    pub fn succeeded(&mut self, permit: Permit) -> Option<Change> {
        if permit.round != self.round {
            return None;
        }
        match &mut self.state {
            State::Closed { failures } => {
                *failures = 0;
                None
            }
            State::Open { .. } | State::HalfOpen { .. } => {
                self.become_state(State::Closed { failures: 0 });
                Some(Change::Closed)
            }
        }
    }

    /// A call was not answered.
    pub fn failed(&mut self, permit: Permit, now: Instant) -> Option<Change> {
        if permit.round != self.round {
            return None;
        }
        match &mut self.state {
            State::Closed { failures } => {
                *failures += 1;
                if *failures < self.options.failures_max {
                    return None;
                }
                self.become_state(State::Open { since: now });
                Some(Change::Opened)
            }
            State::Open { .. } | State::HalfOpen { .. } => {
                self.become_state(State::Open { since: now });
                None
            }
        }
    }

    fn become_state(&mut self, state: State) {
        self.state = state;
        self.round += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_millis(200);
    const PROBE_MAX: Duration = Duration::from_millis(700);

    fn breaker() -> (Breaker, Instant) {
        let options = BreakerOptions { failures_max: 3, pause: PAUSE, probe_max: PROBE_MAX };
        (Breaker::new(options), Instant::now())
    }

    fn fail(breaker: &mut Breaker, now: Instant) -> Option<Change> {
        let permit = breaker.enter(now).expect("a call may be made");
        breaker.failed(permit, now)
    }

    fn opened() -> (Breaker, Instant) {
        let (mut breaker, now) = breaker();
        assert_eq!([fail(&mut breaker, now), fail(&mut breaker, now)], [None, None]);
        assert_eq!(fail(&mut breaker, now), Some(Change::Opened));
        (breaker, now)
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let (mut breaker, now) = breaker();
        for _ in 0..10 {
            assert_eq!([fail(&mut breaker, now), fail(&mut breaker, now)], [None, None]);
            let permit = breaker.enter(now).expect("closed");
            assert_eq!(breaker.succeeded(permit), None);
        }
    }

    #[test]
    fn one_probe_at_a_time_closes_it() {
        let (mut breaker, now) = opened();
        assert!(breaker.enter(now + PAUSE - Duration::from_millis(1)).is_none());
        let probe = breaker.enter(now + PAUSE).expect("a probe");
        assert!(breaker.enter(now + PAUSE).is_none(), "one at a time");
        assert_eq!(breaker.succeeded(probe), Some(Change::Closed));
        assert!(breaker.enter(now + PAUSE).is_some() && breaker.enter(now + PAUSE).is_some());
        assert_eq!(fail(&mut breaker, now + PAUSE), None, "it counts from the beginning");
    }

    #[test]
    fn a_probe_that_fails_leaves_it_open() {
        let (mut breaker, now) = opened();
        let later = now + PAUSE;
        assert_eq!(fail(&mut breaker, later), None);
        assert!(breaker.enter(later + PAUSE / 2).is_none());
        assert!(breaker.enter(later + PAUSE).is_some());
    }

    #[test]
    fn a_probe_that_never_reports_is_followed_by_another() {
        let (mut breaker, now) = opened();
        let lost = breaker.enter(now + PAUSE).expect("a probe");
        assert!(breaker.enter(now + PAUSE + PROBE_MAX / 2).is_none());
        let next = breaker.enter(now + PAUSE + PROBE_MAX).expect("another probe");
        assert_eq!(breaker.failed(lost, now + PAUSE + PROBE_MAX), None);
        assert_eq!(breaker.succeeded(next), Some(Change::Closed));
    }

    #[test]
    fn late_news_change_nothing() {
        let (mut breaker, now) = breaker();
        let early: Vec<Permit> = (0..10).filter_map(|_| breaker.enter(now)).collect();
        let changes: Vec<Option<Change>> =
            early[..5].iter().map(|permit| breaker.failed(*permit, now)).collect();
        assert_eq!(changes, [None, None, Some(Change::Opened), None, None]);
        // An answer from before it opened does not close it, nor does a failure make the pause longer.
        assert_eq!(breaker.succeeded(early[5]), None);
        assert_eq!(breaker.failed(early[6], now + PAUSE / 2), None);
        let probe = breaker.enter(now + PAUSE).expect("a probe");
        assert_eq!(breaker.failed(early[7], now + PAUSE), None);
        assert_eq!(breaker.succeeded(probe), Some(Change::Closed));
        assert_eq!(breaker.failed(early[8], now + PAUSE), None);
    }
}
