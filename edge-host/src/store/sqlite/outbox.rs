//! The outbox: what changed, in the order of commits, written in the transaction that changes it.

use std::collections::BTreeSet;

use sqlx::SqliteConnection;

use super::rows;
use crate::model::{CartRecord, Change, Millis};
use crate::store::StoreError;
use crate::store::sql::{to_json, unsigned};

pub(super) async fn publish_facts(
    tx: &mut SqliteConnection,
    item_ids: &BTreeSet<String>,
    codes: &BTreeSet<String>,
    now_ms: Millis,
) -> Result<Option<u64>, StoreError> {
    let mut seq = None;
    for item in rows::items(tx, Some(&item_ids.iter().collect())).await? {
        seq = Some(publish(tx, &Change::Item(item), now_ms).await?);
    }
    for coupon in rows::coupons(tx, Some(&codes.iter().collect())).await? {
        seq = Some(publish(tx, &Change::Coupon(coupon), now_ms).await?);
    }
    Ok(seq)
}

pub(super) async fn publish_cart(
    tx: &mut SqliteConnection,
    record: &CartRecord,
    now_ms: Millis,
) -> Result<u64, StoreError> {
    let change = Change::Cart { cart_id: record.cart_id.clone(), version: record.version };
    publish(tx, &change, now_ms).await
}

pub(super) async fn publish(
    tx: &mut SqliteConnection,
    change: &Change,
    now_ms: Millis,
) -> Result<u64, StoreError> {
    let seq: i64 = sqlx::query_scalar("INSERT INTO outbox (at, change) VALUES (?1, ?2) RETURNING seq")
        .bind(now_ms)
        .bind(to_json(change)?)
        .fetch_one(tx)
        .await?;
    unsigned(seq)
}

/// The newest place that was ever given out, also when its row has been swept away.
pub(super) async fn feed_head(tx: &mut SqliteConnection) -> Result<u64, StoreError> {
    let seq: Option<i64> = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")
        .fetch_optional(tx)
        .await?;
    unsigned(seq.unwrap_or(0))
}
