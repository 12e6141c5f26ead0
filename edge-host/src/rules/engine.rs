use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use wasmtime::component::{Component, Linker};
use wasmtime::{
    Cache, CacheConfig, Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy,
    PoolingAllocationConfig, WasmFeatures,
};

use super::bindings::{self, InstancePre, World};
use super::loaded::{self, Call, Calls, Rules, TABLE_ELEMENTS_MAX};
use super::{COMPONENT_BYTES_MAX, EngineError, LoadError, Revision, check, self_check};

/// Instances in the pool. A call runs on one thread from beginning to end, so a few for each core are in use
/// at once; each takes 4 GiB of address space, and memory only for what it touches.
const POOL_INSTANCES: u32 = 64;
/// Calls at once. Below [`POOL_INSTANCES`], so that the pool is never full: the rest is for the self-check.
const CALLS_AT_ONCE_MAX: usize = 56;
/// Core instances in one component: the rules, and two that the encoder adds to connect `log`.
const CORE_INSTANCES_MAX: u32 = 8;
/// Tables in one component: one of the rules, and one of the encoder.
const TABLES_MAX: u32 = 4;
/// Bytes of an instance's memory that stay in place for the next call, written back to what they were at the
/// beginning. Guests made with this repository's adapter and its small stack begin with less, and then a call
/// needs no system call at all. What lies beyond is given back to the system, and faulted in again.
const KEEP_RESIDENT_BYTES: usize = 256 * 1024;
/// Stack of the rules, taken from the stack of the calling thread.
const STACK_BYTES_MAX: usize = 512 * 1024;
/// Wall clock for one question of the self-check. It decides for good, perhaps while the machine is busy with
/// everything else, so fuel alone is to refuse: a region must not refuse what the others run.
const SELF_CHECK_DEADLINE: Duration = Duration::from_secs(10);
/// The clock that [`RulesLimits::deadline`] is counted in.
const EPOCH_TICK: Duration = Duration::from_millis(50);
/// Compiled components on disk: some tens of revisions.
const CACHE_FILES_MAX: u64 = 64;
/// Bytes of compiled components on disk.
const CACHE_BYTES_MAX: u64 = 128 * 1024 * 1024;
/// The mode of the cache's directory.
const PRIVATE_MODE: u32 = 0o700;
/// Of a directory's mode: its group's, and everybody's.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// What one call of the rules may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RulesLimits {
    /// Instructions for any call. A cart of 5 lines takes the standard rules 50 thousand.
    pub fuel_base: u64,
    /// Instructions more for each line of the carts in the call. The largest cart there can be, with 20
    /// coupons, takes the standard rules 110 thousand a line.
    pub fuel_per_line: u64,
    /// Instructions at most: about 0.1 s of one core, as long as one shopper may hold it.
    pub fuel_max: u64,
    /// Bytes of memory. The largest merge takes the standard rules less than 3 MiB.
    pub memory_bytes: usize,
    /// Wall clock, for what fuel does not see. Wide, because it also runs while the machine is busy with
    /// something else; fuel is the limit that rules are written against.
    pub deadline: Duration,
}

impl Default for RulesLimits {
    fn default() -> Self {
        Self {
            fuel_base: 10_000_000,
            fuel_per_line: 300_000,
            fuel_max: 200_000_000,
            memory_bytes: 4 * 1024 * 1024,
            deadline: Duration::from_secs(1),
        }
    }
}

impl RulesLimits {
    pub(super) fn fuel(&self, lines: usize) -> u64 {
        let lines = u64::try_from(lines).unwrap_or(u64::MAX);
        self.fuel_max.min(self.fuel_base.saturating_add(self.fuel_per_line.saturating_mul(lines)))
    }

    pub(super) fn deadline_ticks(&self) -> u64 {
        // One more, because the first tick may come at once.
        u64::try_from(self.deadline.as_millis() / EPOCH_TICK.as_millis()).unwrap_or(u64::MAX - 1) + 1
    }
}

/// How to set the engine up.
#[derive(Clone, Debug, Default)]
pub struct RulesOptions {
    /// Where compiled components are kept, so that a restart does not compile again. Only this service may
    /// write there: what lies in it is run. `None` compiles at every start.
    pub cache_dir: Option<PathBuf>,
    /// What one call may use.
    pub limits: RulesLimits,
}

/// What all revisions share. One in a process.
pub struct RulesEngine {
    engine: Engine,
    linker: Linker<Call>,
    limits: RulesLimits,
    permits: Arc<Semaphore>,
    /// One component is compiled and checked at a time: it costs a core, and instances without a permit.
    loading: Mutex<()>,
}

impl RulesEngine {
    /// Sets the engine up and starts its clock, a thread that ends with it.
    pub fn new(options: &RulesOptions) -> Result<Arc<Self>, EngineError> {
        let failed = |error: wasmtime::Error| EngineError::Engine { detail: format!("{error:#}") };
        let mut config = config(&options.limits);
        if let Some(directory) = &options.cache_dir {
            config.cache(Some(cache(directory)?));
        }
        let engine = Engine::new(&config).map_err(failed)?;
        let mut linker = Linker::new(&engine);
        loaded::link_log(&mut linker).map_err(failed)?;
        start_clock(engine.weak())?;
        Ok(Arc::new(Self {
            engine,
            linker,
            limits: options.limits,
            permits: Arc::new(Semaphore::new(CALLS_AT_ONCE_MAX)),
            loading: Mutex::new(()),
        }))
    }

