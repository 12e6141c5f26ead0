use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Nanoseconds since the run began, by one monotonic clock.
pub type Nanos = u64;

/// Which cart: its place in [`History::carts`].
pub type CartNo = usize;

/// Which line: its place in [`Goods::lines`].
pub type LineNo = usize;

/// A version of a cart, in the order of versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Grows with every promotion.
    pub epoch: u32,
    /// Counts the writes of one cart.
    pub number: u64,
}

impl Version {
    /// `epoch.number`, if that is what it is.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, number) = text.split_once('.')?;
        Some(Self { epoch: epoch.parse().ok()?, number: number.parse().ok()? })
    }

    /// `epoch.number.tag`, without the tag.
    pub fn parse_tagged(text: &str) -> Option<Self> {
        Self::parse(text.rsplit_once('.')?.0)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

/// Everything that happened in a run, as the clients saw it.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What was for sale.
    pub goods: Goods,
    /// The carts, each of one guest or user.
    pub carts: Vec<Owner>,
    /// What was asked and answered.
    pub events: Vec<Event>,
    /// What is left of each item at the end.
    pub stock_left: BTreeMap<String, i64>,
}

/// Whose cart.
#[derive(Clone, Debug)]
pub struct Owner {
    /// For messages.
    pub name: String,
    /// Whether the cart can be merged into a user's.
    pub guest: bool,
}

/// What was for sale. Prices stand still during a run, so that a total tells a mixed-up cart.
#[derive(Clone, Debug, Default)]
pub struct Goods {
    /// The lines that a cart can have: an item in a variant.
    pub lines: Vec<Good>,
    /// The items.
    pub items: Vec<Item>,
    /// The coupons.
    pub coupons: Vec<Coupon>,
}

/// An item in a variant: what a line of a cart is.
#[derive(Clone, Debug)]
pub struct Good {
    /// The line's name in every cart.
    pub line_id: String,
    /// Its item: a place in [`Goods::items`].
    pub item: usize,
    /// A size, if it has any.
    pub size: Option<&'static str>,
}

/// An item.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its name.
    pub item_id: String,
    /// The price of one, in minor units.
    pub price: i64,
    /// Units at the beginning.
    pub stock: i64,
    /// Whether there are so few that they run out.
    pub scarce: bool,
    /// Units of one line at most.
    pub quantity_max: Option<u32>,
}

/// A coupon.
#[derive(Clone, Debug)]
pub struct Coupon {
    /// What is typed in.
    pub code: String,
    /// How often it can be redeemed.
    pub redemptions_max: Option<usize>,
}

/// One question and its answer. The question may have been asked several times under one key.
#[derive(Clone, Debug)]
pub struct Event {
    /// Who asked: sessions ask one thing after the other.
    pub session: usize,
    /// Whether the session echoes the newest version that it has seen.
    pub follows: bool,
    /// Whose cart it is about.
    pub cart: CartNo,
    /// The region that was asked last.
    pub region: &'static str,
    /// Before the first try.
    pub began: Nanos,
    /// After the answer.
    pub ended: Nanos,
    /// The version that was echoed.
    pub seen: Option<Version>,
    /// What was asked.
    pub act: Act,
    /// Tries of which nobody knows what they did: no answer, or one that says nothing.
    pub ambiguous: u32,
    /// What came back in the end.
    pub outcome: Outcome,
}

/// What was asked.
#[derive(Clone, Debug)]
pub enum Act {
    /// The cart.
    Read,
    /// The cart, unless it is still as it was at this version, under this tag.
    ReadUnless(Version, String),
    /// Lines and units.
    Count,
    /// One line.
    ReadLine(LineNo),
    /// An item of the catalogue: a place in [`Goods::items`].
    ReadItem(usize),
    /// The newest orders.
    ReadOrders,
    /// A change.
    Write(Wanted),
    /// A change again, that was acknowledged before: the event's place in [`History::events`].
    Repeat(usize, Wanted),
    /// Another change under the key of one that was acknowledged before.
    Misuse(usize, Wanted),
    /// The payment service's word on an order: paid, or cancelled.
    Settle(String, bool),
    /// The cart, at the end, by somebody who echoes nothing.
    LastRead,
    /// All orders, at the end.
    LastOrders,
}

/// A change that is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Under which key.
    pub key: String,
    /// What to do.
    pub write: Write,
    /// Only at this version.
    pub if_match: Option<Version>,
}

