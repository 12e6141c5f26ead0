//! What goes wrong in a run, where and when.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Mutex;

use super::record::Nanos;
use super::shop::Shop;
use crate::{Chance, Fleet};

/// A kind of thing that goes wrong. A new one needs a name, its places, and what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The way from a region to home is gone.
    LinkCut,
    /// Nothing moves on the way from a region to home.
    LinkPaused,
    /// The way from a region to home is long.
    LinkSlow,
    /// The connections from a region to home break again and again, in the middle of whatever it is.
    LinkFlaps,
    /// An edge ends and starts again.
    EdgeRestarts,
}

/// Something that goes wrong at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// In which region.
    pub region: &'static str,
}

/// A fault of the plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    /// What goes wrong.
    pub(super) fault: Fault,
    /// When so many operations are done.
    pub(super) after: usize,
    /// For how long.
    pub(super) lasting: Duration,
}

/// A fault that was there.
#[derive(Clone, Copy, Debug)]
pub struct Suffered {
    /// What went wrong.
    pub fault: Fault,
    /// From when.
    pub began: Nanos,
    /// Until when.
    pub healed: Nanos,
}

impl Kind {
    /// All that there are.
    pub const ALL: [Self; 5] =
        [Self::LinkCut, Self::LinkPaused, Self::LinkSlow, Self::LinkFlaps, Self::EdgeRestarts];

    /// For the environment and the summary.
    pub fn name(self) -> &'static str {
        match self {
            Self::LinkCut => "link-cut",
            Self::LinkPaused => "link-paused",
            Self::LinkSlow => "link-slow",
            Self::LinkFlaps => "link-flaps",
            Self::EdgeRestarts => "edge-restarts",
        }
    }

    /// Where it can be in this fleet.
    fn regions(self, fleet: &Fleet) -> Vec<&'static str> {
        let mut regions = fleet.ids();
        match self {
            Self::LinkCut | Self::LinkPaused | Self::LinkSlow | Self::LinkFlaps => {
                regions.retain(|id| *id != fleet.home());
            }
            Self::EdgeRestarts => {}
        }
        regions
    }
}

impl Fault {
    /// Faults of the same part never overlap, or the first to heal would heal the other.
    fn part(self) -> String {
        match self.kind {
            Kind::LinkCut | Kind::LinkPaused | Kind::LinkSlow | Kind::LinkFlaps => {
                format!("link {}", self.region)
            }
            Kind::EdgeRestarts => format!("edge {}", self.region),
        }
    }

    /// Does it, waits, and heals it.
    async fn strike(self, fleet: &Fleet, lasting: Duration) {
        const LISTENS: &str = "a link listens again";
        let link = || fleet.link(self.region);
        match self.kind {
            Kind::LinkCut => {
                link().cut().await;
                tokio::time::sleep(lasting).await;
                link().restore().await.expect(LISTENS);
            }
            Kind::LinkPaused => {
                link().pause().await.expect(LISTENS);
                tokio::time::sleep(lasting).await;
                link().restore().await.expect(LISTENS);
            }
            Kind::LinkSlow => {
                link().set_rtt(Duration::from_millis(120));
                tokio::time::sleep(lasting).await;
                link().set_rtt(Duration::ZERO);
            }
            Kind::LinkFlaps => again_and_again(lasting, || link().close_connections()).await,
            Kind::EdgeRestarts => {
                fleet.stop_region(self.region).await;
                tokio::time::sleep(lasting / 4).await;
                fleet.start_region(self.region).await;
            }
        }
    }
}

/// Often enough to meet a commit on its way, seldom enough that something gets through.
async fn again_and_again(lasting: Duration, mut strike: impl FnMut()) {
    const EVERY: Duration = Duration::from_millis(7);
    let end = tokio::time::Instant::now() + lasting;
    while tokio::time::Instant::now() < end {
        strike();
        tokio::time::sleep(EVERY).await;
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.name(), self.region)
    }
}

/// The faults of a run: every kind is there, and there are as many as the operations are enough for.
pub(super) fn plan(shop: &Shop<'_>) -> Vec<Planned> {
    let mut chance = Chance::seeded(shop.options.seed ^ 0xfa17);
    let wanted = |kind: &Kind| match &shop.options.faults {
        Some(names) => names.iter().any(|name| name == kind.name()),
        None => !kind.regions(shop.fleet).is_empty(),
    };
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(wanted).collect();
    if kinds.is_empty() {
        return Vec::new();
    }
    let operations = shop.options.operations;
    let count = (operations / shop.options.operations_per_fault).max(kinds.len());
    let first = chance.below(kinds.len());
    let planned = (0..count).map(|n| {
        let kind = kinds[(first + n) % kinds.len()];
        let fault = Fault { kind, region: chance.pick(&kind.regions(shop.fleet)) };
        let step = operations / (count + 1);
        let after = step * (n + 1) + chance.below(step.max(1));
        // Now and then longer than anybody waits.
        let most = if chance.once_in(6) { 3_600 } else { 1_200 };
        let lasting = u64::try_from(50 + chance.below(most)).expect("it is small");
        Planned { fault, after, lasting: Duration::from_millis(lasting) }
    });
    planned.collect()
}

/// Lets the faults of a plan come true, each in its time; returns when all are healed.
pub(super) async fn strike(shop: &Shop<'_>, plan: &[Planned]) -> Vec<Suffered> {
    let parts: BTreeMap<String, Mutex<()>> =
        plan.iter().map(|planned| (planned.fault.part(), Mutex::default())).collect();
    let mut suffered = join_all(plan.iter().map(async |planned| {
        let mut done = shop.done.subscribe();
        done.wait_for(|done| *done >= planned.after).await.expect("the shop is there until the end");
        let _alone = parts[&planned.fault.part()].lock().await;
        let began = shop.now();
        planned.fault.strike(shop.fleet, planned.lasting).await;
        Suffered { fault: planned.fault, began, healed: shop.now() }
    }))
    .await;
    suffered.sort_by_key(|fault| fault.began);
    suffered
}
