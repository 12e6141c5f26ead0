use harness::{Answer, Ask, Caller, Fleet, eventually, goods, shared, unique};
use serde_json::json;

use crate::support::{assert_json, line_of, sgd, warnings_of};

/// Asks again with the tag of an answer.
fn with_tag(ask: Ask, known: &Answer) -> Ask {
    ask.header("if-none-match", known.tag())
}

/// Asked again with the tag, nothing is sent again.
#[track_caller]
fn is_not_sent_again(again: &Answer, known: &Answer) {
    assert_eq!((again.status, again.body.as_slice()), (304, &b""[..]), "{again}");
    assert_eq!(again.tag(), known.tag());
    for name in ["content-type", "content-length"] {
        assert_eq!(again.find_header(name), None, "{again}");
    }
    for name in ["cache-control", "vary", "cart-version"] {
        assert_eq!(again.find_header(name), known.find_header(name), "{again}");
    }
}

#[tokio::test]
async fn what_the_client_has_already_is_not_sent_again() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    for region in fleet.ids() {
        let guest = fleet.at(region).guest("SGD").await;
        let unused = guest.get("/v1/cart").await;
        is_not_sent_again(&with_tag(guest.get("/v1/cart"), &unused).await, &unused);
        guest.add(&mug, 1).await.ok();
        let placed = guest.checkout().await;
        let order = format!("/v1/orders/{}", placed.is(201)["id"].as_str().expect("an id"));
        let added = guest.add(&mug, 1).await.ok();
        let line = format!("/v1/cart/items/{}", added["lines"][0]["line_id"].as_str().expect("a line"));
        let item = format!("/v1/items/{mug}");
        let paths = ["/v1/cart", "/v1/cart/count", &line, "/v1/orders", &order, "/v1/items?limit=1", &item];
        for path in paths {
            let first = guest.get(path).await;
            first.ok();
            let (tag, other) = (first.tag(), unused.tag());
            for tags in [tag.clone(), format!("W/{tag}"), format!("{other},{tag}"), "*".to_owned()] {
                for method in ["GET", "HEAD"] {
                    let again = guest.ask(method, path).header("if-none-match", &tags).await;
                    is_not_sent_again(&again, &first);
                }
            }
            let version = format!("\"{}\"", guest.get("/v1/cart").await.version());
            for tags in [other, version, "\"*\"".to_owned(), "nonsense".to_owned()] {
                assert_eq!(guest.get(path).header("if-none-match", &tags).await.body, first.body, "{tags}");
            }
        }
        let unknown = guest.get("/v1/cart/items/l_unknown").header("if-none-match", "*").await;
        unknown.problem(404, "line_unknown");
        guest.patch(&line, json!({ "quantity": 950 })).await.ok();
        for path in &paths[..3] {
            assert!(guest.get(path).header("if-none-match", unused.tag()).await.ok().is_object());
        }
    }
}

#[tokio::test]
async fn what_caches_may_do_is_said_with_every_answer() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let added = guest.add(&mug, 1).await;
    let line = added.ok()["lines"][0]["line_id"].as_str().expect("a line").to_owned();
    let (item, line) = (format!("/v1/items/{mug}"), format!("/v1/cart/items/{line}"));
    let placed = guest.checkout().await;
    let order = placed.header("location").to_owned();
    guest.add(&mug, 1).await.ok();
    for (answer, control) in [
        (added, "private, no-cache"),
        (guest.get("/v1/cart").await, "private, no-cache"),
        (guest.get("/v1/cart/count").await, "private, no-cache"),
        (guest.get(line).await, "private, no-cache"),
        (placed, "no-store"),
        (guest.get("/v1/orders").await, "no-store"),
        (guest.get(order).await, "no-store"),
        (guest.get("/v1/orders/o_unknown").await, "no-store"),
        (guest.get("/v1/cart/items/l_unknown").await, "no-store"),
        (fleet.at("jkt").get("/v1/cart").await, "no-store"),
        (guest.get("/v1/nowhere").await, "no-store"),
        (guest.post("/v1/guests", json!({})).await, "no-store"),
        (guest.post("/v1/dev/tokens", json!({ "user_id": unique("user") })).await, "no-store"),
    ] {
        assert_eq!(answer.header("cache-control"), control, "{answer}");
        assert_eq!(answer.header("vary"), "Authorization, Cart-Share", "{answer}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{answer}");
    }
    for path in ["/v1/items", &item, "/openapi.json", "/docs/"] {
        let answer = guest.get(path).await;
        assert_eq!(answer.status, 200, "{answer}");
        assert!(answer.header("cache-control").starts_with("public, max-age="), "{answer}");
        assert_eq!(answer.find_header("vary"), None, "{answer}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{answer}");
    }
}

