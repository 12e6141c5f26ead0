use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::{eventually, free_port, scratch};

/// A Redis of a test's own. What it held is gone after every restart, as in the regions.
#[derive(Debug)]
pub struct RedisServer {
    address: SocketAddr,
    child: Mutex<Option<Child>>,
    directory: TempDir,
}

impl RedisServer {
    /// Starts it on a free port, and waits until it is ready.
    pub async fn start() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let server = Self { address, child: Mutex::default(), directory: scratch("redis") };
        server.restart().await;
        server
    }

    /// How an edge reaches it, as `TROLI_CACHE_URL` has it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it as a power cut would.
    pub fn kill(&self) {
        if let Some(mut child) = self.child().take() {
            child.kill().expect("a child of this user can be killed");
            child.wait().expect("a child can be waited for");
        }
    }

    /// From now on it does nothing, with all its connections open.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after a pause.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts it at its old address, after ending it when it runs, and waits until it is ready.
    pub async fn restart(&self) {
        self.kill();
        let mut command = Command::new("redis-server");
        command
            .current_dir(self.directory.path())
            .args(["--bind", "127.0.0.1", "--port", &self.address.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--logfile", "redis.log"])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        *self.child() = Some(command.spawn().expect("redis-server is installed"));
        eventually("redis-server listens", async || TcpStream::connect(self.address).await.is_ok()).await;
    }

    fn signal(&self, signal: Signal) {
        let id = self.child().as_ref().map(Child::id).and_then(|id| i32::try_from(id).ok());
        let id = id.and_then(Pid::from_raw).expect("the server runs");
        kill_process(id, signal).expect("a child of this user can be signalled");
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
