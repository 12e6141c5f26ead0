//! Listening to the database: whether it lives, how far it has come, and where the primary is by now.
//!
//! Home writes a row a few times a second, the heartbeat. What a replica has of it tells how far that has come,
//! also when nothing else is written, and when replication has broken without a word (`Seconds_Behind_Source`
//! says nothing then). Listening has a connection of its own: it must hear also when all others are in use.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, Connection, FromRow, MySqlConnection, Row};
use tokio::time::timeout;
use tracing::{debug, error, info};

use super::MySqlStore;
use super::candidates::{self, Candidates, NoPrimary};
use super::target::name_of;
use crate::model::Millis;
use crate::store::{Late, Pulse, StoreError};
use crate::telemetry::chain;

/// The database is listened to this often. What other edges commit is noticed as soon.
const PULSE_PERIOD: Duration = Duration::from_millis(100);
/// A heart that has not beaten for so long is made to. Each edge at home sees to it, so that there is always one.
const BEAT_PERIOD: Duration = Duration::from_millis(200);
/// The servers beside the primary are asked this often what they are.
const LOOK_AROUND_PERIOD: Duration = Duration::from_secs(1);
/// Connecting takes a few round trips within a region.
pub(super) const CONNECT_DEADLINE: Duration = Duration::from_millis(500);
/// A server that says nothing for so long is taken for lost: one that flushes a large page may need half of it.
pub(super) const WORD_DEADLINE: Duration = Duration::from_secs(1);

/// What the database is to this edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It takes our writes.
    Primary,
    /// It follows a primary.
    Replica,
}

/// What a server says of itself.
#[derive(Clone, Debug, FromRow)]
pub(super) struct Word {
    /// Its identity.
    pub(super) server: String,
    /// That of the server which took the last heartbeat, where that was in this epoch.
    pub(super) primary: Option<String>,
    pub(super) epoch: u32,
    pub(super) beat: u64,
    pub(super) beat_at: Millis,
    pub(super) last: u64,
    pub(super) read_only: bool,
    /// Its time.
    pub(super) now_ms: Millis,
}

/// Listens as long as there is a store.
pub(super) async fn listen(store: Weak<MySqlStore>, part: Part) {
    let mut listener = Listener::new(part);
    loop {
        tokio::time::sleep(PULSE_PERIOD).await;
        let Some(store) = store.upgrade() else { return };
        listener.look_after(&store).await;
    }
}

/// Looks at the servers beside the primary, as long as there is a store.
pub(super) async fn look_around(store: Weak<MySqlStore>) {
    loop {
        tokio::time::sleep(LOOK_AROUND_PERIOD).await;
        let Some(store) = store.upgrade() else { return };
        if !store.candidates.are_one() {
            candidates::look_around(&store.candidates, &store.known).await;
        }
    }
}

struct Listener {
    part: Part,
    /// To the server that the store uses.
    connection: Option<MySqlConnection>,
    /// When the heart was last seen to beat, or made to, and where it was.
    beaten: Instant,
    last_beat: Option<u64>,
    /// Why the primary does not commit, although it answers.
    stuck: Option<String>,
}

impl Listener {
    fn new(part: Part) -> Self {
        Self { part, connection: None, beaten: Instant::now(), last_beat: None, stuck: None }
    }

    async fn look_after(&mut self, store: &Arc<MySqlStore>) {
        let asked = Instant::now();
        match self.word(store).await {
            Ok(word) if self.part == Part::Replica => store.heard(&word),
            Ok(word) if !word.read_only && !store.known.is_past(word.epoch) => {
                let server = store.candidates.chosen().map_or_else(String::new, |at| name_of(&at));
                match store.candidates.check(&server, &word, None) {
                    Ok(()) => {
                        if let Some(clock) = &store.clock {
                            clock.heard(word.now_ms, asked);
                        }
                        self.follow(store, word).await;
                    }
                    Err(why) => {
                        self.refuse(store, why.clone());
                        if !store.candidates.are_one() {
                            self.look_for_another(&store.candidates, store, &why).await;
                        }
                    }
                }
            }
            Ok(word) => {
                store.connections.note_epoch(word.epoch);
                let why = unfit(&word, store.known.is_past(word.epoch));
                self.look_for_another(&store.candidates, store, &why).await;
            }
            Err(error) => {
                if let StoreError::Corrupt(what) = &error {
                    error!(error = what, "the database says what cannot be read");
                }
                if !self.look_for_another(&store.candidates, store, &chain(&error)).await {
                    store.connections.missed(&error);
                }
            }
        }
    }

    /// What the server says now.
    async fn word(&mut self, store: &MySqlStore) -> Result<Word, StoreError> {
        if let Some(mut connection) = self.connection.take() {
            match word(&mut connection).await {
                Ok(word) => {
                    self.connection = Some(connection);
                    return Ok(word);
                }
                Err(error) if error.is_silence() => return Err(error),
                // A connection may break where the server does not.
                Err(error) => debug!(error = %chain(&error), "the listener's connection is made anew"),
            }
        }
        let options = store
            .candidates
            .chosen()
            .ok_or_else(|| StoreError::unavailable("no candidate was found to be the primary yet"))?;
        let mut connection = connect(&options).await?;
        let word = word(&mut connection).await?;
        self.connection = Some(connection);
        Ok(word)
    }

    async fn follow(&mut self, store: &MySqlStore, word: Word) {
        store.candidates.note(&word);
        store.connections.point_again(store.candidates.chosen().as_deref(), word.epoch);
        store.heard(&word);
        self.keep_beating(store, word).await;
        store.candidates.refuse(self.stuck.clone());
    }

