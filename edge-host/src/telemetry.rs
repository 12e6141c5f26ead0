//! What is seen while it runs: logs, traces, metrics. Every metric and its name is here.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::time::Instant;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing::span::Record;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FormatFields, FormattedFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

pub use region_router::causes::chain;

/// Which log lines are written: `tracing-subscriber`'s filter syntax.
pub const ENV_LOG_FILTER: &str = "TROLI_LOG";
/// How log lines are written: `json`, or `text` for people.
pub const ENV_LOG_FORMAT: &str = "TROLI_LOG_FORMAT";
/// One in this many reads has a log line; 0 means none. Every write, failure and slow request has one.
pub const ENV_LOG_READS: &str = "TROLI_LOG_READS";
const DEFAULT_LOG_FILTER: &str = "info";
/// At thousands a second a line each would cost more than the request.
const READS_LOGGED_ONE_IN_DEFAULT: u64 = 1000;
/// [`Seldom`] says the same this often, milliseconds.
const SELDOM_MS: u64 = 1000;

/// A filter for log lines, or what is wrong with it. A word alone that is no level would let through nothing but a
/// module of that name: it is a mistake.
pub fn filter(text: &str) -> Result<EnvFilter, String> {
    let text = if text.trim().is_empty() { DEFAULT_LOG_FILTER } else { text };
    let is_odd = |part: &&str| !part.contains(['=', '[']) && part.parse::<LevelFilter>().is_err();
    if let Some(odd) = text.split(',').map(str::trim).find(is_odd) {
        return Err(format!("{odd} is no level: error, warn, info, debug or trace, or module=level"));
    }
    EnvFilter::try_new(text).map_err(|error| error.to_string())
}

/// Starts logging: JSON, or text for people when standard error is a terminal.
pub fn init() {
    let wanted = std::env::var(ENV_LOG_FILTER).unwrap_or_default();
    let filter = filter(&wanted).unwrap_or_else(|_| EnvFilter::new(DEFAULT_LOG_FILTER));
    let is_text = match std::env::var(ENV_LOG_FORMAT).as_deref() {
        Ok("text") => true,
        Ok("json") => false,
        _ => std::io::stderr().is_terminal(),
    };
    let format = if is_text {
        tracing_subscriber::fmt::layer().with_target(false).with_writer(std::io::stderr).boxed()
    } else {
        tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_target(false)
            .with_writer(std::io::stderr)
            .fmt_fields(SpanFields(JsonFields::new()))
            .boxed()
    };
    if let Ok(one_in) = reads_one_in(&std::env::var(ENV_LOG_READS).unwrap_or_default()) {
        READS_LOGGED_ONE_IN.store(one_in, Ordering::Relaxed);
    }
    tracing_subscriber::registry().with(filter).with(format).init();
}

static READS_LOGGED_ONE_IN: AtomicU64 = AtomicU64::new(READS_LOGGED_ONE_IN_DEFAULT);

/// One in this many reads has a log line; 0 means none.
pub fn reads_logged_one_in() -> u64 {
    READS_LOGGED_ONE_IN.load(Ordering::Relaxed)
}

/// Parses [`ENV_LOG_READS`], or says what is wrong with it.
pub fn reads_one_in(text: &str) -> Result<u64, String> {
    match text.trim() {
        "" => Ok(READS_LOGGED_ONE_IN_DEFAULT),
        text => text.parse().map_err(|_| format!("{text} is not a whole number")),
    }
}

/// The fields of a span as JSON. The library's own take the text apart and put it together anew for every field that
/// is known only later, as some are in every request.
struct SpanFields(JsonFields);

impl<'writer> FormatFields<'writer> for SpanFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> std::fmt::Result {
        self.0.format_fields(writer, fields)
    }

    fn add_fields(&self, known: &'writer mut FormattedFields<Self>, fields: &Record<'_>) -> std::fmt::Result {
        let mut later = String::new();
        self.0.format_fields(Writer::new(&mut later), fields)?;
        append(&mut known.fields, &later);
        Ok(())
    }
}

