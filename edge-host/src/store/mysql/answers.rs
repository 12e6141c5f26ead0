//! Answers kept under idempotency keys.
//!
//! An answer is the document of a whole cart, some kilobytes of JSON that says the same things many times: a
//! fourth of that is left when it is packed. For a day it is the most that a write leaves behind, in the log, in the
//! tables and in the memory for them.

use std::cell::RefCell;
use std::io::Read;

use sqlx::MySqlConnection;
use zstd::bulk::Compressor;

use super::script::{Rows, Script};
use super::session::Failure;
use crate::model::StoredAnswer;
use crate::store::sql::{from_json, to_json};
use crate::store::{CartWrite, StoreError};

/// Of zstd: the quickest one. The next ones take twice as long for a few per cent.
const LEVEL: i32 = 1;
/// Longer than the document of a full cart with the longest variants and titles.
const ANSWER_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The answer kept under a key.
pub(super) async fn answer(
    tx: &mut MySqlConnection,
    cart_id: &str,
    key: &str,
) -> Result<StoredAnswer, Failure> {
    let (plain, packed): (String, Option<Vec<u8>>) = sqlx::query_as(
        "SELECT answer, packed_answer FROM idempotency_keys WHERE cart_id = ? AND idempotency_key = ?",
    )
    .bind(cart_id)
    .bind(key)
    .fetch_one(tx)
    .await?;
    let json = packed.as_deref().map_or(Ok(plain), unpack)?;
    Ok(from_json(&json)?)
}

/// Looks for what was answered under these keys of carts: cart, key, and the fingerprint of the request.
pub(super) fn look_for(script: &mut Script, keys: &[(&str, &str)]) {
    let mut rows = Rows::default();
    keys.iter().for_each(|(cart_id, key)| rows.add(&[(*cart_id).into(), (*key).into()]));
    let begin = "SELECT cart_id, idempotency_key, fingerprint FROM idempotency_keys
                 WHERE (cart_id, idempotency_key) IN (";
    script.add_rows(begin, &rows, ")");
}

/// One more answer to be kept.
pub(super) fn add_answer(
    answers: &mut Rows,
    write: &CartWrite,
    answer: &StoredAnswer,
) -> Result<(), StoreError> {
    let packed = pack(&to_json(answer)?)?;
    answers.add(&[
        (&write.unused.cart_id).into(),
        (&write.idempotency_key).into(),
        write.fingerprint.as_slice().into(),
        "".into(),
        packed.as_slice().into(),
        write.answer_kept_until_ms.into(),
    ]);
    Ok(())
}

/// Keeps them.
pub(super) fn insert_answers(script: &mut Script, answers: &Rows) {
    script.add_rows(
        "INSERT INTO idempotency_keys
             (cart_id, idempotency_key, fingerprint, answer, packed_answer, expires_at) VALUES ",
        answers,
        "",
    );
}

thread_local! {
    /// Its tables cost more to make than an answer to pack.
    static PACKER: RefCell<Compressor<'static>> = RefCell::new(Compressor::new(LEVEL).expect("there is such a level"));
}

fn pack(json: &str) -> Result<Vec<u8>, StoreError> {
    let packed = PACKER.with_borrow_mut(|packer| packer.compress(json.as_bytes()));
    packed.map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn unpack(packed: &[u8]) -> Result<String, StoreError> {
    let corrupt = |error: std::io::Error| StoreError::Corrupt(format!("an answer: {error}"));
    let mut json = String::new();
    let unpacked = zstd::stream::read::Decoder::with_buffer(packed).map_err(corrupt)?;
    unpacked.take(ANSWER_BYTES_MAX).read_to_string(&mut json).map_err(corrupt)?;
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_again() {
        let json = r#"{"lines":[{"line_id":"l_1"},{"line_id":"l_2"}],"title":"ข้าวหอมมะลิ"}"#.repeat(50);
        let packed = pack(&json).expect("packed");
        assert!(packed.len() * 4 < json.len());
        assert_eq!(unpack(&packed).expect("unpacked"), json);
    }

    #[test]
    fn what_nobody_packed_is_refused() {
        assert!(unpack(b"{\"status\":200}").is_err());
    }
}
