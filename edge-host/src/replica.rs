//! The region's replica of the primary, and how far it can be relied on.
//!
//! A replica may lag, stand still, break without a word, or follow a primary that is none any more. What home's
//! heartbeat says there tells how far it has come; what it has not shown, it does not have.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::timeout;

use crate::clock::Clock;
use crate::deadline::detached;
use crate::epoch::KnownEpoch;
use crate::feed::FeedReader;
use crate::model::{CartRecord, CatalogueSnapshot, FeedPage, FeedPosition, ItemRecord, Millis};
use crate::store::{Late, Pulse, ReplicaStore, StoreError};

/// A replica that is further behind is relied on only when home cannot be asked. Replication between these regions
/// takes some 50 ms; with seconds something is wrong, and shoppers in other regions have waited long enough.
const LAG_MAX_MS: Millis = 3000;
/// Nor is one that has said nothing for so long: ten pulses.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// One look at the replica. It is near; home is asked when it takes as long as the longest way there and back.
const READ_DEADLINE: Duration = Duration::from_millis(300);
/// The catalogue is larger.
const SNAPSHOT_DEADLINE: Duration = Duration::from_secs(30);
/// News are waited for at the replica so long, before it is looked at whether it still keeps up.
const WAIT: Duration = Duration::from_secs(1);

/// The region's replica.
pub struct Replica {
    store: Arc<dyn ReplicaStore>,
    feed: FeedReader,
    known: KnownEpoch,
    clock: Clock,
    /// Epoch and beat of the last news from home that the cache was told of.
    told: Mutex<(u32, u64)>,
}

impl Replica {
    /// A replica of which nothing is known yet.
    pub fn new(store: Arc<dyn ReplicaStore>, known: KnownEpoch, clock: Clock) -> Self {
        let feed = FeedReader::new(Arc::clone(&store));
        Self { store, feed, known, clock, told: Mutex::default() }
    }

    /// Whether it is as good as home for those who have seen nothing newer.
    pub fn keeps_up(&self) -> bool {
        self.current_pulse().is_some_and(|pulse| {
            pulse.heard.elapsed() < SILENCE_MAX
                && self.lag_of(&pulse) <= LAG_MAX_MS
                && self.has_all_told(&pulse)
        })
    }

    /// Whether a cart from here may go into the cache. Not while the cache was told by home of changes that may not
    /// have come here: it would forget the floor some day, and hold what is older.
    pub fn may_fill(&self) -> bool {
        self.current_pulse().is_some_and(|pulse| self.has_all_told(&pulse))
    }

    /// How far it is behind; grows when nothing comes any more. `None` before it has said anything.
    pub fn lag_ms(&self) -> Option<Millis> {
        (*self.store.pulse().borrow()).as_ref().map(|pulse| self.lag_of(pulse))
    }

    /// The cache was told of these news, which came from home.
    pub fn told_by_home(&self, page: &FeedPage) {
        *self.told.lock().expect("no holder of the lock can panic") = (page.epoch, page.beat);
    }

    /// A cart, if it was written here.
    pub async fn cart(&self, cart_id: &str) -> Result<Option<CartRecord>, StoreError> {
        let (store, cart_id) = (Arc::clone(&self.store), cart_id.to_owned());
        detached(async move { within(READ_DEADLINE, store.cart(&cart_id)).await }).await
    }

    /// Items, as far as they exist here.
    pub async fn items(&self, item_ids: &[String]) -> Result<Vec<ItemRecord>, StoreError> {
        let (store, item_ids) = (Arc::clone(&self.store), item_ids.to_vec());
        detached(async move { within(READ_DEADLINE, store.items(&item_ids)).await }).await
    }

    /// The whole catalogue.
    pub async fn catalogue(&self) -> Result<CatalogueSnapshot, StoreError> {
        within(SNAPSHOT_DEADLINE, self.store.catalogue()).await
    }

    /// The component of a revision of the rules.
    pub async fn rules(&self, revision: &str) -> Result<Option<Vec<u8>>, StoreError> {
        within(SNAPSHOT_DEADLINE, self.store.rules(revision)).await
    }

    /// What is new here after a position; `None` where it has not come so far itself.
    pub async fn page(
        &self,
        after: Option<&FeedPosition>,
        wait: Duration,
    ) -> Result<Option<FeedPage>, StoreError> {
        let Some(pulse) = self.current_pulse() else { return Ok(None) };
        if after.is_some_and(|after| after.seq > pulse.last) {
            return Ok(None);
        }
        let wait = wait.min(WAIT);
        let page = within(wait + SILENCE_MAX, self.feed.next_page(after, wait)).await?;
        Ok(Some(page).filter(|page| !self.known.is_past(page.epoch)))
    }

    /// The epoch that it is at; 0 before it has said anything.
    pub fn epoch(&self) -> u32 {
        self.current_pulse().map_or(0, |pulse| pulse.epoch)
    }

    /// The last word of a replica of the present.
    fn current_pulse(&self) -> Option<Pulse> {
        (*self.store.pulse().borrow()).filter(|pulse| !self.known.is_past(pulse.epoch))
    }

    /// A beat has the time of the primary, and so has this edge.
    fn lag_of(&self, pulse: &Pulse) -> Millis {
        (self.clock.now_ms() - pulse.beat_at_ms).max(0)
    }

    fn has_all_told(&self, pulse: &Pulse) -> bool {
        (pulse.epoch, pulse.beat) > *self.told.lock().expect("no holder of the lock can panic")
    }
}

async fn within<T>(
    deadline: Duration,
    answer: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    timeout(deadline, answer).await.map_err(|_| StoreError::unavailable(Late("the answer of the replica")))?
}
