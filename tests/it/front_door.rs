//! The front door: callers reach the nearest region that serves, and notice nothing when one goes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harness::{Caller, Fleet, FleetOptions, eventually, unique};
use serde_json::json;

use crate::support::assert_json;

async fn fleet() -> Fleet {
    Fleet::start(FleetOptions { front_door: true, ..FleetOptions::default() }).await
}

/// The region that answered, and the one that the front door says answered.
async fn region_of(caller: &Caller, from: Option<&str>) -> (String, String) {
    let ask = caller.get("/v1/cart");
    let answer = match from {
        Some(address) => ask.header("x-forwarded-for", address).await,
        None => ask.await,
    };
    answer.ok();
    (answer.header("cart-region").to_owned(), answer.header("troli-region-choice").to_owned())
}

#[tokio::test]
async fn a_caller_is_sent_to_the_region_of_its_choice_or_its_address() {
    let fleet = fleet().await;
    let guest = fleet.front_door().guest("SGD").await;
    for region in fleet.ids() {
        for ask in [
            guest.get(format!("/v1/cart?region={region}")),
            guest.get("/v1/cart").header("troli-region", region),
            // What the caller says outweighs where it is.
            guest.get(format!("/v1/cart?region={region}")).header("x-forwarded-for", "36.64.1.1"),
        ] {
            let answer = ask.await;
            answer.ok();
            assert_eq!(answer.header("cart-region"), region);
            assert_eq!(answer.header("troli-region-choice"), format!("{region};reason=explicit"));
        }
    }
    guest.get("/v1/cart?region=mars").await.problem(400, "region_unknown");
    for (address, region, reason) in [
        ("36.64.1.1", "jkt", "address"),
        ("49.228.0.1", "bkk", "address"),
        ("203.116.0.1", "sin", "address"),
        ("8.8.8.8", "sin", "default"),
        // From the right: our own proxy, then Indonesia; what stands left of it anybody can claim.
        ("49.228.0.1, 36.64.1.1, 127.0.0.1", "jkt", "address"),
    ] {
        let (answered, chosen) = region_of(&guest, Some(address)).await;
        assert_eq!((answered.as_str(), chosen), (region, format!("{region};reason={reason}")), "{address}");
    }
    assert_eq!(region_of(&guest, None).await.0, "sin", "this machine is nowhere");
}

#[tokio::test]
async fn the_front_door_changes_nothing_in_what_it_passes_on() {
    let fleet = fleet().await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.front_door().guest("SGD").await;
    let key = harness::fresh_key();
    let written = guest.add(&mug, 2).key(&key).header("troli-region", "jkt").await;
    let cart = written.ok();
    let direct = guest.at(fleet.url("jkt"));
    assert_json(&direct.cart().await, cart);
    let again = guest.add(&mug, 2).key(&key).header("troli-region", "bkk").await;
    assert_eq!((again.header("idempotent-replayed"), &again.body), ("true", &written.body));
    for name in ["etag", "cart-version", "set-cookie", "cart-source", "server-timing", "x-request-id"] {
        written.header(name);
    }
    let problem = guest.get("/v1/orders/o_x").header("x-request-id", "through.the.door").await;
    assert_json(&problem.problem(404, "order_unknown")["request_id"], json!("through.the.door"));
}

#[tokio::test]
async fn a_region_that_is_gone_is_replaced_by_the_next_and_comes_back() {
    let fleet = fleet().await;
    let guest = fleet.front_door().guest("SGD").await;
    let indonesian = || region_of(&guest, Some("36.64.1.1"));
    assert_eq!(indonesian().await.0, "jkt");
    fleet.stop_region("jkt").await;
    // At once, without a failure that a caller would see.
    let (answered, chosen) = indonesian().await;
    assert_ne!(answered, "jkt");
    assert_eq!(chosen, format!("{answered};reason=failover"));
    fleet.start_region("jkt").await;
    eventually("the region is used again", async || indonesian().await.0 == "jkt").await;
}

#[tokio::test]
async fn callers_notice_nothing_when_a_region_stops_and_starts() {
    let fleet = fleet().await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "0.10").await;
    let (stop, writes) = (AtomicBool::new(false), AtomicUsize::new(0));
    let shop = async |_: usize| {
        let guest = fleet.front_door().guest("SGD").await.following();
        let mut put_in = 0;
        while !stop.load(Ordering::Relaxed) {
            let written = guest.add(&mug, 1).header("troli-region", "jkt").await;
            put_in += 1;
            assert_json(&written.ok()["lines"][0]["quantity"], json!(put_in));
            let read = guest.get("/v1/cart").header("troli-region", "jkt").await;
            assert_json(&read.ok()["lines"][0]["quantity"], json!(put_in));
            writes.fetch_add(1, Ordering::Relaxed);
            if put_in == 900 {
                guest.delete("/v1/cart/items").await.ok();
                put_in = 0;
            }
        }
    };
    let after = async |count: usize| {
        let begin = writes.load(Ordering::Relaxed);
        eventually("shopping goes on", async || writes.load(Ordering::Relaxed) >= begin + count).await;
    };
    let disturb = async {
        after(20).await;
        for _ in 0..2 {
            fleet.stop_region("jkt").await;
            after(30).await;
            fleet.start_region("jkt").await;
            after(30).await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(disturb, futures_util::future::join_all((0..4).map(shop)));
}

#[tokio::test]
async fn the_front_doors_own_page_shows_the_regions_and_their_health() {
    let fleet = fleet().await;
    let door = fleet.front_door();
    let page = |door: Caller| async move {
        let asked = door.get("/.well-known/troli/front-door").header("x-forwarded-for", "36.64.1.1");
        asked.await.ok()
    };
    let health = |page: &serde_json::Value, id: &str| {
        let regions = page["regions"].as_array().expect("regions").iter();
        regions.into_iter().find(|region| region["id"] == id).map(|region| region["health"].clone())
    };
    let before = page(door.clone()).await;
    assert_json(&before["home"], json!("sin"));
    assert_json(&before["caller"]["country"], json!("ID"));
    assert_json(&before["caller"]["candidates"][0]["region"], json!("jkt"));
    fleet.stop_region("bkk").await;
    eventually("the region is seen to be down", async || {
        health(&page(door.clone()).await, "bkk") == Some(json!("down"))
    })
    .await;
    let after = page(door.clone()).await;
    assert_eq!(health(&after, "sin"), Some(json!("up")));
    let candidates = after["caller"]["candidates"].as_array().expect("candidates");
    assert_json(&candidates[candidates.len() - 1]["region"], json!("bkk"));
}
