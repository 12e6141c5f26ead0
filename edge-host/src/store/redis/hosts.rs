//! Where the hosts of a target are, by DNS.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use redis::io::AsyncDNSResolver;
use redis::{ErrorKind, RedisError, RedisFuture};
use region_router::discovery::{Discovery, Dns};
use region_router::topology::{Target, Targets};

/// Looks hosts up for the driver, and follows each that it was asked for: whoever connects anew, because a server
/// is gone, has the newest addresses at once, and the last good ones when DNS is gone, too.
#[derive(Clone)]
pub(super) struct Hosts {
    dns: Dns,
    known: Arc<Mutex<HashMap<Target, Arc<Discovery>>>>,
}

impl Hosts {
    pub(super) fn new(dns: Dns) -> Self {
        Self { dns, known: Arc::default() }
    }

    /// Where a host is found. A name that begins as those of services do is one, and has its own ports.
    fn discovery(&self, host: &str, port: u16) -> Option<Arc<Discovery>> {
        let target: Target = if host.starts_with('_') {
            Target::Service(host.parse().ok()?)
        } else if host.contains(':') {
            Target::Endpoint(format!("[{host}]:{port}").parse().ok()?)
        } else {
            Target::Endpoint(format!("{host}:{port}").parse().ok()?)
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.entry(target.clone());
        let start = || Discovery::start(&Targets::from(vec![target]), &self.dns);
        Some(Arc::clone(found.or_insert_with(start)))
    }
}

impl AsyncDNSResolver for Hosts {
    /// Waits for the first answer, for as long as whoever connects has time.
    fn resolve<'a, 'b: 'a>(
        &'a self,
        host: &'b str,
        port: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        Box::pin(async move {
            let no_host = || RedisError::from((ErrorKind::InvalidClientConfig, "not the name of a host"));
            let addresses = self.discovery(host, port).ok_or_else(no_host)?.found().await.to_vec();
            Ok(Box::new(addresses.into_iter()) as Box<dyn Iterator<Item = SocketAddr> + Send>)
        })
    }
}
