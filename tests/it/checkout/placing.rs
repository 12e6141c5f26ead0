use harness::{Caller, fresh_key, shared, unique};
use serde_json::{Value, json};

use crate::support::{assert_json, sgd};

/// A guest with two units of SGD 10.90 in the cart.
async fn shopper(region: &str) -> (Caller, String) {
    let (fleet, mug) = (shared(), unique("mug"));
    let seed = json!({ "title": "Mug", "prices": { "SGD": "10.90" }, "stock": 50 });
    fleet.admin().put_item(&mug, seed).await;
    let guest = fleet.at(region).guest("SGD").await;
    guest.add(&mug, 2).await.ok();
    (guest, mug)
}

fn expecting(total: &str) -> Value {
    json!({ "expected_total": sgd(total) })
}

#[tokio::test]
async fn a_checkout_makes_an_order_of_the_cart_and_empties_it() {
    for region in ["sin", "jkt"] {
        let (guest, mug) = shopper(region).await;
        let before = guest.get("/v1/cart").await;
        let cart = before.ok();
        let ask = guest.post("/v1/cart/checkout", expecting("21.80")).if_match(&before.version());
        let placed = ask.await;
        let order = placed.is(201);

        assert_json(&order["state"], json!("pending_payment"));
        let line = &order["lines"][0];
        assert_json(&line["item_id"], json!(mug));
        assert_json(&line["title"], json!("Mug"));
        assert_json(&line["quantity"], json!(2));
        assert_json(&line["unit_price"], sgd("10.90"));
        assert_json(&line["line_total"], sgd("21.80"));
        assert_json(&order["totals"], cart["totals"].clone());
        assert_json(&order["totals"]["tax"], sgd("1.80"));
        assert_json(&order["rules"], cart["rules"].clone());
        assert!(order["placed_at"].as_str().is_some_and(|time| time.ends_with('Z')), "{order:#}");

        let order_id = order["id"].as_str().expect("an order has a name");
        assert!(order_id.starts_with("o_"), "{order_id}");
        assert_eq!(placed.header("location"), format!("/v1/orders/{order_id}"));
        assert_json(&guest.get(placed.header("location").to_owned()).await.ok(), order.clone());

        let number = |version: &str| version.split_once('.').and_then(|(_, n)| n.parse::<u64>().ok());
        let after = guest.get("/v1/cart").await;
        assert_json(&after.ok()["lines"], json!([]));
        assert_eq!(number(&after.version()), number(&before.version()).map(|version| version + 1));
        assert_eq!(placed.version(), after.version());
    }
}

#[tokio::test]
async fn a_checkout_says_which_cart_it_means_and_under_which_key() {
    let (guest, _) = shopper("bkk").await;
    let version = guest.get("/v1/cart").await.version();
    let ask = || guest.post("/v1/cart/checkout", expecting("21.80"));
    ask().await.problem(428, "precondition_required");
    ask().if_match(&version).without("idempotency-key").await.problem(400, "idempotency_key_missing");
    let problem = ask().if_match("1.0").await.problem(412, "version_mismatch");
    assert_json(&problem["current_version"], json!(version));
    for wrong in [
        json!({}),
        json!({ "expected_total": "21.80" }),
        json!({ "expected_total": { "amount": 21.8, "currency": "SGD" } }),
        json!({ "expected_total": { "amount": "21.805", "currency": "SGD" } }),
        json!({ "expected_total": { "amount": "1e3", "currency": "SGD" } }),
        json!({ "expected_total": { "amount": "21.80", "currency": "USD" } }),
    ] {
        let answer = guest.post("/v1/cart/checkout", wrong).if_match(&version).await;
        let problem = answer.any_problem();
        assert_json(&problem["status"], json!(400));
        let pointer = problem["errors"][0]["pointer"].as_str().unwrap_or_default();
        assert!(pointer.starts_with('#'), "{problem:#}");
    }
    assert_json(&guest.get("/v1/orders").await.ok()["orders"], json!([]));
    ask().if_match(&version).await.is(201);
}

#[tokio::test]
async fn a_total_that_does_not_hold_is_told_and_nothing_is_ordered() {
    let (guest, mug) = shopper("jkt").await;
    let version = guest.get("/v1/cart").await.version();
    for wrong in [sgd("21.79"), sgd("0.00"), crate::support::money("21.80", "MYR")] {
        let body = json!({ "expected_total": wrong });
        let answer = guest.post("/v1/cart/checkout", body).if_match(&version).await;
        assert_json(&answer.problem(409, "cart_changed")["current_total"], sgd("21.80"));
    }
    // The price that counts is the one that was stored, whatever the catalogue says by now.
    shared().admin().sell(&mug, "9.00").await;
    let answer = guest.post("/v1/cart/checkout", expecting("18.00")).if_match(&version).await;
    assert_json(&answer.problem(409, "cart_changed")["current_total"], sgd("21.80"));
    assert_eq!(guest.get("/v1/cart").await.version(), version);
    let order = guest.post("/v1/cart/checkout", expecting("21.80")).if_match(&version).await.is(201);
    assert_json(&order["lines"][0]["unit_price"], sgd("10.90"));
    assert_json(&order["price_policy"], json!("stored"));
}

#[tokio::test]
async fn an_empty_cart_cannot_be_ordered() {
    let guest = shared().at("bkk").guest("SGD").await;
    let ask = guest.post("/v1/cart/checkout", expecting("0.00")).header("if-match", "*");
    ask.await.problem(422, "cart_empty");
}

#[tokio::test]
async fn a_checkout_under_the_same_key_is_the_same_order() {
    let fleet = shared();
    let (guest, _) = shopper("jkt").await;
    let version = guest.get("/v1/cart").await.version();
    let key = fresh_key();
    let first = guest.post("/v1/cart/checkout", expecting("21.80")).if_match(&version).key(&key).await;
    first.is(201);
    for region in fleet.ids() {
        let there = guest.at(fleet.url(region));
        let again = there.post("/v1/cart/checkout", expecting("21.80")).if_match(&version).key(&key).await;
        assert_eq!((again.status, &again.body), (201, &first.body));
        assert_eq!(again.header("location"), first.header("location"));
        assert_eq!(again.header("idempotent-replayed"), "true");
    }
    assert_eq!(guest.get("/v1/orders").await.ok()["orders"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn of_checkouts_of_one_cart_at_once_one_makes_an_order() {
    let fleet = shared();
    for same_key in [false, true] {
        let (guest, _) = shopper("sin").await;
        let version = guest.get("/v1/cart").await.version();
        let key = fresh_key();
        let regions = fleet.ids();
        let asks = (0..9).map(|n| {
            let there = guest.at(fleet.url(regions[n % regions.len()]));
            let ask = there.post("/v1/cart/checkout", expecting("21.80")).if_match(&version);
            (if same_key { ask.key(&key) } else { ask }).into_future()
        });
        let answers = futures_util::future::join_all(asks).await;
        let fresh = |answer: &&harness::Answer| {
            answer.status == 201 && answer.find_header("idempotent-replayed").is_none()
        };
        assert_eq!(answers.iter().filter(fresh).count(), 1);
        for answer in answers.iter().filter(|answer| answer.status != 201) {
            let expected = if same_key { (409, "request_in_progress") } else { (412, "version_mismatch") };
            answer.problem(expected.0, expected.1);
        }
        assert_eq!(guest.get("/v1/orders").await.ok()["orders"].as_array().map(Vec::len), Some(1));
    }
}
