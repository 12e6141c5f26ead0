//! What a home edge says that it can do, while the primary takes no writes and once it does again.

use harness::{Caller, Fleet, FleetOptions, Stack, eventually, unique};

use super::{add_one, ask, caught_up, fleet, tell};

async fn one_server() -> Fleet {
    let options = FleetOptions { regions: vec!["sin"], stack: Stack::Servers, ..FleetOptions::default() };
    Fleet::start(options).await
}

/// Waits until an edge says that it takes writes, or that it does not, and returns its reasons.
async fn says(edge: &Caller, writes: bool) -> String {
    eventually(&format!("the edge says writes: {writes}"), async || {
        let ready = edge.get("/readyz").await;
        ready.status == 200 && ready.json()["writes"] == writes
    })
    .await;
    edge.get("/readyz").await.json()["reasons"].to_string()
}

#[tokio::test]
async fn a_primary_that_takes_no_writes_is_noticed_before_anybody_writes_and_so_is_its_return() {
    let fleet = one_server().await;
    let (edge, primary) = (fleet.internal("sin"), fleet.mysql().admin_url_of("troli"));
    says(&edge, true).await;
    tell(&primary, "SET GLOBAL super_read_only = ON").await;
    let reasons = says(&edge, false).await;
    assert!(reasons.contains("takes no writes"), "{reasons}");
    tell(&primary, "SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF").await;
    says(&edge, true).await;
}

/// The server is the primary and its heart beats, so that only a commit shows whether writes are taken.
#[tokio::test]
async fn an_edge_whose_writes_were_refused_finds_out_by_itself_that_they_are_taken_again() {
    let fleet = one_server().await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let (edge, primary) = (fleet.internal("sin"), fleet.mysql().admin_url_of("troli"));
    let guest = fleet.at("sin").guest("SGD").await;
    let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON idempotency_keys FOR EACH ROW
                  SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'refused by a test'";
    tell(&primary, refuse).await;
    eventually("the edge says that it takes no writes", async || {
        assert_eq!(guest.add(&mug, 1).await.status, 503);
        edge.get("/readyz").await.json()["writes"] == false
    })
    .await;
    tell(&primary, "DROP TRIGGER refuse").await;
    says(&edge, true).await;
    guest.add(&mug, 1).await.ok();
}

#[tokio::test]
async fn an_edge_that_has_just_started_does_not_take_a_writable_replica_for_the_primary() {
    let fleet = fleet().await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("sin").guest("SGD").await.following();
    add_one(&guest, &mug).await;
    caught_up(&fleet).await;
    let (primary, other) = (fleet.mysql().admin_url_of("troli"), fleet.replica("jkt").admin_url());
    fleet.stop_region("sin").await;
    tell(&other, "SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF").await;
    fleet.mysql().pause();
    // It knows nothing of the primary but what the replica says.
    fleet.start_region_by_clock("sin", 0).await;
    let edge = fleet.internal("sin");
    eventually("the edge says why it writes to none", async || {
        let ready = edge.get("/readyz").await.json();
        ready["writes"] == false && ready["reasons"].to_string().contains("was not promoted")
    })
    .await;
    fleet.mysql().resume();
    add_one(&guest, &mug).await;
    assert_eq!(guest.cart().await["lines"][0]["quantity"], 2);
    // Not even a heartbeat has come to the replica but from the primary.
    let there = ask(&other, "SELECT @@GLOBAL.gtid_executed").await.replace('\n', "");
    let subset = format!("SELECT GTID_SUBSET('{there}', @@GLOBAL.gtid_executed)");
    assert_eq!(ask(&primary, &subset).await, "1", "{there}");
}
