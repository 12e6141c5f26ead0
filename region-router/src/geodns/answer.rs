//! What is answered, before it becomes a message.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::rdata::{NS, SOA, SRV, TXT};
use hickory_server::proto::rr::{Name, RData, Record, RecordType};

use super::Config;
use super::names::{Owner, Zone};
use crate::decision::{Candidate, ClientHint};
use crate::discovery::Discovery;
use crate::proximity::Countries;
use crate::regions::Regions;
use crate::topology::RegionId;

/// How long resolvers keep that there is nothing. Shorter than answers: a region that is new should not have to
/// wait because somebody asked too early.
const NEGATIVE_TTL: Duration = Duration::from_secs(10);

/// For secondary servers, which this zone has none of: usual values (RFC 1912 §2.2).
const SOA_REFRESH_S: i32 = 3600;
const SOA_RETRY_S: i32 = 600;
const SOA_EXPIRE_S: i32 = 86_400;

/// Knows all answers.
pub(super) struct Answers {
    regions: Arc<Regions>,
    countries: Arc<Countries>,
    places: HashMap<RegionId, Places>,
    zone: Zone,
    ttl_s: u32,
    serial: u32,
    /// Where this server is reached, if it listens at one address.
    own_address: Option<IpAddr>,
}

/// Where the parts of a region are.
struct Places {
    public: Arc<Discovery>,
    peers: Arc<Discovery>,
}

/// Who asks, as far as that decides the answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    /// The client's network, or the resolver's address.
    pub(super) address: IpAddr,
    /// How much of it is known.
    pub(super) prefix_len: u8,
}

/// The sections of an answer.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) code: ResponseCode,
    pub(super) answers: Vec<Record>,
    pub(super) authority: Vec<Record>,
    pub(super) additional: Vec<Record>,
    /// How many leading bits of the asker's address decided it.
    pub(super) scope: u8,
}

