//! Changes that the merchant and the payment service make under an idempotency key.

use crate::model::{CouponRecord, ItemRecord, Millis};

/// Under which key a change is done once.
#[derive(Clone, Debug)]
pub struct OnceKey {
    /// The client's key, or one that the edge made for its own retries.
    pub key: String,
    /// Tells one request from another under the same key.
    pub fingerprint: [u8; 32],
    /// Method and path, for a client that uses the key a second time for something else.
    pub route: String,
    /// When the request came.
    pub now_ms: Millis,
    /// Until when the key is kept.
    pub kept_until_ms: Millis,
}

/// How a change under a key ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyedOutcome<T> {
    /// Committed.
    Done {
        /// The record afterwards.
        value: T,
        /// The place of the change in the feed, where there is one.
        seq: Option<u64>,
    },
    /// Committed earlier, under the same key; the record as it is now.
    Replayed(T),
    /// The decision was no, and the caller has the reason. For an order: there is none of that name, or it was
    /// settled otherwise.
    Refused(Option<T>),
    /// The key was used for another request.
    KeyReused(KeptKey),
    /// The first request with this key is still under way.
    InProgress,
}

/// What was done under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptKey {
    /// Method and path.
    pub route: String,
    /// When.
    pub at_ms: Millis,
}

/// Decides what an item becomes, from the item as it is under lock; `None` to change nothing.
pub type DecideItem<'a> = dyn FnMut(Option<&ItemRecord>) -> Option<ItemRecord> + Send + 'a;

/// Decides what a coupon becomes, from the coupon as it is under lock; `None` to change nothing.
pub type DecideCoupon<'a> = dyn FnMut(Option<&CouponRecord>) -> Option<CouponRecord> + Send + 'a;

/// The state of a key, as the transaction that asks for it sees it.
pub(super) enum Taken {
    /// Nobody has used it: it is kept when this transaction commits.
    Free,
    /// This request was done under it.
    Done,
    /// Another request was done under it.
    Reused(KeptKey),
}

/// A key that is there: the fingerprint of its request, the route, and when it was done.
pub(super) type KeyRow = (Vec<u8>, String, Millis);

impl Taken {
    /// What a key that is there means for this request.
    pub(super) fn by((fingerprint, route, at_ms): KeyRow, key: &OnceKey) -> Self {
        if fingerprint == key.fingerprint { Self::Done } else { Self::Reused(KeptKey { route, at_ms }) }
    }
}
