//! What only a primary of several home edges has to do: hosts that write at the same time, connections that break
//! anywhere, transactions that commit in another order than they began.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use edge_host::catalogue::Catalogue;
use edge_host::clock::Clock;
use edge_host::epoch::KnownEpoch;
use edge_host::model::{Change, FeedPosition, IDEMPOTENCY_TTL_MS};
use edge_host::store::mysql::{self, MySqlStore, MySqlTarget};
use edge_host::store::{Loaded, PrimaryStore, ReplicaStore, StoreError, WriteOutcome};
use futures_util::future::join_all;
use harness::{MySqlServer, eventually};
use region_router::link::Link;
use sqlx::{Connection, MySqlConnection};

use crate::store_contract::support::{
    NOW_MS, cart_of, done, guest, item, one_more, order, order_of, put_cart, put_item, write_of,
};

/// Writes that share a transaction.
mod together;

/// An empty primary on the server that tests share.
async fn migrated() -> String {
    let url = MySqlServer::shared().await.fresh_database().await;
    mysql::migrate(&target(&url)).await.expect("an empty database takes the schema");
    url
}

fn target(url: &str) -> MySqlTarget {
    url.parse().expect("a good URL")
}

fn open(url: &str) -> Arc<MySqlStore> {
    MySqlStore::open(&target(url), KnownEpoch::default(), Clock::of_database(0))
}

async fn connect(url: &str) -> MySqlConnection {
    MySqlConnection::connect(url).await.expect("the server takes connections")
}

/// Every event that a follower of this store gets to see, until there is one of each of these carts.
async fn follow(store: &Arc<MySqlStore>, mut at: FeedPosition, carts: usize) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    eventually("every commit is told", async || {
        let page = store.feed(Some(&at), 7).await.expect("an answer");
        assert!(!page.lost);
        seen.extend(page.events.into_iter().filter_map(|event| match event.change {
            Change::Cart { cart_id, .. } => Some(cart_id),
            _ => None,
        }));
        at = page.position;
        seen.len() == carts
    })
    .await;
    seen
}

