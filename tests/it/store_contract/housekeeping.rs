//! Orders, stock, the feed, and what time sweeps away.

use cart_core::Cart;
use edge_host::model::{
    CART_TTL_MS, Change, FeedEvent, FeedPosition, GUEST_PAYMENT_TTL_MS, IDEMPOTENCY_TTL_MS, OrderState,
    PAYMENT_TTL_MS,
};
use edge_host::store::WriteOutcome;
use futures_util::future::join_all;

use super::support::{
    NOW_MS, Store, become_cart, cart_of, coupon, done, guest, item, one_more, order, order_of, put_cart,
    put_coupon, put_item, settle, version, write_of,
};

const HOUR_MS: i64 = 3600 * 1000;

async fn stock(store: &Store, item_id: &str) -> u32 {
    store.items(&[item_id.to_owned()]).await.expect("an answer")[0].stock
}

async fn redemptions(store: &Store, code: &str) -> u32 {
    let coupons = store.catalogue().await.expect("an answer").coupons;
    coupons.into_iter().find(|coupon| coupon.code == code).expect("the coupon").redemptions
}

async fn sweep_all(store: &Store, now_ms: i64) {
    while store.sweep(now_ms).await.expect("an answer").rows() > 0 {}
}

/// Orders these quantities of `item-0`, `item-1`, … under this name.
async fn place(
    store: &Store,
    owner: &str,
    order_id: &str,
    quantities: &[u32],
    coupons: &[&str],
) -> WriteOutcome {
    let owner = guest(owner);
    put_cart(store, &owner, cart_of(quantities)).await;
    store.write(&order_of(&owner), &mut order(order_id, coupons)).await.expect("an answer")
}

