//! Items, coupons and orders.

use cart_core::Currency;
use serde::{Deserialize, Serialize};

use super::{CurrencyCode, Millis};
use crate::raw_json::RawJson;

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
            title: self.title.clone(),
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
        let kind = match self.value {
            CouponValue::Percent(basis_points) => cart_core::CouponKind::Percent(basis_points),
            CouponValue::Amount(minor, of) if of.0 == currency => cart_core::CouponKind::Amount(minor),
            CouponValue::Amount(..) => cart_core::CouponKind::OtherCurrency,
        };
        cart_core::Coupon {
            starts_at_ms: self.starts_at_ms,
            ends_at_ms: self.ends_at_ms,
            redemptions_left: self.redemptions_max.map(|max| max.saturating_sub(self.redemptions)),
            ..cart_core::Coupon::new(&*self.code, kind)
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
    pub document: RawJson,
}

/// What has become of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
