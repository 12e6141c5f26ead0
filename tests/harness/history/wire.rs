//! Questions as requests, and answers as what they say.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Value, json};

use super::record::{Act, Command, Contents, Order, Outcome, Policy, Version, Wanted, Write};
use super::shop::Shop;
use crate::{Answer, Ask, Caller};

/// What an answer is worth.
pub(super) enum Heard {
    /// It says something.
    Said(Outcome),
    /// Whether anything was done, nobody knows: another try will tell.
    Ambiguous,
}

/// The request for an act, by this caller.
pub(super) fn request(shop: &Shop<'_>, act: &Act, caller: &Caller, seen: Option<Version>) -> Ask {
    let ask = match act {
        Act::Read | Act::LastRead => caller.get("/v1/cart"),
        Act::ReadUnless(_, tag) => caller.get("/v1/cart").header("if-none-match", tag),
        Act::Count => caller.get("/v1/cart/count"),
        Act::ReadLine(line) => caller.get(format_args!("/v1/cart/items/{}", shop.goods.lines[*line].line_id)),
        Act::ReadItem(item) => caller.get(format_args!("/v1/items/{}", shop.goods.items[*item].item_id)),
        Act::ReadOrders | Act::LastOrders => {
            caller.get(format_args!("/v1/orders?limit={}", super::check::ORDERS_LISTED_MAX))
        }
        Act::Write(wanted) | Act::Repeat(_, wanted) | Act::Misuse(_, wanted) => write(shop, wanted, caller),
        Act::Settle(order, paid) => {
            let word = if *paid { "paid" } else { "cancelled" };
            caller.ask("POST", format_args!("/admin/orders/{order}/{word}"))
        }
    };
    match seen {
        Some(seen) => ask.header("cart-version", seen.to_string()),
        None => ask,
    }
}

fn write(shop: &Shop<'_>, wanted: &Wanted, caller: &Caller) -> Ask {
    let ask = match &wanted.write {
        Write::One(command) => one(shop, command, caller),
        Write::Batch(commands) => {
            let commands: Vec<Value> = commands.iter().map(|command| in_a_batch(shop, command)).collect();
            caller.post("/v1/cart/commands", json!({ "commands": commands }))
        }
        Write::Merge { guest, policy } => {
            let policy = match policy {
                Policy::Max => "max",
                Policy::Sum => "sum",
                Policy::Replace => "replace",
            };
            caller.post("/v1/cart/merge", json!({ "guest_token": shop.token(*guest), "policy": policy }))
        }
        Write::Checkout { total } => {
            let amount = format!("{}.{:02}", total / 100, total % 100);
            let total = json!({ "expected_total": { "amount": amount, "currency": "SGD" } });
            caller.post("/v1/cart/checkout", total)
        }
    };
    let ask = ask.key(&wanted.key);
    match wanted.if_match {
        Some(version) => ask.if_match(&version.to_string()),
        None => ask,
    }
}

fn one(shop: &Shop<'_>, command: &Command, caller: &Caller) -> Ask {
    let path = |line: &usize| format!("/v1/cart/items/{}", shop.goods.lines[*line].line_id);
    match command {
        Command::Add { line, quantity } => caller.post("/v1/cart/items", goods(shop, *line, *quantity)),
        Command::Set { line, quantity } => caller.patch(path(line), json!({ "quantity": quantity })),
        Command::Remove { line } => caller.delete(path(line)),
        Command::Clear => caller.delete("/v1/cart/items"),
        Command::ApplyCoupon { code } => caller.put(format_args!("/v1/cart/coupons/{code}")),
        Command::RemoveCoupon { code } => caller.delete(format_args!("/v1/cart/coupons/{code}")),
    }
}

fn in_a_batch(shop: &Shop<'_>, command: &Command) -> Value {
    let named = |line: &usize| &shop.goods.lines[*line].line_id;
    match command {
        Command::Add { line, quantity } => {
            let mut add = goods(shop, *line, *quantity);
            add["op"] = json!("add");
            add
        }
        Command::Set { line, quantity } => {
            json!({ "op": "set_quantity", "line_id": named(line), "quantity": quantity })
        }
        Command::Remove { line } => json!({ "op": "remove", "line_id": named(line) }),
        Command::Clear => json!({ "op": "clear" }),
        Command::ApplyCoupon { code } => json!({ "op": "apply_coupon", "code": code }),
        Command::RemoveCoupon { code } => json!({ "op": "remove_coupon", "code": code }),
    }
}

fn goods(shop: &Shop<'_>, line: usize, quantity: u32) -> Value {
    let good = &shop.goods.lines[line];
    let mut goods = json!({ "item_id": shop.goods.items[good.item].item_id, "quantity": quantity });
    if let Some(size) = good.size {
        goods["variant"] = json!({ "size": size });
    }
    goods
}

/// What an answer to an act says.
pub(super) fn hear(shop: &Shop<'_>, act: &Act, answer: &Answer) -> Heard {
    let body: Value = match answer.body.as_slice() {
        [] => Value::Null,
        body => match serde_json::from_slice(body) {
            Ok(body) => body,
            Err(error) => return Heard::Said(Outcome::Garbled(format!("{error}: {answer}"))),
        },
    };
    if answer.status >= 400 {
        return refusal(answer, &body);
    }
    let said = said(shop, act, answer, &body);
    Heard::Said(said.unwrap_or_else(|| Outcome::Garbled(answer.to_string())))
}

