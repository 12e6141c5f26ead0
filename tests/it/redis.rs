//! The cache in a real Redis: what the contract of caches cannot say, because it is about Redis.

use std::time::{Duration, Instant};

use edge_host::config::Config;
use edge_host::model::{CartVersion, FeedPosition};
use edge_host::rules::Revision;
use edge_host::store::redis::{RedisCache, RedisTarget};
use edge_host::store::{CacheEntry, CacheFeed, CartDocument, FactPrints, StoreError};
use harness::{RedisServer, eventually};
use redis::{Client, Cmd, FromRedisValue, cmd};

use crate::store_contract::support::{Cache, begun, guest, record, version};

/// What is kept of it in the edge.
mod near;
/// With other options than those of a region.
mod options;

const CART: &str = "c_1";
/// Far below the deadline of a command: nobody was asked.
const AT_ONCE: Duration = Duration::from_millis(20);

fn cache(url: &str) -> Cache {
    RedisCache::new(RedisTarget::new(url, None).expect("a good URL"))
}

async fn ask<T: FromRedisValue>(server: &RedisServer, command: &mut Cmd) -> T {
    let client = Client::open(server.url()).expect("a good URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("the server runs");
    command.query_async(&mut connection).await.expect("Redis does it")
}

/// The hash of a cart, under whatever generation.
async fn hash_of(server: &RedisServer, cart_id: &str) -> String {
    let keys: Vec<String> = ask(server, cmd("KEYS").arg(format!("cart:*:{cart_id}"))).await;
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys.into_iter().next().expect("one key")
}

async fn put(cache: &Cache, number: u64) -> Result<(), StoreError> {
    cache.fill(cache.ticket(CART).await?, &record(number, &[1, 2]), None).await
}

/// The version and whether there is a cart.
async fn held(cache: &Cache) -> Option<(u64, bool)> {
    let glance = cache.glance(CART, None).await.expect("the cache answers")?;
    Some((glance.version.version, glance.full))
}

async fn put_floor(cache: &Cache, number: u64) -> Result<(), StoreError> {
    cache.floors(&[(CART.to_owned(), version(number))]).await
}

fn document(version: CartVersion) -> CartDocument {
    let facts = FactPrints::default();
    let body = "{}".into();
    CartDocument {
        version,
        rules: Revision::of(b"rules"),
        facts,
        good_until_ms: 1,
        tag: "tag".to_owned(),
        body,
    }
}

fn feed(seq: u64) -> CacheFeed {
    CacheFeed { epoch: 1, position: FeedPosition::at(seq) }
}

#[tokio::test]
async fn scripts_are_sent_again_when_redis_has_forgotten_them() {
    let server = RedisServer::start().await;
    let cache = begun(cache(&server.url())).await;
    for number in [1, 4] {
        put(&cache, number).await.expect("put in");
        cache.keep_document(CART, &document(version(number))).await.expect("kept");
        assert!(cache.glance(CART, None).await.expect("an answer").expect("an entry").document.is_some());
        put_floor(&cache, number + 1).await.expect("put in");
        let to = feed(number);
        assert_eq!(cache.advance(&feed(0), &to).await.expect("an answer"), Some(to));
        cache.start_anew(&feed(0)).await.expect("begun");
        let () = ask(&server, cmd("SCRIPT").arg("FLUSH")).await;
    }
}

#[tokio::test]
async fn what_redis_forgets_of_a_cart_ends_its_tickets() {
    let server = RedisServer::start().await;
    let cache = begun(cache(&server.url())).await;
    for way in ["deleted", "expired", "evicted", "flushed"] {
        put(&cache, 5).await.expect("put in");
        let ticket = cache.ticket(CART).await.expect("a ticket");
        put_floor(&cache, 7).await.expect("put in");
        let hash = hash_of(&server, CART).await;
        match way {
            "deleted" => ask(&server, cmd("DEL").arg(&hash)).await,
            "expired" => ask(&server, cmd("PEXPIRE").arg(&hash).arg(1)).await,
            "evicted" => evict(&server).await,
            _ => ask(&server, &mut cmd("FLUSHALL")).await,
        }
        eventually("the entry is forgotten", async || held(&cache).await.is_none()).await;
        // Without the floor only the ticket keeps it out.
        cache.fill(ticket.clone(), &record(6, &[6]), None).await.expect("an answer");
        assert_eq!(held(&cache).await, None, "{way}");
        cache.ticket(CART).await.expect("a ticket");
        cache.fill(ticket, &record(6, &[6]), None).await.expect("an answer");
        assert_eq!(held(&cache).await, None, "{way}, and another ticket taken");
        // Evicting takes carts, not how far they were told.
        let known = cache.feed_position().await.expect("an answer");
        assert_eq!(known.is_some(), way != "flushed");
        cache.start_anew(&feed(0)).await.expect("begun");
        let () = ask(&server, cmd("DEL").arg(&hash)).await;
    }
}

/// Makes Redis evict all it may.
async fn evict(server: &RedisServer) {
    let set = |name: &str, value: &str| {
        let mut command = cmd("CONFIG");
        command.arg("SET").arg(name).arg(value);
        command
    };
    let () = ask(server, &mut set("maxmemory-policy", "volatile-lru")).await;
    let () = ask(server, &mut set("maxmemory", "1")).await;
    let client = Client::open(server.url()).expect("a good URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("the server runs");
    let refused = cmd("SET").arg("other").arg(1).query_async::<()>(&mut connection).await;
    assert_eq!(refused.expect_err("it is full whatever it evicts").code(), Some("OOM"));
    let () = ask(server, &mut set("maxmemory", "0")).await;
}

#[tokio::test]
async fn entries_live_for_an_hour_and_do_not_end_together() {
    let server = RedisServer::start().await;
    let cache = begun(cache(&server.url())).await;
    let mut lives = Vec::new();
    for n in 0..20 {
        let cart_id = guest(&format!("guest {n}")).cart_id();
        match n % 3 {
            0 => drop(cache.ticket(&cart_id).await.expect("a ticket")),
            1 => cache.floors(&[(cart_id.clone(), version(1))]).await.expect("put in"),
            _ => {
                let ticket = cache.ticket(&cart_id).await.expect("a ticket");
                cache.fill(ticket, &record(1, &[1]), None).await.expect("put in");
            }
        }
        let hash = hash_of(&server, &cart_id).await;
        lives.push(ask::<i64>(&server, cmd("PTTL").arg(&hash)).await / 1000);
    }
    assert!(lives.iter().all(|life| (3590..=3960).contains(life)), "{lives:?}");
    lives.sort_unstable();
    lives.dedup();
    assert!(lives.len() > 10, "{lives:?}");
    assert_eq!(ask::<i64>(&server, cmd("PTTL").arg("cart:feed")).await, -1);
    // A document does not make its cart live longer.
    put(&cache, 2).await.expect("put in");
    let hash = hash_of(&server, CART).await;
    let () = ask(&server, cmd("PEXPIRE").arg(&hash).arg(60_000)).await;
    cache.keep_document(CART, &document(version(2))).await.expect("kept");
    let left = ask::<i64>(&server, cmd("PTTL").arg(&hash)).await;
    assert!((1..=60_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_cache_that_was_never_told_of_changes_holds_nothing() {
    let server = RedisServer::start().await;
    let other = begun(cache(&server.url())).await;
    put(&other, 5).await.expect("put in");
    let cache = cache(&server.url());
    assert_eq!(held(&cache).await, None);
    let early = cache.ticket(CART).await.expect("a ticket");
    put(&cache, 6).await.expect("an answer");
    put_floor(&cache, 6).await.expect("an answer");
    cache.keep_document(CART, &document(version(5))).await.expect("an answer");
    assert_eq!(held(&other).await, Some((5, true)));
    assert_eq!(cache.feed_position().await.expect("an answer"), Some(feed(0)));
    assert_eq!(held(&cache).await, Some((5, true)));
    cache.fill(early, &record(6, &[6]), None).await.expect("an answer");
    assert_eq!(held(&cache).await, Some((5, true)), "a ticket from before");
}

#[tokio::test]
async fn what_was_told_to_an_older_generation_is_not_noted_in_a_newer() {
    let server = RedisServer::start().await;
    let one = begun(cache(&server.url())).await;
    let two = cache(&server.url());
    two.feed_position().await.expect("an answer");
    put(&one, 5).await.expect("put in");
    two.start_anew(&feed(0)).await.expect("begun");
    put(&two, 5).await.expect("put in");
    // The one has not heard of it: it tells the carts that nobody looks for any more.
    put_floor(&one, 6).await.expect("put in");
    assert_eq!(held(&two).await, Some((5, true)));
    assert_eq!(one.advance(&feed(0), &feed(3)).await.expect("an answer"), Some(feed(0)));
    // Now it has.
    put_floor(&one, 6).await.expect("put in");
    assert_eq!(one.advance(&feed(0), &feed(3)).await.expect("an answer"), Some(feed(3)));
    assert_eq!(held(&two).await, Some((6, false)));
    // No generation comes twice, whoever begins it, and whatever was forgotten.
    let mut generations = Vec::new();
    for n in 0..6 {
        let cache = [&one, &two][n % 2];
        if n == 3 {
            let () = ask(&server, &mut cmd("FLUSHALL")).await;
        }
        cache.start_anew(&feed(0)).await.expect("begun");
        generations.push(ask::<u64>(&server, cmd("HGET").arg("cart:feed").arg("generation")).await);
    }
    assert!(generations.windows(2).all(|pair| pair[0] != pair[1]), "{generations:?}");
}

#[tokio::test]
async fn nonsense_in_redis_is_told_apart_from_an_outage() {
    let server = RedisServer::start().await;
    let cache = begun(cache(&server.url())).await;
    put(&cache, 5).await.expect("put in");
    cache.keep_document(CART, &document(version(5))).await.expect("kept");
    let hash = hash_of(&server, CART).await;
    let () = ask(&server, cmd("HSET").arg(&hash).arg("_d").arg("nonsense")).await;
    let glance = cache.glance(CART, None).await.expect("an answer").expect("an entry");
    assert!(glance.full && glance.document.is_none(), "a document is made again");
    for (field, value) in [("_m", "{}"), ("_v", "17"), ("_k", "other")] {
        let () = ask(&server, cmd("HSET").arg(&hash).arg(field).arg(value)).await;
        let found = cache.get(CART).await;
        assert!(matches!(found, Err(StoreError::Corrupt(_))), "{field}: {found:?}");
    }
    assert!(matches!(cache.glance(CART, None).await, Err(StoreError::Corrupt(_))));
    // The next change makes it whole.
    put_floor(&cache, 6).await.expect("put in");
    assert_eq!(held(&cache).await, Some((6, false)));
    let () = ask(&server, cmd("SET").arg(&hash).arg("a string")).await;
    for _ in 0..20 {
        let (glanced, put_in) = (cache.glance(CART, None).await, put(&cache, 7).await);
        assert!(matches!(glanced, Err(StoreError::Corrupt(_))), "{glanced:?}");
        assert!(matches!(put_in, Err(StoreError::Corrupt(_))), "{put_in:?}");
    }
    assert_eq!(cache.feed_position().await.expect("one bad cart is no outage"), Some(feed(0)));
}

#[tokio::test]
async fn a_full_redis_is_read_and_told_of_changes() {
    let server = RedisServer::start().await;
    let cache = begun(cache(&server.url())).await;
    put(&cache, 5).await.expect("put in");
    let () = ask(&server, cmd("CONFIG").arg("SET").arg("maxmemory-policy").arg("noeviction")).await;
    let () = ask(&server, cmd("CONFIG").arg("SET").arg("maxmemory").arg("1")).await;
    for n in 0..20 {
        let refused = cache.ticket(&format!("c_new_{n}")).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        assert_eq!(held(&cache).await, Some((5, true)), "reads go on");
    }
    cache.floors(&[(CART.to_owned(), version(6)), ("c_2".to_owned(), version(1))]).await.expect("told");
    assert_eq!(held(&cache).await, Some((6, false)));
    assert_eq!(cache.advance(&feed(0), &feed(2)).await.expect("an answer"), Some(feed(2)));
    let () = ask(&server, cmd("CONFIG").arg("SET").arg("maxmemory").arg("0")).await;
    put(&cache, 6).await.expect("put in");
    assert_eq!(held(&cache).await, Some((6, true)));
}

/// All calls fail at once, for as long as nobody probes.
async fn fails_at_once(cache: &Cache) {
    eventually("calls fail without asking", async || {
        let begun = Instant::now();
        for _ in 0..3 {
            match cache.glance(CART, None).await {
                Err(StoreError::Unavailable(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        begun.elapsed() < AT_ONCE
    })
    .await;
}

#[tokio::test]
async fn a_dead_redis_is_left_alone_and_found_again() {
    let server = RedisServer::start().await;
    let cache = begun(cache(&server.url())).await;
    put(&cache, 5).await.expect("put in");
    server.kill();
    fails_at_once(&cache).await;
    server.restart().await;
    eventually("the cache is back", async || cache.feed_position().await.is_ok()).await;
    assert_eq!(cache.feed_position().await.expect("an answer"), None, "it has forgotten everything");
    let cache = begun(cache).await;
    put(&cache, 6).await.expect("put in");
    assert_eq!(held(&cache).await, Some((6, true)));
}

#[tokio::test]
async fn a_redis_that_hangs_is_left_alone_and_found_again() {
    let server = RedisServer::start().await;
    let cache = begun(cache(&server.url())).await;
    put(&cache, 5).await.expect("put in");
    server.pause();
    fails_at_once(&cache).await;
    server.resume();
    eventually("the cache is back", async || cache.glance(CART, None).await.is_ok()).await;
    match cache.get(CART).await.expect("an answer") {
        Some(CacheEntry::Full(found)) => assert_eq!(found.version, version(5)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_redis_that_is_not_there_yet_is_found_later() {
    let server = RedisServer::start().await;
    server.kill();
    let cache = cache(&server.url());
    for _ in 0..3 {
        assert!(matches!(cache.feed_position().await, Err(StoreError::Unavailable(_))));
    }
    server.restart().await;
    eventually("the cache is found", async || cache.feed_position().await.is_ok()).await;
    put(&begun(cache).await, 1).await.expect("put in");
}

#[test]
fn a_wrong_url_is_a_mistake_in_the_configuration() {
    let mistakes = |url: &'static str, ca_file: Option<&'static str>| {
        let lookup = |name: &str| match name {
            "TROLI_CACHE_URL" => Some(url.to_owned()),
            "TROLI_CACHE_CA_FILE" => ca_file.map(ToOwned::to_owned),
            _ => None,
        };
        let all = Config::load(lookup).expect_err("much is missing").0;
        all.into_iter().filter(|mistake| mistake.starts_with("TROLI_CACHE_")).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(mistakes("redis://:s3cret@cache:6379", None), "");
    for url in ["redis://:s3cret@cache:none", "mysql://:s3cret@cache", "redis+cluster://:s3cret@cache:1/1"] {
        let mistake = mistakes(url, None);
        assert!(mistake.starts_with("TROLI_CACHE_URL: ") && !mistake.contains("s3cret"), "{mistake}");
    }
    assert!(mistakes("rediss://cache", Some("/nowhere")).starts_with("TROLI_CACHE_CA_FILE: cannot read"));
    assert!(mistakes("redis://cache", Some("/dev/null")).starts_with("TROLI_CACHE_CA_FILE: "));
    assert!(mistakes("memory:", Some("/dev/null")).starts_with("TROLI_CACHE_CA_FILE: "));
}
