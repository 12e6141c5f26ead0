//! What can be asked for.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

/// The load benchmark.
///
/// Starts one region on a MySQL and a Redis of its own, fills carts, and puts load on it from this machine; then several
/// regions with the network between them, and takes things away. Prints tables, and writes the same as JSON.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "tests/bench/run",
    after_help = "Exit status: 0 when everything was measured, 1 when something failed or, with --strict, a bar was \
                  missed, 64 for wrong usage."
)]
pub(crate) struct Options {
    /// Only some of it
    #[arg(long, value_enum, value_delimiter = ',', default_value = "reads,mix,writes,regions")]
    pub(crate) only: Vec<Bench>,
    /// Carts of five lines; they are kept for the next run
    #[arg(long, default_value_t = 50_000, value_parser = positive)]
    pub(crate) carts: usize,
    /// Exponent of the Zipf distribution by which carts are asked for; 0 for all alike
    #[arg(long, default_value_t = 0.99)]
    pub(crate) skew: f64,
    /// Requests a second that the mix is offered
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,
    /// Of every measurement
    #[arg(long, default_value_t = 5, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: u64,
    /// Service and baseline take turns this often, and the medians count
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = positive)]
    pub(crate) rounds: usize,
    /// Connections that ask at the same time when it is about how much there can be
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = positive)]
    pub(crate) connections: usize,
    /// Fail when a bar is missed
    #[arg(long)]
    pub(crate) strict: bool,
    /// Where carts, logs and the like are kept
    #[arg(long, default_value = ".local/bench", value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// Where the JSON goes
    #[arg(long, default_value = ".local/bench.json", value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// The executable
    #[arg(long, default_value = "target/release/edge-host", value_name = "FILE", hide = true)]
    pub(crate) edge_host: PathBuf,
    /// The component with the cart rules
    #[arg(long, default_value = ".local/bench/standard.wasm", value_name = "FILE", hide = true)]
    pub(crate) rules: PathBuf,
}

impl Options {
    /// Of every measurement.
    pub(crate) fn time(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// Whether this is to be measured.
    pub(crate) fn wants(&self, bench: Bench) -> bool {
        self.only.contains(&bench)
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Bench {
    /// Cached reads, against a bare axum handler with HGETALL
    Reads,
    /// 99 reads for 1 write
    Mix,
    /// Durable writes, against a bare transaction of two statements
    Writes,
    /// Several regions: what distance costs, and how long it takes until all is well after a failure
    Regions,
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "a whole number above 0".to_owned())
}
