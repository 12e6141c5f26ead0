use harness::{shared, unique};
use serde_json::{Value, json};

use crate::support::{assert_json, lines_of};

#[tokio::test]
async fn a_batch_has_one_to_fifty_commands() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "1.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let adds = |count: usize| {
        let add = json!({ "op": "add", "item_id": mug, "quantity": 1 });
        json!({ "commands": vec![add; count] })
    };
    for wrong in [adds(0), adds(51)] {
        let problem = guest.post("/v1/cart/commands", wrong).await.any_problem();
        assert_json(&problem["status"], json!(400));
        assert_json(&problem["errors"][0]["pointer"], json!("#/commands"));
    }
    let cart = guest.post("/v1/cart/commands", adds(50)).await.ok();
    assert_json(&cart["lines"][0]["quantity"], json!(50));
}

#[tokio::test]
async fn a_cart_has_at_most_500_lines() {
    let (fleet, pin) = (shared(), unique("pin"));
    fleet.admin().sell(&pin, "0.10").await;
    let guest = fleet.at("sin").guest("SGD").await;
    let add = |n: usize| json!({ "op": "add", "item_id": pin, "quantity": 1, "variant": { "n": n } });
    for batch in 0..10 {
        let commands: Vec<Value> = (0..50).map(|n| add(batch * 50 + n)).collect();
        guest.post("/v1/cart/commands", json!({ "commands": commands })).await.ok();
    }
    assert_json(&guest.get("/v1/cart/count").await.ok(), json!({ "lines": 500, "quantity": 500 }));
    let one_more = json!({ "item_id": pin, "quantity": 1, "variant": { "n": 500 } });
    guest.post("/v1/cart/items", one_more).await.problem(422, "too_many_lines");

    // A line that is there already takes more, and the whole cart is still one that can be shown and bought.
    let one_again = json!({ "item_id": pin, "quantity": 1, "variant": { "n": 499 } });
    let cart = guest.post("/v1/cart/items", one_again).await.ok();
    assert_eq!(lines_of(&cart).len(), 500);
    assert_json(&cart["totals"]["total"]["amount"], json!("50.10"));
    assert_eq!(lines_of(&guest.checkout().await.is(201)).len(), 500);
}

#[tokio::test]
async fn a_line_has_1_to_999_units() {
    let (fleet, nail) = (shared(), unique("nail"));
    fleet.admin().sell(&nail, "0.01").await;
    let guest = fleet.at("bkk").guest("SGD").await;
    for wrong in [json!(0), json!(-1), json!(1000), json!(4_294_967_297_u64)] {
        let body = json!({ "item_id": nail, "quantity": wrong });
        let problem = guest.post("/v1/cart/items", body).await.problem(400, "quantity_out_of_range");
        assert_json(&problem["errors"][0]["pointer"], json!("#/quantity"));
    }
    guest.add(&nail, 998).await.ok();
    let cart = guest.add(&nail, 1).await.ok();
    assert_json(&cart["lines"][0]["quantity"], json!(999));
    guest.add(&nail, 1).await.problem(400, "quantity_out_of_range");

    let path = format!("/v1/cart/items/{}", cart["lines"][0]["line_id"].as_str().expect("a line"));
    for wrong in [json!(1000), json!(-1)] {
        let answer = guest.patch(&path, json!({ "quantity": wrong })).await;
        let problem = answer.problem(400, "quantity_out_of_range");
        assert_json(&problem["errors"][0]["pointer"], json!("#/quantity"));
    }
    assert_json(&guest.cart().await["lines"][0]["quantity"], json!(999));
}

#[tokio::test]
async fn a_variant_has_at_most_one_kib_of_json() {
    let (fleet, ring) = (shared(), unique("ring"));
    fleet.admin().sell(&ring, "1.00").await;
    let guest = fleet.at("sin").guest("SGD").await;
    let engraved = |bytes: usize| {
        let text = "x".repeat(bytes - r#"{"text":""}"#.len());
        json!({ "item_id": ring, "quantity": 1, "variant": { "text": text } })
    };
    let problem = guest.post("/v1/cart/items", engraved(1025)).await.problem(400, "variant_too_large");
    assert_json(&problem["errors"][0]["pointer"], json!("#/variant"));
    let cart = guest.post("/v1/cart/items", engraved(1024)).await.ok();
    assert_eq!(cart["lines"][0]["variant"]["text"].as_str().map(str::len), Some(1013));
    assert_json(&guest.cart().await["lines"], cart["lines"].clone());
}

#[tokio::test]
async fn the_variants_of_a_cart_have_at_most_64_kib_together() {
    let (fleet, ring) = (shared(), unique("ring"));
    fleet.admin().sell(&ring, "1.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let engraved = |n: usize| {
        let text = format!("{n:0width$}", width = 1024 - r#"{"text":""}"#.len());
        json!({ "op": "add", "item_id": ring, "quantity": 1, "variant": { "text": text } })
    };
    for batch in [0..32, 32..64] {
        let commands: Vec<Value> = batch.map(engraved).collect();
        guest.post("/v1/cart/commands", json!({ "commands": commands })).await.ok();
    }
    let add = |variant: Value| json!({ "item_id": ring, "quantity": 1, "variant": variant });
    let more = guest.post("/v1/cart/items", add(json!({ "a": 1 })));
    more.await.problem(422, "variants_too_large");
    let text = "0".repeat(1013);
    // What is there already takes more of it, and a line without a variant adds nothing.
    guest.post("/v1/cart/items", add(json!({ "text": text }))).await.ok();
    let cart = guest.add(&ring, 1).await.ok();
    assert_eq!(lines_of(&cart).len(), 65);
    guest
        .delete(format!("/v1/cart/items/{}", cart["lines"][0]["line_id"].as_str().expect("a line")))
        .await
        .ok();
    guest.post("/v1/cart/items", add(json!({ "a": 1 }))).await.ok();
    assert_eq!(lines_of(&guest.checkout().await.is(201)).len(), 65);
}

#[tokio::test]
async fn an_item_id_has_1_to_64_visible_characters() {
    let fleet = shared();
    let longest = format!("{:x<64}", unique("longest-"));
    fleet.admin().sell(&longest, "1.00").await;
    let guest = fleet.at("sin").guest("SGD").await;
    assert_json(&guest.add(&longest, 1).await.ok()["lines"][0]["item_id"], json!(longest));
    for wrong in
        [format!("{longest}x"), String::new(), "a b".to_owned(), "a\u{0}b".to_owned(), "ä".to_owned()]
    {
        let problem = guest.add(&wrong, 1).await.any_problem();
        assert_json(&problem["status"], json!(400));
        assert_json(&problem["errors"][0]["pointer"], json!("#/item_id"));
    }
}

#[tokio::test]
async fn a_cart_has_at_most_20_coupons() {
    let fleet = shared();
    let codes: Vec<String> = (0..21).map(|_| unique("CODE")).collect();
    for code in &codes {
        fleet.admin().put_coupon(code, json!({ "kind": "amount", "value": "0.01", "currency": "SGD" })).await;
    }
    let guest = fleet.at("jkt").guest("SGD").await;
    for code in &codes[..20] {
        guest.put(format!("/v1/cart/coupons/{code}")).await.ok();
    }
    guest.put(format!("/v1/cart/coupons/{}", codes[20])).await.problem(422, "too_many_coupons");
    // One that is in already is not one more.
    assert_json(
        &guest.put(format!("/v1/cart/coupons/{}", codes[7])).await.ok()["coupons"],
        json!(codes[..20]),
    );
}
