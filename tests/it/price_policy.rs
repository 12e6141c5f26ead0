//! Prices that move while something is in the cart: what the shopper sees, and what the order costs.

use harness::{Caller, Fleet, FleetOptions, Stack, components, eventually, shared, unique};
use serde_json::{Value, json};

use crate::support::{assert_json, line_of, lines_of, sgd, warnings_of};

/// Stored, charged and catalogue's price of the one line, and the total of the cart.
#[track_caller]
fn check(cart: &Value, added: &str, unit: &str, current: &str, total: &str) {
    let line = &lines_of(cart)[0];
    let found = ["added_price", "unit_price", "current_price"].map(|price| line[price].clone());
    assert!(found == [added, unit, current].map(sgd), "expected {added}, {unit}, {current}: {cart:#}");
    assert_json(&cart["totals"]["total"], sgd(total));
    let (from, to) = (amount(added), amount(current));
    let change = match to - from {
        0 => Value::Null,
        up @ 1.. => json!({ "amount": sgd(&decimal(up)), "direction": "up" }),
        down => json!({ "amount": sgd(&decimal(-down)), "direction": "down" }),
    };
    assert_json(&line["price_change"], change);
}

fn amount(decimal: &str) -> i64 {
    decimal.replace('.', "").parse().expect("an amount with two digits")
}

fn decimal(minor: i64) -> String {
    format!("{}.{:02}", minor / 100, minor % 100)
}

/// Changes a price, and waits until every region shows it.
async fn reprice(fleet: &Fleet, shopper: &Caller, item: &str, price: &str) {
    fleet.admin().sell(item, price).await;
    for region in fleet.ids() {
        let here = shopper.at(fleet.url(region));
        eventually("the region hears of the new price", async || {
            line_of(&here.cart().await, item)["current_price"] == sgd(price)
        })
        .await;
    }
}

fn line_path(cart: &Value) -> String {
    format!("/v1/cart/items/{}", lines_of(cart)[0]["line_id"].as_str().expect("a line has a name"))
}

fn refresh(line_id: Option<&Value>) -> Value {
    match line_id {
        Some(line_id) => json!({ "commands": [{ "op": "refresh_price", "line_id": line_id }] }),
        None => json!({ "commands": [{ "op": "refresh_price" }] }),
    }
}

/// The trip of the README, with a price that goes up and down.
async fn trip(fleet: &Fleet) {
    let kaya = unique("kaya");
    fleet.admin().sell(&kaya, "3.80").await;
    let shopper = fleet.at("jkt").guest("SGD").await.following();
    let everywhere = async |added: &str, unit: &str, current: &str, total: &str| {
        for region in fleet.ids() {
            let cart = shopper.at(fleet.url(region)).cart().await;
            check(&cart, added, unit, current, total);
            assert_json(&cart["price_policy"], json!("stored"));
        }
    };
    check(&shopper.add(&kaya, 2).await.ok(), "3.80", "3.80", "3.80", "7.60");
    // Up and down: the shopper pays what was shown, and sees what has changed.
    reprice(fleet, &shopper, &kaya, "4.20").await;
    everywhere("3.80", "3.80", "4.20", "7.60").await;
    assert_eq!(warnings_of(&shopper.cart().await), ["price_changed"]);
    reprice(fleet, &shopper, &kaya, "3.50").await;
    everywhere("3.80", "3.80", "3.50", "7.60").await;

    // More units are all at the price of now; less keep it.
    let path = line_path(&shopper.cart().await);
    check(&shopper.patch(&path, json!({ "quantity": 3 })).await.ok(), "3.50", "3.50", "3.50", "10.50");
    reprice(fleet, &shopper, &kaya, "3.90").await;
    check(&shopper.patch(&path, json!({ "quantity": 2 })).await.ok(), "3.50", "3.50", "3.90", "7.00");
    check(&shopper.add(&kaya, 1).await.ok(), "3.90", "3.90", "3.90", "11.70");

    // A price that is refreshed is that of now.
    reprice(fleet, &shopper, &kaya, "3.60").await;
    let line_id = lines_of(&shopper.cart().await)[0]["line_id"].clone();
    let cart = shopper.post("/v1/cart/commands", refresh(Some(&line_id))).await.ok();
    check(&cart, "3.60", "3.60", "3.60", "10.80");
    assert!(warnings_of(&cart).is_empty(), "{cart:#}");
    reprice(fleet, &shopper, &kaya, "3.70").await;
    let cart = shopper.post("/v1/cart/commands", refresh(None)).await.ok();
    check(&cart, "3.70", "3.70", "3.70", "11.10");
    everywhere("3.70", "3.70", "3.70", "11.10").await;

    // A new price is on its way: wherever it has come already, the cart costs what it did, and so does the order.
    let shown = shopper.cart().await;
    fleet.admin().sell(&kaya, "9.99").await;
    for region in fleet.ids() {
        assert_json(&shopper.at(fleet.url(region)).cart().await["totals"], shown["totals"].clone());
    }
    let version = shown["version"].as_str().expect("a version");
    let expected = json!({ "expected_total": shown["totals"]["total"] });
    let order = shopper.post("/v1/cart/checkout", expected).if_match(version).await.is(201);
    assert_json(&order["price_policy"], json!("stored"));
    assert_json(&order["rules"], shown["rules"].clone());
    assert_json(&order["totals"], shown["totals"].clone());
    assert_json(&line_of(&order, &kaya)["unit_price"], sgd("3.70"));
    assert_json(&line_of(&order, &kaya)["line_total"], sgd("11.10"));
}

