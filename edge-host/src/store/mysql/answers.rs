//! What is kept under idempotency keys.

use std::io::Read;

use sqlx::FromRow;
use sqlx::mysql::MySqlRow;

use super::script::{Rows, Script};
use crate::model::{KeptAnswer, Millis};
use crate::store::sql::to_json;
use crate::store::{CartWrite, Kept, StoreError};

/// Longer than the document of a full cart with the longest variants and titles, which earlier releases have kept.
const ANSWER_BYTES_MAX: u64 = 8 * 1024 * 1024;

#[derive(FromRow)]
struct KeyRow {
    cart_id: String,
    idempotency_key: String,
    fingerprint: Vec<u8>,
    answer: String,
    packed_answer: Option<Vec<u8>>,
    expires_at: Millis,
}

/// Looks for what was done under these keys of carts.
pub(super) fn look_for(script: &mut Script, keys: &[(&str, &str)]) {
    let mut rows = Rows::default();
    keys.iter().for_each(|(cart_id, key)| rows.add(&[(*cart_id).into(), (*key).into()]));
    let begin = "SELECT cart_id, idempotency_key, fingerprint, answer, packed_answer, expires_at
                 FROM idempotency_keys WHERE (cart_id, idempotency_key) IN (";
    script.add_rows(begin, &rows, ")");
}

/// Reads what [`look_for`] has found: cart, key, and what was done under it.
pub(super) fn found(row: &MySqlRow) -> Result<(String, String, Kept), StoreError> {
    let row = KeyRow::from_row(row)?;
    let json = row.packed_answer.as_deref().map_or(Ok(row.answer), unpack)?;
    Ok((row.cart_id, row.idempotency_key, Kept::read(row.fingerprint, &json, row.expires_at)?))
}

/// One more answer to be kept.
pub(super) fn add_answer(
    answers: &mut Rows,
    write: &CartWrite,
    answer: &KeptAnswer,
) -> Result<(), StoreError> {
    answers.add(&[
        (&write.unused.cart_id).into(),
        (&write.idempotency_key).into(),
        write.fingerprint.as_slice().into(),
        (&to_json(answer)?).into(),
        write.answer_kept_until_ms.into(),
    ]);
    Ok(())
}

/// Keeps them.
pub(super) fn insert_answers(script: &mut Script, answers: &Rows) {
    script.add_rows(
        "INSERT INTO idempotency_keys (cart_id, idempotency_key, fingerprint, answer, expires_at) VALUES ",
        answers,
        "",
    );
}

/// The release before has kept whole documents, packed by zstd.
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
        let packed = zstd::bulk::compress(json.as_bytes(), 1).expect("packed");
        assert_eq!(unpack(&packed).expect("unpacked"), json);
        assert!(unpack(b"{\"status\":200}").is_err());
    }
}
