//! The three benchmarks of one region.

use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::bare::{self, BareWriters};
use crate::carts::{BareReaders, Carts, Shoppers};
use crate::load::{self, Caller, Outcome};
use crate::options::Options;
use crate::report::{Bar, Latency};
use crate::stack::{self, Stack};
use crate::usage::{Meter, Usage};

/// Before anything is measured for the first time.
const WARM_UP: Duration = Duration::from_secs(3);
/// Before each turn.
const SETTLE: Duration = Duration::from_millis(500);
/// Open load has more connections than it needs, so that none has to wait for one.
const OPEN_CONNECTIONS: usize = 256;
/// Open load without a rate of its own is this part of what there can be: busy, and not overrun.
const OPEN_SHARE: f64 = 0.5;
/// In the mix.
const MIX_WRITES: f64 = 0.01;
/// Writes a second of a calm hour and of a busy one, at which it counts how long one takes.
const WRITE_RATES: [(u32, &str, f64); 2] = [
    (200, "a durable write at 200/s, p50 against the bare transaction's", 2.0),
    (1000, "a durable write at 1000/s, p50 against the bare transaction's", 3.0),
];
/// A rate is kept up if this part of it is answered in time.
const KEPT_UP: f64 = 0.99;

/// The service, in reports.
pub(crate) const TROLI: &str = "troli";
/// What it is measured against.
pub(crate) const BARE: &str = "bare";

/// Everything that was measured in one go.
#[derive(Debug, Serialize)]
pub(crate) struct Measurement {
    /// `reads`, `mix` or `writes`.
    pub(crate) bench: &'static str,
    /// Who was asked.
    pub(crate) side: &'static str,
    /// `closed`, or `open` with what was offered.
    pub(crate) load: &'static str,
    /// Requests a second that were offered, by open load.
    pub(crate) offered_per_s: Option<u32>,
    /// Good answers a second.
    pub(crate) per_s: f64,
    /// How long reads took; by open load, from when they should have begun.
    pub(crate) reads: Option<Latency>,
    /// How long writes took.
    pub(crate) writes: Option<Latency>,
    /// How long all of them took.
    pub(crate) all: Option<Latency>,
    /// Of the look-ups in the cache.
    pub(crate) hit_rate: Option<f64>,
    /// Of the look-ups in the cache, those for which the edge had not to ask Redis.
    pub(crate) near_hit_rate: Option<f64>,
    /// Requests without a good answer.
    pub(crate) failed: u64,
    /// The same by why.
    pub(crate) failures: std::collections::BTreeMap<String, u64>,
    /// What each process cost.
    pub(crate) processes: Vec<Usage>,
}

/// What they have in common.
pub(crate) struct Benches<'a> {
    pub(crate) options: &'a Options,
    pub(crate) stack: &'a Stack,
    pub(crate) carts: &'a Carts,
    pub(crate) done: Vec<Measurement>,
    pub(crate) bars: Vec<Bar>,
}

