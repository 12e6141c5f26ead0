//! The command line, and how it becomes a configuration: every mistake at once, before anything starts.

#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use ipnet::IpNet;
use region_router::cors::Origin;
use region_router::discovery::Dns;
use region_router::geodns::Zone;
use region_router::proximity::Countries;
use region_router::regions::Regions;
use region_router::topology::{Endpoint, RegionId, Topology};
use region_router::traces;
use region_router::{front_door, geodns};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::telemetry::{Format, LogConfig};

/// Longer than any terrestrial round trip: a larger number is a slip of the keyboard.
const RTT_MS_MAX: u64 = 1000;

/// Decides which region serves a caller, and is the front door that acts on it.
#[derive(Debug, Parser)]
#[command(
    name = "region-router",
    version,
    after_help = "A wrong command line or configuration ends with exit status 64, before any port is bound.\n\
                  SIGTERM and SIGINT end the process within 4 seconds: it says that it is not ready, serves on for\n\
                  one, and then finishes what it has."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the HTTP front door, which sends every caller to the nearest healthy region, and GeoDNS, which names it.
    Serve(Box<ServeArgs>),
    /// Runs TCP relays that are as slow as the network between regions, for the local fleet.
    Link(LinkArgs),
}

/// Values stay text here, so that all that are wrong can be told at once.
#[derive(Args, Debug)]
pub(crate) struct ServeArgs {
    /// Where callers are taken in.
    ///
    /// Example: 0.0.0.0:8080
    #[arg(
        long,
        env = "TROLI_FRONT_DOOR_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8080"
    )]
    listen: String,

    /// Where /livez, /readyz and /metrics are answered: for a load balancer and operators, not for callers. Nowhere when
    /// not given.
    ///
    /// Example: 127.0.0.1:9080
    #[arg(long, env = "TROLI_FRONT_DOOR_INTERNAL_LISTEN", value_name = "ADDRESS:PORT")]
    internal_listen: Option<String>,

    /// The file that names the regions, their addresses and their distances.
    ///
    /// Example: /etc/troli/topology.toml
    #[arg(long, env = "TROLI_TOPOLOGY", value_name = "FILE", default_value = "deploy/topology.toml")]
    topology: PathBuf,

    /// Only these regions of the file; home has to be among them. All of them when not given.
    ///
    /// Example: sin,jkt,bkk
    #[arg(long, env = "TROLI_REGIONS", value_name = "REGION,…", value_delimiter = ',')]
    regions: Vec<String>,

    /// Networks of proxies whose X-Forwarded-For, X-Forwarded-Proto and Forwarded are believed. None when
    /// not given.
    ///
    /// Example: 10.0.0.0/8,fd00::/8
    #[arg(long, env = "TROLI_TRUSTED_PROXIES", value_name = "CIDR,…", value_delimiter = ',')]
    trusted_proxies: Vec<String>,

    /// Origins whose pages may call from a browser, as the edges have them: the front door's own answers carry the
    /// headers of CORS for them, too. None when not given.
    ///
    /// Example: https://shop.example,http://localhost:*
    #[arg(long, env = "TROLI_CORS_ORIGINS", value_name = "ORIGIN,…", value_delimiter = ',')]
    cors_origins: Vec<String>,

    /// A country or city database in MaxMind's format for the callers' addresses, read again when it
    /// changes. When not given, a built-in table of the six countries is used.
    ///
    /// Example: /var/lib/troli/country.mmdb
    #[arg(long, env = "TROLI_MMDB", value_name = "FILE")]
    mmdb: Option<String>,

    /// on: callers are told the URL of their region (307), in place of being connected to it. Regions without
    /// a URL, and callers of a region that is down, are served as if it were off.
    ///
    /// Example: on
    #[arg(
        long,
        env = "TROLI_REDIRECT",
        value_name = "on|off",
        default_value = "off",
        default_missing_value = "on",
        num_args = 0..=1
    )]
    redirect: String,

    /// Where GeoDNS takes questions in, by UDP and TCP. There is none when not given.
    ///
    /// Example: 127.0.0.1:8053
    #[arg(long, env = "TROLI_GEODNS_LISTEN", value_name = "ADDRESS:PORT")]
    dns_listen: Option<String>,

    /// The zone that GeoDNS answers for: cart.<zone> is the nearest region.
    ///
    /// Example: troli.test
    #[arg(long, env = "TROLI_GEODNS_ZONE", value_name = "NAME", default_value = "troli.test")]
    dns_zone: String,

    /// Name servers that are asked where names of the topology are. The system's when not given.
    ///
    /// Example: 10.0.0.2:53,10.0.1.2:53
    #[arg(long, env = "TROLI_DNS_SERVERS", value_name = "ADDRESS:PORT,…", default_value = "")]
    dns_servers: String,

    #[command(flatten)]
    log: LogArgs,
}

