use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// For a server to answer. Name servers are in the same building, or their answer is cached there.
const ANSWER_DEADLINE: Duration = Duration::from_millis(500);

/// Once more, when there was no answer: a datagram may be lost.
const ATTEMPTS_AFTER_THE_FIRST: usize = 1;

/// Who is asked about names: the system's name servers, or some of one's own.
///
/// Cheap to clone, and opens no socket before the first look-up.
#[derive(Clone, Default)]
pub struct Dns {
    /// Empty: the system's.
    servers: Arc<[SocketAddr]>,
    resolver: Arc<OnceLock<Result<TokioResolver, String>>>,
}

impl Dns {
    /// The system's name servers and its hosts file.
    pub fn system() -> Self {
        Self::default()
    }

    /// These name servers; the system's when there is none.
    pub fn servers(servers: impl Into<Arc<[SocketAddr]>>) -> Self {
        Self { servers: servers.into(), resolver: Arc::default() }
    }

    /// What asks them; an error when the system's configuration cannot be read.
    pub(super) fn resolver(&self) -> Result<&TokioResolver, String> {
        self.resolver.get_or_init(|| self.build()).as_ref().map_err(Clone::clone)
    }

    fn build(&self) -> Result<TokioResolver, String> {
        let runtime = TokioRuntimeProvider::default();
        let mut builder = if self.servers.is_empty() {
            TokioResolver::builder(runtime).map_err(|error| error.to_string())?
        } else {
            let servers = self.servers.iter().map(|server| name_server(*server)).collect();
            let config = ResolverConfig::from_parts(None, Vec::new(), servers);
            TokioResolver::builder_with_config(config, runtime)
        };
        configure(builder.options_mut());
        builder.build().map_err(|error| error.to_string())
    }
}

fn configure(options: &mut ResolverOpts) {
    options.timeout = ANSWER_DEADLINE;
    options.attempts = ATTEMPTS_AFTER_THE_FIRST;
    // Discovery itself keeps answers, and no longer than it says.
    options.cache_size = 0;
    options.ip_strategy = hickory_resolver::config::LookupIpStrategy::Ipv4AndIpv6;
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    NameServerConfig::new(server.ip(), true, connections.into())
}

/// `ip:port,…`; the port may be left out where it is 53. Nothing means the system's.
impl FromStr for Dns {
    type Err = DnsServersMalformed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let server = |part: &str| {
            let bare = || part.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
            let malformed = |_| DnsServersMalformed { text: part.to_owned() };
            part.parse::<SocketAddr>().or_else(|_| bare()).map_err(malformed)
        };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        Ok(Self::servers(parts.map(server).collect::<Result<Vec<_>, _>>()?))
    }
}

/// Where name servers listen (RFC 1035 §4.2).
const DNS_PORT: u16 = 53;

impl fmt::Debug for Dns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.servers.is_empty() { f.write_str("system") } else { self.servers.fmt(f) }
    }
}

/// The text does not name DNS servers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the address of a DNS server, for example 127.0.0.1:8053")]
pub struct DnsServersMalformed {
    /// What was given.
    pub text: String,
}
