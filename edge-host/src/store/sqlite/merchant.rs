//! What the merchant and the payment service change: items, coupons, orders, each under an idempotency key.

use sqlx::SqliteConnection;

use super::outbox::publish;
use super::stock::settle;
use super::{Claim, SqliteStore, rows};
use crate::model::{Change, CouponRecord, ItemRecord, OrderRecord, OrderState};
use crate::store::keyed::{KeyRow, Taken};
use crate::store::sql::to_json;
use crate::store::{DecideCoupon, DecideItem, KeyedOutcome, OnceKey, StoreError};

/// Where a cart's claims have the cart.
const ADMIN: &str = "admin";

impl SqliteStore {
    fn claim_key(&self, key: &OnceKey) -> Option<Claim> {
        Claim::new(&self.in_flight, (ADMIN.to_owned(), key.key.clone()))
    }

    pub(super) async fn write_item_once(
        &self,
        item_id: &str,
        key: &OnceKey,
        decide: &mut DecideItem<'_>,
    ) -> Result<KeyedOutcome<ItemRecord>, StoreError> {
        let Some(_claim) = self.claim_key(key) else { return Ok(KeyedOutcome::InProgress) };
        let mut tx = self.begin().await?;
        let taken = take(&mut tx, key).await?;
        let before = rows::items(&mut tx, Some(&[&item_id.to_owned()].into())).await?.pop();
        if let Some(over) = over(taken, before.as_ref())? {
            return Ok(over);
        }
        let Some(after) = decide(before.as_ref()) else { return Ok(KeyedOutcome::Refused(before)) };
        let mut seq = None;
        if before.as_ref() != Some(&after) {
            put_item(&mut tx, &after).await?;
            seq = Some(publish(&mut tx, &Change::Item(after.clone()), key.now_ms).await?);
        }
        self.commit(tx, seq).await?;
        Ok(KeyedOutcome::Done { value: after, seq })
    }

    pub(super) async fn write_coupon_once(
        &self,
        code: &str,
        key: &OnceKey,
        decide: &mut DecideCoupon<'_>,
    ) -> Result<KeyedOutcome<CouponRecord>, StoreError> {
        let Some(_claim) = self.claim_key(key) else { return Ok(KeyedOutcome::InProgress) };
        let mut tx = self.begin().await?;
        let taken = take(&mut tx, key).await?;
        let before = rows::coupons(&mut tx, Some(&[&code.to_owned()].into())).await?.pop();
        if let Some(over) = over(taken, before.as_ref())? {
            return Ok(over);
        }
        let Some(after) = decide(before.as_ref()) else { return Ok(KeyedOutcome::Refused(before)) };
        let mut seq = None;
        if before.as_ref() != Some(&after) {
            put_coupon(&mut tx, &after).await?;
            seq = Some(publish(&mut tx, &Change::Coupon(after.clone()), key.now_ms).await?);
        }
        self.commit(tx, seq).await?;
        Ok(KeyedOutcome::Done { value: after, seq })
    }

    pub(super) async fn settle_order_once(
        &self,
        order_id: &str,
        to: OrderState,
        key: &OnceKey,
    ) -> Result<KeyedOutcome<OrderRecord>, StoreError> {
        let Some(_claim) = self.claim_key(key) else { return Ok(KeyedOutcome::InProgress) };
        let mut tx = self.begin().await?;
        let taken = take(&mut tx, key).await?;
        let mut seq = None;
        if matches!(taken, Taken::Free) {
            seq = settle(&mut tx, order_id, to, key.now_ms).await?;
        }
        let row: Option<(String, String, String)> =
            sqlx::query_as("SELECT order_id, state, document FROM orders WHERE order_id = ?1")
                .bind(order_id)
                .fetch_optional(&mut *tx)
                .await?;
        match (taken, row.map(rows::order).transpose()?) {
            (Taken::Reused(kept), _) => Ok(KeyedOutcome::KeyReused(kept)),
            (Taken::Free, Some(value)) if value.state == to => {
                self.commit(tx, seq).await?;
                Ok(KeyedOutcome::Done { value, seq })
            }
            (Taken::Done, Some(value)) => Ok(KeyedOutcome::Replayed(value)),
            (_, found) => Ok(KeyedOutcome::Refused(found)),
        }
    }
}

/// Takes a key until the transaction ends.
async fn take(tx: &mut SqliteConnection, key: &OnceKey) -> Result<Taken, StoreError> {
    let kept: Option<KeyRow> =
        sqlx::query_as("SELECT fingerprint, route, done_at FROM admin_keys WHERE key = ?1")
            .bind(&key.key)
            .fetch_optional(&mut *tx)
            .await?;
    if let Some(kept) = kept {
        return Ok(Taken::by(kept, key));
    }
    sqlx::query(
        "INSERT INTO admin_keys (key, fingerprint, route, done_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )
    .bind(&key.key)
    .bind(key.fingerprint.as_slice())
    .bind(&key.route)
    .bind(key.now_ms)
    .bind(key.kept_until_ms)
    .execute(tx)
    .await?;
    Ok(Taken::Free)
}

/// The outcome of a request whose key says that there is nothing to decide.
fn over<T: Clone>(taken: Taken, now: Option<&T>) -> Result<Option<KeyedOutcome<T>>, StoreError> {
    Ok(match taken {
        Taken::Free => None,
        Taken::Reused(kept) => Some(KeyedOutcome::KeyReused(kept)),
        Taken::Done => {
            let now = now.ok_or_else(|| StoreError::Corrupt("what was written is gone".to_owned()))?;
            Some(KeyedOutcome::Replayed(now.clone()))
        }
    })
}

async fn put_item(tx: &mut SqliteConnection, item: &ItemRecord) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO items (item_id, title, prices, stock, quantity_max, tax_zero, tags, changed_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT (item_id) DO UPDATE SET title = excluded.title, prices = excluded.prices,
             stock = excluded.stock, quantity_max = excluded.quantity_max,
             tax_zero = excluded.tax_zero, tags = excluded.tags, changed_at = excluded.changed_at",
    )
    .bind(&item.item_id)
    .bind(&item.title)
    .bind(to_json(&item.prices)?)
    .bind(item.stock)
    .bind(item.quantity_max)
    .bind(item.tax_zero)
    .bind(to_json(&item.tags)?)
    .bind(item.changed_at_ms)
    .execute(tx)
    .await?;
    Ok(())
}

async fn put_coupon(tx: &mut SqliteConnection, coupon: &CouponRecord) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO coupons (code, value, starts_at, ends_at, redemptions_max, redemptions, changed_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (code) DO UPDATE SET value = excluded.value, starts_at = excluded.starts_at,
             ends_at = excluded.ends_at, redemptions_max = excluded.redemptions_max,
             redemptions = excluded.redemptions, changed_at = excluded.changed_at",
    )
    .bind(&coupon.code)
    .bind(to_json(&coupon.value)?)
    .bind(coupon.starts_at_ms)
    .bind(coupon.ends_at_ms)
    .bind(coupon.redemptions_max)
    .bind(coupon.redemptions)
    .bind(coupon.changed_at_ms)
    .execute(tx)
    .await?;
    Ok(())
}
