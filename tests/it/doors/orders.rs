use futures_util::future::join_all;
use harness::{Caller, Fleet, FleetOptions, shared, unique};
use serde_json::{Value, json};

use super::{ABUSER, SHOPPER};
use crate::abuse::patiently;
use crate::support::assert_json;

/// Unpaid orders of a guest, and of a user.
const UNPAID_MAX: [(bool, usize); 2] = [(false, 3), (true, 10)];
/// A page of orders ends with the order that passes this.
const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// Orders of [`LINES`] lines with a kilobyte each: more than fit into a page.
const LARGE_ORDERS: usize = 16;
const LINES: usize = 60;

async fn order(caller: &Caller, item: &str) -> harness::Answer {
    caller.add(item, 1).await.ok();
    caller.checkout().await
}

#[tokio::test]
async fn unpaid_orders_are_few_until_they_are_paid() {
    let (fleet, pin) = (shared(), unique("pin"));
    fleet.admin().sell(&pin, "1.00").await;
    for (is_user, max) in UNPAID_MAX {
        for region in ["sin", "jkt"] {
            let nobody = fleet.at(region);
            let caller = if is_user { nobody.user(&unique("user")).await } else { nobody.guest("SGD").await };
            let mut placed = Vec::new();
            for _ in 0..max {
                placed.push(order(&caller, &pin).await.is(201)["id"].as_str().expect("an id").to_owned());
            }
            order(&caller, &pin).await.problem(409, "orders_pending");
            let (paid, cancelled) = (&placed[0], &placed[1]);
            assert_eq!(fleet.admin().settle(paid, "paid").await.status, 200);
            caller.checkout().await.is(201);
            caller.add(&pin, 1).await.ok();
            caller.checkout().await.problem(409, "orders_pending");
            assert_eq!(fleet.admin().settle(cancelled, "cancelled").await.status, 200);
            caller.checkout().await.is(201);
        }
    }
}

#[tokio::test]
async fn checkouts_at_once_do_not_pass_the_limit() {
    let (fleet, pin) = (shared(), unique("pin"));
    fleet.admin().sell(&pin, "1.00").await;
    let guest = fleet.at("sin").guest("SGD").await;
    let mut placed = 0;
    // Each round begins with a full cart, and all ask for the same.
    for _ in 0..6 {
        guest.add(&pin, 1).await.ok();
        let answers = join_all((0..4).map(|_| guest.checkout())).await;
        placed += answers.iter().filter(|answer| answer.status == 201).count();
    }
    assert_eq!(placed, 3);
}

#[tokio::test]
async fn the_guests_of_one_address_hold_stock_slowly() {
    let settings = vec![("TROLI_RATE_LIMIT_GUEST_ORDERS_PER_MIN", "3".to_owned())];
    let options = FleetOptions { regions: vec!["sin"], settings, ..FleetOptions::default() };
    let fleet = Fleet::start(options).await;
    fleet.admin().sell("pin", "1.00").await;
    let abuser = Caller::coming_from(ABUSER, fleet.url("sin"));
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(order(&abuser.guest("SGD").await, "pin").await);
    }
    let limited: Vec<_> = statuses.iter().filter(|answer| answer.status != 201).collect();
    assert!(!limited.is_empty() && statuses.len() - limited.len() >= 6, "a burst of two minutes' worth");
    for answer in limited {
        answer.problem(429, "rate_limited");
        assert!(answer.header("ratelimit-policy").contains("q=3;w=60"), "{answer}");
    }
    order(&abuser.user("somebody").await, "pin").await.is(201);
    let shopper = Caller::coming_from(SHOPPER, fleet.url("sin")).guest("SGD").await;
    order(&shopper, "pin").await.is(201);
}

#[tokio::test]
async fn a_page_of_large_orders_ends_early_and_the_next_goes_on() {
    let (fleet, pin) = (shared(), unique("pin"));
    fleet.admin().sell(&pin, "1.00").await;
    let guest = fleet.at("sin").guest("SGD").await;
    let mut placed = Vec::new();
    for _ in 0..LARGE_ORDERS {
        for batch in [0..LINES / 2, LINES / 2..LINES] {
            let text = |n: usize| format!("{n:01000}");
            let add =
                |n| json!({ "op": "add", "item_id": pin, "quantity": 1, "variant": { "text": text(n) } });
            let commands: Vec<Value> = batch.map(add).collect();
            patiently(&guest.post("/v1/cart/commands", json!({ "commands": commands }))).await;
        }
        let cart = patiently(&guest.get("/v1/cart")).await;
        let total = json!({ "expected_total": cart.ok()["totals"]["total"] });
        let checkout = guest.post("/v1/cart/checkout", total).if_match(&cart.version());
        let order = patiently(&checkout).await.is(201);
        let order_id = order["id"].as_str().expect("an id").to_owned();
        assert_eq!(fleet.admin().settle(&order_id, "paid").await.status, 200);
        placed.insert(0, order_id);
    }
    for region in ["sin", "jkt"] {
        let there = guest.at(fleet.url(region));
        let (mut seen, mut pages, mut cursor) = (Vec::new(), 0, String::new());
        loop {
            let answer = patiently(&there.get(format!("/v1/orders?limit=100{cursor}"))).await;
            let page = answer.ok();
            let orders = page["orders"].as_array().expect("orders");
            let largest = orders.iter().map(|order| order.to_string().len()).max().unwrap_or(0);
            assert!(answer.body.len() < PAGE_BYTES_MAX + largest + 1024, "{} bytes", answer.body.len());
            for order in orders {
                assert_json(&order["state"], json!("paid"));
                seen.push(order["id"].as_str().expect("an id").to_owned());
            }
            pages += 1;
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, placed, "{region}");
        assert!(pages > 1, "they are too many for a page");
    }
}
