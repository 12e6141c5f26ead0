//! Hand-made histories: a checker that finds nothing in them would find nothing at all.

use std::collections::{BTreeMap, BTreeSet};

use harness::history::{
    Act, CartNo, Command, Contents, Coupon, Event, Good, Goods, History, Item, Outcome, Owner, Policy, Rule,
    Version, Wanted, Write, check,
};

/// Orders and stock.
mod orders;

const MUG: usize = 0;
const VASE: usize = 1;
const VASES: i64 = 5;
const USER: CartNo = 0;
const GUEST: CartNo = 1;
const ONCE: &str = "ONCE";

/// A history under construction: one thing after the other, each taking a moment.
struct Made {
    history: History,
    now: u64,
}

impl Made {
    fn new() -> Self {
        let item = |item_id: &str, stock, scarce| Item {
            item_id: item_id.to_owned(),
            price: 100,
            stock,
            scarce,
            quantity_max: None,
        };
        let good = |item, line_id: &str| Good { line_id: line_id.to_owned(), item, size: None };
        let goods = Goods {
            lines: vec![good(0, "l_mug"), good(1, "l_vase")],
            items: vec![item("mug", 1000, false), item("vase", VASES, true)],
            coupons: vec![Coupon { code: ONCE.to_owned(), redemptions_max: Some(1) }],
        };
        let owner = |name: &str, guest| Owner { name: name.to_owned(), guest };
        let history = History {
            goods,
            carts: vec![owner("user-1", false), owner("guest-1", true)],
            events: Vec::new(),
            stock_left: BTreeMap::from([("mug".to_owned(), 1000), ("vase".to_owned(), VASES)]),
        };
        Self { history, now: 0 }
    }

    /// Somebody of session 1, who follows, asks and hears.
    fn add(&mut self, cart: CartNo, act: Act, mut outcome: Outcome) -> usize {
        self.now += 10;
        if let Outcome::Cart { tag, .. } = &mut outcome {
            *tag = format!("{cart} {tag}");
        }
        self.history.events.push(Event {
            session: 1,
            follows: true,
            cart,
            region: "sin",
            began: self.now,
            ended: self.now + 5,
            seen: None,
            act,
            ambiguous: 0,
            outcome,
        });
        self.history.events.len() - 1
    }

    fn write(&mut self, cart: CartNo, write: Write, number: u64, lines: &[(usize, u32)]) -> usize {
        self.add(cart, Act::Write(wanted(write)), shown(number, lines))
    }

    fn put_in(&mut self, cart: CartNo, quantity: u32, number: u64, lines: &[(usize, u32)]) -> usize {
        self.write(cart, Write::One(Command::Add { line: MUG, quantity }), number, lines)
    }

    fn read(&mut self, number: u64, lines: &[(usize, u32)]) -> usize {
        self.add(USER, Act::Read, shown(number, lines))
    }

    /// Three in a row, all well: 2, 5, 4 mugs.
    fn three_writes() -> Self {
        let mut made = Self::new();
        made.put_in(USER, 2, 1, &[(MUG, 2)]);
        made.put_in(USER, 3, 2, &[(MUG, 5)]);
        made.write(USER, Write::One(Command::Set { line: MUG, quantity: 4 }), 3, &[(MUG, 4)]);
        made
    }

    #[track_caller]
    fn is_fine(&self) {
        let found = check(&self.history);
        assert!(found.is_empty(), "{found:#?}");
    }

    /// The promise is broken, and this event is named.
    #[track_caller]
    fn breaks(&self, rule: Rule, event: usize) {
        let found = check(&self.history);
        let named = found.iter().any(|violation| violation.rule == rule && violation.events.contains(&event));
        assert!(named, "expected {rule:?} to name event {event}, found {found:#?}");
    }
}

fn version(number: u64) -> Version {
    Version { epoch: 1, number }
}

fn wanted(write: Write) -> Wanted {
    Wanted { key: "key".to_owned(), write, if_match: None }
}

