//! Carts, facts, promotions and commands of every kind, mostly small, now and then at a limit.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::{
    Cart, Command, Context, Coupon, CouponKind, Currency, Item, Line, MergePolicy, PriceBasis, PricePolicy,
    PriceTable, PrincipalKind, Promotion, PromotionKind, TaxClass, limits, line_id,
};

pub(super) const NOW_MS: i64 = 1_800_000_000_000;
const ITEMS: usize = 8;
const COUPONS: usize = 6;
const TAGS: [&str; 6] = ["set-main", "set-side", "set-drink", "b2g1", "spend-save", "mega"];
const VARIANTS: [&str; 3] = ["", r#"{"size":"M"}"#, r#"{"size":"L"}"#];

pub(super) fn item_id(n: usize) -> String {
    format!("item-{n}")
}

pub(super) fn currency() -> impl Strategy<Value = Currency> {
    select(Currency::ALL.as_slice())
}

fn price() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => 0_i64..10_000,
        3 => 0_i64..100_000_000,
        1 => Just(limits::PRICE_MINOR_MAX),
        1 => Just(1),
    ]
}

fn quantity() -> impl Strategy<Value = u32> {
    prop_oneof![6 => 1_u32..6, 2 => 1_u32..=limits::QUANTITY_MAX, 1 => Just(limits::QUANTITY_MAX)]
}

fn item(n: usize) -> impl Strategy<Value = Item> {
    let tags = subsequence(TAGS.as_slice(), 0..=3);
    let tax_class = prop_oneof![3 => Just(TaxClass::Standard), 1 => Just(TaxClass::Zero)];
    let stock = prop_oneof![1 => Just(0_u32), 2 => 1_u32..10, 4 => Just(1_000_000)];
    let quantity_max = proptest::option::weighted(0.2, 1_u32..20);
    let price = proptest::option::weighted(0.9, price());
    (price, stock, quantity_max, tax_class, tags).prop_map(
        move |(price, stock, quantity_max, tax_class, tags)| {
            let tags = tags.iter().map(ToString::to_string).collect();
            Item {
                item_id: item_id(n),
                title: format!("Item {n}"),
                price,
                stock,
                quantity_max,
                tax_class,
                tags,
            }
        },
    )
}

fn coupon(n: usize) -> impl Strategy<Value = Coupon> {
    let kind = prop_oneof![
        3 => (0_u32..=10_000).prop_map(CouponKind::Percent),
        3 => price().prop_map(CouponKind::Amount),
        1 => Just(CouponKind::OtherCurrency),
    ];
    let near = || proptest::option::weighted(0.3, NOW_MS - 2..NOW_MS + 2);
    let left = proptest::option::weighted(0.3, 0_u32..3);
    (kind, near(), near(), left).prop_map(move |(kind, starts_at_ms, ends_at_ms, redemptions_left)| Coupon {
        starts_at_ms,
        ends_at_ms,
        redemptions_left,
        ..Coupon::new(format!("CODE{n}"), kind)
    })
}

/// Facts in which some items and coupons of a cart are missing.
pub(super) fn context() -> impl Strategy<Value = Context> {
    let items: Vec<_> = (0..ITEMS).map(|n| proptest::option::weighted(0.9, item(n))).collect();
    let coupons: Vec<_> = (0..COUPONS - 1).map(coupon).collect();
    (items, coupons).prop_map(|(items, coupons)| {
        let items = items.into_iter().flatten().collect();
        Context::new(NOW_MS, "sin".to_string(), PrincipalKind::Guest, items, coupons)
    })
}

pub(super) fn line(n: usize, variant: &str, quantity: u32, added_price: i64, added_at_ms: i64) -> Line {
    Line {
        line_id: line_id(&item_id(n), variant),
        item_id: item_id(n),
        quantity,
        variant: variant.to_string(),
        added_price,
        added_at_ms,
        priced_at_ms: added_at_ms,
        updated_at_ms: added_at_ms,
    }
}