#[tokio::test]
async fn nobody_is_shown_the_cart_of_another() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    let edge = fleet.at("bkk");
    let (first, second) = (edge.user(&unique("user")).await, edge.user(&unique("user")).await);
    let (mine, theirs) = (first.add(&mug, 1).await, second.add(&mug, 1).await);
    assert_eq!(mine.version(), theirs.version(), "or this would show nothing");
    for path in ["/v1/cart", "/v1/cart/count", "/v1/orders"] {
        let known = first.get(path).await;
        assert_ne!(known.tag(), second.get(path).await.tag(), "{path}");
        assert_eq!(with_tag(second.get(path), &known).await.status, 200, "{path}");
    }
    let line = mine.ok()["lines"][0]["line_id"].as_str().expect("a line").to_owned();
    let line = format!("/v1/cart/items/{line}");
    let known = first.get(&line).await;
    assert_eq!(with_tag(second.get(&line), &known).await.status, 200);

    // A guest signs in, and the user's cart ends up at the guest's version.
    let (guest, user) = (edge.guest("SGD").await, edge.user(&unique("user")).await);
    guest.add(&mug, 1).await.ok();
    guest.add(&mug, 1).await.ok();
    user.add(&mug, 1).await.ok();
    let before = guest.get("/v1/cart").await;
    user.post("/v1/cart/merge", json!({ "guest_token": guest.token() })).await.ok();
    let merged = with_tag(user.get("/v1/cart"), &before).await;
    assert_eq!(merged.version(), before.version(), "or this would show nothing");
    assert_json(&merged.ok()["count"]["quantity"], json!(2));
}

/// Asks as a browser does that keeps what it was shown: with the tag of that. Returns what it shows then.
async fn reload(caller: &Caller, shown: &mut Answer) -> serde_json::Value {
    let again = with_tag(caller.get("/v1/cart"), shown).await;
    match again.status {
        304 => is_not_sent_again(&again, shown),
        _ => {
            again.ok();
            *shown = again;
        }
    }
    shown.json()
}

/// As long as nothing changes, nothing is sent.
async fn is_at_rest(caller: &Caller, shown: &Answer) {
    for _ in 0..3 {
        is_not_sent_again(&with_tag(caller.get("/v1/cart"), shown).await, shown);
    }
}

