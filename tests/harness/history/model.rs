//! What a cart does with a change, said a second time: independent of the product, in its simplest form.

use super::record::{Command, Contents, Goods, Policy, Write};

/// Units of one line at most.
const QUANTITY_MAX: u32 = 999;

/// What a change can lead to.
#[derive(Clone, Debug)]
pub(super) struct Consequence {
    /// The cart afterwards, or the code of the refusal that must come.
    pub(super) result: Result<Contents, &'static str>,
    /// Codes of refusals that may come as well: what others buy is not known here.
    pub(super) possible: Vec<&'static str>,
}

impl Consequence {
    /// Whether the refusal with this code is one that fits.
    pub(super) fn may_refuse(&self, code: &str) -> bool {
        self.result.as_ref().err() == Some(&code) || self.possible.contains(&code)
    }
}

/// What a change leads to, in a cart with these contents. A merge needs what the guest's cart ended with.
pub(super) fn consequence(
    before: &Contents,
    write: &Write,
    goods: &Goods,
    guests: Option<&Contents>,
) -> Consequence {
    match write {
        Write::One(command) => commands(before, std::slice::from_ref(command), goods),
        Write::Batch(batch) => commands(before, batch, goods),
        Write::Merge { policy, .. } => {
            let merged = merge(before, guests.unwrap_or(&Contents::default()), *policy);
            Consequence { result: Ok(merged), possible: Vec::new() }
        }
        Write::Checkout { .. } => checkout(before, goods),
    }
}

fn commands(before: &Contents, commands: &[Command], goods: &Goods) -> Consequence {
    let mut now = before.clone();
    let mut possible = Vec::new();
    for command in commands {
        possible.extend(shortage(&now, command, goods));
        if let Err(code) = apply(&mut now, command, goods) {
            return Consequence { result: Err(code), possible };
        }
    }
    Consequence { result: Ok(now), possible }
}

/// What may stand in the way of a command, that the cart alone does not tell.
fn shortage(now: &Contents, command: &Command, goods: &Goods) -> Option<&'static str> {
    match command {
        Command::Add { line, .. } if goods.item_of(*line).scarce => Some("out_of_stock"),
        Command::ApplyCoupon { code } if !now.coupons.contains(code) && goods.is_scarce_coupon(code) => {
            Some("coupon_exhausted")
        }
        _ => None,
    }
}

fn apply(now: &mut Contents, command: &Command, goods: &Goods) -> Result<(), &'static str> {
    match command {
        Command::Add { line, quantity } => {
            let wanted = now.lines.get(line).copied().unwrap_or(0) + quantity;
            allowed(wanted, *line, goods)?;
            now.lines.insert(*line, wanted);
        }
        Command::Set { line, quantity } => {
            let held = now.lines.get_mut(line).ok_or("line_unknown")?;
            if quantity > held {
                allowed(*quantity, *line, goods)?;
            }
            *held = *quantity;
        }
        Command::Remove { line } => drop(now.lines.remove(line).ok_or("line_unknown")?),
        Command::Clear => now.lines.clear(),
        Command::ApplyCoupon { code } => drop(now.coupons.insert(code.clone())),
        Command::RemoveCoupon { code } => drop(now.coupons.remove(code)),
    }
    Ok(())
}

fn allowed(quantity: u32, line: usize, goods: &Goods) -> Result<(), &'static str> {
    if quantity > QUANTITY_MAX {
        return Err("quantity_out_of_range");
    }
    match goods.item_of(line).quantity_max {
        Some(most) if quantity > most => Err("quantity_above_item_max"),
        _ => Ok(()),
    }
}

fn merge(ours: &Contents, theirs: &Contents, policy: Policy) -> Contents {
    let mut merged = ours.clone();
    for (line, quantity) in &theirs.lines {
        merged
            .lines
            .entry(*line)
            .and_modify(|held| {
                *held = match policy {
                    Policy::Max => (*held).max(*quantity),
                    Policy::Sum => (*held + quantity).min(QUANTITY_MAX),
                    Policy::Replace => *quantity,
                };
            })
            .or_insert(*quantity);
    }
    merged.coupons.extend(theirs.coupons.iter().cloned());
    merged
}

fn checkout(before: &Contents, goods: &Goods) -> Consequence {
    let mut possible = Vec::new();
    if before.lines.keys().any(|line| goods.item_of(*line).scarce) {
        possible.push("out_of_stock");
    }
    // When it is used up meanwhile, the cart costs more than the client was shown.
    if before.coupons.iter().any(|code| goods.is_scarce_coupon(code)) {
        possible.push("cart_changed");
    }
    // A merge passes the limit of an item by.
    let above = |(line, quantity): (&usize, &u32)| {
        goods.item_of(*line).quantity_max.is_some_and(|most| *quantity > most)
    };
    let result = if before.lines.is_empty() {
        Err("cart_empty")
    } else if before.lines.iter().any(above) {
        Err("quantity_above_item_max")
    } else {
        Ok(Contents::default())
    };
    Consequence { result, possible }
}

impl Goods {
    /// The item of a line.
    pub(super) fn item_of(&self, line: usize) -> &super::record::Item {
        &self.items[self.lines[line].item]
    }

    fn is_scarce_coupon(&self, code: &str) -> bool {
        self.coupons.iter().any(|coupon| coupon.code == code && coupon.redemptions_max.is_some())
    }
}
