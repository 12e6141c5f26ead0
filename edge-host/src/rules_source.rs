//! Where rules come from: a file that the home region watches, and the revision that every region follows.
//!
//! There is one way to active: checked at home, committed to the primary, told to every region by the feed,
//! checked again there, swapped in. What fails a check changes nothing anywhere.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use notify::{RecursiveMode, Watcher};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::error::CartError;
use crate::rules::{COMPONENT_BYTES_MAX, Refusal, Revision, Rules, RulesEngine, RulesHandle};
use crate::store::{PrimaryStore, StoreError};
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
    clock: Clock,
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
        clock: Clock,
        region: String,
    ) -> Self {
        Self { engine, handle, upstream, clock, region, staged: Mutex::default() }
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
                verify(revision, &bytes)?;
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
    ///
    /// The file that is there at the start activates nothing, unless no rules are active at all: every edge of the home
    /// region may have a file of its own, and one that restarts with an older file must not take all regions back.
    pub async fn watch(&self, path: &Path, store: &dyn PrimaryStore) {
        let (changed, mut changes) = mpsc::channel(1);
        // Both are kept for as long as the file is watched; without a sender, waiting would not wait.
        let _watcher = watch_folder(path, changed.clone());
        let _sender = changed;
        let mut seen: Option<Revision> = None;
        let mut began = false;
        loop {
            match read(path).await {
                Ok(None) => {}
                Ok(Some(bytes)) if !began => match self.begin(&bytes, path, store).await {
                    Ok(settled) => {
                        (began, seen) = (true, settled);
                        if seen.is_none() {
                            continue;
                        }
                    }
                    Err(error) => info!(error = %error, "it is not known yet which rules are active"),
                },
                Ok(Some(bytes)) => {
                    let revision = Revision::of(&bytes);
                    if seen != Some(revision) && self.publish(bytes, store).await {
                        seen = Some(revision);
                    }
                }
                Err(error) => {
                    warn!(rules.file = %path.display(), error = %error, "rules file cannot be read")
                }
            }
            // Whichever comes first: the system's word, or the time to look without it.
            let _ = tokio::time::timeout(LOOK_AGAIN, changes.recv()).await;
            while tokio::time::timeout(SETTLE, changes.recv()).await.is_ok_and(|change| change.is_some()) {}
        }
    }

    /// What the file that is there at the start comes to: it counts as seen, unless there are no rules yet.
    async fn begin(
        &self,
        bytes: &[u8],
        path: &Path,
        store: &dyn PrimaryStore,
    ) -> Result<Option<Revision>, StoreError> {
        let Some(active) = store.active_rules().await? else { return Ok(None) };
        let revision = Revision::of(bytes);
        if active.parse() != Ok(revision) {
            warn!(
                rules.file = %path.display(), rules.revision = %revision, rules.active = active,
                "the rules file is not what is active, and is not activated at a start: save it again to activate it"
            );
        }
        Ok(Some(revision))
    }

    /// Activates a component everywhere. Returns whether that settles it: it was published or refused; what could not
    /// be written is tried again.
    async fn publish(&self, bytes: Vec<u8>, store: &dyn PrimaryStore) -> bool {
        let revision = Revision::of(&bytes);
        let Ok(rules) = self.load(bytes).await else { return true };
        let rules = Arc::new(rules);
        *self.staged.lock().expect("no holder of the lock can panic") = Some(Arc::clone(&rules));
        let activated = store.activate_rules(&revision.full(), rules.bytes(), self.clock.now_ms()).await;
        if let Err(error) = &activated {
            error!(rules.revision = %revision, error = %error, "rules not activated");
        }
        activated.is_ok()
    }

    /// Checks and compiles; the refusal is logged and remembered here.
    async fn load(&self, bytes: Vec<u8>) -> Result<Rules, ()> {
        let (engine, clock) = (Arc::clone(&self.engine), self.clock.clone());
        let revision = Revision::of(&bytes);
        let started = Instant::now();
        let checked = tokio::task::spawn_blocking(move || {
            engine.load(&bytes).map_err(|error| Refusal::new(clock.now_ms(), &bytes, &error))
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
        self.handle.activate(rules, self.clock.now_ms());
        metric::rules_revision(&self.region, &revision, before.as_deref());
        info!(rules.revision = revision, rules.name = name, rules.before = before, "rules active");
    }
}

/// Refuses a component that is not the one that was asked for, before it is compiled.
fn verify(revision: &str, bytes: &[u8]) -> Result<(), CartError> {
    let found = Revision::of(bytes);
    if revision.parse() == Ok(found) {
        return Ok(());
    }
    Err(CartError::Internal(format!("rules {revision} were asked for, and {} came", found.full())))
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

/// The file, where there is one. It is told from another by what is in it: a new component may have the size and the
/// time of the old one.
async fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let bytes = async {
        let file = tokio::fs::File::open(path).await?;
        let mut bytes = Vec::new();
        // One byte more, so that a file that is too large is refused as such.
        file.take(COMPONENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).await?;
        Ok::<_, io::Error>(bytes)
    };
    match bytes.await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_is_the_one_that_was_asked_for() {
        let revision = Revision::of(b"one").full();
        assert_eq!(verify(&revision, b"one"), Ok(()));
        for (revision, bytes) in [(revision.as_str(), b"two"), (&revision[..12], b"one"), ("", b"one")] {
            assert!(matches!(verify(revision, bytes), Err(CartError::Internal(_))), "{revision}");
        }
    }
}
