use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The name of some rules: the SHA-256 of their component.
///
/// Shown by its first 12 hex digits; [`full`](Self::full) gives all 64, and only those can be read back. They are what
/// stands in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Revision([u8; 32]);

/// A text that is not a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a revision is 64 lower-case hex digits, the SHA-256 of the component")]
pub struct RevisionError;

/// Enough to tell the revisions of a shop apart, few enough to read out.
const SHORT_BYTES: usize = 6;

impl Revision {
    /// The revision of a component's bytes.
    pub fn of(component: &[u8]) -> Self {
        Self(Sha256::digest(component).into())
    }

    /// All 64 hex digits.
    pub fn full(&self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&HEXLOWER.encode(&self.0[..SHORT_BYTES]))
    }
}

impl From<Revision> for String {
    fn from(revision: Revision) -> Self {
        revision.full()
    }
}

impl TryFrom<String> for Revision {
    type Error = RevisionError;

    fn try_from(text: String) -> Result<Self, RevisionError> {
        text.parse()
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revision({self})")
    }
}

impl FromStr for Revision {
    type Err = RevisionError;

    fn from_str(text: &str) -> Result<Self, RevisionError> {
        let mut digest = [0; 32];
        if HEXLOWER.decode_len(text.len()) != Ok(digest.len()) {
            return Err(RevisionError);
        }
        HEXLOWER.decode_mut(text.as_bytes(), &mut digest).map_err(|_| RevisionError)?;
        Ok(Self(digest))
    }
}