fn shown(number: u64, lines: &[(usize, u32)]) -> Outcome {
    let contents = Contents { lines: lines.iter().copied().collect(), coupons: BTreeSet::new() };
    let total = lines.iter().map(|(_, quantity)| i64::from(*quantity) * 100).sum();
    Outcome::Cart {
        version: version(number),
        shown: contents,
        total,
        odd: None,
        replayed: false,
        digest: number,
        tag: format!("{number} {lines:?}"),
    }
}

fn refused(status: u16, code: &str) -> Outcome {
    Outcome::Refused { status, code: code.to_owned(), current: None }
}

#[test]
fn a_history_without_fault_is_let_pass() {
    let mut made = Made::three_writes();
    made.read(3, &[(MUG, 4)]);
    made.add(USER, Act::Count, Outcome::Count { version: version(3), lines: 1, quantity: 4 });
    made.add(USER, Act::ReadLine(MUG), Outcome::Line { version: version(3), quantity: 4 });
    made.add(USER, Act::ReadLine(VASE), refused(404, "line_unknown"));
    made.add(USER, Act::ReadUnless(version(3), "tag".to_owned()), Outcome::NotModified(version(3)));
    // Changes nothing, and makes no version.
    made.write(USER, Write::One(Command::Set { line: MUG, quantity: 4 }), 3, &[(MUG, 4)]);
    made.add(USER, Act::LastRead, shown(3, &[(MUG, 4)]));
    made.is_fine();
}

#[test]
fn a_lost_update_is_found() {
    // Both began with 2 mugs; the second to commit overwrote the first.
    let mut made = Made::new();
    made.put_in(USER, 2, 1, &[(MUG, 2)]);
    made.put_in(USER, 3, 2, &[(MUG, 5)]);
    let lost = made.put_in(USER, 4, 3, &[(MUG, 6)]);
    made.breaks(Rule::ExactlyOnce, lost);
    // Both were told the same version.
    let mut made = Made::new();
    made.put_in(USER, 2, 1, &[(MUG, 2)]);
    let one = made.put_in(USER, 3, 2, &[(MUG, 5)]);
    let other = made.put_in(USER, 4, 2, &[(MUG, 6)]);
    made.breaks(Rule::ExactlyOnce, one);
    made.breaks(Rule::ExactlyOnce, other);
    made.breaks(Rule::OneVersionOneCart, other);
    // It was acknowledged, and in the end it is not there.
    let mut made = Made::three_writes();
    let last = made.add(USER, Act::LastRead, shown(2, &[(MUG, 5)]));
    made.breaks(Rule::RegionsConverge, last);
}

#[test]
fn a_write_done_twice_is_found() {
    // One answer, two versions.
    let mut made = Made::new();
    made.put_in(USER, 2, 1, &[(MUG, 2)]);
    made.put_in(USER, 2, 3, &[(MUG, 6)]);
    let seen = made.read(2, &[(MUG, 4)]);
    made.breaks(Rule::ExactlyOnce, seen);
    // Twice within one version.
    let mut made = Made::new();
    let twice = made.put_in(USER, 2, 1, &[(MUG, 4)]);
    made.breaks(Rule::ExactlyOnce, twice);
    // After the last that anybody was told of.
    let mut made = Made::three_writes();
    let last = made.add(USER, Act::LastRead, shown(4, &[(MUG, 8)]));
    made.breaks(Rule::ExactlyOnce, last);
}

#[test]
fn a_write_in_spite_of_its_condition_is_found() {
    let mut made = Made::new();
    made.put_in(USER, 2, 1, &[(MUG, 2)]);
    made.put_in(USER, 2, 2, &[(MUG, 4)]);
    let add = Write::One(Command::Add { line: MUG, quantity: 1 });
    let conditional = Wanted { if_match: Some(version(1)), ..wanted(add) };
    let at = made.add(USER, Act::Write(conditional), shown(3, &[(MUG, 5)]));
    made.breaks(Rule::ExactlyOnce, at);
}

