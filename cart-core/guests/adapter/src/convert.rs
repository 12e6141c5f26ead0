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
        let wit::Line { line_id, item_id, quantity, variant, unit_price, added_at_ms, updated_at_ms } = line;
        Self { line_id, item_id, quantity, variant, unit_price, added_at_ms, updated_at_ms }
    }
}

impl From<core::Line> for wit::Line {
    fn from(line: core::Line) -> Self {
        let core::Line { line_id, item_id, quantity, variant, unit_price, added_at_ms, updated_at_ms } = line;
        Self { line_id, item_id, quantity, variant, unit_price, added_at_ms, updated_at_ms }
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
        Self::new(context.now_ms, context.region, principal, items, coupons)
    }
}

impl From<wit::Item> for core::Item {
    fn from(item: wit::Item) -> Self {
        Self {
            item_id: item.item_id,
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
        }
    }
}

impl From<core::Rejection> for wit::Rejection {
    fn from(rejection: core::Rejection) -> Self {
        Self {
            code: rejection.code().to_string(),
            detail: rejection.to_string(),
            line_id: rejection.line_id().map(ToString::to_string),
        }
    }
}

impl From<core::Quote> for wit::CartQuote {
    fn from(quote: core::Quote) -> Self {
        let core::Totals { subtotal, discount, tax, tax_included, total } = quote.totals;
        Self {
            lines: quote.lines.into_iter().map(Into::into).collect(),
            discounts: quote.discounts.into_iter().map(Into::into).collect(),
            totals: wit::Totals { subtotal, discount, tax, tax_included, total },
            warnings: quote.warnings.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<core::QuoteLine> for wit::QuoteLine {
    fn from(line: core::QuoteLine) -> Self {
        let core::QuoteLine { line_id, current_price, line_total, discount, tax, available } = line;
        Self { line_id, current_price, line_total, discount, tax, available }
    }
}

impl From<core::Discount> for wit::Discount {
    fn from(discount: core::Discount) -> Self {
        let core::Discount { code, title, amount } = discount;
        Self { code, title, amount }
    }
}

impl From<core::Warning> for wit::Warning {
    fn from(warning: core::Warning) -> Self {
        let core::Warning { code, line_id, detail } = warning;
        Self { code, line_id, detail }
    }
}

impl From<core::Manifest> for wit::Manifest {
    fn from(manifest: core::Manifest) -> Self {
        let core::Manifest { name, version, description } = manifest;
        Self { name, version, description }
    }
}
