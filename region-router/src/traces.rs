//! Traces: what a request did in this process, hop by hop, sent out as OpenTelemetry by OTLP.
//!
//! The place of a request in its trace is known to the task that works on it ([`Place`]), and everything that is done
//! for it can be one span of it ([`in_span`]). Spans are kept with the request until it ends, and only then it is
//! decided whether they are sent: when the trace is sampled, and always when the request failed or was slow. Where no
//! traces are sent, no span is kept, and a request only passes on the trace that it came with.
//!
//! This is not the `tracing` crate's own bridge to OpenTelemetry, which decides at the start of a request and costs a
//! cached read more than a tenth of its time.

mod context;
mod export;
mod otlp;
mod record;
mod settings;
#[cfg(test)]
mod tests;
mod transport;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method};

pub use context::{SpanId, TraceId};
pub use export::{Counts, Exporter, counts, start};
pub use settings::{ENV_FILE, Sampler, Settings};

use context::Incoming;
use record::{Record, Records};

/// A request that takes longer is always kept.
pub const SLOW: Duration = Duration::from_millis(200);

/// What a span says, beside its times and its place.
#[derive(Debug)]
pub struct Span {
    name: Cow<'static, str>,
    kind: Kind,
    attributes: Vec<(&'static str, Value)>,
    error: Option<Cow<'static, str>>,
}

/// Which side of a call a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It answers a call.
    Server,
    /// It makes a call to another process.
    Client,
    /// It stays within the process.
    Internal,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Words.
    Text(Cow<'static, str>),
    /// A whole number.
    Int(i64),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Int(number.into())
    }
}

impl Span {
    /// A span of this kind, by a name of which there are few.
    pub fn new(kind: Kind, name: impl Into<Cow<'static, str>>) -> Self {
        Self { name: name.into(), kind, attributes: Vec::new(), error: None }
    }

    /// With one attribute more, by its name in the semantic conventions.
    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.note(name, value);
        self
    }

    /// Adds an attribute.
    pub fn note(&mut self, name: &'static str, value: impl Into<Value>) {
        self.attributes.push((name, value.into()));
    }

    /// It failed, for a reason of which there are few (`error.type`).
    pub fn fail(&mut self, reason: impl Into<Cow<'static, str>>) {
        self.error = Some(reason.into());
    }
}

/// A place in a trace: of a request, or of a part of it.
#[derive(Clone)]
pub struct Place {
    trace: Arc<Trace>,
    span: SpanId,
}

struct Trace {
    id: TraceId,
    /// Who asked.
    parent: Option<SpanId>,
    sampled: bool,
    state: Option<HeaderValue>,
    /// What was done; nothing, where no traces are sent.
    records: Option<Records>,
}

tokio::task_local! {
    static CURRENT: Option<Place>;
}

impl Place {
    /// The place of a request that came with these headers. With `named` it has a trace id even where no trace is
    /// requested or sent, so that its log lines can be found together.
    pub fn of_request(headers: &HeaderMap, named: bool) -> Option<Self> {
        Self::begin(headers, named, export::exporter())
    }

    fn begin(headers: &HeaderMap, named: bool, exporter: Option<&'static Exporter>) -> Option<Self> {
        let incoming = Incoming::of(headers);
        let Some(exporter) = exporter else {
            let known = match incoming {
                Some(Incoming { trace, parent, sampled, state }) => {
                    (Trace { id: trace, parent: None, sampled, state, records: None }, parent)
                }
                None if named => {
                    let trace = Trace {
                        id: TraceId::new(),
                        parent: None,
                        sampled: false,
                        state: None,
                        records: None,
                    };
                    (trace, SpanId::new())
                }
                None => return None,
            };
            return Some(Self { trace: Arc::new(known.0), span: known.1 });
        };
        let id = incoming.as_ref().map_or_else(TraceId::new, |incoming| incoming.trace);
        let sampled = exporter.sampler().takes(id, incoming.as_ref().map(|incoming| incoming.sampled));
        let (parent, state) =
            incoming.map_or((None, None), |incoming| (Some(incoming.parent), incoming.state));
        let span = SpanId::new();
        let records = Some(Records::begin(span, exporter));
        Some(Self { trace: Arc::new(Trace { id, parent, sampled, state, records }), span })
    }

    /// The id of the trace, for a log line.
    pub fn trace_id(&self) -> TraceId {
        self.trace.id
    }

