use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use tokio::process::Command;

use super::Fleet;
use crate::{eventually, executable};

impl Fleet {
    /// The region whose replica may become the primary.
    pub fn standby(&self) -> Option<&'static str> {
        self.standby
    }

    /// Makes the standby the primary as an operator does, restarts the old one as a reboot would, and after a while
    /// makes that the primary again. The other one follows each time.
    pub(crate) async fn promote_for_a_while(&self, lasting: Duration) {
        let standby = self.standby.expect("this fleet was started with a standby");
        let (first, second) = (self.mysql().admin_url_of("troli"), self.replica(standby).admin_url());
        promote(&second, &first).await;
        self.mysql().restart().await;
        self.follow(&first, self.replica(standby).address().port()).await;
        tokio::time::sleep(lasting).await;
        promote(&first, &second).await;
        self.follow(&second, self.source_link(standby).addr().port()).await;
    }

    /// Lets a server follow another.
    async fn follow(&self, url: &str, port: u16) {
        let password = self.mysql().replication_password();
        let statements = format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {port},
                 SOURCE_USER = 'replication', SOURCE_PASSWORD = '{password}', SOURCE_SSL = 1,
                 SOURCE_AUTO_POSITION = 1, SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 0,
                 SOURCE_HEARTBEAT_PERIOD = 1;
             START REPLICA"
        );
        eventually("a server follows", async || {
            // It may be paused or away, like any other.
            let Ok(mut server) = MySqlConnection::connect(url).await else { return false };
            sqlx::raw_sql(AssertSqlSafe(statements.clone())).execute(&mut server).await.is_ok()
        })
        .await;
    }
}

/// As often as it takes: a replica that is behind for a moment is refused, and servers go and come.
async fn promote(replica: &str, old: &str) {
    let edge_host = tokio::task::spawn_blocking(|| executable("edge-host")).await;
    let edge_host = edge_host.expect("building does not panic");
    eventually("a server is promoted", async || {
        let mut command = Command::new(&edge_host);
        command.args(["failover", "promote"]).env("TROLI_PROMOTE_URL", replica);
        let output = command.env("TROLI_OLD_PRIMARY_URL", old).kill_on_drop(true).output().await;
        let output = output.expect("the executable runs");
        output.status.success() || String::from_utf8_lossy(&output.stderr).contains("takes writes already")
    })
    .await;
}
