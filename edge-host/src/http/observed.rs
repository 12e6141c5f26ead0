//! What is said of a request once it has ended: one log line, one span, one time.
//!
//! Neither names a path: paths have coupon codes and ids in them. The route does, with the names of its parameters.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use region_router::traces::{self, Kind, Place, SLOW, method_word};
use tracing::field::Empty;
use tracing::{Span, debug, debug_span, info, info_span};

use super::extract::CART_VERSION;
use super::respond::{CART_SOURCE, SERVER_TIMING};
use super::{Api, internal};
use crate::model::Principal;
use crate::peers::AskedBy;
use crate::telemetry;

tokio::task_local! {
    static CALLER: RefCell<Option<Principal>>;
}

/// Why an answer between regions, which has the status of an answer, is a failure all the same.
#[derive(Clone, Copy)]
pub(super) struct Failed(pub(super) &'static str);

/// A request, as it is known before it is answered.
pub(super) struct Observed {
    pub(super) id: HeaderValue,
    pub(super) method: &'static str,
    /// Whether it only reads. Regions ask each other by POST, also where they only read.
    pub(super) reads: bool,
    /// Its place in its trace, where it has one.
    pub(super) place: Option<Place>,
    /// What log lines about it have in common.
    pub(super) span: Span,
    asked_by: Option<AskedBy>,
    probes: bool,
    waits: bool,
}

impl Observed {
    /// Looks at a request.
    pub(super) fn of(request: &Request, id: HeaderValue, route: &str, region: &str) -> Self {
        let method = method_word(request.method());
        let reads = request.method().is_safe() || internal::only_reads(route);
        // Probes come several times a second, and say no until the edge is ready.
        let probes = matches!(route, "/readyz" | "/livez" | "/metrics") || is_of_regions(route, "hello");
        // Regions poll the feed all the time, and no client's request causes it.
        let waits = is_of_regions(route, "feed");
        let asked_by: Option<AskedBy> = request.extensions().get().copied();
        let place = if probes || waits { None } else { Place::of_request(request.headers(), !reads) };
        let span = log_span(&id, reads && !is_sampled(probes || waits || asked_by.is_some()), region);
        if !span.is_disabled() {
            if let Some(place) = &place {
                span.record("trace.id", tracing::field::display(place.trace_id()));
            }
            if let Some(AskedBy(other)) = &asked_by {
                span.record("asked_by", other.as_str());
            }
        }
        Self { id, method, reads, place, span, asked_by, probes, waits }
    }

    /// It was answered.
    pub(super) fn ended(
        &self,
        api: &Api,
        route: &str,
        response: &Response,
        took: Duration,
        caller: Option<&Principal>,
    ) {
        let status = response.status();
        let failed = response.extensions().get::<Failed>().map(|Failed(why)| *why);
        self.span.in_scope(|| self.log(api, route, response, took, caller));
        let Some(place) = &self.place else { return };
        place.end(self.waits, || {
            let mut span = traces::Span::new(Kind::Server, format!("{} {route}", self.method))
                .with("http.request.method", self.method)
                .with("http.route", route.to_owned())
                .with("http.response.status_code", status.as_u16())
                .with("url.scheme", if self.asked_by.is_some() { "https" } else { "http" })
                .with("troli.region", api.service.region.clone());
            if let Some(AskedBy(other)) = &self.asked_by {
                span.note("troli.asked_by", other.as_str().to_owned());
                span.note("rpc.system.name", "troli");
                span.note("rpc.method", rpc_method(route));
            }
            for (name, header) in [("troli.cart.source", CART_SOURCE), ("troli.cart.version", CART_VERSION)] {
                if let Some(value) = text(response.headers(), &header) {
                    span.note(name, value.to_owned());
                }
            }
            if let Some(operation) = operation(self.method, route) {
                span.note("troli.operation", operation);
            }
            if let Some(why) = failed {
                span.fail(why);
            } else if status.is_server_error() {
                span.fail(status.as_str().to_owned());
            }
            span
        });
    }

    fn log(&self, api: &Api, route: &str, response: &Response, took: Duration, caller: Option<&Principal>) {
        let status = response.status();
        let slow = took >= SLOW && !self.waits;
        let is_said = !self.probes && (!self.reads || status.is_server_error() || slow);
        // A read that is one of those that are said has lines of its own.
        if !is_said && self.span.is_disabled() {
            return;
        }
        let (http_status, duration_ms) = (status.as_u16(), took.as_secs_f64() * 1000.0);
        if self.probes || self.waits {
            debug!(
                http.method = self.method,
                http.route = route,
                http.status = http_status,
                duration_ms,
                "answered"
            );
            return;
        }
        let headers = response.headers();
        let rules = api.service.rules.current();
        let trace = self.place.as_ref().map(Place::trace_id);
        let span = self.place.as_ref().and_then(Place::span_id);
        info!(
            event = operation(self.method, route),
            http.method = self.method,
            http.route = route,
            http.status = http_status,
            duration_ms,
            slow = slow.then_some(true),
            request.id = self.id.to_str().unwrap_or_default(),
            trace.id = trace.map(tracing::field::display),
            span.id = span.map(tracing::field::display),
            principal = caller.map(|caller| api.tokens.pseudonym(caller)),
            cart.source = text(headers, &CART_SOURCE),
            cart.version = text(headers, &CART_VERSION),
            rules.revision = rules.as_ref().map(|rules| tracing::field::display(rules.revision())),
            timing = text(headers, &SERVER_TIMING),
            "answered"
        );
    }
}

/// Runs a request, and returns its answer and who has asked, where that was found out.
pub(super) async fn with_caller<F: Future>(request: F) -> (F::Output, Option<Principal>) {
    CALLER
        .scope(RefCell::default(), async {
            let answer = request.await;
            (answer, CALLER.with(RefCell::take))
        })
        .await
}

/// Notes the verified caller of the current request.
pub(super) fn note_caller(principal: &Principal) {
    // Outside of a request there is nothing to note it in.
    let _ = CALLER.try_with(|caller| caller.replace(Some(principal.clone())));
    let span = Span::current();
    if !span.is_disabled() {
        span.record("cart.id", principal.cart_id());
    }
}

/// Whether this read gets a log line: one in `TROLI_LOG_READS` does.
fn is_sampled(never: bool) -> bool {
    static READS: AtomicU64 = AtomicU64::new(0);
    let one_in = telemetry::reads_logged_one_in();
    !never && one_in > 0 && READS.fetch_add(1, Ordering::Relaxed).is_multiple_of(one_in)
}

/// What the log says of a request in every line. A read has that only where lines about reads are written at all:
/// to keep it costs more than a tenth of a cached read.
fn log_span(id: &HeaderValue, quiet: bool, region: &str) -> Span {
    let id = id.to_str().unwrap_or_default();
    macro_rules! request_span {
        ($level:ident) => {
            $level!(
                "request",
                request.id = id,
                trace.id = Empty,
                cart.id = Empty,
                region.id = region,
                asked_by = Empty
            )
        };
    }
    if quiet { request_span!(debug_span) } else { request_span!(info_span) }
}

/// What a request does to a cart, in words that do not change with its path.
fn operation(method: &str, route: &str) -> Option<&'static str> {
    Some(match (method, route) {
        ("GET" | "HEAD", "/v1/cart") => "cart.read",
        ("GET" | "HEAD", "/v1/cart/count") => "cart.count",
        ("GET" | "HEAD", "/v1/cart/items/{line_id}") => "cart.read_line",
        ("POST", "/v1/cart/items") => "cart.add",
        ("PATCH", "/v1/cart/items/{line_id}") => "cart.set_quantity",
        ("DELETE", "/v1/cart/items/{line_id}") => "cart.remove",
        ("DELETE", "/v1/cart/items") => "cart.clear",
        ("PUT", "/v1/cart/coupons/{code}") => "cart.apply_coupon",
        ("DELETE", "/v1/cart/coupons/{code}") => "cart.remove_coupon",
        ("POST", "/v1/cart/commands") => "cart.commands",
        ("POST", "/v1/cart/merge") => "cart.merge",
        ("POST", "/v1/cart/checkout") => "cart.checkout",
        ("POST", "/v1/guests") => "guest.create",
        ("POST", "/v1/guests/renew") => "guest.renew",
        ("POST", route) if is_of_regions(route, "writes") => "home.write",
        _ => return None,
    })
}

/// Whether it is this that another region asks, in any version.
fn is_of_regions(route: &str, topic: &str) -> bool {
    let name = route.strip_prefix("/peer/v1/").or_else(|| route.strip_prefix("/internal/"));
    name == Some(topic)
}

/// The method of a call between regions.
fn rpc_method(route: &str) -> String {
    let name = route.rsplit('/').find(|part| !part.starts_with('{')).unwrap_or_default();
    format!("troli.Home/{name}")
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
