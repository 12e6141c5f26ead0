use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::server::Server;
use crate::{free_port, scratch};

/// A Redis of a test's own. What it held is gone after every restart, as in the regions.
#[derive(Debug)]
pub struct RedisServer {
    server: Server,
    /// The last to go.
    directory: TempDir,
}

impl RedisServer {
    /// Starts it on a free port, and waits until it is ready.
    pub async fn start() -> Self {
        Self::start_with(|_, _| Vec::new()).await
    }

    /// The same with options of its own, which may name files in its directory, and its port.
    pub async fn start_with(options: impl FnOnce(&Path, u16) -> Vec<String>) -> Self {
        let (directory, port) = (scratch("redis"), free_port());
        let options = options(directory.path(), port);
        let redis = Self { server: Server::new("redis", directory.path(), port, options), directory };
        redis.start_server().await;
        redis
    }

    /// How an edge reaches it, as `TROLI_CACHE_URL` has it.
    pub fn url(&self) -> String {
        self.url_through(self.address())
    }

    /// How an edge reaches it through a link that listens at an address.
    pub fn url_through(&self, address: SocketAddr) -> String {
        let password = fs::read_to_string(self.directory.path().join("password"));
        format!("redis://:{}@{address}", password.expect("a server that was started has a password"))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
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

    /// Ends it as an administrator would, and waits until it has.
    pub async fn stop(&self) {
        self.server.stop().await;
    }

    /// Starts it at its old address, after ending it when it runs, and waits until it is ready.
    pub async fn restart(&self) {
        if self.server.is_running() {
            self.stop().await;
        }
        self.start_server().await;
    }

    async fn start_server(&self) {
        // It listens only when it serves, because there is nothing to load.
        self.server.start(async |address| TcpStream::connect(address).await.is_ok()).await;
    }
}
