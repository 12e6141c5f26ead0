//! The load benchmark. `tests/bench/run` builds it and what it measures; README.md says how to read it.

#![expect(clippy::print_stdout, reason = "its tables are what it is for")]

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::benches::Benches;
use crate::carts::Carts;
use crate::options::{Bench, Options};
use crate::pace::Pace;
use crate::report::Everything;
use crate::stack::Stack;

mod options;

mod bare;
mod benches;
mod carts;
mod load;
mod pace;
mod regions;
mod report;
mod stack;
mod usage;
mod wire;

/// Wrong usage (BSD `sysexits.h`, `EX_USAGE`).
const EXIT_USAGE: u8 = 64;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let finished = if arguments.next().as_deref() == Some("bare") {
        serve_bare(arguments.next()).map(|()| true)
    } else {
        let options = match Options::try_parse() {
            Ok(options) => options,
            Err(error) => {
                let _ = error.print();
                return if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
            }
        };
        measure(&options)
    };
    match finished {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("tests/bench/run: {failure:#}");
            ExitCode::FAILURE
        }
    }
}

/// The bare handler is a process of its own, with as many threads as the service.
fn serve_bare(listen: Option<String>) -> Result<()> {
    let listen: SocketAddr = listen.context("where to listen")?.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(bare::serve(listen))
}

/// Measures everything; whether that is good enough.
fn measure(options: &Options) -> Result<bool> {
    // One thread puts the load on, so that it takes at most one processor from what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            measured = measure_all(options) => measured,
            _ = terminate.recv() => anyhow::bail!("stopped"),
            _ = interrupt.recv() => anyhow::bail!("stopped"),
        }
    })
}

async fn measure_all(options: &Options) -> Result<bool> {
    let began = Instant::now();
    let pace = Pace::look()?;
    say(began, &pace.to_string());
    let mut measured = Everything { pace, ..Everything::default() };
    if options.only.iter().any(|bench| *bench != Bench::Regions) {
        measure_one_region(options, began, &mut measured).await?;
    }
    if options.wants(Bench::Regions) {
        let regions = regions::measure(began).await?;
        measured.bars.extend_from_slice(&regions.bars);
        if measured.machine.is_null() {
            measured.machine = regions.machine.clone();
        }
        measured.regions = Some(regions);
    }
    say(began, "done");
    print!("{}", report::tables(&measured));
    report::write(options, &measured)?;
    let Everything { done, bars, .. } = measured;
    for failure in done.iter().flat_map(|measured| &measured.failures) {
        println!("failed: {} × {}", failure.1, failure.0);
    }
    Ok(!options.strict
        || (bars.iter().all(|bar| bar.met) && done.iter().all(|measured| measured.failed == 0)))
}

/// Under load; when it is over, so is everything that was started for it.
async fn measure_one_region(options: &Options, began: Instant, measured: &mut Everything) -> Result<()> {
    say(began, "starting MySQL, Redis, the edge and the bare handler");
    let stack = Stack::start(options).await?;
    let processes: Vec<String> = stack.processes().iter().map(|(name, id)| format!("{name} {id}")).collect();
    say(began, &format!("processes: {}", processes.join(", ")));
    say(began, &format!("filling {} carts, as far as they are not full from the last run", options.carts));
    let mut carts = Carts::new(options)?;
    let filled = carts.prepare(stack.edge).await?;
    say(began, &format!("{filled} had to be filled"));
    bare::fill_redis(&stack.bare_redis_url, &carts).await?;
    measured.machine = report::machine(&stack.mysql_url, &stack.bare_redis_url).await?;
    let mut benches = Benches { options, stack: &stack, carts: &carts, done: Vec::new(), bars: Vec::new() };
    if options.wants(Bench::Reads) {
        say(began, "cached reads, against a bare axum handler with HGETALL");
        benches.reads().await?;
    }
    if options.wants(Bench::Mix) {
        say(began, "the mix of 99 reads and 1 write");
        benches.mix().await?;
    }
    if options.wants(Bench::Writes) {
        say(began, "durable writes, against a bare transaction of two statements");
        benches.writes().await?;
    }
    (measured.done, measured.bars) = (benches.done, benches.bars);
    Ok(())
}

/// Says what is going on, and since when.
fn say(began: Instant, what: &str) {
    let seconds = began.elapsed().as_secs();
    if std::io::stderr().is_terminal() {
        eprintln!("\x1b[2m{seconds:>4} s\x1b[0m  {what}");
    } else {
        eprintln!("{seconds:>4} s  {what}");
    }
}
