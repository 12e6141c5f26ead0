//! What is behind the three listeners: the public API, the internal one for health, metrics and admin, and the one
//! for other regions.
//!
//! Nothing else in this crate knows of axum or of a status code. A request goes through its name
//! ([`request_id`]), the limits, the caller ([`extract`]), a handler, and, where it fails, [`problem`].

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use futures_util::{FutureExt, TryFutureExt};
use region_router::admission::{REQUESTS_PER_ADDRESS_MAX, Shares};
use region_router::proximity::Countries;
use region_router::regions::Regions;
use region_router::traces;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::auth::Tokens;
use crate::config::Config;
use crate::deadline;
use crate::error::CartError;
use crate::feed::CatalogueFeed;
use crate::home::wire::{self, was_forwarded};
use crate::peers::AskedBy;
use crate::service::CartService;
use crate::store::PrimaryStore;
use crate::telemetry;
use crate::telemetry::metric::{self, HttpRequests};

mod codes;
mod cursor;
mod extract;
mod hygiene;
mod json;
mod openapi;
mod problem;
mod times;

mod carts;
mod input;
mod respond;
mod shop;
mod tags;

mod admin;
mod internal;

mod admission;
mod cors;
mod guesses;
mod limits;
mod observed;
mod readiness;
mod request_id;

use cors::Cors;
pub use guesses::Guesses as AdminGuesses;
use hygiene::Parameters;
pub use limits::RateLimits;
use observed::Observed;
pub use problem::ApiError;

/// Requests in progress at one listener; more are turned away at once rather than made to wait. Each listener
/// has its own, so that shoppers cannot crowd out probes and other regions.
const REQUESTS_IN_PROGRESS_MAX: usize = 4096;
/// From the headers of a request to its answer; slow uploads and slow answers are cut off. A caller may have less
/// patience, and say so.
const REQUEST_DEADLINE: Duration = Duration::from_secs(15);

/// What the handlers share.
pub struct Api {
    /// The configuration.
    pub config: Config,
    /// The cart.
    pub service: Arc<CartService>,
    /// Who is calling.
    pub tokens: Tokens,
    /// How much they may ask for.
    pub limits: RateLimits,
    /// Wrong admin tokens.
    pub guesses: AdminGuesses,
    /// The primary, in the home region.
    pub primary: Option<Arc<dyn PrimaryStore>>,
    /// The regions and their health.
    pub regions: Arc<Regions>,
    /// Where addresses are.
    pub countries: Countries,
    /// What this region follows.
    pub feed: Arc<CatalogueFeed>,
    /// Set when the edge is about to stop: requests should go elsewhere.
    pub draining: CancellationToken,
    /// Set when it stops: no connection is taken any more.
    pub stopping: CancellationToken,
}

/// The shared state of the handlers.
pub type Shared = Arc<Api>;

/// The public API.
pub fn public_router(api: &Shared) -> Router {
    let mut document = openapi::document(api.tokens.dev());
    let cors = Cors::new(&api.config.cors_origins, &document).map(Arc::new);
    let parameters = Arc::new(Parameters::of(&document));
    let router = openapi::routes(&mut document).merge(openapi::page(document));
    finish(router, api, Open { shares: Some(Shares::new(REQUESTS_PER_ADDRESS_MAX)), cors, parameters })
}

/// The internal listener.
pub fn internal_router(api: &Shared) -> Router {
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readiness::readyz))
        .route("/metrics", get(metrics))
        .route("/admin/items/{item_id}", get(admin::get_item).put(admin::put_item).patch(admin::patch_item))
        .route("/admin/items/{item_id}/stock", post(admin::change_stock))
        .route("/admin/coupons/{code}", put(admin::put_coupon))
        .route("/admin/orders/{order_id}/paid", post(admin::order_paid))
        .route("/admin/orders/{order_id}/cancelled", post(admin::order_cancelled))
        .route("/admin/rules", get(admin::rules));
    finish(router, api, Open::default())
}

