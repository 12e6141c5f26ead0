//! Which regions are up, from the results of probes.
//!
//! Pure: whoever probes says what came of it and when.

use std::time::Instant;

use crate::topology::RegionId;

/// Failed probes in a row that take a region down. One is a lost packet, two a slow moment; three at the
/// prober's pace are under two seconds, which is as long as a caller may be sent to a dead region.
pub const FAILURES_TO_DOWN: u32 = 3;

/// Successful probes in a row that bring a region back. More than to go down: callers who are sent
/// elsewhere lose some milliseconds, callers who are sent back and forth lose their warm caches.
/// A region that has not been up before comes up at its first success: it cannot be flapping, and whoever
/// starts a fleet does not wait longer than it takes.
pub const SUCCESSES_TO_UP: u32 = 10;

/// Failed probes in a row that take one edge of a region out, where it does not refuse connections.
pub const EDGE_FAILURES_TO_OUT: u32 = 3;

/// Successful probes in a row that bring an edge back. Fewer than for a region: its caches are the region's, so
/// that a caller who is sent back and forth between edges loses nothing.
pub const EDGE_SUCCESSES_TO_IN: u32 = 3;

/// What is known of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is known of it yet.
    Unknown,
    /// It answers.
    Up,
    /// It has stopped answering.
    Down,
}

impl State {
    /// Lower-case, for logs and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What came of one probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The region answered that it is ready.
    Ready,
    /// It answered otherwise, or not in time, or not at all.
    Failed,
}

/// A region whose state has just changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Which.
    pub region: RegionId,
    /// From what.
    pub from: State,
    /// To what.
    pub to: State,
}

/// The health of every region of a topology.
#[derive(Clone, Debug)]
pub struct Health {
    regions: Vec<RegionHealth>,
}

#[derive(Clone, Copy, Debug)]
struct RegionHealth {
    id: RegionId,
    state: State,
    changed_at: Instant,
    /// Whether it has been up before.
    seen_up: bool,
    /// Probes in a row that speak against the state.
    against: u32,
}

impl Health {
    /// All of them unknown.
    pub fn unknown(regions: impl IntoIterator<Item = RegionId>, now: Instant) -> Self {
        let unknown = |id| {
            let (state, changed_at) = (State::Unknown, now);
            RegionHealth { id, state, changed_at, seen_up: false, against: 0 }
        };
        Self { regions: regions.into_iter().map(unknown).collect() }
    }

    /// Takes note of one probe; returns the change when it made one. A region which is not of this
    /// topology is ignored.
    pub fn record(&mut self, region: RegionId, probe: Probe, now: Instant) -> Option<Transition> {
        let known = self.regions.iter_mut().find(|known| known.id == region)?;
        let (to, needed) = match (known.state, probe) {
            (State::Unknown | State::Up, Probe::Failed) => (State::Down, FAILURES_TO_DOWN),
            (State::Unknown | State::Down, Probe::Ready) if !known.seen_up => (State::Up, 1),
            (State::Unknown | State::Down, Probe::Ready) => (State::Up, SUCCESSES_TO_UP),
            (State::Up, Probe::Ready) | (State::Down, Probe::Failed) => {
                known.against = 0;
                return None;
            }
        };
        known.against += 1;
        if known.against < needed {
            return None;
        }
        let from = known.state;
        known.state = to;
        known.changed_at = now;
        known.seen_up |= to == State::Up;
        known.against = 0;
        Some(Transition { region, from, to })
    }

    /// The state of a region, [`State::Unknown`] for one which is not of this topology.
    pub fn state(&self, region: RegionId) -> State {
        self.find(region).map_or(State::Unknown, |known| known.state)
    }

    /// Since when a region has had its state.
    pub fn changed_at(&self, region: RegionId) -> Option<Instant> {
        self.find(region).map(|known| known.changed_at)
    }

    /// Whether callers are to be sent there.
    pub fn up(&self, region: RegionId) -> bool {
        self.state(region) == State::Up
    }

    fn find(&self, region: RegionId) -> Option<&RegionHealth> {
        self.regions.iter().find(|known| known.id == region)
    }
}

/// Whether one edge of a region serves: it does until it shows otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    out: bool,
    /// Probes in a row that speak against that.
    against: u32,
}

impl Standing {
    /// Whether requests are to be sent there.
    pub fn serving(&self) -> bool {
        !self.out
    }

    /// Takes note of one probe.
    pub fn record(&mut self, probe: Probe) {
        if self.out != (probe == Probe::Ready) {
            self.against = 0;
            return;
        }
        self.against += 1;
        let needed = if self.out { EDGE_SUCCESSES_TO_IN } else { EDGE_FAILURES_TO_OUT };
        if self.against >= needed {
            *self = Self { out: !self.out, against: 0 };
        }
    }

