//! Each kind of promotion, with numbers reckoned by hand.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::slice::from_ref;

use super::generate::{NOW_MS, item_id, line};
use crate::{
    Cart, Context, Coupon, CouponKind, Currency, Item, PricePolicy, PriceTable, PrincipalKind, Promotion,
    PromotionKind, Quote, TaxClass, quote,
};

/// Price, quantity and tags of one line; the item is named after its place.
type Shelf<'a> = &'a [(i64, u32, &'a [&'a str])];

fn shop_in(
    currency: Currency,
    shelf: Shelf<'_>,
    coupons: &[(&str, CouponKind)],
    promotions: &[PromotionKind],
) -> Quote {
    let mut cart = Cart::empty(currency);
    let mut items = Vec::new();
    for (n, (price, quantity, tags)) in shelf.iter().enumerate() {
        let at = NOW_MS + i64::try_from(n).unwrap();
        cart.lines.push(line(n, "", *quantity, *price, at));
        items.push(Item {
            item_id: item_id(n),
            title: item_id(n),
            price: Some(*price),
            stock: 1000,
            quantity_max: None,
            tax_class: TaxClass::Standard,
            tags: tags.iter().map(ToString::to_string).collect(),
        });
    }
    cart.coupons = coupons.iter().map(|(code, _)| code.to_string()).collect();
    let coupon = |(code, kind): &(&str, CouponKind)| Coupon::new(*code, *kind);
    let coupons = coupons.iter().map(coupon).collect();
    let context = Context::new(NOW_MS, "sin".to_string(), PrincipalKind::Guest, items, coupons);
    let promotion = |(n, kind): (usize, &PromotionKind)| Promotion {
        code: alloc::format!("promo-{n}"),
        title: "A promotion".to_string(),
        kind: kind.clone(),
    };
    let promotions: Vec<Promotion> = promotions.iter().enumerate().map(promotion).collect();
    let quote = quote(&cart, &context, PricePolicy::STORED, &promotions);
    assert_eq!(quote.verify(&cart), Ok(()));
    quote
}

fn shop(shelf: Shelf<'_>, promotions: &[PromotionKind]) -> Quote {
    shop_in(Currency::Sgd, shelf, &[], promotions)
}

/// What was taken off in all, and of each line.
#[track_caller]
fn check(quote: &Quote, discount: i64, of_lines: &[i64]) {
    let found: Vec<i64> = quote.lines.iter().map(|line| line.discount).collect();
    assert_eq!((quote.totals.discount, found.as_slice()), (discount, of_lines), "{quote:#?}");
}

fn sgd(minor: i64) -> PriceTable {
    vec![(Currency::Sgd, minor)]
}

fn bundle(tags: &[&str], minor: i64) -> PromotionKind {
    PromotionKind::Bundle { tags: tags.iter().map(ToString::to_string).collect(), price: sgd(minor) }
}

fn buy_get(tag: &str, buy: u32, free: u32) -> PromotionKind {
    PromotionKind::BuyXGetY { tag: tag.to_string(), buy, free }
}

fn percent_over(tag: Option<&str>, threshold: i64, basis_points: u32) -> PromotionKind {
    PromotionKind::PercentOverThreshold {
        tag: tag.map(ToString::to_string),
        threshold: sgd(threshold),
        basis_points,
    }
}

#[test]
fn a_bundle_costs_its_price_and_its_saving_is_shared_by_price() {
    let meal = bundle(&["main", "side"], 1000);
    // 8.00 + 4.00 for 10.00: 2.00 saved, two thirds of it on the main.
    check(&shop(&[(800, 1, &["main"]), (400, 1, &["side"])], from_ref(&meal)), 200, &[133, 67]);
    // Two bundles, and one main left over: 4.00 saved.
    check(&shop(&[(800, 3, &["main"]), (400, 2, &["side"])], from_ref(&meal)), 400, &[267, 133]);
    // The dearer side goes first: 8.00 + 5.00 and 8.00 + 4.00 save 3.00 and 2.00; the last side stays.
    let sides = [(800, 2, &["main"] as &[&str]), (400, 2, &["side"]), (500, 1, &["side"])];
    check(&shop(&sides, from_ref(&meal)), 500, &[185 + 133, 67, 115]);
    // A bundle that would cost more than its parts is none.
    check(&shop(&[(500, 1, &["main"]), (400, 1, &["side"])], from_ref(&meal)), 0, &[0, 0]);
    check(&shop(&[(600, 1, &["main"]), (400, 1, &["side"])], from_ref(&meal)), 0, &[0, 0]);
    // Without a side there is none either, nor in a currency without a price.
    check(&shop(&[(800, 9, &["main"])], from_ref(&meal)), 0, &[0]);
    let ringgit = shop_in(Currency::Myr, &[(800, 1, &["main"]), (400, 1, &["side"])], &[], &[meal]);
    check(&ringgit, 0, &[0, 0]);
}

#[test]
fn one_item_can_be_two_parts_of_a_bundle_with_two_of_its_units() {
    let pair = bundle(&["sock", "sock"], 500);
    check(&shop(&[(300, 1, &["sock"])], from_ref(&pair)), 0, &[0]);
    check(&shop(&[(300, 5, &["sock"])], from_ref(&pair)), 200, &[200]);
    check(&shop(&[(300, 1, &["sock"]), (400, 1, &["sock"])], &[pair]), 200, &[86, 114]);
}

