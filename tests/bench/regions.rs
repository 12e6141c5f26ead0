//! Several regions with a network between them: what distance costs, and how long it takes until all is well again
//! after a region or the primary is gone.

mod primary;

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use comfy_table::Table;
use edge_host::app::App;
use futures_util::future::{try_join, try_join_all};
use harness::{Caller, Fleet, FleetOptions, PATIENCE, Stack, eventually, unique};
use region_router::link::Link;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::report::{self, Bar};
use crate::say;

/// Between a region and home: about that of Singapore and Jakarta.
const RTT: Duration = Duration::from_millis(20);
/// The region that writes, and that is taken away.
const REGION: &str = "jkt";
const HOME: &str = "sin";
/// Before writes are timed, for connections and caches.
const WARM_UP: usize = 10;
/// Writes that are timed, at each end.
const WRITES: usize = 100;
/// Writes that are watched until every region shows them; each by two.
const WATCHED: usize = 60;
/// Callers of the region that is taken away.
const READERS: usize = 8;
/// They read for so long before, …
const BEFORE: Duration = Duration::from_secs(1);
/// … and for so long after: longer than the bar.
const AFTER: Duration = Duration::from_secs(7);
/// After a bad answer.
const RETRY: Duration = Duration::from_millis(10);

/// What was found out.
#[derive(Debug)]
pub(crate) struct Regions {
    /// On what.
    pub(crate) machine: Value,
    pub(crate) bars: Vec<Bar>,
    /// The primary is killed.
    pub(crate) timeline: Table,
    /// All numbers.
    pub(crate) document: Value,
}

/// Measures it all, in a fleet for each of the two parts.
pub(crate) async fn measure(began: Instant) -> Result<Regions> {
    say(began, "starting three regions and a front door");
    let fleet = Fleet::start(FleetOptions {
        stack: Stack::Servers,
        replicas: true,
        front_door: true,
        rtt: RTT,
        ..FleetOptions::default()
    })
    .await;
    let machine = report::machine(&fleet.mysql().url(), &fleet.redis(HOME).url()).await?;
    let mug = unique("mug");
    fleet.admin().sell(&mug, "10.00").await;
    say(began, "writes that are forwarded, against writes at home");
    let (raw, home, region) = forwards(&fleet, &mug).await?;
    say(began, "until a write is seen in the other regions");
    let mut seen = visibility(&fleet, &mug).await?;
    say(began, "a region is cut off, and comes back, and falls silent");
    let (cut, silent) = region_gone(&fleet, &mug).await?;
    drop(fleet);
    let primary = primary::measure(began).await?;

    let overhead = region - home - raw;
    let (seen_p50, seen_p99) = (percentile(&mut seen, 50), percentile(&mut seen, 99));
    let mut bars = vec![
        Bar::below("a forwarded write over the round trip, p50 ms", overhead, 2.0, 0.5),
        Bar::below("until a write is seen in all regions, p99 ms", seen_p99, 1_000.0, 70.0),
        Bar::below("a region is gone, longest without an answer, s", cut.max(silent), 5.0, 2.0),
    ];
    bars.extend(primary.bars);
    let document = json!({
        "round_trip_p50_ms": raw,
        "write_at_home_p50_ms": home,
        "write_forwarded_p50_ms": region,
        "forward_overhead_p50_ms": overhead,
        "seen_p50_ms": seen_p50,
        "seen_p99_ms": seen_p99,
        "region_cut_off_longest_gap_s": cut,
        "region_silent_longest_gap_s": silent,
        "primary_killed": primary.document,
    });
    Ok(Regions { machine, bars, timeline: primary.timeline, document })
}

/// The medians, in milliseconds, of a bare round trip, of a write at home and of the same write at a region: in turns,
/// so that a machine that gets slower meanwhile decides nothing.
async fn forwards(fleet: &Fleet, mug: &str) -> Result<(f64, f64, f64)> {
    let mut echo = Echo::start().await?;
    let (at_home, line_at_home) = shopper(fleet, HOME, mug).await?;
    let (at_region, line_at_region) = shopper(fleet, REGION, mug).await?;
    let (mut raw, mut home, mut region) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..WARM_UP + WRITES {
        // Each changes something.
        let quantity = json!({ "quantity": 2 + n % 2 });
        let begin = Instant::now();
        echo.ask().await?;
        let echoed = Instant::now();
        at_home.patch(&line_at_home, quantity.clone()).await.ok();
        let written = Instant::now();
        at_region.patch(&line_at_region, quantity).await.ok();
        if n >= WARM_UP {
            raw.push(ms(echoed - begin));
            home.push(ms(written - echoed));
            region.push(ms(written.elapsed()));
        }
    }
    Ok((percentile(&mut raw, 50), percentile(&mut home, 50), percentile(&mut region, 50)))
}

/// A guest of a region with a line in the cart, and the path of that line.
async fn shopper(fleet: &Fleet, region: &str, mug: &str) -> Result<(Caller, String)> {
    let guest = fleet.at(region).guest("SGD").await;
    let cart = guest.add(mug, 1).await.ok();
    let line = cart["lines"][0]["line_id"].as_str().context("a cart has the line that was put in")?;
    Ok((guest, format!("/v1/cart/items/{line}")))
}

/// A peer that does nothing, as far away as home.
struct Echo {
    stream: TcpStream,
    _link: Link,
}

