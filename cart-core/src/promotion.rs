use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use crate::context::Item;
use crate::money::{Currency, Money, allocate, percent_of};
use crate::offer::Missing;
use crate::param::{self, Param};

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

/// What a promotion gave.
pub(crate) enum Given {
    /// Minor units, above 0.
    Amount(i64),
    /// Nothing, although it concerns an item of the cart.
    Nothing(Why),
    /// Nothing, because no unit of the cart can take part, or it is not offered in the cart's currency.
    NotConcerned,
}

/// Why a promotion that concerns the cart gave nothing.
#[derive(Clone, Copy)]
pub(crate) enum Why {
    /// Its condition is not met.
    Unmet(Unmet),
    /// What takes part costs no more without it.
    NoSaving,
}

/// How far a condition is met: `have` of `need`.
#[derive(Clone, Copy)]
pub(crate) struct Unmet {
    have: i64,
    need: i64,
    pub(crate) missing: Missing,
}

impl Unmet {
    pub(crate) fn is_nearer_than(&self, other: &Self) -> bool {
        i128::from(self.have) * i128::from(other.need) > i128::from(other.have) * i128::from(self.need)
    }
}

impl Why {
    pub(crate) const fn unmet(self) -> Option<Unmet> {
        match self {
            Self::Unmet(unmet) => Some(unmet),
            Self::NoSaving => None,
        }
    }

    /// Reason, detail, and what a translation of the detail needs.
    pub(crate) fn in_words(self, currency: Currency) -> (&'static str, String, Vec<Param>) {
        match self {
            Self::NoSaving => {
                ("no_saving", "what is in the cart costs no more without it".to_string(), param::NONE)
            }
            Self::Unmet(Unmet { missing: Missing::Amount(minor), .. }) => {
                let detail = format!("{} {currency} more are needed", Money::new(minor, currency).amount());
                ("threshold_not_met", detail, vec![Param::money("missing", minor)])
            }
            Self::Unmet(Unmet { missing: Missing::Quantity(units), .. }) => {
                ("items_missing", format!("{units} more are needed"), vec![Param::number("missing", units)])
            }
        }
    }
}

impl Promotion {
    /// A share off what is left to pay for the items with a tag, or for everything, in every currency.
    pub fn percent_off(code: &str, title: &str, tag: Option<&str>, basis_points: u32) -> Self {
        let threshold = Currency::ALL.map(|currency| (currency, 0)).to_vec();
        let tag = tag.map(ToString::to_string);
        Self {
            code: code.to_string(),
            title: title.to_string(),
            kind: PromotionKind::PercentOverThreshold { tag, threshold, basis_points },
        }
    }

    /// Takes the promotion off the sheet.
    pub(crate) fn take_off(&self, sheet: &mut Worksheet<'_>) -> Given {
        let parts = match &self.kind {
            PromotionKind::Bundle { tags, price } => match amount_in(price, sheet.currency) {
                Some(price) if !tags.is_empty() => bundle(sheet, tags, price),
                _ => return Given::NotConcerned,
            },
            PromotionKind::BuyXGetY { tag, buy, free } => buy_x_get_y(sheet, tag, *buy, *free),
            PromotionKind::PercentOverThreshold { tag, threshold, basis_points } => {
                match amount_in(threshold, sheet.currency) {
                    Some(threshold) => percent_over(sheet, tag.as_deref(), threshold, *basis_points),
                    None => return Given::NotConcerned,
                }
            }
        };
        match parts {
            Err(given) => given,
            Ok(parts) => match sheet.take_off(&parts) {
                0 => Given::Nothing(Why::NoSaving),
                amount => Given::Amount(amount),
            },
        }
    }

