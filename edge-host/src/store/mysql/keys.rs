//! Idempotency keys of the catalogue's and the orders' changes.

use sqlx::MySqlConnection;

use super::MySqlStore;
use super::session::Failure;
use super::write::Claim;
use crate::store::keyed::{KeyRow, Taken};
use crate::store::{OnceKey, StoreError};

/// Where a cart's claims have the cart.
const ADMIN: &str = "admin";

impl MySqlStore {
    /// Claims a key for the time of one request.
    pub(super) fn claim_key(&self, key: &OnceKey) -> Option<Claim> {
        Claim::new(&self.in_flight, (ADMIN.to_owned(), key.key.clone()))
    }
}

/// Takes a key until the transaction ends. A request with the same key in another process waits for that.
pub(super) async fn take(tx: &mut MySqlConnection, key: &OnceKey) -> Result<Taken, Failure> {
    let inserted = sqlx::query(
        "INSERT IGNORE INTO admin_keys (idempotency_key, fingerprint, route, done_at, expires_at)
         VALUES (?, ?, ?, ?, ?)",
    )
    .bind(&key.key)
    .bind(key.fingerprint.as_slice())
    .bind(&key.route)
    .bind(key.now_ms)
    .bind(key.kept_until_ms)
    .execute(&mut *tx)
    .await?;
    if inserted.rows_affected() == 1 {
        return Ok(Taken::Free);
    }
    let kept: Option<KeyRow> =
        sqlx::query_as("SELECT fingerprint, route, done_at FROM admin_keys WHERE idempotency_key = ?")
            .bind(&key.key)
            .fetch_optional(tx)
            .await?;
    // It may have been swept away in between.
    let kept = kept.ok_or_else(|| Failure::Undone(StoreError::unavailable("the key was just forgotten")))?;
    Ok(Taken::by(kept, key))
}
