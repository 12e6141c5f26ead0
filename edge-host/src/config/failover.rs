use super::{ConfigErrors, Reader};
use crate::store::mysql::{MySqlTarget, MySqlTargetError};

const PROMOTE_URL: &str = "TROLI_PROMOTE_URL";
const OLD_PRIMARY_URL: &str = "TROLI_OLD_PRIMARY_URL";

/// The servers of a failover.
#[derive(Clone, Debug)]
pub struct FailoverServers {
    /// Which is to become the primary.
    pub replica: MySqlTarget,
    /// The primary that was, if it may still answer.
    pub old_primary: Option<MySqlTarget>,
}

impl FailoverServers {
    /// Those of the environment.
    pub fn load(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let mut reader = Reader { lookup: &lookup, errors: Vec::new() };
        let dns = reader.dns();
        let replica = reader.required(PROMOTE_URL).and_then(|url| reader.server(PROMOTE_URL, &url));
        let old_primary = reader.text(OLD_PRIMARY_URL).and_then(|url| reader.server(OLD_PRIMARY_URL, &url));
        match replica.zip(dns) {
            Some((replica, dns)) if reader.errors.is_empty() => Ok(Self {
                replica: replica.with_dns(dns.clone()),
                old_primary: old_primary.map(|server| server.with_dns(dns)),
            }),
            _ => Err(ConfigErrors(reader.errors)),
        }
    }
}

impl Reader<'_> {
    fn server(&mut self, name: &str, url: &str) -> Option<MySqlTarget> {
        url.parse().map_or_else(|error: MySqlTargetError| self.wrong(name, &error.to_string()), Some)
    }
}
