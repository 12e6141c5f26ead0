//! Which of several servers is the primary.
//!
//! Nothing here decides which one shall be: MySQL's Group Replication does, or an operator. It is found out by asking
//! each candidate: the primary is writable, of the newest epoch, has every beat of the heart that was seen at a primary
//! before, and takes another one. Within an epoch it is always the same server, or a member of its group: an operator's
//! promotion begins an epoch, and nothing else moves the primary. A replica that was made writable by hand may lack
//! what was acknowledged a moment ago.
//!
//! A beat is written to one server only, because it is a transaction, and one more in a server that is not the primary
//! is a history of its own. Where several servers could be the primary, none is taken, unless they are of one group: an
//! old primary that is cut off from its group does not know it yet, and cannot commit.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures_util::future::join_all;
use sqlx::MySqlConnection;
use sqlx::mysql::MySqlConnectOptions;
use tracing::{debug, error, info};

use super::pulse::{self, Word, hang_up};
use super::target::{Servers, name_of};
use crate::epoch::KnownEpoch;
use crate::store::{PrimaryState, StoreError};
use crate::telemetry::chain;

/// A refusal that changes all the time is logged this often.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// The servers that may be the primary, and the one that was last found to be.
pub(super) struct Candidates {
    servers: Servers,
    /// Nobody before the first choice, and while it is in doubt.
    chosen: ArcSwapOption<MySqlConnectOptions>,
    /// The last that was seen of a primary.
    seen: Mutex<Option<Seen>>,
    /// What is wrong with them.
    state: Mutex<PrimaryState>,
    /// The refusal that was logged last, and when.
    said: Mutex<Option<(String, Instant)>>,
}

/// What was seen of a primary.
#[derive(Clone)]
struct Seen {
    epoch: u32,
    beat: u64,
    server: String,
    group: Option<String>,
}

/// The primary, found.
pub(super) struct Found {
    pub(super) options: MySqlConnectOptions,
    pub(super) word: Word,
    pub(super) connection: MySqlConnection,
}

/// Why no primary was found.
pub(super) enum NoPrimary {
    /// No candidate takes writes; why, of each.
    None(Vec<String>),
    /// Several do, which no deployment that is in order brings about.
    Several(String),
    /// One does, but is not the one that did before; why.
    Unfit(String),
}

