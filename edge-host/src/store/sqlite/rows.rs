//! Rows to records and back.

use std::collections::{BTreeMap, BTreeSet};

use cart_core::{Cart, Currency, Line};
use sqlx::SqliteConnection;

use crate::model::{
    CartRecord, CartState, CartVersion, CouponRecord, ItemRecord, KeptAnswer, Millis, OrderRecord,
    OrderState, Principal,
};
use crate::store::sql::{from_json, signed, to_json, unsigned};
use crate::store::{CartWrite, Kept, NewOrder, StoreError};

/// When a cart that has expired expires.
const NEVER_MS: Millis = Millis::MAX;

type LineRow = (String, String, u32, i64, String, Millis, Option<Millis>, Millis);

pub(super) async fn cart(tx: &mut SqliteConnection, cart_id: &str) -> Result<Option<CartRecord>, StoreError> {
    type Header = (String, String, i64, String, Millis, Millis, u32);
    let header: Option<Header> = sqlx::query_as(
        "SELECT state, currency, version, coupons, updated_at, expires_at, epoch
         FROM carts, cluster WHERE cart_id = ?1",
    )
    .bind(cart_id)
    .fetch_optional(&mut *tx)
    .await?;
    let Some((state, currency, version, coupons, updated_at, expires_at, epoch)) = header else {
        return Ok(None);
    };
    let lines: Vec<LineRow> = sqlx::query_as(
        "SELECT line_id, item_id, quantity, unit_price, variant, added_at, priced_at, updated_at
         FROM cart_items WHERE cart_id = ?1 ORDER BY added_at, line_id",
    )
    .bind(cart_id)
    .fetch_all(&mut *tx)
    .await?;
    let currency = Currency::from_code(&currency)
        .ok_or_else(|| StoreError::Corrupt(format!("unknown currency {currency}")))?;
    Ok(Some(CartRecord {
        cart_id: cart_id.to_owned(),
        state: if state == CartState::Merged.as_str() { CartState::Merged } else { CartState::Active },
        version: CartVersion { epoch, version: unsigned(version)? },
        cart: Cart { currency, lines: lines.into_iter().map(line).collect(), coupons: from_json(&coupons)? },
        updated_at_ms: Some(updated_at),
        expires_at_ms: Some(expires_at).filter(|at_ms| *at_ms != NEVER_MS),
    }))
}

fn line(row: LineRow) -> Line {
    let (line_id, item_id, quantity, added_price, variant, added_at_ms, priced_at_ms, updated_at_ms) = row;
    let priced_at_ms = priced_at_ms.unwrap_or(added_at_ms);
    Line { line_id, item_id, quantity, variant, added_price, added_at_ms, priced_at_ms, updated_at_ms }
}

/// Writes the header, and of the lines only those that differ.
pub(super) async fn save_cart(
    tx: &mut SqliteConnection,
    owner: &Principal,
    before: &CartRecord,
    after: &CartRecord,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO carts
             (cart_id, owner_kind, owner_id, state, currency, version, coupons, updated_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (cart_id) DO UPDATE SET state = excluded.state, currency = excluded.currency,
             version = excluded.version, coupons = excluded.coupons,
             updated_at = excluded.updated_at, expires_at = excluded.expires_at",
    )
    .bind(&after.cart_id)
    .bind(owner.kind.as_str())
    .bind(&owner.id)
    .bind(after.state.as_str())
    .bind(after.cart.currency.code())
    .bind(signed(after.version.version)?)
    .bind(to_json(&after.cart.coupons)?)
    .bind(after.updated_at_ms)
    .bind(after.expires_at_ms)
    .execute(&mut *tx)
    .await?;
    save_lines(tx, &after.cart_id, &before.cart.lines, &after.cart.lines).await
}

/// Empties a cart whose time is over. Its header stays for the version's sake, and is not looked at again.
pub(super) async fn save_expired_cart(
    tx: &mut SqliteConnection,
    emptied: &CartRecord,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE carts SET version = ?2, coupons = '[]', updated_at = ?3, expires_at = ?4 WHERE cart_id = ?1",
    )
    .bind(&emptied.cart_id)
    .bind(signed(emptied.version.version)?)
    .bind(emptied.updated_at_ms)
    .bind(NEVER_MS)
    .execute(&mut *tx)
    .await?;
    sqlx::query("DELETE FROM cart_items WHERE cart_id = ?1").bind(&emptied.cart_id).execute(&mut *tx).await?;
    Ok(())
}

