//! Where rules come from: a file that the home region watches, and the revision that every region follows.
//!
//! There is one way to active: checked at home, committed to the primary, told to every region by the feed,
//! checked again there, swapped in. What fails a check changes nothing anywhere.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::clock::now_ms;
use crate::error::CartError;
use crate::rules::{Refusal, Revision, Rules, RulesEngine, RulesHandle};
use crate::store::PrimaryStore;
use crate::telemetry::metric;
use crate::upstream::Upstream;

/// A file is read once nothing has happened to it for so long: a copy in progress is not yet a component.
const SETTLE: Duration = Duration::from_millis(50);
/// Where the system tells nothing of changes (network file systems), a look this often finds them.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Loads rules and swaps them in.
pub struct RulesSource {
    engine: Arc<RulesEngine>,
    handle: Arc<RulesHandle>,
    upstream: Arc<Upstream>,
    region: String,
    /// Checked at home, and about to come back through the feed: no need to load it twice.
    staged: Mutex<Option<Arc<Rules>>>,
}

impl RulesSource {
    /// A source that has loaded nothing yet.
    pub fn new(
        engine: Arc<RulesEngine>,
        handle: Arc<RulesHandle>,
        upstream: Arc<Upstream>,
        region: String,
    ) -> Self {
        Self { engine, handle, upstream, region, staged: Mutex::default() }
    }

    /// Runs a revision from now on. Fails only where another try can help; a component that is refused stays
    /// refused, and the rules that ran before go on.
    pub async fn follow(&self, revision: &str) -> Result<(), CartError> {
        let is_it = |rules: &Arc<Rules>| revision.parse() == Ok(*rules.revision());
        if self.handle.current().as_ref().is_some_and(is_it) {
            return Ok(());
        }
        let staged = self.staged.lock().expect("no holder of the lock can panic").take().filter(is_it);
        let rules = match staged.or_else(|| self.handle.previous().filter(is_it)) {
            Some(rules) => rules,
            None => {
                let bytes = self.upstream.rules(revision).await?;
                let bytes =
                    bytes.ok_or_else(|| CartError::Internal(format!("no rules {revision} anywhere")))?;
                match self.load(bytes).await {
                    Ok(rules) => Arc::new(rules),
                    Err(_) => return Ok(()),
                }
            }
        };
        self.activate(rules);
        Ok(())
    }

    /// Activates a file in every region whenever it changes; for ever.
    pub async fn watch(&self, path: &Path, store: &dyn PrimaryStore) {
        let (changed, mut changes) = mpsc::channel(1);
        // Both are kept for as long as the file is watched; without a sender, waiting would not wait.
        let _watcher = watch_folder(path, changed.clone());
        let _sender = changed;
        let mut seen = None;
        let mut published = None;
        loop {
            let stamp = stamp(path);
            if stamp.is_some() && stamp != seen && self.publish(path, store, &mut published).await {
                seen = stamp;
            }
            // Whichever comes first: the system's word, or the time to look without it.
            let _ = tokio::time::timeout(LOOK_AGAIN, changes.recv()).await;
            while tokio::time::timeout(SETTLE, changes.recv()).await.is_ok_and(|change| change.is_some()) {}
        }
    }

    /// Activates the file's component everywhere. Returns whether that settles this state of the file: it was
    /// published or refused; what could not be read or written is tried again.
    async fn publish(&self, path: &Path, store: &dyn PrimaryStore, published: &mut Option<Revision>) -> bool {
        let bytes = match tokio::fs::read(path).await {
            Ok(bytes) => bytes,
            Err(error) => {
                warn!(rules.file = %path.display(), error = %error, "rules file cannot be read");
                return false;
            }
        };
        let revision = Revision::of(&bytes);
        if *published == Some(revision) {
            return true;
        }
        let Ok(rules) = self.load(bytes).await else { return true };
        let rules = Arc::new(rules);
        *self.staged.lock().expect("no holder of the lock can panic") = Some(Arc::clone(&rules));
        if let Err(error) = store.activate_rules(&revision.full(), rules.bytes(), now_ms()).await {
            error!(rules.revision = %revision, error = %error, "rules not activated");
            return false;
        }
        *published = Some(revision);
        true
    }

    /// Checks and compiles; the refusal is logged and remembered here.
    async fn load(&self, bytes: Vec<u8>) -> Result<Rules, ()> {
        let engine = Arc::clone(&self.engine);
        let revision = Revision::of(&bytes);
        let started = Instant::now();
        let checked = tokio::task::spawn_blocking(move || {
            engine.load(&bytes).map_err(|error| Refusal::new(now_ms(), &bytes, &error))
        });
        match checked.await {
            Ok(Ok(rules)) => {
                info!(
                    rules.revision = %revision, rules.name = rules.manifest().name,
                    duration_ms = started.elapsed().as_millis(), "rules checked"
                );
                Ok(rules)
            }
            Ok(Err(refusal)) => {
                error!(
                    rules.revision = %revision, error.code = refusal.code, error = refusal.reason,
                    "rules refused, the active ones stay"
                );
                self.handle.record_refusal(refusal);
                Err(())
            }
            Err(panic) => {
                error!(rules.revision = %revision, error = %panic, "rules could not be checked");
                Err(())
            }
        }
    }

    fn activate(&self, rules: Arc<Rules>) {
        let (revision, name) = (rules.revision().to_string(), rules.manifest().name.clone());
        let before = self.handle.current().map(|rules| rules.revision().to_string());
        self.handle.activate(rules, now_ms());
        metric::rules_revision(&self.region, &revision, before.as_deref());
        info!(rules.revision = revision, rules.name = name, rules.before = before, "rules active");
    }
}

/// Tells when anything happens in the file's folder: saving often replaces the file itself.
fn watch_folder(path: &Path, changed: mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let name = path.file_name().map(ToOwned::to_owned);
    let tell = move |event: notify::Result<notify::Event>| {
        // What else happens in the folder is not waited for: a busy neighbour would never let the file settle.
        let of_file = |path: &PathBuf| path.file_name() == name.as_deref();
        if event.map_or(true, |event| event.need_rescan() || event.paths.iter().any(of_file)) {
            // Full means that somebody is about to look anyway.
            let _ = changed.try_send(());
        }
    };
    let watching = notify::recommended_watcher(tell).and_then(|mut watcher| {
        watcher.watch(&folder, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    match watching {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            warn!(rules.folder = %folder.display(), error = %error, "folder not watched, looking now and then");
            None
        }
    }
}

/// Tells one state of a file from another.
fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
