//! What gave nothing and why, and what is nearest.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use super::generate::{NOW_MS, item_id, line};
use crate::{
    Cart, CartRules, Context, Coupon, CouponKind, Currency, Item, Missing, Param, PrincipalKind, Quote,
    StandardRules, TaxClass,
};

/// The standard rules' quote of items with this price, quantity and tag.
fn shop(shelf: &[(i64, u32, &str)], coupons: Vec<Coupon>) -> Quote {
    let mut cart = Cart::empty(Currency::Sgd);
    let mut items = Vec::new();
    for (n, (price, quantity, tag)) in shelf.iter().enumerate() {
        cart.lines.push(line(n, "", *quantity, *price, NOW_MS - 100));
        items.push(Item {
            item_id: item_id(n),
            title: item_id(n),
            price: Some(*price),
            stock: 1000,
            quantity_max: None,
            tax_class: TaxClass::Standard,
            tags: vec![tag.to_string()],
        });
    }
    cart.coupons = coupons.iter().map(|coupon| coupon.code.clone()).collect();
    cart.coupons.push("UNKNOWN".to_string());
    let context = Context::new(NOW_MS, "sin".to_string(), PrincipalKind::Guest, items, coupons);
    let quote = StandardRules.quote(&cart, &context);
    assert_eq!(quote.verify(&cart), Ok(()));
    quote
}

/// Code, reason and parameters of what was not applied, but for the coupon that there is not.
fn not_applied(quote: &Quote) -> Vec<(&str, &str, &[Param])> {
    let all = quote.not_applied.iter();
    let known = all.filter(|it| it.code != "UNKNOWN");
    known.map(|it| (it.code.as_str(), it.reason.as_str(), it.params.as_slice())).collect()
}

fn nearest(quote: &Quote) -> Option<(&str, Missing)> {
    quote.nearest.as_ref().map(|nearest| (nearest.code.as_str(), nearest.missing))
}

#[test]
fn what_concerns_no_item_of_the_cart_is_not_mentioned() {
    let quote = shop(&[(500, 2, "tea")], vec![]);
    assert_eq!(not_applied(&quote), []);
    assert_eq!(nearest(&quote), None);
    assert_eq!(not_applied(&shop(&[], vec![])), []);
}

#[test]
fn a_condition_that_is_not_met_says_how_far_it_is() {
    let missing = |units: u32| [Param::number("missing", units)];
    let quote = shop(&[(500, 2, "b2g1")], vec![]);
    assert_eq!(not_applied(&quote), [("b2g1", "items_missing", missing(1).as_slice())]);
    assert_eq!(nearest(&quote), Some(("b2g1", Missing::Quantity(1))));
    // One that gave something is not nearest any more.
    let quote = shop(&[(500, 3, "b2g1")], vec![]);
    assert_eq!((not_applied(&quote), nearest(&quote)), (vec![], None));

    let quote = shop(&[(800, 1, "set-main"), (300, 1, "set-drink")], vec![]);
    assert_eq!(not_applied(&quote), [("meal-set", "items_missing", missing(1).as_slice())]);
    assert_eq!(nearest(&quote), Some(("meal-set", Missing::Quantity(1))));
    // All of it is there, and costs no more than the meal.
    let quote = shop(&[(300, 1, "set-main"), (300, 1, "set-drink"), (300, 1, "set-side")], vec![]);
    assert_eq!(not_applied(&quote), [("meal-set", "no_saving", [].as_slice())]);
    assert_eq!(nearest(&quote), None);

    let quote = shop(&[(9_650, 1, "spend-save")], vec![]);
    assert_eq!(
        not_applied(&quote),
        [("spend-save", "threshold_not_met", [Param::money("missing", 350)].as_slice())]
    );
    assert_eq!(nearest(&quote), Some(("spend-save", Missing::Amount(350))));
}

#[test]
fn the_nearest_is_the_one_with_the_largest_part_done() {
    // Two thirds of one, against nine tenths and a half of the other.
    let quote = shop(&[(500, 2, "b2g1"), (9_000, 1, "spend-save")], vec![]);
    assert_eq!(nearest(&quote), Some(("spend-save", Missing::Amount(1_000))));
    let quote = shop(&[(500, 2, "b2g1"), (5_000, 1, "spend-save")], vec![]);
    assert_eq!(nearest(&quote), Some(("b2g1", Missing::Quantity(1))));
    assert_eq!(quote.not_applied.len(), 3, "both, and the coupon: {:?}", quote.not_applied);
}

#[test]
fn each_coupon_that_gave_nothing_has_its_reason() {
    let percent = |code: &str| Coupon::new(code, CouponKind::Percent(1000));
    let coupons = vec![
        percent("GIVES"),
        Coupon { starts_at_ms: Some(NOW_MS + 1), ..percent("EARLY") },
        Coupon { ends_at_ms: Some(NOW_MS), ..percent("LATE") },
        Coupon { redemptions_left: Some(0), ..percent("USED") },
        Coupon { owner_redemptions_left: Some(0), ..percent("MINE-USED") },
        Coupon::new("FOREIGN", CouponKind::OtherCurrency),
        Coupon::new("ALL", CouponKind::Amount(5_000)),
        Coupon::new("MORE", CouponKind::Amount(100)),
    ];
    let quote = shop(&[(1_000, 1, "tea")], coupons);
    let reasons: Vec<(&str, &str)> =
        quote.not_applied.iter().map(|it| (it.code.as_str(), it.reason.as_str())).collect();
    let expected = [
        ("EARLY", "not_started"),
        ("LATE", "expired"),
        ("USED", "exhausted"),
        ("MINE-USED", "exhausted"),
        ("FOREIGN", "other_currency"),
        ("UNKNOWN", "unknown"),
        ("MORE", "nothing_left"),
    ];
    assert_eq!(reasons, expected);
    let warned: Vec<&str> = quote.warnings.iter().map(|warning| warning.code.as_str()).collect();
    let expected = [
        "coupon_not_started",
        "coupon_expired",
        "coupon_exhausted",
        "coupon_exhausted",
        "coupon_currency",
        "coupon_gone",
    ];
    assert_eq!(
        warned, expected,
        "what was typed in and cannot be used; a cart that costs nothing is no trouble"
    );
    let params: Vec<&[Param]> = quote.discounts.iter().map(|discount| discount.params.as_slice()).collect();
    assert_eq!(
        params,
        [[Param::percent("percent", 1000)].as_slice(), [Param::money("amount", 5_000)].as_slice()]
    );
}
