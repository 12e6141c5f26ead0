use std::collections::BTreeMap;

use rust_decimal::{Decimal, RoundingStrategy};
use serde_json::{Value, json};

/// Which price of a line counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// The one that was stored for the line.
    Stored,
    /// The catalogue's.
    Current,
    /// The smaller of both.
    Lower,
}

/// A price for each item, in minor units.
pub(crate) type Prices = BTreeMap<String, i64>;

/// The catalogue of one shopper: what their items cost, and have cost since every region was known to agree.
#[derive(Clone, Debug)]
pub(crate) struct Shelf {
    pub(crate) currency: Currency,
    /// The newest is the last. A region shows any of these, and never some of one and some of another.
    states: Vec<Prices>,
    /// The oldest before the regions last agreed.
    before: Prices,
    /// Grows with each price that is stored in a cart.
    clock: u64,
}

/// What the contract says of a currency and its country.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Currency {
    pub(crate) code: &'static str,
    digits: u32,
    tax_percent: i64,
    tax_included: bool,
}

pub(crate) const SGD: Currency = Currency { code: "SGD", digits: 2, tax_percent: 9, tax_included: true };
pub(crate) const MYR: Currency = Currency { code: "MYR", digits: 2, tax_percent: 10, tax_included: false };
pub(crate) const VND: Currency = Currency { code: "VND", digits: 0, tax_percent: 8, tax_included: true };

/// A cart as it should be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cart {
    lines: BTreeMap<String, Line>,
    /// Per cent, by code.
    pub(crate) coupons: BTreeMap<String, i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    quantity: u32,
    stored: Stored,
}

/// A stored price.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stored {
    /// What it may be: the price of any state that home could know. An answer says which.
    any_of: Vec<i64>,
    at: u64,
}

/// How the quantities of joined lines become one.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Join {
    Max,
    Sum,
    Replace,
}

impl Currency {
    pub(crate) fn money(&self, minor: i64) -> Value {
        json!({ "amount": Decimal::new(minor, self.digits).to_string(), "currency": self.code })
    }

    pub(crate) fn text(&self, minor: i64) -> String {
        Decimal::new(minor, self.digits).to_string()
    }

    fn tax(&self, net: i64) -> i64 {
        let rate = Decimal::from(self.tax_percent);
        let of = if self.tax_included { rate + Decimal::ONE_HUNDRED } else { Decimal::ONE_HUNDRED };
        half_even(Decimal::from(net) * rate / of)
    }
}

impl Shelf {
    pub(crate) fn new(currency: Currency, prices: Prices) -> Self {
        Self { currency, states: vec![prices.clone()], before: prices, clock: 0 }
    }

    pub(crate) fn now(&self) -> &Prices {
        self.states.last().expect("there is always one")
    }

    /// What an item cost before, as some line may have stored it.
    pub(crate) fn before(&self, item_id: &str) -> i64 {
        self.before[item_id]
    }

    /// Whether some region may still show this price, or shows it already.
    pub(crate) fn shows(&self, item_id: &str, price: i64) -> bool {
        self.states.iter().any(|prices| prices[item_id] == price)
    }

    /// The items whose price some region may not show yet.
    pub(crate) fn unsettled(&self) -> Vec<String> {
        let changed = |(item_id, price): &(&String, &i64)| self.states[0][*item_id] != **price;
        self.now().iter().filter(changed).map(|(item_id, _)| item_id.clone()).collect()
    }

    /// A price that no region shows, so that it is known when each does.
    pub(crate) fn change(&mut self, item_id: &str, price: i64) {
        let mut next = self.now().clone();
        next.insert(item_id.to_owned(), price);
        self.states.push(next);
    }

    /// Every region shows the newest.
    pub(crate) fn settled(&mut self) {
        let newest = self.states.len() - 1;
        if let Some(oldest) = self.states.drain(..newest).next() {
            self.before = oldest;
        }
    }

    fn store(&mut self, item_id: &str) -> Stored {
        self.clock += 1;
        Stored { any_of: self.states.iter().map(|prices| prices[item_id]).collect(), at: self.clock }
    }
}

