use std::collections::BTreeSet;

use harness::{Answer, Caller, fresh_key, shared, unique};
use serde_json::json;

use crate::support::assert_json;

const REPLAYED: &str = "idempotent-replayed";

async fn guest_and_item(region: &str) -> (Caller, String) {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    (fleet.at(region).guest("SGD").await, mug)
}

#[track_caller]
fn is_replay_of(again: &Answer, first: &Answer) {
    assert_eq!(again.status, first.status, "{again}");
    assert_eq!(again.body, first.body, "the stored answer, byte for byte");
    assert_eq!(again.header(REPLAYED), "true", "{again}");
    assert_eq!(first.find_header(REPLAYED), None, "{first}");
    assert_eq!(again.version(), first.version());
    assert_eq!(again.find_header("location"), first.find_header("location"));
}

#[tokio::test]
async fn a_post_of_a_cart_needs_a_key() {
    let (guest, mug) = guest_and_item("jkt").await;
    let user = shared().at("jkt").user(&unique("user")).await;
    let merge = json!({ "guest_token": guest.token() });
    let total = json!({ "expected_total": { "amount": "0.00", "currency": "SGD" } });
    for ask in [
        guest.add(&mug, 1),
        guest.post("/v1/cart/commands", json!({ "commands": [{ "op": "clear" }] })),
        user.post("/v1/cart/merge", merge),
        guest.post("/v1/cart/checkout", total).if_match("1.0"),
    ] {
        ask.without("idempotency-key").await.problem(400, "idempotency_key_missing");
    }
    assert_json(&guest.cart().await["lines"], json!([]));
}

#[tokio::test]
async fn tokens_are_had_without_a_key() {
    let nobody = shared().at("bkk");
    nobody.ask("POST", "/v1/guests").json(json!({})).await.is(201);
    nobody.ask("POST", "/v1/dev/tokens").json(json!({ "user_id": unique("user") })).await.is(201);
}

#[tokio::test]
async fn the_same_request_under_the_same_key_has_one_effect_and_one_answer() {
    let (guest, mug) = guest_and_item("bkk").await;
    let key = fresh_key();
    let first = guest.add(&mug, 2).key(&key).await;
    first.ok();
    // The cart moves on; the answer is the one that was given.
    guest.add(&mug, 5).await.ok();
    for region in shared().ids() {
        is_replay_of(&guest.at(shared().url(region)).add(&mug, 2).key(&key).await, &first);
    }
    assert_json(&guest.cart().await["lines"][0]["quantity"], json!(7));
}

#[tokio::test]
async fn a_key_is_the_same_quoted_or_bare() {
    let (guest, mug) = guest_and_item("sin").await;
    let key = fresh_key();
    let first = guest.add(&mug, 1).key(&format!("\"{key}\"")).await;
    first.ok();
    is_replay_of(&guest.add(&mug, 1).key(&key).await, &first);
    assert_json(&guest.cart().await["lines"][0]["quantity"], json!(1));
}

#[tokio::test]
async fn another_request_under_the_same_key_is_refused() {
    let (guest, mug) = guest_and_item("jkt").await;
    let key = fresh_key();
    let first = guest.add(&mug, 1).key(&key).await;
    let line = first.ok()["lines"][0]["line_id"].as_str().expect("a line").to_owned();
    let line = format!("/v1/cart/items/{line}");
    for other in [
        guest.add(&mug, 2),
        guest.add(&unique("other"), 1),
        guest.add(&mug, 1).if_match(&first.version()),
        guest.post("/v1/cart/commands", json!({ "commands": [{ "op": "clear" }] })),
        guest.patch(&line, json!({ "quantity": 9 })),
        guest.delete(&line),
    ] {
        other.key(&key).await.problem(422, "idempotency_key_reused");
    }
    assert_eq!(guest.get("/v1/cart").await.version(), first.version());
}

#[tokio::test]
async fn a_key_is_honoured_on_writes_that_need_none() {
    let (guest, mug) = guest_and_item("bkk").await;
    let code = unique("TEN");
    shared().admin().put_coupon(&code, json!({ "kind": "percent", "value": "10" })).await;
    let line = guest.add(&mug, 1).await.ok()["lines"][0]["line_id"].as_str().expect("a line").to_owned();
    let (line, coupon) = (format!("/v1/cart/items/{line}"), format!("/v1/cart/coupons/{code}"));
    for ask in [
        guest.patch(&line, json!({ "quantity": 4 })),
        guest.put(&coupon),
        guest.delete(&coupon),
        // A second time, without a key, this line would be unknown.
        guest.delete(&line),
        guest.delete("/v1/cart/items"),
    ] {
        let ask = ask.key(&fresh_key());
        let first = ask.clone().await;
        first.ok();
        is_replay_of(&ask.await, &first);
    }
}

#[tokio::test]
async fn a_key_is_its_carts_own() {
    let (guest, mug) = guest_and_item("sin").await;
    let other = shared().at("sin").guest("SGD").await;
    let key = fresh_key();
    guest.add(&mug, 1).key(&key).await.ok();
    let answer = other.add(&mug, 2).key(&key).await;
    assert_json(&answer.ok()["lines"][0]["quantity"], json!(2));
    assert_eq!(answer.find_header(REPLAYED), None);
}

#[tokio::test]
async fn a_refusal_is_not_kept_so_the_same_key_works_once_the_reason_is_gone() {
    let (fleet, late) = (shared(), unique("late"));
    let guest = fleet.at("jkt").guest("SGD").await;
    let ask = guest.add(&late, 1).key(&fresh_key());
    ask.clone().await.problem(404, "item_unknown");
    fleet.admin().sell(&late, "10.00").await;
    let done = ask.clone().await;
    done.ok();
    is_replay_of(&ask.await, &done);
}

#[tokio::test]
async fn a_key_has_1_to_255_visible_characters() {
    let (guest, mug) = guest_and_item("bkk").await;
    let longest = format!("{:x<255}", unique("k"));
    guest.add(&mug, 1).key(&longest).await.ok();
    for wrong in
        [format!("{longest}x"), String::new(), "\"\"".to_owned(), "a b".to_owned(), "a\tb".to_owned()]
    {
        let problem = guest.add(&mug, 1).key(&wrong).await.any_problem();
        assert_json(&problem["status"], json!(400));
    }
    for wrong in ["ä".as_bytes(), &[0xff]] {
        let problem = guest.add(&mug, 1).header("idempotency-key", wrong).await.any_problem();
        assert_json(&problem["status"], json!(400));
    }
    assert_json(&guest.cart().await["lines"][0]["quantity"], json!(1));
}

#[tokio::test]
async fn of_the_same_request_many_times_at_once_one_has_an_effect() {
    let fleet = shared();
    let (guest, mug) = guest_and_item("sin").await;
    let regions = fleet.ids();
    for round in 1..=5 {
        let key = fresh_key();
        let asks = (0..16).map(|n| {
            let guest = guest.at(fleet.url(regions[n % regions.len()]));
            guest.add(&mug, 1).key(&key).into_future()
        });
        let answers = futures_util::future::join_all(asks).await;
        let (done, others): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
        for answer in others {
            answer.problem(409, "request_in_progress");
        }
        let bodies: BTreeSet<&[u8]> = done.iter().map(|answer| answer.body.as_slice()).collect();
        assert_eq!(bodies.len(), 1, "all who were answered were told the same");
        let firsts = done.iter().filter(|answer| answer.find_header(REPLAYED).is_none()).count();
        assert_eq!(firsts, 1, "the others were told that it is an old answer");
        assert_json(&guest.cart().await["lines"][0]["quantity"], json!(round));
    }
}
