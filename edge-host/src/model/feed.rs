//! The stream of changes that regions follow.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{CartVersion, CouponRecord, ItemRecord, Millis};
use crate::raw_json::{Members, RawJson};

/// A change that the regions follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedEvent {
    /// Its place in the feed. Of two changes of one thing the later one has the later place.
    pub seq: u64,
    /// When it was committed.
    pub at_ms: Millis,
    /// What changed.
    pub change: Change,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", remote = "Self")]
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
    /// Something that only a later version knows. It is passed over.
    #[serde(skip)]
    Later(RawJson),
}

impl Change {
    /// What a known change is called.
    const NAMES: [&str; 4] = ["cart", "item", "coupon", "rules"];
}

impl Serialize for Change {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Later(change) => change.serialize(serializer),
            known => Self::serialize(known, serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Change {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let change = RawJson::deserialize(deserializer)?;
        let known = Self::deserialize(&mut serde_json::Deserializer::from_str(change.as_str()));
        let is_later = || {
            let members = Members::read(change.as_str()).ok();
            members.is_some_and(|members| {
                !members.0.iter().any(|(name, _)| Self::NAMES.contains(&name.as_str()))
            })
        };
        match known {
            Ok(known) => Ok(known),
            Err(_) if is_later() => Ok(Self::Later(change)),
            Err(error) => Err(serde::de::Error::custom(error)),
        }
    }
}

/// How far somebody has followed the feed: all up to `seq`, but for the gaps.
///
/// Places are given out when a transaction writes its event, and seen when it commits, so a later place may be
/// seen first. What is missing below `seq` is waited for as long as a transaction may take; then it was undone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedPosition {
    /// The last place that was seen.
    pub seq: u64,
    /// Places before it that were not.
    #[serde(default)]
    pub gaps: Vec<FeedGap>,
}

/// A place in the feed that was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedGap {
    /// The place.
    pub seq: u64,
    /// When it was first missed, by the primary's heartbeat: its time.
    pub since_ms: Millis,
    /// And its count. Edges of the version before wrote none.
    #[serde(default)]
    pub since_beat: u64,
}

impl FeedPosition {
    /// A place with nothing missing before it.
    pub const fn at(seq: u64) -> Self {
        Self { seq, gaps: Vec::new() }
    }

    /// Whether this place was seen.
    pub fn covers(&self, seq: u64) -> bool {
        seq <= self.seq && !self.gaps.iter().any(|gap| gap.seq == seq)
    }
}

/// A piece of the feed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FeedPage {
    /// What is new, in order; of two changes of one thing the later one comes later.
    pub events: Vec<FeedEvent>,
    /// How far the feed was followed when these are applied.
    pub position: FeedPosition,
    /// Whether there is more to be had at once.
    pub more: bool,
    /// The database's epoch; events of another one do not continue these.
    pub epoch: u32,
    /// The last beat of home's heart at that time: a replica that has a later one has all these events.
    #[serde(default)]
    pub beat: u64,
    /// Whether events after the asked-for position have already been swept away.
    pub lost: bool,
}

/// All that a region needs before it can follow the feed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CatalogueSnapshot {
    /// The position in the feed that the snapshot stands for.
    pub position: FeedPosition,
    /// The database's epoch.
    pub epoch: u32,
    /// Every item.
    pub items: Vec<ItemRecord>,
    /// Every coupon.
    pub coupons: Vec<CouponRecord>,
    /// The active rules, 64 hex digits.
    pub rules: Option<String>,
}
