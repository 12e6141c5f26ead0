//! What can go wrong with a cart, once the request itself is well formed.

use cart_core::Currency;
use serde::{Deserialize, Serialize};

use crate::model::{CartVersion, CurrencyCode, Done};
use crate::telemetry::{Seldom, chain};
use crate::view::ParamsView;

/// Why a request about a cart was not done.
///
/// It crosses the wire from the home region to the region that forwarded, hence serde. It knows nothing of
/// HTTP; `http::problem` turns it into a status and a problem document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum CartError {
    /// The rules said no.
    #[error("the cart rules refuse")]
    Rejected(Vec<Reason>),
    /// The guest's cart went to a user.
    #[error("the cart went to a user")]
    CartMerged,
    /// `If-Match` does not hold.
    #[error("the cart is at version {0}")]
    VersionMismatch(CartVersion),
    /// The cart costs something else than the client believes.
    #[error("the cart costs something else now")]
    CartChanged {
        /// Minor units.
        current_total: i64,
        /// Their currency.
        currency: CurrencyCode,
    },
    /// The idempotency key was used for another request. This is all that an edge of the release before understands,
    /// and all that it is told.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The idempotency key was used for another request, and this was done.
    #[error("the idempotency key was used for another request, which was done")]
    KeyUsed(Done),
    /// The first request with the idempotency key is still under way.
    #[error("the first request with this idempotency key is still under way")]
    InProgress,
    /// No such line in the cart.
    #[error("the cart has no line {0}")]
    LineUnknown(String),
    /// No such item in the catalogue.
    #[error("there is no item {0}")]
    ItemUnknown(String),
    /// No such order, or somebody else's.
    #[error("there is no order {0}")]
    OrderUnknown(String),
    /// The rules component failed; the code says how.
    #[error("the cart rules failed")]
    RulesFailed {
        /// `rules_out_of_fuel`, `rules_trapped`, …
        code: String,
    },
    /// The home region cannot be reached, and nothing nearer can answer.
    #[error("the home region cannot be reached")]
    HomeUnavailable,
    /// More is under way than may be.
    #[error("too many requests are under way")]
    Overloaded,
    /// What the request is about is being changed by too many others at once: this cart, or an item in it.
    #[error("others are changing the same cart or item")]
    Busy,
    /// A forwarded request came to a region that would have to forward it again.
    #[error("the request was already forwarded once")]
    LoopDetected,
    /// A bug. The text is for the log only.
    #[error("internal: {0}")]
    Internal(String),
}

/// One reason why the rules said no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable, lower snake case.
    pub code: String,
    /// For the shopper.
    pub detail: String,
    /// The line it is about.
    pub line_id: Option<String>,
    /// The command of a batch that it is about, counted from 0.
    #[serde(default)]
    pub command: Option<usize>,
    /// What a translation of the text needs, by name.
    #[serde(default)]
    pub params: ParamsView,
}

impl Reason {
    /// The reason of a rejection, for a cart in this currency.
    pub fn new(rejection: &cart_core::Rejection, currency: Currency) -> Self {
        Self {
            code: rejection.code().to_owned(),
            detail: rejection.to_string(),
            line_id: rejection.line_id().map(ToOwned::to_owned),
            command: None,
            params: ParamsView::new(&rejection.params(), currency),
        }
    }
}

impl From<crate::rules::RulesError> for CartError {
    fn from(error: crate::rules::RulesError) -> Self {
        match error {
            // Not the rules' fault.
            crate::rules::RulesError::Busy => Self::Overloaded,
            error => Self::RulesFailed { code: error.code().to_owned() },
        }
    }
}

impl From<crate::store::StoreError> for CartError {
    fn from(error: crate::store::StoreError) -> Self {
        use crate::store::StoreError;
        match error {
            StoreError::Busy(_) => {
                tracing::debug!(error = %error, "busy");
                Self::Busy
            }
            StoreError::Overloaded(_) => {
                static SAID: Seldom = Seldom::new();
                if let Some(unsaid) = SAID.say() {
                    tracing::warn!(error = %chain(&error), unsaid, "store overloaded");
                }
                Self::Overloaded
            }
            StoreError::Unavailable(_) => {
                static SAID: Seldom = Seldom::new();
                if let Some(unsaid) = SAID.say() {
                    tracing::warn!(error = %chain(&error), unsaid, "store unavailable");
                }
                Self::HomeUnavailable
            }
            StoreError::Corrupt(what) => Self::Internal(what),
        }
    }
}
