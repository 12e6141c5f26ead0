use super::{
    Browser, Caller, Fetch, Page, assert_json, assert_revalidated, json, line_of, lines_of, page_of, put_in,
    sgd, shared, shown, unique,
};

/// What a page asks for about a cart with a line of an item.
fn paths(line_id: &str) -> [String; 3] {
    ["/v1/cart".to_owned(), "/v1/cart/count".to_owned(), format!("/v1/cart/items/{line_id}")]
}

/// The only item in the cart that the page shows.
async fn only_item(page: &Page<'_>, who: &Caller) -> String {
    let cart = shown(page, who, "/v1/cart").await;
    let [line] = lines_of(&cart) else { panic!("not one line: {cart:#}") };
    line["item_id"].as_str().expect("an item has an id").to_owned()
}

#[tokio::test]
async fn two_users_in_one_browser_see_their_own_carts_at_one_version() {
    let (fleet, browser) = (shared(), Browser::start().await);
    let [diapers, kaya] = ["diapers", "kaya"].map(unique);
    for item in [&diapers, &kaya] {
        fleet.admin().sell(item, "5.00").await;
    }
    let page = page_of(&browser, fleet, "jkt").await;
    let nobody = fleet.at("jkt");
    let (first, second) = (nobody.user(&unique("user")).await, nobody.user(&unique("user")).await);
    let cart_of_first = put_in(&page, &first, &diapers, 1).await;
    let cart_of_second = put_in(&page, &second, &kaya, 1).await;
    assert_json(&cart_of_first["version"], cart_of_second["version"].clone());
    for _ in 0..2 {
        assert_eq!(only_item(&page, &first).await, diapers);
        assert_eq!(only_item(&page, &second).await, kaya);
    }
    // A new guest, whose cart is unused, has neither.
    let guest = nobody.guest("SGD").await;
    assert_json(&shown(&page, &guest, "/v1/cart").await["lines"], json!([]));
    assert_json(&shown(&page, &guest, "/v1/cart/count").await, json!({ "lines": 0, "quantity": 0 }));
    put_in(&page, &guest, &kaya, 3).await;
    assert_eq!(shown(&page, &guest, "/v1/cart").await["lines"][0]["quantity"], 3);
    assert_eq!(only_item(&page, &second).await, kaya);
}

/// Counts, lines and orders have the same path for everybody, and a line of the same item the same id.
#[tokio::test]
async fn counts_lines_and_orders_are_those_of_the_signed_in_user() {
    let (fleet, browser, mug) = (shared(), Browser::start().await, unique("mug"));
    fleet.admin().sell(&mug, "5.00").await;
    let page = page_of(&browser, fleet, "bkk").await;
    let nobody = fleet.at("bkk");
    let users = [nobody.user(&unique("user")).await, nobody.user(&unique("user")).await];
    for (user, quantity) in users.iter().zip([2, 3]) {
        let cart = put_in(&page, user, &mug, quantity).await;
        let line = line_of(&cart, &mug)["line_id"].as_str().expect("a line").to_owned();
        for path in paths(&line) {
            assert_revalidated(&page, user, &path).await;
        }
    }
    let line = shown(&page, &users[0], "/v1/cart").await["lines"][0]["line_id"].clone();
    let line = format!("/v1/cart/items/{}", line.as_str().expect("a line"));
    for (user, quantity) in users.iter().zip([2, 3]) {
        assert_json(&shown(&page, user, "/v1/cart/count").await, json!({ "lines": 1, "quantity": quantity }));
        assert_json(&shown(&page, user, &line).await["quantity"], json!(quantity));
    }

    let totals = [sgd("10.00"), sgd("15.00")];
    for (user, total) in users.iter().zip(&totals) {
        let order = user.checkout().await.is(201);
        assert_json(&order["totals"]["total"], total.clone());
        let path = format!("/v1/orders/{}", order["id"].as_str().expect("an order has an id"));
        assert_json(&shown(&page, user, &path).await["totals"]["total"], total.clone());
        let other = users.iter().find(|other| other.token() != user.token()).expect("there are two");
        let stranger = page.fetch(Fetch::get(path).with_token(other.token())).await;
        assert_eq!(stranger.status, 404, "{stranger:#?}");
    }
    for (user, total) in users.iter().zip(&totals) {
        let orders = shown(&page, user, "/v1/orders").await;
        assert_eq!(orders["orders"].as_array().map(Vec::len), Some(1), "{orders:#}");
        assert_json(&orders["orders"][0]["totals"]["total"], total.clone());
        assert_json(&shown(&page, user, "/v1/cart").await["lines"], json!([]));
    }
}

#[tokio::test]
async fn a_guest_who_signs_in_sees_the_merged_cart() {
    let (fleet, browser) = (shared(), Browser::start().await);
    let [limes, tofu, kaya] = ["limes", "tofu", "kaya"].map(unique);
    for (item, price) in [(&limes, "1.20"), (&tofu, "1.90"), (&kaya, "3.80")] {
        fleet.admin().sell(item, price).await;
    }
    let page = page_of(&browser, fleet, "jkt").await;
    let nobody = fleet.at("jkt");
    let (guest, user) = (nobody.guest("SGD").await, nobody.user(&unique("user")).await);
    put_in(&page, &user, &kaya, 1).await;
    put_in(&page, &guest, &limes, 1).await;
    put_in(&page, &guest, &tofu, 1).await;
    let of_guest = shown(&page, &guest, "/v1/cart").await;
    assert_json(&of_guest["totals"]["total"], sgd("3.10"));

    let body = json!({ "guest_token": guest.token() });
    let merge = Fetch::write("POST", "/v1/cart/merge", &body).with_token(user.token());
    let merged = page.fetch(merge).await.ok();
    assert_json(&merged["version"], of_guest["version"].clone());
    let shown_then = shown(&page, &user, "/v1/cart").await;
    assert_json(&shown_then, merged);
    assert_json(&shown_then["totals"]["total"], sgd("6.90"));
    assert_eq!(lines_of(&shown_then).len(), 3);

    // The guest's token has ended, whatever the browser still keeps.
    let ended = page.fetch(Fetch::get("/v1/cart").with_token(guest.token())).await;
    assert_eq!((ended.status, &ended.json()["code"]), (410, &json!("cart_merged")));
    // After sign-out there is a new guest, with nothing of the user's.
    let next = nobody.guest("SGD").await;
    assert_json(&shown(&page, &next, "/v1/cart").await["lines"], json!([]));
    assert_eq!(lines_of(&shown(&page, &user, "/v1/cart").await).len(), 3);
}
