use harness::{Admin, Caller, eventually, shared, unique};
use serde_json::{Value, json};

use crate::support::{assert_json, money, sgd, warnings_of};

/// Long past, and far ahead.
const PAST: &str = "2020-01-01T00:00:00Z";
const FUTURE: &str = "2099-01-01T00:00:00Z";

/// A guest with SGD 100.00 in the cart.
async fn shopper(admin: &Admin, region: &Caller) -> Caller {
    let item = unique("hundred");
    admin.sell(&item, "100.00").await;
    let guest = region.guest("SGD").await;
    guest.add(&item, 1).await.ok();
    guest
}

async fn apply(guest: &Caller, code: &str) -> Value {
    guest.put(format!("/v1/cart/coupons/{code}")).await.ok()
}

#[tokio::test]
async fn a_percentage_comes_off_what_is_left_to_pay() {
    let (fleet, code) = (shared(), unique("P125"));
    fleet.admin().put_coupon(&code, json!({ "kind": "percent", "value": "12.5" })).await;
    let guest = shopper(&fleet.admin(), &fleet.at("jkt")).await;
    let cart = apply(&guest, &code).await;
    assert_json(&cart["coupons"], json!([code]));
    assert_json(&cart["discounts"][0]["code"], json!(code));
    assert_json(&cart["discounts"][0]["amount"], sgd("12.50"));
    assert_json(&cart["totals"]["subtotal"], sgd("100.00"));
    assert_json(&cart["totals"]["discount"], sgd("12.50"));
    assert_json(&cart["totals"]["total"], sgd("87.50"));
    // GST of 9 % in 87.50: 87.50 × 9 / 109 = 7.2247…
    assert_json(&cart["totals"]["tax"], sgd("7.22"));
    assert_json(&guest.cart().await["totals"], cart["totals"].clone());
}

#[tokio::test]
async fn an_amount_comes_off_after_percentages_and_never_more_than_there_is_to_pay() {
    let (fleet, ten, amount, flood) = (shared(), unique("TEN"), unique("AMOUNT"), unique("FLOOD"));
    fleet.admin().put_coupon(&ten, json!({ "kind": "percent", "value": "10" })).await;
    let of = |value: &str| json!({ "kind": "amount", "value": value, "currency": "SGD" });
    fleet.admin().put_coupon(&amount, of("5.25")).await;
    fleet.admin().put_coupon(&flood, of("1000.00")).await;
    let guest = shopper(&fleet.admin(), &fleet.at("sin")).await;
    apply(&guest, &amount).await;
    let cart = apply(&guest, &ten).await;
    // 100.00 − 10 % = 90.00, then − 5.25, although the amount was typed in first.
    assert_json(&cart["totals"]["total"], sgd("84.75"));
    assert_json(&cart["discounts"][0]["code"], json!(ten));
    assert_json(&cart["discounts"][1]["code"], json!(amount));
    let cart = apply(&guest, &flood).await;
    assert_json(&cart["totals"]["total"], sgd("0.00"));
    assert_json(&cart["discounts"][2]["amount"], sgd("84.75"));
    assert_json(&cart["totals"]["tax"], sgd("0.00"));
}

#[tokio::test]
async fn a_coupon_is_typed_in_once_and_can_be_taken_back() {
    let (fleet, code) = (shared(), unique("TEN"));
    fleet.admin().put_coupon(&code, json!({ "kind": "percent", "value": "10" })).await;
    let guest = shopper(&fleet.admin(), &fleet.at("bkk")).await;
    let once = apply(&guest, &code).await;
    let twice = apply(&guest, &code).await;
    assert_json(&twice["version"], once["version"].clone());
    assert_json(&twice["coupons"], json!([code]));
    let path = format!("/v1/cart/coupons/{code}");
    let back = guest.delete(&path).await.ok();
    assert_json(&back["coupons"], json!([]));
    assert_json(&back["totals"]["total"], sgd("100.00"));
    assert_json(&guest.delete(&path).await.ok()["version"], back["version"].clone());
}

