use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use edge_host::app::App;
use edge_host::config::Config;
use region_router::front_door;
use region_router::link::Link;
use region_router::proximity::Countries;
use region_router::topology::Topology;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use crate::stack::{Servers, Stack, migrate};
use crate::{
    Admin, Caller, MySqlServer, RedisServer, components, eventually, free_port, rules_cache, scratch,
};

/// The region that holds the primary.
const HOME: &str = "sin";
/// Region, name, country, currency: those of the contract.
const REGIONS: [(&str, &str, &str, &str); 6] = [
    ("sin", "Singapore", "SG", "SGD"),
    ("kul", "Kuala Lumpur", "MY", "MYR"),
    ("jkt", "Jakarta", "ID", "IDR"),
    ("bkk", "Bangkok", "TH", "THB"),
    ("sgn", "Ho Chi Minh City", "VN", "VND"),
    ("mnl", "Manila", "PH", "PHP"),
];
/// The shared secret of user tokens in every fleet of the tests.
pub const HS256_SECRET: &str = "the-tests-sign-user-tokens-with-this";
const REGION_SECRET: &str = "the-tests-let-regions-in-with-this";
const GUEST_SECRET: &str = "the-tests-sign-guest-tokens-with-this";
const ADMIN_TOKEN: &str = "the-tests-open-the-admin-routes-with-this";

/// What a fleet is made of.
#[derive(Clone, Debug)]
pub struct FleetOptions {
    /// The regions; the home region is among them.
    pub regions: Vec<&'static str>,
    /// The round trip between any region and home.
    pub rtt: Duration,
    /// What the regions keep their data in.
    pub stack: Stack,
    /// Whether there is a front door.
    pub front_door: bool,
    /// The rules to begin with.
    pub rules: Vec<u8>,
    /// Variables in place of the harness's own; an empty one counts as not set.
    pub settings: Vec<(&'static str, String)>,
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self {
            regions: vec!["sin", "jkt", "bkk"],
            rtt: Duration::ZERO,
            stack: Stack::default(),
            front_door: false,
            rules: components().standard.clone(),
            settings: Vec::new(),
        }
    }
}

/// Regions in this process, with ports, files and threads of their own.
pub struct Fleet {
    regions: BTreeMap<&'static str, Region>,
    links: BTreeMap<&'static str, Link>,
    front_door: Option<SocketAddr>,
    rules_file: PathBuf,
    /// Apart from the runtimes of the tests, which end before a shared fleet does.
    runtime: Option<Runtime>,
    /// After the regions that need them.
    servers: Option<Servers>,
    /// The last to go.
    _directory: TempDir,
}

struct Region {
    settings: HashMap<&'static str, String>,
    public: SocketAddr,
    internal: SocketAddr,
    app: Mutex<Option<App>>,
}

/// The fleet of all tests that leave the regions, the network and the rules as they are.
pub fn shared() -> &'static Fleet {
    static SHARED: LazyLock<Fleet> = LazyLock::new(|| {
        // On a thread of its own, because the one that asks first is in a runtime already.
        let start = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be built").block_on(Fleet::start(FleetOptions::default()))
        };
        std::thread::spawn(start).join().expect("the shared fleet starts")
    });
    &SHARED
}

