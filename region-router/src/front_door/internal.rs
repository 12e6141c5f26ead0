//! The front door's internal listener: whether it lives, whether callers may be sent to it, and a few figures. It is
//! for a load balancer before several front doors, and for operators; callers have no way to it.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::proxy::FrontDoor;
use crate::health::State;

/// Connections at once: probes of a few load balancers, and operators.
const CONNECTIONS_MAX: usize = 64;
/// For a request head to arrive, and so the longest that a connection is kept idle.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// After accepting failed, most likely for want of file descriptors: long enough to free some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves for ever.
pub(super) async fn serve(listener: TcpListener, door: Arc<FrontDoor>) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let slot = slots.clone().acquire_owned().await.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(error = %error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let door = Arc::clone(&door);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = answer(&door, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE);
            if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(error = %error, "connection ended early");
            }
            drop(slot);
        });
    }
}

fn answer(door: &FrontDoor, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        "/livez" if reads => response(StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" if reads => {
            let reasons = reasons(door);
            let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let body = json!({ "ready": reasons.is_empty(), "reasons": reasons });
            response(status, "application/json", body.to_string())
        }
        "/metrics" if reads => response(StatusCode::OK, TEXT, metrics(door)),
        "/livez" | "/readyz" | "/metrics" => problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
        _ => problem(StatusCode::NOT_FOUND, "route_unknown"),
    }
}

/// Why callers should be sent to another front door.
fn reasons(door: &FrontDoor) -> Vec<&'static str> {
    let mut reasons = Vec::new();
    if door.is_draining() {
        reasons.push("stopping");
    }
    let mut regions = door.regions().topology().regions().iter();
    if !regions.any(|region| door.regions().state(region.id).0 == State::Up) {
        reasons.push("no region is up");
    }
    reasons
}

fn metrics(door: &FrontDoor) -> String {
    let mut text = String::new();
    // Writing to memory does not fail.
    let _ = writeln!(
        text,
        "# HELP troli_http_requests_in_flight Requests that are being served.\n\
         # TYPE troli_http_requests_in_flight gauge\n\
         troli_http_requests_in_flight {}\n\
         # HELP troli_region_health 1 where a region answers its probes, 0 where it does not.\n\
         # TYPE troli_region_health gauge",
        door.in_flight()
    );
    for region in door.regions().topology().regions() {
        let up = u8::from(door.regions().state(region.id).0 == State::Up);
        let _ = writeln!(text, "troli_region_health{{region=\"front-door\",of=\"{}\"}} {up}", region.id);
    }
    text
}

fn problem(status: StatusCode, code: &str) -> Response<Full<Bytes>> {
    let title = status.canonical_reason().unwrap_or("Error");
    let document = json!({
        "type": format!("urn:troli:problem:{code}"), "title": title, "status": status.as_u16(), "detail": title,
        "code": code, "request_id": uuid::Uuid::new_v4().to_string(),
    });
    response(status, "application/problem+json", document.to_string())
}

fn response(status: StatusCode, media_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
