//! A server as an operator's commands see it: asked and changed over one connection of an administrator.

use std::time::Duration;

use serde::Serialize;
use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlRow};
use sqlx::{AssertSqlSafe, ConnectOptions, MySqlConnection, Row};
use tokio::time::timeout;
use tracing::warn;

use super::MySqlTarget;
use super::promote::PromoteError;
use super::target::name_of;
use crate::model::Millis;

/// Operators look at servers that are far away or ill.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// A statement that changes no data waits for transactions that are about to commit.
const STATEMENT_DEADLINE: Duration = Duration::from_secs(10);
/// The server itself gives up to wait for them earlier, seconds, so that no statement takes effect after its time.
const LOCK_WAIT_S: u32 = 5;

/// What a server is, for people.
#[derive(Clone, Debug, Serialize)]
pub struct ServerStatus {
    /// Host and port.
    pub server: String,
    /// Its identity: two addresses of one server have the same.
    pub server_uuid: String,
    /// Whether it takes writes.
    pub takes_writes: bool,
    /// Its epoch.
    pub epoch: u32,
    /// Beats of home's heart that have come there.
    pub beat: u64,
    /// Since the last beat, milliseconds, by its own clock.
    pub beat_age_ms: Millis,
    /// The server that it follows, where it follows one.
    pub follows: Option<Source>,
    /// The transactions that it has.
    pub gtid_executed: String,
}

/// The server that a replica follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Source {
    /// Host and port, as the replica has them.
    pub server: String,
    /// Its identity; empty while the replica has never reached it.
    pub server_uuid: String,
    /// Whether the replica takes transactions in, and applies them.
    pub running: bool,
}

/// A connection to one server.
pub(super) struct Server {
    pub(super) name: String,
    connection: MySqlConnection,
}

impl Server {
    pub(super) async fn connect(target: &MySqlTarget) -> Result<Self, PromoteError> {
        match target.servers().found().await.first() {
            Some(options) => Self::connect_to(options).await,
            None => Err(PromoteError::Silent(format!("{target:?}"))),
        }
    }

    pub(super) async fn connect_to(options: &MySqlConnectOptions) -> Result<Self, PromoteError> {
        let name = name_of(options);
        // The driver would warn of a statement that waits for a replica on purpose.
        let options = options.clone().disable_statement_logging();
        let connection = match timeout(CONNECT_DEADLINE, options.connect()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(PromoteError::Server(name, error)),
            Err(_) => return Err(PromoteError::Silent(name)),
        };
        let mut server = Self { name, connection };
        server.run(&format!("SET SESSION lock_wait_timeout = {LOCK_WAIT_S}")).await?;
        Ok(server)
    }

