use harness::{eventually, goods};

use super::{
    Browser, Caller, Fetch, Page, Value, assert_json, assert_revalidated, change_item, json, line_of,
    page_of, put_in, sgd, shared, shown, unique, warnings_of,
};

/// The cart as the page shows it, which is not sent again as long as nothing changes, whatever its prices were before.
async fn shown_and_polled(page: &Page<'_>, who: &Caller) -> Value {
    let cart = shown(page, who, "/v1/cart").await;
    let line = cart["lines"][0]["line_id"].as_str().expect("a line").to_owned();
    for path in ["/v1/cart", "/v1/cart/count", &format!("/v1/cart/items/{line}")] {
        assert_revalidated(page, who, path).await;
    }
    cart
}

#[tokio::test]
async fn a_price_that_goes_and_comes_back_is_shown_each_time() {
    let (fleet, browser, kaya) = (shared(), Browser::start().await, unique("kaya"));
    fleet.admin().sell(&kaya, "3.80").await;
    let page = page_of(&browser, fleet, "jkt").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    put_in(&page, &guest, &kaya, 2).await;
    let item = format!("/v1/items/{kaya}");
    for price in ["3.80", "4.20", "3.80", "3.50", "4.20", "3.80"] {
        change_item(&kaya, goods("SGD", price)).await;
        let cart = shown_and_polled(&page, &guest).await;
        let line = line_of(&cart, &kaya);
        assert_json(&line["current_price"], sgd(price));
        assert_json(
            &line["price_change"]["direction"],
            match price {
                "3.80" => Value::Null,
                "3.50" => json!("down"),
                _ => json!("up"),
            },
        );
        assert_json(&shown(&page, &guest, &item).await["prices"], json!([sgd(price)]));
    }
    // The total that the page shows is the one that is paid.
    change_item(&kaya, goods("SGD", "3.50")).await;
    change_item(&kaya, goods("SGD", "3.80")).await;
    let cart = shown(&page, &guest, "/v1/cart").await;
    let body = json!({ "expected_total": cart["totals"]["total"] });
    let version = cart["version"].as_str().expect("a version");
    let checkout = Fetch::write("POST", "/v1/cart/checkout", &body)
        .with_token(guest.token())
        .header("If-Match", &format!("\"{version}\""));
    let order = page.fetch(checkout).await.ok();
    assert_json(&order["totals"]["total"], cart["totals"]["total"].clone());
}

#[tokio::test]
async fn a_stock_that_goes_and_comes_back_is_shown_each_time() {
    let (fleet, browser, lamp) = (shared(), Browser::start().await, unique("lamp"));
    let with_stock = |stock: u32| json!({ "title": "Lamp", "prices": { "SGD": "40.00" }, "stock": stock });
    fleet.admin().put_item(&lamp, with_stock(5)).await;
    let page = page_of(&browser, fleet, "bkk").await;
    let guest = fleet.at("bkk").guest("SGD").await;
    put_in(&page, &guest, &lamp, 4).await;
    for stock in [5, 3, 5, 2, 4] {
        change_item(&lamp, with_stock(stock)).await;
        let cart = shown_and_polled(&page, &guest).await;
        let expected: &[&str] = if stock < 4 { &["stock_short"] } else { &[] };
        assert_eq!(warnings_of(&cart), expected, "{stock}: {cart:#}");
        assert_json(&cart["lines"][0]["available"], json!(stock >= 4));
    }
}

#[tokio::test]
async fn a_coupon_that_goes_and_comes_back_is_shown_each_time() {
    let (fleet, browser, tea, code) = (shared(), Browser::start().await, unique("tea"), unique("TEN"));
    fleet.admin().sell(&tea, "20.00").await;
    let percent = async |value: &str| {
        fleet.admin().put_coupon(&code, json!({ "kind": "percent", "value": value })).await;
    };
    percent("10").await;
    let page = page_of(&browser, fleet, "jkt").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    put_in(&page, &guest, &tea, 1).await;
    let coupon = Fetch::write("PUT", format!("/v1/cart/coupons/{code}"), &Value::Null);
    page.fetch(coupon.with_token(guest.token())).await.ok();
    for (value, total) in [("10", "18.00"), ("25", "15.00"), ("10", "18.00"), ("5", "19.00"), ("10", "18.00")]
    {
        percent(value).await;
        // The direct read has no cache: it says when the region has heard of it.
        eventually("the region hears of the coupon", async || {
            guest.cart().await["totals"]["total"] == sgd(total)
        })
        .await;
        let cart = shown_and_polled(&page, &guest).await;
        assert_json(&cart["totals"]["total"], sgd(total));
    }
}

#[tokio::test]
async fn what_does_not_change_is_not_sent_again() {
    let (fleet, browser, fan) = (shared(), Browser::start().await, unique("fan"));
    fleet.admin().sell(&fan, "30.00").await;
    let page = page_of(&browser, fleet, "bkk").await;
    let user = fleet.at("bkk").user(&unique("user")).await;
    // A cart that nobody has used, and one that is emptied.
    assert_revalidated(&page, &user, "/v1/cart").await;
    assert_revalidated(&page, &user, "/v1/cart/count").await;
    put_in(&page, &user, &fan, 1).await;
    user.delete("/v1/cart/items").await.ok();
    assert_revalidated(&page, &user, "/v1/cart").await;
    // The catalogue has a tag as well, for everybody.
    for path in [format!("/v1/items/{fan}"), "/v1/items?limit=1".to_owned()] {
        let fetched = page.fetch(Fetch::get(&path)).await;
        let tag = fetched.etag.unwrap_or_else(|| panic!("{path} has no tag"));
        let again = fleet.at("bkk").get(&path).header("if-none-match", &tag).await;
        assert_eq!(again.status, 304, "{again}");
    }
    // Orders are not kept by the browser; whoever keeps one can still ask whether it holds.
    put_in(&page, &user, &fan, 1).await;
    let order = user.checkout().await.is(201);
    for path in ["/v1/orders".to_owned(), format!("/v1/orders/{}", order["id"].as_str().expect("an id"))] {
        let fetched = page.fetch(Fetch::get(&path).with_token(user.token())).await;
        let tag = fetched.etag.clone().unwrap_or_else(|| panic!("{path} has no tag"));
        let again = user.get(&path).header("if-none-match", &tag).await;
        assert_eq!(again.status, 304, "{again}");
    }
}
