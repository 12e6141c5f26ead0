//! The real servers that tests start, kill and pause: what the other tests build on.

use std::time::Duration;

use harness::{
    Fleet, FleetOptions, MySqlGroup, MySqlReplica, MySqlServer, RedisServer, Stack, eventually, unique,
};
use sqlx::{Connection, MySqlConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Long enough that a server that runs would have answered, and no longer.
const SILENCE: Duration = Duration::from_millis(500);

async fn connect(url: &str) -> MySqlConnection {
    MySqlConnection::connect(url).await.expect("the server lets its user in")
}

async fn do_all(connection: &mut MySqlConnection, statements: &'static str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(statements).execute(connection).await.map(drop)
}

async fn numbers(connection: &mut MySqlConnection) -> Vec<i64> {
    let found = sqlx::query_scalar("SELECT number FROM kept ORDER BY number").fetch_all(connection);
    found.await.expect("the table is there")
}

#[tokio::test]
async fn what_mysql_has_committed_survives_a_kill() {
    let mysql = MySqlServer::start().await;
    let mut connection = connect(&mysql.url()).await;
    let made = "CREATE TABLE kept (number BIGINT PRIMARY KEY); INSERT INTO kept VALUES (1)";
    do_all(&mut connection, made).await.expect("the user may make tables");
    do_all(&mut connection, "BEGIN; INSERT INTO kept VALUES (2)").await.expect("the user may write");
    mysql.kill();
    assert!(MySqlConnection::connect(&mysql.url()).await.is_err(), "nobody listens");

    mysql.restart().await;
    assert_eq!(numbers(&mut connect(&mysql.url()).await).await, [1]);
    mysql.stop().await;
    mysql.restart().await;
    let mut connection = connect(&mysql.url()).await;
    assert_eq!(numbers(&mut connection).await, [1]);

    mysql.pause();
    // It may say its last word while the signal is on its way.
    eventually("a server that is paused says nothing", async || {
        timeout(SILENCE, connection.ping()).await.is_err()
    })
    .await;
    mysql.resume();
    assert_eq!(numbers(&mut connect(&mysql.url()).await).await, [1]);
}

#[tokio::test]
async fn the_user_has_its_own_database_and_nothing_else() {
    let mysql = MySqlServer::shared().await;
    let url = mysql.fresh_database().await;
    let other = mysql.fresh_database().await;
    assert_ne!(url, other);
    let mut connection = connect(&url).await;
    do_all(&mut connection, "CREATE TABLE kept (number BIGINT PRIMARY KEY)").await.expect("its own table");
    assert!(do_all(&mut connect(&other).await, "SELECT number FROM kept").await.is_err(), "another database");
    for forbidden in
        ["CREATE DATABASE more", "SELECT user FROM mysql.user", "SET GLOBAL sync_binlog = 0", "SHUTDOWN"]
    {
        assert!(do_all(&mut connection, forbidden).await.is_err(), "{forbidden}");
    }
    let root = mysql.admin_url();
    let (_, address) = root.split_once('@').expect("a password comes before the address");
    assert!(
        MySqlConnection::connect(&format!("mysql://root@{address}")).await.is_err(),
        "root has a password"
    );
}

#[tokio::test]
async fn mysql_is_as_durable_and_as_ready_for_replicas_as_a_primary_has_to_be() {
    let mysql = MySqlServer::shared().await;
    let mut connection = connect(&mysql.admin_url()).await;
    let settings = "SELECT CONCAT_WS(' ', @@innodb_flush_log_at_trx_commit, @@sync_binlog, @@log_bin, @@gtid_mode, \
                    @@enforce_gtid_consistency, @@transaction_isolation, @@bind_address, @@character_set_server)";
    let found: String =
        sqlx::query_scalar(settings).fetch_one(&mut connection).await.expect("root may see settings");
    assert_eq!(found, "1 1 1 ON ON REPEATABLE-READ 127.0.0.1 utf8mb4");
}

#[tokio::test]
async fn a_replica_follows_takes_no_writes_and_survives_kills_of_both() {
    let source = MySqlServer::start().await;
    let mut writer = connect(&source.url()).await;
    let made = "CREATE TABLE kept (number BIGINT PRIMARY KEY); INSERT INTO kept VALUES (1)";
    do_all(&mut writer, made).await.expect("the user may make tables");
    // What happened so far is in no log any more, so only a copy has it.
    let purged = "FLUSH BINARY LOGS; PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY";
    do_all(&mut connect(&source.admin_url()).await, purged).await.expect("root may do that");
    let replica = MySqlReplica::start_by_copy(&source).await;
    do_all(&mut writer, "INSERT INTO kept VALUES (2)").await.expect("the user may write");
    replica.catch_up(&source.admin_url()).await;
    let mut reader = connect(&replica.url()).await;
    assert_eq!(numbers(&mut reader).await, [1, 2]);
    do_all(&mut reader, "INSERT INTO kept VALUES (9)").await.expect_err("nobody writes to a replica");
    let mut root = connect(&replica.admin_url()).await;
    do_all(&mut root, "INSERT INTO troli.kept VALUES (9)").await.expect_err("not even root");

    replica.kill();
    do_all(&mut writer, "INSERT INTO kept VALUES (3)").await.expect("the source does not need it");
    replica.restart().await;
    replica.catch_up(&source.admin_url()).await;
    source.kill();
    assert_eq!(numbers(&mut connect(&replica.url()).await).await, [1, 2, 3]);
    source.restart().await;
    do_all(&mut connect(&source.url()).await, "INSERT INTO kept VALUES (4)").await.expect("it is back");
    replica.catch_up(&source.admin_url()).await;
    assert_eq!(numbers(&mut connect(&replica.url()).await).await, [1, 2, 3, 4]);
}

/// Writes one row to whichever member of a group takes it.
async fn write_somewhere(group: &MySqlGroup, statements: &'static str) {
    eventually("the group takes a write", async || {
        let Some(primary) = group.primary().await else { return false };
        let Ok(mut connection) = MySqlConnection::connect(&group.admin_url(primary)).await else {
            return false;
        };
        do_all(&mut connection, statements).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_group_elects_another_primary_and_its_replica_and_its_members_follow() {
    let group = MySqlGroup::start().await;
    let replica = MySqlReplica::start_of_group(&group).await;
    write_somewhere(&group, "CREATE TABLE troli.kept (number BIGINT PRIMARY KEY)").await;
    write_somewhere(&group, "INSERT INTO troli.kept VALUES (1)").await;
    let first = group.primary().await.expect("the group is whole");
    group.member(first).kill();
    write_somewhere(&group, "INSERT INTO troli.kept VALUES (2)").await;
    let second = group.primary().await.expect("it has taken a write");
    assert_ne!(first, second);
    replica.catch_up(&group.admin_url(second)).await;
    assert_eq!(numbers(&mut connect(&replica.url()).await).await, [1, 2]);

    group.member(first).restart().await;
    group.becomes_whole().await;
    // As after a power cut of the whole region: nobody is left to join.
    (0..3).for_each(|member| group.member(member).kill());
    for member in 0..3 {
        group.member(member).restart().await;
    }
    group.becomes_whole().await;
    write_somewhere(&group, "INSERT INTO troli.kept VALUES (3)").await;
    let third = group.primary().await.expect("the group is whole");
    replica.catch_up(&group.admin_url(third)).await;
    assert_eq!(numbers(&mut connect(&replica.url()).await).await, [1, 2, 3]);
}

/// Says one thing to a Redis, and returns the last line of its answer.
async fn redis_says(redis: &RedisServer, words: &str) -> std::io::Result<String> {
    let url = redis.url();
    let password = url.trim_start_matches("redis://:").split('@').next().unwrap_or_default();
    let mut stream = TcpStream::connect(redis.address()).await?;
    stream.write_all(format!("AUTH {password}\r\n{words}\r\nQUIT\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.lines().rev().nth(1).unwrap_or_default().to_owned())
}

#[tokio::test]
async fn redis_wants_its_password_and_keeps_nothing() {
    let redis = RedisServer::start_with(|_, _| vec!["--maxclients".to_owned(), "7".to_owned()]).await;
    let mut stranger = TcpStream::connect(redis.address()).await.expect("it listens");
    stranger.write_all(b"GET a\r\nQUIT\r\n").await.expect("it listens");
    let mut answer = String::new();
    stranger.read_to_string(&mut answer).await.expect("it answers");
    assert!(answer.starts_with("-NOAUTH"), "{answer}");

    assert_eq!(redis_says(&redis, "SET a 1").await.expect("it runs"), "+OK");
    assert_eq!(redis_says(&redis, "CONFIG GET maxclients").await.expect("it runs"), "7");
    redis.pause();
    eventually("a server that is paused says nothing", async || {
        timeout(SILENCE, redis_says(&redis, "PING")).await.is_err()
    })
    .await;
    redis.resume();
    assert_eq!(redis_says(&redis, "EXISTS a").await.expect("it runs"), ":1");
    redis.kill();
    redis_says(&redis, "PING").await.expect_err("nobody listens");
    redis.restart().await;
    assert_eq!(redis_says(&redis, "EXISTS a").await.expect("it runs"), ":0");
    redis.stop().await;
    redis_says(&redis, "PING").await.expect_err("nobody listens");
}

#[tokio::test]
async fn a_fleet_on_servers_of_its_own_gets_over_the_loss_of_each() {
    let options =
        FleetOptions { regions: vec!["sin", "jkt"], stack: Stack::Servers, ..FleetOptions::default() };
    let fleet = Fleet::start(options).await;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    let guest = fleet.at("jkt").guest("SGD").await.following();
    guest.add(&mug, 1).await.ok();

    fleet.redis("jkt").kill();
    guest.add(&mug, 1).await.ok();
    fleet.redis_link("sin").cut().await;
    guest.add(&mug, 1).await.ok();
    fleet.redis("jkt").restart().await;

    fleet.mysql_link().cut().await;
    guest.add(&mug, 1).await.is(503);
    fleet.mysql_link().restore().await.expect("its port is still free");
    fleet.mysql().kill();
    guest.add(&mug, 1).await.is(503);
    fleet.mysql().restart().await;
    eventually("home writes again", async || guest.add(&mug, 1).await.status == 200).await;
    assert_eq!(guest.get("/v1/cart").await.ok()["count"]["quantity"], 4);
}
