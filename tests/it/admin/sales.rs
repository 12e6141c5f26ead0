//! A merchant changes an item while it is sold.

use futures_util::future::{join, join_all};
use harness::{Caller, Fleet, FleetOptions, Stack, shared, unique};
use serde_json::json;

use crate::support::{assert_json, money};

const CHECKOUTS: u32 = 30;
const STOCK: u32 = 100;

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
            merchant.put(&path).json(whole).await.ok();
            merchant.patch(&path, json!({ "prices": { "SGD": price } })).await.ok();
        }
    };
    let sales = join_all(guests.iter().map(Caller::checkout));
    let (sold, ()) = join(sales, prices).await;
    for answer in &sold {
        answer.is(201);
    }
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
