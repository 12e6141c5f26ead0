use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;

use crate::cart::{Cart, Line, line_id};
use crate::context::{Context, CouponLapse, Item};
use crate::limits;
use crate::param::Param;
use crate::quote::Warning;
use crate::rejection::Rejection;

/// What a shopper asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Add units of an item; they join the line of the same item and variant.
    Add {
        /// The item.
        item_id: String,
        /// Units, from 1.
        quantity: u32,
        /// Canonical JSON, empty for none.
        variant: String,
    },
    /// Set a line's quantity; 0 removes it.
    SetQuantity {
        /// The line.
        line_id: String,
        /// Units.
        quantity: u32,
    },
    /// Take a line out.
    Remove {
        /// The line.
        line_id: String,
    },
    /// Take every line out. Coupons stay: they were typed in for the shopping, not for a line.
    Clear,
    /// Apply a coupon; a second time changes nothing.
    ApplyCoupon {
        /// The code.
        code: String,
    },
    /// Remove a coupon; one that is not there changes nothing.
    RemoveCoupon {
        /// The code.
        code: String,
    },
    /// Store the catalogue's price of now for a line, or for every line whose item is still sold.
    RefreshPrice {
        /// The line; `None` for all.
        line_id: Option<String>,
    },
    /// Take a guest's cart over.
    Merge {
        /// The guest's cart.
        from: Cart,
        /// What becomes of a line that both carts have.
        policy: MergePolicy,
    },
}

/// The quantity of a line that both carts have. Lines of only one of them are kept as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MergePolicy {
    /// The larger one. Idempotent and commutative, so a repeated sign-in changes nothing.
    #[default]
    Max,
    /// Both together, up to [`limits::QUANTITY_MAX`].
    Sum,
    /// The guest's.
    Replace,
}

/// What a command has made of a cart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The cart afterwards.
    pub cart: Cart,
    /// What the shopper should know of this command alone, such as what a merge has cut. They are shown once,
    /// with the answer to the command; what stays true is for the warnings of the quote.
    pub warnings: Vec<Warning>,
}

impl From<Cart> for Applied {
    fn from(cart: Cart) -> Self {
        Self { cart, warnings: Vec::new() }
    }
}

/// The standard answer to a command: the cart as it is afterwards, or why not.
///
/// What raises a line's quantity stores the catalogue's price of now for the whole line; what lowers it keeps the
/// stored price. Lines that a merge joins keep the price that was stored last.
pub fn apply(cart: Cart, command: &Command, context: &Context) -> Result<Applied, Rejection> {
    let variants_before = cart.variants_bytes();
    let applied = match command {
        Command::Merge { from, policy } => merge(cart, from, *policy, context)?,
        _ => change(cart, command, context)?.into(),
    };
    let variants = applied.cart.variants_bytes();
    if variants > limits::VARIANTS_BYTES_MAX && variants > variants_before {
        return Err(Rejection::VariantsTooLarge);
    }
    Ok(applied)
}

fn change(cart: Cart, command: &Command, context: &Context) -> Result<Cart, Rejection> {
    match command {
        Command::Add { item_id, quantity, variant } => add(cart, item_id, *quantity, variant, context),
        Command::SetQuantity { line_id, quantity: 0 } | Command::Remove { line_id } => remove(cart, line_id),
        Command::SetQuantity { line_id, quantity } => set_quantity(cart, line_id, *quantity, context),
        Command::Clear => Ok(Cart { lines: Vec::new(), ..cart }),
        Command::ApplyCoupon { code } => apply_coupon(cart, code, context),
        Command::RemoveCoupon { code } => {
            let coupons = cart.coupons.into_iter().filter(|applied| applied != code).collect();
            Ok(Cart { coupons, ..cart })
        }
        Command::RefreshPrice { line_id: Some(line_id) } => refresh_one(cart, line_id, context),
        Command::RefreshPrice { line_id: None } => Ok(refresh_all(cart, context)),
        Command::Merge { from, policy } => merge(cart, from, *policy, context).map(|applied| applied.cart),
    }
}