    /// The edge did not take a connection: nobody else need try.
    pub fn refuse(&mut self) {
        *self = Self { out: true, against: 0 };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn sin() -> RegionId {
        "sin".parse().expect("a region id")
    }

    fn record_all(health: &mut Health, probe: Probe, times: u32, now: Instant) -> Vec<Transition> {
        (0..times).filter_map(|_| health.record(sin(), probe, now)).collect()
    }

    #[test]
    fn first_success_brings_an_unknown_region_up() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        let mut health = Health::unknown([sin()], start);
        assert!(!health.up(sin()));

        let change = health.record(sin(), Probe::Ready, later);
        assert_eq!(change, Some(Transition { region: sin(), from: State::Unknown, to: State::Up }));
        assert!(health.up(sin()));
        assert_eq!(health.changed_at(sin()), Some(later));
    }

    #[test]
    fn three_failures_in_a_row_take_it_down_and_two_do_not() {
        let now = Instant::now();
        let mut health = Health::unknown([sin()], now);
        health.record(sin(), Probe::Ready, now);

        assert!(record_all(&mut health, Probe::Failed, FAILURES_TO_DOWN - 1, now).is_empty());
        health.record(sin(), Probe::Ready, now);
        assert!(record_all(&mut health, Probe::Failed, FAILURES_TO_DOWN - 1, now).is_empty());
        assert!(health.up(sin()));

        let change = health.record(sin(), Probe::Failed, now);
        assert_eq!(change, Some(Transition { region: sin(), from: State::Up, to: State::Down }));
        assert_eq!(health.state(sin()), State::Down);
    }

    #[test]
    fn ten_successes_in_a_row_bring_it_back_and_nine_do_not() {
        let now = Instant::now();
        let mut health = Health::unknown([sin()], now);
        health.record(sin(), Probe::Ready, now);
        record_all(&mut health, Probe::Failed, FAILURES_TO_DOWN, now);
        assert_eq!(health.state(sin()), State::Down);

        assert!(record_all(&mut health, Probe::Ready, SUCCESSES_TO_UP - 1, now).is_empty());
        health.record(sin(), Probe::Failed, now);
        assert!(record_all(&mut health, Probe::Ready, SUCCESSES_TO_UP - 1, now).is_empty());
        assert_eq!(record_all(&mut health, Probe::Ready, 1, now).len(), 1);
        assert!(health.up(sin()));
    }

    #[test]
    fn a_region_that_was_late_to_start_comes_up_at_its_first_success() {
        let now = Instant::now();
        let mut health = Health::unknown([sin()], now);
        assert_eq!(record_all(&mut health, Probe::Failed, 100, now).len(), 1);
        assert_eq!(health.state(sin()), State::Down);
        health.record(sin(), Probe::Ready, now);
        assert!(health.up(sin()));
    }

    #[test]
    fn a_region_of_another_topology_is_ignored() {
        let now = Instant::now();
        let mut health = Health::unknown([sin()], now);
        let nrt = "nrt".parse().expect("a region id");
        assert_eq!(health.record(nrt, Probe::Ready, now), None);
        assert_eq!(health.state(nrt), State::Unknown);
        assert_eq!(health.changed_at(nrt), None);
    }

    #[test]
    fn an_edge_goes_out_by_a_refusal_or_three_failures_and_comes_back_by_three_successes() {
        let mut edge = Standing::default();
        let mut after = |probes: &[Probe]| {
            probes.iter().for_each(|probe| edge.record(*probe));
            edge.serving()
        };
        use Probe::{Failed, Ready};
        assert!(after(&[Failed, Failed, Ready, Failed, Failed]));
        assert!(!after(&[Failed]));
        assert!(!after(&[Ready, Ready, Failed, Ready, Ready]));
        assert!(after(&[Ready]));
        edge.refuse();
        assert!(!edge.serving());
    }

    proptest! {
        /// The state follows from the trailing runs alone, whatever came before.
        #[test]
        fn a_long_enough_run_always_decides(history in prop::collection::vec(any::<bool>(), 0..200)) {
            let now = Instant::now();
            let mut health = Health::unknown([sin()], now);
            for ready in history {
                let before = health.state(sin());
                let probe = if ready { Probe::Ready } else { Probe::Failed };
                let change = health.record(sin(), probe, now);
                prop_assert_eq!(change.is_some(), before != health.state(sin()));
            }
            let mut failing = health.clone();
            record_all(&mut failing, Probe::Failed, FAILURES_TO_DOWN, now);
            prop_assert_eq!(failing.state(sin()), State::Down);
            record_all(&mut health, Probe::Ready, SUCCESSES_TO_UP, now);
            prop_assert_eq!(health.state(sin()), State::Up);
        }
    }
}
