//! An old primary that comes back, and a second server that takes writes: there is one history.

use harness::{Fleet, eventually, unique};

use super::{add_one, ask, failover, failover_command, fleet, said, tell};

const TRANSACTIONS: &str = "SELECT @@GLOBAL.gtid_executed";

/// Waits until the home edge has looked at a server several times more.
async fn looked_at(url: &str) {
    // This question is a connection itself.
    let connections = "SELECT VARIABLE_VALUE FROM performance_schema.global_status
                       WHERE VARIABLE_NAME = 'Connections'";
    let count = async || ask(url, connections).await.parse::<u64>().expect("a count");
    let before = count().await;
    let mut asked = 0;
    eventually("the edge looks at the server", async || {
        asked += 1;
        count().await > before + asked + 10
    })
    .await;
}

async fn warnings(fleet: &Fleet) -> Vec<String> {
    let ready = fleet.internal("sin").get("/readyz").await;
    let body: serde_json::Value = serde_json::from_slice(&ready.body).expect("JSON");
    let warnings = body["warnings"].as_array().cloned().unwrap_or_default();
    warnings.iter().filter_map(|warning| warning.as_str().map(ToOwned::to_owned)).collect()
}

async fn servers_taking_writes(fleet: &Fleet) -> String {
    let metrics = fleet.internal("sin").get("/metrics").await;
    let text = String::from_utf8_lossy(&metrics.body).into_owned();
    let line = text.lines().find(|line| line.starts_with("troli_db_servers_taking_writes{"));
    line.and_then(|line| line.rsplit(' ').next()).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn an_old_primary_that_comes_back_takes_no_write_while_the_new_one_is_silent() {
    let fleet = fleet().await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("sin").guest("SGD").await.following();
    add_one(&guest, &mug).await;
    let promoted = failover(&fleet, &["promote"], true).await;
    assert!(promoted.status.success(), "{}", said(&promoted));
    add_one(&guest, &mug).await;
    // As a reboot does it: by its own unit.
    fleet.mysql().restart().await;
    let old = fleet.mysql().admin_url_of("troli");
    let has = ask(&old, TRANSACTIONS).await;
    let status = failover(&fleet, &["status"], true).await;
    assert!(status.status.success(), "{}", said(&status));
    assert_eq!(ask(&old, "SELECT @@GLOBAL.super_read_only").await, "1");

    fleet.replica("jkt").pause();
    assert_eq!(guest.add(&mug, 1).await.status, 503);
    looked_at(&old).await;
    assert_eq!(guest.add(&mug, 1).await.status, 503);
    // An administrator who takes it for the primary does not change that.
    tell(&old, "SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF").await;
    looked_at(&old).await;
    assert_eq!(guest.add(&mug, 1).await.status, 503);
    fleet.replica("jkt").resume();

    add_one(&guest, &mug).await;
    assert_eq!(guest.cart().await["lines"][0]["quantity"], 3);
    assert_eq!(ask(&old, TRANSACTIONS).await, has, "not even a heartbeat has come to the old primary");
    eventually("the edge warns of the other server", async || warnings(&fleet).await.len() == 1).await;
    // Whatever it has is in the new primary.
    let subset = format!("SELECT GTID_SUBSET('{}', @@GLOBAL.gtid_executed)", has.replace('\n', ""));
    assert_eq!(ask(&fleet.replica("jkt").admin_url(), &subset).await, "1");

    // The new one starts as the primary that it is, by the same script as before.
    fleet.replica("jkt").restart().await;
    add_one(&guest, &mug).await;
    assert_eq!(guest.cart().await["lines"][0]["quantity"], 4);
}

#[tokio::test]
async fn a_second_server_that_takes_writes_is_an_alarm_and_gets_none() {
    let fleet = fleet().await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("sin").guest("SGD").await.following();
    add_one(&guest, &mug).await;
    assert_eq!(warnings(&fleet).await, [""; 0]);
    let (primary, other) = (fleet.mysql().admin_url_of("troli"), fleet.replica("jkt").admin_url());
    tell(&other, "SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF").await;
    eventually("the edge warns", async || warnings(&fleet).await.len() == 1).await;
    assert_eq!(servers_taking_writes(&fleet).await, "2");
    let status = failover(&fleet, &["status"], true).await;
    assert_eq!(status.status.code(), Some(1), "{}", said(&status));
    assert!(said(&status).contains("TWO SERVERS TAKE WRITES"), "{}", said(&status));

    // It lacks nothing that it can be seen to lack, and yet nobody has promoted it.
    fleet.mysql().pause();
    assert_eq!(guest.add(&mug, 1).await.status, 503);
    looked_at(&other).await;
    eventually("the edge says why it cannot write", async || {
        let ready = fleet.internal("sin").get("/readyz").await;
        ready.status == 200
            && ready.json()["writes"] == false
            && String::from_utf8_lossy(&ready.body).contains("was not promoted")
    })
    .await;
    assert_eq!(guest.add(&mug, 1).await.status, 503);
    fleet.mysql().resume();
    add_one(&guest, &mug).await;

    let stop_other = (primary.clone(), Some(other.clone()));
    let mut command = failover_command(&["promote", "--fence-other"], stop_other).await;
    let fenced = command.output().await.expect("the executable runs");
    assert!(said(&fenced).contains("at epoch 2; nothing was lost"), "{}", said(&fenced));
    eventually("nothing is wrong any more", async || {
        warnings(&fleet).await.is_empty() && servers_taking_writes(&fleet).await == "1"
    })
    .await;
    add_one(&guest, &mug).await;
    assert_eq!(guest.cart().await["lines"][0]["quantity"], 3);
    assert_eq!(ask(&other, "SELECT @@GLOBAL.super_read_only").await, "1");
    let status = failover(&fleet, &["status"], true).await;
    assert!(status.status.success(), "{}", said(&status));
}
