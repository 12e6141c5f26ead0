//! The records of `wit/1.0/cart.wit`. Components of this world know one price of an item, and charge it; the host
//! makes it mean the stored price.
//!
//! - A quote is asked for with the stored price in place of the catalogue's; what comes back as the current price
//!   is what one costs. An item that stands in two lines with different stored prices is charged at the lower one
//!   in both: this world has one price of an item, and another item id for one of the lines would be one that the
//!   rules do not know.
//! - A command is asked for with the catalogue's price. What the world does not know is added here, by the rules
//!   of `cart-core`: which price a line keeps, and since when.

use std::cmp::Reverse;
use std::collections::HashMap;

use cart_core as core;
use wasmtime::{AsContextMut, Result};

#[allow(
    missing_docs,
    unreachable_pub,
    clippy::allow_attributes_without_reason,
    clippy::needless_pass_by_value,
    reason = "generated"
)]
mod generated {
    wasmtime::component::bindgen!({
        path: "../cart-core/wit/1.0",
        world: "cart-rules",
        // Texts and lists are lowered from where they lie, without a copy on the host.
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

use generated::exports::troli::cart::rules as wit;

pub(super) use generated::{CartRules as Instance, CartRulesPre as InstancePre};

/// The interface that a component exports.
pub(super) const INTERFACE: &str = "troli:cart/rules@1.0.0";

pub(super) fn describe(store: impl AsContextMut, instance: &Instance) -> Result<core::Manifest> {
    let wit::Manifest { name, version, description } = instance.troli_cart_rules().call_describe(store)?;
    Ok(core::Manifest { name, version, description })
}

pub(super) fn apply(
    store: impl AsContextMut,
    instance: &Instance,
    cart: &core::Cart,
    command: &core::Command,
    context: &core::Context,
) -> Result<Result<core::Applied, core::Rejection>> {
    let theirs = match command {
        core::Command::Merge { from, .. } => CartParts::of(from),
        _ => CartParts::default(),
    };
    let Some(lowered) = lower_command(command, &theirs) else {
        return Ok(core::apply(cart.clone(), command, context));
    };
    let ours = CartParts::of(cart);
    let facts = Facts::of(context);
    let items = facts.items(context, None);
    let answer = instance.troli_cart_rules().call_apply(
        store,
        ours.cart(cart.currency),
        lowered,
        facts.context(context, &items),
    )?;
    Ok(answer.map(|after| lift_cart(after, cart, command, context).into()).map_err(Into::into))
}

pub(super) fn quote(
    store: impl AsContextMut,
    instance: &Instance,
    cart: &core::Cart,
    context: &core::Context,
) -> Result<core::Quote> {
    let parts = CartParts::of(cart);
    let facts = Facts::of(context);
    let items = facts.items(context, Some(&stored_prices(cart)));
    let rules = instance.troli_cart_rules();
    let quote = rules.call_quote(store, parts.cart(cart.currency), facts.context(context, &items))?;
    Ok(lift_quote(quote, cart, context))
}

pub(super) fn checkout(
    store: impl AsContextMut,
    instance: &Instance,
    cart: &core::Cart,
    context: &core::Context,
) -> Result<Result<core::Quote, Vec<core::Rejection>>> {
    let parts = CartParts::of(cart);
    let facts = Facts::of(context);
    let items = facts.items(context, Some(&stored_prices(cart)));
    let rules = instance.troli_cart_rules();
    let answer = rules.call_checkout(store, parts.cart(cart.currency), facts.context(context, &items))?;
    Ok(answer
        .map(|quote| lift_quote(quote, cart, context))
        .map_err(|reasons| reasons.into_iter().map(Into::into).collect()))
}

/// The price of each item of a cart in this world: the stored one, the lowest where its lines have several.
pub(in crate::rules) fn stored_prices(cart: &core::Cart) -> HashMap<&str, i64> {
    let mut prices = HashMap::with_capacity(cart.lines.len());
    for line in &cart.lines {
        let price = prices.entry(line.item_id.as_str()).or_insert(line.added_price);
        *price = line.added_price.min(*price);
    }
    prices
}

fn lift_cart(
    after: wit::CartResult,
    before: &core::Cart,
    command: &core::Command,
    context: &core::Context,
) -> core::Cart {
    let theirs = match command {
        core::Command::Merge { from, .. } => by_id(from),
        _ => HashMap::new(),
    };
    let ours = by_id(before);
    let lift = |line: wit::LineResult| {
        let sources = [ours.get(&*line.line_id).copied(), theirs.get(&*line.line_id).copied()];
        lift_line(line, sources, context)
    };
    core::Cart {
        currency: after.currency.into(),
        lines: after.lines.into_iter().map(lift).collect(),
        coupons: after.coupons,
    }
}

fn by_id(cart: &core::Cart) -> HashMap<&str, &core::Line> {
    cart.lines.iter().map(|line| (line.line_id.as_str(), line)).collect()
}

/// A line with the price that it keeps, and since when. One whose price is not of its sources stays as it is: the
/// check refuses it.
fn lift_line(
    line: wit::LineResult,
    sources: [Option<&core::Line>; 2],
    context: &core::Context,
) -> core::Line {
    let invented = sources.iter().flatten().all(|source| source.added_price != line.unit_price);
    let (added_price, priced_at_ms) = match sources {
        [None, None] => (line.unit_price, context.now_ms),
        [Some(source), _] | [None, Some(source)] if invented => (line.unit_price, source.priced_at_ms),
        [Some(ours), Some(theirs)] => {
            let age = |line: &&core::Line| (line.priced_at_ms, Reverse(line.added_price));
            let last = std::cmp::max_by_key(ours, theirs, age);
            (last.added_price, last.priced_at_ms)
        }
        [Some(ours), None] if line.quantity > ours.quantity => match context.price(&line.item_id) {
            Some(price) => (price, context.now_ms),
            None => (ours.added_price, ours.priced_at_ms),
        },
        [Some(only), None] | [None, Some(only)] => (only.added_price, only.priced_at_ms),
    };
    core::Line {
        line_id: line.line_id,
        item_id: line.item_id,
        quantity: line.quantity,
        variant: line.variant,
        added_price,
        added_at_ms: line.added_at_ms,
        priced_at_ms,
        updated_at_ms: line.updated_at_ms,
    }
}

/// A quote with the catalogue's prices put back. What it says of moved prices is said anew, for the same reason.
fn lift_quote(quote: wit::CartQuote, cart: &core::Cart, context: &core::Context) -> core::Quote {
    let wit::Totals { subtotal, discount, tax, tax_included, total } = quote.totals;
    let mut current = cart.lines.iter().map(|line| context.price(&line.item_id));
    let lines = quote.lines.into_iter().map(|line| core::QuoteLine {
        line_id: line.line_id,
        unit_price: line.current_price,
        current_price: current.next().flatten(),
        line_total: line.line_total,
        discount: line.discount,
        tax: line.tax,
        available: line.available,
    });
    let moved = cart.lines.iter().filter_map(|line| {
        let current = context.price(&line.item_id)?;
        core::price_warning(line, current, core::PricePolicy::STORED, cart.currency, context.now_ms)
    });
    let others = quote.warnings.into_iter().filter(|warning| warning.code != "price_changed");
    core::Quote {
        price_policy: core::PricePolicy::STORED,
        lines: lines.collect(),
        discounts: quote.discounts.into_iter().map(Into::into).collect(),
        not_applied: Vec::new(),
        nearest: None,
        totals: core::Totals { subtotal, discount, tax, tax_included, total },
        warnings: moved.chain(others.map(Into::into)).collect(),
        good_until_ms: None,
    }
}

/// A record of lists is lowered from slices, so the slices of a cart need an owner for the call.
#[derive(Default)]
struct CartParts<'a> {
    lines: Vec<wit::LineParam<'a>>,
    coupons: Vec<&'a str>,
}

impl<'a> CartParts<'a> {
    fn of(cart: &'a core::Cart) -> Self {
        Self {
            lines: cart.lines.iter().map(lower_line).collect(),
            coupons: cart.coupons.iter().map(String::as_str).collect(),
        }
    }

    fn cart(&'a self, currency: core::Currency) -> wit::CartParam<'a> {
        wit::CartParam { currency: lower_currency(currency), lines: &self.lines, coupons: &self.coupons }
    }
}

/// The same for a context. Tags of all items lie in one list, of which each item has its piece.
struct Facts<'a> {
    tags: Vec<&'a str>,
    coupons: Vec<wit::Coupon<'a>>,
}

impl<'a> Facts<'a> {
    fn of(context: &'a core::Context) -> Self {
        let tags = context.items().iter().flat_map(|item| &item.tags);
        Self {
            tags: tags.map(String::as_str).collect(),
            coupons: context.coupons().iter().map(lower_coupon).collect(),
        }
    }

    /// The items, at these prices where they are given.
    fn items(
        &'a self,
        context: &'a core::Context,
        prices: Option<&HashMap<&str, i64>>,
    ) -> Vec<wit::Item<'a>> {
        let mut rest = self.tags.as_slice();
        let with_tags = |item: &'a core::Item| {
            let (tags, others) = rest.split_at(item.tags.len());
            rest = others;
            let instead = prices.and_then(|prices| prices.get(&*item.item_id)).copied();
            let price = item.price.map(|price| instead.unwrap_or(price));
            lower_item(item, price, tags)
        };
        context.items().iter().map(with_tags).collect()
    }

