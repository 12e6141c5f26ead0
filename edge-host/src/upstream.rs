//! Where a region reads what it does not have itself: from its replica while that keeps up, else from home, and
//! from the replica again when home cannot be reached.
//!
//! Carts and news come from the same place. A cache that was told of a change by home would otherwise be filled
//! from a replica that has not heard of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cart_core::Currency;
use tracing::{debug, info, warn};

use crate::epoch::KnownEpoch;
use crate::error::CartError;
use crate::home::HomeRegion;
use crate::model::{
    CartRecord, CartVersion, CatalogueSnapshot, FeedPage, FeedPosition, ItemRecord, Millis, Principal,
};
use crate::replica::Replica;

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The regional cache.
    Cache,
    /// The region's replica.
    Replica,
    /// The home region.
    Home,
}

impl Source {
    /// The word in `Cart-Source`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Replica => "replica",
            Self::Home => "home",
        }
    }
}

/// A cart, fetched.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The cart.
    pub record: Arc<CartRecord>,
    /// From where.
    pub source: Source,
    /// Whether it may go into the cache.
    pub fills: bool,
}

/// The replica and home.
pub struct Upstream {
    home: Arc<dyn HomeRegion>,
    replica: Option<Replica>,
    known: KnownEpoch,
    /// For carts whose owner asks for no currency.
    currency_default: Currency,
    home_lost: AtomicBool,
}

impl Upstream {
    /// What a region has to read from.
    pub fn new(
        home: Arc<dyn HomeRegion>,
        replica: Option<Replica>,
        known: KnownEpoch,
        currency_default: Currency,
    ) -> Self {
        Self { home, replica, known, currency_default, home_lost: AtomicBool::new(false) }
    }

    /// The newest epoch heard of.
    pub fn known_epoch(&self) -> &KnownEpoch {
        &self.known
    }

    /// Whether there is a replica at all.
    pub fn has_replica(&self) -> bool {
        self.replica.is_some()
    }

    /// How far the replica is behind.
    pub fn replication_lag_ms(&self) -> Option<Millis> {
        self.replica.as_ref()?.lag_ms()
    }

    /// Whether home told its news when it was last asked for them.
    pub fn home_is_reachable(&self) -> bool {
        !self.home_lost.load(Ordering::Acquire)
    }

    /// The principal's cart, at this version or a later one.
    pub async fn cart(&self, principal: &Principal, needed: CartVersion) -> Result<Fetched, CartError> {
        if let Some(replica) = self.replica.as_ref().filter(|replica| replica.keeps_up())
            && let Some(fetched) = self.ask_replica(replica, principal, needed).await
        {
            return Ok(fetched);
        }
        match self.home.cart(principal).await {
            Ok(record) if self.known.is_past(record.version.epoch) => Err(CartError::HomeUnavailable),
            Ok(record) => {
                self.known.learn(record.version.epoch);
                Ok(Fetched { record: Arc::new(record), source: Source::Home, fills: true })
            }
            Err(error) if is_no_answer(&error) => {
                let Some(replica) = self.replica.as_ref() else { return Err(error) };
                self.ask_replica(replica, principal, needed).await.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// `None` where the replica has nothing as new, or does not answer.
    async fn ask_replica(
        &self,
        replica: &Replica,
        principal: &Principal,
        needed: CartVersion,
    ) -> Option<Fetched> {
        // Asked before the cart is read: what was told meanwhile may be missing in it.
        let fills = replica.may_fill();
        let epoch = replica.epoch();
        let record = match replica.cart(&principal.cart_id()).await {
            Ok(Some(record)) => record,
            Ok(None) => CartRecord::unused(principal, self.currency_default, epoch),
            Err(error) => {
                debug!(error = %error, "the replica does not answer");
                return None;
            }
        };
        let version = record.version;
        let serves = version >= needed && version.epoch > 0 && !self.known.is_past(version.epoch);
        serves.then(|| Fetched { record: Arc::new(record), source: Source::Replica, fills })
    }

    /// Items by name, as far as they exist.
    pub async fn items(&self, item_ids: &[String]) -> Result<Vec<ItemRecord>, CartError> {
        match (self.home.items(item_ids).await, &self.replica) {
            (Err(error), Some(replica)) if is_no_answer(&error) => Ok(replica.items(item_ids).await?),
            (answer, _) => answer,
        }
    }

    /// The whole catalogue, and its place in the feed.
    pub async fn catalogue(&self) -> Result<CatalogueSnapshot, CartError> {
        let snapshot = match &self.replica {
            Some(replica) if replica.keeps_up() => replica.catalogue().await?,
            Some(replica) => match self.home.catalogue().await {
                Err(error) if is_no_answer(&error) => replica.catalogue().await?,
                answer => answer?,
            },
            None => self.home.catalogue().await?,
        };
        self.of_the_present(snapshot.epoch)?;
        Ok(snapshot)
    }

    /// The component of a revision of the rules.
    pub async fn rules(&self, revision: &str) -> Result<Option<Vec<u8>>, CartError> {
        match (self.home.rules(revision).await, &self.replica) {
            (Err(error), Some(replica)) if is_no_answer(&error) => Ok(replica.rules(revision).await?),
            (answer, _) => answer,
        }
    }

    /// What is new after a position, and whether home told it; waits a while for something to happen. Without a
    /// position, where the feed is now.
    pub async fn news(
        &self,
        after: Option<&FeedPosition>,
        wait: Duration,
    ) -> Result<(FeedPage, Source), CartError> {
        if let Some(replica) = self.replica.as_ref().filter(|replica| replica.keeps_up())
            && let Ok(Some(page)) = replica.page(after, wait).await
        {
            return Ok((page, Source::Replica));
        }
        match self.news_from_home(after, wait).await {
            Ok(page) => Ok((page, Source::Home)),
            // It may have something that is new here, however late.
            Err(error) if is_no_answer(&error) => match &self.replica {
                Some(replica) => match replica.page(after, wait).await? {
                    Some(page) => Ok((page, Source::Replica)),
                    None => Err(error),
                },
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    /// The same from home alone.
    pub async fn news_from_home(
        &self,
        after: Option<&FeedPosition>,
        wait: Duration,
    ) -> Result<FeedPage, CartError> {
        let answer = match self.home.feed(after, wait).await {
            Ok(page) => self.of_the_present(page.epoch).map(|()| page),
            Err(error) => Err(error),
        };
        let lost = matches!(answer, Err(CartError::HomeUnavailable));
        match (self.home_lost.swap(lost, Ordering::AcqRel), lost) {
            (false, true) => warn!("home lost: carts are shown as they are here, and nothing is written"),
            (true, false) => info!("home is back"),
            _ => {}
        }
        answer
    }

    /// The cache was told of these news.
    pub fn told(&self, page: &FeedPage, by: Source) {
        if let (Some(replica), Source::Home) = (&self.replica, by) {
            replica.told_by_home(page);
        }
    }

    /// Whoever speaks of a past epoch is nobody to listen to.
    fn of_the_present(&self, epoch: u32) -> Result<(), CartError> {
        self.known.learn(epoch);
        if self.known.is_past(epoch) { Err(CartError::HomeUnavailable) } else { Ok(()) }
    }
}

/// Whether home has not answered, so that what is here is better than nothing.
fn is_no_answer(error: &CartError) -> bool {
    matches!(error, CartError::HomeUnavailable | CartError::Overloaded)
}
