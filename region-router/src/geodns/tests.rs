use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_server::proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_server::proto::rr::{DNSClass, Name, RecordType};
use hickory_server::proto::serialize::binary::BinEncodable;
use proptest::prelude::*;

use super::Config;
use super::answer::Answers;
use super::message::{UDP_BYTES_MAX, UDP_BYTES_MIN, respond};
use crate::discovery::Dns;
use crate::health::{FAILURES_TO_DOWN, Probe};
use crate::proximity::Countries;
use crate::regions::Regions;
use crate::topology::Topology;

/// Three regions: two edges in Singapore, one with both families in Jakarta, many in Bangkok.
fn topology() -> Topology {
    let many: Vec<String> = (1..=60).map(|n| format!("\"203.0.113.{n}:8104\"")).collect();
    let text = format!(
        "home = \"sin\"\ncurrency_default = \"SGD\"\n\
         [[region]]\nid = \"sin\"\nname = \"Singapore\"\ncountry = \"SG\"\ncurrency = \"SGD\"\n\
         public = [\"198.51.100.1:8101\", \"198.51.100.2:8101\"]\ninternal = [\"127.0.0.1:1\"]\n\
         peers = [\"198.51.100.9:10101\"]\n\
         [[region]]\nid = \"jkt\"\nname = \"Jakarta\"\ncountry = \"ID\"\ncurrency = \"IDR\"\n\
         public = [\"192.0.2.3:8103\", \"[2001:db8::3]:8103\"]\ninternal = [\"127.0.0.1:3\"]\n\
         [[region]]\nid = \"bkk\"\nname = \"Bangkok\"\ncountry = \"TH\"\ncurrency = \"THB\"\n\
         public = [{}]\ninternal = [\"127.0.0.1:4\"]\n\
         [round_trips_assumed_ms]\nsin-jkt = 13\nsin-bkk = 21\njkt-bkk = 34\n",
        many.join(", ")
    );
    Topology::parse(&text).expect("a topology")
}

fn server(down: &[&str]) -> Answers {
    let regions = Regions::new(topology());
    for region in regions.topology().regions() {
        let probe = if down.contains(&region.id.as_str()) { Probe::Failed } else { Probe::Ready };
        (0..FAILURES_TO_DOWN).for_each(|_| regions.record(region.id, probe));
    }
    let config = Config {
        regions: Arc::new(regions),
        countries: Arc::new(Countries::BuiltIn),
        dns: Dns::system(),
        zone: "troli.test".parse().expect("a zone"),
        ttl: Duration::from_secs(30),
    };
    Answers::new(&config, Some([127, 0, 0, 1].into()))
}

/// Somebody of whom nothing is known.
fn resolver() -> SocketAddr {
    "127.0.0.1:5353".parse().expect("an address")
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_str(name).expect("a name"), kind));
    message
}

fn with_subnet(mut message: Message, subnet: ClientSubnet) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    edns.options_mut().insert(EdnsOption::Subnet(subnet));
    message.edns = Some(edns);
    message
}

fn ask(server: &Answers, message: &Message, protocol: Protocol) -> Message {
    let raw = message.to_vec().expect("a message");
    let answer = respond(server, &raw, resolver(), protocol).expect("an answer");
    Message::from_vec(&answer).expect("a message")
}

/// What an answer says, in few words: code, answers, authority.
fn said(answer: &Message) -> String {
    let records = |records: &[hickory_server::proto::rr::Record]| {
        let mut texts: Vec<String> =
            records.iter().map(|record| format!("{} {}", record.record_type(), record.data)).collect();
        texts.sort();
        texts.join(", ")
    };
    let authority: Vec<String> =
        answer.authorities.iter().map(|record| format!("{} {}", record.record_type(), record.ttl)).collect();
    format!("{:?} [{}] [{}]", answer.metadata.response_code, records(&answer.answers), authority.join(", "))
}

#[track_caller]
fn check(server: &Answers, name: &str, kind: RecordType, expected: &str) {
    let answer = ask(server, &question(name, kind), Protocol::Tcp);
    assert_eq!(said(&answer), expected, "{name} {kind}");
    assert!(answer.metadata.authoritative || answer.metadata.response_code == ResponseCode::Refused);
    assert!(!answer.metadata.recursion_available);
}

