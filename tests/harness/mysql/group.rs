use std::net::SocketAddr;
use std::path::Path;

use futures_util::future::join_all;
use tempfile::TempDir;

use super::{DATABASE, SMALL, ask, copy, greets, template, url_of};
use crate::server::Server;
use crate::{eventually, free_port, scratch};

const SCRIPT: &str = "mysql-member";
/// Three can lose one.
const MEMBERS: usize = 3;
/// Whether a server is the primary, as the group sees it.
const IS_PRIMARY: &str = "SELECT CAST(COUNT(*) AS CHAR) FROM performance_schema.replication_group_members \
                          WHERE member_id = @@server_uuid AND member_role = 'PRIMARY' \
                          AND member_state = 'ONLINE' AND NOT @@super_read_only";
/// How many members serve, as one of them sees it.
const MEMBERS_ONLINE: &str = "SELECT CAST(COUNT(*) AS CHAR) FROM performance_schema.replication_group_members \
                              WHERE member_state = 'ONLINE'";

/// A group of three MySQLs that elects its primary. Members are called by their place, from 0.
#[derive(Debug)]
pub struct MySqlGroup {
    members: Vec<Server>,
    /// The last to go.
    directory: TempDir,
}

impl MySqlGroup {
    /// Starts one on free ports, and waits until it is whole.
    pub async fn start() -> Self {
        let directory = scratch("mysql-group");
        copy(template().await, directory.path());
        let ports: Vec<u16> = (0..MEMBERS).map(|_| free_port()).collect();
        let member = |port: &u16| {
            let others = ports.iter().filter(|other| *other != port).map(ToString::to_string);
            let options = others.chain([SMALL.to_owned()]).collect();
            Server::new(SCRIPT, directory.path(), *port, options, greets)
        };
        let group = Self { members: ports.iter().map(member).collect(), directory };
        join_all(group.members.iter().map(Server::start)).await;
        group.becomes_whole().await;
        group
    }

    /// Waits until all members are in the group.
    pub async fn becomes_whole(&self) {
        eventually("the group is whole", async || self.is_whole().await).await;
    }

    /// Whether there is a primary, and all members serve.
    pub async fn is_whole(&self) -> bool {
        let all = MEMBERS.to_string();
        let whole = join_all((0..MEMBERS).map(async |member| {
            ask(&self.admin_url(member), MEMBERS_ONLINE).await.is_some_and(|online| online == all)
        }));
        whole.await.into_iter().all(|whole| whole) && self.primary().await.is_some()
    }

    /// The member that takes writes, when there is one.
    pub async fn primary(&self) -> Option<usize> {
        let answers = join_all((0..MEMBERS).map(async |member| {
            ask(&self.admin_url(member), IS_PRIMARY).await.is_some_and(|count| count == "1")
        }));
        answers.await.into_iter().position(|is_primary| is_primary)
    }

    /// How an edge reaches its members, as `TROLI_DATABASE_URL` has it.
    pub fn url(&self) -> String {
        self.url_through(&self.addresses())
    }

    /// How an edge reaches its members through links that listen at these addresses.
    pub fn url_through(&self, addresses: &[SocketAddr]) -> String {
        url_of(self.directory.path(), "troli", "password", addresses, DATABASE)
    }

    /// How root reaches a member.
    pub fn admin_url(&self, member: usize) -> String {
        url_of(self.directory.path(), "root", "root-password", &[self.members[member].address()], "mysql")
    }

    /// Where the members listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(Server::address).collect()
    }

    /// A member, to be killed, paused and started again. It joins the group by itself.
    pub fn member(&self, member: usize) -> &Server {
        &self.members[member]
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }
}
