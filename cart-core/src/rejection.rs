use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::limits;
use crate::param::{self, Param};

/// The rules said no. Not an error: nothing broke, and the shopper is told why.
///
/// [`code`](Self::code) is part of the public contract; the text may be reworded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The catalogue has no such item.
    #[error("there is no item {item_id}")]
    ItemUnknown {
        /// The item asked for.
        item_id: String,
    },
    /// The item has no price in the cart's currency.
    #[error("item {item_id} is not sold in {currency}")]
    ItemNotSold {
        /// The item asked for.
        item_id: String,
        /// The cart's currency.
        currency: crate::Currency,
    },
    /// The item of a line has left the catalogue.
    #[error("item {item_id} is no longer for sale")]
    ItemGone {
        /// The line it stands in.
        line_id: String,
        /// The item.
        item_id: String,
    },
    /// Too few units are left.
    #[error("only {stock} of item {item_id} are left")]
    OutOfStock {
        /// The line, when the cart has one.
        line_id: Option<String>,
        /// The item.
        item_id: String,
        /// Units left.
        stock: u32,
    },
    /// Zero or too many units.
    #[error("a quantity is between 1 and {max}", max = limits::QUANTITY_MAX)]
    QuantityOutOfRange,
    /// More units than the merchant allows of this item.
    #[error("at most {quantity_max} of item {item_id} in one cart line")]
    QuantityAboveItemMax {
        /// The line, when the cart has one.
        line_id: Option<String>,
        /// The item.
        item_id: String,
        /// The merchant's limit.
        quantity_max: u32,
    },
    /// A variant beyond [`limits::VARIANT_BYTES_MAX`].
    #[error("a variant has at most {max} bytes", max = limits::VARIANT_BYTES_MAX)]
    VariantTooLarge,
    /// Variants beyond [`limits::VARIANTS_BYTES_MAX`] in one cart.
    #[error("the variants of a cart have at most {max} bytes together", max = limits::VARIANTS_BYTES_MAX)]
    VariantsTooLarge,
    /// The cart has no such line.
    #[error("the cart has no line {line_id}")]
    LineUnknown {
        /// The line asked for.
        line_id: String,
    },
    /// A cart beyond [`limits::LINES_MAX`].
    #[error("a cart has at most {max} lines", max = limits::LINES_MAX)]
    TooManyLines,
    /// There is no such coupon.
    #[error("there is no coupon {code}")]
    CouponUnknown {
        /// The code typed in.
        code: String,
    },
    /// The coupon's time has not come.
    #[error("coupon {code} is not valid yet")]
    CouponNotStarted {
        /// The code typed in.
        code: String,
    },
    /// The coupon's time is over.
    #[error("coupon {code} has expired")]
    CouponExpired {
        /// The code typed in.
        code: String,
    },
    /// The coupon was used as often as it may be.
    #[error("coupon {code} has been used up")]
    CouponExhausted {
        /// The code typed in.
        code: String,
    },
    /// The coupon is worth an amount of another currency.
    #[error("coupon {code} is for another currency")]
    CouponCurrency {
        /// The code typed in.
        code: String,
    },
    /// A cart beyond [`limits::COUPONS_MAX`].
    #[error("a cart has at most {max} coupons", max = limits::COUPONS_MAX)]
    TooManyCoupons,
    /// Two carts of different currencies, both with lines.
    #[error("a cart in {from} cannot be merged into one in {into}")]
    CurrencyMismatch {
        /// The guest cart's currency.
        from: crate::Currency,
        /// The user cart's currency.
        into: crate::Currency,
    },
    /// Checkout of a cart without lines.
    #[error("the cart is empty")]
    CartEmpty,
    /// A rule developer's own.
    #[error("{detail}")]
    Custom {
        /// Stable, lower snake case.
        code: String,
        /// For the shopper.
        detail: String,
        /// The line it is about.
        line_id: Option<String>,
        /// What a translation of `detail` needs.
        params: Vec<Param>,
    },
}

impl Rejection {
    /// The stable code, lower snake case.
    pub fn code(&self) -> &str {
        match self {
            Self::ItemUnknown { .. } => "item_unknown",
            Self::ItemNotSold { .. } => "item_not_sold",
            Self::ItemGone { .. } => "item_gone",
            Self::OutOfStock { .. } => "out_of_stock",
            Self::QuantityOutOfRange => "quantity_out_of_range",
            Self::QuantityAboveItemMax { .. } => "quantity_above_item_max",
            Self::VariantTooLarge => "variant_too_large",
            Self::VariantsTooLarge => "variants_too_large",
            Self::LineUnknown { .. } => "line_unknown",
            Self::TooManyLines => "too_many_lines",
            Self::CouponUnknown { .. } => "coupon_unknown",
            Self::CouponNotStarted { .. } => "coupon_not_started",
            Self::CouponExpired { .. } => "coupon_expired",
            Self::CouponExhausted { .. } => "coupon_exhausted",
            Self::CouponCurrency { .. } => "coupon_currency",
            Self::TooManyCoupons => "too_many_coupons",
            Self::CurrencyMismatch { .. } => "currency_mismatch",
            Self::CartEmpty => "cart_empty",
            Self::Custom { code, .. } => code,
        }
    }

    /// What a translation of the text needs.
    pub fn params(&self) -> Vec<Param> {
        match self {
            Self::ItemUnknown { item_id } | Self::ItemGone { item_id, .. } => {
                vec![Param::text("item_id", item_id)]
            }
            Self::ItemNotSold { item_id, currency } => {
                vec![Param::text("item_id", item_id), Param::text("currency", currency.code())]
            }
            Self::OutOfStock { item_id, stock, .. } => {
                vec![Param::text("item_id", item_id), Param::number("stock", *stock)]
            }
            Self::QuantityAboveItemMax { item_id, quantity_max, .. } => {
                vec![Param::text("item_id", item_id), Param::number("quantity_max", *quantity_max)]
            }
            Self::QuantityOutOfRange => vec![Param::number("quantity_max", limits::QUANTITY_MAX)],
            Self::CouponUnknown { code }
            | Self::CouponNotStarted { code }
            | Self::CouponExpired { code }
            | Self::CouponExhausted { code }
            | Self::CouponCurrency { code } => vec![Param::text("code", code)],
            Self::CurrencyMismatch { from, into } => {
                vec![Param::text("from", from.code()), Param::text("into", into.code())]
            }
            Self::Custom { params, .. } => params.clone(),
            Self::VariantTooLarge
            | Self::VariantsTooLarge
            | Self::LineUnknown { .. }
            | Self::TooManyLines
            | Self::TooManyCoupons
            | Self::CartEmpty => param::NONE,
        }
    }

    /// The line it is about, when it is about one.
    pub fn line_id(&self) -> Option<&str> {
        match self {
            Self::ItemGone { line_id, .. } | Self::LineUnknown { line_id } => Some(line_id),
            Self::OutOfStock { line_id, .. }
            | Self::QuantityAboveItemMax { line_id, .. }
            | Self::Custom { line_id, .. } => line_id.as_deref(),
            _ => None,
        }
    }
}
