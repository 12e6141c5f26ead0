//! What each process has cost, as the kernel counts it.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

/// What a process has cost in a while.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Usage {
    /// Its name.
    pub(crate) process: &'static str,
    /// Processors it kept busy, user and system.
    pub(crate) cpus: f64,
    /// Memory it had in the end, bytes.
    pub(crate) resident_bytes: u64,
}

/// A moment to measure from.
pub(crate) struct Meter {
    watched: Vec<(&'static str, u32)>,
    ticks: Vec<u64>,
    others_ticks: u64,
    idle_ticks: u64,
}

/// In this place of the list is everything else that ran, on the whole machine.
pub(crate) const OTHERS: &str = "everything else";

impl Meter {
    /// Begins to measure these processes.
    pub(crate) fn start(watched: Vec<(&'static str, u32)>) -> Result<Self> {
        let ticks = watched.iter().map(|(_, id)| ticks_of(*id)).collect::<Result<Vec<_>>>()?;
        let (others_ticks, idle_ticks) = machine_ticks()?;
        Ok(Self { watched, ticks, others_ticks, idle_ticks })
    }

    /// What they have cost since, and what everything else on the machine has.
    pub(crate) fn stop(self) -> Result<Vec<Usage>> {
        let (busy, idle) = machine_ticks()?;
        let busy = busy - self.others_ticks;
        // All processors together count this many ticks in the time that has passed.
        let all = busy + (idle - self.idle_ticks);
        let processors = std::thread::available_parallelism()?.get();
        #[expect(clippy::cast_precision_loss, reason = "ticks of a benchmark are few")]
        let cpus = |ticks: u64| ticks as f64 / all.max(1) as f64 * processors as f64;
        let mut usages = Vec::new();
        let mut ours = 0;
        for ((process, id), before) in self.watched.into_iter().zip(self.ticks) {
            let ticks = ticks_of(id)? - before;
            ours += ticks;
            usages.push(Usage { process, cpus: cpus(ticks), resident_bytes: resident_bytes(id)? });
        }
        usages.push(Usage { process: OTHERS, cpus: cpus(busy.saturating_sub(ours)), resident_bytes: 0 });
        Ok(usages)
    }
}

/// User and system time of a process (proc_pid_stat(5)).
fn ticks_of(id: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name of the program, in brackets, may have anything in it.
    let (_, fields) = stat.rsplit_once(')').context("a process has a name")?;
    // utime and stime are fields 14 and 15; what is left begins with field 3.
    Ok(fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum())
}

fn resident_bytes(id: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has memory")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

/// Busy and idle time of all processors.
fn machine_ticks() -> Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("the kernel counts")?;
    // user nice system idle iowait irq softirq steal; what comes after is in user already.
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).take(8).map(str::parse).collect::<Result<_, _>>()?;
    let idle = ticks.iter().skip(3).take(2).sum();
    Ok((ticks.iter().sum::<u64>() - idle, idle))
}
