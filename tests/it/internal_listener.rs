//! Health, metrics and admin: a listener that is not for clients.

use std::net::IpAddr;

use harness::{Caller, Fleet, FleetOptions, eventually, shared, unique};
use serde_json::json;

use crate::support::assert_json;

#[tokio::test]
async fn health_and_metrics_need_no_token() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "1.00").await;
    for region in fleet.ids() {
        let guest = fleet.at(region).guest("SGD").await;
        let ask = guest.add(&mug, 1).key(&harness::fresh_key());
        ask.clone().await.ok();
        ask.await.ok();
        guest.cart().await;
        let internal = fleet.internal(region);
        assert_eq!(internal.get("/livez").await.status, 200);
        assert_json(&internal.get("/readyz").await.ok()["ready"], json!(true));
        let metrics = internal.get("/metrics").await;
        assert!(metrics.header("content-type").starts_with("text/plain"), "{metrics}");
        let text = String::from_utf8(metrics.body).expect("metrics are text");
        for name in [
            "troli_http_request_duration_seconds",
            "troli_cache_requests_total",
            "troli_feed_lag_seconds",
            "troli_rules_duration_seconds",
            "troli_rules_fuel",
            "troli_rules_revision_info",
            "troli_writes_total",
            "troli_idempotent_replays_total",
            "troli_region_health",
        ] {
            assert!(text.lines().any(|line| line.starts_with(name)), "{region} has no {name}");
        }
        let of_region = format!("region=\"{region}\"");
        let forwards = text
            .lines()
            .any(|line| line.starts_with("troli_forward_duration_seconds") && line.contains(&of_region));
        assert_eq!(forwards, region != "sin", "home forwards to nobody");
    }
}