impl Cart {
    /// The units of an item.
    pub(crate) fn quantity(&self, item_id: &str) -> u32 {
        self.lines.get(item_id).map_or(0, |line| line.quantity)
    }

    /// The items, in the order of their ids.
    pub(crate) fn items(&self) -> Vec<String> {
        self.lines.keys().cloned().collect()
    }

    /// Everything ordered, or nobody knows what is in it: empty, without coupons.
    pub(crate) fn clear(&mut self) {
        self.lines.clear();
        self.coupons.clear();
    }

    /// More of an item stores its price, fewer keeps the stored one.
    pub(crate) fn set(&mut self, shelf: &mut Shelf, item_id: &str, quantity: u32) {
        if quantity > self.quantity(item_id) {
            let stored = shelf.store(item_id);
            self.lines.insert(item_id.to_owned(), Line { quantity, stored });
        } else if quantity == 0 {
            self.lines.remove(item_id);
        } else if let Some(line) = self.lines.get_mut(item_id) {
            line.quantity = quantity;
        }
    }

    /// The stored price becomes the catalogue's.
    pub(crate) fn refresh(&mut self, shelf: &mut Shelf, item_id: &str) {
        let stored = shelf.store(item_id);
        if let Some(line) = self.lines.get_mut(item_id) {
            line.stored = stored;
        }
    }

    /// The cart with a guest's lines and coupons. Joined lines keep the price that was stored last.
    pub(crate) fn merge(&mut self, guest: &Self, join: Join) {
        for (item_id, theirs) in &guest.lines {
            let Some(ours) = self.lines.get_mut(item_id) else {
                self.lines.insert(item_id.clone(), theirs.clone());
                continue;
            };
            ours.quantity = match join {
                Join::Max => ours.quantity.max(theirs.quantity),
                Join::Sum => ours.quantity + theirs.quantity,
                Join::Replace => theirs.quantity,
            };
            if theirs.stored.at > ours.stored.at {
                ours.stored = theirs.stored.clone();
            }
        }
        self.coupons.extend(guest.coupons.clone());
    }

    /// Learns from a cart that was shown which of the possible prices were stored.
    pub(crate) fn learn(&mut self, shelf: &Shelf, shown: &Value) {
        for line in shown["lines"].as_array().into_iter().flatten() {
            let item_id = line["item_id"].as_str().unwrap_or_default();
            let Some(Line { stored, .. }) = self.lines.get_mut(item_id) else { continue };
            stored.any_of.retain(|price| line["added_price"] == shelf.currency.money(*price));
        }
    }

    /// Compares a cart that was shown with what it should be, by one state of the catalogue or another. Says what
    /// was wrong by the newest state when it fits none.
    pub(crate) fn check(&self, shelf: &Shelf, policy: Policy, shown: &Value) -> Result<(), String> {
        let mut wrong = Ok(());
        for prices in &shelf.states {
            wrong = self.check_by(shelf.currency, prices, policy, shown);
            if wrong.is_ok() {
                break;
            }
        }
        wrong
    }

