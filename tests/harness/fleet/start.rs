use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Once};

use edge_host::telemetry;
use region_router::discovery::Dns;
use region_router::link::Link;
use region_router::proximity::Countries;
use region_router::regions::Regions;
use region_router::topology::Topology;
use region_router::{front_door, geodns};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use super::topology::{Addresses, topology};
use super::{
    ADMIN_TOKEN, Fleet, FleetOptions, GUEST_SECRET, HOME, HS256_SECRET, Region, Settings, any_port, free,
};
use crate::stack::{Servers, Stack, migrate};
use crate::{eventually, peer_ca, rules_cache, scratch};

/// Starts all regions and waits until each is ready.
pub(super) async fn start(options: FleetOptions) -> Fleet {
    log_if_asked();
    let directory = scratch("fleet");
    let runtime = runtime();
    let addresses: BTreeMap<_, _> = options.regions.iter().map(|id| (*id, Addresses::any())).collect();
    let twins: BTreeMap<_, _> = options.twins.iter().map(|id| (*id, Addresses::any())).collect();
    let topology = topology(&options.regions, &addresses, &twins);
    let rules_file = directory.path().join("active.wasm");
    fs::write(&rules_file, &options.rules).expect("the fleet's directory can be written to");
    let servers = match options.stack {
        Stack::Embedded => None,
        Stack::Servers => Some(Servers::start(&options, &runtime).await),
    };

    let common = common_settings(directory.path(), &topology, &options);
    let mut regions = BTreeMap::new();
    let mut links = BTreeMap::new();
    for (id, own) in &addresses {
        let mut settings = common.clone();
        settings.insert("TROLI_REGION", (*id).to_owned());
        settings.extend(peer_ca().write(id, directory.path()));
        if let Some(servers) = &servers {
            settings.insert("TROLI_CACHE_URL", servers.cache_url(id));
            settings.extend(servers.replica_url(id).map(|url| ("TROLI_REPLICA_URL", url)));
        }
        if *id == HOME {
            let embedded = || format!("sqlite:{}", directory.path().join("primary.sqlite").display());
            let database =
                servers.as_ref().map_or_else(embedded, |servers| servers.database_url(options.standby));
            settings.insert("TROLI_DATABASE_URL", database);
            settings.insert("TROLI_RULES_FILE", rules_file.display().to_string());
        } else {
            let (home, rtt) = (addresses[HOME].peers, options.rtt);
            let link = runtime.spawn(async move { Link::start(any_port(), home, rtt).await });
            let link = link.await.expect("starting a link does not panic").expect("a link can listen");
            let twin = twins.get(HOME).map_or(String::new(), |twin| format!(",{}", twin.peers));
            settings.insert("TROLI_HOME_PEERS", format!("{}{twin}", link.addr()));
            links.insert(*id, link);
        }
        let twin = twins.get(id).map(|addresses| (*addresses, Mutex::new(None)));
        regions.insert(*id, Region { settings, addresses: *own, app: Mutex::new(None), twin });
    }
    let mut fleet = Fleet {
        regions,
        links,
        front_door: None,
        geodns: None,
        rules_file,
        topology: topology.clone(),
        runtime: Some(runtime),
        servers,
        standby: options.standby,
        directory,
    };
    if let Some(servers) = &fleet.servers {
        migrate(&fleet.region(HOME).settings).await;
        servers.catch_up().await;
    }
    // Home first, so that nobody has to ask for the catalogue twice.
    fleet.start_region(HOME).await;
    for id in options.regions.iter().filter(|id| **id != HOME) {
        fleet.start_region(id).await;
    }
    for id in &options.twins {
        fleet.start_twin(id).await;
    }
    if options.front_door {
        let origins = common.get("TROLI_CORS_ORIGINS").cloned().unwrap_or_default();
        let listening = fleet.runtime().spawn(start_front_door(topology, origins));
        let (front_door, geodns) = listening.await.expect("starting does not panic");
        (fleet.front_door, fleet.geodns) = (Some(front_door), Some(geodns));
        sees_every_region(&fleet).await;
    }
    fleet
}

