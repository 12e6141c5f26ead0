use std::net::Ipv4Addr;
use std::path::Path;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::{GroupedChild, eventually, free_port, scratch};

/// A Redis of its own on a free port. It keeps nothing on disk; it ends when it is dropped.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    options: Vec<String>,
    directory: TempDir,
    child: Option<GroupedChild>,
}

impl RedisServer {
    /// Starts a server; it listens when this returns.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with more options, such as `["--requirepass", "secret"]`. With `--tls-cert-file` among them
    /// it speaks TLS only.
    pub async fn start_with(options: &[&str]) -> Self {
        let options = options.iter().map(ToString::to_string).collect();
        let mut server = Self { port: free_port(), options, directory: scratch("redis"), child: None };
        server.restart().await;
        server
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where a cache finds it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A directory of its own, for files that the options name.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Kills it; whatever it held is lost.
    pub async fn kill(&mut self) {
        if let Some(child) = self.child.take() {
            child.kill().await;
        }
    }

    /// Lets it hang: it keeps its connections, takes new ones, and says nothing.
    pub fn pause(&self) {
        self.child().pause().expect("the server runs");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.child().resume().expect("the server runs");
    }

    /// Starts it on the same port, empty; kills it before if it runs.
    pub async fn restart(&mut self) {
        self.kill().await;
        let mut command = Command::new("redis-server");
        command.current_dir(self.directory.path());
        let tls = self.options.iter().any(|option| option == "--tls-cert-file");
        let (plain, with_tls) = if tls { (0, self.port) } else { (self.port, 0) };
        command.args([
            "--bind",
            "127.0.0.1",
            "--port",
            &plain.to_string(),
            "--tls-port",
            &with_tls.to_string(),
        ]);
        command.args(["--save", "", "--appendonly", "no", "--logfile", "redis.log"]).args(&self.options);
        let child = GroupedChild::start(command).expect("redis-server is installed");
        self.child = Some(child);
        let address = (Ipv4Addr::LOCALHOST, self.port);
        eventually("redis-server listens", async || TcpStream::connect(address).await.is_ok()).await;
    }

    fn child(&self) -> &GroupedChild {
        self.child.as_ref().expect("the server runs")
    }
}
