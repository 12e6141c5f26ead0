//! Regions that refuse, hang up, stall or are silent; too many requests; the end.

use std::time::Duration;

use http::Method;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpStream;

use super::fleet::{Fleet, Options, within};
use super::{assert_problem, with_body, with_header};
use crate::front_door::{Limits, STATUS_PATH};

#[tokio::test]
async fn a_region_that_refuses_connections_is_passed_over_body_and_all() {
    let fleet = Fleet::start(Options::default()).await;
    fleet.region("jkt").public.cut().await;
    let request = with_body(fleet.request(Method::POST, "/v1/guests?region=jkt"), "{}");
    let answer = fleet.send(request).await;
    assert_eq!(
        (answer.status, &answer.body["region"], &answer.body["body"]),
        (207, &"sin".into(), &"{}".into())
    );
    assert_eq!(answer.header("troli-region-choice"), "sin;reason=failover");

    fleet.region("jkt").public.restore().await.expect("restored");
}

#[tokio::test]
async fn a_region_whose_probes_fail_is_not_asked_until_it_is_back() {
    let fleet = Fleet::start(Options::default()).await;
    fleet.region("jkt").internal.cut().await;
    fleet.wait_until("jkt", "down").await;
    let answer = fleet.get("/v1/items?region=jkt").await;
    assert_eq!(answer.header("troli-region-choice"), "sin;reason=failover");
    assert_eq!(fleet.region("jkt").edge.asked(), 0);

    fleet.region("jkt").internal.restore().await.expect("restored");
    fleet.wait_until("jkt", "up").await;
    let answer = fleet.get("/v1/items?region=jkt").await;
    assert_eq!(answer.header("troli-region-choice"), "jkt;reason=explicit");
}

#[tokio::test]
async fn requests_that_cannot_connect_count_as_failed_probes() {
    let fleet = Fleet::start(Options::default()).await;
    fleet.region("jkt").public.cut().await;
    // Its probes still succeed, so it takes three requests between two of them.
    let believed_down = async {
        loop {
            for _ in 0..3 {
                fleet.get("/v1/items?region=jkt").await;
            }
            let page = fleet.get(STATUS_PATH).await;
            if page.body["regions"][1]["health"] == "down" {
                return;
            }
        }
    };
    within(believed_down).await;
}

#[tokio::test]
async fn a_silent_region_is_found_out_by_its_probes() {
    let fleet = Fleet::start(Options::default()).await;
    fleet.region("sin").internal.pause().await.expect("paused");
    fleet.wait_until("sin", "down").await;
    assert_eq!(fleet.get("/v1/items").await.header("troli-region-choice"), "jkt;reason=failover");
}

#[tokio::test]
async fn a_request_without_an_answer_is_repeated_only_where_that_is_harmless() {
    let fleet = Fleet::start(Options { hang_up: vec!["sin"], ..Options::default() }).await;

    let read = fleet.get("/v1/items").await;
    assert_eq!(read.header("troli-region-choice"), "jkt;reason=failover");

    let bare = with_body(fleet.request(Method::POST, "/v1/guests"), "{}");
    let answer = fleet.send(bare).await;
    assert_problem(&answer, 503, "region_unavailable");
    assert_eq!(answer.header("retry-after"), "2");
    assert_eq!(fleet.region("jkt").edge.asked(), 1, "only the read came here");

    let keyed = with_body(fleet.request(Method::POST, "/v1/cart/items"), "{}");
    let answer = fleet.send(with_header(keyed, "idempotency-key", "k-1")).await;
    assert_eq!(answer.header("troli-region-choice"), "jkt;reason=failover");
    assert_eq!(answer.seen("idempotency-key"), "k-1");
}

#[tokio::test]
async fn a_request_is_repeated_once_and_not_again() {
    let fleet = Fleet::start(Options { hang_up: vec!["sin", "jkt"], ..Options::default() }).await;
    assert_problem(&fleet.get("/v1/items").await, 503, "region_unavailable");
    assert_eq!(fleet.region("sin").edge.asked(), 1);
    assert_eq!(fleet.region("jkt").edge.asked(), 1);
    assert_eq!(fleet.region("bkk").edge.asked(), 0);
}

