//! What the host keeps and passes around: records, not the rules' own types and not the public JSON.
//!
//! These types cross the wire between regions and lie in the stores, so they derive serde; the types of
//! `cart-core` do not, and are converted here ([`CartWire`]).

use std::fmt;
use std::str::FromStr;

use cart_core::{Cart, Currency, Line, MergePolicy, PrincipalKind};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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
/// An order waits so long for its payment; then its stock goes back.
pub const PAYMENT_TTL_MS: Millis = 15 * 60 * 1000;

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

impl Principal {
    /// The one cart of this principal. Derived, so that no region needs a look-up to find it.
    pub fn cart_id(&self) -> String {
        let digest = Sha256::new()
            .chain_update(b"troli cart\0")
            .chain_update(self.kind.as_str())
            .chain_update([0])
            .chain_update(&self.id)
            .finalize();
        let mut id = String::with_capacity(26);
        id.push_str("c_");
        for byte in digest.iter().take(12) {
            use fmt::Write;
            let _ = write!(id, "{byte:02x}");
        }
        id
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

/// The version of a cart: it only grows. The epoch counts failovers that lost writes, so that a version which
/// no longer exists never looks newer than the truth.
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
        let number = |part: &str| part.len() <= 15 && part.bytes().all(|b| b.is_ascii_digit());
        let (epoch, version) = text.split_once('.').ok_or(MalformedVersion)?;
        if !number(epoch) || !number(version) {
            return Err(MalformedVersion);
        }
        Ok(Self {
            epoch: epoch.parse().map_err(|_| MalformedVersion)?,
            version: version.parse().map_err(|_| MalformedVersion)?,
        })
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
    unit_price: i64,
    added_at_ms: Millis,
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
            unit_price: line.unit_price,
            added_at_ms: line.added_at_ms,
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
            unit_price: line.unit_price,
            added_at_ms: line.added_at_ms,
            updated_at_ms: line.updated_at_ms,
        });
        Ok(Cart { currency: wire.currency.0, lines: lines.collect(), coupons: wire.coupons })
    }
}

/// An item of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemRecord {
    /// The merchant's name for it.
    pub item_id: String,
    /// For the shopper.
    pub title: String,
    /// Minor units by currency.
    pub prices: std::collections::BTreeMap<CurrencyCode, i64>,
    /// Units left.
    pub stock: u32,
    /// The most units in one cart line.
    pub quantity_max: Option<u32>,
    /// Whether it is zero-rated.
    pub tax_zero: bool,
    /// What promotions choose by.
    pub tags: Vec<String>,
    /// When any of this last changed.
    pub changed_at_ms: Millis,
}

/// A coupon of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CouponRecord {
    /// What a shopper types in.
    pub code: String,
    /// What it takes off.
    pub value: CouponValue,
    /// From when on it holds.
    pub starts_at_ms: Option<Millis>,
    /// Until when it holds.
    pub ends_at_ms: Option<Millis>,
    /// Orders that may use it.
    pub redemptions_max: Option<u32>,
    /// Orders that have used it.
    pub redemptions: u32,
    /// When any of this last changed.
    pub changed_at_ms: Millis,
}

/// What a coupon takes off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CouponValue {
    /// Hundredths of a per cent.
    Percent(u32),
    /// Minor units of one currency.
    Amount(i64, CurrencyCode),
}

impl ItemRecord {
    /// What the rules may know of it, for a cart in this currency.
    pub fn facts(&self, currency: Currency) -> cart_core::Item {
        cart_core::Item {
            item_id: self.item_id.clone(),
            price: self.prices.get(&CurrencyCode(currency)).copied(),
            stock: self.stock,
            quantity_max: self.quantity_max,
            tax_class: if self.tax_zero { cart_core::TaxClass::Zero } else { cart_core::TaxClass::Standard },
            tags: self.tags.clone(),
        }
    }
}

impl CouponRecord {
    /// What the rules may know of it, for a cart in this currency.
    pub fn facts(&self, currency: Currency) -> cart_core::Coupon {
        cart_core::Coupon {
            code: self.code.clone(),
            kind: match self.value {
                CouponValue::Percent(basis_points) => cart_core::CouponKind::Percent(basis_points),
                CouponValue::Amount(minor, of) if of.0 == currency => cart_core::CouponKind::Amount(minor),
                CouponValue::Amount(..) => cart_core::CouponKind::OtherCurrency,
            },
            starts_at_ms: self.starts_at_ms,
            ends_at_ms: self.ends_at_ms,
            redemptions_left: self.redemptions_max.map(|max| max.saturating_sub(self.redemptions)),
        }
    }
}

/// An order: what was in the cart when it was placed, as the public document, and what has become of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRecord {
    /// Unique, and growing with time.
    pub order_id: String,
    /// What has become of it.
    pub state: OrderState,
    /// The public document without the state.
    pub document: serde_json::Value,
}

/// What has become of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// The payment service has not spoken yet.
    PendingPayment,
    /// Paid.
    Paid,
    /// Cancelled, or not paid in time; the stock went back.
    Cancelled,
}

