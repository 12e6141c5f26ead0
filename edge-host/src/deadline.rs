//! How long a caller still waits. Known to everything that is done for a request, and passed on with a forward, so
//! that nobody works for somebody who has gone.

use std::future::ready;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, TryFutureExt};

tokio::task_local! {
    static DEADLINE: Instant;
}

/// The caller has stopped to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed;

/// Does something for a caller who waits so long; what is not done by then is dropped.
pub fn within<F: Future>(patience: Duration, work: F) -> impl Future<Output = Result<F::Output, Passed>> {
    // A timer is asked only after the work has begun.
    if patience.is_zero() {
        return ready(Err(Passed)).right_future();
    }
    let deadline = Instant::now() + patience;
    let within = tokio::time::timeout_at(deadline.into(), DEADLINE.scope(deadline, work));
    within.map_err(|_| Passed).left_future()
}

/// How long the caller of what this task does still waits; `None` outside of any request.
pub fn remaining() -> Option<Duration> {
    DEADLINE.try_with(|deadline| deadline.saturating_duration_since(Instant::now())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_knows_its_deadline_and_ends_by_it() {
        assert_eq!(remaining(), None);
        let patience = Duration::from_secs(60);
        let known = within(patience, async { remaining() }).await.expect("it is done in time");
        assert!(known.is_some_and(|known| known <= patience && known > patience / 2), "{known:?}");
        let soon = Duration::from_millis(1);
        assert_eq!(within(soon, std::future::pending::<()>()).await, Err(Passed));
    }

    #[tokio::test]
    async fn work_for_nobody_does_not_begin() {
        let mut begun = false;
        let work = async { begun = true };
        assert_eq!(within(Duration::ZERO, work).await, Err(Passed));
        assert!(!begun);
    }
}
