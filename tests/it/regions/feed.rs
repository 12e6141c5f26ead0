use harness::{eventually, shared, unique};
use serde_json::json;

use crate::support::{assert_json, sgd};

#[tokio::test]
async fn prices_and_coupons_reach_every_region() {
    let (fleet, mug, code) = (shared(), unique("mug"), unique("TEN"));
    fleet.admin().sell(&mug, "10.00").await;
    fleet.admin().put_coupon(&code, json!({ "kind": "percent", "value": "10" })).await;
    let guest = fleet.at("sin").guest("SGD").await;
    guest.add(&mug, 1).await.ok();
    guest.put(format!("/v1/cart/coupons/{code}")).await.ok();
    let version = guest.get("/v1/cart").await.version();

    fleet.admin().sell(&mug, "20.00").await;
    fleet.admin().put_coupon(&code, json!({ "kind": "percent", "value": "50" })).await;
    for region in fleet.ids() {
        let there = guest.at(fleet.url(region));
        eventually(&format!("{region} has heard of both"), async || {
            let cart = there.cart().await;
            cart["totals"]["total"] == sgd("5.00") && cart["lines"][0]["current_price"] == sgd("20.00")
        })
        .await;
        let cart = there.get("/v1/cart").await;
        assert_eq!(cart.version(), version, "no cart was written for it");
        let item = fleet.at(region).get(format!("/v1/items/{mug}")).await.ok();
        assert_json(&item["prices"], json!([sgd("20.00")]));
    }
}

#[tokio::test]
async fn the_same_cart_costs_the_same_in_every_region() {
    let (fleet, mug, tea) = (shared(), unique("mug"), unique("tea"));
    fleet.admin().sell(&mug, "33.33").await;
    let tagged = json!({ "title": "Tea", "prices": { "SGD": "7.77" }, "stock": 50, "tags": ["b2g1"] });
    fleet.admin().put_item(&tea, tagged).await;
    let guest = fleet.at("jkt").guest("SGD").await.following();
    guest.add(&mug, 3).await.ok();
    let written = guest.add(&tea, 7).await.ok();
    for region in fleet.ids() {
        assert_json(&guest.at(fleet.url(region)).cart().await, written.clone());
    }
}

#[tokio::test]
async fn every_region_knows_the_others_and_which_is_nearest_to_the_caller() {
    let fleet = shared();
    for region in fleet.ids() {
        let nobody = fleet.at(region);
        eventually(&format!("{region} has seen that all are up"), async || {
            let regions = nobody.get("/v1/regions").await.ok()["regions"].clone();
            regions.as_array().is_some_and(|all| all.iter().all(|region| region["health"] == "up"))
        })
        .await;
        let told = nobody.get("/v1/regions").await.ok();
        let ids: std::collections::BTreeSet<_> =
            told["regions"].as_array().expect("regions").iter().map(|region| region["id"].as_str()).collect();
        assert_eq!(ids, fleet.ids().into_iter().map(Some).collect());
        assert_json(&told["nearest"], json!("sin"));
        for (address, nearest) in [("36.64.1.1", "jkt"), ("49.228.0.1", "bkk"), ("8.8.8.8", "sin")] {
            let told = nobody.get("/v1/regions").header("x-forwarded-for", address).await.ok();
            assert_json(&told["nearest"], json!(nearest));
            assert_json(&told["regions"][0]["id"], json!(nearest));
        }
    }
}
