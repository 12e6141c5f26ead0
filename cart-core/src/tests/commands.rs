//! Commands keep carts whole, whatever comes after what.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;

use super::generate::{cart, cart_in, command, context, currency, policy};
use crate::{
    Cart, CartRules, Command, Context, Currency, Line, MergePolicy, PrincipalKind, Rejection, StandardRules,
    apply, limits,
};

/// What a merge is about: which line has how many units.
fn units(cart: &Cart) -> BTreeMap<String, u32> {
    cart.lines.iter().map(|line| (line.line_id.clone(), line.quantity)).collect()
}

fn nothing() -> Context {
    Context::new(super::generate::NOW_MS, "sin".to_string(), PrincipalKind::User, Vec::new(), Vec::new())
}

fn after(cart: Cart, command: &Command, context: &Context) -> Result<Cart, Rejection> {
    apply(cart, command, context).map(|applied| applied.cart)
}

fn merged(into: &Cart, from: &Cart, policy: MergePolicy) -> Result<Cart, Rejection> {
    after(into.clone(), &Command::Merge { from: from.clone(), policy }, &nothing())
}

proptest! {
    #[test]
    fn no_sequence_of_commands_breaks_a_cart(
        start in cart(), commands in vec(command(), 1..20), context in context()
    ) {
        let mut cart = start;
        prop_assert_eq!(cart.verify(), Ok(()));
        for command in &commands {
            let before = cart.clone();
            match after(cart.clone(), command, &context) {
                Ok(after) => {
                    prop_assert_eq!(after.verify(), Ok(()), "after {:?}", command);
                    kept_promises(&before, command, &after, &context)?;
                    cart = after;
                }
                Err(rejection) => {
                    prop_assert!(!rejection.code().is_empty() && !rejection.to_string().is_empty());
                }
            }
            let quote = StandardRules.quote(&cart, &context);
            prop_assert_eq!(quote.verify(&cart), Ok(()), "after {:?}", command);
            prop_assert!(quote.totals.total >= 0);
        }
    }

    #[test]
    fn putting_in_and_taking_out_is_nothing(start in cart(), command in command(), context in context()) {
        let Command::Add { item_id, variant, .. } = &command else { return Ok(()) };
        let line_id = crate::line_id(item_id, variant);
        if start.line(&line_id).is_none() && let Ok(with) = after(start.clone(), &command, &context) {
            let without = after(with, &Command::Remove { line_id }, &context);
            prop_assert_eq!(without, Ok(start));
        }
    }

    #[test]
    fn coupons_are_a_set_in_the_order_of_typing(start in cart(), code in 0..7_usize, context in context()) {
        let code = alloc::format!("CODE{code}");
        let on = Command::ApplyCoupon { code: code.clone() };
        if let Ok(once) = after(start.clone(), &on, &context) {
            prop_assert!(once.coupons.contains(&code));
            prop_assert_eq!(after(once.clone(), &on, &context), Ok(once.clone()));
            let off = after(once, &Command::RemoveCoupon { code: code.clone() }, &context);
            let rest: Vec<String> = start.coupons.iter().filter(|held| **held != code).cloned().collect();
            prop_assert_eq!(off.map(|cart| cart.coupons), Ok(rest));
        }
    }

    #[test]
    fn merging_by_max_again_changes_nothing(
        (ours, theirs) in currency().prop_flat_map(|currency| (cart_in(currency), cart_in(currency)))
    ) {
        let once = merged(&ours, &theirs, MergePolicy::Max).unwrap();
        prop_assert_eq!(merged(&once, &theirs, MergePolicy::Max), Ok(once.clone()));
        prop_assert_eq!(merged(&once, &once, MergePolicy::Max), Ok(once));
    }

    #[test]
    fn merging_by_max_is_the_same_both_ways(
        (ours, theirs) in currency().prop_flat_map(|currency| (cart_in(currency), cart_in(currency)))
    ) {
        let one = merged(&ours, &theirs, MergePolicy::Max).unwrap();
        let other = merged(&theirs, &ours, MergePolicy::Max).unwrap();
        prop_assert_eq!(units(&one), units(&other));
        let promises = |cart: &Cart| -> Vec<(String, i64, i64, i64)> {
            let promise = |line: &Line| {
                (line.line_id.clone(), line.added_price, line.priced_at_ms, line.added_at_ms)
            };
            cart.lines.iter().map(promise).collect()
        };
        prop_assert_eq!(promises(&one), promises(&other), "lines stand in one order, with one promise each");
    }

    #[test]
    fn a_merge_keeps_every_line_of_both(
        (ours, theirs) in currency().prop_flat_map(|currency| (cart_in(currency), cart_in(currency))),
        policy in policy(),
    ) {
        let after = merged(&ours, &theirs, policy).unwrap();
        let (ours, theirs, after) = (units(&ours), units(&theirs), units(&after));
        for (line_id, quantity) in &after {
            let expected = match (ours.get(line_id), theirs.get(line_id), policy) {
                (Some(a), Some(b), MergePolicy::Max) => *a.max(b),
                (Some(a), Some(b), MergePolicy::Sum) => (a + b).min(limits::QUANTITY_MAX),
                (Some(_), Some(b), MergePolicy::Replace) => *b,
                (Some(only), None, _) | (None, Some(only), _) => *only,
                (None, None, _) => return Err(TestCaseError::fail("a line of nobody")),
            };
            prop_assert_eq!(*quantity, expected);
        }
        prop_assert!(ours.keys().chain(theirs.keys()).all(|line_id| after.contains_key(line_id)));
    }

    #[test]
    fn carts_of_two_currencies_merge_only_when_one_is_empty(
        ours in cart_in(Currency::Sgd), theirs in cart_in(Currency::Vnd), policy in policy()
    ) {
        let after = merged(&ours, &theirs, policy);
        if ours.lines.is_empty() {
            prop_assert_eq!(after.map(|cart| cart.currency), Ok(Currency::Vnd));
        } else if theirs.lines.is_empty() {
            prop_assert_eq!(after.map(|cart| cart.currency), Ok(Currency::Sgd));
        } else {
            let mismatch = Rejection::CurrencyMismatch { from: Currency::Vnd, into: Currency::Sgd };
            prop_assert_eq!(after, Err(mismatch));
        }
    }
}

