use std::panic::Location;
use std::time::{Duration, Instant};

/// How long a test waits for what must come. Far above what it takes, because the machine may be busy: a test
/// that fails by this has found something that does not come at all.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until a condition holds; fails the test, saying what it waited for, when it never does.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) -> impl Future<Output = ()> {
    let caller = Location::caller();
    async move {
        let deadline = Instant::now() + PATIENCE;
        while !condition().await {
            assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain at {caller}: {what}");
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
