//! Two ways to put load on something.
//!
//! *Closed*: every caller asks again as soon as it was answered. That finds out how much there can be in a second,
//! and says nothing about how long anybody waits: a server that stalls is simply asked less often meanwhile
//! (coordinated omission). *Open*: requests begin by a timetable that does not care how long answers take, and the
//! time of each is counted from when it should have begun. Latencies come from there alone.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use hdrhistogram::Histogram;
use tokio::sync::Semaphore;
use tokio::task::unconstrained;

/// The timetable is looked at this often.
const TICK: Duration = Duration::from_micros(200);
/// Whoever has not begun so long after the timetable's end never will: the server does not keep up at all.
const OVERTIME: Duration = Duration::from_secs(5);
/// Longer than any request may take.
const LATENCY_MAX: Duration = Duration::from_secs(60);
/// Significant figures of a latency.
const FIGURES: u8 = 3;

/// Somebody who asks for one thing at a time.
pub(crate) trait Caller {
    /// Asks once.
    async fn call(&mut self) -> Result<Kind, Failure>;
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To see something.
    Read,
    /// To change something.
    Write,
}

/// Why an answer does not count.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Not what was asked for.
    #[error("status {0}")]
    Status(u16),
    /// An answer older than what its caller had seen before.
    #[error("an older version than was seen before")]
    WentBack,
    /// No answer.
    #[error("no answer ({0})")]
    Broken(io::ErrorKind),
    /// The database said no.
    #[error("no commit")]
    NotCommitted(#[from] sqlx::Error),
    /// Never begun.
    #[error("not begun in time")]
    NotBegun,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.kind())
    }
}

/// What came of it.
pub(crate) struct Outcome {
    /// Answers that count, by latency in nanoseconds.
    pub(crate) reads: Histogram<u64>,
    /// The same for writes.
    pub(crate) writes: Histogram<u64>,
    /// Answers that do not count, by why.
    pub(crate) failures: BTreeMap<String, u64>,
    /// From the first request to the last answer.
    pub(crate) took: Duration,
}

impl Outcome {
    fn new() -> Self {
        let empty = || {
            let longest =
                u64::try_from(LATENCY_MAX.as_nanos()).expect("a minute has fewer than 2^64 nanoseconds");
            Histogram::new_with_bounds(1, longest, FIGURES).expect("the bounds are in order")
        };
        Self { reads: empty(), writes: empty(), failures: BTreeMap::new(), took: Duration::ZERO }
    }

    fn note(&mut self, result: Result<Kind, Failure>, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        match result {
            Ok(Kind::Read) => self.reads.saturating_record(nanoseconds),
            Ok(Kind::Write) => self.writes.saturating_record(nanoseconds),
            Err(failure) => *self.failures.entry(failure.to_string()).or_default() += 1,
        }
    }

    /// Answers that count.
    pub(crate) fn answers(&self) -> u64 {
        self.reads.len() + self.writes.len()
    }

    /// Answers that count in a second.
    pub(crate) fn per_s(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let answers = self.answers() as f64;
        answers / self.took.as_secs_f64()
    }

    /// Answers that do not count.
    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

/// Closed: all callers ask, again and again, for so long.
pub(crate) async fn closed<C: Caller>(callers: &mut [C], time: Duration) -> Outcome {
    let outcome = RefCell::new(Outcome::new());
    let start = Instant::now();
    let asking = callers.iter_mut().map(async |caller| {
        let mut begun = Instant::now();
        while begun.duration_since(start) < time {
            let result = caller.call().await;
            let now = Instant::now();
            outcome.borrow_mut().note(result, now - begun);
            begun = now;
        }
    });
    unconstrained(join_all(asking)).await;
    finished(outcome, start)
}

/// Open: so many requests a second for so long, by whichever caller is free.
pub(crate) async fn open<C: Caller>(callers: &mut [C], per_s: u32, time: Duration) -> Outcome {
    let outcome = RefCell::new(Outcome::new());
    let gap = Duration::from_secs(1) / per_s;
    let all = u32::try_from(time.as_nanos() / gap.as_nanos()).expect("a run has fewer than 2^32 requests");
    let (due, next) = (Arc::new(Semaphore::new(0)), Cell::new(0_u32));
    let start = Instant::now();
    let timetable = Timetable { start, gap, all, askers: callers.len(), due: Arc::clone(&due) };
    let timekeeper = thread::spawn(move || timetable.keep());
    let asking = callers.iter_mut().map(async |caller| {
        loop {
            due.acquire().await.expect("nobody closes the timetable").forget();
            let number = next.get();
            if number == all {
                return;
            }
            next.set(number + 1);
            let should_begin = start + gap * number;
            let too_late = start.elapsed() > time + OVERTIME;
            let result = if too_late { Err(Failure::NotBegun) } else { caller.call().await };
            outcome.borrow_mut().note(result, should_begin.elapsed());
        }
    });
    unconstrained(join_all(asking)).await;
    timekeeper.join().expect("keeping time does not panic");
    finished(outcome, start)
}

/// When each request should begin.
struct Timetable {
    start: Instant,
    gap: Duration,
    all: u32,
    askers: usize,
    due: Arc<Semaphore>,
}

impl Timetable {
    /// Lets requests begin when it is time, on a thread of its own: tokio's timers, at 1 ms, would add half of that
    /// to every latency.
    fn keep(self) {
        let mut begun = 0;
        while begun < self.all {
            thread::sleep(TICK);
            let passed = self.start.elapsed().as_nanos() / self.gap.as_nanos();
            let until = u32::try_from(passed).unwrap_or(u32::MAX).saturating_add(1).min(self.all);
            self.due.add_permits((until - begun) as usize);
            begun = until;
        }
        // One more for each asker, by which it sees that it is over.
        self.due.add_permits(self.askers);
    }
}

fn finished(outcome: RefCell<Outcome>, start: Instant) -> Outcome {
    Outcome { took: start.elapsed(), ..outcome.into_inner() }
}
