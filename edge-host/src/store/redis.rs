//! The regional cache in Redis: one hash per cart, shared by all edges of a region.
//!
//! Whatever is written goes through a script, so that to look and to put in are one step. There are no `{…}` in
//! keys: a cluster spreads the carts over its nodes.
//!
//! Carts lie under `cart:{epoch}.{generation}:{cart_id}`, and [`FEED_KEY`] says which generation that is. To
//! forget everything is to begin the next generation; what is left of the last one expires. As long as this edge
//! has not seen that key, it holds nothing and puts nothing in.
//!
//! Redis may evict carts (`maxmemory-policy volatile-lru` or `volatile-lfu`), but not the key without a TTL, with
//! which all carts would be forgotten. When it is full and evicts nothing, no cart is put in any more; those that
//! are held are read, and told of changes.

use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwapOption;
use futures_util::future::BoxFuture;
use futures_util::future::try_join_all;
use redis::{Value, cmd};
use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

use self::link::{Link, Script};
use self::near::{Entered, Unanswered};
use self::target::COMMAND_DEADLINE;
use crate::model::{CartRecord, CartVersion, FeedPosition};
use crate::store::ttl::entry_ttl;
use crate::store::{
    CacheEntry, CacheFeed, CartCache, CartCount, CartDocument, FillTicket, Glance, Late, StoreError,
};

mod entry;
mod hosts;
mod link;
mod near;
mod target;

pub use target::{RedisTarget, RedisTargetError};

/// Where the cache keeps how far it was told of changes. It has no TTL.
const FEED_KEY: &str = "cart:feed";
/// So many floors are under way at once: they share a connection, and so a round trip.
const FLOORS_AT_ONCE: usize = 256;

/// Carts in Redis.
pub struct RedisCache {
    link: Arc<Link>,
    /// Under what carts lie; `None` until the feed's key was seen.
    namespace: ArcSwapOption<Namespace>,
}

struct Namespace {
    generation: String,
    /// What the keys of carts begin with.
    prefix: String,
}

impl RedisCache {
    /// A cache that connects when it is asked.
    pub fn new(target: RedisTarget) -> Arc<Self> {
        Arc::new(Self { link: Link::new(target), namespace: ArcSwapOption::empty() })
    }

    fn key(&self, cart_id: &str) -> Option<String> {
        let namespace = self.namespace.load();
        Some([namespace.as_deref()?.prefix.as_str(), cart_id].concat())
    }

    /// Takes over what the feed's key says: epoch, generation, position.
    fn see(&self, feed: Value) -> Result<Option<CacheFeed>, StoreError> {
        let feed = read_feed(entry::values(feed)?);
        self.namespace.store(feed.as_ref().map(|(epoch, generation, _)| {
            let prefix = format!("cart:{epoch}.{generation}:");
            Arc::new(Namespace { generation: generation.clone(), prefix })
        }));
        Ok(feed.map(|(epoch, _, position)| CacheFeed { epoch, position }))
    }

    async fn fields(&self, key: &str, names: &[&str]) -> Result<Value, StoreError> {
        self.link.call(cmd("HMGET").arg(key).arg(names)).await
    }

    /// Asks Redis about a cart, unless somebody else is asking already and that will do.
    async fn ask(&self, key: &str, serves: impl Fn(&Glance) -> bool) -> Result<Option<Glance>, StoreError> {
        let Some(near) = self.link.near(|near| Some(Arc::clone(near))) else { return self.look(key).await };
        // Nobody waits longer for others than for Redis itself.
        let entered = timeout(COMMAND_DEADLINE, near.enter(key, &serves)).await;
        match entered.map_err(|_| StoreError::unavailable(Late("the answer of the cache")))? {
            Entered::Shared(Ok(glance)) if glance.as_ref().is_none_or(&serves) => Ok(glance),
            Entered::Shared(Ok(_)) => self.look(key).await,
            Entered::Shared(Err(unanswered)) => Err(StoreError::unavailable(unanswered)),
            Entered::Asks(turn) => {
                let answer = self.look(key).await;
                turn.end(key, answer.as_ref().map_err(|_| Unanswered).cloned());
                answer
            }
        }
    }

    async fn look(&self, key: &str) -> Result<Option<Glance>, StoreError> {
        entry::glance(self.fields(key, &entry::GLANCE_FIELDS).await?)
    }

    async fn floor(&self, cart_id: &str, version: CartVersion) -> Result<(), StoreError> {
        let Some(key) = self.key(cart_id) else { return Ok(()) };
        let args = [new_life().into_bytes(), ttl_ms(cart_id), version.to_string().into_bytes()];
        self.link.run(&FLOOR, &key, &args.each_ref().map(Vec::as_slice)).await?;
        Ok(())
    }
}

