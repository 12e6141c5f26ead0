//! The regional cache: it may forget, but it never goes back.

use std::sync::Arc;

use cart_core::Currency;
use edge_host::model::{CartRecord, CartState, CartVersion, FeedGap, FeedPosition, Principal};
use edge_host::rules::Revision;
use edge_host::store::{CacheEntry, CacheFeed, CartDocument, FactPrints};
use futures_util::future::join_all;

use super::support::{Cache, guest, record, version};

const CART: &str = "c_1";

/// Reads at home and puts in, without anything coming between.
async fn put(cache: &Cache, cart: &CartRecord) {
    let ticket = cache.ticket(CART).await.expect("the cache answers");
    cache.fill(ticket, cart, None).await.expect("the cache answers");
}

async fn put_floor(cache: &Cache, floor: CartVersion) {
    cache.floors(&[(CART.to_owned(), floor)]).await.expect("the cache answers");
}

/// What is held: the version, and the units of a whole cart. All ways to ask agree on it.
async fn held(cache: &Cache) -> Option<(u64, Option<u64>)> {
    held_of(cache, CART).await
}

async fn held_of(cache: &Cache, cart_id: &str) -> Option<(u64, Option<u64>)> {
    let entry = cache.get(cart_id).await.expect("the cache answers");
    let glance = cache.glance(cart_id, None).await.expect("the cache answers");
    let count = cache.count(cart_id).await.expect("the cache answers");
    assert_eq!(glance.as_ref().map(|glance| glance.version), entry.as_ref().map(CacheEntry::version));
    let units = match &entry {
        Some(CacheEntry::Full(record)) => Some(record.cart.quantity()),
        _ => None,
    };
    assert_eq!(glance.is_some_and(|glance| glance.full), units.is_some());
    assert_eq!(count.map(|count| count.quantity), units);
    entry.map(|entry| (entry.version().version, units))
}

/// The body of the document that is held.
async fn shown(cache: &Cache) -> Option<String> {
    let glance = cache.glance(CART, None).await.expect("the cache answers")?;
    String::from_utf8(glance.document?.body.to_vec()).ok()
}

fn document(version: CartVersion, body: &str) -> CartDocument {
    CartDocument {
        version,
        rules: Revision::of(b"rules"),
        facts: FactPrints {
            items: vec![("item-0".to_owned(), u64::MAX), ("item ☕".to_owned(), 0)],
            coupons: vec![("KNOWN".to_owned(), Some(7)), ("UNKNOWN".to_owned(), None)],
        },
        good_until_ms: 1_800_000_000_000,
        tag: "tag".to_owned(),
        body: body.to_owned().into(),
    }
}

fn feed(seq: u64) -> CacheFeed {
    CacheFeed { epoch: 1, position: FeedPosition::at(seq) }
}

async fn advance(cache: &Cache, from: &CacheFeed, to: &CacheFeed) -> Option<CacheFeed> {
    cache.advance(from, to).await.expect("the cache answers")
}

