//! Callers who read nothing, send nothing or ask without end do not keep others from the public listeners.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use harness::{Caller, Fleet, FleetOptions};
use serde_json::json;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

mod orders;
mod rates;

/// An address that no listener of the tests trusts as a proxy.
const ABUSER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
const SHOPPER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// As many requests as the front door serves at once.
const AT_ONCE: usize = 2048;
/// More than an edge serves at once.
const AT_ONCE_OF_EDGE: usize = 4200;
/// An answer that fits into no socket's buffer at this size of segments.
const LARGE: &str = "/docs/swagger-ui-bundle.js";
/// Small segments and windows, so that the kernel takes little of an answer that is not read.
const SEGMENT_BYTES: u32 = 536;
const WINDOW_BYTES: u32 = 4096;
/// As long as the abuser is still waited for, others are served; far above what it takes.
const PATIENCE: Duration = Duration::from_secs(60);

async fn fleet() -> Fleet {
    more_files();
    let options = FleetOptions { regions: vec!["sin"], front_door: true, ..FleetOptions::default() };
    let fleet = Fleet::start(options).await;
    fleet.admin().sell("mug", "1.00").await;
    fleet
}

/// Sockets on both sides need more files than some shells allow.
fn more_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .expect("the soft limit can be raised to the hard one");
}

fn address_of(base: &str) -> SocketAddr {
    let address = base.strip_prefix("http://").expect("a URL of the fleet");
    address.parse().expect("an address")
}

/// A connection of the abuser that has sent this; nothing where the door has closed it meanwhile.
async fn abuse(door: SocketAddr, sent: &str) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().expect("a socket");
    SockRef::from(&socket).set_tcp_mss(SEGMENT_BYTES).expect("an option that Linux has");
    socket.set_recv_buffer_size(WINDOW_BYTES).expect("an option that every socket has");
    socket.bind((ABUSER, 0).into()).expect("the whole of 127/8 is this machine");
    let mut stream = socket.connect(door).await.expect("the kernel takes connections");
    stream.write_all(sent.as_bytes()).await.ok().map(|()| stream)
}

/// Whether the door has begun to answer, or has closed the connection.
fn is_answered(stream: &TcpStream) -> bool {
    let mut byte = [0];
    match stream.try_read(&mut byte) {
        Err(error) => error.kind() != ErrorKind::WouldBlock,
        Ok(_) => true,
    }
}

/// Shops until every connection of the abuser is answered or closed, and a little longer. Each answer has to be a
/// success.
async fn shop_meanwhile(door: &str, mut waiting: Vec<TcpStream>) {
    let until = Instant::now() + PATIENCE;
    let mut answered = Vec::new();
    loop {
        assert!(Instant::now() < until, "{} connections are neither answered nor closed", waiting.len());
        let guest = Caller::coming_from(SHOPPER, door).guest("SGD").await;
        guest.add("mug", 1).await.ok();
        guest.cart().await;
        guest.get("/v1/items?limit=5").await.ok();
        if waiting.is_empty() {
            return;
        }
        let (done, not): (Vec<_>, Vec<_>) = waiting.into_iter().partition(is_answered);
        // Open until the end: what was read of it is one byte.
        answered.extend(done);
        waiting = not;
    }
}

async fn abuse_many(door: &str, count: usize, sent: &str) -> Vec<TcpStream> {
    let address = address_of(door);
    let mut streams = Vec::new();
    // Not more at once than the kernel keeps for a listener.
    for at_once in (0..count).collect::<Vec<_>>().chunks(64) {
        streams.extend(join_all(at_once.iter().map(|_| abuse(address, sent))).await.into_iter().flatten());
    }
    streams
}

#[tokio::test]
async fn readers_that_never_read_leave_the_front_door_open() {
    let fleet = fleet().await;
    let door = fleet.front_door().base().to_owned();
    let sent = format!("GET {LARGE} HTTP/1.1\r\nhost: x\r\n\r\n");
    let readers = abuse_many(&door, AT_ONCE, &sent).await;
    shop_meanwhile(&door, readers).await;
}

#[tokio::test]
async fn bodies_that_never_come_leave_the_doors_open() {
    let fleet = fleet().await;
    let sent = "POST /v1/guests HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n";
    for (door, count) in
        [(fleet.front_door().base().to_owned(), AT_ONCE), (fleet.url("sin"), AT_ONCE_OF_EDGE)]
    {
        let bodies = abuse_many(&door, count, sent).await;
        shop_meanwhile(&door, bodies).await;
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_with_a_timeout() {
    let fleet = fleet().await;
    for door in [fleet.front_door().base().to_owned(), fleet.url("sin")] {
        let sent = "POST /v1/guests HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{";
        let stream = abuse(address_of(&door), sent).await.expect("the door is open");
        stream.readable().await.expect("an answer");
        let mut status = [0; 12];
        let read = stream.try_read(&mut status).expect("an answer");
        assert_eq!(&status[..read], b"HTTP/1.1 408", "{door}");
    }
}

#[tokio::test]
async fn idle_connections_leave_the_doors_open() {
    let fleet = fleet().await;
    // More than a door takes of all addresses together.
    const IDLE: usize = 8400;
    for door in [fleet.front_door().base().to_owned(), fleet.url("sin")] {
        let idle = abuse_many(&door, IDLE, "").await;
        let guest = Caller::coming_from(SHOPPER, &door).guest("SGD").await;
        guest.post("/v1/cart/items", json!({ "item_id": "mug", "quantity": 1 })).await.ok();
        assert!(idle.iter().filter(|stream| is_answered(stream)).count() > IDLE / 2, "most are closed");
    }
}
