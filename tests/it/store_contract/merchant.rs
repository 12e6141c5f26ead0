//! Items, coupons and orders, as the merchant and the payment service change them; and a guest's orders.

use std::sync::Arc;

use cart_core::Currency;
use edge_host::model::{CartRecord, IDEMPOTENCY_TTL_MS, ItemRecord, OrderState};
use edge_host::store::{Commit, Effect, KeptKey, KeyedOutcome, Loaded, OnceKey, WriteOutcome};
use futures_util::future::{join, join_all};
use harness::eventually;

use super::support::{
    NOW_MS, Store, answer, cart_of, done, guest, item, once, order, order_of, put_cart, put_item, write_of,
};

async fn read(store: &Store, item_id: &str) -> Option<ItemRecord> {
    store.items(&[item_id.to_owned()]).await.expect("an answer").pop()
}

/// Decides to take one unit from the stock.
fn one_less(before: Option<&ItemRecord>) -> Option<ItemRecord> {
    before.map(|before| ItemRecord { stock: before.stock - 1, ..before.clone() })
}

pub(crate) async fn an_item_is_decided_from_what_it_is(store: Store) {
    let mut make = |before: Option<&ItemRecord>| {
        assert_eq!(before, None);
        Some(item("vase", 5))
    };
    let made = store.write_item("vase", &once(), &mut make).await.expect("an answer");
    let KeyedOutcome::Done { value, seq } = made else { panic!("{made:?}") };
    assert_eq!(value, item("vase", 5));
    let place = store.catalogue().await.expect("an answer").position;
    assert!(seq.is_some_and(|seq| place.covers(seq)), "{seq:?} {place:?}");
    store.write_item("vase", &once(), &mut one_less).await.expect("an answer");
    assert_eq!(
        read(&store, "vase").await,
        Some(item("vase", 4)),
        "prices, tags and tax class are what they were"
    );
}

pub(crate) async fn an_item_that_stays_as_it_is_is_not_told(store: Store) {
    put_item(&*store, item("vase", 5)).await;
    let head = store.catalogue().await.expect("an answer").position;
    let same = store.write_item("vase", &once(), &mut |before| before.cloned()).await.expect("an answer");
    assert_eq!(same, KeyedOutcome::Done { value: item("vase", 5), seq: None });
    assert_eq!(store.catalogue().await.expect("an answer").position, head);
}

pub(crate) async fn a_change_is_done_once_under_its_key(store: Store) {
    put_item(&*store, item("vase", 5)).await;
    let key = once();
    store.write_item("vase", &key, &mut one_less).await.expect("an answer");
    store.write_item("vase", &once(), &mut one_less).await.expect("an answer");
    let mut never = |_: Option<&ItemRecord>| panic!("nothing to decide");
    let again = store.write_item("vase", &key, &mut never).await.expect("an answer");
    assert_eq!(again, KeyedOutcome::Replayed(item("vase", 3)), "as it is now");
    let other = OnceKey { fingerprint: [2; 32], ..key };
    let reused = store.write_item("vase", &other, &mut never).await.expect("an answer");
    let first = KeptKey { route: other.route.clone(), at_ms: NOW_MS };
    assert_eq!(reused, KeyedOutcome::KeyReused(first), "and says what was done under it");
}

pub(crate) async fn a_refused_change_keeps_nothing(store: Store) {
    put_item(&*store, item("vase", 5)).await;
    let key = once();
    let refused = store.write_item("vase", &key, &mut |_| None).await.expect("an answer");
    assert_eq!(refused, KeyedOutcome::Refused(Some(item("vase", 5))));
    let nothing = store.write_item("none", &once(), &mut |_| None).await.expect("an answer");
    assert_eq!((nothing, read(&store, "none").await), (KeyedOutcome::Refused(None), None));
    let done = store.write_item("vase", &key, &mut one_less).await.expect("an answer");
    assert!(matches!(done, KeyedOutcome::Done { .. }), "{done:?}");
}

pub(crate) async fn of_many_who_make_one_item_one_makes_it(store: Store) {
    let makers = (0..12).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut make = |before: Option<&ItemRecord>| match before {
                None => Some(item("vase", 1)),
                Some(before) => Some(ItemRecord { stock: before.stock + 1, ..before.clone() }),
            };
            store.write_item("vase", &once(), &mut make).await.expect("an answer")
        })
    });
    join_all(makers).await.into_iter().for_each(|made| drop(made.expect("no panic")));
    assert_eq!(read(&store, "vase").await.map(|item| item.stock), Some(12));
}

