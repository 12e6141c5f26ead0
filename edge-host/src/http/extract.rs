//! What a request carries: who, from where, under which conditions, and a body whose mistakes have names.

use std::net::{IpAddr, SocketAddr};

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, MatchedPath, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, COOKIE};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use region_router::front_door::{came_by_https, client_address};
use serde::de::DeserializeOwned;

use super::Shared;
use super::json::{self, Json, Kind};
use super::observed;
use super::problem::{ApiError, InputMistake};
use super::tags::{Match, NoneMatch};
use crate::model::{OwnerKind, Principal, Seen};

/// Bytes of a request body; the largest one, a batch of 50 lines with full variants, fits.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;
/// So much of a body that is too large is read and dropped: a client that is still sending sees a broken
/// connection and not the answer.
const EXCESS_BYTES_READ_MAX: usize = 1024 * 1024;
/// Characters of an idempotency key.
const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;
/// The header, and the name of the cookie.
pub(super) const CART_VERSION: HeaderName = HeaderName::from_static("cart-version");
/// Names a request for its client, so that it is done once.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The principal of a verified token, within its rate limit.
pub(super) struct Caller(pub(super) Principal);

impl FromRequestParts<Shared> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, ApiError> {
        let token = bearer(&parts.headers);
        let known = token.and_then(|token| api.tokens.known(token));
        if known.as_ref().is_none_or(|principal| principal.kind == OwnerKind::Guest) {
            api.limits.address(ClientAddress::of(parts, api))?;
        }
        let prove = |token| api.tokens.verify(token).map_err(|_| ApiError::TokenInvalid);
        let principal = known.map_or_else(|| prove(token.ok_or(ApiError::TokenMissing)?), Ok)?;
        api.limits.principal(&principal)?;
        observed::note_caller(&principal);
        Ok(Self(principal))
    }
}

impl Caller {
    /// The principal, which must have signed in.
    pub(super) fn user(self) -> Result<Principal, ApiError> {
        match self.0.kind {
            OwnerKind::User => Ok(self.0),
            OwnerKind::Guest => Err(ApiError::Forbidden("only a signed-in user can do this")),
        }
    }

    /// The principal, which must be a guest.
    pub(super) fn guest(self) -> Result<Principal, ApiError> {
        match self.0.kind {
            OwnerKind::Guest => Ok(self.0),
            OwnerKind::User => Err(ApiError::Forbidden("only a guest can do this")),
        }
    }
}

/// The token of `Authorization: Bearer …`.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Where a request comes from: the peer, or what a trusted proxy says of it.
pub(super) struct ClientAddress(pub(super) IpAddr);

impl FromRequestParts<Shared> for ClientAddress {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, ApiError> {
        Ok(Self(Self::of(parts, api)))
    }
}

impl ClientAddress {
    fn of(parts: &Parts, api: &Shared) -> IpAddr {
        client_of(&parts.extensions, &parts.headers, api)
    }
}

/// Where a request with these extensions and headers comes from.
pub(super) fn client_of(extensions: &Extensions, headers: &HeaderMap, api: &Shared) -> IpAddr {
    client_address(peer(extensions), headers, &api.config.trusted_proxies)
}

/// The other end of the connection.
fn peer(extensions: &Extensions) -> IpAddr {
    let peer = extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    peer.unwrap_or(IpAddr::from([0, 0, 0, 0]))
}

/// The headers that say when a request holds, and what the client has seen.
pub(super) struct Conditions {
    /// The newest version of the cart that the client has seen.
    pub(super) seen: Seen,
    /// Versions at which a write may happen.
    pub(super) if_match: Match,
    /// What the client has already.
    pub(super) if_none_match: NoneMatch,
    /// Under which key the request is remembered.
    pub(super) idempotency_key: Option<String>,
    /// Of a write, the method and the path, which tell it from others under the same key.
    pub(super) route: Option<String>,
    /// Whether the client has come by HTTPS, as far as we or a trusted proxy know.
    pub(super) secure: bool,
}

impl FromRequestParts<Shared> for Conditions {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Shared) -> Result<Self, ApiError> {
        let headers = &parts.headers;
        let header = text(headers, &CART_VERSION)
            .map(str::parse)
            .transpose()
            .map_err(|error| ApiError::refused("cart_version_malformed", format!("Cart-Version: {error}")))?;
        // A cookie that somebody else has spoilt is not the client's mistake.
        let cookie = cookie(headers, CART_VERSION.as_str()).and_then(|version| version.parse().ok());
        let secure = came_by_https(peer(&parts.extensions), headers, &api.config.trusted_proxies);
        Ok(Self {
            seen: Seen { header, cookie },
            if_match: Match::of(headers)?,
            if_none_match: NoneMatch::of(headers)?,
            idempotency_key: idempotency_key(headers)?,
            route: (!parts.method.is_safe()).then(|| route(parts)),
            secure,
        })
    }
}

