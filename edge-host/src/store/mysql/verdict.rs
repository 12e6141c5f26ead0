//! What an operator is told of the servers together.

use std::collections::BTreeMap;

use super::MySqlTarget;
use super::operator::{Server, ServerStatus};
use super::promote::PromoteError;

/// What the servers of a target are.
pub async fn status(target: &MySqlTarget) -> Vec<Result<ServerStatus, PromoteError>> {
    let mut all = Vec::new();
    for options in target.servers().found().await {
        all.push(async { Server::connect_to(&options).await?.status().await }.await);
    }
    all
}

/// What several servers are together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One takes writes, and is of the newest epoch.
    Good(String),
    /// None does.
    NoneWrites,
    /// Several do.
    SeveralWrite(Vec<String>),
    /// The one that does is of an epoch that is past: edges refuse it.
    PastWrites(String),
}

impl Verdict {
    /// The verdict on these servers. One that was asked at two addresses is one.
    pub fn on(servers: &[ServerStatus]) -> Self {
        let servers: BTreeMap<&str, &ServerStatus> =
            servers.iter().map(|server| (server.server_uuid.as_str(), server)).collect();
        let newest = servers.values().map(|server| server.epoch).max().unwrap_or(0);
        let writing: Vec<&ServerStatus> =
            servers.into_values().filter(|server| server.takes_writes).collect();
        let name = |server: &ServerStatus| format!("{} at epoch {}", server.server, server.epoch);
        match writing.as_slice() {
            [] => Self::NoneWrites,
            [one] if one.epoch < newest => Self::PastWrites(name(one)),
            [one] => Self::Good(name(one)),
            several => Self::SeveralWrite(several.iter().map(|server| name(server)).collect()),
        }
    }

    /// Whether nothing has to be done.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Good(_))
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Good(server) => write!(f, "one server takes writes: {server}"),
            Self::NoneWrites => write!(
                f,
                "NO SERVER TAKES WRITES: run failover promote, or failover abort where a promotion was interrupted"
            ),
            Self::SeveralWrite(servers) => write!(
                f,
                "{} SERVERS TAKE WRITES: {}; run failover promote --fence-other for the one that is to stay",
                match servers.len() {
                    2 => "TWO".to_owned(),
                    count => count.to_string(),
                },
                servers.join(", ")
            ),
            Self::PastWrites(server) => write!(
                f,
                "A PAST PRIMARY TAKES WRITES: {server}; no edge uses it, run failover promote to end a promotion"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(uuid: &str, takes_writes: bool, epoch: u32) -> ServerStatus {
        ServerStatus {
            server: format!("{uuid}:3306"),
            server_uuid: uuid.to_owned(),
            takes_writes,
            epoch,
            beat: 1,
            beat_age_ms: 0,
            follows: None,
            gtid_executed: String::new(),
        }
    }

    #[test]
    fn only_one_server_of_the_newest_epoch_that_takes_writes_is_good() {
        for (servers, good, says) in [
            (vec![server("a", true, 1), server("b", false, 1)], true, "a:3306 at epoch 1"),
            // At two addresses.
            (vec![server("a", true, 1), server("a", true, 1)], true, "a:3306 at epoch 1"),
            (vec![server("a", false, 1), server("b", false, 1)], false, "NO SERVER TAKES WRITES"),
            (vec![server("a", true, 1), server("b", true, 1)], false, "TWO SERVERS TAKE WRITES"),
            (vec![server("a", true, 1), server("b", true, 2)], false, "TWO SERVERS TAKE WRITES"),
            (vec![server("a", true, 1), server("b", false, 2)], false, "A PAST PRIMARY TAKES WRITES: a:3306"),
        ] {
            let verdict = Verdict::on(&servers);
            assert_eq!(verdict.is_good(), good, "{verdict}");
            assert!(verdict.to_string().contains(says), "{verdict}");
        }
    }
}