impl Benches<'_> {
    /// Cached reads.
    pub(crate) async fn reads(&mut self) -> Result<()> {
        let (carts, edge, address) = (self.carts, self.stack.edge, self.stack.bare);
        let ratio = self
            .pair(
                "reads",
                |count| shoppers(carts, edge, 0.0, count),
                |count| (0..count).map(|_| BareReaders::new(carts, address)).collect(),
            )
            .await?;
        self.bars.push(Bar::at_least("cached reads against the bare handler", ratio, 0.6, 0.9));
        Ok(())
    }

    /// 99 reads for 1 write. How long the bare handler takes at the same rate, for reads alone, says what the machine
    /// has to do with it.
    pub(crate) async fn mix(&mut self) -> Result<()> {
        let time = self.options.time() * 2;
        let mut callers = shoppers(self.carts, self.stack.edge, MIX_WRITES, self.options.connections);
        load::closed(&mut callers, WARM_UP).await;
        let most = self.closed("mix", TROLI, &mut callers, time).await?;
        drop(callers);
        let mut callers = shoppers(self.carts, self.stack.edge, MIX_WRITES, OPEN_CONNECTIONS);
        if most < f64::from(self.options.rate) {
            // Then what is offered below says only that it is too much.
            self.open("mix", TROLI, &mut callers, part_of(most), time).await?;
        }
        let mut bare: Vec<_> =
            (0..OPEN_CONNECTIONS).map(|_| BareReaders::new(self.carts, self.stack.bare)).collect();
        load::open(&mut bare, self.options.rate, SETTLE).await;
        self.open("mix", BARE, &mut bare, self.options.rate, time).await?;
        drop(bare);
        load::open(&mut callers, self.options.rate, SETTLE).await;
        self.open("mix", TROLI, &mut callers, self.options.rate, time * 2).await?;
        let steady = self.done.last().context("it was measured")?;
        let p99_ms = steady.all.as_ref().map_or(f64::INFINITY, |all| all.p99_ms);
        let (kept_up, hits) =
            (steady.per_s / f64::from(self.options.rate), steady.hit_rate.unwrap_or_default());
        self.bars.extend([
            Bar::at_least("mix, most requests/s", most, 20_000.0, 50_000.0),
            Bar::at_least("mix, part of the offered rate that was answered", kept_up, KEPT_UP, KEPT_UP),
            Bar::at_least("mix at the offered rate, cache hits", hits, 0.95, 0.95),
            Bar::below("mix at the offered rate, p99 ms", p99_ms, 20.0, 10.0),
        ]);
        Ok(())
    }

    /// Durable writes.
    pub(crate) async fn writes(&mut self) -> Result<()> {
        let pool = bare::fill_mysql(&self.stack.mysql_url, self.carts).await?;
        let (carts, edge) = (self.carts, self.stack.edge);
        let ratio = self
            .pair(
                "writes",
                |count| shoppers(carts, edge, 1.0, count),
                |count| (0..count).map(|_| BareWriters::new(carts, pool.clone())).collect(),
            )
            .await?;
        self.bars.push(Bar::at_least("durable writes against the bare transaction", ratio, 0.8, 0.85));
        let mut theirs: Vec<_> =
            (0..OPEN_CONNECTIONS).map(|_| BareWriters::new(carts, pool.clone())).collect();
        let mut ours = shoppers(carts, edge, 1.0, OPEN_CONNECTIONS);
        for (rate, what, bar) in WRITE_RATES {
            let mut ratios = Vec::new();
            for _ in 0..self.options.rounds {
                let bare = self.write_p50("writes", BARE, &mut theirs, rate).await?;
                let troli = self.write_p50("writes", TROLI, &mut ours, rate).await?;
                ratios.push(troli / bare);
            }
            self.bars.push(Bar::at_most(what, median(&mut ratios), bar));
        }
        Ok(())
    }

    /// The median of how long a write takes at a rate, in milliseconds.
    async fn write_p50<C: Caller>(
        &mut self,
        bench: &'static str,
        side: &'static str,
        callers: &mut [C],
        rate: u32,
    ) -> Result<f64> {
        load::open(callers, rate, SETTLE).await;
        self.open(bench, side, callers, rate, self.options.time()).await?;
        let measured = self.done.last().context("it was measured")?;
        Ok(measured.writes.as_ref().context("there were writes")?.p50_ms)
    }

    /// Service and baseline in turns, as fast as they can; then each by the same timetable. Returns the median of
    /// the ratios of neighbours.
    async fn pair<S: Caller, B: Caller>(
        &mut self,
        bench: &'static str,
        service: impl Fn(usize) -> Vec<S>,
        baseline: impl Fn(usize) -> Vec<B>,
    ) -> Result<f64> {
        let time = self.options.time();
        let (mut ours, mut theirs) = (service(self.options.connections), baseline(self.options.connections));
        load::closed(&mut theirs, WARM_UP).await;
        load::closed(&mut ours, WARM_UP).await;
        let (mut ratios, mut slowest) = (Vec::new(), f64::INFINITY);
        for _ in 0..self.options.rounds {
            load::closed(&mut theirs, SETTLE).await;
            let bare = self.closed(bench, BARE, &mut theirs, time).await?;
            load::closed(&mut ours, SETTLE).await;
            let troli = self.closed(bench, TROLI, &mut ours, time).await?;
            ratios.push(troli / bare);
            slowest = slowest.min(bare).min(troli);
        }
        drop((ours, theirs));
        let rate = part_of(slowest);
        let mut theirs = baseline(OPEN_CONNECTIONS);
        load::open(&mut theirs, rate, SETTLE).await;
        self.open(bench, BARE, &mut theirs, rate, time).await?;
        drop(theirs);
        let mut ours = service(OPEN_CONNECTIONS);
        load::open(&mut ours, rate, SETTLE).await;
        self.open(bench, TROLI, &mut ours, rate, time).await?;
        Ok(median(&mut ratios))
    }

    async fn closed<C: Caller>(
        &mut self,
        bench: &'static str,
        side: &'static str,
        callers: &mut [C],
        time: Duration,
    ) -> Result<f64> {
        let load = load::closed(callers, time);
        let mut measured = self.measure(bench, side, load).await?;
        // A server that stalls is asked less often by this kind of load, so it says nothing about waiting.
        (measured.reads, measured.writes, measured.all) = (None, None, None);
        let per_s = measured.per_s;
        self.done.push(measured);
        Ok(per_s)
    }

    async fn open<C: Caller>(
        &mut self,
        bench: &'static str,
        side: &'static str,
        callers: &mut [C],
        per_s: u32,
        time: Duration,
    ) -> Result<()> {
        let load = load::open(callers, per_s, time);
        let measured = self.measure(bench, side, load).await?;
        self.done.push(Measurement { load: "open", offered_per_s: Some(per_s), ..measured });
        Ok(())
    }

    async fn measure(
        &self,
        bench: &'static str,
        side: &'static str,
        load: impl Future<Output = Outcome>,
    ) -> Result<Measurement> {
        let mut watched = self.stack.processes();
        watched.push(("load", std::process::id()));
        let before = Lookups::read(self.stack).await?;
        let meter = Meter::start(watched)?;
        let outcome = load.await;
        let processes = meter.stop()?;
        let after = Lookups::read(self.stack).await?;
        let lookups = after.since(&before);
        let mut all = outcome.reads.clone();
        all.add(&outcome.writes)?;
        Ok(Measurement {
            bench,
            side,
            load: "closed",
            offered_per_s: None,
            per_s: outcome.per_s(),
            reads: Latency::of(&outcome.reads),
            writes: Latency::of(&outcome.writes),
            all: Latency::of(&all),
            hit_rate: if side == TROLI { lookups.rate_of(lookups.hits) } else { None },
            near_hit_rate: if side == TROLI { lookups.rate_of(lookups.near) } else { None },
            failed: outcome.failed(),
            failures: outcome.failures,
            processes,
        })
    }
}