/// A cart as it may have come to be, under prices that may not be today's.
pub(super) fn cart_in(currency: Currency) -> impl Strategy<Value = Cart> {
    let parts = (0..ITEMS, select(VARIANTS.as_slice()), quantity(), price(), 1_i64..50, 0_i64..50);
    let lines = vec(parts, 0..10);
    let codes = subsequence((0..COUPONS).collect::<Vec<_>>(), 0..=4);
    (lines, codes).prop_map(move |(lines, codes)| {
        let mut cart = Cart::empty(currency);
        let mut added_at_ms = NOW_MS - 10_000;
        for (n, variant, quantity, added_price, later, priced_later) in lines {
            added_at_ms += later;
            let priced_at_ms = added_at_ms + priced_later;
            let line = Line { priced_at_ms, ..line(n, variant, quantity, added_price, added_at_ms) };
            if cart.line(&line.line_id).is_none() {
                cart.lines.push(line);
            }
        }
        cart.coupons = codes.into_iter().map(|n| format!("CODE{n}")).collect();
        cart
    })
}

pub(super) fn cart() -> impl Strategy<Value = Cart> {
    currency().prop_flat_map(cart_in)
}

fn tag() -> impl Strategy<Value = String> {
    select(TAGS.as_slice()).prop_map(ToString::to_string)
}

fn table() -> impl Strategy<Value = PriceTable> {
    (price(), subsequence(Currency::ALL.as_slice(), 4..=6))
        .prop_map(|(price, currencies)| currencies.into_iter().map(|currency| (currency, price)).collect())
}

fn promotion_kind() -> impl Strategy<Value = PromotionKind> {
    let basis_points = prop_oneof![4 => 0_u32..=10_000, 1 => Just(u32::MAX)];
    prop_oneof![
        (vec(tag(), 0..4), table()).prop_map(|(tags, price)| PromotionKind::Bundle { tags, price }),
        (tag(), 0_u32..4, 0_u32..4).prop_map(|(tag, buy, free)| PromotionKind::BuyXGetY { tag, buy, free }),
        (proptest::option::of(tag()), table(), basis_points).prop_map(|(tag, threshold, basis_points)| {
            PromotionKind::PercentOverThreshold { tag, threshold, basis_points }
        }),
    ]
}

pub(super) fn promotions() -> impl Strategy<Value = Vec<Promotion>> {
    vec(promotion_kind(), 0..6).prop_map(|kinds| {
        let promotion =
            |(n, kind)| Promotion { code: format!("promo-{n}"), title: format!("Promo {n}"), kind };
        kinds.into_iter().enumerate().map(promotion).collect()
    })
}

/// Policies with and without a hold, which is over for some lines of [`cart`], ends now for others, and goes on.
pub(super) fn price_policy() -> impl Strategy<Value = PricePolicy> {
    let basis = select([PriceBasis::Stored, PriceBasis::Current, PriceBasis::Lower].as_slice());
    (basis, proptest::option::weighted(0.6, 9_400_i64..10_100))
        .prop_map(|(basis, hold_ms)| PricePolicy { basis, hold_ms })
}

pub(super) fn policy() -> impl Strategy<Value = MergePolicy> {
    select([MergePolicy::Max, MergePolicy::Sum, MergePolicy::Replace].as_slice())
}

/// Commands that meet the carts of [`cart`]: sensible ones, and ones about what is not there.
pub(super) fn command() -> impl Strategy<Value = Command> {
    let line_of = || (0..ITEMS + 1, select(VARIANTS.as_slice())).prop_map(|(n, v)| line_id(&item_id(n), v));
    let any_quantity = || prop_oneof![4 => 0_u32..5, 1 => Just(limits::QUANTITY_MAX), 1 => Just(u32::MAX)];
    let code = || (0..COUPONS + 1).prop_map(|n| format!("CODE{n}"));
    prop_oneof![
        4 => (0..ITEMS + 1, any_quantity(), select(VARIANTS.as_slice())).prop_map(|(n, quantity, variant)| {
            Command::Add { item_id: item_id(n), quantity, variant: variant.to_string() }
        }),
        2 => (line_of(), any_quantity())
            .prop_map(|(line_id, quantity)| Command::SetQuantity { line_id, quantity }),
        2 => line_of().prop_map(|line_id| Command::Remove { line_id }),
        1 => Just(Command::Clear),
        2 => code().prop_map(|code| Command::ApplyCoupon { code }),
        1 => code().prop_map(|code| Command::RemoveCoupon { code }),
        1 => line_of().prop_map(|line_id| Command::RefreshPrice { line_id: Some(line_id) }),
        1 => Just(Command::RefreshPrice { line_id: None }),
        2 => (cart(), policy()).prop_map(|(from, policy)| Command::Merge { from, policy }),
    ]
}
