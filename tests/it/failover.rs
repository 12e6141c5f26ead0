//! Another server becomes the primary, by election or by an operator: what goes on, what is lost, and what is never
//! shown again.

mod operator;
mod readiness;
mod two_servers;

use std::process::Output;

use harness::{Caller, Fleet, FleetOptions, Stack, eventually, executable, fresh_key, unique};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use tokio::process::Command;

use crate::support::assert_json;

/// Two regions; the replica of the second may become the primary.
async fn fleet() -> Fleet {
    let wanted = FleetOptions {
        regions: vec!["sin", "jkt"],
        stack: Stack::Servers,
        replicas: true,
        standby: Some("jkt"),
        ..FleetOptions::default()
    };
    Fleet::start(wanted).await
}

/// Runs `edge-host failover`: to make the replica the primary, in place of the old one where that is named.
async fn failover(fleet: &Fleet, arguments: &[&str], old_primary: bool) -> Output {
    let old = fleet.mysql().admin_url_of("troli");
    let servers = (fleet.replica("jkt").admin_url(), old_primary.then_some(old));
    let mut command = failover_command(arguments, servers).await;
    command.kill_on_drop(true).output().await.expect("the executable runs")
}

async fn failover_command(arguments: &[&str], (promote, old): (String, Option<String>)) -> Command {
    let edge_host = tokio::task::spawn_blocking(|| executable("edge-host")).await;
    let mut command = Command::new(edge_host.expect("building does not panic"));
    command.arg("failover").args(arguments).env("TROLI_PROMOTE_URL", promote);
    command.envs(old.map(|url| ("TROLI_OLD_PRIMARY_URL", url)));
    command
}

/// What a server answers, as text.
async fn ask(url: &str, question: &str) -> String {
    let question = AssertSqlSafe(format!("SELECT CAST(({question}) AS CHAR)"));
    let answer = sqlx::query_scalar(question).fetch_one(&mut connect(url).await).await;
    answer.expect("an answer")
}

async fn tell(url: &str, statement: &str) {
    let statement = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
    statement.execute(&mut connect(url).await).await.expect("root may do this");
}

/// Adds one until that is acknowledged, under one key.
async fn add_one(guest: &Caller, item: &str) {
    let key = fresh_key();
    eventually("a write is acknowledged", async || guest.add(item, 1).key(&key).await.status == 200).await;
}

/// Waits until the replica has all that the primary has had until now.
async fn caught_up(fleet: &Fleet) {
    let mut primary = connect(&fleet.mysql().admin_url_of("troli")).await;
    let executed: String =
        sqlx::query_scalar("SELECT @@GLOBAL.gtid_executed").fetch_one(&mut primary).await.expect("an answer");
    let mut replica = connect(&fleet.replica("jkt").admin_url()).await;
    let timed_out: Option<i64> = sqlx::query_scalar("SELECT WAIT_FOR_EXECUTED_GTID_SET(?, 30)")
        .bind(executed)
        .fetch_one(&mut replica)
        .await
        .expect("an answer");
    assert_eq!(timed_out, Some(0), "the replica does not catch up");
}

async fn connect(url: &str) -> MySqlConnection {
    MySqlConnection::connect(url).await.expect("root may come in from this machine")
}

#[track_caller]
fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

