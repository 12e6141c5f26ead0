//! Carts and kept answers: rows to records and back.

use std::collections::{BTreeMap, BTreeSet};

use cart_core::{Cart, Currency, Line};
use rust_decimal::Decimal;
use sqlx::{FromRow, MySqlConnection};

use super::lists::{in_list, padded};
use super::session::Failure;
use crate::model::{CART_TTL_MS, CartRecord, CartState, CartVersion, Millis, Principal, StoredAnswer};
use crate::store::sql::{from_json, to_json};
use crate::store::{CartWrite, StoreError};

/// When a cart that has expired expires.
const NEVER_MS: Millis = Millis::MAX;
/// Rows that one statement writes. Of a few sizes, because each is a statement to prepare.
const LINES_AT_ONCE: [usize; 3] = [32, 8, 1];

/// A cart's header beside one of its lines, or none.
#[derive(FromRow)]
struct CartRow {
    epoch: u32,
    state: String,
    currency: String,
    version: u64,
    coupons: String,
    updated_at: Millis,
    expires_at: Millis,
    view_digest: Option<String>,
    line_id: Option<String>,
    item_id: Option<String>,
    quantity: Option<u16>,
    price: Option<Decimal>,
    variant_data: Option<String>,
    created_at: Option<Millis>,
    line_updated_at: Option<Millis>,
    fingerprint: Option<Vec<u8>>,
}

/// A cart in one statement, so that header and lines are of one version.
pub(super) async fn cart(tx: &mut MySqlConnection, cart_id: &str) -> Result<Option<CartRecord>, Failure> {
    let rows: Vec<CartRow> = sqlx::query_as(
        "SELECT e.epoch, c.state, c.currency, c.version, c.coupons, c.updated_at, c.expires_at, c.view_digest,
                l.line_id, l.item_id, l.quantity, l.price, l.variant_data, l.created_at,
                l.updated_at AS line_updated_at, NULL AS fingerprint
         FROM carts c JOIN cluster e LEFT JOIN cart_items l ON l.cart_id = c.cart_id
         WHERE c.cart_id = ? AND c.version > 0",
    )
    .bind(cart_id)
    .fetch_all(tx)
    .await?;
    Ok(record(cart_id, rows)?.map(|(record, _)| record))
}

/// Locks a cart, and finds the fingerprint of the request that was answered under a key. Locks and sees what is
/// committed now, whatever the transaction has seen before.
pub(super) async fn locked_cart(
    tx: &mut MySqlConnection,
    cart_id: &str,
    key: &str,
) -> Result<Option<LockedCart>, Failure> {
    let rows: Vec<CartRow> = sqlx::query_as(
        "SELECT e.epoch, c.state, c.currency, c.version, c.coupons, c.updated_at, c.expires_at, c.view_digest,
                l.line_id, l.item_id, l.quantity, l.price, l.variant_data, l.created_at,
                l.updated_at AS line_updated_at, k.fingerprint
         FROM carts c JOIN cluster e LEFT JOIN cart_items l ON l.cart_id = c.cart_id
         LEFT JOIN idempotency_keys k ON k.cart_id = c.cart_id AND k.idempotency_key = ?
         WHERE c.cart_id = ? FOR UPDATE OF c, l, k",
    )
    .bind(key)
    .bind(cart_id)
    .fetch_all(tx)
    .await?;
    Ok(record(cart_id, rows)?)
}

/// Puts a row there to be locked, for a cart that was never written. Who comes second waits for the first.
pub(super) async fn insert_unwritten(
    tx: &mut MySqlConnection,
    owner: &Principal,
    unused: &CartRecord,
    now_ms: Millis,
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO carts
             (cart_id, owner_kind, owner_id, state, currency, version, item_count, coupons, updated_at, expires_at)
         VALUES (?, ?, ?, ?, ?, 0, 0, '[]', ?, ?) ON DUPLICATE KEY UPDATE cart_id = carts.cart_id",
    )
    .bind(&unused.cart_id)
    .bind(owner.kind.as_str())
    .bind(&owner.id)
    .bind(unused.state.as_str())
    .bind(unused.cart.currency.code())
    .bind(now_ms)
    .bind(now_ms + CART_TTL_MS)
    .execute(tx)
    .await?;
    Ok(())
}

