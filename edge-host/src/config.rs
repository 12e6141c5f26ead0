//! What differs from one edge to the next, from `TROLI_…` variables. Read once, before any port is bound;
//! every mistake is reported at once.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use cart_core::Currency;
use ipnet::IpNet;
use region_router::cors::Origin;
use region_router::discovery::{Dns, DnsServersMalformed};
use region_router::topology::{RegionId, Targets, Topology};

use crate::peers::{PeerFile, PeerFiles, PeerTls};
use crate::store::mysql::MySqlTarget;
use crate::store::redis::RedisTarget;

pub use failover::FailoverServers;
pub use secrets::{GuestSecrets, Issuer, KeySetFile, Secret, UserKeys};

/// What only the operator's commands have to know.
mod failover;

/// What the environment says beside the settings.
pub mod environment;

mod secrets;

/// A setting: its variable, its default, and what it means. `--help` shows this table.
pub struct Setting {
    /// Environment variable.
    pub name: &'static str,
    /// The value it has when it is not set; `None` when there is none.
    pub default: Option<&'static str>,
    /// What it means.
    pub help: &'static str,
}

macro_rules! settings {
    ($($konst:ident = $name:literal, $default:expr, $help:literal;)*) => {
        $(const $konst: &str = $name;)*
        /// Every setting there is.
        pub const SETTINGS: &[Setting] = &[$(Setting { name: $name, default: $default, help: $help }),*];
    };
}

