//! Carts: rows to records and back.

use std::collections::{BTreeMap, HashMap, HashSet};

use cart_core::{Cart, Currency, Line};
use rust_decimal::Decimal;
use sqlx::{AssertSqlSafe, FromRow, MySqlConnection, Row};

use super::answers;
use super::script::{Rows, Script, Value};
use super::session::Failure;
use crate::model::{CART_TTL_MS, CartRecord, CartState, CartVersion, Millis, Principal};
use crate::store::sql::{from_json, to_json};
use crate::store::{Kept, StoreError};

/// When a cart that has expired expires.
const NEVER_MS: Millis = Millis::MAX;

const HEADER: &str =
    "c.cart_id, e.epoch, c.state, c.currency, c.version, c.coupons, c.updated_at, c.expires_at";

#[derive(FromRow)]
struct HeaderRow {
    cart_id: String,
    epoch: u32,
    state: String,
    currency: String,
    version: u64,
    coupons: String,
    updated_at: Millis,
    expires_at: Millis,
}

const LINE: &str =
    "l.cart_id AS line_cart_id, l.line_id, l.item_id, l.quantity, l.price, l.variant_data, l.created_at,
    l.priced_at, l.updated_at AS line_updated_at";

#[derive(FromRow)]
struct LineRow {
    line_cart_id: String,
    line_id: String,
    item_id: String,
    quantity: u16,
    price: Decimal,
    variant_data: String,
    created_at: Millis,
    priced_at: Option<Millis>,
    line_updated_at: Millis,
}

/// A cart in one statement, so that header and lines are of one version.
pub(super) async fn cart(tx: &mut MySqlConnection, cart_id: &str) -> Result<Option<CartRecord>, Failure> {
    let statement = format!(
        "SELECT {HEADER}, {LINE} FROM carts c JOIN cluster e LEFT JOIN cart_items l ON l.cart_id = c.cart_id
         WHERE c.cart_id = ? AND c.version > 0"
    );
    let rows = sqlx::query(AssertSqlSafe(statement)).bind(cart_id).fetch_all(tx).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let mut record = header(HeaderRow::from_row(first)?)?;
    for row in &rows {
        if row.try_get::<Option<&str>, _>("line_id")?.is_some() {
            record.cart.lines.push(line(LineRow::from_row(row)?, record.cart.currency)?);
        }
    }
    in_order(&mut record.cart.lines);
    Ok(Some(record))
}

/// A cart under lock.
pub(super) struct LockedCart {
    pub(super) record: CartRecord,
    /// What was done under the keys that were looked for.
    pub(super) kept: HashMap<String, Kept>,
}

/// Carts under lock, and those that somebody else has locked.
#[derive(Default)]
pub(super) struct Locked {
    pub(super) carts: HashMap<String, LockedCart>,
    pub(super) held: HashSet<String>,
}

/// Locks carts, those that are there and free, and looks for answers under keys of theirs. What is to be run before
/// goes along. It waits for no lock.
///
/// What is read of a cart after its lock was taken is what was committed then (READ COMMITTED).
pub(super) async fn lock(
    tx: &mut MySqlConnection,
    mut script: Script,
    cart_ids: &[&str],
    keys: &[(&str, &str)],
) -> Result<Locked, Failure> {
    let before = script.statements();
    let places = vec!["?"; cart_ids.len()].join(", ");
    let values: Vec<Value<'_>> = cart_ids.iter().copied().map(Value::from).collect();
    script.add(
        &format!(
            "SELECT {HEADER} FROM carts c FORCE INDEX (PRIMARY) JOIN cluster e WHERE c.cart_id IN ({places})
             FOR UPDATE OF c SKIP LOCKED"
        ),
        &values,
    );
    // What is there and was passed over is locked.
    script.add(&format!("SELECT cart_id FROM carts WHERE cart_id IN ({places})"), &values);
    script.add(&format!("SELECT {LINE} FROM cart_items l WHERE l.cart_id IN ({places})"), &values);
    answers::look_for(&mut script, keys);
    let mut results = script.results(tx).await?.into_iter().skip(before);
    let (headers, there, lines, answered) = (results.next(), results.next(), results.next(), results.next());
    let mut carts = HashMap::with_capacity(cart_ids.len());
    for row in headers.iter().flatten() {
        let record = header(HeaderRow::from_row(row)?)?;
        carts.insert(record.cart_id.clone(), LockedCart { record, kept: HashMap::new() });
    }
    let mut held = HashSet::new();
    for row in there.iter().flatten() {
        let cart_id: String = row.try_get(0)?;
        if !carts.contains_key(&cart_id) {
            held.insert(cart_id);
        }
    }
    for row in lines.iter().flatten() {
        let row = LineRow::from_row(row)?;
        if let Some(LockedCart { record, .. }) = carts.get_mut(&row.line_cart_id) {
            record.cart.lines.push(line(row, record.cart.currency)?);
        }
    }
    for row in answered.iter().flatten() {
        let (cart_id, key, kept) = answers::found(row)?;
        if let Some(cart) = carts.get_mut(&cart_id) {
            cart.kept.insert(key, kept);
        }
    }
    carts.values_mut().for_each(|cart| in_order(&mut cart.record.cart.lines));
    Ok(Locked { carts, held })
}