#[derive(Args, Debug)]
pub(crate) struct LinkArgs {
    /// One relay: where it listens, where it leads, and the round trip in milliseconds. May be repeated.
    ///
    /// Example: 127.0.0.1:9501=127.0.0.1:9101@13
    #[arg(
        long = "relay",
        env = "TROLI_LINK_RELAYS",
        value_name = "LISTEN=TARGET@RTT_MS",
        value_delimiter = ',',
        required = true
    )]
    relays: Vec<String>,

    #[command(flatten)]
    log: LogArgs,
}

#[derive(Args, Debug)]
struct LogArgs {
    /// How log lines are written: json, text, or auto, which is text on a terminal and json otherwise.
    ///
    /// Example: json
    #[arg(long = "log-format", env = "TROLI_LOG_FORMAT", value_name = "FORMAT", default_value = "auto")]
    format: String,

    /// Which log lines are written: a level, or levels by module.
    ///
    /// Example: info,region_router=debug
    #[arg(long = "log", env = "TROLI_LOG", value_name = "FILTER", default_value = "info")]
    filter: String,
}

/// Everything that is wrong with a configuration, one line each. Never empty.
#[derive(Debug)]
pub(crate) struct Mistakes(pub(crate) Vec<String>);

/// What `serve` runs with.
#[derive(Debug)]
pub(crate) struct ServeConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) internal_listen: Option<SocketAddr>,
    pub(crate) front_door: front_door::Config,
    pub(crate) geodns: Option<GeoDnsConfig>,
    pub(crate) log: LogConfig,
}

/// The name server, where there is one.
#[derive(Debug)]
pub(crate) struct GeoDnsConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) zone: geodns::Config,
}

/// What `link` runs with.
#[derive(Debug)]
pub(crate) struct LinkConfig {
    pub(crate) relays: Vec<Relay>,
    pub(crate) log: LogConfig,
}

/// One relay of `link`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Relay {
    pub(crate) listen: SocketAddr,
    pub(crate) target: Endpoint,
    pub(crate) rtt: Duration,
}

