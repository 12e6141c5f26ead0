//! A small fleet for the tests: three regions, each an edge that tells what it was asked, behind links that
//! can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use axum::routing::{any, get};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::super::{Config, Limits, STATUS_PATH, run};
use crate::link::Link;
use crate::proximity::Countries;
use crate::topology::Topology;

/// For every wait that a fault could make endless. No test waits this long to pass.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// More than all buffers on the way hold.
pub(super) const LARGE_BYTES: usize = 64 * 1024 * 1024;

const REGIONS: [(&str, &str); 3] = [("sin", "SG"), ("jkt", "ID"), ("bkk", "TH")];

/// What an edge shares with its test.
#[derive(Clone, Default)]
pub(super) struct Edge {
    /// Requests that reached `/…`, whatever came of them.
    pub(super) asked: Arc<AtomicUsize>,
    /// Lets `/slow` answer, and `/stream` send its second part.
    pub(super) go: Arc<Notify>,
    id: String,
}

impl Edge {
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

pub(super) struct Region {
    pub(super) edge: Edge,
    /// In front of the edge's public listener.
    pub(super) public: Link,
    /// In front of its internal one.
    pub(super) internal: Link,
    /// A second edge, and the link in front of its public listener, where a test asked for one.
    pub(super) second: Option<(Edge, Link)>,
}

impl Region {
    pub(super) fn second(&self) -> &(Edge, Link) {
        self.second.as_ref().expect("this region has two edges")
    }
}

pub(super) struct Fleet {
    pub(super) regions: Vec<Region>,
    pub(super) addr: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    stop: Option<oneshot::Sender<()>>,
    door: JoinHandle<()>,
}

/// How a fleet differs from the usual one.
#[derive(Default)]
pub(super) struct Options {
    pub(super) trusted: Vec<&'static str>,
    pub(super) limits: Limits,
    /// Whether callers are told where to go.
    pub(super) redirect: bool,
    /// Regions with two edges.
    pub(super) twins: Vec<&'static str>,
    /// Regions whose (first) public listener takes a request and hangs up without a word.
    pub(super) hang_up: Vec<&'static str>,
}

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Answer {
    /// A header's value, empty when there is none.
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().expect("text")).unwrap_or_default()
    }

    /// A header that the edge saw, null when it saw none.
    pub(super) fn seen(&self, name: &str) -> &Value {
        &self.body["headers"][name]
    }
}