#[tokio::test]
async fn a_coupon_holds_in_its_time_only() {
    let fleet = shared();
    let guest = shopper(&fleet.admin(), &fleet.at("jkt")).await;
    for (window, refusal) in [
        (json!({ "starts_at": PAST, "ends_at": FUTURE }), None),
        (json!({ "starts_at": FUTURE }), Some("coupon_not_started")),
        (json!({ "ends_at": PAST }), Some("coupon_expired")),
    ] {
        let code = unique("TIMED");
        let mut coupon = json!({ "kind": "percent", "value": "10" });
        coupon.as_object_mut().expect("an object").extend(window.as_object().expect("an object").clone());
        fleet.admin().put_coupon(&code, coupon).await;
        let answer = guest.put(format!("/v1/cart/coupons/{code}")).await;
        match refusal {
            Some(refusal) => drop(answer.problem(422, refusal)),
            None => assert_json(&answer.ok()["totals"]["total"], sgd("90.00")),
        }
    }
}

#[tokio::test]
async fn a_coupon_whose_time_ends_stays_in_the_cart_with_a_warning_and_gives_nothing() {
    let (fleet, code) = (shared(), unique("ENDS"));
    fleet.admin().put_coupon(&code, json!({ "kind": "percent", "value": "10" })).await;
    let guest = shopper(&fleet.admin(), &fleet.at("bkk")).await;
    apply(&guest, &code).await;
    fleet.admin().put_coupon(&code, json!({ "kind": "percent", "value": "10", "ends_at": PAST })).await;
    eventually("the region hears that the coupon has ended", async || {
        guest.cart().await["totals"]["total"] == sgd("100.00")
    })
    .await;
    let cart = guest.cart().await;
    assert_json(&cart["coupons"], json!([code]));
    assert_json(&cart["discounts"], json!([]));
    assert_eq!(warnings_of(&cart), ["coupon_expired"]);
}

#[tokio::test]
async fn a_coupon_is_used_up_by_orders_and_not_by_carts() {
    let (fleet, code) = (shared(), unique("ONCE"));
    let coupon = json!({ "kind": "amount", "value": "1.00", "currency": "SGD", "redemptions_max": 1 });
    fleet.admin().put_coupon(&code, coupon).await;
    let first = shopper(&fleet.admin(), &fleet.at("sin")).await;
    let second = shopper(&fleet.admin(), &fleet.at("sin")).await;
    let third = shopper(&fleet.admin(), &fleet.at("sin")).await;
    apply(&first, &code).await;
    apply(&second, &code).await;
    first.checkout().await.is(201);
    third.put(format!("/v1/cart/coupons/{code}")).await.problem(422, "coupon_exhausted");
    eventually("the second cart is told that the coupon is used up", async || {
        warnings_of(&second.cart().await) == ["coupon_exhausted"]
    })
    .await;
    let order = second.checkout().await.is(201);
    assert_json(&order["totals"]["total"], sgd("100.00"));
    assert_json(&order["discounts"], json!([]));
}

#[tokio::test]
async fn a_coupon_that_there_is_not_or_of_another_currency_is_refused() {
    let (fleet, code) = (shared(), unique("RINGGIT"));
    fleet.admin().put_coupon(&code, json!({ "kind": "amount", "value": "5.00", "currency": "MYR" })).await;
    let guest = shopper(&fleet.admin(), &fleet.at("jkt")).await;
    guest.put(format!("/v1/cart/coupons/{}", unique("NONE"))).await.problem(422, "coupon_unknown");
    guest.put(format!("/v1/cart/coupons/{code}")).await.problem(422, "coupon_currency");
    assert_json(&guest.cart().await["coupons"], json!([]));

    let tea = unique("tea");
    fleet.admin().put_item(&tea, harness::goods("MYR", "20.00")).await;
    let malaysian = fleet.at("jkt").guest("MYR").await;
    malaysian.add(&tea, 1).await.ok();
    let cart = apply(&malaysian, &code).await;
    assert_json(&cart["totals"]["discount"], money("5.00", "MYR"));
}
