//! What the merchant and the payment service may do, on the internal listener, with the admin token.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use cart_core::{limits, parse_decimal};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::extract::{Body, Path, bearer, mistake};
use super::input::{is_name, is_words, money};
use super::problem::{ApiError, InputMistake};
use super::times::Instant;
use super::{Api, Shared};
use crate::auth::same_secret;
use crate::catalogue::{COUPONS_MAX, ITEMS_MAX};
use crate::clock::now_ms;
use crate::error::CartError;
use crate::model::{CouponRecord, CouponValue, CurrencyCode, ItemRecord, Millis, OrderState, STOCK_MAX};
use crate::raw_json::RawJson;
use crate::rules::RunningRules;
use crate::store::PrimaryStore;
use crate::view::{self, ItemView, rfc3339};

/// The admin token was there and right.
pub(super) struct Admin;

impl FromRequestParts<Shared> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, ApiError> {
        let presented = bearer(&parts.headers).ok_or(ApiError::TokenMissing)?;
        let right = api.config.admin_token.as_ref();
        if right.is_some_and(|right| same_secret(presented, right)) {
            Ok(Self)
        } else {
            Err(ApiError::Forbidden("this is not the admin token"))
        }
    }
}

/// An item of the catalogue, as the merchant gives it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutItem {
    title: String,
    prices: BTreeMap<CurrencyCode, String>,
    stock: u32,
    quantity_max: Option<u32>,
    #[serde(default)]
    tax_class: TaxClassWord,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TaxClassWord {
    #[default]
    Standard,
    Zero,
}

/// A coupon, as the merchant gives it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutCoupon {
    kind: CouponKindWord,
    value: String,
    currency: Option<CurrencyCode>,
    starts_at: Option<Instant>,
    ends_at: Option<Instant>,
    redemptions_max: Option<u32>,
}

#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum CouponKindWord {
    Percent,
    Amount,
}

/// Creates or replaces an item.
pub(super) async fn put_item(
    _: Admin,
    State(api): State<Shared>,
    Path(item_id): Path<String>,
    Body(body): Body<PutItem>,
) -> Result<Json<ItemView>, ApiError> {
    let store = primary(&api)?;
    let item = body.record(item_id, now_ms())?;
    let known = api.service.catalogue.item(&item.item_id).is_some();
    if !known && api.service.catalogue.len() >= ITEMS_MAX {
        return Err(ApiError::bad_request("catalogue_full", format!("there are at most {ITEMS_MAX} items")));
    }
    store.put_item(item.clone()).await.map_err(CartError::from)?;
    // Known here at once: what this merchant does next goes by it. The feed brings it to all the others.
    api.service.catalogue.put_item(item.clone());
    Ok(Json(view::item(&item)))
}

/// Creates or replaces a coupon.
pub(super) async fn put_coupon(
    _: Admin,
    State(api): State<Shared>,
    Path(code): Path<String>,
    Body(body): Body<PutCoupon>,
) -> Result<Json<Value>, ApiError> {
    let store = primary(&api)?;
    let kind = body.kind;
    let coupon = body.record(code, now_ms())?;
    let catalogue = &api.service.catalogue;
    if !catalogue.has_coupon(&coupon.code) && catalogue.coupons() >= COUPONS_MAX {
        return Err(ApiError::bad_request(
            "catalogue_full",
            format!("there are at most {COUPONS_MAX} coupons"),
        ));
    }
    let coupon = store.put_coupon(coupon).await.map_err(CartError::from)?;
    catalogue.put_coupon(coupon.clone());
    let (value, currency) = match coupon.value {
        CouponValue::Percent(basis_points) => {
            (Decimal::new(i64::from(basis_points), 2).normalize().to_string(), None)
        }
        CouponValue::Amount(minor, of) => (cart_core::Money::new(minor, of.0).amount(), Some(of.0.code())),
    };
    Ok(Json(json!({
        "code": coupon.code, "kind": kind, "value": value, "currency": currency,
        "starts_at": coupon.starts_at_ms.map(rfc3339), "ends_at": coupon.ends_at_ms.map(rfc3339),
        "redemptions_max": coupon.redemptions_max, "redemptions": coupon.redemptions,
    })))
}

/// The payment service says: paid.
pub(super) async fn order_paid(
    _: Admin,
    State(api): State<Shared>,
    Path(order_id): Path<String>,
) -> Result<Json<RawJson>, ApiError> {
    settle(&api, order_id, OrderState::Paid).await
}

/// The payment service says: cancelled. The stock goes back.
pub(super) async fn order_cancelled(
    _: Admin,
    State(api): State<Shared>,
    Path(order_id): Path<String>,
) -> Result<Json<RawJson>, ApiError> {
    settle(&api, order_id, OrderState::Cancelled).await
}

/// What this region runs, ran before, and refused.
pub(super) async fn rules(_: Admin, State(api): State<Shared>) -> Json<Value> {
    let status = api.service.rules.status();
    let running = |rules: RunningRules| {
        json!({
            "revision": rules.revision.to_string(), "sha256": rules.revision.full(), "name": rules.name,
            "version": rules.version, "description": rules.description,
        })
    };
    let refused = status.last_refused.map(|refusal| {
        json!({
            "at": rfc3339(refusal.at_ms), "revision": refusal.revision.map(|revision| revision.to_string()),
            "code": refusal.code, "reason": refusal.reason,
        })
    });
    Json(json!({
        "region": api.service.region, "active": status.active.map(running),
        "activated_at": status.activated_at_ms.map(rfc3339),
        "previous": status.previous.map(running), "staged": null, "canary": null, "last_refused": refused,
    }))
}

