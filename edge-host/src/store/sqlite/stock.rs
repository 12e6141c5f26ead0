//! What orders take from stock and from coupons, and what they give back.

use sqlx::SqliteConnection;

use super::outbox::publish_facts;
use crate::model::{Millis, OrderState, STOCK_MAX};
use crate::store::sql::unsigned;
use crate::store::{LATEST_ORDERS, NewOrder, StoreError};

/// Takes an order's items from stock and counts its coupons. The transaction has the write lock and the
/// rules have seen the stock under it, so a shortage here is a bug; the schema's checks refuse it.
pub(super) async fn take_stock(
    tx: &mut SqliteConnection,
    order: &NewOrder,
    now_ms: Millis,
) -> Result<Option<u64>, StoreError> {
    for (item_id, quantity) in &order.items {
        sqlx::query("UPDATE items SET stock = stock - ?2, changed_at = ?3 WHERE item_id = ?1")
            .bind(item_id)
            .bind(quantity)
            .bind(now_ms)
            .execute(&mut *tx)
            .await?;
    }
    for code in &order.coupons {
        sqlx::query("UPDATE coupons SET redemptions = redemptions + 1, changed_at = ?2 WHERE code = ?1")
            .bind(code)
            .bind(now_ms)
            .execute(&mut *tx)
            .await?;
    }
    let item_ids = order.items.iter().map(|(item_id, _)| item_id.clone()).collect();
    publish_facts(tx, &item_ids, &order.coupons.iter().cloned().collect(), now_ms).await
}

/// How many of an owner's latest orders are unpaid.
pub(super) async fn unpaid(tx: &mut SqliteConnection, cart_id: &str) -> Result<u32, StoreError> {
    let unpaid: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM (SELECT state FROM orders WHERE cart_id = ?1 ORDER BY order_id DESC LIMIT ?2)
         WHERE state = 'pending_payment'",
    )
    .bind(cart_id)
    .bind(LATEST_ORDERS)
    .fetch_one(tx)
    .await?;
    unsigned(unpaid)
}

/// Moves an unsettled order to a state; a cancelled one gives its stock and its coupons back.
pub(super) async fn settle(
    tx: &mut SqliteConnection,
    order_id: &str,
    to: OrderState,
    now_ms: Millis,
) -> Result<Option<u64>, StoreError> {
    let moved = sqlx::query(
        "UPDATE orders SET state = ?2, settled_at = ?3 WHERE order_id = ?1 AND state = 'pending_payment'",
    )
    .bind(order_id)
    .bind(to.as_str())
    .bind(now_ms)
    .execute(&mut *tx)
    .await?;
    if moved.rows_affected() == 0 || to != OrderState::Cancelled {
        return Ok(None);
    }
    let items: Vec<String> = sqlx::query_scalar(
        "UPDATE items SET stock = MIN(stock + o.quantity, ?3), changed_at = ?2 FROM order_items o
         WHERE o.order_id = ?1 AND o.item_id = items.item_id RETURNING items.item_id",
    )
    .bind(order_id)
    .bind(now_ms)
    .bind(STOCK_MAX)
    .fetch_all(&mut *tx)
    .await?;
    let coupons: Vec<String> = sqlx::query_scalar(
        "UPDATE coupons SET redemptions = redemptions - 1, changed_at = ?2 FROM order_coupons o
         WHERE o.order_id = ?1 AND o.code = coupons.code RETURNING coupons.code",
    )
    .bind(order_id)
    .bind(now_ms)
    .fetch_all(&mut *tx)
    .await?;
    publish_facts(tx, &items.into_iter().collect(), &coupons.into_iter().collect(), now_ms).await
}