#[tokio::test]
async fn a_read_that_gets_no_answer_in_time_is_asked_elsewhere() {
    let limits = Limits { read_answer_deadline: Duration::from_millis(100), ..Limits::default() };
    let fleet = Fleet::start(Options { limits, ..Options::default() }).await;
    fleet.region("sin").public.pause().await.expect("paused");
    let answer = fleet.get("/v1/items").await;
    assert_eq!(answer.header("troli-region-choice"), "jkt;reason=failover");
}

#[tokio::test]
async fn requests_that_take_long_do_not_count_against_their_edge() {
    let limits = Limits { read_answer_deadline: Duration::from_millis(100), ..Limits::default() };
    let fleet = Fleet::start(Options { limits, ..Options::default() }).await;
    // Each is asked twice and answered nowhere. Between two probes there are far more of them than failures that
    // take an edge out.
    let slow = async || fleet.get("/slow").await;
    let answers = tokio::join!(slow(), slow(), slow(), slow(), slow(), slow());
    for answer in [answers.0, answers.1, answers.2, answers.3, answers.4, answers.5] {
        assert_problem(&answer, 503, "region_unavailable");
    }
    for region in ["sin", "jkt"] {
        let answer = fleet.get(&format!("/v1/items?region={region}")).await;
        assert_eq!(answer.header("troli-region-choice"), format!("{region};reason=explicit"));
    }
}

#[tokio::test]
async fn with_no_region_left_the_answer_is_503() {
    let fleet = Fleet::start(Options::default()).await;
    for region in &fleet.regions {
        region.public.cut().await;
    }
    let answer = fleet.send(with_body(fleet.request(Method::POST, "/v1/guests"), "{}")).await;
    assert_problem(&answer, 503, "region_unavailable");
    assert_eq!(answer.header("retry-after"), "2");
}

#[tokio::test]
async fn more_requests_than_there_may_be_are_turned_away() {
    let limits = Limits { requests_in_flight_max: 1, ..Limits::default() };
    let fleet = Fleet::start(Options { limits, ..Options::default() }).await;
    let edge = fleet.region("sin").edge.clone();

    let (slow, turned_away) = tokio::join!(fleet.get("/slow"), async {
        within(async {
            while edge.asked() == 0 {
                tokio::task::yield_now().await
            }
        })
        .await;
        let answer = fleet.get("/v1/items").await;
        edge.go.notify_one();
        answer
    });
    assert_eq!(slow.status, 200);
    assert_problem(&turned_away, 503, "overloaded");
    assert_eq!(turned_away.header("retry-after"), "1");
}

#[tokio::test]
async fn an_answer_that_stops_half_way_is_seen_to_be_broken() {
    let limits = Limits { answer_stall_deadline: Duration::from_millis(50), ..Limits::default() };
    let fleet = Fleet::start(Options { limits, ..Options::default() }).await;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let body =
        within(client.request(fleet.request(Method::GET, "/stall"))).await.expect("an answer").into_body();
    assert!(within(body.collect()).await.is_err());
}

#[tokio::test]
async fn a_request_in_flight_is_finished_after_the_stop_signal() {
    let mut fleet = Fleet::start(Options::default()).await;
    let edge = fleet.region("sin").edge.clone();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let asking = tokio::spawn(client.request(fleet.request(Method::GET, "/slow")));
    within(async {
        while edge.asked() == 0 {
            tokio::task::yield_now().await
        }
    })
    .await;

    fleet.stop();
    let addr = fleet.addr;
    within(async { while TcpStream::connect(addr).await.is_ok() {} }).await;
    edge.go.notify_one();
    let answer = within(asking).await.expect("no panic").expect("an answer");
    assert_eq!(answer.status(), 200);
    fleet.stopped().await;
}

#[tokio::test]
async fn a_request_that_does_not_finish_is_dropped_at_the_drain_deadline() {
    let limits = Limits { drain_deadline: Duration::from_millis(50), ..Limits::default() };
    let mut fleet = Fleet::start(Options { limits, ..Options::default() }).await;
    let edge = fleet.region("sin").edge.clone();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let asking = tokio::spawn(client.request(fleet.request(Method::GET, "/slow")));
    within(async {
        while edge.asked() == 0 {
            tokio::task::yield_now().await
        }
    })
    .await;

    fleet.stop();
    fleet.stopped().await;
    assert!(within(asking).await.expect("no panic").is_err());
}
