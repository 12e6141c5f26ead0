use harness::{fresh_key, shared, unique};
use serde_json::{Value, json};

use crate::support::{assert_json, line_of, lines_of, sgd};

#[tokio::test]
async fn an_unused_cart_is_an_empty_one() {
    let guest = shared().at("jkt").guest("SGD").await;
    let answer = guest.get("/v1/cart").await;
    let cart = answer.ok();
    assert_json(&cart["lines"], json!([]));
    assert_json(&cart["coupons"], json!([]));
    assert_json(&cart["discounts"], json!([]));
    assert_json(&cart["warnings"], json!([]));
    assert_json(&cart["count"], json!({ "lines": 0, "quantity": 0 }));
    for total in ["subtotal", "discount", "tax", "total"] {
        assert_json(&cart["totals"][total], sgd("0.00"));
    }
    assert!(cart["id"].as_str().is_some_and(|id| id.starts_with("c_")), "{cart:#}");
    assert_eq!(cart["version"], answer.version());
    assert_json(&guest.get("/v1/cart/count").await.ok(), json!({ "lines": 0, "quantity": 0 }));
}

#[tokio::test]
async fn a_line_has_everything_that_a_page_shows() {
    let (fleet, mug) = (shared(), unique("mug"));
    let seed = json!({ "title": "Blue mug", "prices": { "SGD": "19.90" }, "stock": 5 });
    fleet.admin().put_item(&mug, seed).await;
    let guest = fleet.at("sin").guest("SGD").await;
    let body =
        json!({ "item_id": mug, "quantity": 2, "variant": { "size": "M", "glaze": ["a", { "b": 1 }] } });
    let cart = guest.post("/v1/cart/items", body).await.ok();

    let line = line_of(&cart, &mug);
    assert!(line["line_id"].as_str().is_some_and(|id| id.starts_with("l_")), "{line:#}");
    assert_json(&line["title"], json!("Blue mug"));
    assert_json(&line["quantity"], json!(2));
    assert_json(&line["variant"], json!({ "size": "M", "glaze": ["a", { "b": 1 }] }));
    assert_json(&line["unit_price"], sgd("19.90"));
    assert_json(&line["current_price"], sgd("19.90"));
    assert_json(&line["price_change"], Value::Null);
    assert_json(&line["line_total"], sgd("39.80"));
    assert_json(&line["available"], json!(true));
    for time in [&line["added_at"], &line["updated_at"], &cart["updated_at"], &cart["expires_at"]] {
        assert!(time.as_str().is_some_and(|time| time.ends_with('Z') && time.contains('T')), "{time}");
    }
    assert_json(&cart["currency"], json!("SGD"));
    assert_json(&cart["count"], json!({ "lines": 1, "quantity": 2 }));
    assert_json(&cart["rules"]["name"], json!("standard"));
    assert_eq!(cart["rules"]["revision"].as_str().map(str::len), Some(12), "{cart:#}");

    let line_id = line["line_id"].as_str().expect("a line has a name");
    let alone = guest.get(format!("/v1/cart/items/{line_id}")).await;
    assert_json(&alone.ok(), line.clone());
    assert_eq!(cart["version"], alone.version());
}

