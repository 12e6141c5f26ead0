//! Where the servers of a database are: a list of them, names in DNS, or both.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use region_router::discovery::{Discovery, Dns};
use region_router::topology::{Target, Targets};
use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use tokio::time::timeout;

/// For whoever asks once and then goes on or gives up: a few attempts of a resolver.
const LOOK_UP_DEADLINE: Duration = Duration::from_secs(5);

/// The URL of a database cannot be used. It may have a password, so it stands in no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MySqlTargetError {
    /// Not a URL of this kind.
    #[error("not a URL such as mysql://user:password@host:3306/troli, with more hosts after commas")]
    Malformed,
    /// Nobody could prove to be who is meant.
    #[error("the servers of a service are known by address, and VERIFY_IDENTITY needs their names")]
    Nameless,
}

/// A database: each server that may be the one, all with the same user, password and schema.
///
/// A host that is a name is looked up in DNS, and all that is found behind it are servers of the database; so it is
/// with `srv:NAME`, a service, which has its own ports.
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
    type Err = MySqlTargetError;

    /// Reads a URL with one host or several.
    fn from_str(url: &str) -> Result<Self, MySqlTargetError> {
        let (start, rest) = url.rsplit_once('@').ok_or(MySqlTargetError::Malformed)?;
        let (hosts, database) = rest.split_once('/').ok_or(MySqlTargetError::Malformed)?;
        let hosts = hosts.split(',').map(|host| Host::read(start, host, database));
        Ok(Self { hosts: hosts.collect::<Result<_, _>>()?, dns: Dns::system() })
    }
}

impl Host {
    fn read(start: &str, host: &str, database: &str) -> Result<Self, MySqlTargetError> {
        let (host, service) = match host.parse() {
            Ok(Target::Service(name)) => (name.to_string(), Some(Target::Service(name))),
            _ => (host.to_owned(), None),
        };
        let options = format!("{start}@{host}/{database}").parse::<MySqlConnectOptions>();
        let options = options.map_err(|_| MySqlTargetError::Malformed)?;
        if host.is_empty() || options.get_database().is_none_or(str::is_empty) {
            return Err(MySqlTargetError::Malformed);
        }
        let verified = matches!(options.get_ssl_mode(), MySqlSslMode::VerifyIdentity);
        if verified && service.is_some() {
            return Err(MySqlTargetError::Nameless);
        }
        let host = options.get_host();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let name = if service.is_some() || address || host == "localhost" || verified {
            service
        } else {
            let endpoint = name_of(&options).parse().map_err(|_| MySqlTargetError::Malformed)?;
            Some(Target::Endpoint(endpoint))
        };
        Ok(Self { options, name })
    }
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
                let here = |at: &SocketAddr| options.clone().host(&at.ip().to_string()).port(at.port());
                found.addresses().iter().map(here).collect()
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
        let read = |host: &str, options: &str| {
            format!("mysql://troli:p@{host}/troli{options}").parse::<MySqlTarget>().map(|target| target.hosts)
        };
        for (host, looked_up) in [
            ("127.0.0.1:3306", None),
            ("[::1]:3306", None),
            ("localhost", None),
            ("db.sin.example", Some("db.sin.example:3306")),
            ("srv:_mysql._tcp.sin.example", Some("srv:_mysql._tcp.sin.example")),
        ] {
            let name = |hosts: &[Host]| hosts[0].name.as_ref().map(ToString::to_string);
            let hosts = read(host, "").expect(host);
            assert_eq!(name(&hosts).as_deref(), looked_up, "{host}");
            match read(host, "?ssl-mode=VERIFY_IDENTITY") {
                Ok(hosts) => assert_eq!(name(&hosts), None, "{host}"),
                Err(error) => {
                    assert!(host.starts_with("srv:"), "{host}");
                    assert_eq!(error, MySqlTargetError::Nameless);
                }
            }
        }
        for host in ["", "a,", "srv:_mysql", "a:b"] {
            assert!(matches!(read(host, ""), Err(MySqlTargetError::Malformed)), "{host}");
        }
    }
}
