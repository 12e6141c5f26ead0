//! The home region, asked for callers who may hang up.
//!
//! Work that is dropped half-way closes its connection to the database, which then has to be made anew: a caller who
//! sends and hangs up again and again would keep the pool busy with that. So the work goes on, for nobody if need be;
//! the deadlines of the store bound it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::HomeRegion;
use crate::deadline::detached;
use crate::error::CartError;
use crate::model::{
    CartRecord, CatalogueSnapshot, FeedPage, FeedPosition, ItemRecord, OrderRecord, Principal, WriteReply,
    WriteRequest,
};

/// A home region whose work outlives whoever asks.
pub struct Detached {
    home: Arc<dyn HomeRegion>,
}

impl Detached {
    /// Of this home.
    pub fn new(home: Arc<dyn HomeRegion>) -> Self {
        Self { home }
    }
}

#[async_trait]
impl HomeRegion for Detached {
    async fn write(&self, request: WriteRequest) -> Result<WriteReply, CartError> {
        let home = Arc::clone(&self.home);
        detached(async move { home.write(request).await }).await
    }

    async fn cart(&self, principal: &Principal) -> Result<CartRecord, CartError> {
        let (home, principal) = (Arc::clone(&self.home), principal.clone());
        detached(async move { home.cart(&principal).await }).await
    }

    async fn orders(
        &self,
        owner: &Principal,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<OrderRecord>, CartError> {
        let (home, owner, before) = (Arc::clone(&self.home), owner.clone(), before.map(ToOwned::to_owned));
        detached(async move { home.orders(&owner, before.as_deref(), limit).await }).await
    }

    async fn order(&self, owner: &Principal, order_id: &str) -> Result<OrderRecord, CartError> {
        let (home, owner, order_id) = (Arc::clone(&self.home), owner.clone(), order_id.to_owned());
        detached(async move { home.order(&owner, &order_id).await }).await
    }

    async fn items(&self, item_ids: &[String]) -> Result<Vec<ItemRecord>, CartError> {
        let (home, item_ids) = (Arc::clone(&self.home), item_ids.to_vec());
        detached(async move { home.items(&item_ids).await }).await
    }

    async fn catalogue(&self) -> Result<CatalogueSnapshot, CartError> {
        let home = Arc::clone(&self.home);
        detached(async move { home.catalogue().await }).await
    }

    /// Mostly it waits, and holds nothing meanwhile.
    async fn feed(&self, after: Option<&FeedPosition>, wait: Duration) -> Result<FeedPage, CartError> {
        self.home.feed(after, wait).await
    }

    async fn rules(&self, revision: &str) -> Result<Option<Vec<u8>>, CartError> {
        let (home, revision) = (Arc::clone(&self.home), revision.to_owned());
        detached(async move { home.rules(&revision).await }).await
    }

    fn refusal(&self) -> Option<String> {
        self.home.refusal()
    }

    fn forwards(&self) -> bool {
        self.home.forwards()
    }
}
