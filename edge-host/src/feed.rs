//! The stream of changes that a region follows: carts become stale, the catalogue moves, rules are swapped.
//!
//! It is followed twice. The catalogue and the rules are this edge's own, so their place in the feed is kept in
//! memory ([`CatalogueFeed`]). The cache of carts may be shared by the edges of a region and outlive them, so its
//! place is kept in the cache itself ([`CacheKeeper`]): an edge that starts goes on where others are, and a cache
//! that comes back with old data is told again what it has missed.
//!
//! Who tells is the region's replica where there is one, so that no news come before the data ([`crate::upstream`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use moka::future::Cache;
use tokio::sync::watch;
use tracing::{debug, info, warn};

pub use self::keeper::CacheKeeper;
use crate::error::CartError;
use crate::model::{CartVersion, Change, FeedEvent, FeedPage, FeedPosition};
use crate::rules_source::RulesSource;
use crate::service::CartService;
use crate::store::{ReplicaStore, StoreError};

mod keeper;

/// The home region holds a request for changes so long before it answers that there are none.
pub const WAIT: Duration = Duration::from_secs(10);
/// After a failure the feed is asked again; the first time soon, then more seldom.
const RETRY_MIN: Duration = Duration::from_millis(50);
/// The longest pause: a region that was cut off catches up within this time.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// News are told so long after the first of them, all in one page: under load, telling each alone would cost more
/// than the write.
const GATHER: Duration = Duration::from_millis(20);
/// While a place in the feed is missing, the database is asked this often: what comes late is not announced.
const GAP_LOOK_EVERY: Duration = Duration::from_millis(50);
/// Events in one page.
const PAGE_MAX: u32 = 500;
/// Pages that are kept for other followers. They are at one place, or at few.
const PAGES_MAX: u64 = 16;
/// After this a look is a look again, even without news.
const PAGE_TTL: Duration = Duration::from_secs(1);

/// Reads the feed of one database for all who follow it here: mostly they are at the same place, and wait for the same.
pub struct FeedReader {
    store: Arc<dyn ReplicaStore>,
    /// By the place after which they are, and the count of news when they were read.
    pages: Cache<(u64, u64), Arc<FeedPage>>,
    /// Where the feed ended when it was last read, and when that was.
    end: Mutex<Option<(u64, tokio::time::Instant)>>,
}

impl FeedReader {
    /// A reader of this database's feed.
    pub fn new(store: Arc<dyn ReplicaStore>) -> Self {
        let pages = Cache::builder().max_capacity(PAGES_MAX).time_to_live(PAGE_TTL).build();
        Self { store, pages, end: Mutex::default() }
    }

