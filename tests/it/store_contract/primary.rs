//! Carts and their writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cart_core::{Cart, Currency};
use edge_host::model::{CartRecord, CartState, CartVersion};
use edge_host::store::{Commit, Effect, WriteOutcome};
use futures_util::future::join_all;

use super::support::{
    NOW_MS, Store, answer, become_cart, cart_of, coupon, done, guest, item, one_more, put_cart, put_coupon,
    put_item, version, write_of,
};

pub(crate) async fn a_cart_that_was_never_written_is_not_there(store: Store) {
    assert_eq!(store.cart(&guest("nobody").cart_id()).await.expect("an answer"), None);
    assert_eq!(store.epoch().await.expect("an answer"), 1);
}

pub(crate) async fn a_write_is_read_back_whole(store: Store) {
    let owner = guest("whole");
    let mut cart = cart_of(&[1, 999, 3]);
    cart.lines[1].variant = r#"{"text":"naïve ☕ \" ' \\"}"#.to_owned();
    cart.lines[1].line_id = cart_core::line_id("item-1", &cart.lines[1].variant);
    cart.lines[2].added_price = 1_000_000_000_000;
    cart.coupons = vec!["B".to_owned(), "A".to_owned()];
    let written = put_cart(&store, &owner, cart.clone()).await;
    let read = store.cart(&owner.cart_id()).await.expect("an answer").expect("a cart");
    assert_eq!(read, written);
    assert_eq!(read.cart, cart);
    assert_eq!((read.version, read.state), (version(1), CartState::Active));
    assert_eq!(read.updated_at_ms, Some(NOW_MS));
    assert!(read.expires_at_ms > Some(NOW_MS));

    // Lines go, change and come; the order is that of their times.
    let mut next = cart;
    next.lines.remove(1);
    next.lines[0].quantity = 5;
    next.lines.push(super::support::line("item-9", 2, NOW_MS + 50));
    next.currency = Currency::Myr;
    let written = put_cart(&store, &owner, next.clone()).await;
    let read = store.cart(&owner.cart_id()).await.expect("an answer").expect("a cart");
    assert_eq!((read.cart, read.version), (next, written.version));
}

pub(crate) async fn every_write_makes_the_next_version(store: Store) {
    let owner = guest("versions");
    for expected in 1..=5 {
        let record = done(store.write(&write_of(&owner), &mut one_more).await.expect("an answer"));
        assert_eq!(record.version, version(expected));
    }
}

pub(crate) async fn a_write_that_changes_nothing_keeps_its_version_and_its_answer(store: Store) {
    let owner = guest("unchanged");
    let before = put_cart(&store, &owner, cart_of(&[2])).await;
    let write = write_of(&owner);
    let mut nothing = |loaded: edge_host::store::Loaded| {
        let answer = answer("as it was", loaded.cart.version);
        Some(Commit { cart: loaded.cart.cart, effect: Effect::Unchanged, answer })
    };
    let head = store.catalogue().await.expect("an answer").position;
    let record = done(store.write(&write, &mut nothing).await.expect("an answer"));
    assert_eq!((record.version, &record.cart), (before.version, &before.cart));
    assert_eq!(store.catalogue().await.expect("an answer").position, head, "nobody has to be told");
    let again = store.write(&write, &mut nothing).await.expect("an answer");
    let WriteOutcome::Replayed { answer: kept, record } = again else { panic!("{again:?}") };
    assert_eq!((kept.body.as_str(), record), ("as it was", before));
}

pub(crate) async fn a_refused_write_leaves_nothing(store: Store) {
    let owner = guest("refused");
    let before = put_cart(&store, &owner, cart_of(&[2])).await;
    let head = store.catalogue().await.expect("an answer").position;
    let outcome = store.write(&write_of(&owner), &mut |_| None).await.expect("an answer");
    assert!(matches!(outcome, WriteOutcome::Refused), "{outcome:?}");
    assert_eq!(store.cart(&owner.cart_id()).await.expect("an answer"), Some(before));
    assert_eq!(store.catalogue().await.expect("an answer").position, head);
    let nobody = guest("refused at first");
    store.write(&write_of(&nobody), &mut |_| None).await.expect("an answer");
    assert_eq!(store.cart(&nobody.cart_id()).await.expect("an answer"), None);
}

