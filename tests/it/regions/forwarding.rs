use std::time::Duration;

use harness::{Fleet, FleetOptions, eventually, peer_ca, shared, unique};
use serde_json::json;

use crate::support::assert_json;

const BY_JKT: &str = "by=_troli-jkt";
/// Long enough to cut an answer off while it is on its way, and not so long that the link is taken for dead.
const RTT: Duration = Duration::from_millis(600);

#[tokio::test]
async fn a_forwarded_request_is_never_forwarded_again() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("bkk").guest("SGD").await;
    for forwarded in [BY_JKT, "for=192.0.2.1;BY=\"_troli-jkt\"", "for=192.0.2.1, for=10.0.0.1;by=_troli-jkt"]
    {
        guest.add(&mug, 1).header("forwarded", forwarded).await.problem(508, "loop_detected");
        guest.delete("/v1/cart/items").header("forwarded", forwarded).await.problem(508, "loop_detected");
        guest.get("/v1/orders").header("forwarded", forwarded).await.problem(508, "loop_detected");
    }
    assert_json(&guest.cart().await["lines"], json!([]));
    // Somebody else's proxies are no loop, and home forwards to nobody.
    guest.add(&mug, 1).header("forwarded", "for=192.0.2.1;by=203.0.113.43").await.ok();
    guest.at(fleet.url("sin")).add(&mug, 1).header("forwarded", BY_JKT).await.ok();
}

#[tokio::test]
async fn a_region_that_is_not_home_takes_no_writes_of_other_regions() {
    let fleet = shared();
    let write = json!({
        "principal": { "kind": "guest", "id": "g_1", "currency": null },
        "operation": { "commands": [{ "op": "clear" }] },
        "idempotency_key": "k", "key_made": false, "if_match": null,
    });
    for (region, expected) in [("jkt", 508), ("bkk", 508), ("sin", 200)] {
        let other = fleet.peer(region, Some(&peer_ca().region("jkt")));
        for forwarded in [Some(BY_JKT), None] {
            let ask = other.ask("POST", "/internal/writes").json(write.clone());
            let ask = match forwarded {
                Some(forwarded) => ask.header("forwarded", forwarded),
                None => ask,
            };
            let answer = ask.await;
            assert_eq!(answer.status, expected, "{region}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_forward_that_breaks_half_way_happens_once() {
    let options = FleetOptions { regions: vec!["sin", "jkt"], ..FleetOptions::default() };
    let fleet = Fleet::start(options).await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let home = guest.at(fleet.url("sin"));
    let link = fleet.link("jkt");
    let line = guest.add(&mug, 1).await.ok()["lines"][0]["line_id"].as_str().expect("a line").to_owned();
    let version = home.get("/v1/cart").await.version();

    link.set_rtt(RTT);
    // Without a key of the client's: done twice, the second would find no line.
    let asked = tokio::spawn(guest.delete(format!("/v1/cart/items/{line}")).into_future());
    eventually("home has taken the line out", async || home.get("/v1/cart").await.version() != version).await;
    link.set_rtt(Duration::ZERO);
    link.close_connections();
    let answer = asked.await.expect("asking does not panic");
    assert_json(&answer.ok()["lines"], json!([]));
    assert_eq!(answer.header("idempotent-replayed"), "true", "it was sent a second time: {answer}");
    let after = home.get("/v1/cart").await.version();
    assert_eq!(answer.version(), after);

    // With the client's key likewise.
    link.set_rtt(RTT);
    let asked = tokio::spawn(guest.add(&mug, 2).into_future());
    eventually("home has put the units in", async || home.get("/v1/cart").await.version() != after).await;
    link.set_rtt(Duration::ZERO);
    link.close_connections();
    let answer = asked.await.expect("asking does not panic");
    assert_json(&answer.ok()["lines"][0]["quantity"], json!(2));
    assert_json(&home.cart().await["lines"][0]["quantity"], json!(2));
}

#[tokio::test]
async fn a_distant_region_sees_its_own_write_at_once() {
    let rtt = Duration::from_millis(80);
    let options = FleetOptions { regions: vec!["sin", "jkt"], rtt, ..FleetOptions::default() };
    let fleet = Fleet::start(options).await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("jkt").guest("SGD").await.following();
    for n in 1..=10 {
        let written = guest.add(&mug, 1).await;
        assert_json(&written.ok()["lines"][0]["quantity"], json!(n));
        let read = guest.get("/v1/cart").await;
        assert_json(&read.ok()["lines"][0]["quantity"], json!(n));
        assert_eq!(read.header("cart-source"), "cache", "no way to home and back for it: {read}");
    }
}
