use harness::{Answer, Ask, Caller, shared, unique};
use serde_json::{Value, json};

use crate::support::{assert_json, money, sgd};

fn kaya() -> Value {
    json!({
        "title": "Kaya 400 g", "prices": { "SGD": "3.80", "THB": "99.00" }, "stock": 40,
        "quantity_max": 4, "tax_class": "zero", "tags": ["jam"],
    })
}

/// The merchant, and the path of an item of theirs.
async fn merchant(item: Value) -> (Caller, String) {
    let (admin, item_id) = (shared().admin(), unique("kaya"));
    admin.put_item(&item_id, item).await;
    (admin.caller().clone(), format!("/admin/items/{item_id}"))
}

fn tag(answer: &Answer) -> String {
    answer.header("etag").to_owned()
}

fn merge_patch(ask: Ask) -> Ask {
    ask.header("content-type", "application/merge-patch+json")
}

#[tokio::test]
async fn an_item_is_shown_as_it_is_in_the_primary() {
    let (merchant, path) = merchant(kaya()).await;
    let answer = merchant.get(&path).await;
    let item = answer.ok();
    assert_json(&item["prices"], json!([money("3.80", "SGD"), money("99.00", "THB")]));
    assert_json(&item["stock"], json!(40));
    assert_json(&item["tax_class"], json!("zero"));
    let again = merchant.get(&path).header("if-none-match", tag(&answer)).await;
    assert_eq!((again.status, again.body.len(), tag(&again)), (304, 0, tag(&answer)));
    merchant.get("/admin/items/nothing").await.problem(404, "item_unknown");
    let elsewhere = shared().admin_at("jkt");
    elsewhere.get(&path).await.problem(421, "not_home_region");
}