impl Candidates {
    /// One alone is taken as the primary without asking.
    pub(super) fn new(servers: Servers) -> Self {
        let chosen = ArcSwapOption::from_pointee(servers.only().cloned());
        Self { servers, chosen, seen: Mutex::default(), state: Mutex::default(), said: Mutex::default() }
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

    /// Takes note of what the primary says.
    pub(super) fn note(&self, word: &Word) {
        let mut seen = self.seen();
        match &mut *seen {
            Some(seen) if seen.server == word.server && seen.epoch == word.epoch => {
                seen.beat = seen.beat.max(word.beat);
            }
            // Of what group it is was asked when it was found; one address alone is always believed.
            _ => {
                let group = seen.take().and_then(|seen| seen.group);
                *seen = Some(Seen { epoch: word.epoch, beat: word.beat, server: word.server.clone(), group });
            }
        }
    }

    /// Whether a server that takes writes is the primary of its epoch. It is not when its own data names another server,
    /// which an edge that has just started knows as well; when it lacks a beat that was seen; or when another server was
    /// seen as the primary, although no epoch has begun.
    pub(super) fn check(&self, name: &str, word: &Word, group: Option<&str>) -> Result<(), String> {
        let seen = self.seen();
        let seen = seen.as_ref().filter(|seen| seen.epoch == word.epoch);
        // Of a group the primary is whichever member can commit.
        let in_group = group.is_some() || seen.is_some_and(|seen| seen.group.is_some());
        if let Some(primary) = word.primary.as_ref().filter(|primary| **primary != word.server)
            && !in_group
            && !self.are_one()
        {
            return Err(format!(
                "{name} takes writes and was not promoted: the primary of epoch {} is the server with the UUID {primary}; \
                 see edge-host failover status",
                word.epoch
            ));
        }
        let Some(seen) = seen else { return Ok(()) };
        if word.beat < seen.beat {
            return Err(format!(
                "{name} lacks what was acknowledged before: it is an old primary, or was restored without a new \
                 epoch; see edge-host failover status"
            ));
        }
        let of_the_group = group.is_some() && group == seen.group.as_deref();
        if word.server == seen.server || of_the_group || self.are_one() {
            return Ok(());
        }
        Err(format!(
            "{name} takes writes and was not promoted, and the primary does not answer; see edge-host failover status"
        ))
    }

    /// Whether the primary that was seen is of an older epoch.
    fn comes_before(&self, epoch: u32) -> bool {
        self.seen().as_ref().is_some_and(|seen| seen.epoch < epoch)
    }

    fn note_group(&self, group: Option<String>) {
        if let Some(seen) = &mut *self.seen() {
            seen.group = group;
        }
    }

    /// What is wrong with the servers.
    pub(super) fn state(&self) -> PrimaryState {
        self.state.lock().expect("no holder of the lock can panic").clone()
    }

    /// Takes note of why there is no primary, with every look. It is logged when it changes, and not more often than
    /// once in [`SAY_EVERY`]; what has changed meanwhile is logged with a later look.
    pub(super) fn refuse(&self, why: Option<String>) {
        let mut said = self.said.lock().expect("no holder of the lock can panic");
        match (&why, &*said) {
            (None, None) => {}
            (None, Some(_)) => {
                info!("one server is the primary again");
                *said = None;
            }
            (Some(why), Some((before, at))) if why == before || at.elapsed() < SAY_EVERY => {}
            (Some(why), _) => {
                error!(error = why, "no server is written to");
                *said = Some((why.clone(), Instant::now()));
            }
        }
        self.state.lock().expect("no holder of the lock can panic").refusal = why;
    }

    /// Takes note of servers that take writes beside the primary; said once in the log.
    pub(super) fn note_rivals(&self, rivals: Vec<String>) {
        let mut state = self.state.lock().expect("no holder of the lock can panic");
        if state.rivals == rivals {
            return;
        }
        if rivals.is_empty() {
            info!("no other server takes writes any more");
        } else {
            let primary = self.chosen().map_or_else(String::new, |options| name_of(&options));
            error!(
                db.server = primary,
                db.rivals = rivals.join(", "),
                "SEVERAL SERVERS TAKE WRITES: this edge writes to the primary alone; see edge-host failover status"
            );
        }
        state.rivals = rivals;
    }

    fn seen(&self) -> MutexGuard<'_, Option<Seen>> {
        self.seen.lock().expect("no holder of the lock can panic")
    }
}

/// Asks the candidates beside the primary what they are, without changing anything: an epoch that has begun is learned
/// while the primary of the last one still answers, and a second server that takes writes is an alarm.
pub(super) async fn look_around(candidates: &Candidates, known: &KnownEpoch) {
    let Some(chosen) = candidates.chosen() else { return };
    let others: Vec<_> =
        candidates.servers.now().into_iter().filter(|options| name_of(options) != name_of(&chosen)).collect();
    let mut rivals = Vec::new();
    for (options, answer) in others.iter().zip(join_all(others.iter().map(ask)).await) {
        let Ok((word, connection)) = answer else { continue };
        hang_up(connection);
        known.learn(word.epoch);
        // One of a newer epoch is the next primary.
        if !word.read_only && !candidates.comes_before(word.epoch) {
            rivals.push(format!("{} at epoch {}", name_of(options), word.epoch));
        }
    }
    let still = candidates.chosen().is_some_and(|now| name_of(&now) == name_of(&chosen));
    if still {
        candidates.note_rivals(rivals);
    }
}

/// The first that answers: of several behind the name of a replica, one is as good as the other.
pub(super) async fn any(candidates: &Candidates) -> Result<Found, NoPrimary> {
    let mut reasons = Vec::new();
    for options in candidates.servers.now() {
        match ask(&options).await {
            Ok((word, connection)) => return Ok(Found { options, word, connection }),
            Err(error) => reasons.push(format!("{}: {}", name_of(&options), chain(&error))),
        }
    }
    debug!(reasons = reasons.join("; "), "no answer");
    Err(NoPrimary::None(reasons))
}