impl ServeArgs {
    /// Reads what the arguments name: the topology, and the database where there is one.
    pub(crate) fn parse(self) -> Result<ServeConfig, Mistakes> {
        let mut mistakes = Vec::new();
        let listen = socket_address("--listen", &self.listen, &mut mistakes);
        let internal_listen = self.internal_listen.as_deref().filter(|text| !text.is_empty());
        let internal_listen =
            internal_listen.map(|text| socket_address("--internal-listen", text, &mut mistakes));
        let regions = parse_all::<RegionId>("--regions", &self.regions, &mut mistakes);
        let topology = self.topology(regions, &mut mistakes);
        let trusted_proxies = parse_all::<IpNet>("--trusted-proxies", &self.trusted_proxies, &mut mistakes);
        let cors_origins = parse_all::<Origin>("--cors-origins", &self.cors_origins, &mut mistakes);
        let countries = self.countries(&mut mistakes);
        let dns = parsed::<Dns>("--dns-servers", &self.dns_servers, &mut mistakes);
        let log = self.log.parse(&mut mistakes);
        let redirect = on_or_off("--redirect", &self.redirect, &mut mistakes);
        let dns_listen = self.dns_listen.as_deref().filter(|text| !text.is_empty());
        let dns_listen = dns_listen.map(|text| socket_address("--dns-listen", text, &mut mistakes));
        let zone = parsed::<Zone>("--dns-zone", &self.dns_zone, &mut mistakes);
        let (Some(listen), Some(topology), Some(trusted_proxies), Some(countries), Some(dns), Some(log)) =
            (listen, topology, trusted_proxies, countries, dns, log)
        else {
            return Err(Mistakes(mistakes));
        };
        let (Some(redirect), Some(zone), Some(cors_origins)) = (redirect, zone, cors_origins) else {
            return Err(Mistakes(mistakes));
        };
        if !mistakes.is_empty() {
            return Err(Mistakes(mistakes));
        }
        let (regions, countries) = (Arc::new(Regions::new(topology)), Arc::new(countries));
        let geodns = dns_listen.flatten().map(|listen| GeoDnsConfig {
            listen,
            zone: geodns::Config {
                regions: regions.clone(),
                countries: countries.clone(),
                dns: dns.clone(),
                zone,
                ttl: geodns::TTL,
            },
        });
        let limits = front_door::Limits::default();
        let front_door =
            front_door::Config { regions, countries, trusted_proxies, cors_origins, dns, redirect, limits };
        Ok(ServeConfig { listen, internal_listen: internal_listen.flatten(), front_door, geodns, log })
    }

    fn topology(&self, regions: Option<Vec<RegionId>>, mistakes: &mut Vec<String>) -> Option<Topology> {
        let file = self.topology.display();
        let text = std::fs::read_to_string(&self.topology)
            .map_err(|error| mistakes.push(format!("--topology: cannot read {file}: {error}")))
            .ok()?;
        let topology = Topology::parse(&text)
            .map_err(|wrong| {
                let lines = wrong.mistakes().iter().map(|mistake| format!("--topology: {file}: {mistake}"));
                mistakes.extend(lines);
            })
            .ok()?;
        let regions = regions?;
        if regions.is_empty() {
            return Some(topology);
        }
        topology
            .restricted_to(&regions)
            .map_err(|wrong| {
                mistakes.extend(wrong.mistakes().iter().map(|mistake| format!("--regions: {mistake}")));
            })
            .ok()
    }

    fn countries(&self, mistakes: &mut Vec<String>) -> Option<Countries> {
        let Some(file) = self.mmdb.as_deref().filter(|file| !file.is_empty()) else {
            return Some(Countries::BuiltIn);
        };
        Countries::open(Path::new(file))
            .map_err(|wrong| mistakes.push(format!("--mmdb: {file}: {wrong}")))
            .ok()
    }
}

impl LinkArgs {
    pub(crate) fn parse(self) -> Result<LinkConfig, Mistakes> {
        let mut mistakes = Vec::new();
        let relays: Vec<Relay> =
            self.relays.iter().filter_map(|text| parse_relay(text, &mut mistakes)).collect();
        let log = self.log.parse(&mut mistakes);
        match log {
            Some(log) if mistakes.is_empty() => Ok(LinkConfig { relays, log }),
            _ => Err(Mistakes(mistakes)),
        }
    }
}

impl LogArgs {
    fn parse(&self, mistakes: &mut Vec<String>) -> Option<LogConfig> {
        let format = match self.format.as_str() {
            "json" => Some(Format::Json),
            "text" => Some(Format::Text),
            "auto" => Some(Format::Auto),
            other => {
                mistakes.push(format!("--log-format: `{other}` is none of json, text and auto"));
                None
            }
        };
        let filter = filter(&self.filter)
            .map_err(|wrong| mistakes.push(format!("--log: `{}`: {wrong}", self.filter)))
            .ok();
        Some(LogConfig { format: format?, filter: filter? })
    }
}

