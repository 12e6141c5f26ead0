//! What a run says of itself: a summary when all is well, and enough to understand it when it is not.

use std::collections::BTreeMap;
use std::fmt;

use super::check::Violation;
use super::finish::END;
use super::nemesis::Suffered;
use super::options::Options;
use super::payments::PAYMENTS;
use super::record::{Act, Command, Event, History, Nanos, Outcome, Write};
use crate::Stack;

/// Violations of which the events are shown.
const SHOWN_MAX: usize = 8;

/// A run that has ended.
#[derive(Debug)]
pub struct Report {
    /// What was to be done.
    pub options: Options,
    /// What the fleet keeps its data in.
    pub stack: Stack,
    /// What happened.
    pub history: History,
    /// What went wrong, as it was planned.
    pub faults: Vec<Suffered>,
    /// What was asked once more when all was well.
    pub resolved: usize,
    /// What must not be.
    pub violations: Vec<Violation>,
}

impl Report {
    /// Ends the test when a promise was broken, and says which, by whom, and how to see it again.
    #[track_caller]
    pub fn assert_nothing_is_broken(&self) {
        assert!(self.violations.is_empty(), "{}", self.complaint());
    }

    fn complaint(&self) -> String {
        let mut text = format!("{} promises broken\n", self.violations.len());
        for violation in self.violations.iter().take(SHOWN_MAX) {
            text.push_str(&format!("\n{}: {}\n", violation.rule, violation.what));
            let mut events = violation.events.clone();
            events.sort_by_key(|at| self.history.events.get(*at).map(|event| event.began));
            events.dedup();
            for at in events {
                if let Some(event) = self.history.events.get(at) {
                    text.push_str(&format!("  {}\n", self.line(at, event)));
                }
            }
        }
        if self.violations.len() > SHOWN_MAX {
            text.push_str(&format!("\nand {} more\n", self.violations.len() - SHOWN_MAX));
        }
        text.push_str(&format!("\nTo run it again:\n  {} tests/run {}\n", self.options, self.test()));
        text
    }

    fn line(&self, at: usize, event: &Event) -> String {
        let who = match event.session {
            END => "the end".to_owned(),
            PAYMENTS => "payments".to_owned(),
            session => format!("session {session}"),
        };
        let seen = event.seen.map_or(String::new(), |seen| format!(", seen {seen}"));
        let version = event.version().map_or(String::new(), |version| format!(" at {version}"));
        let tries =
            if event.ambiguous > 0 { format!(", try {}", event.ambiguous + 1) } else { String::new() };
        let during: Vec<String> = self
            .faults
            .iter()
            .filter(|fault| fault.began < event.ended && event.began < fault.healed)
            .map(|fault| fault.fault.to_string())
            .collect();
        let during = if during.is_empty() { String::new() } else { format!(" [{}]", during.join(", ")) };
        format!(
            "#{at} {}–{} ms, {who} at {} for {}{seen}{tries}: {:?} → {:?}{version}{during}",
            ms(event.began),
            ms(event.ended),
            event.region,
            self.history.carts[event.cart].name,
            event.act,
            event.outcome,
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.history.events.iter().map(|event| event.ended).max().unwrap_or(0);
        let count = self.history.events.len();
        writeln!(f, "{} {}", self.test(), self.options)?;
        writeln!(f, "  {count} questions on {} carts in {} ms", self.history.carts.len(), ms(end))?;
        let mut kinds: BTreeMap<&str, BTreeMap<String, usize>> = BTreeMap::new();
        for event in &self.history.events {
            *kinds.entry(kind(&event.act)).or_default().entry(word(event)).or_default() += 1;
        }
        for (kind, words) in kinds {
            let words: Vec<String> = words.iter().map(|(word, count)| format!("{count} {word}")).collect();
            writeln!(f, "  {kind:<14} {}", words.join(", "))?;
        }
        let ambiguous: Vec<&Event> = self
            .history
            .events
            .iter()
            .filter(|event| event.ambiguous > 0 && event.write().is_some())
            .collect();
        let replayed = ambiguous.iter().filter(|event| event.replayed()).count();
        let acknowledged = ambiguous.iter().filter(|event| event.acknowledged().is_some()).count();
        writeln!(
            f,
            "  {} writes tried again: {replayed} had been done, {} were done then, {} were refused; \
             {} of them when all was well",
            ambiguous.len(),
            acknowledged - replayed,
            ambiguous.len() - acknowledged,
            self.resolved,
        )?;
        let mut faults: BTreeMap<String, (usize, Nanos)> = BTreeMap::new();
        for fault in &self.faults {
            let (count, time) = faults.entry(fault.fault.to_string()).or_default();
            *count += 1;
            *time += fault.healed - fault.began;
        }
        for (fault, (count, time)) in faults {
            writeln!(f, "  {fault:<20} {count} times, {} ms", ms(time))?;
        }
        writeln!(f, "  {} stale answers to those who echo nothing", self.stale())?;
        write!(f, "  {} violations", self.violations.len())
    }
}

impl Report {
    /// The test that runs it.
    fn test(&self) -> &'static str {
        match self.stack {
            Stack::Embedded => "history_embedded",
            Stack::Servers => "history_servers",
        }
    }