/// Puts the members of one JSON object behind those of another. Of two with one name, readers take the last.
fn append(object: &mut String, more: &str) {
    if object.len() <= EMPTY_OBJECT.len() {
        more.clone_into(object);
    } else if more.len() > EMPTY_OBJECT.len() {
        object.pop();
        object.push(',');
        object.push_str(&more[1..]);
    }
}

const EMPTY_OBJECT: &str = "{}";

/// Says something that may come a thousand times a second at most once a second.
pub struct Seldom {
    /// Milliseconds of the process, at which it was said last.
    said_ms: AtomicU64,
    unsaid: AtomicU64,
}

impl Seldom {
    /// Nothing was said yet.
    pub const fn new() -> Self {
        Self { said_ms: AtomicU64::new(0), unsaid: AtomicU64::new(0) }
    }

    /// Whether it is to be said now, and how often it was not said since the last time.
    pub fn say(&self) -> Option<u64> {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        // The first moment is not 0, which means never.
        let now_ms = u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let said_ms = self.said_ms.load(Ordering::Relaxed);
        let is_due = said_ms == 0 || now_ms.saturating_sub(said_ms) >= SELDOM_MS;
        if is_due
            && self.said_ms.compare_exchange(said_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            Some(self.unsaid.swap(0, Ordering::Relaxed))
        } else {
            self.unsaid.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

impl Default for Seldom {
    fn default() -> Self {
        Self::new()
    }
}

/// The recorder of this process. Several edges in one process share it; their regions tell them apart.
pub fn prometheus() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".to_owned()), &BUCKETS_SECONDS)
            .and_then(|builder| {
                builder.set_buckets_for_metric(Matcher::Full(metric::RULES_FUEL.to_owned()), &BUCKETS_FUEL)
            })
            .expect("the buckets are not empty")
            .build_recorder();
        let handle = recorder.handle();
        // Somebody else's recorder stays; then ours shows nothing, and the edge works all the same.
        let _ = metrics::set_global_recorder(recorder);
        metric::describe();
        handle
    })
}

/// From a rules call (microseconds) to a forward at the end of its patience (seconds). From one millisecond to half a
/// second in the steps that objectives are made of.
const BUCKETS_SECONDS: [f64; 16] = [
    0.000_01, 0.000_025, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5,
    1.0, 5.0,
];
/// From an empty cart to the budget of a full one.
const BUCKETS_FUEL: [f64; 8] = [1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 1e8];

/// The metrics of the public contract.
pub mod metric {
    use std::collections::HashMap;
    use std::sync::RwLock;
    use std::time::Duration;

    use metrics::{
        Counter, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
        histogram,
    };
    use region_router::traces;

    use crate::model::Millis;
    use crate::rules::{Outcome, RulesError};

    const HTTP_REQUEST_DURATION: &str = "troli_http_request_duration_seconds";
    const CACHE_REQUESTS: &str = "troli_cache_requests_total";
    const NEAR_CACHE_HITS: &str = "troli_near_cache_hits_total";
    const FEED_LAG: &str = "troli_feed_lag_seconds";
    const REPLICATION_LAG: &str = "troli_replication_lag_seconds";
    const FORWARD_DURATION: &str = "troli_forward_duration_seconds";
    const PEER_REQUESTS: &str = "troli_peer_requests_total";
    const RULES_DURATION: &str = "troli_rules_duration_seconds";
    pub(super) const RULES_FUEL: &str = "troli_rules_fuel";
    const RULES_FAILURES: &str = "troli_rules_failures_total";
    const RULES_REVISION: &str = "troli_rules_revision_info";
    const WRITES: &str = "troli_writes_total";
    const IDEMPOTENT_REPLAYS: &str = "troli_idempotent_replays_total";
    const RATE_LIMITED: &str = "troli_rate_limited_total";
    const DB_POOL_CONNECTIONS: &str = "troli_db_pool_connections";
    const DB_SERVERS_TAKING_WRITES: &str = "troli_db_servers_taking_writes";
    const CLOCK_SKEW: &str = "troli_clock_skew_seconds";
    const SWEPT_ROWS: &str = "troli_swept_rows_total";
    const HOME_EDGES_SERVING: &str = "troli_home_edges_serving";
    const READY: &str = "troli_ready";
    const BUILD_INFO: &str = "troli_build_info";
    const HOME_UP: &str = "troli_home_up";
    const RULES_REFUSED: &str = "troli_rules_refused";
    const SPANS_EXPORTED: &str = "troli_spans_exported_total";
    const SPANS_DROPPED: &str = "troli_spans_dropped_total";
    const REGION_HEALTH: &str = "troli_region_health";

