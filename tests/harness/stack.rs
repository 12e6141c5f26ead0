use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use region_router::link::Link;
use tokio::process::Command;
use tokio::runtime::Runtime;

use crate::fleet::{HOME, any_port};
use crate::{FleetOptions, MySqlGroup, MySqlReplica, MySqlServer, RedisServer, eventually, executable};

/// What the regions of a fleet keep their data in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stack {
    /// SQLite at home, and caches in the edges' own memory.
    #[default]
    Embedded,
    /// A MySQL, and a Redis for every region, all of them the fleet's own.
    Servers,
}

/// The servers of one fleet. Between an edge and each of its servers is a link, for tests to cut.
pub(crate) struct Servers {
    pub(crate) primary: Primary,
    /// From home to the primary, or to each of those that may be it.
    pub(crate) primary_links: Vec<Link>,
    pub(crate) caches: BTreeMap<&'static str, (RedisServer, Link)>,
    pub(crate) replicas: BTreeMap<&'static str, Replica>,
}

/// What takes the writes.
pub(crate) enum Primary {
    Single(MySqlServer),
    Group(MySqlGroup),
}

/// The replica of one region.
pub(crate) struct Replica {
    pub(crate) server: MySqlReplica,
    /// From the region's edge to it.
    pub(crate) link: Link,
    /// From it to its source. Members of a group tell where they are themselves, past any link.
    pub(crate) source_link: Option<Link>,
}

impl Servers {
    /// Starts the servers and their links; the links run where the fleet runs.
    pub(crate) async fn start(options: &FleetOptions, runtime: &Runtime) -> Self {
        let primary = if options.group {
            Primary::Group(MySqlGroup::start().await)
        } else {
            Primary::Single(MySqlServer::start().await)
        };
        let addresses = primary.addresses();
        let primary_links = join_all(addresses.into_iter().map(|to| link(runtime, to, Duration::ZERO))).await;
        let mut caches = BTreeMap::new();
        for id in &options.regions {
            let redis = RedisServer::start().await;
            let link = link(runtime, redis.address(), Duration::ZERO).await;
            caches.insert(*id, (redis, link));
        }
        let with_replica = options.regions.iter().filter(|id| options.replicas && **id != HOME);
        let replicas = join_all(
            with_replica.map(async |id| (*id, Replica::start(&primary, options.rtt, runtime).await)),
        );
        let replicas = replicas.await.into_iter().collect();
        Self { primary, primary_links, caches, replicas }
    }

    /// `TROLI_DATABASE_URL` of the home region, where a replica may become the primary, too.
    pub(crate) fn database_url(&self, standby: Option<&str>) -> String {
        let mut through: Vec<SocketAddr> = self.primary_links.iter().map(Link::addr).collect();
        // It has the passwords of its source.
        through.extend(standby.map(|id| self.replicas[id].server.address()));
        match &self.primary {
            Primary::Single(mysql) => mysql.url_through_any(&through),
            Primary::Group(group) => group.url_through(&through),
        }
    }

    /// `TROLI_CACHE_URL` of a region.
    pub(crate) fn cache_url(&self, id: &str) -> String {
        let (redis, link) = &self.caches[id];
        redis.url_through(link.addr())
    }

    /// `TROLI_REPLICA_URL` of a region, when it has one.
    pub(crate) fn replica_url(&self, id: &str) -> Option<String> {
        let replica = self.replicas.get(id)?;
        Some(replica.server.url_through(replica.link.addr()))
    }

    /// Waits until the replicas have what the primary has now.
    pub(crate) async fn catch_up(&self) {
        let source = self.primary.admin_url().await;
        join_all(self.replicas.values().map(|replica| replica.server.catch_up(&source))).await;
    }
}

impl Primary {
    fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Single(mysql) => vec![mysql.address()],
            Self::Group(group) => group.addresses(),
        }
    }

    async fn admin_url(&self) -> String {
        match self {
            Self::Single(mysql) => mysql.admin_url(),
            Self::Group(group) => {
                let mut primary = None;
                eventually("the group has a primary", async || {
                    primary = group.primary().await;
                    primary.is_some()
                })
                .await;
                group.admin_url(primary.expect("it was waited for"))
            }
        }
    }
}

impl Replica {
    async fn start(primary: &Primary, rtt: Duration, runtime: &Runtime) -> Self {
        let (server, source_link) = match primary {
            Primary::Single(mysql) => {
                let source_link = link(runtime, mysql.address(), rtt).await;
                (MySqlReplica::start(mysql, source_link.addr()).await, Some(source_link))
            }
            Primary::Group(group) => (MySqlReplica::start_of_group(group).await, None),
        };
        let link = link(runtime, server.address(), Duration::ZERO).await;
        Self { server, link, source_link }
    }
}

/// Makes the tables as a deployment does: a region on servers does not do it by itself.
pub(crate) async fn migrate(settings: &HashMap<&'static str, String>) {
    let edge_host = tokio::task::spawn_blocking(|| executable("edge-host")).await;
    let mut command = Command::new(edge_host.expect("building does not panic"));
    let output = command.arg("migrate").envs(settings).kill_on_drop(true).output().await;
    let output = output.expect("the executable runs");
    assert!(output.status.success(), "the schema is not made: {output:?}");
}

async fn link(runtime: &Runtime, target: SocketAddr, rtt: Duration) -> Link {
    let link = runtime.spawn(async move { Link::start(any_port(), target, rtt).await });
    link.await.expect("starting a link does not panic").expect("a link can listen")
}
