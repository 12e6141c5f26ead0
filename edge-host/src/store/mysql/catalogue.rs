//! Items, coupons and rules.

use std::collections::BTreeMap;

use rust_decimal::Decimal;
use sqlx::{FromRow, MySqlConnection};

use super::carts::{currency, minor, price};
use super::lists::{in_list, padded};
use super::outbox::{self, publish};
use super::session::{Failure, Session};
use super::{MySqlStore, keys};
use crate::model::{CatalogueSnapshot, Change, CouponRecord, CurrencyCode, ItemRecord, Millis};
use crate::store::keyed::Taken;
use crate::store::sql::{from_json, to_json};
use crate::store::{DecideCoupon, DecideItem, KeyedOutcome, OnceKey, StoreError};

/// One attempt at each.
impl MySqlStore {
    /// `commit_tried` says whether an attempt has got as far as its commit: then a key that is found may be its own.
    pub(super) async fn try_write_item(
        &self,
        item_id: &str,
        key: &OnceKey,
        decide: &mut DecideItem<'_>,
        commit_tried: &mut bool,
    ) -> Result<KeyedOutcome<ItemRecord>, Failure> {
        let mut tx = Session::begin(&self.connections).await?;
        let taken = keys::take(&mut tx, key).await?;
        let before = items(&mut tx, &[item_id], true).await?.pop();
        if let Some(over) = over(taken, before.as_ref(), *commit_tried)? {
            tx.roll_back().await?;
            return Ok(over);
        }
        let Some(after) = decide(before.as_ref()) else {
            tx.roll_back().await?;
            return Ok(KeyedOutcome::Refused(before));
        };
        let mut seq = None;
        if before.as_ref() != Some(&after) {
            put_item(&mut tx, before.is_some(), &after).await?;
            seq = Some(publish(&mut tx, &Change::Item(after.clone()), key.now_ms).await?);
        }
        *commit_tried = true;
        self.commit(tx, seq.is_some()).await?;
        Ok(KeyedOutcome::Done { value: after, seq })
    }

    /// The same for a coupon.
    pub(super) async fn try_write_coupon(
        &self,
        code: &str,
        key: &OnceKey,
        decide: &mut DecideCoupon<'_>,
        commit_tried: &mut bool,
    ) -> Result<KeyedOutcome<CouponRecord>, Failure> {
        let mut tx = Session::begin(&self.connections).await?;
        let taken = keys::take(&mut tx, key).await?;
        let before = coupons(&mut tx, &[code], true).await?.pop();
        if let Some(over) = over(taken, before.as_ref(), *commit_tried)? {
            tx.roll_back().await?;
            return Ok(over);
        }
        let Some(after) = decide(before.as_ref()) else {
            tx.roll_back().await?;
            return Ok(KeyedOutcome::Refused(before));
        };
        let mut seq = None;
        if before.as_ref() != Some(&after) {
            put_coupon(&mut tx, before.is_some(), &after).await?;
            seq = Some(publish(&mut tx, &Change::Coupon(after.clone()), key.now_ms).await?);
        }
        *commit_tried = true;
        self.commit(tx, seq.is_some()).await?;
        Ok(KeyedOutcome::Done { value: after, seq })
    }

    pub(super) async fn try_activate_rules(
        &self,
        revision: &str,
        bytes: &[u8],
        now_ms: Millis,
    ) -> Result<(), Failure> {
        let mut tx = Session::begin(&self.connections).await?;
        sqlx::query(
            "INSERT INTO rule_revisions (revision, component, activated_at) VALUES (?, ?, ?) AS new
             ON DUPLICATE KEY UPDATE activated_at = new.activated_at",
        )
        .bind(revision)
        .bind(bytes)
        .bind(now_ms)
        .execute(&mut *tx)
        .await?;
        sqlx::query("UPDATE cluster SET active_rules = ?").bind(revision).execute(&mut *tx).await?;
        publish(&mut tx, &Change::Rules { revision: revision.to_owned() }, now_ms).await?;
        self.commit(tx, true).await
    }

    pub(super) async fn try_catalogue(&self) -> Result<CatalogueSnapshot, Failure> {
        let mut tx = Session::snapshot(&self.connections).await?;
        let (epoch, rules): (u32, Option<String>) =
            sqlx::query_as("SELECT epoch, active_rules FROM cluster").fetch_one(&mut *tx).await?;
        let snapshot = CatalogueSnapshot {
            position: outbox::position(&mut tx).await?,
            epoch,
            items: all_items(&mut tx).await?,
            coupons: all_coupons(&mut tx).await?,
            rules,
        };
        tx.roll_back().await?;
        Ok(snapshot)
    }

    pub(super) async fn try_items(&self, item_ids: &[String]) -> Result<Vec<ItemRecord>, Failure> {
        let item_ids: Vec<&str> = item_ids.iter().map(String::as_str).collect();
        let mut session = Session::acquire(&self.connections).await?;
        let items = items(&mut session, &item_ids, false).await?;
        session.release();
        Ok(items)
    }

