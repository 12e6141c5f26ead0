use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::cart::{Cart, Line};
use crate::context::{Context, Item};
use crate::coupon;
use crate::money::{Currency, Money};
use crate::offer::{Nearest, NotApplied};
use crate::param::Param;
use crate::price::{PriceBasis, PricePolicy};
use crate::promotion::{Given, Promotion, Unmet, Worksheet};
use crate::quote::{Discount, Quote, QuoteLine, Totals, Warning};
use crate::tax::{TaxClass, tax_rule};

/// The standard price of a cart: lines at the price of this policy, with these promotions.
///
/// Stacking order: bundles, then buy-x-get-y, then percentages over a threshold; then coupons, percentages
/// before amounts, each in the order it was typed in. Every step works on what the steps before left to pay.
/// Tax is computed line by line on the net price. Everything rounds half-even to the currency's minor unit.
pub fn quote(cart: &Cart, context: &Context, policy: PricePolicy, promotions: &[Promotion]) -> Quote {
    let mut warnings = Vec::new();
    let mut sheet = worksheet(cart, context, policy, &mut warnings);
    let line_totals = sheet.left.clone();
    let PromotionsTaken { mut discounts, mut not_applied, nearest } =
        take_off_promotions(&mut sheet, promotions);
    let coupons = coupon::take_off(&mut sheet, cart, context);
    discounts.extend(coupons.discounts);
    not_applied.extend(coupons.not_applied);
    warnings.extend(coupons.warnings);

    let rule = tax_rule(cart.currency);
    let mut totals = Totals { tax_included: rule.included, ..Totals::default() };
    let lines = cart.lines.iter().enumerate().map(|(at, line)| {
        let item = sheet.items[at];
        let tax = rule.tax(sheet.left[at], item.map_or(TaxClass::Zero, |item| item.tax_class));
        let discount = line_totals[at] - sheet.left[at];
        totals.subtotal += line_totals[at];
        totals.discount += discount;
        totals.tax += tax;
        QuoteLine {
            line_id: line.line_id.clone(),
            unit_price: item.map(|_| sheet.prices[at]),
            current_price: item.and_then(|item| item.price),
            line_total: line_totals[at],
            discount,
            tax,
            available: item.is_some_and(|item| item.stock >= line.quantity && !is_above_max(line, item)),
        }
    });
    let lines = lines.collect();
    totals.total = totals.subtotal - totals.discount + if rule.included { 0 } else { totals.tax };
    let good_until_ms = good_until_ms(cart, context, policy);
    Quote { price_policy: policy, lines, discounts, not_applied, nearest, totals, warnings, good_until_ms }
}

/// What a shopper is told of a price that has moved since it was stored: `price_updated` when the time is over
/// for which it was held, `price_changed` otherwise.
pub fn price_warning(
    line: &Line,
    current: i64,
    policy: PricePolicy,
    currency: Currency,
    now_ms: i64,
) -> Option<Warning> {
    if current == line.added_price {
        return None;
    }
    let (was, now) =
        (Money::new(line.added_price, currency).amount(), Money::new(current, currency).amount());
    let (code, detail) = if policy.basis == PriceBasis::Current || policy.holds(line, now_ms) {
        ("price_changed", format!("the price went from {was} to {now} {currency} since it was added"))
    } else {
        (
            "price_updated",
            format!("the price of {was} {currency} was held for a time that is over; it is {now} now"),
        )
    };
    let params = vec![Param::money("was", line.added_price), Param::money("now", current)];
    Some(warning(code, line, detail, params))
}

