//! Accounts: registration, passwords and logins of this node's users.
//!
//! A wrong password and a name that nobody has cost the same work and get the same answer. Few passwords are hashed at the same
//! time, since each takes 64 MiB, and few wait for that.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::caller::{Caller, Scope, Who};
use super::problem::Problem;
use super::rates::{Network, Rates};
use super::tokens::{NewLogin, TokenHash, Tokens};
use crate::config::user::{User, UserName};
use crate::crypto::keys::{AccountKeys, KdfParams, Keystore, KeystoreError};
use crate::node::home::random;
use crate::node::users::{Users, UsersError};
use crate::node::{Handle, NodeError};
use crate::types::{AccountId, limits};
use crate::wire::Action;

/// How long the first credits of a user may take to be final.
const WELCOME_WITHIN: Duration = Duration::from_secs(30);

/// The users of a node and their logins.
pub struct Accounts {
    handle: Handle,
    users: Arc<Mutex<Users>>,
    /// Who is logged in.
    pub tokens: Tokens,
    /// How often who may ask.
    pub rates: Rates,
    hashing: Semaphore,
    waiting: Semaphore,
}

/// A user that was added.
pub struct Added {
    /// The account.
    pub account: AccountId,
    /// Credits that it has.
    pub credits: u64,
    /// Why it has none of those that were meant for it.
    pub reason: Option<String>,
}

impl Accounts {
    /// Of a node.
    pub fn new(handle: Handle) -> Self {
        let config = &handle.config().api;
        let (tokens, rates) = (Tokens::new(config.tokens_max), Rates::new(config));
        Self {
            users: Arc::new(Mutex::new(Users::of(handle.home().join("users")))),
            tokens,
            rates,
            hashing: Semaphore::new(limits::PASSWORD_HASHES_MAX),
            waiting: Semaphore::new(limits::PASSWORD_HASHES_MAX + limits::PASSWORD_HASHES_WAITING_MAX),
            handle,
        }
    }

    /// Work on a password, when there is memory for it. Errors: 503 where too many wait.
    async fn hash<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Problem> {
        let busy = || Problem::unavailable("many passwords are being checked").retry_after(1);
        let _waiting = self.waiting.try_acquire().map_err(|_| busy())?;
        let _turn = self.hashing.acquire().await.map_err(|_| busy())?;
        self.handle.metrics().password_hashes.inc();
        tokio::task::spawn_blocking(work).await.map_err(|_| NodeError::Stopping.into())
    }

    /// Makes an account under a name. Errors: 409 if it is taken, 503, those of the disk.
    pub async fn register(&self, name: UserName, password: Zeroizing<String>) -> Result<Added, Problem> {
        let users_max = self.handle.config().api.users_max;
        if find(&*self.users.lock().await, &name)?.is_some() {
            return Err(UsersError::Taken(name).into());
        }
        let make = move || -> Result<Keystore, Problem> {
            let seed: Zeroizing<[u8; 32]> = Zeroizing::new(fresh()?);
            Keystore::create(&seed, password.as_bytes(), KdfParams::STANDARD, fresh()?, fresh()?).map_err(unexpected)
        };
        let keystore = self.hash(make).await??;
        let account = *keystore.account();
        let user = User { name, keystore, created: self.handle.clock().now() };
        let mut users = self.users.clone().lock_owned().await;
        // Once begun it is done, whether the client stays or not.
        let added = tokio::task::spawn_blocking(move || users.add(&user, users_max)).await;
        added.map_err(|_| NodeError::Stopping)??;
        tracing::info!(%account, "a user was added");
        Ok(self.welcome(account).await)
    }

    async fn welcome(&self, account: AccountId) -> Added {
        let amount = self.handle.config().api.welcome;
        if amount.get() == 0 {
            return Added { account, credits: 0, reason: None };
        }
        let action = Action::Transfer { to: account, amount, memo: "welcome".to_owned() };
        match self.handle.act(action, WELCOME_WITHIN).await {
            Ok(_) => Added { account, credits: amount.get(), reason: None },
            Err(error) => {
                tracing::warn!(%account, %error, "a new user did not get the first credits");
                Added { account, credits: 0, reason: Some(format!("the first credits did not come: {error}")) }
            }
        }
    }

