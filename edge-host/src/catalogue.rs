//! The region's copy of the catalogue: every item and coupon, in memory, kept by the feed.
//!
//! A cart of five lines needs five facts at every read. Having them at hand makes a read one cache look-up.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, RwLock};

use cart_core::{Cart, Context};

use crate::model::{CouponRecord, ItemRecord, Millis, Principal};

/// Items that a catalogue may have: at some 400 bytes each, 200 MiB in every edge.
pub const ITEMS_MAX: usize = 500_000;

/// Coupons that a catalogue may have.
pub const COUPONS_MAX: usize = 100_000;

/// Items and coupons.
#[derive(Default)]
pub struct Catalogue {
    tables: RwLock<Tables>,
}

#[derive(Default)]
struct Tables {
    items: BTreeMap<String, Arc<ItemRecord>>,
    coupons: HashMap<String, Arc<CouponRecord>>,
}

/// The facts that one cart needs, and what the catalogue does not have (yet).
pub struct CartFacts {
    /// Every item of the cart that is known.
    pub items: Vec<Arc<ItemRecord>>,
    /// Every coupon of the cart that is known.
    pub coupons: Vec<Arc<CouponRecord>>,
    /// Items of the cart that are not known here.
    pub items_missing: Vec<String>,
}

impl Catalogue {
    /// Replaces everything.
    pub fn replace(&self, items: Vec<ItemRecord>, coupons: Vec<CouponRecord>) {
        let items = items.into_iter().map(|item| (item.item_id.clone(), Arc::new(item))).collect();
        let coupons = coupons.into_iter().map(|coupon| (coupon.code.clone(), Arc::new(coupon))).collect();
        *self.tables.write().expect("no holder of the lock can panic") = Tables { items, coupons };
    }

    /// Puts an item in, or replaces it.
    pub fn put_item(&self, item: ItemRecord) {
        let mut tables = self.tables.write().expect("no holder of the lock can panic");
        tables.items.insert(item.item_id.clone(), Arc::new(item));
    }

    /// Puts an item in that was not known: what the feed has brought meanwhile is newer.
    pub fn fill_item(&self, item: ItemRecord) {
        let mut tables = self.tables.write().expect("no holder of the lock can panic");
        tables.items.entry(item.item_id.clone()).or_insert_with(|| Arc::new(item));
    }

    /// Puts a coupon in, or replaces it.
    pub fn put_coupon(&self, coupon: CouponRecord) {
        let mut tables = self.tables.write().expect("no holder of the lock can panic");
        tables.coupons.insert(coupon.code.clone(), Arc::new(coupon));
    }

    /// The item of that name.
    pub fn item(&self, item_id: &str) -> Option<Arc<ItemRecord>> {
        self.tables.read().expect("no holder of the lock can panic").items.get(item_id).cloned()
    }

    /// Items ordered by name, after a name where given.
    pub fn items(&self, after: Option<&str>, limit: usize) -> Vec<Arc<ItemRecord>> {
        let tables = self.tables.read().expect("no holder of the lock can panic");
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        tables.items.range::<str, _>((from, Bound::Unbounded)).take(limit).map(|(_, i)| i.clone()).collect()
    }

    /// Whether there is such a coupon.
    pub fn has_coupon(&self, code: &str) -> bool {
        self.tables.read().expect("no holder of the lock can panic").coupons.contains_key(code)
    }

    /// How many coupons there are.
    pub fn coupons(&self) -> usize {
        self.tables.read().expect("no holder of the lock can panic").coupons.len()
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.tables.read().expect("no holder of the lock can panic").items.len()
    }

    /// Whether there is no item at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What one cart needs.
    pub fn facts(&self, cart: &Cart) -> CartFacts {
        let tables = self.tables.read().expect("no holder of the lock can panic");
        let mut facts = CartFacts { items: Vec::new(), coupons: Vec::new(), items_missing: Vec::new() };
        facts.items.reserve(cart.lines.len());
        for line in &cart.lines {
            match tables.items.get(&line.item_id) {
                Some(item) => facts.items.push(Arc::clone(item)),
                None => facts.items_missing.push(line.item_id.clone()),
            }
        }
        facts.coupons.extend(cart.coupons.iter().filter_map(|code| tables.coupons.get(code).cloned()));
        facts
    }
}

impl CartFacts {
    /// The facts as the rules take them.
    pub fn context(&self, cart: &Cart, principal: &Principal, region: &str, now_ms: Millis) -> Context {
        let mut items: Vec<_> = self.items.iter().map(|item| item.facts(cart.currency)).collect();
        items.sort_unstable_by(|a, b| a.item_id.cmp(&b.item_id));
        items.dedup_by(|a, b| a.item_id == b.item_id);
        let coupons = self.coupons.iter().map(|coupon| coupon.facts(cart.currency)).collect();
        Context::new(now_ms, region.to_owned(), principal.rules_kind(), items, coupons)
    }

    /// An item of the cart.
    pub fn item(&self, item_id: &str) -> Option<&ItemRecord> {
        self.items.iter().find(|item| item.item_id == item_id).map(Arc::as_ref)
    }

    /// The title of an item.
    pub fn title(&self, item_id: &str) -> Option<String> {
        self.item(item_id).map(|item| item.title.clone())
    }
}
