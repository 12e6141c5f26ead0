//! A database file that is read again when it changes.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime};

use super::mmdb::{Database, MmdbMalformed};

/// Between two looks at the file. Databases are made anew every week or month; nobody waits for one.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A database, as good as its file. Followed until it is dropped.
pub struct DatabaseFile {
    path: PathBuf,
    database: RwLock<Arc<Database>>,
    /// What was read last, good or not.
    seen: Mutex<Fingerprint>,
}

/// What shows that a file was written or replaced, without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    modified: SystemTime,
    len: u64,
}

/// A database file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseUnusable {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is not a database.
    #[error(transparent)]
    Malformed(#[from] MmdbMalformed),
}

impl DatabaseFile {
    pub(super) fn open(path: &Path) -> Result<Arc<Self>, DatabaseUnusable> {
        // Before it is read: a change while it is read is then seen as one.
        let seen = fingerprint(path)?;
        let database = Database::new(std::fs::read(path)?)?;
        let file = Arc::new(Self {
            path: path.to_owned(),
            database: RwLock::new(Arc::new(database)),
            seen: Mutex::new(seen),
        });
        let followed = Arc::downgrade(&file);
        std::thread::Builder::new().name("mmdb".to_owned()).spawn(move || follow(&followed))?;
        Ok(file)
    }

    pub(super) fn database(&self) -> Arc<Database> {
        self.database.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file again if it has changed. One that cannot be used changes nothing, and is told once.
    pub(super) fn look(&self) {
        let Ok(found) = fingerprint(&self.path) else {
            // Between being removed and being there again, most likely.
            return;
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == found {
            return;
        }
        *seen = found;
        drop(seen);
        let read = std::fs::read(&self.path).map_err(DatabaseUnusable::from);
        match read.and_then(|bytes| Ok(Database::new(bytes)?)) {
            Ok(database) => {
                *self.database.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(database);
                tracing::info!(file.path = %self.path.display(), "country database read again");
            }
            Err(error) => tracing::warn!(
                file.path = %self.path.display(), error = %error,
                "country database changed and cannot be used, the one before stays"
            ),
        }
    }
}

impl fmt::Debug for DatabaseFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.database().fmt(f)
    }
}

fn follow(file: &Weak<DatabaseFile>) {
    loop {
        std::thread::sleep(LOOK_EVERY);
        let Some(file) = file.upgrade() else { return };
        file.look();
    }
}

fn fingerprint(path: &Path) -> io::Result<Fingerprint> {
    let metadata = std::fs::metadata(path)?;
    Ok(Fingerprint { modified: metadata.modified()?, len: metadata.len() })
}