/// A cart, and the fingerprint of the request that was answered under a key.
pub(super) type LockedCart = (CartRecord, Option<Vec<u8>>);

fn record(cart_id: &str, rows: Vec<CartRow>) -> Result<Option<LockedCart>, StoreError> {
    let mut record: Option<LockedCart> = None;
    for row in rows {
        let (record, _) = match &mut record {
            Some(record) => record,
            None => record.insert((header(cart_id, &row)?, row.fingerprint.clone())),
        };
        record.cart.lines.extend(line(row, record.cart.currency)?);
    }
    if let Some((record, _)) = &mut record {
        record.cart.lines.sort_by(|a, b| (a.added_at_ms, &a.line_id).cmp(&(b.added_at_ms, &b.line_id)));
    }
    Ok(record)
}

fn header(cart_id: &str, row: &CartRow) -> Result<CartRecord, StoreError> {
    let merged = row.state == CartState::Merged.as_str();
    Ok(CartRecord {
        cart_id: cart_id.to_owned(),
        state: if merged { CartState::Merged } else { CartState::Active },
        version: CartVersion { epoch: row.epoch, version: row.version },
        cart: Cart {
            currency: currency(&row.currency)?,
            lines: Vec::new(),
            coupons: from_json(&row.coupons)?,
        },
        updated_at_ms: Some(row.updated_at),
        expires_at_ms: Some(row.expires_at).filter(|at_ms| *at_ms != NEVER_MS),
        view_digest: row.view_digest.clone(),
    })
}

fn line(row: CartRow, currency: Currency) -> Result<Option<Line>, StoreError> {
    let Some(line_id) = row.line_id else { return Ok(None) };
    let missing = || StoreError::Corrupt(format!("the line {line_id} is not whole"));
    Ok(Some(Line {
        item_id: row.item_id.ok_or_else(missing)?,
        quantity: row.quantity.ok_or_else(missing)?.into(),
        unit_price: minor(row.price.ok_or_else(missing)?, currency)?,
        variant: row.variant_data.ok_or_else(missing)?,
        added_at_ms: row.created_at.ok_or_else(missing)?,
        updated_at_ms: row.line_updated_at.ok_or_else(missing)?,
        line_id,
    }))
}

pub(super) fn currency(code: &str) -> Result<Currency, StoreError> {
    Currency::from_code(code).ok_or_else(|| StoreError::Corrupt(format!("unknown currency {code}")))
}

/// A price in the database is in the currency's unit, so that people can read it and sums are right.
pub(super) fn price(minor: i64, currency: Currency) -> Decimal {
    Decimal::new(minor, currency.digits())
}

pub(super) fn minor(price: Decimal, currency: Currency) -> Result<i64, StoreError> {
    let mut exact = price;
    exact.rescale(currency.digits());
    if exact != price {
        return Err(StoreError::Corrupt(format!("{price} has more digits than {currency}")));
    }
    i64::try_from(exact.mantissa()).map_err(|_| StoreError::Corrupt(format!("{price} is out of range")))
}

