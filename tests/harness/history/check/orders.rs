//! Orders, payments and stock.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{CartHistory, Found, Merged, Placed, Rule, may_be_merged};
use crate::history::record::{Act, CartNo, Event, History, Nanos, Order, Outcome, Write};

/// How long a guest's order waits for its payment before its stock goes back. A user's waits longer.
pub(super) const PAYMENT_TTL: Nanos = 10 * 60 * 1_000_000_000;
/// The list of newest orders holds so many at most.
pub(in crate::history) const ORDERS_LISTED_MAX: usize = 100;

/// An order, from its checkout to its end.
pub(super) struct Life<'a> {
    /// The checkout's event.
    checkout: Placed<'a>,
    order: &'a Order,
    /// As it was listed in the end.
    last: Option<&'a Order>,
}

/// Checks the orders of one cart, and adds them to all.
///
/// The orders of a guest who signs in are the user's from the merge on. Guests are checked before users, so the orders
/// that a user takes over are known by then.
pub(super) fn of_cart<'a>(
    of: &CartHistory<'a>,
    merged: &HashMap<CartNo, Merged<'a>>,
    all: &mut BTreeMap<&'a str, Life<'a>>,
    found: &mut Found,
) {
    for (at, event) in &of.events {
        let (Some(wanted), Outcome::Placed { order, .. }) = (event.write(), &event.outcome) else {
            continue;
        };
        let Write::Checkout { total } = wanted.write else { continue };
        let made = of.timeline.made_by(*at);
        let ordered = made.and_then(|number| number.checked_sub(1)).and_then(|number| of.timeline.at(number));
        if ordered.is_none_or(|contents| contents.lines != order.lines) {
            let what = format!("order {} is not what was in the cart: {ordered:?}", order.id);
            found.add(Rule::OrdersAddUp, what, [*at]);
        }
        if order.total != total {
            let what = format!("order {} costs {} and was confirmed at {total}", order.id, order.total);
            found.add(Rule::OrdersAddUp, what, [*at]);
        }
        let life = Life { checkout: (*at, event), order, last: None };
        if let Some(other) = all.insert(&order.id, life) {
            let what = format!("order {} was placed by two checkouts", order.id);
            found.add(Rule::OrdersAddUp, what, [other.checkout.0, *at]);
        }
    }
    for (at, event) in &of.events {
        let Outcome::Orders(listed) = &event.outcome else { continue };
        listed_as_placed((*at, event), listed, merged, all, found);
    }
}

/// Every order that was placed before is listed once, and no other.
fn listed_as_placed<'a>(
    (at, event): Placed<'a>,
    listed: &'a [Order],
    merged: &HashMap<CartNo, Merged<'a>>,
    all: &mut BTreeMap<&'a str, Life<'a>>,
    found: &mut Found,
) {
    // The merge that has brought an order of another cart into this list, where there is one.
    let brought = |life: &Life<'_>| {
        let by = merged.get(&life.checkout.1.cart)?.by.iter().map(|(_, merge)| *merge);
        by.filter(|merge| merge.cart == event.cart).map(|merge| (merge.began, merge.ended)).next()
    };
    let names: BTreeSet<&str> = listed.iter().map(|order| order.id.as_str()).collect();
    if names.len() != listed.len() {
        found.add(Rule::OrdersAddUp, "an order is listed twice", [at]);
    }
    for order in listed {
        match all.get_mut(order.id.as_str()) {
            Some(life)
                if (life.checkout.1.cart == event.cart
                    || brought(life).is_some_and(|(began, _)| began < event.ended))
                    && life.checkout.1.began < event.ended =>
            {
                let placed = life.order;
                if (&order.lines, order.total) != (&placed.lines, placed.total) {
                    let what = format!("order {} is listed as another than was placed", order.id);
                    found.add(Rule::OrdersAddUp, what, [life.checkout.0, at]);
                }
                if matches!(event.act, Act::LastOrders) {
                    life.last = Some(order);
                }
            }
            Some(life) => {
                let what = format!("order {} is listed for another, or before its checkout", order.id);
                found.add(Rule::OrdersAddUp, what, [life.checkout.0, at]);
            }
            None => {
                let what = format!("order {} was placed by no acknowledged checkout", order.id);
                found.add(Rule::OrdersAddUp, what, [at]);
            }
        }
    }
    let complete = matches!(event.act, Act::LastOrders) || listed.len() < ORDERS_LISTED_MAX;
    for life in all.values().filter(|_| complete) {
        let is_own =
            life.checkout.1.cart == event.cart && !may_be_merged(merged.get(&event.cart), event.ended);
        let is_brought = brought(life).is_some_and(|(_, ended)| ended < event.began);
        let is_owed = (is_own || is_brought) && life.checkout.1.ended < event.began;
        if is_owed && !names.contains(life.order.id.as_str()) {
            let what = format!("order {} is not listed", life.order.id);
            found.add(Rule::OrdersAddUp, what, [life.checkout.0, at]);
        }
    }
}