#[test]
fn a_write_that_did_not_see_what_was_there_is_found() {
    let mut made = Made::three_writes();
    // Changes nothing at version 2, which it was done at; but 3 had been acknowledged.
    let stale = made.write(USER, Write::One(Command::Set { line: MUG, quantity: 5 }), 2, &[(MUG, 5)]);
    made.breaks(Rule::WritesInOrder, stale);
}

#[test]
fn a_read_of_another_cart_than_its_version_is_found() {
    let mut made = Made::three_writes();
    let mixed = made.read(3, &[(MUG, 5)]);
    made.breaks(Rule::OneVersionOneCart, mixed);
    let mut made = Made::three_writes();
    let counted = made.add(USER, Act::Count, Outcome::Count { version: version(3), lines: 1, quantity: 5 });
    made.breaks(Rule::OneVersionOneCart, counted);
    let mut made = Made::three_writes();
    let line = made.add(USER, Act::ReadLine(MUG), Outcome::Line { version: version(3), quantity: 5 });
    made.breaks(Rule::OneVersionOneCart, line);
    let mut made = Made::three_writes();
    let same =
        made.add(USER, Act::ReadUnless(version(2), "tag".to_owned()), Outcome::NotModified(version(3)));
    made.breaks(Rule::OneVersionOneCart, same);
    let mut made = Made::three_writes();
    let odd = made.read(3, &[(MUG, 4)]);
    if let Outcome::Cart { odd, .. } = &mut made.history.events[odd].outcome {
        *odd = Some("the totals are of another cart".to_owned());
    }
    made.breaks(Rule::OneVersionOneCart, odd);
}

#[test]
fn a_stale_read_of_a_client_that_echoes_is_found_and_of_another_is_not() {
    // Not its own write seen.
    let mut made = Made::three_writes();
    let stale = made.read(2, &[(MUG, 5)]);
    made.breaks(Rule::VersionsNeverGoBack, stale);
    made.history.events[stale].follows = false;
    made.is_fine();
    // Back from what another had written and it had read, in another region.
    let mut made = Made::three_writes();
    for event in &mut made.history.events {
        event.session = 2;
    }
    made.read(3, &[(MUG, 4)]);
    let back = made.read(1, &[(MUG, 2)]);
    made.history.events[back].region = "jkt";
    made.breaks(Rule::VersionsNeverGoBack, back);
    // Older than what it said it had seen.
    let mut made = Made::three_writes();
    for event in &mut made.history.events {
        event.session = 2;
    }
    let echoed = made.read(2, &[(MUG, 5)]);
    made.history.events[echoed].seen = Some(version(3));
    made.breaks(Rule::VersionsNeverGoBack, echoed);
}

#[test]
fn an_older_epoch_is_older() {
    let mut made = Made::three_writes();
    let after_failover = made.read(3, &[(MUG, 4)]);
    if let Outcome::Cart { version, .. } = &mut made.history.events[after_failover].outcome {
        version.epoch = 2;
    }
    let back = made.read(3, &[(MUG, 4)]);
    made.breaks(Rule::VersionsNeverGoBack, back);
}

#[test]
fn a_read_from_the_future_is_found() {
    let mut made = Made::new();
    let early = made.read(1, &[(MUG, 2)]);
    made.put_in(USER, 2, 1, &[(MUG, 2)]);
    made.breaks(Rule::NothingFromTheFuture, early);
}

/// The same answer, to a request that had been done before.
fn replayed(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Cart { version, shown, total, odd, digest, tag, .. } => {
            Outcome::Cart { version, shown, total, odd, replayed: true, digest, tag }
        }
        other => other,
    }
}

