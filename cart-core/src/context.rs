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
        Self { now_ms, region, principal, items, coupons }
    }

    /// The item of that name, if the catalogue has it.
    pub fn item(&self, item_id: &str) -> Option<&Item> {
        self.items.get(self.item_position(item_id)?)
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
    /// Why it does not hold now; `None` when it does.
    pub(crate) fn lapse(&self, now_ms: i64) -> Option<CouponLapse> {
        if self.starts_at_ms.is_some_and(|start| now_ms < start) {
            Some(CouponLapse::NotStarted)
        } else if self.ends_at_ms.is_some_and(|end| now_ms >= end) {
            Some(CouponLapse::Expired)
        } else if self.redemptions_left == Some(0) {
            Some(CouponLapse::Exhausted)
        } else if self.kind == CouponKind::OtherCurrency {
            Some(CouponLapse::OtherCurrency)
        } else {
            None
        }
    }
}

/// Why a coupon does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CouponLapse {
    NotStarted,
    Expired,
    Exhausted,
    OtherCurrency,
}
