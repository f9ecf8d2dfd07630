//! Rates: how often each client may ask. Memory is bounded: where very many clients ask, those that are not known share one rate.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::problem::Problem;
use crate::config::user::UserName;
use crate::types::{AccountId, limits};

/// How many times as often passwords of a name may be tried from everywhere as from one address.
const NAME_TIMES: NonZeroU32 = NonZeroU32::new(20).expect("not zero");

/// Whoever holds an address mostly holds the whole network of 64 bits that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network([u8; 8]);

impl Network {
    /// Of an address.
    pub fn of(address: IpAddr) -> Self {
        let mut head = [0; 8];
        match address.to_canonical() {
            // No network of IPv6 that is in use begins with zeros alone.
            IpAddr::V4(address) => head[4..].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => head.copy_from_slice(&address.octets()[..8]),
        }
        Self(head)
    }
}

/// Who has a rate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Address(Network),
    Name(UserName),
    /// Who stands at one address cannot keep a user from logging in at another.
    NameFrom(UserName, Network),
    Account(AccountId),
    /// All whose rates cannot be told apart any more.
    Others,
}

struct Limit {
    limiter: DefaultKeyedRateLimiter<Key>,
    clock: DefaultClock,
    keys_max: usize,
}

impl Limit {
    fn new(quota: Quota, keys_max: usize) -> Self {
        Self { limiter: RateLimiter::keyed(quota), clock: DefaultClock::default(), keys_max }
    }

    /// Errors: 429 with the time after which it may ask again.
    fn check(&self, key: Key) -> Result<(), Problem> {
        let mut key = key;
        if self.limiter.len() >= self.keys_max {
            // Those that could ask for all of their rate again need not be known.
            self.limiter.retain_recent();
            if self.limiter.len() >= self.keys_max {
                key = Key::Others;
            }
        }
        self.limiter.check_key(&key).map_err(|early| {
            let wait = early.wait_time_from(self.clock.now());
            Problem::too_many(wait.as_secs().saturating_add(1))
        })
    }
}

/// The rates of an interface.
pub struct Rates {
    names: Limit,
    names_from: Limit,
    sign_ins: Limit,
    requests: Option<Limit>,
}

impl Rates {
    /// As the configuration has them.
    pub fn new(config: &crate::config::Api) -> Self {
        let limit = |quota| Limit::new(quota, limits::RATE_KEYS_MAX);
        let second = |rate: NonZeroU32| limit(Quota::per_second(rate));
        Self {
            names: limit(Quota::per_minute(config.logins_per_minute.saturating_mul(NAME_TIMES))),
            names_from: limit(Quota::per_minute(config.logins_per_minute)),
            sign_ins: limit(Quota::per_minute(config.logins_per_minute_address)),
            requests: config.requests_per_s.map(second),
        }
    }

    /// A try to log in or to register. Errors: 429.
    pub fn sign_in(&self, from: Network) -> Result<(), Problem> {
        self.sign_ins.check(Key::Address(from))
    }
    /// A try of a password of this name. Errors: 429.
    pub fn password(&self, name: &UserName, from: Network) -> Result<(), Problem> {
        self.names_from.check(Key::NameFrom(name.clone(), from))?;
        self.names.check(Key::Name(name.clone()))
    }
    /// A request of a user. Errors: 429.
    pub fn user(&self, account: AccountId) -> Result<(), Problem> {
        self.requests.as_ref().map_or(Ok(()), |limit| limit.check(Key::Account(account)))
    }
    /// A request without a login. Errors: 429.
    pub fn stranger(&self, from: Network) -> Result<(), Problem> {
        self.requests.as_ref().map_or(Ok(()), |limit| limit.check(Key::Address(from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(rate: u32, keys_max: usize) -> Limit {
        Limit::new(Quota::per_minute(NonZeroU32::new(rate).expect("a rate")), keys_max)
    }

    fn address(last: u8) -> Key {
        Key::Address(Network::of(IpAddr::from([10, 0, 0, last])))
    }

    #[test]
    fn each_has_its_rate_and_one_too_many_is_told_when_to_come_again() {
        let limit = limit(2, 8);
        assert!(limit.check(address(1)).is_ok() && limit.check(address(1)).is_ok());
        assert!(limit.check(address(1)).is_err());
        assert!(limit.check(address(2)).is_ok(), "another one's rate is its own");
    }

    #[test]
    fn who_tries_passwords_of_a_name_keeps_nobody_elsewhere_from_logging_in() {
        let limit = limit(2, 8);
        let anna: UserName = "anna".parse().expect("a name");
        let from = |last: u8| Key::NameFrom(anna.clone(), Network::of(IpAddr::from([10, 0, 0, last])));
        assert_eq!((0..5).filter(|_| limit.check(from(1)).is_ok()).count(), 2);
        assert!(limit.check(from(2)).is_ok());
    }

    #[test]
    fn clients_beyond_the_bound_share_a_rate_and_take_no_memory() {
        let limit = limit(1, 4);
        let taken: Vec<_> = (0..100).filter(|n| limit.check(address(*n)).is_ok()).collect();
        assert_eq!(taken, [0, 1, 2, 3, 4], "the fifth has the rate of all others");
        assert!(limit.limiter.len() <= 5);
    }

    #[test]
    fn an_address_counts_with_its_network_and_in_either_form() {
        let of = |text: &str| Network::of(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("10.0.0.1"), of("::ffff:10.0.0.1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }
}
