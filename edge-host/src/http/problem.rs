//! Every error that a client sees: one place turns them into `application/problem+json` (RFC 9457).

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tracing::error;

use super::codes::{self, Retry};
use crate::error::{CartError, Reason};
use crate::model::Done;
use crate::view::{MoneyView, ParamsView, rfc3339};

/// The home region is asked again after so long; a failover takes a few seconds.
const HOME_RETRY_AFTER_S: u32 = 2;
/// An overloaded edge sheds for about so long.
const OVERLOAD_RETRY_AFTER_S: u32 = 1;

/// What a client is told when its request was not done.
#[derive(Debug)]
pub enum ApiError {
    /// The request itself is at fault; each mistake names its place.
    Input {
        /// Stable, lower snake case; its status stands in the table of codes.
        code: &'static str,
        /// One sentence.
        detail: String,
        /// What is wrong where.
        errors: Vec<InputMistake>,
    },
    /// No token.
    TokenMissing,
    /// A token that proves nothing.
    TokenInvalid,
    /// A token that proves the wrong thing.
    Forbidden(&'static str),
    /// Nothing at this path.
    RouteUnknown,
    /// Something at this path, but not with this method.
    MethodNotAllowed,
    /// A header that the method requires is missing.
    PreconditionRequired,
    /// `If-Match` or `If-None-Match` does not hold for an item, whose tag is this.
    ItemVersionMismatch(Option<String>),
    /// Too many requests of one caller.
    RateLimited {
        /// Whole seconds until the next one is welcome.
        retry_after_s: u32,
        /// Requests in a window, for `RateLimit-Policy`.
        requests: u32,
        /// The window, in seconds.
        window_s: u32,
    },
    /// Too many requests of one address are under way.
    TooManyAtOnce,
    /// Too many requests of all callers.
    Overloaded,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The request was well formed, and was not done.
    Cart(CartError),
    /// The rules refuse what a body asks for.
    Refused(Vec<Reason>, Place),
}

/// Where in a body the reasons of the rules belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To the fields of one command, which is the body.
    Fields,
    /// To the commands of a batch.
    Commands,
    /// To the body as a whole.
    Whole,
    /// There is no body.
    Nowhere,
}

/// An input mistake and its place in the body.
#[derive(Clone, Debug, Default, Serialize)]
pub struct InputMistake {
    /// JSON Pointer (RFC 6901) as a URI fragment, such as `#/quantity`.
    pub pointer: String,
    /// The code of a reason of the rules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What is wrong there.
    pub detail: String,
    /// The line it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line_id: Option<String>,
    /// What a translation of the detail needs.
    #[serde(skip_serializing_if = "ParamsView::is_empty")]
    pub params: ParamsView,
}

/// A problem document (RFC 9457).
#[derive(Serialize)]
pub(super) struct Problem {
    /// `urn:troli:problem:` and the code.
    r#type: String,
    /// The status in words.
    title: String,
    /// The HTTP status again.
    status: u16,
    /// One sentence for people.
    detail: String,
    /// Stable, lower snake case.
    code: String,
    /// What a client does about it.
    retry: Retry,
    /// Names this request in the logs.
    request_id: String,
    /// Input mistakes, or the reasons of the rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<InputMistake>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

impl ApiError {
    /// A 400 about one place in the body.
    pub fn input(code: &'static str, pointer: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        let mistake =
            InputMistake { pointer: pointer.to_owned(), detail: detail.clone(), ..InputMistake::default() };
        Self::Input { code, detail, errors: vec![mistake] }
    }