    fn check_by(
        &self,
        currency: Currency,
        prices: &Prices,
        policy: Policy,
        shown: &Value,
    ) -> Result<(), String> {
        let lines = shown["lines"].as_array().map(Vec::as_slice).unwrap_or_default();
        let shown_items: Vec<&str> = lines.iter().filter_map(|line| line["item_id"].as_str()).collect();
        let mut sorted = shown_items.clone();
        sorted.sort_unstable();
        same("items", &json!(sorted), &json!(self.items()))?;
        let mut unit_prices = Vec::new();
        for (item_id, shown) in shown_items.iter().zip(lines) {
            let (line, current) = (&self.lines[*item_id], prices[*item_id]);
            let stored = line.stored.any_of.iter().copied();
            let Some(stored) = stored.clone().find(|price| shown["added_price"] == currency.money(*price))
            else {
                let any_of: Vec<_> = stored.map(|price| currency.text(price)).collect();
                return Err(format!("{item_id}: added_price {} is none of {any_of:?}", shown["added_price"]));
            };
            let unit_price = match policy {
                Policy::Stored => stored,
                Policy::Current => current,
                Policy::Lower => stored.min(current),
            };
            unit_prices.push(unit_price);
            let line_total = unit_price * i64::from(line.quantity);
            let of_line = |field: &str| format!("{field} of {item_id}");
            same(&of_line("quantity"), &shown["quantity"], &json!(line.quantity))?;
            same(&of_line("unit_price"), &shown["unit_price"], &currency.money(unit_price))?;
            same(&of_line("line_total"), &shown["line_total"], &currency.money(line_total))?;
            same(&of_line("current_price"), &shown["current_price"], &currency.money(current))?;
            let moved = current - stored;
            let direction = if moved > 0 { "up" } else { "down" };
            let change = json!({ "amount": currency.money(moved.abs()), "direction": direction });
            let change = if moved == 0 { Value::Null } else { change };
            same(&of_line("price_change"), &shown["price_change"], &change)?;
        }
        let quantities = shown_items.iter().map(|item_id| self.lines[*item_id].quantity);
        let totals: Vec<i64> =
            unit_prices.iter().zip(quantities).map(|(price, n)| price * i64::from(n)).collect();
        self.check_sums(currency, &totals, shown)
    }

    fn check_sums(&self, currency: Currency, line_totals: &[i64], shown: &Value) -> Result<(), String> {
        let mut left = line_totals.to_vec();
        for percent in shown_coupons(&self.coupons, shown)? {
            let sum: i64 = left.iter().sum();
            let off = half_even(Decimal::from(sum) * Decimal::from(percent) / Decimal::ONE_HUNDRED);
            let parts = split(off, &left);
            left.iter_mut().zip(parts).for_each(|(left, part)| *left -= part);
        }
        let taxes: Vec<i64> = left.iter().map(|net| currency.tax(*net)).collect();
        for (n, shown) in shown["lines"].as_array().into_iter().flatten().enumerate() {
            let of_line = |field: &str| format!("{field} of {}", shown["item_id"]);
            same(&of_line("discount"), &shown["discount"], &currency.money(line_totals[n] - left[n]))?;
            same(&of_line("tax"), &shown["tax"], &currency.money(taxes[n]))?;
        }
        let (subtotal, net, tax) =
            (line_totals.iter().sum::<i64>(), left.iter().sum::<i64>(), taxes.iter().sum());
        let on_top = if currency.tax_included { 0 } else { tax };
        for (field, expected) in
            [("subtotal", subtotal), ("discount", subtotal - net), ("tax", tax), ("total", net + on_top)]
        {
            same(field, &shown["totals"][field], &currency.money(expected))?;
        }
        Ok(())
    }
}

/// The percentages in the order in which the cart shows their coupons.
fn shown_coupons(coupons: &BTreeMap<String, i64>, shown: &Value) -> Result<Vec<i64>, String> {
    let named = shown["coupons"].as_array().into_iter().flatten();
    let named: Vec<&str> = named.filter_map(Value::as_str).collect();
    let mut sorted = named.clone();
    sorted.sort_unstable();
    same("coupons", &json!(sorted), &json!(coupons.keys().collect::<Vec<_>>()))?;
    Ok(named.iter().map(|code| coupons[*code]).collect())
}

/// Splits an amount in proportion to the weights: each part rounded down, and what is left, unit by unit, to the
/// largest remainders, of equal ones to the earlier.
fn split(amount: i64, weights: &[i64]) -> Vec<i64> {
    let sum: i64 = weights.iter().sum();
    if sum == 0 {
        return vec![0; weights.len()];
    }
    let exact = |weight: &i64| i128::from(amount) * i128::from(*weight);
    let mut parts: Vec<i64> = weights.iter().map(|weight| narrow(exact(weight) / i128::from(sum))).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    // Stable, so the earlier of equal ones stays before the later.
    order.sort_by_key(|n| -(exact(&weights[*n]) % i128::from(sum)));
    let left = amount - parts.iter().sum::<i64>();
    for n in order.into_iter().take(usize::try_from(left).expect("parts are rounded down")) {
        parts[n] += 1;
    }
    parts
}

