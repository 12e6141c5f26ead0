//! Everything that clients ask for beside the cart: tokens, orders, items, regions.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use region_router::decision::{
    ClientHint, ROUND_TRIPS_HEADER, RoundTrip, RoundTripsMalformed, parse_round_trips,
};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::cursor::List;
use super::extract::{Body, Caller, ClientAddress, Conditions, IfNoneMatch, OptionalBody, Path, Query};
use super::problem::ApiError;
use super::{input, respond};
use crate::auth::GuestToken;
use crate::catalogue::Catalogue;
use crate::error::CartError;
use crate::home::{ORDERS_BYTES_MAX, bytes_of};
use crate::model::OrderRecord;
use crate::raw_json::RawJson;
use crate::view::{self, ItemView, rfc3339};

/// Orders and items in one page, where the client does not say.
const PAGE_DEFAULT: usize = 20;
/// Orders and items in one page at most.
const PAGE_MAX: usize = 100;

/// A guest's token.
#[derive(Serialize)]
pub(super) struct Guest {
    guest_id: String,
    /// To be sent as `Authorization: Bearer …`.
    token: String,
    expires_at: String,
}

/// A token of the local fleet.
#[derive(Serialize)]
pub(super) struct DevToken {
    /// To be sent as `Authorization: Bearer …`.
    token: String,
}

/// Which page is wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// A page of orders, newest first.
#[derive(Serialize)]
pub(super) struct Orders {
    orders: Vec<RawJson>,
    /// For the next page; null on the last one.
    next_cursor: Option<String>,
}

/// A page of items, ordered by name.
#[derive(Serialize)]
pub(super) struct Items {
    items: Vec<ItemView>,
    /// For the next page; null on the last one.
    next_cursor: Option<String>,
}

/// The regions, as this one sees them.
#[derive(Serialize)]
pub(super) struct Regions {
    /// In the order in which they should be tried by this caller.
    regions: Vec<RegionView>,
    /// The first healthy one for this caller.
    nearest: String,
    /// The region that answered.
    answered_by: String,
}

/// A region.
#[derive(Serialize)]
pub(super) struct RegionView {
    id: String,
    name: String,
    country: String,
    currency: String,
    /// Where the region is reached directly, for one to measure the round trip: `GET /v1/items?limit=1`, say, and
    /// tell it in `Troli-Round-Trips`. Null where it is reached through a front door only.
    url: Option<String>,
    /// Whether writes are decided here.
    home: bool,
    /// `up`, `down` or `unknown`.
    health: String,
}

/// Creates a guest.
pub(super) async fn new_guest(
    State(api): State<Shared>,
    ClientAddress(address): ClientAddress,
    OptionalBody(body): OptionalBody<input::NewGuest>,
) -> Result<(StatusCode, Json<Guest>), ApiError> {
    api.limits.new_guest(address)?;
    guest(api.tokens.issue_guest(body.currency, api.service.clock.now_ms()))
}

/// Renews the caller's guest token: a fresh one of the same guest and cart, for 30 more days. The old one stays
/// valid until it expires. An app that is opened now and then renews when half of that time is over. A guest whose
/// cart was merged into a user's gets 410 `cart_merged`: after a sign-out, create a new guest.
pub(super) async fn renew_guest(
    State(api): State<Shared>,
    ClientAddress(address): ClientAddress,
    caller: Caller,
    conditions: Conditions,
) -> Result<(StatusCode, Json<Guest>), ApiError> {
    api.limits.new_guest(address)?;
    let principal = caller.guest()?;
    // A cart that was merged has no count.
    api.service.count(&principal, conditions.seen).await?;
    guest(api.tokens.renew_guest(principal, api.service.clock.now_ms()))
}

fn guest(issued: Option<GuestToken>) -> Result<(StatusCode, Json<Guest>), ApiError> {
    let guest = issued.ok_or_else(|| CartError::Internal("a guest token could not be signed".to_owned()))?;
    let expires_at = rfc3339(guest.expires_at_ms);
    Ok((StatusCode::CREATED, Json(Guest { guest_id: guest.principal.id, token: guest.token, expires_at })))
}

/// Creates a token of any user: only for development.
pub(super) async fn new_dev_token(
    State(api): State<Shared>,
    Body(body): Body<input::NewDevToken>,
) -> Result<(StatusCode, Json<DevToken>), ApiError> {
    input::user_id(&body.user_id)?;
    let token = api.tokens.issue_dev(&body.user_id, body.currency, api.service.clock.now_ms());
    let token = token.ok_or(ApiError::RouteUnknown)?;
    Ok((StatusCode::CREATED, Json(DevToken { token })))
}

/// The caller's orders, newest first.
pub(super) async fn orders(
    State(api): State<Shared>,
    Caller(principal): Caller,
    Query(page): Query<Page>,
    IfNoneMatch(known): IfNoneMatch,
) -> Result<Response, ApiError> {
    let limit = page.limit()?;
    let more = u32::try_from(limit + 1).unwrap_or(u32::MAX);
    let after = List::Orders.after(page.cursor.as_deref())?;
    let mut orders = api.service.home.orders(&principal, after.as_deref(), more).await?;
    // A page ends early when its orders are large.
    let full = orders.len() > limit || bytes_of(&orders) >= ORDERS_BYTES_MAX;
    orders.truncate(limit);
    let next_cursor =
        if full { orders.last().map(|order| List::Orders.cursor_after(&order.order_id)) } else { None };
    let orders: Result<_, ApiError> = orders.into_iter().map(shown).collect();
    respond::of_orders(&principal.cart_id(), &Orders { orders: orders?, next_cursor }, &known)
}

