//! Random work while things go wrong: what the clients were told has to be true, all of it, at once.

use std::io::Write as _;

use harness::history::{Options, run};
use harness::{Fleet, FleetOptions, Stack};

/// A hand-made history for each way in which the checker must say no.
mod checker;

/// Enough that every kind of fault is there, and not so many that anybody waits for it.
const OPERATIONS: usize = 4_000;

/// Runs it, says what was done, and fails when a promise was broken.
async fn history(stack: Stack, operations: usize) {
    let options = Options::from_environment(operations);
    let regions = options.regions.clone();
    let replicas = stack == Stack::Servers;
    let standby = regions.iter().copied().find(|id| *id != "sin").filter(|_| replicas);
    let wanted =
        FleetOptions { regions, stack, replicas, standby, front_door: true, ..FleetOptions::default() };
    let fleet = Fleet::start(wanted).await;
    let report = run(&fleet, options).await;
    // Past the test's own output, which nobody sees of a test that passes.
    writeln!(std::io::stderr(), "{report}").expect("stderr can be written to");
    report.assert_nothing_is_broken();
}

#[tokio::test]
async fn history_embedded() {
    history(Stack::Embedded, OPERATIONS).await;
}

#[tokio::test]
async fn history_servers() {
    history(Stack::Servers, OPERATIONS).await;
}
