//! Whether a history is one that the contract allows.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::record::{Act, CartNo, Contents, Event, History, Nanos, Outcome, Version, Write};
pub(super) use orders::ORDERS_LISTED_MAX;
use timeline::Timeline;

mod orders;
mod reads;
mod refusals;
mod retried;
mod timeline;

/// What the contract promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Every acknowledged write is there exactly once, and nothing else is.
    ExactlyOnce,
    /// A write sees all that was answered before it was sent.
    WritesInOrder,
    /// A version is the same cart for everybody, everywhere.
    OneVersionOneCart,
    /// A client that echoes its version gets nothing older, whatever it reads or writes where.
    VersionsNeverGoBack,
    /// A version is seen only after somebody wanted it.
    NothingFromTheFuture,
    /// Under a key one thing is done, once.
    KeysAreKept,
    /// A refusal has a reason.
    RefusalsHaveReasons,
    /// Every answer is one that the contract knows.
    KnownAnswers,
    /// An acknowledged checkout is one order, with what was in the cart.
    OrdersAddUp,
    /// What is sold and what is left is what there was.
    StockAddsUp,
    /// A guest's cart goes to one user, once, whole.
    MergesOnce,
    /// When all is well again, every region shows the newest.
    RegionsConverge,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ExactlyOnce => "every acknowledged write is there exactly once",
            Self::WritesInOrder => "a write sees all that was answered before it was sent",
            Self::OneVersionOneCart => "a version is the same cart for everybody",
            Self::VersionsNeverGoBack => "a client that echoes its version gets nothing older",
            Self::NothingFromTheFuture => "a version is seen only after it was wanted",
            Self::KeysAreKept => "under an idempotency key one thing is done, once",
            Self::RefusalsHaveReasons => "a refusal has a reason",
            Self::KnownAnswers => "every answer is one that the contract knows",
            Self::OrdersAddUp => "an acknowledged checkout is one order of what was in the cart",
            Self::StockAddsUp => "what is sold and what is left is what there was",
            Self::MergesOnce => "a guest's cart goes to one user, once and whole",
            Self::RegionsConverge => "when all is well again, every region shows the newest",
        })
    }
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// How.
    pub what: String,
    /// Who was there: places in [`History::events`].
    pub events: Vec<usize>,
}

/// An event and its place in the history.
pub(super) type Placed<'a> = (usize, &'a Event);

/// What is known of one cart.
struct CartHistory<'a> {
    /// Its events, in the order in which they began.
    events: Vec<Placed<'a>>,
    /// For each of them the newest version that anybody was told of before it began.
    told_before: Vec<Option<Version>>,
    timeline: Timeline,
}

/// How a guest's cart ended.
#[derive(Clone, Debug)]
struct Merged<'a> {
    /// The acknowledged merges; there should be one.
    by: Vec<Placed<'a>>,
}

/// Everything that the history breaks, the most telling first.
pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Found::default();
    let mut events_of: Vec<Vec<Placed<'_>>> = vec![Vec::new(); history.carts.len()];
    for (at, event) in history.events.iter().enumerate() {
        events_of[event.cart].push((at, event));
    }
    let merged = merges(history, &mut found);
    // Guests first: a merge is understood only with what the guest's cart ended with.
    let (guests, users): (Vec<CartNo>, Vec<CartNo>) =
        (0..history.carts.len()).partition(|cart| history.carts[*cart].guest);
    let mut ends: HashMap<CartNo, Contents> = HashMap::new();
    let mut open_ends: HashMap<CartNo, Vec<Contents>> = HashMap::new();
    let mut placed = BTreeMap::new();
    for cart in guests.into_iter().chain(users) {
        let mut events = std::mem::take(&mut events_of[cart]);
        events.sort_by_key(|(_, event)| event.began);
        let told_before = newest_before(&events);
        for (guest, possible) in &open_ends {
            let is_here = |(_, event): &&Placed<'_>| event.cart == cart;
            if merged.get(guest).is_some_and(|merged| merged.by.iter().any(|by| is_here(&by))) {
                // Which of them it was shows in the cart that took it over.
                let violations = |end: &&Contents| {
                    let (mut scratch, mut ends) = (Found::default(), ends.clone());
                    ends.insert(*guest, (*end).clone());
                    timeline::build(history, cart, &events, &told_before, &ends, &mut scratch);
                    scratch.0.len()
                };
                let end = possible.iter().min_by_key(violations).cloned().unwrap_or_default();
                ends.insert(*guest, end);
            }
        }
        let timeline = timeline::build(history, cart, &events, &told_before, &ends, &mut found);
        ends.insert(cart, timeline.end());
        let possible = timeline::possible_ends(history, &timeline, &events);
        if possible.len() > 1 {
            open_ends.insert(cart, possible);
        }
        let of = CartHistory { events, told_before, timeline };
        timeline::writes_in_order(&of, &mut found);
        reads::check(history, &of, merged.get(&cart), &mut found);
        refusals::check(history, &of, &merged, merged.get(&cart), &ends, &mut found);
        orders::of_cart(&of, &merged, &mut placed, &mut found);
    }
    orders::settled_and_in_stock(history, &placed, &mut found);
    reads::tags(history, &mut found);
    found.sorted()
}