/// One order of the caller.
pub(super) async fn order(
    State(api): State<Shared>,
    Caller(principal): Caller,
    Path(order_id): Path<String>,
    IfNoneMatch(known): IfNoneMatch,
) -> Result<Response, ApiError> {
    let order = shown(api.service.home.order(&principal, &order_id).await?)?;
    respond::of_orders(&principal.cart_id(), &order, &known)
}

fn shown(order: OrderRecord) -> Result<RawJson, ApiError> {
    view::order(order).map_err(|error| CartError::Internal(error.to_string()).into())
}

/// The catalogue with current prices.
pub(super) async fn items(
    State(api): State<Shared>,
    ClientAddress(address): ClientAddress,
    Query(page): Query<Page>,
    IfNoneMatch(known): IfNoneMatch,
) -> Result<Response, ApiError> {
    api.limits.catalogue(address)?;
    let limit = page.limit()?;
    let after = List::Items.after(page.cursor.as_deref())?;
    let mut items = catalogue(&api)?.items(after.as_deref(), limit + 1);
    let full = items.len() > limit;
    items.truncate(limit);
    let next_cursor =
        if full { items.last().map(|item| List::Items.cursor_after(&item.item_id)) } else { None };
    let items = Items { items: items.iter().map(|item| view::item(item)).collect(), next_cursor };
    respond::of_catalogue(&items, &known)
}

/// One item with its current prices.
pub(super) async fn item(
    State(api): State<Shared>,
    ClientAddress(address): ClientAddress,
    Path(item_id): Path<String>,
    IfNoneMatch(known): IfNoneMatch,
) -> Result<Response, ApiError> {
    api.limits.catalogue(address)?;
    let item = catalogue(&api)?.item(&item_id).ok_or(CartError::ItemUnknown(item_id))?;
    respond::of_catalogue(&view::item(&item), &known)
}

/// What is for sale, as soon as that is known: an edge that started while home was away has not heard of it yet.
fn catalogue(api: &Shared) -> Result<&Catalogue, ApiError> {
    if api.feed.ready() { Ok(&api.service.catalogue) } else { Err(CartError::HomeUnavailable.into()) }
}

/// The regions, their health, and which one is nearest to the caller: by the round trips it has measured and
/// tells in `Troli-Round-Trips: sin=12,jkt=31` (milliseconds), else by its address.
pub(super) async fn regions(
    State(api): State<Shared>,
    ClientAddress(address): ClientAddress,
    headers: HeaderMap,
) -> Result<Json<Regions>, ApiError> {
    api.limits.catalogue(address)?;
    let round_trips = round_trips(&headers)?;
    let hint =
        ClientHint { region: None, round_trips: &round_trips, country: api.countries.country_of(address) };
    let order = api.regions.decide(&hint).map_err(|error| CartError::Internal(error.to_string()))?;
    let topology = api.regions.topology();
    let view = |region: &region_router::topology::Region| RegionView {
        id: region.id.to_string(),
        name: region.name.clone(),
        country: region.country.to_string(),
        currency: region.currency.to_string(),
        url: region.url.clone(),
        home: region.id == topology.home().id,
        health: api.regions.state(region.id).0.as_str().to_owned(),
    };
    let nearest = order.first().map_or(api.config.region, |candidate| candidate.region);
    Ok(Json(Regions {
        regions: order.iter().filter_map(|next| topology.region(next.region)).map(view).collect(),
        nearest: nearest.to_string(),
        answered_by: api.service.region.clone(),
    }))
}

fn round_trips(headers: &HeaderMap) -> Result<Vec<RoundTrip>, ApiError> {
    let Some(value) = headers.get(ROUND_TRIPS_HEADER) else {
        return Ok(Vec::new());
    };
    let read = value.to_str().ok().map(parse_round_trips).unwrap_or(Err(RoundTripsMalformed));
    read.map_err(|wrong| ApiError::refused("round_trips_malformed", format!("Troli-Round-Trips: {wrong}")))
}

impl Page {
    fn limit(&self) -> Result<usize, ApiError> {
        match self.limit.unwrap_or(PAGE_DEFAULT) {
            limit @ 1..=PAGE_MAX => Ok(limit),
            _ => Err(ApiError::refused("limit_out_of_range", format!("limit is between 1 and {PAGE_MAX}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::model::OrderState;

    use super::*;

    /// Orders of earlier versions may be deeper than any input is taken now.
    #[test]
    fn an_order_of_any_depth_is_read_settled_and_passed_on() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let document = RawJson::new(format!(r#"{{"id":"o_1","state":"pending_payment","lines":{deep}}}"#));
        let document = document.expect("JSON");
        let order = OrderRecord { order_id: "o_1".to_owned(), state: OrderState::Paid, document };
        let sent = serde_json::to_vec(&vec![order.clone()]).expect("JSON");
        let arrived: Vec<OrderRecord> = serde_json::from_slice(&sent).expect("the same");
        assert_eq!(arrived, std::slice::from_ref(&order));
        let shown = super::shown(order).expect("JSON");
        assert_eq!(shown.as_str(), format!(r#"{{"id":"o_1","state":"paid","lines":{deep}}}"#));
    }
}