    /// What is new after a position; waits so long for something to happen.
    pub async fn next_page(
        &self,
        after: Option<&FeedPosition>,
        wait: Duration,
    ) -> Result<FeedPage, StoreError> {
        let deadline = tokio::time::Instant::now() + wait;
        let mut news = self.store.feed_news();
        self.gather(after).await;
        loop {
            // Marked as seen before the look, so that what comes after the look is news.
            let count = *news.borrow_and_update();
            let page = self.page(after, count).await?;
            let nothing = page.events.is_empty() && !page.lost;
            if after.is_none() || !nothing || tokio::time::Instant::now() >= deadline {
                return Ok(page);
            }
            // What is missing may come without being told.
            let look_again = tokio::time::Instant::now() + GAP_LOOK_EVERY;
            let until = if page.position.gaps.is_empty() { deadline } else { deadline.min(look_again) };
            // An early look would miss nothing and find nothing; the wait ends by itself.
            if let Ok(Ok(())) = tokio::time::timeout_at(until, news.changed()).await {
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    /// Who comes back from the end, under load, finds some news already. They too are told with what follows.
    async fn gather(&self, after: Option<&FeedPosition>) {
        let end = *self.end.lock().expect("no holder of the lock can panic");
        if let Some((_, read)) = end.filter(|(seq, _)| after.is_some_and(|after| after.seq == *seq)) {
            tokio::time::sleep_until(read + GATHER).await;
        }
    }

    /// The page after a position, as it is at this count of news or later.
    async fn page(&self, after: Option<&FeedPosition>, news: u64) -> Result<FeedPage, StoreError> {
        // Who waits for missing places looks for himself.
        let Some(at) = after.filter(|after| after.gaps.is_empty()) else {
            return self.store.feed(after, PAGE_MAX).await;
        };
        let read = async {
            let page = self.store.feed(after, PAGE_MAX).await?;
            let end = (!page.more).then(|| (page.position.seq, tokio::time::Instant::now()));
            *self.end.lock().expect("no holder of the lock can panic") = end;
            Ok(Arc::new(page))
        };
        let page = self.pages.try_get_with((at.seq, news), read).await;
        let page = page.map_err(|error: Arc<StoreError>| error.shared())?;
        // Whoever comes back from there needs no look to know that this was all.
        if !page.events.is_empty() && !page.more && page.position.gaps.is_empty() {
            let end = FeedPage { events: Vec::new(), position: page.position.clone(), ..*page };
            self.pages.insert((end.position.seq, news), Arc::new(end)).await;
        }
        Ok(FeedPage::clone(&page))
    }
}

/// Keeps this edge's catalogue and rules as they are at home.
pub struct CatalogueFeed {
    service: Arc<CartService>,
    rules: Arc<RulesSource>,
    ready: AtomicBool,
    /// How far the catalogue has been told.
    position: watch::Sender<FeedPosition>,
}

impl CatalogueFeed {
    /// A feed that has not begun.
    pub fn new(service: Arc<CartService>, rules: Arc<RulesSource>) -> Self {
        let position = watch::Sender::new(FeedPosition::default());
        Self { service, rules, ready: AtomicBool::new(false), position }
    }

    /// Whether this edge has the catalogue and the rules it needs to serve.
    pub fn ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Waits until the catalogue has been told of the change at this place, at most so long.
    pub async fn applied(&self, seq: u64, at_most: Duration) {
        let mut position = self.position.subscribe();
        let told = position.wait_for(|position| position.covers(seq));
        if tokio::time::timeout(at_most, told).await.is_err() {
            debug!(feed.seq = seq, "the catalogue does not follow in time");
        }
    }

    /// Follows for ever.
    pub async fn run(&self) {
        loop {
            let (position, epoch) = self.start().await;
            self.position.send_replace(position.clone());
            self.follow(position, epoch).await;
            warn!("feed lost, starting over from a snapshot");
        }
    }

    /// Takes the whole catalogue over; returns the position in the feed that it stands for, and the epoch.
    async fn start(&self) -> (FeedPosition, u32) {
        let mut pause = Pause::default();
        loop {
            match self.snapshot().await {
                Ok(place) => return place,
                Err(error) if pause.is_first() => info!(error = %error, "no catalogue yet"),
                Err(error) => debug!(error = %error, "no catalogue yet"),
            }
            pause.wait().await;
        }
    }

    async fn snapshot(&self) -> Result<(FeedPosition, u32), CartError> {
        let snapshot = self.service.upstream.catalogue().await?;
        let (items, coupons) = (snapshot.items.len(), snapshot.coupons.len());
        self.service.catalogue.replace(snapshot.items, snapshot.coupons);
        info!(feed.seq = snapshot.position.seq, items, coupons, "catalogue loaded");
        if let Some(revision) = &snapshot.rules {
            self.follow_rules(revision).await?;
        }
        Ok((snapshot.position, snapshot.epoch))
    }

    /// Applies change after change; returns when the feed has a hole, or goes on in another epoch.
    async fn follow(&self, mut position: FeedPosition, epoch: u32) {
        let mut pause = Pause::default();
        loop {
            let asked = Instant::now();
            match self.service.upstream.news(Some(&position), WAIT).await {
                Ok((page, _)) if page.lost || page.epoch != epoch => return,
                Ok((page, _)) => match self.apply(page.events).await {
                    Ok(()) => {
                        if page.position == position {
                            unhurried(asked).await;
                        }
                        position = page.position;
                        self.position.send_replace(position.clone());
                        pause = Pause::default();
                    }
                    Err(error) => {
                        if pause.is_first() {
                            warn!(feed.seq = position.seq, error = %error, "change not applied, trying again");
                        }
                        pause.wait().await;
                    }
                },
                Err(error) => {
                    if pause.is_first() {
                        warn!(feed.seq = position.seq, error = %error, "feed interrupted, trying again");
                    }
                    pause.wait().await;
                }
            }
        }
    }

    /// Applying a change twice does no harm.
    async fn apply(&self, events: Vec<FeedEvent>) -> Result<(), CartError> {
        for event in events {
            match event.change {
                Change::Cart { .. } => {}
                Change::Item(item) => self.service.catalogue.put_item(item),
                Change::Coupon(coupon) => self.service.catalogue.put_coupon(coupon),
                Change::Rules { revision } => self.follow_rules(&revision).await?,
                Change::Later(change) => {
                    debug!(feed.seq = event.seq, change = change.as_str(), "change of a later version")
                }
            }
        }
        Ok(())
    }

    /// Without rules that were taken, nothing can be served: a refused component alone does not make ready.
    async fn follow_rules(&self, revision: &str) -> Result<(), CartError> {
        self.rules.follow(revision).await?;
        self.ready.store(self.service.rules.current().is_some(), Ordering::Release);
        Ok(())
    }
}

/// Tells the region's cache of changes as soon as home knows of them, where it is otherwise told by the replica:
/// who reads meanwhile is sent home for what has not come here yet. The replica's word is what counts; this is only
/// faster. It is also how a region that reads from its replica notices that home is lost.
pub struct Hints {
    service: Arc<CartService>,
}

impl Hints {
    /// Hints for this service's cache.
    pub fn new(service: Arc<CartService>) -> Self {
        Self { service }
    }

    /// Listens for ever.
    pub async fn run(&self) {
        let mut position: Option<FeedPosition> = None;
        let mut pause = Pause::default();
        loop {
            let asked = Instant::now();
            match self.service.upstream.news_from_home(position.as_ref(), WAIT).await {
                Ok(page) if page.lost => position = None,
                Ok(page) => {
                    let floors: Vec<(String, CartVersion)> = page.events.iter().filter_map(floor).collect();
                    if let Err(error) = self.service.cache.floors(&floors).await {
                        debug!(error = %error, "the cache took no hint");
                    }
                    if floors.is_empty() && position.is_some() {
                        unhurried(asked).await;
                    }
                    position = Some(page.position);
                    pause = Pause::default();
                }
                Err(error) => {
                    debug!(error = %error, "no hints from home");
                    pause.wait().await;
                }
            }
        }
    }
}

fn floor(event: &FeedEvent) -> Option<(String, CartVersion)> {
    match &event.change {
        Change::Cart { cart_id, version } => Some((cart_id.clone(), *version)),
        _ => None,
    }
}

/// No news before its time: whatever the reason, asking faster would not help.
async fn unhurried(asked: Instant) {
    if asked.elapsed() < WAIT / 2 {
        tokio::time::sleep(RETRY_MIN).await;
    }
}

/// The pause after a failure, longer from time to time.
struct Pause(Duration);

impl Default for Pause {
    fn default() -> Self {
        Self(RETRY_MIN)
    }
}

impl Pause {
    /// Whether the failure is the first in a row. The others are the same one.
    fn is_first(&self) -> bool {
        self.0 == RETRY_MIN
    }

    async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(RETRY_MAX);
    }
}
