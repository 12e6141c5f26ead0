//! What a proxy changes in headers, and nothing else.

use http::HeaderMap;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use uuid::Uuid;

use super::caller::Caller;
use crate::decision::Reason;
use crate::topology::RegionId;

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The region a caller asks for.
pub(super) const TROLI_REGION: HeaderName = HeaderName::from_static("troli-region");

/// The region that answered, and why it was chosen.
pub(super) const TROLI_REGION_CHOICE: HeaderName = HeaderName::from_static("troli-region-choice");

/// The region that answers, as an edge tells it.
pub(super) const CART_REGION: HeaderName = HeaderName::from_static("cart-region");

/// In an answer of an edge: callers should be sent elsewhere. Its value says why.
pub const NOT_SERVING: HeaderName = HeaderName::from_static("troli-not-serving");

/// Of [`NOT_SERVING`]: the edge has not begun yet, and nothing was done.
pub const STARTING: &str = "starting";

/// Of [`NOT_SERVING`]: the edge is about to stop, and serves until then.
pub const STOPPING: &str = "stopping";

/// Longer ones are nobody's request id. A UUID has 36 characters, a trace id 32.
const REQUEST_ID_BYTES_MAX: usize = 128;

/// Headers for one connection only, besides those that `Connection` names (RFC 9110 §7.6.1). `TE` goes, so
/// trailers are not promised either.
const HOP_BY_HOP: [HeaderName; 9] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Headers by which a proxy tells what it knows of the client. From anybody else they are hearsay, and
/// `Forwarded` would trip the regions' guard against loops.
const SAID_BY_PROXIES: [HeaderName; 6] = [
    FORWARDED,
    X_FORWARDED_FOR,
    X_FORWARDED_PROTO,
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-real-ip"),
];

/// Headers that regions speak to each other with. A caller's own mean nothing.
const BETWEEN_REGIONS: [HeaderName; 3] = [
    HeaderName::from_static("troli-deadline-ms"),
    HeaderName::from_static("troli-epoch"),
    HeaderName::from_static("troli-peer"),
];

/// The headers of a request as an edge is to see them. `Host` stays.
pub(super) fn to_edge(headers: &mut HeaderMap, caller: &Caller, request_id: &HeaderValue) {
    remove_hop_by_hop(headers);
    // The body is complete in memory: its length is known anew, and nobody has to be asked to continue.
    headers.remove(CONTENT_LENGTH);
    headers.remove(EXPECT);
    for name in &BETWEEN_REGIONS {
        headers.remove(name);
    }
    if !caller.peer_trusted {
        for name in &SAID_BY_PROXIES {
            headers.remove(name);
        }
    }
    let forwarded_for = forwarded_for(headers, caller);
    headers.insert(X_FORWARDED_FOR, forwarded_for);
    // This listener speaks HTTP; TLS ends at a trusted proxy before it, which says so.
    headers.entry(X_FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    headers.insert(X_REQUEST_ID, request_id.clone());
}

/// The headers of an answer as the caller is to see them.
pub(super) fn to_caller(headers: &mut HeaderMap, request_id: &HeaderValue, choice: HeaderValue) {
    remove_hop_by_hop(headers);
    headers.remove(NOT_SERVING);
    headers.insert(TROLI_REGION_CHOICE, choice);
    headers.entry(X_REQUEST_ID).or_insert_with(|| request_id.clone());
}

/// The value of [`TROLI_REGION_CHOICE`].
pub(super) fn choice(region: RegionId, reason: Reason) -> HeaderValue {
    HeaderValue::from_str(&format!("{region};reason={reason}"))
        .expect("a region id and a reason are visible ASCII")
}

/// The caller's own request id when it is fit for a log line, otherwise a new one.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let fit = |id: &&HeaderValue| {
        let id = id.as_bytes();
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
            && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    headers.get(X_REQUEST_ID).filter(fit).cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&Uuid::new_v4().to_string()).expect("a UUID is visible ASCII")
    })
}

fn forwarded_for(headers: &HeaderMap, caller: &Caller) -> HeaderValue {
    let mut line: Vec<u8> = Vec::new();
    for earlier in headers.get_all(X_FORWARDED_FOR) {
        line.extend_from_slice(earlier.as_bytes());
        line.extend_from_slice(b", ");
    }
    line.extend_from_slice(caller.peer.to_string().as_bytes());
    HeaderValue::from_bytes(&line).expect("it is made of header values and an address")
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn caller(peer_trusted: bool) -> Caller {
        let peer = "10.0.0.1".parse().expect("an address");
        Caller { peer, peer_trusted, address: peer }
    }

    /// All headers, a line each, in the order of their names.
    fn written(headers: &HeaderMap) -> Vec<String> {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
        };
        let mut lines: Vec<String> = headers.iter().map(line).collect();
        lines.sort();
        lines
    }

    #[test]
    fn connection_headers_stop_here_and_the_rest_passes() {
        let mut headers = headers(&[
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("content-length", "7"),
            ("troli-deadline-ms", "0"),
            ("troli-epoch", "7"),
            ("host", "cart.example"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ]);
        to_edge(&mut headers, &caller(false), &HeaderValue::from_static("id"));
        assert_eq!(
            written(&headers),
            [
                "host: cart.example",
                "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                "x-forwarded-for: 10.0.0.1",
                "x-forwarded-proto: http",
                "x-request-id: id",
            ]
        );
    }

    #[test]
    fn an_untrusted_client_does_not_speak_for_others() {
        let said = [
            ("forwarded", "for=1.2.3.4;by=sin"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
            ("x-real-ip", "1.2.3.4"),
        ];
        let mut untrusted = headers(&said);
        to_edge(&mut untrusted, &caller(false), &HeaderValue::from_static("id"));
        assert_eq!(
            written(&untrusted),
            ["x-forwarded-for: 10.0.0.1", "x-forwarded-proto: http", "x-request-id: id"]
        );

        let mut trusted = headers(&said);
        trusted.append(X_FORWARDED_FOR, HeaderValue::from_static("5.6.7.8"));
        to_edge(&mut trusted, &caller(true), &HeaderValue::from_static("id"));
        assert_eq!(trusted[X_FORWARDED_FOR], "1.2.3.4, 5.6.7.8, 10.0.0.1");
        assert_eq!(trusted[X_FORWARDED_PROTO], "https");
        assert_eq!(trusted[FORWARDED], "for=1.2.3.4;by=sin");
    }

    #[test]
    fn a_request_id_is_kept_when_it_is_fit_for_a_log_line() {
        let kept = headers(&[("x-request-id", "01J-a.b_C")]);
        assert_eq!(request_id(&kept), "01J-a.b_C");

        let long: &'static str = "a".repeat(REQUEST_ID_BYTES_MAX + 1).leak();
        for unfit in ["", "a b", "a\"b", "a;b", long] {
            let made = request_id(&headers(&[("x-request-id", unfit)]));
            let made = made.to_str().expect("ASCII");
            assert!(Uuid::parse_str(made).is_ok(), "{unfit:?} became {made}");
        }
    }
}
