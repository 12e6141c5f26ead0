use harness::{shared, unique};
use serde_json::{Value, json};

use crate::support::assert_json;

#[tokio::test]
async fn orders_are_listed_newest_first_page_by_page() {
    let (fleet, pin) = (shared(), unique("pin"));
    fleet.admin().sell(&pin, "1.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    assert_json(&guest.get("/v1/orders").await.ok(), json!({ "orders": [], "next_cursor": null }));
    let mut placed = Vec::new();
    for quantity in 1..=5 {
        guest.add(&pin, quantity).await.ok();
        let order_id = guest.checkout().await.is(201)["id"].clone();
        // Few may be unpaid at once.
        fleet.admin().settle(order_id.as_str().expect("an id"), "paid").await.ok();
        placed.insert(0, order_id);
    }
    let ids = |page: &Value| -> Vec<Value> {
        page["orders"].as_array().expect("orders").iter().map(|order| order["id"].clone()).collect()
    };
    for region in fleet.ids() {
        let there = guest.at(fleet.url(region));
        let mut seen = Vec::new();
        let mut pages = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = there.get(format!("/v1/orders?limit=2{cursor}")).await.ok();
            pages.push(ids(&page).len());
            seen.extend(ids(&page));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!((seen, pages), (placed.clone(), vec![2, 2, 1]));
    }
    for wrong in ["limit=0", "limit=1000", "limit=two"] {
        assert_json(&guest.get(format!("/v1/orders?{wrong}")).await.any_problem()["status"], json!(400));
    }
}

#[tokio::test]
async fn an_order_is_its_owners_alone() {
    let (fleet, pin) = (shared(), unique("pin"));
    fleet.admin().sell(&pin, "1.00").await;
    let nobody = fleet.at("bkk");
    let guest = nobody.guest("SGD").await;
    guest.add(&pin, 1).await.ok();
    let path = guest.checkout().await.header("location").to_owned();
    guest.get(&path).await.ok();
    nobody.guest("SGD").await.get(&path).await.problem(404, "order_unknown");
    nobody.user(&unique("user")).await.get(&path).await.problem(404, "order_unknown");
    nobody.get(&path).await.problem(401, "token_missing");
    guest.get("/v1/orders/o_nothing").await.problem(404, "order_unknown");
}