    pub(super) async fn try_rules(&self, revision: &str) -> Result<Option<Vec<u8>>, Failure> {
        let mut session = Session::acquire(&self.connections).await?;
        let query = sqlx::query_scalar("SELECT component FROM rule_revisions WHERE revision = ?");
        let component = query.bind(revision).fetch_optional(&mut *session).await?;
        session.release();
        Ok(component)
    }
}

/// The outcome of a request whose key says that there is nothing to decide.
fn over<T: Clone>(
    taken: Taken,
    now: Option<&T>,
    commit_tried: bool,
) -> Result<Option<KeyedOutcome<T>>, StoreError> {
    let value = || now.cloned().ok_or_else(|| StoreError::Corrupt("what was written is gone".to_owned()));
    Ok(match taken {
        Taken::Free => None,
        Taken::Reused(kept) => Some(KeyedOutcome::KeyReused(kept)),
        Taken::Done if commit_tried => Some(KeyedOutcome::Done { value: value()?, seq: None }),
        Taken::Done => Some(KeyedOutcome::Replayed(value()?)),
    })
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
async fn all_items(tx: &mut MySqlConnection) -> Result<Vec<ItemRecord>, Failure> {
    let statement = format!("{ITEMS} ORDER BY i.item_id");
    let rows = sqlx::query_as(sqlx::AssertSqlSafe(statement)).fetch_all(tx).await?;
    Ok(item_records(rows)?)
}

/// The items of these names. Locked, nobody else changes them or takes of their stock until the transaction ends.
pub(super) async fn items(
    tx: &mut MySqlConnection,
    item_ids: &[&str],
    lock: bool,
) -> Result<Vec<ItemRecord>, Failure> {
    if item_ids.is_empty() {
        return Ok(Vec::new());
    }
    let locked: Vec<String>;
    let mut item_ids = padded(item_ids);
    if lock {
        // In a statement of its own, before they are read: a statement that waits for a lock reads what it does not
        // lock, which are the prices, as it was before the wait. A transaction that changes a price locks its item
        // first. All lock in the order of names, so that two orders wait for each other and do not block.
        let begin = "SELECT item_id FROM items WHERE item_id IN (";
        let mut query = sqlx::query_scalar(in_list(begin, item_ids.len(), ") ORDER BY item_id FOR UPDATE"));
        for item_id in &item_ids {
            query = query.bind(item_id);
        }
        locked = query.fetch_all(&mut *tx).await?;
        // An item that was made between the two statements is there, and is not locked.
        item_ids = padded(&locked.iter().map(String::as_str).collect::<Vec<_>>());
        if item_ids.is_empty() {
            return Ok(Vec::new());
        }
    }
    let begin = format!("{ITEMS} WHERE i.item_id IN (");
    let mut query = sqlx::query_as(in_list(&begin, item_ids.len(), ") ORDER BY i.item_id"));
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

/// Writes an item. Where it is there, it is locked.
async fn put_item(tx: &mut MySqlConnection, is_there: bool, item: &ItemRecord) -> Result<(), Failure> {
    let statement = if is_there {
        "UPDATE items SET title = ?, stock = ?, quantity_max = ?, tax_zero = ?, tags = ?, changed_at = ?
         WHERE item_id = ?"
    } else {
        "INSERT INTO items (title, stock, quantity_max, tax_zero, tags, changed_at, item_id)
         VALUES (?, ?, ?, ?, ?, ?, ?)"
    };
    let written = sqlx::query(statement)
        .bind(&item.title)
        .bind(item.stock)
        .bind(item.quantity_max)
        .bind(item.tax_zero)
        .bind(to_json(&item.tags)?)
        .bind(item.changed_at_ms)
        .bind(&item.item_id)
        .execute(&mut *tx)
        .await;
    unless_made_meanwhile(written)?;
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

/// Writes a coupon. Where it is there, it is locked.
async fn put_coupon(tx: &mut MySqlConnection, is_there: bool, coupon: &CouponRecord) -> Result<(), Failure> {
    let statement = if is_there {
        "UPDATE coupons SET value = ?, starts_at = ?, ends_at = ?, redemptions_max = ?, redemptions = ?,
             changed_at = ? WHERE code = ?"
    } else {
        "INSERT INTO coupons (value, starts_at, ends_at, redemptions_max, redemptions, changed_at, code)
         VALUES (?, ?, ?, ?, ?, ?, ?)"
    };
    let written = sqlx::query(statement)
        .bind(to_json(&coupon.value)?)
        .bind(coupon.starts_at_ms)
        .bind(coupon.ends_at_ms)
        .bind(coupon.redemptions_max)
        .bind(coupon.redemptions)
        .bind(coupon.changed_at_ms)
        .bind(&coupon.code)
        .execute(tx)
        .await;
    unless_made_meanwhile(written)
}

/// What is not there cannot be locked: of two that make it at once, the second finds it at its next attempt.
fn unless_made_meanwhile<T>(written: Result<T, sqlx::Error>) -> Result<(), Failure> {
    match written {
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
            Err(Failure::Undone(StoreError::unavailable(error)))
        }
        written => Ok(written.map(|_| ())?),
    }
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
async fn all_coupons(tx: &mut MySqlConnection) -> Result<Vec<CouponRecord>, Failure> {
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
