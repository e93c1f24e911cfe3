//! Limits how often a password may be guessed, without locking its owner out for long.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// Wrong guesses of one account from one address within [`WINDOW`].
const PER_ACCOUNT_AND_ADDRESS: u32 = 10;
/// Wrong guesses of whatever accounts from one address within [`WINDOW`].
const PER_ADDRESS: u32 = 60;
/// Guesses are counted per minute.
const WINDOW: Duration = Duration::from_secs(60);
/// More counters than this are not kept: the oldest windows go first.
const MOST: usize = 50_000;

/// Counts failed sign-ins.
#[derive(Debug, Default)]
pub(super) struct Tries {
    windows: Mutex<HashMap<String, Window>>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    started: Timestamp,
    count: u32,
}

impl Tries {
    /// Counts a try of `account` from `address`; how long to wait when there were too many.
    pub(super) fn admit(&self, account: &str, address: &str, now: Timestamp) -> Result<(), Duration> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |window: &Window| age(window, now) >= WINDOW;
        if windows.len() >= MOST {
            windows.retain(|_, window| !is_over(window));
        }
        if windows.len() >= MOST {
            return Err(WINDOW);
        }
        let keys =
            [(format!("{account}\0{address}"), PER_ACCOUNT_AND_ADDRESS), (address.to_owned(), PER_ADDRESS)];
        let mut wait = None;
        for (key, limit) in keys {
            let window = windows.entry(key).or_insert(Window { started: now, count: 0 });
            if is_over(window) {
                *window = Window { started: now, count: 0 };
            }
            window.count = window.count.saturating_add(1);
            if window.count > limit {
                wait = wait.max(Some(WINDOW.saturating_sub(age(window, now))));
            }
        }
        wait.map_or(Ok(()), Err)
    }

    /// Forgets the tries of `account` from `address`: its owner has signed in.
    pub(super) fn forgive(&self, account: &str, address: &str) {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.remove(&format!("{account}\0{address}"));
    }
}

fn age(window: &Window, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(window.started)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_eleventh_guess_within_a_minute_must_wait_for_the_minute_to_end() {
        let tries = Tries::default();
        for second in 0..10 {
            assert_eq!(tries.admit("ada", "192.0.2.1", at(second)), Ok(()));
        }
        assert_eq!(tries.admit("ada", "192.0.2.1", at(20)), Err(Duration::from_secs(40)));
        assert_eq!(tries.admit("ada", "192.0.2.1", at(60)), Ok(()));
    }

    #[test]
    fn guesses_from_elsewhere_do_not_lock_the_owner_out() {
        let tries = Tries::default();
        for _ in 0..50 {
            let _ = tries.admit("ada", "192.0.2.1", at(0));
        }
        assert_eq!(tries.admit("ada", "198.51.100.7", at(0)), Ok(()));
    }

    #[test]
    fn one_address_may_not_try_many_accounts() {
        let tries = Tries::default();
        let refused =
            (0..100).filter(|n| tries.admit(&format!("user{n}"), "192.0.2.1", at(0)).is_err()).count();
        assert_eq!(refused, 40);
    }
}
