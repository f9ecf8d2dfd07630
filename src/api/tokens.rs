//! Tokens: who is logged in. In memory alone: a restart ends all logins, and no disk ever has a token.
//!
//! A token is 256 random bits; its hash is kept, so that nothing read out of this process's tables opens anything. With a user's
//! last token the user's keys go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::caller::{Caller, Scope, Who};
use super::problem::Problem;
use crate::config::user::UserName;
use crate::crypto::{Domain, hash};
use crate::node::Handle;
use crate::types::limits;

/// Bytes of a token.
const TOKEN_BYTES: usize = 32;

/// What is kept of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Of the text that a client sends.
    pub fn of(token: &str) -> Self {
        Self(hash(Domain::Token, token.as_bytes()))
    }
}

struct Login {
    name: UserName,
    handle: Handle,
    scopes: Arc<[Scope]>,
    expires: Instant,
    /// Counts logins, so that the oldest of a user is known.
    number: u64,
}

/// A login that begins.
pub struct NewLogin {
    /// Who.
    pub name: UserName,
    /// Acts for the user's account.
    pub handle: Handle,
    /// What it may do.
    pub scopes: Arc<[Scope]>,
    /// Until when.
    pub expires: Instant,
}

/// Who is logged in.
pub struct Tokens {
    logins: Mutex<Logins>,
    max: usize,
    changed: Notify,
}

#[derive(Default)]
struct Logins {
    by_hash: BTreeMap<TokenHash, Login>,
    next: u64,
}

impl Logins {
    fn sweep(&mut self, now: Instant) {
        self.by_hash.retain(|_, login| login.expires > now);
    }
}

impl Tokens {
    /// Room for so many logins.
    pub fn new(max: usize) -> Self {
        Self { logins: Mutex::default(), max, changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Logins> {
        self.logins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs in. A user's oldest login makes room for a further one. Errors: 503 where as many as may be are logged in.
    pub fn begin(&self, new: NewLogin) -> Result<Zeroizing<String>, Problem> {
        let token = Zeroizing::new(hex::encode(random()?));
        let mut logins = self.lock();
        logins.sweep(Instant::now());
        let own = logins.by_hash.iter().filter(|(_, login)| login.name == new.name);
        let own: Vec<_> = own.map(|(hash, login)| (login.number, *hash)).collect();
        if own.len() >= limits::TOKENS_PER_USER_MAX
            && let Some((_, oldest)) = own.iter().min()
        {
            logins.by_hash.remove(oldest);
        }
        if logins.by_hash.len() >= self.max {
            let detail = format!("{} logins are active, as many as api.tokens_max allows", self.max);
            return Err(Problem::unavailable(detail).retry_after(60));
        }
        let NewLogin { name, handle, scopes, expires } = new;
        let number = logins.next;
        logins.next += 1;
        logins.by_hash.insert(TokenHash::of(&token), Login { name, handle, scopes, expires, number });
        drop(logins);
        self.changed.notify_one();
        Ok(token)
    }

    /// For whom a token acts, if it does.
    pub fn caller(&self, token: &str) -> Option<Caller> {
        let hash = TokenHash::of(token);
        let logins = self.lock();
        let login = logins.by_hash.get(&hash).filter(|login| login.expires > Instant::now())?;
        let who = Who::User { name: login.name.clone(), token: hash };
        Some(Caller { handle: login.handle.clone(), who, scopes: login.scopes.clone() })
    }

    /// How long a login still lasts.
    pub fn left(&self, hash: &TokenHash) -> Option<std::time::Duration> {
        self.lock().by_hash.get(hash).map(|login| login.expires.saturating_duration_since(Instant::now()))
    }

    /// Ends a login.
    pub fn end(&self, hash: &TokenHash) {
        self.lock().by_hash.remove(hash);
    }

    /// Ends a user's logins, but for one if given.
    pub fn end_all(&self, name: &UserName, but: Option<&TokenHash>) {
        self.lock().by_hash.retain(|hash, login| login.name != *name || Some(hash) == but);
    }

    /// Logins of a user.
    pub fn count(&self, name: &UserName) -> usize {
        let now = Instant::now();
        self.lock().by_hash.values().filter(|login| login.name == *name && login.expires > now).count()
    }

    /// Lets go of logins, and of the keys that they hold, when their time is up.
    pub async fn expire(&self) {
        loop {
            let first = {
                let mut logins = self.lock();
                logins.sweep(Instant::now());
                logins.by_hash.values().map(|login| login.expires).min()
            };
            let due = async {
                match first {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

fn random() -> Result<[u8; TOKEN_BYTES], Problem> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| Problem::unavailable(format!("no randomness: {error}")))?;
    Ok(bytes)
}
