use std::fs;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::timeout;

mod group;
mod replica;

pub use group::MySqlGroup;
pub use replica::MySqlReplica;

use crate::server::{Server, run_script};
use crate::{free_port, scratch, unique};

/// The database that every server begins with.
const DATABASE: &str = "troli";
/// How long a server is given to answer a question; one that is paused never does.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);
/// Its script.
const SCRIPT: &str = "mysql";

/// A MySQL, with the settings and the accounts of the local fleet.
#[derive(Debug)]
pub struct MySqlServer {
    server: Server,
    /// The last to go.
    directory: TempDir,
}

impl MySqlServer {
    /// Starts one of a test's own on a free port, and waits until it is ready.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with options of its own, such as `--server-id=2`.
    pub async fn start_with(options: &[&str]) -> Self {
        let options = options.iter().map(ToString::to_string).collect();
        let directory = scratch("mysql");
        copy(template().await, directory.path());
        let server = Server::new(SCRIPT, directory.path(), free_port(), options, greets);
        let mysql = Self { server, directory };
        mysql.server.start().await;
        mysql
    }

    /// The server of all tests that leave it as it is; each takes a [`fresh_database`](Self::fresh_database).
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<MySqlServer> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// How an edge reaches its first database, as `TROLI_DATABASE_URL` has it.
    pub fn url(&self) -> String {
        self.url_through(self.address())
    }

    /// How an edge reaches its first database through a link that listens at an address.
    pub fn url_through(&self, address: SocketAddr) -> String {
        self.url_through_any(&[address])
    }

    /// How an edge reaches it, or another of the same passwords in its place.
    pub(crate) fn url_through_any(&self, addresses: &[SocketAddr]) -> String {
        url_of(self.directory.path(), "troli", "password", addresses, DATABASE)
    }

    /// How root reaches it, for what only an administrator may do.
    pub fn admin_url(&self) -> String {
        self.admin_url_of("mysql")
    }

    /// The same, of a database.
    pub fn admin_url_of(&self, database: &str) -> String {
        self.url_of("root", "root-password", self.address(), database)
    }

    /// Makes another empty database, for the same user with the same rights, and returns its URL.
    pub async fn fresh_database(&self) -> String {
        let name = format!("{DATABASE}_{}", unique("test").replace('-', "_"));
        let mut admin = self.admin().await;
        execute(&mut admin, format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4")).await;
        for host in ["localhost", "127.0.0.1"] {
            let grants: Vec<String> =
                sqlx::query_scalar(AssertSqlSafe(format!("SHOW GRANTS FOR troli@'{host}'")))
                    .fetch_all(&mut admin)
                    .await
                    .expect("an administrator may see rights");
            // Those that the script gave, whichever they are.
            let first = format!(" ON `{DATABASE}`.* ");
            let given = grants.iter().find(|grant| grant.contains(&first)).expect("the user has a database");
            execute(&mut admin, given.replace(&first, &format!(" ON `{name}`.* "))).await;
        }
        admin.close().await.expect("a connection can be closed");
        self.url_of("troli", "password", self.address(), &name)
    }

    /// The password of the user `replication`.
    pub(crate) fn replication_password(&self) -> String {
        let password = fs::read_to_string(self.directory.path().join("replication-password"));
        password.expect("a server that was started has passwords")
    }

    async fn admin(&self) -> MySqlConnection {
        MySqlConnection::connect(&self.admin_url()).await.expect("root may come in from this machine")
    }

    fn url_of(&self, user: &str, password_file: &str, address: SocketAddr, database: &str) -> String {
        url_of(self.directory.path(), user, password_file, &[address], database)
    }
}

/// The URL of servers with these passwords.
fn url_of(
    directory: &Path,
    user: &str,
    password_file: &str,
    addresses: &[SocketAddr],
    database: &str,
) -> String {
    let password = fs::read_to_string(directory.join(password_file));
    let password = password.expect("a server that was started has passwords");
    let hosts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    format!("mysql://{user}:{password}@{}/{database}", hosts.join(","))
}

/// The memory for data of a server that is one of many.
const SMALL: &str = "--innodb-buffer-pool-size=32M";

/// What one server says, or nothing when it does not answer.
async fn ask(admin_url: &str, question: &'static str) -> Option<String> {
    let asking = async {
        let mut connection = MySqlConnection::connect(admin_url).await?;
        sqlx::query_scalar(question).fetch_one(&mut connection).await
    };
    timeout(ANSWER_PATIENCE, asking).await.ok()?.ok()
}

impl Deref for MySqlServer {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

async fn execute(connection: &mut MySqlConnection, statement: String) {
    let done = sqlx::raw_sql(AssertSqlSafe(statement.clone())).execute(connection).await;
    done.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// It takes connections before it serves them; then it speaks first.
fn greets(address: SocketAddr) -> BoxFuture<'static, bool> {
    let greeted = async move {
        let mut stream = TcpStream::connect(address).await?;
        stream.read_u8().await
    };
    greeted.map(|greeted| greeted.is_ok()).boxed()
}

/// What every server begins with. Making it takes seconds, so a run of the tests makes it once.
async fn template() -> &'static Path {
    static TEMPLATE: OnceCell<TempDir> = OnceCell::const_new();
    let made = TEMPLATE.get_or_init(async || {
        let directory = scratch("mysql-template");
        run_script(SCRIPT, &[Path::new("--initialise"), directory.path()]).await;
        // Two servers of one identity would be taken for one.
        fs::remove_file(directory.path().join("data/auto.cnf"))
            .expect("a server that was made has an identity");
        directory
    });
    made.await.path()
}

fn copy(from: &Path, to: &Path) {
    let status =
        Command::new("cp").args(["--archive", "--reflink=auto", "--"]).arg(from.join(".")).arg(to).status();
    assert!(status.is_ok_and(|status| status.success()), "{} cannot be copied", from.display());
}