/// Checks what became of all orders, and that stock and coupons agree with it.
pub(super) fn settled_and_in_stock(history: &History, all: &BTreeMap<&str, Life<'_>>, found: &mut Found) {
    let mut words: BTreeMap<&str, Vec<Placed<'_>>> = BTreeMap::new();
    for (at, event) in history.events.iter().enumerate() {
        if let Act::Settle(order, _) = &event.act {
            words.entry(order).or_default().push((at, event));
        }
    }
    for (id, life) in all {
        let Some(last) = life.last else { continue };
        let words = words.get(id).map_or(&[][..], Vec::as_slice);
        keeps_its_word(history, life, last, words, found);
    }
    coupons_add_up(history, all, found);
    for (at, item) in history.items() {
        let units = |order: &Order| units_of(history, order, at);
        let kept = all.values().filter_map(|life| life.last).filter(|order| order.state != "cancelled");
        let sold: i64 = kept.map(units).sum();
        let left = history.stock_left.get(&item.item_id).copied();
        if left != Some(item.stock - sold) {
            let what = format!(
                "of {} {} there were, {sold} are sold and {left:?} are left",
                item.stock, item.item_id
            );
            let orders = all.values().filter(|life| units(life.order) > 0);
            found.add(Rule::StockAddsUp, what, orders.map(|life| life.checkout.0).take(8));
        }
        never_oversold(history, all, &words, at, found);
        for (event_at, event) in history.events.iter().enumerate() {
            if let (Act::ReadItem(read), Outcome::Stock(shown)) = (&event.act, &event.outcome)
                && *read == at
                && !(0..=item.stock).contains(shown)
            {
                let what = format!("{shown} of {} were said to be left of {}", item.item_id, item.stock);
                found.add(Rule::StockAddsUp, what, [event_at]);
            }
        }
    }
}

/// The first word on an order holds; without any it waits, and is cancelled when it has waited too long.
fn keeps_its_word(history: &History, life: &Life<'_>, last: &Order, words: &[Placed<'_>], found: &mut Found) {
    let told: BTreeSet<&str> = words
        .iter()
        .filter_map(|(_, event)| match &event.outcome {
            Outcome::Settled(state) => Some(state.as_str()),
            _ => None,
        })
        .collect();
    let end = history.events.iter().map(|event| event.ended).max().unwrap_or(0);
    let too_old = end.saturating_sub(life.checkout.1.began) > PAYMENT_TTL;
    let asked = |state: &str| {
        words
            .iter()
            .any(|(_, event)| matches!(&event.act, Act::Settle(_, paid) if *paid == (state == "paid")))
    };
    let fits = match last.state.as_str() {
        "pending_payment" => words.is_empty(),
        "cancelled" => (asked("cancelled") || too_old) && told.iter().all(|state| *state == "cancelled"),
        "paid" => asked("paid") && told.iter().all(|state| *state == "paid"),
        _ => false,
    };
    if !fits {
        let what = format!("order {} is {} in the end, and was said to be {told:?}", last.id, last.state);
        let words = words.iter().map(|(at, _)| *at);
        found.add(Rule::OrdersAddUp, what, [life.checkout.0].into_iter().chain(words));
    }
}

fn coupons_add_up(history: &History, all: &BTreeMap<&str, Life<'_>>, found: &mut Found) {
    for coupon in &history.goods.coupons {
        let Some(most) = coupon.redemptions_max else { continue };
        let redeemed: Vec<usize> = all
            .values()
            .filter(|life| life.last.is_some_and(|order| order.state != "cancelled"))
            .filter(|life| life.order.redeemed.contains(&coupon.code))
            .map(|life| life.checkout.0)
            .collect();
        if redeemed.len() > most {
            let what =
                format!("{} was redeemed {} times and can be {most} times", coupon.code, redeemed.len());
            found.add(Rule::StockAddsUp, what, redeemed.into_iter().take(8));
        }
    }
}

/// At no time is more sold than there was: what is certainly ordered and not yet cancelled.
fn never_oversold(
    history: &History,
    all: &BTreeMap<&str, Life<'_>>,
    words: &BTreeMap<&str, Vec<Placed<'_>>>,
    item: usize,
    found: &mut Found,
) {
    let mut moves: Vec<(Nanos, i64, usize)> = Vec::new();
    for (id, life) in all {
        let units = units_of(history, life.order, item);
        let (at, checkout) = life.checkout;
        moves.push((checkout.ended, units, at));
        // Whatever the word was: it may have been too late for a payment that was given up.
        let cancelled = |event: &Event| matches!(event.act, Act::Settle(_, false));
        let first = words.get(id).into_iter().flatten().filter(|(_, event)| cancelled(event));
        let given_up = checkout.began + PAYMENT_TTL;
        let freed = first.map(|(_, event)| event.began).min().unwrap_or(given_up).min(given_up);
        moves.push((freed, -units, at));
    }
    moves.sort_unstable();
    let (stock, mut out) = (history.goods.items[item].stock, 0);
    for (_, units, at) in moves {
        out += units;
        if out > stock {
            let what =
                format!("{out} of {} were sold, and there were {stock}", history.goods.items[item].item_id);
            return found.add(Rule::StockAddsUp, what, [at]);
        }
    }
}

fn units_of(history: &History, order: &Order, item: usize) -> i64 {
    let of_item = order.lines.iter().filter(|(line, _)| history.goods.lines[**line].item == item);
    of_item.map(|(_, quantity)| i64::from(*quantity)).sum()
}

impl History {
    fn items(&self) -> impl Iterator<Item = (usize, &crate::history::record::Item)> {
        self.goods.items.iter().enumerate()
    }

    /// What has to be left of each item, by the orders that were listed at the end.
    pub(in crate::history) fn stock_expected(&self) -> BTreeMap<String, i64> {
        let listed = self.events.iter().filter(|event| matches!(event.act, Act::LastOrders));
        let orders = listed.filter_map(|event| match &event.outcome {
            Outcome::Orders(orders) => Some(orders),
            _ => None,
        });
        let kept: Vec<&Order> = orders.flatten().filter(|order| order.state != "cancelled").collect();
        let left =
            |at: usize, stock: i64| stock - kept.iter().map(|order| units_of(self, order, at)).sum::<i64>();
        self.items().map(|(at, item)| (item.item_id.clone(), left(at, item.stock))).collect()
    }
}