fn shoppers(carts: &Carts, edge: std::net::SocketAddr, writes: f64, count: usize) -> Vec<Shoppers<'_>> {
    (0..count).map(|_| Shoppers::new(carts, edge, writes)).collect()
}

/// What open load offers to somebody who can do so much.
fn part_of(most_per_s: f64) -> u32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate of one machine")]
    let rate = (most_per_s * OPEN_SHARE) as u32;
    rate.max(1)
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len() % 2 == 1 { numbers[middle] } else { (numbers[middle - 1] + numbers[middle]) / 2.0 }
}

/// What the edge has counted of its cache.
#[derive(Default)]
struct Lookups {
    hits: f64,
    near: f64,
    all: f64,
}

impl Lookups {
    async fn read(stack: &Stack) -> Result<Self> {
        let mut lookups = Self::default();
        for line in stack::get(stack.internal, "/metrics").await?.lines() {
            let Some((metric, count)) = line.rsplit_once(' ') else { continue };
            let count = || count.parse::<f64>().with_context(|| format!("{line} has no value"));
            if metric.starts_with("troli_near_cache_hits_total{") {
                lookups.near += count()?;
            } else if metric.starts_with("troli_cache_requests_total{") {
                lookups.all += count()?;
                if metric.contains("outcome=\"hit\"") {
                    lookups.hits += count()?;
                }
            }
        }
        Ok(lookups)
    }

    fn since(&self, before: &Self) -> Self {
        Self { hits: self.hits - before.hits, near: self.near - before.near, all: self.all - before.all }
    }

    fn rate_of(&self, some: f64) -> Option<f64> {
        (self.all > 0.0).then(|| some / self.all)
    }
}
