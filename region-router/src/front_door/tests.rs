mod abuse;
mod edges;
mod failures;
mod fleet;

use axum::body::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Limits, STATUS_PATH};
use fleet::{Answer, Fleet, Options, within};

/// An address in Indonesia.
const IN_JAKARTA: &str = "36.64.0.1";

fn with_header(mut request: Request<Full<Bytes>>, name: &'static str, value: &str) -> Request<Full<Bytes>> {
    request.headers_mut().insert(name, value.parse().expect("a header value"));
    request
}

fn with_body(mut request: Request<Full<Bytes>>, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    *request.body_mut() = Full::new(body.into());
    request
}

#[track_caller]
fn assert_problem(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.body["code"].as_str()), (status, Some(code)), "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.body["type"], format!("urn:troli:problem:{code}"));
    assert_eq!(answer.body["status"], status);
    assert_eq!(answer.body["request_id"], answer.header("x-request-id"));
    assert!(answer.body["title"].is_string() && answer.body["detail"].is_string());
}

#[tokio::test]
async fn a_caller_of_whom_nothing_is_known_is_served_at_home() {
    let fleet = Fleet::start(Options::default()).await;
    let answer = fleet.get("/v1/items?limit=2&cursor=%3D").await;
    assert_eq!((answer.status, &answer.body["region"]), (207, &"sin".into()));
    assert_eq!(answer.body["target"], "/v1/items?limit=2&cursor=%3D");
    assert_eq!(answer.header("troli-region-choice"), "sin;reason=default");
}

#[tokio::test]
async fn an_explicit_region_is_taken_from_the_query_before_the_header() {
    let fleet = Fleet::start(Options::default()).await;
    let by_header = with_header(fleet.request(Method::GET, "/v1/items"), "troli-region", "bkk");
    let answer = fleet.send(by_header).await;
    assert_eq!(answer.header("troli-region-choice"), "bkk;reason=explicit");

    let by_both = fleet.request(Method::GET, "/v1/items?a=%20&region=jkt&b");
    let answer = fleet.send(with_header(by_both, "troli-region", "bkk")).await;
    assert_eq!(answer.header("troli-region-choice"), "jkt;reason=explicit");
    assert_eq!(answer.body["target"], "/v1/items?a=%20&b");
}

#[tokio::test]
async fn an_unknown_explicit_region_is_a_mistake() {
    let fleet = Fleet::start(Options::default()).await;
    for target in ["/v1/items?region=nrt", "/v1/items?region=", "/v1/items?region=SIN"] {
        assert_problem(&fleet.get(target).await, 400, "region_unknown");
    }
    let by_header = with_header(fleet.request(Method::GET, "/v1/items"), "troli-region", "mnl");
    let answer = fleet.send(by_header).await;
    assert_problem(&answer, 400, "region_unknown");
    assert_eq!(answer.body["detail"], "There is no region `mnl`. The regions are sin, jkt, bkk.");
}

#[tokio::test]
async fn measured_round_trips_choose_the_region_and_malformed_ones_are_a_mistake() {
    let fleet = Fleet::start(Options::default()).await;
    let measured = |text: &str| {
        let request = with_header(fleet.request(Method::GET, "/v1/items"), "troli-round-trips", text);
        fleet.send(request)
    };
    let answer = measured("sin=12,bkk=3,nrt=1").await;
    assert_eq!(answer.header("troli-region-choice"), "bkk;reason=round_trip");
    let chosen =
        with_header(fleet.request(Method::GET, "/v1/items?region=jkt"), "troli-round-trips", "bkk=3");
    assert_eq!(fleet.send(chosen).await.header("troli-region-choice"), "jkt;reason=explicit");
    for text in ["", "sin", "sin=-1", "sin=1;jkt=2"] {
        assert_problem(&measured(text).await, 400, "round_trips_malformed");
    }
}

