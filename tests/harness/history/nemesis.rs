//! What goes wrong in a run, where and when.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures_util::future::join_all;
use region_router::link::Link;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::record::Nanos;
use super::shop::Shop;
use crate::{Chance, Fleet, RedisServer, Stack};

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
    /// An edge starts again with a clock that is a month ahead or behind, and later with the right one.
    ClockMonthOff,
    /// The same with a quarter of an hour.
    ClockQuarterOff,
    /// A replica becomes the primary as an operator plans it, the old primary comes back, and becomes it again.
    PrimaryMoved,
    /// The primary ends as by a power cut, and starts again.
    PrimaryKilled,
    /// The primary ends in good order, and starts again.
    PrimaryRestarts,
    /// The primary says nothing for a while, and goes on where it was.
    PrimaryPaused,
    /// The way from home to its primary is gone.
    PrimaryCut,
    /// The connections from home to its primary break again and again, also in the middle of a commit.
    PrimaryFlaps,
    /// A cache ends as by a power cut, and starts again with nothing.
    CacheKilled,
    /// A cache says nothing for a while, and goes on with what it had.
    CachePaused,
    /// The way from a region to its cache is gone.
    CacheCut,
    /// The connections from a region to its cache break again and again.
    CacheFlaps,
    /// A cache forgets everything.
    CacheFlushed,
    /// A cache is full, and forgets some of what it has, or takes no more.
    CacheFilled,
    /// All ways between a region and the others are gone; its own servers run.
    RegionCut,
    /// The same, without a word to anybody.
    RegionPaused,
    /// A replica ends as by a power cut, and starts again.
    ReplicaKilled,
    /// A replica says nothing for a while, and goes on where it was.
    ReplicaPaused,
    /// The way from a region to its replica is gone.
    ReplicaCut,
    /// The way from a replica to its source is gone.
    SourceCut,
    /// Nothing comes from its source to a replica, and it does not know.
    SourcePaused,
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
    pub const ALL: [Self; 26] = [
        Self::LinkCut,
        Self::PrimaryKilled,
        Self::CachePaused,
        Self::RegionCut,
        Self::ReplicaKilled,
        Self::LinkPaused,
        Self::PrimaryFlaps,
        Self::CacheKilled,
        Self::LinkSlow,
        Self::SourcePaused,
        Self::PrimaryPaused,
        Self::ClockQuarterOff,
        Self::CacheFlushed,
        Self::RegionPaused,
        Self::LinkFlaps,
        Self::PrimaryRestarts,
        Self::PrimaryMoved,
        Self::CacheFlaps,
        Self::ReplicaPaused,
        Self::EdgeRestarts,
        Self::SourceCut,
        Self::PrimaryCut,
        Self::CacheFilled,
        Self::ClockMonthOff,
        Self::ReplicaCut,
        Self::CacheCut,
    ];

    /// For the environment and the summary.
    pub fn name(self) -> &'static str {
        match self {
            Self::LinkCut => "link-cut",
            Self::LinkPaused => "link-paused",
            Self::LinkSlow => "link-slow",
            Self::LinkFlaps => "link-flaps",
            Self::EdgeRestarts => "edge-restarts",
            Self::ClockMonthOff => "clock-month-off",
            Self::ClockQuarterOff => "clock-quarter-off",
            Self::PrimaryMoved => "primary-moved",
            Self::PrimaryKilled => "primary-killed",
            Self::PrimaryRestarts => "primary-restarts",
            Self::PrimaryPaused => "primary-paused",
            Self::PrimaryCut => "primary-cut",
            Self::PrimaryFlaps => "primary-flaps",
            Self::CacheKilled => "cache-killed",
            Self::CachePaused => "cache-paused",
            Self::CacheCut => "cache-cut",
            Self::CacheFlaps => "cache-flaps",
            Self::CacheFlushed => "cache-flushed",
            Self::CacheFilled => "cache-filled",
            Self::RegionCut => "region-cut",
            Self::RegionPaused => "region-paused",
            Self::ReplicaKilled => "replica-killed",
            Self::ReplicaPaused => "replica-paused",
            Self::ReplicaCut => "replica-cut",
            Self::SourceCut => "source-cut",
            Self::SourcePaused => "source-paused",
        }
    }

    /// Where it can be in this fleet.
    fn regions(self, fleet: &Fleet) -> Vec<&'static str> {
        let home = fleet.home();
        let servers = fleet.stack() == Stack::Servers;
        let others = || fleet.ids().into_iter().filter(|id| *id != home).collect();
        match self {
            Self::LinkCut | Self::LinkPaused | Self::LinkSlow | Self::LinkFlaps => others(),
            Self::EdgeRestarts => fleet.ids(),
            // The embedded primary has the clock of its edge.
            _ if !servers => Vec::new(),
            Self::ClockMonthOff | Self::ClockQuarterOff => fleet.ids(),
            Self::PrimaryKilled
            | Self::PrimaryRestarts
            | Self::PrimaryPaused
            | Self::PrimaryCut
            | Self::PrimaryFlaps => vec![home],
            Self::CacheKilled
            | Self::CachePaused
            | Self::CacheCut
            | Self::CacheFlaps
            | Self::CacheFlushed
            | Self::CacheFilled => fleet.ids(),
            Self::PrimaryMoved => fleet.standby().map(|_| home).into_iter().collect(),
            _ if !fleet.has_replicas() => Vec::new(),
            Self::RegionCut
            | Self::RegionPaused
            | Self::ReplicaKilled
            | Self::ReplicaPaused
            | Self::ReplicaCut
            | Self::SourceCut
            | Self::SourcePaused => others(),
        }
    }
}