fn half_even(exact: Decimal) -> i64 {
    let rounded = exact.round_dp_with_strategy(0, RoundingStrategy::MidpointNearestEven);
    i64::try_from(rounded).expect("the amounts of the tests are small")
}

fn narrow(wide: i128) -> i64 {
    i64::try_from(wide).expect("the amounts of the tests are small")
}

fn same(what: &str, shown: &Value, expected: &Value) -> Result<(), String> {
    if shown == expected { Ok(()) } else { Err(format!("{what} is {shown}, and should be {expected}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two kaya at 4.00 and three limes at 1.25, with 10 % off, after kaya went up to 5.00.
    fn example() -> (Shelf, Cart, Value) {
        let (kaya, lime) = ("KAYA".to_owned(), "LIME".to_owned());
        let mut shelf = Shelf::new(MYR, Prices::from([(kaya.clone(), 400), (lime.clone(), 125)]));
        let mut cart = Cart::default();
        cart.set(&mut shelf, &kaya, 2);
        cart.set(&mut shelf, &lime, 3);
        cart.coupons.insert("TEN".to_owned(), 10);
        shelf.change(&kaya, 500);
        shelf.settled();
        let money = |minor: i64| MYR.money(minor);
        // 11.75 less 1.18 (half-even of 1.175): 0.80 and 0.38, by the largest remainder; and 10 % tax on top.
        let shown = json!({
            "coupons": ["TEN"],
            "lines": [
                { "item_id": "KAYA", "quantity": 2, "unit_price": money(400), "added_price": money(400),
                  "current_price": money(500), "line_total": money(800), "discount": money(80), "tax": money(72),
                  "price_change": { "amount": money(100), "direction": "up" } },
                { "item_id": "LIME", "quantity": 3, "unit_price": money(125), "added_price": money(125),
                  "current_price": money(125), "line_total": money(375), "discount": money(38), "tax": money(34),
                  "price_change": null },
            ],
            "totals": { "subtotal": money(1175), "discount": money(118), "tax": money(106), "total": money(1163) },
        });
        (shelf, cart, shown)
    }

    #[test]
    fn the_reference_takes_what_is_right_and_finds_each_field_that_is_not() {
        let (shelf, cart, shown) = example();
        assert_eq!(cart.check(&shelf, Policy::Stored, &shown), Ok(()));
        for pointer in [
            "/lines/0/quantity",
            "/lines/0/unit_price/amount",
            "/lines/0/added_price/amount",
            "/lines/0/current_price/amount",
            "/lines/0/price_change/direction",
            "/lines/0/line_total/amount",
            "/lines/1/discount/amount",
            "/lines/1/tax/amount",
            "/lines/1/item_id",
            "/coupons/0",
            "/totals/subtotal/currency",
            "/totals/discount/amount",
            "/totals/tax/amount",
            "/totals/total/amount",
        ] {
            let mut wrong = shown.clone();
            *wrong.pointer_mut(pointer).expect("the example has it") = json!("1");
            assert!(cart.check(&shelf, Policy::Stored, &wrong).is_err(), "{pointer}");
        }
    }

    #[test]
    fn the_reference_tells_policies_and_states_apart() {
        let (mut shelf, cart, shown) = example();
        assert!(cart.check(&shelf, Policy::Current, &shown).is_err(), "kaya is at 5.00");
        assert_eq!(cart.check(&shelf, Policy::Lower, &shown), Ok(()), "4.00 is the smaller");
        // On its way, the old price is as right as the new one; afterwards it is not.
        shelf.change("LIME", 100);
        assert_eq!(cart.check(&shelf, Policy::Stored, &shown), Ok(()));
        assert_eq!(shelf.unsettled(), ["LIME"]);
        shelf.settled();
        assert!(cart.check(&shelf, Policy::Stored, &shown).is_err());
    }
}
