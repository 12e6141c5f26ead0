//! What a primary tells of itself beside data.

/// What a sweep took, in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Orders that nobody paid.
    pub orders: u64,
    /// Carts that were emptied.
    pub carts: u64,
    /// Guests' carts that had gone to users.
    pub merged: u64,
    /// Answers that were kept under their keys.
    pub answers: u64,
    /// Events of the feed.
    pub events: u64,
}

impl Swept {
    /// Each kind by name.
    pub fn kinds(&self) -> [(&'static str, u64); 5] {
        let Self { orders, carts, merged, answers, events } = *self;
        [("order", orders), ("cart", carts), ("merged_cart", merged), ("answer", answers), ("event", events)]
    }

    /// All of them.
    pub fn rows(&self) -> u64 {
        self.kinds().into_iter().map(|(_, rows)| rows).sum()
    }

    /// These and others.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            orders: self.orders + other.orders,
            carts: self.carts + other.carts,
            merged: self.merged + other.merged,
            answers: self.answers + other.answers,
            events: self.events + other.events,
        }
    }
}

/// What is wrong with the servers that may be the primary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrimaryState {
    /// Why none is written to.
    pub refusal: Option<String>,
    /// Servers that take writes beside the primary.
    pub rivals: Vec<String>,
}
