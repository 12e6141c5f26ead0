//! What is measured: one region, home, as it is deployed, with a MySQL and a Redis of its own; and beside it the
//! bare handler. All of them are children of this process, and end before it does.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::{free_port, peer_ca, repository};
use rustix::process::{Pid, Signal, kill_process_group};
use sqlx::mysql::MySqlPool;

use crate::options::Options;
use crate::wire::Connection;

/// Signs the tokens of the shoppers.
pub(crate) const HS256_SECRET: &str = "the-benchmark-signs-user-tokens-with-this";
const GUEST_SECRET: &str = "the-benchmark-signs-guest-tokens-with-this";
const ADMIN_TOKEN: &str = "the-benchmark-opens-the-admin-routes-with-this";
/// Nobody is to be turned away: the most popular cart alone is asked for thousands of times a second.
const RATE_LIMIT: &str = "1000000";
/// The carts of the service and those of the bare handler fit; one that had to go would be a miss.
const REDIS_MEMORY: &str = "2gb";
/// The bare handler's carts are in the same Redis, but not among the service's.
const BARE_DATABASE: u8 = 1;
/// The first start makes the files of MySQL, and compiles the rules.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// Until it is made to, a part may take this long to end.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks at something that is to come.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// All parts, running.
pub(crate) struct Stack {
    /// The public API.
    pub(crate) edge: SocketAddr,
    /// Health and metrics.
    pub(crate) internal: SocketAddr,
    /// Where it would be asked by other regions, if there were any.
    peers: SocketAddr,
    /// The bare handler.
    pub(crate) bare: SocketAddr,
    /// The primary.
    pub(crate) mysql_url: String,
    /// The bare handler's part of the cache.
    pub(crate) bare_redis_url: String,
    /// In the order of their start.
    parts: Vec<Part>,
}

struct Part {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Stack {
    /// Starts everything and waits until it is ready.
    pub(crate) async fn start(options: &Options) -> Result<Self> {
        let state = &options.state;
        fs::create_dir_all(state).with_context(|| format!("{} cannot be made", state.display()))?;
        let mut stack = Self {
            edge: address(),
            internal: address(),
            peers: address(),
            bare: address(),
            mysql_url: String::new(),
            bare_redis_url: String::new(),
            parts: Vec::new(),
        };
        let redis_url = stack.start_redis(state).await?;
        stack.bare_redis_url = format!("{redis_url}/{BARE_DATABASE}");
        stack.start_mysql(state).await?;
        stack.start_edge(options, &redis_url).await?;
        stack.start_bare().await?;
        Ok(stack)
    }

    /// The process of every part, by name.
    pub(crate) fn processes(&self) -> Vec<(&'static str, u32)> {
        self.parts.iter().map(|part| (part.name, part.child.id())).collect()
    }

    async fn start_redis(&mut self, state: &Path) -> Result<String> {
        let (directory, port) = (state.join("redis"), free_port());
        let mut command = kept(&repository().join("deploy/servers/redis"));
        command.arg(&directory).arg(port.to_string());
        self.spawn("redis-server", command, state)?;
        let url = async || {
            let password = fs::read_to_string(directory.join("password"))?;
            let url = format!("redis://:{}@127.0.0.1:{port}", password.trim());
            let mut connection =
                redis::Client::open(url.as_str())?.get_multiplexed_async_connection().await?;
            let set = redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(REDIS_MEMORY).to_owned();
            set.exec_async(&mut connection).await?;
            Ok(url)
        };
        self.wait_for(url).await
    }

    async fn start_mysql(&mut self, state: &Path) -> Result<()> {
        let (directory, port) = (state.join("mysql"), free_port());
        let mut command = kept(&repository().join("deploy/servers/mysql"));
        command.arg(&directory).arg(port.to_string());
        self.spawn("mysqld", command, state)?;
        let url = async || {
            let password = fs::read_to_string(directory.join("password"))?;
            let url = format!("mysql://troli:{}@127.0.0.1:{port}/troli", password.trim());
            MySqlPool::connect(&url).await?.close().await;
            Ok(url)
        };
        self.mysql_url = self.wait_for(url).await?;
        Ok(())
    }

