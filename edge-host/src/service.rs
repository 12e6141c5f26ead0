//! The cart as one edge serves it: reads from the nearest place that is new enough, writes at home.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cart_core::Quote;
use moka::future::Cache;
use tracing::warn;
use uuid::Uuid;

use crate::catalogue::{CartFacts, Catalogue};
use crate::clock::now_ms;
use crate::error::CartError;
use crate::home::HomeRegion;
use crate::model::{
    CartRecord, CartState, CartVersion, Millis, Operation, Principal, WriteReply, WriteRequest,
};
use crate::rules::{Rules, RulesHandle};
use crate::store::{CacheEntry, CartCache};
use crate::telemetry::metric;
use crate::view::CountView;

/// Reads of the home region that are under way at once for different carts.
const FLIGHTS_MAX: u64 = 10_000;
/// A finished flight is forgotten at once; this bounds what an unlucky late-comer can share.
const FLIGHT_TTL: Duration = Duration::from_millis(20);

/// Carts, as one edge serves them.
pub struct CartService {
    /// This region's id.
    pub region: String,
    /// The region's copy of carts.
    pub cache: Arc<dyn CartCache>,
    /// Where writes are decided.
    pub home: Arc<dyn HomeRegion>,
    /// The region's copy of the catalogue.
    pub catalogue: Arc<Catalogue>,
    /// The rules that this region runs.
    pub rules: Arc<RulesHandle>,
    flights: Cache<(String, CartVersion), Arc<CartRecord>>,
    /// Counts how often the cache was emptied: what was fetched before is not put in after.
    cache_generation: AtomicU64,
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The regional cache.
    Cache,
    /// The home region.
    Home,
}

impl Source {
    /// The word in `Cart-Source`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Home => "home",
        }
    }
}

/// Where the time of a request went; goes out as `Server-Timing`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// The regional cache.
    pub cache: Option<Duration>,
    /// The home region's database.
    pub db: Option<Duration>,
    /// The rules.
    pub rules: Option<Duration>,
    /// The way to the home region and back, all that happened there included.
    pub forward: Option<Duration>,
}

/// A cart that was read and priced.
pub struct CartRead {
    /// The cart.
    pub record: Arc<CartRecord>,
    /// Its prices.
    pub quote: Quote,
    /// The facts it was priced by.
    pub facts: CartFacts,
    /// The rules that priced it.
    pub rules: Arc<Rules>,
    /// Where it came from.
    pub source: Source,
    /// Where the time went.
    pub timing: Timing,
}

impl CartService {
    /// A service over these parts.
    pub fn new(
        region: String,
        cache: Arc<dyn CartCache>,
        home: Arc<dyn HomeRegion>,
        catalogue: Arc<Catalogue>,
        rules: Arc<RulesHandle>,
    ) -> Self {
        let flights = Cache::builder().max_capacity(FLIGHTS_MAX).time_to_live(FLIGHT_TTL).build();
        Self { region, cache, home, catalogue, rules, flights, cache_generation: AtomicU64::new(0) }
    }

    /// The principal's cart with today's prices, no older than `seen`.
    pub async fn cart(
        &self,
        principal: &Principal,
        seen: Option<CartVersion>,
    ) -> Result<CartRead, CartError> {
        let mut timing = Timing::default();
        let (record, source) = self.record(principal, seen, &mut timing).await?;
        if record.state == CartState::Merged {
            return Err(CartError::CartMerged);
        }
        let facts = self.facts(&record).await;
        let none = || CartError::RulesFailed { code: "rules_not_loaded".to_owned() };
        let rules = self.rules.current().ok_or_else(none)?;
        let context = facts.context(&record.cart, principal, &self.region, now_ms());
        let outcome = rules.quote(&record.cart, &context);
        metric::rules_call(&self.region, &outcome);
        let outcome = outcome?;
        timing.rules = Some(outcome.duration);
        Ok(CartRead { record, quote: outcome.value, facts, rules, source, timing })
    }

    /// Lines and units of the principal's cart, without loading it where the cache can count.
    pub async fn count(
        &self,
        principal: &Principal,
        seen: Option<CartVersion>,
    ) -> Result<(CartVersion, CountView, Source, Timing), CartError> {
        let mut timing = Timing::default();
        let started = Instant::now();
        let counted = self.cache.count(&principal.cart_id()).await.unwrap_or_default();
        timing.cache = Some(started.elapsed());
        if let Some(count) = counted.filter(|count| seen.is_none_or(|seen| count.version >= seen)) {
            metric::cache_request(&self.region, "hit");
            if count.merged {
                return Err(CartError::CartMerged);
            }
            let view = CountView { lines: count.lines, quantity: count.quantity };
            return Ok((count.version, view, Source::Cache, timing));
        }
        let (record, source) = self.record(principal, seen, &mut timing).await?;
        if record.state == CartState::Merged {
            return Err(CartError::CartMerged);
        }
        Ok((record.version, CountView::of(&record.cart), source, timing))
    }

