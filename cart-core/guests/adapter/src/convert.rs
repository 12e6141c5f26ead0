//! Field by field, in both directions.

use cart_core as core;

use crate::wit;

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

impl From<core::Currency> for wit::Currency {
    fn from(currency: core::Currency) -> Self {
        match currency {
            core::Currency::Sgd => Self::Sgd,
            core::Currency::Myr => Self::Myr,
            core::Currency::Idr => Self::Idr,
            core::Currency::Thb => Self::Thb,
            core::Currency::Vnd => Self::Vnd,
            core::Currency::Php => Self::Php,
        }
    }
}

impl From<wit::Cart> for core::Cart {
    fn from(cart: wit::Cart) -> Self {
        Self {
            currency: cart.currency.into(),
            lines: cart.lines.into_iter().map(Into::into).collect(),
            coupons: cart.coupons,
        }
    }
}

impl From<core::Cart> for wit::Cart {
    fn from(cart: core::Cart) -> Self {
        Self {
            currency: cart.currency.into(),
            lines: cart.lines.into_iter().map(Into::into).collect(),
            coupons: cart.coupons,
        }
    }
}

impl From<wit::Line> for core::Line {
    fn from(line: wit::Line) -> Self {
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

impl From<core::Line> for wit::Line {
    fn from(line: core::Line) -> Self {
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

impl From<wit::Context> for core::Context {
    fn from(context: wit::Context) -> Self {
        let principal = match context.principal {
            wit::PrincipalKind::Guest => core::PrincipalKind::Guest,
            wit::PrincipalKind::User => core::PrincipalKind::User,
        };
        let items = context.items.into_iter().map(Into::into).collect();
        let coupons = context.coupons.into_iter().map(Into::into).collect();
        let mut facts = Self::new(context.now_ms, context.region, principal, items, coupons);
        facts.settings = context.settings;
        facts.metadata = context.metadata;
        facts
    }
}

impl From<wit::Item> for core::Item {
    fn from(item: wit::Item) -> Self {
        Self {
            item_id: item.item_id,
            title: item.title,
            price: item.price,
            stock: item.stock,
            quantity_max: item.quantity_max,
            tax_class: match item.tax_class {
                wit::TaxClass::Standard => core::TaxClass::Standard,
                wit::TaxClass::Zero => core::TaxClass::Zero,
            },
            tags: item.tags,
        }
    }
}

impl From<wit::Coupon> for core::Coupon {
    fn from(coupon: wit::Coupon) -> Self {
        Self {
            code: coupon.code,
            kind: match coupon.kind {
                wit::CouponKind::Percent(basis_points) => core::CouponKind::Percent(basis_points),
                wit::CouponKind::Amount(minor) => core::CouponKind::Amount(minor),
                wit::CouponKind::OtherCurrency => core::CouponKind::OtherCurrency,
            },
            starts_at_ms: coupon.starts_at_ms,
            ends_at_ms: coupon.ends_at_ms,
            redemptions_left: coupon.redemptions_left,
            owner_redemptions_left: coupon.owner_redemptions_left,
            budget_left: coupon.budget_left,
            group: coupon.group,
            exclusive: coupon.exclusive,
            priority: coupon.priority,
        }
    }
}

impl From<wit::Command> for core::Command {
    fn from(command: wit::Command) -> Self {
        match command {
            wit::Command::Add(add) => {
                Self::Add { item_id: add.item_id, quantity: add.quantity, variant: add.variant }
            }
            wit::Command::SetQuantity(set) => {
                Self::SetQuantity { line_id: set.line_id, quantity: set.quantity }
            }
            wit::Command::Remove(line_id) => Self::Remove { line_id },
            wit::Command::Clear => Self::Clear,
            wit::Command::ApplyCoupon(code) => Self::ApplyCoupon { code },
            wit::Command::RemoveCoupon(code) => Self::RemoveCoupon { code },
            wit::Command::Merge(merge) => Self::Merge {
                from: merge.source.into(),
                policy: match merge.policy {
                    wit::MergePolicy::Max => core::MergePolicy::Max,
                    wit::MergePolicy::Sum => core::MergePolicy::Sum,
                    wit::MergePolicy::Replace => core::MergePolicy::Replace,
                },
            },
            wit::Command::RefreshPrice(line_id) => Self::RefreshPrice { line_id },
        }
    }
}

impl From<core::Applied> for wit::Applied {
    fn from(applied: core::Applied) -> Self {
        Self { cart: applied.cart.into(), warnings: applied.warnings.into_iter().map(Into::into).collect() }
    }
}

fn params(params: Vec<core::Param>) -> Vec<wit::Param> {
    let param = |core::Param { name, value }| wit::Param {
        name,
        value: match value {
            core::ParamValue::Text(text) => wit::ParamValue::Text(text),
            core::ParamValue::Number(number) => wit::ParamValue::Number(number),
            core::ParamValue::Money(minor) => wit::ParamValue::Money(minor),
            core::ParamValue::Percent(basis_points) => wit::ParamValue::Percent(basis_points),
        },
    };
    params.into_iter().map(param).collect()
}

impl From<core::Rejection> for wit::Rejection {
    fn from(rejection: core::Rejection) -> Self {
        Self {
            code: rejection.code().to_string(),
            detail: rejection.to_string(),
            line_id: rejection.line_id().map(ToString::to_string),
            params: params(rejection.params()),
        }
    }
}

impl From<core::Quote> for wit::CartQuote {
    fn from(quote: core::Quote) -> Self {
        let core::Totals { subtotal, discount, tax, tax_included, total } = quote.totals;
        Self {
            price_policy: quote.price_policy.into(),
            lines: quote.lines.into_iter().map(Into::into).collect(),
            discounts: quote.discounts.into_iter().map(Into::into).collect(),
            not_applied: quote.not_applied.into_iter().map(Into::into).collect(),
            nearest: quote.nearest.map(Into::into),
            totals: wit::Totals { subtotal, discount, tax, tax_included, total },
            warnings: quote.warnings.into_iter().map(Into::into).collect(),
            good_until_ms: quote.good_until_ms,
        }
    }
}

impl From<core::PricePolicy> for wit::PricePolicy {
    fn from(policy: core::PricePolicy) -> Self {
        let basis = match policy.basis {
            core::PriceBasis::Stored => wit::PriceBasis::Stored,
            core::PriceBasis::Current => wit::PriceBasis::Current,
            core::PriceBasis::Lower => wit::PriceBasis::LowerOfBoth,
        };
        Self { basis, hold_ms: policy.hold_ms }
    }
}

impl From<core::NotApplied> for wit::NotApplied {
    fn from(not_applied: core::NotApplied) -> Self {
        let core::NotApplied { code, title, reason, detail, params } = not_applied;
        Self { code, title, reason, detail, params: self::params(params) }
    }
}

impl From<core::Nearest> for wit::Nearest {
    fn from(nearest: core::Nearest) -> Self {
        let missing = match nearest.missing {
            core::Missing::Amount(minor) => wit::Missing::Amount(minor),
            core::Missing::Quantity(units) => wit::Missing::Quantity(units),
        };
        Self { code: nearest.code, title: nearest.title, missing }
    }
}

impl From<core::QuoteLine> for wit::QuoteLine {
    fn from(line: core::QuoteLine) -> Self {
        let core::QuoteLine { line_id, unit_price, current_price, line_total, discount, tax, available } =
            line;
        Self { line_id, unit_price, current_price, line_total, discount, tax, available }
    }
}

impl From<core::Discount> for wit::Discount {
    fn from(discount: core::Discount) -> Self {
        let core::Discount { code, title, amount, params } = discount;
        Self { code, title, amount, params: self::params(params) }
    }
}

impl From<core::Warning> for wit::Warning {
    fn from(warning: core::Warning) -> Self {
        let core::Warning { code, line_id, detail, params } = warning;
        Self { code, line_id, detail, params: self::params(params) }
    }
}

impl From<core::Manifest> for wit::Manifest {
    fn from(manifest: core::Manifest) -> Self {
        let core::Manifest { name, version, description } = manifest;
        Self { name, version, description }
    }
}
