//! Spans as the OpenTelemetry protocol has them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyKind;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::export::Batch;
use super::record::Record;
use super::{Kind, Value};

/// The semantic conventions that the names of attributes are from.
const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.45.0";
/// W3C: the trace is sampled.
const FLAG_SAMPLED: u32 = 1;

/// One message with the spans of several requests.
pub(super) fn message(resource: &Resource, batches: &[Batch]) -> ExportTraceServiceRequest {
    let spans = batches.iter().flat_map(|batch| batch.spans.iter().map(|record| span(batch, record)));
    let scope = InstrumentationScope {
        name: "troli".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..Default::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource.clone()),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope),
                spans: spans.collect(),
                schema_url: SCHEMA_URL.to_owned(),
            }],
            schema_url: SCHEMA_URL.to_owned(),
        }],
    }
}

/// What all spans of this process have in common.
pub(super) fn resource(attributes: &[(String, String)]) -> Resource {
    let attributes =
        attributes.iter().map(|(name, value)| pair(name, &Value::Text(value.clone().into()))).collect();
    Resource { attributes, ..Default::default() }
}

fn span(batch: &Batch, record: &Record) -> Span {
    let mut attributes: Vec<KeyValue> =
        record.span.attributes.iter().map(|(name, value)| pair(name, value)).collect();
    if let Some(reason) = &record.span.error {
        attributes.push(pair("error.type", &Value::Text(reason.clone())));
    }
    let code = if record.span.error.is_some() { StatusCode::Error } else { StatusCode::Unset };
    let kind = match record.span.kind {
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
        Kind::Internal => SpanKind::Internal,
    };
    let state = batch.state.as_ref().and_then(|state| state.to_str().ok()).unwrap_or_default();
    Span {
        trace_id: batch.trace.0.to_vec(),
        span_id: record.id.0.to_be_bytes().to_vec(),
        parent_span_id: record.parent.map(|parent| parent.0.to_be_bytes().to_vec()).unwrap_or_default(),
        trace_state: state.to_owned(),
        flags: if batch.sampled { FLAG_SAMPLED } else { 0 },
        name: record.span.name.clone().into_owned(),
        kind: kind.into(),
        start_time_unix_nano: unix_ns(batch.begun_at, record.start),
        end_time_unix_nano: unix_ns(batch.begun_at, record.end),
        attributes,
        status: Some(Status { code: code.into(), ..Default::default() }),
        ..Default::default()
    }
}

fn pair(name: &str, value: &Value) -> KeyValue {
    let value = match value {
        Value::Text(text) => AnyKind::StringValue(text.clone().into_owned()),
        Value::Int(number) => AnyKind::IntValue(*number),
    };
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

fn unix_ns(begun_at: SystemTime, after: Duration) -> u64 {
    let since = begun_at.duration_since(UNIX_EPOCH).unwrap_or_default() + after;
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
