//! How regions talk: the paths and headers that one side sends and the other understands. Bodies are JSON.

use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

/// The first thing on a connection: who gets an answer was let in.
pub const HELLO: &str = "/internal/hello";
/// The one thing that is asked that changes something.
pub const WRITES: &str = "/internal/writes";
/// A cart.
pub const CART: &str = "/internal/cart";
/// Orders of an owner.
pub const ORDERS: &str = "/internal/orders";
/// An order of an owner.
pub const ORDER: &str = "/internal/order";
/// Items.
pub const ITEMS: &str = "/internal/items";
/// The whole catalogue.
pub const CATALOGUE: &str = "/internal/catalogue";
/// What has changed.
pub const FEED: &str = "/internal/feed";
/// A component of the rules, by its revision.
pub const RULES: &str = "/internal/rules/";

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