    /// Opens the keys of a user. The work is the same for a name that nobody has. Errors: 401, 429, 503, those of the disk.
    async fn open(
        &self,
        (name, from): (&UserName, Network),
        password: Zeroizing<String>,
    ) -> Result<(User, AccountKeys), Problem> {
        self.rates.password(name, from)?;
        let user = find(&*self.users.lock().await, name)?;
        let keystore = user.as_ref().map(|user| user.keystore.clone());
        let open = move || match keystore {
            Some(keystore) => keystore.open(password.as_bytes()),
            None => Err(Keystore::refuse(KdfParams::STANDARD, password.as_bytes())),
        };
        let opened = self.hash(open).await?;
        match (user, opened) {
            (Some(user), Ok(keys)) => Ok((user, keys)),
            (_, Ok(_) | Err(KeystoreError::Password)) => Err(Problem::wrong_password()),
            (_, Err(error)) => Err(unexpected(error)),
        }
    }

    /// Logs a user in. Errors: 401, 429, 503, those of the disk.
    pub async fn log_in(
        &self,
        (name, password): (UserName, Zeroizing<String>),
        from: Network,
        scopes: Arc<[Scope]>,
        lasts: Duration,
    ) -> Result<(Zeroizing<String>, AccountId), Problem> {
        let (user, keys) = self.open((&name, from), password).await?;
        let account = keys.account_id();
        let handle = self.handle.for_account(keys);
        let expires = Instant::now() + lasts;
        let token = self.tokens.begin(NewLogin { name: name.clone(), handle, scopes, expires })?;
        // Who was removed, or got another password meanwhile, is not logged in by the old one.
        if find(&*self.users.lock().await, &name)?.as_ref() != Some(&user) {
            self.tokens.end(&TokenHash::of(&token));
            return Err(Problem::wrong_password());
        }
        Ok((token, account))
    }

    /// Gives a user another password, and ends the user's other logins. Errors: 401 if the old one is wrong, 429, 503, those of
    /// the disk.
    pub async fn change_password(
        &self,
        (name, by): (UserName, &Caller),
        from: Network,
        old: Zeroizing<String>,
        new: Zeroizing<String>,
    ) -> Result<(), Problem> {
        let (user, _) = self.open((&name, from), old.clone()).await?;
        let keystore = user.keystore.clone();
        let lock = move || -> Result<Keystore, Problem> {
            let (salt, nonce) = (fresh()?, fresh()?);
            keystore
                .change_password(old.as_bytes(), new.as_bytes(), KdfParams::STANDARD, salt, nonce)
                .map_err(unexpected)
        };
        let keystore = self.hash(lock).await??;
        let changed = User { keystore, ..user.clone() };
        let mut users = self.users.clone().lock_owned().await;
        let write = move || match users.find(&changed.name)? {
            // What was changed meanwhile is not undone.
            Some(now) if now == user => users.replace(&changed),
            _ => Err(UsersError::Unknown(changed.name)),
        };
        tokio::task::spawn_blocking(write).await.map_err(|_| NodeError::Stopping)??;
        let own = match &by.who {
            Who::User { token, .. } => Some(token),
            Who::Owner => None,
        };
        self.tokens.end_all(&name, own);
        Ok(())
    }

    /// Takes a user and the user's logins away. Returns the account. Errors: 404, those of the disk.
    pub async fn remove(&self, name: UserName) -> Result<AccountId, Problem> {
        let mut users = self.users.clone().lock_owned().await;
        let user = find(&users, &name)?.ok_or_else(|| UsersError::Unknown(name.clone()))?;
        let gone = name.clone();
        tokio::task::spawn_blocking(move || users.remove(&gone)).await.map_err(|_| NodeError::Stopping)??;
        self.tokens.end_all(&name, None);
        Ok(*user.keystore.account())
    }

    /// Users after a name, at most so many. Errors: those of the disk.
    pub async fn list(&self, after: Option<&UserName>, limit: usize) -> Result<Vec<User>, Problem> {
        let users = self.users.lock().await;
        let mut names = users.names()?;
        names.retain(|name| after.is_none_or(|after| name > after));
        names.truncate(limit);
        let mut found = Vec::new();
        for name in names {
            found.extend(find(&users, &name)?);
        }
        Ok(found)
    }

    /// A try to sign in from a network. Errors: 429.
    pub fn try_from(&self, network: Network) -> Result<(), Problem> {
        self.rates.sign_in(network)
    }
}

fn find(users: &Users, name: &UserName) -> Result<Option<User>, Problem> {
    Ok(users.find(name)?)
}

fn fresh<const N: usize>() -> Result<[u8; N], Problem> {
    random().map_err(|error| Problem::unavailable(error.to_string()))
}

fn unexpected(error: KeystoreError) -> Problem {
    tracing::error!(%error, "a user's keys cannot be opened or made");
    Problem::store(error.to_string())
}