    async fn start_edge(&mut self, options: &Options, redis_url: &str) -> Result<()> {
        let state = &options.state;
        let topology = format!(
            "home = \"sin\"\ncurrency_default = \"SGD\"\n[[region]]\nid = \"sin\"\nname = \"Singapore\"\n\
             country = \"SG\"\ncurrency = \"SGD\"\npublic = [\"{}\"]\ninternal = [\"{}\"]\npeers = [\"{}\"]\n",
            self.edge, self.internal, self.peers
        );
        let file = |name: &str, content: &str| {
            let path = state.join(name);
            fs::write(&path, content).with_context(|| format!("{} cannot be written", path.display()))?;
            Ok::<_, anyhow::Error>(path)
        };
        let rules_cache = state.join("rules-cache");
        let admin_token = file("admin-token", ADMIN_TOKEN)?;
        let mut serve = kept(&options.edge_host);
        serve
            .arg("serve")
            .env("TROLI_REGION", "sin")
            .env("TROLI_TOPOLOGY", file("topology.toml", &topology)?)
            .env("TROLI_DATABASE_URL", &self.mysql_url)
            .env("TROLI_CACHE_URL", redis_url)
            .env("TROLI_RULES_FILE", &options.rules)
            .env("TROLI_RULES_CACHE_DIR", rules_cache)
            .envs(peer_ca().write("sin", state))
            .env("TROLI_GUEST_SECRET_FILE", file("guest-secret", GUEST_SECRET)?)
            .env("TROLI_ADMIN_TOKEN_FILE", &admin_token)
            .env("TROLI_JWT_HS256_SECRET", HS256_SECRET)
            .env("TROLI_RATE_LIMIT_PER_S", RATE_LIMIT)
            .env("TROLI_RATE_LIMIT_ADDRESS_PER_S", RATE_LIMIT)
            .env("TROLI_RATE_LIMIT_CATALOGUE_PER_S", RATE_LIMIT)
            .env("TROLI_RATE_LIMIT_GUEST_ORDERS_PER_MIN", RATE_LIMIT);
        let mut migrate = kept(&options.edge_host);
        run(migrate.arg("migrate").env("TROLI_DATABASE_URL", &self.mysql_url))?;
        self.spawn("edge-host", serve, state)?;
        let internal = self.internal;
        self.wait_for(async || get(internal, "/readyz").await).await?;
        let mut import = kept(&options.edge_host);
        import.args(["items", "import"]).arg(repository().join("deploy/catalogue.csv"));
        run(import.arg("--admin").arg(format!("http://{internal}")).arg("--token-file").arg(admin_token))
    }

    async fn start_bare(&mut self) -> Result<()> {
        let mut command = kept(&std::env::current_exe()?);
        // Not on the command line, which everybody can read.
        command.arg("bare").arg(self.bare.to_string()).env("BENCH_REDIS_URL", &self.bare_redis_url);
        let state = self.parts[0].log.parent().map(Path::to_owned).unwrap_or_default();
        self.spawn("bare", command, &state)?;
        let bare = self.bare;
        self.wait_for(async || get(bare, "/ready").await).await.map(|_| ())
    }

    fn spawn(&mut self, name: &'static str, mut command: Command, state: &Path) -> Result<()> {
        let log = state.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("{} cannot be written", log.display()))?;
        command.stderr(output.try_clone()?).stdout(output);
        let child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        self.parts.push(Part { name, child, log });
        Ok(())
    }

    /// Tries until it works, as long as the part that was started last lives.
    async fn wait_for<T>(&mut self, try_it: impl AsyncFn() -> Result<T>) -> Result<T> {
        let deadline = Instant::now() + START_PATIENCE;
        let part = self.parts.last_mut().context("something was started")?;
        loop {
            let error = match try_it().await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if let Some(status) = part.child.try_wait()? {
                bail!("{} has ended with {status}; it said: {}", part.name, fs::read_to_string(&part.log)?);
            }
            ensure!(
                Instant::now() < deadline,
                "{} is not ready: {error:#}; see {}",
                part.name,
                part.log.display()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Stack {
    /// The edge goes before what it needs.
    fn drop(&mut self) {
        while let Some(mut part) = self.parts.pop() {
            let group = i32::try_from(part.child.id()).ok().and_then(Pid::from_raw);
            let signal = |signal| group.map(|group| kill_process_group(group, signal));
            let _ = signal(Signal::TERM);
            let deadline = Instant::now() + STOP_PATIENCE;
            while matches!(part.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(LOOK_EVERY);
            }
            let _ = signal(Signal::KILL);
            let _ = part.child.wait();
        }
    }
}

/// The body of a page that has to be there.
pub(crate) async fn get(from: SocketAddr, path: &str) -> Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {from}\r\n\r\n");
    let mut connection = Connection::new(from);
    let answer = connection.exchange(request.as_bytes()).await?;
    ensure!(answer.status == 200, "{path} was answered {}", answer.status);
    Ok(String::from_utf8_lossy(answer.body).into_owned())
}

/// A command in a process group of its own, told to end when this process does, without settings of the caller's.
fn kept(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program).stdin(Stdio::null()).process_group(0);
    for (name, _) in std::env::vars_os() {
        // Which log lines are written, and how MySQL is set up, is left to whoever measures.
        let kept = name == "TROLI_LOG" || name.to_string_lossy().starts_with("TROLI_MYSQL_");
        if name.to_string_lossy().starts_with("TROLI_") && !kept {
            command.env_remove(name);
        }
    }
    command
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}