    pub(super) fn describe() {
        describe_histogram!(HTTP_REQUEST_DURATION, Unit::Seconds, "Time from request to response.");
        describe_counter!(CACHE_REQUESTS, "Look-ups in the regional cache by outcome.");
        describe_counter!(
            NEAR_CACHE_HITS,
            "Hits for which this edge did not have to ask the regional cache."
        );
        describe_gauge!(FEED_LAG, Unit::Seconds, "Age of the newest change when this region applied it.");
        describe_gauge!(REPLICATION_LAG, Unit::Seconds, "How far the region's replica is behind home.");
        describe_histogram!(FORWARD_DURATION, Unit::Seconds, "Time of a request to the home region.");
        describe_counter!(PEER_REQUESTS, "Requests of other regions, by the region that asked.");
        describe_histogram!(RULES_DURATION, Unit::Seconds, "Time of a call of the cart rules.");
        describe_histogram!(RULES_FUEL, "Fuel used by a call of the cart rules.");
        describe_counter!(RULES_FAILURES, "Calls of the cart rules that failed, by reason.");
        describe_gauge!(RULES_REVISION, "1 for the active revision of the cart rules.");
        describe_counter!(WRITES, "Writes by operation and outcome.");
        describe_counter!(IDEMPOTENT_REPLAYS, "Answers given again under an idempotency key.");
        describe_counter!(RATE_LIMITED, "Requests that were refused by a rate limit, by what was counted.");
        describe_gauge!(DB_POOL_CONNECTIONS, "Connections to the primary, in use and idle.");
        describe_gauge!(DB_SERVERS_TAKING_WRITES, "Servers that take writes, as far as this edge sees.");
        describe_gauge!(CLOCK_SKEW, Unit::Seconds, "How far this host's clock is ahead of the database's.");
        describe_counter!(SWEPT_ROWS, "Rows that were swept because their time was over, by kind.");
        describe_gauge!(HOME_EDGES_SERVING, "Edges of the home region that are connected and serve.");
        describe_gauge!(READY, "1 where this edge can do its reads or writes now, 0 where it cannot.");
        describe_gauge!(BUILD_INFO, "1, with the version of this executable.");
        describe_gauge!(
            HOME_UP,
            "1 where the home region told its news when it was last asked, 0 where not."
        );
        describe_gauge!(RULES_REFUSED, "1 where the last component was refused, and the rules before go on.");
        describe_counter!(SPANS_EXPORTED, "Spans of traces that the collector has taken.");
        describe_counter!(SPANS_DROPPED, "Spans of traces that were dropped, by reason.");
        describe_gauge!(REGION_HEALTH, "1 where a region answers its probes, 0 where it does not.");
    }

    /// Times of requests, by what they were. To find a histogram here costs a request much less than to name it anew.
    pub struct HttpRequests {
        region: String,
        known: RwLock<HashMap<String, OfRoute>>,
    }