fn refusal(answer: &Answer, body: &Value) -> Heard {
    let code = body["code"].as_str().unwrap_or("without a code").to_owned();
    match (answer.status, code.as_str()) {
        // An edge that has just started may not have its rules yet.
        (503, "home_unavailable" | "overloaded" | "rules_not_loaded") | (409, "request_in_progress") => {
            Heard::Ambiguous
        }
        (status, _) => {
            let current = body["current_version"].as_str().and_then(Version::parse);
            Heard::Said(Outcome::Refused { status, code, current })
        }
    }
}

fn said(shop: &Shop<'_>, act: &Act, answer: &Answer, body: &Value) -> Option<Outcome> {
    let version = answer.find_header("cart-version").and_then(Version::parse_tagged);
    let tag = answer.find_header("etag").unwrap_or_default();
    let replayed = answer.find_header("idempotent-replayed") == Some("true");
    let digest = digest(&answer.body);
    Some(match (act, answer.status) {
        (Act::ReadUnless(..), 304) => Outcome::NotModified(version?),
        (Act::Read | Act::ReadUnless(..) | Act::LastRead, 200) => {
            cart(shop, body, version?, false, digest, tag)?
        }
        (Act::Count, 200) => Outcome::Count {
            version: version?,
            lines: body["lines"].as_u64()?,
            quantity: body["quantity"].as_u64()?,
        },
        (Act::ReadLine(line), 200) => {
            let (found, quantity) = line_of(shop, body)?;
            if found != *line {
                return None;
            }
            Outcome::Line { version: version?, quantity }
        }
        (Act::ReadItem(_), 200) => Outcome::Stock(body["stock"].as_i64()?),
        (Act::ReadOrders | Act::LastOrders, 200) => {
            let orders = body["orders"].as_array()?.iter().map(|it| order(shop, it));
            Outcome::Orders(orders.collect::<Option<_>>()?)
        }
        (Act::Settle(..), 200) => Outcome::Settled(body["state"].as_str()?.to_owned()),
        (Act::Write(wanted) | Act::Repeat(_, wanted) | Act::Misuse(_, wanted), status) => {
            match (matches!(wanted.write, Write::Checkout { .. }), status) {
                (false, 200) => cart(shop, body, version?, replayed, digest, tag)?,
                (true, 201) => Outcome::Placed { version: version?, order: order(shop, body)?, replayed },
                _ => return None,
            }
        }
        _ => return None,
    })
}

fn cart(
    shop: &Shop<'_>,
    body: &Value,
    version: Version,
    replayed: bool,
    digest: u64,
    tag: &str,
) -> Option<Outcome> {
    let mut shown = Contents::default();
    let mut odd = None;
    let mut subtotal = 0;
    for line in body["lines"].as_array()? {
        let (no, quantity) = line_of(shop, line)?;
        if shown.lines.insert(no, quantity).is_some() {
            odd = Some(format!("line {no} is there twice"));
        }
        let price = shop.goods.item_of(no).price;
        let amounts = [&line["unit_price"], &line["current_price"], &line["line_total"]].map(cents);
        let line_total = price * i64::from(quantity);
        if amounts != [Some(price), Some(price), Some(line_total)] {
            odd = Some(format!("line {no} costs {amounts:?} and not {price}, {price}, {line_total}"));
        }
        subtotal += line_total;
    }
    for code in body["coupons"].as_array()? {
        if !shown.coupons.insert(code.as_str()?.to_owned()) {
            odd = Some(format!("coupon {code} is there twice"));
        }
    }
    let totals = &body["totals"];
    let amount = |name: &str| cents(&totals[name]);
    let (discount, tax, total) = (amount("discount")?, amount("tax")?, amount("total")?);
    let tax_on_top = if totals["tax_included"].as_bool()? { 0 } else { tax };
    if amount("subtotal")? != subtotal || total != subtotal - discount + tax_on_top {
        odd = Some(format!("{totals} are not the totals of {subtotal}"));
    }
    let units: u32 = shown.lines.values().sum();
    if body["count"] != json!({ "lines": shown.lines.len(), "quantity": units }) {
        odd = Some(format!("{} is not the count of the lines", body["count"]));
    }
    if body["version"].as_str().and_then(Version::parse) != Some(version) {
        odd = Some(format!("the body is of version {}, the header of {version}", body["version"]));
    }
    Some(Outcome::Cart { version, shown, total, odd, replayed, digest, tag: tag.to_owned() })
}

fn line_of(shop: &Shop<'_>, line: &Value) -> Option<(usize, u32)> {
    let no = *shop.line_nos.get(line["line_id"].as_str()?)?;
    let good = &shop.goods.lines[no];
    let size = line["variant"]["size"].as_str();
    let is_it = line["item_id"] == shop.goods.items[good.item].item_id && size == good.size;
    is_it.then_some((no, u32::try_from(line["quantity"].as_u64()?).ok()?))
}

fn order(shop: &Shop<'_>, body: &Value) -> Option<Order> {
    let lines = body["lines"].as_array()?.iter().map(|line| line_of(shop, line));
    let redeemed = body["discounts"].as_array()?.iter().map(|it| it["code"].as_str().map(str::to_owned));
    Some(Order {
        id: body["id"].as_str()?.to_owned(),
        state: body["state"].as_str()?.to_owned(),
        lines: lines.collect::<Option<_>>()?,
        redeemed: redeemed.collect::<Option<_>>()?,
        total: cents(&body["totals"]["total"])?,
    })
}

/// Minor units of an amount of Singapore dollars.
fn cents(money: &Value) -> Option<i64> {
    let (whole, part) = money["amount"].as_str()?.split_once('.')?;
    let is_sgd = money["currency"] == "SGD" && part.len() == 2;
    Some(whole.parse::<i64>().ok()? * 100 + part.parse::<i64>().ok()?).filter(|_| is_sgd)
}

fn digest(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    hasher.finish()
}