pub(crate) async fn a_write_at_another_version_is_not_even_decided(store: Store) {
    let owner = guest("conditions");
    put_cart(&store, &owner, cart_of(&[2])).await;
    let other_epoch = CartVersion { epoch: 9, version: 1 };
    for wrong in [vec![version(0)], vec![version(2), other_epoch], vec![]] {
        let mut write = write_of(&owner);
        write.if_match = Some(wrong);
        let outcome = store.write(&write, &mut |_| panic!("nothing to decide")).await.expect("an answer");
        assert!(matches!(outcome, WriteOutcome::VersionMismatch(at) if at == version(1)), "{outcome:?}");
    }
    let mut write = write_of(&owner);
    write.if_match = Some(vec![version(7), version(1)]);
    done(store.write(&write, &mut one_more).await.expect("an answer"));
    // A cart that was never written has version 0.
    let mut write = write_of(&guest("conditions of a new cart"));
    write.if_match = Some(vec![version(0)]);
    done(store.write(&write, &mut one_more).await.expect("an answer"));
}

pub(crate) async fn the_same_request_is_answered_from_its_key(store: Store) {
    let owner = guest("replay");
    let write = write_of(&owner);
    done(store.write(&write, &mut one_more).await.expect("an answer"));
    put_cart(&store, &owner, cart_of(&[50])).await;
    // A condition that held then does not have to hold now.
    let mut again = write.clone();
    again.now_ms += 1000;
    let outcome = store.write(&again, &mut |_| panic!("nothing to decide")).await.expect("an answer");
    let WriteOutcome::Replayed { answer: kept, record } = outcome else { panic!("{outcome:?}") };
    assert_eq!(kept, answer("one more", version(1)));
    // With the cart as it is now.
    assert_eq!((record.version, record.cart.quantity()), (version(2), 50));
    // A key is its cart's own.
    let mut other = write_of(&guest("somebody else"));
    other.idempotency_key.clone_from(&write.idempotency_key);
    done(store.write(&other, &mut one_more).await.expect("an answer"));
}

pub(crate) async fn another_request_under_a_key_is_told_apart(store: Store) {
    let owner = guest("reuse");
    let mut write = write_of(&owner);
    done(store.write(&write, &mut one_more).await.expect("an answer"));
    let mut other = write.clone();
    other.request = Some("another".to_owned());
    let outcome = store.write(&other, &mut |_| panic!("nothing to decide")).await.expect("an answer");
    let WriteOutcome::KeyReused(done) = outcome else { panic!("{outcome:?}") };
    assert_eq!(done, answer("one more", version(1)), "what was done is told");
    // An edge of the release before goes by the effect.
    write.request = None;
    let outcome = store.write(&write, &mut |_| panic!("nothing to decide")).await.expect("an answer");
    assert!(matches!(outcome, WriteOutcome::Replayed { .. }), "{outcome:?}");
    write.fingerprint = [2; 32];
    let outcome = store.write(&write, &mut |_| panic!("nothing to decide")).await.expect("an answer");
    assert!(matches!(outcome, WriteOutcome::KeyReused(_)), "{outcome:?}");
}

pub(crate) async fn a_key_is_free_again_when_its_request_failed(store: Store) {
    let owner = guest("second try");
    let write = write_of(&owner);
    let refused = store.write(&write, &mut |_| None).await.expect("an answer");
    assert!(matches!(refused, WriteOutcome::Refused), "{refused:?}");
    done(store.write(&write, &mut one_more).await.expect("an answer"));
}

pub(crate) async fn a_key_is_free_again_when_its_request_was_given_up(store: Store) {
    let owner = guest("given up");
    let write = write_of(&owner);
    for polls in 0..12 {
        // Dropped after so many steps, wherever it stands then.
        let mut decide = one_more;
        let mut attempt = store.write(&write, &mut decide);
        for _ in 0..polls {
            if futures_util::poll!(attempt.as_mut()).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let outcome = store.write(&write, &mut one_more).await.expect("an answer");
    assert!(matches!(outcome, WriteOutcome::Done { .. } | WriteOutcome::Replayed { .. }), "{outcome:?}");
    let record = store.cart(&owner.cart_id()).await.expect("an answer").expect("a cart");
    assert_eq!((record.cart.quantity(), record.version), (1, version(1)), "it happened once");
}

pub(crate) async fn of_concurrent_writes_none_is_lost(store: Store) {
    let owner = guest("concurrent");
    let writes = (0..40).map(|_| {
        let (store, owner) = (Arc::clone(&store), owner.clone());
        tokio::spawn(
            async move { done(store.write(&write_of(&owner), &mut one_more).await.expect("an answer")) },
        )
    });
    let mut versions: Vec<u64> =
        join_all(writes).await.into_iter().map(|record| record.expect("no panic").version.version).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=40).collect::<Vec<_>>());
    let record = store.cart(&owner.cart_id()).await.expect("an answer").expect("a cart");
    assert_eq!(record.cart.quantity(), 40);
}

