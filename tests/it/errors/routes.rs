use harness::{shared, unique};
use serde_json::json;

use crate::support::assert_json;

#[tokio::test]
async fn what_there_is_not_is_unknown() {
    let fleet = shared();
    for region in fleet.ids() {
        let guest = fleet.at(region).guest("SGD").await;
        for path in
            ["/", "/v1", "/v1/carts", "/v2/cart", "/v1/cart/", "/v1/cart/items/a/b", "/v1/CART", "//v1/cart"]
        {
            guest.get(path).await.problem(404, "route_unknown");
        }
    }
}

#[tokio::test]
async fn what_is_internal_is_unknown_outside() {
    let fleet = shared();
    for region in fleet.ids() {
        let admin = fleet.admin().caller().at(fleet.url(region));
        for (method, path) in [
            ("PUT", "/admin/items/x"),
            ("PUT", "/admin/coupons/x"),
            ("POST", "/admin/orders/x/paid"),
            ("POST", "/admin/orders/x/cancelled"),
            ("GET", "/admin/rules"),
            ("POST", "/admin/rules"),
            ("GET", "/admin/fleet"),
            ("POST", "/internal/writes"),
            ("GET", "/internal/catalogue"),
            ("GET", "/metrics"),
            ("GET", "/readyz"),
        ] {
            admin.ask(method, path).json(json!({})).await.problem(404, "route_unknown");
        }
    }
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let fleet = shared();
    let guest = fleet.at("jkt").guest("SGD").await;
    for (method, path, allowed) in [
        ("PUT", "/v1/cart", vec!["GET"]),
        ("DELETE", "/v1/cart", vec!["GET"]),
        ("GET", "/v1/cart/items", vec!["POST", "DELETE"]),
        ("PUT", "/v1/cart/items/l_x", vec!["GET", "PATCH", "DELETE"]),
        ("POST", "/v1/cart/coupons/X", vec!["PUT", "DELETE"]),
        ("GET", "/v1/cart/checkout", vec!["POST"]),
        ("PATCH", "/v1/orders", vec!["GET"]),
        ("GET", "/v1/guests", vec!["POST"]),
        ("BREW", "/v1/cart", vec!["GET"]),
    ] {
        let answer = guest.ask(method, path).await;
        answer.problem(405, "method_not_allowed");
        let told: Vec<&str> = answer.header("allow").split(',').map(str::trim).collect();
        assert!(allowed.iter().all(|method| told.contains(method)), "{path}: {told:?}");
        assert!(!told.contains(&method), "{path}: {told:?}");
    }
}

#[tokio::test]
async fn a_problem_carries_the_name_of_its_request() {
    let nobody = shared().at("bkk");
    let answer = nobody.get("/v1/cart").header("x-request-id", "my-request.1").await;
    assert_json(&answer.problem(401, "token_missing")["request_id"], json!("my-request.1"));
    assert_eq!(answer.header("x-request-id"), "my-request.1");
    let answer = nobody.get("/v1/cart").header("x-request-id", "not fit \"for\" a log").await;
    assert_ne!(answer.problem(401, "token_missing")["request_id"], "not fit \"for\" a log");
}

#[tokio::test]
async fn head_is_answered_like_get_without_a_body() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "1.00").await;
    let guest = fleet.at("sin").guest("SGD").await;
    guest.add(&mug, 1).await.ok();
    let answer = guest.ask("HEAD", "/v1/cart").await;
    assert_eq!((answer.status, answer.body.len()), (200, 0), "{answer}");
    assert_eq!(answer.version(), guest.get("/v1/cart").await.version());
}
