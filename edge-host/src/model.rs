//! What the host keeps and passes around: records, not the rules' own types and not the public JSON.
//!
//! These types cross the wire between regions and lie in the stores, so they derive serde; the types of
//! `cart-core` do not, and are converted here ([`CartWire`]).

use std::fmt;
use std::str::FromStr;

use cart_core::{Cart, Currency, Line, PrincipalKind};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

mod catalogue;
mod feed;
mod kept;
mod seen;
mod write;

pub use catalogue::{CouponRecord, CouponValue, ItemRecord, OrderRecord, OrderState};
pub use feed::{CatalogueSnapshot, Change, FeedEvent, FeedGap, FeedPage, FeedPosition};
pub use kept::{Done, KeptAnswer};
pub use seen::{CartTag, Seen, SeenVersion};
pub use write::{
    CartCommand, MergePolicyWord, Operation, WriteAnswer, WriteReply, WriteRequest, WriteTiming,
};

/// Unix milliseconds.
pub type Millis = i64;

/// A guest and a cart live so long after the last change.
pub const CART_TTL_MS: Millis = 30 * 24 * 3600 * 1000;
/// An answer can be had again under its idempotency key for so long.
pub const IDEMPOTENCY_TTL_MS: Millis = 24 * 3600 * 1000;
/// The key that an edge makes for a client without one is only for the edge's own second try.
pub const MADE_KEY_TTL_MS: Millis = 5 * 60 * 1000;
/// Units in stock at most: a thousand million, and as much again still fits the column.
pub const STOCK_MAX: u32 = 1_000_000_000;
/// How long an order waits for its payment before its stock goes back.
pub const PAYMENT_TTL_MS: Millis = 15 * 60 * 1000;
/// The same for a guest's order, which holds stock for less time, because a new guest costs nothing. It is enough for a
/// payment by card, wallet or QR code.
pub const GUEST_PAYMENT_TTL_MS: Millis = 10 * 60 * 1000;

/// Who is calling, as proven by a verified token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Principal {
    /// Guest or user.
    pub kind: OwnerKind,
    /// Unique among its kind.
    pub id: String,
    /// The currency the token asks for; it decides for a cart that does not exist yet.
    pub currency: Option<CurrencyCode>,
}

/// Guest or user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OwnerKind {
    /// Nobody has signed in.
    Guest,
    /// The subject of a verified JWT.
    User,
}

/// Of a cart's id.
const CART_ID_BYTES: usize = 26;

impl Principal {
    /// The one cart of this principal. Derived, so that no region needs a look-up to find it.
    pub fn cart_id(&self) -> String {
        let digest = Sha256::new()
            .chain_update(b"troli cart\0")
            .chain_update(self.kind.as_str())
            .chain_update([0])
            .chain_update(&self.id)
            .finalize();
        let mut cart_id = String::with_capacity(CART_ID_BYTES);
        cart_id.push_str("c_");
        HEXLOWER.encode_append(&digest[..12], &mut cart_id);
        cart_id
    }

    /// What the rules may know of the principal.
    pub fn rules_kind(&self) -> PrincipalKind {
        match self.kind {
            OwnerKind::Guest => PrincipalKind::Guest,
            OwnerKind::User => PrincipalKind::User,
        }
    }
}

impl OwnerKind {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::User => "user",
        }
    }
}

/// A currency that is written as its ISO 4217 code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CurrencyCode(pub Currency);

impl Serialize for CurrencyCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.code())
    }
}

impl<'de> Deserialize<'de> for CurrencyCode {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        Currency::from_code(&code).map(Self).ok_or_else(|| {
            serde::de::Error::custom(format_args!(
                "unknown currency {code:?}: one of SGD, MYR, IDR, THB, VND, PHP is expected"
            ))
        })
    }
}

/// The version of a cart: it only grows. The epoch counts promotions of a server to the primary, those that lost nothing
/// included: a version of a past epoch may no longer exist, and never looks newer than the truth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CartVersion {
    /// The epoch of the home region's database.
    pub epoch: u32,
    /// Counts the writes of one cart.
    pub version: u64,
}

impl CartVersion {
    /// The version that the next write makes.
    pub const fn next(self) -> Self {
        Self { version: self.version + 1, ..self }
    }
}

impl fmt::Display for CartVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.version)
    }
}

/// The text is not `epoch.version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cart version such as 1.17")]
pub struct MalformedVersion;

impl FromStr for CartVersion {
    type Err = MalformedVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match Self::parse_tagged(text)? {
            (version, None) => Ok(version),
            (_, Some(_)) => Err(MalformedVersion),
        }
    }
}

impl CartVersion {
    /// Reads `epoch.version` or `epoch.version.tag`, and returns the tag as it stands.
    pub fn parse_tagged(text: &str) -> Result<(Self, Option<&str>), MalformedVersion> {
        let number = |part: &str| part.len() <= 15 && part.bytes().all(|b| b.is_ascii_digit());
        let mut parts = text.splitn(3, '.');
        let (Some(epoch), Some(version)) = (parts.next(), parts.next()) else { return Err(MalformedVersion) };
        if !number(epoch) || !number(version) {
            return Err(MalformedVersion);
        }
        let version = Self {
            epoch: epoch.parse().map_err(|_| MalformedVersion)?,
            version: version.parse().map_err(|_| MalformedVersion)?,
        };
        Ok((version, parts.next()))
    }
}

