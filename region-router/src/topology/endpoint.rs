use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// Where something listens: `host:port`, the host an IPv4 address, a bracketed IPv6 address or a DNS name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    authority: String,
}

impl Endpoint {
    /// `host:port`, ready for a URI or for a look-up.
    pub fn as_str(&self) -> &str {
        &self.authority
    }
}

impl FromStr for Endpoint {
    type Err = EndpointMalformed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || EndpointMalformed { text: text.to_owned() };
        let (host, port) = text.rsplit_once(':').ok_or_else(malformed)?;
        let port_known = port.parse::<u16>().is_ok_and(|port| port != 0) && !port.starts_with('+');
        if port_known && host_known(host) {
            Ok(Self { authority: text.to_owned() })
        } else {
            Err(malformed())
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self { authority: address.to_string() }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.authority)
    }
}

/// The text is not `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not host:port, for example 127.0.0.1:8101")]
pub struct EndpointMalformed {
    /// What was given.
    pub text: String,
}

/// A bracketed IPv6 address, or a host name by RFC 1123 §2.1 (which IPv4 addresses are, too).
fn host_known(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().is_ok();
    }
    let label_known = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    host.len() <= 253 && host.split('.').all(label_known)
}