    fn context(&'a self, context: &'a core::Context, items: &'a [wit::Item<'a>]) -> wit::Context<'a> {
        wit::Context {
            now_ms: context.now_ms,
            region: &context.region,
            principal: match context.principal {
                core::PrincipalKind::Guest => wit::PrincipalKind::Guest,
                core::PrincipalKind::User => wit::PrincipalKind::User,
            },
            items,
            coupons: &self.coupons,
        }
    }
}

fn lower_line(line: &core::Line) -> wit::LineParam<'_> {
    wit::LineParam {
        line_id: &line.line_id,
        item_id: &line.item_id,
        quantity: line.quantity,
        variant: &line.variant,
        unit_price: line.added_price,
        added_at_ms: line.added_at_ms,
        updated_at_ms: line.updated_at_ms,
    }
}

fn lower_item<'a>(item: &'a core::Item, price: Option<i64>, tags: &'a [&'a str]) -> wit::Item<'a> {
    wit::Item {
        item_id: &item.item_id,
        price,
        stock: item.stock,
        quantity_max: item.quantity_max,
        tax_class: match item.tax_class {
            core::TaxClass::Standard => wit::TaxClass::Standard,
            core::TaxClass::Zero => wit::TaxClass::Zero,
        },
        tags,
    }
}

