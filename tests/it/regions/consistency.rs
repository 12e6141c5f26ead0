use harness::{Chance, eventually, shared, unique};
use serde_json::{Value, json};

use crate::support::{assert_json, lines_of};

#[tokio::test]
async fn a_write_anywhere_is_seen_everywhere() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    for writer in fleet.ids() {
        let guest = fleet.at(writer).guest("SGD").await;
        // Every region has the unused cart in its cache.
        for reader in fleet.ids() {
            guest.at(fleet.url(reader)).cart().await;
        }
        let written = guest.add(&mug, 3).await.ok();
        for reader in fleet.ids() {
            let there = guest.at(fleet.url(reader));
            eventually(&format!("{reader} sees what was written at {writer}"), async || {
                there.cart().await["version"] == written["version"]
            })
            .await;
            let read = there.get("/v1/cart").await;
            assert_json(&read.ok(), written.clone());
            assert_eq!(read.header("cart-region"), reader);
            let count = there.get("/v1/cart/count").await.ok();
            assert_json(&count, json!({ "lines": 1, "quantity": 3 }));
        }
    }
}

#[tokio::test]
async fn a_region_that_wrote_reads_from_its_cache() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("bkk").guest("SGD").await;
    let written = guest.add(&mug, 1).await;
    written.ok();
    let read = guest.get("/v1/cart").header("cart-version", written.version()).await;
    assert_eq!((read.header("cart-source"), read.header("cart-region")), ("cache", "bkk"));
    assert_eq!(read.version(), written.version());
}

/// What a client remembers of its cart.
fn model_of(cart: &Value) -> Vec<(String, u64)> {
    let line = |line: &Value| {
        let item = line["item_id"].as_str().expect("an item").to_owned();
        (item, line["quantity"].as_u64().expect("a quantity"))
    };
    let mut lines: Vec<_> = lines_of(cart).iter().map(line).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn a_client_that_echoes_its_version_reads_its_own_writes_in_every_region() {
    let fleet = shared();
    let items: Vec<String> = (0..4).map(|_| unique("thing")).collect();
    for item in &items {
        fleet.admin().sell(item, "10.00").await;
    }
    let regions = fleet.ids();
    for seed in 0..8 {
        let mut chance = Chance::seeded(seed);
        let client = fleet.at("sin").guest("SGD").await.following();
        let mut expected = Vec::new();
        let mut last = (0, 0);
        for step in 0..40 {
            let here = client.at(fleet.url(chance.pick(&regions)));
            let path_of = |cart: &Value, at: usize| {
                format!("/v1/cart/items/{}", cart["lines"][at]["line_id"].as_str().expect("a line"))
            };
            let answer = match chance.below(6) {
                0 | 1 => {
                    here.add(&chance.pick(&items), 1 + u32::try_from(chance.below(3)).expect("small")).await
                }
                2 if !expected.is_empty() => {
                    let cart = here.cart().await;
                    let path = path_of(&cart, chance.below(lines_of(&cart).len()));
                    here.patch(path, json!({ "quantity": 1 + chance.below(5) })).await
                }
                3 if !expected.is_empty() => {
                    let cart = here.cart().await;
                    let path = path_of(&cart, chance.below(lines_of(&cart).len()));
                    here.delete(path).await
                }
                4 => here.get("/v1/cart/count").await,
                _ => here.get("/v1/cart").await,
            };
            let found = answer.ok();
            let version = answer.version();
            let (epoch, version) = version.split_once('.').expect("epoch.version");
            let version =
                (epoch.parse::<u32>().expect("a number"), version.parse::<u64>().expect("a number"));
            assert!(version >= last, "seed {seed}, step {step}: the version went back");
            if found.get("lines").is_some_and(Value::is_array) {
                let model = model_of(&found);
                assert!(
                    version > last || model == expected,
                    "seed {seed}, step {step}: one version, two carts"
                );
                expected = model;
            } else {
                let quantity: u64 = expected.iter().map(|(_, quantity)| quantity).sum();
                assert_eq!(
                    found,
                    json!({ "lines": expected.len(), "quantity": quantity }),
                    "seed {seed}, step {step}"
                );
            }
            last = version;
        }
    }
}

#[tokio::test]
async fn a_browser_that_returns_its_cookie_reads_its_own_writes_too() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    for n in 1..=10 {
        let written = guest.add(&mug, 1).await;
        let cookie = written.header("set-cookie").split(';').next().expect("a cookie").to_owned();
        let there = guest.at(fleet.url(if n % 2 == 0 { "bkk" } else { "sin" }));
        let read = there.get("/v1/cart").header("cookie", cookie).await;
        assert_json(&read.ok()["lines"][0]["quantity"], json!(n));
    }
}
