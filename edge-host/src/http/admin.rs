//! What the merchant and the payment service may do, on the internal listener, with the admin token.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::extract::{bearer, client_of, idempotency_key};
use super::problem::{ApiError, InputMistake};
use super::respond::mark_replayed;
use super::{Api, Shared};
use crate::auth::same_secret;
use crate::error::CartError;
use crate::model::{Done, IDEMPOTENCY_TTL_MS, MADE_KEY_TTL_MS, Millis};
use crate::rules::RunningRules;
use crate::store::{KeptKey, KeyedOutcome, OnceKey, PrimaryStore};
use crate::view::rfc3339;

mod coupons;
mod items;
mod orders;

pub(super) use coupons::put_coupon;
pub(super) use items::{change_stock, get_item, patch_item, put_item};
pub(super) use orders::{order_cancelled, order_paid};

/// The answer to a merchant waits so long for this edge's own catalogue to follow. Mostly that takes some
/// hundredths of a second.
const FOLLOW_DEADLINE: Duration = Duration::from_secs(2);

/// The admin token was there and right.
pub(super) struct Admin;

impl FromRequestParts<Shared> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, ApiError> {
        let presented = bearer(&parts.headers).ok_or(ApiError::TokenMissing)?;
        let address = client_of(&parts.extensions, &parts.headers, api);
        api.guesses.check(address, Instant::now())?;
        let right = api.config.admin_token.as_ref();
        if right.is_some_and(|right| same_secret(presented, right)) {
            Ok(Self)
        } else {
            api.guesses.note(address, Instant::now());
            Err(ApiError::Forbidden("this is not the admin token"))
        }
    }
}

/// Under which key a change is done once, as far as the client says so; and when it is done.
pub(super) struct Key {
    key: Option<String>,
    now_ms: Millis,
}

impl FromRequestParts<Shared> for Key {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, ApiError> {
        Ok(Self { key: idempotency_key(&parts.headers)?, now_ms: api.service.clock.now_ms() })
    }
}

impl Key {
    /// The key of a request that must have one.
    fn required(self) -> Result<Self, ApiError> {
        match self.key {
            Some(_) => Ok(self),
            None => Err(ApiError::refused("idempotency_key_missing", "an Idempotency-Key header is needed")),
        }
    }

    /// The key with what tells this request from another. Without a key of the client, one that is made for the
    /// edge's own retries: a commit whose end is not known is not done a second time.
    fn of(self, method: &Method, path: &str, request: &impl Serialize) -> OnceKey {
        let route = format!("{method} {path}");
        let request = serde_json::to_vec(request).expect("records of strings and numbers serialise");
        let fingerprint =
            Sha256::new().chain_update(&route).chain_update([0]).chain_update(request).finalize();
        let kept_ms = if self.key.is_some() { IDEMPOTENCY_TTL_MS } else { MADE_KEY_TTL_MS };
        let now_ms = self.now_ms;
        OnceKey {
            key: self.key.unwrap_or_else(|| format!("edge:{}", Uuid::new_v4())),
            fingerprint: fingerprint.into(),
            route,
            now_ms,
            kept_until_ms: now_ms + kept_ms,
        }
    }
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

/// A record that was written, and whether that was at an earlier request. `refused` says why it was not.
///
/// The catalogue of this edge has one way in, the feed; the answer waits for it, so that what this merchant does next
/// here goes by the change.
async fn written<T>(
    api: &Api,
    outcome: KeyedOutcome<T>,
    refused: impl FnOnce(Option<T>) -> ApiError,
) -> Result<(T, bool), ApiError> {
    match outcome {
        KeyedOutcome::Done { value, seq } => {
            if let Some(seq) = seq {
                api.feed.applied(seq, FOLLOW_DEADLINE).await;
            }
            Ok((value, false))
        }
        KeyedOutcome::Replayed(value) => Ok((value, true)),
        KeyedOutcome::Refused(current) => Err(refused(current)),
        KeyedOutcome::KeyReused(KeptKey { route, at_ms }) => {
            let done = Done { at_ms: Some(at_ms), route: Some(route), order_id: None };
            Err(CartError::KeyUsed(done).into())
        }
        KeyedOutcome::InProgress => Err(CartError::InProgress.into()),
    }
}

fn answer(body: &impl Serialize, replayed: bool) -> Response {
    let mut response = Json(body).into_response();
    if replayed {
        mark_replayed(&mut response);
    }
    response
}

fn primary(api: &Api) -> Result<&dyn PrimaryStore, ApiError> {
    api.primary.as_deref().ok_or_else(|| {
        ApiError::refused(
            "not_home_region",
            format!(
                "the catalogue and orders are changed in the home region, {}",
                api.regions.topology().home().id
            ),
        )
    })
}

fn refuse(mistakes: Vec<InputMistake>) -> Result<(), ApiError> {
    let Some(first) = mistakes.first() else {
        return Ok(());
    };
    Err(ApiError::Input { code: "invalid_input", detail: first.detail.clone(), errors: mistakes })
}