#[tokio::test]
async fn a_price_that_goes_up_and_down_is_charged_as_it_was_shown() {
    trip(shared()).await;
}

#[tokio::test]
async fn a_price_that_goes_up_and_down_is_charged_as_it_was_shown_on_servers() {
    let options = FleetOptions { stack: Stack::Servers, replicas: true, ..FleetOptions::default() };
    trip(&Fleet::start(options).await).await;
}

#[tokio::test]
async fn a_price_is_refreshed_for_a_line_that_is_there_and_sold() {
    let (fleet, fan) = (shared(), unique("fan"));
    fleet.admin().sell(&fan, "30.00").await;
    let guest = fleet.at("bkk").guest("SGD").await;
    let cart = guest.add(&fan, 1).await.ok();
    let commands = "/v1/cart/commands";
    guest.post(commands, refresh(Some(&json!("l_none")))).await.problem(404, "line_unknown");
    let wrong = guest.post(commands, refresh(Some(&json!("")))).await.any_problem();
    assert_json(&wrong["errors"][0]["pointer"], json!("#/commands/0/line_id"));
    fleet.admin().put_item(&fan, harness::goods("THB", "700.00")).await;
    eventually("the region hears of it", async || warnings_of(&guest.cart().await) == ["item_gone"]).await;
    let line_id = &lines_of(&cart)[0]["line_id"];
    let problem = guest.post(commands, refresh(Some(line_id))).await.problem(422, "item_gone");
    assert_json(&problem["params"], json!({ "item_id": fan }));
    // For all lines: what is gone stays as it is.
    let after = guest.post(commands, refresh(None)).await.ok();
    assert_json(&after["lines"], guest.cart().await["lines"].clone());
    assert_json(&lines_of(&after)[0]["added_price"], sgd("30.00"));
}

#[tokio::test]
async fn joined_carts_keep_the_price_that_was_stored_last() {
    let (fleet, cup) = (shared(), unique("cup"));
    fleet.admin().sell(&cup, "5.00").await;
    let at = fleet.at("sin");
    let (guest, user) = (at.guest("SGD").await, at.user(&unique("user")).await);
    guest.add(&cup, 3).await.ok();
    reprice(fleet, &guest, &cup, "6.00").await;
    user.add(&cup, 2).await.ok();
    reprice(fleet, &user, &cup, "7.00").await;
    for (policy, total) in [("max", "18.00")] {
        let body = json!({ "guest_token": guest.token(), "policy": policy });
        let cart = user.post("/v1/cart/merge", body).await.ok();
        check(&cart, "6.00", "6.00", "7.00", total);
    }
}

