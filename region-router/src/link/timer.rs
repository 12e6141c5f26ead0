//! A timer that is exact to a tenth of a millisecond.
//!
//! The runtime's own counts in whole milliseconds and rounds up, in each direction of a link: a round trip
//! of 5 ms would take almost 8. This one is a thread that sleeps on a condition, which the kernel wakes in
//! time; it serves all links of the process.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

/// Waits until then. Never returns early.
pub(super) async fn sleep_until(due: Instant) {
    if due <= Instant::now() {
        return;
    }
    let (wake, woken) = oneshot::channel();
    TIMER.add(Sleeper { due, wake });
    woken.await.expect("the timer's thread never ends");
}

static TIMER: LazyLock<&'static Timer> = LazyLock::new(|| {
    // It lives as long as the process, and so does its thread.
    let timer: &'static Timer = Box::leak(Box::default());
    std::thread::Builder::new()
        .name("link-timer".to_owned())
        .spawn(|| timer.run())
        .expect("a process that runs links can start one thread");
    timer
});

#[derive(Default)]
struct Timer {
    /// At most two a connection, one in each direction.
    sleepers: Mutex<BinaryHeap<Sleeper>>,
    changed: Condvar,
}

struct Sleeper {
    due: Instant,
    wake: oneshot::Sender<()>,
}

impl Timer {
    fn add(&self, sleeper: Sleeper) {
        let due = sleeper.due;
        let mut sleepers = self.lock();
        let earliest = sleepers.peek().is_none_or(|first| due < first.due);
        sleepers.push(sleeper);
        drop(sleepers);
        if earliest {
            self.changed.notify_one();
        }
    }

    fn run(&self) {
        let mut sleepers = self.lock();
        loop {
            let now = Instant::now();
            sleepers = match sleepers.peek() {
                None => self.changed.wait(sleepers).unwrap_or_else(PoisonError::into_inner),
                Some(first) if first.due > now => {
                    let left = first.due - now;
                    self.changed.wait_timeout(sleepers, left).unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => {
                    let due = sleepers.pop().expect("one was just seen");
                    // A sleeper whose connection has ended meanwhile is gone.
                    let _ = due.wake.send(());
                    sleepers
                }
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, BinaryHeap<Sleeper>> {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The greatest of a heap comes out first: that is the earliest.
impl Ord for Sleeper {
    fn cmp(&self, other: &Self) -> Ordering {
        other.due.cmp(&self.due)
    }
}

impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Sleeper {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Sleeper {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_sleeper_is_the_first_to_wake() {
        let start = Instant::now();
        let sleeper = |ms| Sleeper { due: start + Duration::from_millis(ms), wake: oneshot::channel().0 };
        let mut sleepers: BinaryHeap<Sleeper> = [30, 10, 20, 0].map(sleeper).into();
        let order = std::iter::from_fn(|| sleepers.pop()).map(|sleeper| (sleeper.due - start).as_millis());
        assert_eq!(order.collect::<Vec<_>>(), [0, 10, 20, 30]);
    }

    #[tokio::test]
    async fn nobody_wakes_early() {
        let start = Instant::now();
        let wake = |ms| async move {
            let due = start + Duration::from_millis(ms);
            sleep_until(due).await;
            assert!(Instant::now() >= due);
        };
        tokio::join!(wake(30), wake(10), wake(20), wake(0));
    }

    #[tokio::test]
    async fn a_sleeper_that_gave_up_holds_nobody_up() {
        let far = Instant::now() + Duration::from_secs(3600);
        let near = Instant::now() + Duration::from_millis(5);
        drop(tokio::time::timeout(Duration::from_millis(1), sleep_until(far)).await);
        sleep_until(near).await;
    }
}
