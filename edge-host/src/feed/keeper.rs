//! The cache of a region is told of every change of a cart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{Pause, WAIT, floor, unhurried};
use crate::error::CartError;
use crate::model::{CartVersion, FeedPage};
use crate::service::CartService;
use crate::store::{CacheFeed, StoreError};
use crate::telemetry::{chain, metric};
use crate::upstream::Source;

/// While nothing happens, it is looked this often whether the cache is still where it was told to be.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Tells the region's cache of every change of a cart, and lets nobody read it while it has not been told.
pub struct CacheKeeper {
    service: Arc<CartService>,
}

impl CacheKeeper {
    /// A keeper of this service's cache.
    pub fn new(service: Arc<CartService>) -> Self {
        Self { service }
    }

    /// Keeps the cache for ever.
    pub async fn run(&self) {
        let mut pause = Pause::default();
        let mut told = None;
        loop {
            let failed = match self.begin(told.as_ref()).await {
                Ok(at) => self.keep(at, &mut told, &mut pause).await,
                Err(failed) => failed,
            };
            match failed {
                Failed::Upstream(error) => {
                    // What is in the cache goes on being served. The catalogue's feed has met the same, and says so.
                    debug!(error = %error, "cache not told of changes: the feed is interrupted");
                }
                Failed::Cache(error) => {
                    self.service.set_cache_current(None);
                    if pause.is_first() {
                        let error = chain(&error);
                        warn!(error, "cache not told of changes, and not read until it is");
                    }
                }
                Failed::Lost => {
                    self.service.set_cache_current(None);
                    told = None;
                    info!("cache starts anew: it cannot be told what it has missed");
                    continue;
                }
            }
            pause.wait().await;
        }
    }

    /// Where the cache is. One that has forgotten everything, or does not know this epoch, starts anew.
    async fn begin(&self, told: Option<&CacheFeed>) -> Result<CacheFeed, Failed> {
        let connected = self.service.cache.connected();
        match self.service.cache.feed_position().await? {
            Some(at) => {
                self.service.upstream.known_epoch().learn(at.epoch);
                self.trust(&at, told, connected);
                Ok(at)
            }
            None => self.start_anew().await,
        }
    }

    /// Lets the cache be read if it is where it was told to be, or further. Home need not be asked for that.
    fn trust(&self, now: &CacheFeed, told: Option<&CacheFeed>, connected: u64) {
        let is_there = |told: &CacheFeed| now.epoch == told.epoch && now.position.seq >= told.position.seq;
        let has_all = told.is_some_and(is_there) && self.service.cache.connected() == connected;
        self.service.set_cache_current(has_all.then_some(connected));
    }

    async fn keep(&self, mut at: CacheFeed, told: &mut Option<CacheFeed>, pause: &mut Pause) -> Failed {
        let mut connections = self.service.cache.connections();
        // The first look does not wait: readers do.
        let mut wait = Duration::ZERO;
        loop {
            let asked = Instant::now();
            match self.step(&at, wait, told, &mut connections).await {
                Ok(next) if next == at && wait > Duration::ZERO => unhurried(asked).await,
                Ok(next) => at = next,
                Err(failed) => return failed,
            }
            *pause = Pause::default();
            wait = WAIT;
        }
    }

    /// Tells the cache of the next page; returns where it is then.
    async fn step(
        &self,
        at: &CacheFeed,
        wait: Duration,
        told: &mut Option<CacheFeed>,
        connections: &mut watch::Receiver<u64>,
    ) -> Result<CacheFeed, Failed> {
        let cache = &self.service.cache;
        let (page, by) = match self.news(at, wait, told.as_ref(), connections).await? {
            Heard::News(page, by) => (page, by),
            Heard::Back(now) => return Ok(now),
        };
        if page.lost || page.epoch != at.epoch {
            // Another edge may have seen to it already.
            if cache.feed_position().await?.as_ref() == Some(at) {
                self.start_anew().await?;
            }
            return Err(Failed::Lost);
        }
        let connected = cache.connected();
        let floors: Vec<(String, CartVersion)> = page.events.iter().filter_map(floor).collect();
        cache.floors(&floors).await?;
        // Before anybody may fill: the replica has to catch up with what the cache is told of now.
        self.service.upstream.told(&page, by);
        let to = CacheFeed { epoch: at.epoch, position: page.position };
        let now = cache.advance(at, &to).await?.ok_or(Failed::Lost)?;
        if cache.connected() != connected {
            // The note may have come to another cache than the floors.
            self.start_anew().await?;
            return Err(Failed::Lost);
        }
        let lag_ms = page.events.iter().map(|event| self.service.clock.now_ms() - event.at_ms).max();
        metric::feed_lag(&self.service.region, lag_ms.unwrap_or(0));
        if now.epoch != at.epoch || now.position.seq < at.position.seq {
            // It has come back from the past, and is told again before anybody reads it.
            self.service.set_cache_current(None);
            *told = None;
        } else if !page.more {
            self.service.set_cache_current(Some(connected));
            *told = Some(now.clone());
        }
        Ok(now)
    }

    /// Waits for news, and looks at the cache meanwhile: whether it is the one that was told, and of which generation. It
    /// may have been started from a snapshot, or by another edge anew.
    async fn news(
        &self,
        at: &CacheFeed,
        wait: Duration,
        told: Option<&CacheFeed>,
        connections: &mut watch::Receiver<u64>,
    ) -> Result<Heard, Failed> {
        let news = self.service.upstream.news(Some(&at.position), wait);
        tokio::pin!(news);
        loop {
            tokio::select! {
                heard = &mut news => {
                    let (page, by) = heard?;
                    return Ok(Heard::News(page, by));
                }
                () = reconnected(connections) => {
                    let connected = self.service.cache.connected();
                    let now = self.service.cache.feed_position().await?.ok_or(Failed::Lost)?;
                    self.trust(&now, told, connected);
                    if now.epoch != at.epoch || now.position.seq < at.position.seq {
                        return Ok(Heard::Back(now));
                    }
                }
            }
        }
    }

    async fn start_anew(&self) -> Result<CacheFeed, Failed> {
        let (now, by) = self.service.upstream.news(None, Duration::ZERO).await?;
        self.service.upstream.told(&now, by);
        let at = CacheFeed { epoch: now.epoch, position: now.position };
        self.service.cache.start_anew(&at).await?;
        Ok(at)
    }
}

/// What a wait for news has come to.
enum Heard {
    /// News, and where they came from.
    News(FeedPage, Source),
    /// The cache is back at this place, and has to be told from there.
    Back(CacheFeed),
}

/// Returns when the cache is connected to anew, or when it is time for a look.
async fn reconnected(connections: &mut watch::Receiver<u64>) {
    // The sender is the cache's, so it is there.
    let _ = tokio::time::timeout(LOOK_EVERY, connections.changed()).await;
}

/// Why the cache is not told of changes.
enum Failed {
    /// Nobody tells what is new.
    Upstream(CartError),
    /// The cache does not hear.
    Cache(StoreError),
    /// What the cache has missed nobody knows any more, or it has forgotten everything.
    Lost,
}

impl From<CartError> for Failed {
    fn from(error: CartError) -> Self {
        Self::Upstream(error)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Cache(error)
    }
}
