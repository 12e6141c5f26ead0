//! The headers that go with an answer: those of a cart, the tags, and what caches may do with it.

use std::fmt::Write;

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, LOCATION, SET_COOKIE, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use serde::Serialize;

use super::extract::{CART_VERSION, Conditions};
use super::problem::ApiError;
use super::tags::NoneMatch;
use crate::document::to_json;
use crate::model::{CartTag, CartVersion, SeenVersion};
use crate::service::Timing;
use crate::upstream::Source;
use crate::view;

const CART_REGION: HeaderName = HeaderName::from_static("cart-region");
pub(super) const CART_SOURCE: HeaderName = HeaderName::from_static("cart-source");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
pub(super) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Headers of an answer about a cart, with those that are put in on its way out.
const HEADERS: usize = 12;
/// Bytes of the values that are written anew for each answer.
const HEADER_BYTES: usize = 320;

/// A client asks before it shows a kept answer again: prices move without the cart.
const REVALIDATED: HeaderValue = HeaderValue::from_static("private, no-cache");
/// Nothing is gained by keeping it.
const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-store");
/// Anybody's to keep, and asked for again before it is shown: a page that shows a new price in the cart must not show
/// the old one beside it.
const CATALOGUE: HeaderValue = HeaderValue::from_static("public, max-age=0, must-revalidate");
/// The documentation changes with a release.
const DOCUMENTATION: HeaderValue = HeaderValue::from_static("public, max-age=60");
/// What decides whose answer it is.
const WHOSE: HeaderValue = HeaderValue::from_static("Authorization, Cart-Share");
const NO_SNIFFING: HeaderValue = HeaderValue::from_static("nosniff");

/// Completes the headers of every answer: what does not say otherwise is not kept by any cache, and what is not public
/// depends on who asks.
pub(super) fn complete(route: &str, headers: &mut HeaderMap) {
    let public = match headers.get(CACHE_CONTROL) {
        Some(control) => control.as_bytes().starts_with(b"public"),
        None => {
            let documentation = route.starts_with("/docs") || route == "/openapi.json";
            headers.insert(CACHE_CONTROL, if documentation { DOCUMENTATION } else { NOT_KEPT });
            documentation
        }
    };
    if !public {
        headers.append(VARY, WHOSE);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, NO_SNIFFING);
}

/// What an answer about a cart is tagged by.
pub(super) enum Tag<'a> {
    /// The version, and a fingerprint of what is shown.
    Cart(&'a str),
    /// The same without a fingerprint: the version and whose cart it is say all.
    Version,
    /// A fingerprint alone: of an order, as it is tagged at its own address.
    Order(&'a str),
}

/// An answer about a cart.
pub(super) struct CartAnswer<'a> {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
    pub(super) cart_id: &'a str,
    pub(super) version: CartVersion,
    pub(super) tag: Tag<'a>,
    pub(super) region: &'a str,
    pub(super) source: Source,
    pub(super) timing: Timing,
}

impl CartAnswer<'_> {
    /// The answer to a read, which is not sent again where the client has it.
    pub(super) fn for_read(self, asked: &Conditions) -> Response {
        self.into_response(asked, Some(&asked.if_none_match))
    }

    /// The answer to a write.
    pub(super) fn for_write(self, asked: &Conditions) -> Response {
        self.into_response(asked, None)
    }

    fn into_response(self, asked: &Conditions, unless: Option<&NoneMatch>) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.reserve(HEADERS);
        if !matches!(self.tag, Tag::Order(_)) {
            headers.insert(CACHE_CONTROL, REVALIDATED);
        }
        headers.insert(CART_SOURCE, HeaderValue::from_static(self.source.as_str()));
        // One piece of memory for all of them.
        let mut written = BytesMut::with_capacity(HEADER_BYTES);
        let mut put = |name: HeaderName, value: Bytes| {
            let value = HeaderValue::from_maybe_shared(value);
            headers.insert(name, value.expect("our own words are visible ASCII"));
        };
        let (version, tag) = (self.version, CartTag::of(self.cart_id));
        let seen = write(&mut written, format_args!("{version}.{tag}"));
        // Formatted once, for three headers: that is the dear part of them.
        let version_bytes = &seen[..seen.len() - 1 - tag.as_str().len()];
        let etag = match self.tag {
            Tag::Cart(print) => join(&mut written, &[b"\"", version_bytes, b".", print.as_bytes(), b"\""]),
            Tag::Version => join(&mut written, &[b"\"", version_bytes, b".", self.cart_id.as_bytes(), b"\""]),
            Tag::Order(print) => join(&mut written, &[b"\"", print.as_bytes(), b"\""]),
        };
        let unchanged = unless.is_some_and(|unless| unless.has(&etag));
        put(ETAG, etag);
        // An answer that the browser has overtaken meanwhile must not take its cookie back.
        if asked.seen.cookie != Some(SeenVersion { version, tag: Some(tag) }) {
            let secure: &[u8] = if asked.secure { b"; Secure" } else { b"" };
            let attributes = b"; Path=/v1; HttpOnly; SameSite=Lax";
            put(SET_COOKIE, join(&mut written, &[b"cart-version=", &seen, attributes, secure]));
        }
        put(CART_VERSION, seen);
        written.extend_from_slice(self.region.as_bytes());
        put(CART_REGION, written.split().freeze());
        if self.timing.is_known() {
            put(SERVER_TIMING, write(&mut written, format_args!("{}", self.timing)));
        }
        if unchanged {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *response.body_mut() = Body::from(self.body);
        }
        response
    }
}

fn write(written: &mut BytesMut, value: std::fmt::Arguments<'_>) -> Bytes {
    written.write_fmt(value).expect("it grows as it must");
    written.split().freeze()
}

fn join(written: &mut BytesMut, parts: &[&[u8]]) -> Bytes {
    parts.iter().for_each(|part| written.extend_from_slice(part));
    written.split().freeze()
}

/// A page or a document of the catalogue.
pub(super) fn of_catalogue(document: &impl Serialize, unless: &NoneMatch) -> Result<Response, ApiError> {
    let mut response = tagged("", document, unless)?;
    response.headers_mut().insert(CACHE_CONTROL, CATALOGUE);
    Ok(response)
}

/// Orders of the owner of a cart.
pub(super) fn of_orders(
    cart_id: &str,
    document: &impl Serialize,
    unless: &NoneMatch,
) -> Result<Response, ApiError> {
    tagged(cart_id, document, unless)
}

fn tagged(whose: &str, document: &impl Serialize, unless: &NoneMatch) -> Result<Response, ApiError> {
    let body = to_json(document)?;
    let tag = format!("\"{}\"", view::fingerprint(whose, body.as_bytes()));
    let mut response = if unless.has(tag.as_bytes()) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        let mut response = Response::new(Body::from(body));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    };
    let tag = HeaderValue::try_from(tag).expect("a fingerprint is visible ASCII");
    response.headers_mut().insert(ETAG, tag);
    Ok(response)
}

/// Marks an answer to a request that was done before.
pub(super) fn mark_replayed(response: &mut Response) {
    response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
}

/// Says where the new resource is.
pub(super) fn set_location(response: &mut Response, location: &str) {
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(LOCATION, location);
    }
}
