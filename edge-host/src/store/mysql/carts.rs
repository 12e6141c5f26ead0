//! Carts: rows to records and back.

use std::collections::{BTreeMap, BTreeSet};

use cart_core::{Cart, Currency, Line};
use rust_decimal::Decimal;
use sqlx::{FromRow, MySqlConnection};

use super::script::{Script, Value};
use super::session::Failure;
use crate::model::{CART_TTL_MS, CartRecord, CartState, CartVersion, Millis, Principal};
use crate::store::StoreError;
use crate::store::sql::{from_json, to_json};

/// When a cart that has expired expires.
const NEVER_MS: Millis = Millis::MAX;

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
/// committed now, whatever the transaction has seen before. What is to be run before goes along.
pub(super) async fn locked_cart(
    tx: &mut MySqlConnection,
    mut script: Script,
    cart_id: &str,
    key: &str,
) -> Result<Option<LockedCart>, Failure> {
    script.add(
        "SELECT e.epoch, c.state, c.currency, c.version, c.coupons, c.updated_at, c.expires_at, c.view_digest,
                l.line_id, l.item_id, l.quantity, l.price, l.variant_data, l.created_at,
                l.updated_at AS line_updated_at, k.fingerprint
         FROM carts c JOIN cluster e LEFT JOIN cart_items l ON l.cart_id = c.cart_id
         LEFT JOIN idempotency_keys k ON k.cart_id = c.cart_id AND k.idempotency_key = ?
         WHERE c.cart_id = ? FOR UPDATE OF c, l, k",
        &[key.into(), cart_id.into()],
    );
    let rows = script.rows(tx).await?;
    let rows = rows.iter().map(CartRow::from_row).collect::<Result<_, _>>()?;
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
pub(super) fn save_cart(
    script: &mut Script,
    before: &CartRecord,
    after: &CartRecord,
) -> Result<(), StoreError> {
    script.add(
        "UPDATE carts SET state = ?, currency = ?, version = ?, item_count = ?, coupons = ?, updated_at = ?,
             expires_at = ?, view_digest = ? WHERE cart_id = ?",
        &[
            after.state.as_str().into(),
            after.cart.currency.code().into(),
            after.version.version.into(),
            u32::try_from(after.cart.lines.len()).unwrap_or(u32::MAX).into(),
            (&to_json(&after.cart.coupons)?).into(),
            after.updated_at_ms.unwrap_or(0).into(),
            after.expires_at_ms.unwrap_or(NEVER_MS).into(),
            after.view_digest.as_deref().into(),
            (&after.cart_id).into(),
        ],
    );
    let before: BTreeMap<&str, &Line> = before.cart.lines.iter().map(|l| (l.line_id.as_str(), l)).collect();
    let kept: BTreeSet<&str> = after.cart.lines.iter().map(|line| line.line_id.as_str()).collect();
    let gone: Vec<&str> = before.keys().copied().filter(|line_id| !kept.contains(line_id)).collect();
    let changed = after.cart.lines.iter().filter(|line| before.get(line.line_id.as_str()) != Some(line));
    delete_lines(script, &after.cart_id, &gone, kept.is_empty());
    save_lines(script, after, &changed.collect::<Vec<_>>());
    Ok(())
}

fn delete_lines(script: &mut Script, cart_id: &str, gone: &[&str], all: bool) {
    if gone.is_empty() {
        return;
    }
    let mut values = vec![Value::from(cart_id)];
    if all {
        return script.add("DELETE FROM cart_items WHERE cart_id = ?", &values);
    }
    values.extend(gone.iter().map(|line_id| Value::from(*line_id)));
    let places = vec!["?"; gone.len()].join(", ");
    script.add(&format!("DELETE FROM cart_items WHERE cart_id = ? AND line_id IN ({places})"), &values);
}

fn save_lines(script: &mut Script, record: &CartRecord, lines: &[&Line]) {
    if lines.is_empty() {
        return;
    }
    let values = lines.iter().flat_map(|line| {
        [
            (&record.cart_id).into(),
            (&line.line_id).into(),
            (&line.item_id).into(),
            line.quantity.into(),
            price(line.unit_price, record.cart.currency).into(),
            (&line.variant).into(),
            line.added_at_ms.into(),
            line.updated_at_ms.into(),
        ]
    });
    let rows = vec!["(?, ?, ?, ?, ?, ?, ?, ?)"; lines.len()].join(", ");
    script.add(
        &format!(
            "INSERT INTO cart_items
                 (cart_id, line_id, item_id, quantity, price, variant_data, created_at, updated_at)
             VALUES {rows} AS new
             ON DUPLICATE KEY UPDATE quantity = new.quantity, price = new.price,
                 created_at = new.created_at, updated_at = new.updated_at"
        ),
        &values.collect::<Vec<Value<'_>>>(),
    );
}
