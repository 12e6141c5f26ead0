//! What a merchant changes of an item. Each change is decided from the item as it is under lock, so that it undoes
//! neither a sale nor another merchant's change.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::model::{CurrencyCode, ItemRecord, Millis, STOCK_MAX};

/// Bytes of a digest that stand in a tag: enough that no two states of one item share one by chance.
const TAG_BYTES: usize = 8;

/// A change of one item, checked for form.
#[derive(Clone, Debug)]
pub enum ItemChange {
    /// All of it anew; it is created where it is missing.
    Replace(ItemFields),
    /// Some of it.
    Patch(ItemPatch),
    /// Its stock alone.
    Stock(StockChange),
}

/// All that a merchant says of an item.
#[derive(Clone, Debug)]
pub struct ItemFields {
    /// For the shopper.
    pub title: String,
    /// Minor units by currency, at least one.
    pub prices: BTreeMap<CurrencyCode, i64>,
    /// Units left; `None` leaves the stock as it is, and is 0 for a new item.
    pub stock: Option<u32>,
    /// The most units in one cart line.
    pub quantity_max: Option<u32>,
    /// Whether it is zero-rated.
    pub tax_zero: bool,
    /// What promotions choose by.
    pub tags: Vec<String>,
}

/// Some of what a merchant says of an item: `None` stays as it is.
#[derive(Clone, Debug, Default)]
pub struct ItemPatch {
    /// For the shopper.
    pub title: Option<String>,
    /// Minor units by currency; `None` ends the sale in that currency, and currencies that are not here stay.
    pub prices: BTreeMap<CurrencyCode, Option<i64>>,
    /// Units left.
    pub stock: Option<u32>,
    /// The most units in one cart line; `Some(None)` for no limit.
    pub quantity_max: Option<Option<u32>>,
    /// Whether it is zero-rated.
    pub tax_zero: Option<bool>,
    /// What promotions choose by.
    pub tags: Option<Vec<String>>,
}

/// A change of stock.
#[derive(Clone, Copy, Debug)]
pub enum StockChange {
    /// So many more, or fewer.
    By(i64),
    /// So many.
    To(u32),
}

/// Why an item is not changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such item.
    Unknown,
    /// It would have no price in any currency.
    NoPrice,
    /// Its stock would fall below 0.
    StockNegative {
        /// Units left.
        stock: u32,
    },
    /// Its stock would be above the most there may be.
    StockTooLarge,
    /// `If-Match` or `If-None-Match` does not hold.
    ConditionFailed {
        /// The item as it is, where there is one.
        current: Option<ItemTag>,
    },
    /// There are as many items as there may be.
    CatalogueFull,
}

/// The entity tag of an item, in two parts. The first covers what a merchant says of it; the second covers all that
/// is answered, stock and time of change too.
///
/// A write under `If-Match` compares the first part only. Sales change the stock all the time, and a merchant who
/// changes a title is not to be refused because of one; and no write replaces a stock that it does not name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemTag {
    content: String,
    whole: String,
}

impl ItemTag {
    /// The tag of an item as it is.
    pub fn of(item: &ItemRecord) -> Self {
        let content = (&item.title, &item.prices, item.quantity_max, item.tax_zero, &item.tags);
        Self { content: digest(&content), whole: digest(item) }
    }
}

impl std::fmt::Display for ItemTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.content, self.whole)
    }
}

fn digest(what: &impl Serialize) -> String {
    let json = serde_json::to_vec(what).expect("records of strings and numbers serialise");
    HEXLOWER.encode(&Sha256::digest(json)[..TAG_BYTES])
}

/// Under which conditions an item is changed or shown (RFC 9110 §13).
#[derive(Clone, Debug, Default, Serialize)]
pub struct ItemConditions {
    /// `If-Match`: the item is one of these.
    pub if_match: Option<Tags>,
    /// `If-None-Match`: it is none of these.
    pub if_none_match: Option<Tags>,
}

/// The entity tags of one header, without their quotes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tags {
    /// `*`: any item that exists.
    pub any: bool,
    /// Strong tags.
    pub strong: Vec<String>,
    /// Weak tags.
    pub weak: Vec<String>,
}