#[test]
fn names_answer_what_they_stand_for() {
    let server = server(&[]);
    use RecordType::{A, AAAA, SRV, TXT};
    check(&server, "cart.troli.test.", A, "NoError [A 198.51.100.1, A 198.51.100.2] []");
    check(&server, "CART.Troli.Test.", TXT, "NoError [TXT sin;reason=default] []");
    check(&server, "jkt.cart.troli.test.", A, "NoError [A 192.0.2.3] []");
    check(&server, "jkt.cart.troli.test.", AAAA, "NoError [AAAA 2001:db8::3] []");
    check(&server, "e2.sin.cart.troli.test.", A, "NoError [A 198.51.100.2] []");
    check(&server, "e3.sin.cart.troli.test.", A, "NoError [A 198.51.100.9] []");
    check(&server, "ns.troli.test.", A, "NoError [A 127.0.0.1] []");
    check(&server, "troli.test.", RecordType::NS, "NoError [NS ns.troli.test.] []");
    check(
        &server,
        "_http._tcp.cart.troli.test.",
        SRV,
        "NoError [SRV 0 0 8101 e1.sin.cart.troli.test., SRV 0 0 8101 e2.sin.cart.troli.test.] []",
    );
    check(
        &server,
        "_http._tcp.jkt.cart.troli.test.",
        SRV,
        "NoError [SRV 0 0 8103 e1.jkt.cart.troli.test., SRV 0 0 8103 e2.jkt.cart.troli.test.] []",
    );
    check(
        &server,
        "_peers._tcp.sin.cart.troli.test.",
        SRV,
        "NoError [SRV 0 0 10101 e3.sin.cart.troli.test.] []",
    );
    let soa = ask(&server, &question("troli.test.", RecordType::SOA), Protocol::Udp);
    assert_eq!((soa.answers.len(), soa.answers[0].ttl), (1, 30));
}

#[test]
fn what_is_not_there_is_said_in_the_right_way() {
    let server = server(&[]);
    use RecordType::{A, AAAA, SRV};
    for (name, kind) in [
        ("cart.troli.test.", AAAA),
        ("cart.troli.test.", SRV),
        ("sin.cart.troli.test.", AAAA),
        ("_tcp.cart.troli.test.", A),
        ("_tcp.sin.cart.troli.test.", A),
        ("_http._tcp.sin.cart.troli.test.", A),
        ("troli.test.", A),
    ] {
        check(&server, name, kind, "NoError [] [SOA 10]");
    }
    for name in [
        "nrt.cart.troli.test.",
        "www.troli.test.",
        "e0.sin.cart.troli.test.",
        "e01.sin.cart.troli.test.",
        "e4.sin.cart.troli.test.",
        "_peers._tcp.jkt.cart.troli.test.",
        "_tcp.nrt.cart.troli.test.",
        "a.b.c.sin.cart.troli.test.",
    ] {
        check(&server, name, A, "NXDomain [] [SOA 10]");
    }
    for name in ["example.com.", "test.", ".", "xtroli.test."] {
        check(&server, name, A, "Refused [] []");
    }
    check(&server, "troli.test.", RecordType::AXFR, "Refused [] []");
}

/// First answer, and the scope that it is good for.
fn for_subnet(server: &Answers, name: &str, subnet: &str) -> (String, Option<u8>) {
    let subnet: ClientSubnet = subnet.parse().expect("a subnet");
    let answer = ask(server, &with_subnet(question(name, RecordType::TXT), subnet), Protocol::Udp);
    let echoed = answer.edns.as_ref().and_then(|edns| edns.option(EdnsCode::Subnet));
    let scope = match echoed {
        Some(EdnsOption::Subnet(echo)) => {
            assert_eq!((echo.addr(), echo.source_prefix()), (subnet.addr(), subnet.source_prefix()));
            Some(echo.scope_prefix())
        }
        _ => None,
    };
    (answer.answers.first().map(|record| record.data.to_string()).unwrap_or_default(), scope)
}

#[test]
fn the_clients_subnet_decides_and_the_scope_says_how_much_of_it() {
    let all_up = server(&[]);
    let (region, scope) = for_subnet(&all_up, "cart.troli.test.", "103.10.64.0/24");
    assert_eq!(region, "jkt;reason=address");
    assert!(scope.is_some_and(|scope| (1..=24).contains(&scope)), "{scope:?}");
    assert_eq!(for_subnet(&all_up, "cart.troli.test.", "171.96.0.0/24").0, "bkk;reason=address");
    assert_eq!(for_subnet(&all_up, "cart.troli.test.", "165.21.83.0/24").0, "sin;reason=address");
    assert_eq!(for_subnet(&all_up, "cart.troli.test.", "2001:c10::/48").0, "sin;reason=address");
    let (region, scope) = for_subnet(&all_up, "cart.troli.test.", "8.8.8.0/24");
    assert_eq!(region, "sin;reason=default");
    assert!(scope.is_some_and(|scope| scope > 0), "what is nowhere has neighbours that are not");
    assert_eq!(
        for_subnet(&all_up, "cart.troli.test.", "0.0.0.0/0"),
        ("sin;reason=default".to_owned(), Some(0))
    );
    assert_eq!(for_subnet(&all_up, "jkt.cart.troli.test.", "103.10.64.0/24").1, Some(0));

    let no_jkt = server(&["jkt"]);
    assert_eq!(for_subnet(&no_jkt, "cart.troli.test.", "103.10.64.0/24").0, "sin;reason=failover");
    let no_bkk = server(&["bkk", "sin"]);
    assert_eq!(for_subnet(&no_bkk, "cart.troli.test.", "171.96.0.0/24").0, "jkt;reason=failover");
}