#[tokio::test]
async fn a_price_policy_is_swapped_in_while_the_shop_is_open() {
    let fleet = Fleet::start(FleetOptions::default()).await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("bkk").guest("SGD").await;
    guest.add(&mug, 2).await.ok();
    reprice(&fleet, &guest, &mug, "12.50").await;
    for (rules, name, policy, unit, total) in [
        (&components().current_price, "current-price", "current", "12.50", "25.00"),
        (&components().standard, "standard", "stored", "10.00", "20.00"),
        (&components().standard_1_0, "standard", "stored", "10.00", "20.00"),
        (&components().current_price, "current-price", "current", "12.50", "25.00"),
    ] {
        fleet.save_rules(rules);
        for region in fleet.ids() {
            let here = guest.at(fleet.url(region));
            eventually("the region runs the rules", async || {
                let cart = here.cart().await;
                cart["price_policy"] == policy && cart["rules"]["name"] == name
            })
            .await;
            check(&here.cart().await, "10.00", unit, "12.50", total);
            assert_eq!(warnings_of(&here.cart().await), ["price_changed"]);
        }
    }
    let order = guest.checkout().await.is(201);
    assert_json(&order["price_policy"], json!("current"));
    assert_json(&line_of(&order, &mug)["unit_price"], sgd("12.50"));
    assert_json(&order["totals"]["total"], sgd("25.00"));
}

#[tokio::test]
async fn rules_of_world_1_0_go_on_working_and_mean_the_stored_price() {
    let options = FleetOptions { rules: components().standard_1_0.clone(), ..FleetOptions::default() };
    let fleet = Fleet::start(options).await;
    trip(&fleet).await;

    // Two lines of one item, stored at two prices: this world knows one price of an item, which is the lower one.
    let ring = unique("ring");
    fleet.admin().sell(&ring, "6.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let add = |size: &str| json!({ "item_id": ring, "quantity": 1, "variant": { "size": size } });
    guest.post("/v1/cart/items", add("S")).await.ok();
    fleet.admin().sell(&ring, "8.00").await;
    eventually("home hears of the new price", async || {
        fleet.at("sin").get(format!("/v1/items/{ring}")).await.ok()["prices"] == json!([sgd("8.00")])
    })
    .await;
    let cart = guest.post("/v1/cart/items", add("M")).await.ok();
    let prices: Vec<(&Value, &Value)> =
        lines_of(&cart).iter().map(|line| (&line["added_price"], &line["unit_price"])).collect();
    let (six, eight) = (sgd("6.00"), sgd("8.00"));
    assert_eq!(prices, [(&six, &six), (&eight, &six)]);
    let order = guest.checkout().await.is(201);
    assert_json(&order["totals"]["total"], sgd("12.00"));
    assert_json(&order["price_policy"], json!("stored"));
}

#[tokio::test]
async fn a_price_is_held_no_longer_than_the_policy_says() {
    let rules = components().misbehaving.clone();
    let fleet = Fleet::start(FleetOptions { rules, ..FleetOptions::default() }).await;
    let tea = unique("HELD");
    fleet.admin().sell(&tea, "10.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    check(&guest.add(&tea, 1).await.ok(), "10.00", "10.00", "10.00", "10.00");
    fleet.admin().sell(&tea, "12.00").await;
    // Nothing but the time tells the region that the rendered cart is one of yesterday.
    for region in fleet.ids() {
        let here = guest.at(fleet.url(region));
        eventually("the hold is over", async || warnings_of(&here.cart().await) == ["price_updated"]).await;
        check(&here.cart().await, "10.00", "12.00", "12.00", "12.00");
    }
    // What is stored anew is held anew.
    check(&guest.post("/v1/cart/commands", refresh(None)).await.ok(), "12.00", "12.00", "12.00", "12.00");
    assert_json(&guest.checkout().await.is(201)["totals"]["total"], sgd("12.00"));
}
