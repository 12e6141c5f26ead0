//! What it says in the end: tables for people, JSON for everything else.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::mysql::MySqlPool;

use crate::benches::Measurement;
use crate::options::Options;
use crate::pace::Pace;
use crate::regions::Regions;

/// How long something took, milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50_ms: f64,
    p95_ms: f64,
    pub(crate) p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
}

impl Latency {
    /// Of a histogram of nanoseconds; `None` of an empty one.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        #[expect(clippy::cast_precision_loss, reason = "latencies are far below 2^53 ns")]
        let ms = |nanoseconds: u64| nanoseconds as f64 / 1e6;
        let at = |quantile| ms(histogram.value_at_quantile(quantile));
        (!histogram.is_empty()).then(|| Self {
            p50_ms: at(0.5),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: ms(histogram.max()),
        })
    }
}

/// Something to reach.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Bar {
    what: &'static str,
    measured: f64,
    bar: f64,
    aim: f64,
    /// Whether the bar was reached.
    pub(crate) met: bool,
    aim_met: bool,
}

impl Bar {
    /// More is better.
    pub(crate) fn at_least(what: &'static str, measured: f64, bar: f64, aim: f64) -> Self {
        Self { what, measured, bar, aim, met: measured >= bar, aim_met: measured >= aim }
    }

    /// Less is better.
    pub(crate) fn below(what: &'static str, measured: f64, bar: f64, aim: f64) -> Self {
        Self { what, measured, bar, aim, met: measured < bar, aim_met: measured < aim }
    }

    /// What must not be more than so much, such as nothing at all.
    pub(crate) fn at_most(what: &'static str, measured: f64, bar: f64) -> Self {
        let met = measured <= bar;
        Self { what, measured, bar, aim: bar, met, aim_met: met }
    }

    fn verdict(&self) -> &'static str {
        match (self.met, self.aim_met) {
            (_, true) => "aim",
            (true, false) => "bar",
            (false, false) => "missed",
        }
    }
}

/// All that was found out in one run.
#[derive(Debug, Default)]
pub(crate) struct Everything {
    /// How evenly the machine ran before that.
    pub(crate) pace: Pace,
    /// On what it was measured.
    pub(crate) machine: Value,
    /// Under load, in one region.
    pub(crate) done: Vec<Measurement>,
    pub(crate) bars: Vec<Bar>,
    /// Of several regions.
    pub(crate) regions: Option<Regions>,
}

/// The tables.
pub(crate) fn tables(measured: &Everything) -> String {
    let Everything { done, bars, regions, .. } = measured;
    let mut sections = Vec::new();
    if !done.is_empty() {
        sections.push(("Requests", requests(done)));
        sections.push(("Processors kept busy, and resident MB", costs(done)));
    }
    sections.extend(
        regions.iter().map(|regions| ("The primary is killed, second by second", regions.timeline.clone())),
    );
    sections.push(("Bars", verdicts(bars)));
    let section = |(title, table): (&str, Table)| format!("\n{title}\n{table}\n");
    sections.into_iter().map(section).collect()
}

fn requests(done: &[Measurement]) -> Table {
    let header = [
        "bench",
        "of",
        "load",
        "answers/s",
        "p50 ms",
        "p95",
        "p99",
        "p99.9",
        "max",
        "hits",
        "near",
        "failed",
    ];
    let mut table = table(&header, 3);
    for measured in done {
        let load =
            measured.offered_per_s.map_or_else(|| measured.load.to_owned(), |per_s| format!("{per_s}/s"));
        let kinds = [
            ("", measured.all.as_ref()),
            (" read", measured.reads.as_ref()),
            (" write", measured.writes.as_ref()),
        ];
        // Kinds are told apart where there are two.
        let shown = if measured.reads.is_some() && measured.writes.is_some() { 3 } else { 1 };
        for (kind, latency) in kinds.into_iter().take(shown) {
            let ms = |of: fn(&Latency) -> f64| {
                latency.map_or_else(String::new, |latency| format!("{:.2}", of(latency)))
            };
            let once = |text: String| if kind.is_empty() { text } else { String::new() };
            let part = |of: Option<f64>| of.map_or_else(String::new, |of| format!("{:.2} %", of * 100.0));
            table.add_row([
                format!("{}{kind}", measured.bench),
                measured.side.to_owned(),
                load.clone(),
                once(format!("{:.0}", measured.per_s)),
                ms(|latency| latency.p50_ms),
                ms(|latency| latency.p95_ms),
                ms(|latency| latency.p99_ms),
                ms(|latency| latency.p999_ms),
                ms(|latency| latency.max_ms),
                once(part(measured.hit_rate)),
                once(part(measured.near_hit_rate)),
                once(measured.failed.to_string()),
            ]);
        }
    }
    table
}

