//! Where carts live: the ports to the regional cache, to the home region's primary, and to replicas of it.
//!
//! Each port has adapters beneath; a driver's name appears in its own adapter only.

use std::sync::Arc;
use std::time::Instant;

use cart_core::Cart;
use futures_util::future::BoxFuture;
use tokio::sync::watch;

use crate::catalogue::Catalogue;
use crate::model::{
    CartRecord, CartState, CartVersion, CatalogueSnapshot, CouponRecord, FeedPage, FeedPosition,
    IDEMPOTENCY_TTL_MS, ItemRecord, KeptAnswer, Millis, OrderRecord, OrderState, Principal,
};
use crate::raw_json::RawJson;

mod cache;
mod error;
mod keyed;
pub mod memory;
pub mod mysql;
pub mod redis;
mod sql;
pub mod sqlite;
mod state;
mod traced;
mod ttl;

pub use cache::{CacheEntry, CacheFeed, CartCount, CartDocument, FactPrints, FillTicket, Glance};
pub use error::{Late, StoreError};
pub use keyed::{DecideCoupon, DecideItem, KeptKey, KeyedOutcome, OnceKey};
pub use state::{PrimaryState, Swept};
pub use traced::Traced;

/// The region's copy of carts. It may forget, but it never goes back: no entry is replaced by an older one.
///
/// Three rules keep it so, also when it forgets (evicts, is flushed, starts anew) while a fill is on its way:
/// a cart is put in only if its version is newer than what is held; only under a ticket that was taken before
/// the cart was read, and that ends when the entry is forgotten; and a change elsewhere leaves a floor, a
/// version without a cart, where deleting would forget.
pub trait CartCache: Send + Sync {
    /// What a read needs first: the version, and the rendered document where there is one. An edge may keep what
    /// it has seen itself of the region's cache and be a moment behind it, but never behind `at_least` or behind
    /// what it has put in itself.
    fn glance<'a>(
        &'a self,
        cart_id: &'a str,
        at_least: Option<CartVersion>,
    ) -> BoxFuture<'a, Result<Option<Glance>, StoreError>>;

    /// What the cache knows of a cart.
    fn get<'a>(&'a self, cart_id: &'a str) -> BoxFuture<'a, Result<Option<CacheEntry>, StoreError>>;

    /// Lines and units, without loading the cart; `None` when the cache has no full entry.
    fn count<'a>(&'a self, cart_id: &'a str) -> BoxFuture<'a, Result<Option<CartCount>, StoreError>>;

    /// A ticket to put this cart in, to be taken before it is read.
    fn ticket<'a>(&'a self, cart_id: &'a str) -> BoxFuture<'a, Result<FillTicket, StoreError>>;

    /// Puts a cart in, unless there is a newer version or the ticket has ended. A floor of its version gives
    /// way to it. Its document, where there is one of this version, is kept beside it.
    fn fill<'a>(
        &'a self,
        ticket: FillTicket,
        cart: &'a CartRecord,
        document: Option<&'a CartDocument>,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Puts floors in where there is nothing as new: from now on nothing older is held.
    fn floors<'a>(&'a self, floors: &'a [(String, CartVersion)]) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Keeps the document of a cart beside it, as long as it is at the document's version.
    fn keep_document<'a>(
        &'a self,
        cart_id: &'a str,
        document: &'a CartDocument,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// How often it was connected to. Behind a new connection may be another cache than before, such as one that was
    /// started from an old snapshot.
    fn connected(&self) -> u64;

    /// Tells when it is connected to anew.
    fn connections(&self) -> watch::Receiver<u64>;

    /// How far this cache has been told of changes; `None` when it has forgotten everything.
    fn feed_position(&self) -> BoxFuture<'_, Result<Option<CacheFeed>, StoreError>>;

    /// Notes that this cache, which had been told of all changes up to `from`, was told of all up to `to`. Returns
    /// how far it has been told: further, when somebody else was faster; less far than `from`, and then nothing
    /// is noted, when it has come back from the past; `None` when it has forgotten everything.
    fn advance<'a>(
        &'a self,
        from: &'a CacheFeed,
        to: &'a CacheFeed,
    ) -> BoxFuture<'a, Result<Option<CacheFeed>, StoreError>>;

    /// Forgets everything, and begins to be told of changes from this position on.
    fn start_anew<'a>(&'a self, from: &'a CacheFeed) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// The home region's database as it can be read, there and from a replica of it.
