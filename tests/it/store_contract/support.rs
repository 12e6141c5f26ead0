//! Records, writes and decisions for the suite.

use std::collections::BTreeMap;
use std::sync::Arc;

use cart_core::{Cart, Currency, Line, line_id};
use edge_host::clock::Clock;
use edge_host::epoch::KnownEpoch;
use edge_host::model::{
    CartRecord, CartVersion, CouponRecord, CouponValue, CurrencyCode, FeedPosition, IDEMPOTENCY_TTL_MS,
    ItemRecord, KeptAnswer, OrderRecord, OrderState, OwnerKind, Principal,
};
use edge_host::raw_json::RawJson;
use edge_host::store::memory::MemoryCache;
use edge_host::store::mysql::{self, MySqlStore, MySqlTarget};
use edge_host::store::redis::{RedisCache, RedisTarget};
use edge_host::store::sqlite::SqliteStore;
use edge_host::store::{
    CacheFeed, CartCache, CartWrite, Commit, Effect, KeyedOutcome, Loaded, NewOrder, OnceKey, PrimaryStore,
    WriteOutcome,
};
use harness::{MySqlServer, RedisServer, fresh_key, scratch};
use tempfile::TempDir;

pub(crate) type Store = Arc<dyn PrimaryStore>;
pub(crate) type Cache = Arc<dyn CartCache>;

/// The suite's own time: stores are told the time and never read a clock.
pub(crate) const NOW_MS: i64 = 1_800_000_000_000;

pub(crate) async fn sqlite() -> (Store, TempDir) {
    let directory = scratch("store");
    let store = SqliteStore::open(&directory.path().join("primary.sqlite")).await;
    (store.expect("an empty directory is a good place for a store"), directory)
}

pub(crate) async fn mysql() -> (Store, ()) {
    let url = MySqlServer::shared().await.fresh_database().await;
    let target: MySqlTarget = url.parse().expect("a good URL");
    mysql::migrate(&target).await.expect("an empty database takes the schema");
    (MySqlStore::open(&target, KnownEpoch::default(), Clock::of_database(0)), ())
}

pub(crate) async fn memory() -> (Cache, ()) {
    (begun(MemoryCache::new()).await, ())
}

pub(crate) async fn redis() -> (Cache, RedisServer) {
    let server = RedisServer::start().await;
    let target = RedisTarget::new(&server.url(), None).expect("a good URL");
    (begun(RedisCache::new(target)).await, server)
}

/// A cache is told of changes before anything is put in.
pub(crate) async fn begun(cache: Cache) -> Cache {
    let from = CacheFeed { epoch: 1, position: FeedPosition::at(0) };
    cache.start_anew(&from).await.expect("the cache answers");
    cache
}

pub(crate) fn guest(id: &str) -> Principal {
    Principal { kind: OwnerKind::Guest, id: id.to_owned(), currency: None }
}

pub(crate) fn version(number: u64) -> CartVersion {
    CartVersion { epoch: 1, version: number }
}

pub(crate) fn line(item_id: &str, quantity: u32, added_at_ms: i64) -> Line {
    Line {
        line_id: line_id(item_id, ""),
        item_id: item_id.to_owned(),
        quantity,
        variant: String::new(),
        added_price: 1990,
        added_at_ms,
        priced_at_ms: added_at_ms + 7,
        updated_at_ms: added_at_ms,
    }
}

/// A cart with one line for each of these quantities.
pub(crate) fn cart_of(quantities: &[u32]) -> Cart {
    let mut cart = Cart::empty(Currency::Sgd);
    for (n, quantity) in quantities.iter().enumerate() {
        let at = NOW_MS + i64::try_from(n).expect("small");
        cart.lines.push(line(&format!("item-{n}"), *quantity, at));
    }
    cart
}

pub(crate) fn record(number: u64, quantities: &[u32]) -> CartRecord {
    let unused = CartRecord::unused(&guest("anybody"), Currency::Sgd, 1);
    CartRecord { version: version(number), cart: cart_of(quantities), ..unused }
}

pub(crate) fn item(item_id: &str, stock: u32) -> ItemRecord {
    ItemRecord {
        item_id: item_id.to_owned(),
        title: format!("The {item_id}"),
        prices: BTreeMap::from([(CurrencyCode(Currency::Sgd), 1990), (CurrencyCode(Currency::Vnd), 350_000)]),
        stock,
        quantity_max: Some(7),
        tax_zero: true,
        tags: vec!["b2g1".to_owned(), "mega".to_owned()],
        changed_at_ms: NOW_MS,
    }
}

pub(crate) fn coupon(code: &str) -> CouponRecord {
    CouponRecord {
        code: code.to_owned(),
        value: CouponValue::Amount(500, CurrencyCode(Currency::Sgd)),
        starts_at_ms: Some(NOW_MS - 1),
        ends_at_ms: None,
        redemptions_max: Some(10),
        redemptions: 0,
        changed_at_ms: NOW_MS,
    }
}

