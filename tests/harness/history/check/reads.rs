//! What was shown, by whom to whom, and in which order.

use std::collections::{BTreeMap, HashMap};

use super::{CartHistory, Found, Merged, Placed, Rule, is_about_a_cart, newest_before, says_merged};
use crate::history::record::{Act, Event, History, Order, Outcome};

/// A tag stands for one body of one cart.
pub(super) fn tags(history: &History, found: &mut Found) {
    let mut bodies = HashMap::new();
    for (at, event) in history.events.iter().enumerate() {
        let Outcome::Cart { tag, digest, .. } = &event.outcome else { continue };
        let (first, cart, body) = *bodies.entry(tag).or_insert((at, event.cart, *digest));
        if (cart, body) != (event.cart, *digest) {
            let what = format!("the tag {tag} stands for two documents");
            found.add(Rule::OneVersionOneCart, what, [first, at]);
        }
    }
}

/// Checks every answer against the life of the cart, and every session against itself.
pub(super) fn check(history: &History, of: &CartHistory<'_>, merged: Option<&Merged<'_>>, found: &mut Found) {
    for (at, event) in &of.events {
        shows_its_version(history, of, (*at, event), found);
        keeps_keys(history, (*at, event), found);
        if matches!(event.act, Act::LastRead) {
            is_the_newest(of, merged, (*at, event), found);
        }
    }
    let mut sessions: BTreeMap<usize, Vec<Placed<'_>>> = BTreeMap::new();
    for placed in of.events.iter().filter(|(_, event)| event.follows && is_about_a_cart(&event.act)) {
        sessions.entry(placed.1.session).or_default().push(*placed);
    }
    sessions.values().for_each(|events| never_goes_back(events, found));
}

/// The answer of a version is that version of the cart, whoever gives it.
fn shows_its_version(history: &History, of: &CartHistory<'_>, (at, event): Placed<'_>, found: &mut Found) {
    let Some(version) = event.version() else { return };
    let Some(contents) = of.timeline.at(version.number) else { return };
    if of.timeline.wanted_at(version.number) >= event.ended {
        let what = format!("version {version} was answered before anybody had asked for it");
        found.add(Rule::NothingFromTheFuture, what, [at]);
    }
    let wrong = match &event.outcome {
        Outcome::Cart { odd: Some(odd), .. } => Some(format!("does not fit together: {odd}")),
        Outcome::Cart { shown, .. } => {
            (shown != contents).then(|| format!("was shown as {shown:?} and is {contents:?}"))
        }
        Outcome::Count { lines, quantity, .. } => {
            let counted = contents.lines.values().map(|quantity| u64::from(*quantity)).sum::<u64>();
            ((*lines, *quantity) != (contents.lines.len() as u64, counted))
                .then(|| format!("was counted as {lines} lines, {quantity} units, and is {contents:?}"))
        }
        Outcome::Line { quantity, .. } => {
            let Act::ReadLine(line) = event.act else { return };
            (contents.lines.get(&line) != Some(quantity))
                .then(|| format!("had {quantity} units in line {line}, and is {contents:?}"))
        }
        Outcome::NotModified(_) => {
            let Act::ReadUnless(known, _) = &event.act else { return };
            (*known != version).then(|| format!("was called the same as {known}"))
        }
        Outcome::Placed { .. } | Outcome::Refused { .. } => None,
        _ => return,
    };
    if let Some(wrong) = wrong {
        let name = &history.carts[event.cart].name;
        let maker = of
            .events
            .iter()
            .find(|(_, event)| event.acknowledged().is_some_and(|(_, made)| made.number == version.number));
        let what = format!("{name}: version {version} {wrong}");
        found.add(Rule::OneVersionOneCart, what, maker.map(|(at, _)| *at).into_iter().chain([at]));
    }
}

/// Under an old key nothing is done again: the cart is shown as it is now, and an order as it was placed. With another
/// request it brings nothing.
fn keeps_keys(history: &History, (at, event): Placed<'_>, found: &mut Found) {
    match (&event.act, &event.outcome) {
        (Act::Repeat(..), Outcome::Unanswered) => {}
        // Whether there was a reason for it is looked at with all refusals.
        (Act::Repeat(..), outcome) if says_merged(outcome) => {}
        (Act::Repeat(first, _), outcome) if !is_answered_again(outcome, &history.events[*first].outcome) => {
            let what = "a repeated request was not answered as one that was done";
            found.add(Rule::KeysAreKept, what, [*first, at]);
        }
        (Act::Misuse(first, _), Outcome::Cart { .. } | Outcome::Placed { .. }) => {
            let what = "another request was taken under a key that had been used";
            found.add(Rule::KeysAreKept, what, [*first, at]);
        }
        _ => {}
    }
}

fn is_answered_again(again: &Outcome, first: &Outcome) -> bool {
    match (again, first) {
        (Outcome::Cart { version, replayed: true, .. }, Outcome::Cart { version: at_first, .. }) => {
            version >= at_first
        }
        (
            Outcome::Placed { version, order, replayed: true },
            Outcome::Placed { version: at_first, order: placed, .. },
        ) => {
            // It may have been paid or cancelled meanwhile.
            version >= at_first && *order == Order { state: order.state.clone(), ..placed.clone() }
        }
        _ => false,
    }
}

/// A session that echoes what it has seen.
fn never_goes_back(events: &[Placed<'_>], found: &mut Found) {
    for ((at, event), told) in events.iter().zip(newest_before(events)) {
        let bound = told.max(event.seen);
        let (Some(version), Some(bound)) = (event.version(), bound) else { continue };
        if version < bound {
            let what = format!("session {} had seen {bound} and was answered {version}", event.session);
            let teller =
                events.iter().rev().find(|(_, other)| other.ended < event.began && tells(other, bound));
            found.add(Rule::VersionsNeverGoBack, what, teller.map(|(at, _)| *at).into_iter().chain([*at]));
        }
    }
}

fn tells(event: &Event, version: crate::history::record::Version) -> bool {
    event.version() == Some(version)
}

/// At the end everybody shows the newest, also to those who echo nothing.
fn is_the_newest(
    of: &CartHistory<'_>,
    merged: Option<&Merged<'_>>,
    (at, event): Placed<'_>,
    found: &mut Found,
) {
    let newest = of.timeline.newest();
    let fits = match merged {
        Some(_) => says_merged(&event.outcome),
        None => event.version().is_some_and(|version| version.number == newest),
    };
    if !fits {
        let expected = if merged.is_some() { "merged".to_owned() } else { format!("at version {newest}") };
        let what = format!("{} does not show in the end that the cart is {expected}", event.region);
        let last = of
            .events
            .iter()
            .rev()
            .find(|(_, event)| event.acknowledged().is_some_and(|(_, version)| version.number == newest));
        found.add(Rule::RegionsConverge, what, last.map(|(at, _)| *at).into_iter().chain([at]));
    }
}
