use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
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
        let server = Server::new("redis", directory.path(), port, options, listens);
        let redis = Self { server, directory };
        redis.server.start().await;
        redis
    }

    /// Writes all that it holds to its disk, with which it starts next time.
    pub async fn save(&self) {
        let client = redis::Client::open(self.url()).expect("a good URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("the server runs");
        let () = redis::cmd("SAVE").query_async(&mut connection).await.expect("it saves");
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
}

impl Deref for RedisServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

/// It listens only when it serves, because there is nothing to load.
fn listens(address: SocketAddr) -> BoxFuture<'static, bool> {
    async move { TcpStream::connect(address).await.is_ok() }.boxed()
}