/// Asks every candidate at once.
pub(super) async fn survey(candidates: &Candidates, known: &KnownEpoch) -> Result<Found, NoPrimary> {
    let servers = candidates.servers.now();
    let asked = join_all(servers.iter().map(ask)).await;
    let (mut answered, mut reasons) = (Vec::new(), Vec::new());
    if servers.is_empty() {
        reasons.push("no name of a server has an address".to_owned());
    }
    for (options, answer) in servers.into_iter().zip(asked) {
        match answer {
            Ok((word, connection)) => answered.push((options, word, connection)),
            Err(error) => reasons.push(format!("{}: {}", name_of(&options), chain(&error))),
        }
    }
    // A replica, too, tells of an epoch that has begun.
    answered.iter().for_each(|(_, word, _)| known.learn(word.epoch));
    let (able, others): (Vec<_>, Vec<_>) =
        answered.into_iter().partition(|(_, word, _)| !word.read_only && !known.is_past(word.epoch));
    for (options, word, connection) in others {
        hang_up(connection);
        reasons.push(format!("{}: {}", name_of(&options), pulse::unfit(&word, known.is_past(word.epoch))));
    }
    let (able, unfit) = fitting(candidates, able).await;
    if able.is_empty()
        && let Some(why) = unfit
    {
        return Err(NoPrimary::Unfit(why));
    }
    if able.len() > 1 && !are_of_one_group(&able) {
        let names: Vec<_> = able.iter().map(|able| name_of(&able.options)).collect();
        able.into_iter().for_each(|able| hang_up(able.connection));
        return Err(NoPrimary::Several(names.join(", ")));
    }
    let group = able.first().and_then(|able| able.group.clone());
    let found = beaten(able, reasons).await?;
    candidates.note(&found.word);
    candidates.note_group(group);
    Ok(found)
}

/// Those that may be the primary; and why the last that may not may not.
async fn fitting(candidates: &Candidates, able: Vec<Answered>) -> (Vec<Able>, Option<String>) {
    let mut fit = Vec::new();
    let mut why = None;
    for (options, word, mut connection) in able {
        let group = pulse::group(&mut connection).await;
        match candidates.check(&name_of(&options), &word, group.as_deref()) {
            Ok(()) => fit.push(Able { options, word, connection, group }),
            Err(unfit) => {
                hang_up(connection);
                why = Some(unfit);
            }
        }
    }
    (fit, why)
}

/// A server that answered.
type Answered = (MySqlConnectOptions, Word, MySqlConnection);

/// A server that takes writes and may be the primary.
struct Able {
    options: MySqlConnectOptions,
    word: Word,
    connection: MySqlConnection,
    group: Option<String>,
}

/// The one that takes a beat. They are one, or of one group, in which one can commit. The reasons are those of all others.
async fn beaten(able: Vec<Able>, mut reasons: Vec<String>) -> Result<Found, NoPrimary> {
    let beaten = join_all(able.into_iter().map(async |Able { options, word, mut connection, .. }| {
        let taken = pulse::beat(&mut connection, word.epoch).await.is_ok();
        (taken, Found { options, word, connection })
    }));
    let (mut found, others): (Vec<_>, Vec<_>) = beaten.await.into_iter().partition(|(taken, _)| *taken);
    for (_, other) in others {
        reasons.push(format!("{}: it takes no heartbeat", name_of(&other.options)));
        hang_up(other.connection);
    }
    match found.pop() {
        None => Err(NoPrimary::None(reasons)),
        Some((_, found_one)) if found.is_empty() => Ok(found_one),
        Some((_, last)) => {
            let all = found.iter().map(|(_, found)| found).chain([&last]);
            Err(NoPrimary::Several(all.map(|found| name_of(&found.options)).collect::<Vec<_>>().join(", ")))
        }
    }
}

/// Whether they are members of one group, in which only the primary of the majority can commit.
fn are_of_one_group(servers: &[Able]) -> bool {
    servers.windows(2).all(|two| two[0].group.is_some() && two[0].group == two[1].group)
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
