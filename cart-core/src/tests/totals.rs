//! Quotes add up, whatever the cart, the facts and the promotions.

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::generate::{cart, context, price_policy, promotions};
use crate::{
    Cart, CartRules, Currency, PricePolicy, PromotionKind, Rejection, StandardRules, TaxClass, TaxRule,
    percent_of, quote, tax_rule,
};

proptest! {
    #[test]
    fn every_quote_adds_up(
        cart in cart(), context in context(), policy in price_policy(), promotions in promotions()
    ) {
        let quote = quote(&cart, &context, policy, &promotions);
        prop_assert_eq!(quote.price_policy, policy);
        prop_assert_eq!(quote.verify(&cart), Ok(()));
        prop_assert!(quote.totals.total >= 0);
        prop_assert!(quote.totals.discount <= quote.totals.subtotal);
        for (quoted, line) in quote.lines.iter().zip(&cart.lines) {
            let item = context.item(&line.item_id);
            prop_assert_eq!(quoted.current_price, item.and_then(|item| item.price));
            prop_assert_eq!(quoted.unit_price, policy.unit_price(line, quoted.current_price, context.now_ms));
            prop_assert!(quoted.tax <= quoted.line_total - quoted.discount);
            if item.is_none_or(|item| item.tax_class == TaxClass::Zero) {
                prop_assert_eq!(quoted.tax, 0);
            }
        }
    }

    #[test]
    fn a_quote_changes_nothing_and_is_the_same_again(
        cart in cart(), context in context(), promotions in promotions()
    ) {
        let (before, facts) = (cart.clone(), context.clone());
        let first = quote(&cart, &context, PricePolicy::STORED, &promotions);
        prop_assert_eq!(&first, &quote(&cart, &context, PricePolicy::STORED, &promotions));
        prop_assert_eq!((cart, context), (before, facts));
    }

    #[test]
    fn promotions_come_in_the_order_of_their_kinds_and_then_coupons(
        cart in cart(), context in context(), promotions in promotions()
    ) {
        let stage = |code: &str| match promotions.iter().find(|promotion| promotion.code == code) {
            Some(promotion) => match promotion.kind {
                PromotionKind::Bundle { .. } => 0,
                PromotionKind::BuyXGetY { .. } => 1,
                PromotionKind::PercentOverThreshold { .. } => 2,
            },
            None => match context.coupon(code).map(|coupon| coupon.kind) {
                Some(crate::CouponKind::Percent(_)) => 3,
                _ => 4,
            },
        };
        let quoted = quote(&cart, &context, PricePolicy::STORED, &promotions);
        let stages: Vec<u8> = quoted.discounts.iter().map(|discount| stage(&discount.code)).collect();
        prop_assert!(stages.is_sorted(), "{:?}", quoted.discounts);
        // The order in which a merchant lists promotions of different kinds does not matter.
        let mut sorted = promotions.clone();
        sorted.sort_by_key(|promotion| stage(&promotion.code));
        prop_assert_eq!(quoted, quote(&cart, &context, PricePolicy::STORED, &sorted));
    }

    #[test]
    fn without_promotions_and_coupons_a_cart_costs_its_shelf_prices(cart in cart(), context in context()) {
        let plain = Cart { coupons: Vec::new(), ..cart };
        let quoted = quote(&plain, &context, PricePolicy::LOWER, &[]);
        let shelf: i64 = quoted.lines.iter().map(|line| line.line_total).sum();
        prop_assert_eq!((quoted.totals.subtotal, quoted.totals.discount), (shelf, 0));
        prop_assert_eq!(quoted.discounts, vec![]);
    }

    #[test]
    fn a_checkout_charges_the_quote_or_says_why_not(cart in cart(), context in context()) {
        match StandardRules.checkout(&cart, &context) {
            Ok(charged) => {
                prop_assert_eq!(&charged, &StandardRules.quote(&cart, &context));
                for line in &cart.lines {
                    let units: u32 = cart
                        .lines
                        .iter()
                        .filter(|other| other.item_id == line.item_id)
                        .map(|other| other.quantity)
                        .sum();
                    let item = context.item(&line.item_id);
                    prop_assert!(item.is_some_and(|item| item.price.is_some() && item.stock >= units));
                    prop_assert!(item.and_then(|item| item.quantity_max).is_none_or(|max| line.quantity <= max));
                }
            }
            Err(reasons) => {
                prop_assert!(!reasons.is_empty());
                let of_lines = reasons.iter().all(|reason| {
                    *reason == Rejection::CartEmpty || reason.line_id().is_some_and(|id| cart.line(id).is_some())
                });
                prop_assert!(of_lines, "{:?}", reasons);
            }
        }
    }

    #[test]
    fn percentages_round_half_to_even(minor in 0_i64..1_000_000_000_000_000, basis_points in 0_u32..=10_000) {
        let exact = i128::from(minor) * i128::from(basis_points);
        let (floor, rest) = (exact / 10_000, exact % 10_000);
        let expected = match rest.cmp(&5_000) {
            core::cmp::Ordering::Less => floor,
            core::cmp::Ordering::Greater => floor + 1,
            core::cmp::Ordering::Equal => floor + floor % 2,
        };
        prop_assert_eq!(i128::from(percent_of(minor, basis_points)), expected);
    }

    #[test]
    fn tax_inside_and_tax_on_top_round_half_to_even(net in 0_i64..1_000_000_000_000_000) {
        for currency in Currency::ALL {
            let rule: TaxRule = tax_rule(currency);
            let rate = i128::from(rule.rate_basis_points);
            let divisor = if rule.included { 10_000 + rate } else { 10_000 };
            let twice = 2 * i128::from(net) * rate;
            let (floor, rest) = (twice / (2 * divisor), twice % (2 * divisor));
            let expected = match rest.cmp(&divisor) {
                core::cmp::Ordering::Less => floor,
                core::cmp::Ordering::Greater => floor + 1,
                core::cmp::Ordering::Equal => floor + floor % 2,
            };
            prop_assert_eq!(i128::from(rule.tax(net, TaxClass::Standard)), expected, "{}", currency);
            prop_assert_eq!(rule.tax(net, TaxClass::Zero), 0);
        }
    }
}

#[test]
fn the_dearest_cart_there_can_be_still_adds_up() {
    use super::generate::{NOW_MS, item_id, line};
    use crate::{Context, Item, PrincipalKind, limits};
    for currency in Currency::ALL {
        let mut cart = Cart::empty(currency);
        for n in 0..limits::LINES_MAX {
            let at = NOW_MS + i64::try_from(n).unwrap();
            cart.lines.push(line(n, "", limits::QUANTITY_MAX, limits::PRICE_MINOR_MAX, at));
        }
        let item = |n| Item {
            item_id: item_id(n),
            title: item_id(n),
            price: Some(limits::PRICE_MINOR_MAX),
            stock: u32::MAX,
            quantity_max: None,
            tax_class: TaxClass::Standard,
            tags: vec!["b2g1".into(), "set-main".into(), "set-side".into(), "spend-save".into()],
        };
        let items = (0..limits::LINES_MAX).map(item).collect();
        let context = Context::new(NOW_MS, "sin".into(), PrincipalKind::User, items, vec![]);
        assert_eq!(cart.verify(), Ok(()));
        let quote = StandardRules.quote(&cart, &context);
        assert_eq!(quote.verify(&cart), Ok(()));
        assert_eq!(quote.totals.subtotal, 500 * 999 * limits::PRICE_MINOR_MAX);
        assert_eq!(StandardRules.checkout(&cart, &context), Ok(quote));
    }
}