/// Writes the header, and of the lines only those that differ. The row is there and locked.
pub(super) async fn save_cart(
    tx: &mut MySqlConnection,
    before: &CartRecord,
    after: &CartRecord,
) -> Result<(), Failure> {
    sqlx::query(
        "UPDATE carts SET state = ?, currency = ?, version = ?, item_count = ?, coupons = ?, updated_at = ?,
             expires_at = ?, view_digest = ? WHERE cart_id = ?",
    )
    .bind(after.state.as_str())
    .bind(after.cart.currency.code())
    .bind(after.version.version)
    .bind(u32::try_from(after.cart.lines.len()).unwrap_or(u32::MAX))
    .bind(to_json(&after.cart.coupons)?)
    .bind(after.updated_at_ms.unwrap_or(0))
    .bind(after.expires_at_ms.unwrap_or(NEVER_MS))
    .bind(&after.view_digest)
    .bind(&after.cart_id)
    .execute(&mut *tx)
    .await?;
    let before: BTreeMap<&str, &Line> = before.cart.lines.iter().map(|l| (l.line_id.as_str(), l)).collect();
    let kept: BTreeSet<&str> = after.cart.lines.iter().map(|line| line.line_id.as_str()).collect();
    let gone: Vec<&str> = before.keys().copied().filter(|line_id| !kept.contains(line_id)).collect();
    let changed = after.cart.lines.iter().filter(|line| before.get(line.line_id.as_str()) != Some(line));
    delete_lines(tx, &after.cart_id, &gone, kept.is_empty()).await?;
    save_lines(tx, after, &changed.collect::<Vec<_>>()).await
}

async fn delete_lines(
    tx: &mut MySqlConnection,
    cart_id: &str,
    gone: &[&str],
    all: bool,
) -> Result<(), Failure> {
    if gone.is_empty() {
        return Ok(());
    }
    if all {
        sqlx::query("DELETE FROM cart_items WHERE cart_id = ?").bind(cart_id).execute(tx).await?;
        return Ok(());
    }
    let line_ids = padded(gone);
    let statement = in_list("DELETE FROM cart_items WHERE cart_id = ? AND line_id IN (", line_ids.len(), ")");
    let mut query = sqlx::query(statement).bind(cart_id);
    for line_id in line_ids {
        query = query.bind(line_id);
    }
    query.execute(tx).await?;
    Ok(())
}

async fn save_lines(
    tx: &mut MySqlConnection,
    record: &CartRecord,
    mut lines: &[&Line],
) -> Result<(), Failure> {
    while !lines.is_empty() {
        let at_once = LINES_AT_ONCE.into_iter().find(|size| *size <= lines.len()).unwrap_or(1);
        let (these, rest) = lines.split_at(at_once);
        lines = rest;
        let row = "(?, ?, ?, ?, ?, ?, ?, ?)";
        let statement = format!(
            "INSERT INTO cart_items
                 (cart_id, line_id, item_id, quantity, price, variant_data, created_at, updated_at)
             VALUES {} AS new
             ON DUPLICATE KEY UPDATE quantity = new.quantity, price = new.price,
                 created_at = new.created_at, updated_at = new.updated_at",
            vec![row; these.len()].join(", ")
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(statement));
        for line in these {
            query = query
                .bind(&record.cart_id)
                .bind(&line.line_id)
                .bind(&line.item_id)
                .bind(line.quantity)
                .bind(price(line.unit_price, record.cart.currency))
                .bind(&line.variant)
                .bind(line.added_at_ms)
                .bind(line.updated_at_ms);
        }
        query.execute(&mut *tx).await?;
    }
    Ok(())
}

/// The answer kept under a key.
pub(super) async fn answer(
    tx: &mut MySqlConnection,
    cart_id: &str,
    key: &str,
) -> Result<StoredAnswer, Failure> {
    let answer: String =
        sqlx::query_scalar("SELECT answer FROM idempotency_keys WHERE cart_id = ? AND idempotency_key = ?")
            .bind(cart_id)
            .bind(key)
            .fetch_one(tx)
            .await?;
    Ok(from_json(&answer)?)
}

pub(super) async fn insert_answer(
    tx: &mut MySqlConnection,
    write: &CartWrite,
    answer: &StoredAnswer,
) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO idempotency_keys (cart_id, idempotency_key, fingerprint, answer, expires_at)
         VALUES (?, ?, ?, ?, ?)",
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