    /// Changes the principal's cart, at home.
    pub async fn write(
        &self,
        principal: Principal,
        operation: Operation,
        idempotency_key: Option<String>,
        if_match: Option<Vec<CartVersion>>,
    ) -> Result<(WriteReply, Timing), CartError> {
        let (op, cart_id) = (operation.name(), principal.cart_id());
        let guest_cart_id = match &operation {
            Operation::Merge { guest, .. } => Some(guest.cart_id()),
            _ => None,
        };
        // A key of our own makes it safe to send the request home a second time.
        let key_made = idempotency_key.is_none();
        let idempotency_key = idempotency_key.unwrap_or_else(|| format!("edge:{}", Uuid::new_v4()));
        let request = WriteRequest { principal, operation, idempotency_key, key_made, if_match };
        let started = Instant::now();
        let reply = self.home.write(request).await;
        let elapsed = started.elapsed();
        metric::write(&self.region, op, outcome_word(&reply));
        if self.home.forwards() {
            metric::forward(&self.region, elapsed);
        }
        if let Err(CartError::VersionMismatch(current)) = &reply {
            // Or the client would read the old version here, and fail with it again.
            self.put(&cart_id, CacheEntry::Floor(*current)).await;
        }
        let reply = reply?;
        let timing = Timing {
            cache: None,
            db: Some(Duration::from_micros(reply.timing.db_us)),
            rules: Some(Duration::from_micros(reply.timing.rules_us)),
            forward: self.home.forwards().then_some(elapsed),
        };
        // The client reads its own write here at once; should this fail, its `Cart-Version` still protects it.
        let entry = match &reply.record {
            Some(record) => CacheEntry::Full(Arc::new(record.clone())),
            None => CacheEntry::Floor(reply.answer.version),
        };
        self.put(&cart_id, entry).await;
        if let Some((guest_cart_id, version)) = guest_cart_id.zip(reply.guest_version) {
            self.put(&guest_cart_id, CacheEntry::Floor(version)).await;
        }
        Ok((reply, timing))
    }

    /// Puts an entry in the cache, unless there is a newer one. A cache that fails is only slow.
    pub async fn put(&self, cart_id: &str, entry: CacheEntry) {
        if let Err(error) = self.cache.put_if_newer(cart_id, entry).await {
            metric::cache_request(&self.region, "error");
            warn!(cart.id = cart_id, error = %error, "cache did not take an entry");
        }
    }

    /// Forgets all carts, also those that are on their way here.
    pub async fn forget_all(&self) {
        self.cache_generation.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = self.cache.forget_all().await {
            warn!(error = %error, "cache could not be emptied");
        }
    }

    /// The cart, from the cache where that is new enough, else from home: one request for all who wait for
    /// the same.
    async fn record(
        &self,
        principal: &Principal,
        seen: Option<CartVersion>,
        timing: &mut Timing,
    ) -> Result<(Arc<CartRecord>, Source), CartError> {
        let cart_id = principal.cart_id();
        let started = Instant::now();
        let held = self.cache.get(&cart_id).await;
        timing.cache = Some(started.elapsed());
        let floor = match held {
            Ok(Some(CacheEntry::Full(record))) => {
                if seen.is_none_or(|seen| record.version >= seen) {
                    metric::cache_request(&self.region, "hit");
                    return Ok((record, Source::Cache));
                }
                metric::cache_request(&self.region, "stale");
                record.version
            }
            Ok(Some(CacheEntry::Floor(version))) => {
                metric::cache_request(&self.region, "stale");
                version
            }
            Ok(None) => {
                metric::cache_request(&self.region, "miss");
                CartVersion::default()
            }
            Err(error) => {
                metric::cache_request(&self.region, "error");
                warn!(error = %error, "cache did not answer");
                CartVersion::default()
            }
        };
        // The flight is named after the version it must reach: nobody shares one that began before their write.
        let flight = (cart_id, floor.max(seen.unwrap_or_default()));
        let started = Instant::now();
        let fetch = async {
            let generation = self.cache_generation.load(Ordering::SeqCst);
            let record = Arc::new(self.home.cart(principal).await?);
            if generation == self.cache_generation.load(Ordering::SeqCst) {
                self.put(&record.cart_id, CacheEntry::Full(Arc::clone(&record))).await;
            }
            Ok::<_, CartError>(record)
        };
        let record = self.flights.try_get_with_by_ref(&flight, fetch).await;
        self.flights.invalidate(&flight).await;
        let elapsed = started.elapsed();
        if self.home.forwards() {
            metric::forward(&self.region, elapsed);
            timing.forward = Some(elapsed);
        } else {
            timing.db = Some(elapsed);
        }
        Ok((record.map_err(|error: Arc<CartError>| CartError::clone(&error))?, Source::Home))
    }

    /// The facts of a cart. What this region has not heard of yet, it asks home for.
    async fn facts(&self, record: &CartRecord) -> CartFacts {
        let facts = self.catalogue.facts(&record.cart);
        if facts.items_missing.is_empty() {
            return facts;
        }
        match self.home.items(&facts.items_missing).await {
            Ok(items) => {
                items.into_iter().for_each(|item| self.catalogue.fill_item(item));
                self.catalogue.facts(&record.cart)
            }
            // The cart is shown with the line as gone; the warning says so.
            Err(_) => facts,
        }
    }
}

fn outcome_word(reply: &Result<WriteReply, CartError>) -> &'static str {
    match reply {
        Ok(reply) if reply.replayed => "replayed",
        Ok(_) => "ok",
        Err(error) => match error {
            CartError::Rejected(_) => "rejected",
            CartError::CartMerged => "cart_merged",
            CartError::VersionMismatch(_) => "version_mismatch",
            CartError::CartChanged { .. } => "cart_changed",
            CartError::KeyReused => "key_reused",
            CartError::InProgress => "in_progress",
            CartError::LineUnknown(_) | CartError::ItemUnknown(_) | CartError::OrderUnknown(_) => "unknown",
            CartError::RulesFailed { .. } => "rules_failed",
            CartError::HomeUnavailable => "home_unavailable",
            CartError::LoopDetected => "loop_detected",
            CartError::Internal(_) => "internal",
        },
    }
}

/// How old a change is when it is applied.
pub fn lag_ms(at_ms: Millis) -> Millis {
    now_ms() - at_ms
}
