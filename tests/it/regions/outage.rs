use harness::{Answer, Caller, Fleet, FleetOptions, eventually, unique};
use serde_json::{Value, json};

use super::sell_mug;
use crate::support::{assert_json, line_of, sgd, warnings_of};

#[track_caller]
fn home_unavailable(answer: &Answer) {
    answer.problem(503, "home_unavailable");
    let wait: u32 = answer.header("retry-after").parse().expect("whole seconds");
    assert!((1..=60).contains(&wait), "{answer}");
}

/// A cart as it is when home can be reached.
fn unwarned(mut cart: Value) -> Value {
    let warnings = cart["warnings"].as_array_mut().expect("a cart has warnings");
    warnings.retain(|warning| warning["code"] != "home_unreachable");
    cart
}

async fn fleet() -> Fleet {
    Fleet::start(FleetOptions::default()).await
}

/// Waits until a region follows home again: a new item is heard of.
async fn hears_of_news(fleet: &Fleet, region: &str) {
    let news = unique("news");
    fleet.admin().sell(&news, "1.00").await;
    let nobody = fleet.at(region);
    eventually(&format!("{region} follows home"), async || {
        nobody.get(format!("/v1/items/{news}")).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_region_cut_off_from_home_reads_on_and_refuses_to_write() {
    let fleet = fleet().await;
    let mug = sell_mug(&fleet, "jkt").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let fresh = fleet.at("jkt").guest("SGD").await;
    let written = guest.add(&mug, 2).await;
    let order_free = fleet.at("bkk").guest("SGD").await;
    order_free.add(&mug, 1).await.ok();

    fleet.link("jkt").cut().await;
    let read = guest.get("/v1/cart").header("cart-version", written.version()).await;
    assert_json(&unwarned(read.ok()), written.ok());
    assert_eq!(read.header("cart-source"), "cache");
    eventually("the client is warned that home was not asked", async || {
        warnings_of(&guest.cart().await) == ["home_unreachable"]
    })
    .await;
    assert_json(&guest.get("/v1/cart/count").await.ok(), json!({ "lines": 1, "quantity": 2 }));
    fleet.at("jkt").get(format!("/v1/items/{mug}")).await.ok();
    fleet.at("jkt").guest("SGD").await;

    let line = written.ok()["lines"][0]["line_id"].as_str().expect("a line").to_owned();
    let line = format!("/v1/cart/items/{line}");
    for ask in [
        guest.add(&mug, 1),
        guest.patch(&line, json!({ "quantity": 9 })),
        guest.delete(&line),
        guest.put("/v1/cart/coupons/ANY"),
        guest.post("/v1/cart/commands", json!({ "commands": [{ "op": "clear" }] })),
        guest
            .post("/v1/cart/checkout", json!({ "expected_total": sgd("20.00") }))
            .if_match(&written.version()),
        guest.get("/v1/orders"),
        // Never read here, so only home knows it.
        fresh.get("/v1/cart"),
    ] {
        home_unavailable(&ask.await);
    }
    // The others notice nothing.
    order_free.add(&mug, 1).await.ok();

    fleet.link("jkt").restore().await.expect("the link listens again");
    eventually("the region reaches home again", async || fresh.get("/v1/cart").await.status == 200).await;
    let cart = guest.add(&mug, 1).await.ok();
    assert_json(&line_of(&cart, &mug)["quantity"], json!(3));
    assert_json(&guest.at(fleet.url("sin")).cart().await, cart);
    eventually("nobody is warned any more", async || warnings_of(&guest.cart().await).is_empty()).await;
}

#[tokio::test]
async fn a_region_never_shows_less_than_its_client_has_seen() {
    let fleet = fleet().await;
    let mug = sell_mug(&fleet, "jkt").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let old = guest.add(&mug, 1).await;
    fleet.link("jkt").cut().await;
    let new = guest.at(fleet.url("bkk")).add(&mug, 1).await;
    // Who has seen the newer cart gets it or nothing; who has not is content with the older.
    home_unavailable(&guest.get("/v1/cart").header("cart-version", new.version()).await);
    home_unavailable(&guest.get("/v1/cart/count").header("cart-version", new.version()).await);
    assert_json(&unwarned(guest.cart().await), old.ok());
    fleet.link("jkt").restore().await.expect("the link listens again");
    eventually("the newer cart can be had again", async || {
        let answer = guest.get("/v1/cart").header("cart-version", new.version()).await;
        answer.status == 200 && answer.version() == new.version()
    })
    .await;
    // And soon also by those who do not ask for it.
    eventually("the region has heard of the newer cart", async || {
        guest.get("/v1/cart").await.version() == new.version()
    })
    .await;
}

#[tokio::test]
async fn what_changed_during_an_outage_is_caught_up_with() {
    let fleet = fleet().await;
    let (mug, code) = (sell_mug(&fleet, "bkk").await, unique("TEN"));
    let guest = fleet.at("bkk").guest("SGD").await;
    guest.add(&mug, 1).await.ok();
    fleet.link("bkk").cut().await;
    fleet.admin().sell(&mug, "30.00").await;
    fleet.admin().put_coupon(&code, json!({ "kind": "percent", "value": "10" })).await;
    guest.at(fleet.url("sin")).put(format!("/v1/cart/coupons/{code}")).await.ok();
    assert_json(&guest.cart().await["totals"]["total"], sgd("10.00"));
    fleet.link("bkk").restore().await.expect("the link listens again");
    eventually("the region shows the new price and the coupon", async || {
        let cart = guest.cart().await;
        cart["totals"]["total"] == sgd("9.00") && cart["lines"][0]["current_price"] == sgd("30.00")
    })
    .await;
}

#[tokio::test]
async fn a_region_that_starts_without_home_does_not_say_that_nothing_is_for_sale() {
    let fleet = fleet().await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    fleet.link("jkt").cut().await;
    fleet.stop_region("jkt").await;
    let (nobody, mug) = (fleet.at("jkt"), format!("/v1/items/{mug}"));
    let meanwhile = async {
        eventually("jkt listens", async || nobody.get("/v1/regions").send().await.is_ok()).await;
        home_unavailable(&nobody.get(&mug).await);
        home_unavailable(&nobody.get("/v1/items").await);
        fleet.link("jkt").restore().await.expect("the link listens again");
    };
    tokio::join!(fleet.start_region("jkt"), meanwhile);
    nobody.get(&mug).await.ok();
}

#[tokio::test]
async fn a_home_that_is_silent_is_not_waited_for_without_end() {
    let fleet = fleet().await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let key = harness::fresh_key();
    guest.add(&mug, 1).await.ok();
    fleet.link("jkt").pause().await.expect("a pause needs no port");
    home_unavailable(&guest.add(&mug, 5).key(&key).await);
    assert_json(&guest.cart().await["lines"][0]["quantity"], json!(1));
    fleet.link("jkt").restore().await.expect("the link is open again");
    // Whether the first one arrived after all or not: under its key it happens once.
    eventually("the write is taken", async || guest.add(&mug, 5).key(&key).await.status == 200).await;
    assert_json(&guest.cart().await["lines"][0]["quantity"], json!(6));
}

#[tokio::test]
async fn a_home_that_restarts_has_lost_nothing_and_is_followed_again() {
    let fleet = fleet().await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let guests: Vec<Caller> = futures_util::future::join_all(fleet.ids().into_iter().map(async |region| {
        let guest = fleet.at(region).guest("SGD").await;
        guest.add(&mug, 2).await.ok();
        guest
    }))
    .await;
    let key = harness::fresh_key();
    let before = guests[0].add(&mug, 1).key(&key).await;
    before.ok();
    fleet.stop_region("sin").await;
    for region in ["jkt", "bkk"] {
        home_unavailable(&guests[0].at(fleet.url(region)).add(&mug, 1).await);
    }
    fleet.start_region("sin").await;
    for region in ["jkt", "bkk"] {
        hears_of_news(&fleet, region).await;
    }
    let again = guests[0].add(&mug, 1).key(&key).await;
    assert_eq!((again.status, &again.body), (200, &before.body), "the answer was kept with the write");
    for (n, guest) in guests.iter().enumerate() {
        let expected = if n == 0 { 3 } else { 2 };
        for region in fleet.ids() {
            assert_json(&guest.at(fleet.url(region)).cart().await["lines"][0]["quantity"], json!(expected));
        }
    }
}

#[tokio::test]
async fn writes_race_with_an_unsteady_link_and_each_happens_once() {
    let fleet = fleet().await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "0.10").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let nobody = fleet.at("jkt");
    let shake = async {
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            fleet.link("jkt").close_connections();
            // About as long as it takes to connect and to write, so that some get through and some break.
            for _ in 0..25 {
                nobody.get("/v1/regions").await.ok();
            }
        }
    };
    let write = async {
        for _ in 0..60 {
            let key = harness::fresh_key();
            eventually("the write is taken", async || guest.add(&mug, 1).key(&key).await.status == 200).await;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    tokio::join!(shake, write);
    let cart = guest.at(fleet.url("sin")).cart().await;
    assert_json(&cart["lines"][0]["quantity"], json!(60));
    assert_eq!(cart["version"].as_str().and_then(|v| v.split_once('.')).map(|(_, n)| n), Some("60"));
}
