//! What rules may answer. Their arithmetic is checked by `cart-core`; here it is checked that an answer is one
//! to *this* question: no line, price, coupon or name that was not in it.

use std::collections::HashMap;

use cart_core::{Cart, Command, Context, Line, Manifest, Quote, Rejection, limits, line_id};

/// Discounts in one quote. The standard rules give at most one for each promotion and coupon.
const DISCOUNTS_MAX: usize = 64;
/// Warnings in one quote: two for each line, one for each coupon, and some of the cart as a whole.
const WARNINGS_MAX: usize = 1100;
/// Reasons against a checkout: two for each line.
const REJECTIONS_MAX: usize = 1000;
/// Bytes of a code. Codes are labels of metrics and keys of clients' texts.
const CODE_BYTES_MAX: usize = 64;
/// Bytes of a text for a shopper. A longer one is cut and not refused: it may repeat what the shopper typed,
/// and an overlong input must not look like broken rules.
const TEXT_BYTES_MAX: usize = 512;
/// Bytes of an author's version.
const VERSION_BYTES_MAX: usize = 32;

/// Which check failed, in words for the author of the rules.
pub(super) type Checked = Result<(), String>;

/// The cart after a command, against the cart before.
pub(super) fn cart(before: &Cart, command: &Command, context: &Context, after: &Cart) -> Checked {
    after.verify().map_err(|fault| fault.to_string())?;
    let source = merge_source(command);
    let took_over = source.is_some_and(|source| before.lines.is_empty() && after.currency == source.currency);
    if after.currency != before.currency && !took_over {
        return Err("the currency of the cart changed".to_string());
    }
    let ours = by_id(before);
    let theirs = source.map(by_id).unwrap_or_default();
    let added = Added::by(before, command, context);
    for line in &after.lines {
        let sources = [ours.get(line.line_id.as_str()), theirs.get(line.line_id.as_str())];
        let is_added = added.as_ref().filter(|added| added.line_id == line.line_id);
        match (sources, is_added) {
            ([None, None], None) => return Err(format!("line {} was not asked for", shown(&line.item_id))),
            ([None, None], Some(added)) => added.check(line)?,
            _ => same_promise(line, sources, context.now_ms)?,
        }
    }
    let asked_for = |code: &String| {
        before.coupons.contains(code)
            || source.is_some_and(|source| source.coupons.contains(code))
            || matches!(command, Command::ApplyCoupon { code: applied } if applied == code)
    };
    match after.coupons.iter().find(|code| !asked_for(code)) {
        Some(code) => Err(format!("coupon {} was not asked for", shown(code))),
        None => Ok(()),
    }
}

/// A quote of this cart. Cuts texts that are too long.
pub(super) fn quote(cart: &Cart, context: &Context, quote: &mut Quote) -> Checked {
    quote.verify(cart).map_err(|fault| fault.to_string())?;
    for (quoted, line) in quote.lines.iter().zip(&cart.lines) {
        if quoted.current_price != context.item(&line.item_id).and_then(|item| item.price) {
            return Err(format!("the current price of {} is not the catalogue's", shown(&line.item_id)));
        }
        if quoted.tax > quoted.line_total - quoted.discount {
            return Err(format!("the tax on {} is more than its price", shown(&line.item_id)));
        }
    }
    at_most(DISCOUNTS_MAX, quote.discounts.len(), "discounts")?;
    for discount in &mut quote.discounts {
        // A coupon's code is as the merchant made it and the shopper typed it.
        if !is_label(&discount.code) && !cart.coupons.contains(&discount.code) {
            return Err(format!("{} is no discount code", shown(&discount.code)));
        }
        cut(&mut discount.title);
    }
    at_most(WARNINGS_MAX, quote.warnings.len(), "warnings")?;
    let lines = if quote.warnings.is_empty() { HashMap::new() } else { by_id(cart) };
    for warning in &mut quote.warnings {
        if !is_code(&warning.code) {
            return Err(format!("{} is no warning code: lower snake case is", shown(&warning.code)));
        }
        if let Some(line_id) = warning.line_id.as_ref().filter(|id| !lines.contains_key(id.as_str())) {
            return Err(format!("a warning is about line {}, which is not there", shown(line_id)));
        }
        cut(&mut warning.detail);
    }
    Ok(())
}

/// A rejection of this command. Cuts a text that is too long.
pub(super) fn rejection(cart: &Cart, command: &Command, rejection: &mut Rejection) -> Checked {
    let about = match command {
        Command::Add { item_id, variant, .. } => Some(line_id(item_id, variant)),
        Command::SetQuantity { line_id, .. } | Command::Remove { line_id } => Some(line_id.clone()),
        _ => None,
    };
    let source = merge_source(command);
    one_rejection(rejection, |id| {
        about.as_deref() == Some(id)
            || cart.line(id).is_some()
            || source.is_some_and(|source| source.line(id).is_some())
    })
}