#[tokio::test]
async fn callers_are_told_where_to_go_when_that_is_asked_for() {
    let fleet = Fleet::start(Options { redirect: true, ..Options::default() }).await;
    let answer = fleet.send(fleet.request(Method::POST, "/v1/items?a=%20&region=jkt&b")).await;
    assert_eq!(answer.status, 307);
    let expected = format!("http://{}/v1/items?a=%20&b", fleet.region("jkt").public.addr());
    assert_eq!(answer.header("location"), expected);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("cart-region"), "jkt");
    assert_eq!(answer.header("troli-region-choice"), "jkt;reason=explicit");
    assert_eq!(fleet.get(STATUS_PATH).await.status, 200, "its own page stays here");

    // Asked at the region's own URL, telling the caller to go there would be for ever.
    let there = fleet.region("sin").public.addr().to_string();
    let looped = with_header(fleet.request(Method::GET, "/v1/items"), "host", &there);
    assert_eq!(fleet.send(looped).await.status, 207);

    fleet.region("jkt").public.cut().await;
    fleet.wait_until("jkt", "down").await;
    let answer = fleet.get("/v1/items?region=jkt").await;
    assert_eq!((answer.status, answer.header("cart-region")), (307, "sin"));
}

#[tokio::test]
async fn a_trusted_proxy_tells_where_the_caller_is() {
    let options = Options { trusted: vec!["127.0.0.0/8"], ..Options::default() };
    let fleet = Fleet::start(options).await;
    let request = with_header(fleet.request(Method::GET, "/v1/items"), "x-forwarded-for", IN_JAKARTA);
    let answer = fleet.send(with_header(request, "x-forwarded-proto", "https")).await;
    assert_eq!(answer.header("troli-region-choice"), "jkt;reason=address");
    assert_eq!(answer.seen("x-forwarded-for"), "36.64.0.1, 127.0.0.1");
    assert_eq!(answer.seen("x-forwarded-proto"), "https");
}

#[tokio::test]
async fn an_untrusted_caller_is_not_believed() {
    let fleet = Fleet::start(Options::default()).await;
    let request = with_header(fleet.request(Method::GET, "/v1/items"), "x-forwarded-for", IN_JAKARTA);
    let request = with_header(request, "forwarded", "for=1.2.3.4;by=sin");
    let answer = fleet.send(with_header(request, "x-forwarded-proto", "https")).await;
    assert_eq!(answer.header("troli-region-choice"), "sin;reason=default");
    assert_eq!(answer.seen("x-forwarded-for"), "127.0.0.1");
    assert_eq!(answer.seen("x-forwarded-proto"), "http");
    assert!(answer.seen("forwarded").is_null());
}

