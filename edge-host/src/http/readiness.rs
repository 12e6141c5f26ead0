//! What this edge can do now, and why not the rest: for probes, for the front door, and for other regions.

use axum::extract::State;
use axum::http::header::CONNECTION;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use region_router::front_door::{NOT_SERVING, STARTING, STOPPING};
use serde_json::json;

use super::{Api, Shared};
use crate::home::wire::{self, Hello};
use crate::peers::Validity;

/// What an edge can do.
pub(super) struct Readiness {
    /// Why requests should go elsewhere.
    pub(super) reasons: Vec<String>,
    /// Why writes should, though reads are served.
    pub(super) no_writes: Option<String>,
    /// What an operator has to mend, although requests are served.
    warnings: Vec<String>,
}

impl Readiness {
    /// As it is now.
    pub(super) fn of(api: &Api) -> Self {
        let mut reasons = Vec::new();
        if api.draining.is_cancelled() {
            reasons.push("stopping".to_owned());
        }
        if !api.feed.ready() {
            reasons.push("no catalogue or no rules from the home region yet".to_owned());
        }
        reasons.extend(api.service.clock.trouble());
        let primary = api.primary.as_ref().map(|store| store.state()).unwrap_or_default();
        let mut warnings: Vec<String> =
            primary.rivals.iter().map(|rival| format!("{rival} takes writes beside the primary")).collect();
        let home = &api.service.home;
        let mut no_writes = primary.refusal.or_else(|| home.refusal());
        match api.config.peer_tls.validity() {
            Validity::Good => {}
            Validity::EndsSoon(what) => warnings.push(what),
            Validity::Ended(what) => {
                // Connections that are open go on; there will be no more.
                no_writes = no_writes.or_else(|| home.forwards().then(|| what.clone()));
                warnings.push(what);
            }
        }
        Self { reasons, no_writes, warnings }
    }

    /// What can be done, for the metrics.
    pub(super) fn can(&self) -> [(&'static str, bool); 2] {
        let ready = self.ready();
        [("reads", ready), ("writes", ready && self.no_writes.is_none())]
    }

    fn ready(&self) -> bool {
        self.reasons.is_empty()
    }

    /// The same for another region that asks.
    pub(super) fn hello(&self) -> Hello {
        let (ready, writes) = (self.ready(), self.no_writes.is_none());
        Hello { version: wire::VERSION, ready, writes: ready && writes, reasons: self.all_reasons() }
    }

    fn all_reasons(&self) -> Vec<String> {
        let no_writes = self.no_writes.iter().map(|why| format!("no writes: {why}"));
        self.reasons.iter().cloned().chain(no_writes).collect()
    }
}

/// 503 while requests should go elsewhere. An edge that only reads is ready, and says so.
pub(super) async fn readyz(State(api): State<Shared>) -> Response {
    let now = Readiness::of(&api);
    let (ready, writes) = (now.ready(), now.no_writes.is_none());
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "ready": ready, "writes": ready && writes, "reasons": now.all_reasons(), "warnings": now.warnings,
    });
    (status, axum::Json(body)).into_response()
}

/// Tells a front door, with every answer over HTTP/1.1, that requests should go elsewhere.
pub(super) fn tell(api: &Api, headers: &mut HeaderMap) {
    let (starting, stopping) = (!api.feed.ready(), api.draining.is_cancelled());
    if !starting && !stopping {
        return;
    }
    let why = if starting { STARTING } else { STOPPING };
    headers.insert(NOT_SERVING, HeaderValue::from_static(why));
    if stopping {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
}