impl OrderState {
    /// The word in the database and in the public document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PendingPayment => "pending_payment",
            Self::Paid => "paid",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::PendingPayment, Self::Paid, Self::Cancelled].into_iter().find(|state| state.as_str() == word)
    }
}

/// What a caller wants changed in a cart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// One after the other, all or none.
    Commands(Vec<CartCommand>),
    /// Take over a guest's cart; the guest token was verified where it came in.
    Merge {
        /// The guest.
        guest: Principal,
        /// What becomes of a line that both have.
        policy: MergePolicyWord,
    },
    /// Order what is in the cart.
    Checkout {
        /// What the client believes it will pay, in minor units.
        expected_total: i64,
        /// The currency of that.
        currency: CurrencyCode,
    },
}

impl Operation {
    /// The word for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Commands(commands) => match commands.as_slice() {
                [CartCommand::Add { .. }] => "add",
                [CartCommand::SetQuantity { .. }] => "set_quantity",
                [CartCommand::Remove { .. }] => "remove",
                [CartCommand::Clear] => "clear",
                [CartCommand::ApplyCoupon { .. }] => "apply_coupon",
                [CartCommand::RemoveCoupon { .. }] => "remove_coupon",
                _ => "commands",
            },
            Self::Merge { .. } => "merge",
            Self::Checkout { .. } => "checkout",
        }
    }
}

/// One change of a cart, checked for form. The variant is canonical JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "op")]
#[expect(missing_docs, reason = "the words of the public contract")]
pub enum CartCommand {
    Add { item_id: String, quantity: u32, variant: String },
    SetQuantity { line_id: String, quantity: u32 },
    Remove { line_id: String },
    Clear,
    ApplyCoupon { code: String },
    RemoveCoupon { code: String },
}

impl CartCommand {
    /// The command as the rules take it.
    pub fn to_core(&self) -> cart_core::Command {
        use cart_core::Command;
        match self.clone() {
            Self::Add { item_id, quantity, variant } => Command::Add { item_id, quantity, variant },
            Self::SetQuantity { line_id, quantity } => Command::SetQuantity { line_id, quantity },
            Self::Remove { line_id } => Command::Remove { line_id },
            Self::Clear => Command::Clear,
            Self::ApplyCoupon { code } => Command::ApplyCoupon { code },
            Self::RemoveCoupon { code } => Command::RemoveCoupon { code },
        }
    }
}

/// What becomes of a line that both carts have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MergePolicyWord {
    /// The larger quantity.
    #[default]
    Max,
    /// Both together.
    Sum,
    /// The guest's quantity.
    Replace,
}

impl From<MergePolicyWord> for MergePolicy {
    fn from(word: MergePolicyWord) -> Self {
        match word {
            MergePolicyWord::Max => Self::Max,
            MergePolicyWord::Sum => Self::Sum,
            MergePolicyWord::Replace => Self::Replace,
        }
    }
}

/// A write on its way to the home region.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WriteRequest {
    /// Whose cart.
    pub principal: Principal,
    /// What to do.
    pub operation: Operation,
    /// The client's key, or one that the edge made.
    pub idempotency_key: String,
    /// Whether the edge made it.
    pub key_made: bool,
    /// Write only if the cart is still at one of these versions.
    pub if_match: Option<Vec<CartVersion>>,
}

impl WriteRequest {
    /// Tells one request from another under the same idempotency key.
    pub fn fingerprint(&self) -> [u8; 32] {
        let what = (&self.operation, &self.if_match);
        let bytes = serde_json::to_vec(&what).expect("records of strings and numbers serialise");
        Sha256::digest(bytes).into()
    }
}

/// The answer to a write, as it is kept under the idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAnswer {
    /// HTTP status.
    pub status: u16,
    /// The JSON body.
    pub body: String,
    /// The cart's version after the write.
    pub version: CartVersion,
    /// Where the new resource is.
    pub location: Option<String>,
}

/// What the home region says of a write.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WriteReply {
    /// For the client.
    pub answer: StoredAnswer,
    /// For the cache of the region that forwarded; `None` with a replayed answer.
    pub record: Option<CartRecord>,
    /// The version at which a merged guest's cart ended.
    pub guest_version: Option<CartVersion>,
    /// Whether the answer is an old one.
    pub replayed: bool,
    /// Time in the home region's database and rules.
    pub timing: WriteTiming,
}

/// Where the time of a write went.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct WriteTiming {
    /// Microseconds in the database.
    pub db_us: u64,
    /// Microseconds in the rules.
    pub rules_us: u64,
}

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
    fn guests_and_users_of_one_name_have_two_carts() {
        let of = |kind| Principal { kind, id: "7".to_owned(), currency: None }.cart_id();
        assert_ne!(of(OwnerKind::Guest), of(OwnerKind::User));
        assert_eq!(of(OwnerKind::User), of(OwnerKind::User));
    }
}
