use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::cart::Cart;
use crate::context::Context;
use crate::pricing::Quote;
use crate::rejection::Rejection;

/// The standard preconditions of an order: something in the cart, all of it for sale, enough of it in stock,
/// and no more than the merchant allows. All reasons are given at once.
pub fn checkout(cart: &Cart, context: &Context, quote: Quote) -> Result<Quote, Vec<Rejection>> {
    if cart.lines.is_empty() {
        return Err(vec![Rejection::CartEmpty]);
    }
    // Two lines can hold one item in two variants: the stock is one.
    let mut wanted: BTreeMap<&str, u32> = BTreeMap::new();
    for line in &cart.lines {
        *wanted.entry(&line.item_id).or_default() += line.quantity;
    }
    let mut rejections = Vec::new();
    for line in &cart.lines {
        let (line_id, item_id) = (line.line_id.clone(), line.item_id.clone());
        let Some(item) = context.item(&line.item_id).filter(|item| item.price.is_some()) else {
            rejections.push(Rejection::ItemGone { line_id, item_id });
            continue;
        };
        let line_id = Some(line_id);
        if wanted[line.item_id.as_str()] > item.stock {
            rejections.push(Rejection::OutOfStock {
                line_id,
                item_id,
                stock: item.stock,
            });
        } else if let Some(quantity_max) = item.quantity_max.filter(|max| line.quantity > *max) {
            rejections.push(Rejection::QuantityAboveItemMax {
                line_id,
                item_id,
                quantity_max,
            });
        }
    }
    if rejections.is_empty() {
        Ok(quote)
    } else {
        Err(rejections)
    }
}
