//! Where the time of a request went.

use std::fmt;
use std::time::Duration;

/// Where the time of a request went; goes out as `Server-Timing`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// The regional cache.
    pub cache: Option<Duration>,
    /// The home region's database.
    pub db: Option<Duration>,
    /// The rules.
    pub rules: Option<Duration>,
    /// The way to the home region and back, all that happened there included.
    pub forward: Option<Duration>,
}

impl Timing {
    /// Whether anything is known of it.
    pub fn is_known(&self) -> bool {
        self.parts().next().is_some()
    }

    fn parts(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        let parts =
            [("cache", self.cache), ("db", self.db), ("rules", self.rules), ("forward", self.forward)];
        parts.into_iter().filter_map(|(name, time)| Some((name, time?)))
    }
}

/// As `Server-Timing` has it (W3C Server Timing, §3).
impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, time)) in self.parts().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            let us = time.as_micros();
            write!(f, "{comma}{name};dur={}.{:03}", us / 1000, us % 1000)?;
        }
        Ok(())
    }
}
