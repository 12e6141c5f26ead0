//! The primary is killed under load: a group of three elects another, and home finds it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use comfy_table::Table;
use futures_util::future::{join_all, try_join_all};
use harness::{Answer, Ask, Caller, Fleet, FleetOptions, PATIENCE, Stack, unique};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{HOME, REGION, RTT};
use crate::report::{Bar, table};
use crate::say;

/// Each changes a cart of its own; half of them at each region.
const WRITERS: usize = 8;
/// Each reads a cart of its own; half of them at each region.
const READERS: usize = 4;
/// Between two requests of one client: a steady load that leaves room, because it is about the pause in it.
const THINK: Duration = Duration::from_millis(20);
/// Before a refused request is made again.
const RETRY: Duration = Duration::from_millis(100);
/// Until the primary is killed.
const BEFORE: Duration = Duration::from_secs(3);
/// After writes are back.
const AFTER: Duration = Duration::from_secs(5);
/// So many units of an item fit into a line, and so many items are enough for all that a client can write.
const UNITS: usize = 500;
const ITEMS: usize = 10;

/// What was found out.
pub(super) struct Killed {
    pub(super) bars: [Bar; 2],
    pub(super) timeline: Table,
    pub(super) document: Value,
}

/// What happened within one second.
#[derive(Clone, Debug, Default, Serialize)]
struct Second {
    writes_ok: u64,
    writes_refused: u64,
    reads_ok: u64,
    reads_failed: u64,
}

/// What the clients do together, all of them on one thread.
struct Load {
    began: Instant,
    killed: Cell<Option<Instant>>,
    /// Whether a write that was begun after the kill has been acknowledged.
    writes_are_back: Cell<bool>,
    over: Cell<bool>,
    acknowledged: RefCell<Vec<Instant>>,
    seconds: RefCell<Vec<Second>>,
    refusals: RefCell<BTreeMap<String, u64>>,
}

/// Kills the primary of a fleet of its own.
pub(super) async fn measure(began: Instant) -> Result<Killed> {
    say(began, "starting two regions on a group of three");
    let fleet = Fleet::start(FleetOptions {
        regions: vec![HOME, REGION],
        stack: Stack::Servers,
        replicas: true,
        group: true,
        rtt: RTT,
        ..FleetOptions::default()
    })
    .await;
    let mut items = Vec::new();
    for _ in 0..ITEMS {
        let item = unique("mug");
        fleet.admin().sell(&item, "10.00").await;
        items.push(item);
    }
    let (writers, readers) = (clients(&fleet, WRITERS).await, clients(&fleet, READERS).await);
    for reader in &readers {
        reader.add(&items[0], 1).await.ok();
    }

    say(began, "the primary is killed while clients write and read");
    let load = Load::new();
    let disturb = async {
        sleep(BEFORE).await;
        let primary = fleet.group().primary().await.context("the group has no primary")?;
        fleet.group().member(primary).kill();
        load.killed.set(Some(Instant::now()));
        let back = async {
            while !load.writes_are_back.get() {
                sleep(RETRY).await;
            }
        };
        timeout(2 * PATIENCE, back)
            .await
            .with_context(|| format!("writes never came back: {:?}", load.refusals.borrow()))?;
        sleep(AFTER).await;
        load.over.set(true);
        Ok(())
    };
    let writing = try_join_all(writers.iter().map(|writer| load.write(writer, &items)));
    let reading = async {
        join_all(readers.iter().map(|reader| load.read(reader))).await;
        Ok(())
    };
    let (written, (), ()) = tokio::try_join!(writing, reading, disturb)?;

    let mut lost = 0;
    for (writer, acknowledged) in writers.iter().zip(&written) {
        let count = writer.at(fleet.url(HOME)).get("/v1/cart/count").await.ok();
        lost += count["quantity"].as_u64().context("a cart has a quantity")?.abs_diff(*acknowledged);
    }
    Ok(load.result(written.iter().sum(), lost))
}

/// Guests who follow the versions of their carts, half of them at each region.
async fn clients(fleet: &Fleet, count: usize) -> Vec<Caller> {
    let mut clients = Vec::new();
    for region in [HOME, REGION].into_iter().cycle().take(count) {
        clients.push(fleet.at(region).guest("SGD").await.following());
    }
    clients
}

