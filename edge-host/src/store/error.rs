//! What breaks in a store.

use crate::telemetry::chain;

/// Something broke in a store. Only [`Unavailable`](Self::Unavailable) says that the store is gone.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// One cart, item or coupon is being changed by others. Everything else goes on.
    #[error("{0} is busy: others are changing it")]
    Busy(&'static str),
    /// The store works, and has more to do than it can do in time.
    #[error("the store has too much to do")]
    Overloaded(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store cannot be reached, or says itself that it cannot serve.
    #[error("the store is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store answered something that cannot be: a bug, or data that someone else wrote.
    #[error("the store holds what it cannot hold: {0}")]
    Corrupt(String),
}

/// What did not come in time.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0} did not come in time")]
pub struct Late(pub &'static str);

impl StoreError {
    /// The store cannot be reached, for this reason.
    pub fn unavailable(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Unavailable(reason.into())
    }

    /// The store has too much to do, as this shows.
    pub fn overloaded(sign: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Overloaded(sign.into())
    }

    /// What kind of error it is, for a trace.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Busy(_) => "busy",
            Self::Overloaded(_) => "overloaded",
            Self::Unavailable(_) => "unavailable",
            Self::Corrupt(_) => "corrupt",
        }
    }

    /// Whether it is silence, and no word of the store's.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Unavailable(source) | Self::Overloaded(source) if source.is::<Late>())
    }

    /// The same for one of several that have met it.
    pub fn shared(&self) -> Self {
        match self {
            Self::Busy(what) => Self::Busy(what),
            Self::Overloaded(sign) => Self::overloaded(chain(sign.as_ref())),
            Self::Unavailable(why) => Self::unavailable(chain(why.as_ref())),
            Self::Corrupt(what) => Self::Corrupt(what.clone()),
        }
    }
}
