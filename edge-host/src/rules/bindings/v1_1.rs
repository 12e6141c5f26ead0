//! The records of `wit/cart.wit`, world 1.1: calls go out borrowed, answers come back owned.

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
        path: "../cart-core/wit",
        world: "cart-rules",
        // Texts and lists are lowered from where they lie, without a copy on the host.
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

use generated::exports::troli::cart::rules as wit;

pub(super) use generated::{CartRules as Instance, CartRulesPre as InstancePre};

/// The interface that a component exports.
pub(super) const INTERFACE: &str = "troli:cart/rules@1.1.0";

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
    let ours = CartParts::of(cart);
    let theirs = match command {
        core::Command::Merge { from, .. } => CartParts::of(from),
        _ => CartParts::default(),
    };
    let facts = Facts::of(context);
    let items = facts.items(context);
    let answer = instance.troli_cart_rules().call_apply(
        store,
        ours.cart(cart.currency),
        lower_command(command, &theirs),
        facts.context(context, &items),
    )?;
    Ok(answer.map(Into::into).map_err(Into::into))
}

pub(super) fn quote(
    store: impl AsContextMut,
    instance: &Instance,
    cart: &core::Cart,
    context: &core::Context,
) -> Result<core::Quote> {
    let parts = CartParts::of(cart);
    let facts = Facts::of(context);
    let items = facts.items(context);
    let rules = instance.troli_cart_rules();
    Ok(rules.call_quote(store, parts.cart(cart.currency), facts.context(context, &items))?.into())
}

pub(super) fn checkout(
    store: impl AsContextMut,
    instance: &Instance,
    cart: &core::Cart,
    context: &core::Context,
) -> Result<Result<core::Quote, Vec<core::Rejection>>> {
    let parts = CartParts::of(cart);
    let facts = Facts::of(context);
    let items = facts.items(context);
    let rules = instance.troli_cart_rules();
    let answer = rules.call_checkout(store, parts.cart(cart.currency), facts.context(context, &items))?;
    Ok(answer.map(Into::into).map_err(|reasons| reasons.into_iter().map(Into::into).collect()))
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
    metadata: Vec<(&'a str, &'a str)>,
}

impl<'a> Facts<'a> {
    fn of(context: &'a core::Context) -> Self {
        let tags = context.items().iter().flat_map(|item| &item.tags);
        Self {
            tags: tags.map(String::as_str).collect(),
            coupons: context.coupons().iter().map(lower_coupon).collect(),
            metadata: context.metadata.iter().map(|(name, value)| (&**name, &**value)).collect(),
        }
    }

    fn items(&'a self, context: &'a core::Context) -> Vec<wit::Item<'a>> {
        let mut rest = self.tags.as_slice();
        let with_tags = |item: &'a core::Item| {
            let (tags, others) = rest.split_at(item.tags.len());
            rest = others;
            lower_item(item, tags)
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
            settings: &context.settings,
            metadata: &self.metadata,
        }
    }
}

fn lower_line(line: &core::Line) -> wit::LineParam<'_> {
    wit::LineParam {
        line_id: &line.line_id,
        item_id: &line.item_id,
        quantity: line.quantity,
        variant: &line.variant,
        added_price: line.added_price,
        added_at_ms: line.added_at_ms,
        priced_at_ms: line.priced_at_ms,
        updated_at_ms: line.updated_at_ms,
    }
}

fn lower_item<'a>(item: &'a core::Item, tags: &'a [&'a str]) -> wit::Item<'a> {
    wit::Item {
        item_id: &item.item_id,
        title: &item.title,
        price: item.price,
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
        owner_redemptions_left: coupon.owner_redemptions_left,
        budget_left: coupon.budget_left,
        group: coupon.group.as_deref(),
        exclusive: coupon.exclusive,
        priority: coupon.priority,
    }
}

fn lower_command<'a>(command: &'a core::Command, merged: &'a CartParts<'a>) -> wit::Command<'a> {
    match command {
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
        core::Command::RefreshPrice { line_id } => wit::Command::RefreshPrice(line_id.as_deref()),
    }
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

impl From<wit::CartResult> for core::Cart {
    fn from(cart: wit::CartResult) -> Self {
        let lines = cart.lines.into_iter().map(Into::into).collect();
        Self { currency: cart.currency.into(), lines, coupons: cart.coupons }
    }
}

