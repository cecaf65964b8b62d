//! How much each device may ask.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

/// With so many accounts, those are forgotten that say nothing; and again with twice as many as are left.
const PRUNE: usize = 1024;

/// The accounts of all devices. One outlives the instances of its device until it says nothing any more, so
/// that a new instance is no new beginning.
#[derive(Debug)]
pub(super) struct Accounts {
    known: Mutex<Known>,
    /// A request costs one; so many are there at first, and one more comes each interval.
    burst: u32,
    interval: Duration,
    in_flight: usize,
}

#[derive(Debug)]
struct Known {
    by_device: HashMap<Box<str>, Arc<Account>>,
    prune_at: usize,
}

/// What one device has asked of late.
#[derive(Debug)]
pub(super) struct Account {
    /// When all of the burst is there again.
    full_at: Mutex<Instant>,
    /// Requests that are on their way.
    pub(super) in_flight: Semaphore,
}

impl Accounts {
    pub(super) fn new(burst: u32, interval: Duration, in_flight: usize) -> Self {
        let known = Mutex::new(Known { by_device: HashMap::new(), prune_at: PRUNE });
        Accounts { known, burst: burst.max(1), interval, in_flight: in_flight.max(1) }
    }

    pub(super) fn of(&self, device: &str) -> Arc<Account> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { by_device, prune_at } = &mut *known;
        if let Some(account) = by_device.get(device) {
            return Arc::clone(account);
        }
        if by_device.len() >= *prune_at {
            let now = Instant::now();
            by_device.retain(|_, account| Arc::strong_count(account) > 1 || account.full_at() > now);
            *prune_at = PRUNE.max(2 * by_device.len());
        }
        let account =
            Arc::new(Account { full_at: Mutex::new(Instant::now()), in_flight: Semaphore::new(self.in_flight) });
        by_device.insert(device.into(), Arc::clone(&account));
        account
    }

    /// Takes one request off the account; how long until there is one, if there is none.
    pub(super) fn take(&self, account: &Account) -> Result<(), Duration> {
        let mut full_at = account.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let next = (*full_at).max(now) + self.interval;
        let wait = next.saturating_duration_since(now + self.interval * self.burst);
        if wait.is_zero() {
            *full_at = next;
            Ok(())
        } else {
            Err(wait)
        }
    }
}

impl Account {
    fn full_at(&self) -> Instant {
        *self.full_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_then_one_each_interval() {
        let accounts = Accounts::new(3, Duration::from_secs(2), 1);
        let take = |device: &str| accounts.take(&accounts.of(device));
        for _ in 0..3 {
            take("a").unwrap();
        }
        assert_eq!(take("a"), Err(Duration::from_secs(2)));
        take("b").unwrap();
        tokio::time::advance(Duration::from_secs(2)).await;
        take("a").unwrap();
        assert!(take("a").is_err());
        tokio::time::advance(Duration::from_secs(60)).await;
        for _ in 0..3 {
            take("a").unwrap();
        }
        assert!(take("a").is_err(), "no more than the burst is saved up");
    }

    #[tokio::test(start_paused = true)]
    async fn accounts_that_say_nothing_are_forgotten_and_no_others() {
        let accounts = Accounts::new(1, Duration::from_secs(1000), 1);
        accounts.take(&accounts.of("spender")).unwrap();
        for number in 0..5 * PRUNE {
            accounts.of(&number.to_string());
        }
        assert!(accounts.known.lock().unwrap().by_device.len() <= PRUNE);
        assert!(accounts.take(&accounts.of("spender")).is_err());
    }
}