impl Fault {
    /// Faults of the same part never overlap, or the first to heal would heal the other.
    fn part(self) -> String {
        let part = match self.kind {
            // Those of a region are of both its ways to the others.
            Kind::LinkCut
            | Kind::LinkPaused
            | Kind::LinkSlow
            | Kind::LinkFlaps
            | Kind::RegionCut
            | Kind::RegionPaused
            | Kind::SourceCut
            | Kind::SourcePaused => "ways out",
            Kind::ReplicaKilled | Kind::ReplicaPaused => "replica",
            Kind::ReplicaCut => "way to the replica",
            Kind::EdgeRestarts | Kind::ClockMonthOff | Kind::ClockQuarterOff => "edge",
            Kind::PrimaryMoved | Kind::PrimaryKilled | Kind::PrimaryRestarts | Kind::PrimaryPaused => {
                "primary"
            }
            Kind::PrimaryCut | Kind::PrimaryFlaps => "way to the primary",
            Kind::CacheKilled | Kind::CachePaused | Kind::CacheFlushed | Kind::CacheFilled => "cache",
            Kind::CacheCut | Kind::CacheFlaps => "way to the cache",
        };
        format!("{part} {}", self.region)
    }

    /// Does it, waits, and heals it.
    async fn strike(self, fleet: &Fleet, lasting: Duration) {
        let wait = || tokio::time::sleep(lasting);
        match self.kind {
            Kind::LinkCut => cut(fleet.link(self.region), lasting).await,
            Kind::LinkPaused => pause(fleet.link(self.region), lasting).await,
            Kind::LinkSlow => {
                fleet.link(self.region).set_rtt(Duration::from_millis(120));
                wait().await;
                fleet.link(self.region).set_rtt(Duration::ZERO);
            }
            Kind::LinkFlaps => flap(fleet.link(self.region), lasting).await,
            Kind::EdgeRestarts => {
                fleet.stop_region(self.region).await;
                tokio::time::sleep(lasting / 4).await;
                fleet.start_region(self.region).await;
            }
            Kind::ClockMonthOff => wrong_clock(fleet, self.region, MONTH, lasting).await,
            Kind::ClockQuarterOff => wrong_clock(fleet, self.region, QUARTER, lasting).await,
            Kind::PrimaryMoved => fleet.promote_for_a_while(lasting).await,
            Kind::PrimaryKilled => {
                fleet.mysql().kill();
                tokio::time::sleep(lasting / 4).await;
                fleet.mysql().restart().await;
            }
            Kind::PrimaryRestarts => fleet.mysql().restart().await,
            Kind::PrimaryPaused => {
                fleet.mysql().pause();
                wait().await;
                fleet.mysql().resume();
            }
            Kind::PrimaryCut => cut(fleet.mysql_link(), lasting).await,
            Kind::PrimaryFlaps => flap(fleet.mysql_link(), lasting).await,
            Kind::CacheKilled => {
                fleet.redis(self.region).kill();
                wait().await;
                fleet.redis(self.region).restart().await;
            }
            Kind::CachePaused => {
                fleet.redis(self.region).pause();
                wait().await;
                fleet.redis(self.region).resume();
            }
            Kind::CacheCut => cut(fleet.redis_link(self.region), lasting).await,
            Kind::CacheFlaps => flap(fleet.redis_link(self.region), lasting).await,
            Kind::CacheFlushed => {
                again_and_again(lasting, async || {
                    say(fleet.redis(self.region), "FLUSHALL\r\n").await;
                })
                .await
            }
            Kind::CacheFilled => fill(fleet.redis(self.region), lasting).await,
            Kind::RegionCut => {
                tokio::join!(
                    cut(fleet.link(self.region), lasting),
                    cut(fleet.source_link(self.region), lasting)
                );
            }
            Kind::RegionPaused => {
                tokio::join!(
                    pause(fleet.link(self.region), lasting),
                    pause(fleet.source_link(self.region), lasting)
                );
            }
            Kind::ReplicaKilled => {
                fleet.replica(self.region).kill();
                wait().await;
                fleet.replica(self.region).restart().await;
            }
            Kind::ReplicaPaused => {
                fleet.replica(self.region).pause();
                wait().await;
                fleet.replica(self.region).resume();
            }
            Kind::ReplicaCut => cut(fleet.replica_link(self.region), lasting).await,
            Kind::SourceCut => cut(fleet.source_link(self.region), lasting).await,
            Kind::SourcePaused => pause(fleet.source_link(self.region), lasting).await,
        }
    }
}