/// Method and path of a request, with the names of parameters in place of their values: those are told apart by what
/// they mean.
fn route(parts: &Parts) -> String {
    let path = parts.extensions.get::<MatchedPath>().map_or(parts.uri.path(), MatchedPath::as_str);
    format!("{} {path}", parts.method)
}

/// What the client has already, where nothing else is of interest.
pub(super) struct IfNoneMatch(pub(super) NoneMatch);

impl<S: Send + Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self(NoneMatch::of(&parts.headers)?))
    }
}

impl Conditions {
    /// The idempotency key of a request that must have one.
    pub(super) fn required_key(&self) -> Result<String, ApiError> {
        self.idempotency_key.clone().ok_or_else(|| {
            ApiError::refused("idempotency_key_missing", "an Idempotency-Key header is needed")
        })
    }
}

/// The key, quoted as the draft standard has it, or bare as most clients send it.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let malformed = || {
        ApiError::refused(
            "idempotency_key_malformed",
            format!("Idempotency-Key has 1 to {IDEMPOTENCY_KEY_CHARS_MAX} visible ASCII characters"),
        )
    };
    let text = value.to_str().map_err(|_| malformed())?;
    let key = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let visible = key.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
    if key.is_empty() || key.len() > IDEMPOTENCY_KEY_CHARS_MAX || !visible {
        return Err(malformed());
    }
    Ok(Some(key.to_owned()))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"))
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers.get_all(COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// A JSON body. A mistake in it is answered with its place.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        check_media_type(request.headers())?;
        check_encoding(request.headers())?;
        Ok(Self(parse(&read(request, BODY_BYTES_MAX).await?)?))
    }
}

/// A JSON body that may be left out.
pub(super) struct OptionalBody<T>(pub(super) T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let media_type = check_media_type(request.headers());
        let encoding = check_encoding(request.headers());
        let bytes = read(request, BODY_BYTES_MAX).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        media_type?;
        encoding?;
        Ok(Self(parse(&bytes)?))
    }
}

/// The bytes of a body, up to a limit.
pub(super) async fn read(request: Request, bytes_max: usize) -> Result<Bytes, ApiError> {
    let mut body = request.into_body();
    let mut bytes = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|_| ApiError::refused("body_incomplete", "the body ended before it was complete"))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length <= bytes_max {
            bytes.extend_from_slice(&data);
        } else if length > bytes_max + EXCESS_BYTES_READ_MAX {
            break;
        }
    }
    if length <= bytes_max {
        return Ok(bytes.freeze());
    }
    Err(ApiError::refused("body_too_large", format!("a body has at most {bytes_max} bytes")))
}

/// Bodies are not compressed: the largest has 64 KiB.
fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    let identity = |value: &HeaderValue| {
        value
            .to_str()
            .is_ok_and(|value| value.split(',').all(|one| one.trim().eq_ignore_ascii_case("identity")))
    };
    if headers.get_all(CONTENT_ENCODING).iter().all(identity) {
        return Ok(());
    }
    Err(ApiError::refused(
        "content_encoding_unsupported",
        "the body has to be sent as it is, without a Content-Encoding".to_owned(),
    ))
}

fn check_media_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    Err(ApiError::refused(
        "media_type_unsupported",
        "the body must be JSON, and Content-Type must say application/json".to_owned(),
    ))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    json::read(bytes).and_then(json::fill).map_err(|first| {
        let code = match first.kind {
            Kind::NotJson => return ApiError::refused("malformed_json", first.detail),
            Kind::TooDeep => "json_too_deep",
            Kind::VariantTooDeep => "variant_too_deep",
            Kind::Unknown | Kind::Missing(_) | Kind::Wrong => "invalid_input",
        };
        let all = json::read(bytes).map(json::mistakes::<T>).unwrap_or_default();
        let all = if all.is_empty() { vec![first] } else { all };
        let detail = all.first().map(|mistake| mistake.detail.clone()).unwrap_or_default();
        let errors = all.iter().map(|wrong| mistake(&wrong.pointer(), &wrong.detail)).collect();
        ApiError::Input { code, detail, errors }
    })
}

/// A path parameter.
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        path.map(|path| Self(path.0)).map_err(|_: PathRejection| {
            ApiError::refused("path_malformed", "the path cannot be read: it is not UTF-8")
        })
    }
}

/// Query parameters.
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let malformed = |detail: String| ApiError::refused("query_malformed", detail);
        let pairs =
            pairs.map_err(|_: QueryRejection| malformed("the query is not name=value pairs".to_owned()))?;
        Json::query(pairs.0).and_then(json::fill).map(Self).map_err(|wrong| {
            match (wrong.kind, wrong.field()) {
                (Kind::Unknown, _) => ApiError::refused("parameter_unknown", wrong.detail),
                (_, Some(name)) => malformed(format!("{name}: {}", wrong.detail)),
                (_, None) => malformed(wrong.detail),
            }
        })
    }
}

/// A mistake about one place.
pub(super) fn mistake(pointer: &str, detail: impl Into<String>) -> InputMistake {
    InputMistake { pointer: pointer.to_owned(), detail: detail.into(), ..InputMistake::default() }
}