    /// By method and status.
    type OfRoute = HashMap<(&'static str, u16), Histogram>;

    impl HttpRequests {
        /// Of an edge of this region.
        pub fn of(region: &str) -> Self {
            Self { region: region.to_owned(), known: RwLock::default() }
        }

        /// A request was answered.
        pub fn record(&self, route: &str, method: &'static str, status: u16, time: Duration) {
            let time_s = time.as_secs_f64();
            {
                let known = self.known.read().expect("no holder of the lock can panic");
                if let Some(histogram) = known.get(route).and_then(|known| known.get(&(method, status))) {
                    return histogram.record(time_s);
                }
            }
            let histogram = histogram!(
                HTTP_REQUEST_DURATION, "region" => self.region.clone(), "route" => route.to_owned(),
                "method" => method, "status" => status.to_string()
            );
            histogram.record(time_s);
            let mut known = self.known.write().expect("no holder of the lock can panic");
            known.entry(route.to_owned()).or_default().insert((method, status), histogram);
        }
    }

    /// Look-ups in the regional cache, by how they ended.
    pub struct CacheRequests {
        /// It had what was asked for.
        pub hit: Counter,
        /// Such a hit, by what this edge keeps itself.
        pub hit_near: Counter,
        /// It had nothing.
        pub miss: Counter,
        /// What it had was too old.
        pub stale: Counter,
        /// It did not answer, or could not be believed.
        pub error: Counter,
    }

    impl CacheRequests {
        /// Of an edge of this region.
        pub fn of(region: &str) -> Self {
            let counter_of =
                |outcome| counter!(CACHE_REQUESTS, "region" => region.to_owned(), "outcome" => outcome);
            Self {
                hit: counter_of("hit"),
                hit_near: counter!(NEAR_CACHE_HITS, "region" => region.to_owned()),
                miss: counter_of("miss"),
                stale: counter_of("stale"),
                error: counter_of("error"),
            }
        }
    }

    /// A change was applied so long after it was committed.
    pub fn feed_lag(region: &str, lag_ms: Millis) {
        #[expect(clippy::cast_precision_loss, reason = "a lag is far below 2^53 ms")]
        gauge!(FEED_LAG, "region" => region.to_owned()).set(lag_ms.max(0) as f64 / 1000.0);
    }

    /// How far the region's replica is behind home.
    pub fn replication_lag(region: &str, lag_ms: Millis) {
        #[expect(clippy::cast_precision_loss, reason = "a lag is far below 2^53 ms")]
        gauge!(REPLICATION_LAG, "region" => region.to_owned()).set(lag_ms.max(0) as f64 / 1000.0);
    }

    /// The home region answered, or not.
    pub fn forward(region: &str, time: Duration) {
        histogram!(FORWARD_DURATION, "region" => region.to_owned()).record(time.as_secs_f64());
    }

    /// Another region has asked.
    pub fn peer_request(region: &str, asked_by: &str) {
        let labels = [("region", region.to_owned()), ("asked_by", asked_by.to_owned())];
        counter!(PEER_REQUESTS, &labels).increment(1);
    }

    /// The rules were called.
    pub fn rules_call<T>(region: &str, outcome: &Result<Outcome<T>, RulesError>) {
        match outcome {
            Ok(outcome) => {
                #[expect(clippy::cast_precision_loss, reason = "fuel is far below 2^53")]
                histogram!(RULES_FUEL, "region" => region.to_owned()).record(outcome.fuel as f64);
                histogram!(RULES_DURATION, "region" => region.to_owned())
                    .record(outcome.duration.as_secs_f64());
            }
            Err(error) => {
                tracing::warn!(error.code = error.code(), error = %error, "cart rules failed");
                counter!(RULES_FAILURES, "region" => region.to_owned(), "reason" => error.code())
                    .increment(1);
            }
        }
    }

    /// This revision is active now, and that one is not any more.
    pub fn rules_revision(region: &str, active: &str, before: Option<&str>) {
        let gauge_of = |revision: &str| gauge!(RULES_REVISION, "region" => region.to_owned(), "revision" => revision.to_owned());
        if let Some(before) = before {
            gauge_of(before).set(0.0);
        }
        gauge_of(active).set(1.0);
    }

    /// A write ended: `ok`, `replayed`, or the code of what stood in its way.
    pub fn write(region: &str, op: &'static str, outcome: &'static str) {
        counter!(WRITES, "region" => region.to_owned(), "op" => op, "outcome" => outcome).increment(1);
    }

    /// An old answer was given again.
    pub fn idempotent_replay(region: &str) {
        counter!(IDEMPOTENT_REPLAYS, "region" => region.to_owned()).increment(1);
    }

    /// A request was refused, because its `principal` or its `address` asks for too much.
    pub fn rate_limited(region: &str, by: &'static str) {
        counter!(RATE_LIMITED, "region" => region.to_owned(), "by" => by).increment(1);
    }

    /// Connections to the primary.
    pub fn db_pool_connections(region: &str, in_use: u32, idle: u32) {
        for (state, connections) in [("in_use", in_use), ("idle", idle)] {
            gauge!(DB_POOL_CONNECTIONS, "region" => region.to_owned(), "state" => state)
                .set(f64::from(connections));
        }
    }

    /// So many servers take writes.
    pub fn db_servers_taking_writes(region: &str, servers: usize) {
        let servers = f64::from(u32::try_from(servers).unwrap_or(u32::MAX));
        gauge!(DB_SERVERS_TAKING_WRITES, "region" => region.to_owned()).set(servers);
    }

    /// So far is this host's clock ahead of the database's.
    pub fn clock_skew(region: &str, skew_ms: Millis) {
        #[expect(clippy::cast_precision_loss, reason = "a skew is far below 2^53 ms")]
        gauge!(CLOCK_SKEW, "region" => region.to_owned()).set(skew_ms as f64 / 1000.0);
    }

    /// A sweep took these.
    pub fn swept(region: &str, kinds: &[(&'static str, u64)]) {
        for (kind, rows) in kinds {
            counter!(SWEPT_ROWS, "region" => region.to_owned(), "kind" => *kind).increment(*rows);
        }
    }

    /// The number of edges of the home region that are connected and serve.
    pub fn home_edges_serving(region: &str, edges: usize) {
        let edges = f64::from(u32::try_from(edges).unwrap_or(u32::MAX));
        gauge!(HOME_EDGES_SERVING, "region" => region.to_owned()).set(edges);
    }

    /// What this edge can do now.
    pub fn ready(region: &str, can: &[(&'static str, bool)]) {
        for (what, can) in can {
            gauge!(READY, "region" => region.to_owned(), "to" => *what).set(f64::from(u8::from(*can)));
        }
    }

    /// Which version this is.
    pub fn build_info(region: &str) {
        let labels = [("region", region.to_owned()), ("version", env!("CARGO_PKG_VERSION").to_owned())];
        gauge!(BUILD_INFO, &labels).set(1.0);
    }

    /// Whether the home region can be reached.
    pub fn home_up(region: &str, up: bool) {
        gauge!(HOME_UP, "region" => region.to_owned()).set(f64::from(u8::from(up)));
    }

    /// Whether the last component of rules was refused.
    pub fn rules_refused(region: &str, refused: bool) {
        gauge!(RULES_REFUSED, "region" => region.to_owned()).set(f64::from(u8::from(refused)));
    }

    /// What became of the spans of this process.
    pub fn spans(region: &str, counts: &traces::Counts) {
        let traces::Counts { exported, dropped_full, dropped_failed, dropped_refused } = *counts;
        counter!(SPANS_EXPORTED, "region" => region.to_owned()).absolute(exported);
        for (reason, dropped) in
            [("queue_full", dropped_full), ("unreachable", dropped_failed), ("refused", dropped_refused)]
        {
            counter!(SPANS_DROPPED, "region" => region.to_owned(), "reason" => reason).absolute(dropped);
        }
    }

    /// A region answers its probes, or not.
    pub fn region_health(region: &str, of: &str, up: bool) {
        gauge!(REGION_HEALTH, "region" => region.to_owned(), "of" => of.to_owned())
            .set(f64::from(u8::from(up)));
    }
}

#[cfg(test)]
mod tests;
