//! A merchant changes an item while it is sold.

use futures_util::future::{join, join_all};
use harness::{Ask, Caller, Fleet, FleetOptions, Stack, eventually, fresh_key, shared, unique};
use serde_json::json;

use crate::support::{assert_json, money};

const CHECKOUTS: u32 = 30;
const STOCK: u32 = 100;

/// Asks again under the same key, as clients do while a busy shop answers 503.
async fn until_answered(ask: Ask, status: u16) {
    eventually("the request is answered", async || ask.clone().await.status == status).await;
}

/// Thirty shoppers buy an item while its merchant changes its price thirty times, twice by every way there is.
async fn no_sale_is_undone(fleet: &Fleet) {
    let (admin, vase) = (fleet.admin(), unique("vase"));
    let item = json!({
        "title": "Vase", "prices": { "SGD": "10.00", "THB": "250.00" }, "stock": STOCK,
        "tax_class": "zero", "tags": ["glass"],
    });
    admin.put_item(&vase, item).await;
    let guests: Vec<Caller> = join_all((0..CHECKOUTS).map(async |n| {
        let regions = fleet.ids();
        let guest = fleet.at(regions[n as usize % regions.len()]).guest("THB").await;
        guest.add(&vase, 1).await.ok();
        guest
    }))
    .await;
    let merchant = admin.caller();
    let path = format!("/admin/items/{vase}");
    let prices = async {
        for n in 0..CHECKOUTS / 2 {
            let price = format!("{}.00", 11 + n);
            let whole = json!({
                "title": "Vase", "prices": { "SGD": price, "THB": "250.00" }, "tax_class": "zero", "tags": ["glass"],
            });
            until_answered(merchant.put(&path).json(whole).key(&fresh_key()), 200).await;
            let patch = merchant.patch(&path, json!({ "prices": { "SGD": price } }));
            until_answered(patch.key(&fresh_key()), 200).await;
        }
    };
    let sales = join_all(guests.iter().map(async |guest| {
        let cart = guest.get("/v1/cart").await;
        let total = json!({ "expected_total": cart.ok()["totals"]["total"] });
        let checkout = guest.post("/v1/cart/checkout", total).if_match(&cart.version());
        until_answered(checkout, 201).await;
    }));
    join(sales, prices).await;
    let item = merchant.get(&path).await.ok();
    assert_json(&item["stock"], json!(STOCK - CHECKOUTS));
    assert_json(&item["prices"], json!([money("25.00", "SGD"), money("250.00", "THB")]));
    assert_json(&item["tax_class"], json!("zero"));
    assert_json(&item["tags"], json!(["glass"]));
}

#[tokio::test]
async fn a_change_of_price_undoes_no_sale() {
    no_sale_is_undone(shared()).await;
}

#[tokio::test]
async fn a_change_of_price_undoes_no_sale_on_servers() {
    let options = FleetOptions { regions: vec!["sin"], stack: Stack::Servers, ..FleetOptions::default() };
    no_sale_is_undone(&Fleet::start(options).await).await;
}
