//! Traces against a real receiver: what is kept, what is sent by each protocol, and what is dropped.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::FutureExt;
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming as Received;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1 as proto;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;

/// What a collector answers.
#[derive(Clone, Copy)]
enum Answer {
    Takes,
    RefusesOne,
    Overloaded(usize),
    Never,
    Silent,
}

type Body = BoxBody<Bytes, Infallible>;

struct Collector {
    url: String,
    messages: mpsc::UnboundedReceiver<ExportTraceServiceRequest>,
    asked: Arc<AtomicUsize>,
}

impl Collector {
    async fn start(grpc: bool, answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("any port can be listened on");
        let url = format!("http://{}", listener.local_addr().expect("it listens"));
        let (sender, messages) = mpsc::unbounded_channel();
        let asked = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (sender, seen) = (sender.clone(), Arc::clone(&seen));
                let service = service_fn(move |request| {
                    let (sender, n) = (sender.clone(), seen.fetch_add(1, Ordering::SeqCst));
                    async move { Ok::<_, Infallible>(answered(request, grpc, answer, n, &sender).await) }
                });
                let io = TokioIo::new(stream);
                tokio::spawn(async move {
                    if grpc {
                        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
                    } else {
                        let _ = http1::Builder::new().serve_connection(io, service).await;
                    }
                });
            }
        });
        Self { url, messages, asked }
    }

    async fn next(&mut self) -> ExportTraceServiceRequest {
        let next = tokio::time::timeout(Duration::from_secs(30), self.messages.recv()).await;
        next.expect("a message comes in time").expect("the collector runs")
    }
}

async fn answered(
    request: Request<Received>,
    grpc: bool,
    answer: Answer,
    n: usize,
    sender: &mpsc::UnboundedSender<ExportTraceServiceRequest>,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let (media_type, expected) = if grpc {
        ("application/grpc", "/opentelemetry.proto.collector.trace.v1.TraceService/Export")
    } else {
        ("application/x-protobuf", "/v1/traces")
    };
    assert_eq!(
        (path.as_str(), request.headers()[CONTENT_TYPE].as_bytes()),
        (expected, media_type.as_bytes())
    );
    assert_eq!(request.headers()["x-tenant"], "shop");
    let mut body = request.into_body().collect().await.expect("it is whole").to_bytes();
    if grpc {
        let prefix = body.split_to(5);
        assert_eq!(prefix[0], 0, "not compressed");
        assert_eq!(
            usize::try_from(u32::from_be_bytes(prefix[1..].try_into().expect("four"))),
            Ok(body.len())
        );
    }
    let message = ExportTraceServiceRequest::decode(body).expect("a message of OTLP");
    let (http, code, refused) = match answer {
        Answer::Overloaded(times) if n < times => (StatusCode::SERVICE_UNAVAILABLE, "14", 0),
        Answer::Never => (StatusCode::BAD_REQUEST, "3", 0),
        Answer::Silent => std::future::pending().await,
        Answer::RefusesOne => (StatusCode::OK, "0", 1),
        Answer::Takes | Answer::Overloaded(_) => (StatusCode::OK, "0", 0),
    };
    if http == StatusCode::OK {
        let _ = sender.send(message);
    }
    let partial_success = Some(ExportTracePartialSuccess { rejected_spans: refused, ..Default::default() });
    let said = ExportTraceServiceResponse { partial_success }.encode_to_vec();
    if !grpc {
        let mut response = Response::new(Full::new(said.into()).boxed());
        *response.status_mut() = http;
        return response;
    }
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(said.len()).expect("it is short"));
    framed.extend_from_slice(&said);
    let trailers =
        HeaderMap::from_iter([("grpc-status".parse().expect("a name"), HeaderValue::from_static(code))]);
    let body = Full::new(framed.freeze()).with_trailers(std::future::ready(Some(Ok(trailers))));
    Response::new(body.boxed())
}

fn exporter(url: &str, more: &[(&str, &str)]) -> &'static Exporter {
    let var = |name: &str| {
        let base = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", url),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=shop"),
            ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ];
        let mut all = more.iter().chain(&base);
        all.find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    let settings = Settings::load(var, &[("service.name", "troli-test")]).expect("no mistakes");
    Exporter::start(&settings.expect("traces are sent")).expect("it can start")
}