impl Serialize for CartVersion {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CartVersion {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A cart as the home region has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CartRecord {
    /// Derived from the principal.
    pub cart_id: String,
    /// What the cart is up to.
    pub state: CartState,
    /// Grows with every write.
    pub version: CartVersion,
    /// Lines and coupons.
    #[serde(with = "cart_wire")]
    pub cart: Cart,
    /// When it was last written; `None` for a cart that never was.
    pub updated_at_ms: Option<Millis>,
    /// When it is swept away unless it is written again.
    pub expires_at_ms: Option<Millis>,
}

/// What a cart is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CartState {
    /// In use.
    Active,
    /// A guest's cart that went to a user. It stays so.
    Merged,
}

impl CartState {
    /// The word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Merged => "merged",
        }
    }
}

impl CartRecord {
    /// The cart of somebody who has not used it yet.
    pub fn unused(principal: &Principal, currency_default: Currency, epoch: u32) -> Self {
        let currency = principal.currency.map_or(currency_default, |code| code.0);
        Self {
            cart_id: principal.cart_id(),
            state: CartState::Active,
            version: CartVersion { epoch, version: 0 },
            cart: Cart::empty(currency),
            updated_at_ms: None,
            expires_at_ms: None,
        }
    }
}

/// A cart as it travels between regions.
#[derive(Serialize, Deserialize)]
pub struct CartWire {
    currency: CurrencyCode,
    lines: Vec<LineWire>,
    coupons: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct LineWire {
    line_id: String,
    item_id: String,
    quantity: u32,
    variant: String,
    /// Known by this name to the version before.
    #[serde(rename = "unit_price")]
    added_price: i64,
    added_at_ms: Millis,
    /// The version before has none: it kept the price of the time when the line was added.
    #[serde(default)]
    priced_at_ms: Option<Millis>,
    updated_at_ms: Millis,
}

mod cart_wire {
    use super::{Cart, CartWire, CurrencyCode, Deserialize, Line, LineWire, Serialize};

    pub(super) fn serialize<S: serde::Serializer>(cart: &Cart, serializer: S) -> Result<S::Ok, S::Error> {
        let lines = cart.lines.iter().cloned().map(|line| LineWire {
            line_id: line.line_id,
            item_id: line.item_id,
            quantity: line.quantity,
            variant: line.variant,
            added_price: line.added_price,
            added_at_ms: line.added_at_ms,
            priced_at_ms: Some(line.priced_at_ms),
            updated_at_ms: line.updated_at_ms,
        });
        let wire = CartWire {
            currency: CurrencyCode(cart.currency),
            lines: lines.collect(),
            coupons: cart.coupons.clone(),
        };
        wire.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Cart, D::Error> {
        let wire = CartWire::deserialize(deserializer)?;
        let lines = wire.lines.into_iter().map(|line| Line {
            line_id: line.line_id,
            item_id: line.item_id,
            quantity: line.quantity,
            variant: line.variant,
            added_price: line.added_price,
            added_at_ms: line.added_at_ms,
            priced_at_ms: line.priced_at_ms.unwrap_or(line.added_at_ms),
            updated_at_ms: line.updated_at_ms,
        });
        Ok(Cart { currency: wire.currency.0, lines: lines.collect(), coupons: wire.coupons })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_by_epoch_first() {
        let version = |text: &str| text.parse::<CartVersion>().expect("a version");
        assert!(version("1.17") < version("1.18"));
        assert!(version("1.99") < version("2.0"));
        assert_eq!(version("3.4").to_string(), "3.4");
        for wrong in ["", "1", "1.", ".1", "a.b", "1.2.3", "-1.2", "+1.2", "99999999999999999999.1"] {
            assert!(wrong.parse::<CartVersion>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_line_of_the_version_before_has_its_price_since_it_was_added() {
        let unused = Principal { kind: OwnerKind::Guest, id: "7".to_owned(), currency: None };
        let mut record = CartRecord::unused(&unused, Currency::Sgd, 1);
        record.cart.lines.push(Line {
            line_id: "l_1".to_owned(),
            item_id: "SKU-1".to_owned(),
            quantity: 2,
            variant: String::new(),
            added_price: 1990,
            added_at_ms: 5,
            priced_at_ms: 7,
            updated_at_ms: 7,
        });
        let mut wire = serde_json::to_value(&record).expect("JSON");
        assert_eq!(serde_json::from_value::<CartRecord>(wire.clone()).expect("a record"), record);
        let line = wire["cart"]["lines"][0].as_object_mut().expect("a line");
        assert_eq!(line["unit_price"], 1990, "the name that the version before reads");
        line.remove("priced_at_ms");
        let read: CartRecord = serde_json::from_value(wire).expect("a record");
        assert_eq!(read.cart.lines[0].priced_at_ms, 5);
    }

    #[test]
    fn guests_and_users_of_one_name_have_two_carts() {
        let of = |kind| Principal { kind, id: "7".to_owned(), currency: None }.cart_id();
        assert_ne!(of(OwnerKind::Guest), of(OwnerKind::User));
        assert_eq!(of(OwnerKind::User), of(OwnerKind::User));
    }
}
