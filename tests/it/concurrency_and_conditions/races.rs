use futures_util::future::join_all;
use harness::{Chance, shared, unique};
use serde_json::json;

use crate::support::{assert_json, line_of};

#[tokio::test]
async fn concurrent_adds_lose_nothing() {
    let (fleet, mug, pot) = (shared(), unique("mug"), unique("pot"));
    fleet.admin().sell(&mug, "1.00").await;
    fleet.admin().sell(&pot, "1.00").await;
    let guest = fleet.at("sin").guest("SGD").await;
    let regions = fleet.ids();
    let adds = (0..60).map(|n| {
        let item = if n % 2 == 0 { &mug } else { &pot };
        guest.at(fleet.url(regions[n % regions.len()])).add(item, 1).into_future()
    });
    let mut versions: Vec<u64> = join_all(adds)
        .await
        .iter()
        .map(|answer| {
            answer.ok();
            answer.version().split_once('.').and_then(|(_, n)| n.parse().ok()).expect("epoch.version")
        })
        .collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=60).collect::<Vec<u64>>(), "every add made a version of its own");
    let cart = guest.cart().await;
    assert_json(&line_of(&cart, &mug)["quantity"], json!(30));
    assert_json(&line_of(&cart, &pot)["quantity"], json!(30));
}

#[tokio::test]
async fn no_version_of_a_cart_was_ever_two_carts() {
    let (fleet, mug) = (shared(), unique("mug"));
    fleet.admin().sell(&mug, "1.00").await;
    let guest = fleet.at("sin").guest("SGD").await;
    let regions = fleet.ids();
    let mut chance = Chance::seeded(7);
    let asks = (0..120).map(|_| {
        let guest = guest.at(fleet.url(chance.pick(&regions)));
        let ask = if chance.once_in(3) { guest.add(&mug, 1) } else { guest.get("/v1/cart") };
        ask.into_future()
    });
    let mut quantities = std::collections::BTreeMap::new();
    for answer in join_all(asks).await {
        let cart = answer.ok();
        let known = quantities.entry(answer.version()).or_insert_with(|| cart["count"].clone());
        assert_eq!(*known, cart["count"], "{answer}");
    }
    assert!(quantities.len() > 20, "the writes made versions: {}", quantities.len());
}
