//! The home region, asked for callers who may hang up.
//!
//! Work that is dropped half-way closes its connection to the database, which then has to be made anew: a caller who
//! sends and hangs up again and again would keep the pool busy with that. So the work goes on, for nobody if need be;
//! the deadlines of the store bound it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

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

impl HomeRegion for Detached {
    fn write(&self, request: WriteRequest) -> BoxFuture<'_, Result<WriteReply, CartError>> {
        Box::pin(async move {
            let home = Arc::clone(&self.home);
            detached(async move { home.write(request).await }).await
        })
    }

    fn cart<'a>(&'a self, principal: &'a Principal) -> BoxFuture<'a, Result<CartRecord, CartError>> {
        Box::pin(async move {
            let (home, principal) = (Arc::clone(&self.home), principal.clone());
            detached(async move { home.cart(&principal).await }).await
        })
    }

    fn orders<'a>(
        &'a self,
        owner: &'a Principal,
        before: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<OrderRecord>, CartError>> {
        Box::pin(async move {
            let (home, owner, before) =
                (Arc::clone(&self.home), owner.clone(), before.map(ToOwned::to_owned));
            detached(async move { home.orders(&owner, before.as_deref(), limit).await }).await
        })
    }

    fn order<'a>(
        &'a self,
        owner: &'a Principal,
        order_id: &'a str,
    ) -> BoxFuture<'a, Result<OrderRecord, CartError>> {
        Box::pin(async move {
            let (home, owner, order_id) = (Arc::clone(&self.home), owner.clone(), order_id.to_owned());
            detached(async move { home.order(&owner, &order_id).await }).await
        })
    }

    fn items<'a>(&'a self, item_ids: &'a [String]) -> BoxFuture<'a, Result<Vec<ItemRecord>, CartError>> {
        Box::pin(async move {
            let (home, item_ids) = (Arc::clone(&self.home), item_ids.to_vec());
            detached(async move { home.items(&item_ids).await }).await
        })
    }

    fn catalogue(&self) -> BoxFuture<'_, Result<CatalogueSnapshot, CartError>> {
        Box::pin(async move {
            let home = Arc::clone(&self.home);
            detached(async move { home.catalogue().await }).await
        })
    }

    /// Mostly it waits, and holds nothing meanwhile.
    fn feed<'a>(
        &'a self,
        after: Option<&'a FeedPosition>,
        wait: Duration,
    ) -> BoxFuture<'a, Result<FeedPage, CartError>> {
        Box::pin(async move { self.home.feed(after, wait).await })
    }

    fn rules<'a>(&'a self, revision: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, CartError>> {
        Box::pin(async move {
            let (home, revision) = (Arc::clone(&self.home), revision.to_owned());
            detached(async move { home.rules(&revision).await }).await
        })
    }

    fn refusal(&self) -> Option<String> {
        self.home.refusal()
    }

    fn forwards(&self) -> bool {
        self.home.forwards()
    }
}
