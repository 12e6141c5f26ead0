//! A guest signs in: both carts become one, and the guest's ends.

use harness::{Caller, fresh_key, shared, unique};
use serde_json::{Value, json};

use crate::support::{assert_json, line_of, lines_of, warnings_of};

/// A guest, a user, and three items: one that only the guest has, one that both have (2 and 3 units), and one
/// that only the user has.
struct SignIn {
    guest: Caller,
    user: Caller,
    only_guests: String,
    shared: String,
    only_users: String,
}

/// The one warning of this code.
#[track_caller]
fn warning_of<'a>(cart: &'a Value, code: &str) -> &'a Value {
    let mut found = cart["warnings"].as_array().expect("warnings").iter().filter(|it| it["code"] == code);
    match (found.next(), found.next()) {
        (Some(warning), None) => warning,
        _ => panic!("not exactly one {code}: {cart:#}"),
    }
}

async fn sign_in(region: &str) -> SignIn {
    let fleet = shared();
    let [only_guests, shared, only_users] = ["guests", "both", "users"].map(unique);
    for item in [&only_guests, &shared, &only_users] {
        fleet.admin().sell(item, "10.00").await;
    }
    let nobody = fleet.at(region);
    let (guest, user) = (nobody.guest("SGD").await, nobody.user(&unique("user")).await);
    guest.add(&only_guests, 1).await.ok();
    guest.add(&shared, 2).await.ok();
    user.add(&shared, 3).await.ok();
    user.add(&only_users, 4).await.ok();
    SignIn { guest, user, only_guests, shared, only_users }
}

impl SignIn {
    fn body(&self, policy: Option<&str>) -> Value {
        match policy {
            Some(policy) => json!({ "guest_token": self.guest.token(), "policy": policy }),
            None => json!({ "guest_token": self.guest.token() }),
        }
    }
}

#[tokio::test]
async fn each_policy_decides_the_lines_that_both_carts_have() {
    for (region, policy, expected) in
        [("sin", None, 3), ("jkt", Some("max"), 3), ("bkk", Some("sum"), 5), ("jkt", Some("replace"), 2)]
    {
        let it = sign_in(region).await;
        let cart = it.user.post("/v1/cart/merge", it.body(policy)).await.ok();
        assert_eq!(lines_of(&cart).len(), 3, "{cart:#}");
        assert_json(&line_of(&cart, &it.only_guests)["quantity"], json!(1));
        assert_json(&line_of(&cart, &it.shared)["quantity"], json!(expected));
        assert_json(&line_of(&cart, &it.only_users)["quantity"], json!(4));
        assert_json(&it.user.cart().await, cart);
    }
}

#[tokio::test]
async fn sums_stop_at_the_most_units_of_a_line_and_the_answer_says_so_once() {
    for region in ["sin", "jkt"] {
        let it = sign_in(region).await;
        it.guest.add(&it.shared, 900).await.ok();
        it.user.add(&it.shared, 900).await.ok();
        let answer = it.user.post("/v1/cart/merge", it.body(Some("sum"))).await;
        let cart = answer.ok();
        let line = line_of(&cart, &it.shared);
        assert_json(&line["quantity"], json!(999));
        let warning = warning_of(&cart, "quantity_capped");
        assert_json(&warning["line_id"], line["line_id"].clone());
        assert_json(&warning["params"], json!({ "wanted": 1805, "kept": 999 }));
        // The cart itself does not go on saying it, and what said it is another document.
        let tag = answer.header("etag").to_owned();
        let read = it.user.get("/v1/cart").header("if-none-match", &tag).await;
        assert_eq!(warnings_of(&read.ok()), [] as [&str; 0]);
        assert_ne!(read.header("etag"), tag);
    }
}

#[tokio::test]
async fn more_than_an_items_maximum_is_kept_and_shown_until_it_is_less() {
    let (fleet, tofu) = (shared(), unique("tofu"));
    let item = json!({ "title": "Tofu", "prices": { "SGD": "2.00" }, "stock": 99, "quantity_max": 4 });
    fleet.admin().put_item(&tofu, item).await;
    let nobody = fleet.at("bkk");
    let (guest, user) = (nobody.guest("SGD").await, nobody.user(&unique("user")).await);
    guest.add(&tofu, 3).await.ok();
    user.add(&tofu, 3).await.ok();
    let merge = json!({ "guest_token": guest.token(), "policy": "sum" });
    let merged = user.post("/v1/cart/merge", merge).await.ok();
    for cart in [merged, user.cart().await] {
        let line = line_of(&cart, &tofu);
        assert_eq!((&line["quantity"], &line["available"]), (&json!(6), &json!(false)));
        let warning = warning_of(&cart, "quantity_above_item_max");
        assert_json(&warning["line_id"], line["line_id"].clone());
        assert_json(&warning["params"]["quantity_max"], json!(4));
    }
    user.checkout().await.problem(422, "quantity_above_item_max");
    let path =
        format!("/v1/cart/items/{}", line_of(&user.cart().await, &tofu)["line_id"].as_str().expect("a line"));
    assert_eq!(warnings_of(&user.patch(path, json!({ "quantity": 4 })).await.ok()), [] as [&str; 0]);
    user.checkout().await.is(201);
}