/// The listener for other regions. Nobody else gets as far as this.
pub fn peer_router(api: &Shared) -> Router {
    let router = Router::new()
        .merge(internal::routes())
        .merge(internal::routes_v0())
        .route_layer(middleware::from_fn_with_state(Arc::clone(api), compare));
    finish(router, api, Open::default())
}

/// A 304 has no body, and the length of none is not that of the answer it stands for (RFC 9110 §8.6). The router puts
/// that length in last, so this is done outside of it.
pub(crate) fn without_length_of_nothing(mut response: Response) -> Response {
    if response.status() == StatusCode::NOT_MODIFIED {
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    response
}

/// Another region may know better than the primary here that this one is of the past: then it is not answered. This
/// region does not take over what it says; it asks its own servers, or any region could end all writes for good.
///
/// Every answer gives the time of the database.
async fn compare(State(api): State<Shared>, request: Request, next: Next) -> Response {
    let known = api.service.upstream.known_epoch();
    if let Some(epoch) = wire::epoch(request.headers()).filter(|epoch| *epoch > known.current()) {
        let asked_by = request.extensions().get::<AskedBy>().map_or("", |AskedBy(region)| region.as_str());
        known.doubt(asked_by, epoch);
        return internal::reply::<()>(Err(CartError::HomeUnavailable));
    }
    let mut response = next.run(request).await;
    if api.service.clock.is_known() {
        response.headers_mut().insert(wire::NOW_MS, HeaderValue::from(api.service.clock.now_ms()));
    }
    response
}

/// What all listeners have in common. It is one layer: each would cost every request an allocation or two more. What
/// is around a request is made of plain functions that return a future: an `async fn` would carry it twice, as what it
/// was given and as what it waits for.
fn finish(router: Router<Shared>, api: &Shared, open: Open) -> Router {
    let listener = Listener {
        api: Arc::clone(api),
        open,
        in_progress: Arc::new(Semaphore::new(REQUESTS_IN_PROGRESS_MAX)),
        requests: Arc::new(HttpRequests::of(&api.service.region)),
    };
    router
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .fallback(async || ApiError::RouteUnknown)
        .layer(middleware::from_fn_with_state(listener, observe))
        .with_state(Arc::clone(api))
}

/// One of the listeners.
#[derive(Clone)]
struct Listener {
    api: Shared,
    open: Open,
    in_progress: Arc<Semaphore>,
    requests: Arc<HttpRequests>,
}

/// What only the public listener has.
#[derive(Clone, Default)]
struct Open {
    /// What each address may have in progress.
    shares: Option<Arc<Shares>>,
    /// Which pages may call.
    cors: Option<Arc<Cors>>,
    /// The query parameters of every route.
    parameters: Arc<Parameters>,
}

/// Gives a request its name, its trace, its log line and its metric.
async fn observe(State(listener): State<Listener>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let api = &listener.api;
    let id = request_id::take(request.headers());
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("unmatched", MatchedPath::as_str);
    let observed = Observed::of(&request, id.clone(), route, &api.service.region);
    let from_region = request.extensions().get::<AskedBy>().is_some();
    if let Some(AskedBy(other)) = request.extensions().get() {
        metric::peer_request(&api.service.region, other.as_str());
    }
    let cors = listener.open.cors.as_ref().map(|cors| cors.ask(&request, route));
    let answered = within_limits(&listener, request, next).instrument(observed.span.clone());
    let answered = request_id::scope(id.clone(), answered);
    let answered = traces::at(observed.place.clone(), answered);
    let (mut response, caller) = observed::with_caller(answered).await;
    if let Some(cors) = cors {
        response = cors.answer(response);
    }
    let (status, elapsed) = (response.status(), started.elapsed());
    observed.ended(api, route, &response, elapsed, caller.as_ref());
    let headers = response.headers_mut();
    headers.insert(request_id::X_REQUEST_ID, id);
    respond::complete(route, headers);
    if !from_region {
        readiness::tell(api, headers);
    }
    listener.requests.record(route, observed.method, status.as_u16(), elapsed);
    response
}

/// Sheds load, ends what takes too long, and keeps a panic to the request that it happened in.
async fn within_limits(listener: &Listener, request: Request, next: Next) -> Response {
    let (share, request) = match admission::admit(listener, request).await {
        Ok(admitted) => admitted,
        Err(refused) => return refused.into_response(),
    };
    let Ok(permit) = Arc::clone(&listener.in_progress).try_acquire_owned() else {
        return ApiError::Overloaded.into_response();
    };
    // A request that one of our regions has forwarded must be answered here, or not at all.
    if listener.api.service.home.forwards() && was_forwarded(request.headers()) {
        return ApiError::from(CartError::LoopDetected).into_response();
    }
    let from_region = request.extensions().get::<AskedBy>().is_some();
    if !from_region && let Err(wrong) = hygiene::check(&request, &listener.open.parameters) {
        return wrong.into_response();
    }
    // Only a region is believed: a stranger could have its work dropped half-way, again and again.
    let said = if from_region { wire::patience(request.headers()) } else { None };
    let patience = said.map_or(REQUEST_DEADLINE, |said| said.min(REQUEST_DEADLINE));
    match deadline::within(patience, or_its_panic(next.run(request))).await {
        Ok(Ok(response)) => admission::hold(with_problem(response), (share, permit)),
        Ok(Err(panic)) => ApiError::from(panic).into_response(),
        Err(deadline::Passed) => ApiError::Overloaded.into_response(),
    }
}

/// Libraries beside the handlers refuse with a status alone, such as the pages of the documentation.
fn with_problem(response: Response) -> Response {
    if response.status() == StatusCode::NOT_FOUND && !response.headers().contains_key(CONTENT_TYPE) {
        return ApiError::RouteUnknown.into_response();
    }
    response
}

fn or_its_panic<F: Future>(work: F) -> impl Future<Output = Result<F::Output, CartError>> {
    AssertUnwindSafe(work).catch_unwind().map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
        CartError::Internal(format!("panic: {text}"))
    })
}

