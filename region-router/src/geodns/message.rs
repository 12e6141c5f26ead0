//! From the bytes of a question to those of an answer.

use std::net::{IpAddr, SocketAddr};

use hickory_server::net::xfer::Protocol;
use hickory_server::proto::op::{Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode};
use hickory_server::proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_server::proto::rr::{DNSClass, Name};
use hickory_server::proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, BinEncoder};
use hickory_server::server::Request;
use hickory_server::zone_handler::MessageResponseBuilder;

use super::answer::{Answers, Asker, Reply};

/// A datagram for everybody (RFC 1035 §4.2.1), and the least that EDNS may ask for (RFC 6891 §6.2.3).
pub(super) const UDP_BYTES_MIN: u16 = 512;

/// No larger datagrams, whatever the asker can take: larger ones are fragmented on the way, and lost
/// (dnsflagday.net/2020).
pub(super) const UDP_BYTES_MAX: u16 = 1232;

/// The version of EDNS that is spoken (RFC 6891 §6.1.3).
const EDNS_VERSION: u8 = 0;

/// The answer to a message; nothing for what is not a question at all. In a datagram, at most as large as the
/// asker says.
pub(super) fn respond(
    answers: &Answers,
    raw: &[u8],
    from: SocketAddr,
    protocol: Protocol,
) -> Option<Vec<u8>> {
    let header = Header::read(&mut BinDecoder::new(raw)).ok()?;
    if header.metadata.message_type == MessageType::Response {
        // Two servers could answer each other for ever.
        return None;
    }
    let Ok(request) = Request::from_bytes(raw.to_vec(), from, protocol) else {
        return header_only(&header.metadata, ResponseCode::FormErr, false);
    };
    let asked = request.edns.as_ref();
    let bytes_max = match (protocol, asked) {
        (Protocol::Udp, Some(edns)) => edns.max_payload().clamp(UDP_BYTES_MIN, UDP_BYTES_MAX),
        (Protocol::Udp, None) => UDP_BYTES_MIN,
        _ => u16::MAX,
    };
    let mut edns = asked.map(|_| {
        let mut edns = Edns::new();
        edns.set_version(EDNS_VERSION).set_max_payload(UDP_BYTES_MAX);
        edns
    });
    let reply = match question(&request) {
        Ok((name, subnet)) => {
            let asker = subnet.map_or_else(|| by_source(from), by_subnet);
            let reply = answers.to(&name, request.queries.queries()[0].query_type(), asker);
            if let (Some(edns), Some(subnet)) = (&mut edns, subnet) {
                let echo = ClientSubnet::new(subnet.addr(), subnet.source_prefix(), scope(subnet, &reply));
                edns.options_mut().insert(EdnsOption::Subnet(echo));
            }
            reply
        }
        Err(code) => Reply { code, ..Reply::default() },
    };
    encode(&request, &reply, edns.as_ref(), bytes_max)
}

/// The name asked for, in lower case, and the client's network where the question has one.
fn question(request: &Request) -> Result<(Name, Option<&ClientSubnet>), ResponseCode> {
    if request.metadata.op_code != OpCode::Query {
        return Err(ResponseCode::NotImp);
    }
    let [query] = request.queries.queries() else {
        return Err(ResponseCode::FormErr);
    };
    let mut subnet = None;
    if let Some(edns) = &request.edns {
        if edns.version() > EDNS_VERSION {
            return Err(ResponseCode::BADVERS);
        }
        subnet = match edns.options().get_all(EdnsCode::Subnet)[..] {
            [] => None,
            [EdnsOption::Subnet(subnet)] if well_formed(subnet) => Some(subnet),
            _ => return Err(ResponseCode::FormErr),
        };
    }
    if query.query_class() != DNSClass::IN {
        return Err(ResponseCode::Refused);
    }
    Ok((Name::from(query.name()), subnet))
}