    async fn keep_beating(&mut self, store: &MySqlStore, seen: Word) {
        if self.last_beat.replace(seen.beat) != Some(seen.beat) {
            self.beaten = Instant::now();
            self.stuck = None;
        }
        if self.beaten.elapsed() < BEAT_PERIOD {
            return;
        }
        let Some(mut connection) = self.connection.take() else { return };
        match beat(&mut connection, seen.epoch).await {
            Ok(()) => {
                self.beaten = Instant::now();
                self.stuck = None;
                self.connection = Some(connection);
                store.candidates.note(&Word { beat: seen.beat + 1, ..seen });
            }
            // Then it takes nobody's writes; the next look finds out whether another does.
            Err(error) => {
                self.stuck = Some(format!("the primary answers and does not commit: {}", chain(&error)));
                store.candidates.doubt();
            }
        }
    }

    /// Returns whether there is another. With one candidate there is nowhere to look; it is asked again.
    async fn look_for_another(&mut self, candidates: &Candidates, store: &MySqlStore, why: &str) -> bool {
        self.connection = None;
        if candidates.are_one() {
            if self.part == Part::Primary {
                candidates.refuse(Some(format!("the only server is no primary now: {why}")));
            }
            return false;
        }
        let found = match self.part {
            Part::Primary => candidates::survey(candidates, &store.known).await,
            Part::Replica => candidates::any(candidates).await,
        };
        match found {
            Ok(found) => {
                if candidates.choose(&found.options) {
                    let (server, epoch) = (name_of(&found.options), found.word.epoch);
                    info!(db.server = server, db.part = ?self.part, epoch, "database found");
                    store.connections.point_at(&found.options, Some(epoch));
                }
                self.stuck = None;
                self.connection = Some(found.connection);
                true
            }
            Err(NoPrimary::None(reasons)) => {
                if self.part == Part::Primary {
                    candidates.refuse(Some(format!("no server is the primary: {}", reasons.join("; "))));
                }
                false
            }
            Err(NoPrimary::Unfit(why)) => {
                self.refuse(store, why);
                false
            }
            Err(NoPrimary::Several(names)) => {
                let why = format!(
                    "several servers take writes, and none is known to be the primary: {names}; see edge-host failover \
                     status"
                );
                self.refuse(store, why);
                false
            }
        }
    }

    /// Nothing is read from any server, and nothing is written.
    fn refuse(&mut self, store: &MySqlStore, why: String) {
        self.connection = None;
        store.connections.leave();
        store.candidates.doubt();
        store.candidates.refuse(Some(why));
    }
}

/// Why a server that answers is not the primary.
pub(super) fn unfit(word: &Word, is_past: bool) -> String {
    if is_past {
        format!("it is of epoch {}, which is past", word.epoch)
    } else {
        "it takes no writes".to_owned()
    }
}

pub(super) async fn connect(options: &MySqlConnectOptions) -> Result<MySqlConnection, StoreError> {
    let connected = timeout(CONNECT_DEADLINE, options.connect()).await;
    Ok(connected.map_err(|_| StoreError::unavailable(Late("a connection to the database")))??)
}

/// What a server says of itself, all of it as of one moment.
pub(super) async fn word(connection: &mut MySqlConnection) -> Result<Word, StoreError> {
    let query = sqlx::query_as(
        "SELECT @@GLOBAL.server_uuid AS server, IF(h.server_epoch = e.epoch, h.server, NULL) AS `primary`, e.epoch,
                h.seq AS beat, h.at AS beat_at,
                CAST(GREATEST(COALESCE((SELECT MAX(seq) FROM outbox), 0), e.outbox_swept) AS UNSIGNED) AS last,
                @@GLOBAL.read_only = 1 AS read_only,
                CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) AS now_ms
         FROM cluster e JOIN heartbeat h",
    );
    let word = timeout(WORD_DEADLINE, query.fetch_one(connection)).await;
    Ok(word.map_err(|_| StoreError::unavailable(Late("a sign of life of the database")))??)
}

/// The group that a server is a member of.
pub(super) async fn group(connection: &mut MySqlConnection) -> Option<String> {
    let query = sqlx::raw_sql("SHOW GLOBAL VARIABLES LIKE 'group\\_replication\\_group\\_name'");
    let row = timeout(WORD_DEADLINE, query.fetch_optional(connection)).await.ok()?.ok()??;
    row.try_get::<String, _>(1).ok().filter(|name| !name.is_empty())
}

/// Commits a heartbeat, at the server's own time and with its identity, in the epoch that it has said. A server that takes it is a primary: one that is
/// cut off from its group says that it is writable for a while, but nothing is committed there any more.
pub(super) async fn beat(connection: &mut MySqlConnection, epoch: u32) -> Result<(), StoreError> {
    let query = sqlx::query(
        "UPDATE heartbeat SET seq = seq + 1, at = CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED),
                              server = @@GLOBAL.server_uuid, server_epoch = ?",
    );
    let taken = timeout(WORD_DEADLINE, query.bind(epoch).execute(connection)).await;
    taken.map_err(|_| StoreError::unavailable(Late("the answer to a heartbeat")))??;
    Ok(())
}

impl Word {
    pub(super) fn pulse(&self) -> Pulse {
        let &Self { epoch, beat, beat_at: beat_at_ms, last, .. } = self;
        Pulse { epoch, beat, beat_at_ms, last, heard: Instant::now() }
    }
}

/// Ends a connection without waiting for the server to agree.
pub(super) fn hang_up(connection: MySqlConnection) {
    tokio::spawn(async move { timeout(WORD_DEADLINE, connection.close_hard()).await });
}
