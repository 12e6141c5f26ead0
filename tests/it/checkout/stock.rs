use futures_util::future::join_all;
use harness::{Caller, eventually, shared, unique};
use serde_json::{Value, json};

use crate::support::{assert_json, sgd, warnings_of};

fn with_stock(stock: u32) -> Value {
    json!({ "title": "Rare", "prices": { "SGD": "10.00" }, "stock": stock })
}

/// Waits until every region shows this stock.
async fn stock_is(item_id: &str, stock: u32) {
    let fleet = shared();
    for region in fleet.ids() {
        let nobody = fleet.at(region);
        eventually(&format!("{region} shows {stock} of {item_id}"), async || {
            let answer = nobody.get(format!("/v1/items/{item_id}")).await;
            answer.status == 200 && answer.json()["stock"] == stock
        })
        .await;
    }
}

#[tokio::test]
async fn an_order_takes_its_units_from_stock() {
    let (fleet, vase) = (shared(), unique("vase"));
    fleet.admin().put_item(&vase, with_stock(5)).await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let variant = |colour: &str| json!({ "item_id": vase, "quantity": 2, "variant": { "colour": colour } });
    guest.post("/v1/cart/items", variant("red")).await.ok();
    guest.post("/v1/cart/items", variant("blue")).await.ok();
    guest.checkout().await.is(201);
    stock_is(&vase, 1).await;
}

#[tokio::test]
async fn more_than_there_is_cannot_be_ordered() {
    let (fleet, vase) = (shared(), unique("vase"));
    fleet.admin().put_item(&vase, with_stock(3)).await;
    let guest = fleet.at("bkk").guest("SGD").await;
    // Two lines of one item share its stock.
    for colour in ["red", "blue"] {
        let body = json!({ "item_id": vase, "quantity": 2, "variant": { "colour": colour } });
        guest.post("/v1/cart/items", body).await.ok();
    }
    let before = guest.cart().await;
    let problem = guest.checkout().await.problem(409, "out_of_stock");
    assert_eq!(problem["errors"].as_array().map(Vec::len), Some(2), "both lines are named: {problem:#}");
    assert_json(&guest.cart().await["version"], before["version"].clone());
    assert_json(&guest.get("/v1/orders").await.ok()["orders"], json!([]));
    stock_is(&vase, 3).await;
}

#[tokio::test]
async fn the_last_units_are_sold_once() {
    let fleet = shared();
    for (stock, each, shoppers) in [(5_u32, 1, 12_usize), (7, 2, 9)] {
        let vase = unique("vase");
        fleet.admin().put_item(&vase, with_stock(stock)).await;
        let regions = fleet.ids();
        let guests: Vec<Caller> = join_all((0..shoppers).map(async |n| {
            let guest = fleet.at(regions[n % regions.len()]).guest("SGD").await;
            guest.add(&vase, each).await.ok();
            guest
        }))
        .await;
        let answers = join_all(guests.iter().map(Caller::checkout)).await;
        let mut sold = 0;
        for answer in &answers {
            match answer.status {
                201 => sold += each,
                _ => drop(answer.problem(409, "out_of_stock")),
            }
        }
        assert_eq!(sold, stock - stock % each, "as many as there were were sold");
        stock_is(&vase, stock - sold).await;
    }
}

#[tokio::test]
async fn a_cancelled_order_gives_stock_and_coupon_back_once() {
    let (fleet, vase, code) = (shared(), unique("vase"), unique("ONCE"));
    fleet.admin().put_item(&vase, with_stock(4)).await;
    let coupon = json!({ "kind": "percent", "value": "50", "redemptions_max": 1 });
    fleet.admin().put_coupon(&code, coupon).await;
    let guest = fleet.at("jkt").guest("SGD").await;
    guest.add(&vase, 3).await.ok();
    guest.put(format!("/v1/cart/coupons/{code}")).await.ok();
    eventually("the region has heard of the coupon", async || {
        guest.cart().await["totals"]["total"] == sgd("15.00")
    })
    .await;
    let order = guest.checkout().await.is(201);
    assert_json(&order["totals"]["total"], sgd("15.00"));
    stock_is(&vase, 1).await;
    let other = fleet.at("bkk").guest("SGD").await;
    other.add(&vase, 1).await.ok();
    other.put(format!("/v1/cart/coupons/{code}")).await.problem(422, "coupon_exhausted");

    let order_id = order["id"].as_str().expect("a name").to_owned();
    for _ in 0..3 {
        let settled = fleet.admin().settle(&order_id, "cancelled").await;
        assert_json(&settled.ok()["state"], json!("cancelled"));
    }
    stock_is(&vase, 4).await;
    let cart = other.put(format!("/v1/cart/coupons/{code}")).await.ok();
    assert_eq!(warnings_of(&cart), [] as [&str; 0]);
    assert_json(&guest.get(format!("/v1/orders/{order_id}")).await.ok()["state"], json!("cancelled"));
}

#[tokio::test]
async fn a_paid_order_stays_paid() {
    let (fleet, vase) = (shared(), unique("vase"));
    fleet.admin().put_item(&vase, with_stock(4)).await;
    let guest = fleet.at("sin").guest("SGD").await;
    guest.add(&vase, 1).await.ok();
    let order_id = guest.checkout().await.is(201)["id"].as_str().expect("a name").to_owned();
    assert_json(&fleet.admin().settle(&order_id, "paid").await.ok()["state"], json!("paid"));
    let late = fleet.admin().settle(&order_id, "cancelled").await;
    assert!(matches!(late.status, 200 | 409), "{late}");
    assert_json(&guest.get(format!("/v1/orders/{order_id}")).await.ok()["state"], json!("paid"));
    stock_is(&vase, 3).await;
    fleet.admin().settle("o_nothing", "paid").await.problem(404, "order_unknown");
}
