//! A circuit breaker: a server that has failed a few times in a row is left alone until it answers again.
//!
//! No caller probes the server for others: the owner of the breaker asks the server in the background,
//! and [recovers](Breaker::recover) it. So an outage costs a deadline a few times, and not with every request.

/// Lets calls through to a server, or not.
#[derive(Debug)]
pub struct Breaker {
    failures_max: u32,
    state: State,
    /// Counts changes of state, so that late news of an earlier one changes nothing.
    round: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    Open,
}

/// Leave to make one call. How it went is reported with it.
#[derive(Clone, Copy, Debug)]
pub struct Permit {
    round: u64,
}

impl Breaker {
    /// A closed breaker. It opens after `failures_max` failures in a row.
    pub const fn new(failures_max: u32) -> Self {
        Self { failures_max, state: State::Closed { failures: 0 }, round: 0 }
    }

    /// Leave to make a call, if one may be made now.
    pub fn enter(&self) -> Option<Permit> {
        matches!(self.state, State::Closed { .. }).then_some(Permit { round: self.round })
    }

    /// A call was answered.
    pub fn succeeded(&mut self, permit: Permit) {
        if let State::Closed { failures } = &mut self.state
            && permit.round == self.round
        {
            *failures = 0;
        }
    }

    /// A call was not answered. Returns whether calls fail at once from now on, where they did not before.
    pub fn failed(&mut self, permit: Permit) -> bool {
        let State::Closed { failures } = &mut self.state else { return false };
        if permit.round != self.round {
            return false;
        }
        *failures += 1;
        let opens = *failures >= self.failures_max;
        if opens {
            self.become_state(State::Open);
        }
        opens
    }

    /// The server was asked in the background, and has answered.
    pub fn recover(&mut self) {
        self.become_state(State::Closed { failures: 0 });
    }

    fn become_state(&mut self, state: State) {
        self.state = state;
        self.round += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &mut Breaker) -> bool {
        let permit = breaker.enter().expect("a call may be made");
        breaker.failed(permit)
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let mut breaker = Breaker::new(3);
        for _ in 0..10 {
            assert_eq!([fail(&mut breaker), fail(&mut breaker)], [false, false]);
            let permit = breaker.enter().expect("closed");
            breaker.succeeded(permit);
        }
        assert_eq!([fail(&mut breaker), fail(&mut breaker), fail(&mut breaker)], [false, false, true]);
    }

    #[test]
    fn no_caller_is_let_through_until_it_has_recovered() {
        let mut breaker = Breaker::new(1);
        assert!(fail(&mut breaker));
        for _ in 0..1000 {
            assert!(breaker.enter().is_none());
        }
        breaker.recover();
        assert!(breaker.enter().is_some() && breaker.enter().is_some());
    }

    #[test]
    fn late_news_change_nothing() {
        let mut breaker = Breaker::new(3);
        let early: Vec<Permit> = (0..10).filter_map(|_| breaker.enter()).collect();
        let opened: Vec<bool> = early[..5].iter().map(|permit| breaker.failed(*permit)).collect();
        assert_eq!(opened, [false, false, true, false, false]);
        // An answer from before it opened does not close it, nor does a failure of then open it again.
        breaker.succeeded(early[5]);
        assert!(breaker.enter().is_none());
        breaker.recover();
        assert_eq!([6, 7, 8].map(|n| breaker.failed(early[n])), [false, false, false]);
        assert!(breaker.enter().is_some());
    }
}
