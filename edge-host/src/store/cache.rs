//! What a region's cache keeps of a cart, and says of itself.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::model::{CartRecord, CartVersion, FeedPosition, Millis};
use crate::rules::Revision;

/// How far a cache has been told of changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheFeed {
    /// Of which epoch.
    pub epoch: u32,
    /// Up to where.
    pub position: FeedPosition,
}

/// What the cache knows of a cart, at a glance.
#[derive(Clone, Debug)]
pub struct Glance {
    /// The version of the cart, or its floor.
    pub version: CartVersion,
    /// Whether there is a cart, and not only a floor.
    pub full: bool,
    /// The document of this version, if it was rendered.
    pub document: Option<Arc<CartDocument>>,
    /// Whether this edge did not have to ask for it itself.
    pub near: bool,
}

/// What the cache knows of a cart.
#[derive(Clone, Debug)]
pub enum CacheEntry {
    /// All of it.
    Full(Arc<CartRecord>),
    /// Only that there is something as new as this: older data must not come in.
    Floor(CartVersion),
}

impl CacheEntry {
    /// The version it is of, or at least.
    pub fn version(&self) -> CartVersion {
        match self {
            Self::Full(record) => record.version,
            Self::Floor(version) => *version,
        }
    }
}

/// Leave to put one cart into the cache. It ends when the cache forgets what it knew of the cart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FillTicket {
    /// The cart.
    pub cart_id: String,
    /// Which life of the entry it is for.
    pub life: String,
}

/// A rendered cart, and what it was rendered from: it is good as long as that has not changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CartDocument {
    /// The version of the cart.
    pub version: CartVersion,
    /// The revision of the rules that priced it.
    pub rules: Revision,
    /// Every item and coupon of the cart with a fingerprint of its facts.
    pub facts: FactPrints,
    /// Until when it is good. Rules look at the time: coupons begin and end.
    pub good_until_ms: Millis,
    /// Fingerprint of the document and of whose it is. Made once, when the document is, because every read needs it.
    pub tag: String,
    /// The JSON.
    #[serde(skip)]
    pub body: Bytes,
}

/// What a document was rendered from: items by name and coupons by code, each with a fingerprint of its facts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactPrints {
    /// Items.
    pub items: Vec<(String, u64)>,
    /// Coupons that are known; others can become known.
    pub coupons: Vec<(String, Option<u64>)>,
}

/// Lines and units of a cart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CartCount {
    /// The version that was counted.
    pub version: CartVersion,
    /// Lines.
    pub lines: usize,
    /// Units.
    pub quantity: u64,
    /// Whether the cart went to a user.
    pub merged: bool,
}
