use harness::{eventually, shared, unique};
use serde_json::{Value, json};

use crate::support::{assert_json, line_of, money, sgd, warnings_of};

/// An item sold for so many Singapore dollars, with these tags.
fn tagged(price: &str, tags: &[&str]) -> Value {
    json!({ "title": "Tagged", "prices": { "SGD": price }, "stock": 1000, "tags": tags })
}

fn discounts(cart: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let discounts = cart["discounts"].as_array().expect("a list of discounts").iter();
    discounts.map(|discount| (text(&discount["code"]), text(&discount["amount"]["amount"]))).collect()
}

#[tokio::test]
async fn of_three_units_the_cheapest_is_free() {
    let (fleet, dear, cheap) = (shared(), unique("dear"), unique("cheap"));
    fleet.admin().put_item(&dear, tagged("12.00", &["b2g1"])).await;
    fleet.admin().put_item(&cheap, tagged("7.50", &["b2g1"])).await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let cart = guest.add(&dear, 1).await.ok();
    assert_eq!(discounts(&cart), []);
    let cart = guest.add(&cheap, 2).await.ok();
    assert_eq!(discounts(&cart), [("b2g1".to_owned(), "7.50".to_owned())]);
    assert_json(&cart["totals"]["total"], sgd("19.50"));
}

#[tokio::test]
async fn a_main_a_side_and_a_drink_are_a_meal_at_a_fixed_price() {
    let (fleet, main, side, drink) = (shared(), unique("main"), unique("side"), unique("drink"));
    fleet.admin().put_item(&main, tagged("8.80", &["set-main"])).await;
    fleet.admin().put_item(&side, tagged("3.50", &["set-side"])).await;
    fleet.admin().put_item(&drink, tagged("2.60", &["set-drink"])).await;
    let guest = fleet.at("bkk").guest("SGD").await;
    guest.add(&main, 2).await.ok();
    guest.add(&side, 2).await.ok();
    let cart = guest.add(&drink, 1).await.ok();
    // One meal of 14.90 for 9.90; the second has no drink.
    assert_eq!(discounts(&cart), [("meal-set".to_owned(), "5.00".to_owned())]);
    assert_json(&cart["totals"]["total"], sgd("22.20"));
}

#[tokio::test]
async fn ten_percent_come_off_once_enough_is_spent() {
    let (fleet, tv) = (shared(), unique("tv"));
    fleet.admin().put_item(&tv, tagged("33.33", &["spend-save"])).await;
    let guest = fleet.at("sin").guest("SGD").await;
    let cart = guest.add(&tv, 3).await.ok();
    assert_eq!(discounts(&cart), [], "99.99 is below 100.00");
    let cart = guest.add(&tv, 1).await.ok();
    assert_eq!(discounts(&cart), [("spend-save".to_owned(), "13.33".to_owned())], "10 % of 133.32");
    assert_json(&cart["totals"]["total"], sgd("119.99"));
}

#[tokio::test]
async fn tax_is_that_of_the_carts_currency() {
    let (fleet, bag) = (shared(), unique("bag"));
    let prices = json!({ "SGD": "10.90", "MYR": "10.00", "IDR": "111000.00", "THB": "107.00",
        "VND": "108000", "PHP": "112.00" });
    fleet.admin().put_item(&bag, json!({ "title": "Bag", "prices": prices, "stock": 100 })).await;
    for (currency, tax, total) in [
        ("SGD", "0.90", "10.90"),
        // On top of the price, in Malaysia alone.
        ("MYR", "1.00", "11.00"),
        ("IDR", "11000.00", "111000.00"),
        ("THB", "7.00", "107.00"),
        // The dong has no smaller unit.
        ("VND", "8000", "108000"),
        ("PHP", "12.00", "112.00"),
    ] {
        let guest = fleet.at("jkt").guest(currency).await;
        let cart = guest.add(&bag, 1).await.ok();
        assert_json(
            &cart["totals"]["subtotal"],
            money(prices[currency].as_str().expect("a price"), currency),
        );
        assert_json(&cart["totals"]["tax"], money(tax, currency));
        assert_json(&cart["totals"]["total"], money(total, currency));
        assert_json(&cart["totals"]["tax_included"], json!(currency != "MYR"));
    }
}

