//! Rows to records and back.

use std::collections::{BTreeMap, BTreeSet};

use cart_core::{Cart, Currency, Line};
use rust_decimal::Decimal;
use sqlx::{FromRow, MySqlConnection};

use super::lists::{in_list, padded};
use super::session::Failure;
use crate::model::{
    CART_TTL_MS, CartRecord, CartState, CartVersion, CouponRecord, CurrencyCode, ItemRecord, Millis,
    OrderRecord, OrderState, Principal, StoredAnswer,
};
use crate::store::sql::{from_json, to_json};
use crate::store::{CartWrite, NewOrder, StoreError};

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

fn currency(code: &str) -> Result<Currency, StoreError> {
    Currency::from_code(code).ok_or_else(|| StoreError::Corrupt(format!("unknown currency {code}")))
}

/// A price in the database is in the currency's unit, so that people can read it and sums are right.
fn price(minor: i64, currency: Currency) -> Decimal {
    Decimal::new(minor, currency.digits())
}

fn minor(price: Decimal, currency: Currency) -> Result<i64, StoreError> {
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

/// An item beside one of its prices, or none.
#[derive(FromRow)]
struct ItemRow {
    item_id: String,
    title: String,
    stock: u32,
    quantity_max: Option<u32>,
    tax_zero: bool,
    tags: String,
    changed_at: Millis,
    currency: Option<String>,
    price: Option<Decimal>,
}

const ITEMS: &str =
    "SELECT i.item_id, i.title, i.stock, i.quantity_max, i.tax_zero, i.tags, i.changed_at, p.currency, p.price
     FROM items i LEFT JOIN item_prices p ON p.item_id = i.item_id";

/// Every item.
pub(super) async fn all_items(tx: &mut MySqlConnection) -> Result<Vec<ItemRecord>, Failure> {
    let statement = format!("{ITEMS} ORDER BY i.item_id");
    let rows = sqlx::query_as(sqlx::AssertSqlSafe(statement)).fetch_all(tx).await?;
    Ok(item_records(rows)?)
}

/// The items of these names. Locked, nobody else takes of their stock until the transaction ends.
pub(super) async fn items(
    tx: &mut MySqlConnection,
    item_ids: &[&str],
    lock: bool,
) -> Result<Vec<ItemRecord>, Failure> {
    if item_ids.is_empty() {
        return Ok(Vec::new());
    }
    let item_ids = padded(item_ids);
    let begin = format!("{ITEMS} WHERE i.item_id IN (");
    // Everybody locks in the order of names, so that two orders wait for each other and do not block.
    let end = if lock { ") ORDER BY i.item_id FOR UPDATE OF i" } else { ") ORDER BY i.item_id" };
    let mut query = sqlx::query_as(in_list(&begin, item_ids.len(), end));
    for item_id in item_ids {
        query = query.bind(item_id);
    }
    Ok(item_records(query.fetch_all(tx).await?)?)
}

/// Rows of one item are neighbours.
fn item_records(rows: Vec<ItemRow>) -> Result<Vec<ItemRecord>, StoreError> {
    let mut items: Vec<ItemRecord> = Vec::new();
    for row in rows {
        if items.last().is_none_or(|item| item.item_id != row.item_id) {
            items.push(ItemRecord {
                item_id: row.item_id,
                title: row.title,
                prices: BTreeMap::new(),
                stock: row.stock,
                quantity_max: row.quantity_max,
                tax_zero: row.tax_zero,
                tags: from_json(&row.tags)?,
                changed_at_ms: row.changed_at,
            });
        }
        if let (Some(item), Some(code), Some(price)) = (items.last_mut(), row.currency, row.price) {
            let currency = currency(&code)?;
            item.prices.insert(CurrencyCode(currency), minor(price, currency)?);
        }
    }
    Ok(items)
}

/// Creates or replaces an item.
pub(super) async fn put_item(tx: &mut MySqlConnection, item: &ItemRecord) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO items (item_id, title, stock, quantity_max, tax_zero, tags, changed_at)
         VALUES (?, ?, ?, ?, ?, ?, ?) AS new
         ON DUPLICATE KEY UPDATE title = new.title, stock = new.stock, quantity_max = new.quantity_max,
             tax_zero = new.tax_zero, tags = new.tags, changed_at = new.changed_at",
    )
    .bind(&item.item_id)
    .bind(&item.title)
    .bind(item.stock)
    .bind(item.quantity_max)
    .bind(item.tax_zero)
    .bind(to_json(&item.tags)?)
    .bind(item.changed_at_ms)
    .execute(&mut *tx)
    .await?;
    sqlx::query("DELETE FROM item_prices WHERE item_id = ?").bind(&item.item_id).execute(&mut *tx).await?;
    for (of, minor) in &item.prices {
        sqlx::query("INSERT INTO item_prices (item_id, currency, price) VALUES (?, ?, ?)")
            .bind(&item.item_id)
            .bind(of.0.code())
            .bind(price(*minor, of.0))
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// Creates or replaces a coupon; its redemptions stay counted.
pub(super) async fn put_coupon(tx: &mut MySqlConnection, coupon: &CouponRecord) -> Result<(), Failure> {
    sqlx::query(
        "INSERT INTO coupons (code, value, starts_at, ends_at, redemptions_max, redemptions, changed_at)
         VALUES (?, ?, ?, ?, ?, 0, ?) AS new
         ON DUPLICATE KEY UPDATE value = new.value, starts_at = new.starts_at, ends_at = new.ends_at,
             redemptions_max = new.redemptions_max, changed_at = new.changed_at",
    )
    .bind(&coupon.code)
    .bind(to_json(&coupon.value)?)
    .bind(coupon.starts_at_ms)
    .bind(coupon.ends_at_ms)
    .bind(coupon.redemptions_max)
    .bind(coupon.changed_at_ms)
    .execute(tx)
    .await?;
    Ok(())
}

#[derive(FromRow)]
struct CouponRow {
    code: String,
    value: String,
    starts_at: Option<Millis>,
    ends_at: Option<Millis>,
    redemptions_max: Option<u32>,
    redemptions: u32,
    changed_at: Millis,
}

const COUPONS: &str =
    "SELECT code, value, starts_at, ends_at, redemptions_max, redemptions, changed_at FROM coupons";

/// Every coupon.
pub(super) async fn all_coupons(tx: &mut MySqlConnection) -> Result<Vec<CouponRecord>, Failure> {
    let rows: Vec<CouponRow> = sqlx::query_as(COUPONS).fetch_all(tx).await?;
    Ok(rows.into_iter().map(coupon).collect::<Result<_, _>>()?)
}

/// The coupons of these codes. Locked, nobody else redeems them until the transaction ends.
pub(super) async fn coupons(
    tx: &mut MySqlConnection,
    codes: &[&str],
    lock: bool,
) -> Result<Vec<CouponRecord>, Failure> {
    if codes.is_empty() {
        return Ok(Vec::new());
    }
    let codes = padded(codes);
    let begin = format!("{COUPONS} WHERE code IN (");
    let end = if lock { ") ORDER BY code FOR UPDATE" } else { ")" };
    let mut query = sqlx::query_as(in_list(&begin, codes.len(), end));
    for code in codes {
        query = query.bind(code);
    }
    let rows: Vec<CouponRow> = query.fetch_all(tx).await?;
    Ok(rows.into_iter().map(coupon).collect::<Result<_, _>>()?)
}

fn coupon(row: CouponRow) -> Result<CouponRecord, StoreError> {
    Ok(CouponRecord {
        code: row.code,
        value: from_json(&row.value)?,
        starts_at_ms: row.starts_at,
        ends_at_ms: row.ends_at,
        redemptions_max: row.redemptions_max,
        redemptions: row.redemptions,
        changed_at_ms: row.changed_at,
    })
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

pub(super) async fn insert_order(
    tx: &mut MySqlConnection,
    cart_id: &str,
    order: &NewOrder,
    now_ms: Millis,
) -> Result<(), Failure> {
    sqlx::query("INSERT INTO orders (order_id, cart_id, state, document, placed_at) VALUES (?, ?, ?, ?, ?)")
        .bind(&order.order_id)
        .bind(cart_id)
        .bind(OrderState::PendingPayment.as_str())
        .bind(to_json(&order.document)?)
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
    for (item_id, quantity) in &order.items {
        sqlx::query("INSERT INTO order_items (order_id, item_id, quantity) VALUES (?, ?, ?)")
            .bind(&order.order_id)
            .bind(item_id)
            .bind(quantity)
            .execute(&mut *tx)
            .await?;
    }
    for code in &order.coupons {
        sqlx::query("INSERT INTO order_coupons (order_id, code) VALUES (?, ?)")
            .bind(&order.order_id)
            .bind(code)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// Of an order: its name, its state, its document.
pub(super) type OrderRow = (String, String, String);

pub(super) fn order((order_id, state, document): OrderRow) -> Result<OrderRecord, StoreError> {
    let state = OrderState::from_word(&state)
        .ok_or_else(|| StoreError::Corrupt(format!("unknown order state {state}")))?;
    Ok(OrderRecord { order_id, state, document: from_json(&document)? })
}