const LISTENS: &str = "a link listens again";

async fn cut(link: &Link, lasting: Duration) {
    link.cut().await;
    tokio::time::sleep(lasting).await;
    link.restore().await.expect(LISTENS);
}

async fn pause(link: &Link, lasting: Duration) {
    link.pause().await.expect(LISTENS);
    tokio::time::sleep(lasting).await;
    link.restore().await.expect(LISTENS);
}

const MONTH: Duration = Duration::from_secs(31 * 24 * 3600);
const QUARTER: Duration = Duration::from_secs(15 * 60);

/// As far ahead as behind, whichever it is.
async fn wrong_clock(fleet: &Fleet, region: &str, off: Duration, lasting: Duration) {
    let off_ms = i64::try_from(off.as_millis()).expect("it is small");
    let ahead = lasting.as_millis().is_multiple_of(2);
    fleet.stop_region(region).await;
    fleet.start_region_by_clock(region, if ahead { off_ms } else { -off_ms }).await;
    tokio::time::sleep(lasting).await;
    fleet.stop_region(region).await;
    fleet.start_region(region).await;
}

async fn flap(link: &Link, lasting: Duration) {
    again_and_again(lasting, async || link.close_connections()).await;
}

/// Fills a cache that has hardly any room with what nobody needs.
async fn fill(redis: &RedisServer, lasting: Duration) {
    let room = |megabytes: u32| format!("CONFIG SET maxmemory {megabytes}mb\r\n");
    say(redis, &room(3)).await;
    let junk = "x".repeat(16 * 1024);
    let mut next = 0_u64;
    again_and_again(lasting, async || {
        let keys = (next..next + 8).map(|n| format!("SET junk:{n} {junk} PX 4000\r\n"));
        say(redis, &keys.collect::<String>()).await;
        next += 8;
    })
    .await;
    say(redis, &room(256)).await;
}

/// Says some lines to a Redis. What it answers does not matter: full, it may refuse.
async fn say(redis: &RedisServer, lines: &str) {
    let url = redis.url();
    let password = url.trim_start_matches("redis://:").split('@').next().unwrap_or_default();
    let mut stream = TcpStream::connect(redis.address()).await.expect("the cache runs");
    let words = format!("AUTH {password}\r\n{lines}QUIT\r\n");
    stream.write_all(words.as_bytes()).await.expect("the cache listens");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("the cache answers");
    assert!(answer.starts_with(b"+OK"), "the cache lets the test in");
}

/// Often enough to meet a commit on its way, seldom enough that something gets through.
async fn again_and_again(lasting: Duration, mut strike: impl AsyncFnMut()) {
    const EVERY: Duration = Duration::from_millis(7);
    let end = tokio::time::Instant::now() + lasting;
    while tokio::time::Instant::now() < end {
        strike().await;
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