/// What to do with a cart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// One command, at its own path.
    One(Command),
    /// All or nothing.
    Batch(Vec<Command>),
    /// Take a guest's cart over.
    Merge {
        /// The guest.
        guest: CartNo,
        /// What becomes of a line that both have.
        policy: Policy,
    },
    /// Order what is in the cart.
    Checkout {
        /// What the client was shown, in minor units.
        total: i64,
    },
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the words of the public contract")]
pub enum Command {
    Add { line: LineNo, quantity: u32 },
    Set { line: LineNo, quantity: u32 },
    Remove { line: LineNo },
    Clear,
    ApplyCoupon { code: String },
    RemoveCoupon { code: String },
}

/// What becomes of a line that both carts have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// The larger quantity.
    Max,
    /// Both together.
    Sum,
    /// The guest's quantity.
    Replace,
}

/// What is in a cart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Units of each line.
    pub lines: BTreeMap<LineNo, u32>,
    /// The codes that were typed in.
    pub coupons: BTreeSet<String>,
}

/// What came back.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A cart.
    Cart {
        /// Of which version.
        version: Version,
        /// What is in it.
        shown: Contents,
        /// What it costs, in minor units.
        total: i64,
        /// What does not fit together within this one answer.
        odd: Option<String>,
        /// Whether it was done before.
        replayed: bool,
        /// Of the whole body.
        digest: u64,
        /// What a client would ask with, to get it only if it is another by then.
        tag: String,
    },
    /// An order that was placed.
    Placed {
        /// The cart's version afterwards.
        version: Version,
        /// The order.
        order: Order,
        /// Whether it was done before.
        replayed: bool,
    },
    /// The cart is still at this version.
    NotModified(Version),
    /// Lines and units.
    Count {
        /// Of which version.
        version: Version,
        /// Lines.
        lines: u64,
        /// Units.
        quantity: u64,
    },
    /// Units of one line.
    Line {
        /// Of which version.
        version: Version,
        /// Units.
        quantity: u32,
    },
    /// Units of an item that are left.
    Stock(i64),
    /// Orders, the newest first.
    Orders(Vec<Order>),
    /// The state of an order now.
    Settled(String),
    /// It was not done, and why.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The problem's code.
        code: String,
        /// The version that the refusal names.
        current: Option<Version>,
    },
    /// An answer that no client understands.
    Garbled(String),
    /// No answer that says anything.
    Unanswered,
}

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its name.
    pub id: String,
    /// `pending_payment`, `paid` or `cancelled`.
    pub state: String,
    /// Units of each line.
    pub lines: BTreeMap<LineNo, u32>,
    /// The coupons that gave something.
    pub redeemed: BTreeSet<String>,
    /// In minor units.
    pub total: i64,
}

impl Event {
    /// The version of the cart that the answer tells, if it tells one.
    pub fn version(&self) -> Option<Version> {
        match &self.outcome {
            Outcome::Cart { version, .. }
            | Outcome::Placed { version, .. }
            | Outcome::NotModified(version)
            | Outcome::Count { version, .. }
            | Outcome::Line { version, .. } => Some(*version),
            Outcome::Refused { current, .. } => *current,
            _ => None,
        }
    }

    /// The change, if it is a first asking for one.
    pub fn write(&self) -> Option<&Wanted> {
        if let Act::Write(wanted) = &self.act { Some(wanted) } else { None }
    }

    /// The change and the version that it was acknowledged with: its own, or that of the cart by then, where it had
    /// been done before.
    pub fn acknowledged(&self) -> Option<(&Wanted, Version)> {
        let wanted = self.write()?;
        match &self.outcome {
            Outcome::Cart { version, .. } | Outcome::Placed { version, .. } => Some((wanted, *version)),
            _ => None,
        }
    }

    /// What the answer shows to be in the cart. An order leaves it empty, and says nothing of it later.
    pub fn shown(&self) -> Option<Contents> {
        match &self.outcome {
            Outcome::Cart { shown, .. } => Some(shown.clone()),
            Outcome::Placed { replayed: false, .. } => Some(Contents::default()),
            _ => None,
        }
    }

    /// Whether what was asked for had been done before.
    pub fn replayed(&self) -> bool {
        matches!(self.outcome, Outcome::Cart { replayed: true, .. } | Outcome::Placed { replayed: true, .. })
    }
}
