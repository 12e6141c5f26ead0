//! Orders: what they take from stock and from coupons, and what they give back.

use sqlx::MySqlConnection;

use super::outbox::publish_facts;
use super::script::{Rows, Script};
use super::session::{Failure, Session};
use super::{MySqlStore, keys};
use crate::model::{Millis, OrderRecord, OrderState, Principal, STOCK_MAX};
use crate::store::keyed::Taken;
use crate::store::sql::{from_json, to_json, unsigned};
use crate::store::{KeyedOutcome, LATEST_ORDERS, NewOrder, OnceKey, StoreError};

/// One attempt at each.
impl MySqlStore {
    /// The payment service's word, under its key. `commit_tried` says whether an attempt has got as far as its
    /// commit: then a key that is found may be its own.
    pub(super) async fn try_settle_once(
        &self,
        order_id: &str,
        to: OrderState,
        key: &OnceKey,
        commit_tried: &mut bool,
    ) -> Result<KeyedOutcome<OrderRecord>, Failure> {
        let mut tx = Session::begin(&self.connections).await?;
        let taken = keys::take(&mut tx, key).await?;
        if matches!(taken, Taken::Free) {
            settle(&mut tx, order_id, to, key.now_ms).await?;
        }
        let row: Option<OrderRow> =
            sqlx::query_as("SELECT order_id, state, document FROM orders WHERE order_id = ?")
                .bind(order_id)
                .fetch_optional(&mut *tx)
                .await?;
        let found = row.map(order).transpose()?;
        match (taken, found) {
            (Taken::Reused(kept), _) => {
                tx.roll_back().await?;
                Ok(KeyedOutcome::KeyReused(kept))
            }
            (Taken::Free, Some(value)) if value.state == to => {
                *commit_tried = true;
                self.commit(tx, true).await?;
                Ok(KeyedOutcome::Done { value, seq: None })
            }
            (Taken::Done, Some(value)) => {
                tx.roll_back().await?;
                Ok(if *commit_tried {
                    KeyedOutcome::Done { value, seq: None }
                } else {
                    KeyedOutcome::Replayed(value)
                })
            }
            (_, found) => {
                tx.roll_back().await?;
                Ok(KeyedOutcome::Refused(found))
            }
        }
    }

    /// Cancels an order whose time to be paid is over.
    pub(super) async fn try_cancel(&self, order_id: &str, now_ms: Millis) -> Result<(), Failure> {
        let mut tx = Session::begin(&self.connections).await?;
        settle(&mut tx, order_id, OrderState::Cancelled, now_ms).await?;
        self.commit(tx, true).await
    }

    pub(super) async fn try_orders(
        &self,
        owner: &Principal,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<OrderRecord>, Failure> {
        let mut session = Session::acquire(&self.connections).await?;
        let rows: Vec<OrderRow> = sqlx::query_as(
            "SELECT order_id, state, document FROM orders
             WHERE cart_id = ? AND (? IS NULL OR order_id < ?) ORDER BY order_id DESC LIMIT ?",
        )
        .bind(owner.cart_id())
        .bind(before)
        .bind(before)
        .bind(limit)
        .fetch_all(&mut *session)
        .await?;
        session.release();
        Ok(rows.into_iter().map(order).collect::<Result<_, _>>()?)
    }

    /// An order of this owner, or of any.
    pub(super) async fn try_order(
        &self,
        owner: Option<&Principal>,
        order_id: &str,
    ) -> Result<Option<OrderRecord>, Failure> {
        let mut session = Session::acquire(&self.connections).await?;
        let row: Option<OrderRow> = sqlx::query_as(
            "SELECT order_id, state, document FROM orders WHERE order_id = ? AND cart_id = COALESCE(?, cart_id)",
        )
        .bind(order_id)
        .bind(owner.map(Principal::cart_id))
        .fetch_optional(&mut *session)
        .await?;
        session.release();
        Ok(row.map(order).transpose()?)
    }
}

/// How many of an owner's latest orders are unpaid. The lock on the cart keeps others from placing more.
pub(super) async fn unpaid(tx: &mut MySqlConnection, cart_id: &str) -> Result<u32, Failure> {
    let unpaid: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM
             (SELECT state FROM orders WHERE cart_id = ? ORDER BY order_id DESC LIMIT ?) AS latest
         WHERE state = 'pending_payment'",
    )
    .bind(cart_id)
    .bind(LATEST_ORDERS)
    .fetch_one(tx)
    .await?;
    Ok(unsigned(unpaid)?)
}

/// Writes an order and what it is of, and takes that from stock: in two messages, however many items there are. Their
/// rows are locked and the rules have seen them, so a shortage here is a bug; the columns are unsigned and refuse it.
pub(super) async fn place(
    tx: &mut MySqlConnection,
    cart_id: &str,
    order: &NewOrder,
    now_ms: Millis,
) -> Result<(), Failure> {
    let mut script = Script::default();
    script.add(
        "INSERT INTO orders (order_id, cart_id, state, document, placed_at) VALUES (?, ?, ?, ?, ?)",
        &[
            (&order.order_id).into(),
            cart_id.into(),
            OrderState::PendingPayment.as_str().into(),
            (&to_json(&order.document)?).into(),
            now_ms.into(),
        ],
    );
    let (mut items, mut taken) = (Rows::default(), Rows::default());
    for (item_id, quantity) in &order.items {
        items.add(&[(&order.order_id).into(), item_id.into(), (*quantity).into()]);
        taken.add_named("ROW", &[item_id.into(), (*quantity).into()]);
    }
    let (mut coupons, mut redeemed) = (Rows::default(), Rows::default());
    for code in &order.coupons {
        coupons.add(&[(&order.order_id).into(), code.into()]);
        redeemed.add_one(code.into());
    }
    script.add_rows("INSERT INTO order_items (order_id, item_id, quantity) VALUES ", &items, "");
    script.add_rows("INSERT INTO order_coupons (order_id, code) VALUES ", &coupons, "");
    let now = format!(
        ") AS taken (item_id, quantity) USING (item_id) SET i.stock = i.stock - taken.quantity, i.changed_at = {now_ms}"
    );
    script.add_rows("UPDATE items i JOIN (VALUES ", &taken, &now);
    let now =
        format!("UPDATE coupons SET redemptions = redemptions + 1, changed_at = {now_ms} WHERE code IN (");
    script.add_rows(&now, &redeemed, ")");
    script.run(tx).await?;
    let item_ids: Vec<&str> = order.items.iter().map(|(item_id, _)| item_id.as_str()).collect();
    let codes: Vec<&str> = order.coupons.iter().map(String::as_str).collect();
    publish_facts(tx, &item_ids, &codes, now_ms).await
}

/// A guest's orders become those of the user who took the guest's cart over. Both carts are locked, so the guest
/// places no order meanwhile.
pub(super) fn hand_over(script: &mut Script, guest_cart_id: &str, cart_id: &str) {
    script.add("UPDATE orders SET cart_id = ? WHERE cart_id = ?", &[cart_id.into(), guest_cart_id.into()]);
}

/// Moves an unsettled order to a state; a cancelled one gives its stock and its coupons back. Returns whether it
/// was unsettled.
async fn settle(
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

/// Of an order: its name, its state, its document.
type OrderRow = (String, String, String);

fn order((order_id, state, document): OrderRow) -> Result<OrderRecord, StoreError> {
    let state = OrderState::from_word(&state)
        .ok_or_else(|| StoreError::Corrupt(format!("unknown order state {state}")))?;
    Ok(OrderRecord { order_id, state, document: from_json(&document)? })
}
