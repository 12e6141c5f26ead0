//! How regions talk: the paths and headers that one side sends and the other understands. Bodies are JSON.
//!
//! Each edge speaks its own version and the one before, so that regions are upgraded one after the other. On a new
//! connection an edge of home says which version it speaks ([`Hello`]), and is asked in that one. The rule for bodies:
//! a reader ignores fields that it does not know, and does without those that a version before did not send; a field
//! never changes its meaning, and a word that a version before would not understand is not sent to it.
//! `tests/fixtures/peer-v0` holds what the version before has said.

use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::model::{FeedPosition, Principal};

/// The version that is spoken here.
pub const VERSION: u32 = 1;

/// The first thing on a connection, and again from time to time: who gets an answer was let in.
pub const HELLO: &str = "/peer/v1/hello";

/// What is asked of home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// The one thing that changes something.
    Writes,
    /// A cart.
    Cart,
    /// Orders of an owner.
    Orders,
    /// An order of an owner.
    Order,
    /// Items.
    Items,
    /// The whole catalogue.
    Catalogue,
    /// What has changed.
    Feed,
    /// A component of the rules; its revision follows.
    Rules,
}

impl Topic {
    /// Its name, in every version.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Writes => "writes",
            Self::Cart => "cart",
            Self::Orders => "orders",
            Self::Order => "order",
            Self::Items => "items",
            Self::Catalogue => "catalogue",
            Self::Feed => "feed",
            Self::Rules => "rules",
        }
    }

    /// Where it is asked in this version.
    pub fn path(self) -> String {
        format!("/peer/v1/{}", self.name())
    }

    /// Where it was asked in the version before.
    pub fn path_v0(self) -> String {
        format!("/internal/{}", self.name())
    }
}

/// Orders of an owner, newest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OrdersQuestion {
    /// Whose.
    pub owner: Principal,
    /// Those before this one.
    #[serde(default)]
    pub before: Option<String>,
    /// As many at most.
    pub limit: u32,
}

/// An order of an owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OrderQuestion {
    /// Whose.
    pub owner: Principal,
    /// Which.
    pub order_id: String,
}

/// What has changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FeedQuestion {
    /// After this position; where the feed is now, without one.
    #[serde(default)]
    pub after: Option<FeedPosition>,
    /// How long to wait for news, in milliseconds.
    pub wait_ms: u64,
}

/// What the version before says otherwise, for one release.
pub mod v0 {
    use super::{FeedPosition, FeedQuestion, OrderQuestion, OrdersQuestion, Principal};

    /// The first thing on a connection.
    pub const HELLO: &str = "/internal/hello";

    /// Owner, before, limit.
    pub type Orders = (Principal, Option<String>, u32);
    /// Owner, order id.
    pub type Order = (Principal, String);
    /// After, milliseconds.
    pub type Feed = (Option<FeedPosition>, u64);

    impl From<Orders> for OrdersQuestion {
        fn from((owner, before, limit): Orders) -> Self {
            Self { owner, before, limit }
        }
    }

    impl From<Order> for OrderQuestion {
        fn from((owner, order_id): Order) -> Self {
            Self { owner, order_id }
        }
    }

    impl From<Feed> for FeedQuestion {
        fn from((after, wait_ms): Feed) -> Self {
            Self { after, wait_ms }
        }
    }

    impl From<OrdersQuestion> for Orders {
        fn from(asked: OrdersQuestion) -> Self {
            (asked.owner, asked.before, asked.limit)
        }
    }

    impl From<OrderQuestion> for Order {
        fn from(asked: OrderQuestion) -> Self {
            (asked.owner, asked.order_id)
        }
    }

    impl From<FeedQuestion> for Feed {
        fn from(asked: FeedQuestion) -> Self {
            (asked.after, asked.wait_ms)
        }
    }
}

/// What an edge says of itself. What is not said cannot be relied on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// The newest version that it speaks. It speaks the one before as well.
    pub version: u32,
    /// Whether it serves.
    pub ready: bool,
    /// Whether a write can be done here now.
    pub writes: bool,
    /// Why not.
    pub reasons: Vec<String>,
}

impl Hello {
    /// An edge of the version before says nothing: it serves when it answers.
    pub fn of_version_0() -> Self {
        Self { version: 0, ready: true, writes: true, reasons: Vec::new() }
    }
}

/// How many milliseconds the caller still waits. Time that is left needs no clocks that agree.
pub const DEADLINE_MS: HeaderName = HeaderName::from_static("troli-deadline-ms");

/// How long the caller of a request still waits, where it says so.
pub fn patience(headers: &HeaderMap) -> Option<Duration> {
    let milliseconds = headers.get(DEADLINE_MS)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_millis(milliseconds))
}

/// The value of [`DEADLINE_MS`].
pub fn deadline_ms(remaining: Duration) -> HeaderValue {
    HeaderValue::from(u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX))
}

/// The newest epoch that the caller has heard of: a primary of an older one must not answer.
pub const EPOCH: HeaderName = HeaderName::from_static("troli-epoch");

/// The newest epoch that the caller of a request has heard of, where it says so.
pub fn epoch(headers: &HeaderMap) -> Option<u32> {
    headers.get(EPOCH)?.to_str().ok()?.parse().ok()
}

/// The time of the database, in Unix milliseconds, in an answer of home.
pub const NOW_MS: HeaderName = HeaderName::from_static("troli-now-ms");

/// The time of the database that an answer gives.
pub fn now_ms(headers: &HeaderMap) -> Option<i64> {
    headers.get(NOW_MS)?.to_str().ok()?.parse().ok()
}

/// RFC 7239: who forwards a request, under an obfuscated name.
pub const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// The value of the `Forwarded` header of a request from a region.
pub fn forwarded_by(region: &str) -> String {
    format!("by=_troli-{region}")
}

/// Whether a `Forwarded` header says that one of our regions has forwarded the request already.
pub fn was_forwarded(headers: &HeaderMap) -> bool {
    let values = headers.get_all(FORWARDED).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split([',', ';'])).any(|pair| {
        let pair = pair.trim().to_ascii_lowercase();
        pair.strip_prefix("by=").is_some_and(|by| by.trim_matches('"').starts_with("_troli-"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).expect("a header value"))])
    }

    #[test]
    fn only_our_own_name_makes_a_loop() {
        let with = |value: &str| was_forwarded(&headers(FORWARDED, value));
        assert!(with(&forwarded_by("jkt")));
        assert!(with("for=192.0.2.1;proto=http, For=\"_x\";BY=\"_troli-bkk\""));
        assert!(!with("for=192.0.2.1;by=203.0.113.43"));
        assert!(!with("for=_troli-jkt"));
        assert!(!was_forwarded(&HeaderMap::new()));
    }

    #[test]
    fn patience_arrives_as_it_was_sent() {
        let sent = Duration::from_millis(2_345);
        let arrived = HeaderMap::from_iter([(DEADLINE_MS, deadline_ms(sent))]);
        assert_eq!(patience(&arrived), Some(sent));
        for nonsense in ["", "-1", "soon", "1.5", "99999999999999999999999"] {
            assert_eq!(patience(&headers(DEADLINE_MS, nonsense)), None, "{nonsense}");
        }
    }
}