impl Echo {
    async fn start() -> Result<Self> {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = TcpListener::bind(any_port).await?;
        let link = Link::start(any_port, listener.local_addr()?, RTT).await?;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await
        });
        let stream = TcpStream::connect(link.addr()).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, _link: link })
    }

    async fn ask(&mut self) -> Result<()> {
        let mut answer = [0; 4];
        self.stream.write_all(b"ping").await?;
        self.stream.read_exact(&mut answer).await?;
        Ok(())
    }
}

/// How long it took, in milliseconds, until each other region showed a write that was acknowledged, to somebody who
/// does not ask for its version.
async fn visibility(fleet: &Fleet, mug: &str) -> Result<Vec<f64>> {
    let others: Vec<_> = fleet.ids().into_iter().filter(|id| *id != REGION).collect();
    let mut seen = Vec::new();
    for _ in 0..WATCHED {
        let (guest, line) = shopper(fleet, REGION, mug).await?;
        let before = guest.get("/v1/cart").await.version();
        // Everybody has the old cart in the cache; or it would be found in a replica or at home.
        try_join_all(others.iter().map(|id| shows(fleet, id, &guest, &before))).await?;
        let after = guest.patch(&line, json!({ "quantity": 7 })).await;
        after.ok();
        let (version, acknowledged) = (after.version(), Instant::now());
        let waits = others.iter().map(async |id| {
            shows(fleet, id, &guest, &version).await?;
            anyhow::Ok(ms(acknowledged.elapsed()))
        });
        seen.extend(try_join_all(waits).await?);
    }
    Ok(seen)
}

/// Reads without a pause until a region shows this version.
async fn shows(fleet: &Fleet, id: &str, guest: &Caller, version: &str) -> Result<()> {
    let there = guest.at(fleet.url(id));
    let look = async { while there.get("/v1/cart").await.version() != version {} };
    timeout(PATIENCE, look).await.with_context(|| format!("{id} never shows version {version}"))
}

/// A region behind links, so that it can be taken away as a network or a power cut does it.
struct Remote {
    _edge: App,
    public: Link,
    internal: Link,
}

impl Remote {
    /// Puts links where the region has listened, and its edge behind them.
    async fn start(fleet: &Fleet) -> Result<Self> {
        fleet.stop_region(REGION).await;
        let edge = fleet.start_edge(REGION).await;
        let public: SocketAddr = fleet.url(REGION).trim_start_matches("http://").parse()?;
        Ok(Self {
            public: Link::start(public, edge.public_addr(), Duration::ZERO).await?,
            internal: Link::start(fleet.internal_address(REGION), edge.internal_addr(), Duration::ZERO)
                .await?,
            _edge: edge,
        })
    }

    async fn cut(&self) -> Result<()> {
        tokio::join!(self.public.cut(), self.internal.cut());
        Ok(())
    }

    async fn pause(&self) -> Result<()> {
        try_join(self.public.pause(), self.internal.pause()).await?;
        Ok(())
    }

    async fn restore(&self) -> Result<()> {
        try_join(self.public.restore(), self.internal.restore()).await?;
        Ok(())
    }
}

/// The longest that a caller of the region went without a good answer, in seconds: when the region refuses, and when
/// it says nothing more.
async fn region_gone(fleet: &Fleet, mug: &str) -> Result<(f64, f64)> {
    let remote = Remote::start(fleet).await?;
    let mut guests = Vec::new();
    for _ in 0..READERS {
        let guest = fleet.front_door().guest("SGD").await;
        guest.add(mug, 1).await.ok();
        guests.push(guest);
    }
    is_used(&guests).await;
    let cut = longest_gap(&guests, remote.cut()).await?;
    remote.restore().await?;
    is_used(&guests).await;
    let silent = longest_gap(&guests, remote.pause()).await?;
    Ok((cut, silent))
}

/// Waits until the front door sends callers to the region.
async fn is_used(guests: &[Caller]) {
    for guest in guests {
        eventually(&format!("{REGION} is used"), async || {
            let read = guest.get("/v1/cart").header("troli-region", REGION).await;
            read.status == 200 && read.find_header("cart-region") == Some(REGION)
        })
        .await;
    }
}

async fn longest_gap(guests: &[Caller], take_away: impl Future<Output = Result<()>>) -> Result<f64> {
    let over = Cell::new(false);
    let read = async |guest: &Caller| {
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        loop {
            let answer = guest.get("/v1/cart").header("troli-region", REGION).send().await;
            let Some(answer) = answer.ok().filter(|answer| answer.status == 200) else {
                sleep(RETRY).await;
                continue;
            };
            longest = longest.max(last.elapsed());
            last = Instant::now();
            if over.get() {
                ensure!(answer.find_header("cart-region") != Some(REGION), "{REGION} was not taken away");
                return Ok(longest.as_secs_f64());
            }
        }
    };
    let disturb = async {
        sleep(BEFORE).await;
        take_away.await?;
        sleep(AFTER).await;
        over.set(true);
        Ok(())
    };
    let reading = try_join(try_join_all(guests.iter().map(read)), disturb);
    let (gaps, ()) =
        timeout(BEFORE + AFTER + PATIENCE, reading).await.context("callers are never answered again")??;
    Ok(gaps.into_iter().fold(0.0, f64::max))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// What so many percent of the numbers are not above.
fn percentile(numbers: &mut [f64], percent: usize) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let rank = (numbers.len() * percent).div_ceil(100);
    numbers[rank - 1]
}