impl Tags {
    /// Whether the client has exactly this item, so that it need not be sent again.
    pub fn have(&self, tag: &ItemTag) -> bool {
        let tag = tag.to_string();
        self.any || self.strong.contains(&tag) || self.weak.contains(&tag)
    }

    /// Whether a write that was made for one of these is for this item. A weak tag never matches.
    fn are_for(&self, tag: &ItemTag) -> bool {
        let content = |text: &String| text.split('.').next() == Some(tag.content.as_str());
        self.any || self.strong.iter().any(content)
    }
}

impl ItemConditions {
    /// Whether a write may happen.
    fn check(&self, item: Option<&ItemRecord>) -> Result<(), Refusal> {
        let current = item.map(ItemTag::of);
        let is_for = |tags: &Tags| current.as_ref().is_some_and(|tag| tags.are_for(tag));
        let have = |tags: &Tags| current.as_ref().is_some_and(|tag| tags.have(tag));
        if self.if_match.as_ref().is_none_or(is_for) && !self.if_none_match.as_ref().is_some_and(have) {
            Ok(())
        } else {
            Err(Refusal::ConditionFailed { current })
        }
    }
}

impl ItemChange {
    /// The item after the change.
    pub fn apply(
        &self,
        item_id: &str,
        before: Option<&ItemRecord>,
        conditions: &ItemConditions,
        now_ms: Millis,
    ) -> Result<ItemRecord, Refusal> {
        if before.is_none() && !matches!(self, Self::Replace(_)) {
            return Err(Refusal::Unknown);
        }
        conditions.check(before)?;
        let mut item = match (self, before) {
            (Self::Replace(fields), before) => fields.record(item_id, before),
            (Self::Patch(patch), Some(before)) => patch.onto(before)?,
            (Self::Stock(change), Some(before)) => {
                ItemRecord { stock: change.onto(before.stock)?, ..before.clone() }
            }
            (_, None) => return Err(Refusal::Unknown),
        };
        if before != Some(&item) {
            // Growing, whatever the clocks of two edges say.
            item.changed_at_ms = before.map_or(now_ms, |before| now_ms.max(before.changed_at_ms + 1));
        }
        Ok(item)
    }
}

impl ItemFields {
    fn record(&self, item_id: &str, before: Option<&ItemRecord>) -> ItemRecord {
        ItemRecord {
            item_id: item_id.to_owned(),
            title: self.title.clone(),
            prices: self.prices.clone(),
            stock: self.stock.unwrap_or_else(|| before.map_or(0, |before| before.stock)),
            quantity_max: self.quantity_max,
            tax_zero: self.tax_zero,
            tags: self.tags.clone(),
            changed_at_ms: before.map_or(0, |before| before.changed_at_ms),
        }
    }
}

impl ItemPatch {
    fn onto(&self, before: &ItemRecord) -> Result<ItemRecord, Refusal> {
        let mut item = before.clone();
        for (currency, price) in &self.prices {
            match price {
                Some(minor) => item.prices.insert(*currency, *minor),
                None => item.prices.remove(currency),
            };
        }
        if item.prices.is_empty() {
            return Err(Refusal::NoPrice);
        }
        if let Some(title) = &self.title {
            item.title.clone_from(title);
        }
        if let Some(tags) = &self.tags {
            item.tags.clone_from(tags);
        }
        item.stock = self.stock.unwrap_or(item.stock);
        item.quantity_max = self.quantity_max.unwrap_or(item.quantity_max);
        item.tax_zero = self.tax_zero.unwrap_or(item.tax_zero);
        Ok(item)
    }
}

impl StockChange {
    fn onto(self, stock: u32) -> Result<u32, Refusal> {
        let stock = match self {
            Self::To(stock) => i64::from(stock),
            Self::By(delta) => match i64::from(stock).saturating_add(delta) {
                ..0 => return Err(Refusal::StockNegative { stock }),
                stock => stock,
            },
        };
        u32::try_from(stock).ok().filter(|stock| *stock <= STOCK_MAX).ok_or(Refusal::StockTooLarge)
    }
}

#[cfg(test)]
mod tests {
    use cart_core::Currency;

    use super::*;

    const SGD: CurrencyCode = CurrencyCode(Currency::Sgd);
    const THB: CurrencyCode = CurrencyCode(Currency::Thb);

