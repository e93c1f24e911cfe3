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
/// More counters than this are not kept: the oldest windows make room, a share of them at once.
const MOST: usize = 50_000;
/// How many counters go when there are too many. Looking for the oldest takes a while, and so is done rarely.
const ROOM: usize = MOST / 10;

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
        make_room(&mut windows, now);
        // The address first: one that is over its limit leaves no counters of the accounts that it names.
        count(&mut windows, address.to_owned(), PER_ADDRESS, now)?;
        count(&mut windows, of_account(account, address), PER_ACCOUNT_AND_ADDRESS, now)
    }

    /// Forgets the tries of `account` from `address`: its owner has signed in. That was no guess of the address either,
    /// which a whole institute may share.
    pub(super) fn forgive(&self, account: &str, address: &str) {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.remove(&of_account(account, address));
        if let Some(window) = windows.get_mut(address) {
            window.count = window.count.saturating_sub(1);
        }
    }
}

fn of_account(account: &str, address: &str) -> String {
    format!("{account}\0{address}")
}

/// Counts one more; how long to wait when that is more than `limit`.
fn count(
    windows: &mut HashMap<String, Window>,
    key: String,
    limit: u32,
    now: Timestamp,
) -> Result<(), Duration> {
    let window = windows.entry(key).or_insert(Window { started: now, count: 0 });
    if age(window, now) >= WINDOW {
        *window = Window { started: now, count: 0 };
    }
    if window.count >= limit {
        return Err(WINDOW.saturating_sub(age(window, now)));
    }
    window.count += 1;
    Ok(())
}

/// Makes room for the two counters of a try: those that are over go, and when that is not enough, the oldest.
fn make_room(windows: &mut HashMap<String, Window>, now: Timestamp) {
    if windows.len() + 2 <= MOST {
        return;
    }
    windows.retain(|_, window| age(window, now) < WINDOW);
    if windows.len() + ROOM <= MOST {
        return;
    }
    let mut oldest: Vec<_> = windows.iter().map(|(key, window)| (window.started, key.clone())).collect();
    oldest.select_nth_unstable(ROOM);
    for (_, key) in &oldest[..ROOM] {
        windows.remove(key);
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

    #[test]
    fn an_address_over_its_limit_leaves_no_more_counters() {
        let tries = Tries::default();
        for n in 0..1000 {
            let _ = tries.admit(&format!("user{n}"), "192.0.2.1", at(0));
        }
        assert_eq!(tries.windows.lock().unwrap().len(), 61);
    }

    #[test]
    fn many_addresses_that_guess_keep_nobody_else_out_and_the_latest_stay_counted() {
        let tries = Tries::default();
        for n in 0..MOST {
            let _ = tries.admit("ada", &format!("bot{n}"), at(i64::from(n >= MOST / 4)));
            assert!(tries.windows.lock().unwrap().len() <= MOST);
        }
        for _ in 0..10 {
            assert_eq!(tries.admit("ada", "192.0.2.1", at(2)), Ok(()));
        }
        assert!(tries.admit("ada", "192.0.2.1", at(2)).is_err());
        let last = format!("bot{}", MOST - 1);
        assert!((0..10).any(|_| tries.admit("ada", &last, at(2)).is_err()), "{last} was forgotten");
    }

    #[test]
    fn people_who_sign_in_do_not_use_up_the_address_that_they_share() {
        let tries = Tries::default();
        for n in 0..200 {
            let account = format!("user{n}");
            assert_eq!(tries.admit(&account, "192.0.2.1", at(0)), Ok(()));
            tries.forgive(&account, "192.0.2.1");
        }
    }
}
