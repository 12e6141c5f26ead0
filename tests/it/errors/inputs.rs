use harness::{fresh_key, shared, unique};
use serde_json::{Value, json};

use crate::support::assert_json;

#[tokio::test]
async fn what_is_not_json_is_malformed() {
    let guest = shared().at("jkt").guest("SGD").await;
    let asked = guest.ask("POST", "/v1/cart/items").header("content-type", "application/json");
    for wrong in [
        "",
        "{",
        "nonsense",
        "{\"item_id\":\"a\",}",
        "{'item_id':'a'}",
        "{\"item_id\":\"\\ud800\"}",
        "\u{feff}{}",
        "{\"item_id\":\"a\",\"quantity\":1}{}",
        "{\"quantity\":NaN}",
        "{\"quantity\":01}",
    ] {
        asked.clone().key(&fresh_key()).body(wrong).await.problem(400, "malformed_json");
    }
    asked.clone().key(&fresh_key()).body([0xff, 0xfe, 0x00]).await.problem(400, "malformed_json");
}

#[tokio::test]
async fn a_wrong_field_is_named_by_its_place() {
    let guest = shared().at("bkk").guest("SGD").await;
    for (path, body, pointer) in [
        ("/v1/cart/items", json!({ "item_id": 5, "quantity": 1 }), "#/item_id"),
        ("/v1/cart/items", json!({ "item_id": "a", "quantity": "1" }), "#/quantity"),
        ("/v1/cart/items", json!({ "item_id": "a", "quantity": 1.5 }), "#/quantity"),
        ("/v1/cart/items", json!({ "item_id": "a", "quantity": 1e30 }), "#/quantity"),
        ("/v1/cart/items", json!({ "item_id": "a", "quantity": null }), "#/quantity"),
        ("/v1/cart/items", json!({ "item_id": "a", "quantity": 1, "variant": "M" }), "#/variant"),
        ("/v1/cart/items", json!({ "item_id": "a", "quantity": 1, "variant": [1] }), "#/variant"),
        ("/v1/cart/items", json!({ "item_id": "a", "quantity": 1, "price": "0.01" }), "#/price"),
        ("/v1/cart/commands", json!({ "commands": {} }), "#/commands"),
        ("/v1/cart/commands", json!({ "commands": [{ "op": "clear" }, 7] }), "#/commands/1"),
    ] {
        let answer = guest.post(path, body.clone()).await;
        let problem = answer.any_problem();
        assert_eq!(answer.status, 400, "{answer}");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{body}: {problem:#}");
        assert!(
            problem["errors"][0]["detail"].as_str().is_some_and(|detail| !detail.is_empty()),
            "{problem:#}"
        );
    }
    // Where a field is missing there is no place to point to but the whole.
    for body in
        [json!({}), json!({ "item_id": "a" }), json!({ "quantity": 1 }), json!([]), json!("a"), json!(1)]
    {
        let problem = guest.post("/v1/cart/items", body).await.any_problem();
        assert_json(&problem["status"], json!(400));
        assert_json(&problem["errors"][0]["pointer"], json!("#"));
    }
}

#[tokio::test]
async fn a_wrong_command_of_a_batch_is_named_by_its_place() {
    let guest = shared().at("jkt").guest("SGD").await;
    for wrong in [
        json!({ "op": "add", "item_id": "a", "quantity": 0 }),
        json!({ "op": "add", "item_id": "", "quantity": 1 }),
        json!({ "op": "set_quantity", "line_id": "l_x", "quantity": 1000 }),
        json!({ "op": "apply_coupon", "code": "" }),
        json!({ "op": "add", "item_id": "a", "quantity": "1" }),
        json!({ "op": "add", "item_id": "a", "quantity": 1, "price": "0.01" }),
        json!({ "op": "merge" }),
        json!({ "item_id": "a" }),
    ] {
        let body = json!({ "commands": [{ "op": "clear" }, wrong] });
        let answer = guest.post("/v1/cart/commands", body).await;
        assert_eq!(answer.status, 400, "{answer}");
        let problem = answer.any_problem();
        let pointer = problem["errors"][0]["pointer"].as_str().unwrap_or_default();
        assert!(pointer.starts_with("#/commands/1"), "{problem:#}");
    }
}

#[tokio::test]
async fn every_mistake_of_a_body_is_told_at_once() {
    let guest = shared().at("sin").guest("SGD").await;
    let body = json!({ "item_id": "a b", "quantity": 0, "variant": { "text": "x".repeat(2000) } });
    let problem = guest.post("/v1/cart/items", body).await.any_problem();
    let pointers: Vec<&Value> =
        problem["errors"].as_array().expect("mistakes").iter().map(|mistake| &mistake["pointer"]).collect();
    assert_eq!(pointers, ["#/item_id", "#/quantity", "#/variant"]);
}

#[tokio::test]
async fn a_body_has_at_most_64_kib() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "1.00").await;
    let guest = fleet.at("bkk").guest("SGD").await;
    let padded = |bytes: usize| {
        let body = json!({ "item_id": mug, "quantity": 1 }).to_string();
        format!("{body}{}", " ".repeat(bytes - body.len()))
    };
    let asked = || guest.post("/v1/cart/items", Value::Null);
    asked().body(padded(64 * 1024)).await.ok();
    asked().body(padded(64 * 1024 + 1)).await.problem(413, "body_too_large");
    asked().body(padded(1024 * 1024)).await.problem(413, "body_too_large");
    assert_json(&guest.cart().await["lines"][0]["quantity"], json!(1));
}

#[tokio::test]
async fn a_body_is_json_and_says_so() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "1.00").await;
    let guest = fleet.at("sin").guest("SGD").await;
    let asked = || guest.add(&mug, 1);
    for wrong in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json", ""]
    {
        asked().header("content-type", wrong).await.problem(415, "media_type_unsupported");
    }
    asked().without("content-type").await.problem(415, "media_type_unsupported");
    for right in ["application/json", "application/json; charset=utf-8", "Application/JSON"] {
        asked().header("content-type", right).await.ok();
    }
}