impl Fleet {
    /// Returns when every region is known to be up.
    pub(super) async fn start(options: Options) -> Self {
        let mut regions = Vec::new();
        for (id, _) in REGIONS {
            let edge = Edge { id: id.to_owned(), ..Edge::default() };
            let public = if options.hang_up.contains(&id) {
                serve_hang_up(edge.clone()).await
            } else {
                serve(public(edge.clone())).await
            };
            let internal = serve(Router::new().route("/readyz", get(|| async { "ready" }))).await;
            let second = if options.twins.contains(&id) {
                let edge = Edge { id: id.to_owned(), ..Edge::default() };
                let link = link(serve(self::public(edge.clone())).await).await;
                Some((edge, link))
            } else {
                None
            };
            let (public, internal) = (link(public).await, link(internal).await);
            regions.push(Region { edge, public, internal, second });
        }
        let config = Config {
            regions: Arc::new(crate::regions::Regions::new(topology(&regions))),
            countries: Arc::new(Countries::BuiltIn),
            trusted_proxies: options.trusted.iter().map(|net| net.parse().expect("a network")).collect(),
            cors_origins: vec!["https://shop.example".parse().expect("an origin")],
            dns: crate::discovery::Dns::system(),
            redirect: options.redirect,
            limits: options.limits,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let door = tokio::spawn(run(listener, config, async {
            let _ = stopped.await;
        }));
        let client = Client::builder(TokioExecutor::new()).build_http();
        let fleet = Self { regions, addr, client, stop: Some(stop), door };
        for (id, _) in REGIONS {
            fleet.wait_until(id, "up").await;
        }
        fleet
    }

    pub(super) fn region(&self, id: &str) -> &Region {
        self.regions.iter().find(|region| region.edge.id == id).expect("one of the regions")
    }

    /// Returns when the front door believes that of a region.
    pub(super) async fn wait_until(&self, id: &str, health: &str) {
        let believed = async {
            loop {
                let page = self.get(STATUS_PATH).await;
                let regions = page.body["regions"].as_array().expect("a list").clone();
                if regions.iter().any(|region| region["id"] == id && region["health"] == health) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        within(believed).await;
    }

    pub(super) async fn get(&self, target: &str) -> Answer {
        self.send(self.request(Method::GET, target)).await
    }

    pub(super) fn request(&self, method: Method, target: &str) -> Request<Full<Bytes>> {
        let uri = format!("http://{}{target}", self.addr);
        Request::builder().method(method).uri(uri).body(Full::default()).expect("a request")
    }

    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let response = within(self.client.request(request)).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let bytes = within(body.collect()).await.expect("a whole body").to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// Tells the front door to stop.
    pub(super) fn stop(&mut self) {
        self.stop.take().expect("it has not been stopped").send(()).expect("it runs");
    }

    /// Returns when the front door has returned.
    pub(super) async fn stopped(self) {
        within(self.door).await.expect("it returns");
    }
}

pub(super) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it takes far too long")
}

async fn link(target: SocketAddr) -> Link {
    Link::start("127.0.0.1:0".parse().expect("an address"), target, Duration::ZERO).await.expect("a link")
}

fn topology(regions: &[Region]) -> Topology {
    let mut text = String::from("home = \"sin\"\ncurrency_default = \"SGD\"\n");
    for (region, (id, country)) in regions.iter().zip(REGIONS) {
        let links = [&region.public].into_iter().chain(region.second.iter().map(|(_, link)| link));
        let publics: Vec<String> = links.map(|link| format!("\"{}\"", link.addr())).collect();
        text += &format!(
            "[[region]]\nid = \"{id}\"\nname = \"{id}\"\ncountry = \"{country}\"\ncurrency = \"SGD\"\n\
             public = [{}]\ninternal = [\"{}\"]\n",
            publics.join(", "),
            region.internal.addr()
        );
    }
    text += "[round_trips_assumed_ms]\nsin-jkt = 13\nsin-bkk = 21\njkt-bkk = 34\n";
    Topology::parse(&text).expect("a topology")
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    addr
}

/// Reads a request and closes the connection; only probes are answered.
async fn serve_hang_up(edge: Edge) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut head = [0; 1024];
            match stream.read(&mut head).await {
                Ok(_) if head.starts_with(b"HEAD /openapi.json ") => {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await;
                }
                Ok(count) if count > 0 => {
                    edge.asked.fetch_add(1, Ordering::SeqCst);
                }
                _ => {}
            }
        }
    });
    addr
}

fn public(edge: Edge) -> Router {
    Router::new()
        .route("/openapi.json", get(|| async { "{}" }))
        .route("/slow", any(slow))
        .route("/stream", get(stream))
        .route("/stall", get(stall))
        .route("/large", get(|| async { vec![b'x'; LARGE_BYTES] }))
        .fallback(echo)
        .with_state(edge)
}

/// Tells what arrived.
async fn echo(
    State(edge): State<Edge>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    edge.asked.fetch_add(1, Ordering::SeqCst);
    let seen: serde_json::Map<String, Value> = headers
        .iter()
        .map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes()))))
        .collect();
    let document = json!({
        "region": edge.id,
        "method": method.as_str(),
        "target": uri.to_string(),
        "headers": seen,
        "body": String::from_utf8_lossy(&body),
    });
    Response::builder()
        .status(207)
        .header("connection", "x-private")
        .header("x-private", "1")
        .header("keep-alive", "timeout=5")
        .header("etag", "\"1.17\"")
        .body(Body::from(document.to_string()))
        .expect("a response")
}

async fn slow(State(edge): State<Edge>) -> Response {
    edge.asked.fetch_add(1, Ordering::SeqCst);
    edge.go.notified().await;
    Response::new(Body::from("{\"slow\":true}"))
}

async fn stream(State(edge): State<Edge>) -> Response {
    edge.asked.fetch_add(1, Ordering::SeqCst);
    Response::new(Body::new(parts(edge.go)))
}

async fn stall() -> Response {
    Response::new(Body::new(parts(Arc::default())))
}

/// `first`, and `second` once it may.
fn parts(go: Arc<Notify>) -> http_body_util::channel::Channel<Bytes, std::convert::Infallible> {
    let (mut sender, body) = http_body_util::channel::Channel::new(1);
    tokio::spawn(async move {
        let _ = sender.send_data(Bytes::from_static(b"first")).await;
        go.notified().await;
        let _ = sender.send_data(Bytes::from_static(b"second")).await;
    });
    body
}