    pub(super) async fn run(&mut self, statement: &str) -> Result<(), PromoteError> {
        let running = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut self.connection);
        match timeout(STATEMENT_DEADLINE, running).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(PromoteError::Server(self.name.clone(), error)),
            Err(_) => Err(PromoteError::Silent(self.name.clone())),
        }
    }

    /// Sets a variable for now and for after a restart. Where the server persists nothing, only for now.
    async fn persist(&mut self, variable: &str, value: &str) -> Result<(), PromoteError> {
        self.run(&format!("SET GLOBAL {variable} = {value}")).await?;
        if let Err(error) = self.run(&format!("SET PERSIST {variable} = {value}")).await {
            warn!(
                db.server = self.name,
                error = %crate::telemetry::chain(&error),
                "not persisted: put {variable} = {value} into the server's configuration, or it is lost at a restart"
            );
        }
        Ok(())
    }

    /// Lets it take no writes, not even an administrator's, until it restarts.
    pub(super) async fn stop_writes(&mut self) -> Result<(), PromoteError> {
        self.run("SET GLOBAL super_read_only = ON").await
    }

    /// The same, for after a restart too.
    pub(super) async fn fence(&mut self) -> Result<(), PromoteError> {
        self.persist("super_read_only", "ON").await?;
        self.persist("read_only", "ON").await
    }

    /// Lets a replica that was stopped be one again.
    pub(super) async fn follow_again(&mut self) -> Result<(), PromoteError> {
        self.run("SET GLOBAL super_read_only = ON").await?;
        self.run("START REPLICA").await
    }

    /// Lets it take writes, now and after a restart.
    pub(super) async fn open(&mut self) -> Result<(), PromoteError> {
        self.persist("super_read_only", "OFF").await?;
        self.persist("read_only", "OFF").await
    }

    /// A replica may be lax with its disk, for it can have everything again; a primary may not.
    pub(super) async fn make_durable(&mut self) -> Result<(), PromoteError> {
        self.persist("innodb_flush_log_at_trx_commit", "1").await?;
        self.persist("sync_binlog", "1").await
    }

    /// Begins a new epoch, in the one transaction that it still takes: an administrator's.
    pub(super) async fn begin_epoch(&mut self, at_least: u32) -> Result<u32, PromoteError> {
        self.run(&format!("UPDATE cluster SET epoch = GREATEST(epoch + 1, {at_least})")).await?;
        self.epoch().await
    }

    /// Whether it has these transactions, or gets them within so many seconds.
    pub(super) async fn has_applied(
        &mut self,
        transactions: &str,
        within_s: u32,
    ) -> Result<bool, PromoteError> {
        let wait = format!("SELECT CAST(WAIT_FOR_EXECUTED_GTID_SET('{transactions}', {within_s}) AS CHAR)");
        let patience = Duration::from_secs(u64::from(within_s)) + STATEMENT_DEADLINE;
        let row = self.row(&wait, patience).await?;
        Ok(row.is_some_and(|row| row.get::<String, _>(0) == "0"))
    }

    /// Those of another server's transactions that it has not.
    pub(super) async fn misses(&mut self, transactions: &str) -> Result<String, PromoteError> {
        let misses = format!("SELECT GTID_SUBTRACT('{transactions}', @@GLOBAL.gtid_executed)");
        Ok(one_line(&self.text(&misses).await?))
    }

    /// Takes nothing more in. Returns the transactions that it has taken in, of which some may not be applied yet.
    pub(super) async fn stop_taking_in(&mut self) -> Result<Option<String>, PromoteError> {
        self.run("STOP REPLICA IO_THREAD").await?;
        let row = self.row("SHOW REPLICA STATUS", STATEMENT_DEADLINE).await?;
        Ok(row.map(|row| one_line(&row.get::<String, _>("Retrieved_Gtid_Set"))))
    }

    pub(super) async fn status(&mut self) -> Result<ServerStatus, PromoteError> {
        let beat =
            "SELECT CONCAT_WS(' ', seq, CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) - at) FROM heartbeat";
        let beat = self.text(beat).await?;
        let (beat, age_ms) = beat.split_once(' ').unwrap_or(("0", "0"));
        Ok(ServerStatus {
            server: self.name.clone(),
            server_uuid: self.text("SELECT @@GLOBAL.server_uuid").await?,
            takes_writes: self.text("SELECT CAST(@@GLOBAL.read_only AS CHAR)").await? != "1",
            epoch: self.epoch().await?,
            beat: beat.parse().unwrap_or(0),
            beat_age_ms: age_ms.parse().unwrap_or(0),
            follows: self.source().await?,
            gtid_executed: one_line(&self.text("SELECT @@GLOBAL.gtid_executed").await?),
        })
    }

    /// Nothing where this account may not see it; one that may not see it cannot promote either.
    async fn source(&mut self) -> Result<Option<Source>, PromoteError> {
        let row = match self.row("SHOW REPLICA STATUS", STATEMENT_DEADLINE).await {
            Err(PromoteError::Server(_, error)) if is_denied(&error) => None,
            row => row?,
        };
        let text = |row: &MySqlRow, name: &str| row.try_get::<String, _>(name).unwrap_or_default();
        Ok(row.map(|row| Source {
            server: format!(
                "{}:{}",
                text(&row, "Source_Host"),
                row.try_get_unchecked::<u32, _>("Source_Port").unwrap_or_default()
            ),
            server_uuid: text(&row, "Source_UUID"),
            running: ["Replica_IO_Running", "Replica_SQL_Running"]
                .into_iter()
                .all(|name| text(&row, name) == "Yes"),
        }))
    }

    async fn epoch(&mut self) -> Result<u32, PromoteError> {
        Ok(self.text("SELECT CAST(epoch AS CHAR) FROM cluster").await?.parse().unwrap_or(0))
    }

    async fn row(&mut self, statement: &str, patience: Duration) -> Result<Option<MySqlRow>, PromoteError> {
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
}

fn is_denied(error: &sqlx::Error) -> bool {
    const SPECIFIC_ACCESS_DENIED: u16 = 1227;
    let error = error.as_database_error().and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>());
    error.is_some_and(|error| error.number() == SPECIFIC_ACCESS_DENIED)
}

/// The server's own writing of a set of transactions has line breaks.
fn one_line(transactions: &str) -> String {
    transactions.chars().filter(|c| !c.is_whitespace()).collect()
}