/// A failing test is easier to understand with the log of its regions: set `TROLI_LOG` to see it.
fn log_if_asked() {
    static ONCE: Once = Once::new();
    if std::env::var_os(telemetry::ENV_LOG_FILTER).is_some() {
        ONCE.call_once(telemetry::init);
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("fleet")
        .enable_all()
        .build()
        .expect("a runtime can be built")
}

/// The variables that are the same in every region, and the files that they name.
fn common_settings(directory: &Path, topology: &str, options: &FleetOptions) -> Settings {
    let file = |name: &str, content: &str| {
        let path = directory.join(name);
        fs::write(&path, content).expect("the fleet's directory can be written to");
        path.display().to_string()
    };
    let mut settings = Settings::from([
        ("TROLI_TOPOLOGY", file("topology.toml", topology)),
        ("TROLI_GUEST_SECRET_FILE", file("guest-secret", GUEST_SECRET)),
        ("TROLI_ADMIN_TOKEN_FILE", file("admin-token", ADMIN_TOKEN)),
        ("TROLI_JWT_HS256_SECRET", HS256_SECRET.to_owned()),
        ("TROLI_DEV_TOKENS", "on".to_owned()),
        ("TROLI_RULES_CACHE_DIR", rules_cache().display().to_string()),
        // The tests are one address with the impatience of thousands.
        ("TROLI_RATE_LIMIT_PER_S", "1000000".to_owned()),
        ("TROLI_RATE_LIMIT_ADDRESS_PER_S", "1000000".to_owned()),
        ("TROLI_RATE_LIMIT_GUESTS_PER_S", "1000000".to_owned()),
        ("TROLI_RATE_LIMIT_CATALOGUE_PER_S", "1000000".to_owned()),
        ("TROLI_RATE_LIMIT_GUEST_ORDERS_PER_MIN", "1000000".to_owned()),
    ]);
    settings.extend(options.settings.iter().cloned());
    settings
}

/// What a front door of this topology runs with, for pages of these origins.
pub(super) fn front_door_config(topology: &str, origins: &str) -> front_door::Config {
    let topology = Topology::parse(topology).expect("the harness writes a valid topology");
    front_door::Config {
        regions: Arc::new(Regions::new(topology)),
        countries: Arc::new(Countries::BuiltIn),
        trusted_proxies: vec!["127.0.0.1/32".parse().expect("a network")],
        cors_origins: origins.split(',').filter_map(|origin| origin.parse().ok()).collect(),
        dns: Dns::system(),
        redirect: false,
        limits: front_door::Limits::default(),
    }
}

/// The front door and GeoDNS, as one process runs them.
async fn start_front_door(topology: String, origins: String) -> (SocketAddr, SocketAddr) {
    let config = front_door_config(&topology, &origins);
    let names = geodns::Config {
        regions: Arc::clone(&config.regions),
        countries: Arc::clone(&config.countries),
        dns: Dns::system(),
        zone: "troli.test".parse().expect("a zone"),
        ttl: geodns::TTL,
    };
    let sockets = geodns::Sockets::bind(free()).await.expect("a free port can be listened on");
    let listener = TcpListener::bind(any_port()).await.expect("any port can be listened on");
    let addresses = (
        listener.local_addr().expect("a listener has an address"),
        sockets.addr().expect("a listener has an address"),
    );
    tokio::spawn(geodns::run(sockets, names, std::future::pending()));
    tokio::spawn(front_door::run(listener, config, std::future::pending()));
    addresses
}

async fn sees_every_region(fleet: &Fleet) {
    let door = fleet.front_door();
    let all = fleet.regions.len();
    eventually("the front door has seen every region", async || {
        let page = door.get(front_door::STATUS_PATH).await.ok();
        let regions = page["regions"].as_array().into_iter().flatten();
        regions.filter(|region| region["health"] == "up").count() == all
    })
    .await;
}