pub trait ReplicaStore: Send + Sync {
    /// A cart, if it was ever written.
    fn cart<'a>(&'a self, cart_id: &'a str) -> BoxFuture<'a, Result<Option<CartRecord>, StoreError>>;

    /// The database's epoch.
    fn epoch(&self) -> BoxFuture<'_, Result<u32, StoreError>>;

    /// Items by name, as far as they exist.
    fn items<'a>(&'a self, item_ids: &'a [String]) -> BoxFuture<'a, Result<Vec<ItemRecord>, StoreError>>;

    /// The whole catalogue and the place in the feed that it stands for.
    fn catalogue(&self) -> BoxFuture<'_, Result<CatalogueSnapshot, StoreError>>;

    /// Events after a position in the feed, at most `limit`; without a position, where the feed is now. What is
    /// missing in between is waited for by the time of the database, `now_ms`.
    fn feed<'a>(
        &'a self,
        after: Option<&'a FeedPosition>,
        limit: u32,
    ) -> BoxFuture<'a, Result<FeedPage, StoreError>>;

    /// Tells when the feed may have grown: then the number grows.
    fn feed_news(&self) -> watch::Receiver<u64>;

    /// The component of a revision.
    fn rules<'a>(&'a self, revision: &'a str) -> BoxFuture<'a, Result<Option<Vec<u8>>, StoreError>>;

    /// The last that was heard of the database, as often as it is heard of; `None` before the first word. Only a
    /// database that has replicas is listened to.
    fn pulse(&self) -> watch::Receiver<Option<Pulse>> {
        watch::channel(None).1
    }

    /// Connections to the database: in use, and idle.
    fn connections(&self) -> (u32, u32);
}

/// A sign of life of a database: how far it has come.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    /// Its epoch.
    pub epoch: u32,
    /// The last beat of home's heart that has come here. They are counted.
    pub beat: u64,
    /// When that was, by home's clock.
    pub beat_at_ms: Millis,
    /// The last place of the feed that is here.
    pub last: u64,
    /// When this was heard.
    pub heard: Instant,
}