    fn item() -> ItemRecord {
        ItemRecord {
            item_id: "KAYA".to_owned(),
            title: "Kaya".to_owned(),
            prices: BTreeMap::from([(SGD, 380), (THB, 9900)]),
            stock: 7,
            quantity_max: Some(4),
            tax_zero: true,
            tags: vec!["jam".to_owned()],
            changed_at_ms: 1000,
        }
    }

    fn change(change: &ItemChange, conditions: &ItemConditions) -> Result<ItemRecord, Refusal> {
        change.apply("KAYA", Some(&item()), conditions, 900)
    }

    #[test]
    fn a_patch_changes_what_it_names() {
        let prices = BTreeMap::from([(SGD, Some(420))]);
        let patch = ItemChange::Patch(ItemPatch { prices, ..ItemPatch::default() });
        let after = change(&patch, &ItemConditions::default()).expect("a change");
        let expected =
            ItemRecord { prices: BTreeMap::from([(SGD, 420), (THB, 9900)]), changed_at_ms: 1001, ..item() };
        assert_eq!(after, expected, "and its time of change grows although the clock went back");
        let none = BTreeMap::from([(SGD, None), (THB, None)]);
        let patch = ItemChange::Patch(ItemPatch { prices: none, ..ItemPatch::default() });
        assert_eq!(change(&patch, &ItemConditions::default()), Err(Refusal::NoPrice));
        let nothing = ItemChange::Patch(ItemPatch::default());
        assert_eq!(change(&nothing, &ItemConditions::default()), Ok(item()));
    }

    #[test]
    fn stock_is_never_below_nothing_or_above_the_most() {
        let by = |delta| change(&ItemChange::Stock(StockChange::By(delta)), &ItemConditions::default());
        assert_eq!(by(-7).expect("a change").stock, 0);
        assert_eq!(by(-8), Err(Refusal::StockNegative { stock: 7 }));
        assert_eq!(by(i64::MIN), Err(Refusal::StockNegative { stock: 7 }));
        assert_eq!(by(i64::MAX), Err(Refusal::StockTooLarge));
        assert_eq!(by(i64::from(STOCK_MAX)), Err(Refusal::StockTooLarge));
    }

    #[test]
    fn a_sale_does_not_refuse_a_title_and_another_title_does() {
        let tags =
            |item: &ItemRecord| Tags { strong: vec![ItemTag::of(item).to_string()], ..Tags::default() };
        let if_match = |tags| ItemConditions { if_match: Some(tags), if_none_match: None };
        let title = ItemChange::Patch(ItemPatch { title: Some("Jam".to_owned()), ..ItemPatch::default() });
        let sold = ItemRecord { stock: 99, changed_at_ms: 1, ..item() };
        assert!(change(&title, &if_match(tags(&sold))).is_ok());
        assert!(!tags(&sold).have(&ItemTag::of(&item())), "but what is shown is not the same");
        let renamed = ItemRecord { title: "Other".to_owned(), ..item() };
        let refused = change(&title, &if_match(tags(&renamed)));
        assert_eq!(refused, Err(Refusal::ConditionFailed { current: Some(ItemTag::of(&item())) }));
        let weak = Tags { weak: tags(&item()).strong, ..Tags::default() };
        assert!(change(&title, &if_match(weak)).is_err());
    }

    #[test]
    fn an_item_is_made_only_once_where_that_is_asked() {
        let fields = ItemFields {
            title: "Kaya".to_owned(),
            prices: BTreeMap::from([(SGD, 1)]),
            stock: None,
            quantity_max: None,
            tax_zero: false,
            tags: Vec::new(),
        };
        let put = ItemChange::Replace(fields);
        let any = || Some(Tags { any: true, ..Tags::default() });
        let new = ItemConditions { if_match: None, if_none_match: any() };
        assert_eq!(put.apply("KAYA", None, &new, 5).expect("a new item").stock, 0);
        assert!(matches!(change(&put, &new), Err(Refusal::ConditionFailed { .. })));
        let old = ItemConditions { if_match: any(), if_none_match: None };
        assert_eq!(change(&put, &old).expect("a change").stock, 7);
        assert_eq!(put.apply("KAYA", None, &old, 5), Err(Refusal::ConditionFailed { current: None }));
    }
}