pub(crate) async fn of_one_request_many_times_at_once_one_is_done(store: Store) {
    let owner = guest("same key");
    let write = write_of(&owner);
    let decided = Arc::new(AtomicUsize::new(0));
    let attempts = (0..20).map(|_| {
        let (store, write, decided) = (Arc::clone(&store), write.clone(), Arc::clone(&decided));
        tokio::spawn(async move {
            let mut decide = |loaded| {
                decided.fetch_add(1, Ordering::Relaxed);
                one_more(loaded)
            };
            store.write(&write, &mut decide).await.expect("an answer")
        })
    });
    let outcomes: Vec<WriteOutcome> =
        join_all(attempts).await.into_iter().map(|it| it.expect("no panic")).collect();
    let count = |is: fn(&WriteOutcome) -> bool| outcomes.iter().filter(|outcome| is(outcome)).count();
    assert_eq!(count(|outcome| matches!(outcome, WriteOutcome::Done { .. })), 1);
    let others = count(|outcome| matches!(outcome, WriteOutcome::Replayed { .. } | WriteOutcome::InProgress));
    assert_eq!(others, 19, "{outcomes:?}");
    assert_eq!(decided.load(Ordering::Relaxed), 1);
}

pub(crate) async fn a_merge_ends_the_guests_cart(store: Store) {
    let (user, visitor) = (guest("user"), guest("visitor"));
    put_cart(&store, &user, cart_of(&[1])).await;
    let theirs = put_cart(&store, &visitor, cart_of(&[2, 3])).await;
    let mut write = write_of(&user);
    write.guest = Some((visitor.clone(), CartRecord::unused(&visitor, Currency::Sgd, 0)));
    let mut decide = |loaded: edge_host::store::Loaded| {
        let from = loaded.guest.expect("the guest's cart is loaded");
        assert_eq!(from, theirs);
        let answer = answer("merged", loaded.cart.version.next());
        Some(Commit { cart: from.cart, effect: Effect::Merged, answer })
    };
    let outcome = store.write(&write, &mut decide).await.expect("an answer");
    let WriteOutcome::Done { record, guest_version, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!((record.cart.quantity(), record.version), (5, version(2)));
    assert_eq!(guest_version, Some(theirs.version.next()));
    let ended =
        store.cart(&visitor.cart_id()).await.expect("an answer").expect("it stays, for its version's sake");
    assert_eq!((ended.state, ended.version), (CartState::Merged, theirs.version.next()));
    assert_eq!(ended.cart, Cart::empty(Currency::Sgd));
}

pub(crate) async fn what_is_loaded_is_what_carts_and_request_mention(store: Store) {
    let owner = guest("facts");
    for name in ["item-0", "asked", "unrelated"] {
        put_item(&*store, item(name, 5)).await;
    }
    for code in ["HELD", "TYPED", "UNRELATED"] {
        put_coupon(&*store, coupon(code)).await;
    }
    let cart = Cart { coupons: vec!["HELD".to_owned(), "GONE".to_owned()], ..cart_of(&[1, 1]) };
    put_cart(&store, &owner, cart).await;
    let mut write = write_of(&owner);
    write.item_ids = vec!["asked".to_owned(), "nowhere".to_owned(), "asked".to_owned()];
    write.coupon_codes = vec!["TYPED".to_owned()];
    let mut seen = None;
    let mut decide = |loaded: edge_host::store::Loaded| {
        seen = Some((loaded.items.clone(), loaded.coupons.clone()));
        None
    };
    store.write(&write, &mut decide).await.expect("an answer");
    let (mut items, mut coupons) = seen.expect("it was decided");
    items.sort_by(|a, b| a.item_id.cmp(&b.item_id));
    coupons.sort_by(|a, b| a.code.cmp(&b.code));
    assert_eq!(items, [item("asked", 5), item("item-0", 5)].map(Arc::new));
    assert_eq!(coupons, [coupon("HELD"), coupon("TYPED")].map(Arc::new));
    // Read alone they are the same.
    let alone = store.items(&["asked".to_owned(), "nowhere".to_owned()]).await.expect("an answer");
    assert_eq!(alone, [item("asked", 5)]);
    done(store.write(&write_of(&owner), &mut become_cart(cart_of(&[]))).await.expect("an answer"));
}
