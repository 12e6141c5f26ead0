//! Which Redis: a URL, and the certificates to trust.

use std::fmt;
use std::time::Duration;

use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::io::tcp::TcpSettings;
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisError, TlsCertificates,
};
use region_router::discovery::Dns;

use super::hosts::Hosts;

/// A command that has not been answered by then is given up: a region's Redis answers within a millisecond, and
/// the home region answers a read within this time too.
pub(super) const COMMAND_DEADLINE: Duration = Duration::from_millis(100);
/// To connect takes a few round trips, with TLS some more, and a name look-up.
pub(super) const CONNECT_DEADLINE: Duration = Duration::from_millis(500);
/// A command may be sent to the wrong node of a cluster once, to a moving slot twice; more is trouble. All of it
/// within one deadline, and any command of ours may run twice.
const CLUSTER_TRIES_MAX: u32 = 3;
/// Between two tries, in milliseconds.
const CLUSTER_TRY_PAUSE_MS: (u64, u64) = (5, 20);

/// What the place of a host begins with when it is the name of a service (SRV), which has its own ports.
const SERVICE_PREFIX: &str = "srv:";

/// A Redis server or cluster to connect to. It does not show its password.
#[derive(Clone)]
pub struct RedisTarget {
    pub(super) client: AnyClient,
    pub(super) hosts: Hosts,
    shown: String,
}

#[derive(Clone)]
pub(super) enum AnyClient {
    One(Box<Client>),
    Cluster(Box<ClusterClient>),
}

/// What is wrong with a target.
#[derive(Debug, thiserror::Error)]
pub enum RedisTargetError {
    /// Another protocol.
    #[error("must be memory: or start with redis://, rediss://, redis+cluster:// or rediss+cluster://")]
    Scheme,
    /// Not a URL of a Redis server.
    #[error("cannot be read; one such as redis://user:password@host:6379/0 is expected")]
    Malformed,
    /// A cluster has one database only.
    #[error("a cluster has no databases: leave out what comes after the addresses")]
    ClusterDatabase,
    /// Certificates for a connection that needs none.
    #[error("certificates are for rediss:// and rediss+cluster:// only")]
    NotTls,
    /// Nothing could ever be trusted.
    #[error("no certificate can be read from the file")]
    Certificates,
    /// The driver does not take it.
    #[error("not usable: {0}")]
    Refused(&'static str),
}

impl RedisTargetError {
    /// Whether the certificates are at fault, and not the URL.
    pub const fn is_of_certificates(&self) -> bool {
        matches!(self, Self::NotTls | Self::Certificates)
    }
}

impl RedisTarget {
    /// Reads a URL. `ca_pem` is trusted instead of the system's certificates. Nothing is connected yet.
    pub fn new(url: &str, ca_pem: Option<&str>) -> Result<Self, RedisTargetError> {
        let (scheme, rest) = url.split_once("://").ok_or(RedisTargetError::Scheme)?;
        let (scheme, cluster) = match scheme {
            "redis" | "rediss" => (scheme, false),
            "redis+cluster" => ("redis", true),
            "rediss+cluster" => ("rediss", true),
            _ => return Err(RedisTargetError::Scheme),
        };
        if ca_pem.is_some() && scheme != "rediss" {
            return Err(RedisTargetError::NotTls);
        }
        if ca_pem.is_some_and(|pem| !pem.contains("-----BEGIN CERTIFICATE-----")) {
            return Err(RedisTargetError::Certificates);
        }
        let root_cert = ca_pem.map(|pem| pem.as_bytes().to_vec());
        let certificates = root_cert.map(|pem| TlsCertificates { client_tls: None, root_cert: Some(pem) });
        let (user, addresses) = match rest.rsplit_once('@') {
            Some((user, addresses)) => (format!("{user}@"), addresses),
            None => (String::new(), rest),
        };
        let shown = format!("{scheme}://{addresses}");
        let hosts = Hosts::new(Dns::system());
        if !cluster {
            // A service is known by its underscores from here on.
            let addresses = addresses.strip_prefix(SERVICE_PREFIX).unwrap_or(addresses);
            let node = node(&format!("{scheme}://{user}{addresses}"))?;
            // The older protocol has no words but answers.
            let settings = node.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
            let node = node.set_redis_settings(settings);
            let client = match certificates {
                Some(certificates) => {
                    Client::build_with_tls(node, certificates).map_err(|_| RedisTargetError::Certificates)?
                }
                None => Client::open(node).map_err(|error| refused(&error))?,
            };
            return Ok(Self { client: AnyClient::One(Box::new(client)), hosts, shown });
        }
        let addresses = addresses.trim_end_matches('/');
        if addresses.contains(['/', '?', '#']) {
            return Err(RedisTargetError::ClusterDatabase);
        }
        let addresses =
            addresses.split(',').map(|address| address.strip_prefix(SERVICE_PREFIX).unwrap_or(address));
        let nodes = addresses.map(|address| node(&format!("{scheme}://{user}{address}")));
        let mut builder = ClusterClientBuilder::new(nodes.collect::<Result<Vec<_>, _>>()?)
            .tcp_settings(tcp_settings())
            .connection_timeout(CONNECT_DEADLINE)
            .response_timeout(COMMAND_DEADLINE)
            .overall_response_timeout(Some(COMMAND_DEADLINE))
            .retries(CLUSTER_TRIES_MAX)
            .min_retry_wait(CLUSTER_TRY_PAUSE_MS.0)
            .max_retry_wait(CLUSTER_TRY_PAUSE_MS.1);
        if let Some(certificates) = certificates {
            builder = builder.certs(certificates);
        }
        let client = builder.build().map_err(|error| match ca_pem {
            Some(_) => RedisTargetError::Certificates,
            None => refused(&error),
        })?;
        Ok(Self { client: AnyClient::Cluster(Box::new(client)), hosts, shown })
    }

