//! Getting a request answered: edge after edge, region after region.
//!
//! An edge that does not take the connection has seen nothing, so the next one is tried at once, and a region
//! whose edges do not is left for the next. An edge that took the request may have acted on it: only what is
//! harmless to repeat is sent once more, as far as the budget goes: to another edge of the region, else to the
//! next region. Nobody has to wait for an edge that has been found dead meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Response, StatusCode};
use hyper::body::Incoming;

use super::answer::Problem;
use super::budget::RetryBudget;
use super::edges::{Edges, Place};
use super::headers::{NOT_SERVING, STARTING};
use super::limits::Limits;
use super::upstream::{NoAnswer, Outgoing, Upstream};
use crate::decision::{Candidate, Reason};
use crate::topology::RegionId;

/// How often a request that an edge has taken is sent again. The first retry helps when something died; one
/// that fails like the first has met something that more of them make worse.
const RETRIES_MAX: u32 = 1;

pub(super) struct Delivery {
    edges: Arc<Edges>,
    upstream: Upstream,
    budget: RetryBudget,
    connect_deadline: Duration,
}

/// What came back, and from where.
pub(super) struct Delivered {
    pub(super) answer: Response<Incoming>,
    pub(super) place: Place,
    pub(super) region: RegionId,
    pub(super) reason: Reason,
}

impl Delivery {
    pub(super) fn new(edges: Arc<Edges>, limits: &Limits) -> Self {
        Self {
            edges,
            upstream: Upstream::new(limits),
            budget: RetryBudget::full(limits.retries_saved_max),
            connect_deadline: limits.connect_deadline,
        }
    }

    /// Tries region after region. When none has an edge that serves, those that do not are better than nothing.
    pub(super) async fn deliver(
        &self,
        candidates: &[Candidate],
        outgoing: &Outgoing,
    ) -> Result<Delivered, Problem> {
        self.budget.deposit();
        let none_serves = !candidates.iter().any(|candidate| self.edges.serves(candidate.region));
        let mut sent = 0;
        for (n, &Candidate { region, reason, .. }) in candidates.iter().enumerate() {
            if let Some((answer, place)) = self.ask(region, none_serves, outgoing, &mut sent).await? {
                // Whoever comes after another was not the choice, but the way out.
                let reason = if n == 0 { reason } else { Reason::Failover };
                return Ok(Delivered { answer, place, region, reason });
            }
        }
        Err(if sent > 0 { Problem::NoAnswer } else { Problem::NoRegion })
    }

    /// Tries edge after edge of a region, as long as one connection may take; nothing when none answered and
    /// another region may be asked.
    async fn ask(
        &self,
        region: RegionId,
        last_resort: bool,
        outgoing: &Outgoing,
        sent: &mut u32,
    ) -> Result<Option<(Response<Incoming>, Place)>, Problem> {
        let begin = Instant::now();
        let mut tried = Vec::new();
        // What was sent once is sent to another edge, however long it took to see that the first is dead.
        while begin.elapsed() < self.connect_deadline || *sent > 0 {
            let Some(place) = self.edges.place(region, &tried, last_resort) else { break };
            tried.push(place.address());
            let repeatable = outgoing.repeatable() && *sent < RETRIES_MAX;
            let (failure, paid) = match self.ask_edge(&place, outgoing, repeatable).await {
                // It has not begun yet, so it has done nothing.
                Ok(answer) if has_not_begun(&answer) && self.edges.place(region, &tried, false).is_some() => {
                    place.sent_elsewhere();
                    continue;
                }
                Ok(answer) => return Ok(Some((answer, place))),
                Err(failure) => failure,
            };
            tracing::debug!(
                region.id = %region, edge.address = %place.address(), error = ?failure, "edge did not answer"
            );
            if let Some(NoAnswer::NotConnected) = failure {
                place.refused();
                continue;
            }
            // A request that takes long says nothing about the edge: home may be slow. Probes find a silent edge.
            if !matches!(failure, Some(NoAnswer::Late)) {
                place.failed();
            }
            *sent += 1;
            if !repeatable || !(paid || self.budget.withdraw()) {
                return Err(Problem::NoAnswer);
            }
        }
        Ok(None)
    }

    /// Fails with nothing when the edge was taken out while a `repeatable` request waited for it; then the
    /// retry is paid for. Without a budget for one, the wait goes on.
    async fn ask_edge(
        &self,
        place: &Place,
        outgoing: &Outgoing,
        repeatable: bool,
    ) -> Result<Response<Incoming>, (Option<NoAnswer>, bool)> {
        let failed = |failure| (Some(failure), false);
        let mut answer = std::pin::pin!(self.upstream.send(place, outgoing));
        if repeatable && place.serves() {
            tokio::select! {
                answer = &mut answer => return answer.map_err(failed),
                () = place.taken_out() => {}
            }
            if self.budget.withdraw() {
                return Err((None, true));
            }
        }
        answer.await.map_err(failed)
    }
}

fn has_not_begun(answer: &Response<Incoming>) -> bool {
    answer.status() == StatusCode::SERVICE_UNAVAILABLE
        && answer.headers().get(NOT_SERVING).is_some_and(|why| why == STARTING)
}