fn lower_coupon(coupon: &core::Coupon) -> wit::Coupon<'_> {
    wit::Coupon {
        code: &coupon.code,
        kind: match coupon.kind {
            core::CouponKind::Percent(basis_points) => wit::CouponKind::Percent(basis_points),
            core::CouponKind::Amount(minor) => wit::CouponKind::Amount(minor),
            core::CouponKind::OtherCurrency => wit::CouponKind::OtherCurrency,
        },
        starts_at_ms: coupon.starts_at_ms,
        ends_at_ms: coupon.ends_at_ms,
        redemptions_left: coupon.redemptions_left,
    }
}

/// `None` for a command that this world does not know.
fn lower_command<'a>(command: &'a core::Command, merged: &'a CartParts<'a>) -> Option<wit::Command<'a>> {
    Some(match command {
        core::Command::Add { item_id, quantity, variant } => {
            wit::Command::Add(wit::Add { item_id, quantity: *quantity, variant })
        }
        core::Command::SetQuantity { line_id, quantity } => {
            wit::Command::SetQuantity(wit::SetQuantity { line_id, quantity: *quantity })
        }
        core::Command::Remove { line_id } => wit::Command::Remove(line_id),
        core::Command::Clear => wit::Command::Clear,
        core::Command::ApplyCoupon { code } => wit::Command::ApplyCoupon(code),
        core::Command::RemoveCoupon { code } => wit::Command::RemoveCoupon(code),
        core::Command::Merge { from, policy } => wit::Command::Merge(wit::Merge {
            source: merged.cart(from.currency),
            policy: match policy {
                core::MergePolicy::Max => wit::MergePolicy::Max,
                core::MergePolicy::Sum => wit::MergePolicy::Sum,
                core::MergePolicy::Replace => wit::MergePolicy::Replace,
            },
        }),
        core::Command::RefreshPrice { .. } => return None,
    })
}

fn lower_currency(currency: core::Currency) -> wit::Currency {
    match currency {
        core::Currency::Sgd => wit::Currency::Sgd,
        core::Currency::Myr => wit::Currency::Myr,
        core::Currency::Idr => wit::Currency::Idr,
        core::Currency::Thb => wit::Currency::Thb,
        core::Currency::Vnd => wit::Currency::Vnd,
        core::Currency::Php => wit::Currency::Php,
    }
}

impl From<wit::Currency> for core::Currency {
    fn from(currency: wit::Currency) -> Self {
        match currency {
            wit::Currency::Sgd => Self::Sgd,
            wit::Currency::Myr => Self::Myr,
            wit::Currency::Idr => Self::Idr,
            wit::Currency::Thb => Self::Thb,
            wit::Currency::Vnd => Self::Vnd,
            wit::Currency::Php => Self::Php,
        }
    }
}

impl From<wit::Rejection> for core::Rejection {
    /// The code is all that the host goes by, so it does not matter that a standard rejection comes back as a
    /// custom one of the same code.
    fn from(rejection: wit::Rejection) -> Self {
        let wit::Rejection { code, detail, line_id } = rejection;
        Self::Custom { code, detail, line_id, params: Vec::new() }
    }
}

impl From<wit::Discount> for core::Discount {
    fn from(discount: wit::Discount) -> Self {
        let wit::Discount { code, title, amount } = discount;
        Self { code, title, amount, params: Vec::new() }
    }
}

impl From<wit::Warning> for core::Warning {
    fn from(warning: wit::Warning) -> Self {
        let wit::Warning { code, line_id, detail } = warning;
        Self { code, line_id, detail, params: Vec::new() }
    }
}
