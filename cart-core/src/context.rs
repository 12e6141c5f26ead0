use alloc::string::String;
use alloc::vec::Vec;

use crate::tax::TaxClass;

/// The facts that a decision may use, and no others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Unix milliseconds, read once by the host.
    pub now_ms: i64,
    /// The region that decides (`sin`, `jkt`, …); the standard rules do not look at it.
    pub region: String,
    /// Who is shopping.
    pub principal: PrincipalKind,
    /// The merchant's parameters for the rules, a JSON object; empty where there are none.
    pub settings: String,
    /// What the client has noted on the cart, by name.
    pub metadata: Vec<(String, String)>,
    items: Vec<Item>,
    coupons: Vec<Coupon>,
}

/// Who is shopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrincipalKind {
    /// Nobody has signed in.
    Guest,
    /// A signed-in user.
    User,
}

/// What the catalogue says of an item, in the cart's currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The catalogue's name for it.
    pub item_id: String,
    /// For the shopper.
    pub title: String,
    /// The price of one in minor units; `None` when it is not sold in the cart's currency.
    pub price: Option<i64>,
    /// Units left to sell.
    pub stock: u32,
    /// The most units one cart line may have, where the merchant says so.
    pub quantity_max: Option<u32>,
    /// How it is taxed.
    pub tax_class: TaxClass,
    /// The merchant's tags; promotions choose items by them.
    pub tags: Vec<String>,
}

/// What the merchant says of a coupon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coupon {
    /// The code a shopper types in.
    pub code: String,
    /// What it takes off.
    pub kind: CouponKind,
    /// Unix milliseconds from which it holds.
    pub starts_at_ms: Option<i64>,
    /// Unix milliseconds at which it ends.
    pub ends_at_ms: Option<i64>,
    /// Orders that may still use it; `None` for any number.
    pub redemptions_left: Option<u32>,
    /// Orders of this shopper that may still use it; `None` for any number.
    pub owner_redemptions_left: Option<u32>,
    /// What it may still take off in all orders together, in minor units of the cart's currency; `None` without
    /// a budget.
    pub budget_left: Option<i64>,
    /// Of one group, only the best one is to apply.
    pub group: Option<String>,
    /// Whether it is to apply alone or not at all.
    pub exclusive: bool,
    /// Among coupons that compete, the higher one comes first.
    pub priority: i32,
}

/// What a coupon takes off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CouponKind {
    /// Hundredths of a per cent of what is left to pay.
    Percent(u32),
    /// Minor units of the cart's currency.
    Amount(i64),
    /// An amount of another currency: it cannot be used in this cart.
    OtherCurrency,
}

impl Context {
    /// A context of these facts.
    pub fn new(
        now_ms: i64,
        region: String,
        principal: PrincipalKind,
        mut items: Vec<Item>,
        mut coupons: Vec<Coupon>,
    ) -> Self {
        // Sorted once, because a cart of 500 lines looks up 500 items.
        items.sort_unstable_by(|a, b| a.item_id.cmp(&b.item_id));
        coupons.sort_unstable_by(|a, b| a.code.cmp(&b.code));
        let (settings, metadata) = (String::new(), Vec::new());
        Self { now_ms, region, principal, settings, metadata, items, coupons }
    }

    /// The item of that name, if the catalogue has it.
    pub fn item(&self, item_id: &str) -> Option<&Item> {
        self.items.get(self.item_position(item_id)?)
    }

    /// What one of an item costs now; `None` where it is not sold in the cart's currency.
    pub fn price(&self, item_id: &str) -> Option<i64> {
        self.item(item_id)?.price
    }

    /// Where [`items`](Self::items) has the item of that name.
    pub(crate) fn item_position(&self, item_id: &str) -> Option<usize> {
        self.items.binary_search_by(|item| item.item_id.as_str().cmp(item_id)).ok()
    }

    /// The coupon of that code, if there is one.
    pub fn coupon(&self, code: &str) -> Option<&Coupon> {
        let at = self.coupons.binary_search_by(|coupon| coupon.code.as_str().cmp(code)).ok()?;
        self.coupons.get(at)
    }

    /// Every item, ordered by name.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Every coupon, ordered by code.
    pub fn coupons(&self) -> &[Coupon] {
        &self.coupons
    }
}

impl Coupon {
    /// A coupon without a time, a limit or a condition.
    pub fn new(code: impl Into<String>, kind: CouponKind) -> Self {
        Self {
            code: code.into(),
            kind,
            starts_at_ms: None,
            ends_at_ms: None,
            redemptions_left: None,
            owner_redemptions_left: None,
            budget_left: None,
            group: None,
            exclusive: false,
            priority: 0,
        }
    }

    /// Whether it can be used now.
    pub fn holds(&self, now_ms: i64) -> bool {
        self.lapse(now_ms).is_none()
    }

    /// Why it cannot be used now; `None` when it can.
    pub fn lapse(&self, now_ms: i64) -> Option<CouponLapse> {
        if self.starts_at_ms.is_some_and(|start| now_ms < start) {
            Some(CouponLapse::NotStarted)
        } else if self.ends_at_ms.is_some_and(|end| now_ms >= end) {
            Some(CouponLapse::Expired)
        } else if self.redemptions_left == Some(0) || self.owner_redemptions_left == Some(0) {
            Some(CouponLapse::Exhausted)
        } else if self.kind == CouponKind::OtherCurrency {
            Some(CouponLapse::OtherCurrency)
        } else {
            None
        }
    }
}

/// Why a coupon cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CouponLapse {
    /// Its time has not come.
    NotStarted,
    /// Its time is over.
    Expired,
    /// It was used as often as it may be.
    Exhausted,
    /// It takes off an amount of a currency that is not the cart's.
    OtherCurrency,
}

impl CouponLapse {
    /// The stable word, lower snake case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotStarted => "not_started",
            Self::Expired => "expired",
            Self::Exhausted => "exhausted",
            Self::OtherCurrency => "other_currency",
        }
    }
}
