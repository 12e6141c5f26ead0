//! Which of several servers is the primary.
//!
//! Nobody here decides who shall be: MySQL's Group Replication does, or an operator. It is found out by asking each
//! candidate: the primary is writable, of the newest epoch, and takes a beat of the heart. The last is what counts,
//! for an old primary that is cut off from its group does not know yet that it is old.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use sqlx::MySqlConnection;
use sqlx::mysql::MySqlConnectOptions;
use tracing::debug;

use super::pulse::{self, Word, hang_up};
use crate::epoch::KnownEpoch;
use crate::store::StoreError;

/// Nobody was chosen yet, or the choice is in doubt.
const NOBODY: usize = usize::MAX;

/// The servers that may be the primary, and the one that was last found to be.
pub(super) struct Candidates {
    options: Vec<MySqlConnectOptions>,
    chosen: AtomicUsize,
}

/// The primary, found.
pub(super) struct Found {
    pub(super) index: usize,
    pub(super) epoch: u32,
    pub(super) connection: MySqlConnection,
}

/// Why no primary was found.
pub(super) enum NoPrimary {
    /// No candidate takes writes.
    None,
    /// Several do, which no deployment that is in order brings about.
    Several(String),
}

impl Candidates {
    /// One alone is taken as the primary without asking.
    pub(super) fn new(options: Vec<MySqlConnectOptions>) -> Self {
        let chosen = AtomicUsize::new(if options.len() == 1 { 0 } else { NOBODY });
        Self { options, chosen }
    }

    pub(super) fn are_one(&self) -> bool {
        self.options.len() == 1
    }

    pub(super) fn options(&self, index: usize) -> &MySqlConnectOptions {
        &self.options[index]
    }

    pub(super) fn name(&self, index: usize) -> String {
        let options = &self.options[index];
        format!("{}:{}", options.get_host(), options.get_port())
    }

    pub(super) fn chosen(&self) -> Option<&MySqlConnectOptions> {
        self.options.get(self.chosen.load(Ordering::Acquire))
    }

    /// Returns whether that is another one than before.
    pub(super) fn choose(&self, index: usize) -> bool {
        self.chosen.swap(index, Ordering::AcqRel) != index
    }

    /// From now on another look is needed before any is believed.
    pub(super) fn doubt(&self) {
        if !self.are_one() {
            self.chosen.store(NOBODY, Ordering::Release);
        }
    }
}

/// Asks every candidate at once.
pub(super) async fn survey(candidates: &Candidates, known: &KnownEpoch) -> Result<Found, NoPrimary> {
    let asked = join_all(candidates.options.iter().map(ask)).await;
    let mut answered = Vec::new();
    for (index, answer) in asked.into_iter().enumerate() {
        match answer {
            Ok((word, connection)) => answered.push((index, word, connection)),
            Err(error) => debug!(db.candidate = candidates.name(index), error = %error, "no answer"),
        }
    }
    // A replica, too, tells of an epoch that has begun.
    answered.iter().for_each(|(_, word, _)| known.learn(word.epoch));
    let (able, others): (Vec<_>, Vec<_>) =
        answered.into_iter().partition(|(_, word, _)| !word.read_only && !known.is_past(word.epoch));
    others.into_iter().for_each(|(.., connection)| hang_up(connection));
    let beaten = join_all(able.into_iter().map(async |(index, word, mut connection)| {
        let taken = pulse::beat(&mut connection).await.is_ok();
        (taken, Found { index, epoch: word.epoch, connection })
    }));
    let (mut found, others): (Vec<_>, Vec<_>) = beaten.await.into_iter().partition(|(taken, _)| *taken);
    others.into_iter().for_each(|(_, found)| hang_up(found.connection));
    match found.pop() {
        None => Err(NoPrimary::None),
        Some((_, found_one)) if found.is_empty() => Ok(found_one),
        Some((_, last)) => {
            let all = found.iter().map(|(_, found)| found.index).chain([last.index]);
            Err(NoPrimary::Several(all.map(|index| candidates.name(index)).collect::<Vec<_>>().join(", ")))
        }
    }
}

/// The one candidate that takes writes, of a database that may have no tables yet.
pub(super) async fn writable(candidates: &[MySqlConnectOptions]) -> anyhow::Result<&MySqlConnectOptions> {
    let asked = candidates.iter().map(async |options| {
        let mut connection = pulse::connect(options).await.ok()?;
        let read_only: bool =
            sqlx::query_scalar("SELECT @@GLOBAL.read_only = 1").fetch_one(&mut connection).await.ok()?;
        hang_up(connection);
        (!read_only).then_some(options)
    });
    let writable: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
    match writable.as_slice() {
        [one] => Ok(one),
        [] => anyhow::bail!("none of the {} servers takes writes", candidates.len()),
        several => anyhow::bail!("{} servers take writes", several.len()),
    }
}

async fn ask(options: &MySqlConnectOptions) -> Result<(Word, MySqlConnection), StoreError> {
    let mut connection = pulse::connect(options).await?;
    let word = pulse::word(&mut connection).await?;
    Ok((word, connection))
}
