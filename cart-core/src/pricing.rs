use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::cart::Cart;
use crate::context::{Context, CouponKind, CouponLapse};
use crate::money::{Currency, Money, allocate, percent_of};
use crate::promotion::{Promotion, Worksheet};
use crate::tax::{TaxClass, tax_rule};

/// A cart with today's prices. All amounts are minor units of the cart's currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// One for each line of the cart, in its order.
    pub lines: Vec<QuoteLine>,
    /// What was taken off, in the order it was taken; nothing that gave nothing.
    pub discounts: Vec<Discount>,
    /// The sums.
    pub totals: Totals,
    /// What the shopper should look at before paying.
    pub warnings: Vec<Warning>,
}

/// A line with today's price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteLine {
    /// The line of the cart.
    pub line_id: String,
    /// The price of one now; `None` when it is no longer sold in this currency.
    pub current_price: Option<i64>,
    /// Quantity × current price, before discounts; 0 for an item that is no longer sold.
    pub line_total: i64,
    /// The line's share of all discounts.
    pub discount: i64,
    /// The line's tax.
    pub tax: i64,
    /// Whether the whole quantity could be bought now.
    pub available: bool,
}

/// An amount taken off, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discount {
    /// The promotion's or the coupon's code.
    pub code: String,
    /// For the shopper.
    pub title: String,
    /// Above 0.
    pub amount: i64,
}

/// The sums of a quote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sum of the line totals.
    pub subtotal: i64,
    /// Sum of the discounts.
    pub discount: i64,
    /// Tax, whether it is in the prices or comes on top.
    pub tax: i64,
    /// Whether the prices contain the tax.
    pub tax_included: bool,
    /// What there is to pay: subtotal − discount, and + tax where prices do not contain it.
    pub total: i64,
}

/// Something the shopper should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Stable, lower snake case: `price_changed`, `stock_short`, `item_gone`, `coupon_…`.
    pub code: String,
    /// The line it is about.
    pub line_id: Option<String>,
    /// For the shopper.
    pub detail: String,
}

/// What is wrong with a quote that some rules returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteFault {
    /// Not exactly the cart's lines.
    #[error("the lines are not those of the cart")]
    Lines,
    /// A line total that is not quantity × current price.
    #[error("a line total is not quantity times price")]
    LineTotal,
    /// A negative amount, or a discount larger than what it is taken off.
    #[error("an amount is negative, or a discount is larger than the price")]
    Range,
    /// Sums that are not the sum of their parts.
    #[error("the totals do not add up")]
    Sum,
}

/// The standard price of a cart, with these promotions.
///
/// Stacking order: bundles, then buy-x-get-y, then percentages over a threshold; then coupons, percentages
/// before amounts, each in the order it was typed in. Every step works on what the steps before left to pay.
/// Tax is reckoned line by line on the net price. Everything rounds half-even to the currency's minor unit.
pub fn quote(cart: &Cart, context: &Context, promotions: &[Promotion]) -> Quote {
    let mut warnings = Vec::new();
    let mut sheet = worksheet(cart, context, &mut warnings);
    let line_totals = sheet.left.clone();
    let mut discounts = take_off_promotions(&mut sheet, promotions);
    discounts.extend(take_off_coupons(&mut sheet, cart, context, &mut warnings));

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
            current_price: item.and_then(|item| item.price),
            line_total: line_totals[at],
            discount,
            tax,
            available: item.is_some_and(|item| item.stock >= line.quantity),
        }
    });
    let lines = lines.collect();
    totals.total = totals.subtotal - totals.discount + if rule.included { 0 } else { totals.tax };
    Quote { lines, discounts, totals, warnings }
}

impl Quote {
    /// Checks that the quote is one of this cart and adds up, whoever made it.
    pub fn verify(&self, cart: &Cart) -> Result<(), QuoteFault> {
        let same_lines = self.lines.len() == cart.lines.len()
            && self.lines.iter().zip(&cart.lines).all(|(quoted, line)| quoted.line_id == line.line_id);
        if !same_lines {
            return Err(QuoteFault::Lines);
        }
        let mut sums = Sums::default();
        for (quoted, line) in self.lines.iter().zip(&cart.lines) {
            let price = quoted.current_price.unwrap_or(0);
            if price < 0 || quoted.discount < 0 || quoted.tax < 0 || quoted.discount > quoted.line_total {
                return Err(QuoteFault::Range);
            }
            if i128::from(quoted.line_total) != i128::from(price) * i128::from(line.quantity) {
                return Err(QuoteFault::LineTotal);
            }
            sums.line_totals += i128::from(quoted.line_total);
            sums.line_discounts += i128::from(quoted.discount);
            sums.taxes += i128::from(quoted.tax);
        }
        if self.discounts.iter().any(|discount| discount.amount <= 0) {
            return Err(QuoteFault::Range);
        }
        sums.discounts = self.discounts.iter().map(|discount| i128::from(discount.amount)).sum();
        let totals = &self.totals;
        let on_top = if totals.tax_included { 0 } else { i128::from(totals.tax) };
        let adds_up = i128::from(totals.subtotal) == sums.line_totals
            && i128::from(totals.discount) == sums.line_discounts
            && i128::from(totals.discount) == sums.discounts
            && i128::from(totals.tax) == sums.taxes
            && i128::from(totals.total) == sums.line_totals - sums.discounts + on_top;
        if adds_up { Ok(()) } else { Err(QuoteFault::Sum) }
    }
}