#[tokio::test]
async fn without_a_stock_the_stock_stays_as_it_is() {
    let (merchant, path) = merchant(kaya()).await;
    let unnamed = json!({ "title": "Kaya", "prices": { "SGD": "4.20" } });
    assert_json(&merchant.put(&path).json(unnamed.clone()).await.ok()["stock"], json!(40));
    let new = format!("/admin/items/{}", unique("new"));
    assert_json(&merchant.put(&new).json(unnamed).await.ok()["stock"], json!(0));
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_leaves_the_rest() {
    let (merchant, path) = merchant(kaya()).await;
    let before = merchant.get(&path).await.ok();
    let item = merge_patch(merchant.patch(&path, json!({ "prices": { "SGD": "4.20" } }))).await.ok();
    assert_json(&item["prices"], json!([money("4.20", "SGD"), money("99.00", "THB")]));
    for kept in ["title", "stock", "quantity_max", "tax_class", "tags"] {
        assert_json(&item[kept], before[kept].clone());
    }
    // It is the shop's own at once, also for a cart.
    let guest = shared().at("sin").guest("SGD").await;
    let item_id = item["item_id"].as_str().expect("a name");
    assert_json(&guest.add(item_id, 1).await.ok()["lines"][0]["current_price"], sgd("4.20"));

    // Null removes what may be missing.
    let gone = json!({ "prices": { "THB": null }, "quantity_max": null, "tax_class": null, "tags": null });
    let item = merchant.patch(&path, gone).await.ok();
    assert_json(&item["prices"], json!([sgd("4.20")]));
    assert_json(&item["quantity_max"], json!(null));
    assert_json(&item["tax_class"], json!("standard"));
    assert_json(&item["tags"], json!([]));
    let all =
        json!({ "title": "New", "stock": 3, "quantity_max": 9, "tax_class": "zero", "tags": ["a", "b"] });
    let item = merchant.patch(&path, all.clone()).await.ok();
    for (name, value) in all.as_object().expect("an object") {
        assert_json(&item[name], value.clone());
    }
    // A patch without anything in it changes nothing.
    let before = merchant.get(&path).await;
    let after = merchant.patch(&path, json!({})).await;
    assert_eq!((after.ok(), tag(&after)), (before.ok(), tag(&before)));
}

#[tokio::test]
async fn a_patch_that_makes_no_sense_changes_nothing() {
    let (merchant, path) = merchant(kaya()).await;
    let before = merchant.get(&path).await.ok();
    for (wrong, pointer) in [
        (json!({ "title": null }), "#/title"),
        (json!({ "title": "" }), "#/title"),
        (json!({ "prices": null }), "#/prices"),
        (json!({ "prices": { "SGD": null, "THB": null } }), "#/prices"),
        (json!({ "prices": { "SGD": "1.001" } }), "#/prices/SGD"),
        (json!({ "stock": null }), "#/stock"),
        (json!({ "stock": -1 }), "#/stock"),
        (json!({ "quantity_max": 0 }), "#/quantity_max"),
        (json!({ "tags": [""] }), "#/tags"),
        (json!({ "colour": "red" }), "#/colour"),
    ] {
        let problem = merchant.patch(&path, wrong.clone()).await.problem(400, "invalid_input");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{wrong}: {problem:#}");
    }
    let text = merchant.patch(&path, json!({})).header("content-type", "text/plain").await;
    text.problem(415, "media_type_unsupported");
    merchant.patch("/admin/items/nothing", json!({})).await.problem(404, "item_unknown");
    assert_json(&merchant.get(&path).await.ok(), before);
}

#[tokio::test]
async fn stock_is_changed_by_a_delta_or_set() {
    let (merchant, path) = merchant(kaya()).await;
    let stock = format!("{path}/stock");
    assert_json(&merchant.post(&stock, json!({ "delta": -3 })).await.ok(), json!({ "stock": 37 }));
    assert_json(&merchant.post(&stock, json!({ "delta": 5 })).await.ok(), json!({ "stock": 42 }));
    assert_json(&merchant.post(&stock, json!({ "set": 2 })).await.ok(), json!({ "stock": 2 }));
    merchant.post(&stock, json!({ "delta": -3 })).await.problem(409, "stock_negative");
    merchant.post(&stock, json!({ "delta": i64::MAX })).await.problem(409, "stock_too_large");
    for (wrong, pointer) in [
        (json!({}), "#"),
        (json!({ "delta": 1, "set": 1 }), "#"),
        (json!({ "delta": 1.5 }), "#/delta"),
        (json!({ "set": -1 }), "#/set"),
        (json!({ "set": 1_000_000_001 }), "#/set"),
    ] {
        let problem = merchant.post(&stock, wrong.clone()).await.problem(400, "invalid_input");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{wrong}: {problem:#}");
    }
    merchant.post("/admin/items/nothing/stock", json!({ "set": 1 })).await.problem(404, "item_unknown");
    let item = merchant.get(&path).await.ok();
    assert_json(&item["stock"], json!(2));
    assert_json(&item["prices"], json!([money("3.80", "SGD"), money("99.00", "THB")]));
}

#[tokio::test]
async fn a_change_of_what_is_not_there_any_more_is_refused() {
    let (merchant, path) = merchant(kaya()).await;
    let seen = tag(&merchant.get(&path).await);
    merchant.post(format!("{path}/stock"), json!({ "delta": -1 })).await.ok();
    assert_ne!(tag(&merchant.get(&path).await), seen, "what is shown is another");
    // A sale does not stand in the way of a title.
    let title = |words: &str| merchant.patch(&path, json!({ "title": words })).header("if-match", &seen);
    let renamed = title("First").await;
    renamed.ok();
    let problem = title("Second").await.problem(412, "version_mismatch");
    assert_eq!(format!("\"{}\"", problem["current_version"].as_str().expect("a tag")), tag(&renamed));
    let put = merchant.put(&path).json(kaya());
    put.clone().header("if-match", &seen).await.problem(412, "version_mismatch");
    put.clone().header("if-match", format!("W/{}", tag(&renamed))).await.problem(412, "version_mismatch");
    put.clone().header("if-none-match", "*").await.problem(412, "version_mismatch");
    put.clone().header("if-match", format!("\"other\", {}", tag(&renamed))).await.ok();
    put.header("if-match", "*").await.ok();
    let new = merchant.put(format!("/admin/items/{}", unique("new"))).json(kaya());
    new.clone().header("if-match", "*").await.problem(412, "version_mismatch");
    new.clone().header("if-none-match", "*").await.ok();
    new.header("if-none-match", "*").await.problem(412, "version_mismatch");
}
