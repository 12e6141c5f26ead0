//! The life of a cart, version by version, put together from what was acknowledged.

use std::collections::{BTreeMap, HashMap};

use super::retried::{Known, Retried, fit};
use super::{CartHistory, Found, Placed, Rule};
use crate::history::model::consequence;
use crate::history::record::{Act, CartNo, Contents, Event, History, Nanos, Outcome, Version, Wanted, Write};

/// A cart, version by version.
pub(super) struct Timeline {
    /// What was in it at each version, from 0 on.
    states: Vec<Contents>,
    /// When the write that made each version was sent.
    wanted_at: Vec<Nanos>,
    /// The versions that writes have made or left, by their events.
    made: HashMap<usize, u64>,
}

impl Timeline {
    /// What was in the cart at a version, if there was one.
    pub(super) fn at(&self, number: u64) -> Option<&Contents> {
        self.states.get(usize::try_from(number).ok()?)
    }

    /// The version that a write has made, or left as it was.
    pub(super) fn made_by(&self, event: usize) -> Option<u64> {
        self.made.get(&event).copied()
    }

    /// The newest version.
    pub(super) fn newest(&self) -> u64 {
        (self.states.len() - 1) as u64
    }

    /// What is in the cart at the end.
    pub(super) fn end(&self) -> Contents {
        self.states.last().cloned().unwrap_or_default()
    }

    /// When the write that made a version was sent.
    pub(super) fn wanted_at(&self, number: u64) -> Nanos {
        usize::try_from(number).ok().and_then(|number| self.wanted_at.get(number)).copied().unwrap_or(0)
    }

    /// The newest version that can have been there at this time.
    pub(super) fn newest_by(&self, at: Nanos) -> u64 {
        // A write that was sent early can be done late, so the times do not grow with the versions.
        (0..=self.newest()).rev().find(|number| self.wanted_at(*number) < at).unwrap_or(0)
    }
}

