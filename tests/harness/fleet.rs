mod doors;
mod options;
mod promote;
mod start;
mod topology;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::SystemTime;

use edge_host::app::App;
use edge_host::config::Config;
use futures_util::future::LocalBoxFuture;
use region_router::link::Link;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;

use crate::peers::peer_caller;
use crate::stack::{Primary, Replica, Servers, Stack};
use crate::{
    Admin, Caller, MySqlGroup, MySqlReplica, MySqlServer, PeerCa, PeerIdentity, RedisServer, eventually,
    free_port, peer_ca,
};

pub use doors::Door;
pub use options::FleetOptions;
use topology::Addresses;

/// The region that holds the primary.
pub(crate) const HOME: &str = "sin";
/// The shared secret of user tokens in every fleet of the tests.
pub const HS256_SECRET: &str = "the-tests-sign-user-tokens-with-this";
const GUEST_SECRET: &str = "the-tests-sign-guest-tokens-with-this";
const ADMIN_TOKEN: &str = "the-tests-open-the-admin-routes-with-this";

/// Regions in this process, with ports, files and threads of their own.
pub struct Fleet {
    regions: BTreeMap<&'static str, Region>,
    links: BTreeMap<&'static str, Link>,
    front_door: Option<SocketAddr>,
    geodns: Option<SocketAddr>,
    rules_file: PathBuf,
    topology: String,
    /// Apart from the runtimes of the tests, which end before a shared fleet does.
    runtime: Option<Runtime>,
    /// After the regions that need them.
    servers: Option<Servers>,
    standby: Option<&'static str>,
    /// The last to go.
    directory: TempDir,
}

/// The variables of an edge.
type Settings = HashMap<&'static str, String>;

