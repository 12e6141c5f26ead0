use crate::cart::Line;

/// At which price the lines of a cart are charged.
///
/// A line has two prices: the one that was stored when it was added ([`Line::added_price`]), which the shopper
/// has seen, and the catalogue's now. The policy says which of them counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PricePolicy {
    /// Which of the two prices counts.
    pub basis: PriceBasis,
    /// How long a stored price counts, in milliseconds since it was stored. Then the catalogue's price takes its
    /// place, with the warning `price_updated`. `None`: without end.
    pub hold_ms: Option<i64>,
}

/// Which price of a line counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PriceBasis {
    /// The one that was stored for the line.
    #[default]
    Stored,
    /// The catalogue's now.
    Current,
    /// The smaller of both.
    Lower,
}

impl PriceBasis {
    /// The word in the public documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Current => "current",
            Self::Lower => "lower",
        }
    }
}

impl PricePolicy {
    /// What the shopper saw when the line was added, without end. The standard rules' policy.
    pub const STORED: Self = Self { basis: PriceBasis::Stored, hold_ms: None };
    /// The catalogue's price, always.
    pub const CURRENT: Self = Self { basis: PriceBasis::Current, hold_ms: None };
    /// The smaller of the stored and the catalogue's price, without end.
    pub const LOWER: Self = Self { basis: PriceBasis::Lower, hold_ms: None };

    /// The same policy with stored prices that count for `hold_ms` milliseconds only.
    #[must_use]
    pub const fn held_for_ms(self, hold_ms: i64) -> Self {
        Self { hold_ms: Some(hold_ms), ..self }
    }

    /// What one of a line costs, where the catalogue's price is `current`. `None` for an item that is no longer
    /// sold in the cart's currency: a stored price does not bring it back.
    pub fn unit_price(&self, line: &Line, current: Option<i64>, now_ms: i64) -> Option<i64> {
        let current = current?;
        let stored = if self.holds(line, now_ms) { line.added_price } else { current };
        Some(match self.basis {
            PriceBasis::Stored => stored,
            PriceBasis::Current => current,
            PriceBasis::Lower => stored.min(current),
        })
    }

    /// When the stored price of a line stops to count; `None` where it never does, or never did.
    pub fn hold_ends_at_ms(&self, line: &Line) -> Option<i64> {
        match (self.basis, self.hold_ms) {
            (PriceBasis::Current, _) | (_, None) => None,
            (_, Some(hold_ms)) => Some(line.priced_at_ms.saturating_add(hold_ms)),
        }
    }

    /// Whether the stored price of a line still counts.
    pub fn holds(&self, line: &Line, now_ms: i64) -> bool {
        self.hold_ends_at_ms(line).is_none_or(|end_ms| now_ms < end_ms)
    }
}
