//! Cross-origin resource sharing (the Fetch standard, §3.2): which pages of other origins may call, and what they
//! may send and read.
//!
//! Origins are exact. An origin that is not allowed gets none of these headers, so that a browser keeps the answer
//! from its page.

use std::str::FromStr;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN, VARY,
};
use http::{HeaderMap, Method};

/// What a page may send beside what every page may.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, cache-control, cart-share, cart-version, content-type, idempotency-key, if-match, \
     if-none-match, last-event-id, traceparent, tracestate, troli-region, troli-rehearse, troli-round-trips, \
     x-request-id",
);

/// What a page may read beside what every page may.
const ANSWER_HEADERS: HeaderValue = HeaderValue::from_static(
    "allow, cart-region, cart-source, cart-version, etag, idempotent-replayed, location, ratelimit, \
     ratelimit-policy, retry-after, server-timing, troli-region-choice, www-authenticate, x-request-id",
);

/// How long a browser may keep the answer to a preflight request. None keeps it longer than two hours.
const MAX_AGE_S: HeaderValue = HeaderValue::from_static("7200");

/// Names with which a machine calls itself. Their ports may be left open, for a developer's own server.
const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// An origin that may call, such as `https://shop.example`, or `http://localhost:*` for any port of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Scheme and host, and the port where it is not the scheme's.
    text: String,
    any_port: bool,
}

/// Not an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an origin is scheme://host or scheme://host:port, in lower case and without a path; only this machine may have :* for a port"
)]
pub struct OriginMalformed;

/// A request's origin, where it may call.
#[derive(Clone, Debug)]
pub struct Caller {
    origin: HeaderValue,
    preflight: bool,
}

impl FromStr for Origin {
    type Err = OriginMalformed;

    fn from_str(text: &str) -> Result<Self, OriginMalformed> {
        let (scheme, authority) = text.split_once("://").ok_or(OriginMalformed)?;
        let (text, any_port) = text.strip_suffix(":*").map_or((text, false), |text| (text, true));
        let host = authority.strip_suffix(":*").unwrap_or(authority);
        let is_of_origin =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte);
        let fits = matches!(scheme, "http" | "https") && !host.is_empty() && host.bytes().all(is_of_origin);
        if !fits || (any_port && !LOCAL_HOSTS.contains(&host)) {
            return Err(OriginMalformed);
        }
        Ok(Self { text: text.to_owned(), any_port })
    }
}

impl Origin {
    fn allows(&self, origin: &[u8]) -> bool {
        match origin.strip_prefix(self.text.as_bytes()) {
            Some([]) => true,
            Some([b':', port @ ..]) => {
                self.any_port && !port.is_empty() && port.iter().all(u8::is_ascii_digit)
            }
            _ => false,
        }
    }
}

impl Caller {
    /// The origin of a request, where it is one of these.
    pub fn of(origins: &[Origin], method: &Method, headers: &HeaderMap) -> Option<Self> {
        let origin = headers.get(ORIGIN)?;
        origins.iter().any(|allowed| allowed.allows(origin.as_bytes())).then(|| Self {
            origin: origin.clone(),
            preflight: method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD),
        })
    }

    /// Whether a browser asks what the page may do, before it does it.
    pub fn is_preflight(&self) -> bool {
        self.preflight
    }

    /// Lets the page read an answer.
    pub fn allow(&self, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, self.origin.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        if !self.preflight {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
        }
    }

    /// Says what the page may do with a resource that takes these methods.
    pub fn allow_methods(&self, methods: HeaderValue, headers: &mut HeaderMap) {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
    }
}

/// Says that an answer depends on the origin; caches keep one for each.
pub fn vary(headers: &mut HeaderMap) {
    let names = |line: &HeaderValue| {
        line.to_str().is_ok_and(|line| line.split(',').any(|name| name.trim().eq_ignore_ascii_case("origin")))
    };
    if !headers.get_all(VARY).iter().any(names) {
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(origin: &str, asked: &str) -> bool {
        origin.parse::<Origin>().expect("an origin").allows(asked.as_bytes())
    }

    #[test]
    fn an_origin_is_exact() {
        assert!(allows("https://shop.example", "https://shop.example"));
        assert!(allows("https://shop.example:8443", "https://shop.example:8443"));
        for other in [
            "http://shop.example",
            "https://shop.example.evil",
            "https://shop.example:8443",
            "https://shop.exampl",
            "https://evil.shop.example",
            "null",
            "",
        ] {
            assert!(!allows("https://shop.example", other), "{other}");
        }
    }

    #[test]
    fn only_this_machine_may_have_any_port() {
        for asked in ["http://localhost", "http://localhost:3000", "http://localhost:65535"] {
            assert!(allows("http://localhost:*", asked), "{asked}");
        }
        for asked in
            ["http://localhost:", "http://localhost:x", "http://localhost.evil", "https://localhost:1"]
        {
            assert!(!allows("http://localhost:*", asked), "{asked}");
        }
        for wrong in [
            "*",
            "https://*",
            "https://shop.example:*",
            "https://shop.example/",
            "shop.example",
            "https://",
            "ftp://shop.example",
            "https://Shop.example",
            "https://a@shop.example",
        ] {
            assert_eq!(wrong.parse::<Origin>(), Err(OriginMalformed), "{wrong}");
        }
    }
}
