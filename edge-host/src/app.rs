//! The composition root: the one place where adapters are made and parts are put together.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use region_router::discovery::Discovery;
use region_router::proximity::{Countries, DatabaseUnusable};
use region_router::regions::Regions;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::auth::{KeysError, Tokens};
use crate::catalogue::Catalogue;
use crate::clock::Clock;
use crate::config::{CacheAt, Config, Database, Role};
use crate::epoch::KnownEpoch;
use crate::feed::{CacheKeeper, CatalogueFeed, FeedReader, Hints};
use crate::home::detached::Detached;
use crate::home::local::{LocalHome, WRITES_OF_ONE_CART_MAX};
use crate::home::remote::RemoteHome;
use crate::home::taken::Taken;
use crate::home::{HomeRegion, Homes};
use crate::http::{self, AdminGuesses, Api, RateLimits};
use crate::model::Millis;
use crate::replica::Replica;
use crate::rules::{EngineError, RulesEngine, RulesHandle, RulesLimits, RulesOptions};
use crate::rules_source::RulesSource;
use crate::serve;
use crate::service::CartService;
use crate::shares::Queues;
use crate::store::memory::MemoryCache;
use crate::store::mysql::MySqlStore;
use crate::store::redis::RedisCache;
use crate::store::sqlite::SqliteStore;
use crate::store::{CartCache, PrimaryStore, StoreError, Swept, Traced};
use crate::telemetry::{self, metric};
use crate::upstream::Upstream;

/// From the signal to stop until no connection is taken any more. Front doors ask five times a second, and other regions
/// twice; by then they have sent their requests elsewhere. Each answer meanwhile ends its connection.
const DRAIN_LEAD: Duration = Duration::from_millis(800);
/// Requests in progress may end within this time after that.
const DRAIN_DEADLINE: Duration = Duration::from_secs(3);
/// The janitor looks for what has had its time this often.
const SWEEP_PERIOD: Duration = Duration::from_secs(30);
/// After a sweep that found something, the next batch follows this soon.
const SWEEP_PAUSE: Duration = Duration::from_millis(200);
/// A clock that is wrong, or a time that is not known yet, may be right after this.
const CLOCK_PERIOD: Duration = Duration::from_secs(1);
/// A cache that does not answer at the start is found later.
const PRIME_DEADLINE: Duration = Duration::from_millis(500);
/// Callers that were quiet for a while are forgotten this often.
const TIDY_PERIOD: Duration = Duration::from_secs(60);

/// One running edge.
pub struct App {
    public_addr: SocketAddr,
    internal_addr: SocketAddr,
    peer_addr: SocketAddr,
    draining: CancellationToken,
    stopping: CancellationToken,
    servers: JoinSet<io::Result<()>>,
    /// The feed, the janitor and the like; ended when the edge is dropped.
    background: JoinSet<()>,
}

/// Why an edge could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The primary could not be opened.
    #[error("the primary cannot be opened")]
    Store(#[from] StoreError),
    /// The rules engine could not be set up.
    #[error("the rules engine cannot be set up")]
    Engine(#[from] EngineError),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The country database cannot be used.
    #[error("the country database {path} cannot be used")]
    Countries {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: DatabaseUnusable,
    },
    /// A port could not be bound.
    #[error("{address} cannot be listened on")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl StartError {
    /// Whether the configuration is at fault; found out before any port is bound.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Keys(_) | Self::Countries { .. })
    }
}

