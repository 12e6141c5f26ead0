//! The stream of changes that a region follows: carts become stale, the catalogue moves, rules are swapped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::error::CartError;
use crate::model::{Change, FeedEvent, Millis};
use crate::rules_source::RulesSource;
use crate::service::{CartService, lag_ms};
use crate::store::CacheEntry;
use crate::telemetry::metric;

/// The home region holds a request for changes so long before it answers that there are none.
pub const WAIT: Duration = Duration::from_secs(10);
/// After a failure the feed is asked again; the first time soon, then more seldom.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// The longest pause: a region that was cut off catches up within this time.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// Follows the home region's changes.
pub struct Feed {
    service: Arc<CartService>,
    rules: Arc<RulesSource>,
    ready: AtomicBool,
}

impl Feed {
    /// A feed that has not begun.
    pub fn new(service: Arc<CartService>, rules: Arc<RulesSource>) -> Self {
        Self { service, rules, ready: AtomicBool::new(false) }
    }

    /// Whether this region has the catalogue and the rules it needs to serve.
    pub fn ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Follows for ever.
    pub async fn run(&self) {
        loop {
            let (seq, epoch) = self.start().await;
            // Of what was cached before this place in the feed, nobody would tell when it becomes old.
            self.service.forget_all().await;
            self.follow(seq, epoch).await;
            warn!("feed lost, starting over from a snapshot");
        }
    }

    /// Takes the whole catalogue over; returns the place in the feed that it stands for, and the epoch.
    async fn start(&self) -> (u64, u32) {
        let mut pause = RETRY_MIN;
        loop {
            match self.snapshot().await {
                Ok(place) => return place,
                Err(error) => info!(error = %error, "no catalogue from home yet"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    async fn snapshot(&self) -> Result<(u64, u32), CartError> {
        let snapshot = self.service.home.catalogue().await?;
        let (items, coupons) = (snapshot.items.len(), snapshot.coupons.len());
        self.service.catalogue.replace(snapshot.items, snapshot.coupons);
        info!(feed.seq = snapshot.seq, items, coupons, "catalogue loaded");
        if let Some(revision) = &snapshot.rules {
            self.follow_rules(revision).await?;
        }
        Ok((snapshot.seq, snapshot.epoch))
    }

    /// Applies change after change; returns when the feed has a hole, or goes on in another epoch.
    async fn follow(&self, mut seq: u64, epoch: u32) {
        let mut pause = RETRY_MIN;
        let mut heard = Instant::now();
        loop {
            let asked = Instant::now();
            match self.service.home.feed(seq, WAIT).await {
                Ok(page) if page.lost || page.epoch != epoch => return,
                Ok(page) => {
                    pause = RETRY_MIN;
                    heard = Instant::now();
                    if page.events.is_empty() && asked.elapsed() < WAIT / 2 {
                        // No news before its time: whatever the reason, asking faster would not help.
                        tokio::time::sleep(RETRY_MIN).await;
                    }
                    for event in page.events {
                        let next = event.seq;
                        if let Err(error) = self.apply(event).await {
                            warn!(feed.seq = seq, error = %error, "change not applied, trying again");
                            tokio::time::sleep(RETRY_MAX).await;
                            break;
                        }
                        seq = next;
                    }
                }
                Err(error) => {
                    warn!(feed.seq = seq, error = %error, "feed interrupted");
                    metric::feed_lag(&self.service.region, millis(heard.elapsed()));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY_MAX);
                }
            }
        }
    }

    /// Without rules that were taken, nothing can be served: a refused component alone does not make ready.
    async fn follow_rules(&self, revision: &str) -> Result<(), CartError> {
        self.rules.follow(revision).await?;
        self.ready.store(self.service.rules.current().is_some(), Ordering::Release);
        Ok(())
    }

    /// Applying a change twice does no harm.
    async fn apply(&self, event: FeedEvent) -> Result<(), CartError> {
        match event.change {
            Change::Cart { cart_id, version } => {
                self.service.put(&cart_id, CacheEntry::Floor(version)).await;
            }
            Change::Item(item) => self.service.catalogue.put_item(item),
            Change::Coupon(coupon) => self.service.catalogue.put_coupon(coupon),
            Change::Rules { revision } => {
                self.follow_rules(&revision).await?;
            }
        }
        metric::feed_lag(&self.service.region, lag_ms(event.at_ms));
        Ok(())
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}
