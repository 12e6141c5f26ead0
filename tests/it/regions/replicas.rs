//! A replica in every region: what is read from it, and what is not.

use harness::{Answer, Fleet, FleetOptions, Stack, eventually, unique};
use serde_json::{Value, json};
use sqlx::{Connection, MySqlConnection};

use super::sell_mug;
use crate::support::{assert_json, warnings_of};

async fn fleet(regions: &[&'static str]) -> Fleet {
    let wanted = FleetOptions {
        regions: regions.to_vec(),
        stack: Stack::Servers,
        replicas: true,
        ..FleetOptions::default()
    };
    let fleet = Fleet::start(wanted).await;
    for region in &regions[1..] {
        reads_from(&fleet, region, "replica").await;
    }
    fleet
}

/// Waits until carts that a region does not have come from there.
async fn reads_from(fleet: &Fleet, region: &str, source: &str) {
    eventually(&format!("{region} reads from {source}"), async || {
        let fresh = fleet.at(region).guest("SGD").await.get("/v1/cart").await;
        fresh.status == 200 && fresh.header("cart-source") == source
    })
    .await;
}

fn lag_s(metrics: &Answer) -> Option<f64> {
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    let line = text.lines().find(|line| line.starts_with("troli_replication_lag_seconds"))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test]
async fn a_region_reads_from_its_replica_while_that_keeps_up() {
    let fleet = fleet(&["sin", "jkt"]).await;
    let mug = sell_mug(&fleet, "jkt").await;
    let guest = fleet.at("sin").guest("SGD").await;
    let written = guest.add(&mug, 2).await;
    written.ok();
    let there = guest.at(fleet.url("jkt"));
    // Who has seen the write gets it, wherever it comes from; others soon.
    let read = there.get("/v1/cart").header("cart-version", written.version()).await;
    assert_json(&read.ok(), written.ok());
    eventually("the write is seen by those who do not ask for it", async || {
        there.get("/v1/cart").await.version() == written.version()
    })
    .await;
    let metrics = fleet.internal("jkt").get("/metrics").await;
    assert!(lag_s(&metrics).is_some_and(|lag| lag < 3.0), "{metrics}");

    // One that stands still is not read from after a while, and home is asked: the write is seen again.
    fleet.source_link("jkt").pause().await.expect("a pause needs no port");
    eventually("the lag is seen", async || {
        lag_s(&fleet.internal("jkt").get("/metrics").await).is_some_and(|lag| lag > 3.0)
    })
    .await;
    reads_from(&fleet, "jkt", "home").await;
    let newer = guest.add(&mug, 1).await;
    eventually("news come from home meanwhile", async || {
        there.get("/v1/cart").await.version() == newer.version()
    })
    .await;
    fleet.source_link("jkt").restore().await.expect("the link listens again");
    reads_from(&fleet, "jkt", "replica").await;
    assert_json(&there.cart().await, newer.ok());
}

#[tokio::test]
async fn a_cache_that_dies_is_replaced_by_the_replica_and_a_replica_that_dies_by_home() {
    let fleet = fleet(&["sin", "jkt"]).await;
    let mug = sell_mug(&fleet, "jkt").await;
    let guest = fleet.at("jkt").guest("SGD").await.following();
    let written = guest.add(&mug, 1).await.ok();
    fleet.redis("jkt").kill();
    eventually("the cart comes from the replica", async || {
        let read = guest.get("/v1/cart").await;
        assert_json(&read.ok(), written.clone());
        read.header("cart-source") == "replica"
    })
    .await;
    fleet.replica("jkt").kill();
    let read = guest.get("/v1/cart").await;
    assert_json(&read.ok(), written);
    assert_eq!(read.header("cart-source"), "home");
    let newer = guest.add(&mug, 1).await.ok();
    assert_json(&guest.cart().await, newer.clone());
    fleet.replica("jkt").restart().await;
    fleet.redis("jkt").restart().await;
    reads_from(&fleet, "jkt", "replica").await;
    assert_json(&guest.cart().await, newer);
}

#[tokio::test]
async fn without_home_a_region_reads_on_and_says_so() {
    let fleet = fleet(&["sin", "jkt"]).await;
    let mug = sell_mug(&fleet, "jkt").await;
    let guest = fleet.at("sin").guest("SGD").await;
    let written = guest.add(&mug, 3).await;
    written.ok();
    let there = guest.at(fleet.url("jkt"));
    eventually("the write has come", async || there.get("/v1/cart").await.version() == written.version())
        .await;
    let uncached = fleet.at("sin").guest("SGD").await;
    let unseen = uncached.add(&mug, 1).await.ok();
    eventually("the feed has brought the other write", async || {
        lines_at_replica(&fleet, "jkt", &unseen).await == 1
    })
    .await;

    fleet.link("jkt").cut().await;
    eventually("the client is warned that home was not asked", async || {
        warnings_of(&there.cart().await) == ["home_unreachable"]
    })
    .await;
    let read = uncached.at(fleet.url("jkt")).get("/v1/cart").await;
    assert_json(&read.ok()["lines"][0]["quantity"], json!(1));
    assert_eq!(read.header("cart-source"), "replica");
    let refused = there.add(&mug, 1).await;
    refused.problem(503, "home_unavailable");
    assert!(!refused.header("retry-after").is_empty());

    fleet.link("jkt").restore().await.expect("the link listens again");
    eventually("writes are taken again", async || there.add(&mug, 1).await.status == 200).await;
    eventually("nobody is warned any more", async || warnings_of(&there.cart().await).is_empty()).await;
}

async fn lines_at_replica(fleet: &Fleet, region: &str, cart: &Value) -> i64 {
    let url = fleet.replica(region).admin_url();
    let mut replica = MySqlConnection::connect(&url).await.expect("root may come in from this machine");
    sqlx::query_scalar("SELECT COUNT(*) FROM cart_items WHERE cart_id = ?")
        .bind(cart["id"].as_str().expect("a cart has an id"))
        .fetch_one(&mut replica)
        .await
        .expect("an answer")
}

#[tokio::test]
async fn what_commits_late_is_told_through_a_replica_too() {
    let fleet = fleet(&["sin", "jkt"]).await;
    let (mug, late_item) = (sell_mug(&fleet, "jkt").await, unique("late"));
    // A place in the feed is taken first and committed last: others are seen before it.
    let url = fleet.mysql().admin_url_of("troli");
    let mut slow = MySqlConnection::connect(&url).await.expect("root may come in from this machine");
    let mut late = slow.begin().await.expect("a transaction");
    let change: String = sqlx::query_scalar("SELECT payload FROM outbox WHERE payload LIKE ? LIMIT 1")
        .bind(format!("%{mug}%"))
        .fetch_one(&mut *late)
        .await
        .expect("the mug was told");
    sqlx::query("INSERT INTO outbox (at, payload) VALUES (1, ?)")
        .bind(change.replace(&mug, &late_item))
        .execute(&mut *late)
        .await
        .expect("a place");
    for _ in 0..3 {
        sell_mug(&fleet, "jkt").await;
    }
    fleet.at("jkt").get(format!("/v1/items/{late_item}")).await.problem(404, "item_unknown");
    late.commit().await.expect("it commits");
    eventually("the late one is told as well", async || {
        fleet.at("jkt").get(format!("/v1/items/{late_item}")).await.status == 200
    })
    .await;
}
