use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::cart::Cart;
use crate::money::{Currency, Money};
use crate::offer::{Nearest, NotApplied};
use crate::param::Param;
use crate::price::PricePolicy;

/// What a cart costs. All amounts are minor units of the cart's currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote {
    /// At which price the lines are charged.
    pub price_policy: PricePolicy,
    /// One for each line of the cart, in its order.
    pub lines: Vec<QuoteLine>,
    /// What was taken off, in the order it was taken; nothing that gave nothing.
    pub discounts: Vec<Discount>,
    /// The coupons of the cart, and the promotions that concern one of its items, that gave nothing.
    pub not_applied: Vec<NotApplied>,
    /// Of the promotions whose condition is not met, the one that the cart is nearest to.
    pub nearest: Option<Nearest>,
    /// The sums.
    pub totals: Totals,
    /// What the shopper should look at before paying.
    pub warnings: Vec<Warning>,
    /// Unix milliseconds until which the quote holds, if nothing but the time changes; `None` where the rules do
    /// not look at the time.
    pub good_until_ms: Option<i64>,
}

/// What a line costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteLine {
    /// The line of the cart.
    pub line_id: String,
    /// What one costs, by the price policy; `None` when it is no longer sold in this currency.
    pub unit_price: Option<i64>,
    /// The catalogue's price of one now; `None` when it is no longer sold in this currency.
    pub current_price: Option<i64>,
    /// Quantity × unit price, before discounts; 0 for an item that is no longer sold.
    pub line_total: i64,
    /// The line's share of all discounts.
    pub discount: i64,
    /// The line's tax.
    pub tax: i64,
    /// Whether the whole quantity could be bought now.
    pub available: bool,
}

/// An amount taken off, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discount {
    /// The promotion's or the coupon's code.
    pub code: String,
    /// For the shopper.
    pub title: String,
    /// Above 0.
    pub amount: i64,
    /// What a translation of the title needs.
    pub params: Vec<Param>,
}

/// The sums of a quote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sum of the line totals.
    pub subtotal: i64,
    /// Sum of the discounts.
    pub discount: i64,
    /// Tax, whether it is in the prices or comes on top.
    pub tax: i64,
    /// Whether the prices contain the tax.
    pub tax_included: bool,
    /// The amount to pay: subtotal − discount, and + tax where prices do not contain it.
    pub total: i64,
}

/// Something the shopper should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Stable, lower snake case: `price_changed`, `price_updated`, `stock_short`, `item_gone`, `coupon_…`.
    pub code: String,
    /// The line it is about.
    pub line_id: Option<String>,
    /// For the shopper.
    pub detail: String,
    /// What a translation of `detail` needs.
    pub params: Vec<Param>,
}

/// What is wrong with a quote that some rules returned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteFault {
    /// Not exactly the cart's lines.
    #[error("the lines are not those of the cart, in its order: {shown} lines for {right}")]
    Lines {
        /// Lines of the quote.
        shown: usize,
        /// Lines of the cart.
        right: usize,
    },
    /// A negative amount, or a discount larger than what it is taken off.
    #[error("{what} is {amount}")]
    Range {
        /// Which amount, of what.
        what: String,
        /// The amount, with its limit where it has one.
        amount: String,
    },
    /// A product or a sum that is not that of its parts.
    #[error("{what} is {shown}, and should be {right}")]
    Sum {
        /// Which amount, of what.
        what: String,
        /// The amount.
        shown: String,
        /// What its parts come to.
        right: String,
    },
}

impl Quote {
    /// Checks that the quote is one of this cart and adds up, whichever rules made it.
    pub fn verify(&self, cart: &Cart) -> Result<(), QuoteFault> {
        let same_lines = self.lines.len() == cart.lines.len()
            && self.lines.iter().zip(&cart.lines).all(|(quoted, line)| quoted.line_id == line.line_id);
        if !same_lines {
            return Err(QuoteFault::Lines { shown: self.lines.len(), right: cart.lines.len() });
        }
        let mut sums = Sums::default();
        for (quoted, line) in self.lines.iter().zip(&cart.lines) {
            verify_line(quoted, cart.currency)?;
            let right = i128::from(quoted.unit_price.unwrap_or(0)) * i128::from(line.quantity);
            let of = || format!("the line total of {}", line.line_id);
            equal(of, quoted.line_total, right, cart.currency)?;
            sums.line_totals += i128::from(quoted.line_total);
            sums.line_discounts += i128::from(quoted.discount);
            sums.taxes += i128::from(quoted.tax);
        }
        if let Some(discount) = self.discounts.iter().find(|discount| discount.amount <= 0) {
            return Err(range(format!("discount {}", discount.code), discount.amount, cart.currency));
        }
        let discounts: i128 = self.discounts.iter().map(|discount| i128::from(discount.amount)).sum();
        let totals = &self.totals;
        let on_top = if totals.tax_included { 0 } else { i128::from(totals.tax) };
        let total = sums.line_totals - discounts + on_top;
        for (what, shown, right) in [
            ("the subtotal", totals.subtotal, sums.line_totals),
            ("the discount, against its shares in the lines,", totals.discount, sums.line_discounts),
            ("the discount, against the discounts,", totals.discount, discounts),
            ("the tax", totals.tax, sums.taxes),
            ("the total", totals.total, total),
        ] {
            equal(|| what.into(), shown, right, cart.currency)?;
        }
        Ok(())
    }
}

/// Wide enough that a hostile quote cannot overflow the check.
#[derive(Default)]
struct Sums {
    line_totals: i128,
    line_discounts: i128,
    taxes: i128,
}

fn verify_line(line: &QuoteLine, currency: Currency) -> Result<(), QuoteFault> {
    let unit_price = line.unit_price.unwrap_or(0);
    let amounts = [("unit price", unit_price), ("discount", line.discount), ("tax", line.tax)];
    if let Some((what, amount)) = amounts.into_iter().find(|(_, amount)| *amount < 0) {
        return Err(range(format!("the {what} of {}", line.line_id), amount, currency));
    }
    if line.discount > line.line_total {
        return Err(QuoteFault::Range {
            what: format!("the discount of {}", line.line_id),
            amount: format!(
                "{}, more than its line total of {}",
                Money::new(line.discount, currency).amount(),
                Money::new(line.line_total, currency).amount()
            ),
        });
    }
    Ok(())
}

fn range(what: String, amount: i64, currency: Currency) -> QuoteFault {
    QuoteFault::Range { what, amount: Money::new(amount, currency).amount() }
}

fn equal(
    what: impl FnOnce() -> String,
    shown: i64,
    right: i128,
    currency: Currency,
) -> Result<(), QuoteFault> {
    if i128::from(shown) == right {
        return Ok(());
    }
    let right = i64::try_from(right)
        .map_or_else(|_| format!("{right}"), |minor| Money::new(minor, currency).amount());
    Err(QuoteFault::Sum { what: what(), shown: Money::new(shown, currency).amount(), right })
}
