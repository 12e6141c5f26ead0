//! The cart's endpoints.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;

use super::Shared;
use super::extract::{Body, Caller, ClientAddress, Conditions, Path};
use super::input;
use super::problem::{ApiError, Problem};
use super::respond::{CartAnswer, Tag, mark_replayed, set_location};
use crate::error::CartError;
use crate::model::{CartCommand, Operation, OwnerKind, Principal};
use crate::service::CartRead;
use crate::upstream::Source;
use crate::view::{self, CartView, CountView, LineView, OrderView};

/// The caller's cart with today's prices.
#[utoipa::path(
    get, path = "/v1/cart", tag = "cart", security(("bearer" = [])),
    params(
        ("Cart-Version" = Option<String>, Header, description = "The newest version of this cart that the client has seen, as it was answered. Nothing older is answered."),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of an earlier answer: 304 when the cart is still the same to the byte."),
    ),
    responses((status = 200, body = CartView), (status = 304, description = "Not modified"), (status = "default", body = Problem)),
)]
pub(super) async fn get_cart(
    State(api): State<Shared>,
    Caller(principal): Caller,
    conditions: Conditions,
) -> Result<Response, ApiError> {
    let CartRead { cart_id, document, source, unconfirmed, timing } =
        api.service.cart(&principal, conditions.seen).await?;
    let answer = |body, tag| CartAnswer {
        status: StatusCode::OK,
        body,
        cart_id: &cart_id,
        version: document.version,
        tag: Tag::Cart(tag),
        region: &api.service.region,
        source,
        timing,
    };
    if unconfirmed {
        let body = view::with_home_unreachable(&document.body);
        let tag = view::fingerprint(&cart_id, &body);
        return Ok(answer(body, &tag).for_read(&conditions));
    }
    Ok(answer(document.body.clone(), &document.tag).for_read(&conditions))
}

/// Lines and units, without loading the cart.
#[utoipa::path(
    get, path = "/v1/cart/count", tag = "cart", security(("bearer" = [])),
    params(("Cart-Version" = Option<String>, Header), ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = CountView), (status = 304, description = "Not modified"), (status = "default", body = Problem)),
)]
pub(super) async fn count(
    State(api): State<Shared>,
    Caller(principal): Caller,
    conditions: Conditions,
) -> Result<Response, ApiError> {
    let read = api.service.count(&principal, conditions.seen).await?;
    let answer = CartAnswer {
        status: StatusCode::OK,
        body: json(&read.count)?,
        cart_id: &read.cart_id,
        version: read.version,
        tag: Tag::Version,
        region: &api.service.region,
        source: read.source,
        timing: read.timing,
    };
    Ok(answer.for_read(&conditions))
}

/// One line of the cart.
#[utoipa::path(
    get, path = "/v1/cart/items/{line_id}", tag = "cart", security(("bearer" = [])),
    params(("line_id" = String, Path), ("Cart-Version" = Option<String>, Header), ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = LineView), (status = 304, description = "Not modified"), (status = "default", body = Problem)),
)]
pub(super) async fn get_line(
    State(api): State<Shared>,
    Caller(principal): Caller,
    conditions: Conditions,
    Path(line_id): Path<String>,
) -> Result<Response, ApiError> {
    let read = api.service.cart(&principal, conditions.seen).await?;
    let line =
        view::line(&read.document.body, &line_id).map_err(|error| CartError::Internal(error.to_string()))?;
    let body = line.ok_or(CartError::LineUnknown(line_id))?;
    let answer = CartAnswer {
        status: StatusCode::OK,
        body: body.into(),
        cart_id: &read.cart_id,
        version: read.document.version,
        // While the cart is the same, so is each of its lines.
        tag: Tag::Cart(&read.document.tag),
        region: &api.service.region,
        source: read.source,
        timing: read.timing,
    };
    Ok(answer.for_read(&conditions))
}