/// Puts rows there to be locked, for carts that were never written. Who comes second waits for the first.
pub(super) async fn insert_unwritten(
    tx: &mut MySqlConnection,
    carts: &[(&Principal, &CartRecord)],
    now_ms: Millis,
) -> Result<(), Failure> {
    let mut rows = Rows::default();
    for (owner, unused) in carts {
        rows.add(&[
            (&unused.cart_id).into(),
            owner.kind.as_str().into(),
            (&owner.id).into(),
            unused.state.as_str().into(),
            unused.cart.currency.code().into(),
            0_u64.into(),
            0_u64.into(),
            "[]".into(),
            now_ms.into(),
            (now_ms + CART_TTL_MS).into(),
        ]);
    }
    let mut script = Script::default();
    script.add_rows(
        "INSERT INTO carts
             (cart_id, owner_kind, owner_id, state, currency, version, item_count, coupons, updated_at, expires_at)
         VALUES ",
        &rows,
        " ON DUPLICATE KEY UPDATE cart_id = carts.cart_id",
    );
    Ok(script.run(tx).await?)
}

fn header(row: HeaderRow) -> Result<CartRecord, StoreError> {
    let merged = row.state == CartState::Merged.as_str();
    Ok(CartRecord {
        cart_id: row.cart_id,
        state: if merged { CartState::Merged } else { CartState::Active },
        version: CartVersion { epoch: row.epoch, version: row.version },
        cart: Cart {
            currency: currency(&row.currency)?,
            lines: Vec::new(),
            coupons: from_json(&row.coupons)?,
        },
        updated_at_ms: Some(row.updated_at),
        expires_at_ms: Some(row.expires_at).filter(|at_ms| *at_ms != NEVER_MS),
    })
}

fn line(row: LineRow, currency: Currency) -> Result<Line, StoreError> {
    Ok(Line {
        line_id: row.line_id,
        item_id: row.item_id,
        quantity: row.quantity.into(),
        added_price: minor(row.price, currency)?,
        variant: row.variant_data,
        added_at_ms: row.created_at,
        priced_at_ms: row.priced_at.unwrap_or(row.created_at),
        updated_at_ms: row.line_updated_at,
    })
}

fn in_order(lines: &mut [Line]) {
    lines.sort_by(|a, b| (a.added_at_ms, &a.line_id).cmp(&(b.added_at_ms, &b.line_id)));
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

/// One more header to be written. The row is there and locked.
pub(super) fn add_header(headers: &mut Script, after: &CartRecord) -> Result<(), StoreError> {
    headers.add(
        "UPDATE carts SET state = ?, currency = ?, version = ?, item_count = ?, coupons = ?, updated_at = ?,
             expires_at = ? WHERE cart_id = ?",
        &[
            after.state.as_str().into(),
            after.cart.currency.code().into(),
            after.version.version.into(),
            u32::try_from(after.cart.lines.len()).unwrap_or(u32::MAX).into(),
            (&to_json(&after.cart.coupons)?).into(),
            after.updated_at_ms.unwrap_or(0).into(),
            after.expires_at_ms.unwrap_or(NEVER_MS).into(),
            (&after.cart_id).into(),
        ],
    );
    Ok(())
}

/// The lines of a cart that are to be deleted, and those that are to be written.
pub(super) fn add_lines(gone: &mut Rows, changed: &mut Rows, before: &CartRecord, after: &CartRecord) {
    let (had, has) = (by_name(&before.cart), by_name(&after.cart));
    for line_id in had.keys().filter(|line_id| !has.contains_key(*line_id)) {
        gone.add(&[(&after.cart_id).into(), (*line_id).into()]);
    }
    for line in has.values().filter(|line| had.get(line.line_id.as_str()) != Some(line)) {
        changed.add(&[
            (&after.cart_id).into(),
            (&line.line_id).into(),
            (&line.item_id).into(),
            line.quantity.into(),
            price(line.added_price, after.cart.currency).into(),
            (&line.variant).into(),
            line.added_at_ms.into(),
            line.priced_at_ms.into(),
            line.updated_at_ms.into(),
        ]);
    }
}

fn by_name(cart: &Cart) -> BTreeMap<&str, &Line> {
    cart.lines.iter().map(|line| (line.line_id.as_str(), line)).collect()
}

pub(super) fn delete_lines(script: &mut Script, gone: &Rows) {
    script.add_rows("DELETE FROM cart_items WHERE (cart_id, line_id) IN (", gone, ")");
}

pub(super) fn save_lines(script: &mut Script, lines: &Rows) {
    script.add_rows(
        "INSERT INTO cart_items
             (cart_id, line_id, item_id, quantity, price, variant_data, created_at, priced_at, updated_at)
         VALUES ",
        lines,
        " AS new ON DUPLICATE KEY UPDATE quantity = new.quantity, price = new.price,
             created_at = new.created_at, priced_at = new.priced_at, updated_at = new.updated_at",
    );
}