#[tokio::test]
async fn a_zero_rated_item_has_no_tax() {
    let (fleet, book, pen) = (shared(), unique("book"), unique("pen"));
    let zero = json!({ "title": "Book", "prices": { "SGD": "10.90" }, "stock": 9, "tax_class": "zero" });
    fleet.admin().put_item(&book, zero).await;
    fleet.admin().sell(&pen, "10.90").await;
    let guest = fleet.at("sin").guest("SGD").await;
    assert_json(&guest.add(&book, 1).await.ok()["totals"]["tax"], sgd("0.00"));
    assert_json(&guest.add(&pen, 1).await.ok()["totals"]["tax"], sgd("0.90"));
}

#[tokio::test]
async fn a_price_that_moved_is_shown_beside_the_one_that_is_charged() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("bkk").guest("SGD").await;
    guest.add(&mug, 2).await.ok();
    for (price, moved, direction) in [("12.50", "2.50", "up"), ("8.00", "2.00", "down")] {
        fleet.admin().sell(&mug, price).await;
        eventually("the region hears of the new price", async || {
            guest.cart().await["lines"][0]["current_price"] == sgd(price)
        })
        .await;
        let cart = guest.cart().await;
        let line = line_of(&cart, &mug);
        assert_json(&line["unit_price"], sgd("10.00"));
        assert_json(&line["added_price"], sgd("10.00"));
        assert_json(&line["price_change"], json!({ "amount": sgd(moved), "direction": direction }));
        assert_json(&line["line_total"], sgd("20.00"));
        assert_json(&cart["totals"]["total"], sgd("20.00"));
        assert_eq!(warnings_of(&cart), ["price_changed"]);
        assert_json(&cart["warnings"][0]["line_id"], line["line_id"].clone());
        assert_json(&cart["warnings"][0]["params"], json!({ "was": sgd("10.00"), "now": sgd(price) }));
    }
    fleet.admin().sell(&mug, "10.00").await;
    eventually("the price is what it was", async || warnings_of(&guest.cart().await).is_empty()).await;
    assert_json(&guest.cart().await["lines"][0]["price_change"], Value::Null);
}

#[tokio::test]
async fn a_shortage_is_a_warning_in_the_cart() {
    let (fleet, lamp) = (shared(), unique("lamp"));
    let with_stock = |stock: u32| json!({ "title": "Lamp", "prices": { "SGD": "40.00" }, "stock": stock });
    fleet.admin().put_item(&lamp, with_stock(3)).await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let cart = guest.add(&lamp, 5).await.ok();
    assert_eq!(warnings_of(&cart), ["stock_short"]);
    assert_json(&cart["warnings"][0]["params"], json!({ "title": "Lamp", "stock": 3 }));
    assert_json(&cart["lines"][0]["available"], json!(false));
    fleet.admin().put_item(&lamp, with_stock(5)).await;
    eventually("the region hears of the new stock", async || warnings_of(&guest.cart().await).is_empty())
        .await;
    assert_json(&guest.cart().await["lines"][0]["available"], json!(true));
}

#[tokio::test]
async fn what_cannot_be_sold_cannot_be_put_in() {
    let (fleet, gone, foreign, few) = (shared(), unique("gone"), unique("foreign"), unique("few"));
    let sold_out = json!({ "title": "Gone", "prices": { "SGD": "1.00" }, "stock": 0 });
    fleet.admin().put_item(&gone, sold_out).await;
    fleet.admin().put_item(&foreign, harness::goods("VND", "50000")).await;
    let limited = json!({ "title": "Few", "prices": { "SGD": "1.00" }, "stock": 99, "quantity_max": 3 });
    fleet.admin().put_item(&few, limited).await;
    let guest = fleet.at("sin").guest("SGD").await;
    guest.add(&unique("nothing"), 1).await.problem(404, "item_unknown");
    guest.add(&gone, 1).await.problem(409, "out_of_stock");
    guest.add(&foreign, 1).await.problem(422, "item_not_sold");
    let problem = guest.add(&few, 4).await.problem(422, "quantity_above_item_max");
    assert_json(&problem["params"], json!({ "item_id": few, "quantity_max": 3 }));
    let cart = guest.add(&few, 3).await.ok();
    guest.add(&few, 1).await.problem(422, "quantity_above_item_max");
    assert_json(&guest.cart().await["version"], cart["version"].clone());
}

