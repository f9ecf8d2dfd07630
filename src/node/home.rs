//! Home: the directory that is a node. Its configuration, keys, database, slots, and where it answers.
//!
//! Everything in it belongs to its owner alone (0700, 0600). `config.toml` is written last, so a home that has one is
//! complete. One process at a time: `Lock` holds `node.pid`, and the kernel lets go of it when the process dies.
//! Not here: what the files mean (`config`, `store`), running the node (`node::start`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use zeroize::Zeroizing;

use crate::config::keystore::{KeystoreFile, KeystoreFileError};
use crate::store::{Identity, KeyOrigin, Local, Store, StoreError};
use crate::types::{ChainId, limits};

/// A password file larger than this is none.
const PASSWORD_BYTES_MAX: u64 = 4 << 10;
/// Bytes of the API's token.
const TOKEN_BYTES: usize = 32;
/// How often, and with what pause, the lock is tried before the home counts as taken.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Why a home cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// There is none.
    #[error("{} is no home of a node", .path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A home was begun and not completed.
    #[error("{} was not completed; remove it and make it again", .path.display())]
    Incomplete {
        /// The directory.
        path: PathBuf,
    },
    /// Something is there already.
    #[error("{} exists and is not empty", .path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// A node runs in it.
    #[error("{} is in use by the node with process id {pid}", .path.display())]
    Locked {
        /// The home.
        path: PathBuf,
        /// The process.
        pid: u32,
    },
    /// Others may read a secret.
    #[error("{} can be read by others (mode {mode:o}); do: chmod 600 {}", .path.display(), .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file with the API's token has something else in it.
    #[error("{} holds no token; remove it and start the node again, which makes a new one", .path.display())]
    Token {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{doing} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// The database cannot be made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keystore file is damaged.
    #[error(transparent)]
    Keystore(#[from] KeystoreFileError),
    /// The operating system gives no random numbers.
    #[error("no randomness from the operating system: {0}")]
    Random(String),
}

/// What a new home is made of.
pub struct NewHome<'a> {
    /// Text of `config.toml`.
    pub config: &'a str,
    /// Text of `genesis.json`.
    pub genesis: &'a str,
    /// The chain that the text describes.
    pub chain: ChainId,
    /// Seed of the node key, made for this home.
    pub node_seed: Zeroizing<[u8; 32]>,
    /// The accounts.
    pub keystore: &'a KeystoreFile,
    /// The keystore's password, where it shall lie in the home: on a testnet, whose keys guard nothing.
    pub password: Option<&'a str>,
}

