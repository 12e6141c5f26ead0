//! Which of several servers is the primary.
//!
//! Nobody here decides who shall be: MySQL's Group Replication does, or an operator. It is found out by asking each
//! candidate: the primary is writable, of the newest epoch, and takes a beat of the heart. The last is what counts,
//! for an old primary that is cut off from its group does not know yet that it is old.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use futures_util::future::join_all;
use sqlx::MySqlConnection;
use sqlx::mysql::MySqlConnectOptions;
use tracing::debug;

use super::pulse::{self, Word, hang_up};
use super::target::{Servers, name_of};
use crate::epoch::KnownEpoch;
use crate::store::StoreError;

/// The servers that may be the primary, and the one that was last found to be.
pub(super) struct Candidates {
    servers: Servers,
    /// Nobody before the first choice, and while it is in doubt.
    chosen: ArcSwapOption<MySqlConnectOptions>,
}

/// The primary, found.
pub(super) struct Found {
    pub(super) options: MySqlConnectOptions,
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
    pub(super) fn new(servers: Servers) -> Self {
        let chosen = ArcSwapOption::from_pointee(servers.only().cloned());
        Self { servers, chosen }
    }

    pub(super) fn are_one(&self) -> bool {
        self.servers.only().is_some()
    }

    pub(super) fn chosen(&self) -> Option<Arc<MySqlConnectOptions>> {
        self.chosen.load_full()
    }

    /// Returns whether that is another one than before.
    pub(super) fn choose(&self, options: &MySqlConnectOptions) -> bool {
        let before = self.chosen.swap(Some(Arc::new(options.clone())));
        before.is_none_or(|before| name_of(&before) != name_of(options))
    }

    /// From now on another look is needed before any is believed.
    pub(super) fn doubt(&self) {
        if !self.are_one() {
            self.chosen.store(None);
        }
    }
}

/// The first that answers: of several behind the name of a replica, one is as good as the other.
pub(super) async fn any(candidates: &Candidates) -> Result<Found, NoPrimary> {
    for options in candidates.servers.now() {
        match ask(&options).await {
            Ok((word, connection)) => return Ok(Found { options, epoch: word.epoch, connection }),
            Err(error) => debug!(db.candidate = name_of(&options), error = %error, "no answer"),
        }
    }
    Err(NoPrimary::None)
}

/// Asks every candidate at once.
pub(super) async fn survey(candidates: &Candidates, known: &KnownEpoch) -> Result<Found, NoPrimary> {
    let servers = candidates.servers.now();
    let asked = join_all(servers.iter().map(ask)).await;
    let mut answered = Vec::new();
    for (options, answer) in servers.into_iter().zip(asked) {
        match answer {
            Ok((word, connection)) => answered.push((options, word, connection)),
            Err(error) => debug!(db.candidate = name_of(&options), error = %error, "no answer"),
        }
    }
    // A replica, too, tells of an epoch that has begun.
    answered.iter().for_each(|(_, word, _)| known.learn(word.epoch));
    let (able, others): (Vec<_>, Vec<_>) =
        answered.into_iter().partition(|(_, word, _)| !word.read_only && !known.is_past(word.epoch));
    others.into_iter().for_each(|(.., connection)| hang_up(connection));
    let beaten = join_all(able.into_iter().map(async |(options, word, mut connection)| {
        let taken = pulse::beat(&mut connection).await.is_ok();
        (taken, Found { options, epoch: word.epoch, connection })
    }));
    let (mut found, others): (Vec<_>, Vec<_>) = beaten.await.into_iter().partition(|(taken, _)| *taken);
    others.into_iter().for_each(|(_, found)| hang_up(found.connection));
    match found.pop() {
        None => Err(NoPrimary::None),
        Some((_, found_one)) if found.is_empty() => Ok(found_one),
        Some((_, last)) => {
            let all = found.iter().map(|(_, found)| found).chain([&last]);
            Err(NoPrimary::Several(all.map(|found| name_of(&found.options)).collect::<Vec<_>>().join(", ")))
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
