//! The payment service's word about orders.

use axum::extract::State;
use axum::http::Method;
use axum::response::Response;

use super::{Admin, Key, answer, primary, written};
use crate::error::CartError;
use crate::http::extract::Path;
use crate::http::input::is_name;
use crate::http::problem::ApiError;
use crate::http::{Api, Shared};
use crate::model::OrderState;
use crate::view;

/// Characters of an order's id; ours have 34.
const ORDER_ID_CHARS_MAX: usize = 64;

/// The order is paid.
pub(in crate::http) async fn order_paid(
    _: Admin,
    State(api): State<Shared>,
    Path(order_id): Path<String>,
    key: Key,
) -> Result<Response, ApiError> {
    settle(&api, order_id, OrderState::Paid, "paid", key).await
}

/// The order is cancelled; its stock goes back.
pub(in crate::http) async fn order_cancelled(
    _: Admin,
    State(api): State<Shared>,
    Path(order_id): Path<String>,
    key: Key,
) -> Result<Response, ApiError> {
    settle(&api, order_id, OrderState::Cancelled, "cancelled", key).await
}

async fn settle(
    api: &Api,
    order_id: String,
    to: OrderState,
    word: &str,
    key: Key,
) -> Result<Response, ApiError> {
    let store = primary(api)?;
    if !is_name(&order_id, ORDER_ID_CHARS_MAX) {
        return Err(CartError::OrderUnknown(order_id).into());
    }
    let once = key.of(&Method::POST, &format!("/admin/orders/{order_id}/{word}"), &());
    let outcome = store.settle_order(&order_id, to, &once).await.map_err(CartError::from)?;
    let refused = |order: Option<crate::model::OrderRecord>| match order {
        None => CartError::OrderUnknown(order_id).into(),
        Some(order) => {
            ApiError::refused("order_settled", format!("the order is {} already", order.state.as_str()))
        }
    };
    let (order, replayed) = written(api, outcome, refused).await?;
    let order = view::order(order).map_err(|error| CartError::Internal(error.to_string()))?;
    Ok(answer(&order, replayed))
}
