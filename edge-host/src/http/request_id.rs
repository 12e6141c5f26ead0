//! The name of a request in logs and problems.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// Taken in and given back.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A longer id, or one with other characters, is replaced: it goes into logs.
const REQUEST_ID_BYTES_MAX: usize = 128;

tokio::task_local! {
    static CURRENT: HeaderValue;
}

/// The caller's id where it is one, else a new one.
pub(super) fn take(headers: &HeaderMap) -> HeaderValue {
    let plain = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
        (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(word)
    };
    match headers.get(X_REQUEST_ID).filter(plain) {
        Some(value) => value.clone(),
        None => {
            let mut digits = Uuid::encode_buffer();
            let digits = Uuid::new_v4().simple().encode_lower(&mut digits);
            HeaderValue::from_str(digits).expect("hex digits")
        }
    }
}

/// Runs a request under its name.
pub(super) fn scope<F: Future>(id: HeaderValue, request: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(id, request)
}

/// The name of the request that this task works on; empty outside of one.
pub(super) fn current() -> String {
    CURRENT.try_with(|id| id.to_str().unwrap_or_default().to_owned()).unwrap_or_default()
}
