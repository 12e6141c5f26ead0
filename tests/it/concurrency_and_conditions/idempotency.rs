use std::collections::BTreeSet;

use harness::{Answer, Caller, fresh_key, shared, unique};
use serde_json::json;
use sqlx::Connection;

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
    assert_eq!(String::from_utf8_lossy(&again.body), String::from_utf8_lossy(&first.body));
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

/// A retry is answered with the first status and the cart as it is now, and that is what is read after it.
async fn shows_the_cart_as_it_is(again: &Answer, caller: &Caller) {
    again.ok();
    assert_eq!(again.header(REPLAYED), "true", "{again}");
    let read = caller.get("/v1/cart").header("cart-version", again.header("cart-version")).await;
    assert_eq!(read.header("cart-source"), "cache", "the edge keeps it: {read}");
    assert_eq!((again.version(), again.tag()), (read.version(), read.tag()));
    assert_eq!(String::from_utf8_lossy(&again.body), String::from_utf8_lossy(&read.body));
}

#[tokio::test]
async fn a_retry_is_answered_with_the_cart_as_it_is_now() {
    let (guest, mug) = guest_and_item("bkk").await;
    let pot = unique("pot");
    shared().admin().sell(&pot, "3.00").await;
    let (one, batch) = (fresh_key(), fresh_key());
    let add = json!({ "commands": [{ "op": "add", "item_id": pot, "quantity": 1 }] });
    guest.add(&mug, 2).key(&one).await.ok();
    guest.post("/v1/cart/commands", add.clone()).key(&batch).await.ok();
    // The screen must not lose what came after.
    let newest = guest.add(&mug, 5).await;
    for region in shared().ids() {
        let there = guest.at(shared().url(region));
        for retry in [
            there.add(&mug, 2).key(&one),
            there.post("/v1/cart/commands", add.clone()).key(&batch),
            // The same request in other words.
            there.add(&mug, 2).key(&one).body(format!("{{ \"quantity\": 2,\n \"item_id\":\"{mug}\"}}")),
        ] {
            let again = retry.await;
            assert_eq!(again.version(), newest.version());
            shows_the_cart_as_it_is(&again, &there).await;
        }
    }
    let cart = guest.cart().await;
    assert_json(&cart["count"], json!({ "lines": 2, "quantity": 8 }));
    // And the price of today.
    shared().admin().sell(&mug, "11.00").await;
    harness::eventually("home has heard of the price", async || {
        let again = guest.add(&mug, 2).key(&one).await;
        again.ok()["lines"][0]["current_price"]["amount"] == "11.00"
    })
    .await;
}

#[tokio::test]
async fn a_retry_of_what_changed_nothing_changes_nothing() {
    let (guest, mug) = guest_and_item("jkt").await;
    let key = fresh_key();
    let nothing = guest.delete("/v1/cart/coupons/NONE").key(&key);
    let first = nothing.clone().await;
    assert_json(&first.ok()["version"], json!("1.0"));
    is_replay_of(&nothing.clone().await, &first);
    guest.add(&mug, 1).await.ok();
    shows_the_cart_as_it_is(&nothing.await, &guest).await;
    assert_json(&guest.cart().await["version"], json!("1.1"));
}

#[tokio::test]
async fn the_same_effect_by_another_path_is_another_request() {
    let (guest, mug) = guest_and_item("sin").await;
    let key = fresh_key();
    guest.add(&mug, 1).key(&key).await.ok();
    let add = json!({ "commands": [{ "op": "add", "item_id": mug, "quantity": 1 }] });
    let told = guest.post("/v1/cart/commands", add).key(&key).await;
    let done = told.problem(422, "idempotency_key_reused")["done"].clone();
    assert_json(&done["route"], json!("POST /v1/cart/items"));
    let time = done["time"].as_str().expect("a time");
    assert!(time.starts_with("20") && time.ends_with('Z') && time.len() >= 20, "RFC 3339: {time}");
    assert_json(&done["order_id"], json!(null));

    let line = guest.cart().await["lines"][0]["line_id"].as_str().expect("a line").to_owned();
    let (line, key) = (format!("/v1/cart/items/{line}"), fresh_key());
    guest.patch(&line, json!({ "quantity": 0 })).key(&key).await.ok();
    let told = guest.delete(&line).key(&key).await.problem(422, "idempotency_key_reused");
    assert_json(&told["done"]["route"], json!("PATCH /v1/cart/items/{line_id}"));
}

