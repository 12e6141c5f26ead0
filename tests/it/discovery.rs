//! Addresses from DNS, with our own GeoDNS as the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use harness::{Fleet, FleetOptions, eventually, free_port};
use region_router::discovery::{Discovery, Dns};
use region_router::front_door;
use region_router::geodns::{self, Sockets};
use region_router::proximity::Countries;
use region_router::regions::Regions;
use region_router::topology::Topology;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

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