/// A request with a part that fails in a part, and one that is dropped half-way.
async fn request(exporter: &'static Exporter, headers: &HeaderMap, fails: bool) -> Place {
    let place = Place::begin(headers, false, Some(exporter)).expect("there is a trace");
    let work = async {
        let inner = async {
            in_span(
                || Span::new(Kind::Client, "inner").with("db.system.name", "mysql"),
                async { Err::<(), _>("lost") },
                |outcome, span| {
                    span.note("rows", 7_i64);
                    if let Err(reason) = outcome {
                        span.fail(*reason);
                    }
                },
            )
            .await
        };
        let _ = in_span(|| Span::new(Kind::Internal, "outer"), inner, |_, _| {}).await;
        let dropped =
            in_span(|| Span::new(Kind::Client, "dropped"), std::future::pending::<()>(), |(), _| {});
        assert!(dropped.now_or_never().is_none());
    };
    at(Some(place.clone()), work).await;
    place.end(false, || {
        let mut span = Span::new(Kind::Server, "GET /v1/cart");
        if fails {
            span.fail("503");
        }
        span
    });
    place
}

fn spans(message: &ExportTraceServiceRequest) -> &[proto::Span] {
    &message.resource_spans[0].scope_spans[0].spans
}

fn attribute(span: &proto::Span, name: &str) -> Option<String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    let value = span.attributes.iter().find(|pair| pair.key == name)?.value.as_ref()?.value.as_ref()?;
    match value {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    }
}

fn headers(sampled: bool) -> HeaderMap {
    let parent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{:02x}", u8::from(sampled));
    HeaderMap::from_iter([(
        "traceparent".parse().expect("a name"),
        HeaderValue::try_from(parent).expect("a value"),
    )])
}