impl App {
    /// Puts an edge together and starts it. It listens when this returns; `/readyz` tells when it can serve.
    ///
    /// The future is boxed so that its code is made here, once, and not again wherever an edge is started.
    pub fn start(config: Config) -> BoxFuture<'static, Result<Self, StartError>> {
        Self::start_by_clock(config, 0)
    }

    /// The same with the clock of its host moved, in milliseconds: for tests of a wrong clock.
    pub fn start_by_clock(config: Config, shift_ms: Millis) -> BoxFuture<'static, Result<Self, StartError>> {
        Box::pin(Self::put_together(config, shift_ms))
    }

    async fn put_together(config: Config, shift_ms: Millis) -> Result<Self, StartError> {
        telemetry::prometheus();
        // One for the whole process; a second edge in it finds it there.
        crate::peers::use_ring();
        let tokens = Tokens::new(&config.guest_secrets, &config.user_keys, config.dev_tokens)?;
        let countries = countries(&config)?;
        let options =
            RulesOptions { cache_dir: config.rules_cache_dir.clone(), limits: RulesLimits::default() };
        let engine = RulesEngine::new(&options)?;
        let rules = Arc::new(RulesHandle::empty());
        let region = config.region.to_string();
        let catalogue = Arc::new(Catalogue::default());
        let known = KnownEpoch::default();
        let clock = match &config.role {
            Role::Home { database: Database::Sqlite(_), .. } => Clock::of_host(shift_ms),
            _ => Clock::of_database(shift_ms),
        };
        let primary = primary(&config, &known, &clock).await?;
        let taken = Arc::new(Taken::default());
        let home: Arc<dyn HomeRegion> = match (&config.role, &primary) {
            (Role::Home { .. }, Some(store)) => Arc::new(Detached::new(Arc::new(LocalHome {
                store: Arc::clone(store),
                feed: FeedReader::new(Arc::clone(store) as _),
                rules: Arc::clone(&rules),
                catalogue: Arc::clone(&catalogue),
                clock: clock.clone(),
                region: region.clone(),
                currency_default: config.currency_default,
                writes: Queues::new(WRITES_OF_ONE_CART_MAX),
                taken: Arc::clone(&taken),
            }))),
            (Role::Edge { home_peers }, _) => {
                let found = Discovery::start(home_peers, &config.dns);
                let home = config.topology.home().id;
                let tls = Arc::clone(&config.peer_tls);
                Arc::new(RemoteHome::start(home, found, config.region, tls, known.clone(), clock.clone()))
            }
            (Role::Home { .. }, None) => unreachable!("the home region has a primary"),
        };
        let home: Arc<dyn HomeRegion> = Arc::new(Homes::one(home));
        let cache = cache(&config);
        prime(&known, cache.as_ref()).await;
        let replica = config
            .replica
            .as_ref()
            .map(|target| target.clone().with_dns(config.dns.clone()))
            .map(|target| Traced::new(MySqlStore::open_replica(&target, known.clone()), "mysql"))
            .map(|store| Replica::new(store, known.clone(), clock.clone()));
        let upstream = Arc::new(Upstream::new(Arc::clone(&home), replica, known, config.currency_default));
        let service = Arc::new(CartService::new(
            region.clone(),
            cache,
            home,
            Arc::clone(&upstream),
            catalogue,
            Arc::clone(&rules),
            clock.clone(),
        ));
        let source = Arc::new(RulesSource::new(engine, rules, upstream, clock, region));
        let feed = Arc::new(CatalogueFeed::new(Arc::clone(&service), Arc::clone(&source)));
        let regions = Arc::new(Regions::new(config.topology.clone()));
        let (draining, stopping) = (CancellationToken::new(), CancellationToken::new());
        let api = Arc::new(Api {
            guesses: AdminGuesses::default(),
            limits: RateLimits::new(&config.rates, config.region.as_str()),
            config,
            service,
            tokens,
            primary,
            regions,
            countries,
            feed,
            draining: draining.clone(),
            stopping: stopping.clone(),
        });

        let public = bind(api.config.listen).await?;
        let internal = bind(api.config.internal_listen).await?;
        let peers = bind(api.config.peer_listen).await?;
        let (public_addr, internal_addr, peer_addr) =
            (address(&public)?, address(&internal)?, address(&peers)?);
        let mut servers = JoinSet::new();
        let trusted = api.config.trusted_proxies.clone();
        servers.spawn(serve::anybody(public, http::public_router(&api), trusted.clone(), stopping.clone()));
        servers.spawn(serve::anybody(internal, http::internal_router(&api), trusted, stopping.clone()));
        let (tls, topology) = (Arc::clone(&api.config.peer_tls), Arc::new(api.config.topology.clone()));
        servers.spawn(serve::regions(peers, http::peer_router(&api), tls, topology, stopping.clone()));
        info!(
            region.id = %api.config.region, http.public = %public_addr, http.internal = %internal_addr,
            http.peers = %peer_addr, "listening"
        );
        let background = background(&api, source, taken);
        Ok(Self { public_addr, internal_addr, peer_addr, draining, stopping, servers, background })
    }

    /// Where the public API listens.
    pub fn public_addr(&self) -> SocketAddr {
        self.public_addr
    }

    /// Where the internal listener listens.
    pub fn internal_addr(&self) -> SocketAddr {
        self.internal_addr
    }

    /// Where the listener for other regions listens.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer_addr
    }

    /// Waits until something ends that should not: a task that follows the feed, or a listener. It never
    /// does, unless there is a bug; then it is better to be started anew than to serve what grows old.
    pub async fn failed(&mut self) {
        tokio::select! {
            Some(ended) = self.background.join_next() => error!(ended = ?ended, "a background task has ended"),
            Some(ended) = self.servers.join_next() => error!(ended = ?ended, "a listener has ended"),
        }
    }

    /// Says that it is not ready and serves on for a moment, so that requests go elsewhere; then takes no more
    /// connections, and gives requests in progress a little time to end.
    pub async fn shutdown(mut self) {
        info!("stopping: not ready from now on");
        self.draining.cancel();
        tokio::time::sleep(DRAIN_LEAD).await;
        self.stopping.cancel();
        let drained = async { while self.servers.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_DEADLINE, drained).await.is_err() {
            warn!("some requests did not end in time");
        }
    }
}

