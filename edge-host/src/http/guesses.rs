//! Guesses at the admin token: limited and logged, without what was guessed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use region_router::admission::subscriber;
use tracing::warn;

use super::problem::ApiError;

/// Wrong tokens of one address in a window; then nothing it shows is looked at until the window ends. A person who
/// pastes the wrong token, or a script with an old one, needs a few.
const GUESSES_MAX: u32 = 20;
/// The window.
const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are remembered; an internal network has fewer. With more, the oldest windows are forgotten.
const ADDRESSES_MAX: usize = 4096;

/// Counts wrong tokens.
#[derive(Default)]
pub struct Guesses(Mutex<HashMap<IpAddr, Window>>);

struct Window {
    since: Instant,
    guesses: u32,
}

impl Guesses {
    /// Whether what an address shows is looked at.
    pub(super) fn check(&self, address: IpAddr, now: Instant) -> Result<(), ApiError> {
        let windows = self.windows();
        let Some(window) = windows.get(&subscriber(address)) else { return Ok(()) };
        let left = WINDOW.saturating_sub(now.saturating_duration_since(window.since));
        if window.guesses < GUESSES_MAX || left.is_zero() {
            return Ok(());
        }
        let retry_after_s = u32::try_from(left.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        let window_s = u32::try_from(WINDOW.as_secs()).unwrap_or(u32::MAX);
        Err(ApiError::RateLimited { retry_after_s, requests: GUESSES_MAX, window_s })
    }

    /// Notes a wrong token.
    pub(super) fn note(&self, address: IpAddr, now: Instant) {
        let mut windows = self.windows();
        let is_over = |window: &Window| now.saturating_duration_since(window.since) >= WINDOW;
        if windows.len() >= ADDRESSES_MAX {
            windows.retain(|_, window| !is_over(window));
        }
        if windows.len() >= ADDRESSES_MAX {
            windows.clear();
        }
        let window = windows.entry(subscriber(address)).or_insert_with(|| Window { since: now, guesses: 0 });
        if is_over(window) {
            *window = Window { since: now, guesses: 0 };
        }
        window.guesses += 1;
        warn!(client.address = %address, guesses = window.guesses, "a wrong admin token was shown");
    }

    fn windows(&self) -> MutexGuard<'_, HashMap<IpAddr, Window>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_some_guesses_an_address_waits_for_the_end_of_its_window() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let [hasty, calm] = [1, 2].map(|n| IpAddr::from([203, 0, 113, n]));
        for _ in 0..GUESSES_MAX {
            assert!(guesses.check(hasty, now).is_ok());
            guesses.note(hasty, now);
        }
        assert!(guesses.check(hasty, now).is_err());
        assert!(guesses.check(calm, now).is_ok());
        assert!(guesses.check(hasty, now + WINDOW).is_ok());
        guesses.note(hasty, now + WINDOW);
        assert!(guesses.check(hasty, now + WINDOW).is_ok(), "a new window begins at nothing");
    }
}
