use harness::{shared, unique};
use serde_json::json;

use crate::support::assert_json;

#[tokio::test]
async fn every_cart_answer_carries_its_version_as_header_tag_and_cookie() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    for region in fleet.ids() {
        let guest = fleet.at(region).guest("SGD").await;
        let added = guest.add(&mug, 1).await;
        let line_id = added.ok()["lines"][0]["line_id"].as_str().expect("a line").to_owned();
        let line = format!("/v1/cart/items/{line_id}");
        for answer in
            [added, guest.get("/v1/cart").await, guest.get("/v1/cart/count").await, guest.get(line).await]
        {
            let version = answer.version();
            let (epoch, number) = version.split_once('.').expect("epoch.version");
            assert!(epoch.parse::<u32>().is_ok() && number.parse::<u64>().is_ok(), "{answer}");
            let tag = answer.tag();
            assert!(tag.starts_with(&format!("\"{version}.")) && tag.len() > version.len() + 12, "{answer}");
            let seen = answer.header("cart-version");
            let cookie = answer.header("set-cookie").to_ascii_lowercase();
            assert!(cookie.starts_with(&format!("cart-version={seen}; path=/v1; httponly")), "{answer}");
            assert!(!cookie.contains("secure"), "nobody came by HTTPS: {answer}");
            assert_eq!(answer.header("cart-region"), region, "{answer}");
            assert!(matches!(answer.header("cart-source"), "cache" | "replica" | "home"), "{answer}");
        }
    }
}

#[tokio::test]
async fn the_timing_of_a_request_says_where_its_time_went() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let timing = guest.add(&mug, 1).await.header("server-timing").to_owned();
    for part in ["db;dur=", "rules;dur=", "forward;dur="] {
        assert!(timing.contains(part), "a forwarded write: {timing}");
    }
    let timing = guest.get("/v1/cart").await.header("server-timing").to_owned();
    assert!(timing.contains("cache;dur=") && !timing.contains("forward"), "a cached read: {timing}");
}

#[tokio::test]
async fn every_change_makes_the_next_version() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("bkk").guest("SGD").await;
    let mut last = guest.get("/v1/cart").await.version();
    for _ in 0..5 {
        let version = guest.add(&mug, 1).await.version();
        let number =
            |version: &str| version.split_once('.').and_then(|(_, number)| number.parse::<u64>().ok());
        assert_eq!(number(&version), number(&last).map(|last| last + 1));
        last = version;
    }
    assert_eq!(guest.get("/v1/cart").await.version(), last);
}

#[tokio::test]
async fn a_write_with_if_match_happens_at_that_version_only() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let unused = guest.get("/v1/cart").await.version();
    let first = guest.add(&mug, 1).if_match(&unused).await;
    let (version, line_id) = (first.version(), first.ok()["lines"][0]["line_id"].clone());
    let line = format!("/v1/cart/items/{}", line_id.as_str().expect("a line"));
    let batch = json!({ "commands": [{ "op": "clear" }] });

    for wrong in [format!("\"{unused}\""), format!("W/\"{version}\""), "\"nonsense\"".to_owned()] {
        for ask in [
            guest.add(&mug, 1),
            guest.patch(&line, json!({ "quantity": 5 })),
            guest.delete(&line),
            guest.delete("/v1/cart/items"),
            guest.put("/v1/cart/coupons/ANY"),
            guest.delete("/v1/cart/coupons/ANY"),
            guest.post("/v1/cart/commands", batch.clone()),
        ] {
            let answer = ask.header("if-match", &wrong).await;
            let problem = answer.problem(412, "version_mismatch");
            assert_json(&problem["current_version"], json!(version));
        }
    }
    assert_eq!(guest.get("/v1/cart").await.version(), version);

    let second = guest.patch(&line, json!({ "quantity": 5 })).if_match(&version).await;
    assert_json(&second.ok()["lines"][0]["quantity"], json!(5));
    // A whole tag, of which the version counts, or none.
    let tags = format!("\"9.9\", {}", second.tag());
    let third = guest.delete(&line).header("if-match", tags).await;
    assert_json(&third.ok()["lines"], json!([]));
    guest.add(&mug, 1).header("if-match", "*").await.ok();
}

#[tokio::test]
async fn of_writes_at_one_version_exactly_one_happens() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("sin").guest("SGD").await;
    let version = guest.add(&mug, 1).await.version();
    let regions = fleet.ids();
    let writes = (0..12).map(|n| {
        let guest = guest.at(fleet.url(regions[n % regions.len()]));
        guest.add(&mug, 1).if_match(&version).into_future()
    });
    let answers = futures_util::future::join_all(writes).await;
    let done = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(done, 1, "{}", answers.len());
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.problem(412, "version_mismatch");
    }
    assert_json(&guest.cart().await["lines"][0]["quantity"], json!(2));
}

#[tokio::test]
async fn a_malformed_version_is_a_mistake_in_a_header_and_ignored_in_a_cookie() {
    let guest = shared().at("bkk").guest("SGD").await;
    for wrong in ["", "1", "a.b", "1.2.", "1.2.3.4", "-1.0", "99999999999999999999.1"] {
        let answer = guest.get("/v1/cart").header("cart-version", wrong).await;
        assert_json(&answer.any_problem()["status"], json!(400));
        guest.get("/v1/cart").header("cookie", format!("cart-version={wrong}")).await.ok();
    }
}