/// Puts so many of an item in; they join the line of the same item and variant.
#[utoipa::path(
    post, path = "/v1/cart/items", tag = "cart", security(("bearer" = [])), request_body = input::AddItem,
    params(("Idempotency-Key" = String, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = CartView), (status = "default", body = Problem)),
)]
pub(super) async fn add_item(
    State(api): State<Shared>,
    Caller(principal): Caller,
    conditions: Conditions,
    Body(body): Body<input::AddItem>,
) -> Result<Response, ApiError> {
    conditions.required_key()?;
    let command = body.command()?;
    change(&api, principal, conditions, command).await
}

/// Makes a line so many; 0 removes it.
#[utoipa::path(
    patch, path = "/v1/cart/items/{line_id}", tag = "cart", security(("bearer" = [])),
    request_body = input::SetQuantity, params(("line_id" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = CartView), (status = "default", body = Problem)),
)]
pub(super) async fn set_quantity(
    State(api): State<Shared>,
    Caller(principal): Caller,
    conditions: Conditions,
    Path(line_id): Path<String>,
    Body(body): Body<input::SetQuantity>,
) -> Result<Response, ApiError> {
    let command = body.command(line_id)?;
    change(&api, principal, conditions, command).await
}

/// Takes a line out.
#[utoipa::path(
    delete, path = "/v1/cart/items/{line_id}", tag = "cart", security(("bearer" = [])),
    params(("line_id" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = CartView), (status = "default", body = Problem)),
)]
pub(super) async fn remove_line(
    State(api): State<Shared>,
    Caller(principal): Caller,
    conditions: Conditions,
    Path(line_id): Path<String>,
) -> Result<Response, ApiError> {
    let command = CartCommand::Remove { line_id: input::line_id(line_id)? };
    change(&api, principal, conditions, command).await
}

/// Takes every line out.
#[utoipa::path(
    delete, path = "/v1/cart/items", tag = "cart", security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = CartView), (status = "default", body = Problem)),
)]
pub(super) async fn clear(
    State(api): State<Shared>,
    Caller(principal): Caller,
    conditions: Conditions,
) -> Result<Response, ApiError> {
    change(&api, principal, conditions, CartCommand::Clear).await
}

/// Types a coupon in; a second time changes nothing.
#[utoipa::path(
    put, path = "/v1/cart/coupons/{code}", tag = "cart", security(("bearer" = [])),
    params(("code" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = CartView), (status = "default", body = Problem)),
)]
pub(super) async fn apply_coupon(
    State(api): State<Shared>,
    Caller(principal): Caller,
    conditions: Conditions,
    Path(code): Path<String>,
) -> Result<Response, ApiError> {
    let command = CartCommand::ApplyCoupon { code: input::coupon_code(code)? };
    change(&api, principal, conditions, command).await
}

/// Takes a coupon back; one that is not there changes nothing.
#[utoipa::path(
    delete, path = "/v1/cart/coupons/{code}", tag = "cart", security(("bearer" = [])),
    params(("code" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = CartView), (status = "default", body = Problem)),
)]
pub(super) async fn remove_coupon(
    State(api): State<Shared>,
    Caller(principal): Caller,
    conditions: Conditions,
    Path(code): Path<String>,
) -> Result<Response, ApiError> {
    let command = CartCommand::RemoveCoupon { code: input::coupon_code(code)? };
    change(&api, principal, conditions, command).await
}

/// Several changes, all or nothing.
#[utoipa::path(
    post, path = "/v1/cart/commands", tag = "cart", security(("bearer" = [])), request_body = input::Commands,
    params(("Idempotency-Key" = String, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = CartView), (status = "default", body = Problem)),
)]
pub(super) async fn commands(
    State(api): State<Shared>,
    Caller(principal): Caller,
    conditions: Conditions,
    Body(body): Body<input::Commands>,
) -> Result<Response, ApiError> {
    conditions.required_key()?;
    let commands = body.commands()?;
    api.limits.batch(&principal, commands.len())?;
    let operation = Operation::Commands(commands);
    write(&api, principal, conditions, operation).await
}