#[test]
fn a_retry_that_is_not_answered_with_the_cart_as_it_is_now_is_found() {
    let repeat = |made: &mut Made, first: usize, outcome: Outcome| {
        let write = Write::One(Command::Add { line: MUG, quantity: 2 });
        made.add(USER, Act::Repeat(first, wanted(write)), outcome)
    };
    let mut made = Made::three_writes();
    repeat(&mut made, 0, replayed(shown(3, &[(MUG, 4)])));
    made.is_fine();
    for (wrong, rule) in [
        // Done again.
        (shown(4, &[(MUG, 6)]), Rule::KeysAreKept),
        // Answered as it was.
        (replayed(shown(1, &[(MUG, 2)])), Rule::WritesInOrder),
        // Which sets a screen back.
        (replayed(shown(1, &[(MUG, 2)])), Rule::VersionsNeverGoBack),
        // What was shown then, under the version of now.
        (replayed(shown(3, &[(MUG, 2)])), Rule::OneVersionOneCart),
        (refused(422, "idempotency_key_reused"), Rule::KeysAreKept),
        (refused(410, "cart_merged"), Rule::RefusalsHaveReasons),
    ] {
        let mut made = Made::three_writes();
        let at = repeat(&mut made, 0, wrong);
        made.breaks(rule, at);
    }
    let mut made = Made::three_writes();
    let other = wanted(Write::One(Command::Clear));
    let at = made.add(USER, Act::Misuse(0, other), shown(4, &[]));
    made.breaks(Rule::KeysAreKept, at);
}

/// A write whose answers were lost, until it was answered as done before: with the cart as it was by then.
fn lost(made: &mut Made, began: u64, quantity: u32, number: u64, lines: &[(usize, u32)]) -> usize {
    let at = made.put_in(USER, quantity, number, lines);
    let event = &mut made.history.events[at];
    (event.session, event.began, event.ambiguous) = (2, began, 1);
    event.outcome = replayed(event.outcome.clone());
    at
}

#[test]
fn a_write_whose_answer_was_lost_has_made_one_version() {
    // Two of them, the one before the write of another and the one after it.
    let mut made = Made::new();
    made.put_in(USER, 3, 2, &[(MUG, 5)]);
    made.read(3, &[(MUG, 15)]);
    lost(&mut made, 1, 2, 3, &[(MUG, 15)]);
    lost(&mut made, 1, 10, 3, &[(MUG, 15)]);
    made.is_fine();
    // In which order, nobody has seen.
    let mut made = Made::new();
    lost(&mut made, 1, 2, 2, &[(MUG, 5)]);
    lost(&mut made, 1, 3, 2, &[(MUG, 5)]);
    made.is_fine();
    // Only the last says which of them came first.
    let mut made = Made::new();
    made.write(USER, Write::One(Command::Set { line: MUG, quantity: 4 }), 3, &[(MUG, 4)]);
    lost(&mut made, 1, 2, 3, &[(MUG, 4)]);
    lost(&mut made, 1, 3, 3, &[(MUG, 4)]);
    made.is_fine();
}

#[test]
fn a_write_whose_answer_was_lost_and_that_was_done_twice_or_never_is_found() {
    // Twice.
    let mut made = Made::new();
    made.put_in(USER, 3, 3, &[(MUG, 7)]);
    let twice = lost(&mut made, 1, 2, 3, &[(MUG, 7)]);
    made.breaks(Rule::ExactlyOnce, twice);
    // Never.
    let mut made = Made::three_writes();
    let never = lost(&mut made, 1, 7, 3, &[(MUG, 4)]);
    made.breaks(Rule::ExactlyOnce, never);
    // Before it was sent.
    let mut made = Made::new();
    made.put_in(USER, 3, 2, &[(MUG, 5)]);
    let now = made.now + 10;
    let early = lost(&mut made, now, 2, 2, &[(MUG, 5)]);
    made.breaks(Rule::ExactlyOnce, early);
}