/// A price, a stock and a coupon go away and come back, while a client shows what it was sent.
async fn away_and_back(fleet: &Fleet, region: &str) {
    let (admin, mug, code) = (fleet.admin(), unique("mug"), unique("CODE"));
    let sold =
        |price: &str, stock: u32| json!({ "title": "Mug", "prices": { "SGD": price }, "stock": stock });
    let coupon = |percent: &str| json!({ "kind": "percent", "value": percent });
    admin.put_item(&mug, sold("3.80", 9)).await;
    admin.put_coupon(&code, coupon("10")).await;
    let guest = fleet.at(region).guest("SGD").await;
    guest.add(&mug, 2).await.ok();
    eventually("home has heard of the coupon", async || {
        guest.put(format_args!("/v1/cart/coupons/{code}")).await.status == 200
    })
    .await;
    eventually("the region too", async || guest.cart().await["totals"]["discount"] == sgd("0.76")).await;
    let mut shown = guest.get("/v1/cart").await;
    let first = shown.clone();
    is_at_rest(&guest, &shown).await;

    for price in ["4.20", "3.80", "4.20", "3.80"] {
        admin.put_item(&mug, sold(price, 9)).await;
        eventually("the price is shown", async || {
            line_of(&reload(&guest, &mut shown).await, &mug)["current_price"] == sgd(price)
        })
        .await;
        is_at_rest(&guest, &shown).await;
    }
    for stock in [1, 9] {
        admin.put_item(&mug, sold("3.80", stock)).await;
        eventually("the stock is shown", async || {
            let short = warnings_of(&reload(&guest, &mut shown).await).contains(&"stock_short");
            short == (stock < 2)
        })
        .await;
        is_at_rest(&guest, &shown).await;
    }
    for (percent, off) in [("50", "3.80"), ("10", "0.76")] {
        admin.put_coupon(&code, coupon(percent)).await;
        eventually("the discount is shown", async || {
            reload(&guest, &mut shown).await["totals"]["discount"] == sgd(off)
        })
        .await;
        is_at_rest(&guest, &shown).await;
    }
    let text = |answer: &Answer| String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(text(&shown), text(&first), "all is as it was");
    assert_eq!(shown.tag(), first.tag());
}

#[tokio::test]
async fn what_has_gone_away_and_come_back_is_sent() {
    for region in ["sin", "jkt"] {
        away_and_back(shared(), region).await;
    }
}

#[tokio::test]
async fn what_has_gone_away_and_come_back_is_sent_from_servers() {
    let options = harness::FleetOptions {
        regions: vec!["sin", "jkt"],
        stack: harness::Stack::Servers,
        ..Default::default()
    };
    let fleet = Fleet::start(options).await;
    for region in ["sin", "jkt"] {
        away_and_back(&fleet, region).await;
    }
}

#[tokio::test]
async fn a_write_is_tagged_as_the_read_after_it() {
    let (fleet, mug, pot) = (shared(), unique("mug"), unique("pot"));
    fleet.admin().sell(&mug, "10.00").await;
    fleet.admin().put_item(&pot, goods("SGD", "3.33")).await;
    for region in fleet.ids() {
        let guest = fleet.at(region).guest("SGD").await;
        let add = |item: &str| json!({ "op": "add", "item_id": item, "quantity": 3 });
        let batch = json!({ "commands": [add(&pot), add(&mug)] });
        for write in [
            guest.add(&mug, 2),
            guest.post("/v1/cart/commands", batch),
            guest.delete("/v1/cart/coupons/NONE"),
            guest.delete("/v1/cart/items"),
        ] {
            let written = write.await;
            written.ok();
            is_not_sent_again(&with_tag(guest.get("/v1/cart"), &written).await, &written);
            for other in fleet.ids() {
                let there = guest.at(fleet.url(other));
                let read = there.get("/v1/cart").header("cart-version", written.header("cart-version")).await;
                assert_eq!(String::from_utf8(read.body.clone()), String::from_utf8(written.body.clone()));
                assert_eq!(read.tag(), written.tag());
            }
        }
        guest.add(&mug, 1).await.ok();
        let placed = guest.checkout().await;
        let read = guest.get(placed.header("location")).await;
        assert_eq!((placed.tag(), placed.body), (read.tag(), read.body));
    }
}

#[tokio::test]
async fn a_price_change_does_not_refuse_a_write_by_its_tag() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    guest.add(&mug, 1).await.ok();
    let known = guest.get("/v1/cart").await;
    fleet.admin().sell(&mug, "11.00").await;
    eventually("the region hears of the new price", async || {
        guest.get("/v1/cart").await.tag() != known.tag()
    })
    .await;
    guest.add(&mug, 1).header("if-match", known.tag()).await.ok();
    guest.add(&mug, 1).header("if-match", known.tag()).await.problem(412, "version_mismatch");
}