impl CartCache for RedisCache {
    fn glance<'a>(
        &'a self,
        cart_id: &'a str,
        at_least: Option<CartVersion>,
    ) -> BoxFuture<'a, Result<Option<Glance>, StoreError>> {
        Box::pin(async move {
            let Some(key) = self.key(cart_id) else { return Ok(None) };
            let serves = |glance: &Glance| at_least.is_none_or(|at_least| glance.version >= at_least);
            match self.link.near(|near| near.get(&key)).filter(serves) {
                Some(glance) => Ok(Some(glance)),
                // What a read seldom needs is not carried about by all of them.
                None => Box::pin(self.ask(&key, serves)).await,
            }
        })
    }

    fn get<'a>(&'a self, cart_id: &'a str) -> BoxFuture<'a, Result<Option<CacheEntry>, StoreError>> {
        Box::pin(async move {
            let Some(key) = self.key(cart_id) else { return Ok(None) };
            entry::entry(cart_id, self.link.call(cmd("HGETALL").arg(key)).await?)
        })
    }

    fn count<'a>(&'a self, cart_id: &'a str) -> BoxFuture<'a, Result<Option<CartCount>, StoreError>> {
        Box::pin(async move {
            let Some(key) = self.key(cart_id) else { return Ok(None) };
            entry::count(self.fields(&key, &entry::COUNT_FIELDS).await?)
        })
    }

    fn ticket<'a>(&'a self, cart_id: &'a str) -> BoxFuture<'a, Result<FillTicket, StoreError>> {
        Box::pin(async move {
            // No entry has an empty life, so a ticket from before the feed's key was seen is good for nothing.
            let mut life = String::new();
            if let Some(key) = self.key(cart_id) {
                let args = [new_life().into_bytes(), ttl_ms(cart_id)];
                let answer = self.link.run(&TICKET, &key, &args.each_ref().map(Vec::as_slice)).await?;
                entry::text(&entry::bytes(answer)?.unwrap_or_default())?.clone_into(&mut life);
            }
            Ok(FillTicket { cart_id: cart_id.to_owned(), life })
        })
    }

    fn fill<'a>(
        &'a self,
        ticket: FillTicket,
        cart: &'a CartRecord,
        document: Option<&'a CartDocument>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let Some(key) = self.key(&ticket.cart_id) else { return Ok(()) };
            let (kind, fields) = entry::fields(cart)?;
            let (ttl, version) = (ttl_ms(&ticket.cart_id), cart.version.to_string());
            let mut args = vec![ticket.life.as_bytes(), &ttl, version.as_bytes(), kind.as_bytes()];
            args.extend(fields.iter().map(Vec::as_slice));
            let document = document.filter(|document| document.version == cart.version);
            let head = document.map(entry::document_head).transpose()?;
            if let (Some(head), Some(document)) = (&head, document) {
                args.extend([b"_d".as_slice(), head, b"_q", &document.body]);
            }
            self.link.run(&FILL, &key, &args).await?;
            Ok(())
        })
    }

    fn floors<'a>(&'a self, floors: &'a [(String, CartVersion)]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            for floors in floors.chunks(FLOORS_AT_ONCE) {
                let floors: Vec<_> =
                    floors.iter().map(|(cart_id, version)| self.floor(cart_id, *version)).collect();
                try_join_all(floors).await?;
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
            let Some(key) = self.key(cart_id) else { return Ok(()) };
            let (version, head) = (document.version.to_string(), entry::document_head(document)?);
            self.link.run(&DOCUMENT, &key, &[version.as_bytes(), &head, &document.body]).await?;
            Ok(())
        })
    }

    fn connected(&self) -> u64 {
        self.link.connected()
    }

    fn connections(&self) -> watch::Receiver<u64> {
        self.link.connections()
    }

    fn feed_position(&self) -> BoxFuture<'_, Result<Option<CacheFeed>, StoreError>> {
        Box::pin(async move { self.see(self.fields(FEED_KEY, &["epoch", "generation", "position"]).await?) })
    }

    fn advance<'a>(
        &'a self,
        from: &'a CacheFeed,
        to: &'a CacheFeed,
    ) -> BoxFuture<'a, Result<Option<CacheFeed>, StoreError>> {
        Box::pin(async move {
            let generation = self
                .namespace
                .load()
                .as_deref()
                .map_or_else(String::new, |namespace| namespace.generation.clone());
            let [from, to_seq] = [from, to].map(|feed| feed.position.seq.to_string());
            let (epoch, position) = (to.epoch.to_string(), entry::to_json(&to.position)?);
            let args = [
                generation.as_bytes(),
                epoch.as_bytes(),
                from.as_bytes(),
                to_seq.as_bytes(),
                position.as_slice(),
            ];
            self.see(self.link.run(&ADVANCE, FEED_KEY, &args).await?)
        })
    }

    fn start_anew<'a>(&'a self, from: &'a CacheFeed) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let (epoch, seq) = (from.epoch.to_string(), from.position.seq.to_string());
            let position = entry::to_json(&from.position)?;
            let args = [epoch.as_bytes(), seq.as_bytes(), position.as_slice()];
            self.see(self.link.run(&START_ANEW, FEED_KEY, &args).await?)?;
            Ok(())
        })
    }
}

// Nothing comes in while Redis is full, but it goes on being told what has changed.

macro_rules! script {
    ($shebang:literal, $($file:literal),+) => {
        LazyLock::new(|| Script::new(concat!($shebang, "\n", $(include_str!(concat!("redis/", $file))),+)))
    };
}

static TICKET: LazyLock<Script> = script!("#!lua", "ticket.lua");
static FILL: LazyLock<Script> = script!("#!lua", "newer.lua", "fill.lua");
static DOCUMENT: LazyLock<Script> = script!("#!lua", "document.lua");
static FLOOR: LazyLock<Script> = script!("#!lua flags=allow-oom", "newer.lua", "floor.lua");
static ADVANCE: LazyLock<Script> = script!("#!lua flags=allow-oom", "advance.lua");
static START_ANEW: LazyLock<Script> = script!("#!lua flags=allow-oom", "start_anew.lua");

/// What cannot be read is as good as forgotten: the cache starts anew, and puts something readable in its place.
fn read_feed([epoch, generation, position]: [Option<Vec<u8>>; 3]) -> Option<(u32, String, FeedPosition)> {
    let epoch = entry::text(&epoch?).ok()?.parse().ok()?;
    let generation = String::from_utf8(generation?).ok()?;
    Some((epoch, generation, serde_json::from_slice(&position?).ok()?))
}

fn new_life() -> String {
    Uuid::new_v4().simple().to_string()
}

fn ttl_ms(cart_id: &str) -> Vec<u8> {
    entry_ttl(cart_id).as_millis().to_string().into_bytes()
}