#[test]
fn a_refusal_without_a_reason_is_found() {
    let remove = || Act::Write(wanted(Write::One(Command::Remove { line: MUG })));
    let mut made = Made::three_writes();
    let at = made.add(USER, remove(), refused(404, "line_unknown"));
    made.breaks(Rule::RefusalsHaveReasons, at);
    // While another takes the line out, there may be one.
    let mut made = Made::three_writes();
    let clear = made.write(USER, Write::One(Command::Clear), 4, &[]);
    made.history.events[clear].session = 2;
    let at = made.add(USER, remove(), refused(404, "line_unknown"));
    made.history.events[at].began = made.history.events[clear].began;
    made.is_fine();
    for (act, outcome) in [
        (Act::Read, refused(410, "cart_merged")),
        (remove(), refused(412, "version_mismatch")),
        (Act::Write(wanted(Write::Checkout { total: 400 })), refused(409, "out_of_stock")),
        (Act::Write(wanted(Write::Checkout { total: 400 })), refused(422, "cart_empty")),
        (Act::ReadLine(MUG), refused(404, "line_unknown")),
    ] {
        let mut made = Made::three_writes();
        let at = made.add(USER, act, outcome);
        made.history.events[at].seen = Some(version(3));
        made.breaks(Rule::RefusalsHaveReasons, at);
    }
}

#[test]
fn an_answer_that_the_contract_does_not_know_is_found() {
    for outcome in [
        refused(500, "internal"),
        refused(503, "rules_trapped"),
        refused(401, "token_invalid"),
        Outcome::Garbled("half a body".to_owned()),
    ] {
        let mut made = Made::three_writes();
        let at = made.add(USER, Act::Read, outcome);
        made.breaks(Rule::KnownAnswers, at);
    }
    let mut made = Made::three_writes();
    let open = made.add(USER, Act::Write(wanted(Write::One(Command::Clear))), Outcome::Unanswered);
    made.breaks(Rule::KnownAnswers, open);
}

#[test]
fn a_merge_that_loses_doubles_or_comes_twice_is_found() {
    let merge = || Write::Merge { guest: GUEST, policy: Policy::Sum };
    let before = || {
        let mut made = Made::new();
        made.put_in(GUEST, 2, 1, &[(MUG, 2)]);
        made.put_in(USER, 3, 1, &[(MUG, 3)]);
        made
    };
    let mut made = before();
    made.write(USER, merge(), 2, &[(MUG, 5)]);
    made.add(GUEST, Act::LastRead, refused(410, "cart_merged"));
    made.is_fine();
    // Lost, doubled, or by another policy.
    for wrong in [&[][..], &[(MUG, 3)], &[(MUG, 7)], &[(MUG, 2)]] {
        let mut made = before();
        let at = made.write(USER, merge(), 2, wrong);
        made.breaks(Rule::ExactlyOnce, at);
    }
    let mut made = before();
    made.write(USER, merge(), 2, &[(MUG, 5)]);
    let again = made.write(USER, merge(), 3, &[(MUG, 7)]);
    made.breaks(Rule::MergesOnce, again);
    // Written to when it was gone.
    let mut made = before();
    made.write(USER, merge(), 2, &[(MUG, 5)]);
    let late = made.put_in(GUEST, 1, 2, &[(MUG, 3)]);
    made.breaks(Rule::MergesOnce, late);
    // And it is still there in the end.
    let mut made = before();
    made.write(USER, merge(), 2, &[(MUG, 5)]);
    let there = made.add(GUEST, Act::LastRead, shown(1, &[(MUG, 2)]));
    made.breaks(Rule::RegionsConverge, there);
}

#[test]
fn a_region_that_stays_behind_is_found() {
    let mut made = Made::three_writes();
    made.add(USER, Act::LastRead, shown(3, &[(MUG, 4)]));
    let behind = made.add(USER, Act::LastRead, shown(2, &[(MUG, 5)]));
    made.history.events[behind].follows = false;
    made.breaks(Rule::RegionsConverge, behind);
    let mut made = Made::three_writes();
    let silent = made.add(USER, Act::LastRead, Outcome::Unanswered);
    made.breaks(Rule::KnownAnswers, silent);
}