/// The reasons against a checkout. Cuts texts that are too long.
pub(super) fn rejections(cart: &Cart, rejections: &mut [Rejection]) -> Checked {
    if rejections.is_empty() {
        return Err("a refused checkout has no reason".to_string());
    }
    at_most(REJECTIONS_MAX, rejections.len(), "rejections")?;
    let lines = by_id(cart);
    rejections.iter_mut().try_for_each(|rejection| one_rejection(rejection, |id| lines.contains_key(id)))
}

/// Who the rules say they are.
pub(super) fn manifest(manifest: &Manifest) -> Checked {
    let Manifest { name, version, description } = manifest;
    if !is_made_of(name, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Err(format!("the name is lower case with dashes, such as mega-sale, not {}", shown(name)));
    }
    if version.is_empty()
        || version.len() > VERSION_BYTES_MAX
        || !version.bytes().all(|b| b.is_ascii_graphic())
    {
        return Err(format!("the version is a short one, such as 1.4.0, not {}", shown(version)));
    }
    if description.len() > TEXT_BYTES_MAX {
        return Err(format!("the description has at most {TEXT_BYTES_MAX} bytes"));
    }
    Ok(())
}

/// The line that a command may put in.
struct Added {
    line_id: String,
    price: Option<i64>,
    /// From now on; after the last line, so that the order of lines is kept by their times.
    added_at_ms: (i64, i64),
    now_ms: i64,
}

impl Added {
    fn by(before: &Cart, command: &Command, context: &Context) -> Option<Self> {
        let Command::Add { item_id, variant, .. } = command else {
            return None;
        };
        let last = before.lines.iter().map(|line| line.added_at_ms).max().unwrap_or(i64::MIN);
        Some(Self {
            line_id: line_id(item_id, variant),
            price: context.item(item_id).and_then(|item| item.price),
            added_at_ms: (context.now_ms, last.saturating_add(1).max(context.now_ms)),
            now_ms: context.now_ms,
        })
    }

    fn check(&self, line: &Line) -> Checked {
        if Some(line.unit_price) != self.price {
            return Err(format!("the unit price of {} is not the catalogue's", shown(&line.item_id)));
        }
        let (from, to) = self.added_at_ms;
        if !(from..=to).contains(&line.added_at_ms) || line.updated_at_ms != self.now_ms {
            return Err(format!("the times of {} are not now", shown(&line.item_id)));
        }
        Ok(())
    }
}

/// A line that was there keeps what it was promised, in one of the carts that had it. Its quantity is what
/// rules are for.
fn same_promise(line: &Line, sources: [Option<&&Line>; 2], now_ms: i64) -> Checked {
    let mut sources = sources.into_iter().flatten();
    if !sources.clone().any(|source| source.unit_price == line.unit_price) {
        return Err(format!("the unit price of {} changed", shown(&line.item_id)));
    }
    let added = sources.clone().any(|source| source.added_at_ms == line.added_at_ms);
    let updated =
        line.updated_at_ms == now_ms || sources.any(|source| source.updated_at_ms == line.updated_at_ms);
    if added && updated { Ok(()) } else { Err(format!("the times of {} changed", shown(&line.item_id))) }
}

fn one_rejection(rejection: &mut Rejection, is_known: impl Fn(&str) -> bool) -> Checked {
    if !is_code(rejection.code()) {
        return Err(format!("{} is no rejection code: lower snake case is", shown(rejection.code())));
    }
    if let Some(line_id) = rejection.line_id().filter(|id| !is_known(id)) {
        return Err(format!("a rejection is about line {}, which is not there", shown(line_id)));
    }
    if let Rejection::Custom { detail, .. } = rejection {
        cut(detail);
    }
    Ok(())
}

fn merge_source(command: &Command) -> Option<&Cart> {
    match command {
        Command::Merge { from, .. } => Some(from),
        _ => None,
    }
}

fn by_id(cart: &Cart) -> HashMap<&str, &Line> {
    debug_assert!(cart.lines.len() <= limits::LINES_MAX);
    cart.lines.iter().map(|line| (line.line_id.as_str(), line)).collect()
}

/// `[a-z][a-z0-9_]*`
fn is_code(code: &str) -> bool {
    is_made_of(code, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        && code.as_bytes()[0].is_ascii_lowercase()
}

/// Lower snake, kebab or dotted: `11.11`, `meal-set`, `spend_save`.
fn is_label(code: &str) -> bool {
    is_made_of(code, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-' | b'.'))
}

fn is_made_of(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.len() <= CODE_BYTES_MAX && text.bytes().all(allowed)
}

fn at_most(max: usize, count: usize, of: &str) -> Checked {
    if count <= max { Ok(()) } else { Err(format!("{count} {of}, and at most {max} are taken")) }
}

fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
}

/// A name from the rules, fit for a log: short and without control characters.
fn shown(name: &str) -> String {
    format!("{:?}", &name[..name.floor_char_boundary(CODE_BYTES_MAX)])
}
