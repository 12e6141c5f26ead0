//! Regions among themselves: who is let in, and what becomes of a forward when something is in its way.

use std::future::IntoFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use edge_host::app::App;
use edge_host::clock::Clock;
use edge_host::epoch::KnownEpoch;
use edge_host::error::CartError;
use edge_host::home::HomeRegion;
use edge_host::home::remote::{READS_IN_FLIGHT_MAX, RemoteHome};
use edge_host::model::{CartCommand, Operation, OwnerKind, Principal, WriteRequest};
use edge_host::peers::{PeerFile, PeerFiles, PeerTls};
use futures_util::future::{join, join_all};
use harness::{Answer, Caller, Fleet, FleetOptions, PeerCa, eventually, peer_ca, scratch, shared, unique};
use region_router::discovery::{Discovery, Dns};
use region_router::topology::Targets;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use super::sell_mug;
use crate::support::assert_json;

/// Far above what an answer without waiting takes on a busy machine, and below what waiting for home would take
/// for so many.
const AT_ONCE: Duration = Duration::from_secs(3);
const MANY: usize = 30;

async fn two_regions() -> Fleet {
    Fleet::start(FleetOptions { regions: vec!["sin", "jkt"], ..FleetOptions::default() }).await
}

/// An item that can be bought, and a guest of Jakarta.
async fn shopper(fleet: &Fleet) -> (String, Caller) {
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    guest.add(&mug, 1).await.ok();
    (mug, guest)
}

/// Asks many times, one after the other, and checks that all of it took next to no time.
async fn refused_at_once(ask: impl AsyncFn() -> Answer) {
    let started = Instant::now();
    for _ in 0..MANY {
        let answer = ask().await;
        answer.problem(503, "home_unavailable");
        answer.header("retry-after");
    }
    assert!(started.elapsed() < AT_ONCE, "{MANY} refusals took {:?}", started.elapsed());
}

#[tokio::test]
async fn only_a_region_of_the_topology_is_let_in() {
    let fleet = shared();
    for region in fleet.ids() {
        let jkt = peer_ca().region("jkt");
        let known = fleet.peer(region, Some(&jkt)).get("/internal/catalogue").await;
        assert_eq!(known.status, if region == "sin" { 200 } else { 508 }, "{known}");
        let strangers = [
            ("without a certificate", None),
            ("with one of another CA", Some(PeerCa::new().region("jkt"))),
            ("of a region that is not in the topology", Some(peer_ca().region("xyz"))),
            ("of any region", Some(peer_ca().name("*.troli.internal"))),
            ("of another name", Some(peer_ca().name("jkt.example.com"))),
        ];
        for (who, shows) in strangers {
            let answer = fleet.peer(region, shows.as_ref()).get("/internal/catalogue").send().await;
            assert!(answer.is_err(), "somebody {who} was let in at {region}: {answer:?}");
        }
        // Nothing else is there, not even for a region.
        for path in ["/metrics", "/admin/rules", "/v1/items"] {
            fleet.peer(region, Some(&jkt)).get(path).await.problem(404, "route_unknown");
        }
    }
}

#[tokio::test]
async fn certificates_are_replaced_without_a_restart() {
    let fleet = two_regions().await;
    let new = PeerCa::new();
    for region in fleet.ids() {
        fleet.certify(region, &new);
    }
    let new_jkt = new.region("jkt");
    eventually("the new CA is believed", async || {
        fleet.peer_of(&new, "sin", Some(&new_jkt)).get("/internal/hello").send().await.is_ok()
    })
    .await;
    let old = fleet.peer_of(&new, "sin", Some(&peer_ca().region("jkt"))).get("/internal/hello").send().await;
    assert!(old.is_err(), "the old CA is not believed any more: {old:?}");
    // What was connected stays so, and what connects anew does it by the new ones.
    let (mug, guest) = shopper(&fleet).await;
    fleet.link("jkt").close_connections();
    eventually("home is reached", async || guest.add(&mug, 1).await.status == 200).await;
}

/// Long enough that an edge of a busy machine sees the certificate before its end.
const GOOD_FOR: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_certificate_that_ends_is_a_warning_and_once_it_has_ended_writes_go_elsewhere() {
    let fleet = two_regions().await;
    let ready = async || fleet.internal("jkt").get("/readyz").await.ok();
    let says = |part: &serde_json::Value, what: &str| part.to_string().contains(what);
    assert_eq!(ready().await["warnings"], json!([]));
    fleet.certify_as("jkt", peer_ca(), &peer_ca().region_for("jkt", GOOD_FOR));
    eventually("the edge warns", async || {
        says(&ready().await["warnings"], "certificate between regions ends in")
    })
    .await;
    eventually("the edge says that it only reads", async || {
        let now = ready().await;
        now["writes"] == false && says(&now["reasons"], "certificate between regions has ended")
    })
    .await;
    fleet.certify("jkt", peer_ca());
    eventually("the new certificate is taken", async || {
        let now = ready().await;
        now["writes"] == true && now["warnings"] == json!([])
    })
    .await;
}