#[test]
fn of_buy_two_get_one_the_cheapest_are_free() {
    let b2g1 = buy_get("tea", 2, 1);
    check(&shop(&[(500, 2, &["tea"])], from_ref(&b2g1)), 0, &[0]);
    check(&shop(&[(500, 3, &["tea"])], from_ref(&b2g1)), 500, &[500]);
    check(&shop(&[(500, 5, &["tea"])], from_ref(&b2g1)), 500, &[500]);
    check(&shop(&[(500, 2, &["tea"]), (300, 4, &["tea"])], from_ref(&b2g1)), 600, &[0, 600]);
    check(&shop(&[(500, 5, &["tea"]), (300, 1, &["tea"])], from_ref(&b2g1)), 800, &[500, 300]);
    check(&shop(&[(500, 2, &["tea"]), (100, 7, &["coffee"])], &[b2g1]), 0, &[0, 0]);
    check(&shop(&[(500, 4, &["tea"])], &[buy_get("tea", 0, 1)]), 2000, &[2000]);
    check(&shop(&[(500, 4, &["tea"])], &[buy_get("tea", 1, 0)]), 0, &[0]);
    check(&shop(&[(500, 4, &["tea"])], &[buy_get("tea", 0, 0)]), 0, &[0]);
}

#[test]
fn a_percentage_begins_exactly_at_its_threshold() {
    let ten = percent_over(None, 10_000, 1000);
    check(&shop(&[(9_999, 1, &[])], from_ref(&ten)), 0, &[0]);
    check(&shop(&[(10_000, 1, &[])], from_ref(&ten)), 1000, &[1000]);
    // 100.05 × 10 % = 10.005, half to even: 10.00. Shared by price: 6.67 and 3.33.
    check(&shop(&[(6_670, 1, &[]), (3_335, 1, &[])], &[ten]), 1000, &[667, 333]);
    let tagged = percent_over(Some("tv"), 10_000, 2500);
    check(&shop(&[(9_000, 1, &["tv"]), (9_000, 1, &[])], from_ref(&tagged)), 0, &[0, 0]);
    check(&shop(&[(9_000, 2, &["tv"]), (9_000, 1, &[])], &[tagged]), 4500, &[4500, 0]);
    // More than all of it is all of it.
    check(&shop(&[(777, 1, &[])], &[percent_over(None, 0, 99_999)]), 777, &[777]);
}

#[test]
fn a_unit_takes_part_in_one_promotion_and_percentages_see_what_is_left() {
    let all = [percent_over(None, 1000, 1000), buy_get("tea", 2, 1), bundle(&["tea", "cake"], 700)];
    let shelf = [(500, 4, &["tea"] as &[&str]), (400, 1, &["cake"])];
    // The bundle: 5.00 + 4.00 for 7.00 saves 2.00 (1.11 and 0.89). Of the three teas left one is free: 5.00.
    // What is left to pay, 24.00 − 7.00 = 17.00, is over 10.00: 10 % of it, on 13.89 and 3.11.
    let quote = shop(&shelf, &all);
    let codes: Vec<&str> = quote.discounts.iter().map(|discount| discount.code.as_str()).collect();
    assert_eq!(codes, ["promo-2", "promo-1", "promo-0"]);
    let amounts: Vec<i64> = quote.discounts.iter().map(|discount| discount.amount).collect();
    assert_eq!(amounts, [200, 500, 170]);
    check(&quote, 870, &[111 + 500 + 139, 89 + 31]);
    assert_eq!(quote.totals.total, 1530);
}

#[test]
fn coupons_come_after_promotions_percentages_before_amounts() {
    let coupons = [
        ("AMOUNT", CouponKind::Amount(300)),
        ("TEN", CouponKind::Percent(1000)),
        ("FIVE", CouponKind::Percent(500)),
        ("WRONG", CouponKind::OtherCurrency),
    ];
    let half = percent_over(None, 0, 5000);
    // 200.00 − 50 % = 100.00; − 10 % = 90.00; − 5 % = 85.50; − 3.00 = 82.50.
    let quote = shop_in(Currency::Sgd, &[(20_000, 1, &[])], &coupons, &[half]);
    let taken: Vec<(&str, i64)> =
        quote.discounts.iter().map(|discount| (discount.code.as_str(), discount.amount)).collect();
    assert_eq!(taken, [("promo-0", 10_000), ("TEN", 1000), ("FIVE", 450), ("AMOUNT", 300)]);
    assert_eq!(quote.totals.total, 8_250);
    // GST inside 82.50: × 9 / 109 = 6.8119…
    assert_eq!(quote.totals.tax, 681);
    let warnings: Vec<&str> = quote.warnings.iter().map(|warning| warning.code.as_str()).collect();
    assert_eq!(warnings, ["coupon_currency"]);
}

#[test]
fn tax_is_reckoned_line_by_line_on_what_is_left_to_pay() {
    // Three lines of 0.05 each: 0.05 × 9 / 109 = 0.0041 → 0.00 each; together it would have been 0.01.
    let quote = shop(&[(5, 1, &[]), (5, 1, &[]), (5, 1, &[])], &[]);
    assert_eq!((quote.totals.tax, quote.totals.total), (0, 15));
    // On top in Malaysia: half of 9.95 is 4.975, to even 4.98; of the 4.97 left 10 % are 0.497, so 0.50.
    let coupons = [("HALF", CouponKind::Percent(5000))];
    let ringgit = shop_in(Currency::Myr, &[(995, 1, &[])], &coupons, &[]);
    assert_eq!(ringgit.totals.discount, 498);
    assert_eq!((ringgit.totals.tax, ringgit.totals.total), (50, 547));
    // No decimals in Vietnam: 8 / 108 of 45 001 is 3 333.4…
    let dong = shop_in(Currency::Vnd, &[(45_001, 1, &[])], &[], &[]);
    assert_eq!((dong.totals.tax, dong.totals.total), (3_333, 45_001));
}
