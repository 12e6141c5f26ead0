//! The region's copy of the catalogue: every item and coupon, in memory, kept by the feed.
//!
//! A cart of five lines needs five facts at every read. Having them at hand makes a read one cache look-up.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, RwLock};

use cart_core::{Cart, Context};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::model::{CouponRecord, ItemRecord, Millis, Principal};
use crate::store::FactPrints;

/// Items that a catalogue may have: at some 400 bytes each, 200 MiB in every edge.
pub const ITEMS_MAX: usize = 500_000;

/// Coupons that a catalogue may have.
pub const COUPONS_MAX: usize = 100_000;

/// Items and coupons.
#[derive(Debug, Default)]
pub struct Catalogue {
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    items: BTreeMap<String, Known<ItemRecord>>,
    coupons: HashMap<String, Known<CouponRecord>>,
}

/// A record and the fingerprint of all it says.
#[derive(Debug)]
struct Known<T> {
    record: Arc<T>,
    print: u64,
}

impl<T: Serialize> Known<T> {
    /// The fingerprint is the same in every edge: documents that were rendered by one are served by another.
    fn new(record: T) -> Self {
        let json = serde_json::to_vec(&record).expect("records of strings and numbers serialise");
        let digest = Sha256::digest(json);
        let print = digest.iter().take(8).fold(0, |print, byte| print << 8 | u64::from(*byte));
        Self { record: Arc::new(record), print }
    }
}

/// The facts that one cart needs, and what the catalogue does not have (yet).
#[derive(Default)]
pub struct CartFacts {
    /// Every item of the cart that is known.
    pub items: Vec<Arc<ItemRecord>>,
    /// Every coupon of the cart that is known.
    pub coupons: Vec<Arc<CouponRecord>>,
    /// Items of the cart that are not known here.
    pub items_missing: Vec<String>,
    /// What tells these facts from others.
    pub prints: FactPrints,
}

impl Catalogue {
    /// Replaces everything.
    pub fn replace(&self, items: Vec<ItemRecord>, coupons: Vec<CouponRecord>) {
        let items = items.into_iter().map(|item| (item.item_id.clone(), Known::new(item))).collect();
        let coupons = coupons.into_iter().map(|coupon| (coupon.code.clone(), Known::new(coupon))).collect();
        *self.tables.write().expect("no holder of the lock can panic") = Tables { items, coupons };
    }

    /// Puts an item in, or replaces it.
    pub fn put_item(&self, item: ItemRecord) {
        let item = Known::new(item);
        let mut tables = self.tables.write().expect("no holder of the lock can panic");
        tables.items.insert(item.record.item_id.clone(), item);
    }

    /// Puts a coupon in, or replaces it.
    pub fn put_coupon(&self, coupon: CouponRecord) {
        let coupon = Known::new(coupon);
        let mut tables = self.tables.write().expect("no holder of the lock can panic");
        tables.coupons.insert(coupon.record.code.clone(), coupon);
    }

    /// The item of that name.
    pub fn item(&self, item_id: &str) -> Option<Arc<ItemRecord>> {
        let tables = self.tables.read().expect("no holder of the lock can panic");
        tables.items.get(item_id).map(|item| Arc::clone(&item.record))
    }

    /// Items ordered by name, after a name where given.
    pub fn items(&self, after: Option<&str>, limit: usize) -> Vec<Arc<ItemRecord>> {
        let tables = self.tables.read().expect("no holder of the lock can panic");
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = tables.items.range::<str, _>((from, Bound::Unbounded));
        range.take(limit).map(|(_, item)| Arc::clone(&item.record)).collect()
    }

    /// The coupon of that code.
    pub fn coupon(&self, code: &str) -> Option<Arc<CouponRecord>> {
        let tables = self.tables.read().expect("no holder of the lock can panic");
        tables.coupons.get(code).map(|coupon| Arc::clone(&coupon.record))
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
        let mut facts = CartFacts::default();
        facts.items.reserve(cart.lines.len());
        for line in &cart.lines {
            match tables.items.get(&line.item_id) {
                Some(item) => {
                    facts.items.push(Arc::clone(&item.record));
                    facts.prints.items.push((line.item_id.clone(), item.print));
                }
                None => facts.items_missing.push(line.item_id.clone()),
            }
        }
        for code in &cart.coupons {
            let coupon = tables.coupons.get(code);
            facts.coupons.extend(coupon.map(|coupon| Arc::clone(&coupon.record)));
            facts.prints.coupons.push((code.clone(), coupon.map(|coupon| coupon.print)));
        }
        facts
    }

    /// What tells these facts of a cart from others, if they are all of this catalogue and still so.
    pub fn prints(&self, cart: &Cart, facts: &CartFacts) -> Option<FactPrints> {
        let tables = self.tables.read().expect("no holder of the lock can panic");
        let mut prints = FactPrints::default();
        for line in &cart.lines {
            let item = tables.items.get(&line.item_id)?;
            facts.items.iter().find(|used| Arc::ptr_eq(used, &item.record))?;
            prints.items.push((line.item_id.clone(), item.print));
        }
        for code in &cart.coupons {
            let coupon = tables.coupons.get(code)?;
            facts.coupons.iter().find(|used| Arc::ptr_eq(used, &coupon.record))?;
            prints.coupons.push((code.clone(), Some(coupon.print)));
        }
        Some(prints)
    }

    /// Whether all these facts are still so.
    pub fn still(&self, prints: &FactPrints) -> bool {
        let tables = self.tables.read().expect("no holder of the lock can panic");
        let same_item = |(item_id, print): &(String, u64)| {
            tables.items.get(item_id).is_some_and(|item| item.print == *print)
        };
        let same_coupon = |(code, print): &(String, Option<u64>)| {
            tables.coupons.get(code).map(|coupon| coupon.print) == *print
        };
        prints.items.iter().all(same_item) && prints.coupons.iter().all(same_coupon)
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