    /// What a translation of the title needs.
    pub(crate) fn params(&self) -> Vec<Param> {
        match &self.kind {
            PromotionKind::Bundle { .. } => param::NONE,
            PromotionKind::BuyXGetY { buy, free, .. } => {
                vec![Param::number("buy", *buy), Param::number("free", *free)]
            }
            PromotionKind::PercentOverThreshold { basis_points, .. } => {
                vec![Param::percent("percent", *basis_points)]
            }
        }
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

/// What to take off each line, or what there is to say of a promotion that gives nothing.
type Parts = Result<Vec<i64>, Given>;

fn unmet(have: i64, need: i64, missing: Missing) -> Given {
    Given::Nothing(Why::Unmet(Unmet { have, need, missing }))
}

fn bundle(sheet: &mut Worksheet<'_>, tags: &[String], price: i64) -> Parts {
    let mut parts = vec![0; sheet.left.len()];
    // For each tag its lines, the dearest first, and the earlier of equally dear ones.
    let mut pools: Vec<Vec<usize>> = tags.iter().map(|tag| sheet.tagged(tag).collect()).collect();
    for pool in &mut pools {
        pool.sort_by(|a, b| sheet.prices[*b].cmp(&sheet.prices[*a]).then(a.cmp(b)));
    }
    let (pieces, there) = (tags.len(), choose(&pools, &sheet.units).pieces());
    if there == 0 {
        return Err(Given::NotConcerned);
    }
    if there < pieces {
        let missing = Missing::Quantity(u32::try_from(pieces - there).unwrap_or(u32::MAX));
        return Err(unmet(there as i64, pieces as i64, missing));
    }
    // Every round uses up at least one line, so there are at most as many rounds as lines.
    while let Chosen { units: chosen, complete: true } = choose(&pools, &sheet.units) {
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
    Ok(parts)
}

/// One unit from each pool that has one left.
struct Chosen {
    /// Which lines, and how many units of each.
    units: Vec<(usize, u32)>,
    /// Whether every pool had one.
    complete: bool,
}

impl Chosen {
    fn pieces(&self) -> usize {
        self.units.iter().map(|(_, units)| *units as usize).sum()
    }
}

fn choose(pools: &[Vec<usize>], units: &[u32]) -> Chosen {
    let mut chosen: Vec<(usize, u32)> = Vec::with_capacity(pools.len());
    let mut complete = true;
    for pool in pools {
        let taken = |at: usize| chosen.iter().find(|(line, _)| *line == at).map_or(0, |(_, needed)| *needed);
        let Some(at) = pool.iter().copied().find(|at| units[*at] > taken(*at)) else {
            complete = false;
            continue;
        };
        match chosen.iter_mut().find(|(line, _)| *line == at) {
            Some((_, needed)) => *needed += 1,
            None => chosen.push((at, 1)),
        }
    }
    Chosen { units: chosen, complete }
}

fn buy_x_get_y(sheet: &mut Worksheet<'_>, tag: &str, buy: u32, free: u32) -> Parts {
    let mut parts = vec![0; sheet.left.len()];
    let mut pool: Vec<usize> = sheet.tagged(tag).collect();
    pool.sort_by_key(|at| (sheet.prices[*at], *at));
    let units: u64 = pool.iter().map(|at| u64::from(sheet.units[*at])).sum();
    let group = u64::from(buy) + u64::from(free);
    let Some(groups) = units.checked_div(group).filter(|_| units > 0) else {
        return Err(Given::NotConcerned);
    };
    if groups == 0 {
        let missing = Missing::Quantity(u32::try_from(group - units).unwrap_or(u32::MAX));
        return Err(unmet(
            i64::try_from(units).unwrap_or(i64::MAX),
            i64::from(buy) + i64::from(free),
            missing,
        ));
    }
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
    Ok(parts)
}

fn percent_over(sheet: &Worksheet<'_>, tag: Option<&str>, threshold: i64, basis_points: u32) -> Parts {
    let mut base = vec![0; sheet.left.len()];
    match tag {
        Some(tag) => sheet.tagged(tag).for_each(|at| base[at] = sheet.left[at]),
        None => base.clone_from(&sheet.left),
    }
    let sum: i64 = base.iter().sum();
    if sum == 0 {
        return Err(Given::NotConcerned);
    }
    if sum < threshold {
        return Err(unmet(sum, threshold, Missing::Amount(threshold - sum)));
    }
    Ok(allocate(percent_of(sum, basis_points.min(10_000)), &base))
}

fn amount_in(table: &PriceTable, currency: Currency) -> Option<i64> {
    table.iter().find(|(of, _)| *of == currency).map(|(_, amount)| *amount)
}