/// A directory that is known to be a complete home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Makes a home in a directory that is not there or empty. Returns when all of it is durable; a directory that
    /// it made goes again when it fails. Errors: `Exists`, `Io`, `Store`, `Random`.
    pub fn create(root: &Path, new: &NewHome<'_>) -> Result<Self, HomeError> {
        let occupied = match fs::read_dir(root) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(at("looking into", root, error)),
        };
        if occupied {
            return Err(HomeError::Exists { path: root.to_owned() });
        }
        if let Some(parent) = root.parent() {
            fs::create_dir_all(parent).map_err(|error| at("making", parent, error))?;
        }
        // Only one process can be the one that made it.
        let new_here = fs::create_dir(root).is_ok();
        let made = Self::fill(root, new);
        if made.is_err() && new_here {
            // What is left of a home would be in the way of the next try.
            let _ = fs::remove_dir_all(root);
        }
        made
    }

    fn fill(root: &Path, new: &NewHome<'_>) -> Result<Self, HomeError> {
        make_dir(root)?;
        let home = Self { root: root.to_owned() };
        make_dir(&home.slots())?;
        let identity = Identity {
            chain: new.chain,
            seed: new.node_seed.clone(),
            origin: KeyOrigin::Generated,
            incarnation: random()?,
        };
        Store::create(&home.database(), &identity)?;
        Local::create(&home.local_database(), new.chain)?;
        write_file(&home.genesis(), new.genesis.as_bytes())?;
        home.write_keystore(new.keystore)?;
        if let Some(password) = new.password {
            write_file(&home.root.join("password"), password.as_bytes())?;
        }
        home.make_token()?;
        write_file(&home.config(), new.config.as_bytes())?;
        sync_dir(root.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        Ok(home)
    }

    /// A home that is there. Errors: `Missing`, `Incomplete`.
    pub fn open(root: &Path) -> Result<Self, HomeError> {
        let home = Self { root: root.to_owned() };
        if home.config().is_file() {
            return Ok(home);
        }
        let begun = home.database().exists() || home.slots().exists();
        let path = root.to_owned();
        Err(if begun { HomeError::Incomplete { path } } else { HomeError::Missing { path } })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// `config.toml`
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }
    /// `genesis.json`
    pub fn genesis(&self) -> PathBuf {
        self.root.join("genesis.json")
    }
    /// `node.redb`: chain, state, node key and safety record.
    pub fn database(&self) -> PathBuf {
        self.root.join("node.redb")
    }
    /// `local.redb`: slots held, own files, settings.
    pub fn local_database(&self) -> PathBuf {
        self.root.join("local.redb")
    }
    /// `slots/`
    pub fn slots(&self) -> PathBuf {
        self.root.join("slots")
    }
    /// `node.log`
    pub fn log(&self) -> PathBuf {
        self.root.join("node.log")
    }
    /// `users/`: the users of this node's interface.
    pub fn users(&self) -> PathBuf {
        self.root.join("users")
    }
    /// `keystore.json`
    pub fn keystore_file(&self) -> PathBuf {
        self.root.join("keystore.json")
    }
    /// `api.token`
    pub fn token_file(&self) -> PathBuf {
        self.root.join("api.token")
    }
    /// `api.addr`
    pub fn address_file(&self) -> PathBuf {
        self.root.join("api.addr")
    }
    /// `node.pid`
    pub fn pid_file(&self) -> PathBuf {
        self.root.join("node.pid")
    }

    /// Text of `config.toml`. Errors: `Io`.
    pub fn read_config(&self) -> Result<String, HomeError> {
        read_text(&self.config(), limits::GENESIS_BYTES_MAX as u64)
    }
    /// Text of `genesis.json`. Errors: `Io`.
    pub fn read_genesis(&self) -> Result<String, HomeError> {
        read_text(&self.genesis(), limits::GENESIS_BYTES_MAX as u64)
    }
    /// The accounts. Errors: `Io`, `Keystore`, `Exposed`.
    pub fn read_keystore(&self) -> Result<KeystoreFile, HomeError> {
        let path = self.keystore_file();
        check_private(&path)?;
        Ok(KeystoreFile::read(&read_text(&path, limits::GENESIS_BYTES_MAX as u64)?)?)
    }
    /// Replaces the accounts, durably and as a whole. Errors: `Io`.
    fn write_keystore(&self, keystore: &KeystoreFile) -> Result<(), HomeError> {
        write_file(&self.keystore_file(), keystore.write().as_bytes())
    }
    /// Changes the accounts, durably and as a whole. Other processes that change them wait: a lost change is a lost account.
    /// Errors: `Io`, `Keystore`, `Exposed`, those of the change; then nothing is changed.
    pub fn edit_keystore<T, E: From<HomeError>>(
        &self,
        change: impl FnOnce(&mut KeystoreFile) -> Result<T, E>,
    ) -> Result<T, E> {
        let dir = File::open(&self.root).map_err(|error| at("opening", &self.root, error))?;
        flock(&dir, FlockOperation::LockExclusive).map_err(|error| at("locking", &self.root, error.into()))?;
        let mut keystore = self.read_keystore()?;
        let done = change(&mut keystore)?;
        self.write_keystore(&keystore)?;
        Ok(done)
    }
    /// The bearer token of the API. Errors: `Io`, `Exposed`, `Token`.
    pub fn read_token(&self) -> Result<Zeroizing<String>, HomeError> {
        let path = self.token_file();
        let token = read_secret(&path)?;
        if token.len() == 2 * TOKEN_BYTES && token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(token);
        }
        Err(HomeError::Token { path })
    }
    /// Makes a new bearer token if the file with it was removed. Errors: `Io`, `Random`.
    pub fn make_token(&self) -> Result<(), HomeError> {
        match self.token_file().exists() {
            true => Ok(()),
            false => write_file(&self.token_file(), hex::encode(random::<TOKEN_BYTES>()?).as_bytes()),
        }
    }
    /// A password file, relative to the home. Its last newline does not count. Errors: `Io`, `Exposed`.
    pub fn read_password(&self, file: &Path) -> Result<Zeroizing<String>, HomeError> {
        read_secret(&self.root.join(file))
    }
    /// Where the running node answers HTTP, if it has said so. Errors: `Io`.
    pub fn read_address(&self) -> Result<Option<String>, HomeError> {
        match fs::read_to_string(self.address_file()) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at("reading", &self.address_file(), error)),
        }
    }
    /// Says where the node answers HTTP. Errors: `Io`.
    pub fn write_address(&self, address: &str) -> Result<(), HomeError> {
        write_file(&self.address_file(), format!("{address}\n").as_bytes())
    }

    /// Where the running node answers S3, if it does and has said so. Errors: `Io`.
    pub fn read_s3_address(&self) -> Result<Option<String>, HomeError> {
        let path = self.root.join("s3.addr");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at("reading", &path, error)),
        }
    }
    /// Says where the node answers S3, or that it does not. Errors: `Io`.
    pub fn write_s3_address(&self, address: Option<&str>) -> Result<(), HomeError> {
        let path = self.root.join("s3.addr");
        match (address, fs::remove_file(&path)) {
            (Some(address), _) => write_file(&path, format!("{address}\n").as_bytes()),
            (None, Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(at("removing", &path, error)),
            (None, _) => Ok(()),
        }
    }

    /// Takes the home for this process. Errors: `Locked`, `Io`.
    pub fn lock(&self) -> Result<Lock, HomeError> {
        let path = self.pid_file();
        let mut file = open_pid(&path)?;
        // `running` holds a shared lock for an instant; only a lock that stays is another node's.
        let mut tries = 0;
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            tries += 1;
            if tries == LOCK_TRIES {
                return Err(HomeError::Locked { path: self.root.clone(), pid: read_pid(&mut file).unwrap_or(0) });
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        // A node that was killed left its own; by now anybody may answer there.
        let _ = fs::remove_file(self.address_file());
        let pid = format!("{}\n", std::process::id());
        // Over the old one and then cut: on a full disk a file that was cut first may not get its room back.
        let written = file.write_all(pid.as_bytes()).and_then(|()| file.set_len(pid.len() as u64));
        written.map_err(|error| at("writing", &path, error))?;
        Ok(Lock { _file: file, address: self.address_file() })
    }

    /// The process that holds the home, if one does. Errors: `Io`.
    pub fn running(&self) -> Result<Option<u32>, HomeError> {
        let path = self.pid_file();
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at("opening", &path, error)),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(None),
            Err(_) => Ok(read_pid(&mut file)),
        }
    }
}