fn worksheet<'a>(
    cart: &Cart,
    context: &'a Context,
    policy: PricePolicy,
    warnings: &mut Vec<Warning>,
) -> Worksheet<'a> {
    let mut sheet = Worksheet {
        currency: cart.currency,
        items: Vec::with_capacity(cart.lines.len()),
        prices: Vec::with_capacity(cart.lines.len()),
        units: Vec::with_capacity(cart.lines.len()),
        left: Vec::with_capacity(cart.lines.len()),
    };
    for line in &cart.lines {
        let sold = context.item(&line.item_id).and_then(|item| Some((item, item.price?)));
        match sold {
            None => {
                let detail = format!("{} is no longer for sale", line.item_id);
                warnings.push(warning(
                    "item_gone",
                    line,
                    detail,
                    vec![Param::text("item_id", &line.item_id)],
                ));
            }
            Some((item, current)) => {
                warnings.extend(price_warning(line, current, policy, cart.currency, context.now_ms));
                warnings.extend(quantity_warnings(line, item));
            }
        }
        let price = sold.and_then(|(_, current)| policy.unit_price(line, Some(current), context.now_ms));
        let price = price.unwrap_or(0);
        sheet.items.push(sold.map(|(item, _)| item));
        sheet.prices.push(price);
        sheet.units.push(if sold.is_some() { line.quantity } else { 0 });
        sheet.left.push(price * i64::from(line.quantity));
    }
    sheet
}

fn quantity_warnings(line: &Line, item: &Item) -> impl Iterator<Item = Warning> {
    let short = (item.stock < line.quantity).then(|| {
        let detail = format!("only {} of {} are left", item.stock, item.title);
        let params = vec![Param::text("title", &item.title), Param::number("stock", item.stock)];
        warning("stock_short", line, detail, params)
    });
    let above = item.quantity_max.filter(|_| is_above_max(line, item)).map(|max| {
        let detail = format!("at most {max} of {} in one cart line", item.title);
        let params = vec![Param::text("title", &item.title), Param::number("quantity_max", max)];
        warning("quantity_above_item_max", line, detail, params)
    });
    [short, above].into_iter().flatten()
}

fn is_above_max(line: &Line, item: &Item) -> bool {
    item.quantity_max.is_some_and(|max| line.quantity > max)
}

fn warning(code: &str, line: &Line, detail: String, params: Vec<Param>) -> Warning {
    Warning { code: code.to_string(), line_id: Some(line.line_id.clone()), detail, params }
}

/// What became of the promotions.
struct PromotionsTaken {
    discounts: Vec<Discount>,
    not_applied: Vec<NotApplied>,
    nearest: Option<Nearest>,
}

fn take_off_promotions(sheet: &mut Worksheet<'_>, promotions: &[Promotion]) -> PromotionsTaken {
    let mut ordered: Vec<&Promotion> = promotions.iter().collect();
    ordered.sort_by_key(|promotion| promotion.kind.stage());
    let (mut discounts, mut not_applied) = (Vec::new(), Vec::new());
    let mut nearest: Option<(Unmet, &Promotion)> = None;
    for promotion in ordered {
        let (code, title) = (&promotion.code, &promotion.title);
        match promotion.take_off(sheet) {
            Given::Amount(amount) => {
                let params = promotion.params();
                discounts.push(Discount { code: code.clone(), title: title.clone(), amount, params });
            }
            Given::NotConcerned => {}
            Given::Nothing(why) => {
                let (reason, detail, params) = why.in_words(sheet.currency);
                let (code, title) = (code.clone(), title.clone());
                not_applied.push(NotApplied { code, title, reason: reason.to_string(), detail, params });
                if let Some(unmet) = why.unmet()
                    && nearest.is_none_or(|(best, _)| unmet.is_nearer_than(&best))
                {
                    nearest = Some((unmet, promotion));
                }
            }
        }
    }
    let nearest = nearest.map(|(unmet, promotion)| Nearest {
        code: promotion.code.clone(),
        title: promotion.title.clone(),
        missing: unmet.missing,
    });
    PromotionsTaken { discounts, not_applied, nearest }
}

/// The first moment at which this quote can change by time alone: a coupon begins or ends, or a price that
/// differs from the catalogue's is held no longer.
fn good_until_ms(cart: &Cart, context: &Context, policy: PricePolicy) -> Option<i64> {
    let coupons = cart.coupons.iter().filter_map(|code| context.coupon(code));
    let bounds = coupons.flat_map(|coupon| [coupon.starts_at_ms, coupon.ends_at_ms]).flatten();
    let moved = |line: &&Line| context.price(&line.item_id).is_some_and(|price| price != line.added_price);
    let held = policy.hold_ms.map(|_| cart.lines.iter().filter(moved));
    let ends = held.into_iter().flatten().filter_map(|line| policy.hold_ends_at_ms(line));
    bounds.chain(ends).filter(|at_ms| *at_ms > context.now_ms).min()
}
