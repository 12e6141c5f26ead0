use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::context::Item;
use crate::money::{Currency, allocate, percent_of};

/// A merchant's rule. The code that a shopper types in is a coupon, not a promotion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promotion {
    /// Stable, for the discount it gives.
    pub code: String,
    /// For the shopper.
    pub title: String,
    /// What it does.
    pub kind: PromotionKind,
}

/// What a promotion does. The variants stand in the order in which they are applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromotionKind {
    /// One unit of each tag together at a fixed price. The dearest units go first, for the shopper's good.
    Bundle {
        /// One unit of each.
        tags: Vec<String>,
        /// The price of the bundle.
        price: PriceTable,
    },
    /// Of every `buy + free` units with the tag, the `free` cheapest cost nothing.
    BuyXGetY {
        /// Which items take part.
        tag: String,
        /// Units to pay.
        buy: u32,
        /// Units on top.
        free: u32,
    },
    /// A share off, once what is left to pay for the tagged items reaches the threshold.
    PercentOverThreshold {
        /// Which items take part; `None` for all.
        tag: Option<String>,
        /// From how much on.
        threshold: PriceTable,
        /// Hundredths of a per cent.
        basis_points: u32,
    },
}

/// An amount in each currency that it is offered in, in minor units.
pub type PriceTable = Vec<(Currency, i64)>;

/// A cart on its way to a price: what is still to pay for each line, and which units are still free to take
/// part in a promotion. A unit takes part in one bundle or one buy-x-get-y, never in two.
pub(crate) struct Worksheet<'a> {
    pub(crate) currency: Currency,
    /// One for each line; `None` where nothing is for sale.
    pub(crate) items: Vec<Option<&'a Item>>,
    pub(crate) prices: Vec<i64>,
    pub(crate) units: Vec<u32>,
    /// Minor units still to pay for each line.
    pub(crate) left: Vec<i64>,
}

impl Promotion {
    /// Takes the promotion off the sheet; returns what it gave, in minor units.
    pub(crate) fn take_off(&self, sheet: &mut Worksheet<'_>) -> i64 {
        let parts = match &self.kind {
            PromotionKind::Bundle { tags, price } => match amount_in(price, sheet.currency) {
                Some(price) if !tags.is_empty() => bundle(sheet, tags, price),
                _ => return 0,
            },
            PromotionKind::BuyXGetY { tag, buy, free } => buy_x_get_y(sheet, tag, *buy, *free),
            PromotionKind::PercentOverThreshold {
                tag,
                threshold,
                basis_points,
            } => match amount_in(threshold, sheet.currency) {
                Some(threshold) => percent_over(sheet, tag.as_deref(), threshold, *basis_points),
                None => return 0,
            },
        };
        sheet.take_off(&parts)
    }
}

impl PromotionKind {
    /// Where it stands in the order: bundles, then buy-x-get-y, then percentages on what is left.
    pub(crate) const fn stage(&self) -> u8 {
        match self {
            Self::Bundle { .. } => 0,
            Self::BuyXGetY { .. } => 1,
            Self::PercentOverThreshold { .. } => 2,
        }
    }
}

impl Worksheet<'_> {
    /// Takes so much off each line, never below nothing; returns the sum taken.
    pub(crate) fn take_off(&mut self, parts: &[i64]) -> i64 {
        let mut taken = 0;
        for (left, part) in self.left.iter_mut().zip(parts) {
            let part = (*part).clamp(0, *left);
            *left -= part;
            taken += part;
        }
        taken
    }

    fn tagged(&self, tag: &str) -> impl Iterator<Item = usize> {
        let has_tag = move |item: &&Item| item.tags.iter().any(|t| t == tag);
        self.items
            .iter()
            .enumerate()
            .filter(move |(_, item)| item.as_ref().is_some_and(has_tag))
            .map(|(at, _)| at)
    }
}

fn bundle(sheet: &mut Worksheet<'_>, tags: &[String], price: i64) -> Vec<i64> {
    let mut parts = vec![0; sheet.left.len()];
    // Every round uses up at least one line, so there are at most as many rounds as lines.
    loop {
        let mut needed = vec![0_u32; sheet.left.len()];
        for tag in tags {
            let spare = sheet.tagged(tag).filter(|at| sheet.units[*at] > needed[*at]);
            // The first of equally dear lines, so that the order of lines decides and nothing else.
            let Some(at) = spare.max_by(|a, b| sheet.prices[*a].cmp(&sheet.prices[*b]).then(b.cmp(a))) else {
                return parts;
            };
            needed[at] += 1;
        }
        let shelf: Vec<i64> = needed
            .iter()
            .zip(&sheet.prices)
            .map(|(n, p)| i64::from(*n) * p)
            .collect();
        let saved = shelf.iter().sum::<i64>() - price;
        if saved <= 0 {
            return parts;
        }
        let times = needed
            .iter()
            .zip(&sheet.units)
            .filter(|(n, _)| **n > 0)
            .map(|(n, u)| u / n)
            .min();
        let times = times.unwrap_or(0);
        for (part, share) in parts.iter_mut().zip(allocate(saved * i64::from(times), &shelf)) {
            *part += share;
        }
        for (units, needed) in sheet.units.iter_mut().zip(&needed) {
            *units -= needed * times;
        }
    }
}

fn buy_x_get_y(sheet: &mut Worksheet<'_>, tag: &str, buy: u32, free: u32) -> Vec<i64> {
    let mut parts = vec![0; sheet.left.len()];
    let mut pool: Vec<usize> = sheet.tagged(tag).collect();
    pool.sort_by_key(|at| (sheet.prices[*at], *at));
    let units: u64 = pool.iter().map(|at| u64::from(sheet.units[*at])).sum();
    let Some(groups) = units.checked_div(u64::from(buy) + u64::from(free)) else {
        return parts;
    };
    let mut to_give = groups * u64::from(free);
    let mut to_pay = groups * u64::from(buy);
    for at in &pool {
        let given = u64::from(sheet.units[*at]).min(to_give);
        to_give -= given;
        let given = u32::try_from(given).unwrap_or(u32::MAX);
        sheet.units[*at] -= given;
        parts[*at] = i64::from(given) * sheet.prices[*at];
    }
    for at in pool.iter().rev() {
        let paid = u64::from(sheet.units[*at]).min(to_pay);
        to_pay -= paid;
        sheet.units[*at] -= u32::try_from(paid).unwrap_or(u32::MAX);
    }
    parts
}

fn percent_over(sheet: &Worksheet<'_>, tag: Option<&str>, threshold: i64, basis_points: u32) -> Vec<i64> {
    let mut base = vec![0; sheet.left.len()];
    match tag {
        Some(tag) => sheet.tagged(tag).for_each(|at| base[at] = sheet.left[at]),
        None => base.clone_from(&sheet.left),
    }
    let sum: i64 = base.iter().sum();
    if sum < threshold {
        return vec![0; sheet.left.len()];
    }
    allocate(percent_of(sum, basis_points.min(10_000)), &base)
}

fn amount_in(table: &PriceTable, currency: Currency) -> Option<i64> {
    table
        .iter()
        .find(|(of, _)| *of == currency)
        .map(|(_, amount)| *amount)
}