settings! {
    REGION = "TROLI_REGION", None, "the region this edge serves, such as sin; required";
    TOPOLOGY = "TROLI_TOPOLOGY", Some("deploy/topology.toml"), "the file that names all regions";
    REGIONS = "TROLI_REGIONS", None, "only these regions of the file, such as sin,jkt,bkk";
    LISTEN = "TROLI_LISTEN", None, "address of the public API; default: the region's in the topology";
    INTERNAL_LISTEN = "TROLI_INTERNAL_LISTEN", None, "address of the internal listener; default: the region's in the topology";
    DATABASE_URL = "TROLI_DATABASE_URL", None, "the primary, in the home region only: mysql://USER:PASSWORD@HOST/DATABASE, with all hosts that may be the primary after commas, or names that lead to them (srv:NAME for a service of DNS), or sqlite:PATH for one machine";
    DATABASE_URL_FILE = "TROLI_DATABASE_URL_FILE", None, "file with that URL, in place of it";
    REPLICA_URL = "TROLI_REPLICA_URL", None, "the region's replica of the primary, if it has one: mysql://USER:PASSWORD@HOST/DATABASE, where HOST may be srv:NAME, too";
    REPLICA_URL_FILE = "TROLI_REPLICA_URL_FILE", None, "file with that URL, in place of it";
    CACHE_URL = "TROLI_CACHE_URL", Some("memory:"), "the regional cache: memory:, redis://[user:password@]host:port[/db], rediss:// with TLS, redis+cluster://host:port,host:port or rediss+cluster://; srv:NAME in place of host:port is a service of DNS";
    CACHE_URL_FILE = "TROLI_CACHE_URL_FILE", None, "file with that URL, in place of it";
    CACHE_CA_FILE = "TROLI_CACHE_CA_FILE", None, "certificates that the cache's is verified by; default: the system's";
    PEER_LISTEN = "TROLI_PEER_LISTEN", None, "address of the listener for other regions; default: the region's in the topology";
    PEER_CERT_FILE = "TROLI_PEER_CERT_FILE", None, "this region's certificate between regions (PEM), for REGION.troli.internal, as client and as server; required";
    PEER_KEY_FILE = "TROLI_PEER_KEY_FILE", None, "the private key of that certificate (PEM); required";
    PEER_CA_FILE = "TROLI_PEER_CA_FILE", None, "the private CA of all regions' certificates (PEM); required";
    HOME_PEERS = "TROLI_HOME_PEERS", None, "peer listeners of the home edges, elsewhere: host:port,host:port or srv:NAME; default: the home region's in the topology";
    ADMIN_TOKEN_FILE = "TROLI_ADMIN_TOKEN_FILE", None, "file with the admin token; without it the admin routes are closed";
    GUEST_SECRET_FILE = "TROLI_GUEST_SECRET_FILE", None, "file with the secret that signs guest tokens, the same in all regions; required";
    GUEST_SECRET_PREVIOUS_FILE = "TROLI_GUEST_SECRET_PREVIOUS_FILE", None, "file with the secret that signed guest tokens before, whose tokens are still taken; for 30 days after a change";
    JWKS_FILE = "TROLI_JWKS_FILE", None, "JSON Web Key Set that user tokens are verified by; read again when it changes";
    JWT_HS256_SECRET = "TROLI_JWT_HS256_SECRET", None, "shared secret that user tokens are verified by, at least 32 bytes";
    JWT_HS256_SECRET_FILE = "TROLI_JWT_HS256_SECRET_FILE", None, "file with that secret, in place of it";
    JWT_ISSUER = "TROLI_JWT_ISSUER", None, "who must have issued a user token (iss); default: anybody with the key";
    JWT_AUDIENCE = "TROLI_JWT_AUDIENCE", None, "whom a user token must be for (aud); default: anybody";
    DEV_TOKENS = "TROLI_DEV_TOKENS", Some("off"), "on: POST /v1/dev/tokens makes a token for any user; needs the shared secret, never in production";
    RULES_FILE = "TROLI_RULES_FILE", None, "in the home region: a component that is activated everywhere whenever the file changes; at a start only when no rules are active yet";
    RULES_CACHE_DIR = "TROLI_RULES_CACHE_DIR", None, "directory for compiled rules, private to this user";
    TRUSTED_PROXIES = "TROLI_TRUSTED_PROXIES", Some("127.0.0.1/32,::1/128"), "networks whose X-Forwarded-For is believed";
    CORS_ORIGINS = "TROLI_CORS_ORIGINS", None, "origins whose pages may call the public API from a browser, such as https://shop.example,https://m.shop.example; http://localhost:* is any port of the browser's own machine; default: none";
    RATE_PER_S = "TROLI_RATE_LIMIT_PER_S", Some("100"), "requests a second of one guest or user; the burst is twice that, as for all rates. A page asks for a few at once";
    ADDRESS_PER_S = "TROLI_RATE_LIMIT_ADDRESS_PER_S", Some("1000"), "requests a second of all guests of one address (IPv6: its /64) together, and of tokens that are new to the edge, valid or not: what a thousand shoppers behind a carrier's NAT ask for, and ten guests at their own limit";
    GUESTS_PER_S = "TROLI_RATE_LIMIT_GUESTS_PER_S", Some("20"), "new guests a second of one address: each shopper is new once a month";
    CATALOGUE_PER_S = "TROLI_RATE_LIMIT_CATALOGUE_PER_S", Some("1000"), "reads of the catalogue and the regions a second of one address: a thousand shoppers who browse behind a carrier's NAT; the edge answers them from memory";
    GUEST_ORDERS_PER_MIN = "TROLI_RATE_LIMIT_GUEST_ORDERS_PER_MIN", Some("10"), "checkouts of guests a minute of one address: unpaid orders hold stock, and this bounds how many of them one address has";
    MMDB = "TROLI_MMDB", None, "country or city database (.mmdb) instead of the built-in table; read again when it changes";
    DNS_SERVERS = "TROLI_DNS_SERVERS", None, "name servers that are asked where names are, ip:port,ip:port; default: the system's";
}

/// The configuration of one edge.
#[derive(Clone, Debug)]
pub struct Config {
    /// The region this edge serves.
    pub region: RegionId,
    /// All regions.
    pub topology: Topology,
    /// Address of the public API.
    pub listen: SocketAddr,
    /// Address of the internal listener.
    pub internal_listen: SocketAddr,
    /// Address of the listener for other regions.
    pub peer_listen: SocketAddr,
    /// Proves this region to the others, and them to it.
    pub peer_tls: Arc<PeerTls>,
    /// What only the home region has, or what only the others have.
    pub role: Role,
    /// The region's replica of the primary.
    pub replica: Option<MySqlTarget>,
    /// Where the region's copy of carts lies.
    pub cache: CacheAt,
    /// Opens the admin routes.
    pub admin_token: Option<Secret>,
    /// Sign and verify guest tokens.
    pub guest_secrets: GuestSecrets,
    /// Verifies user tokens.
    pub user_keys: UserKeys,
    /// Whether anybody may have a token of any user.
    pub dev_tokens: bool,
    /// Where compiled rules are kept.
    pub rules_cache_dir: Option<PathBuf>,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Origins whose pages may call.
    pub cors_origins: Vec<Origin>,
    /// How much one caller may ask for.
    pub rates: Rates,
    /// A country database.
    pub mmdb: Option<PathBuf>,
    /// Who is asked where names are.
    pub dns: Dns,
    /// For carts whose owner asks for no currency.
    pub currency_default: Currency,
}