fn add(
    mut cart: Cart,
    item_id: &str,
    quantity: u32,
    variant: &str,
    context: &Context,
) -> Result<Cart, Rejection> {
    if quantity == 0 {
        return Err(Rejection::QuantityOutOfRange);
    }
    if variant.len() > limits::VARIANT_BYTES_MAX {
        return Err(Rejection::VariantTooLarge);
    }
    let item =
        context.item(item_id).ok_or_else(|| Rejection::ItemUnknown { item_id: item_id.to_string() })?;
    let price = item
        .price
        .ok_or_else(|| Rejection::ItemNotSold { item_id: item_id.to_string(), currency: cart.currency })?;
    if item.stock == 0 {
        return Err(Rejection::OutOfStock { line_id: None, item_id: item_id.to_string(), stock: 0 });
    }
    let line_id = line_id(item_id, variant);
    if let Some(line) = cart.lines.iter_mut().find(|line| line.line_id == line_id) {
        line.quantity = checked_quantity(line.quantity.saturating_add(quantity), item, Some(&line_id))?;
        line.store_price(price, context.now_ms);
        return Ok(cart);
    }
    if cart.lines.len() >= limits::LINES_MAX {
        return Err(Rejection::TooManyLines);
    }
    let quantity = checked_quantity(quantity, item, None)?;
    // Strictly growing, so that the order of lines needs no column of its own.
    let added_at_ms =
        cart.lines.last().map_or(context.now_ms, |last| context.now_ms.max(last.added_at_ms + 1));
    cart.lines.push(Line {
        line_id,
        item_id: item_id.to_string(),
        quantity,
        variant: variant.to_string(),
        added_price: price,
        added_at_ms,
        priced_at_ms: context.now_ms,
        updated_at_ms: context.now_ms,
    });
    Ok(cart)
}

fn set_quantity(mut cart: Cart, line_id: &str, quantity: u32, context: &Context) -> Result<Cart, Rejection> {
    let line = line_mut(&mut cart, line_id)?;
    if quantity == line.quantity {
        return Ok(cart);
    }
    if quantity > line.quantity {
        let gone = || Rejection::ItemGone { line_id: line_id.to_string(), item_id: line.item_id.clone() };
        let item = context.item(&line.item_id).ok_or_else(gone)?;
        let price = item.price.ok_or_else(gone)?;
        line.quantity = checked_quantity(quantity, item, Some(line_id))?;
        line.store_price(price, context.now_ms);
    } else {
        // Taking units out is always allowed, also of an item that has left the catalogue.
        line.quantity = quantity;
        line.updated_at_ms = context.now_ms;
    }
    Ok(cart)
}

fn refresh_one(mut cart: Cart, line_id: &str, context: &Context) -> Result<Cart, Rejection> {
    let line = line_mut(&mut cart, line_id)?;
    let Some(price) = context.price(&line.item_id) else {
        return Err(Rejection::ItemGone { line_id: line_id.to_string(), item_id: line.item_id.clone() });
    };
    line.store_price(price, context.now_ms);
    Ok(cart)
}

fn refresh_all(mut cart: Cart, context: &Context) -> Cart {
    for line in &mut cart.lines {
        if let Some(price) = context.price(&line.item_id) {
            line.store_price(price, context.now_ms);
        }
    }
    cart
}

fn remove(mut cart: Cart, line_id: &str) -> Result<Cart, Rejection> {
    line_mut(&mut cart, line_id)?;
    cart.lines.retain(|line| line.line_id != line_id);
    Ok(cart)
}

fn apply_coupon(mut cart: Cart, code: &str, context: &Context) -> Result<Cart, Rejection> {
    if cart.coupons.iter().any(|applied| applied == code) {
        return Ok(cart);
    }
    let named = || code.to_string();
    let coupon = context.coupon(code).ok_or_else(|| Rejection::CouponUnknown { code: named() })?;
    match coupon.lapse(context.now_ms) {
        Some(CouponLapse::NotStarted) => return Err(Rejection::CouponNotStarted { code: named() }),
        Some(CouponLapse::Expired) => return Err(Rejection::CouponExpired { code: named() }),
        Some(CouponLapse::Exhausted) => return Err(Rejection::CouponExhausted { code: named() }),
        Some(CouponLapse::OtherCurrency) => return Err(Rejection::CouponCurrency { code: named() }),
        None => {}
    }
    if cart.coupons.len() >= limits::COUPONS_MAX {
        return Err(Rejection::TooManyCoupons);
    }
    cart.coupons.push(named());
    Ok(cart)
}

