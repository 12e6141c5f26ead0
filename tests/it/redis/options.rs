//! Passwords, TLS, and a cluster.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use edge_host::store::StoreError;
use edge_host::store::redis::{RedisCache, RedisTarget};
use harness::{eventually, free_port, repository, scratch};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use redis::{Client, FromRedisValue, cmd};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::{Cache, begun, held, put, version};
use crate::store_contract::cache as contract;

/// A Redis with options of its own, on a free port.
struct Node {
    address: SocketAddr,
    child: Child,
    _directory: TempDir,
}

impl Node {
    async fn start(options: &[&str]) -> Self {
        Self::start_in(scratch("redis"), "--port", options).await
    }

    async fn start_in(directory: TempDir, port_option: &str, options: &[&str]) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let port = address.port().to_string();
        // The script knows where the server is; the last of two options counts.
        let mut command = Command::new(repository().join("deploy/servers/redis"));
        command.arg(directory.path()).arg(&port).args(["--requirepass", "", "--logfile", "redis.log"]);
        if port_option != "--port" {
            command.args(["--port", "0", port_option, &port]);
        }
        command.args(options);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child = child.expect("the script runs");
        eventually("redis-server listens", async || TcpStream::connect(address).await.is_ok()).await;
        Self { address, child, _directory: directory }
    }

    async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let client = Client::open(format!("redis://{}", self.address)).expect("a good URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("the node runs");
        cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.expect("the node does it")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Unless it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cache(url: &str, ca_pem: Option<&str>) -> Cache {
    RedisCache::new(RedisTarget::new(url, ca_pem).expect("a good URL"))
}

#[tokio::test]
async fn a_password_opens() {
    let node = Node::start(&["--requirepass", "s3cret/%"]).await;
    for user in ["", "default"] {
        let url = format!("redis://{user}:s3cret%2F%25@{}/3", node.address);
        let cache = begun(cache(&url, None)).await;
        put(&cache, 5).await.expect("put in");
        assert_eq!(held(&cache).await, Some((5, true)));
    }
    for wrong in ["", ":wrong@", "nobody:s3cret%2F%25@"] {
        let cache = cache(&format!("redis://{wrong}{}", node.address), None);
        for _ in 0..10 {
            let refused = cache.feed_position().await;
            assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{wrong}: {refused:?}");
        }
    }
}

#[tokio::test]
async fn tls_proves_who_answers() {
    let directory = scratch("redis");
    let ca_pem = certificates(directory.path());
    let (_, other_ca_pem) = certificate_authority();
    let options = ["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem", "--tls-auth-clients", "no"];
    let node = Node::start_in(directory, "--tls-port", &options).await;
    let url = format!("rediss://{}", node.address);
    let cache_with_ca = begun(cache(&url, Some(&ca_pem))).await;
    put(&cache_with_ca, 5).await.expect("put in");
    assert_eq!(held(&cache_with_ca).await, Some((5, true)));
    // Somebody else's authority; the system's; no TLS at all.
    for stranger in [
        cache(&url, Some(&other_ca_pem)),
        cache(&url, None),
        cache(&format!("redis://{}", node.address), None),
    ] {
        let refused = stranger.feed_position().await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
    // Trusted, but with another name.
    let renamed = cache(&format!("rediss://localhost:{}", node.address.port()), Some(&ca_pem));
    assert!(matches!(renamed.feed_position().await, Err(StoreError::Unavailable(_))));
}

/// Writes a server's certificate and key; returns the authority that vouches for it.
fn certificates(directory: &Path) -> String {
    let (issuer, ca_pem) = certificate_authority();
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    std::fs::write(directory.join("cert.pem"), certificate.pem()).expect("the directory can be written to");
    std::fs::write(directory.join("key.pem"), key.serialize_pem()).expect("the directory can be written to");
    ca_pem
}

fn certificate_authority() -> (Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).expect("a certificate").pem();
    (Issuer::new(params, key), pem)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_serves_as_one_server_does() {
    let nodes = cluster().await;
    let addresses: Vec<String> = nodes.iter().map(|node| node.address.to_string()).collect();
    let cache = begun(cache(&format!("redis+cluster://{}", addresses.join(",")), None)).await;
    // Every behaviour begins anew; a script is sent again to every node that has not seen it.
    contract::what_was_put_in_comes_out(begun(cache.clone()).await).await;
    contract::no_entry_is_replaced_by_an_older_one(begun(cache.clone()).await).await;
    contract::a_floor_keeps_older_carts_out(begun(cache.clone()).await).await;
    contract::a_document_goes_with_its_version(begun(cache.clone()).await).await;
    contract::a_ticket_ends_when_its_entry_is_forgotten(begun(cache.clone()).await).await;
    contract::who_came_back_from_the_past_is_told_so(begun(cache.clone()).await).await;
    contract::many_floors_are_put_in_at_once(begun(cache.clone()).await).await;
    for node in &nodes {
        let carts: u64 = node.ask(&["DBSIZE"]).await;
        assert!(carts > 300, "{carts} of 1500 carts are at one of three nodes");
    }
    // A node's address is enough to find the others.
    let found = super::cache(&format!("redis+cluster://{}", addresses[2]));
    assert!(found.feed_position().await.expect("an answer").is_some());
    assert_eq!(
        found.glance("c_77", None).await.expect("an answer").map(|glance| glance.version),
        Some(version(77))
    );
}

/// Three nodes that know each other and share the slots.
async fn cluster() -> Vec<Node> {
    let mut nodes = Vec::new();
    for (first, last) in [("0", "5460"), ("5461", "10922"), ("10923", "16383")] {
        // Its bus takes the port that is 10 000 higher, unless it is told.
        let bus = free_port().to_string();
        let node = Node::start(&["--cluster-enabled", "yes", "--cluster-port", &bus]).await;
        let () = node.ask(&["CLUSTER", "ADDSLOTSRANGE", first, last]).await;
        nodes.push((node, bus));
    }
    let (first, _) = &nodes[0];
    for (node, bus) in &nodes[1..] {
        let port = node.address.port().to_string();
        let () = first.ask(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]).await;
    }
    for (node, _) in &nodes {
        eventually("the nodes of the cluster know each other", async || {
            let info: String = node.ask(&["CLUSTER", "INFO"]).await;
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        })
        .await;
    }
    nodes.into_iter().map(|(node, _)| node).collect()
}