/// By RFC 7871 §6: no bits beyond the prefix, and a scope of 0 in questions.
fn well_formed(subnet: &ClientSubnet) -> bool {
    let network = ipnet::IpNet::new(subnet.addr(), subnet.source_prefix());
    subnet.scope_prefix() == 0 && network.is_ok_and(|network| network.network() == subnet.addr())
}

/// A client that gives none of its address wants nothing to depend on it (RFC 7871 §7.1.2), and is nowhere.
fn by_subnet(subnet: &ClientSubnet) -> Asker {
    Asker { address: subnet.addr(), prefix_len: subnet.source_prefix() }
}

fn by_source(from: SocketAddr) -> Asker {
    let address = from.ip().to_canonical();
    Asker { address, prefix_len: whole(address) }
}

fn whole(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn scope(subnet: &ClientSubnet, reply: &Reply) -> u8 {
    reply.scope.min(subnet.source_prefix())
}

/// What does not fit is left out: first what nobody asked for, then everything, and the asker comes again by TCP.
fn encode(request: &Request, reply: &Reply, edns: Option<&Edns>, bytes_max: u16) -> Option<Vec<u8>> {
    for additional in [&reply.additional[..], &[]] {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = matches!(reply.code, ResponseCode::NoError | ResponseCode::NXDomain);
        metadata.response_code = reply.code;
        let mut builder = MessageResponseBuilder::from_message_request(request);
        if let Some(edns) = edns {
            builder.edns(edns);
        }
        let response = builder.build(
            metadata,
            reply.answers.iter(),
            reply.authority.iter(),
            [].iter(),
            additional.iter(),
        );
        let mut bytes = Vec::with_capacity(UDP_BYTES_MIN.into());
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(bytes_max);
        match response.destructive_emit(&mut encoder) {
            Ok(info) if !info.truncation && bytes.len() <= bytes_max.into() => return Some(bytes),
            _ => {}
        }
    }
    truncated(request, edns, bytes_max)
}

/// The question, and that the answer is too long.
fn truncated(request: &Request, edns: Option<&Edns>, bytes_max: u16) -> Option<Vec<u8>> {
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.authoritative = true;
    metadata.truncation = true;
    let mut builder = MessageResponseBuilder::from_message_request(request);
    if let Some(edns) = edns {
        builder.edns(edns);
    }
    let mut bytes = Vec::with_capacity(UDP_BYTES_MIN.into());
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(bytes_max);
    let emitted = builder.build_no_records(metadata).destructive_emit(&mut encoder).is_ok();
    if emitted && bytes.len() <= bytes_max.into() {
        return Some(bytes);
    }
    header_only(&request.metadata, ResponseCode::NoError, true)
}

/// The bytes of a header, before the question.
const HEADER_BYTES: usize = 12;
/// Of the third byte of a header: that the answer is truncated.
const TRUNCATED: u8 = 0b10;

/// An answer of ours with its question only, and as truncated: no larger than what was asked.
pub(super) fn without_records(answer: &[u8]) -> Option<Vec<u8>> {
    let header = answer.get(..HEADER_BYTES)?;
    let questions = &header[4..6];
    let mut end = HEADER_BYTES;
    if questions == [0, 1] {
        // Labels, each after its length, and the root; then type and class.
        while *answer.get(end)? != 0 {
            end += 1 + usize::from(answer[end]);
        }
        end += 5;
    }
    let mut short = answer.get(..end)?.to_vec();
    short[2] |= TRUNCATED;
    short[6..HEADER_BYTES].fill(0);
    Some(short)
}

fn header_only(asked: &Metadata, code: ResponseCode, truncation: bool) -> Option<Vec<u8>> {
    let mut metadata = Metadata::response_from_request(asked);
    metadata.response_code = code;
    metadata.truncation = truncation;
    Header { metadata, counts: HeaderCounts::default() }.to_bytes().ok()
}