#[test]
fn certificates_that_others_would_refuse_are_found_out_at_the_start() {
    let directory = scratch("certificates");
    let (ours, other) = (peer_ca(), PeerCa::new());
    let jkt = ours.region("jkt");
    for (certificate, key, ca, wrong) in [
        (&jkt.certificate, &jkt.key, ours, None),
        (&ours.region("bkk").certificate, &jkt.key, ours, Some(PeerFile::Certificate)),
        (&jkt.certificate, &jkt.key, &other, Some(PeerFile::Certificate)),
        (&jkt.certificate, &ours.region("jkt").key, ours, Some(PeerFile::Key)),
        (&jkt.key, &jkt.key, ours, Some(PeerFile::Certificate)),
        (&jkt.certificate, &jkt.certificate, ours, Some(PeerFile::Key)),
    ] {
        let file = |name: &str, content: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).expect("a file can be written");
            path
        };
        let files = PeerFiles {
            certificate: file("certificate", certificate),
            key: file("key", key),
            ca: file("ca", &ca.pem()),
        };
        let loaded = PeerTls::load("jkt".parse().expect("a region"), files);
        let found = loaded.err().map(|mistakes| mistakes[0].file);
        assert_eq!(found, wrong);
    }
}

#[tokio::test]
async fn forwards_share_one_connection() {
    let fleet = two_regions().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("any port can be listened on");
    let (at, home) = (listener.local_addr().expect("an address"), fleet.link("jkt").addr());
    static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            CONNECTIONS.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut to = TcpStream::connect(home).await?;
                tokio::io::copy_bidirectional(&mut from, &mut to).await
            });
        }
    });
    fleet.stop_region("jkt").await;
    fleet.start_region_with("jkt", &[("TROLI_HOME_PEERS", at.to_string())]).await;
    let (mug, guest) = shopper(&fleet).await;
    for read in join_all((0..MANY).map(|_| guest.get("/v1/orders").into_future())).await {
        read.ok();
    }
    for _ in 0..MANY {
        guest.add(&mug, 1).await.ok();
    }
    assert_eq!(CONNECTIONS.load(Ordering::Relaxed), 1, "feed, catalogue, reads and writes");
}

#[tokio::test]
async fn a_home_that_is_gone_is_not_waited_for() {
    let fleet = two_regions().await;
    let (mug, guest) = shopper(&fleet).await;
    fleet.stop_region("sin").await;
    refused_at_once(async || guest.add(&mug, 1).await).await;
    let read = guest.get("/v1/cart").await;
    assert_json(&read.ok()["lines"][0]["quantity"], json!(1));
    fleet.start_region("sin").await;
    eventually("home is reached again", async || guest.add(&mug, 1).await.status == 200).await;
}

#[tokio::test]
async fn a_silent_link_is_found_out() {
    let fleet = two_regions().await;
    let (mug, guest) = shopper(&fleet).await;
    fleet.link("jkt").pause().await.expect("a pause needs no port");
    // Whoever comes first finds out; nobody after that.
    guest.add(&mug, 1).await.problem(503, "home_unavailable");
    refused_at_once(async || guest.add(&mug, 1).await).await;
    guest.cart().await;
    fleet.link("jkt").restore().await.expect("the link is open again");
    eventually("home is reached again", async || guest.add(&mug, 1).await.status == 200).await;
}

/// Two edges at home, both of which Jakarta knows: one through its link, the other directly.
async fn two_home_edges() -> (Fleet, App, String, Caller) {
    let fleet = two_regions().await;
    let second = fleet.start_edge("sin").await;
    let both = format!("{},{}", fleet.link("jkt").addr(), second.peer_addr());
    fleet.stop_region("jkt").await;
    fleet.start_region_with("jkt", &[("TROLI_HOME_PEERS", both)]).await;
    let (mug, guest) = shopper(&fleet).await;
    (fleet, second, mug, guest)
}

/// Writes one after the other until a while after something has happened, and checks that each is done, once.
async fn writes_go_on_during(event: impl Future<Output = ()>, fleet: &Fleet, mug: &str, guest: &Caller) {
    let happened = AtomicBool::new(false);
    let writing = async {
        let (mut quantity, mut left) = (1, MANY);
        while left > 0 {
            guest.add(mug, 1).await.ok();
            quantity += 1;
            left -= usize::from(happened.load(Ordering::Relaxed));
        }
        quantity
    };
    let happening = async {
        event.await;
        happened.store(true, Ordering::Relaxed);
    };
    let (quantity, ()) = tokio::join!(writing, happening);
    let cart = guest.at(fleet.url("sin")).cart().await;
    assert_json(&cart["lines"][0]["quantity"], json!(quantity));
}

