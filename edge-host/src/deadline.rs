//! How long a caller still waits. Known to everything that is done for a request, and passed on with a forward, so
//! that nobody works for somebody who has gone.

use std::future::ready;
use std::time::{Duration, Instant};

use futures_util::{FutureExt, TryFutureExt};
use region_router::traces;
use tracing::Instrument;

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

/// Runs a task that continues when its caller is gone. It knows the deadline of its caller, and is not cut
/// off by it; it is part of its caller's trace.
pub async fn detached<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let deadline = DEADLINE.try_with(|deadline| *deadline).ok();
    let work = async move {
        match deadline {
            Some(deadline) => DEADLINE.scope(deadline, work).await,
            None => work.await,
        }
    };
    match tokio::spawn(traces::at(traces::current(), work.in_current_span())).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and all of its tasks with it.
            Err(_) => std::future::pending().await,
        },
    }
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
    async fn detached_work_goes_on_without_its_caller() {
        let (done, mut seen) = tokio::sync::mpsc::channel(1);
        let work = detached(async move {
            tokio::task::yield_now().await;
            done.send(remaining()).await
        });
        // Asked once, and dropped.
        assert!(
            within(Duration::from_secs(60), async { work.now_or_never() })
                .await
                .is_ok_and(|now| now.is_none())
        );
        let known = seen.recv().await.expect("it was done");
        assert!(known.is_some(), "it knows its caller's deadline");
    }

    #[tokio::test]
    async fn work_for_nobody_does_not_begin() {
        let mut begun = false;
        let work = async { begun = true };
        assert_eq!(within(Duration::ZERO, work).await, Err(Passed));
        assert!(!begun);
    }
}
