//! The stream of changes that regions follow.

use serde::{Deserialize, Serialize};

use super::{CartVersion, CouponRecord, ItemRecord, Millis};

/// A change that the regions follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedEvent {
    /// Grows by the order of commits.
    pub seq: u64,
    /// When it was committed.
    pub at_ms: Millis,
    /// What changed.
    pub change: Change,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A cart is at this version now.
    Cart {
        /// The cart.
        cart_id: String,
        /// Nothing older may be shown any more.
        version: CartVersion,
    },
    /// An item is so now.
    Item(ItemRecord),
    /// A coupon is so now.
    Coupon(CouponRecord),
    /// These rules are active now.
    Rules {
        /// SHA-256 of the component, 64 hex digits.
        revision: String,
    },
}

/// A piece of the feed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FeedPage {
    /// In order, without gaps.
    pub events: Vec<FeedEvent>,
    /// The newest event there is.
    pub head: u64,
    /// The database's epoch; events of another one do not continue these.
    pub epoch: u32,
    /// Whether events after the asked-for place have already been swept away.
    pub lost: bool,
}

/// All that a region needs before it can follow the feed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CatalogueSnapshot {
    /// The feed's place that the snapshot stands for.
    pub seq: u64,
    /// The database's epoch.
    pub epoch: u32,
    /// Every item.
    pub items: Vec<ItemRecord>,
    /// Every coupon.
    pub coupons: Vec<CouponRecord>,
    /// The active rules, 64 hex digits.
    pub rules: Option<String>,
}