/// The home is this process's until this is dropped or the process ends.
pub struct Lock {
    _file: File,
    address: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // An address that nobody answers at only costs its reader a failed connection.
        let _ = fs::remove_file(&self.address);
    }
}

/// Random bytes of the operating system. Errors: `Random`.
pub fn random<const N: usize>() -> Result<[u8; N], HomeError> {
    let mut raw = [0; N];
    getrandom::fill(&mut raw).map_err(|error| HomeError::Random(error.to_string()))?;
    Ok(raw)
}

pub(super) fn at(doing: &'static str, path: &Path, source: io::Error) -> HomeError {
    HomeError::Io { doing, path: path.to_owned(), source }
}

pub(super) fn make_dir(path: &Path) -> Result<(), HomeError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| at("making", path, error))?;
    let private = fs::Permissions::from_mode(0o700);
    fs::set_permissions(path, private).map_err(|error| at("protecting", path, error))
}

/// Replaces a file as a whole: a new one under another name, durable, then renamed, then the directory durable.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
    let written = file.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|error| at("writing", &unfinished, error))?;
    fs::rename(&unfinished, path).map_err(|error| at("renaming to", path, error))?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

pub(super) fn sync_dir(path: &Path) -> Result<(), HomeError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|error| at("syncing", path, error))
}

