//! The headers that go with a cart.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION, SET_COOKIE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;

use super::extract::CART_VERSION;
use crate::model::CartVersion;
use crate::service::Timing;
use crate::upstream::Source;

const CART_REGION: HeaderName = HeaderName::from_static("cart-region");
const CART_SOURCE: HeaderName = HeaderName::from_static("cart-source");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Headers of an answer about a cart, with those that are put in on its way out.
const HEADERS: usize = 12;

/// An answer about a cart.
pub(super) struct CartAnswer<'a> {
    pub(super) status: StatusCode,
    pub(super) body: String,
    pub(super) version: CartVersion,
    pub(super) region: &'a str,
    pub(super) source: Source,
    pub(super) timing: Timing,
    /// What the browser keeps: the version, unless the answer is an old one and the browser has seen more.
    pub(super) cookie: CartVersion,
}

impl CartAnswer<'_> {
    pub(super) fn into_response(self) -> Response {
        let version = self.version.to_string();
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.reserve(HEADERS);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // Whoever keeps it must ask before showing it again: prices move without the cart.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        headers.insert(CART_SOURCE, HeaderValue::from_static(self.source.as_str()));
        let mut put = |name: HeaderName, text: String| {
            headers.insert(name, HeaderValue::try_from(text).expect("our own words are visible ASCII"));
        };
        put(ETAG, format!("\"{version}\""));
        put(SET_COOKIE, format!("{CART_VERSION}={}; Path=/v1; HttpOnly; SameSite=Lax", self.cookie));
        put(CART_VERSION, version);
        put(CART_REGION, self.region.to_owned());
        let timing = server_timing(&self.timing);
        if !timing.is_empty() {
            put(SERVER_TIMING, timing);
        }
        response
    }
}

/// Marks an answer that was given before.
pub(super) fn mark_replayed(response: &mut Response) {
    response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
}

/// Says where the new resource is.
pub(super) fn set_location(response: &mut Response, location: &str) {
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
}

fn server_timing(timing: &Timing) -> String {
    let parts =
        [("cache", timing.cache), ("db", timing.db), ("rules", timing.rules), ("forward", timing.forward)];
    let parts = parts
        .into_iter()
        .filter_map(|(name, time)| time.map(|time| format!("{name};dur={:.3}", time.as_secs_f64() * 1000.0)));
    parts.collect::<Vec<_>>().join(", ")
}
