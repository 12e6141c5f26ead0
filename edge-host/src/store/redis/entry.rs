//! A cart as the fields of a hash, and back.
//!
//! `_t` the life of the entry, `_v` the version, `_k` what there is of it ([`FULL`], [`ABSENT`] or a floor), `_m`
//! all of the cart but its lines, `_n` what a count needs, `_d` and `_q` the document, and a field for every line
//! under its `line_id`, which begins with `l_`.

use std::collections::HashMap;

use cart_core::{Cart, Line};
use redis::Value;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::{CartRecord, CartState, CartVersion, CurrencyCode, Millis};
use crate::store::{CacheEntry, CartCount, CartDocument, Glance, StoreError};

/// There is a cart.
pub(super) const FULL: &str = "full";
/// There is a cart, and it was never written.
pub(super) const ABSENT: &str = "absent";
/// There is only a version.
const FLOOR: &str = "floor";

/// What [`glance`] reads.
pub(super) const GLANCE_FIELDS: [&str; 4] = ["_v", "_k", "_d", "_q"];
/// What [`count`] reads.
pub(super) const COUNT_FIELDS: [&str; 2] = ["_v", "_n"];

/// All of a cart but its lines.
#[derive(Serialize, Deserialize)]
struct Header {
    state: CartState,
    currency: CurrencyCode,
    coupons: Vec<String>,
    /// A hash has no order.
    lines: Vec<String>,
    updated_at_ms: Option<Millis>,
    expires_at_ms: Option<Millis>,
}

/// A line but its name.
#[derive(Serialize, Deserialize)]
struct LineValue {
    item_id: String,
    quantity: u32,
    variant: String,
    /// Known by this name to the version before.
    #[serde(rename = "unit_price")]
    added_price: i64,
    added_at_ms: Millis,
    /// The version before has none: it kept the price of the time when the line was added.
    #[serde(default)]
    priced_at_ms: Option<Millis>,
    updated_at_ms: Millis,
}

/// The kind of an entry, and its fields with their values.
pub(super) fn fields(record: &CartRecord) -> Result<(&'static str, Vec<Vec<u8>>), StoreError> {
    let cart = &record.cart;
    let header = Header {
        state: record.state,
        currency: CurrencyCode(cart.currency),
        coupons: cart.coupons.clone(),
        lines: cart.lines.iter().map(|line| line.line_id.clone()).collect(),
        updated_at_ms: record.updated_at_ms,
        expires_at_ms: record.expires_at_ms,
    };
    let merged = u8::from(record.state == CartState::Merged);
    let count = format!("{} {} {merged}", cart.lines.len(), cart.quantity());
    let mut fields = vec![b"_m".to_vec(), to_json(&header)?, b"_n".to_vec(), count.into_bytes()];
    for line in &cart.lines {
        let value = LineValue {
            item_id: line.item_id.clone(),
            quantity: line.quantity,
            variant: line.variant.clone(),
            added_price: line.added_price,
            added_at_ms: line.added_at_ms,
            priced_at_ms: Some(line.priced_at_ms),
            updated_at_ms: line.updated_at_ms,
        };
        fields.push(line.line_id.clone().into_bytes());
        fields.push(to_json(&value)?);
    }
    let kind = if record.updated_at_ms.is_none() && record.version.version == 0 { ABSENT } else { FULL };
    Ok((kind, fields))
}

/// What a document was made from, as it lies beside it.
pub(super) fn document_head(document: &CartDocument) -> Result<Vec<u8>, StoreError> {
    to_json(document)
}

/// Reads [`GLANCE_FIELDS`]. An entry that only a ticket began is none.
pub(super) fn glance(answer: Value) -> Result<Option<Glance>, StoreError> {
    let [version, kind, head, body] = values(answer)?;
    let Some(version) = version else { return Ok(None) };
    let version = read_version(&version)?;
    let full = read_kind(kind)?;
    // A document that cannot be read is one that is not there: it is made again, and takes the place of this one.
    let document = head.zip(body).and_then(|(head, body)| {
        let document: CartDocument = serde_json::from_slice(&head).ok()?;
        Some(CartDocument { body: body.into(), ..document })
    });
    let document = document.filter(|document| full && document.version == version);
    Ok(Some(Glance { version, full, document: document.map(Into::into), near: false }))
}

