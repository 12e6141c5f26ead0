//! The headers that go with a cart.

use std::fmt::Write;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION, SET_COOKIE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::{Bytes, BytesMut};

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
/// Bytes of the values that are written anew for each answer.
const HEADER_BYTES: usize = 256;

/// An answer about a cart.
pub(super) struct CartAnswer<'a> {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    pub(super) version: CartVersion,
    pub(super) region: &'a str,
    pub(super) source: Source,
    pub(super) timing: Timing,
    /// What the browser keeps: the version, unless the answer is an old one and the browser has seen more.
    pub(super) cookie: CartVersion,
}

impl CartAnswer<'_> {
    pub(super) fn into_response(self) -> Response {
        let version = self.version;
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.reserve(HEADERS);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // Whoever keeps it must ask before showing it again: prices move without the cart.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        headers.insert(CART_SOURCE, HeaderValue::from_static(self.source.as_str()));
        // One piece of memory for all of them.
        let mut written = BytesMut::with_capacity(HEADER_BYTES);
        let mut put = |name: HeaderName, value: Bytes| {
            let value = HeaderValue::from_maybe_shared(value);
            headers.insert(name, value.expect("our own words are visible ASCII"));
        };
        let etag = write(&mut written, format_args!("\"{version}\""));
        put(CART_VERSION, etag.slice(1..etag.len() - 1));
        put(ETAG, etag);
        let cookie = format_args!("{CART_VERSION}={}; Path=/v1; HttpOnly; SameSite=Lax", self.cookie);
        put(SET_COOKIE, write(&mut written, cookie));
        written.extend_from_slice(self.region.as_bytes());
        put(CART_REGION, written.split().freeze());
        if self.timing.is_known() {
            put(SERVER_TIMING, write(&mut written, format_args!("{}", self.timing)));
        }
        response
    }
}

fn write(written: &mut BytesMut, value: std::fmt::Arguments<'_>) -> Bytes {
    written.write_fmt(value).expect("it grows as it must");
    written.split().freeze()
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
