//! What other regions ask of the home region, on a listener that lets nobody else in.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Shared;
use super::extract::{Path, read};
use super::problem::ApiError;
use crate::error::CartError;
use crate::feed;
use crate::home::HomeRegion;
use crate::model::{FeedPosition, Principal, WriteRequest};

/// Bytes of a body between regions: a batch of 50 commands with full variants, and the words around them.
const INTERNAL_BODY_BYTES_MAX: usize = 256 * 1024;

pub(super) async fn hello() -> StatusCode {
    StatusCode::NO_CONTENT
}

pub(super) async fn write(State(api): State<Shared>, request: Request) -> Response {
    reply(async { home(&api)?.write(body::<WriteRequest>(request).await?).await }.await)
}

pub(super) async fn cart(State(api): State<Shared>, request: Request) -> Response {
    reply(async { home(&api)?.cart(&body::<Principal>(request).await?).await }.await)
}

pub(super) async fn orders(State(api): State<Shared>, request: Request) -> Response {
    let answer = async {
        let (owner, before, limit): (Principal, Option<String>, u32) = body(request).await?;
        home(&api)?.orders(&owner, before.as_deref(), limit).await
    };
    reply(answer.await)
}

pub(super) async fn order(State(api): State<Shared>, request: Request) -> Response {
    let answer = async {
        let (owner, order_id): (Principal, String) = body(request).await?;
        home(&api)?.order(&owner, &order_id).await
    };
    reply(answer.await)
}

pub(super) async fn items(State(api): State<Shared>, request: Request) -> Response {
    reply(async { home(&api)?.items(&body::<Vec<String>>(request).await?).await }.await)
}

pub(super) async fn catalogue(State(api): State<Shared>) -> Response {
    reply(async { home(&api)?.catalogue().await }.await)
}

pub(super) async fn feed(State(api): State<Shared>, request: Request) -> Response {
    let answer = async {
        let (after, wait_ms): (Option<FeedPosition>, u64) = body(request).await?;
        let wait = Duration::from_millis(wait_ms).min(feed::WAIT);
        home(&api)?.feed(after.as_ref(), wait).await
    };
    tokio::select! {
        answer = answer => reply(answer),
        // Waiting for news must not hold up the end.
        () = api.stopping.cancelled() => reply::<()>(Err(CartError::HomeUnavailable)),
    }
}

pub(super) async fn rules(State(api): State<Shared>, Path(revision): Path<String>) -> Response {
    match async { home(&api)?.rules(&revision).await }.await {
        Ok(Some(bytes)) => ([(CONTENT_TYPE, "application/wasm")], bytes).into_response(),
        Ok(None) => ApiError::RouteUnknown.into_response(),
        Err(error) => reply::<()>(Err(error)),
    }
}

/// The home region, if this is it: anywhere else, the request would have to be forwarded a second time.
fn home(api: &Shared) -> Result<&dyn HomeRegion, CartError> {
    let home = &api.service.home;
    if home.forwards() { Err(CartError::LoopDetected) } else { Ok(home.as_ref()) }
}

async fn body<T: serde::de::DeserializeOwned>(request: Request) -> Result<T, CartError> {
    let bytes = read(request, INTERNAL_BODY_BYTES_MAX).await.map_err(|_| CartError::Overloaded)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| CartError::Internal(format!("another region sent what cannot be read: {error}")))
}

pub(super) fn reply<T: Serialize>(answer: Result<T, CartError>) -> Response {
    match answer {
        Ok(value) => Json(value).into_response(),
        Err(error @ (CartError::LoopDetected | CartError::Overloaded)) => {
            ApiError::from(error).into_response()
        }
        // A region of the version before takes this for "overloaded", by its status.
        Err(error @ CartError::Busy) => (StatusCode::SERVICE_UNAVAILABLE, Json(error)).into_response(),
        Err(error) => (StatusCode::UNPROCESSABLE_ENTITY, Json(error)).into_response(),
    }
}
