//! Coupons, as the merchant gives them.

use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use cart_core::{limits, parse_decimal};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Admin, Key, answer, primary, refuse, written};
use crate::catalogue::COUPONS_MAX;
use crate::error::CartError;
use crate::http::Shared;
use crate::http::extract::{Body, Path, mistake};
use crate::http::input::{is_name, money};
use crate::http::problem::ApiError;
use crate::http::times::Instant;
use crate::model::{CouponRecord, CouponValue, CurrencyCode};
use crate::view::rfc3339;

/// A coupon, as the merchant gives it.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct PutCoupon {
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

/// Creates or replaces a coupon; its redemptions stay counted.
pub(in crate::http) async fn put_coupon(
    _: Admin,
    State(api): State<Shared>,
    Path(code): Path<String>,
    key: Key,
    Body(body): Body<PutCoupon>,
) -> Result<Response, ApiError> {
    let store = primary(&api)?;
    let kind = body.kind;
    let coupon = body.record(&code)?;
    let once = key.of(&Method::PUT, &format!("/admin/coupons/{code}"), &body);
    let catalogue = &api.service.catalogue;
    let full = catalogue.coupons() >= COUPONS_MAX;
    let mut decide = |before: Option<&CouponRecord>| {
        if before.is_none() && full {
            return None;
        }
        let redemptions = before.map_or(0, |before| before.redemptions);
        let changed_at_ms = before.map_or(once.now_ms, |before| once.now_ms.max(before.changed_at_ms + 1));
        Some(CouponRecord { redemptions, changed_at_ms, ..coupon.clone() })
    };
    let outcome = store.write_coupon(&code, &once, &mut decide).await.map_err(CartError::from)?;
    let refused = |_| ApiError::refused("catalogue_full", format!("there are at most {COUPONS_MAX} coupons"));
    let (coupon, replayed) = written(&api, outcome, refused).await?;
    let (value, currency) = match coupon.value {
        CouponValue::Percent(basis_points) => {
            (Decimal::new(i64::from(basis_points), 2).normalize().to_string(), None)
        }
        CouponValue::Amount(minor, of) => (cart_core::Money::new(minor, of.0).amount(), Some(of.0.code())),
    };
    let body = json!({
        "code": coupon.code, "kind": kind, "value": value, "currency": currency,
        "starts_at": coupon.starts_at_ms.map(rfc3339), "ends_at": coupon.ends_at_ms.map(rfc3339),
        "redemptions_max": coupon.redemptions_max, "redemptions": coupon.redemptions,
    });
    Ok(answer(&body, replayed))
}

impl PutCoupon {
    fn record(&self, code: &str) -> Result<CouponRecord, ApiError> {
        let mut mistakes = Vec::new();
        if !is_name(code, limits::COUPON_CODE_CHARS_MAX) {
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
        let value = value.ok_or(ApiError::refused("invalid_input", "the value cannot be read"))?;
        Ok(CouponRecord {
            code: code.to_owned(),
            value,
            starts_at_ms: self.starts_at.map(|at| at.0),
            ends_at_ms: self.ends_at.map(|at| at.0),
            redemptions_max: self.redemptions_max,
            redemptions: 0,
            changed_at_ms: 0,
        })
    }
}

/// Hundredths of a per cent of a text such as `12.5`.
fn percent(text: &str) -> Option<u32> {
    let whole = u32::try_from(parse_decimal(text, 2).ok()?).ok()?;
    (1..=10_000).contains(&whole).then_some(whole)
}
