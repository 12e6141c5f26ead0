//! What time sweeps away. Of all the edges that share a primary, one sweeps at a time.
//!
//! A cart that has expired is emptied. Its row stays, a guest's too: a cart that begins again at version 1 would be older
//! than what caches hold of it and than what clients have seen, and versions only grow.

use cart_core::Cart;
use futures_util::StreamExt;

use super::MySqlStore;
use super::carts;
use super::changes::Changes;
use super::connections::Share;
use super::outbox;
use super::script::Script;
use super::session::{Failure, Session};
use crate::model::{CartRecord, CartState, GUEST_PAYMENT_TTL_MS, Millis, PAYMENT_TTL_MS};
use crate::store::Swept;

/// Carts, and orders, that one sweep takes: each in a transaction of its own, so a sweep ends within about a second.
/// With the pause between two sweeps that is more than ten million users a day leave behind, 116 carts a second.
const SWEEP_CARTS_MAX: i64 = 300;
/// Of these at once. Shoppers have the other connections.
const SWEEP_AT_ONCE: usize = 4;
/// Rows that one sweep deletes in one statement, which locks them for some 10 ms. A thousand writes a second leave as
/// many behind.
const SWEEP_ROWS_MAX: i64 = 2000;
/// Events stay in the outbox so long; a region that was away longer starts from a snapshot.
const OUTBOX_TTL_MS: Millis = 3600 * 1000;
/// The server's named lock of whoever sweeps. It goes with the connection.
const LOCK: &str = "SELECT GET_LOCK(CONCAT('troli.sweep.', DATABASE()), 0)";
const UNLOCK: &str = "SELECT RELEASE_LOCK(CONCAT('troli.sweep.', DATABASE()))";

impl MySqlStore {
    /// Sweeps a batch, unless somebody else is sweeping.
    pub(super) async fn sweep_as_one(&self, now_ms: Millis) -> Result<Swept, Failure> {
        let mut holder = Session::acquire_of(&self.connections, Share::Work).await?;
        let locked: Option<i64> = sqlx::query_scalar(LOCK).fetch_one(&mut *holder).await?;
        let swept = if locked == Some(1) { self.sweep_all_kinds(now_ms).await? } else { Swept::default() };
        let _: Option<i64> = sqlx::query_scalar(UNLOCK).fetch_one(&mut *holder).await?;
        holder.release();
        Ok(swept)
    }

    async fn sweep_all_kinds(&self, now_ms: Millis) -> Result<Swept, Failure> {
        let orders = self.cancel_unpaid(now_ms).await?;
        let carts = self.expire_carts(now_ms).await?;
        let [merged, answers] = self.delete_expired(now_ms).await?;
        let mut tx = Session::begin(&self.connections).await?;
        let events = outbox::sweep(&mut tx, now_ms - OUTBOX_TTL_MS, SWEEP_ROWS_MAX).await?;
        self.commit(tx, false).await?;
        Ok(Swept { orders, carts, merged, answers, events })
    }

    /// Each by itself: one that cannot be cancelled must not keep the others.
    async fn cancel_unpaid(&self, now_ms: Millis) -> Result<u64, Failure> {
        let unpaid: Vec<String> = sqlx::query_scalar(
            "SELECT order_id FROM orders LEFT JOIN carts USING (cart_id)
             WHERE orders.state = 'pending_payment' AND placed_at <= ?
                 AND (placed_at <= ? OR owner_kind = 'guest') LIMIT ?",
        )
        .bind(now_ms - GUEST_PAYMENT_TTL_MS)
        .bind(now_ms - PAYMENT_TTL_MS)
        .bind(SWEEP_CARTS_MAX)
        .fetch_all(&self.connections.pool()?)
        .await?;
        let mut swept = 0;
        for order_id in unpaid {
            match self.try_cancel(&order_id, now_ms).await {
                Ok(()) => swept += 1,
                Err(error) => {
                    tracing::error!(order.id = order_id, error = ?error, "unpaid order not cancelled")
                }
            }
        }
        Ok(swept)
    }

    async fn expire_carts(&self, now_ms: Millis) -> Result<u64, Failure> {
        let expired: Vec<String> = sqlx::query_scalar(
            "SELECT cart_id FROM carts WHERE state = 'active' AND expires_at <= ? LIMIT ?",
        )
        .bind(now_ms)
        .bind(SWEEP_CARTS_MAX)
        .fetch_all(&self.connections.pool()?)
        .await?;
        let mut ends = futures_util::stream::iter(expired)
            .map(|cart_id| async move {
                match self.expire(&cart_id, now_ms).await {
                    Ok(()) => 1,
                    Err(error) => {
                        tracing::error!(cart.id = cart_id, error = ?error, "cart not expired");
                        0
                    }
                }
            })
            .buffer_unordered(SWEEP_AT_ONCE);
        let mut swept = 0;
        while let Some(one) = ends.next().await {
            swept += one;
        }
        Ok(swept)
    }

    /// Empties a cart whose time is over, unless its owner was faster. Its header stays for the version's sake, and
    /// is not looked at again.
    async fn expire(&self, cart_id: &str, now_ms: Millis) -> Result<(), Failure> {
        let mut tx = Session::acquire_of(&self.connections, Share::Work).await?;
        // One that is locked is in use.
        let mut found = carts::lock(&mut tx, Script::transaction(), &[cart_id], &[]).await?;
        let found = found.carts.remove(cart_id).map(|cart| cart.record);
        let is_over = |record: &CartRecord| {
            record.state == CartState::Active && record.expires_at_ms.is_some_and(|at_ms| at_ms <= now_ms)
        };
        let Some(record) = found.filter(is_over) else { return tx.roll_back().await };
        let emptied = CartRecord {
            cart: Cart::empty(record.cart.currency),
            version: record.version.next(),
            updated_at_ms: Some(now_ms),
            expires_at_ms: None,
            ..record.clone()
        };
        let mut changes = Changes::default();
        changes.cart(&record, &emptied, now_ms)?;
        self.commit_after(changes.into_script(), tx, true).await
    }

    /// Answers and keys that may be forgotten; and guests' carts that went to users, once the guests' tokens have ended.
    async fn delete_expired(&self, now_ms: Millis) -> Result<[u64; 2], Failure> {
        let merged = sqlx::query("DELETE FROM carts WHERE state = 'merged' AND expires_at <= ? LIMIT ?")
            .bind(now_ms)
            .bind(SWEEP_ROWS_MAX)
            .execute(&self.connections.pool()?)
            .await?;
        let answers = sqlx::query("DELETE FROM idempotency_keys WHERE expires_at <= ? LIMIT ?")
            .bind(now_ms)
            .bind(SWEEP_ROWS_MAX)
            .execute(&self.connections.pool()?)
            .await?;
        let keys = sqlx::query("DELETE FROM admin_keys WHERE expires_at <= ? LIMIT ?")
            .bind(now_ms)
            .bind(SWEEP_ROWS_MAX)
            .execute(&self.connections.pool()?)
            .await?;
        Ok([merged.rows_affected(), answers.rows_affected() + keys.rows_affected()])
    }
}