#[tokio::test]
async fn an_item_that_leaves_a_currency_stays_in_the_cart_as_gone() {
    let (fleet, fan) = (shared(), unique("fan"));
    fleet.admin().sell(&fan, "30.00").await;
    let guest = fleet.at("bkk").guest("SGD").await;
    guest.add(&fan, 1).await.ok();
    fleet.admin().put_item(&fan, harness::goods("THB", "700.00")).await;
    eventually("the region hears of it", async || warnings_of(&guest.cart().await) == ["item_gone"]).await;
    let cart = guest.cart().await;
    assert_json(&cart["lines"][0]["current_price"], Value::Null);
    assert_json(&cart["lines"][0]["unit_price"], Value::Null);
    assert_json(&cart["lines"][0]["added_price"], sgd("30.00"));
    assert_json(&cart["lines"][0]["line_total"], sgd("0.00"));
    assert_json(&cart["lines"][0]["available"], json!(false));
    assert_json(&cart["totals"]["total"], sgd("0.00"));
    guest.checkout().await.problem(422, "item_gone");
}

#[tokio::test]
async fn a_line_carries_its_share_of_discounts_and_tax() {
    let (fleet, tea, cup, code) = (shared(), unique("tea"), unique("cup"), unique("TEN"));
    fleet.admin().put_item(&tea, tagged("5.00", &["b2g1"])).await;
    fleet.admin().sell(&cup, "20.00").await;
    fleet.admin().put_coupon(&code, json!({ "kind": "percent", "value": "12.5" })).await;
    let guest = fleet.at("jkt").guest("SGD").await;
    guest.add(&tea, 3).await.ok();
    guest.add(&cup, 1).await.ok();
    let cart = guest.put(format!("/v1/cart/coupons/{code}")).await.ok();
    // 15.00 − 5.00, and 20.00; 12.5 % of 30.00 is 3.75, of which 1.25 and 2.50 are for the lines.
    for (item, discount, tax) in [(&tea, "6.25", "0.72"), (&cup, "2.50", "1.44")] {
        assert_json(&line_of(&cart, item)["discount"], sgd(discount));
        assert_json(&line_of(&cart, item)["tax"], sgd(tax));
    }
    assert_json(&cart["totals"]["discount"], sgd("8.75"));
    assert_json(&cart["totals"]["tax"], sgd("2.16"));
    assert_json(&cart["discounts"][0]["params"], json!({ "buy": 2, "free": 1 }));
    assert_json(&cart["discounts"][1]["params"], json!({ "percent": "12.5" }));
    let order = guest.checkout().await.is(201);
    for item in [&tea, &cup] {
        for share in ["unit_price", "line_total", "discount", "tax"] {
            assert_json(&line_of(&order, item)[share], line_of(&cart, item)[share].clone());
        }
    }
}

#[tokio::test]
async fn a_cart_says_what_gave_nothing_and_what_is_nearest() {
    let (fleet, tv, code) = (shared(), unique("tv"), unique("SOON"));
    fleet.admin().put_item(&tv, tagged("96.50", &["spend-save"])).await;
    let guest = fleet.at("bkk").guest("SGD").await;
    assert_json(&guest.cart().await["not_applied"], json!([]));
    assert_json(&guest.cart().await["nearest"], Value::Null);
    let cart = guest.add(&tv, 1).await.ok();
    assert_json(&cart["not_applied"][0]["code"], json!("spend-save"));
    assert_json(&cart["not_applied"][0]["reason"], json!("threshold_not_met"));
    assert_json(&cart["not_applied"][0]["params"], json!({ "missing": sgd("3.50") }));
    assert_json(
        &cart["nearest"],
        json!({ "code": "spend-save", "title": "Spend and save 10 %", "missing": { "amount": sgd("3.50") } }),
    );

    // A coupon that can be used no more, after it was applied.
    let coupon = json!({ "kind": "percent", "value": "10" });
    fleet.admin().put_coupon(&code, coupon).await;
    guest.put(format!("/v1/cart/coupons/{code}")).await.ok();
    let over = json!({ "kind": "percent", "value": "10", "ends_at": "2026-01-01T00:00:00Z" });
    fleet.admin().put_coupon(&code, over).await;
    eventually("the region hears of it", async || {
        guest.cart().await["not_applied"][1]["reason"] == "expired"
    })
    .await;
    let cart = guest.cart().await;
    assert_json(&cart["not_applied"][1]["code"], json!(code));
    assert_json(&cart["not_applied"][1]["params"], json!({ "code": code }));
    assert_eq!(warnings_of(&cart), ["coupon_expired"]);
}
