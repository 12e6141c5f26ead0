//! An operator's word that a replica is the primary from now on.
//!
//! Where the old primary can still be asked, it is stopped first and the replica waits for all it has: nothing is
//! lost, and the epoch stays. Where it cannot, what it committed last may be missing. Then a new epoch begins, and it
//! begins before the replica takes its first write: whoever meets it afterwards knows that what it held was undone.

use std::time::Duration;

use serde::Serialize;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, MySqlConnection, Row};
use tokio::time::timeout;
use tracing::info;

use super::MySqlTarget;
use super::target::name_of;
use crate::clock::now_ms;
use crate::model::Millis;

/// Operators look at servers that are far away or ill.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// A statement that changes no data waits for transactions that are about to commit.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(10);
/// The replica has to apply what has come to it; seconds, as the server counts them.
const CATCH_UP_S: u32 = 60;

/// What is to be done.
pub struct Promotion {
    /// Who is to be the primary.
    pub replica: MySqlTarget,
    /// Who was; it is stopped if it can be asked.
    pub old_primary: Option<MySqlTarget>,
    /// Whether to go on when writes may be lost.
    pub accept_loss: bool,
    /// The new epoch is this one at least, for when a newer one was seen than the replica knows of.
    pub epoch_at_least: u32,
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promoted {
    /// The epoch that the new primary is at.
    pub epoch: u32,
    /// Whether writes may have been lost, so that a new epoch has begun.
    pub may_have_lost: bool,
}

/// Why nothing was promoted. No server takes writes that did not before, and to ask again is safe: it goes on from
/// wherever it was.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    /// The server does not answer, or not as it should.
    #[error("{0} does not do what it is asked to")]
    Server(String, #[source] sqlx::Error),
    /// The server says nothing.
    #[error("{0} does not answer in time")]
    Silent(String),
    /// It takes writes.
    #[error("{0} takes writes already, at epoch {1}")]
    IsPrimary(String, u32),
    /// Nobody knows what the old primary had.
    #[error(
        "the old primary cannot be asked what it has committed, so writes may be lost; --accept-loss goes on"
    )]
    MayLose,
    /// The old primary has more than the replica gets in time.
    #[error(
        "the replica has not caught up with the old primary within {CATCH_UP_S} s; --accept-loss goes on"
    )]
    Behind,
    /// The replica does not get on with what has come to it.
    #[error("the replica has not applied what has come to it within {CATCH_UP_S} s; ask again when it has")]
    Applying,
}

/// What a server is, for people.
#[derive(Clone, Debug, Serialize)]
pub struct ServerStatus {
    /// Host and port.
    pub server: String,
    /// Whether it takes writes.
    pub takes_writes: bool,
    /// Its epoch.
    pub epoch: u32,
    /// Beats of home's heart that have come there.
    pub beat: u64,
    /// Since the last beat, milliseconds.
    pub beat_age_ms: Millis,
    /// The transactions that it has.
    pub gtid_executed: String,
}

/// Makes a replica the primary.
///
/// # Errors
/// When it cannot be done without losing writes and that was not accepted, or a server fails.
pub async fn promote(promotion: &Promotion) -> Result<Promoted, PromoteError> {
    let mut replica = Server::connect(&promotion.replica).await?;
    if !replica.is_read_only().await? {
        return Err(PromoteError::IsPrimary(replica.name.clone(), replica.epoch().await?));
    }
    let may_have_lost = match stop_old_primary(promotion, &mut replica).await {
        Ok(()) => false,
        Err(refusal) if promotion.accept_loss => {
            info!(reason = %refusal, "going on: writes may be lost");
            true
        }
        Err(refusal) => return Err(refusal),
    };
    if may_have_lost {
        replica.apply_what_has_come().await?;
    }
    replica.run("STOP REPLICA").await?;
    // A replica may be lax with its disk, for it can have everything again; a primary may not.
    replica.run("SET GLOBAL innodb_flush_log_at_trx_commit = 1, GLOBAL sync_binlog = 1").await?;
    // It refuses everybody's writes still, but for those of administrators.
    replica.run("SET GLOBAL super_read_only = OFF").await?;
    if may_have_lost {
        let least = promotion.epoch_at_least;
        replica.run(&format!("UPDATE cluster SET epoch = GREATEST(epoch + 1, {least})")).await?;
    }
    replica.run("RESET REPLICA ALL").await?;
    replica.run("SET GLOBAL read_only = OFF").await?;
    Ok(Promoted { epoch: replica.epoch().await?, may_have_lost })
}

/// What the servers of a target are.
pub async fn status(target: &MySqlTarget) -> Vec<Result<ServerStatus, PromoteError>> {
    let mut all = Vec::new();
    for options in target.servers().found().await {
        all.push(async { Server::connect_to(&options).await?.status().await }.await);
    }
    all
}