#[tokio::test]
async fn the_same_item_and_variant_add_up_whatever_the_order_of_the_variants_keys() {
    let (fleet, shirt) = (shared(), unique("shirt"));
    fleet.admin().sell(&shirt, "25.00").await;
    let guest = fleet.at("bkk").guest("SGD").await;
    for variant in [
        r#"{"size":"M","fit":{"a":1,"b":[2,3]}}"#,
        r#"{ "fit": { "b": [2, 3], "a": 1 }, "size": "M" }"#,
        r#"{"\u0073ize":"M","fit":{"b":[2,3],"a":1}}"#,
    ] {
        let body = format!(r#"{{"item_id":"{shirt}","quantity":2,"variant":{variant}}}"#);
        let asked = guest.ask("POST", "/v1/cart/items").header("content-type", "application/json");
        asked.key(&fresh_key()).body(body).await.ok();
    }
    let cart = guest.cart().await;
    assert_eq!(lines_of(&cart).len(), 1, "{cart:#}");
    assert_json(&cart["lines"][0]["quantity"], json!(6));
}

#[tokio::test]
async fn other_variants_are_other_lines_and_an_empty_variant_is_none() {
    let (fleet, shirt) = (shared(), unique("shirt"));
    fleet.admin().sell(&shirt, "25.00").await;
    let guest = fleet.at("sin").guest("SGD").await;
    let variants = [json!({ "size": "M" }), json!({ "size": "L" }), json!({ "size": ["M"] }), json!({})];
    for variant in variants {
        let body = json!({ "item_id": shirt, "quantity": 1, "variant": variant });
        guest.post("/v1/cart/items", body).await.ok();
    }
    guest.post("/v1/cart/items", json!({ "item_id": shirt, "quantity": 1, "variant": null })).await.ok();
    guest.add(&shirt, 1).await.ok();
    let cart = guest.cart().await;
    let quantities: Vec<_> = lines_of(&cart).iter().map(|line| line["quantity"].clone()).collect();
    assert_eq!(quantities, [1, 1, 1, 3], "{cart:#}");
}

#[tokio::test]
async fn lines_stand_in_the_order_in_which_they_were_put_in() {
    let fleet = shared();
    let items: Vec<String> = (0..6).map(|_| unique("thing")).collect();
    for item in &items {
        fleet.admin().sell(item, "1.00").await;
    }
    let guest = fleet.at("sin").guest("SGD").await;
    // Backwards by name, and one of them twice.
    for item in items.iter().rev().chain([&items[3]]) {
        guest.add(item, 1).await.ok();
    }
    let cart = guest.cart().await;
    let order: Vec<_> = lines_of(&cart).iter().map(|line| line["item_id"].clone()).collect();
    assert_eq!(order, items.iter().rev().cloned().collect::<Vec<_>>());
}

#[tokio::test]
async fn patch_sets_a_quantity_and_none_takes_the_line_out() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let cart = guest.add(&mug, 2).await.ok();
    let path = format!("/v1/cart/items/{}", cart["lines"][0]["line_id"].as_str().expect("a line"));

    let cart = guest.patch(&path, json!({ "quantity": 7 })).await.ok();
    assert_json(&cart["lines"][0]["quantity"], json!(7));
    assert_json(&cart["totals"]["total"], sgd("70.00"));
    let cart = guest.patch(&path, json!({ "quantity": 0 })).await.ok();
    assert_json(&cart["lines"], json!([]));
    guest.patch(&path, json!({ "quantity": 1 })).await.problem(404, "line_unknown");
}

#[tokio::test]
async fn delete_takes_one_line_out_or_all_and_leaves_coupons_in() {
    let (fleet, mug, pot, code) = (shared(), unique("mug"), unique("pot"), unique("TEN"));
    fleet.admin().sell(&mug, "10.00").await;
    fleet.admin().sell(&pot, "20.00").await;
    fleet.admin().put_coupon(&code, json!({ "kind": "percent", "value": "10" })).await;
    let guest = fleet.at("bkk").guest("SGD").await;
    guest.add(&mug, 1).await.ok();
    guest.add(&pot, 1).await.ok();
    let cart = guest.put(format!("/v1/cart/coupons/{code}")).await.ok();
    let mug_line = line_of(&cart, &mug)["line_id"].as_str().expect("a line").to_owned();

    let cart = guest.delete(format!("/v1/cart/items/{mug_line}")).await.ok();
    assert_eq!(lines_of(&cart).len(), 1, "{cart:#}");
    assert_json(&cart["lines"][0]["item_id"], json!(pot));
    guest.delete(format!("/v1/cart/items/{mug_line}")).await.problem(404, "line_unknown");

    let cart = guest.delete("/v1/cart/items").await.ok();
    assert_json(&cart["lines"], json!([]));
    assert_json(&cart["coupons"], json!([code]));
    assert_json(&cart["totals"]["total"], sgd("0.00"));
    let version = cart["version"].clone();
    assert_json(&guest.delete("/v1/cart/items").await.ok()["version"], version);
}

#[tokio::test]
async fn a_line_of_somebody_else_is_unknown() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    let nobody = fleet.at("sin");
    let (owner, other) = (nobody.guest("SGD").await, nobody.guest("SGD").await);
    let cart = owner.add(&mug, 1).await.ok();
    let path = format!("/v1/cart/items/{}", cart["lines"][0]["line_id"].as_str().expect("a line"));
    other.get(&path).await.problem(404, "line_unknown");
    other.patch(&path, json!({ "quantity": 5 })).await.problem(404, "line_unknown");
    other.delete(&path).await.problem(404, "line_unknown");
    assert_json(&owner.cart().await["lines"][0]["quantity"], json!(1));
}

