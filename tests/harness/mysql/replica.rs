use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;

use tempfile::TempDir;

use super::{DATABASE, MySqlGroup, MySqlServer, SMALL, ask, copy, greets, template, url_of};
use crate::server::Server;
use crate::{eventually, free_port, scratch};

const SCRIPT: &str = "mysql-replica";
/// What a server has of the transactions of all servers.
const TRANSACTIONS: &str = "SELECT @@GLOBAL.gtid_executed";

/// A MySQL that follows another one, and that nobody can write to.
#[derive(Debug)]
pub struct MySqlReplica {
    server: Server,
    /// The last to go.
    directory: TempDir,
}

impl MySqlReplica {
    /// Starts one that follows a server which has its log from the beginning, through a link that listens at
    /// an address, and waits until it is ready. It need not have everything yet.
    pub async fn start(source: &MySqlServer, through: SocketAddr) -> Self {
        Self::begin(source.directory.path(), &[through], true).await
    }

    /// The same for the members of a group, who tell it themselves where they are.
    pub async fn start_of_group(group: &MySqlGroup) -> Self {
        Self::begin(group.directory(), &group.addresses(), true).await
    }

    /// The same with a copy of a server that may have any part of its log.
    pub async fn start_by_copy(source: &MySqlServer) -> Self {
        Self::begin(source.directory.path(), &[source.address()], false).await
    }

    async fn begin(source: &Path, addresses: &[SocketAddr], from_template: bool) -> Self {
        let directory = scratch("mysql-replica");
        if from_template {
            // What every source began with; making a copy takes seconds more.
            copy(template().await, directory.path());
        }
        let mut options = vec![source.display().to_string()];
        options.extend(addresses.iter().map(|address| address.port().to_string()));
        options.push(SMALL.to_owned());
        let server = Server::new(SCRIPT, directory.path(), free_port(), options, greets);
        let replica = Self { server, directory };
        replica.server.start().await;
        replica
    }

    /// Waits until it has everything that its source has now.
    pub async fn catch_up(&self, source_admin_url: &str) {
        let all = ask(source_admin_url, TRANSACTIONS).await.expect("the source answers");
        eventually("the replica has what its source has", async || {
            // Both follow one source, in its order, so that the same set is written in the same way.
            ask(&self.admin_url(), TRANSACTIONS).await.is_some_and(|has| has == all)
        })
        .await;
    }

    /// How an edge reaches it, as `TROLI_REPLICA_URL` has it.
    pub fn url(&self) -> String {
        self.url_through(self.address())
    }

    /// How an edge reaches it through a link that listens at an address.
    pub fn url_through(&self, address: SocketAddr) -> String {
        url_of(self.directory.path(), "troli", "password", &[address], DATABASE)
    }

    /// How root reaches its database, for what only an administrator may do.
    pub fn admin_url(&self) -> String {
        url_of(self.directory.path(), "root", "root-password", &[self.address()], DATABASE)
    }
}

impl Deref for MySqlReplica {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}