/// A filter for log lines, or what is wrong with it. A word alone that is no level would let through nothing but a
/// module of that name: it is a mistake.
fn filter(text: &str) -> Result<EnvFilter, String> {
    let is_odd =
        |part: &&str| !part.is_empty() && !part.contains(['=', '[']) && part.parse::<LevelFilter>().is_err();
    if let Some(odd) = text.split(',').map(str::trim).find(is_odd) {
        return Err(format!("{odd} is no level: error, warn, info, debug or trace, or module=level"));
    }
    EnvFilter::try_new(text).map_err(|error| error.to_string())
}

/// Variables that begin as ours do and that nothing reads. `deploy/servers` has some for the same environment.
pub(crate) fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    let command = Cli::command();
    let arguments = command.get_subcommands().flat_map(clap::Command::get_arguments);
    let known: Vec<&str> = arguments.filter_map(|argument| argument.get_env()?.to_str()).collect();
    let is_ours = |name: &String| {
        name.starts_with("TROLI_") && !name.starts_with("TROLI_MYSQL_") && name != traces::ENV_FILE
    };
    let mut unknown: Vec<String> =
        names.filter(is_ours).filter(|name| !known.contains(&name.as_str())).collect();
    unknown.sort();
    unknown.into_iter().map(|name| format!("{name}: there is no such setting")).collect()
}

fn parse_relay(text: &str, mistakes: &mut Vec<String>) -> Option<Relay> {
    let parts = text.split_once('=').and_then(|(listen, rest)| Some((listen, rest.rsplit_once('@')?)));
    let Some((listen, (target, rtt_ms))) = parts else {
        mistakes.push(format!("--relay: `{text}` is not LISTEN=TARGET@RTT_MS"));
        return None;
    };
    let listen = socket_address("--relay", listen, mistakes);
    let target = target.parse().map_err(|wrong| mistakes.push(format!("--relay: {wrong}"))).ok();
    let rtt = rtt_ms.parse().ok().filter(|ms| *ms <= RTT_MS_MAX).map(Duration::from_millis);
    if rtt.is_none() {
        mistakes.push(format!("--relay: `{rtt_ms}` is not a number of milliseconds from 0 to {RTT_MS_MAX}"));
    }
    Some(Relay { listen: listen?, target: target?, rtt: rtt? })
}

fn on_or_off(option: &str, text: &str, mistakes: &mut Vec<String>) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" | "" => Some(false),
        other => {
            mistakes.push(format!("{option}: `{other}` is neither on nor off"));
            None
        }
    }
}

fn socket_address(option: &str, text: &str, mistakes: &mut Vec<String>) -> Option<SocketAddr> {
    let wrong =
        |_| mistakes.push(format!("{option}: `{text}` is not address:port, for example 127.0.0.1:8080"));
    text.parse().map_err(wrong).ok()
}

fn parsed<T>(option: &str, text: &str, mistakes: &mut Vec<String>) -> Option<T>
where
    T: std::str::FromStr,
    T::Err: Display,
{
    text.parse().map_err(|wrong| mistakes.push(format!("{option}: {wrong}"))).ok()
}

/// All of them, or nothing when one is wrong. A variable that is set to nothing is as good as not set.
fn parse_all<T>(option: &str, texts: &[String], mistakes: &mut Vec<String>) -> Option<Vec<T>>
where
    T: std::str::FromStr,
    T::Err: Display,
{
    let before = mistakes.len();
    let mut parsed = Vec::with_capacity(texts.len());
    for text in texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
        match text.parse() {
            Ok(value) => parsed.push(value),
            Err(wrong) => mistakes.push(format!("{option}: `{text}`: {wrong}")),
        }
    }
    (mistakes.len() == before).then_some(parsed)
}
