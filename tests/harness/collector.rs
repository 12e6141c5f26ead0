use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use tokio::net::TcpListener;

/// Bytes of one message: the edges send at most 512 spans in one.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A receiver of traces by OTLP over HTTP. It keeps all that was sent to it.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
}

#[derive(Debug, Default)]
struct Received {
    spans: Vec<TracedSpan>,
    messages: Vec<Bytes>,
}

/// A span as it was received.
#[derive(Clone, Debug)]
pub struct TracedSpan {
    /// Its trace, in hexadecimal digits.
    pub trace: String,
    /// Its id.
    pub id: String,
    /// The span that it is part of; empty for none.
    pub parent: String,
    /// Its name.
    pub name: String,
    /// `server`, `client` or `internal`.
    pub kind: &'static str,
    /// Its attributes, and those of its process.
    pub attributes: BTreeMap<String, String>,
    /// When it began, in nanoseconds.
    pub start_ns: u64,
    /// When it ended.
    pub end_ns: u64,
}

impl TracedSpan {
    /// An attribute; empty where there is none.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }
}

impl Collector {
    /// Starts one, on any port.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("any port can be listened on");
        let address = listener.local_addr().expect("it listens");
        let received = Arc::new(Mutex::new(Received::default()));
        let keeps = Arc::clone(&received);
        let take = async move |body: Bytes| {
            let message = ExportTraceServiceRequest::decode(body.clone()).expect("a message of OTLP");
            let mut received = keeps.lock().expect("no holder of the lock can panic");
            received.spans.extend(spans(message));
            received.messages.push(body);
        };
        let router = Router::new()
            .route("/v1/traces", post(take))
            .layer(axum::extract::DefaultBodyLimit::max(MESSAGE_BYTES_MAX));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, received }
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` is to be.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The spans of a trace, by their start.
    pub fn trace(&self, trace: &str) -> Vec<TracedSpan> {
        let received = self.received.lock().expect("no holder of the lock can panic");
        let mut spans: Vec<_> = received.spans.iter().filter(|span| span.trace == trace).cloned().collect();
        spans.sort_by_key(|span| (span.start_ns, span.id.clone()));
        spans
    }

    /// Whether these bytes were sent in any message.
    pub fn has_received(&self, text: &str) -> bool {
        let received = self.received.lock().expect("no holder of the lock can panic");
        received
            .messages
            .iter()
            .any(|message| message.windows(text.len()).any(|part| part == text.as_bytes()))
    }

    /// How many spans have come.
    pub fn spans(&self) -> usize {
        self.received.lock().expect("no holder of the lock can panic").spans.len()
    }
}

fn spans(message: ExportTraceServiceRequest) -> Vec<TracedSpan> {
    let mut found = Vec::new();
    for process in message.resource_spans {
        let resource = process.resource.map(|resource| resource.attributes).unwrap_or_default();
        for span in process.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let kind = match span.kind() {
                SpanKind::Server => "server",
                SpanKind::Client => "client",
                _ => "internal",
            };
            found.push(TracedSpan {
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                kind,
                attributes: resource.iter().chain(&span.attributes).filter_map(pair).collect(),
                start_ns: span.start_time_unix_nano,
                end_ns: span.end_time_unix_nano,
                name: span.name,
            });
        }
    }
    found
}

fn pair(pair: &KeyValue) -> Option<(String, String)> {
    let value = match pair.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        _ => return None,
    };
    Some((pair.key.clone(), value))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
