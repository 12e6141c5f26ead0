//! What rules may answer. Their arithmetic is checked by `cart-core`; here it is checked that an answer is one
//! to *this* question: no line, price, coupon or name that was not in it.

use std::collections::HashMap;

use cart_core::{
    Applied, Cart, Command, Context, Line, Manifest, Missing, Money, Param, ParamValue, Quote, QuoteLine,
    Rejection, Warning, limits, line_id,
};

use super::bindings::{World, v1_0};

/// Discounts in one quote. The standard rules give at most one for each promotion and coupon.
const DISCOUNTS_MAX: usize = 64;
/// Coupons and promotions in one quote that gave nothing: as many as could have given something, and every coupon.
const NOT_APPLIED_MAX: usize = DISCOUNTS_MAX + limits::COUPONS_MAX;
/// Parameters of one text.
const PARAMS_MAX: usize = 8;
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

/// What a command has made of a cart, against the cart before. Cuts texts that are too long.
pub(super) fn applied(before: &Cart, command: &Command, context: &Context, applied: &mut Applied) -> Checked {
    cart(before, command, context, &applied.cart)?;
    at_most(WARNINGS_MAX, applied.warnings.len(), "warnings")?;
    let source = merge_source(command);
    let is_known = |id: &str| {
        applied.cart.line(id).is_some()
            || before.line(id).is_some()
            || source.is_some_and(|source| source.line(id).is_some())
    };
    applied.warnings.iter_mut().try_for_each(|warning| one_warning(warning, is_known))
}

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
            ([None, None], Some(added)) => added.check(line, after)?,
            _ => same_promise(line, sources, after, context)?,
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
pub(super) fn quote(world: World, cart: &Cart, context: &Context, quote: &mut Quote) -> Checked {
    quote.verify(cart).map_err(|fault| fault.to_string())?;
    prices(world, cart, context, quote)?;
    for (quoted, line) in quote.lines.iter().zip(&cart.lines) {
        let net = quoted.line_total - quoted.discount;
        if quoted.tax > net {
            let (tax, net) = (amount(quoted.tax, cart), amount(net, cart));
            return Err(format!(
                "the tax on {} is {tax}, more than its price of {net}",
                shown(&line.item_id)
            ));
        }
    }
    if let Some(at_ms) = quote.good_until_ms.filter(|at_ms| *at_ms <= context.now_ms) {
        return Err(format!(
            "good-until-ms is {at_ms}, and now-ms is {}: it is over already",
            context.now_ms
        ));
    }
    offers(cart, quote)?;
    at_most(WARNINGS_MAX, quote.warnings.len(), "warnings")?;
    let lines = if quote.warnings.is_empty() { HashMap::new() } else { by_id(cart) };
    quote.warnings.iter_mut().try_for_each(|warning| one_warning(warning, |id| lines.contains_key(id)))
}

/// Every line costs what the policy of the quote makes of the stored price and the catalogue's.
fn prices(world: World, cart: &Cart, context: &Context, quote: &Quote) -> Checked {
    let policy = quote.price_policy;
    if let Some(hold_ms) = policy.hold_ms.filter(|hold_ms| *hold_ms < 0) {
        return Err(format!("the price policy holds prices for {hold_ms} ms"));
    }
    let of_items = (world == World::V1_0).then(|| v1_0::stored_prices(cart));
    for (quoted, line) in quote.lines.iter().zip(&cart.lines) {
        let current = context.price(&line.item_id);
        let right = match &of_items {
            Some(stored) => current.and(stored.get(line.item_id.as_str()).copied()),
            None => policy.unit_price(line, current, context.now_ms),
        };
        let QuoteLine { current_price, unit_price, .. } = quoted;
        if *current_price != current {
            return Err(wrong_price("current price", line, *current_price, current, "the catalogue's", cart));
        }
        if *unit_price != right {
            let by = format!("by the price policy {}", policy.basis.as_str());
            return Err(wrong_price("unit price", line, *unit_price, right, &by, cart));
        }
    }
    Ok(())
}

fn wrong_price(
    what: &str,
    line: &Line,
    found: Option<i64>,
    right: Option<i64>,
    by: &str,
    cart: &Cart,
) -> String {
    let words = |price: Option<i64>| price.map_or_else(|| "none".to_string(), |price| amount(price, cart));
    format!(
        "the {what} of {} is {}, and should be {}, {by}",
        shown(&line.item_id),
        words(found),
        words(right)
    )
}

