//! The regional cache in the process's own memory, for one machine without Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use moka::Expiry;
use moka::ops::compute::Op;
use moka::sync::Cache;

use crate::store::{CacheEntry, CartCache, CartCount, StoreError};

/// Memory for carts. A cart of five lines takes about 1 KiB, so this is a quarter of a million of them.
const CACHE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// An entry lives so long without a write: long enough to hit, short enough to bound what a lost
/// invalidation can do.
const ENTRY_TTL: Duration = Duration::from_secs(3600);
/// Entries written together must not expire together.
const ENTRY_TTL_JITTER: Duration = Duration::from_secs(360);

/// Carts in memory.
pub struct MemoryCache {
    carts: Cache<String, CacheEntry>,
}

impl MemoryCache {
    /// An empty cache.
    pub fn new() -> Arc<Self> {
        let carts = Cache::builder()
            .max_capacity(CACHE_BYTES_MAX)
            .weigher(|cart_id: &String, entry: &CacheEntry| weight_bytes(cart_id, entry))
            .expire_after(JitteredTtl)
            .build();
        Arc::new(Self { carts })
    }
}

#[async_trait]
impl CartCache for MemoryCache {
    async fn get(&self, cart_id: &str) -> Result<Option<CacheEntry>, StoreError> {
        Ok(self.carts.get(cart_id))
    }

    async fn count(&self, cart_id: &str) -> Result<Option<CartCount>, StoreError> {
        Ok(match self.carts.get(cart_id) {
            Some(CacheEntry::Full(record)) => Some(CartCount {
                version: record.version,
                lines: record.cart.lines.len(),
                quantity: record.cart.quantity(),
                merged: record.state == crate::model::CartState::Merged,
            }),
            Some(CacheEntry::Floor(_)) | None => None,
        })
    }

    async fn put_if_newer(&self, cart_id: &str, entry: CacheEntry) -> Result<(), StoreError> {
        self.carts.entry_by_ref(cart_id).and_compute_with(|held| match held {
            Some(held) if !replaces(&entry, held.value()) => Op::Nop,
            _ => Op::Put(entry.clone()),
        });
        Ok(())
    }

    async fn forget_all(&self) -> Result<(), StoreError> {
        self.carts.invalidate_all();
        Ok(())
    }
}

fn replaces(new: &CacheEntry, held: &CacheEntry) -> bool {
    match new.version().cmp(&held.version()) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Equal => matches!(held, CacheEntry::Floor(_)),
    }
}

fn weight_bytes(cart_id: &str, entry: &CacheEntry) -> u32 {
    const ENTRY_OVERHEAD_BYTES: usize = 200;
    const LINE_OVERHEAD_BYTES: usize = 160;
    let lines = match entry {
        CacheEntry::Full(record) => record.cart.lines.as_slice(),
        CacheEntry::Floor(_) => &[],
    };
    let lines = lines.iter().map(|line| LINE_OVERHEAD_BYTES + line.variant.len() + line.item_id.len());
    u32::try_from(ENTRY_OVERHEAD_BYTES + cart_id.len() + lines.sum::<usize>()).unwrap_or(u32::MAX)
}

struct JitteredTtl;

impl JitteredTtl {
    /// The jitter comes from the name, so that it needs no randomness.
    fn ttl(cart_id: &str) -> Duration {
        let spread = cart_id.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        ENTRY_TTL + ENTRY_TTL_JITTER * (spread % 1000) / 1000
    }
}

impl Expiry<String, CacheEntry> for JitteredTtl {
    fn expire_after_create(&self, cart_id: &String, _: &CacheEntry, _: Instant) -> Option<Duration> {
        Some(Self::ttl(cart_id))
    }

    fn expire_after_update(
        &self,
        cart_id: &String,
        _: &CacheEntry,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(Self::ttl(cart_id))
    }
}
