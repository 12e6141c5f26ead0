//! The way of spans out of the process: a queue with an end, and one task that sends what is in it. Requests never
//! wait for it: what does not fit is dropped, and counted.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::record::Record;
use super::settings::{Sampler, Settings};
use super::transport::{SendError, Transport};
use super::{TraceId, otlp};

/// Attempts after the first, when the collector does not take a message now but may later.
const RETRIES_MAX: u32 = 2;
/// Before the second attempt; then twice as long. The queue fills meanwhile, and drops what does not fit.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// What is left is sent within this when the process stops. It has promised to end within seconds.
const STOP_DEADLINE: Duration = Duration::from_secs(1);
/// Collectors that do not answer are said so often at most.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);

/// The spans of one request.
pub(super) struct Batch {
    pub(super) trace: TraceId,
    pub(super) sampled: bool,
    pub(super) state: Option<HeaderValue>,
    pub(super) begun_at: SystemTime,
    pub(super) spans: Vec<Record>,
}

enum Job {
    Send(Batch),
    Flush(oneshot::Sender<()>),
}

/// Sends the traces of this process.
pub struct Exporter {
    sampler: Sampler,
    queue: mpsc::UnboundedSender<Job>,
    /// Spans in the queue: it is bounded by this.
    queued: AtomicUsize,
    queued_max: usize,
    exported: AtomicU64,
    dropped_full: AtomicU64,
    dropped_failed: AtomicU64,
    dropped_refused: AtomicU64,
}

/// What became of the spans of this process so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sent, and taken by the collector.
    pub exported: u64,
    /// Dropped, because too many waited already, or their request had too many.
    pub dropped_full: u64,
    /// Dropped, because the collector could not be reached or did not answer.
    pub dropped_failed: u64,
    /// Sent, and refused by the collector.
    pub dropped_refused: u64,
}

static EXPORTER: OnceLock<&'static Exporter> = OnceLock::new();

/// Begins to send traces; to be called once, in a runtime. Fails when the file cannot be written to.
pub fn start(settings: &Settings) -> std::io::Result<&'static Exporter> {
    let exporter = Exporter::start(settings)?;
    Ok(EXPORTER.get_or_init(|| exporter))
}

/// What became of the spans of this process; nothing, where none are sent.
pub fn counts() -> Option<Counts> {
    exporter().map(Exporter::counts)
}

pub(super) fn exporter() -> Option<&'static Exporter> {
    EXPORTER.get().copied()
}

impl Exporter {
    /// One that lives as long as the process.
    pub(super) fn start(settings: &Settings) -> std::io::Result<&'static Self> {
        let transport = Transport::open(settings)?;
        let (queue, jobs) = mpsc::unbounded_channel();
        let exporter: &'static Self = Box::leak(Box::new(Self {
            sampler: settings.sampler,
            queue,
            queued: AtomicUsize::new(0),
            queued_max: settings.queue_spans_max,
            exported: AtomicU64::new(0),
            dropped_full: AtomicU64::new(0),
            dropped_failed: AtomicU64::new(0),
            dropped_refused: AtomicU64::new(0),
        }));
        let sender = Sender {
            exporter,
            transport,
            resource: otlp::resource(&settings.resource),
            batch_spans_max: settings.batch_spans_max,
            delay: settings.delay,
            complained: None,
        };
        tokio::spawn(sender.run(jobs));
        Ok(exporter)
    }

    /// Sends what is left, for a moment.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.queue.send(Job::Flush(done)).is_ok() {
            let _ = timeout(STOP_DEADLINE, flushed).await;
        }
    }

    pub(super) fn sampler(&self) -> Sampler {
        self.sampler
    }

    pub(super) fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            exported: of(&self.exported),
            dropped_full: of(&self.dropped_full),
            dropped_failed: of(&self.dropped_failed),
            dropped_refused: of(&self.dropped_refused),
        }
    }

    /// Takes the spans of a request, if there is room. `dropped` spans of it are gone already.
    pub(super) fn take(&self, batch: Batch, dropped: u64) {
        let spans = batch.spans.len();
        let fits = self.queued.try_update(Ordering::Relaxed, Ordering::Relaxed, |queued| {
            Some(queued + spans).filter(|queued| *queued <= self.queued_max)
        });
        let lost = if fits.is_ok() && self.queue.send(Job::Send(batch)).is_ok() { 0 } else { count(spans) };
        self.dropped_full.fetch_add(lost + dropped, Ordering::Relaxed);
    }
}

/// The task that empties the queue.
struct Sender {
    exporter: &'static Exporter,
    transport: Transport,
    resource: Resource,
    batch_spans_max: usize,
    delay: Duration,
    complained: Option<Instant>,
}

impl Sender {
    async fn run(mut self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        while let Some(first) = jobs.recv().await {
            let (mut batches, mut spans, mut flushed) = (Vec::new(), 0, None);
            let until = Instant::now() + self.delay;
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    Job::Send(batch) => {
                        spans += batch.spans.len();
                        batches.push(batch);
                    }
                    Job::Flush(done) => {
                        flushed = Some(done);
                        break;
                    }
                }
                if spans >= self.batch_spans_max {
                    break;
                }
                next = timeout_at(until, jobs.recv()).await.ok().flatten();
            }
            if !batches.is_empty() {
                self.send(&batches, spans).await;
            }
            if let Some(done) = flushed {
                let _ = done.send(());
            }
        }
    }

    async fn send(&mut self, batches: &[Batch], spans: usize) {
        let message = otlp::message(&self.resource, batches);
        let mut pause = RETRY_PAUSE;
        let mut attempt = 0;
        let outcome = loop {
            match self.transport.send(&message).await {
                Err(SendError::Later(_)) if attempt < RETRIES_MAX => {
                    attempt += 1;
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                ended => break ended,
            }
        };
        let exporter = self.exporter;
        exporter.queued.fetch_sub(spans, Ordering::Relaxed);
        match outcome {
            Ok(refused) => {
                let refused = refused.min(count(spans));
                exporter.exported.fetch_add(count(spans) - refused, Ordering::Relaxed);
                exporter.dropped_refused.fetch_add(refused, Ordering::Relaxed);
            }
            Err(failure) => {
                let dropped = match failure {
                    SendError::Later(_) => &exporter.dropped_failed,
                    SendError::Never(_) => &exporter.dropped_refused,
                };
                dropped.fetch_add(count(spans), Ordering::Relaxed);
                self.complain(&failure);
            }
        }
    }

    fn complain(&mut self, failure: &SendError) {
        if self.complained.is_none_or(|at| at.elapsed() >= COMPLAINT_PAUSE) {
            self.complained = Some(Instant::now());
            tracing::warn!(error = %failure, "traces are dropped: the collector does not take them");
        }
    }
}

fn count(spans: usize) -> u64 {
    u64::try_from(spans).unwrap_or(u64::MAX)
}