fn open_pid(path: &Path) -> Result<File, HomeError> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    file.map_err(|error| at("opening", path, error))
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

pub(super) fn read_text(path: &Path, max: u64) -> Result<String, HomeError> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(max).read_to_string(&mut text));
    read.map(|_| text).map_err(|error| at("reading", path, error))
}

fn check_private(path: &Path) -> Result<(), HomeError> {
    let mode = fs::metadata(path).map_err(|error| at("looking at", path, error))?.permissions().mode() & 0o777;
    if mode & 0o077 == 0 { Ok(()) } else { Err(HomeError::Exposed { path: path.to_owned(), mode }) }
}

/// A secret in a file of its own, which others must not be able to read. Its last newline does not count.
/// Errors: `Io`, `Exposed`.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, HomeError> {
    check_private(path)?;
    let mut text = Zeroizing::new(read_text(path, PASSWORD_BYTES_MAX)?);
    let len = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(len);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(root: &Path) -> Result<Home, HomeError> {
        let new = NewHome {
            config: "[node]\n",
            genesis: "{}",
            chain: ChainId::from_bytes([1; 32]),
            node_seed: Zeroizing::new([2; 32]),
            keystore: &KeystoreFile::default(),
            password: Some("secret\n"),
        };
        Home::create(root, &new)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("the file is there").permissions().mode() & 0o777
    }

    #[test]
    fn a_home_is_its_owners_alone_and_is_never_overwritten() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().join("home");
        let home = create(&root).expect("a new home");
        for path in [home.root().to_owned(), home.slots()] {
            assert_eq!(mode(&path), 0o700, "{}", path.display());
        }
        let files = [home.config(), home.database(), home.local_database(), home.keystore_file(), home.token_file()];
        for path in files {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
        assert_eq!(home.read_password(Path::new("password")).expect("a private file").as_str(), "secret");
        assert_eq!(home.read_token().expect("a private file").len(), 64);
        assert!(matches!(create(&root), Err(HomeError::Exists { .. })));
        assert_eq!(Home::open(&root).expect("a complete home"), home);
    }

    #[test]
    fn a_directory_without_a_configuration_is_no_home() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert!(matches!(Home::open(dir.path()), Err(HomeError::Missing { .. })));
        fs::create_dir(dir.path().join("slots")).expect("a directory");
        assert!(matches!(Home::open(dir.path()), Err(HomeError::Incomplete { .. })));
    }

    #[test]
    fn a_home_has_one_process_at_a_time_and_says_which() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let home = create(&dir.path().join("home")).expect("a new home");
        assert_eq!(home.running().expect("readable"), None);
        let lock = home.lock().expect("nobody holds it");
        assert_eq!(home.running().expect("readable"), Some(std::process::id()));
        assert!(matches!(home.lock(), Err(HomeError::Locked { pid, .. }) if pid == std::process::id()));
        drop(lock);
        assert_eq!(home.running().expect("readable"), None);
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let home = create(&dir.path().join("home")).expect("a new home");
        fs::set_permissions(home.token_file(), fs::Permissions::from_mode(0o644)).expect("own file");
        assert!(matches!(home.read_token(), Err(HomeError::Exposed { mode: 0o644, .. })));
    }
}
