//! The regional cache: it may forget, but it never goes back.

use std::sync::Arc;

use edge_host::model::{CartState, CartVersion};
use edge_host::store::CacheEntry;
use futures_util::future::join_all;

use super::support::{Cache, record, version};

const CART: &str = "c_1";

fn full(number: u64, quantities: &[u32]) -> CacheEntry {
    CacheEntry::Full(Arc::new(record(number, quantities)))
}

fn floor(number: u64) -> CacheEntry {
    CacheEntry::Floor(version(number))
}

async fn put(cache: &Cache, entry: CacheEntry) {
    cache.put_if_newer(CART, entry).await.expect("the cache answers");
}

/// What is held: the version, and the units of a whole cart.
async fn held(cache: &Cache) -> Option<(u64, Option<u64>)> {
    let entry = cache.get(CART).await.expect("the cache answers")?;
    let units = match &entry {
        CacheEntry::Full(record) => Some(record.cart.quantity()),
        CacheEntry::Floor(_) => None,
    };
    Some((entry.version().version, units))
}

pub(crate) async fn what_was_put_in_comes_out(cache: Cache) {
    let mut put_in = record(3, &[1, 2, 3]);
    put_in.cart.coupons = vec!["A".to_owned()];
    put_in.cart.lines[1].variant = r#"{"text":"naïve ☕"}"#.to_owned();
    put_in.updated_at_ms = Some(7);
    put(&cache, CacheEntry::Full(Arc::new(put_in.clone()))).await;
    match cache.get(CART).await.expect("the cache answers") {
        Some(CacheEntry::Full(found)) => assert_eq!(*found, put_in),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_cart_that_was_never_put_in_is_not_there(cache: Cache) {
    put(&cache, full(1, &[1])).await;
    assert!(cache.get("c_2").await.expect("the cache answers").is_none());
    assert!(cache.count("c_2").await.expect("the cache answers").is_none());
}

pub(crate) async fn no_entry_is_replaced_by_an_older_one(cache: Cache) {
    put(&cache, full(5, &[5])).await;
    for older in [full(4, &[4]), floor(4), full(0, &[]), floor(0)] {
        put(&cache, older).await;
        assert_eq!(held(&cache).await, Some((5, Some(5))));
    }
    put(&cache, full(6, &[6])).await;
    assert_eq!(held(&cache).await, Some((6, Some(6))));
}

pub(crate) async fn a_floor_keeps_older_carts_out(cache: Cache) {
    put(&cache, full(5, &[5])).await;
    put(&cache, floor(7)).await;
    assert_eq!(held(&cache).await, Some((7, None)));
    // Read before the invalidation, arrived after it.
    put(&cache, full(6, &[6])).await;
    assert_eq!(held(&cache).await, Some((7, None)));
    put(&cache, full(7, &[7])).await;
    assert_eq!(held(&cache).await, Some((7, Some(7))));
}

pub(crate) async fn of_one_version_the_whole_cart_stays(cache: Cache) {
    put(&cache, full(5, &[5])).await;
    put(&cache, floor(5)).await;
    assert_eq!(held(&cache).await, Some((5, Some(5))));
}

pub(crate) async fn a_newer_epoch_is_newer_whatever_its_version(cache: Cache) {
    put(&cache, full(900, &[1])).await;
    let next = CartVersion { epoch: 2, version: 3 };
    put(&cache, CacheEntry::Floor(next)).await;
    put(&cache, full(901, &[1])).await;
    let entry = cache.get(CART).await.expect("the cache answers").expect("an entry");
    assert_eq!(entry.version(), next);
}

pub(crate) async fn a_count_is_that_of_the_whole_cart(cache: Cache) {
    put(&cache, full(5, &[1, 2, 3])).await;
    let count = cache.count(CART).await.expect("the cache answers").expect("a count");
    assert_eq!((count.version, count.lines, count.quantity, count.merged), (version(5), 3, 6, false));
    let mut merged = record(6, &[]);
    merged.state = CartState::Merged;
    put(&cache, CacheEntry::Full(Arc::new(merged))).await;
    assert!(cache.count(CART).await.expect("the cache answers").expect("a count").merged);
    put(&cache, floor(9)).await;
    assert!(cache.count(CART).await.expect("the cache answers").is_none(), "a floor has nothing to count");
}

pub(crate) async fn concurrent_puts_never_go_back(cache: Cache) {
    let writers = (0..8_u64).map(|writer| {
        let cache = Arc::clone(&cache);
        tokio::spawn(async move {
            for step in 0..300_u64 {
                // Every writer goes up and down on its own way; the last word is 1000.
                let number = (step * 7 + writer * 131) % 1000 + u64::from(step == 299 && writer == 0) * 1000;
                let number = number.min(1000);
                let entry = if step % 3 == 0 { floor(number) } else { full(number, &[1]) };
                cache.put_if_newer(CART, entry).await.expect("the cache answers");
            }
        })
    });
    let reader = {
        let cache = Arc::clone(&cache);
        tokio::spawn(async move {
            let mut last = version(0);
            for _ in 0..2000 {
                if let Some(entry) = cache.get(CART).await.expect("the cache answers") {
                    assert!(entry.version() >= last, "{} after {last}", entry.version());
                    last = entry.version();
                }
                tokio::task::yield_now().await;
            }
        })
    };
    join_all(writers).await.into_iter().for_each(|writer| writer.expect("no panic"));
    reader.await.expect("the reader saw nothing go back");
    assert_eq!(held(&cache).await.map(|(number, _)| number), Some(1000));
}

pub(crate) async fn forgetting_forgets_all(cache: Cache) {
    put(&cache, full(5, &[5])).await;
    cache.put_if_newer("c_2", floor(9)).await.expect("the cache answers");
    cache.forget_all().await.expect("the cache answers");
    assert_eq!(held(&cache).await, None);
    assert!(cache.get("c_2").await.expect("the cache answers").is_none());
    put(&cache, full(1, &[1])).await;
    assert_eq!(held(&cache).await, Some((1, Some(1))), "what comes after it counts");
}
