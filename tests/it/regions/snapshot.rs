//! A cache that comes back with old data.

use harness::{Fleet, FleetOptions, Stack, eventually};

use super::sell_mug;

#[tokio::test]
async fn a_cache_that_comes_back_from_an_old_snapshot_is_read_by_nobody_before_it_is_told() {
    let fleet = Fleet::start(FleetOptions {
        regions: vec!["sin", "jkt"],
        stack: Stack::Servers,
        ..FleetOptions::default()
    })
    .await;
    let mug = sell_mug(&fleet, "jkt").await;
    let guest = fleet.at("jkt").guest("SGD").await;
    let old = guest.add(&mug, 1).await.version();
    eventually("the cart is read from the cache", async || {
        guest.get("/v1/cart").await.header("cart-source") == "cache"
    })
    .await;
    fleet.redis("jkt").save().await;
    let new = guest.at(fleet.url("sin")).add(&mug, 1).await.version();
    assert_ne!(old, new);
    eventually("the newer one is seen", async || guest.get("/v1/cart").await.version() == new).await;

    fleet.redis("jkt").kill();
    fleet.redis("jkt").restart().await;
    // Whoever echoes nothing has no other protection. Every read counts, from the first on.
    eventually("the cart is read from the cache again", async || {
        let read = guest.get("/v1/cart").await;
        assert_eq!(read.version(), new, "{read}");
        read.header("cart-source") == "cache"
    })
    .await;
}
