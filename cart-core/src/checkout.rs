use alloc::vec;
use alloc::vec::Vec;

use crate::cart::Cart;
use crate::context::Context;
use crate::quote::Quote;
use crate::rejection::Rejection;

/// The standard preconditions of an order: something in the cart, all of it for sale, enough of it in stock,
/// and no more than the merchant allows. All reasons are given at once.
pub fn checkout(cart: &Cart, context: &Context, quote: Quote) -> Result<Quote, Vec<Rejection>> {
    if cart.lines.is_empty() {
        return Err(vec![Rejection::CartEmpty]);
    }
    // Two lines can hold one item in two variants: the stock is one.
    let mut wanted = vec![0_u32; context.items().len()];
    let places: Vec<Option<usize>> =
        cart.lines.iter().map(|line| context.item_position(&line.item_id)).collect();
    for (line, place) in cart.lines.iter().zip(&places) {
        if let Some(at) = place {
            wanted[*at] += line.quantity;
        }
    }
    let mut rejections = Vec::new();
    for (line, place) in cart.lines.iter().zip(&places) {
        let (line_id, item_id) = (line.line_id.clone(), line.item_id.clone());
        let for_sale = place.map(|at| (&context.items()[at], wanted[at]));
        let Some((item, wanted)) = for_sale.filter(|(item, _)| item.price.is_some()) else {
            rejections.push(Rejection::ItemGone { line_id, item_id });
            continue;
        };
        let line_id = Some(line_id);
        if wanted > item.stock {
            rejections.push(Rejection::OutOfStock { line_id, item_id, stock: item.stock });
        } else if let Some(quantity_max) = item.quantity_max.filter(|max| line.quantity > *max) {
            rejections.push(Rejection::QuantityAboveItemMax { line_id, item_id, quantity_max });
        }
    }
    if rejections.is_empty() { Ok(quote) } else { Err(rejections) }
}