/// How much one caller may ask for; requests a second where nothing else is said.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Of one principal.
    pub principal_per_s: u32,
    /// Of all guests of one address, and of tokens that are new to the edge.
    pub address_per_s: u32,
    /// New guests of one address.
    pub guests_per_s: u32,
    /// Reads of the catalogue and the regions of one address.
    pub catalogue_per_s: u32,
    /// Checkouts of guests of one address, a minute.
    pub guest_orders_per_min: u32,
}

/// An edge that is not home has no primary: it cannot even be written down.
#[derive(Clone, Debug)]
pub enum Role {
    /// Holds the primary.
    Home {
        /// The primary.
        database: Database,
        /// Rules that follow a file.
        rules_file: Option<PathBuf>,
    },
    /// Forwards to the home region.
    Edge {
        /// Peer listeners of the home edges.
        home_peers: Targets,
    },
}

/// Where the primary is.
#[derive(Clone, Debug)]
pub enum Database {
    /// In a file.
    Sqlite(PathBuf),
    /// In MySQL.
    MySql(MySqlTarget),
}

impl Database {
    /// The primary of the environment, for commands that need nothing else.
    pub fn load(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let mut reader = Reader { lookup: &lookup, errors: Vec::new() };
        let (database, dns) = (reader.database(), reader.dns());
        match database.zip(dns) {
            Some((Self::MySql(target), dns)) => Ok(Self::MySql(target.with_dns(dns))),
            Some((sqlite, _)) => Ok(sqlite),
            None => Err(ConfigErrors(reader.errors)),
        }
    }
}

/// Where the region's copy of carts lies.
#[derive(Clone, Debug)]
pub enum CacheAt {
    /// In this process: for one edge per region.
    Memory,
    /// In Redis, shared by the edges of a region.
    Redis(RedisTarget),
}

/// Everything that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigErrors(pub Vec<String>);

impl Config {
    /// Reads the configuration. `lookup` finds a variable; empty counts as not set.
    pub fn load(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigErrors> {
        let mut reader = Reader { lookup: &lookup, errors: Vec::new() };
        let config = reader.config();
        match config {
            Some(config) if reader.errors.is_empty() => Ok(config),
            _ => Err(ConfigErrors(reader.errors)),
        }
    }

    /// Whether this is the home region.
    pub fn at_home(&self) -> bool {
        matches!(self.role, Role::Home { .. })
    }
}

struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    errors: Vec<String>,
}

