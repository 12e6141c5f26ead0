//! What is kept under an idempotency key: that a request was done, and enough to answer it again.

use serde::{Deserialize, Serialize};

use super::{CartVersion, Millis};

/// Where an order is found.
const ORDERS: &str = "/v1/orders/";

/// What is kept of a write that was done. It is small, whatever the cart: a request that comes again is answered with
/// the cart or the order as it is then.
///
/// Rows are read by the release before and by the release after. `migrations/README.md` has the rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAnswer {
    /// The HTTP status of the first answer.
    pub status: u16,
    /// The whole first answer in rows of earlier releases. Now the least that they can answer with.
    pub body: String,
    /// The cart's version after the write.
    pub version: CartVersion,
    /// Where the new resource is.
    pub location: Option<String>,
    /// Method and path of the request; `None` where the edge that took it in was of an earlier release.
    #[serde(default)]
    pub route: Option<String>,
    /// Digest of the request; `None` likewise.
    #[serde(default)]
    pub request: Option<String>,
    /// When it was done; `None` in rows of earlier releases.
    #[serde(default)]
    pub at_ms: Option<Millis>,
}

impl KeptAnswer {
    /// The order that was placed, if it was a checkout.
    pub fn order_id(&self) -> Option<&str> {
        self.location.as_deref()?.strip_prefix(ORDERS)
    }

    /// What another request under the key is told.
    pub fn done(&self) -> Done {
        Done {
            at_ms: self.at_ms,
            route: self.route.clone(),
            order_id: self.order_id().map(ToOwned::to_owned),
        }
    }
}

/// What was done under an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// When, where that is known.
    pub at_ms: Option<Millis>,
    /// By which method and path, where that is known.
    pub route: Option<String>,
    /// The order that was placed, if it was a checkout.
    pub order_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the release before reads.
    #[derive(Debug, PartialEq, Eq, Deserialize)]
    struct StoredAnswer {
        status: u16,
        body: String,
        version: CartVersion,
        location: Option<String>,
    }

    #[test]
    fn the_release_before_reads_what_is_kept_and_the_other_way_round() {
        let version = CartVersion { epoch: 1, version: 17 };
        let location = Some("/v1/orders/o_1".to_owned());
        let kept = KeptAnswer {
            status: 201,
            body: "{}".to_owned(),
            version,
            location: location.clone(),
            route: Some("POST /v1/cart/checkout".to_owned()),
            request: Some("digest".to_owned()),
            at_ms: Some(1),
        };
        assert_eq!(kept.order_id(), Some("o_1"));
        let json = serde_json::to_string(&kept).expect("JSON");
        let old: StoredAnswer = serde_json::from_str(&json).expect("what it understands");
        assert_eq!(old, StoredAnswer { status: 201, body: "{}".to_owned(), version, location });
        let json = r#"{"status":201,"body":"{}","version":"1.17","location":"/v1/orders/o_1"}"#;
        let read: KeptAnswer = serde_json::from_str(json).expect("a row of the release before");
        assert_eq!(read, KeptAnswer { route: None, request: None, at_ms: None, ..kept });
    }
}