#[tokio::test]
async fn a_trace_arrives_whole_by_both_protocols() {
    for (grpc, protocol) in [(false, "http/protobuf"), (true, "grpc")] {
        let mut collector = Collector::start(grpc, Answer::Takes).await;
        let exporter = exporter(&collector.url, &[("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)]);
        request(exporter, &headers(true), false).await;
        let message = collector.next().await;
        let found = spans(&message);
        let by_name = |name: &str| {
            found
                .iter()
                .find(|span| span.name == name)
                .unwrap_or_else(|| panic!("{name} is there: {found:#?}"))
        };
        let (whole, outer) = (by_name("GET /v1/cart"), by_name("outer"));
        let (inner, dropped) = (by_name("inner"), by_name("dropped"));
        assert_eq!(found.len(), 4, "{protocol}");
        assert!(
            found.iter().all(|span| span.trace_id == whole.trace_id && span.trace_id[..2] == [0x0a, 0xf7])
        );
        assert_eq!(whole.parent_span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
        assert_eq!(outer.parent_span_id, whole.span_id);
        assert_eq!(inner.parent_span_id, outer.span_id);
        assert_eq!(dropped.parent_span_id, whole.span_id);
        assert_eq!(attribute(inner, "db.system.name").as_deref(), Some("mysql"));
        assert_eq!(attribute(inner, "rows").as_deref(), Some("7"));
        assert_eq!(attribute(inner, "error.type").as_deref(), Some("lost"));
        assert_eq!(attribute(dropped, "error.type").as_deref(), Some("cancelled"));
        assert!(inner.start_time_unix_nano >= outer.start_time_unix_nano);
        assert!(inner.end_time_unix_nano <= outer.end_time_unix_nano);
        let resource = message.resource_spans[0].resource.as_ref().expect("it says whose it is");
        assert_eq!(resource.attributes[0].key, "service.name");
        while exporter.counts().exported < 4 {
            tokio::task::yield_now().await;
        }
        assert_eq!(exporter.counts(), Counts { exported: 4, ..Counts::default() });
    }
}

#[tokio::test]
async fn what_failed_or_was_slow_is_sent_although_it_is_not_sampled() {
    let mut collector = Collector::start(false, Answer::Takes).await;
    let exporter = exporter(&collector.url, &[]);
    request(exporter, &headers(false), false).await;
    let failed = request(exporter, &headers(false), true).await;
    let message = collector.next().await;
    assert_eq!(spans(&message).len(), 4, "those of the second request alone");
    assert!(spans(&message).iter().all(|span| span.trace_id == failed.trace_id().0));

    for (waits, expected) in [(true, 0), (false, 1)] {
        let slow = Place::begin(&headers(false), false, Some(exporter)).expect("there is a trace");
        let mut span = Some(Span::new(Kind::Server, "slow"));
        let began = Instant::now();
        while began.elapsed() < SLOW {
            tokio::task::yield_now().await;
        }
        slow.end(waits, || span.take().expect("it is asked once"));
        exporter.flush().await;
        let sent = collector.messages.try_recv().map_or(0, |message| spans(&message).len());
        assert_eq!(sent, expected, "waits by its nature: {waits}");
    }
}

#[tokio::test]
async fn a_collector_that_does_not_take_them_costs_spans_and_nothing_else() {
    for (grpc, protocol) in [(false, "http/protobuf"), (true, "grpc")] {
        let end_of = async |answer: Answer, expected: fn(&Counts) -> bool| {
            let collector = Collector::start(grpc, answer).await;
            let settings = [("OTEL_EXPORTER_OTLP_PROTOCOL", protocol), ("OTEL_EXPORTER_OTLP_TIMEOUT", "200")];
            let exporter = exporter(&collector.url, &settings);
            request(exporter, &headers(true), false).await;
            while !expected(&exporter.counts()) {
                tokio::task::yield_now().await;
            }
            (exporter.counts(), collector.asked.load(Ordering::SeqCst))
        };
        let (counts, asked) = end_of(Answer::RefusesOne, |counts| counts.exported > 0).await;
        assert_eq!((counts.exported, counts.dropped_refused, asked), (3, 1, 1), "{protocol}");
        let (counts, asked) = end_of(Answer::Overloaded(1), |counts| counts.exported > 0).await;
        assert_eq!((counts.exported, asked), (4, 2), "{protocol}: sent again");
        let (counts, asked) = end_of(Answer::Never, |counts| counts.dropped_refused > 0).await;
        assert_eq!((counts.dropped_refused, asked), (4, 1), "{protocol}: not sent again");
        let (counts, asked) = end_of(Answer::Silent, |counts| counts.dropped_failed > 0).await;
        assert_eq!((counts.dropped_failed, asked), (4, 3), "{protocol}");
    }
}

#[tokio::test]
async fn what_does_not_fit_into_the_queue_is_dropped_and_counted() {
    let collector = Collector::start(false, Answer::Silent).await;
    let exporter = exporter(&collector.url, &[("OTEL_BSP_MAX_QUEUE_SIZE", "8")]);
    for _ in 0..10 {
        request(exporter, &headers(true), false).await;
    }
    assert_eq!(exporter.counts().dropped_full, 8 * 4, "two requests of four spans fit");
}

#[tokio::test]
async fn where_no_traces_are_sent_a_request_passes_on_what_it_came_with() {
    let asked = headers(true);
    let place = Place::begin(&asked, false, None).expect("it came with a trace");
    assert!(!place.is_recorded());
    let mut passed = HeaderMap::new();
    at(Some(place), async { current().expect("it is known").write_to(&mut passed) }).await;
    assert_eq!(passed, asked);
    assert!(Place::begin(&HeaderMap::new(), false, None).is_none(), "a read has none");
    let named = Place::begin(&HeaderMap::new(), true, None).expect("a write has one");
    assert_eq!(named.trace_id().to_string().len(), 32);
}

#[tokio::test]
async fn a_file_has_one_message_a_line() {
    let file = std::env::temp_dir().join(format!("troli-traces-{}.jsonl", uuid::Uuid::new_v4()));
    let path = file.display().to_string();
    let exporter = exporter("", &[(ENV_FILE, &path)]);
    for _ in 0..2 {
        request(exporter, &headers(true), false).await;
        exporter.flush().await;
    }
    let text = std::fs::read_to_string(&file).expect("it was written");
    let _ = std::fs::remove_file(&file);
    let lines: Vec<ExportTraceServiceRequest> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON of OTLP")).collect();
    assert_eq!(lines.len(), 2);
    assert!(text.contains("\"traceId\":\"0af7651916cd43dd8448eb211c80319c\""), "{text}");
}
