//! What an edge keeps of what it has read, as long as Redis tells it of changes.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use edge_host::model::CartVersion;
use edge_host::store::StoreError;
use futures_util::future::join_all;
use harness::{RedisServer, eventually};
use redis::cmd;
use region_router::link::Link;

use super::{CART, Cache, ask, begun, cache, document, feed, hash_of, held, put, put_floor, version};

/// Two edges of one region; the one has put a cart in, with its document.
async fn two_edges(server: &RedisServer, url: &str) -> (Cache, Cache) {
    let writes = begun(cache(&server.url())).await;
    put_rendered(&writes, 5).await;
    let reads = cache(url);
    reads.feed_position().await.expect("Redis answers");
    (writes, reads)
}

async fn put_rendered(cache: &Cache, number: u64) {
    put(cache, number).await.expect("put in");
    cache.keep_document(CART, &document(version(number))).await.expect("kept");
}

/// How often Redis was asked for fields of hashes.
async fn questions(server: &RedisServer) -> u64 {
    let stats: String = ask(server, cmd("INFO").arg("commandstats")).await;
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_hmget:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or_default()
}

/// A look at the cart that Redis hears nothing of.
async fn is_kept_near(server: &RedisServer, cache: &Cache) {
    eventually("the cart is kept near", async || {
        held(cache).await;
        let before = questions(server).await;
        held(cache).await;
        questions(server).await == before
    })
    .await;
}

async fn sees(cache: &Cache, what: Option<(u64, bool)>) {
    eventually("the change is heard of", async || held(cache).await == what).await;
}

#[tokio::test]
async fn a_cart_is_read_without_redis_until_it_changes() {
    let server = RedisServer::start().await;
    let (writes, reads) = two_edges(&server, &server.url()).await;
    let hash = hash_of(&server, CART).await;
    is_kept_near(&server, &reads).await;
    put_floor(&writes, 6).await.expect("put in");
    sees(&reads, Some((6, false))).await;

    put_rendered(&writes, 7).await;
    is_kept_near(&server, &reads).await;
    let mut priced_anew = document(version(7));
    priced_anew.body = "{\"priced\":\"anew\"}".into();
    writes.keep_document(CART, &priced_anew).await.expect("kept");
    eventually("the new document is heard of", async || {
        let glance = reads.glance(CART, None).await.expect("an answer").expect("an entry");
        glance.document.is_some_and(|document| *document == priced_anew)
    })
    .await;

    is_kept_near(&server, &reads).await;
    let () = ask(&server, cmd("PEXPIRE").arg(&hash).arg(1)).await;
    sees(&reads, None).await;

    for forget in [cmd("DEL").arg(&hash), cmd("FLUSHALL").arg("SYNC")] {
        put_rendered(&writes, 7).await;
        is_kept_near(&server, &reads).await;
        let () = ask(&server, forget).await;
        sees(&reads, None).await;
    }
}

#[tokio::test]
async fn what_is_kept_near_is_never_older_than_asked_for_or_than_what_was_put_in_here() {
    let server = RedisServer::start().await;
    let (writes, reads) = two_edges(&server, &server.url()).await;
    for number in (10..200).step_by(2) {
        put_rendered(&writes, number).await;
        let seen = reads.glance(CART, Some(version(number))).await.expect("an answer").expect("an entry");
        assert_eq!((seen.version, seen.full), (version(number), true));
        let both = [&writes, &reads];
        // Each in turn is the one that has looked, and then puts something in.
        let puts = both[usize::from(number % 4 == 0)];
        assert!(held(puts).await.is_some());
        put_floor(puts, number + 1).await.expect("put in");
        assert_eq!(held(puts).await, Some((number + 1, false)));
    }
}

#[tokio::test]
async fn a_cart_that_many_want_is_asked_for_once() {
    let server = RedisServer::start().await;
    let (writes, reads) = two_edges(&server, &server.url()).await;
    for number in 6..20 {
        is_kept_near(&server, &reads).await;
        put_rendered(&writes, number).await;
        let before = questions(&server).await;
        let looks = join_all((0..20).map(|_| reads.glance(CART, Some(version(number))))).await;
        for look in looks {
            assert_eq!(look.expect("an answer").expect("an entry").version, version(number));
        }
        assert_eq!(questions(&server).await, before + 1);
    }
}

#[tokio::test]
async fn nothing_is_kept_of_a_connection_that_cannot_tell() {
    let server = RedisServer::start().await;
    let link =
        Link::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), server.address(), Duration::ZERO).await;
    let link = link.expect("a link to Redis");
    let (writes, reads) = two_edges(&server, &server.url_through(link.addr())).await;
    for (number, silent) in [(6, true), (7, false)] {
        is_kept_near(&server, &reads).await;
        if silent {
            link.pause().await.expect("paused");
        } else {
            link.cut().await;
        }
        eventually("what was kept is not believed any more", async || {
            matches!(reads.glance(CART, None).await, Err(StoreError::Unavailable(_)))
        })
        .await;
        put_rendered(&writes, number).await;
        link.restore().await.expect("restored");
        let mut first = None;
        eventually("Redis is found again", async || {
            first = reads.glance(CART, None).await.ok();
            first.is_some()
        })
        .await;
        let version: Option<CartVersion> = first.flatten().map(|glance| glance.version);
        assert_eq!(version, Some(super::version(number)), "and asked");
    }
}

#[tokio::test]
async fn a_redis_that_may_not_tell_is_asked_each_time() {
    let server = RedisServer::start().await;
    let user = ["SETUSER", "default", "-client|tracking"];
    let () = ask(&server, cmd("ACL").arg(&user)).await;
    let (writes, reads) = two_edges(&server, &server.url()).await;
    for number in 6..20 {
        let before = questions(&server).await;
        assert_eq!(held(&reads).await, Some((number - 1, true)));
        assert_eq!(questions(&server).await, before + 1);
        put_rendered(&writes, number).await;
    }
    assert_eq!(reads.feed_position().await.expect("an answer"), Some(feed(0)));
}
