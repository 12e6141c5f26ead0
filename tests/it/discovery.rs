//! Addresses from DNS, with our own GeoDNS as the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use edge_host::clock::Clock;
use edge_host::epoch::KnownEpoch;
use edge_host::model::FeedPosition;
use edge_host::store::mysql::{self, MySqlStore, MySqlTarget};
use edge_host::store::redis::{RedisCache, RedisTarget};
use edge_host::store::{CacheFeed, CartCache, PrimaryStore};
use harness::{Fleet, FleetOptions, MySqlServer, RedisServer, eventually, executable, free_port};
use region_router::discovery::{Discovery, Dns};
use region_router::front_door;
use region_router::geodns::{self, Sockets};
use region_router::link::Link;
use region_router::proximity::Countries;
use region_router::regions::Regions;
use region_router::topology::Topology;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::store_contract::support::{guest, one_more, write_of};

/// A topology of one region, whose edges are at these addresses.
fn topology(public: &[&str]) -> Topology {
    let public: Vec<String> = public.iter().map(|address| format!("\"{address}\"")).collect();
    let text = format!(
        "home = \"sin\"\ncurrency_default = \"SGD\"\n[[region]]\nid = \"sin\"\nname = \"Singapore\"\n\
         country = \"SG\"\ncurrency = \"SGD\"\npublic = [{}]\ninternal = [\"127.0.0.1:1\"]\n\
         [round_trips_assumed_ms]\n",
        public.join(", ")
    );
    Topology::parse(&text).expect("a topology")
}

/// A name server that can be taken away and put back, with another topology.
async fn name_server(address: SocketAddr, topology: Topology) -> JoinHandle<()> {
    let config = geodns::Config {
        regions: Arc::new(Regions::new(topology)),
        countries: Arc::new(Countries::BuiltIn),
        dns: Dns::system(),
        zone: "troli.test".parse().expect("a zone"),
        ttl: Duration::from_secs(1),
    };
    let sockets = Sockets::bind(address).await.expect("the address is free");
    tokio::spawn(geodns::run(sockets, config, std::future::pending()))
}

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().expect("an address")).collect()
}

#[tokio::test]
async fn addresses_follow_dns_and_the_last_good_ones_stay_when_it_is_gone() {
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let server = name_server(at, topology(&["198.51.100.1:8101", "[2001:db8::1]:8101"])).await;
    let dns = Dns::servers([at]);
    let edges = Discovery::start(&"srv:_http._tcp.sin.cart.troli.test".parse().expect("targets"), &dns);
    let host = Discovery::start(&"sin.cart.troli.test:7000,127.0.0.1:1".parse().expect("targets"), &dns);
    assert_eq!(*host.addresses(), *addresses(&["127.0.0.1:1"]), "what needs no look-up is there at once");
    let found = |discovery: &Discovery, expected: &[&str]| {
        let (mut found, mut expected) = (discovery.addresses().to_vec(), addresses(expected));
        found.sort_unstable();
        expected.sort_unstable();
        found == expected
    };
    eventually("the service is found", async || found(&edges, &["198.51.100.1:8101", "[2001:db8::1]:8101"]))
        .await;
    eventually("the host is found", async || {
        found(&host, &["198.51.100.1:7000", "[2001:db8::1]:7000", "127.0.0.1:1"])
    })
    .await;

    server.abort();
    assert!(server.await.expect_err("it was taken away").is_cancelled());
    // Longer than an answer is good for: the next one fails, twice at least.
    let missed = Discovery::start(&"sin.cart.troli.test:1".parse().expect("targets"), &dns);
    let given_up = tokio::time::timeout(Duration::from_secs(3), missed.found()).await;
    assert!(given_up.is_err(), "there is nobody to answer");
    assert!(found(&edges, &["198.51.100.1:8101", "[2001:db8::1]:8101"]));

    let _server = name_server(at, topology(&["198.51.100.1:8102", "198.51.100.2:8101"])).await;
    eventually("the service has moved", async || found(&edges, &["198.51.100.1:8102", "198.51.100.2:8101"]))
        .await;
    eventually("a name that nobody knew is found", async || !missed.addresses().is_empty()).await;
}