impl Answers {
    pub(super) fn new(config: &Config, own_address: Option<IpAddr>) -> Self {
        let places = config.regions.topology().regions().iter().map(|region| {
            let [public, peers] =
                [&region.public, &region.peers].map(|targets| Discovery::start(targets, &config.dns));
            (region.id, Places { public, peers })
        });
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            places: places.collect(),
            regions: config.regions.clone(),
            countries: config.countries.clone(),
            zone: config.zone.clone(),
            ttl_s: config.ttl.as_secs().try_into().unwrap_or(u32::MAX),
            // Serial numbers wrap (RFC 1982).
            serial: now.as_secs() as u32,
            own_address,
        }
    }

    /// The answer to a question of class IN.
    pub(super) fn to(&self, name: &Name, kind: RecordType, asker: Asker) -> Reply {
        if !self.zone.contains(name) || matches!(kind, RecordType::AXFR | RecordType::IXFR) {
            return Reply { code: ResponseCode::Refused, ..Reply::default() };
        }
        let mut reply = Reply::default();
        match self.zone.owner(name).filter(|owner| self.exists(owner)) {
            Some(owner) => self.fill(&mut reply, owner, name, kind, asker),
            None => reply.code = ResponseCode::NXDomain,
        }
        if reply.answers.is_empty() {
            // Both kinds of nothing are kept as long as the SOA says (RFC 2308 §3).
            reply.authority.push(self.soa(NEGATIVE_TTL));
        }
        reply
    }

    fn exists(&self, owner: &Owner) -> bool {
        match *owner {
            Owner::Apex | Owner::NameServer | Owner::Cart | Owner::NearestEdges | Owner::Between => true,
            Owner::Region(id) | Owner::BetweenRegion(id) | Owner::Edges(id) => self.places.contains_key(&id),
            Owner::Peers(id) => !self.peers(id).is_empty(),
            Owner::Host(id, number) => number < self.hosts(id).len(),
        }
    }

    fn fill(&self, reply: &mut Reply, owner: Owner, name: &Name, kind: RecordType, asker: Asker) {
        let wanted = |one: RecordType| kind == one || kind == RecordType::ANY;
        match owner {
            Owner::Apex => {
                if wanted(RecordType::SOA) {
                    reply.answers.push(self.soa(Duration::from_secs(self.ttl_s.into())));
                }
                if wanted(RecordType::NS) {
                    let name_server = self.zone.name_server();
                    reply.additional = addresses(&name_server, self.own_address, RecordType::ANY, self.ttl_s);
                    reply.answers.push(self.record(name, RData::NS(NS(name_server))));
                }
            }
            Owner::NameServer => reply.answers = addresses(name, self.own_address, kind, self.ttl_s),
            Owner::Cart => {
                let Some(nearest) = self.nearest(reply, asker) else { return };
                // As the front door says it in `Troli-Region-Choice`.
                let choice = format!("{};reason={}", nearest.region, nearest.reason);
                let choice = RData::TXT(TXT::new(vec![choice]));
                let choice = self.record(name, choice);
                if wanted(RecordType::TXT) {
                    reply.answers.push(choice);
                } else if matches!(kind, RecordType::A | RecordType::AAAA) {
                    // For whoever looks at the answer with `dig`, and wonders.
                    reply.additional.push(choice);
                }
                let public = self.public(nearest.region);
                reply.answers.extend(addresses(name, ips(&public), kind, self.ttl_s));
            }
            Owner::Region(id) => reply.answers = addresses(name, ips(&self.public(id)), kind, self.ttl_s),
            Owner::Host(id, number) => {
                let host = self.hosts(id).get(number).copied();
                reply.answers = addresses(name, host, kind, self.ttl_s);
            }
            Owner::NearestEdges => {
                let Some(nearest) = self.nearest(reply, asker) else { return };
                if wanted(RecordType::SRV) {
                    self.services(reply, name, nearest.region, &self.public(nearest.region));
                }
            }
            Owner::Edges(id) if wanted(RecordType::SRV) => self.services(reply, name, id, &self.public(id)),
            Owner::Peers(id) if wanted(RecordType::SRV) => self.services(reply, name, id, &self.peers(id)),
            Owner::Edges(_) | Owner::Peers(_) | Owner::Between | Owner::BetweenRegion(_) => {}
        }
    }

    /// The first region for somebody there that has an address to give.
    fn nearest(&self, reply: &mut Reply, asker: Asker) -> Option<Candidate> {
        let location = self.countries.locate(asker.address);
        reply.scope = location.prefix_len.min(asker.prefix_len);
        let hint = ClientHint { country: location.country, ..ClientHint::default() };
        let candidates = self.regions.decide(&hint).expect("nobody names a region here");
        candidates.into_iter().find(|candidate| !self.public(candidate.region).is_empty())
    }

    /// Every listener, and where its host is, so that nobody has to ask again.
    fn services(&self, reply: &mut Reply, name: &Name, region: RegionId, listeners: &[SocketAddr]) {
        let hosts = self.hosts(region);
        for listener in listeners {
            let Some(number) = hosts.iter().position(|host| *host == listener.ip()) else { continue };
            let host = self.zone.host(region, number);
            let known = reply.additional.iter().any(|record| record.name == host);
            if !known {
                reply.additional.extend(addresses(&host, [listener.ip()], RecordType::ANY, self.ttl_s));
            }
            // All alike: who asks balances by himself.
            reply.answers.push(self.record(name, RData::SRV(SRV::new(0, 0, listener.port(), host))));
        }
    }

    fn public(&self, region: RegionId) -> Arc<[SocketAddr]> {
        self.places.get(&region).map(|places| places.public.addresses()).unwrap_or_default()
    }

    fn peers(&self, region: RegionId) -> Arc<[SocketAddr]> {
        self.places.get(&region).map(|places| places.peers.addresses()).unwrap_or_default()
    }

    /// The hosts of a region, each once, in the order of its listeners.
    fn hosts(&self, region: RegionId) -> Vec<IpAddr> {
        let mut hosts = Vec::new();
        for listener in self.public(region).iter().chain(self.peers(region).iter()) {
            if !hosts.contains(&listener.ip()) {
                hosts.push(listener.ip());
            }
        }
        hosts
    }

    fn record(&self, name: &Name, data: RData) -> Record {
        Record::from_rdata(name.clone(), self.ttl_s, data)
    }

    fn soa(&self, ttl: Duration) -> Record {
        let seconds = |ttl: Duration| u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
        let soa = SOA::new(
            self.zone.name_server(),
            self.zone.hostmaster(),
            self.serial,
            SOA_REFRESH_S,
            SOA_RETRY_S,
            SOA_EXPIRE_S,
            seconds(NEGATIVE_TTL),
        );
        Record::from_rdata(self.zone.origin().clone(), seconds(ttl), RData::SOA(soa))
    }
}

/// Records of the kind that is wanted, each address once.
fn addresses(
    name: &Name,
    hosts: impl IntoIterator<Item = IpAddr>,
    kind: RecordType,
    ttl_s: u32,
) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    for host in hosts {
        let data = RData::from(host);
        let wanted = kind == RecordType::ANY || kind == data.record_type();
        if wanted && !records.iter().any(|record| record.data == data) {
            records.push(Record::from_rdata(name.clone(), ttl_s, data));
        }
    }
    records
}

fn ips(listeners: &[SocketAddr]) -> impl Iterator<Item = IpAddr> {
    listeners.iter().map(SocketAddr::ip)
}
