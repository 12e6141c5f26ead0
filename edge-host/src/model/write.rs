//! A write on its way to the home region, and its answer on the way back.

use cart_core::MergePolicy;
use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{CartRecord, CartVersion, CurrencyCode, Principal};
use crate::store::CartDocument;

/// What a caller wants changed in a cart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// One after the other, all or none.
    Commands(Vec<CartCommand>),
    /// Take over a guest's cart; the guest token was verified where it came in.
    Merge {
        /// The guest.
        guest: Principal,
        /// What becomes of a line that both have.
        policy: MergePolicyWord,
    },
    /// Order what is in the cart.
    Checkout {
        /// What the client believes it will pay, in minor units.
        expected_total: i64,
        /// The currency of that.
        currency: CurrencyCode,
    },
}

impl Operation {
    /// The word for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Commands(commands) => match commands.as_slice() {
                [CartCommand::Add { .. }] => "add",
                [CartCommand::SetQuantity { .. }] => "set_quantity",
                [CartCommand::Remove { .. }] => "remove",
                [CartCommand::Clear] => "clear",
                [CartCommand::ApplyCoupon { .. }] => "apply_coupon",
                [CartCommand::RemoveCoupon { .. }] => "remove_coupon",
                [CartCommand::RefreshPrice { .. }] => "refresh_price",
                _ => "commands",
            },
            Self::Merge { .. } => "merge",
            Self::Checkout { .. } => "checkout",
        }
    }
}

/// One change of a cart, checked for form. The variant is canonical JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "op")]
#[expect(missing_docs, reason = "the words of the public contract")]
pub enum CartCommand {
    Add { item_id: String, quantity: u32, variant: String },
    SetQuantity { line_id: String, quantity: u32 },
    Remove { line_id: String },
    Clear,
    ApplyCoupon { code: String },
    RemoveCoupon { code: String },
    RefreshPrice { line_id: Option<String> },
}

impl CartCommand {
    /// The command as the rules take it.
    pub fn to_core(&self) -> cart_core::Command {
        use cart_core::Command;
        match self.clone() {
            Self::Add { item_id, quantity, variant } => Command::Add { item_id, quantity, variant },
            Self::SetQuantity { line_id, quantity } => Command::SetQuantity { line_id, quantity },
            Self::Remove { line_id } => Command::Remove { line_id },
            Self::Clear => Command::Clear,
            Self::ApplyCoupon { code } => Command::ApplyCoupon { code },
            Self::RemoveCoupon { code } => Command::RemoveCoupon { code },
            Self::RefreshPrice { line_id } => Command::RefreshPrice { line_id },
        }
    }
}

/// The quantity of a line that both carts have; lines of only one cart are kept. `max` is the larger quantity and the
/// default, `sum` both added up, `replace` the guest's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MergePolicyWord {
    /// The larger quantity.
    #[default]
    Max,
    /// Both added up.
    Sum,
    /// The guest's quantity, in place of the user's.
    Replace,
}

impl From<MergePolicyWord> for MergePolicy {
    fn from(word: MergePolicyWord) -> Self {
        match word {
            MergePolicyWord::Max => Self::Max,
            MergePolicyWord::Sum => Self::Sum,
            MergePolicyWord::Replace => Self::Replace,
        }
    }
}

/// A write on its way to the home region.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WriteRequest {
    /// Whose cart.
    pub principal: Principal,
    /// What to do.
    pub operation: Operation,
    /// The client's key, or one that the edge made.
    pub idempotency_key: String,
    /// Whether the edge made it.
    #[serde(default)]
    pub key_made: bool,
    /// Write only if the cart is still at one of these versions.
    pub if_match: Option<Vec<CartVersion>>,
    /// Method and path of the client's request; `None` from an edge of the release before.
    #[serde(default)]
    pub route: Option<String>,
}

impl WriteRequest {
    /// Tells one effect from another. The release before told requests under one idempotency key apart by it.
    pub fn fingerprint(&self) -> [u8; 32] {
        Sha256::digest(self.effect()).into()
    }

    /// Tells one request from another under the same idempotency key: by method and path, body, and `If-Match`. The
    /// body counts by what it says, so that a client may write the same JSON in another way when it tries again.
    pub fn digest(&self) -> Option<String> {
        let route = self.route.as_deref()?;
        let digest = Sha256::new().chain_update(route).chain_update([0]).chain_update(self.effect());
        Some(BASE64URL_NOPAD.encode(&digest.finalize()))
    }

    fn effect(&self) -> Vec<u8> {
        let what = (&self.operation, &self.if_match);
        serde_json::to_vec(&what).expect("records of strings and numbers serialise")
    }
}

/// The answer to a write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteAnswer {
    /// HTTP status.
    pub status: u16,
    /// The JSON body.
    pub body: String,
    /// The cart's version after the write, or now, where the write was done before.
    pub version: CartVersion,
    /// Where the new resource is.
    pub location: Option<String>,
}

/// What the home region says of a write.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WriteReply {
    /// For the client.
    pub answer: WriteAnswer,
    /// For the cache of the region that forwarded; `None` with a replayed answer of the release before.
    pub record: Option<CartRecord>,
    /// The answer as the next read of that cart would render it, where this edge has decided: rules may look at the
    /// region, so it is no other region's.
    #[serde(skip)]
    pub document: Option<CartDocument>,
    /// The version at which a merged guest's cart ended.
    #[serde(default)]
    pub guest_version: Option<CartVersion>,
    /// Whether the write was done before, under the same key.
    pub replayed: bool,
    /// Time in the home region's database and rules.
    pub timing: WriteTiming,
}

/// Where the time of a write went.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct WriteTiming {
    /// Microseconds in the database.
    pub db_us: u64,
    /// Microseconds in the rules.
    pub rules_us: u64,
}
