//! Writes that were answered as done before: that they were done is known, and not which version they made. Each must
//! have made one that nothing else explains, or have changed nothing.

use std::collections::{BTreeMap, HashMap};

use super::{Placed, says_merged};
use crate::history::model::consequence;
use crate::history::record::{Contents, Goods, Outcome, Version, Wanted, Write};

/// Steps of one search. Few writes of one cart are ever open at once, so that there is seldom a choice.
const STEPS_MAX: usize = 200_000;

/// A write of which the version is to be found.
pub(super) struct Retried<'a> {
    pub(super) placed: Placed<'a>,
    pub(super) wanted: &'a Wanted,
    /// A version that was there before it was sent.
    after: u64,
    /// A version that was there when it was answered.
    by: u64,
    /// Whether it was certainly done. Of a cart that went to a user nobody is told.
    certain: bool,
}

impl<'a> Retried<'a> {
    /// The write of an event, if it is one of these; `told` is the newest version that was told before.
    pub(super) fn of((at, event): Placed<'a>, told: Option<Version>) -> Option<Self> {
        let wanted = event.write()?;
        let maybe = says_merged(&event.outcome) && event.ambiguous > 0;
        if !event.replayed() && !maybe {
            return None;
        }
        let by = event.version().map_or(u64::MAX, |version| version.number);
        let after = told.map_or(0, |version| version.number);
        Some(Self { placed: (at, event), wanted, after, by, certain: !maybe })
    }
}

/// What is known of a cart.
pub(super) struct Known<'a> {
    pub(super) goods: &'a Goods,
    /// What the guests' carts ended with.
    pub(super) guest: &'a dyn Fn(&Wanted) -> Option<&'a Contents>,
    /// Writes that were acknowledged with the version that they made or left.
    pub(super) acknowledged: &'a BTreeMap<u64, Vec<(Placed<'a>, &'a Wanted)>>,
    /// What was shown of a version.
    pub(super) shown: &'a HashMap<u64, Contents>,
    pub(super) newest: u64,
}

/// What was found: for each write its version, where it made one, and the cart at every version.
pub(super) struct Fitted {
    pub(super) made: Vec<Option<u64>>,
    pub(super) states: Vec<Contents>,
}

/// Finds versions for all of them; `None` if they do not fit.
pub(super) fn fit<'a>(known: &Known<'a>, retried: &[Retried<'a>]) -> Option<Fitted> {
    let mut search = Search {
        known,
        retried,
        states: vec![Contents::default()],
        made: vec![None; retried.len()],
        choices: Vec::new(),
    };
    search.run().then_some(Fitted { made: search.made, states: search.states })
}

struct Search<'s, 'a> {
    known: &'s Known<'a>,
    retried: &'s [Retried<'a>],
    states: Vec<Contents>,
    made: Vec<Option<u64>>,
    choices: Vec<Choice>,
}

/// What can have made a version, and is not tried yet.
struct Choice {
    number: usize,
    left: Vec<(usize, Contents)>,
}

impl Search<'_, '_> {
    fn run(&mut self) -> bool {
        for _ in 0..STEPS_MAX {
            let number = self.states.len();
            let goes_on = if number as u64 > self.known.newest {
                if self.rest_is_idle() {
                    return true;
                }
                self.go_back()
            } else if let Some(now) = self.explained(number as u64) {
                self.states.push(now);
                true
            } else {
                let left = self.candidates(number as u64);
                self.choices.push(Choice { number, left });
                self.go_back()
            };
            if !goes_on {
                return false;
            }
        }
        false
    }

    /// Takes the next of the last choice that has one.
    fn go_back(&mut self) -> bool {
        while let Some(mut choice) = self.choices.pop() {
            self.states.truncate(choice.number);
            let number = choice.number as u64;
            self.made
                .iter_mut()
                .filter(|made| made.is_some_and(|made| made >= number))
                .for_each(|made| *made = None);
            if let Some((which, now)) = choice.left.pop() {
                self.made[which] = Some(number);
                self.states.push(now);
                self.choices.push(choice);
                return true;
            }
        }
        false
    }

    fn leads_to(&self, before: &Contents, wanted: &Wanted) -> Option<Contents> {
        consequence(before, &wanted.write, self.known.goods, (self.known.guest)(wanted)).result.ok()
    }

    /// The cart at the next version, if an acknowledged write has made it.
    fn explained(&self, number: u64) -> Option<Contents> {
        let before = self.states.last()?;
        let writes = self.known.acknowledged.get(&number)?;
        let now = writes.iter().find_map(|((_, event), _)| event.shown())?;
        let made = writes.iter().any(|(_, wanted)| self.leads_to(before, wanted).as_ref() == Some(&now));
        made.then_some(now)
    }

    fn candidates(&self, number: u64) -> Vec<(usize, Contents)> {
        let before = self.states.last().expect("there is a version 0");
        let acknowledged = self.known.acknowledged.get(&number);
        let shown = acknowledged.and_then(|writes| writes.iter().find_map(|((_, event), _)| event.shown()));
        let shown = shown.or_else(|| self.known.shown.get(&number).cloned());
        let fits = |(which, retried): (usize, &Retried<'_>)| {
            let Retried { wanted, after, by, .. } = retried;
            let open = self.made[which].is_none() && (*after < number && number <= *by);
            let at_base = wanted.if_match.is_none_or(|base| base.number + 1 == number);
            let ordered = match &retried.placed.1.outcome {
                Outcome::Placed { order, .. } => order.lines == before.lines,
                _ => true,
            };
            if !open || !at_base || !ordered {
                return None;
            }
            let now = self.leads_to(before, wanted)?;
            let always = matches!(wanted.write, Write::Merge { .. } | Write::Checkout { .. });
            let fits = (always || now != *before) && shown.as_ref().is_none_or(|shown| *shown == now);
            fits.then_some((which, now))
        };
        self.retried.iter().enumerate().filter_map(fits).collect()
    }

    /// Whether each of those that have made no version can have changed nothing.
    fn rest_is_idle(&self) -> bool {
        let idle = |retried: &Retried<'_>| {
            let last = retried.by.min(self.known.newest);
            (retried.after..=last).any(|number| {
                let contents = usize::try_from(number).ok().and_then(|number| self.states.get(number));
                let at_base = retried.wanted.if_match.is_none_or(|base| base.number == number);
                let always = matches!(retried.wanted.write, Write::Merge { .. } | Write::Checkout { .. });
                let changes_nothing =
                    |contents: &Contents| self.leads_to(contents, retried.wanted).as_ref() == Some(contents);
                !always && at_base && contents.is_some_and(changes_nothing)
            })
        };
        let rest =
            self.retried.iter().zip(&self.made).filter(|(retried, made)| made.is_none() && retried.certain);
        rest.map(|(retried, _)| retried).all(idle)
    }
}