/// The home region's primary: the truth.
pub trait PrimaryStore: ReplicaStore {
    /// Changes a cart in one transaction: replay check, `If-Match`, the facts loaded under a lock, `decide`,
    /// then the changed rows, the outbox row and what was done under its idempotency key, or nothing at all.
    ///
    /// `decide` returns `None` to change nothing; it keeps its own reason. It is called at most once for each
    /// attempt, and an attempt is repeated only after the database has undone the one before.
    fn write<'a>(
        &'a self,
        write: &'a CartWrite,
        decide: &'a mut Decide<'_>,
    ) -> BoxFuture<'a, Result<WriteOutcome, StoreError>>;

    /// Orders of an owner, newest first, before `before` (an order id) where given.
    fn orders<'a>(
        &'a self,
        owner: &'a Principal,
        before: Option<&'a str>,
        limit: u32,
    ) -> BoxFuture<'a, Result<Vec<OrderRecord>, StoreError>>;

    /// An order of an owner.
    fn order<'a>(
        &'a self,
        owner: &'a Principal,
        order_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<OrderRecord>, StoreError>>;

    /// An order by its id, whoever owns it now: for a caller that has proven by its key that it placed the order.
    fn placed_order<'a>(
        &'a self,
        order_id: &'a str,
    ) -> BoxFuture<'a, Result<Option<OrderRecord>, StoreError>>;

    /// The payment service's word. Cancelling gives the stock back. An order that has left
    /// `pending_payment` for another state stays as it is: refused, with the order.
    fn settle_order<'a>(
        &'a self,
        order_id: &'a str,
        to: OrderState,
        key: &'a OnceKey,
    ) -> BoxFuture<'a, Result<KeyedOutcome<OrderRecord>, StoreError>>;

    /// Creates or changes an item in one transaction: the key, the item under lock, `decide`, then the changed rows
    /// and the outbox row, or nothing at all. An item that `decide` returns as it was is not written.
    fn write_item<'a>(
        &'a self,
        item_id: &'a str,
        key: &'a OnceKey,
        decide: &'a mut DecideItem<'_>,
    ) -> BoxFuture<'a, Result<KeyedOutcome<ItemRecord>, StoreError>>;

    /// The same for a coupon.
    fn write_coupon<'a>(
        &'a self,
        code: &'a str,
        key: &'a OnceKey,
        decide: &'a mut DecideCoupon<'_>,
    ) -> BoxFuture<'a, Result<KeyedOutcome<CouponRecord>, StoreError>>;

    /// Makes these rules the active ones, and tells every region through the feed.
    fn activate_rules<'a>(
        &'a self,
        revision: &'a str,
        bytes: &'a [u8],
        now_ms: Millis,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Sweeps away what has had its time, a batch of each kind. Of several edges that share a primary one sweeps; the
    /// others find nothing to do.
    fn sweep(&self, now_ms: Millis) -> BoxFuture<'_, Result<Swept, StoreError>>;

    /// The revision of the active rules.
    fn active_rules(&self) -> BoxFuture<'_, Result<Option<String>, StoreError>>;

    /// Commits a change without effect, to find out whether the primary takes writes.
    fn commit_nothing(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// What is wrong with the servers that may be the primary; nothing where there can be no other.
    fn state(&self) -> PrimaryState {
        PrimaryState::default()
    }
}

/// What a write needs before anything is decided.
#[derive(Clone, Debug)]
pub struct CartWrite {
    /// Whose cart.
    pub principal: Principal,
    /// The cart as it is for somebody who never had one.
    pub unused: CartRecord,
    /// A guest whose cart is to be merged in, and that cart as it is when it was never used.
    pub guest: Option<(Principal, CartRecord)>,
    /// Under which key the answer is kept.
    pub idempotency_key: String,
    /// Until when it is kept there.
    pub answer_kept_until_ms: Millis,
    /// Tells one effect from another under the same key: what the release before goes by.
    pub fingerprint: [u8; 32],
    /// Tells one request from another under the same key; `None` from an edge of the release before.
    pub request: Option<String>,
    /// Write only if the cart is still at one of these versions.
    pub if_match: Option<Vec<CartVersion>>,
    /// Items whose facts are needed, beside those of the cart.
    pub item_ids: Vec<String>,
    /// Coupons whose facts are needed, beside those of the cart.
    pub coupon_codes: Vec<String>,
    /// Facts that are known already; what is among them need not be loaded. Unless stock is taken: an order is of what
    /// the database says, under lock.
    pub known: Option<Arc<Catalogue>>,
    /// Whether stock may be taken: then nobody else takes of the same items until this has ended.
    pub takes_stock: bool,
    /// How often the rules are called to decide it.
    pub rules_calls: usize,
    /// The time of the write.
    pub now_ms: Millis,
}

/// Calls of the rules, times the lines of the cart, from which on a decision is heavy: it takes milliseconds of a
/// processor, where others take microseconds.
pub const HEAVY_LINE_CALLS: usize = 256;

impl CartWrite {
    /// Whether to decide it with a cart of this many lines keeps a processor busy for so long that nobody else should
    /// have to wait for it.
    pub fn is_heavy(&self, lines: usize) -> bool {
        lines.saturating_mul(self.rules_calls) > HEAVY_LINE_CALLS
    }

    /// Whether it is for another version than the cart is at. A cart that went to a user has no version to meet:
    /// a condition is looked at only where the request could be done without it (RFC 9110 §13.2.1).
    fn is_for_another(&self, cart: &CartRecord) -> bool {
        let meets = |versions: &Vec<CartVersion>| versions.contains(&cart.version);
        cart.state != CartState::Merged && !self.if_match.as_ref().is_none_or(meets)
    }
}

