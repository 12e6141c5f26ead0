//! Callers that take all there is, with limits small enough to meet.

use std::time::Duration;

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::Limits;
use super::fleet::{Fleet, Options, within};
use super::{assert_problem, with_header};
use crate::admission::Pace;

async fn sends(fleet: &Fleet, text: &str) -> TcpStream {
    let mut stream = within(TcpStream::connect(fleet.addr)).await.expect("a connection");
    stream.write_all(text.as_bytes()).await.expect("sent");
    stream
}

/// A fleet whose front door believes this address, so that the test itself is not limited.
fn options(limits: Limits) -> Options {
    Options { limits, trusted: vec!["127.0.0.1/32"], ..Options::default() }
}

#[tokio::test]
async fn a_body_that_does_not_come_holds_no_place_among_all_requests() {
    let fleet = Fleet::start(options(Limits { requests_in_flight_max: 1, ..Limits::default() })).await;
    let head = "PUT /v1/x HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 192.0.2.1\r\ncontent-length: 5\r\n\r\n";
    let mut waiting = Vec::new();
    for _ in 0..4 {
        waiting.push(sends(&fleet, head).await);
    }
    // The first of the bodies comes, so the door has seen all heads before it.
    assert_eq!(fleet.get("/v1/items").await.status, 207);
    for stream in &mut waiting {
        stream.write_all(b"12345").await.expect("sent");
        let mut status = [0; 12];
        within(stream.read_exact(&mut status)).await.expect("an answer");
        assert_eq!(&status, b"HTTP/1.1 207");
    }
}

#[tokio::test]
async fn an_address_has_a_share_of_the_requests() {
    let limits = Limits { requests_per_address_max: 2, ..Limits::default() };
    let fleet = Fleet::start(options(limits)).await;
    let from =
        |address: &'static str| with_header(fleet.request(Method::GET, "/slow"), "x-forwarded-for", address);
    let ask = |address| fleet.send(from(address));
    let edge = &fleet.region("sin").edge;
    let refused = async {
        // Two are at the edge.
        within(async {
            while edge.asked() < 2 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        let refused = ask("203.116.0.1").await;
        assert_problem(&refused, 429, "rate_limited");
        assert_eq!(refused.header("retry-after"), "1");
        let other = with_header(fleet.request(Method::GET, "/v1/items"), "x-forwarded-for", "203.116.0.2");
        assert_eq!(fleet.send(other).await.status, 207, "another address has a share of its own");
        for _ in 0..2 {
            edge.go.notify_one();
        }
    };
    let (first, second, ()) = tokio::join!(ask("203.116.0.1"), ask("203.116.0.1"), refused);
    assert_eq!((first.status, second.status), (200, 200));
    edge.go.notify_one();
    assert_eq!(ask("203.116.0.1").await.status, 200, "the share is given back");
}

#[tokio::test]
async fn an_address_has_a_share_of_the_connections() {
    let limits = Limits { connections_per_address_max: 8, ..Limits::default() };
    let fleet = Fleet::start(Options { limits, ..Options::default() }).await;
    // The fleet's own client holds one or two.
    let mut idle = Vec::new();
    for _ in 0..16 {
        idle.push(within(TcpStream::connect(fleet.addr)).await.expect("a connection"));
    }
    let mut closed = idle.pop().expect("sixteen");
    let read = within(closed.read(&mut [0; 1])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "the last is closed: {read:?}");
}

#[tokio::test]
async fn a_caller_that_reads_nothing_is_given_up() {
    let pace = Pace { deadline: Duration::from_millis(200), bytes_min: 1024 };
    let limits = Limits { answer_pace: pace, requests_in_flight_max: 1, ..Limits::default() };
    let fleet = Fleet::start(options(limits)).await;
    let mut reader = sends(&fleet, "GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let mut first = [0; 12];
    within(reader.read_exact(&mut first)).await.expect("an answer begins");
    assert_eq!(&first, b"HTTP/1.1 200");
    // It holds the only place, until the door gives it up.
    within(async {
        while fleet.get("/v1/items").await.status != 207 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let mut rest = Vec::new();
    let read = within(reader.read_to_end(&mut rest)).await;
    assert!(read.is_err() || rest.len() < super::fleet::LARGE_BYTES, "{} bytes came", rest.len());
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let limits = Limits { request_head_deadline: Duration::from_millis(100), ..Limits::default() };
    let fleet = Fleet::start(options(limits)).await;
    for begun in ["", "GET /v1/items HTTP/1.1\r\nhost:"] {
        let mut stream = sends(&fleet, begun).await;
        let mut answer = Vec::new();
        // Closed, with an answer or without.
        let _ = within(stream.read_to_end(&mut answer)).await;
    }
}