    /// Takes a component in: size, format, imports, world, machine code, manifest, self-check. Nothing that is
    /// running changes. Blocking, for some hundreds of milliseconds the first time.
    pub fn load(&self, bytes: &[u8]) -> Result<Rules, LoadError> {
        if bytes.len() > COMPONENT_BYTES_MAX {
            return Err(LoadError::TooLarge { bytes: bytes.len() });
        }
        look_at_header(bytes)?;
        let _one_at_a_time = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        let component = Component::new(&self.engine, bytes)
            .map_err(|error| LoadError::Compile { detail: format!("{error:#}") })?;
        let linked = self.link(&component)?;
        let calls = Calls { linked, limits: self.limits };
        let unhurried =
            Calls { limits: RulesLimits { deadline: SELF_CHECK_DEADLINE, ..self.limits }, ..calls.clone() };
        let manifest =
            unhurried.describe().map_err(|source| LoadError::SelfCheck { case: "describe()", source })?.value;
        check::manifest(&manifest).map_err(|detail| LoadError::Manifest { detail })?;
        self_check::run(&unhurried)?;
        Ok(Rules {
            revision: Revision::of(bytes),
            manifest,
            bytes: Bytes::copy_from_slice(bytes),
            calls,
            permits: Arc::clone(&self.permits),
        })
    }

    fn link(&self, component: &Component) -> Result<InstancePre<Call>, LoadError> {
        let component_type = component.component_type();
        let forbidden =
            component_type.imports(&self.engine).map(|(name, _)| name).find(|name| *name != bindings::LOG);
        if let Some(name) = forbidden {
            return Err(LoadError::ForbiddenImport { name: name.to_string() });
        }
        let wrong = |error: wasmtime::Error| LoadError::WrongWorld { detail: format!("{error:#}") };
        let Some(world) = World::of(&component_type, &self.engine) else {
            let exports: Vec<&str> = component_type.exports(&self.engine).map(|(name, _)| name).collect();
            let exports = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
            let detail = format!("it exports {exports}, and not {}", bindings::INTERFACES.join(" or "));
            return Err(LoadError::WrongWorld { detail });
        };
        let linked = self.linker.instantiate_pre(component).map_err(wrong)?;
        InstancePre::new(world, linked).map_err(wrong)
    }
}

/// A component begins with `\0asm`, the version and the layer; a core module is of another layer.
fn look_at_header(bytes: &[u8]) -> Result<(), LoadError> {
    let found = match bytes {
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => return Ok(()),
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => "a core module: encode it into a component first",
        [] => "an empty file: build it again",
        _ => "something else: pass the .wasm file of a component",
    };
    Err(LoadError::NotAComponent { found })
}

fn config(limits: &RulesLimits) -> Config {
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(limits)))
        .memory_init_cow(true)
        // Calls are synchronous and short; what concurrent ones need costs each of them.
        .concurrency_support(false)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES_MAX)
        // One input, one answer, on every processor.
        .cranelift_nan_canonicalization(true)
        // Rules are told what trapped, not where: a stack trace would differ from build to build.
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        // What compilers write today and no more: every feature is code that an attacker can reach.
        .wasm_features(
            !(WasmFeatures::WASM2 | WasmFeatures::EXTENDED_CONST | WasmFeatures::COMPONENT_MODEL),
            false,
        );
    config
}

fn pool(limits: &RulesLimits) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(POOL_INSTANCES)
        .total_core_instances(POOL_INSTANCES * CORE_INSTANCES_MAX)
        .total_memories(POOL_INSTANCES)
        .total_tables(POOL_INSTANCES * TABLES_MAX)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(1)
        .max_tables_per_component(TABLES_MAX)
        .table_elements(TABLE_ELEMENTS_MAX)
        .max_memory_size(limits.memory_bytes)
        .max_unused_warm_slots(POOL_INSTANCES)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(TABLE_ELEMENTS_MAX * size_of::<usize>())
        // The kernel could tell which pages were written, but a page that was swapped out escapes the scan,
        // and the next call would find it as it was left (wasmtime #14357). Slower besides, for memories this
        // small.
        .pagemap_scan(Enabled::No);
    pool
}

fn cache(directory: &Path) -> Result<Cache, EngineError> {
    let failed = |detail: String| EngineError::Cache { detail };
    let directory = std::path::absolute(directory).map_err(|error| failed(error.to_string()))?;
    make_private(&directory).map_err(|error| failed(error.to_string()))?;
    let mut config = CacheConfig::new();
    config
        .with_directory(directory)
        .with_file_count_soft_limit(CACHE_FILES_MAX)
        .with_files_total_size_soft_limit(CACHE_BYTES_MAX);
    Cache::new(config).map_err(|error| failed(format!("{error:#}")))
}

/// Makes the directory. Refuses one that other users can write to: compiled code from it is executed unchecked.
fn make_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE_MODE).create(directory)?;
    let found = directory.metadata()?;
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other(format!("{} belongs to another user", directory.display())));
    }
    if found.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(io::Error::other(format!("others can write to {}", directory.display())));
    }
    Ok(())
}

/// Moves the epoch on, so that calls see their deadline, for as long as the engine is there.
fn start_clock(engine: EngineWeak) -> Result<(), EngineError> {
    let tick = move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::sleep(EPOCH_TICK);
        }
    };
    let started = thread::Builder::new().name("rules-clock".to_string()).spawn(tick);
    started.map(drop).map_err(|error| EngineError::Engine { detail: error.to_string() })
}
