//! The cart, pure.
//!
//! Nothing in this crate can open a socket, read a clock or roll a die: it is `no_std`, so the compiler
//! refuses. Everything a decision depends on comes in as an argument, and the same arguments give the same
//! answer in every region, natively and as a WebAssembly component.
//!
//! The words, in reading order:
//!
//! - [`Money`]: an amount in the minor units of a [`Currency`] (cents, or dong, which have none).
//! - [`Cart`]: what a shopper has put together, a list of [`Line`]s and the coupon codes typed in.
//! - [`Context`]: the facts a decision may use: the time, and the items and coupons the cart mentions.
//! - [`Command`]: what a shopper asks for; answered by a new cart or a [`Rejection`].
//! - [`Promotion`]: a merchant's rule. [`Discount`]: the amount that a promotion or a coupon takes off.
//! - [`PricePolicy`]: whether a line is charged at the price that was stored for it or at the catalogue's.
//! - [`Quote`]: a cart with what it costs: prices, discounts, tax, and warnings; also which coupons and
//!   promotions gave nothing ([`NotApplied`]), and the promotion that is nearest ([`Nearest`]).
//! - [`CartRules`]: all of it together; the default methods are the standard rules.
#![no_std]

extern crate alloc;

mod money;

mod cart;

mod context;

mod price;

mod param;

mod rejection;

mod command;

mod promotion;

mod tax;

mod offer;

mod quote;

mod coupon;

mod pricing;

mod checkout;

mod rules;

#[cfg(test)]
mod tests;

pub use cart::{Cart, CartFault, Line, line_id};
pub use command::{Applied, Command, MergePolicy, apply};
pub use context::{Context, Coupon, CouponKind, CouponLapse, Item, PrincipalKind};
pub use money::{Currency, Money, MoneyError, allocate, parse_decimal, percent_of};
pub use offer::{Missing, Nearest, NotApplied};
pub use param::{Param, ParamValue};
pub use price::{PriceBasis, PricePolicy};
pub use pricing::{price_warning, quote};
pub use promotion::{PriceTable, Promotion, PromotionKind};
pub use quote::{Discount, Quote, QuoteFault, QuoteLine, Totals, Warning};
pub use rejection::Rejection;
pub use rules::{CartRules, Manifest, StandardRules};
pub use tax::{TaxClass, TaxRule, tax_rule};

pub use checkout::checkout;

/// Limits that every cart keeps, whatever the rules.
///
/// They bound the work of one request: 500 lines are what the largest public cart API allows, and with
/// [`PRICE_MINOR_MAX`](limits::PRICE_MINOR_MAX) the dearest possible cart still fits an `i64` eighteen times.
pub mod limits {
    /// Lines in one cart.
    pub const LINES_MAX: usize = 500;
    /// Units in one line. Larger orders are a conversation with sales, not a cart.
    pub const QUANTITY_MAX: u32 = 999;
    /// Bytes of one line's variant, as canonical JSON.
    pub const VARIANT_BYTES_MAX: usize = 1024;
    /// Lists and objects inside each other in a variant. It stands seven deep in a page of orders, and the strictest
    /// common reader of JSON takes 64.
    pub const VARIANT_DEPTH_MAX: usize = 16;
    /// Bytes of all variants in one cart. Every read and every call of the rules carries them.
    pub const VARIANTS_BYTES_MAX: usize = 64 * 1024;
    /// Coupons in one cart.
    pub const COUPONS_MAX: usize = 20;
    /// Characters in an `item_id`.
    pub const ITEM_ID_CHARS_MAX: usize = 64;
    /// Characters in a coupon code.
    pub const COUPON_CODE_CHARS_MAX: usize = 64;
    /// Tags on one item.
    pub const TAGS_MAX: usize = 16;
    /// The dearest unit price, in minor units: ten billion of any currency with cents.
    pub const PRICE_MINOR_MAX: i64 = 1_000_000_000_000;
}
