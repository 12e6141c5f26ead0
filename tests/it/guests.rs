//! A guest's token, and a fresh one of the same guest.

use harness::{Caller, eventually, fresh_key, shared, unique};
use jiff::Timestamp;
use serde_json::json;

use crate::support::assert_json;

/// Renews the caller's token; returns the caller with the fresh one.
async fn renewed(guest: &Caller) -> Caller {
    let answer = guest.ask("POST", "/v1/guests/renew").await.is(201);
    guest.with_token(answer["token"].as_str().expect("a token"))
}

#[tokio::test]
async fn a_fresh_token_is_of_the_same_guest_and_cart() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().put_item(&mug, json!({ "title": "Mug", "prices": { "THB": "90.00" }, "stock": 9 })).await;
    let nobody = fleet.at("jkt");
    let made = nobody.ask("POST", "/v1/guests").json(json!({ "currency": "THB" })).await.is(201);
    let guest = nobody.with_token(made["token"].as_str().expect("a token"));
    let again = guest.ask("POST", "/v1/guests/renew").await.is(201);
    assert_json(&again["guest_id"], made["guest_id"].clone());
    let expires = |answer: &serde_json::Value| -> Timestamp {
        answer["expires_at"].as_str().and_then(|at| at.parse().ok()).expect("a time")
    };
    assert!(expires(&again) > expires(&made), "{made:#}{again:#}");
    // The currency of a cart that does not exist yet comes along.
    let fresh = renewed(&renewed(&guest).await).await;
    let cart = fresh.add(&mug, 2).await.ok();
    assert_json(&cart["currency"], json!("THB"));
    for region in fleet.ids() {
        // The old one stays valid.
        let old = guest.at(fleet.url(region)).get("/v1/cart").header("cart-version", "1.1").await;
        assert_json(&old.ok()["lines"], cart["lines"].clone());
    }
}

#[tokio::test]
async fn only_a_guest_who_is_still_one_gets_a_fresh_token() {
    let fleet = shared();
    let nobody = fleet.at("bkk");
    let (guest, user) = (nobody.guest("SGD").await, nobody.user(&unique("user")).await);
    nobody.ask("POST", "/v1/guests/renew").await.problem(401, "token_missing");
    nobody.with_token("wrong").ask("POST", "/v1/guests/renew").await.problem(401, "token_invalid");
    user.ask("POST", "/v1/guests/renew").await.problem(403, "forbidden");
    renewed(&guest).await;
    let merge = user.post("/v1/cart/merge", json!({ "guest_token": guest.token() })).key(&fresh_key());
    merge.await.ok();
    guest.ask("POST", "/v1/guests/renew").await.problem(410, "cart_merged");
    for region in fleet.ids() {
        let guest = guest.at(fleet.url(region));
        eventually("the region hears of the merge", async || {
            guest.ask("POST", "/v1/guests/renew").await.status == 410
        })
        .await;
    }
}
