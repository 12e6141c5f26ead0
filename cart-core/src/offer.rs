use alloc::string::String;
use alloc::vec::Vec;

use crate::param::Param;

/// A coupon of the cart, or a promotion that concerns one of its items, that gave nothing, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotApplied {
    /// The promotion's or the coupon's code.
    pub code: String,
    /// For the shopper.
    pub title: String,
    /// Stable, lower snake case: `threshold_not_met`, `items_missing`, `no_saving`, `nothing_left`, `expired`, ….
    pub reason: String,
    /// The reason in words for the shopper.
    pub detail: String,
    /// What a translation of `detail` needs.
    pub params: Vec<Param>,
}

/// The promotion that the cart is nearest to, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearest {
    /// The promotion's code.
    pub code: String,
    /// For the shopper.
    pub title: String,
    /// What the cart is short of.
    pub missing: Missing,
}

/// What a cart is short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Minor units of the cart's currency.
    Amount(i64),
    /// Units.
    Quantity(u32),
}