/// Reads [`COUNT_FIELDS`].
pub(super) fn count(answer: Value) -> Result<Option<CartCount>, StoreError> {
    let [version, count] = values(answer)?;
    let Some((version, count)) = version.zip(count) else { return Ok(None) };
    let version = read_version(&version)?;
    let count = text(&count)?;
    let mut parts = count.split(' ');
    let mut next = || parts.next().and_then(|part| part.parse::<u64>().ok());
    match (next(), next(), next()) {
        (Some(lines), Some(quantity), Some(merged)) => Ok(Some(CartCount {
            version,
            lines: usize::try_from(lines).map_err(|_| corrupt("a count"))?,
            quantity,
            merged: merged != 0,
        })),
        _ => Err(corrupt("a count")),
    }
}

/// Reads a whole hash.
pub(super) fn entry(cart_id: &str, answer: Value) -> Result<Option<CacheEntry>, StoreError> {
    let mut fields = HashMap::new();
    for (name, value) in answer.into_map_iter().map_err(|_| corrupt("an answer"))? {
        fields.extend(bytes(name)?.zip(bytes(value)?));
    }
    let mut take = |name: &str| fields.remove(name.as_bytes());
    let Some(version) = take("_v") else { return Ok(None) };
    let version = read_version(&version)?;
    if !read_kind(take("_k"))? {
        return Ok(Some(CacheEntry::Floor(version)));
    }
    let header: Header = from_json(&take("_m").ok_or_else(|| corrupt("a cart without a header"))?)?;
    let mut cart = Cart { coupons: header.coupons, ..Cart::empty(header.currency.0) };
    for line_id in header.lines {
        let value: LineValue = from_json(&take(&line_id).ok_or_else(|| corrupt("a cart without a line"))?)?;
        cart.lines.push(Line {
            line_id,
            item_id: value.item_id,
            quantity: value.quantity,
            variant: value.variant,
            added_price: value.added_price,
            added_at_ms: value.added_at_ms,
            priced_at_ms: value.priced_at_ms.unwrap_or(value.added_at_ms),
            updated_at_ms: value.updated_at_ms,
        });
    }
    let record = CartRecord {
        cart_id: cart_id.to_owned(),
        state: header.state,
        version,
        cart,
        updated_at_ms: header.updated_at_ms,
        expires_at_ms: header.expires_at_ms,
    };
    Ok(Some(CacheEntry::Full(record.into())))
}

/// The values of an answer that has so many, each a string or nothing.
pub(super) fn values<const N: usize>(answer: Value) -> Result<[Option<Vec<u8>>; N], StoreError> {
    let Value::Array(values) = answer else { return Err(corrupt("an answer")) };
    let values = values.into_iter().map(bytes).collect::<Result<Vec<_>, _>>()?;
    values.try_into().map_err(|_| corrupt("an answer"))
}

/// A string, or nothing.
pub(super) fn bytes(value: Value) -> Result<Option<Vec<u8>>, StoreError> {
    match value {
        Value::BulkString(bytes) => Ok(Some(bytes)),
        Value::SimpleString(text) => Ok(Some(text.into_bytes())),
        Value::Nil => Ok(None),
        _ => Err(corrupt("an answer")),
    }
}

pub(super) fn text(bytes: &[u8]) -> Result<&str, StoreError> {
    str::from_utf8(bytes).map_err(|_| corrupt("what is no text"))
}

pub(super) fn to_json(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn read_version(bytes: &[u8]) -> Result<CartVersion, StoreError> {
    text(bytes)?.parse().map_err(|_| corrupt("a version"))
}

/// Whether there is a cart.
fn read_kind(bytes: Option<Vec<u8>>) -> Result<bool, StoreError> {
    match text(&bytes.unwrap_or_default())? {
        FULL | ABSENT => Ok(true),
        FLOOR => Ok(false),
        _ => Err(corrupt("a kind")),
    }
}

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(format!("{what} that cannot be read"))
}