/// Violations on their way out.
#[derive(Default)]
struct Found(Vec<Violation>);

impl Found {
    fn add(&mut self, rule: Rule, what: impl Into<String>, events: impl IntoIterator<Item = usize>) {
        self.0.push(Violation { rule, what: what.into(), events: events.into_iter().collect() });
    }

    fn sorted(mut self) -> Vec<Violation> {
        self.0.sort_by_key(|violation| violation.rule);
        self.0
    }
}

/// Each guest is merged once at most, and writes nothing afterwards.
fn merges<'a>(history: &'a History, found: &mut Found) -> HashMap<CartNo, Merged<'a>> {
    let mut merged: HashMap<CartNo, Merged<'a>> = HashMap::new();
    for (at, event) in history.events.iter().enumerate() {
        if let Some((wanted, _)) = event.acknowledged()
            && let Write::Merge { guest, .. } = &wanted.write
        {
            merged.entry(*guest).or_insert_with(|| Merged { by: Vec::new() }).by.push((at, event));
        }
    }
    for (guest, Merged { by }) in &merged {
        let name = &history.carts[*guest].name;
        if by.len() > 1 {
            let what = format!("{name} was merged {} times", by.len());
            found.add(Rule::MergesOnce, what, by.iter().map(|(at, _)| *at));
        }
        let Some((merge_at, merge)) = by.first() else { continue };
        for (at, event) in history.events.iter().enumerate().filter(|(_, event)| event.cart == *guest) {
            if event.began > merge.ended && event.acknowledged().is_some() {
                let what = format!("{name} was written to after its merge");
                found.add(Rule::MergesOnce, what, [*merge_at, at]);
            }
        }
    }
    merged
}

/// For each event, which are in the order in which they began: the newest version that was answered in any of
/// them before it began.
fn newest_before(events: &[Placed<'_>]) -> Vec<Option<Version>> {
    let mut answers: Vec<(Nanos, Version)> =
        events.iter().filter_map(|(_, event)| Some((event.ended, event.version()?))).collect();
    answers.sort_by_key(|(ended, _)| *ended);
    let mut answers = answers.into_iter().peekable();
    let mut newest = None;
    events
        .iter()
        .map(|(_, event)| {
            while let Some((_, version)) = answers.next_if(|(ended, _)| *ended < event.began) {
                newest = newest.max(Some(version));
            }
            newest
        })
        .collect()
}

/// Whether somebody had asked for the merge of this guest by then.
fn may_be_merged(merged: Option<&Merged<'_>>, by: Nanos) -> bool {
    merged.is_some_and(|merged| merged.by.iter().any(|(_, merge)| merge.began < by))
}

/// Whether the outcome says that the cart went to a user.
pub(super) fn says_merged(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused { status: 410, code, .. } if code == "cart_merged")
}

/// Whether the act asks about a cart at all.
fn is_about_a_cart(act: &Act) -> bool {
    !matches!(act, Act::ReadItem(_) | Act::ReadOrders | Act::Settle(..) | Act::LastOrders)
}
