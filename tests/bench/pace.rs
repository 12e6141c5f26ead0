//! How evenly the machine runs, before anything else does. A virtual one shares its processors, and may run at a part
//! of its speed for a moment without saying so: then everybody answers late, and the highest latencies are its own.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Long enough to see what happens once in a second or two.
const TIME: Duration = Duration::from_secs(5);
/// About as long as a latency that matters.
const WINDOW: Duration = Duration::from_millis(20);
/// A processor is slow while it does less than this part of what it does usually.
const SLOW: f64 = 0.7;
/// What is done again and again: a few microseconds of work.
const BYTES: [u8; 4096] = [1; 4096];

/// What was seen of all processors, busy at the same time.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Pace {
    /// Processors.
    pub(crate) processors: usize,
    /// The part of the time that they were slow.
    pub(crate) slow_share: f64,
    /// The slowest that one was, as a part of its usual speed, for the length of a window.
    pub(crate) slowest: f64,
}

impl Pace {
    /// Keeps all processors busy for a while.
    pub(crate) fn look() -> std::io::Result<Self> {
        let processors = thread::available_parallelism()?.get();
        let speeds: Vec<f64> = thread::scope(|scope| {
            let workers: Vec<_> = (0..processors).map(|_| scope.spawn(speeds)).collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("it only reckons")).collect()
        });
        #[expect(clippy::cast_precision_loss, reason = "some hundred windows")]
        let slow_share = speeds.iter().filter(|speed| **speed < SLOW).count() as f64 / speeds.len() as f64;
        Ok(Self { processors, slow_share, slowest: speeds.into_iter().fold(1.0, f64::min) })
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processors, slow_share, slowest } = self;
        write!(
            f,
            "{processors} processors, {:.1} % of the time below {SLOW} of their usual speed, {slowest:.2} of it at worst",
            slow_share * 100.0
        )
    }
}

/// What one processor does in each window, as a part of what it does usually.
fn speeds() -> Vec<f64> {
    let windows = usize::try_from(TIME.as_millis() / WINDOW.as_millis()).expect("a few hundred");
    let mut done = vec![0_u32; windows];
    let begin = Instant::now();
    loop {
        let mut hasher = DefaultHasher::new();
        hasher.write(black_box(&BYTES));
        black_box(hasher.finish());
        let window = usize::try_from(begin.elapsed().as_millis() / WINDOW.as_millis()).unwrap_or(windows);
        match done.get_mut(window) {
            Some(count) => *count += 1,
            None => break,
        }
    }
    let mut sorted = done.clone();
    sorted.sort_unstable();
    let usual = f64::from(sorted[windows / 2]).max(1.0);
    done.into_iter().map(|count| f64::from(count) / usual).collect()
}