async fn metrics(State(api): State<Shared>) -> Response {
    for region in api.regions.topology().regions() {
        let (state, _) = api.regions.state(region.id);
        let up = state == region_router::health::State::Up;
        metric::region_health(&api.service.region, region.id.as_str(), up);
    }
    if let Some(edges) = api.service.home.edges_serving() {
        metric::home_edges_serving(&api.service.region, edges);
    }
    metric::ready(&api.service.region, &readiness::Readiness::of(&api).can());
    if let Some(store) = &api.primary {
        let (in_use, idle) = store.connections();
        metric::db_pool_connections(&api.service.region, in_use, idle);
        let state = store.state();
        let primaries = usize::from(state.refusal.is_none()) + state.rivals.len();
        metric::db_servers_taking_writes(&api.service.region, primaries);
    }
    if let Some(skew_ms) = api.service.clock.skew_ms() {
        metric::clock_skew(&api.service.region, skew_ms);
    }
    if let Some(lag_ms) = api.service.upstream.replication_lag_ms() {
        metric::replication_lag(&api.service.region, lag_ms);
    }
    metric::build_info(&api.service.region);
    metric::home_up(&api.service.region, api.service.upstream.home_is_reachable());
    let rules = api.service.rules.status();
    let refused_at_ms = rules.last_refused.map_or(0, |refused| refused.at_ms);
    metric::rules_refused(&api.service.region, refused_at_ms > rules.activated_at_ms.unwrap_or(0));
    if let Some(counts) = traces::counts() {
        metric::spans(&api.service.region, &counts);
    }
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(axum::http::header::CONTENT_TYPE, text)], telemetry::prometheus().render()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_mistake_of_ours_and_says_where() {
        let told = or_its_panic(async { panic!("line {}", 7) }).await.map(|()| "done");
        assert_eq!(told, Err(CartError::Internal("panic: line 7".to_owned())));
        assert_eq!(or_its_panic(async { "done" }).await, Ok("done"));
    }
}