#[tokio::test]
async fn a_batch_does_every_command_in_order_as_one_version() {
    let (fleet, mug, pot, code) = (shared(), unique("mug"), unique("pot"), unique("TEN"));
    fleet.admin().sell(&mug, "10.00").await;
    fleet.admin().sell(&pot, "20.00").await;
    fleet.admin().put_coupon(&code, json!({ "kind": "percent", "value": "10" })).await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let cart = guest.add(&mug, 1).await.ok();
    let (epoch, version) = version_of(&cart);
    let mug_line = cart["lines"][0]["line_id"].clone();

    let commands = json!({ "commands": [
        { "op": "clear" },
        { "op": "add", "item_id": mug, "quantity": 3 },
        { "op": "add", "item_id": pot, "quantity": 1, "variant": { "lid": true } },
        { "op": "set_quantity", "line_id": mug_line, "quantity": 5 },
        { "op": "apply_coupon", "code": code },
        { "op": "remove_coupon", "code": code },
        { "op": "remove", "line_id": mug_line },
        { "op": "add", "item_id": mug, "quantity": 4 },
        { "op": "apply_coupon", "code": code },
    ] });
    let cart = guest.post("/v1/cart/commands", commands).await.ok();
    assert_eq!(version_of(&cart), (epoch, version + 1), "{cart:#}");
    assert_json(&line_of(&cart, &mug)["quantity"], json!(4));
    assert_json(&line_of(&cart, &pot)["variant"], json!({ "lid": true }));
    assert_json(&cart["coupons"], json!([code]));
    assert_json(&cart["totals"]["total"], sgd("54.00"));
    assert_json(&guest.cart().await["totals"], cart["totals"].clone());
}

#[tokio::test]
async fn a_batch_that_fails_at_its_end_changes_nothing() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("bkk").guest("SGD").await;
    guest.add(&mug, 1).await.ok();
    let before = guest.cart().await;
    for (last, status, code) in [
        (json!({ "op": "add", "item_id": unique("nothing"), "quantity": 1 }), 404, "item_unknown"),
        (json!({ "op": "remove", "line_id": "l_nothing" }), 404, "line_unknown"),
        (json!({ "op": "apply_coupon", "code": unique("NOTHING") }), 422, "coupon_unknown"),
        (json!({ "op": "add", "item_id": mug, "quantity": 999 }), 400, "quantity_out_of_range"),
    ] {
        let commands = json!({ "commands": [{ "op": "add", "item_id": mug, "quantity": 5 }, last] });
        guest.post("/v1/cart/commands", commands).await.problem(status, code);
    }
    assert_json(&guest.cart().await, before);
}

#[tokio::test]
async fn a_cart_is_in_the_currency_that_its_guest_asked_for() {
    let (fleet, rice) = (shared(), unique("rice"));
    let prices = json!({ "SGD": "5.00", "MYR": "15.00", "IDR": "60000.00", "THB": "130.00", "VND": "95000",
        "PHP": "210.50" });
    let rice_seed = json!({ "title": "Rice", "prices": prices, "stock": 100 });
    fleet.admin().put_item(&rice, rice_seed).await;
    for (currency, price) in prices.as_object().expect("an object") {
        let guest = fleet.at("sin").guest(currency).await;
        let cart = guest.add(&rice, 1).await.ok();
        assert_json(&cart["currency"], json!(currency));
        assert_json(&cart["lines"][0]["unit_price"], json!({ "amount": price, "currency": currency }));
    }
    let nobody = fleet.at("sin");
    let plain = nobody.ask("POST", "/v1/guests").await.is(201);
    let guest = nobody.with_token(plain["token"].as_str().expect("a token"));
    assert_json(&guest.cart().await["currency"], json!("SGD"));
    nobody.post("/v1/guests", json!({ "currency": "USD" })).await.any_problem();
}

fn version_of(cart: &Value) -> (u64, u64) {
    let (epoch, version) = cart["version"].as_str().and_then(|v| v.split_once('.')).expect("epoch.version");
    (epoch.parse().expect("a number"), version.parse().expect("a number"))
}