    /// A request that is at fault, where no place in a body can be named.
    pub fn refused(code: &'static str, detail: impl Into<String>) -> Self {
        Self::Input { code, detail: detail.into(), errors: Vec::new() }
    }
}

impl From<CartError> for ApiError {
    fn from(error: CartError) -> Self {
        Self::Cart(error)
    }
}

/// The parts of a problem, before they become a response.
struct Parts {
    status: StatusCode,
    retry: Retry,
    code: String,
    detail: String,
    errors: Vec<InputMistake>,
    more: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Parts {
    /// Status and advice are those of the code.
    fn new(code: impl Into<String>, detail: impl Into<String>) -> Self {
        let code = code.into();
        let (status, retry) = codes::of(&code);
        Self {
            status,
            retry,
            code,
            detail: detail.into(),
            errors: Vec::new(),
            more: Map::new(),
            headers: Vec::new(),
        }
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    fn header(mut self, name: HeaderName, value: impl TryInto<HeaderValue>) -> Self {
        if let Ok(value) = value.try_into() {
            self.headers.push((name, value));
        }
        self
    }

    fn retry_after(self, seconds: u32) -> Self {
        self.header(RETRY_AFTER, seconds.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let parts = parts(self);
        let problem = Problem {
            r#type: format!("urn:troli:problem:{}", parts.code),
            title: parts.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: parts.status.as_u16(),
            detail: parts.detail,
            code: parts.code,
            retry: parts.retry,
            request_id: super::request_id::current(),
            errors: parts.errors,
            more: parts.more,
        };
        let mut response = (parts.status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(parts.headers);
        response
    }
}

fn parts(error: ApiError) -> Parts {
    match error {
        ApiError::Input { code, detail, errors } => Parts { errors, ..Parts::new(code, detail) },
        ApiError::TokenMissing => Parts::new("token_missing", "an Authorization: Bearer token is needed")
            .header(WWW_AUTHENTICATE, "Bearer realm=\"troli\""),
        ApiError::TokenInvalid => Parts::new("token_invalid", "the token is not valid")
            .header(WWW_AUTHENTICATE, "Bearer realm=\"troli\", error=\"invalid_token\""),
        ApiError::Forbidden(detail) => Parts::new("forbidden", detail),
        ApiError::RouteUnknown => Parts::new("route_unknown", "there is nothing at this path"),
        ApiError::MethodNotAllowed => {
            Parts::new("method_not_allowed", "this path does not take this method; see Allow")
        }
        ApiError::PreconditionRequired => {
            Parts::new("precondition_required", "If-Match with the cart's version is needed")
        }
        ApiError::ItemVersionMismatch(current) => {
            Parts::new("version_mismatch", "the item is not the one that the condition names")
                .with("current_version", current)
        }
        ApiError::RateLimited { retry_after_s, requests, window_s } => {
            Parts::new("rate_limited", "too many requests, slow down")
                .retry_after(retry_after_s)
                .header(
                    HeaderName::from_static("ratelimit-policy"),
                    format!("\"caller\";q={requests};w={window_s}"),
                )
                .header(HeaderName::from_static("ratelimit"), format!("\"caller\";r=0;t={retry_after_s}"))
        }
        ApiError::TooManyAtOnce => {
            Parts::new("rate_limited", "too many requests of this address are under way")
                .retry_after(OVERLOAD_RETRY_AFTER_S)
        }
        ApiError::BodyTimeout => Parts::new("request_timeout", "the body did not arrive in time"),
        ApiError::Overloaded => {
            Parts::new("overloaded", "too many requests are under way").retry_after(OVERLOAD_RETRY_AFTER_S)
        }
        ApiError::Cart(error) => cart_parts(error),
        ApiError::Refused(reasons, place) => rejection_parts(reasons, place),
    }
}

fn cart_parts(error: CartError) -> Parts {
    let detail = error.to_string();
    match error {
        CartError::Rejected(reasons) => rejection_parts(reasons, Place::Nowhere),
        CartError::CartMerged => {
            Parts::new("cart_merged", "this guest's cart went to a user; go on as that user")
        }
        CartError::VersionMismatch(current) => {
            Parts::new("version_mismatch", detail).with("current_version", current.to_string())
        }
        CartError::CartChanged { current_total, currency } => {
            let now = MoneyView::new(current_total, currency.0);
            let detail = format!("the cart costs {} {} now", now.amount, currency.0);
            Parts::new("cart_changed", detail).with("current_total", json!(now))
        }
        CartError::KeyReused => Parts::new("idempotency_key_reused", detail),
        CartError::KeyUsed(done) => {
            Parts::new("idempotency_key_reused", detail).with("done", done_view(done))
        }
        CartError::InProgress => {
            Parts::new("request_in_progress", detail).retry_after(OVERLOAD_RETRY_AFTER_S)
        }
        CartError::LineUnknown(line_id) => {
            Parts::new("line_unknown", detail).with("params", json!({ "line_id": line_id }))
        }
        CartError::ItemUnknown(item_id) => {
            Parts::new("item_unknown", detail).with("params", json!({ "item_id": item_id }))
        }
        CartError::OrderUnknown(_) => Parts::new("order_unknown", detail),
        CartError::RulesFailed { code } => {
            Parts::new(code, "the cart rules failed on this cart; nothing was changed")
                .retry_after(HOME_RETRY_AFTER_S)
        }
        CartError::HomeUnavailable => Parts::new("home_unavailable", detail).retry_after(HOME_RETRY_AFTER_S),
        CartError::Overloaded => parts(ApiError::Overloaded),
        CartError::Busy => Parts::new("overloaded", detail).retry_after(OVERLOAD_RETRY_AFTER_S),
        CartError::LoopDetected => Parts::new("loop_detected", detail),
        CartError::Internal(what) => {
            error!(error = what, "internal error");
            Parts::new("internal", "something went wrong on our side")
        }
    }
}

/// What was done under an idempotency key. What is not known of it is left out.
fn done_view(done: Done) -> Map<String, Value> {
    let time = done.at_ms.map(rfc3339);
    let fields = [("time", time), ("route", done.route), ("order_id", done.order_id)];
    fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))).collect()
}

/// The first reason speaks for all, a shortage before the others; all are listed where there is a body.
fn rejection_parts(mut reasons: Vec<Reason>, place: Place) -> Parts {
    reasons.sort_by_key(|reason| reason.code != "out_of_stock");
    let Some(first) = reasons.first().cloned() else {
        return cart_parts(CartError::Internal("a rejection without a reason".to_owned()));
    };
    let mut parts = Parts::new(first.code, first.detail);
    if !first.params.is_empty() {
        parts = parts.with("params", json!(first.params));
    }
    if let Some(line_id) = first.line_id {
        parts = parts.with("line_id", line_id);
    }
    if place == Place::Nowhere && reasons.len() == 1 {
        return parts;
    }
    let mistake = |reason: Reason| InputMistake {
        pointer: pointer(&reason, place),
        code: Some(reason.code),
        detail: reason.detail,
        line_id: reason.line_id,
        params: reason.params,
    };
    parts.errors = reasons.into_iter().map(mistake).collect();
    parts
}

/// The place that a reason is about.
fn pointer(reason: &Reason, place: Place) -> String {
    let field = match reason.code.as_str() {
        "item_unknown" | "item_not_sold" => "#/item_id",
        "out_of_stock" | "quantity_out_of_range" | "quantity_above_item_max" => "#/quantity",
        "variant_too_large" | "variants_too_large" => "#/variant",
        _ => "#",
    };
    match (place, reason.command) {
        (Place::Fields, _) => field.to_owned(),
        (Place::Commands, Some(at)) => format!("#/commands/{at}"),
        _ => "#".to_owned(),
    }
}