/// Merges a guest's cart into the user's, after signing in.
///
/// The guest's cart ends: its token is answered 410 `cart_merged` from then on. The guest's orders become the user's.
/// The `warnings` of this one answer also say what was capped or left out. After a sign-out, go on with a new guest.
#[utoipa::path(
    post, path = "/v1/cart/merge", tag = "cart", security(("bearer" = [])), request_body = input::Merge,
    params(("Idempotency-Key" = String, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = CartView), (status = "default", body = Problem)),
)]
pub(super) async fn merge(
    State(api): State<Shared>,
    caller: Caller,
    conditions: Conditions,
    Body(body): Body<input::Merge>,
) -> Result<Response, ApiError> {
    let user = caller.user()?;
    conditions.required_key()?;
    let guest = api.tokens.verify(&body.guest_token).ok().filter(|guest| guest.kind == OwnerKind::Guest);
    let guest = guest.ok_or_else(|| {
        ApiError::input("guest_token_invalid", "#/guest_token", "this is not a valid token of a guest")
    })?;
    let written = write(&api, user, conditions, Operation::Merge { guest, policy: body.policy }).await;
    written.map_err(of_one_command)
}

/// Orders what is in the cart, at the total that the client has shown.
#[utoipa::path(
    post, path = "/v1/cart/checkout", tag = "cart", security(("bearer" = [])), request_body = input::Checkout,
    params(("Idempotency-Key" = String, Header), ("If-Match" = String, Header)),
    responses((status = 201, body = OrderView), (status = "default", body = Problem)),
)]
pub(super) async fn checkout(
    State(api): State<Shared>,
    Caller(principal): Caller,
    ClientAddress(address): ClientAddress,
    conditions: Conditions,
    Body(body): Body<input::Checkout>,
) -> Result<Response, ApiError> {
    conditions.required_key()?;
    if !conditions.if_match.given {
        return Err(ApiError::PreconditionRequired);
    }
    let (expected_total, currency) = body.total()?;
    if principal.kind == OwnerKind::Guest {
        api.limits.guest_order(address)?;
    }
    write(&api, principal, conditions, Operation::Checkout { expected_total, currency }).await
}

async fn change(
    api: &Shared,
    principal: Principal,
    conditions: Conditions,
    command: CartCommand,
) -> Result<Response, ApiError> {
    let written = write(api, principal, conditions, Operation::Commands(vec![command])).await;
    written.map_err(of_one_command)
}

/// A request that is not a batch has no list of commands that a pointer could point into.
fn of_one_command(error: ApiError) -> ApiError {
    match error {
        ApiError::Cart(CartError::Rejected(mut reasons)) => {
            reasons.iter_mut().for_each(|reason| reason.command = None);
            CartError::Rejected(reasons).into()
        }
        other => other,
    }
}

async fn write(
    api: &Shared,
    principal: Principal,
    conditions: Conditions,
    operation: Operation,
) -> Result<Response, ApiError> {
    let cart_id = principal.cart_id();
    let (key, if_match) = (conditions.idempotency_key.clone(), conditions.if_match.versions.clone());
    let orders = matches!(operation, Operation::Checkout { .. });
    let route = conditions.route.clone();
    let (reply, timing) = api.service.write(principal, operation, key, if_match, route).await?;
    let status =
        StatusCode::from_u16(reply.answer.status).map_err(|error| CartError::Internal(error.to_string()))?;
    // The tag that a read of the same would have. What is said of the commands alone is in no read.
    let fingerprint = match &reply.document {
        Some(document) if document.body == reply.answer.body => document.tag.clone(),
        _ => view::fingerprint(&cart_id, reply.answer.body.as_bytes()),
    };
    let answer = CartAnswer {
        status,
        body: reply.answer.body.into(),
        cart_id: &cart_id,
        version: reply.answer.version,
        tag: if orders { Tag::Order(&fingerprint) } else { Tag::Cart(&fingerprint) },
        region: &api.service.region,
        source: Source::Home,
        timing,
    };
    let mut response = answer.for_write(&conditions);
    if let Some(location) = &reply.answer.location {
        set_location(&mut response, location);
    }
    if reply.replayed {
        mark_replayed(&mut response);
    }
    Ok(response)
}

fn json(document: &impl Serialize) -> Result<Bytes, ApiError> {
    let json = serde_json::to_vec(document).map_err(|error| CartError::Internal(error.to_string()))?;
    Ok(json.into())
}