impl Fleet {
    /// Starts all regions and waits until each is ready.
    pub async fn start(options: FleetOptions) -> Self {
        log_if_asked();
        let directory = scratch("fleet");
        let addresses: BTreeMap<_, _> = options.regions.iter().map(|id| (*id, (free(), free()))).collect();
        let topology_text = topology_text(&options.regions, &addresses);
        let file = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            fs::write(&path, content).expect("the fleet's directory can be written to");
            path.display().to_string()
        };
        let rules_file = directory.path().join("active.wasm");
        let mut common: HashMap<&'static str, String> = HashMap::from([
            ("TROLI_TOPOLOGY", file("topology.toml", topology_text.as_bytes())),
            ("TROLI_REGION_SECRET_FILE", file("region-secret", REGION_SECRET.as_bytes())),
            ("TROLI_GUEST_SECRET_FILE", file("guest-secret", GUEST_SECRET.as_bytes())),
            ("TROLI_ADMIN_TOKEN_FILE", file("admin-token", ADMIN_TOKEN.as_bytes())),
            ("TROLI_JWT_HS256_SECRET", HS256_SECRET.to_owned()),
            ("TROLI_DEV_TOKENS", "on".to_owned()),
            ("TROLI_RULES_CACHE_DIR", rules_cache().display().to_string()),
            // The tests are one address with the impatience of thousands.
            ("TROLI_RATE_LIMIT_PER_S", "1000000".to_owned()),
            ("TROLI_RATE_LIMIT_GUESTS_PER_S", "1000000".to_owned()),
        ]);
        file("active.wasm", &options.rules);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("fleet")
            .enable_all()
            .build()
            .expect("a runtime can be built");

        let servers = match options.stack {
            Stack::Embedded => None,
            Stack::Servers => Some(Servers::start(&options.regions, &runtime).await),
        };

        common.extend(options.settings.iter().cloned());
        let mut regions = BTreeMap::new();
        let mut links = BTreeMap::new();
        for (id, (public, internal)) in addresses.clone() {
            let mut settings = common.clone();
            settings.insert("TROLI_REGION", id.to_owned());
            if let Some(servers) = &servers {
                settings.insert("TROLI_CACHE_URL", servers.cache_url(id));
            }
            if id == HOME {
                let embedded = || format!("sqlite:{}", directory.path().join("primary.sqlite").display());
                let database = servers.as_ref().map_or_else(embedded, Servers::database_url);
                settings.insert("TROLI_DATABASE_URL", database);
                settings.insert("TROLI_RULES_FILE", rules_file.display().to_string());
            } else {
                let home = addresses[HOME].1;
                let rtt = options.rtt;
                let link = runtime.spawn(async move { Link::start(any_port(), home, rtt).await });
                let link = link.await.expect("starting a link does not panic").expect("a link can listen");
                settings.insert("TROLI_HOME_URL", format!("http://{}", link.addr()));
                links.insert(id, link);
            }
            regions.insert(id, Region { settings, public, internal, app: Mutex::new(None) });
        }
        let fleet = Self {
            regions,
            links,
            front_door: None,
            rules_file,
            runtime: Some(runtime),
            servers,
            _directory: directory,
        };
        if fleet.servers.is_some() {
            migrate(&fleet.region(HOME).settings).await;
        }
        // Home first, so that nobody has to ask for the catalogue twice.
        fleet.start_region(HOME).await;
        for id in options.regions.iter().filter(|id| **id != HOME) {
            fleet.start_region(id).await;
        }
        if options.front_door { fleet.with_front_door(&topology_text).await } else { fleet }
    }

    /// Starts a region that was stopped, at its old addresses, and waits until it is ready.
    pub async fn start_region(&self, id: &str) {
        let region = self.region(id);
        let config = Config::load(|name| region.settings.get(name).cloned());
        let config = config.unwrap_or_else(|errors| panic!("the settings of {id} are wrong:\n{errors}"));
        let started = self.runtime().spawn(App::start(config)).await.expect("starting does not panic");
        let app = started.unwrap_or_else(|error| panic!("{id} does not start: {error:#?}"));
        assert_eq!((app.public_addr(), app.internal_addr()), (region.public, region.internal));
        *region.app.lock().await = Some(app);
        let probe = self.internal(id);
        eventually(&format!("{id} is ready"), async || {
            probe.get("/readyz").send().await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
    }

    /// Stops a region as a signal would; its addresses stay its own.
    pub async fn stop_region(&self, id: &str) {
        let app = self.region(id).app.lock().await.take().expect("the region runs");
        self.runtime().spawn(app.shutdown()).await.expect("stopping does not panic");
    }

    /// Nobody in particular, calling a region.
    pub fn at(&self, id: &str) -> Caller {
        Caller::new(self.url(id))
    }

    /// Where a region's public API is.
    pub fn url(&self, id: &str) -> String {
        format!("http://{}", self.region(id).public)
    }

    /// Nobody in particular, calling a region's internal listener.
    pub fn internal(&self, id: &str) -> Caller {
        Caller::new(format!("http://{}", self.region(id).internal))
    }

    /// The other regions' secret, for tests that pretend to be one.
    pub fn region_secret(&self) -> &'static str {
        REGION_SECRET
    }

    /// The admin of the home region.
    pub fn admin(&self) -> Admin {
        self.admin_at(HOME)
    }

    /// The admin of a region.
    pub fn admin_at(&self, id: &str) -> Admin {
        Admin::new(format!("http://{}", self.region(id).internal), ADMIN_TOKEN)
    }

    /// The link from a region to home.
    pub fn link(&self, id: &str) -> &Link {
        self.links.get(id).unwrap_or_else(|| panic!("{id} has no link: it is home, or not there"))
    }

    /// The region that holds the primary.
    pub fn home(&self) -> &'static str {
        HOME
    }

    /// What the regions keep their data in.
    pub fn stack(&self) -> Stack {
        if self.servers.is_some() { Stack::Servers } else { Stack::Embedded }
    }

    /// The primary's server.
    pub fn mysql(&self) -> &MySqlServer {
        &self.servers().mysql
    }

    /// The link from the home region to its primary.
    pub fn mysql_link(&self) -> &Link {
        &self.servers().mysql_link
    }

    /// The server of a region's cache.
    pub fn redis(&self, id: &str) -> &RedisServer {
        &self.servers().caches[id].0
    }

    /// The link from a region to its cache.
    pub fn redis_link(&self, id: &str) -> &Link {
        &self.servers().caches[id].1
    }

    /// The regions, home among them.
    pub fn ids(&self) -> Vec<&'static str> {
        self.regions.keys().copied().collect()
    }

    /// Nobody in particular, calling the front door.
    pub fn front_door(&self) -> Caller {
        let address = self.front_door.expect("this fleet was started with a front door");
        Caller::new(format!("http://{address}"))
    }

    /// Saves a component where the home region looks for its rules, whole at once, as an editor would.
    pub fn save_rules(&self, component: &[u8]) {
        let beside = self.rules_file.with_extension("saving");
        fs::write(&beside, component).expect("the fleet's directory can be written to");
        fs::rename(&beside, &self.rules_file).expect("a file can be renamed in its directory");
    }

    /// Waits until a region runs the rules of this name.
    pub async fn runs_rules(&self, id: &str, name: &str) {
        let admin = self.admin_at(id);
        eventually(&format!("{id} runs the rules {name}"), async || {
            admin.get("/admin/rules").await.ok()["active"]["name"] == name
        })
        .await;
    }

    async fn with_front_door(mut self, topology: &str) -> Self {
        let config = front_door::Config {
            topology: Topology::parse(topology).expect("the harness writes a valid topology"),
            countries: Countries::BuiltIn,
            trusted_proxies: vec!["127.0.0.1/32".parse().expect("a network")],
            dns: region_router::discovery::Dns::system(),
            limits: front_door::Limits::default(),
        };
        let serve = async move {
            let listener = TcpListener::bind(any_port()).await.expect("any port can be listened on");
            let address = listener.local_addr().expect("a listener has an address");
            tokio::spawn(front_door::run(listener, config, std::future::pending()));
            address
        };
        self.front_door = Some(self.runtime().spawn(serve).await.expect("starting does not panic"));
        let door = self.front_door();
        let all = self.regions.len();
        eventually("the front door has seen every region", async || {
            let page = door.get(front_door::STATUS_PATH).await.ok();
            let regions = page["regions"].as_array().into_iter().flatten();
            regions.filter(|region| region["health"] == "up").count() == all
        })
        .await;
        self
    }

    fn region(&self, id: &str) -> &Region {
        self.regions.get(id).unwrap_or_else(|| panic!("this fleet has no region {id}"))
    }

    fn servers(&self) -> &Servers {
        self.servers.as_ref().expect("this fleet was started on Stack::Servers")
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("the runtime is there until the fleet is dropped")
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A failing test is easier to understand with the log of its regions: set `TROLI_LOG` to see it.
fn log_if_asked() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    if std::env::var_os(edge_host::telemetry::ENV_LOG_FILTER).is_some() {
        ONCE.call_once(edge_host::telemetry::init);
    }
}

pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// The addresses have to be known up front, because every region asks the others for their health.
fn topology_text(
    regions: &[&'static str],
    addresses: &BTreeMap<&'static str, (SocketAddr, SocketAddr)>,
) -> String {
    let mut text = format!("home = \"{HOME}\"\ncurrency_default = \"SGD\"\n");
    for (id, name, country, currency) in REGIONS.iter().filter(|(id, ..)| regions.contains(id)) {
        let (public, internal) = addresses[id];
        let _ = write!(
            text,
            "[[region]]\nid = \"{id}\"\nname = \"{name}\"\ncountry = \"{country}\"\n\
             currency = \"{currency}\"\npublic = [\"{public}\"]\ninternal = [\"{internal}\"]\n"
        );
    }
    text.push_str("[round_trips_assumed_ms]\n");
    // Far enough apart that the order of distance is never a draw.
    for (n, (a, b)) in pairs(regions).into_iter().enumerate() {
        let _ = writeln!(text, "{a}-{b} = {}", 10 + n);
    }
    text
}

fn pairs<'a>(regions: &[&'a str]) -> Vec<(&'a str, &'a str)> {
    let later = |n: usize| regions[n + 1..].iter();
    regions.iter().enumerate().flat_map(|(n, a)| later(n).map(move |b| (*a, *b))).collect()
}