    /// The id of the span, for a log line; nothing where there is none.
    pub fn span_id(&self) -> Option<SpanId> {
        self.trace.records.as_ref().map(|_| self.span)
    }

    /// Whether spans are kept at this place.
    pub fn is_recorded(&self) -> bool {
        self.trace.records.is_some()
    }

    /// Puts this place into the headers of a request that is made from it.
    pub fn write_to(&self, headers: &mut HeaderMap) {
        let trace = &self.trace;
        context::write(headers, trace.id, self.span, trace.sampled, trace.state.as_ref());
    }

    /// The request has ended. Its spans are sent when its trace is sampled, when it was slow, and when it failed.
    /// `may_be_slow`: it waits for something by its nature, so that its time says nothing.
    pub fn end(&self, may_be_slow: bool, describe: impl FnOnce() -> Span) {
        let Some(records) = &self.trace.records else { return };
        let took = records.elapsed();
        let slow = took >= SLOW && !may_be_slow;
        let span = describe();
        if self.trace.sampled || slow || span.error.is_some() {
            let whole =
                Record { id: self.span, parent: self.trace.parent, start: Duration::ZERO, end: took, span };
            records.send(&self.trace, whole);
        } else {
            records.forget();
        }
    }
}

/// Does the work of a request at its place.
pub fn at<F: Future>(place: Option<Place>, work: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(place, work)
}

/// The place of what this task does now; nothing outside of a request, and where there is no trace.
pub fn current() -> Option<Place> {
    CURRENT.try_with(Clone::clone).ok().flatten()
}

/// Whether a span of what this task does now would be kept.
pub fn is_recorded() -> bool {
    CURRENT.try_with(|place| place.as_ref().is_some_and(Place::is_recorded)).unwrap_or(false)
}

/// Makes a span of a piece of work, where spans are kept. What has ended adds to it what has come out. Work that is
/// dropped half-way has a span all the same. Its place is that at which this is called, not that at which the work is
/// polled.
pub fn in_span<F: Future>(
    describe: impl FnOnce() -> Span,
    work: F,
    ended: impl FnOnce(&F::Output, &mut Span),
) -> impl Future<Output = F::Output> {
    let Some(place) = current().filter(Place::is_recorded) else { return work.left_future() };
    let mut open = Open::begin(&place, describe());
    let within = Place { trace: place.trace, span: open.id };
    let work = CURRENT.scope(Some(within), work);
    work.map(move |output| {
        open.end(|span| ended(&output, span));
        output
    })
    .right_future()
}

/// Makes a span of a piece of work that does not wait for anything.
pub fn span_of<T>(
    describe: impl FnOnce() -> Span,
    work: impl FnOnce() -> T,
    ended: impl FnOnce(&T, &mut Span),
) -> T {
    let Some(place) = current().filter(Place::is_recorded) else { return work() };
    let mut open = Open::begin(&place, describe());
    let output = work();
    open.end(|span| ended(&output, span));
    output
}

/// A span that has not ended yet. It is recorded when this is dropped.
struct Open {
    trace: Arc<Trace>,
    id: SpanId,
    parent: SpanId,
    start: Duration,
    span: Option<Span>,
    has_ended: bool,
}

impl Open {
    fn begin(place: &Place, span: Span) -> Self {
        let records = place.trace.records.as_ref();
        let (id, start) =
            records.map_or((place.span, Duration::ZERO), |records| (records.next_id(), records.elapsed()));
        Self {
            trace: Arc::clone(&place.trace),
            id,
            parent: place.span,
            start,
            span: Some(span),
            has_ended: false,
        }
    }
}

impl Open {
    fn end(&mut self, note: impl FnOnce(&mut Span)) {
        self.has_ended = true;
        self.span.as_mut().map(note);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let (Some(records), Some(mut span)) = (&self.trace.records, self.span.take()) else { return };
        if !self.has_ended {
            span.fail("cancelled");
        }
        let (id, parent, start, end) = (self.id, Some(self.parent), self.start, records.elapsed());
        records.add(Record { id, parent, start, end, span });
    }
}

/// The method of a request for spans, metrics and log lines: one of a closed set, `_OTHER` for all others, as the
/// conventions of OpenTelemetry have it. No client can add a value.
pub fn method_word(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "_OTHER",
    }
}
