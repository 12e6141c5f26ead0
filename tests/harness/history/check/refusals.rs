//! What was not done, and whether there was a reason at any moment between question and answer.

use std::collections::HashMap;

use super::orders::PAYMENT_TTL;
use super::{CartHistory, Found, Merged, Placed, Rule, may_be_merged, says_merged};
use crate::history::model::consequence;
use crate::history::record::{Act, CartNo, Contents, History, Outcome, Wanted, Write};

/// Unpaid orders that every owner may have.
const UNPAID_ORDERS_MAX: usize = 3;

/// Checks every answer that is not what was asked for.
pub(super) fn check(
    history: &History,
    of: &CartHistory<'_>,
    all_merged: &HashMap<CartNo, Merged<'_>>,
    merged: Option<&Merged<'_>>,
    ends: &HashMap<CartNo, Contents>,
    found: &mut Found,
) {
    for ((at, event), told) in of.events.iter().zip(&of.told_before) {
        match &event.outcome {
            Outcome::Garbled(why) => {
                found.add(Rule::KnownAnswers, format!("an answer nobody understands: {why}"), [*at]);
            }
            Outcome::Unanswered if is_owed(&event.act) => {
                found.add(Rule::KnownAnswers, "all is well, and there is still no answer", [*at]);
            }
            Outcome::Refused { status, code, .. } => {
                let no_older_than = told.map_or(0, |version| version.number);
                let case = Case { history, of, all_merged, merged, ends, placed: (*at, event) };
                match case.is_known(*status, code) {
                    false => {
                        let what = format!("{status} {code} was answered to {:?}", event.act);
                        found.add(Rule::KnownAnswers, what, [*at]);
                    }
                    true if !case.has_reason(code, no_older_than) => {
                        let what = format!(
                            "{status} {code} was answered to {:?}, and no version from {no_older_than} to {} \
                             gave a reason",
                            event.act,
                            of.timeline.newest_by(event.ended)
                        );
                        found.add(Rule::RefusalsHaveReasons, what, case.concerned(no_older_than));
                    }
                    true => {}
                }
            }
            _ => {}
        }
    }
}

/// What is asked again until it is answered, before a run ends.
fn is_owed(act: &Act) -> bool {
    matches!(act, Act::Write(_) | Act::Settle(..) | Act::LastRead | Act::LastOrders)
}

struct Case<'a> {
    history: &'a History,
    of: &'a CartHistory<'a>,
    all_merged: &'a HashMap<CartNo, Merged<'a>>,
    merged: Option<&'a Merged<'a>>,
    ends: &'a HashMap<CartNo, Contents>,
    placed: Placed<'a>,
}

impl Case<'_> {
    /// Whether the contract knows this refusal of this act. Unavailability is not among them: clients try again.
    fn is_known(&self, status: u16, code: &str) -> bool {
        match &self.placed.1.act {
            Act::Write(_) => matches!(
                (status, code),
                (400, "quantity_out_of_range")
                    | (404, "line_unknown")
                    | (409, "out_of_stock" | "cart_changed" | "orders_pending")
                    | (410, "cart_merged")
                    | (412, "version_mismatch")
                    | (422, "quantity_above_item_max" | "coupon_exhausted" | "cart_empty")
            ),
            Act::Read | Act::ReadUnless(..) | Act::Count | Act::LastRead => {
                (status, code) == (410, "cart_merged")
            }
            Act::ReadLine(_) => matches!((status, code), (404, "line_unknown") | (410, "cart_merged")),
            Act::Misuse(..) => (status, code) == (422, "idempotency_key_reused"),
            Act::Settle(..) => (status, code) == (409, "order_settled"),
            Act::Repeat(..) => (status, code) == (410, "cart_merged"),
            // The orders of a guest who signed in are the user's.
            Act::ReadOrders | Act::LastOrders => (status, code) == (410, "cart_merged"),
            Act::ReadItem(_) => false,
        }
    }

    /// Whether the refusal fits the cart at any version that it can have been at.
    fn has_reason(&self, code: &str, no_older_than: u64) -> bool {
        let event = self.placed.1;
        let by = event.ended;
        if says_merged(&event.outcome) {
            let of_guest = |guest| may_be_merged(self.all_merged.get(guest), by);
            return may_be_merged(self.merged, by)
                || matches!(event.write(), Some(Wanted { write: Write::Merge { guest, .. }, .. }) if of_guest(guest));
        }
        let mut possible = no_older_than..=self.of.timeline.newest_by(by);
        match &event.act {
            Act::Write(wanted) => possible.any(|number| self.refuses(wanted, number, code)),
            Act::ReadLine(line) => {
                // A reader that echoes nothing may be shown something old.
                let oldest = event.seen.map_or(0, |seen| seen.number);
                let mut possible = oldest..=self.of.timeline.newest_by(by);
                possible.any(|number| self.at(number).is_some_and(|it| !it.lines.contains_key(line)))
            }
            Act::Settle(order, paid) => self.of.events.iter().any(|(_, other)| {
                let contrary = matches!(&other.act, Act::Settle(of, word) if of == order && word != paid);
                // Or nobody paid in time: then it was cancelled without a word.
                let placed = matches!(&other.outcome, Outcome::Placed { order: of, .. } if of.id == *order);
                contrary && other.began < by || placed && *paid && other.began + PAYMENT_TTL < by
            }),
            _ => true,
        }
    }

    fn refuses(&self, wanted: &Wanted, number: u64, code: &str) -> bool {
        let base = wanted.if_match.map(|version| version.number);
        if code == "orders_pending" {
            return matches!(wanted.write, Write::Checkout { .. }) && self.may_have_unpaid_orders();
        }
        if code == "version_mismatch" {
            let told = self.placed.1.version();
            // Of another epoch, the same number is another version.
            return told.is_some_and(|told| {
                told.number == number && wanted.if_match.is_some_and(|base| base != told)
            });
        }
        let Some(contents) = self.at(number).filter(|_| base.is_none_or(|base| base == number)) else {
            return false;
        };
        let guest = match &wanted.write {
            Write::Merge { guest, .. } => self.ends.get(guest),
            _ => None,
        };
        consequence(contents, &wanted.write, &self.history.goods, guest).may_refuse(code)
    }

    /// Whether as many orders as a guest may leave unpaid can have been placed, or came with a guest's cart.
    fn may_have_unpaid_orders(&self) -> bool {
        let by = self.placed.1.ended;
        let earlier = || self.of.events.iter().filter(|(_, event)| event.began < by);
        let placed = earlier().filter(|(_, event)| {
            matches!(event.write(), Some(Wanted { write: Write::Checkout { .. }, .. }))
                && matches!(event.outcome, Outcome::Placed { .. } | Outcome::Unanswered)
        });
        placed.count() >= UNPAID_ORDERS_MAX
            || earlier()
                .any(|(_, event)| matches!(event.write(), Some(Wanted { write: Write::Merge { .. }, .. })))
    }

    fn at(&self, number: u64) -> Option<&Contents> {
        self.of.timeline.at(number)
    }

    /// The refusal, and the writes that made the versions around it.
    fn concerned(&self, no_older_than: u64) -> Vec<usize> {
        let makers = self.of.events.iter().filter(|(_, event)| {
            event
                .acknowledged()
                .is_some_and(|(_, version)| (no_older_than..=no_older_than + 3).contains(&version.number))
        });
        makers.take(6).map(|(at, _)| *at).chain([self.placed.0]).collect()
    }
}
