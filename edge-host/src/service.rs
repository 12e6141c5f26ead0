//! The cart as one edge serves it: reads from the nearest place that is new enough, writes at home.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::future::Cache;
use tokio::sync::Semaphore;
use tracing::debug;
use uuid::Uuid;

use crate::catalogue::{CartFacts, Catalogue};
use crate::clock::Clock;
use crate::confirmed::Confirmed;
use crate::document;
use crate::error::CartError;
use crate::home::HomeRegion;
use crate::model::{
    CartRecord, CartState, CartVersion, Operation, Principal, Seen, WriteReply, WriteRequest,
};
use crate::rules::{Rules, RulesHandle};
use crate::shares::Queues;
use crate::store::{CacheEntry, CartCache, CartCount, CartDocument, FillTicket, Glance, HEAVY_LINE_CALLS};
use crate::telemetry::metric::{self, CacheRequests};
use crate::upstream::{Fetched, Source, Upstream};
use crate::view::CountView;
use crate::workers::off_the_workers;

pub use self::timing::Timing;

mod timing;

/// Reads of the home region that are under way at once for different carts.
const FLIGHTS_MAX: u64 = 10_000;
/// A finished flight is forgotten at once; this bounds what an unlucky late-comer can share.
const FLIGHT_TTL: Duration = Duration::from_millis(20);

/// Reads of one large cart that wait until it is priced; more are turned away at once.
const READS_OF_ONE_LARGE_CART_MAX: usize = 128;
/// Large carts that are priced at once. Each keeps a processor busy, and there are others who need one.
const HEAVY_AT_ONCE: usize = 2;

/// Carts, as one edge serves them.
pub struct CartService {
    /// This region's id.
    pub region: String,
    /// The region's copy of carts.
    pub cache: Arc<dyn CartCache>,
    /// Where writes are decided.
    pub home: Arc<dyn HomeRegion>,
    /// Where it reads what the cache does not have.
    pub upstream: Arc<Upstream>,
    /// The region's copy of the catalogue.
    pub catalogue: Arc<Catalogue>,
    /// The rules that this region runs.
    pub rules: Arc<RulesHandle>,
    /// The time of the database.
    pub clock: Clock,
    flights: Cache<(String, CartVersion), Fetched>,
    confirmed: Confirmed,
    /// Reads of large carts that have to be priced, and those that are priced now.
    renders: Queues,
    heavy: Semaphore,
    requests: CacheRequests,
    /// The connection over which the cache was seen to have been told of all changes, the only one it is read over; or 0.
    cache_current: AtomicU64,
}

/// A cart that was read and priced.
pub struct CartRead {
    /// Which cart.
    pub cart_id: String,
    /// The cart as the public sees it.
    pub document: Arc<CartDocument>,
    /// Where it came from.
    pub source: Source,
    /// Whether it may be older than what home has, because home cannot be asked.
    pub unconfirmed: bool,
    /// Where the time went.
    pub timing: Timing,
}

