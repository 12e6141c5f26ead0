//! Regions with two edges: who gets a request, and what happens when one dies.

use std::time::{Duration, Instant};

use http::Method;

use super::fleet::{Answer, Fleet, Options, within};
use super::{assert_problem, with_body, with_header};
use crate::front_door::Limits;

async fn twins(options: Options) -> Fleet {
    Fleet::start(Options { twins: vec!["sin"], ..options }).await
}

#[track_caller]
fn assert_from_sin(answer: &Answer) {
    assert_eq!(answer.header("troli-region-choice"), "sin;reason=default", "{answer:?}");
}

#[tokio::test]
async fn the_edge_with_the_least_to_do_is_asked() {
    let fleet = twins(Options::default()).await;
    let (first, (second, _)) = (&fleet.region("sin").edge, fleet.region("sin").second());
    let asked = || first.asked() + second.asked();
    let busy = async {
        let slow = fleet.get("/slow");
        assert_eq!(slow.await.status, 200);
    };
    let others = async {
        within(async {
            while asked() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let (taken, free) = if first.asked() == 1 { (first, second) } else { (second, first) };
        for n in 1..=5 {
            fleet.get("/v1/items").await;
            assert_eq!((taken.asked(), free.asked()), (1, n));
        }
        taken.go.notify_one();
    };
    tokio::join!(busy, others);
}

#[tokio::test]
async fn requests_of_equal_edges_are_spread() {
    let fleet = twins(Options::default()).await;
    let both = async {
        let (first, (second, _)) = (&fleet.region("sin").edge, fleet.region("sin").second());
        while first.asked() == 0 || second.asked() == 0 {
            fleet.get("/v1/items").await;
        }
    };
    within(both).await;
}

#[tokio::test]
async fn when_an_edge_dies_its_callers_go_to_the_other_and_notice_nothing() {
    let fleet = twins(Options::default()).await;
    fleet.region("sin").public.cut().await;
    for _ in 0..20 {
        // Not even what must not be repeated fails: nobody has seen it.
        let request = with_body(fleet.request(Method::POST, "/v1/guests"), "{}");
        assert_from_sin(&fleet.send(request).await);
    }
    assert_eq!(fleet.region("sin").edge.asked(), 0);

    fleet.region("sin").public.restore().await.expect("restored");
    within(async {
        while fleet.region("sin").edge.asked() == 0 {
            assert_from_sin(&fleet.get("/v1/items").await);
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_in_flight_at_an_edge_that_hangs_up_is_repeated_at_the_other() {
    let fleet = twins(Options { hang_up: vec!["sin"], ..Options::default() }).await;
    within(async {
        while fleet.region("sin").edge.asked() == 0 {
            assert_from_sin(&fleet.get("/v1/items").await);
        }
    })
    .await;
}

#[tokio::test]
async fn a_silent_edge_is_left_by_what_may_be_repeated() {
    // Long enough that only the probes can have found it out.
    let never = Duration::from_secs(60);
    let limits = Limits { read_answer_deadline: never, write_answer_deadline: never, ..Limits::default() };
    let fleet = twins(Options { limits, ..Options::default() }).await;
    fleet.region("sin").public.pause().await.expect("paused");
    let begin = Instant::now();
    let ask = async |n: usize| {
        let request = with_body(fleet.request(Method::POST, "/v1/cart/items"), "{}");
        fleet.send(with_header(request, "idempotency-key", &format!("k-{n}"))).await
    };
    for answer in futures(ask, 8).await {
        assert_from_sin(&answer);
    }
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    fleet.region("sin").public.restore().await.expect("restored");
}

/// Several at the same time, so that some go to the one edge and some to the other.
async fn futures(ask: impl AsyncFn(usize) -> Answer, count: usize) -> Vec<Answer> {
    let mut waiting: Vec<_> = (0..count).map(|n| Box::pin(ask(n))).collect();
    let mut answers = Vec::new();
    std::future::poll_fn(|cx| {
        waiting.retain_mut(|asking| match asking.as_mut().poll(cx) {
            std::task::Poll::Ready(answer) => {
                answers.push(answer);
                false
            }
            std::task::Poll::Pending => true,
        });
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    answers
}

#[tokio::test]
async fn a_region_whose_edges_all_die_is_left_at_once() {
    let fleet = twins(Options::default()).await;
    fleet.region("sin").public.cut().await;
    fleet.region("sin").second().1.cut().await;
    let request = with_body(fleet.request(Method::POST, "/v1/guests"), "{}");
    let answer = fleet.send(request).await;
    assert_eq!(answer.header("troli-region-choice"), "jkt;reason=failover");
    fleet.wait_until("sin", "down").await;
}

#[tokio::test]
async fn retries_stop_when_the_budget_is_spent() {
    let limits = Limits { retries_saved_max: 2, ..Limits::default() };
    let fleet = Fleet::start(Options { hang_up: vec!["sin"], limits, ..Options::default() }).await;
    for _ in 0..2 {
        assert_eq!(fleet.get("/v1/items").await.header("troli-region-choice"), "jkt;reason=failover");
    }
    assert_problem(&fleet.get("/v1/items").await, 503, "region_unavailable");
}