/// Wide enough that a hostile quote cannot overflow the check.
#[derive(Default)]
struct Sums {
    line_totals: i128,
    line_discounts: i128,
    taxes: i128,
    discounts: i128,
}

fn worksheet<'a>(cart: &Cart, context: &'a Context, warnings: &mut Vec<Warning>) -> Worksheet<'a> {
    let mut sheet = Worksheet {
        currency: cart.currency,
        items: Vec::with_capacity(cart.lines.len()),
        prices: Vec::with_capacity(cart.lines.len()),
        units: Vec::with_capacity(cart.lines.len()),
        left: Vec::with_capacity(cart.lines.len()),
    };
    for line in &cart.lines {
        let mut warn = |code: &str, detail: String| {
            warnings.push(Warning { code: code.to_string(), line_id: Some(line.line_id.clone()), detail });
        };
        let item = context.item(&line.item_id).filter(|item| item.price.is_some());
        let price = item.and_then(|item| item.price).unwrap_or(0);
        match item {
            None => warn("item_gone", format!("{} is no longer for sale", line.item_id)),
            Some(item) => {
                if price != line.unit_price {
                    warn("price_changed", price_changed(line.unit_price, price, cart.currency));
                }
                if item.stock < line.quantity {
                    warn("stock_short", format!("only {} of {} are left", item.stock, line.item_id));
                }
            }
        }
        sheet.items.push(item);
        sheet.prices.push(price);
        sheet.units.push(if item.is_some() { line.quantity } else { 0 });
        sheet.left.push(price * i64::from(line.quantity));
    }
    sheet
}

fn price_changed(from: i64, to: i64, currency: Currency) -> String {
    let (from, to) = (Money::new(from, currency).amount(), Money::new(to, currency).amount());
    format!("the price went from {from} to {to} {currency} since it was added")
}

fn take_off_promotions(sheet: &mut Worksheet<'_>, promotions: &[Promotion]) -> Vec<Discount> {
    let mut ordered: Vec<&Promotion> = promotions.iter().collect();
    ordered.sort_by_key(|promotion| promotion.kind.stage());
    let mut discounts = Vec::new();
    for promotion in ordered {
        let amount = promotion.take_off(sheet);
        if amount > 0 {
            discounts.push(Discount { code: promotion.code.clone(), title: promotion.title.clone(), amount });
        }
    }
    discounts
}

fn take_off_coupons(
    sheet: &mut Worksheet<'_>,
    cart: &Cart,
    context: &Context,
    warnings: &mut Vec<Warning>,
) -> Vec<Discount> {
    let mut percents = Vec::new();
    let mut amounts = Vec::new();
    for code in &cart.coupons {
        let coupon = context.coupon(code);
        let lapse = coupon.map(|coupon| coupon.lapse(context.now_ms));
        let (code_of_warning, why) = match lapse {
            Some(None) => {
                if let Some(coupon) = coupon {
                    match coupon.kind {
                        CouponKind::Percent(basis_points) => percents.push((code, basis_points)),
                        CouponKind::Amount(minor) => amounts.push((code, minor)),
                        CouponKind::OtherCurrency => {}
                    }
                }
                continue;
            }
            None => ("coupon_gone", "is no longer offered"),
            Some(Some(CouponLapse::NotStarted)) => ("coupon_not_started", "is not valid yet"),
            Some(Some(CouponLapse::Expired)) => ("coupon_expired", "has expired"),
            Some(Some(CouponLapse::Exhausted)) => ("coupon_exhausted", "has been used up"),
            Some(Some(CouponLapse::OtherCurrency)) => ("coupon_currency", "is for another currency"),
        };
        let detail = format!("coupon {code} {why}");
        warnings.push(Warning { code: code_of_warning.to_string(), line_id: None, detail });
    }
    let mut discounts = Vec::new();
    let mut give = |code: &String, title: String, amount: i64, sheet: &mut Worksheet<'_>| {
        let parts = allocate(amount, &sheet.left);
        let amount = sheet.take_off(&parts);
        if amount > 0 {
            discounts.push(Discount { code: code.clone(), title, amount });
        }
    };
    for (code, basis_points) in percents {
        let left = sheet.left.iter().sum();
        let title = format!("coupon {code}: {} off", percent_text(basis_points));
        give(code, title, percent_of(left, basis_points.min(10_000)), sheet);
    }
    for (code, minor) in amounts {
        let left: i64 = sheet.left.iter().sum();
        let money = Money::new(minor, cart.currency);
        let title = format!("coupon {code}: {} {} off", money.amount(), money.currency);
        give(code, title, minor.min(left), sheet);
    }
    discounts
}

fn percent_text(basis_points: u32) -> String {
    match (basis_points / 100, basis_points % 100) {
        (whole, 0) => format!("{whole} %"),
        (whole, part) if part % 10 == 0 => format!("{whole}.{} %", part / 10),
        (whole, part) => format!("{whole}.{part:02} %"),
    }
}
