//! What the operator's command checks, undoes and says.

use harness::{GroupedChild, eventually, fresh_key, unique};

use sqlx::Connection;

use super::{add_one, ask, connect, failover, failover_command, fleet, said, tell};

#[tokio::test]
async fn a_replica_that_is_behind_is_not_promoted_and_the_primary_never_stops() {
    let fleet = fleet().await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("sin").guest("SGD").await.following();
    let (old, replica) = (fleet.mysql().admin_url_of("troli"), fleet.replica("jkt").admin_url());
    tell(&replica, "STOP REPLICA SQL_THREAD").await;
    // One statement that had made it read-only would leave a trace in this writer's answers.
    let promoting = failover(&fleet, &["promote"], true);
    tokio::pin!(promoting);
    let refused = loop {
        tokio::select! {
            refused = &mut promoting => break refused,
            answer = guest.add(&mug, 1) => assert_eq!(answer.status, 200, "{answer}"),
        }
    };
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("behind the old primary"), "{}", said(&refused));
    assert_eq!(ask(&old, "SELECT epoch FROM cluster").await, "1");

    tell(&replica, "START REPLICA SQL_THREAD").await;
    let promoted = failover(&fleet, &["promote"], true).await;
    assert!(said(&promoted).contains("at epoch 2; nothing was lost"), "{}", said(&promoted));
    add_one(&guest, &mug).await;
}

#[tokio::test]
async fn servers_that_are_not_what_they_are_said_to_be_are_left_alone() {
    let fleet = harness::Fleet::start(harness::FleetOptions {
        regions: vec!["sin", "jkt", "bkk"],
        stack: harness::Stack::Servers,
        replicas: true,
        ..harness::FleetOptions::default()
    })
    .await;
    let [jkt, bkk] = ["jkt", "bkk"].map(|id| fleet.replica(id).admin_url());
    for (promote, old, says) in [(&jkt, &jkt, "are one server"), (&jkt, &bkk, "does not follow")] {
        let mut command =
            failover_command(&["promote", "--accept-loss"], (promote.clone(), Some(old.clone()))).await;
        let refused = command.output().await.expect("the executable runs");
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        assert!(said(&refused).contains(says), "{}", said(&refused));
    }
    for url in [&jkt, &bkk] {
        assert_eq!(ask(url, "SELECT epoch FROM cluster").await, "1");
        assert_eq!(ask(url, "SELECT @@GLOBAL.super_read_only").await, "1");
    }
    let status = failover(&fleet, &["status"], true).await;
    assert!(status.status.success(), "{}", said(&status));
}

#[tokio::test]
async fn a_promotion_that_is_interrupted_undoes_what_it_has_done_and_can_be_run_again() {
    let fleet = fleet().await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("sin").guest("SGD").await.following();
    let (old, replica) = (fleet.mysql().admin_url_of("troli"), fleet.replica("jkt").admin_url());
    // A promotion that has stopped the old primary and waits for the replica: that one is stopped meanwhile.
    let begin = async || {
        let mut holder = connect(&old).await;
        let lock = sqlx::raw_sql("LOCK TABLES items WRITE").execute(&mut holder);
        lock.await.expect("root may lock");
        let command = failover_command(&["promote"], (replica.clone(), Some(old.clone()))).await;
        let promoting = GroupedChild::start(command).expect("the executable runs");
        eventually("all is checked, and the old primary about to be stopped", async || {
            let stops = "SELECT COUNT(*) FROM information_schema.processlist
                         WHERE info LIKE 'SET GLOBAL super\\_read\\_only%'";
            ask(&old, stops).await == "1"
        })
        .await;
        tell(&replica, "STOP REPLICA SQL_THREAD").await;
        let last = sqlx::query("UPDATE items SET title = CONCAT(title, '!')").execute(&mut holder);
        last.await.expect("whoever has the lock may write");
        holder.close().await.expect("it can be closed");
        eventually("the old primary is stopped", async || {
            ask(&old, "SELECT @@GLOBAL.super_read_only").await == "1"
        })
        .await;
        promoting
    };

    let mut promoting = begin().await;
    promoting.terminate().expect("it can be signalled");
    let ended = promoting.child().wait().await.expect("it ends");
    assert_eq!(ended.code(), Some(1));
    add_one(&guest, &mug).await;
    tell(&replica, "START REPLICA").await;
    assert_eq!(ask(&old, "SELECT epoch FROM cluster").await, "1");
    assert_eq!(ask(&replica, "SELECT @@GLOBAL.super_read_only").await, "1");

    // Nothing can be undone by what is killed; the operator is told, and can go back or on.
    let mut promoting = begin().await;
    promoting.child().kill().await.expect("it can be killed");
    let status = failover(&fleet, &["status"], true).await;
    assert_eq!(status.status.code(), Some(1), "{}", said(&status));
    assert!(said(&status).contains("NO SERVER TAKES WRITES"), "{}", said(&status));
    assert_eq!(guest.add(&mug, 1).key(&fresh_key()).await.status, 503);
    let aborted = failover(&fleet, &["abort"], true).await;
    assert!(aborted.status.success(), "{}", said(&aborted));
    add_one(&guest, &mug).await;

    let mut promoting = begin().await;
    promoting.child().kill().await.expect("it can be killed");
    tell(&replica, "START REPLICA").await;
    let promoted = failover(&fleet, &["promote"], true).await;
    assert!(said(&promoted).contains("at epoch 2; nothing was lost"), "{}", said(&promoted));
    add_one(&guest, &mug).await;
    assert_eq!(guest.cart().await["lines"][0]["quantity"], 3);
    let late = failover(&fleet, &["abort"], true).await;
    assert!(!late.status.success() && said(&late).contains("no way back"), "{}", said(&late));
}