#[tokio::test]
async fn a_planned_promotion_loses_nothing_and_begins_an_epoch() {
    let fleet = fleet().await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("sin").guest("SGD").await.following();
    let before = guest.add(&mug, 1).await.ok();
    let promoted = failover(&fleet, &["promote"], true).await;
    assert!(promoted.status.success(), "{}", said(&promoted));
    assert!(said(&promoted).contains("at epoch 2; nothing was lost"), "{}", said(&promoted));
    eventually("writes are taken again", async || guest.add(&mug, 1).await.status == 200).await;
    let after = guest.cart().await;
    assert_json(&after["lines"][0]["quantity"], json!(2));
    assert_eq!((&before["version"], &after["version"]), (&json!("1.1"), &json!("2.2")));
    let there = guest.at(fleet.url("jkt"));
    assert_json(&there.cart().await, after);
    there.add(&mug, 1).await.ok();
    let status = failover(&fleet, &["status"], true).await;
    assert!(status.status.success(), "{}", said(&status));
    assert!(said(&status).contains("one server takes writes"), "{}", said(&status));
    let takes = |yes: bool| said(&status).matches(&format!("\"takes_writes\":{yes}")).count();
    assert_eq!((takes(true), takes(false)), (1, 1), "{}", said(&status));
    let again = failover(&fleet, &["promote"], true).await;
    assert!(!again.status.success() && said(&again).contains("takes writes already"), "{}", said(&again));
}

#[tokio::test]
async fn what_a_promotion_has_lost_is_shown_nowhere_any_more() {
    let fleet = fleet().await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("sin").guest("SGD").await.following();
    guest.add(&mug, 1).await.ok();
    caught_up(&fleet).await;
    fleet.source_link("jkt").cut().await;
    let lost = guest.add(&mug, 1).await.ok();
    assert_eq!(lost["version"], "1.2");
    fleet.mysql().kill();

    let refused = failover(&fleet, &["promote"], true).await;
    assert!(!refused.status.success() && said(&refused).contains("--accept-loss"), "{}", said(&refused));
    let promoted = failover(&fleet, &["promote", "--accept-loss"], true).await;
    assert!(promoted.status.success() && said(&promoted).contains("epoch 2"), "{}", said(&promoted));

    for region in ["sin", "jkt"] {
        let here = guest.at(fleet.url(region));
        eventually(&format!("{region} shows what there is"), async || {
            let read = here.get("/v1/cart").await;
            read.status == 200 && read.version() == "2.1"
        })
        .await;
        assert_json(&here.cart().await["lines"][0]["quantity"], json!(1));
    }
    let after = guest.add(&mug, 4).await.ok();
    assert_eq!(after["version"], "2.2");

    // The old primary comes back and believes that it is one; nobody else does.
    fleet.mysql().restart().await;
    fleet.stop_region("sin").await;
    fleet.start_region("sin").await;
    for region in ["sin", "jkt"] {
        let here = guest.at(fleet.url(region));
        eventually(&format!("{region} takes writes"), async || here.add(&mug, 1).await.status == 200).await;
        assert!(here.cart().await["version"].as_str().is_some_and(|version| version.starts_with("2.")));
    }
    assert_json(&guest.cart().await["lines"][0]["quantity"], json!(7));
}

#[tokio::test]
async fn a_group_that_loses_its_primary_takes_writes_again_and_has_lost_none() {
    let fleet = Fleet::start(FleetOptions {
        regions: vec!["sin", "jkt"],
        stack: Stack::Servers,
        group: true,
        replicas: true,
        ..FleetOptions::default()
    })
    .await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("jkt").guest("SGD").await.following();
    eventually("the region knows the mug", async || guest.add(&mug, 1).await.status == 200).await;
    guest.add(&mug, 1).await.ok();

    let primary = fleet.group().primary().await.expect("a group that serves has a primary");
    fleet.group().member(primary).kill();
    let key = fresh_key();
    eventually("writes are taken again", async || guest.add(&mug, 1).key(&key).await.status == 200).await;
    for region in fleet.ids() {
        assert_json(&guest.at(fleet.url(region)).cart().await["lines"][0]["quantity"], json!(3));
    }
    eventually("the replica follows another member", async || {
        let fresh = fleet.at("jkt").guest("SGD").await.get("/v1/cart").await;
        fresh.status == 200 && fresh.header("cart-source") == "replica"
    })
    .await;
    assert_ne!(fleet.group().primary().await, Some(primary));
    fleet.group().member(primary).restart().await;
    eventually("the member is back", async || fleet.group().is_whole().await).await;
    guest.add(&mug, 1).await.ok();
}