#[tokio::test]
async fn headers_of_one_connection_stop_here_and_the_others_pass() {
    let fleet = Fleet::start(Options::default()).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut request = fleet.request(Method::POST, "/v1/guests");
    for (name, value) in [
        ("connection", "x-private, keep-alive"),
        ("x-private", "1"),
        ("te", "trailers"),
        ("host", "cart.example"),
        ("traceparent", trace),
        ("x-request-id", "mine-1"),
    ] {
        request = with_header(request, name, value);
    }
    let answer = fleet.send(with_body(request, "{\"currency\":\"SGD\"}")).await;

    assert_eq!(answer.seen("host"), "cart.example");
    assert_eq!(answer.seen("traceparent"), trace);
    assert_eq!(answer.seen("x-request-id"), "mine-1");
    assert_eq!(answer.body["body"], "{\"currency\":\"SGD\"}");
    for gone in ["connection", "x-private", "te"] {
        assert!(answer.seen(gone).is_null(), "{gone}");
    }
    assert_eq!(answer.header("x-request-id"), "mine-1");
    assert_eq!(answer.header("etag"), "\"1.17\"");
    for gone in ["x-private", "keep-alive"] {
        assert_eq!(answer.header(gone), "", "{gone}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_however_it_is_sent() {
    let fleet = Fleet::start(Options::default()).await;
    let at_most = Limits::default().request_body_bytes_max;

    let fits = with_body(fleet.request(Method::PUT, "/v1/x"), vec![b'a'; at_most]);
    assert_eq!(fleet.send(fits).await.status, 207);

    let sized = with_body(fleet.request(Method::PUT, "/v1/x"), vec![b'a'; at_most + 1]);
    assert_problem(&fleet.send(sized).await, 413, "body_too_large");

    let mut stream = TcpStream::connect(fleet.addr).await.expect("a connection");
    let head = "PUT /v1/x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n10001\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(&vec![b'a'; at_most + 1]).await.expect("sent");
    let mut status = [0; 12];
    within(stream.read_exact(&mut status)).await.expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 413");

    assert_eq!(fleet.region("sin").edge.asked(), 1, "only the one that fits came here");
}

#[tokio::test]
async fn answers_are_passed_on_as_they_come() {
    let fleet = Fleet::start(Options::default()).await;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = fleet.request(Method::GET, "/stream");
    let mut body = within(client.request(request)).await.expect("an answer").into_body();

    let first = within(body.frame()).await.expect("a part").expect("no error");
    assert_eq!(first.into_data().expect("data"), "first");
    // Only now may the edge send the rest: the first part did not wait for it.
    fleet.region("sin").edge.go.notify_one();
    let second = within(body.frame()).await.expect("a part").expect("no error");
    assert_eq!(second.into_data().expect("data"), "second");
    assert!(within(body.frame()).await.is_none());
}

#[tokio::test]
async fn the_status_page_is_the_front_doors_own() {
    let options = Options { trusted: vec!["127.0.0.1/32"], ..Options::default() };
    let fleet = Fleet::start(options).await;
    let page =
        fleet.send(with_header(fleet.request(Method::GET, STATUS_PATH), "x-forwarded-for", IN_JAKARTA)).await;
    assert_eq!((page.status, page.header("content-type")), (200, "application/json"));
    assert_eq!(page.body["home"], "sin");
    assert_eq!(page.body["regions"][1]["id"], "jkt");
    assert_eq!(page.body["regions"][1]["health"], "up");
    assert_eq!(page.body["caller"]["country"], "ID");
    assert_eq!(page.body["caller"]["candidates"][0]["region"], "jkt");
    assert_eq!(page.body["caller"]["candidates"][0]["reason"], "address");

    let wrong = fleet.send(fleet.request(Method::DELETE, STATUS_PATH)).await;
    assert_problem(&wrong, 405, "method_not_allowed");
    assert_eq!(wrong.header("allow"), "GET, HEAD");
}

#[tokio::test]
async fn an_answer_to_head_has_no_body_and_keeps_its_length() {
    let fleet = Fleet::start(Options::default()).await;
    let answer = fleet.send(fleet.request(Method::HEAD, "/v1/items")).await;
    assert_eq!(answer.status, 207);
    assert!(answer.header("content-length").parse::<usize>().is_ok_and(|length| length > 0), "{answer:?}");
    let refused = fleet.send(fleet.request(Method::HEAD, "/v1/items?region=nrt")).await;
    assert_eq!(refused.status, 400);
}

#[tokio::test]
async fn a_target_that_is_no_path_is_refused() {
    let fleet = Fleet::start(Options::default()).await;
    for line in ["OPTIONS * HTTP/1.1", "CONNECT cart.example:443 HTTP/1.1"] {
        let mut stream = TcpStream::connect(fleet.addr).await.expect("a connection");
        stream.write_all(format!("{line}\r\nhost: x\r\n\r\n").as_bytes()).await.expect("sent");
        let mut status = [0; 12];
        within(stream.read_exact(&mut status)).await.expect("an answer");
        assert_eq!(&status, b"HTTP/1.1 400", "{line}");
    }
}

#[tokio::test]
async fn pages_of_other_origins_may_read_the_front_doors_own_answers() {
    let fleet = Fleet::start(Options::default()).await;
    let asked = |target: &'static str, origin: &'static str| {
        fleet.send(with_header(fleet.request(Method::GET, target), "origin", origin))
    };
    for target in [STATUS_PATH, "/v1/items?region=nrt"] {
        let answer = asked(target, "https://shop.example").await;
        assert_eq!(answer.header("access-control-allow-origin"), "https://shop.example", "{target}");
        assert_eq!(answer.header("access-control-allow-credentials"), "true");
        assert!(answer.header("access-control-expose-headers").contains("troli-region-choice"));
        assert_eq!(answer.header("vary"), "Origin");
        let stranger = asked(target, "https://evil.example").await;
        assert!(!stranger.headers.keys().any(|name| name.as_str().starts_with("access-control")));
        assert_eq!(stranger.header("vary"), "Origin");
    }
    let passed_on = asked("/v1/items", "https://shop.example").await;
    assert_eq!(passed_on.header("access-control-allow-origin"), "", "a region says for itself who may");
    assert_eq!(passed_on.seen("origin"), "https://shop.example");
}
