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
            PromotionKind::PercentOverThreshold { tag, threshold, basis_points } => {
                match amount_in(threshold, sheet.currency) {
                    Some(threshold) => percent_over(sheet, tag.as_deref(), threshold, *basis_points),
                    None => return 0,
                }
            }
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
    // For each tag its lines, the dearest first, and the earlier of equally dear ones.
    let mut pools: Vec<Vec<usize>> = tags.iter().map(|tag| sheet.tagged(tag).collect()).collect();
    for pool in &mut pools {
        pool.sort_by(|a, b| sheet.prices[*b].cmp(&sheet.prices[*a]).then(a.cmp(b)));
    }
    // Every round uses up at least one line, so there are at most as many rounds as lines.
    while let Some(chosen) = choose(&pools, &sheet.units) {
        let shelf: Vec<i64> =
            chosen.iter().map(|(at, needed)| i64::from(*needed) * sheet.prices[*at]).collect();
        let saved = shelf.iter().sum::<i64>() - price;
        if saved <= 0 {
            break;
        }
        let times = chosen.iter().map(|(at, needed)| sheet.units[*at] / needed).min().unwrap_or(0);
        for ((at, needed), share) in chosen.iter().zip(allocate(saved * i64::from(times), &shelf)) {
            parts[*at] += share;
            sheet.units[*at] -= needed * times;
        }
        for pool in &mut pools {
            let used_up = pool.iter().take_while(|at| sheet.units[**at] == 0).count();
            pool.drain(..used_up);
        }
    }
    parts
}

/// One unit from each pool: which lines, and how many units of each. `None` when a pool has nothing left.
fn choose(pools: &[Vec<usize>], units: &[u32]) -> Option<Vec<(usize, u32)>> {
    let mut chosen: Vec<(usize, u32)> = Vec::with_capacity(pools.len());
    for pool in pools {
        let taken = |at: usize| chosen.iter().find(|(line, _)| *line == at).map_or(0, |(_, needed)| *needed);
        let at = pool.iter().copied().find(|at| units[*at] > taken(*at))?;
        match chosen.iter_mut().find(|(line, _)| *line == at) {
            Some((_, needed)) => *needed += 1,
            None => chosen.push((at, 1)),
        }
    }
    Some(chosen)
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
    table.iter().find(|(of, _)| *of == currency).map(|(_, amount)| *amount)
}