struct Region {
    settings: Settings,
    addresses: Addresses,
    app: Mutex<Option<App>>,
    /// The second edge, where there is one.
    twin: Option<(Addresses, Mutex<Option<App>>)>,
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
    ///
    /// In a box, so that this large future is compiled here once and not in every test.
    pub fn start(options: FleetOptions) -> LocalBoxFuture<'static, Self> {
        Box::pin(start::start(options))
    }

    /// Starts a region that was stopped, at its old addresses, and waits until it is ready.
    pub async fn start_region(&self, id: &str) {
        self.start_region_with(id, &[]).await;
    }

    /// Starts a region that was stopped with some settings changed, and waits until it is ready.
    pub async fn start_region_with(&self, id: &str, changed: &[(&'static str, String)]) {
        let region = self.region(id);
        let app = self.start_app(id, changed).await;
        let Addresses { public, internal, peers } = region.addresses;
        assert_eq!((app.public_addr(), app.internal_addr(), app.peer_addr()), (public, internal, peers));
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
        self.stop_edge(app).await;
    }

    /// Starts another edge of a region, beside the one that it has, at addresses of its own.
    pub async fn start_edge(&self, id: &str) -> App {
        let app = self.start_app(id, &own_addresses()).await;
        let probe = Caller::new(format!("http://{}", app.internal_addr()));
        eventually(&format!("another edge of {id} is ready"), async || {
            probe.get("/readyz").send().await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
        app
    }

    /// Starts a region that was stopped, on a host whose clock is wrong by this much. It listens, and may not be ready.
    pub async fn start_region_by_clock(&self, id: &str, shift_ms: i64) {
        let config = self.config(id, &[]);
        let started = self.runtime().spawn(App::start_by_clock(config, shift_ms));
        let app = started.await.expect("starting does not panic");
        *self.region(id).app.lock().await = Some(app.unwrap_or_else(|error| panic!("{id}: {error:#?}")));
    }

    /// Starts another edge of a region on a host whose clock is wrong by this much. It listens, and may not be ready.
    pub async fn start_edge_by_clock(&self, id: &str, shift_ms: i64) -> App {
        let config = self.config(id, &own_addresses());
        let started = self.runtime().spawn(App::start_by_clock(config, shift_ms));
        started.await.expect("starting does not panic").unwrap_or_else(|error| panic!("{id}: {error:#?}"))
    }

    /// Stops such an edge as a signal would.
    pub async fn stop_edge(&self, edge: App) {
        self.runtime().spawn(edge.shutdown()).await.expect("stopping does not panic");
    }

    fn config(&self, id: &str, changed: &[(&'static str, String)]) -> Config {
        let mut settings = self.region(id).settings.clone();
        settings.extend(changed.iter().cloned());
        let config = Config::load(|name| settings.get(name).cloned());
        config.unwrap_or_else(|errors| panic!("the settings of {id} are wrong:\n{errors}"))
    }

    async fn start_app(&self, id: &str, changed: &[(&'static str, String)]) -> App {
        let config = self.config(id, changed);
        let started = self.runtime().spawn(App::start(config)).await.expect("starting does not panic");
        started.unwrap_or_else(|error| panic!("{id} does not start: {error:#?}"))
    }

    /// Nobody in particular, calling a region.
    pub fn at(&self, id: &str) -> Caller {
        Caller::new(self.url(id))
    }

    /// Where a region's public API is.
    pub fn url(&self, id: &str) -> String {
        format!("http://{}", self.region(id).addresses.public)
    }

    /// Where a region's internal listener is.
    pub fn internal_address(&self, id: &str) -> SocketAddr {
        self.region(id).addresses.internal
    }

    /// Nobody in particular, calling a region's internal listener.
    pub fn internal(&self, id: &str) -> Caller {
        Caller::new(format!("http://{}", self.region(id).addresses.internal))
    }

    /// Whoever has this certificate, or none, calling a region's listener for other regions.
    pub fn peer(&self, id: &str, shows: Option<&PeerIdentity>) -> Caller {
        self.peer_of(peer_ca(), id, shows)
    }

    /// The same, believing another CA.
    pub fn peer_of(&self, believes: &PeerCa, id: &str, shows: Option<&PeerIdentity>) -> Caller {
        peer_caller(id, self.region(id).addresses.peers, believes, shows)
    }

    /// Replaces the certificates that a region uses and believes, while it runs.
    pub fn certify(&self, id: &str, ca: &PeerCa) {
        ca.write(id, self.directory.path());
    }

    /// Gives a region a certificate that was made for it.
    pub fn certify_as(&self, id: &str, ca: &PeerCa, identity: &PeerIdentity) {
        ca.write_identity(id, identity, self.directory.path());
    }

    /// The admin of the home region.
    pub fn admin(&self) -> Admin {
        self.admin_at(HOME)
    }

    /// The admin of a region.
    pub fn admin_at(&self, id: &str) -> Admin {
        Admin::new(format!("http://{}", self.region(id).addresses.internal), ADMIN_TOKEN)
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

    /// The primary's server, in a fleet without a group.
    pub fn mysql(&self) -> &MySqlServer {
        match &self.servers().primary {
            Primary::Single(mysql) => mysql,
            Primary::Group(_) => panic!("this fleet has a group"),
        }
    }

    /// The group that has the primary, in a fleet with one.
    pub fn group(&self) -> &MySqlGroup {
        match &self.servers().primary {
            Primary::Group(group) => group,
            Primary::Single(_) => panic!("this fleet was started without a group"),
        }
    }

    /// The links from the home region to its primary, or to each member of the group, in their order.
    pub fn primary_links(&self) -> &[Link] {
        &self.servers().primary_links
    }

    /// The link from the home region to its primary, in a fleet without a group.
    pub fn mysql_link(&self) -> &Link {
        let [link] = self.primary_links() else { panic!("this fleet has a group") };
        link
    }

    /// The replica of a region.
    pub fn replica(&self, id: &str) -> &MySqlReplica {
        &self.replica_of(id).server
    }

    /// The link from a region to its replica.
    pub fn replica_link(&self, id: &str) -> &Link {
        &self.replica_of(id).link
    }

    /// The link from a region's replica to its source, in a fleet without a group.
    pub fn source_link(&self, id: &str) -> &Link {
        self.replica_of(id).source_link.as_ref().expect("members of a group are reached past any link")
    }

    /// Whether the regions have replicas.
    pub fn has_replicas(&self) -> bool {
        self.servers.as_ref().is_some_and(|servers| !servers.replicas.is_empty())
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

    /// Whether there is a front door.
    pub fn has_front_door(&self) -> bool {
        self.front_door.is_some()
    }

    /// Where the front door's name server is asked, for `cart.troli.test`.
    pub fn geodns(&self) -> SocketAddr {
        self.geodns.expect("this fleet was started with a front door")
    }

    /// Nobody in particular, calling the front door.
    pub fn front_door(&self) -> Caller {
        Caller::new(self.front_door_url())
    }

    /// Where the front door is.
    pub fn front_door_url(&self) -> String {
        format!("http://{}", self.front_door.expect("this fleet was started with a front door"))
    }

    /// Saves a component where the home region looks for its rules, whole at once, as an editor would.
    pub fn save_rules(&self, component: &[u8]) {
        let beside = self.rules_file.with_extension("saving");
        fs::write(&beside, component).expect("the fleet's directory can be written to");
        fs::rename(&beside, &self.rules_file).expect("a file can be renamed in its directory");
    }

    /// The same with a time of the file that says nothing.
    pub fn save_rules_of_time(&self, component: &[u8], modified: SystemTime) {
        let beside = self.rules_file.with_extension("saving");
        fs::write(&beside, component).expect("the fleet's directory can be written to");
        let file = fs::File::options().write(true).open(&beside).expect("it was just written");
        file.set_modified(modified).expect("the time of a file can be set");
        fs::rename(&beside, &self.rules_file).expect("a file can be renamed in its directory");
    }

    /// Puts a file of this size, without content, where the home region looks for its rules.
    pub fn save_large_rules(&self, bytes: u64) {
        let beside = self.rules_file.with_extension("saving");
        let file = fs::File::create(&beside).expect("the fleet's directory can be written to");
        file.set_len(bytes).expect("a file may have holes");
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

    fn region(&self, id: &str) -> &Region {
        self.regions.get(id).unwrap_or_else(|| panic!("this fleet has no region {id}"))
    }

    fn replica_of(&self, id: &str) -> &Replica {
        self.servers().replicas.get(id).unwrap_or_else(|| panic!("{id} has no replica"))
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

/// Of another edge beside that of a region.
fn own_addresses() -> Vec<(&'static str, String)> {
    let mut changed: Vec<_> = ["TROLI_LISTEN", "TROLI_INTERNAL_LISTEN", "TROLI_PEER_LISTEN"]
        .map(|name| (name, any_port().to_string()))
        .into();
    // One edge that follows the file is enough.
    changed.push(("TROLI_RULES_FILE", String::new()));
    changed
}

pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn free() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}