async fn settle(api: &Api, order_id: String, to: OrderState) -> Result<Json<RawJson>, ApiError> {
    let order = primary(api)?.settle_order(&order_id, to, now_ms()).await.map_err(CartError::from)?;
    let order = order.ok_or(CartError::OrderUnknown(order_id))?;
    if order.state != to {
        return Err(ApiError::Input {
            status: StatusCode::CONFLICT,
            code: "order_settled",
            detail: format!("the order is {} already", order.state.as_str()),
            errors: Vec::new(),
        });
    }
    let order = view::order(order).map_err(|error| CartError::Internal(error.to_string()))?;
    Ok(Json(order))
}

fn primary(api: &Api) -> Result<&dyn PrimaryStore, ApiError> {
    api.primary.as_deref().ok_or_else(|| ApiError::Input {
        status: StatusCode::MISDIRECTED_REQUEST,
        code: "not_home_region",
        detail: format!(
            "the catalogue and orders are changed in the home region, {}",
            api.regions.topology().home().id
        ),
        errors: Vec::new(),
    })
}

impl PutItem {
    fn record(self, item_id: String, changed_at_ms: Millis) -> Result<ItemRecord, ApiError> {
        let mut mistakes = Vec::new();
        let mut check = |right: bool, pointer: &str, detail: &str| {
            if !right {
                mistakes.push(mistake(pointer, detail));
            }
        };
        check(
            is_name(&item_id, limits::ITEM_ID_CHARS_MAX),
            "#",
            "an item id has 1 to 64 visible ASCII characters",
        );
        check(is_words(&self.title), "#/title", "a title has 1 to 200 characters");
        check(!self.prices.is_empty(), "#/prices", "at least one price is needed");
        check(self.tags.len() <= limits::TAGS_MAX, "#/tags", "an item has at most 16 tags");
        check(
            self.tags.iter().all(|tag| is_name(tag, 64)),
            "#/tags",
            "a tag has 1 to 64 visible ASCII characters",
        );
        check(self.stock <= STOCK_MAX, "#/stock", "at most 1 000 000 000 units are in stock");
        check(self.quantity_max != Some(0), "#/quantity_max", "a limit is at least 1");
        let mut prices = BTreeMap::new();
        for (currency, amount) in &self.prices {
            let pointer = format!("#/prices/{}", currency.0.code());
            match money(amount, currency.0) {
                Ok(price) if (0..=limits::PRICE_MINOR_MAX).contains(&price.minor) => {
                    prices.insert(*currency, price.minor);
                }
                Ok(_) => check(false, &pointer, "the price is out of range"),
                Err(why) => check(false, &pointer, &why),
            }
        }
        refuse(mistakes)?;
        Ok(ItemRecord {
            item_id,
            title: self.title,
            prices,
            stock: self.stock,
            quantity_max: self.quantity_max,
            tax_zero: matches!(self.tax_class, TaxClassWord::Zero),
            tags: self.tags,
            changed_at_ms,
        })
    }
}

impl PutCoupon {
    fn record(self, code: String, changed_at_ms: Millis) -> Result<CouponRecord, ApiError> {
        let mut mistakes = Vec::new();
        if !is_name(&code, limits::COUPON_CODE_CHARS_MAX) {
            mistakes.push(mistake("#", "a coupon code has 1 to 64 visible ASCII characters"));
        }
        if let (Some(start), Some(end)) = (self.starts_at, self.ends_at)
            && start >= end
        {
            mistakes.push(mistake("#/ends_at", "a coupon ends after it starts"));
        }
        let value = match (self.kind, self.currency) {
            (CouponKindWord::Percent, None) => percent(&self.value).map(CouponValue::Percent),
            (CouponKindWord::Percent, Some(_)) => {
                mistakes.push(mistake("#/currency", "a percentage has no currency"));
                None
            }
            (CouponKindWord::Amount, Some(of)) => money(&self.value, of.0)
                .ok()
                .filter(|money| (1..=limits::PRICE_MINOR_MAX).contains(&money.minor))
                .map(|money| CouponValue::Amount(money.minor, of)),
            (CouponKindWord::Amount, None) => {
                mistakes.push(mistake("#/currency", "an amount needs a currency"));
                None
            }
        };
        if value.is_none() && mistakes.is_empty() {
            let detail = match self.currency {
                None => "a percentage is a decimal number above 0 up to 100 such as \"12.5\", with at most two decimals"
                    .to_owned(),
                Some(of) => {
                    let why = money(&self.value, of.0).err();
                    why.unwrap_or_else(|| "the amount is above 0 and at most 10 thousand million".to_owned())
                }
            };
            mistakes.push(mistake("#/value", detail));
        }
        if self.redemptions_max == Some(0) {
            mistakes.push(mistake("#/redemptions_max", "a limit is at least 1"));
        }
        refuse(mistakes)?;
        let value = value.ok_or(ApiError::bad_request("invalid_input", "the value cannot be read"))?;
        Ok(CouponRecord {
            code,
            value,
            starts_at_ms: self.starts_at.map(|at| at.0),
            ends_at_ms: self.ends_at.map(|at| at.0),
            redemptions_max: self.redemptions_max,
            redemptions: 0,
            changed_at_ms,
        })
    }
}

/// Hundredths of a per cent of a text such as `12.5`.
fn percent(text: &str) -> Option<u32> {
    let whole = u32::try_from(parse_decimal(text, 2).ok()?).ok()?;
    (1..=10_000).contains(&whole).then_some(whole)
}

fn refuse(mistakes: Vec<InputMistake>) -> Result<(), ApiError> {
    let Some(first) = mistakes.first() else {
        return Ok(());
    };
    Err(ApiError::Input {
        status: StatusCode::BAD_REQUEST,
        code: "invalid_input",
        detail: first.detail.clone(),
        errors: mistakes,
    })
}