#[tokio::test]
async fn a_front_door_finds_the_edges_of_its_regions_by_name() {
    let fleet = Fleet::start(FleetOptions {
        regions: vec!["sin", "jkt"],
        front_door: true,
        ..FleetOptions::default()
    })
    .await;
    let internal = |id: &str| fleet.internal_address(id);
    let mut text = String::from("home = \"sin\"\ncurrency_default = \"SGD\"\n");
    for (id, country) in [("sin", "SG"), ("jkt", "ID")] {
        text += &format!(
            "[[region]]\nid = \"{id}\"\nname = \"{id}\"\ncountry = \"{country}\"\ncurrency = \"SGD\"\n\
             public = [\"srv:_http._tcp.{id}.cart.troli.test\"]\ninternal = [\"{}\"]\n",
            internal(id)
        );
    }
    text += "[round_trips_assumed_ms]\nsin-jkt = 13\n";
    let config = front_door::Config {
        regions: Arc::new(Regions::new(Topology::parse(&text).expect("a topology"))),
        countries: Arc::new(Countries::BuiltIn),
        trusted_proxies: Vec::new(),
        cors_origins: Vec::new(),
        dns: Dns::servers([fleet.geodns()]),
        redirect: false,
        limits: front_door::Limits::default(),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let door = harness::Caller::new(format!("http://{}", listener.local_addr().expect("an address")));
    let _door = tokio::spawn(front_door::run(listener, config, std::future::pending()));
    for region in ["jkt", "sin"] {
        eventually("the region is found and serves", async || {
            let asked = door.get("/v1/items").header("troli-region", region);
            asked.await.status == 200 && {
                let chosen = door.get("/v1/items").header("troli-region", region).await;
                chosen.header("troli-region-choice") == format!("{region};reason=explicit")
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_is_found_by_name_and_again_when_it_has_moved() {
    let server = MySqlServer::shared().await;
    let url = server.fresh_database().await;
    let direct = server.address().to_string();
    let any = "127.0.0.1:0".parse().expect("an address");
    let link = async || Link::start(any, server.address(), Duration::ZERO).await.expect("a link can listen");
    let (old, new) = (link().await, link().await);
    let (old_at, new_at) = (old.addr().to_string(), new.addr().to_string());

    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let names = name_server(at, topology(&[&old_at, "127.0.0.1:2"])).await;
    let by_name = |name: &str| {
        let target: MySqlTarget = url.replace(&direct, name).parse().expect("a good URL");
        target.with_dns(Dns::servers([at]))
    };
    let service = by_name("srv:_http._tcp.sin.cart.troli.test");
    let host = by_name(&format!("sin.cart.troli.test:{}", old.addr().port()));
    mysql::migrate(&service).await.expect("one of the two takes writes");
    let primary = MySqlStore::open(&service, KnownEpoch::default(), Clock::of_database(0));
    let by_host = MySqlStore::open(&host, KnownEpoch::default(), Clock::of_database(0));
    let replica = MySqlStore::open_replica(&service, KnownEpoch::default());
    let owner = guest("named");
    for store in [&primary, &by_host] {
        eventually("the primary is found", async || {
            store.write(&write_of(&owner), &mut one_more).await.is_ok()
        })
        .await;
    }
    eventually("the replica is found", async || {
        replica.cart(&owner.cart_id()).await.is_ok_and(|cart| cart.is_some())
    })
    .await;

    names.abort();
    assert!(names.await.expect_err("it was taken away").is_cancelled());
    old.cut().await;
    let _names = name_server(at, topology(&[&new_at])).await;
    eventually("the primary is found again", async || {
        primary.write(&write_of(&owner), &mut one_more).await.is_ok()
    })
    .await;
    eventually("the replica is found again", async || replica.cart(&owner.cart_id()).await.is_ok()).await;
}

#[tokio::test]
async fn an_operator_finds_the_servers_by_name() {
    let server = MySqlServer::shared().await;
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let _names = name_server(at, topology(&[&server.address().to_string()])).await;
    let direct = server.address().to_string();
    let url = server.fresh_database().await;
    mysql::migrate(&url.parse().expect("a good URL")).await.expect("migrated");
    let url = url.replace(&direct, "srv:_http._tcp.sin.cart.troli.test");
    let executable = tokio::task::spawn_blocking(|| executable("edge-host")).await;
    let mut command = Command::new(executable.expect("building does not panic"));
    command.args(["failover", "status"]).kill_on_drop(true);
    command.env("TROLI_PROMOTE_URL", url).env("TROLI_DNS_SERVERS", at.to_string());
    let found = command.output().await.expect("the executable runs");
    let said = String::from_utf8_lossy(&found.stdout);
    assert!(found.status.success() && said.contains("\"takes_writes\":true"), "{found:?}");
}

#[tokio::test]
async fn a_cache_is_found_by_name_and_again_when_it_has_moved() {
    let server = RedisServer::start().await;
    let any = "127.0.0.1:0".parse().expect("an address");
    let link = async || Link::start(any, server.address(), Duration::ZERO).await.expect("a link can listen");
    let (old, new) = (link().await, link().await);
    let at = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let names = name_server(at, topology(&[&old.addr().to_string()])).await;
    let direct = server.address().to_string();
    let by_name = |name: &str| {
        let target = RedisTarget::new(&server.url().replace(&direct, name), None).expect("a good URL");
        RedisCache::new(target.with_dns(Dns::servers([at])))
    };
    let service = by_name("srv:_http._tcp.sin.cart.troli.test");
    let from = CacheFeed { epoch: 1, position: FeedPosition::at(0) };
    eventually("the service is found", async || service.start_anew(&from).await.is_ok()).await;
    let host = by_name(&format!("sin.cart.troli.test:{}", old.addr().port()));
    eventually("the host is found", async || {
        host.feed_position().await.ok().flatten().as_ref() == Some(&from)
    })
    .await;

    names.abort();
    assert!(names.await.expect_err("it was taken away").is_cancelled());
    old.cut().await;
    let _names = name_server(at, topology(&[&new.addr().to_string()])).await;
    eventually("the service is found again", async || {
        service.feed_position().await.ok().flatten().as_ref() == Some(&from)
    })
    .await;
}