/// A write of this principal's cart under a key of its own.
pub(crate) fn write_of(principal: &Principal) -> CartWrite {
    CartWrite {
        principal: principal.clone(),
        unused: CartRecord::unused(principal, Currency::Sgd, 0),
        guest: None,
        idempotency_key: fresh_key(),
        fingerprint: [1; 32],
        request: Some("request".to_owned()),
        if_match: None,
        item_ids: Vec::new(),
        coupon_codes: Vec::new(),
        known: None,
        takes_stock: false,
        rules_calls: 2,
        answer_kept_until_ms: NOW_MS + IDEMPOTENCY_TTL_MS,
        now_ms: NOW_MS,
    }
}

/// A write that may take from stock.
pub(crate) fn order_of(principal: &Principal) -> CartWrite {
    CartWrite { takes_stock: true, ..write_of(principal) }
}

pub(crate) fn answer(body: &str, version: CartVersion) -> KeptAnswer {
    KeptAnswer {
        status: 200,
        body: body.to_owned(),
        version,
        location: Some("/there".to_owned()),
        route: Some("POST /there".to_owned()),
        request: Some("request".to_owned()),
        at_ms: Some(NOW_MS),
    }
}

/// Decides to make the cart this one.
pub(crate) fn become_cart(cart: Cart) -> impl FnMut(Loaded) -> Option<Commit> + Send {
    move |loaded| {
        let answer = answer("done", loaded.cart.version.next());
        Some(Commit { cart: cart.clone(), effect: Effect::Changed, answer })
    }
}

/// Decides to put one more unit in.
pub(crate) fn one_more(loaded: Loaded) -> Option<Commit> {
    let answer = answer("one more", loaded.cart.version.next());
    let mut cart = loaded.cart.cart;
    match cart.lines.first_mut() {
        Some(line) => line.quantity += 1,
        None => cart.lines.push(line("item-0", 1, NOW_MS)),
    }
    Some(Commit { cart, effect: Effect::Changed, answer })
}

/// Decides to order what is in the cart.
pub(crate) fn order(order_id: &str, coupons: &[&str]) -> impl FnMut(Loaded) -> Option<Commit> + Send {
    let (order_id, coupons) =
        (order_id.to_owned(), coupons.iter().map(ToString::to_string).collect::<Vec<_>>());
    move |loaded| {
        let cart = loaded.cart.cart;
        let items: Vec<(String, u32)> =
            cart.lines.iter().map(|line| (line.item_id.clone(), line.quantity)).collect();
        let stock = |item_id: &str| {
            loaded.items.iter().find(|item| item.item_id == item_id).map_or(0, |item| item.stock)
        };
        if items.is_empty() || items.iter().any(|(item_id, quantity)| stock(item_id) < *quantity) {
            return None;
        }
        let document = serde_json::json!({ "id": order_id, "units": cart.quantity() });
        let document = RawJson::new(document.to_string()).expect("JSON");
        let new = NewOrder { order_id: order_id.clone(), document, items, coupons: coupons.clone() };
        let answer = answer(&order_id, loaded.cart.version.next());
        Some(Commit { cart: Cart::empty(cart.currency), effect: Effect::Ordered(new), answer })
    }
}

/// The record after a write that was done.
#[track_caller]
pub(crate) fn done(outcome: WriteOutcome) -> CartRecord {
    match outcome {
        WriteOutcome::Done { record, .. } => record,
        other => panic!("not done: {other:?}"),
    }
}

/// Puts this cart in place.
pub(crate) async fn put_cart(store: &Store, principal: &Principal, cart: Cart) -> CartRecord {
    let outcome = store.write(&write_of(principal), &mut become_cart(cart)).await;
    done(outcome.expect("the store answers"))
}

/// A key that nobody has used, for a change of the catalogue or of an order.
pub(crate) fn once() -> OnceKey {
    OnceKey {
        key: fresh_key(),
        fingerprint: [1; 32],
        route: "PUT /admin/items/any".to_owned(),
        now_ms: NOW_MS,
        kept_until_ms: NOW_MS + IDEMPOTENCY_TTL_MS,
    }
}

/// Puts this item in place.
pub(crate) async fn put_item(store: &(impl PrimaryStore + ?Sized), item: ItemRecord) {
    let item_id = item.item_id.clone();
    let outcome = store.write_item(&item_id, &once(), &mut |_| Some(item.clone())).await;
    assert!(matches!(outcome, Ok(KeyedOutcome::Done { .. })), "{outcome:?}");
}

/// Puts this coupon in place; its redemptions stay.
pub(crate) async fn put_coupon(store: &(impl PrimaryStore + ?Sized), coupon: CouponRecord) -> CouponRecord {
    let code = coupon.code.clone();
    let mut decide = |before: Option<&CouponRecord>| {
        let redemptions = before.map_or(0, |before| before.redemptions);
        Some(CouponRecord { redemptions, ..coupon.clone() })
    };
    let outcome = store.write_coupon(&code, &once(), &mut decide).await.expect("an answer");
    let KeyedOutcome::Done { value, .. } = outcome else { panic!("not done: {outcome:?}") };
    value
}

/// The payment service's word; returns the order as it is then.
pub(crate) async fn settle(
    store: &(impl PrimaryStore + ?Sized),
    order_id: &str,
    to: OrderState,
) -> Option<OrderRecord> {
    match store.settle_order(order_id, to, &once()).await.expect("an answer") {
        KeyedOutcome::Done { value, .. } => Some(value),
        KeyedOutcome::Refused(found) => found,
        other => panic!("neither done nor refused: {other:?}"),
    }
}