/// What was given, what was not, and what is nearest.
fn offers(cart: &Cart, quote: &mut Quote) -> Checked {
    at_most(DISCOUNTS_MAX, quote.discounts.len(), "discounts")?;
    at_most(NOT_APPLIED_MAX, quote.not_applied.len(), "discounts that were not applied")?;
    // A coupon's code is as the merchant made it and the shopper typed it.
    let is_known = |code: &String| is_label(code) || cart.coupons.contains(code);
    for discount in &mut quote.discounts {
        if !is_known(&discount.code) {
            return Err(format!("{} is no discount code", shown(&discount.code)));
        }
        cut(&mut discount.title);
        params(&mut discount.params)?;
    }
    for not_applied in &mut quote.not_applied {
        if !is_known(&not_applied.code) {
            return Err(format!("{} is no discount code", shown(&not_applied.code)));
        }
        if !is_code(&not_applied.reason) {
            return Err(format!("{} is no reason: lower snake case is", shown(&not_applied.reason)));
        }
        cut(&mut not_applied.title);
        cut(&mut not_applied.detail);
        params(&mut not_applied.params)?;
    }
    if let Some(nearest) = &mut quote.nearest {
        if !is_known(&nearest.code) {
            return Err(format!("{} is no discount code", shown(&nearest.code)));
        }
        if matches!(nearest.missing, Missing::Amount(..=0) | Missing::Quantity(0)) {
            return Err(format!("nothing is missing for {}, the nearest discount", shown(&nearest.code)));
        }
        cut(&mut nearest.title);
    }
    Ok(())
}

fn one_warning(warning: &mut Warning, is_known: impl Fn(&str) -> bool) -> Checked {
    if !is_code(&warning.code) {
        return Err(format!("{} is no warning code: lower snake case is", shown(&warning.code)));
    }
    if let Some(line_id) = warning.line_id.as_ref().filter(|id| !is_known(id.as_str())) {
        return Err(format!("a warning is about line {}, which is not there", shown(line_id)));
    }
    cut(&mut warning.detail);
    params(&mut warning.params)
}

/// Parameters are few, each by a name of its own, and their texts are cut.
fn params(params: &mut [Param]) -> Checked {
    at_most(PARAMS_MAX, params.len(), "parameters of one text")?;
    for at in 0..params.len() {
        let (before, rest) = params.split_at_mut(at);
        let Some(Param { name, value }) = rest.first_mut() else { break };
        if !is_code(name) {
            return Err(format!("{} is no name of a parameter: lower snake case is", shown(name)));
        }
        if before.iter().any(|other| other.name == *name) {
            return Err(format!("the parameter {} stands twice", shown(name)));
        }
        if let ParamValue::Text(text) = value {
            cut(text);
        }
    }
    Ok(())
}

fn amount(minor: i64, cart: &Cart) -> String {
    Money::new(minor, cart.currency).amount()
}

/// A rejection of this command. Cuts a text that is too long.
pub(super) fn rejection(cart: &Cart, command: &Command, rejection: &mut Rejection) -> Checked {
    let about = match command {
        Command::Add { item_id, variant, .. } => Some(line_id(item_id, variant)),
        Command::SetQuantity { line_id, .. }
        | Command::Remove { line_id }
        | Command::RefreshPrice { line_id: Some(line_id) } => Some(line_id.clone()),
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

    fn check(&self, line: &Line, cart: &Cart) -> Checked {
        if Some(line.added_price) != self.price {
            let found = Some(line.added_price);
            return Err(wrong_price("stored price", line, found, self.price, "the catalogue's", cart));
        }
        let (from, to) = self.added_at_ms;
        let now_ms = self.now_ms;
        let are_now = (from..=to).contains(&line.added_at_ms);
        if !are_now || line.updated_at_ms != now_ms || line.priced_at_ms != now_ms {
            return Err(format!("the times of {} are not now, {now_ms}", shown(&line.item_id)));
        }
        Ok(())
    }
}

/// A line that was there keeps the price that was stored for it, with its time, in one of the carts that had it;
/// or the catalogue's price was stored now. Its quantity is what rules are for.
fn same_promise(line: &Line, sources: [Option<&&Line>; 2], cart: &Cart, context: &Context) -> Checked {
    let sources = || sources.iter().flatten();
    let now_ms = context.now_ms;
    let (stored, today) = ((line.added_price, line.priced_at_ms), context.price(&line.item_id));
    let is_kept = sources().any(|source| (source.added_price, source.priced_at_ms) == stored);
    if !is_kept && today.map(|price| (price, now_ms)) != Some(stored) {
        let was: Vec<String> = sources().map(|source| amount(source.added_price, cart)).collect();
        let today = today.map_or_else(|| "none".to_string(), |price| amount(price, cart));
        return Err(format!(
            "the stored price of {} changed to {}: it was {}, and the catalogue's is {today}; a price keeps its \
             time, or is stored now",
            shown(&line.item_id),
            amount(line.added_price, cart),
            was.join(" or "),
        ));
    }
    let added = sources().any(|source| source.added_at_ms == line.added_at_ms);
    let updated =
        line.updated_at_ms == now_ms || sources().any(|source| source.updated_at_ms == line.updated_at_ms);
    if added && updated { Ok(()) } else { Err(format!("the times of {} changed", shown(&line.item_id))) }
}

fn one_rejection(rejection: &mut Rejection, is_known: impl Fn(&str) -> bool) -> Checked {
    if !is_code(rejection.code()) {
        return Err(format!("{} is no rejection code: lower snake case is", shown(rejection.code())));
    }
    if let Some(line_id) = rejection.line_id().filter(|id| !is_known(id)) {
        return Err(format!("a rejection is about line {}, which is not there", shown(line_id)));
    }
    if let Rejection::Custom { detail, params, .. } = rejection {
        cut(detail);
        self::params(params)?;
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