#[tokio::test]
async fn coupons_beyond_the_most_of_a_cart_are_left_out_and_named() {
    let fleet = shared();
    let codes: Vec<String> = (0..22).map(|_| unique("CODE")).collect();
    for code in &codes {
        fleet.admin().put_coupon(code, json!({ "kind": "amount", "value": "0.01", "currency": "SGD" })).await;
    }
    let it = sign_in("sin").await;
    // Two that both have, eighteen more of the user, and two more of the guest.
    for code in &codes[..20] {
        it.user.put(format!("/v1/cart/coupons/{code}")).await.ok();
    }
    for code in codes[..2].iter().chain(&codes[20..]) {
        it.guest.put(format!("/v1/cart/coupons/{code}")).await.ok();
    }
    let cart = it.user.post("/v1/cart/merge", it.body(None)).await.ok();
    assert_json(&cart["coupons"], json!(codes[..20]));
    let warnings = cart["warnings"].as_array().expect("warnings").iter();
    let left_out: Vec<&Value> = warnings
        .filter(|warning| warning["code"] == "coupon_left_out")
        .map(|warning| &warning["params"]["code"])
        .collect();
    assert_eq!(left_out, [&json!(codes[20]), &json!(codes[21])]);
}

#[tokio::test]
async fn coupons_come_along() {
    let (it, code) = (sign_in("bkk").await, unique("TEN"));
    shared().admin().put_coupon(&code, json!({ "kind": "percent", "value": "10" })).await;
    it.guest.put(format!("/v1/cart/coupons/{code}")).await.ok();
    let cart = it.user.post("/v1/cart/merge", it.body(None)).await.ok();
    assert_json(&cart["coupons"], json!([code]));
    assert_json(&cart["discounts"][0]["code"], json!(code));
}

#[tokio::test]
async fn a_merged_guest_cart_is_gone_everywhere() {
    let fleet = shared();
    let it = sign_in("jkt").await;
    // Every region has it in its cache.
    for region in fleet.ids() {
        it.guest.at(fleet.url(region)).get("/v1/cart").await.ok();
    }
    it.user.post("/v1/cart/merge", it.body(None)).await.ok();
    // Where the merge came in, at once; elsewhere as soon as the feed has told.
    it.guest.get("/v1/cart").await.problem(410, "cart_merged");
    let line = "/v1/cart/items/l_any";
    for region in fleet.ids() {
        let guest = it.guest.at(fleet.url(region));
        harness::eventually("the region hears of the merge", async || {
            guest.get("/v1/cart").await.status == 410
        })
        .await;
        for ask in [
            guest.get("/v1/cart"),
            guest.get("/v1/cart/count"),
            guest.get(line),
            guest.add(&it.shared, 1),
            // A condition is not what stands in the way.
            guest.add(&it.shared, 1).if_match("1.1"),
            guest.patch(line, json!({ "quantity": 1 })),
            guest.delete(line),
            guest.delete("/v1/cart/items"),
            guest.put("/v1/cart/coupons/ANY"),
            guest.post("/v1/cart/commands", json!({ "commands": [{ "op": "clear" }] })),
        ] {
            ask.await.problem(410, "cart_merged");
        }
    }
    let total = json!({ "expected_total": { "amount": "0.00", "currency": "SGD" } });
    let checkout = it.guest.post("/v1/cart/checkout", total).header("if-match", "*").await;
    checkout.problem(410, "cart_merged");
}

#[tokio::test]
async fn merging_again_with_the_same_key_is_the_same_merge() {
    let it = sign_in("bkk").await;
    let key = fresh_key();
    let first = it.user.post("/v1/cart/merge", it.body(Some("sum"))).key(&key).await;
    first.ok();
    let again = it.user.post("/v1/cart/merge", it.body(Some("sum"))).key(&key).await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    assert_eq!(again.header("idempotent-replayed"), "true");
    it.user
        .post("/v1/cart/merge", it.body(Some("max")))
        .key(&key)
        .await
        .problem(422, "idempotency_key_reused");
    it.user.post("/v1/cart/merge", it.body(Some("sum"))).await.problem(410, "cart_merged");
    assert_json(&line_of(&it.user.cart().await, &it.shared)["quantity"], json!(5));
    // Later it is answered with what the cart is then.
    let later = it.user.add(&it.shared, 2).await;
    let again = it.user.post("/v1/cart/merge", it.body(Some("sum"))).key(&key).await;
    assert_eq!((again.status, again.version(), &again.body), (200, later.version(), &later.body));
}

