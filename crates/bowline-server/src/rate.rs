//! How many handshakes an address may ask for.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use bowline_proto::time::Instant;

/// A token bucket for each address (§18): `burst` handshakes at once, then `per_second`. An IPv6
/// network of 64 bits counts as one address, because whoever has one has all of it.
#[derive(Debug)]
pub(crate) struct Rate {
    /// Microseconds that one handshake takes out of an address's time; 0 for no limit.
    interval: u64,
    /// Microseconds that an address may be ahead of the clock.
    burst: u64,
    /// When each address's bucket is full again. An address that is not here has a full one.
    full_at: Mutex<HashMap<IpAddr, u64>>,
}

impl Rate {
    /// Most addresses remembered, of about 50 bytes each.
    const REMEMBERED: usize = 4096;

    /// `per_second` 0 is no limit.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let interval = if per_second == 0 { 0 } else { (1_000_000 / u64::from(per_second)).max(1) };
        Rate { interval, burst: interval * u64::from(burst.max(1)), full_at: Mutex::default() }
    }

    /// Whether this address may have one more handshake, which is then counted.
    pub(crate) fn take(&self, address: IpAddr, now: Instant) -> bool {
        if self.interval == 0 {
            return true;
        }
        let (address, now) = (network(address), now.as_micros());
        // Nothing panics while it holds the lock.
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let next = full_at.get(&address).map_or(now, |at| now.max(*at)) + self.interval;
        if next > now + self.burst {
            return false;
        }
        if full_at.len() >= Self::REMEMBERED && !full_at.contains_key(&address) {
            // Full buckets are as good as forgotten. If there are none, the fullest goes: an address
            // that uses up its own gains nothing by being one of many.
            full_at.retain(|_, at| *at > now);
            if full_at.len() >= Self::REMEMBERED
                && let Some(fullest) = full_at.iter().min_by_key(|(_, at)| **at).map(|(address, _)| *address)
            {
                full_at.remove(&fullest);
            }
        }
        full_at.insert(address, next);
        true
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1000)
    }

    fn taken(rate: &Rate, address: &str, tries: u32, now: Instant) -> u32 {
        let address = address.parse().unwrap();
        (0..tries).map(|_| u32::from(rate.take(address, now))).sum()
    }

    #[test]
    fn a_burst_then_so_many_a_second() {
        let rate = Rate::new(5, 20);
        assert_eq!(taken(&rate, "10.0.0.1", 1000, at(0)), 20);
        assert_eq!(taken(&rate, "10.0.0.1", 1000, at(199)), 0);
        assert_eq!(taken(&rate, "10.0.0.1", 1000, at(200)), 1);
        assert_eq!(taken(&rate, "10.0.0.1", 1000, at(1200)), 5);
        assert_eq!(taken(&rate, "10.0.0.2", 1000, at(1200)), 20, "another address has its own");
        assert_eq!(taken(&rate, "10.0.0.1", 1000, at(60_000)), 20, "no more than a burst is saved up");
    }

    #[test]
    fn no_limit_is_none() {
        let rate = Rate::new(0, 0);
        assert_eq!(taken(&rate, "10.0.0.1", 10_000, at(0)), 10_000);
        assert!(rate.full_at.lock().unwrap().is_empty());
    }

    #[test]
    fn addresses_of_one_network_share() {
        let rate = Rate::new(1, 4);
        assert_eq!(taken(&rate, "2001:db8::1", 3, at(0)), 3);
        assert_eq!(taken(&rate, "2001:db8::ffff:2", 3, at(0)), 1);
        assert_eq!(taken(&rate, "2001:db8:0:1::1", 3, at(0)), 3);
        assert_eq!(taken(&rate, "::ffff:10.0.0.1", 3, at(0)), 3);
        assert_eq!(taken(&rate, "10.0.0.1", 3, at(0)), 1);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_who_uses_it_up() {
        let rate = Rate::new(1, 4);
        assert_eq!(taken(&rate, "10.0.0.1", 9, at(0)), 4);
        for number in 0..6_000u32 {
            assert!(rate.take(std::net::Ipv4Addr::from_bits(0xc000_0000 + number).into(), at(0)));
        }
        assert_eq!(rate.full_at.lock().unwrap().len(), Rate::REMEMBERED);
        assert_eq!(taken(&rate, "10.0.0.1", 9, at(0)), 0);
        assert!(rate.take("10.0.0.2".parse().unwrap(), at(10_000)));
        assert_eq!(rate.full_at.lock().unwrap().len(), 1);
    }
}
