use alloc::string::String;
use alloc::vec::Vec;

use sha2::{Digest, Sha256};

use crate::limits;
use crate::money::Currency;

/// What a shopper has put together. One cart has one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cart {
    /// The currency of every price in the cart.
    pub currency: Currency,
    /// Oldest first; no two with one `line_id`.
    pub lines: Vec<Line>,
    /// Coupon codes, in the order they were typed in; no code twice.
    pub coupons: Vec<String>,
}

/// A quantity of one item in one variant, and the price that was stored for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Derived from the item and the variant by [`line_id`].
    pub line_id: String,
    /// The catalogue's name for the item.
    pub item_id: String,
    /// From 1 to [`limits::QUANTITY_MAX`].
    pub quantity: u32,
    /// The variant as canonical JSON (sorted keys, no spaces); empty for none.
    pub variant: String,
    /// The price of one that was stored for this line, in minor units: the catalogue's at `priced_at_ms`.
    /// What is charged is decided by the [`PricePolicy`](crate::PricePolicy).
    pub added_price: i64,
    /// Unix milliseconds; strictly growing along the lines that one shopper adds.
    pub added_at_ms: i64,
    /// When `added_price` was stored, in Unix milliseconds: when the line was added, when its quantity was last
    /// raised, or when the price was refreshed.
    pub priced_at_ms: i64,
    /// Unix milliseconds.
    pub updated_at_ms: i64,
}

/// The name of the line that holds `item_id` in `variant` (canonical JSON).
///
/// Derived, so that adding the same thing twice is one line by construction: 100 bits of SHA-256 in
/// Crockford's base 32, lower case.
pub fn line_id(item_id: &str, variant: &str) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let digest = Sha256::new().chain_update(item_id).chain_update([0]).chain_update(variant).finalize();
    let mut id = String::with_capacity(22);
    id.push_str("l_");
    let mut bits = 0_u32;
    let mut held = 0_u32;
    for byte in digest.iter().take(13) {
        bits = (bits << 8) | u32::from(*byte);
        held += 8;
        while held >= 5 && id.len() < 22 {
            held -= 5;
            id.push(char::from(ALPHABET[(bits >> held) as usize & 31]));
        }
        bits &= (1 << held) - 1;
    }
    id
}

impl Line {
    /// Stores a price for the whole line.
    pub(crate) fn store_price(&mut self, price: i64, now_ms: i64) {
        self.added_price = price;
        self.priced_at_ms = now_ms;
        self.updated_at_ms = now_ms;
    }
}

/// What is wrong with a cart that some rules returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CartFault {
    /// More than [`limits::LINES_MAX`] lines.
    #[error("too many lines")]
    TooManyLines,
    /// More than [`limits::COUPONS_MAX`] coupons.
    #[error("too many coupons")]
    TooManyCoupons,
    /// A quantity of zero or above [`limits::QUANTITY_MAX`].
    #[error("a quantity is out of range")]
    Quantity,
    /// A price below zero or above [`limits::PRICE_MINOR_MAX`].
    #[error("a price is out of range")]
    Price,
    /// A `line_id` that is not the one of its item and variant.
    #[error("a line's id is not derived from its item and variant")]
    LineId,
    /// Two lines or two coupons of one name.
    #[error("a line or coupon stands twice")]
    Duplicate,
}

impl Cart {
    /// A cart with nothing in it.
    pub const fn empty(currency: Currency) -> Self {
        Self { currency, lines: Vec::new(), coupons: Vec::new() }
    }

    /// Units in all lines together.
    pub fn quantity(&self) -> u64 {
        self.lines.iter().map(|line| u64::from(line.quantity)).sum()
    }

    /// Bytes of all variants together; [`limits::VARIANTS_BYTES_MAX`] bounds them.
    pub fn variants_bytes(&self) -> usize {
        self.lines.iter().map(|line| line.variant.len()).sum()
    }

    /// The line of that name.
    pub fn line(&self, line_id: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.line_id == line_id)
    }

    /// Checks what every cart must be, whichever rules made it.
    ///
    /// [`limits::VARIANTS_BYTES_MAX`] is not among it: a cart from before that limit can still be shown, made
    /// smaller and bought. It only cannot grow.
    pub fn verify(&self) -> Result<(), CartFault> {
        if self.lines.len() > limits::LINES_MAX {
            return Err(CartFault::TooManyLines);
        }
        if self.coupons.len() > limits::COUPONS_MAX {
            return Err(CartFault::TooManyCoupons);
        }
        for line in &self.lines {
            if line.quantity == 0 || line.quantity > limits::QUANTITY_MAX {
                return Err(CartFault::Quantity);
            }
            if !(0..=limits::PRICE_MINOR_MAX).contains(&line.added_price) {
                return Err(CartFault::Price);
            }
            if line.line_id != line_id(&line.item_id, &line.variant) {
                return Err(CartFault::LineId);
            }
        }
        let lines_unique = all_distinct(self.lines.iter().map(|line| line.line_id.as_str()));
        let coupons_unique = all_distinct(self.coupons.iter().map(String::as_str));
        if lines_unique && coupons_unique { Ok(()) } else { Err(CartFault::Duplicate) }
    }
}

fn all_distinct<'a>(names: impl Iterator<Item = &'a str>) -> bool {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.windows(2).all(|pair| pair[0] != pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ids_are_short_stable_and_tell_item_from_variant() {
        assert_eq!(line_id("SKU-1", "").len(), 22);
        assert_eq!(line_id("SKU-1", ""), line_id("SKU-1", ""));
        assert_ne!(line_id("SKU-1", ""), line_id("SKU-1", "{}"));
        assert_ne!(line_id("ab", "c"), line_id("a", "bc"));
    }
}