impl Load {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            killed: Cell::default(),
            writes_are_back: Cell::default(),
            over: Cell::default(),
            acknowledged: RefCell::default(),
            seconds: RefCell::default(),
            refusals: RefCell::default(),
        }
    }

    /// Puts in one unit after the other, each under a key of its own until it is acknowledged; how many were.
    async fn write(&self, client: &Caller, items: &[String]) -> Result<u64> {
        let mut acknowledged = 0;
        while !self.over.get() {
            let item =
                items.get(acknowledged / UNITS).context("a client wrote more than fits into its cart")?;
            let unit = client.add(item, 1);
            let tries = async { while !self.try_write(unit.clone()).await {} };
            timeout(2 * PATIENCE, tries)
                .await
                .with_context(|| format!("a write was refused for too long: {:?}", self.refusals.borrow()))?;
            acknowledged += 1;
            sleep(THINK).await;
        }
        Ok(acknowledged as u64)
    }

    /// Whether it was acknowledged.
    async fn try_write(&self, unit: Ask) -> bool {
        let asked = Instant::now();
        let refusal = match unit.send().await {
            Ok(answer) if answer.status == 200 => {
                self.acknowledged.borrow_mut().push(Instant::now());
                self.count(|second| second.writes_ok += 1);
                if self.killed.get().is_some_and(|killed| asked > killed) {
                    self.writes_are_back.set(true);
                }
                return true;
            }
            Ok(answer) => why(&answer),
            Err(error) => error.to_string(),
        };
        self.count(|second| second.writes_refused += 1);
        *self.refusals.borrow_mut().entry(refusal).or_default() += 1;
        sleep(RETRY).await;
        false
    }

    async fn read(&self, client: &Caller) {
        while !self.over.get() {
            let good = client.get("/v1/cart").send().await.is_ok_and(|answer| answer.status == 200);
            self.count(|second| if good { second.reads_ok += 1 } else { second.reads_failed += 1 });
            sleep(THINK).await;
        }
    }

    /// Counts something in the second that it is now.
    fn count(&self, add: impl FnOnce(&mut Second)) {
        let now = self.began.elapsed().as_secs() as usize;
        let mut seconds = self.seconds.borrow_mut();
        if seconds.len() <= now {
            seconds.resize_with(now + 1, Second::default);
        }
        add(&mut seconds[now]);
    }

    fn result(self, acknowledged: u64, lost: u64) -> Killed {
        let at = self.acknowledged.into_inner();
        let gap = at.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(Duration::MAX).as_secs_f64();
        let killed_at = self.killed.get().map(|killed| (killed - self.began).as_secs_f64());
        let (seconds, refusals) = (self.seconds.into_inner(), self.refusals.into_inner());
        #[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
        let lost_or_doubled = lost as f64;
        Killed {
            bars: [
                Bar::below("the primary is killed, longest without a write, s", gap, 10.0, 8.0),
                Bar::at_most(
                    "the primary is killed, acknowledged writes lost or done twice",
                    lost_or_doubled,
                    0.0,
                ),
            ],
            timeline: timeline(&seconds, killed_at),
            document: json!({
                "killed_at_s": killed_at,
                "longest_without_a_write_s": gap,
                "acknowledged_writes": acknowledged,
                "lost_or_doubled_writes": lost,
                "refusals": refusals,
                "seconds": seconds,
            }),
        }
    }
}

/// The status and the code of what is no acknowledgement.
fn why(answer: &Answer) -> String {
    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    format!("{} {}", answer.status, problem["code"].as_str().unwrap_or("without a code"))
}

fn timeline(seconds: &[Second], killed_at: Option<f64>) -> Table {
    let mut table = table(&["second", "", "writes", "refused", "reads", "failed"], 0);
    for (n, second) in seconds.iter().enumerate() {
        let killed = killed_at.is_some_and(|at| at as usize == n);
        table.add_row([
            n.to_string(),
            if killed { "killed".to_owned() } else { String::new() },
            second.writes_ok.to_string(),
            second.writes_refused.to_string(),
            second.reads_ok.to_string(),
            second.reads_failed.to_string(),
        ]);
    }
    table
}