#[tokio::test]
async fn the_schema_is_made_once_by_however_many() {
    let url = MySqlServer::shared().await.fresh_database().await;
    let options = target(&url);
    let hosts = join_all((0..4).map(|_| mysql::migrate(&options))).await;
    assert!(hosts.iter().all(Result::is_ok), "{hosts:?}");
    mysql::migrate(&options).await.expect("a second time there is nothing to do");
    let applied: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM _sqlx_migrations WHERE success")
        .fetch_one(&mut connect(&url).await)
        .await
        .expect("an answer");
    let files = std::fs::read_dir(harness::repository().join("migrations/mysql")).expect("they are there");
    assert_eq!(usize::try_from(applied).ok(), Some(files.count()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_lose_nothing_and_do_nothing_twice() {
    let url = migrated().await;
    let hosts = [open(&url), open(&url)];
    let owner = guest("both");
    let writes = (0..60).map(|n| {
        let (host, mut write) = (Arc::clone(&hosts[n % 2]), write_of(&owner));
        // Every request comes twice, once at each host.
        write.idempotency_key = format!("key-{}", n / 2);
        tokio::spawn(async move { host.write(&write, &mut one_more).await.expect("an answer") })
    });
    let outcomes: Vec<WriteOutcome> =
        join_all(writes).await.into_iter().map(|outcome| outcome.expect("no panic")).collect();
    let count = |is: fn(&WriteOutcome) -> bool| outcomes.iter().filter(|outcome| is(outcome)).count();
    assert_eq!(count(|outcome| matches!(outcome, WriteOutcome::Done { .. })), 30, "{outcomes:?}");
    assert_eq!(count(|outcome| matches!(outcome, WriteOutcome::Replayed { .. })), 30, "{outcomes:?}");
    let cart = hosts[1].cart(&owner.cart_id()).await.expect("an answer").expect("a cart");
    assert_eq!((cart.cart.quantity(), cart.version.version), (30, 30));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_never_sell_what_is_not_there() {
    let url = migrated().await;
    let hosts = [open(&url), open(&url)];
    let store: Arc<dyn PrimaryStore> = Arc::clone(&hosts[0]) as _;
    for (name, stock) in [("item-0", 7), ("item-1", 9)] {
        put_item(&*store, item(name, stock)).await;
    }
    let names: Vec<String> = (0..24).map(|n| format!("rival-{n}")).collect();
    for name in &names {
        put_cart(&store, &guest(name), cart_of(&[2, 1])).await;
    }
    let rivals = names.iter().enumerate().map(|(n, name)| {
        let (host, write, order_id) = (Arc::clone(&hosts[n % 2]), order_of(&guest(name)), format!("o_{n}"));
        tokio::spawn(async move { host.write(&write, &mut order(&order_id, &[])).await.expect("an answer") })
    });
    let outcomes = join_all(rivals).await;
    let sold = outcomes.iter().filter(|outcome| matches!(outcome, Ok(WriteOutcome::Done { .. }))).count();
    let left = store.items(&["item-0".to_owned(), "item-1".to_owned()]).await.expect("an answer");
    assert_eq!((sold, left[0].stock, left[1].stock), (3, 1, 6));
}

#[tokio::test]
async fn what_is_known_is_loaded_only_where_stock_is_taken() {
    let store = open(&migrated().await);
    for name in ["item-0", "item-1"] {
        put_item(&*store, item(name, 5)).await;
    }
    let known = Catalogue::default();
    known.put_item(item("item-0", 9));
    let mut write = write_of(&guest("facts"));
    write.item_ids = vec!["item-0".to_owned(), "item-1".to_owned()];
    write.known = Some(Arc::new(known));
    for (takes_stock, stocks) in [(false, [9, 5]), (true, [5, 5])] {
        write.takes_stock = takes_stock;
        let mut seen = Vec::new();
        let mut look = |loaded: Loaded| {
            seen = loaded.items.iter().map(|item| item.stock).collect();
            None
        };
        store.write(&write, &mut look).await.expect("an answer");
        assert_eq!(seen, stocks, "{takes_stock}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_charged_at_the_prices_that_are_so_once_its_items_are_locked() {
    let url = migrated().await;
    let store = open(&url);
    for name in ["item-0", "item-1"] {
        put_item(&*store, item(name, 9)).await;
    }
    let primary: Arc<dyn PrimaryStore> = Arc::clone(&store) as _;
    put_cart(&primary, &guest("buyer"), cart_of(&[1, 1])).await;
    // A merchant holds an item while the order comes for it, and changes its price before they let go.
    let mut merchant = connect(&url).await;
    let mut change = merchant.begin().await.expect("a transaction");
    for statement in [
        "UPDATE items SET changed_at = changed_at + 1 WHERE item_id = 'item-1'",
        "UPDATE item_prices SET price = 99",
    ] {
        sqlx::raw_sql(statement).execute(&mut *change).await.expect("it is there");
    }
    let order = tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            let mut look = |loaded: Loaded| {
                seen = loaded.items.iter().flat_map(|item| item.prices.values().copied()).collect();
                None
            };
            match store.write(&order_of(&guest("buyer")), &mut look).await {
                // It has looked for as long as anybody waits, and asks again.
                Err(StoreError::Busy(_)) => assert!(seen.is_empty(), "nothing is decided before the lock"),
                answer => return answer.map(|_| seen).expect("an answer"),
            }
        }
    });
    // It waits for the item without a transaction, and looks again and again: then it has its cart locked.
    let mut other = connect(&url).await;
    eventually("the order looks whether the item is free", async || {
        let look = "SELECT 1 FROM carts WHERE version > 0 FOR UPDATE NOWAIT";
        sqlx::query(look).fetch_all(&mut other).await.is_err()
    })
    .await;
    change.commit().await.expect("it commits");
    let seen = order.await.expect("no panic");
    assert_eq!(seen, [9900, 99, 9900, 99], "two currencies of two items");
}

#[tokio::test]
async fn what_commits_late_is_told_all_the_same() {
    let url = migrated().await;
    let store = open(&url);
    let begin = store.feed(None, 1).await.expect("an answer").position;
    // Somebody who is slow takes the first place in the feed, and commits last.
    let mut slow = connect(&url).await;
    let mut late = slow.begin().await.expect("a transaction");
    let told = serde_json::json!({ "cart": { "cart_id": "c_late", "version": "1.1" } });
    sqlx::query("INSERT INTO outbox (at, payload) VALUES (?, ?)")
        .bind(NOW_MS)
        .bind(told.to_string())
        .execute(&mut *late)
        .await
        .expect("a place");
    let primary: Arc<dyn PrimaryStore> = Arc::clone(&store) as _;
    put_cart(&primary, &guest("quick"), cart_of(&[1])).await;
    let first = store.feed(Some(&begin), 10).await.expect("an answer");
    assert_eq!(first.events.len(), 1, "{first:?}");
    assert_eq!(first.position.gaps.len(), 1, "{first:?}");
    // Whoever begins now must not miss it either.
    let fresh = store.feed(None, 1).await.expect("an answer").position;
    assert!(!fresh.covers(first.position.gaps[0].seq), "{fresh:?}");
    let snapshot = store.catalogue().await.expect("an answer").position;
    assert!(!snapshot.covers(first.position.gaps[0].seq), "{snapshot:?}");
    late.commit().await.expect("it commits");
    for at in [first.position, fresh, snapshot] {
        let page = store.feed(Some(&at), 10).await.expect("an answer");
        assert_eq!(page.events.len(), 1, "{page:?}");
        assert!(matches!(&page.events[0].change, Change::Cart { cart_id, .. } if cart_id == "c_late"));
        assert!(page.position.gaps.is_empty() && !page.lost);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_commit_in_any_order_a_follower_misses_none() {
    let url = migrated().await;
    let hosts = [open(&url), open(&url)];
    let begin = hosts[0].feed(None, 1).await.expect("an answer").position;
    let owners: Vec<_> = (0..200).map(|n| guest(&format!("told-{n}"))).collect();
    let writes = owners.iter().enumerate().map(|(n, owner)| {
        let (host, write) = (Arc::clone(&hosts[n % 2]), write_of(owner));
        tokio::spawn(async move { done(host.write(&write, &mut one_more).await.expect("an answer")) })
    });
    let (told, written) = tokio::join!(follow(&hosts[0], begin, owners.len()), join_all(writes));
    assert!(written.iter().all(Result::is_ok));
    assert_eq!(told, owners.iter().map(edge_host::model::Principal::cart_id).collect());
}

/// A place in the feed, taken by a transaction of one's own.
async fn take_place(connection: &mut MySqlConnection, cart_id: &str) {
    let told = serde_json::json!({ "cart": { "cart_id": cart_id, "version": "1.1" } });
    sqlx::query("INSERT INTO outbox (at, payload) VALUES (0, ?)")
        .bind(told.to_string())
        .execute(connection)
        .await
        .expect("a place");
}

/// The heart has beaten so often and so long since. Nobody else beats: the store is a follower's.
async fn pass(connection: &mut MySqlConnection, beats: u32, seconds: u32) {
    sqlx::query("UPDATE heartbeat SET seq = seq + ?, at = at + ? * 1000")
        .bind(beats)
        .bind(seconds)
        .execute(connection)
        .await
        .expect("a beat");
}

#[tokio::test]
async fn a_place_that_is_missing_is_given_up_by_the_life_of_the_primary_and_not_by_any_clock() {
    let url = migrated().await;
    let follower = MySqlStore::open_replica(&target(&url), KnownEpoch::default());
    let (mut slow, mut quick) = (connect(&url).await, connect(&url).await);
    take_place(&mut quick, "c_first").await;
    let begin = follower.feed(None, 1).await.expect("an answer").position;
    let mut late = slow.begin().await.expect("a transaction");
    take_place(&mut late, "c_late").await;
    take_place(&mut quick, "c_quick").await;
    let first = follower.feed(Some(&begin), 10).await.expect("an answer");
    assert_eq!((first.events.len(), first.position.gaps.len()), (1, 1), "{first:?}");

    // The primary stood still for an hour: its first beat afterwards is an hour later, and what was under way commits.
    pass(&mut quick, 1, 3600).await;
    let after = follower.feed(Some(&first.position), 10).await.expect("an answer");
    assert_eq!((after.events.len(), after.position.gaps.len()), (0, 1), "{after:?}");
    late.commit().await.expect("it commits");
    let told = follower.feed(Some(&after.position), 10).await.expect("an answer");
    assert_eq!((told.events.len(), told.position.gaps.len()), (1, 0), "{told:?}");

    // A transaction that was undone leaves a place that never comes. It is given up while the primary lives on.
    let mut undone = slow.begin().await.expect("a transaction");
    take_place(&mut undone, "c_undone").await;
    undone.rollback().await.expect("it is undone");
    take_place(&mut quick, "c_last").await;
    let last = follower.feed(Some(&told.position), 10).await.expect("an answer");
    assert_eq!((last.events.len(), last.position.gaps.len()), (1, 1), "{last:?}");
    pass(&mut quick, 300, 59).await;
    let waits = follower.feed(Some(&last.position), 10).await.expect("an answer");
    assert_eq!(waits.position.gaps.len(), 1, "{waits:?}");
    pass(&mut quick, 1, 2).await;
    let gives_up = follower.feed(Some(&waits.position), 10).await.expect("an answer");
    assert!(gives_up.events.is_empty() && gives_up.position.gaps.is_empty(), "{gives_up:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_anywhere_loses_and_doubles_nothing() {
    let server = MySqlServer::start().await;
    mysql::migrate(&target(&server.url())).await.expect("an empty database takes the schema");
    let any = "127.0.0.1:0".parse().expect("an address");
    let link = Link::start(any, server.address(), Duration::from_millis(4)).await.expect("a link can listen");
    let store = open(&server.url_through(link.addr()));
    let owner = guest("unlucky");
    let mut acknowledged = 0;
    // With 2 ms each way, a write takes some 40 ms: the cuts fall on every statement of it, COMMIT among them.
    for n in 0..40_u64 {
        let write = write_of(&owner);
        let mut attempt = tokio::spawn({
            let (store, write) = (Arc::clone(&store), write.clone());
            async move { store.write(&write, &mut one_more).await }
        });
        let cut = tokio::time::timeout(Duration::from_millis(n), &mut attempt).await;
        let outcome = match cut {
            Ok(outcome) => outcome,
            Err(_) => {
                link.close_connections();
                attempt.await
            }
        };
        // Where the answer is lost too, the client asks again with its key.
        let outcome = match outcome.expect("no panic") {
            Ok(outcome) => outcome,
            Err(_) => store.write(&write, &mut one_more).await.expect("the way is open again"),
        };
        assert!(matches!(outcome, WriteOutcome::Done { .. } | WriteOutcome::Replayed { .. }), "{outcome:?}");
        acknowledged += 1;
    }
    let cart = store.cart(&owner.cart_id()).await.expect("an answer").expect("a cart");
    assert_eq!((cart.cart.quantity(), cart.version.version), (acknowledged, acknowledged));
}

/// A frame of zstd with these bytes as they are (RFC 8878 §3.1.1).
fn packed(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("a short text");
    let header = (u32::from(length) << 3 | 1).to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0x20, length], &header[..3], text.as_bytes()].concat()
}

#[tokio::test]
async fn what_earlier_releases_have_kept_is_understood() {
    let url = migrated().await;
    let store: Arc<dyn PrimaryStore> = open(&url);
    let owner = guest("older");
    let now = put_cart(&store, &owner, cart_of(&[2])).await;
    let insert = "INSERT INTO idempotency_keys
        (cart_id, idempotency_key, fingerprint, answer, packed_answer, expires_at) VALUES (?, ?, ?, ?, ?, ?)";
    let cart = r#"{"status":200,"body":"{\"lines\":[]}","version":"1.1","location":null}"#;
    let order = r#"{"status":201,"body":"{}","version":"1.1","location":"/v1/orders/o_1"}"#;
    for (json, order_id, is_packed) in
        [(cart, None, false), (cart, None, true), (order, Some("o_1"), false), (order, Some("o_1"), true)]
    {
        let mut write = write_of(&owner);
        let until_ms = NOW_MS + IDEMPOTENCY_TTL_MS;
        let inserted = sqlx::query(insert)
            .bind(owner.cart_id())
            .bind(&write.idempotency_key)
            .bind(write.fingerprint.as_slice())
            .bind(if is_packed { "" } else { json })
            .bind(is_packed.then(|| packed(json)))
            .bind(until_ms)
            .execute(&mut connect(&url).await)
            .await;
        inserted.expect("the row is as they wrote it");
        let again = store.write(&write, &mut one_more).await.expect("an answer");
        let WriteOutcome::Replayed { answer, record } = again else { panic!("{again:?}") };
        assert_eq!((answer.order_id(), answer.at_ms), (order_id, Some(NOW_MS)));
        assert_eq!(record, now, "it is answered with the cart as it is");
        write.fingerprint = [2; 32];
        let other = store.write(&write, &mut one_more).await.expect("an answer");
        assert!(matches!(other, WriteOutcome::KeyReused(_)), "{other:?}");
    }
}

#[tokio::test]
async fn an_answer_given_again_is_a_replay_even_where_the_connection_broke_on_the_way_to_it() {
    let server = MySqlServer::shared().await;
    let url = migrated().await;
    let any = "127.0.0.1:0".parse().expect("an address");
    let link = Link::start(any, server.address(), Duration::ZERO).await.expect("a link can listen");
    let direct = server.address().to_string();
    let store = open(&url.replace(&direct, &link.addr().to_string()));
    let write = write_of(&guest("again"));
    let first = done(store.write(&write, &mut one_more).await.expect("an answer"));
    // The first attempt meets a dead connection, long before its commit: what the second finds is not its own.
    link.close_connections();
    let again = store.write(&write, &mut one_more).await.expect("an answer");
    assert!(
        matches!(&again, WriteOutcome::Replayed { answer, .. } if answer.version == first.version),
        "{again:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_comes_back_with_all_that_was_acknowledged() {
    let server = MySqlServer::start().await;
    mysql::migrate(&target(&server.url())).await.expect("an empty database takes the schema");
    let store = open(&server.url());
    let owner = guest("survivor");
    done(store.write(&write_of(&owner), &mut one_more).await.expect("an answer"));
    server.kill();
    store.write(&write_of(&owner), &mut one_more).await.expect_err("nobody is there");
    server.restart().await;
    let write = write_of(&owner);
    eventually("the store finds its server again", async || store.write(&write, &mut one_more).await.is_ok())
        .await;
    let cart = store.cart(&owner.cart_id()).await.expect("an answer").expect("a cart");
    assert_eq!(cart.version.version, cart.cart.quantity());
    // The write that nobody answered for certain was undone or done, once.
    assert!((2..=3).contains(&cart.version.version), "{:?}", cart.version);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_one_host_sweeps_the_others_leave_it_alone() {
    let url = migrated().await;
    let store = open(&url);
    let primary: Arc<dyn PrimaryStore> = Arc::clone(&store) as _;
    put_cart(&primary, &guest("old"), cart_of(&[1])).await;
    let later = NOW_MS + 100 * 24 * 3600 * 1000;
    let mut other = connect(&url).await;
    let lock = "SELECT GET_LOCK(CONCAT('troli.sweep.', DATABASE()), 0)";
    let held: Option<i64> = sqlx::query_scalar(lock).fetch_one(&mut other).await.expect("an answer");
    assert_eq!(held, Some(1));
    assert_eq!(store.sweep(later).await.expect("an answer").rows(), 0);
    other.close().await.expect("it can be closed");
    eventually("the lock goes with its holder", async || {
        store.sweep(later).await.expect("an answer").rows() > 0
    })
    .await;
}