#[tokio::test]
async fn a_checkout_whose_answer_was_lost_is_found_again() {
    let fleet = shared();
    let (guest, mug) = guest_and_item("jkt").await;
    guest.add(&mug, 1).await.ok();
    let total = json!({ "expected_total": { "amount": "10.00", "currency": "SGD" } });
    let ask = guest.post("/v1/cart/checkout", total.clone()).if_match("1.1").key("order-1");
    let first = ask.clone().await;
    let order = first.is(201)["id"].as_str().expect("an id").to_owned();
    // The client looks at the cart and asks for what it sees there, under the key that it has kept.
    let now = guest.get("/v1/cart").await;
    assert_json(&now.ok()["lines"], json!([]));
    let misled = guest.post("/v1/cart/checkout", total).if_match(&now.version()).key("order-1").await;
    let done = misled.problem(422, "idempotency_key_reused")["done"].clone();
    assert_json(&done["order_id"], json!(order));
    assert_json(&done["route"], json!("POST /v1/cart/checkout"));
    is_replay_of(&ask.clone().await, &first);
    // Later the cart is another, and the order is paid.
    let newest = guest.add(&mug, 3).await.version();
    fleet.admin().settle(&order, "paid").await.ok();
    for region in fleet.ids() {
        let again = ask.clone().at(fleet.url(region)).await;
        assert_json(&again.is(201)["state"], json!("paid"));
        assert_eq!(again.header(REPLAYED), "true");
        assert_eq!(again.header("location"), format!("/v1/orders/{order}"));
        assert_eq!(again.version(), newest);
        let read = guest.get(again.header("location")).await;
        assert_eq!((again.tag(), again.body), (read.tag(), read.body));
    }
    assert_json(&guest.cart().await["count"]["quantity"], json!(3));
}

#[tokio::test]
async fn little_is_kept_of_a_large_cart() {
    let options =
        harness::FleetOptions { regions: vec!["sin"], stack: harness::Stack::Servers, ..Default::default() };
    let (fleet, mug) = (harness::Fleet::start(options).await, unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("sin").guest("SGD").await;
    for batch in 0..3 {
        let add = |n| {
            json!({ "op": "add", "item_id": mug, "quantity": 1,
            "variant": { "engraving": format!("{batch}-{n}-{}", "x".repeat(480)) } })
        };
        let commands: Vec<_> = (0..40).map(add).collect();
        guest.post("/v1/cart/commands", json!({ "commands": commands })).await.ok();
    }
    let code = "x".repeat(60);
    for _ in 0..20 {
        let answer = guest.delete(format_args!("/v1/cart/coupons/{code}")).key(&fresh_key()).await;
        assert!(answer.body.len() > 100_000, "a large document: {}", answer.body.len());
    }
    let mut primary =
        sqlx::MySqlConnection::connect(&fleet.mysql().url()).await.expect("it lets its user in");
    let (rows, most): (i64, i64) = sqlx::query_as(
        "SELECT COUNT(*), CAST(MAX(LENGTH(answer) + COALESCE(LENGTH(packed_answer), 0)) AS SIGNED)
         FROM idempotency_keys",
    )
    .fetch_one(&mut primary)
    .await
    .expect("an answer");
    assert!(rows >= 23 && most < 1024, "{rows} rows of up to {most} bytes");
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
