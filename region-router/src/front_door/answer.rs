//! The front door's own answers: problems (RFC 9457) and its page.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use http::{Response, StatusCode};
use serde_json::json;

use super::body::AnswerBody;
use super::headers::{CART_REGION, TROLI_REGION_CHOICE, X_REQUEST_ID, choice};
use crate::decision::{Candidate, RegionUnknown, RoundTripsMalformed};
use crate::topology::Topology;

/// After an overload: the requests that fill the front door now are done by then.
const RETRY_AFTER_OVERLOAD: Duration = Duration::from_secs(1);

/// After no region answered: about what it takes to bring one back (ten probes).
const RETRY_AFTER_NO_REGION: Duration = Duration::from_secs(2);

/// Why the front door answers in place of a region.
#[derive(Debug)]
pub(super) enum Problem {
    /// The request line is not one for an API: `CONNECT`, or `OPTIONS *`.
    TargetMalformed,
    /// Not one `Host` that names a host.
    HostMalformed,
    /// More than one token.
    AuthorizationRepeated,
    /// The front door's own page is only read.
    MethodNotAllowed,
    /// The named region does not exist.
    RegionUnknown { named: RegionUnknown, known: String },
    /// The round trips that the caller has measured cannot be read.
    RoundTripsMalformed(RoundTripsMalformed),
    /// The body is larger than `bytes_max`.
    BodyTooLarge { bytes_max: usize },
    /// The body did not arrive in time.
    BodyTimeout,
    /// The body broke off, or its chunks make no sense.
    BodyMalformed,
    /// As many requests of the caller's address as there may be are being served.
    TooManyAtOnce,
    /// As many requests as there may be are being served.
    Overloaded,
    /// No region took the request: it was not carried out.
    NoRegion,
    /// A region took the request and did not answer: it may have been carried out.
    NoAnswer,
}

impl Problem {
    pub(super) fn region_unknown(named: RegionUnknown, topology: &Topology) -> Self {
        let known: Vec<&str> = topology.regions().iter().map(|region| region.id.as_str()).collect();
        Self::RegionUnknown { named, known: known.join(", ") }
    }

    /// The whole answer.
    pub(super) fn into_response(self, request_id: &HeaderValue) -> Response<AnswerBody> {
        let (status, code, title) = self.kind();
        let document = json!({
            "type": format!("urn:troli:problem:{code}"),
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail(),
            "code": code,
            "retry": self.retry(),
            "request_id": request_id.to_str().unwrap_or_default(),
        });
        let mut response = document_response(&document, "application/problem+json", request_id);
        *response.status_mut() = status;
        if let Some(after) = self.retry_after() {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after.as_secs()));
        }
        if let Self::MethodNotAllowed = self {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        response
    }

    fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::TargetMalformed => {
                (StatusCode::BAD_REQUEST, "target_malformed", "Malformed request target")
            }
            Self::HostMalformed => (StatusCode::BAD_REQUEST, "host_malformed", "Malformed Host"),
            Self::AuthorizationRepeated => {
                (StatusCode::BAD_REQUEST, "authorization_repeated", "Repeated Authorization")
            }
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "Method not allowed")
            }
            Self::RegionUnknown { .. } => (StatusCode::BAD_REQUEST, "region_unknown", "Unknown region"),
            Self::RoundTripsMalformed(_) => {
                (StatusCode::BAD_REQUEST, "round_trips_malformed", "Malformed round trips")
            }
            Self::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "Body too large"),
            Self::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, "request_timeout", "Request timeout"),
            Self::BodyMalformed => (StatusCode::BAD_REQUEST, "body_malformed", "Malformed body"),
            Self::TooManyAtOnce => (StatusCode::TOO_MANY_REQUESTS, "rate_limited", "Too many requests"),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", "Overloaded"),
            Self::NoRegion | Self::NoAnswer => {
                (StatusCode::SERVICE_UNAVAILABLE, "region_unavailable", "No region available")
            }
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::TargetMalformed => "The request target has to be a path.".to_owned(),
            Self::HostMalformed => {
                "A request has one Host header with the name or address that it is for (RFC 9112, section 3.2)."
                    .to_owned()
            }
            Self::AuthorizationRepeated => "A request has at most one Authorization header.".to_owned(),
            Self::MethodNotAllowed => "This page can only be read.".to_owned(),
            Self::RegionUnknown { named, known } => {
                format!("There is no region `{}`. The regions are {known}.", named.named)
            }
            Self::RoundTripsMalformed(wrong) => format!("Troli-Round-Trips: {wrong}."),
            Self::BodyTooLarge { bytes_max } => format!("A body has at most {bytes_max} bytes."),
            Self::BodyTimeout => "The body did not arrive in time.".to_owned(),
            Self::BodyMalformed => "The body did not arrive whole.".to_owned(),
            Self::TooManyAtOnce => "Too many requests of this address are being served.".to_owned(),
            Self::Overloaded => "Too many requests are being served at the moment.".to_owned(),
            Self::NoRegion => "No region could be reached. The request was not carried out.".to_owned(),
            Self::NoAnswer => {
                "The region did not answer. The request may or may not have been carried out.".to_owned()
            }
        }
    }

    /// What a client does about it, in the words of the API.
    fn retry(&self) -> &'static str {
        match self {
            Self::Overloaded | Self::NoRegion | Self::NoAnswer => "after",
            Self::BodyTimeout | Self::BodyMalformed => "same",
            _ => "never",
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyAtOnce | Self::Overloaded => Some(RETRY_AFTER_OVERLOAD),
            Self::NoRegion | Self::NoAnswer => Some(RETRY_AFTER_NO_REGION),
            _ => None,
        }
    }
}

/// A JSON document, which nobody is to store: it holds for this caller and this moment.
pub(super) fn document_response(
    document: &serde_json::Value,
    media_type: &'static str,
    request_id: &HeaderValue,
) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::whole(Bytes::from(document.to_string())));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_REQUEST_ID, request_id.clone());
    response
}

/// Sends the caller elsewhere, with its method and body. Nobody is to store it: the next caller, or this one at
/// the next moment, may have to go somewhere else.
pub(super) fn redirect_response(
    location: &str,
    candidate: &Candidate,
    request_id: &HeaderValue,
) -> Option<Response<AnswerBody>> {
    // A target may have bytes that are none of a header.
    let location = HeaderValue::from_str(location).ok()?;
    let mut response = Response::new(AnswerBody::whole(Bytes::new()));
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let region = HeaderValue::from_str(candidate.region.as_str()).expect("a region id is visible ASCII");
    headers.insert(CART_REGION, region);
    headers.insert(TROLI_REGION_CHOICE, choice(candidate.region, candidate.reason));
    headers.insert(X_REQUEST_ID, request_id.clone());
    Some(response)
}
