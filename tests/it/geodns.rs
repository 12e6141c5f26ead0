//! GeoDNS from outside: real datagrams and connections, against the name server of a fleet.

use std::net::SocketAddr;
use std::str::FromStr;

use harness::{Fleet, FleetOptions, PATIENCE, eventually};
use hickory_resolver::proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

const ALL: [&str; 6] = ["sin", "kul", "jkt", "bkk", "sgn", "mnl"];

async fn fleet(regions: &[&'static str]) -> Fleet {
    let regions = regions.to_vec();
    Fleet::start(FleetOptions { regions, front_door: true, ..FleetOptions::default() }).await
}

fn question(name: &str, kind: RecordType, subnet: Option<&str>) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_str(name).expect("a name"), kind));
    if let Some(subnet) = subnet {
        let mut edns = Edns::new();
        edns.set_max_payload(1232);
        edns.options_mut().insert(EdnsOption::Subnet(subnet.parse().expect("a subnet")));
        message.edns = Some(edns);
    }
    message
}

async fn by_udp(server: SocketAddr, question: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.send_to(question, server).await.expect("sent");
    let mut buffer = vec![0; 4096];
    let len =
        timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("an answer in time").expect("an answer");
    buffer.truncate(len);
    buffer
}

async fn exchange(stream: &mut TcpStream, question: &[u8]) -> Vec<u8> {
    let len = u16::try_from(question.len()).expect("a short question");
    stream.write_all(&[&len.to_be_bytes()[..], question].concat()).await.expect("sent");
    let len = timeout(PATIENCE, stream.read_u16()).await.expect("an answer in time").expect("an answer");
    let mut answer = vec![0; len.into()];
    stream.read_exact(&mut answer).await.expect("a whole answer");
    answer
}

async fn ask(server: SocketAddr, name: &str, kind: RecordType, subnet: Option<&str>) -> Message {
    let question = question(name, kind, subnet).to_vec().expect("a message");
    Message::from_vec(&by_udp(server, &question).await).expect("a message")
}

/// The one edge of the nearest region for a client there, and the scope of that.
async fn nearest(server: SocketAddr, subnet: &str) -> (u16, String, u8) {
    let answer = ask(server, "_http._tcp.cart.troli.test.", RecordType::SRV, Some(subnet)).await;
    let [edge] = &answer.answers[..] else { panic!("{answer:?}") };
    let RData::SRV(edge) = &edge.data else { panic!("{edge:?}") };
    let edns = answer.edns.as_ref().expect("EDNS is answered with EDNS");
    let Some(EdnsOption::Subnet(echo)) = edns.option(EdnsCode::Subnet) else { panic!("{edns:?}") };
    (edge.port, edge.target.to_string(), echo.scope_prefix())
}

fn port(fleet: &Fleet, region: &str) -> u16 {
    fleet.url(region).rsplit(':').next().and_then(|port| port.parse().ok()).expect("a URL with a port")
}

#[tokio::test]
async fn clients_of_six_countries_are_sent_to_their_own_region_and_to_the_next_when_it_is_down() {
    let fleet = fleet(&ALL).await;
    for (subnet, region) in [
        ("103.10.64.0/24", "jkt"),
        ("165.21.83.0/24", "sin"),
        ("175.136.0.0/24", "kul"),
        ("171.96.0.0/24", "bkk"),
        ("113.160.0.0/24", "sgn"),
        ("112.198.0.0/24", "mnl"),
    ] {
        let (found, host, scope) = nearest(fleet.geodns(), subnet).await;
        assert_eq!(
            (found, host),
            (port(&fleet, region), format!("e1.{region}.cart.troli.test.")),
            "{subnet}"
        );
        assert!((1..=24).contains(&scope), "{subnet}: {scope}");
    }
    fleet.stop_region("jkt").await;
    // By the harness's distances, the home region is the nearest to every other one that comes early.
    let region = async || nearest(fleet.geodns(), "103.10.64.0/24").await.1;
    eventually("Indonesia goes elsewhere", async || region().await != "e1.jkt.cart.troli.test.").await;
    assert_eq!(region().await, "e1.sin.cart.troli.test.");
    assert_eq!(nearest(fleet.geodns(), "171.96.0.0/24").await.1, "e1.bkk.cart.troli.test.");
    fleet.start_region("jkt").await;
    eventually("Indonesia comes back", async || region().await == "e1.jkt.cart.troli.test.").await;
}

#[tokio::test]
async fn the_zone_answers_for_itself_and_for_nothing_else() {
    let fleet = fleet(&["sin", "jkt"]).await;
    let server = fleet.geodns();
    let say = async |name: &str, kind| {
        let answer = ask(server, name, kind, None).await;
        let code = answer.metadata.response_code;
        assert_eq!(answer.metadata.authoritative, code != ResponseCode::Refused, "{name}");
        let kinds: Vec<RecordType> = answer.authorities.iter().map(|record| record.record_type()).collect();
        let data: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
        (code, data, kinds)
    };
    use RecordType::{A, AAAA, NS, SOA, SRV};
    use ResponseCode::{NXDomain, NoError, Refused};
    let localhost = vec!["127.0.0.1".to_owned()];
    assert_eq!(say("cart.troli.test.", A).await, (NoError, localhost.clone(), vec![]));
    assert_eq!(say("jkt.cart.troli.test.", A).await, (NoError, localhost, vec![]));
    assert_eq!(say("cart.troli.test.", AAAA).await, (NoError, vec![], vec![SOA]));
    assert_eq!(say("troli.test.", NS).await.1, ["ns.troli.test."]);
    assert_eq!(say("troli.test.", SOA).await.1.len(), 1);
    let edges = say("_http._tcp.jkt.cart.troli.test.", SRV).await.1;
    assert_eq!(edges, [format!("0 0 {} e1.jkt.cart.troli.test.", port(&fleet, "jkt"))]);
    assert_eq!(say("nrt.cart.troli.test.", A).await, (NXDomain, vec![], vec![SOA]));
    assert_eq!(say("example.com.", A).await, (Refused, vec![], vec![]));
}

#[tokio::test]
async fn connections_carry_many_questions_and_garbage_harms_nobody() {
    let fleet = fleet(&["sin"]).await;
    let server = fleet.geodns();
    let good = question("cart.troli.test.", RecordType::A, None).to_vec().expect("a message");
    let mut stream = TcpStream::connect(server).await.expect("a connection");
    for _ in 0..3 {
        let answer = Message::from_vec(&exchange(&mut stream, &good).await).expect("a message");
        assert_eq!((answer.metadata.id, answer.answers.len()), (4711, 1));
    }

    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    for garbage in [&[][..], &[0xff; 3], &[0xff; 40], &good[..good.len() - 3], &[0; 1500]] {
        socket.send_to(garbage, server).await.expect("sent");
        let mut broken = TcpStream::connect(server).await.expect("a connection");
        broken.write_all(garbage).await.expect("sent");
    }
    assert_eq!(ask(server, "cart.troli.test.", RecordType::A, None).await.answers.len(), 1);
}