fn costs(done: &[Measurement]) -> Table {
    let names: Vec<&str> = done
        .first()
        .map(|first| first.processes.iter().map(|usage| usage.process).collect())
        .unwrap_or_default();
    let mut header = vec!["bench", "of", "load"];
    header.extend(names);
    let mut table = table(&header, 3);
    for measured in done {
        let mut row = vec![measured.bench.to_owned(), measured.side.to_owned(), measured.load.to_owned()];
        for usage in &measured.processes {
            let megabytes = usage.resident_bytes / 1_000_000;
            let memory = if megabytes == 0 { String::new() } else { format!(", {megabytes}") };
            row.push(format!("{:.2}{memory}", usage.cpus));
        }
        table.add_row(row);
    }
    table
}

fn verdicts(bars: &[Bar]) -> Table {
    let mut table = table(&["what", "measured", "bar", "aim", "reached"], 1);
    for bar in bars {
        let number =
            |number: f64| if number >= 1000.0 { format!("{number:.0}") } else { format!("{number:.2}") };
        table.add_row([
            bar.what.to_owned(),
            number(bar.measured),
            number(bar.bar),
            number(bar.aim),
            bar.verdict().to_owned(),
        ]);
    }
    table
}

/// A table whose first columns are words, and the others numbers.
pub(crate) fn table(header: &[&str], words: usize) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header.to_vec());
    for column in table.column_iter_mut().skip(words) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Writes the JSON.
pub(crate) fn write(options: &Options, measured: &Everything) -> Result<()> {
    let Everything { pace, machine, done, bars, regions } = measured;
    let document = json!({
        "machine": machine,
        "pace": pace,
        "settings": {
            "carts": options.carts,
            "lines": crate::carts::LINES,
            "skew": options.skew,
            "rate_per_s": options.rate,
            "seconds": options.seconds,
            "rounds": options.rounds,
            "connections": options.connections,
        },
        "bars": bars,
        "measurements": done,
        "regions": regions.as_ref().map(|regions| &regions.document),
    });
    let text = serde_json::to_string_pretty(&document)? + "\n";
    fs::write(&options.output, text)
        .with_context(|| format!("{} cannot be written", options.output.display()))
}

/// On what it was measured.
pub(crate) async fn machine(mysql_url: &str, redis_url: &str) -> Result<Value> {
    let pool = MySqlPool::connect(mysql_url).await?;
    let mysql: String = sqlx::query_scalar("SELECT VERSION()").fetch_one(&pool).await?;
    pool.close().await;
    let client = redis::Client::open(redis_url)?;
    let mut redis = client.get_multiplexed_async_connection().await?;
    let info: String = redis::cmd("INFO").arg("server").query_async(&mut redis).await?;
    let of_file = |path: &str, name: &str| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let line =
            text.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned)).unwrap_or_default();
        line.trim_start_matches([':', ' ', '\t']).to_owned()
    };
    Ok(json!({
        "processors": std::thread::available_parallelism()?.get(),
        "processor": of_file("/proc/cpuinfo", "model name").trim_start_matches([':', ' ', '\t']),
        "memory": of_file("/proc/meminfo", "MemTotal"),
        "kernel": of_file("/proc/sys/kernel/osrelease", ""),
        "mysql": mysql,
        "redis": info.lines().find_map(|line| line.strip_prefix("redis_version:")).map(str::trim),
        "commit": said_by(Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"])),
        "at": said_by(Command::new("date").arg("--iso-8601=seconds")),
    }))
}

/// What a command says, if it is there.
fn said_by(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
