//! What the front door says of a request once it has ended: a log line, and a span of its trace.
//!
//! The front door knows no routes, and a path may have a coupon's code in it: neither has the path.

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};

use crate::traces::{Kind, Place, SLOW, Span, method_word};

/// Failures and slow requests have a line; the edge that answered has one for every write.
pub(super) fn ended(
    method: &Method,
    status: StatusCode,
    request_id: &HeaderValue,
    took: Duration,
    place: Option<&Place>,
) {
    let method = method_word(method);
    let (http_status, duration_ms) = (status.as_u16(), took.as_secs_f64() * 1000.0);
    let request_id = request_id.to_str().unwrap_or_default();
    let trace = place.map(|place| tracing::field::display(place.trace_id()));
    let span = place.and_then(Place::span_id).map(tracing::field::display);
    // The level of a line is fixed where it is written.
    macro_rules! say {
        ($level:ident) => {
            tracing::$level!(
                request.id = request_id,
                trace.id = trace,
                span.id = span,
                http.method = method,
                http.status = http_status,
                duration_ms,
                "answered"
            )
        };
    }
    if status.is_server_error() || took >= SLOW {
        say!(info)
    } else {
        say!(debug)
    }
    let Some(place) = place else { return };
    place.end(false, || {
        let mut span = Span::new(Kind::Server, method)
            .with("http.request.method", method)
            .with("http.response.status_code", http_status)
            .with("url.scheme", "http");
        if status.is_server_error() {
            span.fail(status.as_str().to_owned());
        }
        span
    });
}
