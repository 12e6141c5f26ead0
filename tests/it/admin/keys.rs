//! Every change of a merchant or of the payment service is done once under its key.

use futures_util::future::join_all;
use harness::{Answer, Caller, fresh_key, shared, unique};
use serde_json::{Value, json};

use crate::support::assert_json;

const REPLAYED: &str = "idempotent-replayed";

fn goods(stock: u32) -> Value {
    json!({ "title": "Goods", "prices": { "SGD": "1.00" }, "stock": stock })
}

async fn item(stock: u32) -> (Caller, String) {
    let (admin, item_id) = (shared().admin(), unique("goods"));
    admin.put_item(&item_id, goods(stock)).await;
    (admin.caller().clone(), format!("/admin/items/{item_id}"))
}

#[track_caller]
fn is_done(answer: &Answer, replayed: bool) {
    assert_eq!(answer.status, 200, "{answer}");
    assert_eq!(answer.find_header(REPLAYED), replayed.then_some("true"), "{answer}");
}

#[tokio::test]
async fn a_delta_needs_a_key_and_is_done_once_under_it() {
    let (merchant, path) = item(10).await;
    let ask = merchant.post(format!("{path}/stock"), json!({ "delta": -3 }));
    ask.clone().without("idempotency-key").await.problem(400, "idempotency_key_missing");
    is_done(&ask.clone().await, false);
    let again = ask.await;
    is_done(&again, true);
    assert_json(&again.json(), json!({ "stock": 7 }));
}

#[tokio::test]
async fn a_change_that_is_sent_again_does_not_undo_what_came_after_it() {
    let (merchant, path) = item(10).await;
    let put = merchant.put(&path).json(goods(10)).key(&fresh_key());
    is_done(&put.clone().await, false);
    merchant.post(format!("{path}/stock"), json!({ "delta": -4 })).await.ok();
    let again = put.await;
    is_done(&again, true);
    // Not the answer of that time, but the item as it is.
    assert_json(&again.json()["stock"], json!(6));
    let patch = merchant.patch(&path, json!({ "stock": 20 })).key(&fresh_key());
    is_done(&patch.clone().await, false);
    merchant.post(format!("{path}/stock"), json!({ "delta": -1 })).await.ok();
    is_done(&patch.await, true);
    assert_json(&merchant.get(&path).await.ok()["stock"], json!(19));
}

#[tokio::test]
async fn another_change_under_a_key_is_refused() {
    let (merchant, path) = item(10).await;
    let key = fresh_key();
    let tag = merchant.get(&path).await.header("etag").to_owned();
    is_done(&merchant.patch(&path, json!({ "title": "One" })).key(&key).await, false);
    for other in [
        merchant.patch(&path, json!({ "title": "Two" })),
        merchant.patch(&path, json!({ "title": "One" })).header("if-match", &tag),
        merchant.patch(&path, json!({ "title": "One", "quantity_max": null })),
        merchant.put(&path).json(goods(1)),
        merchant.patch(format!("/admin/items/{}", unique("other")), json!({ "title": "One" })),
        merchant.post(format!("{path}/stock"), json!({ "set": 1 })),
        merchant
            .put(format!("/admin/coupons/{}", unique("TEN")))
            .json(json!({ "kind": "percent", "value": "1" })),
    ] {
        let problem = other.key(&key).await.problem(422, "idempotency_key_reused");
        assert_json(&problem["done"]["route"], json!(format!("PATCH {path}")));
    }
    // However the same is written.
    let spaced = merchant.patch(&path, json!({})).body("{ \"title\" :\"One\" }").key(&format!("\"{key}\""));
    is_done(&spaced.await, true);
}

#[tokio::test]
async fn a_refused_change_leaves_its_key_free() {
    let (merchant, path) = item(2).await;
    let ask = merchant.post(format!("{path}/stock"), json!({ "delta": -3 }));
    ask.clone().await.problem(409, "stock_negative");
    merchant.post(format!("{path}/stock"), json!({ "set": 5 })).await.ok();
    assert_json(&ask.await.ok(), json!({ "stock": 2 }));
}

#[tokio::test]
async fn of_one_change_many_times_at_once_one_is_done() {
    let (merchant, path) = item(100).await;
    for round in 1..=5 {
        let ask = merchant.post(format!("{path}/stock"), json!({ "delta": -1 }));
        let answers = join_all((0..12).map(|_| ask.clone().into_future())).await;
        let (done, others): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
        for answer in others {
            answer.problem(409, "request_in_progress");
        }
        let firsts = done.iter().filter(|answer| answer.find_header(REPLAYED).is_none()).count();
        assert_eq!(firsts, 1);
        assert_json(&merchant.get(&path).await.ok()["stock"], json!(100 - round));
    }
}

#[tokio::test]
async fn coupons_and_orders_honour_a_key() {
    let (fleet, code) = (shared(), unique("TEN"));
    let merchant = fleet.admin().caller().clone();
    let coupon = merchant.put(format!("/admin/coupons/{code}"));
    let coupon = coupon.json(json!({ "kind": "percent", "value": "10" })).key(&fresh_key());
    is_done(&coupon.clone().await, false);
    is_done(&coupon.await, true);

    let mug = unique("mug");
    fleet.admin().sell(&mug, "2.00").await;
    let guest = fleet.at("sin").guest("SGD").await;
    guest.add(&mug, 1).await.ok();
    let order = guest.checkout().await.is(201)["id"].as_str().expect("a name").to_owned();
    let paid = merchant.ask("POST", format!("/admin/orders/{order}/paid")).key(&fresh_key());
    is_done(&paid.clone().await, false);
    let again = paid.clone().await;
    is_done(&again, true);
    assert_json(&again.json()["state"], json!("paid"));
    let cancelled = merchant.ask("POST", format!("/admin/orders/{order}/cancelled"));
    cancelled.clone().key(&fresh_key()).await.problem(409, "order_settled");
    let key = fresh_key();
    let unknown = merchant.ask("POST", "/admin/orders/o_nothing/paid").key(&key);
    unknown.await.problem(404, "order_unknown");
    // Nothing was done under it.
    is_done(&merchant.ask("POST", format!("/admin/orders/{order}/paid")).key(&key).await, false);
    let long = "x".repeat(300);
    merchant.ask("POST", format!("/admin/orders/{long}/paid")).await.problem(404, "order_unknown");
}
