use std::panic::Location;
use std::time::{Duration, Instant};

/// How long a test waits for what must come. Far above what it takes, because the machine may be busy: a test
/// that fails by this has found something that does not come at all.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// So often is looked while there is patience: every 10 ms, mostly.
const LOOKS: u32 = 3000;

/// Waits until a condition holds; fails the test, saying what it waited for, when it never does.
#[track_caller]
pub fn eventually(what: &str, condition: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    eventually_within(PATIENCE, what, condition)
}

/// The same for what takes longer than others by design.
#[track_caller]
pub fn eventually_within(
    patience: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> bool,
) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let deadline = Instant::now() + patience;
        while !condition().await {
            assert!(Instant::now() < deadline, "waited {patience:?} in vain at {caller}: {what}");
            tokio::time::sleep(patience / LOOKS).await;
        }
    }
}