#[tokio::test]
async fn writes_go_on_when_one_of_two_home_edges_is_cut_off() {
    let (fleet, second, mug, guest) = two_home_edges().await;
    writes_go_on_during(fleet.link("jkt").cut(), &fleet, &mug, &guest).await;
    fleet.stop_edge(second).await;
    refused_at_once(async || guest.add(&mug, 1).await).await;
}

#[tokio::test]
async fn writes_go_on_when_one_of_two_home_edges_is_stopped() {
    let (fleet, second, mug, guest) = two_home_edges().await;
    writes_go_on_during(fleet.stop_edge(second), &fleet, &mug, &guest).await;
}

#[tokio::test]
async fn nobody_works_for_a_caller_who_has_gone() {
    let fleet = two_regions().await;
    let (_, guest) = shopper(&fleet).await;
    let version = guest.get("/v1/cart").await.version();
    let home = guest.at(fleet.url("sin"));
    let jkt = fleet.peer("sin", Some(&peer_ca().region("jkt")));
    let write = json!({
        "principal": { "kind": "guest", "id": "g_1", "currency": null },
        "operation": { "commands": [{ "op": "clear" }] },
        "idempotency_key": unique("late"), "key_made": false, "if_match": null,
    });
    let late = jkt.ask("POST", "/internal/writes").json(write).header("troli-deadline-ms", "0").await;
    late.problem(503, "overloaded");
    assert_eq!(home.get("/v1/cart").await.version(), version, "nothing was done");
}

#[tokio::test]
async fn a_stranger_does_not_speak_as_a_region() {
    let fleet = shared();
    let (mug, guest) = shopper(fleet).await;
    for region in fleet.ids() {
        let stranger = guest.at(fleet.url(region));
        stranger.add(&mug, 1).header("troli-deadline-ms", "0").header("troli-epoch", "4000000000").await.ok();
        stranger.get("/v1/orders").header("troli-deadline-ms", "0").await.ok();
    }
}

#[tokio::test]
async fn more_forwards_than_may_be_under_way_are_turned_away_at_once() {
    // Connections are taken by the kernel, and nobody ever says a word on them.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("any port can be listened on");
    let at: Targets = silent.local_addr().expect("an address").to_string().parse().expect("targets");
    let directory = scratch("forwards");
    let [certificate, key, ca] = peer_ca().write("jkt", directory.path()).map(|(_, path)| path.into());
    let (sin, jkt) = ("sin".parse().expect("a region"), "jkt".parse().expect("a region"));
    let tls = PeerTls::load(jkt, PeerFiles { certificate, key, ca }).expect("certificates that fit");
    let home = RemoteHome::start(
        sin,
        Discovery::start(&at, &Dns::system()),
        jkt,
        Arc::new(tls),
        KnownEpoch::default(),
        Clock::of_database(0),
    );
    let asks = join_all((0..READS_IN_FLIGHT_MAX + MANY).map(|_| home.items(&[])));
    let principal = Principal { kind: OwnerKind::Guest, id: "guest".to_owned(), currency: None };
    let write = home.write(WriteRequest {
        principal,
        operation: Operation::Commands(vec![CartCommand::Clear]),
        idempotency_key: "key".to_owned(),
        key_made: false,
        if_match: None,
        route: None,
    });
    let (answers, written) = join(asks, write).await;
    let written = written.map(|reply| reply.answer.status);
    assert_eq!(written, Err(CartError::HomeUnavailable), "reads keep no write out");
    let of = |error: CartError| answers.iter().filter(|answer| answer.as_ref() == Err(&error)).count();
    assert_eq!(of(CartError::Overloaded), MANY);
    assert_eq!(
        of(CartError::HomeUnavailable),
        READS_IN_FLIGHT_MAX,
        "the others were waiting for a connection"
    );
}

#[tokio::test]
async fn a_region_that_names_an_epoch_of_its_own_making_is_not_answered_and_ends_no_writes() {
    let fleet = two_regions().await;
    let mug = sell_mug(&fleet, "jkt").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    guest.add(&mug, 1).await.ok();
    let jkt = fleet.peer("sin", Some(&peer_ca().region("jkt")));
    for epoch in ["2", "4294967295"] {
        let refused = jkt.get("/internal/catalogue").header("troli-epoch", epoch).await;
        assert_eq!((refused.status, refused.body.as_slice()), (422, br#""home_unavailable""#.as_slice()));
    }
    // It was no proof, so nobody else has heard of it.
    guest.add(&mug, 1).await.ok();
    guest.at(fleet.url("sin")).add(&mug, 1).await.ok();
    assert_eq!(jkt.get("/internal/catalogue").header("troli-epoch", "1").await.status, 200);
}
