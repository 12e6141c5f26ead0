//! The feed is read once for all who follow it from the same place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use edge_host::feed::FeedReader;
use edge_host::model::{CartRecord, CatalogueSnapshot, Change, FeedPage, FeedPosition, ItemRecord};
use edge_host::store::{ReplicaStore, StoreError};
use futures_util::future::BoxFuture;
use futures_util::future::join_all;
use tokio::sync::watch;

use crate::store_contract::support::{Store, done, guest, mysql, one_more, sqlite, write_of};

/// Edges that follow.
const FOLLOWERS: u32 = 8;
/// Longer than any news are under way.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store that counts how often it was asked for its feed.
struct Counted {
    store: Store,
    looks: AtomicU32,
}

impl ReplicaStore for Counted {
    fn feed<'a>(
        &'a self,
        after: Option<&'a FeedPosition>,
        limit: u32,
    ) -> BoxFuture<'a, Result<FeedPage, StoreError>> {
        Box::pin(async move {
            self.looks.fetch_add(1, Ordering::Relaxed);
            self.store.feed(after, limit).await
        })
    }

    fn feed_news(&self) -> watch::Receiver<u64> {
        self.store.feed_news()
    }

    fn cart<'a>(&'a self, cart_id: &'a str) -> BoxFuture<'a, Result<Option<CartRecord>, StoreError>> {
        Box::pin(async move { self.store.cart(cart_id).await })
    }

    fn epoch(&self) -> BoxFuture<'_, Result<u32, StoreError>> {
        Box::pin(async move { self.store.epoch().await })
    }

    fn items<'a>(&'a self, item_ids: &'a [String]) -> BoxFuture<'a, Result<Vec<ItemRecord>, StoreError>> {
        Box::pin(async move { self.store.items(item_ids).await })
    }

    fn catalogue(&self) -> BoxFuture<'_, Result<CatalogueSnapshot, StoreError>> {
        Box::pin(async move { self.store.catalogue().await })
    }

    fn rules<'a>(&'a self, revision: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(async move { self.store.rules(revision).await })
    }

    fn connections(&self) -> (u32, u32) {
        self.store.connections()
    }
}

async fn is_read_once_for_all(store: Store) {
    let counted = Arc::new(Counted { store, looks: AtomicU32::new(0) });
    let reader = FeedReader::new(Arc::clone(&counted) as _);
    let mut at = reader.next_page(None, Duration::ZERO).await.expect("an answer").position;
    for number in 1..=5 {
        let before = counted.looks.load(Ordering::Relaxed);
        let owner = guest(&format!("told-{number}"));
        let write = write_of(&owner);
        let followers = (0..FOLLOWERS).map(|_| reader.next_page(Some(&at), PATIENCE));
        let writing = async { counted.store.write(&write, &mut one_more).await };
        let (pages, written) = tokio::join!(join_all(followers), writing);
        done(written.expect("an answer"));
        let pages: Vec<FeedPage> = pages.into_iter().map(|page| page.expect("an answer")).collect();
        for page in &pages {
            let carts = page.events.iter().map(|event| match &event.change {
                Change::Cart { cart_id, .. } => cart_id.clone(),
                other => panic!("nothing else was written: {other:?}"),
            });
            assert_eq!(carts.collect::<Vec<_>>(), [owner.cart_id()]);
        }
        at = pages[0].position.clone();
        // Each for itself, they would have looked before the news and after them.
        let looks = counted.looks.load(Ordering::Relaxed) - before;
        assert!(looks < FOLLOWERS, "{FOLLOWERS} followers have cost {looks} looks");
    }
}

#[tokio::test]
async fn sqlite_is_read_once_for_all_followers() {
    let (store, _directory) = sqlite().await;
    is_read_once_for_all(store).await;
}

#[tokio::test]
async fn mysql_is_read_once_for_all_followers() {
    let (store, ()) = mysql().await;
    is_read_once_for_all(store).await;
}
