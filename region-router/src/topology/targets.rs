use std::fmt;
use std::str::FromStr;

use super::{Endpoint, EndpointMalformed};

/// What a target begins with that is looked up as a service.
const SERVICE_PREFIX: &str = "srv:";

/// The longest name in DNS, as text without its final dot (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// Where something may be found: addresses, names to look up, or services to look up.
///
/// Written as `host:port[,host:port…]`, where a host that is a name is looked up in DNS (A and AAAA), or as
/// `srv:NAME`, which is looked up as a service (SRV, then A and AAAA of what it names). Both may be mixed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Targets {
    targets: Vec<Target>,
}

/// One of the places where something may be found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// `host:port`.
    Endpoint(Endpoint),
    /// `srv:NAME`.
    Service(ServiceName),
}

/// The name of a service in DNS (RFC 2782), for example `_http._tcp.sin.cart.example`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceName {
    name: String,
}

impl Targets {
    /// All of them, in the order given.
    pub fn iter(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter()
    }

    /// Whether there is none. What was read from text has at least one.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// The first `host:port`; nothing where only services are named.
    pub fn first(&self) -> Option<&Endpoint> {
        self.targets.iter().find_map(|target| match target {
            Target::Endpoint(endpoint) => Some(endpoint),
            Target::Service(_) => None,
        })
    }
}

impl From<Vec<Target>> for Targets {
    fn from(targets: Vec<Target>) -> Self {
        Self { targets }
    }
}

impl From<Endpoint> for Targets {
    fn from(endpoint: Endpoint) -> Self {
        Self { targets: vec![Target::Endpoint(endpoint)] }
    }
}

impl FromStr for Targets {
    type Err = TargetMalformed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let targets = text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>()?;
        Ok(Self { targets })
    }
}

impl FromStr for Target {
    type Err = TargetMalformed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(SERVICE_PREFIX) {
            Some(name) => Ok(Self::Service(name.parse()?)),
            None => Ok(Self::Endpoint(text.parse()?)),
        }
    }
}

impl FromStr for ServiceName {
    type Err = TargetMalformed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let label_known = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        // `_service._protocol.` and at least one label more.
        let labels: Vec<&str> = name.split('.').collect();
        let well_formed = name.len() <= NAME_BYTES_MAX
            && labels.len() >= 3
            && labels.iter().all(|label| label_known(label))
            && labels[..2].iter().all(|label| label.starts_with('_'));
        if well_formed {
            Ok(Self { name: name.to_owned() })
        } else {
            Err(TargetMalformed::Service { text: text.to_owned() })
        }
    }
}

impl ServiceName {
    /// The name, without a final dot.
    pub fn as_str(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(endpoint) => endpoint.fmt(f),
            Self::Service(name) => write!(f, "{SERVICE_PREFIX}{name}"),
        }
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, target) in self.targets.iter().enumerate() {
            let separator = if n == 0 { "" } else { "," };
            write!(f, "{separator}{target}")?;
        }
        Ok(())
    }
}

/// The text does not say where to look.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetMalformed {
    /// It is not `host:port`.
    #[error(transparent)]
    Endpoint(#[from] EndpointMalformed),
    /// It is not the name of a service.
    #[error("`{text}` is not the name of a service, for example _http._tcp.sin.cart.example")]
    Service {
        /// What was given.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_names_and_services_are_read_and_written() {
        for good in [
            "127.0.0.1:8101",
            "edge.sin.example:443,[::1]:8101",
            "srv:_http._tcp.sin.cart.example",
            "srv:_http._tcp.sin.cart.example,127.0.0.1:8101",
        ] {
            assert_eq!(good.parse::<Targets>().expect("targets").to_string(), good);
        }
        let spaced: Targets = "a:1, srv:_b._tcp.c.".parse().expect("targets");
        assert_eq!(spaced.to_string(), "a:1,srv:_b._tcp.c");
        assert_eq!(spaced.first().map(Endpoint::as_str), Some("a:1"));
    }

    #[test]
    fn mistakes_say_what_was_expected() {
        let wrong = |text: &str| text.parse::<Targets>().expect_err(text).to_string();
        assert_eq!(wrong(""), "`` is not host:port, for example 127.0.0.1:8101");
        assert_eq!(wrong("a:1,"), "`` is not host:port, for example 127.0.0.1:8101");
        for bad in ["", "_http._tcp", "http._tcp.a", "_http.tcp.a", "_http._tcp..a", "_http._tcp.a b"] {
            let expected =
                format!("`{bad}` is not the name of a service, for example _http._tcp.sin.cart.example");
            assert_eq!(wrong(&format!("srv:{bad}")), expected);
        }
    }
}
