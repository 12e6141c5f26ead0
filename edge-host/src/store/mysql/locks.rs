//! Locks of what a checkout takes from: items and coupons.

use std::collections::HashSet;

use sqlx::MySqlConnection;
use sqlx::Row;

use super::script::{Script, Value};
use super::session::Failure;

/// Locks items and coupons, all that are there and free, in one message. Returns those that somebody else has locked,
/// by their queues; then this transaction is to be undone, and nothing has waited.
///
/// Everything is locked in the order of names. What is read after this is what is committed then (READ COMMITTED).
pub(super) async fn lock_stock(
    tx: &mut MySqlConnection,
    item_ids: &[&str],
    codes: &[&str],
) -> Result<Vec<String>, Failure> {
    let mut script = Script::default();
    let mut kinds = Vec::new();
    for (kind, table, column, names) in [
        (item_queue as fn(&str) -> String, "items", "item_id", item_ids),
        (coupon_queue, "coupons", "code", codes),
    ] {
        if names.is_empty() {
            continue;
        }
        let values: Vec<Value<'_>> = names.iter().copied().map(Value::from).collect();
        let places = vec!["?"; names.len()].join(", ");
        let rows = format!("SELECT {column} FROM {table} WHERE {column} IN ({places})");
        script.add(&format!("{rows} ORDER BY {column} FOR UPDATE SKIP LOCKED"), &values);
        script.add(&rows, &values);
        kinds.push(kind);
    }
    let mut results = script.results(tx).await?.into_iter();
    let mut held = Vec::new();
    for kind in kinds {
        let (locked, there) = (results.next().unwrap_or_default(), results.next().unwrap_or_default());
        let locked: HashSet<String> =
            locked.iter().map(|row| row.try_get(0)).collect::<Result<_, sqlx::Error>>()?;
        for row in &there {
            let name: String = row.try_get(0)?;
            if !locked.contains(&name) {
                held.push(kind(&name));
            }
        }
    }
    Ok(held)
}

/// The queue of an item.
pub(super) fn item_queue(item_id: &str) -> String {
    format!("item:{item_id}")
}

/// The queue of a coupon.
pub(super) fn coupon_queue(code: &str) -> String {
    format!("coupon:{code}")
}
