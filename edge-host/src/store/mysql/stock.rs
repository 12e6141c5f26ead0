//! What orders take from stock and from coupons, and what they give back.

use sqlx::MySqlConnection;

use super::outbox::publish_facts;
use super::session::Failure;
use crate::model::{Millis, OrderState, STOCK_MAX};
use crate::store::NewOrder;

/// Takes an order's items from stock and counts its coupons. Their rows are locked and the rules have seen them,
/// so a shortage here is a bug; the columns are unsigned and refuse it.
pub(super) async fn take_stock(
    tx: &mut MySqlConnection,
    order: &NewOrder,
    now_ms: Millis,
) -> Result<(), Failure> {
    for (item_id, quantity) in &order.items {
        sqlx::query("UPDATE items SET stock = stock - ?, changed_at = ? WHERE item_id = ?")
            .bind(quantity)
            .bind(now_ms)
            .bind(item_id)
            .execute(&mut *tx)
            .await?;
    }
    for code in &order.coupons {
        sqlx::query("UPDATE coupons SET redemptions = redemptions + 1, changed_at = ? WHERE code = ?")
            .bind(now_ms)
            .bind(code)
            .execute(&mut *tx)
            .await?;
    }
    let item_ids: Vec<&str> = order.items.iter().map(|(item_id, _)| item_id.as_str()).collect();
    let codes: Vec<&str> = order.coupons.iter().map(String::as_str).collect();
    publish_facts(tx, &item_ids, &codes, now_ms).await
}

/// Moves an unsettled order to a state; a cancelled one gives its stock and its coupons back. Returns whether it
/// was unsettled.
pub(super) async fn settle(
    tx: &mut MySqlConnection,
    order_id: &str,
    to: OrderState,
    now_ms: Millis,
) -> Result<bool, Failure> {
    let moved = sqlx::query(
        "UPDATE orders SET state = ?, settled_at = ? WHERE order_id = ? AND state = 'pending_payment'",
    )
    .bind(to.as_str())
    .bind(now_ms)
    .bind(order_id)
    .execute(&mut *tx)
    .await?;
    if moved.rows_affected() == 0 {
        return Ok(false);
    }
    if to != OrderState::Cancelled {
        return Ok(true);
    }
    let items: Vec<(String, u32)> =
        sqlx::query_as("SELECT item_id, quantity FROM order_items WHERE order_id = ? ORDER BY item_id")
            .bind(order_id)
            .fetch_all(&mut *tx)
            .await?;
    for (item_id, quantity) in &items {
        sqlx::query("UPDATE items SET stock = LEAST(stock + ?, ?), changed_at = ? WHERE item_id = ?")
            .bind(quantity)
            .bind(STOCK_MAX)
            .bind(now_ms)
            .bind(item_id)
            .execute(&mut *tx)
            .await?;
    }
    let codes: Vec<String> =
        sqlx::query_scalar("SELECT code FROM order_coupons WHERE order_id = ? ORDER BY code")
            .bind(order_id)
            .fetch_all(&mut *tx)
            .await?;
    for code in &codes {
        sqlx::query("UPDATE coupons SET redemptions = redemptions - 1, changed_at = ? WHERE code = ?")
            .bind(now_ms)
            .bind(code)
            .execute(&mut *tx)
            .await?;
    }
    let item_ids: Vec<&str> = items.iter().map(|(item_id, _)| item_id.as_str()).collect();
    let codes: Vec<&str> = codes.iter().map(String::as_str).collect();
    publish_facts(tx, &item_ids, &codes, now_ms).await?;
    Ok(true)
}