fn background(api: &Arc<Api>, source: Arc<RulesSource>, taken: Arc<Taken>) -> JoinSet<()> {
    let mut tasks = region_router::regions::probe(&api.regions, &api.config.dns);
    let feed = Arc::clone(&api.feed);
    tasks.spawn(async move { feed.run().await });
    let keeper = CacheKeeper::new(Arc::clone(&api.service));
    tasks.spawn(async move { keeper.run().await });
    if api.service.upstream.has_replica() {
        let hints = Hints::new(Arc::clone(&api.service));
        tasks.spawn(async move { hints.run().await });
    }
    if let Some(store) = &api.primary {
        let (swept, service) = (Arc::clone(store), Arc::clone(&api.service));
        tasks.spawn(async move { sweep(swept.as_ref(), &service.clock, &service.region).await });
        let probed = Arc::clone(store);
        tasks.spawn(async move { taken.probe(probed.as_ref()).await });
        if let Role::Home { rules_file: Some(path), .. } = &api.config.role {
            let (path, store) = (path.clone(), Arc::clone(store));
            tasks.spawn(async move { source.watch(&path, store.as_ref()).await });
        }
    }
    let peer_tls = Arc::clone(&api.config.peer_tls);
    tasks.spawn(async move { peer_tls.follow().await });
    let clock = api.service.clock.clone();
    tasks.spawn(async move { clock.watch().await });
    let keys = Arc::clone(api);
    tasks.spawn(async move { keys.tokens.follow_user_keys(&keys.config.user_keys).await });
    let tidied = Arc::clone(api);
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(TIDY_PERIOD).await;
            tidied.limits.tidy();
            telemetry::prometheus().run_upkeep();
        }
    });
    tasks
}

/// The janitor: sweeps away what has had its time, in small batches, and says what it took. It does nothing on a host
/// whose clock is wrong, although the time is the database's: something there is not as it should be.
async fn sweep(store: &dyn PrimaryStore, clock: &Clock, region: &str) {
    let mut taken = Swept::default();
    let mut said = Instant::now();
    loop {
        let may_sweep = clock.is_known() && clock.trouble().is_none();
        let pause = if may_sweep {
            match store.sweep(clock.now_ms()).await {
                Ok(swept) => {
                    metric::swept(region, &swept.kinds());
                    taken = taken.and(swept);
                    if swept.rows() == 0 { SWEEP_PERIOD } else { SWEEP_PAUSE }
                }
                Err(error) => {
                    warn!(error = %error, "sweep failed");
                    SWEEP_PERIOD
                }
            }
        } else {
            CLOCK_PERIOD
        };
        if taken.rows() > 0 && (pause == SWEEP_PERIOD || said.elapsed() > SWEEP_PERIOD) {
            let Swept { orders, carts, merged, answers, events } = std::mem::take(&mut taken);
            info!(orders, carts, merged_carts = merged, answers, events, "swept what has had its time");
            said = Instant::now();
        }
        tokio::time::sleep(pause).await;
    }
}

/// A cache that cannot be reached yet is found later.
fn cache(config: &Config) -> Arc<dyn CartCache> {
    match &config.cache {
        CacheAt::Memory => MemoryCache::new(),
        CacheAt::Redis(target) => RedisCache::new(target.clone().with_dns(config.dns.clone())),
    }
}

/// What the cache remembers of epochs counts, too: an edge that starts beside an old primary has nobody else to ask.
async fn prime(known: &KnownEpoch, cache: &dyn CartCache) {
    match tokio::time::timeout(PRIME_DEADLINE, cache.feed_position()).await {
        Ok(Ok(Some(feed))) => known.learn(feed.epoch),
        Ok(Ok(None)) => {}
        Ok(Err(error)) => info!(error = %error, "the cache does not tell its epoch"),
        Err(_) => info!("the cache does not tell its epoch in time"),
    }
}

async fn primary(
    config: &Config,
    known: &KnownEpoch,
    clock: &Clock,
) -> Result<Option<Arc<dyn PrimaryStore>>, StartError> {
    Ok(match &config.role {
        Role::Home { database: Database::Sqlite(path), .. } => {
            Some(Traced::new(SqliteStore::open(path).await?, "sqlite"))
        }
        Role::Home { database: Database::MySql(target), .. } => {
            let target = target.clone().with_dns(config.dns.clone());
            Some(Traced::new(MySqlStore::open(&target, known.clone(), clock.clone()), "mysql"))
        }
        Role::Edge { .. } => None,
    })
}

fn countries(config: &Config) -> Result<Countries, StartError> {
    let Some(path) = &config.mmdb else {
        return Ok(Countries::BuiltIn);
    };
    Countries::open(path).map_err(|source| StartError::Countries { path: path.display().to_string(), source })
}

async fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Bind { address, source })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, StartError> {
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    listener.local_addr().map_err(|source| StartError::Bind { address: unknown, source })
}