impl Reader<'_> {
    fn config(&mut self) -> Option<Config> {
        let topology = self.topology();
        let region = self.required(REGION).and_then(|text| {
            let found = topology.as_ref().map(|t| t.regions().iter().find(|r| r.id.as_str() == text));
            match found {
                Some(Some(region)) => Some(region.clone()),
                Some(None) => self.wrong(REGION, &format!("{text} is not in the topology")),
                None => None,
            }
        });
        let at_home = match (&topology, &region) {
            (Some(topology), Some(region)) => Some(region.id == topology.home().id),
            _ => None,
        };
        let listen = self.address(LISTEN, region.as_ref().and_then(|r| r.public.first()));
        let internal_listen = self.address(INTERNAL_LISTEN, region.as_ref().and_then(|r| r.internal.first()));
        let peer_listen = self.address(PEER_LISTEN, region.as_ref().and_then(|r| r.peers.first()));
        let peer_tls = self.peer_tls(region.as_ref().map(|region| region.id));
        let role = at_home.and_then(|at_home| self.role(at_home, topology.as_ref()));
        let replica = self.replica();
        let cache = self.cache();
        let admin_token = self.secret_file(ADMIN_TOKEN_FILE, false);
        let guest_secrets = self.guest_secrets();
        let user_keys = self.user_keys();
        let dev_tokens = match self.text(DEV_TOKENS).as_deref() {
            Some("on") => true,
            Some("off") | None => false,
            Some(other) => self.wrong(DEV_TOKENS, &format!("on or off, not {other}")).unwrap_or(false),
        };
        if dev_tokens && user_keys.hs256_secret.is_none() {
            self.errors.push(format!("{DEV_TOKENS}: needs {JWT_HS256_SECRET}"));
        }
        let currency_default = topology.as_ref().and_then(|t| {
            let code = t.currency_default();
            Currency::from_code(code.as_str())
                .or_else(|| self.wrong(TOPOLOGY, &format!("unknown currency {code}")))
        });
        let trusted_proxies = self.list(TRUSTED_PROXIES);
        let cors_origins = self.list(CORS_ORIGINS);
        let rates = self.rates();
        let dns = self.dns();
        Some(Config {
            region: region?.id,
            topology: topology?,
            listen: listen?,
            internal_listen: internal_listen?,
            peer_listen: peer_listen?,
            peer_tls: peer_tls?,
            role: role?,
            replica,
            cache: cache?,
            admin_token,
            guest_secrets: guest_secrets?,
            user_keys,
            dev_tokens,
            rules_cache_dir: self.text(RULES_CACHE_DIR).map(PathBuf::from),
            trusted_proxies,
            cors_origins,
            rates: rates?,
            mmdb: self.text(MMDB).map(PathBuf::from),
            dns: dns?,
            currency_default: currency_default?,
        })
    }

    fn rates(&mut self) -> Option<Rates> {
        let [principal, address, guests, catalogue, guest_orders] =
            [RATE_PER_S, ADDRESS_PER_S, GUESTS_PER_S, CATALOGUE_PER_S, GUEST_ORDERS_PER_MIN]
                .map(|name| self.number(name));
        Some(Rates {
            principal_per_s: principal?,
            address_per_s: address?,
            guests_per_s: guests?,
            catalogue_per_s: catalogue?,
            guest_orders_per_min: guest_orders?,
        })
    }

    fn topology(&mut self) -> Option<Topology> {
        let path = self.text(TOPOLOGY)?;
        let text = self.file(TOPOLOGY, Path::new(&path))?;
        let topology = match Topology::parse(&text) {
            Ok(topology) => topology,
            Err(errors) => {
                self.errors.extend(errors.to_string().lines().map(|line| format!("{path}: {line}")));
                return None;
            }
        };
        if self.text(REGIONS).is_none() {
            return Some(topology);
        }
        let ids: Vec<RegionId> = self.list(REGIONS);
        match topology.restricted_to(&ids) {
            Ok(topology) => Some(topology),
            Err(error) => self.wrong(REGIONS, &error.to_string()),
        }
    }

    fn role(&mut self, at_home: bool, topology: Option<&Topology>) -> Option<Role> {
        let rules_file = self.text(RULES_FILE).map(PathBuf::from);
        if at_home {
            if self.text(HOME_PEERS).is_some() {
                self.errors.push(format!("{HOME_PEERS}: the home region is its own home"));
            }
            let database = self.database()?;
            return Some(Role::Home { database, rules_file });
        }
        if self.text(DATABASE_URL).or_else(|| self.text(DATABASE_URL_FILE)).is_some() {
            self.errors.push(format!("{DATABASE_URL}: only the home region has a primary"));
        }
        if rules_file.is_some() {
            self.errors.push(format!("{RULES_FILE}: only the home region follows a rules file"));
        }
        let home_peers = match self.text(HOME_PEERS) {
            Some(text) => {
                text.parse().map_err(|error| self.wrong::<()>(HOME_PEERS, &format!("{error}"))).ok()?
            }
            None => topology?.home().peers.clone(),
        };
        if home_peers.is_empty() {
            return self.wrong(HOME_PEERS, "required outside the home region: the topology has none");
        }
        Some(Role::Edge { home_peers })
    }

    fn peer_tls(&mut self, region: Option<RegionId>) -> Option<Arc<PeerTls>> {
        let files =
            [PEER_CERT_FILE, PEER_KEY_FILE, PEER_CA_FILE].map(|name| self.required(name).map(PathBuf::from));
        let [Some(certificate), Some(key), Some(ca)] = files else { return None };
        match PeerTls::load(region?, PeerFiles { certificate, key, ca }) {
            Ok(tls) => Some(Arc::new(tls)),
            Err(mistakes) => {
                for mistake in mistakes {
                    let name = match mistake.file {
                        PeerFile::Certificate => PEER_CERT_FILE,
                        PeerFile::Key => PEER_KEY_FILE,
                        PeerFile::Ca => PEER_CA_FILE,
                    };
                    self.errors.push(format!("{name}: {mistake}"));
                }
                None
            }
        }
    }

    fn database(&mut self) -> Option<Database> {
        let Some(url) = self.text_or_file(DATABASE_URL, DATABASE_URL_FILE) else {
            return self.wrong(DATABASE_URL, "required in the home region");
        };
        if let Some(path) = url.strip_prefix("sqlite:") {
            return Some(Database::Sqlite(PathBuf::from(path)));
        }
        match url.parse() {
            Ok(target) => Some(Database::MySql(target)),
            Err(error) => self.wrong(DATABASE_URL, &format!("{error}, or sqlite:PATH")),
        }
    }

    fn dns(&mut self) -> Option<Dns> {
        let servers = self.text(DNS_SERVERS).unwrap_or_default();
        servers
            .parse()
            .map_or_else(|error: DnsServersMalformed| self.wrong(DNS_SERVERS, &error.to_string()), Some)
    }

    fn replica(&mut self) -> Option<MySqlTarget> {
        match self.text_or_file(REPLICA_URL, REPLICA_URL_FILE)?.parse::<MySqlTarget>() {
            Ok(target) if target.is_one() => Some(target),
            Ok(_) => self.wrong(REPLICA_URL, "a region has one replica; put several behind one name"),
            Err(error) => self.wrong(REPLICA_URL, &error.to_string()),
        }
    }

    fn cache(&mut self) -> Option<CacheAt> {
        let url = self.text_or_file(CACHE_URL, CACHE_URL_FILE)?;
        let ca_file = self.text(CACHE_CA_FILE);
        if url == "memory:" {
            if ca_file.is_some() {
                self.errors.push(format!("{CACHE_CA_FILE}: memory: needs none"));
            }
            return Some(CacheAt::Memory);
        }
        let ca_pem = match ca_file {
            Some(path) => Some(self.file(CACHE_CA_FILE, Path::new(&path))?),
            None => None,
        };
        match RedisTarget::new(&url, ca_pem.as_deref()) {
            Ok(target) => Some(CacheAt::Redis(target)),
            Err(error) => {
                let name = if error.is_of_certificates() { CACHE_CA_FILE } else { CACHE_URL };
                self.wrong(name, &error.to_string())
            }
        }
    }

    fn text(&self, name: &str) -> Option<String> {
        let set = (self.lookup)(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        let default = || SETTINGS.iter().find(|setting| setting.name == name)?.default;
        set.or_else(|| default().map(ToOwned::to_owned))
    }

    fn required(&mut self, name: &str) -> Option<String> {
        self.text(name).or_else(|| self.wrong(name, "required"))
    }

    fn address<A: ToString>(&mut self, name: &str, default: Option<&A>) -> Option<SocketAddr> {
        let text = self.text(name).or_else(|| default.map(ToString::to_string))?;
        text.parse()
            .ok()
            .or_else(|| self.wrong(name, &format!("{text} is not an address such as 127.0.0.1:8101")))
    }

    fn number(&mut self, name: &str) -> Option<u32> {
        let text = self.text(name)?;
        let number = text.parse().ok().filter(|number| *number > 0);
        number.or_else(|| self.wrong(name, &format!("{text} is not a whole number above 0")))
    }

    fn list<T: FromStr>(&mut self, name: &str) -> Vec<T> {
        let Some(text) = self.text(name) else {
            return Vec::new();
        };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts
            .filter_map(|part| part.parse().ok().or_else(|| self.wrong(name, &format!("cannot read {part}"))))
            .collect()
    }

    fn file(&mut self, name: &str, path: &Path) -> Option<String> {
        match std::fs::read_to_string(path) {
            Ok(text) => Some(text),
            Err(error) => self.wrong(name, &format!("cannot read {}: {error}", path.display())),
        }
    }

    fn wrong<T>(&mut self, name: &str, why: &str) -> Option<T> {
        self.errors.push(format!("{name}: {why}"));
        None
    }
}
