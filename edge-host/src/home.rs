//! The way to the home region, where every write is decided and the truth is read.
//!
//! In the home region itself it is a call into the primary ([`local`]); elsewhere it is one HTTP request to a
//! home edge ([`remote`]). Which home serves a cart is decided by [`Homes::of`] alone.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::error::CartError;
use crate::model::{
    CartRecord, CatalogueSnapshot, FeedPage, FeedPosition, ItemRecord, OrderRecord, Principal, WriteReply,
    WriteRequest,
};

pub mod detached;
pub mod local;
pub mod remote;
pub mod taken;
pub mod wire;

mod edges;
mod heard;
mod orders;

/// Bytes of orders after which a page of them ends: a page of the largest orders must not fill the memory of two
/// edges. A hundred usual orders have a fifth of it.
pub const ORDERS_BYTES_MAX: usize = 1024 * 1024;

/// The size of these orders, as a page counts them.
pub fn bytes_of(orders: &[OrderRecord]) -> usize {
    orders.iter().map(|order| order.document.as_str().len()).sum()
}

/// What every region asks of the home region.
pub trait HomeRegion: Send + Sync {
    /// Decides and commits a write.
    fn write(&self, request: WriteRequest) -> BoxFuture<'_, Result<WriteReply, CartError>>;

    /// The cart as it is now; one that was never used is an empty one.
    fn cart<'a>(&'a self, principal: &'a Principal) -> BoxFuture<'a, Result<CartRecord, CartError>>;

    /// Orders of an owner, newest first, before an order where given. Fewer than `limit` are not all where they have
    /// [`ORDERS_BYTES_MAX`] or more.
    fn orders<'a>(
        &'a self,
        owner: &'a Principal,
        before: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<OrderRecord>, CartError>>;

    /// An order of an owner.
    fn order<'a>(
        &'a self,
        owner: &'a Principal,
        order_id: &'a str,
    ) -> BoxFuture<'a, Result<OrderRecord, CartError>>;

    /// Items as they are now, as far as they exist.
    fn items<'a>(&'a self, item_ids: &'a [String]) -> BoxFuture<'a, Result<Vec<ItemRecord>, CartError>>;

    /// All that a region needs before it can follow the feed.
    fn catalogue(&self) -> BoxFuture<'_, Result<CatalogueSnapshot, CartError>>;

    /// What changed after a position in the feed; waits so long for something to happen. Without a position, the
    /// one where the feed is now.
    fn feed<'a>(
        &'a self,
        after: Option<&'a FeedPosition>,
        wait: Duration,
    ) -> BoxFuture<'a, Result<FeedPage, CartError>>;

    /// The component of a revision of the rules.
    fn rules<'a>(&'a self, revision: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, CartError>>;

    /// Edges of the home region that serve, as seen from elsewhere; `None` in the home region itself.
    fn edges_serving(&self) -> Option<usize> {
        None
    }

    /// Why no write can be done now; `None` when one can, as far as is known.
    fn refusal(&self) -> Option<String>;

    /// Which region answers: where an answer came from, for `Cart-Source`.
    fn forwards(&self) -> bool;
}

/// The homes there are, as one: room for shards, each a home region with a primary of its own.
pub struct Homes {
    only: Arc<dyn HomeRegion>,
}

impl Homes {
    /// One home for everybody.
    pub fn one(only: Arc<dyn HomeRegion>) -> Self {
        Self { only }
    }

    /// The home of a principal's cart and orders: a function of who they are and of nothing else, so that every
    /// edge of every region answers alike, without asking anybody.
    ///
    /// Today it is the one there is. With more, it is that of the shard that the principal's id hashes to,
    /// consistently, so that a new shard moves few; a guest whose cart is merged into a user's is then read from
    /// the one home, and ended there, by the other.
    fn of(&self, _principal: &Principal) -> &dyn HomeRegion {
        self.only.as_ref()
    }

    /// Where the catalogue and the rules come from, which are the same for everybody; and the feed, which each
    /// shard would have one of.
    fn common(&self) -> &dyn HomeRegion {
        self.only.as_ref()
    }
}

impl HomeRegion for Homes {
    fn write(&self, request: WriteRequest) -> BoxFuture<'_, Result<WriteReply, CartError>> {
        Box::pin(async move { self.of(&request.principal).write(request).await })
    }

    fn cart<'a>(&'a self, principal: &'a Principal) -> BoxFuture<'a, Result<CartRecord, CartError>> {
        Box::pin(async move { self.of(principal).cart(principal).await })
    }

    fn orders<'a>(
        &'a self,
        owner: &'a Principal,
        before: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<OrderRecord>, CartError>> {
        Box::pin(async move { self.of(owner).orders(owner, before, limit).await })
    }

    fn order<'a>(
        &'a self,
        owner: &'a Principal,
        order_id: &'a str,
    ) -> BoxFuture<'a, Result<OrderRecord, CartError>> {
        Box::pin(async move { self.of(owner).order(owner, order_id).await })
    }

    fn items<'a>(&'a self, item_ids: &'a [String]) -> BoxFuture<'a, Result<Vec<ItemRecord>, CartError>> {
        Box::pin(async move { self.common().items(item_ids).await })
    }

    fn catalogue(&self) -> BoxFuture<'_, Result<CatalogueSnapshot, CartError>> {
        Box::pin(async move { self.common().catalogue().await })
    }

    fn feed<'a>(
        &'a self,
        after: Option<&'a FeedPosition>,
        wait: Duration,
    ) -> BoxFuture<'a, Result<FeedPage, CartError>> {
        Box::pin(async move { self.common().feed(after, wait).await })
    }

    fn rules<'a>(&'a self, revision: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, CartError>> {
        Box::pin(async move { self.common().rules(revision).await })
    }

    fn edges_serving(&self) -> Option<usize> {
        self.common().edges_serving()
    }

    fn refusal(&self) -> Option<String> {
        self.common().refusal()
    }

    fn forwards(&self) -> bool {
        self.common().forwards()
    }
}