pub(crate) async fn an_order_takes_stock_and_empties_the_cart(store: Store) {
    put_item(&*store, item("item-0", 5)).await;
    put_item(&*store, item("item-1", 2)).await;
    put_coupon(&*store, coupon("FIVE")).await;
    let record = done(place(&store, "buyer", "o_1", &[2, 2], &["FIVE"]).await);
    assert_eq!((record.cart.lines.len(), record.version), (0, version(2)));
    assert_eq!((stock(&store, "item-0").await, stock(&store, "item-1").await), (3, 0));
    assert_eq!(redemptions(&store, "FIVE").await, 1);
    let placed = store.order(&guest("buyer"), "o_1").await.expect("an answer").expect("the order");
    assert_eq!((placed.order_id.as_str(), placed.state), ("o_1", OrderState::PendingPayment));
    assert_eq!(placed.document.as_str(), r#"{"id":"o_1","units":4}"#);
    // A merchant who sets a coupon anew does not give redemptions away.
    assert_eq!(put_coupon(&*store, coupon("FIVE")).await.redemptions, 1);
}

pub(crate) async fn stock_never_falls_below_nothing(store: Store) {
    put_item(&*store, item("item-0", 5)).await;
    let names: Vec<String> = (0..12).map(|n| format!("rival-{n}")).collect();
    for name in &names {
        put_cart(&store, &guest(name), cart_of(&[2])).await;
    }
    let rivals = names.iter().map(async |name| {
        let (write, order_id) = (order_of(&guest(name)), format!("o_{name}"));
        store.write(&write, &mut order(&order_id, &[])).await.expect("an answer")
    });
    let outcomes = join_all(rivals).await;
    let sold = outcomes.iter().filter(|outcome| matches!(outcome, WriteOutcome::Done { .. })).count();
    assert_eq!((sold, stock(&store, "item-0").await), (2, 1));
}

pub(crate) async fn a_cancelled_order_gives_back_once(store: Store) {
    put_item(&*store, item("item-0", 5)).await;
    put_coupon(&*store, coupon("FIVE")).await;
    done(place(&store, "buyer", "o_1", &[3], &["FIVE"]).await);
    for state in [OrderState::Cancelled, OrderState::Cancelled, OrderState::Paid] {
        let settled = settle(&*store, "o_1", state).await.expect("the order");
        assert_eq!(settled.state, OrderState::Cancelled);
    }
    assert_eq!((stock(&store, "item-0").await, redemptions(&store, "FIVE").await), (5, 0));
    assert!(settle(&*store, "o_none", OrderState::Paid).await.is_none());
}

pub(crate) async fn a_paid_order_is_never_cancelled(store: Store) {
    put_item(&*store, item("item-0", 5)).await;
    done(place(&store, "buyer", "o_1", &[3], &[]).await);
    settle(&*store, "o_1", OrderState::Paid).await;
    let late = settle(&*store, "o_1", OrderState::Cancelled).await;
    assert_eq!(late.expect("the order").state, OrderState::Paid);
    sweep_all(&store, NOW_MS + PAYMENT_TTL_MS + 1).await;
    assert_eq!(stock(&store, "item-0").await, 2);
}

pub(crate) async fn orders_come_newest_first_and_belong_to_their_owner(store: Store) {
    put_item(&*store, item("item-0", 100)).await;
    for n in 1..=5 {
        done(place(&store, "buyer", &format!("o_{n}"), &[1], &[]).await);
    }
    done(place(&store, "other", "o_9", &[1], &[]).await);
    let names = async |before: Option<&str>, limit: u32| -> Vec<String> {
        let orders = store.orders(&guest("buyer"), before, limit).await.expect("an answer");
        orders.into_iter().map(|order| order.order_id).collect()
    };
    assert_eq!(names(None, 10).await, ["o_5", "o_4", "o_3", "o_2", "o_1"]);
    assert_eq!(names(None, 2).await, ["o_5", "o_4"]);
    assert_eq!(names(Some("o_4"), 2).await, ["o_3", "o_2"]);
    assert_eq!(names(Some("o_1"), 2).await, [] as [&str; 0]);
    assert!(store.order(&guest("buyer"), "o_9").await.expect("an answer").is_none());
}

pub(crate) async fn an_unpaid_order_is_cancelled_when_its_time_is_over(store: Store) {
    put_item(&*store, item("item-0", 5)).await;
    done(place(&store, "buyer", "o_1", &[3], &[]).await);
    let state =
        async || store.order(&guest("buyer"), "o_1").await.expect("an answer").expect("the order").state;
    sweep_all(&store, NOW_MS + GUEST_PAYMENT_TTL_MS - 1).await;
    assert_eq!((state().await, stock(&store, "item-0").await), (OrderState::PendingPayment, 2));
    sweep_all(&store, NOW_MS + GUEST_PAYMENT_TTL_MS).await;
    assert_eq!((state().await, stock(&store, "item-0").await), (OrderState::Cancelled, 5));
}

pub(crate) async fn an_expired_cart_ends_empty_at_the_next_version(store: Store) {
    let (old, young) = (guest("old"), guest("young"));
    let cart = Cart { coupons: vec!["HELD".to_owned()], ..cart_of(&[2, 3]) };
    put_cart(&store, &old, cart.clone()).await;
    let mut late = write_of(&young);
    late.now_ms = NOW_MS + HOUR_MS;
    done(store.write(&late, &mut become_cart(cart)).await.expect("an answer"));
    sweep_all(&store, NOW_MS + CART_TTL_MS).await;
    let ended =
        store.cart(&old.cart_id()).await.expect("an answer").expect("it stays, for its version's sake");
    assert_eq!((ended.cart.lines.len(), ended.cart.coupons.len(), ended.version), (0, 0, version(2)));
    let kept = store.cart(&young.cart_id()).await.expect("an answer").expect("a cart");
    assert_eq!((kept.cart.quantity(), kept.version), (5, version(1)));
    // Somebody who comes back goes on from there.
    let mut back = write_of(&old);
    back.now_ms = NOW_MS + CART_TTL_MS + HOUR_MS;
    let record = done(store.write(&back, &mut one_more).await.expect("an answer"));
    assert_eq!((record.cart.quantity(), record.version), (1, version(3)));
}

pub(crate) async fn old_answers_are_forgotten_and_young_ones_kept(store: Store) {
    let owner = guest("keys");
    let (first, mut second) = (write_of(&owner), write_of(&owner));
    second.answer_kept_until_ms += HOUR_MS;
    done(store.write(&first, &mut one_more).await.expect("an answer"));
    done(store.write(&second, &mut one_more).await.expect("an answer"));
    sweep_all(&store, NOW_MS + IDEMPOTENCY_TTL_MS).await;
    let again = store.write(&second, &mut one_more).await.expect("an answer");
    assert!(matches!(again, WriteOutcome::Replayed { .. }), "{again:?}");
    done(store.write(&first, &mut one_more).await.expect("an answer"));
}

pub(crate) async fn the_feed_tells_every_change_in_order(store: Store) {
    let mut news = store.feed_news();
    let begin = store.catalogue().await.expect("an answer").position;
    let owner = guest("told");
    put_item(&*store, item("item-0", 5)).await;
    put_coupon(&*store, coupon("FIVE")).await;
    done(place(&store, "told", "o_1", &[2], &["FIVE"]).await);
    settle(&*store, "o_1", OrderState::Cancelled).await;
    let page = store.feed(Some(&begin), 100).await.expect("an answer");
    assert!(!page.lost);
    let words: Vec<String> = page.events.iter().map(word).collect();
    let cart = |n: u64| format!("cart {} {}", owner.cart_id(), version(n));
    let expected = [
        "item-0 has 5".to_owned(),
        "FIVE used 0".to_owned(),
        cart(1),
        cart(2),
        "item-0 has 3".to_owned(),
        "FIVE used 1".to_owned(),
        "item-0 has 5".to_owned(),
        "FIVE used 0".to_owned(),
    ];
    assert_eq!(words, expected);
    assert!(page.events.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    assert_eq!(page.events.last().map(|event| event.seq), Some(page.position.seq));
    assert!(!page.more);
    news.changed().await.expect("the store is there, and has told");
    // In pieces it is the same.
    let mut pieces = Vec::new();
    let mut at = begin;
    loop {
        let piece = store.feed(Some(&at), 3).await.expect("an answer");
        assert!(piece.events.len() <= 3);
        at = piece.position;
        pieces.extend(piece.events);
        if !piece.more {
            break;
        }
    }
    assert_eq!(pieces, page.events);
}

fn word(event: &FeedEvent) -> String {
    match &event.change {
        Change::Cart { cart_id, version } => format!("cart {cart_id} {version}"),
        Change::Item(item) => format!("{} has {}", item.item_id, item.stock),
        Change::Coupon(coupon) => format!("{} used {}", coupon.code, coupon.redemptions),
        Change::Rules { revision } => format!("rules {revision}"),
        Change::Later(change) => format!("later {}", change.as_str()),
    }
}

pub(crate) async fn a_follower_that_was_away_too_long_is_told_so(store: Store) {
    for n in 0..3 {
        put_item(&*store, item(&format!("item-{n}"), 5)).await;
    }
    let head = store.catalogue().await.expect("an answer").position;
    let at = |seq: u64| FeedPosition::at(seq);
    sweep_all(&store, NOW_MS + 100 * HOUR_MS).await;
    for behind in [at(0), at(head.seq - 1)] {
        assert!(store.feed(Some(&behind), 10).await.expect("an answer").lost, "{behind:?} of {head:?}");
    }
    let up_to_date = store.feed(Some(&head), 10).await.expect("an answer");
    assert!(!up_to_date.lost && up_to_date.events.is_empty());
    let beyond = store.feed(Some(&at(head.seq + 1)), 10).await.expect("an answer");
    assert!(beyond.lost, "a place of another database");
    // Who asks for no place is told where the feed is, and misses nothing from there on.
    let now = store.feed(None, 10).await.expect("an answer");
    assert_eq!((now.lost, now.events.len(), &now.position), (false, 0, &head));
    put_item(&*store, item("item-9", 5)).await;
    let next = store.feed(Some(&now.position), 10).await.expect("an answer");
    assert_eq!((next.lost, next.events.len()), (false, 1));
}

pub(crate) async fn the_catalogue_stands_for_its_place_in_the_feed(store: Store) {
    put_item(&*store, item("item-0", 5)).await;
    put_item(&*store, item("item-1", 5)).await;
    put_item(&*store, item("item-0", 4)).await;
    put_coupon(&*store, coupon("FIVE")).await;
    let mut catalogue = store.catalogue().await.expect("an answer");
    catalogue.items.sort_by(|a, b| a.item_id.cmp(&b.item_id));
    assert_eq!(catalogue.items, [item("item-0", 4), item("item-1", 5)]);
    assert_eq!(catalogue.coupons, [coupon("FIVE")]);
    assert_eq!((catalogue.epoch, catalogue.rules), (1, None));
    let rest = store.feed(Some(&catalogue.position), 10).await.expect("an answer");
    assert!(rest.events.is_empty() && !rest.lost);
}

pub(crate) async fn rules_are_kept_and_told(store: Store) {
    let (one, two) = ("1".repeat(64), "2".repeat(64));
    let begin = store.catalogue().await.expect("an answer").position;
    for revision in [&one, &two, &one] {
        store.activate_rules(revision, revision.as_bytes(), NOW_MS).await.expect("an answer");
        assert_eq!(store.catalogue().await.expect("an answer").rules.as_ref(), Some(revision));
    }
    assert_eq!(store.rules(&two).await.expect("an answer"), Some(two.as_bytes().to_vec()));
    assert_eq!(store.rules("3").await.expect("an answer"), None);
    let words: Vec<String> =
        store.feed(Some(&begin), 10).await.expect("an answer").events.iter().map(word).collect();
    assert_eq!(words, [&one, &two, &one].map(|revision| format!("rules {revision}")));
}
