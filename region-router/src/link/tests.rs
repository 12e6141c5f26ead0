use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Link;

const ANY_PORT: &str = "127.0.0.1:0";

/// For every wait that a fault could make endless. No test waits this long to pass.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends back what it gets, and closes when the other side has.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind(ANY_PORT).await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    addr
}

async fn link(rtt_ms: u64) -> Link {
    link_to(echo().await, rtt_ms).await
}

async fn link_to(target: SocketAddr, rtt_ms: u64) -> Link {
    let listen = ANY_PORT.parse().expect("an address");
    Link::start(listen, target, Duration::from_millis(rtt_ms)).await.expect("a link")
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it takes far too long")
}

async fn round_trip(stream: &mut TcpStream, text: &str) -> io::Result<String> {
    stream.write_all(text.as_bytes()).await?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn connected(link: &Link) -> TcpStream {
    let mut stream = TcpStream::connect(link.addr()).await.expect("a connection");
    assert_eq!(within(round_trip(&mut stream, "hello")).await.expect("an echo"), "hello");
    stream
}

#[tokio::test]
async fn an_answer_takes_at_least_the_round_trip() {
    let link = link(40).await;
    let mut stream = connected(&link).await;

    let asked = Instant::now();
    within(round_trip(&mut stream, "ping")).await.expect("an echo");
    // A lower bound only: how much longer it takes is the machine's affair.
    assert!(asked.elapsed() >= Duration::from_millis(40));
}

#[tokio::test]
async fn a_new_connection_takes_one_round_trip_more() {
    let link = link(30).await;
    let started = Instant::now();
    connected(&link).await;
    assert!(started.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn large_streams_arrive_whole_and_in_order_and_end() {
    let link = link(4).await;
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut read, mut write) = connected(&link).await.into_split();

    let copy = sent.clone();
    let writer = tokio::spawn(async move {
        write.write_all(&copy).await.expect("written");
        write.shutdown().await.expect("half-closed");
    });
    let mut received = Vec::new();
    within(read.read_to_end(&mut received)).await.expect("read to the end");
    writer.await.expect("the writer");
    assert!(received == sent, "{} bytes of {} came back", received.len(), sent.len());
}

#[tokio::test]
async fn cut_drops_connections_and_refuses_new_ones_until_restored() {
    let link = link(0).await;
    let mut stream = connected(&link).await;

    link.cut().await;
    assert!(within(round_trip(&mut stream, "lost")).await.is_err());
    let refused = TcpStream::connect(link.addr()).await.expect_err("refused");
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

    link.restore().await.expect("restored");
    connected(&link).await;
}

#[tokio::test]
async fn pause_holds_everything_and_restore_delivers_it() {
    let target = echo().await;
    let (link, other) = (link_to(target, 0).await, link_to(target, 0).await);
    let mut old = connected(&link).await;

    link.pause().await.expect("paused");
    let mut new = TcpStream::connect(link.addr()).await.expect("a paused link takes connections");
    old.write_all(b"old").await.expect("taken");
    new.write_all(b"new").await.expect("taken");
    // What the paused link would have delivered by now, another one has, many times over.
    let mut witness = connected(&other).await;
    for _ in 0..50 {
        within(round_trip(&mut witness, "ping")).await.expect("an echo");
    }
    for held in [&old, &new] {
        assert_eq!(held.try_read(&mut [0; 8]).expect_err("nothing").kind(), io::ErrorKind::WouldBlock);
    }

    link.restore().await.expect("restored");
    let mut answer = [0; 3];
    within(old.read_exact(&mut answer)).await.expect("an echo");
    assert_eq!(&answer, b"old");
    within(new.read_exact(&mut answer)).await.expect("an echo");
    assert_eq!(&answer, b"new");
}

#[tokio::test]
async fn close_connections_leaves_the_link_open() {
    let link = link(0).await;
    let mut stream = connected(&link).await;
    link.close_connections();
    assert!(within(round_trip(&mut stream, "lost")).await.is_err());
    connected(&link).await;
}

#[tokio::test]
async fn a_changed_round_trip_holds_for_open_connections() {
    let link = link(0).await;
    let mut stream = connected(&link).await;
    link.set_rtt(Duration::from_millis(50));
    let asked = Instant::now();
    within(round_trip(&mut stream, "ping")).await.expect("an echo");
    assert!(asked.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn a_target_that_is_not_there_ends_the_connection() {
    let gone = TcpListener::bind(ANY_PORT).await.expect("a port").local_addr().expect("an address");
    let link = link_to(gone, 0).await;
    let mut stream = TcpStream::connect(link.addr()).await.expect("the link itself is there");
    assert!(within(round_trip(&mut stream, "hello")).await.is_err());
}

#[tokio::test]
async fn an_address_in_use_is_refused_even_by_another_link() {
    let first = link(0).await;
    let second = Link::start(first.addr(), first.addr(), Duration::ZERO).await;
    assert_eq!(second.expect_err("in use").kind(), io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_dropped_link_takes_its_connections_with_it() {
    let link = link(0).await;
    let addr = link.addr();
    let mut stream = connected(&link).await;
    drop(link);
    assert!(within(round_trip(&mut stream, "lost")).await.is_err());
    within(async { while TcpStream::connect(addr).await.is_ok() {} }).await;
}