async fn save_lines(
    tx: &mut SqliteConnection,
    cart_id: &str,
    before: &[Line],
    after: &[Line],
) -> Result<(), StoreError> {
    let by_id = |lines: &'_ [Line]| -> BTreeMap<String, Line> {
        lines.iter().map(|line| (line.line_id.clone(), line.clone())).collect()
    };
    let (old, new) = (by_id(before), by_id(after));
    for line in before.iter().filter(|line| !new.contains_key(&line.line_id)) {
        sqlx::query("DELETE FROM cart_items WHERE cart_id = ?1 AND line_id = ?2")
            .bind(cart_id)
            .bind(&line.line_id)
            .execute(&mut *tx)
            .await?;
    }
    for line in after.iter().filter(|line| old.get(&line.line_id) != Some(*line)) {
        sqlx::query(
            "INSERT OR REPLACE INTO cart_items
                 (cart_id, line_id, item_id, quantity, unit_price, variant, added_at, priced_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )
        .bind(cart_id)
        .bind(&line.line_id)
        .bind(&line.item_id)
        .bind(line.quantity)
        .bind(line.added_price)
        .bind(&line.variant)
        .bind(line.added_at_ms)
        .bind(line.priced_at_ms)
        .bind(line.updated_at_ms)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}

/// The items of these names, or all of them.
pub(super) async fn items(
    tx: &mut SqliteConnection,
    only: Option<&BTreeSet<&String>>,
) -> Result<Vec<ItemRecord>, StoreError> {
    type Row = (String, String, String, u32, Option<u32>, bool, String, Millis);
    // Two statements, because « all or these » in one would never use the primary key.
    let query = match only {
        None => sqlx::query_as(
            "SELECT item_id, title, prices, stock, quantity_max, tax_zero, tags, changed_at FROM items",
        ),
        Some(names) => sqlx::query_as(
            "SELECT item_id, title, prices, stock, quantity_max, tax_zero, tags, changed_at FROM items
             WHERE item_id IN (SELECT value FROM json_each(?1))",
        )
        .bind(to_json(names)?),
    };
    let rows: Vec<Row> = query.fetch_all(tx).await?;
    let record = |(item_id, title, prices, stock, quantity_max, tax_zero, tags, changed_at_ms): Row| {
        let (prices, tags) = (from_json(&prices)?, from_json(&tags)?);
        Ok(ItemRecord { item_id, title, prices, stock, quantity_max, tax_zero, tags, changed_at_ms })
    };
    rows.into_iter().map(record).collect()
}

/// The coupons of these codes, or all of them.
pub(super) async fn coupons(
    tx: &mut SqliteConnection,
    only: Option<&BTreeSet<&String>>,
) -> Result<Vec<CouponRecord>, StoreError> {
    type Row = (String, String, Option<Millis>, Option<Millis>, Option<u32>, u32, Millis);
    let query = match only {
        None => sqlx::query_as(
            "SELECT code, value, starts_at, ends_at, redemptions_max, redemptions, changed_at FROM coupons",
        ),
        Some(codes) => sqlx::query_as(
            "SELECT code, value, starts_at, ends_at, redemptions_max, redemptions, changed_at FROM coupons
             WHERE code IN (SELECT value FROM json_each(?1))",
        )
        .bind(to_json(codes)?),
    };
    let rows: Vec<Row> = query.fetch_all(tx).await?;
    let record =
        |(code, value, starts_at_ms, ends_at_ms, redemptions_max, redemptions, changed_at_ms): Row| {
            Ok(CouponRecord {
                code,
                value: from_json(&value)?,
                starts_at_ms,
                ends_at_ms,
                redemptions_max,
                redemptions,
                changed_at_ms,
            })
        };
    rows.into_iter().map(record).collect()
}

/// What is kept under a key.
pub(super) async fn answer(
    tx: &mut SqliteConnection,
    cart_id: &str,
    key: &str,
) -> Result<Option<Kept>, StoreError> {
    let row: Option<(Vec<u8>, String, Millis)> = sqlx::query_as(
        "SELECT fingerprint, answer, expires_at FROM idempotency_keys WHERE cart_id = ?1 AND key = ?2",
    )
    .bind(cart_id)
    .bind(key)
    .fetch_optional(tx)
    .await?;
    row.map(|(fingerprint, answer, until_ms)| Kept::read(fingerprint, &answer, until_ms)).transpose()
}

pub(super) async fn insert_answer(
    tx: &mut SqliteConnection,
    write: &CartWrite,
    answer: &KeptAnswer,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO idempotency_keys (cart_id, key, fingerprint, answer, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )
    .bind(&write.unused.cart_id)
    .bind(&write.idempotency_key)
    .bind(write.fingerprint.as_slice())
    .bind(to_json(answer)?)
    .bind(write.answer_kept_until_ms)
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn delete_expired_answers(
    tx: &mut SqliteConnection,
    now_ms: Millis,
    limit: i64,
) -> Result<u64, StoreError> {
    let deleted = sqlx::query(
        "DELETE FROM idempotency_keys WHERE (cart_id, key) IN
             (SELECT cart_id, key FROM idempotency_keys WHERE expires_at <= ?1 LIMIT ?2)",
    )
    .bind(now_ms)
    .bind(limit)
    .execute(tx)
    .await?;
    Ok(deleted.rows_affected())
}

/// Keys of the merchant's and the payment service's changes.
pub(super) async fn delete_expired_keys(
    tx: &mut SqliteConnection,
    now_ms: Millis,
    limit: i64,
) -> Result<u64, StoreError> {
    let deleted = sqlx::query(
        "DELETE FROM admin_keys WHERE key IN (SELECT key FROM admin_keys WHERE expires_at <= ?1 LIMIT ?2)",
    )
    .bind(now_ms)
    .bind(limit)
    .execute(tx)
    .await?;
    Ok(deleted.rows_affected())
}

/// Guests' carts that went to users, once the guests' tokens have ended.
pub(super) async fn delete_merged_carts(
    tx: &mut SqliteConnection,
    now_ms: Millis,
    limit: i64,
) -> Result<u64, StoreError> {
    let deleted = sqlx::query(
        "DELETE FROM carts WHERE cart_id IN
             (SELECT cart_id FROM carts WHERE state = 'merged' AND expires_at <= ?1 LIMIT ?2)",
    )
    .bind(now_ms)
    .bind(limit)
    .execute(tx)
    .await?;
    Ok(deleted.rows_affected())
}

pub(super) async fn delete_old_events(
    tx: &mut SqliteConnection,
    before_ms: Millis,
    limit: i64,
) -> Result<u64, StoreError> {
    // Only from the front, and no further than the first event that is to stay: whoever follows finds a hole
    // by its beginning.
    let deleted = sqlx::query(
        "WITH head AS (SELECT seq, at FROM outbox ORDER BY seq LIMIT ?2)
         DELETE FROM outbox WHERE seq IN (SELECT seq FROM head WHERE seq <
             COALESCE((SELECT MIN(seq) FROM head WHERE at > ?1), 9223372036854775807))",
    )
    .bind(before_ms)
    .bind(limit)
    .execute(tx)
    .await?;
    Ok(deleted.rows_affected())
}

pub(super) async fn insert_order(
    tx: &mut SqliteConnection,
    cart_id: &str,
    order: &NewOrder,
    now_ms: Millis,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO orders (order_id, cart_id, state, document, placed_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )
    .bind(&order.order_id)
    .bind(cart_id)
    .bind(OrderState::PendingPayment.as_str())
    .bind(to_json(&order.document)?)
    .bind(now_ms)
    .execute(&mut *tx)
    .await?;
    for (item_id, quantity) in &order.items {
        sqlx::query("INSERT INTO order_items (order_id, item_id, quantity) VALUES (?1, ?2, ?3)")
            .bind(&order.order_id)
            .bind(item_id)
            .bind(quantity)
            .execute(&mut *tx)
            .await?;
    }
    for code in &order.coupons {
        sqlx::query("INSERT INTO order_coupons (order_id, code) VALUES (?1, ?2)")
            .bind(&order.order_id)
            .bind(code)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// A guest's orders become those of the user who took the guest's cart over.
pub(super) async fn hand_over_orders(
    tx: &mut SqliteConnection,
    guest_cart_id: &str,
    cart_id: &str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE orders SET cart_id = ?2 WHERE cart_id = ?1")
        .bind(guest_cart_id)
        .bind(cart_id)
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) fn order(
    (order_id, state, document): (String, String, String),
) -> Result<OrderRecord, StoreError> {
    let state = OrderState::from_word(&state)
        .ok_or_else(|| StoreError::Corrupt(format!("unknown order state {state}")))?;
    Ok(OrderRecord { order_id, state, document: from_json(&document)? })
}