/// Lines and units of a cart.
pub struct CountRead {
    /// Which cart.
    pub cart_id: String,
    /// Its version.
    pub version: CartVersion,
    /// What was counted.
    pub count: CountView,
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
        upstream: Arc<Upstream>,
        catalogue: Arc<Catalogue>,
        rules: Arc<RulesHandle>,
        clock: Clock,
    ) -> Self {
        let requests = CacheRequests::of(&region);
        let flights = Cache::builder().max_capacity(FLIGHTS_MAX).time_to_live(FLIGHT_TTL).build();
        Self {
            region,
            cache,
            home,
            upstream,
            catalogue,
            rules,
            clock,
            flights,
            confirmed: Confirmed::new(),
            renders: Queues::new(READS_OF_ONE_LARGE_CART_MAX),
            heavy: Semaphore::new(HEAVY_AT_ONCE),
            requests,
            cache_current: AtomicU64::new(0),
        }
    }

    /// The principal's cart with today's prices, no older than `seen`.
    pub async fn cart(&self, principal: &Principal, seen: Seen) -> Result<CartRead, CartError> {
        let mut timing = Timing::default();
        let none = || CartError::RulesFailed { code: "rules_not_loaded".to_owned() };
        let rules = self.rules.current().ok_or_else(none)?;
        let cart_id = principal.cart_id();
        let started = Instant::now();
        let seen = self.credible(&cart_id, seen, started);
        let glance = self.glance(&cart_id, seen).await;
        timing.cache = Some(started.elapsed());
        if let Some(Glance { document: Some(document), near, .. }) = &glance
            && self.is_good(document, &rules, seen)
        {
            self.requests.hit.increment(1);
            if *near {
                self.requests.hit_near.increment(1);
            }
            return Ok(self.read(cart_id, Arc::clone(document), Source::Cache, timing));
        }
        // What a read seldom needs is not carried about by all of them.
        Box::pin(self.render(principal, &rules, glance, seen, timing)).await
    }

    /// Reads and prices a cart that is not there rendered.
    async fn render(
        &self,
        principal: &Principal,
        rules: &Rules,
        glance: Option<Glance>,
        seen: Option<CartVersion>,
        mut timing: Timing,
    ) -> Result<CartRead, CartError> {
        let rendered = glance.as_ref().and_then(|glance| glance.document.clone());
        let (record, source) = self.record(principal, glance, seen, &mut timing).await?;
        if record.state == CartState::Merged {
            return Err(CartError::CartMerged);
        }
        // The client claimed to have seen a newer one, and there is none.
        let is_current = |document: &Arc<CartDocument>| document.version == record.version;
        if let Some(document) = rendered.filter(is_current).filter(|it| self.is_good(it, rules, None)) {
            return Ok(self.read(record.cart_id.clone(), document, source, timing));
        }
        if record.cart.lines.len() <= HEAVY_LINE_CALLS {
            return self.price(principal, rules, &record, source, timing).await;
        }
        // It takes milliseconds of a processor. For each cart one does it, and the others use what has come of it.
        let place = self.renders.enter(&record.cart_id).ok_or(CartError::Busy)?;
        let _turn = place.turn().await;
        let least = Some(record.version);
        if let Some(Glance { document: Some(document), .. }) = self.glance(&record.cart_id, least).await
            && self.is_good(&document, rules, least)
        {
            return Ok(self.read(record.cart_id.clone(), document, source, timing));
        }
        let _slot = self.heavy.acquire().await.map_err(|_| CartError::Overloaded)?;
        self.price(principal, rules, &record, source, timing).await
    }

    /// Prices a cart, and keeps the document.
    async fn price(
        &self,
        principal: &Principal,
        rules: &Rules,
        record: &CartRecord,
        source: Source,
        mut timing: Timing,
    ) -> Result<CartRead, CartError> {
        let facts = self.facts(record).await;
        let now_ms = self.clock.now_ms();
        let context = facts.context(&record.cart, principal, &self.region, now_ms);
        let is_heavy = record.cart.lines.len() > HEAVY_LINE_CALLS;
        let outcome = off_the_workers(is_heavy, || rules.quote(&record.cart, &context));
        metric::rules_call(&self.region, &outcome);
        let outcome = outcome?;
        timing.rules = Some(outcome.duration);
        let quote = &outcome.value;
        let body = document::body(record, quote, &[], &facts, rules)?;
        let prints = facts.prints.clone();
        let document = document::document(record, body.into(), &facts, prints, rules, quote, now_ms);
        let document = Arc::new(document);
        // What is not known here today may be known tomorrow, without a change that would tell.
        if facts.items_missing.is_empty()
            && let Err(error) = self.cache.keep_document(&record.cart_id, &document).await
        {
            debug!(cart.id = record.cart_id, error = %error, "cache did not keep a document");
        }
        Ok(self.read(record.cart_id.clone(), document, source, timing))
    }

    fn read(&self, cart_id: String, document: Arc<CartDocument>, source: Source, timing: Timing) -> CartRead {
        let unconfirmed = source != Source::Home && !self.upstream.home_is_reachable();
        CartRead { cart_id, document, source, unconfirmed, timing }
    }

    /// The version of a cart that a client has seen, as far as home has not just said that there is none.
    fn credible(&self, cart_id: &str, seen: Seen, now: Instant) -> Option<CartVersion> {
        seen.of(cart_id).map(|seen| self.confirmed.at_most(cart_id, seen, now))
    }

    /// Lines and units of the principal's cart, without loading it where the cache can count.
    pub async fn count(&self, principal: &Principal, seen: Seen) -> Result<CountRead, CartError> {
        let mut timing = Timing::default();
        let cart_id = principal.cart_id();
        let seen = self.credible(&cart_id, seen, Instant::now());
        if self.cache_is_current() {
            let started = Instant::now();
            let counted = self.cache.count(&cart_id).await.unwrap_or_default();
            timing.cache = Some(started.elapsed());
            let serves = |count: &CartCount| {
                self.cache_is_current()
                    && seen.is_none_or(|seen| count.version >= seen)
                    && self.is_of_the_present(count.version)
            };
            if let Some(count) = counted.filter(serves) {
                self.requests.hit.increment(1);
                if count.merged {
                    return Err(CartError::CartMerged);
                }
                let view = CountView { lines: count.lines, quantity: count.quantity };
                return Ok(CountRead {
                    cart_id,
                    version: count.version,
                    count: view,
                    source: Source::Cache,
                    timing,
                });
            }
        }
        let glance = self.glance(&cart_id, seen).await;
        let (record, source) = self.record(principal, glance, seen, &mut timing).await?;
        if record.state == CartState::Merged {
            return Err(CartError::CartMerged);
        }
        let count = CountView::of(&record.cart);
        Ok(CountRead { cart_id, version: record.version, count, source, timing })
    }

    /// Changes the principal's cart, at home. `route` is the method and path of the request.
    pub async fn write(
        &self,
        principal: Principal,
        operation: Operation,
        idempotency_key: Option<String>,
        if_match: Option<Vec<CartVersion>>,
        route: Option<String>,
    ) -> Result<(WriteReply, Timing), CartError> {
        let (op, cart_id) = (operation.name(), principal.cart_id());
        let guest_cart_id = match &operation {
            Operation::Merge { guest, .. } => Some(guest.cart_id()),
            _ => None,
        };
        // A key of our own makes it safe to send the request home a second time.
        let key_made = idempotency_key.is_none();
        let idempotency_key = idempotency_key.unwrap_or_else(|| format!("edge:{}", Uuid::new_v4()));
        let request = WriteRequest { principal, operation, idempotency_key, key_made, if_match, route };
        let ticket = self.cache.ticket(&cart_id).await.ok();
        let started = Instant::now();
        let reply = self.home.write(request).await;
        let elapsed = started.elapsed();
        metric::write(&self.region, op, outcome_word(&reply));
        if self.home.forwards() {
            metric::forward(&self.region, elapsed);
        }
        if let Err(CartError::VersionMismatch(current)) = &reply {
            // Or the client would read the old version here, and fail with it again.
            self.put_floors(&[(cart_id.clone(), *current)]).await;
        }
        let reply = reply?;
        self.confirmed.forget(&cart_id);
        let timing = Timing {
            cache: None,
            db: Some(Duration::from_micros(reply.timing.db_us)),
            rules: Some(Duration::from_micros(reply.timing.rules_us)),
            forward: self.home.forwards().then_some(elapsed),
        };
        // The client reads its own write here at once; should this fail, its `Cart-Version` still protects it.
        let mut floors = Vec::new();
        match (&reply.record, ticket) {
            (Some(record), Some(ticket)) => self.fill(ticket, record, reply.document.as_ref()).await,
            _ => floors.push((cart_id, reply.answer.version)),
        }
        floors.extend(guest_cart_id.zip(reply.guest_version));
        self.put_floors(&floors).await;
        Ok((reply, timing))
    }

    /// The cache was told of all changes, as was seen over this connection, so that it may be read over it; or it was
    /// not.
    pub fn set_cache_current(&self, connection: Option<u64>) {
        self.cache_current.store(connection.unwrap_or(0), Ordering::Release);
    }

    fn cache_is_current(&self) -> bool {
        let current = self.cache_current.load(Ordering::Acquire);
        current != 0 && current == self.cache.connected()
    }

    /// What the cache knows, as far as it can be asked.
    async fn glance(&self, cart_id: &str, at_least: Option<CartVersion>) -> Option<Glance> {
        if !self.cache_is_current() {
            self.requests.error.increment(1);
            return None;
        }
        match self.cache.glance(cart_id, at_least).await {
            // Looked at again: it may have been connected to anew meanwhile.
            Ok(Some(glance)) if self.is_of_the_present(glance.version) && self.cache_is_current() => {
                Some(glance)
            }
            Ok(_) => {
                self.requests.miss.increment(1);
                None
            }
            Err(error) => {
                self.requests.error.increment(1);
                debug!(error = %error, "cache did not answer");
                None
            }
        }
    }

    /// What a promotion has undone is not shown, although the cache may hold it for a moment.
    fn is_of_the_present(&self, version: CartVersion) -> bool {
        !self.upstream.known_epoch().is_past(version.epoch)
    }

    /// A cache that does not take a cart is only slow.
    async fn fill(&self, ticket: FillTicket, record: &CartRecord, document: Option<&CartDocument>) {
        if let Err(error) = self.cache.fill(ticket, record, document).await {
            debug!(cart.id = record.cart_id, error = %error, "cache did not take a cart");
        }
    }

    /// Nor does it lose anything by a floor: the feed brings them all, and sees to it that they arrive.
    async fn put_floors(&self, floors: &[(String, CartVersion)]) {
        if let Err(error) = self.cache.floors(floors).await {
            debug!(error = %error, "cache did not take a floor");
        }
    }

    fn is_good(&self, document: &CartDocument, rules: &Rules, seen: Option<CartVersion>) -> bool {
        seen.is_none_or(|seen| document.version >= seen)
            && document.rules == *rules.revision()
            && self.clock.now_ms() < document.good_until_ms
            && self.catalogue.still(&document.facts)
    }

    /// The cart, from the cache where that is new enough, else from upstream: one request for all who wait for
    /// the same.
    async fn record(
        &self,
        principal: &Principal,
        glance: Option<Glance>,
        seen: Option<CartVersion>,
        timing: &mut Timing,
    ) -> Result<(Arc<CartRecord>, Source), CartError> {
        let cart_id = principal.cart_id();
        let floor = glance.as_ref().map(|glance| glance.version);
        if let Some(glance) =
            glance.filter(|glance| glance.full && seen.is_none_or(|seen| glance.version >= seen))
        {
            let started = Instant::now();
            let entry = self.cache.get(&cart_id).await;
            timing.cache = timing.cache.map(|time| time + started.elapsed());
            // Between the glance and this it may have been forgotten.
            if let Ok(Some(CacheEntry::Full(record))) = entry
                && record.version >= glance.version
                && self.cache_is_current()
            {
                self.requests.hit.increment(1);
                return Ok((record, Source::Cache));
            }
        }
        if floor.is_some() {
            self.requests.stale.increment(1);
        }
        let started = Instant::now();
        let Fetched { record, source, .. } =
            self.fetch(principal, &cart_id, floor.unwrap_or_default(), seen).await?;
        let elapsed = started.elapsed();
        if source == Source::Home && self.home.forwards() {
            metric::forward(&self.region, elapsed);
            timing.forward = Some(elapsed);
        } else {
            timing.db = Some(elapsed);
        }
        Ok((record, source))
    }

    /// The cart from upstream, no older than what the cache knows of and the client has seen: one request for all
    /// who wait for the same.
    async fn fetch(
        &self,
        principal: &Principal,
        cart_id: &str,
        floor: CartVersion,
        seen: Option<CartVersion>,
    ) -> Result<Fetched, CartError> {
        let needed = seen.map_or(floor, |seen| seen.max(floor));
        // All who want more than the cache knows of ask together, whichever version they name: most often it is the
        // same write, and invented versions cost one question.
        let together = if needed > floor { floor.next() } else { floor };
        let (fetched, asked) = self.fly(principal, cart_id, together, needed).await;
        let has_it = fetched.as_ref().is_ok_and(|fetched| fetched.record.version >= needed);
        if has_it || asked || self.confirmed.of(cart_id, Instant::now()).is_some() {
            return fetched;
        }
        // It was fetched for a client that wanted less.
        self.fly(principal, cart_id, needed, needed).await.0
    }

    /// Fetches the cart, or shares what another request of the same name fetches; and whether it was this one that
    /// asked.
    async fn fly(
        &self,
        principal: &Principal,
        cart_id: &str,
        name: CartVersion,
        needed: CartVersion,
    ) -> (Result<Fetched, CartError>, bool) {
        let flight = (cart_id.to_owned(), name);
        let asked = AtomicBool::new(false);
        let fetch = async {
            asked.store(true, Ordering::Relaxed);
            let ticket = self.cache.ticket(cart_id).await.ok();
            let fetched = self.upstream.cart(principal, needed).await?;
            if fetched.source == Source::Home && fetched.record.version < needed {
                self.confirmed.note(cart_id, fetched.record.version);
            }
            if let Some(ticket) = ticket.filter(|_| fetched.fills) {
                self.fill(ticket, &fetched.record, None).await;
            }
            Ok::<_, CartError>(fetched)
        };
        let fetched = self.flights.try_get_with_by_ref(&flight, fetch).await;
        self.flights.invalidate(&flight).await;
        let fetched = fetched.map_err(|error: Arc<CartError>| CartError::clone(&error));
        (fetched, asked.into_inner())
    }

    /// The facts of a cart. What this region has not heard of yet, it asks for, for this one cart: the catalogue has
    /// one way in, the feed, which may be about to bring an older state of the same item.
    async fn facts(&self, record: &CartRecord) -> CartFacts {
        let mut facts = self.catalogue.facts(&record.cart);
        if !facts.items_missing.is_empty() {
            match self.upstream.items(&facts.items_missing).await {
                Ok(items) => facts.items.extend(items.into_iter().map(Arc::new)),
                Err(error) => debug!(error = %error, "unknown items are shown as gone"),
            }
        }
        facts
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
            CartError::KeyReused | CartError::KeyUsed(_) => "key_reused",
            CartError::InProgress => "in_progress",
            CartError::LineUnknown(_) | CartError::ItemUnknown(_) | CartError::OrderUnknown(_) => "unknown",
            CartError::RulesFailed { .. } => "rules_failed",
            CartError::HomeUnavailable => "home_unavailable",
            CartError::Overloaded => "overloaded",
            CartError::Busy => "busy",
            CartError::LoopDetected => "loop_detected",
            CartError::Internal(_) => "internal",
        },
    }
}
