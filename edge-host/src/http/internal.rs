//! What other regions ask of the home region, on a listener that lets nobody else in.

use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Shared;
use super::extract::{Path, read};
use super::observed::Failed;
use super::problem::ApiError;
use super::readiness::Readiness;
use crate::error::CartError;
use crate::feed;
use crate::home::HomeRegion;
use crate::home::wire::{self, FeedQuestion, Hello, OrderQuestion, OrdersQuestion, Topic, v0};
use crate::model::{Principal, WriteRequest};

/// Bytes of a body between regions: a batch of 50 commands with full variants, and the words around them.
const INTERNAL_BODY_BYTES_MAX: usize = 256 * 1024;

/// The routes of this version.
pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route(wire::HELLO, get(hello))
        .route(&Topic::Writes.path(), post(write))
        .route(&Topic::Cart.path(), post(cart))
        .route(&Topic::Orders.path(), post(orders::<OrdersQuestion>))
        .route(&Topic::Order.path(), post(order::<OrderQuestion>))
        .route(&Topic::Items.path(), post(items))
        .route(&Topic::Catalogue.path(), get(catalogue))
        .route(&Topic::Feed.path(), post(feed::<FeedQuestion>))
        .route(&format!("{}/{{revision}}", Topic::Rules.path()), get(rules))
}

/// The routes of the version before, for one release.
pub(super) fn routes_v0() -> Router<Shared> {
    Router::new()
        .route(v0::HELLO, get(hello_v0))
        .route(&Topic::Writes.path_v0(), post(write))
        .route(&Topic::Cart.path_v0(), post(cart))
        .route(&Topic::Orders.path_v0(), post(orders::<v0::Orders>))
        .route(&Topic::Order.path_v0(), post(order::<v0::Order>))
        .route(&Topic::Items.path_v0(), post(items))
        .route(&Topic::Catalogue.path_v0(), get(catalogue))
        .route(&Topic::Feed.path_v0(), post(feed::<v0::Feed>))
        .route(&format!("{}/{{revision}}", Topic::Rules.path_v0()), get(rules))
}

/// Whether a route of another region only reads: they ask by POST for that, too.
pub(super) fn only_reads(route: &str) -> bool {
    let of_regions = route.starts_with("/peer/") || route.starts_with("/internal/");
    of_regions && !route.ends_with("/writes")
}

/// A question, in any version of its words.
trait Asks<Q>: DeserializeOwned + Into<Q> + Send {}

impl<T: DeserializeOwned + Into<Q> + Send, Q> Asks<Q> for T {}

/// What this edge can do now, for regions that keep a connection to it.
async fn hello(State(api): State<Shared>) -> Json<Hello> {
    Json(Readiness::of(&api).hello())
}

/// The same for a region of the version before, which looks only at whether there is an answer.
async fn hello_v0(State(api): State<Shared>) -> StatusCode {
    if Readiness::of(&api).hello().ready { StatusCode::NO_CONTENT } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn write(State(api): State<Shared>, request: Request) -> Response {
    let answer = async {
        let home = home(&api)?;
        // Its rules may not be loaded yet: another edge can do it.
        if !api.feed.ready() {
            return Err(CartError::HomeUnavailable);
        }
        home.write(body::<WriteRequest>(request).await?).await
    };
    reply(answer.await)
}

async fn cart(State(api): State<Shared>, request: Request) -> Response {
    reply(async { home(&api)?.cart(&body::<Principal>(request).await?).await }.await)
}

async fn orders<Q: Asks<OrdersQuestion>>(State(api): State<Shared>, request: Request) -> Response {
    let answer = async {
        let OrdersQuestion { owner, before, limit } = body::<Q>(request).await?.into();
        home(&api)?.orders(&owner, before.as_deref(), limit).await
    };
    reply(answer.await)
}

async fn order<Q: Asks<OrderQuestion>>(State(api): State<Shared>, request: Request) -> Response {
    let answer = async {
        let OrderQuestion { owner, order_id } = body::<Q>(request).await?.into();
        home(&api)?.order(&owner, &order_id).await
    };
    reply(answer.await)
}

async fn items(State(api): State<Shared>, request: Request) -> Response {
    reply(async { home(&api)?.items(&body::<Vec<String>>(request).await?).await }.await)
}

async fn catalogue(State(api): State<Shared>) -> Response {
    reply(async { home(&api)?.catalogue().await }.await)
}

async fn feed<Q: Asks<FeedQuestion>>(State(api): State<Shared>, request: Request) -> Response {
    let answer = async {
        let FeedQuestion { after, wait_ms } = body::<Q>(request).await?.into();
        let wait = Duration::from_millis(wait_ms).min(feed::WAIT);
        home(&api)?.feed(after.as_ref(), wait).await
    };
    tokio::select! {
        answer = answer => reply(answer),
        // Waiting for news must not hold up the end.
        () = api.stopping.cancelled() => reply::<()>(Err(CartError::HomeUnavailable)),
    }
}

async fn rules(State(api): State<Shared>, Path(revision): Path<String>) -> Response {
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

async fn body<T: DeserializeOwned>(request: Request) -> Result<T, CartError> {
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
        Err(error) => {
            let failure = failure(&error);
            let mut response = (StatusCode::UNPROCESSABLE_ENTITY, Json(error)).into_response();
            if let Some(failure) = failure {
                response.extensions_mut().insert(Failed(failure));
            }
            response
        }
    }
}

/// The word for what is no answer but a failure, which the status of answers between regions does not tell.
fn failure(error: &CartError) -> Option<&'static str> {
    match error {
        CartError::HomeUnavailable => Some("home_unavailable"),
        CartError::RulesFailed { .. } => Some("rules_failed"),
        CartError::Internal(_) => Some("internal"),
        _ => None,
    }
}