/// Stops the old primary and waits for the replica to have all that it has.
async fn stop_old_primary(promotion: &Promotion, replica: &mut Server) -> Result<(), PromoteError> {
    let old = promotion.old_primary.as_ref().ok_or(PromoteError::MayLose)?;
    let mut old = Server::connect(old).await.map_err(|_| PromoteError::MayLose)?;
    old.run("SET GLOBAL super_read_only = ON").await?;
    let executed = old.text("SELECT @@GLOBAL.gtid_executed").await?;
    if replica.has_applied(&executed).await? {
        info!(
            db.old_primary = old.name,
            "the old primary takes no writes any more, and the replica has them all"
        );
        return Ok(());
    }
    if !promotion.accept_loss {
        old.run("SET GLOBAL read_only = OFF").await?;
    }
    Err(PromoteError::Behind)
}

struct Server {
    name: String,
    connection: MySqlConnection,
}

impl Server {
    async fn connect(target: &MySqlTarget) -> Result<Self, PromoteError> {
        match target.servers().found().await.first() {
            Some(options) => Self::connect_to(options).await,
            None => Err(PromoteError::Silent(format!("{target:?}"))),
        }
    }

    async fn connect_to(options: &MySqlConnectOptions) -> Result<Self, PromoteError> {
        let name = name_of(options);
        match timeout(CONNECT_DEADLINE, options.connect()).await {
            Ok(Ok(connection)) => Ok(Self { name, connection }),
            Ok(Err(error)) => Err(PromoteError::Server(name, error)),
            Err(_) => Err(PromoteError::Silent(name)),
        }
    }

    async fn run(&mut self, statement: &str) -> Result<(), PromoteError> {
        let running = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut self.connection);
        match timeout(STATEMENT_DEADLINE, running).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(PromoteError::Server(self.name.clone(), error)),
            Err(_) => Err(PromoteError::Silent(self.name.clone())),
        }
    }

    async fn row(
        &mut self,
        statement: &str,
        patience: Duration,
    ) -> Result<Option<sqlx::mysql::MySqlRow>, PromoteError> {
        let asked = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).fetch_optional(&mut self.connection);
        match timeout(patience, asked).await {
            Ok(answer) => answer.map_err(|error| PromoteError::Server(self.name.clone(), error)),
            Err(_) => Err(PromoteError::Silent(self.name.clone())),
        }
    }

    async fn text(&mut self, statement: &str) -> Result<String, PromoteError> {
        let row = self.row(statement, STATEMENT_DEADLINE).await?;
        Ok(row.map(|row| row.get::<String, _>(0)).unwrap_or_default())
    }

    async fn is_read_only(&mut self) -> Result<bool, PromoteError> {
        Ok(self.text("SELECT CAST(@@GLOBAL.read_only AS CHAR)").await? == "1")
    }

    async fn epoch(&mut self) -> Result<u32, PromoteError> {
        Ok(self.text("SELECT CAST(epoch AS CHAR) FROM cluster").await?.parse().unwrap_or(0))
    }

    /// Waits until it has these transactions, as long as it may take.
    async fn has_applied(&mut self, transactions: &str) -> Result<bool, PromoteError> {
        // The server's own writing of the set has line breaks.
        let transactions: String = transactions.chars().filter(|c| !c.is_whitespace()).collect();
        let wait = format!("SELECT CAST(WAIT_FOR_EXECUTED_GTID_SET('{transactions}', {CATCH_UP_S}) AS CHAR)");
        let patience = Duration::from_secs(u64::from(CATCH_UP_S)) + STATEMENT_DEADLINE;
        let row = self.row(&wait, patience).await?;
        Ok(row.is_some_and(|row| row.get::<String, _>(0) == "0"))
    }

    /// Takes nothing more in, and applies what it has taken in.
    async fn apply_what_has_come(&mut self) -> Result<(), PromoteError> {
        self.run("STOP REPLICA IO_THREAD").await?;
        let Some(row) = self.row("SHOW REPLICA STATUS", STATEMENT_DEADLINE).await? else { return Ok(()) };
        let received: String = row.get("Retrieved_Gtid_Set");
        if self.has_applied(&received).await? { Ok(()) } else { Err(PromoteError::Applying) }
    }

    async fn status(&mut self) -> Result<ServerStatus, PromoteError> {
        let beat = self.text("SELECT CONCAT_WS(' ', seq, at) FROM heartbeat").await?;
        let (beat, at_ms) = beat.split_once(' ').unwrap_or(("0", "0"));
        Ok(ServerStatus {
            takes_writes: !self.is_read_only().await?,
            epoch: self.epoch().await?,
            beat: beat.parse().unwrap_or(0),
            beat_age_ms: now_ms() - at_ms.parse().unwrap_or(0),
            gtid_executed: self.text("SELECT @@GLOBAL.gtid_executed").await?.replace('\n', ""),
            server: self.name.clone(),
        })
    }
}
