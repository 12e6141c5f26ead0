use std::fs;
use std::net::SocketAddr;

use tempfile::TempDir;

use crate::mysql::{copy, greets, template};
use crate::server::Server;
use crate::{MySqlServer, free_port, scratch};

/// A MySQL that follows another one, as the replica of a region.
#[derive(Debug)]
pub struct MySqlReplica {
    server: Server,
    /// The last to go.
    directory: TempDir,
}

impl MySqlReplica {
    /// Starts one that follows a server through a link, or itself, and waits until it can be asked. The server still
    /// has its whole binary log, so the replica begins where every server does.
    pub async fn start(source: &MySqlServer, at: SocketAddr) -> Self {
        let directory = scratch("mysql-replica");
        copy(template().await, directory.path());
        let options = vec![source.directory().display().to_string(), at.port().to_string()];
        let server = Server::new("mysql-replica", directory.path(), free_port(), options);
        let replica = Self { server, directory };
        replica.server.start(greets).await;
        replica
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// How an edge reaches it through a link that listens at an address, as `TROLI_REPLICA_URL` has it.
    pub fn url_through(&self, address: SocketAddr) -> String {
        self.url_of("troli", "password", address)
    }

    /// How root reaches its database, for who makes it the primary.
    pub fn admin_url(&self) -> String {
        self.url_of("root", "root-password", self.address())
    }

    /// Ends it as a power cut would.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// From now on it does nothing, with all its connections open.
    pub fn pause(&self) {
        self.server.pause();
    }

    /// Lets it go on after a pause.
    pub fn resume(&self) {
        self.server.resume();
    }

    /// Starts it again on what it has, after ending it when it runs, and waits until it can be asked.
    pub async fn restart(&self) {
        if self.server.is_running() {
            self.server.stop().await;
        }
        self.server.start(greets).await;
    }

    fn url_of(&self, user: &str, password_file: &str, address: SocketAddr) -> String {
        let password = fs::read_to_string(self.directory.path().join(password_file));
        let password = password.expect("a replica that was started has the passwords of its source");
        format!("mysql://{user}:{password}@{address}/troli")
    }
}
