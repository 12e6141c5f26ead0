use std::collections::BTreeSet;

use harness::{eventually, shared, unique};
use serde_json::json;

use crate::support::{assert_json, money, sgd};

#[tokio::test]
async fn the_catalogue_is_read_page_by_page_without_a_token() {
    let fleet = shared();
    let ours: BTreeSet<String> = (0..5).map(|_| unique("page")).collect();
    for item in &ours {
        fleet.admin().sell(item, "1.00").await;
    }
    let nobody = fleet.at("jkt");
    for item in &ours {
        eventually("the region hears of the item", async || {
            nobody.get(format!("/v1/items/{item}")).await.status == 200
        })
        .await;
    }
    let mut seen = Vec::new();
    let mut cursor = None::<String>;
    loop {
        let after = cursor.as_ref().map_or(String::new(), |cursor| format!("&cursor={cursor}"));
        let page = nobody.get(format!("/v1/items?limit=100{after}")).await.ok();
        let items = page["items"].as_array().expect("a page has items");
        assert!(items.len() <= 100, "{}", items.len());
        seen.extend(items.iter().map(|item| item["item_id"].as_str().expect("a name").to_owned()));
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
    }
    assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "in order, and none twice");
    assert!(ours.iter().all(|item| seen.contains(item)));
    for wrong in ["limit=0", "limit=101", "limit=-1", "limit=x"] {
        assert_json(&nobody.get(format!("/v1/items?{wrong}")).await.any_problem()["status"], json!(400));
    }
}

#[tokio::test]
async fn an_item_has_its_current_prices() {
    let (fleet, tea) = (shared(), unique("tea"));
    let seed = json!({ "title": "Tea", "prices": { "SGD": "4.5", "VND": "80000" }, "stock": 3,
        "quantity_max": 2, "tax_class": "zero", "tags": ["b2g1", "mega"] });
    fleet.admin().put_item(&tea, seed).await;
    let nobody = fleet.at("sin");
    let path = format!("/v1/items/{tea}");
    eventually("the region hears of the item", async || nobody.get(&path).await.status == 200).await;
    let item = nobody.get(&path).await.ok();
    assert_json(&item["item_id"], json!(tea));
    assert_json(&item["title"], json!("Tea"));
    assert_json(&item["prices"], json!([sgd("4.50"), money("80000", "VND")]));
    assert_json(&item["stock"], json!(3));
    assert_json(&item["quantity_max"], json!(2));
    assert_json(&item["tags"], json!(["b2g1", "mega"]));
    nobody.get(format!("/v1/items/{}", unique("nothing"))).await.problem(404, "item_unknown");
}

#[tokio::test]
async fn the_api_describes_itself() {
    let nobody = shared().at("bkk");
    let document = nobody.get("/openapi.json").await.ok();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{document:#}");
    for (path, methods) in [
        ("/v1/guests", &["post"] as &[&str]),
        ("/v1/cart", &["get"]),
        ("/v1/cart/count", &["get"]),
        ("/v1/cart/items", &["post", "delete"]),
        ("/v1/cart/items/{line_id}", &["get", "patch", "delete"]),
        ("/v1/cart/coupons/{code}", &["put", "delete"]),
        ("/v1/cart/commands", &["post"]),
        ("/v1/cart/merge", &["post"]),
        ("/v1/cart/checkout", &["post"]),
        ("/v1/orders", &["get"]),
        ("/v1/orders/{order_id}", &["get"]),
        ("/v1/items", &["get"]),
        ("/v1/items/{item_id}", &["get"]),
        ("/v1/regions", &["get"]),
    ] {
        for method in methods {
            assert!(document["paths"][path][method].is_object(), "{method} {path} is not described");
        }
    }
    let mut page = nobody.get("/docs").await;
    if matches!(page.status, 301 | 302 | 303 | 307 | 308) {
        page = nobody.get(page.header("location").to_owned()).await;
    }
    assert_eq!(page.status, 200, "{page}");
    assert!(page.header("content-type").starts_with("text/html"), "{page}");
}