pub(crate) async fn changes_of_an_item_come_one_after_the_other(store: Store) {
    put_item(&*store, item("item-0", 100)).await;
    let names: Vec<String> = (0..15).map(|n| format!("buyer-{n}")).collect();
    for name in &names {
        put_cart(&store, &guest(name), cart_of(&[2])).await;
    }
    // On a busy machine a store may be overloaded; the key makes it safe to ask again.
    let sales = names.iter().map(async |name| {
        let (write, order_id) = (order_of(&guest(name)), format!("o_{name}"));
        eventually("the order is placed", async || {
            store.write(&write, &mut order(&order_id, &[])).await.is_ok()
        })
        .await;
    });
    let changes = (0..15).map(async |_| {
        let mut dearer = |before: Option<&ItemRecord>| {
            let mut after = before?.clone();
            after.prices.values_mut().for_each(|price| *price += 1);
            Some(after)
        };
        let key = once();
        eventually("the price is changed", async || {
            store.write_item("item-0", &key, &mut dearer).await.is_ok()
        })
        .await;
    });
    join(join_all(sales), join_all(changes)).await;
    let after = read(&store, "item-0").await.expect("the item");
    assert_eq!(after.stock, 70);
    let dearer: Vec<i64> = item("item-0", 0).prices.values().map(|price| price + 15).collect();
    assert_eq!(after.prices.into_values().collect::<Vec<_>>(), dearer);
}

pub(crate) async fn an_order_of_nothing_is_decided_about(store: Store) {
    let buyer = guest("buyer");
    for _ in 0..2 {
        // First of a cart that was never written, then of one that was emptied: neither has a row of stock to lock.
        let outcome = store.write(&order_of(&buyer), &mut order("o_none", &[])).await.expect("an answer");
        assert!(matches!(outcome, WriteOutcome::Refused), "{outcome:?}");
        put_cart(&store, &buyer, cart_of(&[])).await;
    }
}

pub(crate) async fn an_order_is_settled_once_under_its_key(store: Store) {
    put_item(&*store, item("item-0", 5)).await;
    put_cart(&store, &guest("buyer"), cart_of(&[3])).await;
    done(store.write(&order_of(&guest("buyer")), &mut order("o_1", &[])).await.expect("an answer"));
    let key = once();
    let settle = async |to| store.settle_order("o_1", to, &key).await.expect("an answer");
    assert!(matches!(settle(OrderState::Cancelled).await, KeyedOutcome::Done { .. }));
    assert!(matches!(settle(OrderState::Cancelled).await, KeyedOutcome::Replayed(_)));
    assert_eq!(read(&store, "item-0").await.map(|item| item.stock), Some(5), "it came back once");
    // What was not done keeps no key.
    let late = once();
    let refused = store.settle_order("o_1", OrderState::Paid, &late).await.expect("an answer");
    assert!(matches!(&refused, KeyedOutcome::Refused(Some(order)) if order.state == OrderState::Cancelled));
    let free = store.settle_order("o_1", OrderState::Cancelled, &late).await.expect("an answer");
    assert!(matches!(free, KeyedOutcome::Done { .. }), "{free:?}");
}

pub(crate) async fn old_keys_are_forgotten_and_young_ones_kept(store: Store) {
    put_item(&*store, item("vase", 9)).await;
    let old = once();
    let young = OnceKey { kept_until_ms: old.kept_until_ms + 1, ..once() };
    for key in [&old, &young] {
        store.write_item("vase", key, &mut one_less).await.expect("an answer");
    }
    while store.sweep(NOW_MS + IDEMPOTENCY_TTL_MS).await.expect("an answer").rows() > 0 {}
    let kept = store.write_item("vase", &young, &mut one_less).await.expect("an answer");
    assert!(matches!(kept, KeyedOutcome::Replayed(_)), "{kept:?}");
    let forgotten = store.write_item("vase", &old, &mut one_less).await.expect("an answer");
    assert!(matches!(forgotten, KeyedOutcome::Done { .. }), "{forgotten:?}");
}

pub(crate) async fn a_guests_orders_become_the_users(store: Store) {
    put_item(&*store, item("item-0", 9)).await;
    let (user, visitor, stranger) = (guest("user"), guest("visitor"), guest("stranger"));
    for (owner, order_id) in [(&visitor, "o_1"), (&user, "o_2"), (&stranger, "o_3"), (&visitor, "o_4")] {
        put_cart(&store, owner, cart_of(&[1])).await;
        done(store.write(&order_of(owner), &mut order(order_id, &[])).await.expect("an answer"));
    }
    let mut write = write_of(&user);
    write.guest = Some((visitor.clone(), CartRecord::unused(&visitor, Currency::Sgd, 0)));
    let mut merge = |loaded: Loaded| {
        let answer = answer("merged", loaded.cart.version.next());
        Some(Commit { cart: loaded.cart.cart, effect: Effect::Merged, answer })
    };
    done(store.write(&write, &mut merge).await.expect("an answer"));
    let names = async |owner| -> Vec<String> {
        let orders = store.orders(owner, None, 10).await.expect("an answer");
        orders.into_iter().map(|order| order.order_id).collect()
    };
    assert_eq!(names(&user).await, ["o_4", "o_2", "o_1"]);
    assert_eq!(names(&visitor).await, [] as [&str; 0]);
    assert_eq!(names(&stranger).await, ["o_3"]);
    assert!(store.order(&user, "o_1").await.expect("an answer").is_some());
    assert!(store.order(&visitor, "o_1").await.expect("an answer").is_none());
    // The payment service does not know of any of that.
    let paid = store.settle_order("o_1", OrderState::Paid, &once()).await.expect("an answer");
    assert!(matches!(paid, KeyedOutcome::Done { .. }), "{paid:?}");
}