impl From<wit::LineResult> for core::Line {
    fn from(line: wit::LineResult) -> Self {
        Self {
            line_id: line.line_id,
            item_id: line.item_id,
            quantity: line.quantity,
            variant: line.variant,
            added_price: line.added_price,
            added_at_ms: line.added_at_ms,
            priced_at_ms: line.priced_at_ms,
            updated_at_ms: line.updated_at_ms,
        }
    }
}

impl From<wit::Applied> for core::Applied {
    fn from(applied: wit::Applied) -> Self {
        let wit::Applied { cart, warnings } = applied;
        Self { cart: cart.into(), warnings: warnings.into_iter().map(Into::into).collect() }
    }
}

fn lift_params(params: Vec<wit::Param>) -> Vec<core::Param> {
    let param = |wit::Param { name, value }| core::Param {
        name,
        value: match value {
            wit::ParamValue::Text(text) => core::ParamValue::Text(text),
            wit::ParamValue::Number(number) => core::ParamValue::Number(number),
            wit::ParamValue::Money(minor) => core::ParamValue::Money(minor),
            wit::ParamValue::Percent(basis_points) => core::ParamValue::Percent(basis_points),
        },
    };
    params.into_iter().map(param).collect()
}

impl From<wit::Rejection> for core::Rejection {
    /// The code is all that the host goes by, so it does not matter that a standard rejection comes back as a
    /// custom one of the same code.
    fn from(rejection: wit::Rejection) -> Self {
        let wit::Rejection { code, detail, line_id, params } = rejection;
        Self::Custom { code, detail, line_id, params: lift_params(params) }
    }
}

impl From<wit::CartQuote> for core::Quote {
    fn from(quote: wit::CartQuote) -> Self {
        let wit::Totals { subtotal, discount, tax, tax_included, total } = quote.totals;
        Self {
            price_policy: quote.price_policy.into(),
            lines: quote.lines.into_iter().map(Into::into).collect(),
            discounts: quote.discounts.into_iter().map(Into::into).collect(),
            not_applied: quote.not_applied.into_iter().map(Into::into).collect(),
            nearest: quote.nearest.map(Into::into),
            totals: core::Totals { subtotal, discount, tax, tax_included, total },
            warnings: quote.warnings.into_iter().map(Into::into).collect(),
            good_until_ms: quote.good_until_ms,
        }
    }
}

impl From<wit::PricePolicy> for core::PricePolicy {
    fn from(policy: wit::PricePolicy) -> Self {
        let basis = match policy.basis {
            wit::PriceBasis::Stored => core::PriceBasis::Stored,
            wit::PriceBasis::Current => core::PriceBasis::Current,
            wit::PriceBasis::LowerOfBoth => core::PriceBasis::Lower,
        };
        Self { basis, hold_ms: policy.hold_ms }
    }
}

impl From<wit::NotApplied> for core::NotApplied {
    fn from(not_applied: wit::NotApplied) -> Self {
        let wit::NotApplied { code, title, reason, detail, params } = not_applied;
        Self { code, title, reason, detail, params: lift_params(params) }
    }
}

impl From<wit::Nearest> for core::Nearest {
    fn from(nearest: wit::Nearest) -> Self {
        let missing = match nearest.missing {
            wit::Missing::Amount(minor) => core::Missing::Amount(minor),
            wit::Missing::Quantity(units) => core::Missing::Quantity(units),
        };
        Self { code: nearest.code, title: nearest.title, missing }
    }
}

impl From<wit::QuoteLine> for core::QuoteLine {
    fn from(line: wit::QuoteLine) -> Self {
        let wit::QuoteLine { line_id, unit_price, current_price, line_total, discount, tax, available } =
            line;
        Self { line_id, unit_price, current_price, line_total, discount, tax, available }
    }
}

impl From<wit::Discount> for core::Discount {
    fn from(discount: wit::Discount) -> Self {
        let wit::Discount { code, title, amount, params } = discount;
        Self { code, title, amount, params: lift_params(params) }
    }
}

impl From<wit::Warning> for core::Warning {
    fn from(warning: wit::Warning) -> Self {
        let wit::Warning { code, line_id, detail, params } = warning;
        Self { code, line_id, detail, params: lift_params(params) }
    }
}