pub(crate) async fn what_was_put_in_comes_out(cache: Cache) {
    let mut put_in = record(3, &[1, 2, 3]);
    put_in.cart.coupons = vec!["A".to_owned(), "B".to_owned()];
    put_in.cart.lines[1].variant = r#"{"text":"naïve ☕"}"#.to_owned();
    // Lines come in their order, also when that is not the order of their times.
    put_in.cart.lines[2].added_at_ms = 1;
    put_in.updated_at_ms = Some(7);
    put_in.expires_at_ms = Some(9);
    put_in.cart_id = CART.to_owned();
    put(&cache, &put_in).await;
    match cache.get(CART).await.expect("the cache answers") {
        Some(CacheEntry::Full(found)) => assert_eq!(*found, put_in),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_cart_that_was_never_put_in_is_not_there(cache: Cache) {
    put(&cache, &record(1, &[1])).await;
    assert_eq!(held_of(&cache, "c_2").await, None);
    // Somebody is about to put it in.
    cache.ticket("c_2").await.expect("the cache answers");
    assert_eq!(held_of(&cache, "c_2").await, None);
}

pub(crate) async fn a_cart_that_was_never_written_is_known_as_such(cache: Cache) {
    let owner: Principal = guest("nobody");
    let unused = CartRecord { cart_id: CART.to_owned(), ..CartRecord::unused(&owner, Currency::Sgd, 1) };
    put(&cache, &unused).await;
    assert_eq!(held(&cache).await, Some((0, Some(0))));
    match cache.get(CART).await.expect("the cache answers") {
        Some(CacheEntry::Full(found)) => assert_eq!(*found, unused),
        other => panic!("{other:?}"),
    }
    put_floor(&cache, version(1)).await;
    assert_eq!(held(&cache).await, Some((1, None)));
}

pub(crate) async fn no_entry_is_replaced_by_an_older_one(cache: Cache) {
    put(&cache, &record(5, &[5])).await;
    for older in [record(4, &[4]), record(0, &[])] {
        put(&cache, &older).await;
        assert_eq!(held(&cache).await, Some((5, Some(5))));
        put_floor(&cache, older.version).await;
        assert_eq!(held(&cache).await, Some((5, Some(5))));
    }
    put(&cache, &record(6, &[6])).await;
    assert_eq!(held(&cache).await, Some((6, Some(6))));
    // Numbers, not words.
    put(&cache, &record(10, &[1])).await;
    assert_eq!(held(&cache).await, Some((10, Some(1))));
}

pub(crate) async fn a_newer_cart_leaves_nothing_of_the_older(cache: Cache) {
    let mut older = record(5, &[1, 2, 3]);
    older.cart.coupons = vec!["A".to_owned()];
    put(&cache, &older).await;
    let mut newer = record(6, &[4]);
    newer.cart_id = CART.to_owned();
    put(&cache, &newer).await;
    match cache.get(CART).await.expect("the cache answers") {
        Some(CacheEntry::Full(found)) => assert_eq!(*found, newer),
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn a_floor_keeps_older_carts_out(cache: Cache) {
    put(&cache, &record(5, &[5])).await;
    put_floor(&cache, version(7)).await;
    assert_eq!(held(&cache).await, Some((7, None)));
    // Read before the invalidation, arrived after it.
    put(&cache, &record(6, &[6])).await;
    assert_eq!(held(&cache).await, Some((7, None)));
    put(&cache, &record(7, &[7])).await;
    assert_eq!(held(&cache).await, Some((7, Some(7))));
}

pub(crate) async fn a_floor_does_not_end_a_ticket(cache: Cache) {
    // Taken before anything was known, and again when there was a cart.
    for read in [record(7, &[7]), record(9, &[9])] {
        let ticket = cache.ticket(CART).await.expect("the cache answers");
        put_floor(&cache, read.version).await;
        cache.fill(ticket, &read, None).await.expect("the cache answers");
        assert_eq!(held(&cache).await, Some((read.version.version, Some(read.version.version))));
    }
}

pub(crate) async fn many_floors_are_put_in_at_once(cache: Cache) {
    let name = |n: u64| format!("c_{n}");
    put(&cache, &record(5, &[5])).await;
    let mut floors: Vec<(String, CartVersion)> = (2..1500).map(|n| (name(n), version(n))).collect();
    floors.push((CART.to_owned(), version(4)));
    // A page of the feed may speak of one cart more than once.
    floors.push((name(2), version(9)));
    floors.push((name(2), version(8)));
    cache.floors(&floors).await.expect("the cache answers");
    cache.floors(&[]).await.expect("nothing is no mistake");
    assert_eq!(held(&cache).await, Some((5, Some(5))));
    assert_eq!(held_of(&cache, "c_2").await, Some((9, None)));
    for n in 3..1500 {
        assert_eq!(held_of(&cache, &name(n)).await, Some((n, None)));
    }
}

pub(crate) async fn of_one_version_the_whole_cart_stays(cache: Cache) {
    put(&cache, &record(5, &[5])).await;
    put_floor(&cache, version(5)).await;
    assert_eq!(held(&cache).await, Some((5, Some(5))));
}

pub(crate) async fn a_newer_epoch_is_newer_whatever_its_version(cache: Cache) {
    put(&cache, &record(900, &[1])).await;
    let next = CartVersion { epoch: 2, version: 3 };
    put_floor(&cache, next).await;
    put(&cache, &record(901, &[1])).await;
    let entry = cache.get(CART).await.expect("the cache answers").expect("an entry");
    assert_eq!(entry.version(), next);
}

pub(crate) async fn a_count_is_that_of_the_whole_cart(cache: Cache) {
    put(&cache, &record(5, &[1, 2, 3])).await;
    let count = cache.count(CART).await.expect("the cache answers").expect("a count");
    assert_eq!((count.version, count.lines, count.quantity, count.merged), (version(5), 3, 6, false));
    let mut merged = record(6, &[]);
    merged.state = CartState::Merged;
    put(&cache, &merged).await;
    assert!(cache.count(CART).await.expect("the cache answers").expect("a count").merged);
    put_floor(&cache, version(9)).await;
    assert!(cache.count(CART).await.expect("the cache answers").is_none(), "a floor has nothing to count");
}

pub(crate) async fn a_document_is_kept_beside_its_version(cache: Cache) {
    let kept = document(version(5), "{\"a\":\"☕\n\"}\n");
    cache.keep_document(CART, &kept).await.expect("the cache answers");
    assert_eq!(held(&cache).await, None, "a document alone is nothing");
    put(&cache, &record(5, &[5])).await;
    assert_eq!(shown(&cache).await, None);
    cache.keep_document(CART, &kept).await.expect("the cache answers");
    let glance = cache.glance(CART, None).await.expect("the cache answers").expect("an entry");
    assert_eq!(glance.document.as_deref(), Some(&kept));
    assert_eq!(held(&cache).await, Some((5, Some(5))), "a document is no line");
    // Rendered again, with other rules.
    cache.keep_document(CART, &document(version(5), "anew")).await.expect("the cache answers");
    assert_eq!(shown(&cache).await.as_deref(), Some("anew"));
}

pub(crate) async fn a_document_comes_in_with_its_cart(cache: Cache) {
    let [four, five] = [4, 5].map(|number| document(version(number), &number.to_string()));
    // One that is late does not come in, and neither does what goes along; and none comes in with another's cart.
    for (number, along, shows) in [(5, &five, Some("5")), (4, &four, Some("5")), (6, &five, None)] {
        let ticket = cache.ticket(CART).await.expect("the cache answers");
        cache.fill(ticket, &record(number, &[1]), Some(along)).await.expect("the cache answers");
        assert_eq!(shown(&cache).await.as_deref(), shows, "after {number}");
    }
    assert_eq!(held(&cache).await, Some((6, Some(1))));
}

pub(crate) async fn a_document_of_another_version_is_not_kept(cache: Cache) {
    put(&cache, &record(5, &[5])).await;
    let epoch_2 = CartVersion { epoch: 2, version: 5 };
    for other in [version(4), version(6), epoch_2] {
        cache.keep_document(CART, &document(other, "other")).await.expect("the cache answers");
        assert_eq!((shown(&cache).await, held(&cache).await), (None, Some((5, Some(5)))));
    }
    put_floor(&cache, version(6)).await;
    cache.keep_document(CART, &document(version(6), "other")).await.expect("the cache answers");
    assert_eq!((shown(&cache).await, held(&cache).await), (None, Some((6, None))));
}

pub(crate) async fn a_document_goes_with_its_version(cache: Cache) {
    put(&cache, &record(5, &[5])).await;
    cache.keep_document(CART, &document(version(5), "five")).await.expect("the cache answers");
    // What is not newer changes nothing.
    put_floor(&cache, version(5)).await;
    put(&cache, &record(5, &[5])).await;
    assert_eq!(shown(&cache).await.as_deref(), Some("five"));
    put(&cache, &record(6, &[6])).await;
    assert_eq!(shown(&cache).await, None);
    cache.keep_document(CART, &document(version(6), "six")).await.expect("the cache answers");
    put_floor(&cache, version(7)).await;
    assert_eq!(shown(&cache).await, None);
    put(&cache, &record(7, &[7])).await;
    assert_eq!(shown(&cache).await, None);
}

pub(crate) async fn concurrent_puts_never_go_back(cache: Cache) {
    let writers = (0..8_u64).map(|writer| {
        let cache = Arc::clone(&cache);
        tokio::spawn(async move {
            for step in 0..300_u64 {
                // Every writer goes up and down on its own way; the last word is 1000.
                let number = (step * 7 + writer * 131) % 1000 + u64::from(step == 299 && writer == 0) * 1000;
                let number = number.min(1000);
                match step % 3 {
                    0 => put_floor(&cache, version(number)).await,
                    _ => put(&cache, &record(number, &[1])).await,
                }
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

pub(crate) async fn starting_anew_forgets_all(cache: Cache) {
    put(&cache, &record(5, &[5])).await;
    cache.keep_document(CART, &document(version(5), "five")).await.expect("the cache answers");
    cache.floors(&[("c_2".to_owned(), version(9))]).await.expect("the cache answers");
    cache.start_anew(&feed(7)).await.expect("the cache answers");
    assert_eq!(held(&cache).await, None);
    assert_eq!(held_of(&cache, "c_2").await, None);
    put(&cache, &record(1, &[1])).await;
    assert_eq!(held(&cache).await, Some((1, Some(1))), "what comes after it counts");
    assert_eq!(shown(&cache).await, None);
}

pub(crate) async fn a_ticket_ends_when_its_entry_is_forgotten(cache: Cache) {
    for before in [None, Some(record(5, &[5]))] {
        if let Some(before) = &before {
            put(&cache, before).await;
        }
        let ticket = cache.ticket(CART).await.expect("the cache answers");
        cache.start_anew(&feed(7)).await.expect("the cache answers");
        // Read before all was forgotten, and with it the floor that would have kept it out.
        cache.fill(ticket.clone(), &record(6, &[6]), None).await.expect("the cache answers");
        assert_eq!(held(&cache).await, None);
        // Nor may it come in when somebody else reads the cart anew.
        cache.ticket(CART).await.expect("the cache answers");
        cache.fill(ticket.clone(), &record(6, &[6]), None).await.expect("the cache answers");
        assert_eq!(held(&cache).await, None);
        put_floor(&cache, version(2)).await;
        cache.fill(ticket, &record(6, &[6]), None).await.expect("the cache answers");
        assert_eq!(held(&cache).await, Some((2, None)));
    }
}

pub(crate) async fn a_ticket_is_good_for_its_own_cart(cache: Cache) {
    let (ticket, other) = (cache.ticket(CART).await, cache.ticket("c_2").await);
    let (mut ticket, other) = (ticket.expect("the cache answers"), other.expect("the cache answers"));
    ticket.life.clone_from(&other.life);
    cache.fill(ticket, &record(5, &[5]), None).await.expect("the cache answers");
    assert_eq!(held(&cache).await, None);
}

pub(crate) async fn the_place_in_the_feed_is_kept(cache: Cache) {
    // The suite's caches have begun at 0.
    assert_eq!(cache.feed_position().await.expect("the cache answers"), Some(feed(0)));
    let gaps = vec![
        FeedGap { seq: 4, since_ms: 1_800_000_000_000, since_beat: 7 },
        FeedGap { seq: 6, since_ms: 1, since_beat: 0 },
    ];
    let to = CacheFeed { epoch: 1, position: FeedPosition { seq: 9, gaps } };
    assert_eq!(advance(&cache, &feed(0), &to).await.as_ref(), Some(&to));
    assert_eq!(cache.feed_position().await.expect("the cache answers"), Some(to.clone()));
    // A gap was filled, and the feed is no further.
    assert_eq!(advance(&cache, &to, &feed(9)).await, Some(feed(9)));
    assert_eq!(cache.feed_position().await.expect("the cache answers"), Some(feed(9)));
    cache.start_anew(&CacheFeed { epoch: 2, ..feed(3) }).await.expect("the cache answers");
    assert_eq!(
        cache.feed_position().await.expect("the cache answers"),
        Some(CacheFeed { epoch: 2, ..feed(3) })
    );
}

pub(crate) async fn of_two_that_tell_it_the_faster_counts(cache: Cache) {
    assert_eq!(advance(&cache, &feed(0), &feed(20)).await, Some(feed(20)));
    // Somebody slower: told up to 10, and the cache knows more.
    assert_eq!(advance(&cache, &feed(0), &feed(10)).await, Some(feed(20)));
    // Somebody who read a longer page from further back.
    assert_eq!(advance(&cache, &feed(10), &feed(30)).await, Some(feed(30)));
    assert_eq!(cache.feed_position().await.expect("the cache answers"), Some(feed(30)));
}

pub(crate) async fn who_came_back_from_the_past_is_told_so(cache: Cache) {
    assert_eq!(advance(&cache, &feed(0), &feed(10)).await, Some(feed(10)));
    // The caller saw it at 20; since then it has forgotten from 11 on, and must not jump over that.
    assert_eq!(advance(&cache, &feed(20), &feed(30)).await, Some(feed(10)));
    assert_eq!(cache.feed_position().await.expect("the cache answers"), Some(feed(10)));
    // Another epoch counts otherwise.
    let (from, to) = (CacheFeed { epoch: 2, ..feed(5) }, CacheFeed { epoch: 2, ..feed(15) });
    assert_eq!(advance(&cache, &from, &to).await, Some(feed(10)));
    assert_eq!(cache.feed_position().await.expect("the cache answers"), Some(feed(10)));
}