#[tokio::test]
async fn a_guest_who_asks_again_after_the_merge_is_told_of_it() {
    let it = sign_in("jkt").await;
    let add = it.guest.add(&it.shared, 1).key(&fresh_key());
    add.clone().await.ok();
    it.user.post("/v1/cart/merge", it.body(None)).await.ok();
    add.await.problem(410, "cart_merged");
}

#[tokio::test]
async fn many_sign_ins_at_once_merge_once() {
    let fleet = shared();
    let it = sign_in("sin").await;
    let regions = fleet.ids();
    let merges = (0..9).map(|n| {
        let user = it.user.at(fleet.url(regions[n % regions.len()]));
        user.post("/v1/cart/merge", it.body(Some("sum"))).into_future()
    });
    let answers = futures_util::future::join_all(merges).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.problem(410, "cart_merged");
    }
    assert_json(&line_of(&it.user.cart().await, &it.shared)["quantity"], json!(5));
}

#[tokio::test]
async fn carts_of_two_currencies_do_not_become_one() {
    let (fleet, tea) = (shared(), unique("tea"));
    let prices = json!({ "title": "Tea", "prices": { "SGD": "4.50", "MYR": "15.00" }, "stock": 99 });
    fleet.admin().put_item(&tea, prices).await;
    let nobody = fleet.at("jkt");
    let (guest, user) = (nobody.guest("MYR").await, nobody.user(&unique("user")).await);
    guest.add(&tea, 1).await.ok();
    user.add(&tea, 1).await.ok();
    let body = json!({ "guest_token": guest.token() });
    user.post("/v1/cart/merge", body.clone()).await.problem(422, "currency_mismatch");
    assert_json(&guest.cart().await["lines"][0]["quantity"], json!(1));
    // An empty cart has no prices to be in a currency, so it takes the guest's.
    user.delete("/v1/cart/items").await.ok();
    let cart = user.post("/v1/cart/merge", body).await.ok();
    assert_json(&cart["currency"], json!("MYR"));
    assert_json(&cart["totals"]["total"], crate::support::money("16.50", "MYR"));
}

#[tokio::test]
async fn only_a_user_can_merge_and_only_a_guests_cart() {
    let it = sign_in("sin").await;
    it.guest.post("/v1/cart/merge", it.body(None)).await.problem(403, "forbidden");
    for wrong in [it.user.token(), "", "garbage"] {
        let answer = it.user.post("/v1/cart/merge", json!({ "guest_token": wrong })).await;
        let problem = answer.any_problem();
        assert_json(&problem["status"], json!(400));
        assert_json(&problem["errors"][0]["pointer"], json!("#/guest_token"));
    }
    let unknown_policy = it.user.post("/v1/cart/merge", it.body(Some("min"))).await.any_problem();
    assert_json(&unknown_policy["errors"][0]["pointer"], json!("#/policy"));
    it.guest.get("/v1/cart").await.ok();
}

#[tokio::test]
async fn a_guests_orders_are_the_users_from_then_on() {
    for region in ["sin", "jkt"] {
        let it = sign_in(region).await;
        let placed = it.guest.checkout().await;
        let order = placed.is(201);
        let path = placed.header("location").to_owned();
        it.guest.add(&it.shared, 1).await.ok();
        it.user.get(&path).await.problem(404, "order_unknown");
        it.user.post("/v1/cart/merge", it.body(None)).await.ok();
        assert_json(&it.user.get(&path).await.ok(), order.clone());
        assert_json(&it.user.get("/v1/orders").await.ok()["orders"], json!([order]));
        it.guest.get(&path).await.problem(410, "cart_merged");
        it.guest.get("/v1/orders").await.problem(410, "cart_merged");
        // The payment service knows an order by its name alone.
        let id = order["id"].as_str().expect("a name");
        shared().admin().settle(id, "paid").await.ok();
        assert_json(&it.user.get(&path).await.ok()["state"], json!("paid"));
    }
}

#[tokio::test]
async fn an_order_that_is_placed_while_the_guest_signs_in_is_somebodys() {
    let fleet = shared();
    for _ in 0..5 {
        let it = sign_in("sin").await;
        let (placed, merged) =
            tokio::join!(it.guest.checkout(), it.user.post("/v1/cart/merge", it.body(None)));
        merged.ok();
        let orders = it.user.at(fleet.url("jkt")).get("/v1/orders").await.ok();
        match placed.status {
            201 => assert_json(&orders["orders"], json!([placed.json()])),
            _ => {
                placed.problem(410, "cart_merged");
                assert_json(&orders["orders"], json!([]));
            }
        }
    }
}