/// Both carts in one. Neither stock nor an item's own limit stands in the way, because a sign-in must not
/// lose what a shopper chose: the quote warns, and checkout decides.
fn merge(mut cart: Cart, from: &Cart, policy: MergePolicy, context: &Context) -> Result<Applied, Rejection> {
    if cart.currency != from.currency {
        if !cart.lines.is_empty() && !from.lines.is_empty() {
            return Err(Rejection::CurrencyMismatch { from: from.currency, into: cart.currency });
        }
        if cart.lines.is_empty() {
            cart.currency = from.currency;
        }
    }
    // By name, because two full carts would otherwise compare a quarter of a million pairs.
    let ours: BTreeMap<String, usize> =
        cart.lines.iter().enumerate().map(|(at, line)| (line.line_id.clone(), at)).collect();
    let mut warnings = Vec::new();
    for theirs in &from.lines {
        match ours.get(&theirs.line_id).and_then(|at| cart.lines.get_mut(*at)) {
            Some(ours) => warnings.extend(merge_line(ours, theirs, policy, context.now_ms)),
            None => cart.lines.push(theirs.clone()),
        }
    }
    if cart.lines.len() > limits::LINES_MAX {
        return Err(Rejection::TooManyLines);
    }
    cart.lines.sort_by(|a, b| (a.added_at_ms, &a.line_id).cmp(&(b.added_at_ms, &b.line_id)));
    for code in &from.coupons {
        if cart.coupons.contains(code) {
            continue;
        }
        // A sign-in does not fail for a coupon that the shopper can type in again.
        if cart.coupons.len() < limits::COUPONS_MAX {
            cart.coupons.push(code.clone());
        } else {
            warnings.push(coupon_left_out(code));
        }
    }
    Ok(Applied { cart, warnings })
}

/// Joins two lines of one name; a warning says what was cut.
fn merge_line(ours: &mut Line, theirs: &Line, policy: MergePolicy, now_ms: i64) -> Option<Warning> {
    let wanted = match policy {
        MergePolicy::Max => ours.quantity.max(theirs.quantity),
        MergePolicy::Sum => ours.quantity + theirs.quantity,
        MergePolicy::Replace => theirs.quantity,
    };
    let quantity = wanted.min(limits::QUANTITY_MAX);
    if quantity != ours.quantity {
        ours.quantity = quantity;
        ours.updated_at_ms = now_ms;
    }
    ours.added_at_ms = ours.added_at_ms.min(theirs.added_at_ms);
    // The price that was stored last stands, whichever cart it was stored in; of two of one moment the lower one.
    if (theirs.priced_at_ms, Reverse(theirs.added_price)) > (ours.priced_at_ms, Reverse(ours.added_price)) {
        ours.priced_at_ms = theirs.priced_at_ms;
        ours.added_price = theirs.added_price;
    }
    (quantity < wanted).then(|| quantity_capped(ours, wanted, quantity))
}

fn coupon_left_out(code: &str) -> Warning {
    Warning {
        code: "coupon_left_out".to_string(),
        line_id: None,
        detail: format!("a cart has at most {} coupons; {code} was left out", limits::COUPONS_MAX),
        params: vec![Param::text("code", code)],
    }
}

fn quantity_capped(line: &Line, wanted: u32, quantity: u32) -> Warning {
    Warning {
        code: "quantity_capped".to_string(),
        line_id: Some(line.line_id.clone()),
        detail: format!("both carts together have {wanted} of {}; {quantity} were kept", line.item_id),
        params: vec![Param::number("wanted", wanted), Param::number("kept", quantity)],
    }
}

fn line_mut<'a>(cart: &'a mut Cart, line_id: &str) -> Result<&'a mut Line, Rejection> {
    let found = cart.lines.iter_mut().find(|line| line.line_id == line_id);
    found.ok_or_else(|| Rejection::LineUnknown { line_id: line_id.to_string() })
}

fn checked_quantity(quantity: u32, item: &Item, line_id: Option<&str>) -> Result<u32, Rejection> {
    if quantity > limits::QUANTITY_MAX {
        return Err(Rejection::QuantityOutOfRange);
    }
    match item.quantity_max {
        Some(quantity_max) if quantity > quantity_max => Err(Rejection::QuantityAboveItemMax {
            line_id: line_id.map(ToString::to_string),
            item_id: item.item_id.clone(),
            quantity_max,
        }),
        _ => Ok(quantity),
    }
}
