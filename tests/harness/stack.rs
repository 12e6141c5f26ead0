use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use futures_util::future::join_all;
use region_router::link::Link;
use tokio::process::Command;
use tokio::runtime::Runtime;

use crate::fleet::any_port;
use crate::{MySqlReplica, MySqlServer, RedisServer, executable};

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
    pub(crate) mysql: MySqlServer,
    pub(crate) mysql_link: Link,
    pub(crate) caches: BTreeMap<&'static str, (RedisServer, Link)>,
    pub(crate) replicas: BTreeMap<&'static str, Replica>,
}

/// The replica of a region.
pub(crate) struct Replica {
    pub(crate) server: MySqlReplica,
    /// From the region's edge to it.
    pub(crate) link: Link,
    /// From it to its source.
    pub(crate) source_link: Link,
}

impl Servers {
    /// Starts the servers and their links; the links run where the fleet runs.
    pub(crate) async fn start(regions: &[&'static str], runtime: &Runtime) -> Self {
        let mysql = MySqlServer::start().await;
        let mysql_link = link(runtime, mysql.address()).await;
        let mut caches = BTreeMap::new();
        for id in regions {
            let redis = RedisServer::start().await;
            let link = link(runtime, redis.address()).await;
            caches.insert(*id, (redis, link));
        }
        Self { mysql, mysql_link, caches, replicas: BTreeMap::new() }
    }

    /// Starts a replica for each of these regions.
    pub(crate) async fn start_replicas(&mut self, regions: &[&'static str], runtime: &Runtime) {
        let source = &self.mysql;
        let started = regions.iter().map(async |id| {
            let source_link = link(runtime, source.address()).await;
            let server = MySqlReplica::start(source, source_link.addr()).await;
            let link = link(runtime, server.address()).await;
            (*id, Replica { server, link, source_link })
        });
        self.replicas = join_all(started).await.into_iter().collect();
    }

    /// `TROLI_DATABASE_URL` of the home region, where a replica may become the primary, too.
    pub(crate) fn database_url(&self, standby: Option<&str>) -> String {
        let url = self.mysql.url_through(self.mysql_link.addr());
        let Some(standby) = standby else { return url };
        // All servers of the tests have the same passwords.
        let (primary, database) = url.rsplit_once('/').expect("a URL has a database");
        format!("{primary},{}/{database}", self.replicas[standby].server.address())
    }

    /// `TROLI_REPLICA_URL` of a region that has one.
    pub(crate) fn replica_url(&self, id: &str) -> Option<String> {
        self.replicas.get(id).map(|replica| replica.server.url_through(replica.link.addr()))
    }

    /// `TROLI_CACHE_URL` of a region.
    pub(crate) fn cache_url(&self, id: &str) -> String {
        let (redis, link) = &self.caches[id];
        redis.url_through(link.addr())
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

async fn link(runtime: &Runtime, target: std::net::SocketAddr) -> Link {
    let link = runtime.spawn(async move { Link::start(any_port(), target, Duration::ZERO).await });
    link.await.expect("starting a link does not panic").expect("a link can listen")
}