    /// The same, with its hosts looked up there in place of the system's name servers.
    #[must_use]
    pub fn with_dns(self, dns: Dns) -> Self {
        Self { hosts: Hosts::new(dns), ..self }
    }
}

impl fmt::Debug for RedisTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisTarget").field(&self.shown).finish()
    }
}

impl fmt::Display for RedisTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

fn node(url: &str) -> Result<ConnectionInfo, RedisTargetError> {
    let node = url.into_connection_info().map_err(|_| RedisTargetError::Malformed)?;
    // `#insecure` would trust anybody.
    if matches!(node.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
        return Err(RedisTargetError::Malformed);
    }
    Ok(node.set_tcp_settings(tcp_settings()))
}

/// The driver's default waits for more to send.
fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// The category only: the details could repeat what was typed in, a password among it.
fn refused(error: &RedisError) -> RedisTargetError {
    match error.kind() {
        redis::ErrorKind::InvalidClientConfig => {
            RedisTargetError::Refused("the addresses contradict each other")
        }
        _ => RedisTargetError::Refused("the driver does not take it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_clusters_are_told_apart_and_show_no_password() {
        for url in [
            "redis://localhost",
            "redis://user:s3cret@srv:_redis._tcp.sin.example/2",
            "redis+cluster://srv:_redis._tcp.a.example,b:2",
            "redis://:s3cret@localhost:6379/2",
            "rediss://user:s3cret@cache.example.com",
            "redis+cluster://user:s3cret@a:1,b:2,c:3",
            "rediss+cluster://a:1/",
        ] {
            let target = RedisTarget::new(url, None).expect(url);
            let cluster = matches!(target.client, AnyClient::Cluster(_));
            assert_eq!(cluster, url.contains("cluster:"), "{url}");
            assert!(!format!("{target:?} {target}").contains("s3cret"), "{url}");
        }
    }

    #[test]
    fn mistakes_are_found_before_anything_is_connected() {
        for url in [
            "",
            "localhost:6379",
            "http://localhost",
            "unix:///tmp/redis",
            "redis://",
            "redis://localhost:port",
            "redis://localhost/s3cret",
            "rediss://s3cret@localhost#insecure",
            "redis+cluster://a:1/3",
            "redis+cluster://s3cret@a:1,,b:2",
            "redis+cluster://",
        ] {
            let error = RedisTarget::new(url, None).expect_err(url);
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
        assert!(matches!(RedisTarget::new("redis://a", Some("")), Err(RedisTargetError::NotTls)));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (url, pem) in
            [("rediss://a", "nothing"), ("rediss://a", broken), ("rediss+cluster://a:1", broken)]
        {
            assert!(matches!(RedisTarget::new(url, Some(pem)), Err(RedisTargetError::Certificates)), "{url}");
        }
    }
}
