//! The spans of one request, until it is decided whether they are sent.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::export::{Batch, Exporter};
use super::{Duration, Instant, Span, SpanId, SystemTime, Trace};

/// Spans of one request. The longest there are (a batch that meets locks again and again) have some twenty.
const SPANS_OF_A_REQUEST_MAX: usize = 128;

/// One span, with its times since the start of the request.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) start: Duration,
    pub(super) end: Duration,
    pub(super) span: Span,
}

/// What was done for a request so far.
pub(super) struct Records {
    exporter: &'static Exporter,
    begun: Instant,
    begun_at: SystemTime,
    last_id: AtomicU64,
    spans: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    spans: Vec<Record>,
    /// Spans that came after the most that are kept.
    dropped: u64,
    /// The request has ended: what is still done for it is not part of what is sent.
    over: bool,
}

impl Records {
    pub(super) fn begin(of: SpanId, exporter: &'static Exporter) -> Self {
        Self {
            exporter,
            begun: Instant::now(),
            begun_at: SystemTime::now(),
            last_id: AtomicU64::new(of.0),
            spans: Mutex::default(),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Ids follow that of the request, which is random.
    pub(super) fn next_id(&self) -> SpanId {
        let next = self.last_id.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        // Zero is no id; all ids of this request but one come before it.
        SpanId(if next == 0 { u64::MAX / 2 } else { next })
    }

    pub(super) fn add(&self, record: Record) {
        let mut kept = self.kept();
        if kept.over {
            return;
        }
        if kept.spans.len() < SPANS_OF_A_REQUEST_MAX {
            kept.spans.push(record);
        } else {
            kept.dropped += 1;
        }
    }

    pub(super) fn forget(&self) {
        let mut kept = self.kept();
        (kept.spans, kept.over) = (Vec::new(), true);
    }

    pub(super) fn send(&self, trace: &Trace, whole: Record) {
        let (mut spans, dropped) = {
            let mut kept = self.kept();
            kept.over = true;
            (std::mem::take(&mut kept.spans), kept.dropped)
        };
        spans.push(whole);
        self.exporter.take(
            Batch {
                trace: trace.id,
                sampled: trace.sampled,
                state: trace.state.clone(),
                begun_at: self.begun_at,
                spans,
            },
            dropped,
        );
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.spans.lock().expect("no holder of the lock can panic")
    }
}
