//! The regional cache in the process's own memory, for one machine without Redis.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use moka::Expiry;
use moka::ops::compute::Op;
use moka::sync::Cache;
use tokio::sync::watch;

use crate::model::{CartRecord, CartState, CartVersion};
use crate::store::ttl::entry_ttl;
use crate::store::{
    CacheEntry, CacheFeed, CartCache, CartCount, CartDocument, FillTicket, Glance, StoreError,
};

/// Memory for carts. A cart of five lines takes about 4 KiB with its document, so this is 60 000 of them.
const CACHE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Carts in memory.
pub struct MemoryCache {
    carts: Cache<String, Held>,
    lives: AtomicU64,
    feed: Mutex<Option<CacheFeed>>,
    /// Never changes: what is in this process is always the same.
    connections: watch::Sender<u64>,
}

/// What is held of one cart.
#[derive(Clone)]
struct Held {
    /// Tells this entry from one of the same cart before it was forgotten.
    life: u64,
    version: CartVersion,
    /// `None`: a floor.
    cart: Option<Arc<CartRecord>>,
    document: Option<Arc<CartDocument>>,
}

impl MemoryCache {
    /// An empty cache.
    pub fn new() -> Arc<Self> {
        let carts = Cache::builder()
            .max_capacity(CACHE_BYTES_MAX)
            .weigher(|cart_id: &String, held: &Held| weight_bytes(cart_id, held))
            .expire_after(JitteredTtl)
            .build();
        Arc::new(Self {
            carts,
            lives: AtomicU64::new(1),
            feed: Mutex::default(),
            connections: watch::Sender::new(1),
        })
    }

    fn feed(&self) -> MutexGuard<'_, Option<CacheFeed>> {
        self.feed.lock().expect("no holder of the lock can panic")
    }

    /// Changes what is held of a cart in one step; `None` leaves it as it is.
    fn update(&self, cart_id: &str, change: impl FnOnce(Option<Held>) -> Option<Held>) {
        self.carts
            .entry_by_ref(cart_id)
            .and_compute_with(|held| change(held.map(moka::Entry::into_value)).map_or(Op::Nop, Op::Put));
    }

    fn floor(&self, version: CartVersion) -> Held {
        let life = self.lives.fetch_add(1, Ordering::Relaxed);
        Held { life, version, cart: None, document: None }
    }
}

impl CartCache for MemoryCache {
    fn glance<'a>(
        &'a self,
        cart_id: &'a str,
        _: Option<CartVersion>,
    ) -> BoxFuture<'a, Result<Option<Glance>, StoreError>> {
        Box::pin(async move {
            let held = self.carts.get(cart_id).filter(|held| held.version != CartVersion::default());
            Ok(held.map(|held| Glance {
                version: held.version,
                full: held.cart.is_some(),
                document: held.document,
                near: false,
            }))
        })
    }

    fn get<'a>(&'a self, cart_id: &'a str) -> BoxFuture<'a, Result<Option<CacheEntry>, StoreError>> {
        Box::pin(async move {
            let held = self.carts.get(cart_id).filter(|held| held.version != CartVersion::default());
            Ok(held.map(|held| held.cart.map_or(CacheEntry::Floor(held.version), CacheEntry::Full)))
        })
    }

    fn count<'a>(&'a self, cart_id: &'a str) -> BoxFuture<'a, Result<Option<CartCount>, StoreError>> {
        Box::pin(async move {
            let cart = self.carts.get(cart_id).and_then(|held| held.cart);
            Ok(cart.map(|record| CartCount {
                version: record.version,
                lines: record.cart.lines.len(),
                quantity: record.cart.quantity(),
                merged: record.state == CartState::Merged,
            }))
        })
    }

    fn ticket<'a>(&'a self, cart_id: &'a str) -> BoxFuture<'a, Result<FillTicket, StoreError>> {
        Box::pin(async move {
            let mut life = 0;
            self.update(cart_id, |held| {
                let held = held.unwrap_or_else(|| self.floor(CartVersion::default()));
                life = held.life;
                Some(held)
            });
            Ok(FillTicket { cart_id: cart_id.to_owned(), life: life.to_string() })
        })
    }

    fn fill<'a>(
        &'a self,
        ticket: FillTicket,
        cart: &'a CartRecord,
        document: Option<&'a CartDocument>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let document = document.filter(|document| document.version == cart.version);
            self.update(&ticket.cart_id, |held| {
                let held = held.filter(|held| held.life.to_string() == ticket.life)?;
                let newer =
                    cart.version > held.version || (cart.version == held.version && held.cart.is_none());
                newer.then(|| Held {
                    version: cart.version,
                    cart: Some(Arc::new(cart.clone())),
                    document: document.cloned().map(Arc::new),
                    ..held
                })
            });
            Ok(())
        })
    }

    fn floors<'a>(&'a self, floors: &'a [(String, CartVersion)]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            for (cart_id, version) in floors {
                self.update(cart_id, |held| match held {
                    Some(held) if held.version >= *version => None,
                    Some(held) => Some(Held { life: held.life, ..self.floor(*version) }),
                    None => Some(self.floor(*version)),
                });
            }
            Ok(())
        })
    }

    fn keep_document<'a>(
        &'a self,
        cart_id: &'a str,
        document: &'a CartDocument,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.update(cart_id, |held| {
                let held = held.filter(|held| held.version == document.version && held.cart.is_some())?;
                Some(Held { document: Some(Arc::new(document.clone())), ..held })
            });
            Ok(())
        })
    }

    fn connected(&self) -> u64 {
        1
    }

    fn connections(&self) -> watch::Receiver<u64> {
        self.connections.subscribe()
    }

    fn feed_position(&self) -> BoxFuture<'_, Result<Option<CacheFeed>, StoreError>> {
        Box::pin(async move { Ok(self.feed().clone()) })
    }

    fn advance<'a>(
        &'a self,
        from: &'a CacheFeed,
        to: &'a CacheFeed,
    ) -> BoxFuture<'a, Result<Option<CacheFeed>, StoreError>> {
        Box::pin(async move {
            let mut feed = self.feed();
            let between = |at: &&mut CacheFeed| {
                at.epoch == to.epoch && (from.position.seq..=to.position.seq).contains(&at.position.seq)
            };
            if let Some(at) = feed.as_mut().filter(between) {
                at.clone_from(to);
            }
            Ok(feed.clone())
        })
    }

    fn start_anew<'a>(&'a self, from: &'a CacheFeed) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.carts.invalidate_all();
            *self.feed() = Some(from.clone());
            Ok(())
        })
    }
}

fn weight_bytes(cart_id: &str, held: &Held) -> u32 {
    const ENTRY_OVERHEAD_BYTES: usize = 200;
    const LINE_OVERHEAD_BYTES: usize = 160;
    let lines = held.cart.as_ref().map_or(&[][..], |record| record.cart.lines.as_slice());
    let lines = lines.iter().map(|line| LINE_OVERHEAD_BYTES + line.variant.len() + line.item_id.len());
    let document = held.document.as_ref().map_or(0, |document| document.body.len());
    let bytes = ENTRY_OVERHEAD_BYTES + cart_id.len() + lines.sum::<usize>() + document;
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

struct JitteredTtl;

impl Expiry<String, Held> for JitteredTtl {
    fn expire_after_create(&self, cart_id: &String, _: &Held, _: Instant) -> Option<Duration> {
        Some(entry_ttl(cart_id))
    }

    fn expire_after_update(
        &self,
        cart_id: &String,
        _: &Held,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry_ttl(cart_id))
    }
}