/// No line but the one asked for changes its price, its time or its place, and none comes from nowhere.
fn kept_promises(
    before: &Cart,
    command: &Command,
    after: &Cart,
    context: &Context,
) -> Result<(), TestCaseError> {
    if matches!(command, Command::Merge { .. }) {
        return Ok(());
    }
    prop_assert_eq!(before.currency, after.currency);
    for line in &after.lines {
        let today = context.price(&line.item_id);
        match (before.line(&line.line_id), command) {
            (Some(held), _) => {
                prop_assert_eq!(held.added_at_ms, line.added_at_ms);
                let refreshed = match command {
                    Command::RefreshPrice { line_id: Some(line_id) } => *line_id == line.line_id,
                    Command::RefreshPrice { line_id: None } => today.is_some(),
                    _ => line.quantity > held.quantity,
                };
                let stored = if refreshed {
                    (today, context.now_ms)
                } else {
                    (Some(held.added_price), held.priced_at_ms)
                };
                prop_assert_eq!((Some(line.added_price), line.priced_at_ms), stored);
            }
            (None, Command::Add { item_id, quantity, .. }) => {
                prop_assert_eq!((&line.item_id, line.quantity), (item_id, *quantity));
                prop_assert_eq!((Some(line.added_price), line.priced_at_ms), (today, context.now_ms));
            }
            (None, other) => {
                return Err(TestCaseError::fail(alloc::format!("a line out of nowhere: {other:?}")));
            }
        }
    }
    // Two carts that became one may have lines of one moment; their names decide then, in every store alike.
    let place = |line: &Line| (line.added_at_ms, line.line_id.clone());
    prop_assert!(after.lines.iter().map(place).is_sorted(), "each after the one before");
    Ok(())
}