#[tokio::test]
async fn a_region_without_home_is_alive_and_not_ready() {
    let options = FleetOptions { regions: vec!["sin", "jkt"], ..FleetOptions::default() };
    let fleet = Fleet::start(options).await;
    fleet.stop_region("jkt").await;
    fleet.link("jkt").cut().await;
    let starting = fleet.start_region("jkt");
    let waiting = async {
        let internal = fleet.internal("jkt");
        eventually("the region is alive", async || {
            internal.get("/livez").send().await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
        let ready = internal.get("/readyz").await;
        assert_json(&ready.is(503)["ready"], json!(false));
        assert!(ready.json()["reasons"].as_array().is_some_and(|reasons| !reasons.is_empty()), "{ready}");
        fleet.link("jkt").restore().await.expect("the link listens again");
    };
    tokio::join!(starting, waiting);
    fleet.at("jkt").guest("SGD").await.cart().await;
}

#[tokio::test]
async fn admin_routes_open_for_the_admin_token_alone() {
    let fleet = shared();
    let guest = fleet.at("sin").guest("SGD").await;
    for region in fleet.ids() {
        let nobody = fleet.internal(region);
        for (method, path) in [
            ("GET", "/admin/items/x"),
            ("PUT", "/admin/items/x"),
            ("PATCH", "/admin/items/x"),
            ("POST", "/admin/items/x/stock"),
            ("PUT", "/admin/coupons/x"),
            ("POST", "/admin/orders/x/paid"),
            ("POST", "/admin/orders/x/cancelled"),
            ("GET", "/admin/rules"),
        ] {
            let answer = nobody.ask(method, path).json(json!({})).await;
            answer.problem(401, "token_missing");
            assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer}");
            for wrong in ["wrong", guest.token()] {
                nobody.with_token(wrong).ask(method, path).json(json!({})).await.problem(403, "forbidden");
            }
        }
    }
}

#[tokio::test]
async fn what_regions_ask_of_each_other_is_not_here() {
    let fleet = shared();
    for region in fleet.ids() {
        for caller in [fleet.internal(region), fleet.at(region)] {
            caller.post("/internal/writes", json!({})).await.problem(404, "route_unknown");
            caller.get("/internal/catalogue").await.problem(404, "route_unknown");
        }
    }
}

#[tokio::test]
async fn without_an_admin_token_in_its_configuration_nobody_is_admin() {
    let settings = vec![("TROLI_ADMIN_TOKEN_FILE", String::new())];
    let options = FleetOptions { regions: vec!["sin"], settings, ..FleetOptions::default() };
    let fleet = Fleet::start(options).await;
    for token in ["", "anything", fleet.admin().caller().token()] {
        let answer = fleet.internal("sin").with_token(token).get("/admin/rules").await;
        assert!(matches!(answer.status, 401 | 403), "{answer}");
    }
}

#[tokio::test]
async fn wrong_items_and_coupons_are_refused_with_their_places() {
    let fleet = shared();
    let admin = fleet.admin();
    let item = |patch: serde_json::Value| {
        let mut item = json!({ "title": "T", "prices": { "SGD": "1.00" }, "stock": 1 });
        item.as_object_mut().expect("an object").extend(patch.as_object().expect("an object").clone());
        item
    };
    for (wrong, pointer) in [
        (item(json!({ "prices": { "SGD": "1.001" } })), "#/prices/SGD"),
        (item(json!({ "prices": { "VND": "1.5" } })), "#/prices/VND"),
        (item(json!({ "prices": { "SGD": "-1.00" } })), "#/prices/SGD"),
        (item(json!({ "prices": { "SGD": "99999999999.00" } })), "#/prices/SGD"),
        (item(json!({ "prices": { "SGD": 1.0 } })), "#/prices/SGD"),
        (item(json!({ "stock": -1 })), "#/stock"),
        (item(json!({ "title": "" })), "#/title"),
        (item(json!({ "tax_class": "luxury" })), "#/tax_class"),
        (item(json!({ "tags": vec!["t"; 17] })), "#/tags"),
        (item(json!({ "quantity_max": 0 })), "#/quantity_max"),
        (item(json!({ "colour": "red" })), "#/colour"),
    ] {
        let answer = admin.caller().put(format!("/admin/items/{}", unique("wrong"))).json(wrong).await;
        assert_eq!(answer.status, 400, "{answer}");
        assert_eq!(answer.any_problem()["errors"][0]["pointer"], pointer, "{answer}");
    }
    for (wrong, pointer) in [
        (json!({ "kind": "percent", "value": "101" }), "#/value"),
        (json!({ "kind": "percent", "value": "0" }), "#/value"),
        (json!({ "kind": "percent", "value": "1.005" }), "#/value"),
        (json!({ "kind": "amount", "value": "1.00" }), "#/currency"),
        (json!({ "kind": "amount", "value": "-1.00", "currency": "SGD" }), "#/value"),
        (json!({ "kind": "amount", "value": "1.50", "currency": "VND" }), "#/value"),
        (json!({ "kind": "gift", "value": "1" }), "#/kind"),
        (json!({ "kind": "percent", "value": "10", "starts_at": "soon" }), "#/starts_at"),
        (
            json!({ "kind": "percent", "value": "1", "starts_at": "2030-01-01T00:00:00Z",
                "ends_at": "2029-01-01T00:00:00Z" }),
            "#/ends_at",
        ),
    ] {
        let answer = admin.caller().put(format!("/admin/coupons/{}", unique("WRONG"))).json(wrong).await;
        assert_eq!(answer.status, 400, "{answer}");
        assert_eq!(answer.any_problem()["errors"][0]["pointer"], pointer, "{answer}");
    }
}

#[tokio::test]
async fn guesses_at_the_admin_token_are_few() {
    let (fleet, guesser) = (shared(), IpAddr::from([127, 0, 0, 7]));
    let internal = Caller::coming_from(guesser, format!("http://{}", fleet.internal_address("sin")));
    let guess = |n: usize| internal.with_token(format!("guess-{n}")).get("/admin/rules");
    let mut refused = 0;
    for n in 0..30 {
        let answer = guess(n).await;
        if answer.status == 429 {
            answer.problem(429, "rate_limited");
            refused += 1;
        } else {
            answer.problem(403, "forbidden");
        }
    }
    assert!((1..=10).contains(&refused), "{refused}");
    let right = internal.with_token(fleet.admin().caller().token()).get("/admin/rules").await;
    right.problem(429, "rate_limited");
    fleet.admin().get("/admin/rules").await.ok();
}
