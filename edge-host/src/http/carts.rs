//! The cart's endpoints.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use serde::Serialize;

use super::Shared;
use super::extract::{Body, Caller, ClientAddress, Conditions, Path};
use super::input;
use super::problem::{ApiError, Place};
use super::respond::{CartAnswer, Tag, mark_replayed, set_location};
use crate::error::CartError;
use crate::model::{CartCommand, Operation, OwnerKind, Principal};
use crate::service::CartRead;
use crate::upstream::Source;
use crate::view;

/// The caller's cart with today's prices.
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

/// Adds an item.
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

/// Sets a line's quantity.
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

/// Removes a line.
pub(super) async fn remove_line(
    State(api): State<Shared>,
    Caller(principal): Caller,
    conditions: Conditions,
    Path(line_id): Path<String>,
) -> Result<Response, ApiError> {
    let command = CartCommand::Remove { line_id: input::line_id(line_id)? };
    change(&api, principal, conditions, command).await
}

/// Removes every line.
pub(super) async fn clear(
    State(api): State<Shared>,
    Caller(principal): Caller,
    conditions: Conditions,
) -> Result<Response, ApiError> {
    change(&api, principal, conditions, CartCommand::Clear).await
}

/// Applies a coupon.
pub(super) async fn apply_coupon(
    State(api): State<Shared>,
    Caller(principal): Caller,
    conditions: Conditions,
    Path(code): Path<String>,
) -> Result<Response, ApiError> {
    let command = CartCommand::ApplyCoupon { code: input::coupon_code(code)? };
    change(&api, principal, conditions, command).await
}

/// Removes a coupon.
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
    write(&api, principal, conditions, operation).await.map_err(|error| match error {
        ApiError::Refused(reasons, _) => ApiError::Refused(reasons, Place::Commands),
        other => other,
    })
}

/// Merges a guest's cart into the user's, after signing in.
///
/// The guest's cart ends: its token is answered 410 `cart_merged` from then on. The guest's orders become the user's.
/// The `warnings` of this one answer also say what was capped or left out. After a sign-out, go on with a new guest.
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
    write(&api, user, conditions, Operation::Merge { guest, policy: body.policy }).await
}

/// Orders what is in the cart, at the total that the client has shown.
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
    write(api, principal, conditions, Operation::Commands(vec![command])).await
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
    let place = place(&operation);
    let (reply, timing) = match api.service.write(principal, operation, key, if_match, route).await {
        Err(CartError::Rejected(reasons)) => return Err(ApiError::Refused(reasons, place)),
        written => written?,
    };
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

/// Where the reasons of the rules belong in the body of a request for this.
fn place(operation: &Operation) -> Place {
    match operation {
        Operation::Commands(commands) => match commands.as_slice() {
            [CartCommand::Add { .. } | CartCommand::SetQuantity { .. }] => Place::Fields,
            [_] => Place::Nowhere,
            _ => Place::Commands,
        },
        Operation::Merge { .. } | Operation::Checkout { .. } => Place::Whole,
    }
}

fn json(document: &impl Serialize) -> Result<Bytes, ApiError> {
    let json = serde_json::to_vec(document).map_err(|error| CartError::Internal(error.to_string()))?;
    Ok(json.into())
}