/// What was found under a key.
struct Kept {
    fingerprint: Vec<u8>,
    answer: KeptAnswer,
}

impl Kept {
    /// Reads a row. Of earlier releases it does not say when it was written, but until when it is kept.
    fn read(fingerprint: Vec<u8>, answer: &str, kept_until_ms: Millis) -> Result<Self, StoreError> {
        let mut answer: KeptAnswer = sql::from_json(answer)?;
        answer.at_ms = answer.at_ms.or(Some(kept_until_ms - IDEMPOTENCY_TTL_MS));
        Ok(Self { fingerprint, answer })
    }

    /// Whether this write is the one that was done. Where one of the two comes from the release before, all that is
    /// known is whether the effect is the same.
    fn is_of(&self, write: &CartWrite) -> bool {
        match (&self.answer.request, &write.request) {
            (Some(kept), Some(request)) => kept == request,
            _ => self.fingerprint == write.fingerprint,
        }
    }
}

/// The orders of an owner that are looked at for unpaid ones: far more than may be unpaid, and few enough to read under
/// a lock.
pub const LATEST_ORDERS: u32 = 100;

/// What was loaded under the lock.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The cart.
    pub cart: CartRecord,
    /// The guest's cart, for a merge.
    pub guest: Option<CartRecord>,
    /// Every item that the carts and the request mention, as far as it exists.
    pub items: Vec<Arc<ItemRecord>>,
    /// Every coupon likewise.
    pub coupons: Vec<Arc<CouponRecord>>,
    /// Of the latest [`LATEST_ORDERS`] orders of the cart's owner, how many are unpaid; 0 for a write that takes no
    /// stock.
    pub unpaid_orders: u32,
}

impl Loaded {
    /// Lines of the carts.
    pub fn lines(&self) -> usize {
        let guest = self.guest.as_ref().map_or(0, |guest| guest.cart.lines.len());
        self.cart.cart.lines.len() + guest
    }
}

/// Decides what to commit, from what was loaded under the lock.
pub type Decide<'a> = dyn FnMut(Loaded) -> Option<Commit> + Send + 'a;

/// What to commit.
#[derive(Clone, Debug)]
pub struct Commit {
    /// The cart afterwards.
    pub cart: Cart,
    /// What else happens.
    pub effect: Effect,
    /// What to keep under the idempotency key. Its version is the cart's after the commit.
    pub answer: KeptAnswer,
}

/// What else happens with a write.
#[derive(Clone, Debug)]
pub enum Effect {
    /// The cart is what it was: only the answer is kept.
    Unchanged,
    /// The cart changes.
    Changed,
    /// The cart changes, and the guest's cart ends as merged.
    Merged,
    /// The cart ends empty, and this order is placed.
    Ordered(NewOrder),
}

/// An order to be placed.
#[derive(Clone, Debug)]
pub struct NewOrder {
    /// Unique, and growing with time.
    pub order_id: String,
    /// The public document without the state.
    pub document: RawJson,
    /// What to take from stock.
    pub items: Vec<(String, u32)>,
    /// Coupons that were redeemed.
    pub coupons: Vec<String>,
}

/// How a write ended.
#[derive(Clone, Debug)]
pub enum WriteOutcome {
    /// Committed.
    Done {
        /// The cart afterwards.
        record: CartRecord,
        /// The version at which a merged guest's cart ended.
        guest_version: Option<CartVersion>,
    },
    /// Committed earlier, under the same key.
    Replayed {
        /// What was kept under it.
        answer: KeptAnswer,
        /// The cart now.
        record: CartRecord,
    },
    /// `decide` said no, and has the reason.
    Refused,
    /// The cart is not at the version of `If-Match`.
    VersionMismatch(CartVersion),
    /// The key was used for another request.
    KeyReused(KeptAnswer),
    /// The first request with this key is still under way.
    InProgress,
}
