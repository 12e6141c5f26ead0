//! Where the servers of a database are: a list of them, names in DNS, or both.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use region_router::discovery::{Discovery, Dns};
use region_router::topology::{Target, Targets};
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use tokio::time::timeout;

/// For whoever asks once and then goes on or gives up: a few attempts of a resolver.
const LOOK_UP_DEADLINE: Duration = Duration::from_secs(5);

/// The URL of a database cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("not a URL such as mysql://user:password@host:3306/troli, with more hosts after commas")]
pub struct MalformedUrl;

/// A database: each server that may be the one, all with the same user, password and schema.
///
/// A host that is a name is looked up in DNS, and all that is found behind it are servers of the database; one that
/// begins with `_` is the name of a service (RFC 2782), which has its own ports.
#[derive(Clone)]
pub struct MySqlTarget {
    hosts: Vec<Host>,
    dns: Dns,
}

#[derive(Clone)]
struct Host {
    options: MySqlConnectOptions,
    /// What is looked up; nothing for an address, and for a name that a certificate has to bear out, for the driver
    /// must know it then.
    name: Option<Target>,
}

impl MySqlTarget {
    /// The same, with its hosts looked up there in place of the system's name servers.
    pub fn with_dns(self, dns: Dns) -> Self {
        Self { dns, ..self }
    }

    /// Whether there is one host only, or one name.
    pub fn is_one(&self) -> bool {
        self.hosts.len() == 1
    }

    /// Follows its names; in a runtime.
    pub(super) fn servers(&self) -> Servers {
        let follow = |target: &Target| Discovery::start(&Targets::from(vec![target.clone()]), &self.dns);
        let hosts = self.hosts.iter().map(|host| (host.options.clone(), host.name.as_ref().map(follow)));
        Servers { hosts: hosts.collect() }
    }
}

/// Without the password.
impl fmt::Debug for MySqlTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.hosts.iter().map(|host| name_of(&host.options)).collect();
        f.debug_tuple("MySqlTarget").field(&hosts).finish()
    }
}

impl FromStr for MySqlTarget {
    type Err = MalformedUrl;

    /// Reads a URL with one host or several. It may have a password, so it stands in no message.
    fn from_str(url: &str) -> Result<Self, MalformedUrl> {
        let (start, rest) = url.rsplit_once('@').ok_or(MalformedUrl)?;
        let (hosts, database) = rest.split_once('/').ok_or(MalformedUrl)?;
        let hosts = hosts.split(',').map(|host| {
            let options: MySqlConnectOptions =
                format!("{start}@{host}/{database}").parse().map_err(|_| MalformedUrl)?;
            let complete = !host.is_empty() && options.get_database().is_some_and(|name| !name.is_empty());
            if complete { Ok(Host { name: looked_up(&options)?, options }) } else { Err(MalformedUrl) }
        });
        Ok(Self { hosts: hosts.collect::<Result<_, _>>()?, dns: Dns::system() })
    }
}

fn looked_up(options: &MySqlConnectOptions) -> Result<Option<Target>, MalformedUrl> {
    let host = options.get_host();
    if host.starts_with('_') {
        return host.parse().map(|service| Some(Target::Service(service))).map_err(|_| MalformedUrl);
    }
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if address || host == "localhost" || matches!(options.get_ssl_mode(), MySqlSslMode::VerifyIdentity) {
        return Ok(None);
    }
    name_of(options).parse().map(|endpoint| Some(Target::Endpoint(endpoint))).map_err(|_| MalformedUrl)
}

/// The servers of a target, as they are found.
pub(super) struct Servers {
    hosts: Vec<(MySqlConnectOptions, Option<Arc<Discovery>>)>,
}

impl Servers {
    /// The one that there is, where there can be no other.
    pub(super) fn only(&self) -> Option<&MySqlConnectOptions> {
        match self.hosts.as_slice() {
            [(options, None)] => Some(options),
            _ => None,
        }
    }

    /// All that are known now.
    pub(super) fn now(&self) -> Vec<MySqlConnectOptions> {
        let at = |(options, found): &(MySqlConnectOptions, Option<Arc<Discovery>>)| match found {
            None => vec![options.clone()],
            Some(found) => {
                let addresses = found.addresses();
                let at = addresses.iter().map(|address| (address.ip().to_string(), address.port()));
                at.map(|(ip, port)| options.clone().host(&ip).port(port)).collect()
            }
        };
        self.hosts.iter().flat_map(at).collect()
    }

    /// All, once every name was found; without those that are not found in time.
    pub(super) async fn found(&self) -> Vec<MySqlConnectOptions> {
        let names = self.hosts.iter().filter_map(|(_, found)| found.as_ref());
        let all = futures_util::future::join_all(names.map(|name| name.found()));
        // Whoever is left out is missed by whoever asks.
        let _ = timeout(LOOK_UP_DEADLINE, all).await;
        self.now()
    }
}

/// Host and port.
pub(super) fn name_of(options: &MySqlConnectOptions) -> String {
    format!("{}:{}", options.get_host(), options.get_port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_but_those_that_a_certificate_bears_out() {
        for (host, looked_up) in [
            ("127.0.0.1:3306", false),
            ("[::1]:3306", false),
            ("localhost", false),
            ("db.sin.cart.example", true),
            ("_mysql._tcp.sin.cart.example", true),
        ] {
            let read = |url: String| url.parse::<MySqlTarget>().expect("a good URL");
            let target = read(format!("mysql://troli:p@{host}/troli"));
            assert_eq!(target.hosts[0].name.is_some(), looked_up, "{host}");
            assert!(target.is_one());
            let verified = read(format!("mysql://troli:p@{host}/troli?ssl-mode=VERIFY_IDENTITY"));
            assert_eq!(verified.hosts[0].name.is_some(), host.starts_with('_'), "{host}");
        }
        assert!("mysql://troli:p@_mysql/troli".parse::<MySqlTarget>().is_err());
    }
}
