//! Several regions, one cart: what each sees, and what happens when they lose sight of home.

mod consistency;
mod feed;
mod forwarding;
mod outage;
mod peers;
mod replicas;
mod snapshot;
mod versions;

use harness::{Fleet, eventually, unique};

/// Sells a mug, and waits until a region has heard of it.
async fn sell_mug(fleet: &Fleet, region: &str) -> String {
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let nobody = fleet.at(region);
    eventually("the region knows the mug", async || {
        nobody.get(format!("/v1/items/{mug}")).await.status == 200
    })
    .await;
    mug
}