    /// Answers that were older than what anybody had been told. Who echoes nothing may get them.
    fn stale(&self) -> usize {
        let mut told: BTreeMap<usize, Vec<(Nanos, super::record::Version)>> = BTreeMap::new();
        for event in &self.history.events {
            if let Some(version) = event.version() {
                told.entry(event.cart).or_default().push((event.ended, version));
            }
        }
        for answers in told.values_mut() {
            answers.sort_by_key(|(ended, _)| *ended);
            let mut newest = None;
            for (_, version) in answers {
                newest = newest.max(Some(*version));
                *version = newest.expect("it was just set");
            }
        }
        let is_stale = |event: &&Event| {
            let answers = &told[&event.cart];
            let before = answers.partition_point(|(ended, _)| *ended < event.began);
            let bound = before.checked_sub(1).map(|at| answers[at].1);
            event.write().is_none() && !matches!(event.act, Act::Repeat(..)) && event.version() < bound
        };
        let with_version = self.history.events.iter().filter(|event| event.version().is_some());
        with_version.filter(is_stale).count()
    }
}

fn ms(nanos: Nanos) -> Nanos {
    nanos / 1_000_000
}

fn kind(act: &Act) -> &'static str {
    match act {
        Act::Read => "read",
        Act::ReadUnless(..) => "read if new",
        Act::Count => "count",
        Act::ReadLine(_) => "read a line",
        Act::ReadItem(_) => "read an item",
        Act::ReadOrders => "list orders",
        Act::Repeat(..) => "repeat",
        Act::Misuse(..) => "misuse a key",
        Act::Settle(_, true) => "paid",
        Act::Settle(_, false) => "cancelled",
        Act::LastRead => "last read",
        Act::LastOrders => "last orders",
        Act::Write(wanted) => match &wanted.write {
            Write::Batch(_) => "batch",
            Write::Merge { .. } => "merge",
            Write::Checkout { .. } => "checkout",
            Write::One(command) => match command {
                Command::Add { .. } => "add",
                Command::Set { .. } => "set quantity",
                Command::Remove { .. } => "remove",
                Command::Clear => "clear",
                Command::ApplyCoupon { .. } => "apply coupon",
                Command::RemoveCoupon { .. } => "remove coupon",
            },
        },
    }
}

fn word(event: &Event) -> String {
    match &event.outcome {
        Outcome::NotModified(_) => "not modified".to_owned(),
        Outcome::Refused { status, code, .. } => format!("{status} {code}"),
        Outcome::Garbled(_) => "garbled".to_owned(),
        Outcome::Unanswered => "unanswered".to_owned(),
        Outcome::Settled(state) => format!("said {state}"),
        _ if event.replayed() => "replayed".to_owned(),
        _ => "done".to_owned(),
    }
}
