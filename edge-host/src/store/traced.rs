//! A database whose calls are spans of the traces that they are made for, by the conventions of OpenTelemetry.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use region_router::traces::{self, Kind, Span};
use tokio::sync::watch;

use super::{
    CartWrite, Decide, DecideCoupon, DecideItem, KeyedOutcome, OnceKey, PrimaryState, PrimaryStore, Pulse,
    ReplicaStore, StoreError, Swept, WriteOutcome,
};
use crate::model::{
    CartRecord, CatalogueSnapshot, CouponRecord, FeedPage, FeedPosition, ItemRecord, Millis, OrderRecord,
    OrderState, Principal,
};

/// A store, and the name of what it is in.
pub struct Traced<S: ?Sized> {
    store: Arc<S>,
    system: &'static str,
}

impl<S: ?Sized> Traced<S> {
    /// This store; `system` is its `db.system.name`.
    pub fn new(store: Arc<S>, system: &'static str) -> Arc<Self> {
        Arc::new(Self { store, system })
    }

    /// One call: what it does (`SELECT`), and to what (`carts`).
    fn call<'a, T: Send + 'a>(
        &self,
        operation: &'static str,
        target: &'static str,
        work: BoxFuture<'a, Result<T, StoreError>>,
    ) -> BoxFuture<'a, Result<T, StoreError>> {
        let system = self.system;
        let describe = move || {
            let summary = format!("{operation} {target}");
            Span::new(Kind::Client, summary.clone())
                .with("db.system.name", system)
                .with("db.operation.name", operation)
                .with("db.collection.name", target)
                .with("db.query.summary", summary)
        };
        // Boxed a second time only where spans are kept.
        if !traces::is_recorded() {
            return work;
        }
        let ended = |outcome: &Result<T, StoreError>, span: &mut Span| {
            if let Err(error) = outcome {
                span.fail(error.word());
            }
        };
        traces::in_span(describe, work, ended).boxed()
    }
}

impl<S: ReplicaStore + ?Sized> ReplicaStore for Traced<S> {
    fn cart<'a>(&'a self, cart_id: &'a str) -> BoxFuture<'a, Result<Option<CartRecord>, StoreError>> {
        self.call("SELECT", "carts", self.store.cart(cart_id))
    }

    fn epoch(&self) -> BoxFuture<'_, Result<u32, StoreError>> {
        self.call("SELECT", "cluster", self.store.epoch())
    }

    fn items<'a>(&'a self, item_ids: &'a [String]) -> BoxFuture<'a, Result<Vec<ItemRecord>, StoreError>> {
        self.call("SELECT", "items", self.store.items(item_ids))
    }

    fn catalogue(&self) -> BoxFuture<'_, Result<CatalogueSnapshot, StoreError>> {
        self.call("SELECT", "items", self.store.catalogue())
    }

    fn feed<'a>(
        &'a self,
        after: Option<&'a FeedPosition>,
        limit: u32,
    ) -> BoxFuture<'a, Result<FeedPage, StoreError>> {
        self.call("SELECT", "outbox", self.store.feed(after, limit))
    }

    fn feed_news(&self) -> watch::Receiver<u64> {
        self.store.feed_news()
    }

    fn rules<'a>(&'a self, revision: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreError>> {
        self.call("SELECT", "rule_revisions", self.store.rules(revision))
    }

    fn pulse(&self) -> watch::Receiver<Option<Pulse>> {
        self.store.pulse()
    }

    fn connections(&self) -> (u32, u32) {
        self.store.connections()
    }
}

impl<S: PrimaryStore + ?Sized> PrimaryStore for Traced<S> {
    /// A transaction of several statements, which writes that come at the same time share: by the conventions that is
    /// named after the statement that it is about.
    fn write<'a>(
        &'a self,
        write: &'a CartWrite,
        decide: &'a mut Decide<'_>,
    ) -> BoxFuture<'a, Result<WriteOutcome, StoreError>> {
        self.call("UPDATE", "carts", self.store.write(write, decide))
    }

    fn orders<'a>(
        &'a self,
        owner: &'a Principal,
        before: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<OrderRecord>, StoreError>> {
        self.call("SELECT", "orders", self.store.orders(owner, before, limit))
    }

    fn order<'a>(
        &'a self,
        owner: &'a Principal,
        order_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<OrderRecord>, StoreError>> {
        self.call("SELECT", "orders", self.store.order(owner, order_id))
    }

    fn placed_order<'a>(
        &'a self,
        order_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<OrderRecord>, StoreError>> {
        self.call("SELECT", "orders", self.store.placed_order(order_id))
    }

    fn settle_order<'a>(
        &'a self,
        order_id: &'a str,
        to: OrderState,
        key: &'a OnceKey,
    ) -> BoxFuture<'a, Result<KeyedOutcome<OrderRecord>, StoreError>> {
        self.call("UPDATE", "orders", self.store.settle_order(order_id, to, key))
    }

    fn write_item<'a>(
        &'a self,
        item_id: &'a str,
        key: &'a OnceKey,
        decide: &'a mut DecideItem<'_>,
    ) -> BoxFuture<'a, Result<KeyedOutcome<ItemRecord>, StoreError>> {
        self.call("UPDATE", "items", self.store.write_item(item_id, key, decide))
    }

    fn write_coupon<'a>(
        &'a self,
        code: &'a str,
        key: &'a OnceKey,
        decide: &'a mut DecideCoupon<'_>,
    ) -> BoxFuture<'a, Result<KeyedOutcome<CouponRecord>, StoreError>> {
        self.call("UPDATE", "coupons", self.store.write_coupon(code, key, decide))
    }

    fn activate_rules<'a>(
        &'a self,
        revision: &'a str,
        bytes: &'a [u8],
        now_ms: Millis,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        self.call("INSERT", "rule_revisions", self.store.activate_rules(revision, bytes, now_ms))
    }

    fn sweep(&self, now_ms: Millis) -> BoxFuture<'_, Result<Swept, StoreError>> {
        self.call("DELETE", "carts", self.store.sweep(now_ms))
    }

    fn active_rules(&self) -> BoxFuture<'_, Result<Option<String>, StoreError>> {
        self.call("SELECT", "cluster", self.store.active_rules())
    }

    fn commit_nothing(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.call("UPDATE", "cluster", self.store.commit_nothing())
    }

    fn state(&self) -> PrimaryState {
        self.store.state()
    }
}