/// Puts a cart's life together. Each version is made by one acknowledged write, and each acknowledged write
/// either made its version or changed nothing.
pub(super) fn build(
    history: &History,
    cart: CartNo,
    events: &[Placed<'_>],
    told_before: &[Option<Version>],
    guests: &HashMap<CartNo, Contents>,
    found: &mut Found,
) -> Timeline {
    let mut acknowledged: BTreeMap<u64, Vec<(Placed<'_>, &Wanted)>> = BTreeMap::new();
    let mut newest = 0;
    for placed in events {
        if let Some(version) = placed.1.version() {
            newest = newest.max(version.number);
        }
        if let Some((wanted, version)) = placed.1.acknowledged()
            && !placed.1.replayed()
        {
            acknowledged.entry(version.number).or_default().push((*placed, wanted));
        }
    }
    let states = vec![Contents::default()];
    let mut timeline = Timeline { states, wanted_at: vec![0], made: HashMap::new() };
    let maker = Maker { history, guests, name: &history.carts[cart].name };
    let retried = events.iter().zip(told_before).filter_map(|(event, told)| Retried::of(*event, *told));
    let fitted = fit_retried(&maker, events, &retried.collect::<Vec<_>>(), newest, &mut acknowledged, found);
    for (number, writes) in &acknowledged {
        timeline.made.extend(writes.iter().map(|((at, _), _)| (*at, *number)));
    }
    for (at, event) in acknowledged.remove(&0).into_iter().flatten().map(|(placed, _)| placed) {
        if event.shown() != Some(Contents::default()) {
            let what = format!("{}: a write was acknowledged without a version of its own", maker.name);
            found.add(Rule::ExactlyOnce, what, [at]);
        }
    }
    for number in 1..=newest {
        let before = timeline.end();
        let writes = acknowledged.remove(&number).unwrap_or_default();
        let known = usize::try_from(number).ok().and_then(|number| fitted.get(number));
        let Some((now, wanted_at)) = maker.make(number, &before, known, &writes, found) else {
            let seen = events.iter().filter(|(_, event)| is_of(event, number));
            let shown = seen.clone().find_map(|(_, event)| event.shown());
            let what = format!("{}: version {number} was made by no acknowledged write", maker.name);
            let around = events.iter().filter(|(_, event)| {
                event.write().is_some() && (is_of(event, number - 1) || is_of(event, number + 1))
            });
            found.add(Rule::ExactlyOnce, what, seen.take(3).chain(around.take(4)).map(|(at, _)| *at));
            timeline.states.push(shown.unwrap_or(before));
            timeline.wanted_at.push(0);
            continue;
        };
        timeline.states.push(now);
        timeline.wanted_at.push(wanted_at);
    }
    timeline
}

/// Writes of one cart that may have been done last, in any order: more are not looked at.
const OPEN_WRITES_MAX: usize = 4;

/// With what a guest's cart can have ended: a write whose retry heard that the cart went to a user may have been done
/// before that, and no answer has shown it.
pub(super) fn possible_ends(history: &History, timeline: &Timeline, events: &[Placed<'_>]) -> Vec<Contents> {
    let is_open = |(at, event): &&Placed<'_>| {
        super::says_merged(&event.outcome) && event.ambiguous > 0 && timeline.made_by(*at).is_none()
    };
    let open: Vec<&Wanted> =
        events.iter().filter(is_open).filter_map(|(_, event)| event.write()).take(OPEN_WRITES_MAX).collect();
    let mut ends = vec![timeline.end()];
    let mut last = vec![(timeline.end(), Vec::new())];
    for _ in 0..open.len() {
        let mut next = Vec::new();
        for (contents, done) in &last {
            for (which, wanted) in open.iter().enumerate().filter(|(which, _)| !done.contains(which)) {
                let write = consequence(contents, &wanted.write, &history.goods, None);
                if let (Ok(now), false) = (write.result, matches!(wanted.write, Write::Merge { .. })) {
                    ends.push(now.clone());
                    next.push((now, done.iter().copied().chain([which]).collect()));
                }
            }
        }
        last = next;
    }
    ends
}

/// Gives versions to the writes that were answered as done before, and returns what was in the cart then, version by
/// version; nothing, where there are none of them.
fn fit_retried<'a>(
    maker: &Maker<'a>,
    events: &[Placed<'a>],
    retried: &[Retried<'a>],
    newest: u64,
    acknowledged: &mut BTreeMap<u64, Vec<(Placed<'a>, &'a Wanted)>>,
    found: &mut Found,
) -> Vec<Contents> {
    if retried.is_empty() {
        return Vec::new();
    }
    let shown = |(_, event): &Placed<'_>| match &event.outcome {
        Outcome::Cart { version, shown, .. } => Some((version.number, shown.clone())),
        _ => None,
    };
    let shown: HashMap<u64, Contents> = events.iter().filter_map(shown).collect();
    let guest = |wanted: &Wanted| maker.guest(wanted);
    let known = Known { goods: &maker.history.goods, guest: &guest, acknowledged, shown: &shown, newest };
    let Some(fitted) = fit(&known, retried) else {
        let what = format!(
            "{}: the writes that were answered as done before do not fit with all others",
            maker.name
        );
        found.add(Rule::ExactlyOnce, what, retried.iter().map(|retried| retried.placed.0));
        return Vec::new();
    };
    for (retried, made) in retried.iter().zip(&fitted.made) {
        if let Some(number) = made {
            acknowledged.entry(*number).or_default().push((retried.placed, retried.wanted));
        }
    }
    fitted.states
}

fn is_of(event: &Event, number: u64) -> bool {
    event.version().is_some_and(|version| version.number == number)
}

/// Finds out which write made a version.
struct Maker<'a> {
    history: &'a History,
    guests: &'a HashMap<CartNo, Contents>,
    name: &'a str,
}

impl<'a> Maker<'a> {
    /// What the guest's cart ended with that a write takes over.
    fn guest(&self, wanted: &Wanted) -> Option<&'a Contents> {
        match &wanted.write {
            Write::Merge { guest, .. } => self.guests.get(guest),
            _ => None,
        }
    }

    /// The cart at this version, and when the write was sent that made it; `None` when there is none.
    fn make(
        &self,
        number: u64,
        before: &Contents,
        known: Option<&Contents>,
        writes: &[(Placed<'_>, &Wanted)],
        found: &mut Found,
    ) -> Option<(Contents, Nanos)> {
        let shown = || writes.iter().find_map(|((_, event), _)| event.shown());
        let now = if writes.is_empty() { None } else { known.cloned().or_else(shown) }?;
        let leads_here = |from: &Contents, wanted: &Wanted| {
            let to = consequence(from, &wanted.write, &self.history.goods, self.guest(wanted));
            to.result.is_ok_and(|to| to == now)
        };
        // A checkout and a merge always make a version; the others do when they change something.
        let idle = |wanted: &Wanted| match &wanted.write {
            Write::One(_) | Write::Batch(_) => leads_here(&now, wanted),
            Write::Merge { .. } | Write::Checkout { .. } => false,
        };
        let all = || writes.iter().map(|((at, _), _)| *at);
        let busy: Vec<_> = writes.iter().filter(|(_, wanted)| !idle(wanted)).collect();
        if busy.len() > 1 {
            let what = format!("{}: {} writes made version {number}", self.name, busy.len());
            found.add(Rule::ExactlyOnce, what, busy.iter().map(|((at, _), _)| *at));
        }
        let made = match busy.first() {
            Some(only) => Some(*only).filter(|(_, wanted)| leads_here(before, wanted)),
            None => writes.iter().find(|(_, wanted)| leads_here(before, wanted)),
        };
        if made.is_none() {
            let what = format!(
                "{}: version {number} does not follow from version {}: {before:?} became {now:?}",
                self.name,
                number - 1
            );
            found.add(Rule::ExactlyOnce, what, all());
        }
        let wrong_base = |wanted: &Wanted| wanted.if_match.is_some_and(|base| base.number + 1 != number);
        if let Some(((at, _), _)) = made.filter(|(_, wanted)| wrong_base(wanted)) {
            let what = format!("{}: version {number} was made in spite of If-Match", self.name);
            found.add(Rule::ExactlyOnce, what, [*at]);
        }
        let wanted_at = made.or(writes.first()).map_or(0, |((_, event), _)| event.began);
        Some((now, wanted_at))
    }
}

/// Writes are decided one after the other: each sees what anybody was told of before it was sent, also one that was
/// done before.
pub(super) fn writes_in_order(of: &CartHistory<'_>, found: &mut Found) {
    for ((at, event), told) in of.events.iter().zip(&of.told_before) {
        let answered = match event.act {
            Act::Repeat(..) => event.version().filter(|_| event.replayed()),
            _ => event.acknowledged().map(|(_, version)| version),
        };
        let (Some(version), Some(told)) = (answered, told) else { continue };
        if version < *told {
            let what =
                format!("a write was done at version {version}, though {told} was there before it was sent");
            let teller = of
                .events
                .iter()
                .find(|(_, other)| other.version() == Some(*told) && other.ended < event.began);
            found.add(Rule::WritesInOrder, what, teller.map(|(at, _)| *at).into_iter().chain([*at]));
        }
    }
}