#[test]
fn questions_that_are_wrong_get_a_code_and_no_more() {
    let server = server(&[]);
    let code = |message: &Message| ask(&server, message, Protocol::Udp).metadata.response_code;
    let cart = || question("cart.troli.test.", RecordType::A);

    for subnet in [
        ClientSubnet::new([103, 10, 64, 1].into(), 24, 24),
        ClientSubnet::new([103, 10, 65, 0].into(), 22, 0),
    ] {
        assert_eq!(code(&with_subnet(cart(), subnet)), ResponseCode::FormErr);
    }
    let mut twice = cart();
    twice.add_query(Query::query(Name::root(), RecordType::A));
    assert_eq!(code(&twice), ResponseCode::FormErr);
    let mut chaos = cart();
    chaos.queries[0].query_class = DNSClass::CH;
    assert_eq!(code(&chaos), ResponseCode::Refused);
    let mut update = cart();
    update.metadata.op_code = OpCode::Status;
    assert_eq!(code(&update), ResponseCode::NotImp);
    let mut new_edns = cart();
    let mut edns = Edns::new();
    edns.set_version(1);
    new_edns.edns = Some(edns);
    // A number that has two names (RFC 6895 §2.3).
    assert_eq!(u16::from(code(&new_edns)), 16);

    let mut response = cart();
    response.metadata.message_type = MessageType::Response;
    let raw = response.to_vec().expect("a message");
    assert_eq!(respond(&server, &raw, resolver(), Protocol::Udp), None);
}

#[test]
fn a_datagram_is_as_large_as_the_asker_says_and_tcp_has_it_all() {
    let server = server(&[]);
    let many = question("_http._tcp.bkk.cart.troli.test.", RecordType::SRV);
    let cut = ask(&server, &many, Protocol::Udp);
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    let whole = ask(&server, &many, Protocol::Tcp);
    assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 60));

    // 60 addresses fit where EDNS says so, and the client's subnet stays.
    let addresses = question("bkk.cart.troli.test.", RecordType::A);
    assert!(ask(&server, &addresses, Protocol::Udp).metadata.truncation);
    let subnet = "171.96.0.0/24".parse().expect("a subnet");
    let fits = ask(&server, &with_subnet(addresses, subnet), Protocol::Udp);
    assert_eq!((fits.metadata.truncation, fits.answers.len()), (false, 60));
    assert!(fits.edns.is_some_and(|edns| edns.option(EdnsCode::Subnet).is_some()));
}

proptest! {
    #[test]
    fn any_bytes_are_harmless_and_answered_briefly(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        flip in prop::collection::vec((0_usize..60, any::<u8>()), 0..8),
    ) {
        let server = server(&[]);
        let subnet = "171.96.0.0/24".parse().expect("a subnet");
        let question = with_subnet(question("bkk.cart.troli.test.", RecordType::A), subnet);
        let mut damaged = question.to_vec().expect("a message");
        for (at, byte) in flip {
            if let Some(place) = damaged.get_mut(at) {
                *place = byte;
            }
        }
        for raw in [&bytes, &damaged] {
            if let Some(answer) = respond(&server, raw, resolver(), Protocol::Udp) {
                prop_assert!(answer.len() <= UDP_BYTES_MAX.into());
                prop_assert_eq!(&answer[..2], &raw[..2], "the answer to this question");
                prop_assert!(answer[2] & 0x80 != 0, "an answer, not a question");
                let edns = Message::from_vec(raw).ok().and_then(|message| message.edns);
                let allowed = edns.map_or(UDP_BYTES_MIN, |edns| edns.max_payload().max(UDP_BYTES_MIN));
                prop_assert!(answer.len() <= allowed.into());
            }
            respond(&server, raw, resolver(), Protocol::Tcp);
        }
    }
}

#[test]
fn an_answer_without_records_is_short_and_says_so() {
    let answers = server(&[]);
    let asked = question("cart.troli.test.", RecordType::A).to_bytes().expect("a message");
    let answer = respond(&answers, &asked, resolver(), Protocol::Udp).expect("an answer");
    let slipped = super::message::without_records(&answer).expect("an answer");
    let message = Message::from_vec(&slipped).expect("a message");
    assert!(message.metadata.truncation && message.answers.is_empty());
    assert_eq!(message.queries.len(), 1, "a resolver compares the question");
    assert_eq!(message.metadata.id, u16::from_be_bytes([asked[0], asked[1]]));
    assert!(slipped.len() <= asked.len());
}
