//! A cluster of nodes inside the test's process: real redb files, real libp2p on loopback, real threads.

use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;
use trullo::config::{Config, Layers};
use trullo::crypto::SecretKey;
use trullo::crypto::keys::AccountKeys;
use trullo::ledger::Genesis;
use trullo::ledger::genesis::{GENESIS_VERSION, GenesisAccount, GenesisNode, NO_BINDING, Timing};
use trullo::ledger::record::{StorageParams, ValidatorEntry, ValidatorParams};
use trullo::node::beacon::BeaconChain;
use trullo::node::{Handle, Node, NodeFailure, Start, start};
use trullo::store::{Identity, KeyOrigin, Local, Store};
use trullo::types::{Amount, ByteCount, Millis, Role, Roles};
use trullo::wire::block::BLOCK_VERSION;
use trullo::wire::tx::NodeAnnouncement;
use zeroize::Zeroizing;

/// Credits of each account.
pub const BALANCE: u64 = 1_000_000;
/// How long anything may take that should take a moment.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One member, running or not.
pub struct Member {
    pub name: String,
    seed: [u8; 32],
    pub keys: AccountKeys,
    roles: Roles,
    port: u16,
    /// Bytes of slots that it takes, as its configuration has it; it announces 4 GiB.
    pub capacity: &'static str,
    /// More lines of its `[storage]` section.
    pub settings: &'static str,
    /// The latest version of the rules that it follows.
    pub known: u16,
    node: Option<Node>,
}

/// All members and their homes.
pub struct Cluster {
    dir: TempDir,
    pub genesis: Genesis,
    pub members: Vec<Member>,
}

impl Cluster {
    /// A cluster that is not started.
    pub fn new(validators: u8, storage: u8, users: u8) -> Self {
        Self::with(validators, storage, users, |_| {})
    }

    /// A cluster of one validator whose epochs, and so its audits, follow one another within a second.
    pub fn audited(storage: u8, users: u8) -> Self {
        Self::with(1, storage, users, |genesis| {
            genesis.storage = StorageParams { answer_blocks: 14, ..StorageParams::usual(genesis.epoch_blocks) };
            genesis.timing.idle_interval = Millis::new(50);
        })
    }

    /// A cluster with another genesis than usual.
    pub fn with(validators: u8, storage: u8, users: u8, change: impl FnOnce(&mut Genesis)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let kinds = [(Role::Validator, validators), (Role::Storage, storage), (Role::User, users)];
        let mut members = Vec::new();
        for (role, count) in kinds {
            for number in 1..=count {
                let id = u8::try_from(members.len() + 1).expect("few members");
                let (seed, keys) = ([id; 32], AccountKeys::from_master(&[100 + id; 32]));
                let name = format!("{}-{number}", role.name());
                members.push(Member {
                    name,
                    seed,
                    keys,
                    roles: Roles::of(&[role]),
                    port: free_port(),
                    capacity: "4GiB",
                    settings: "",
                    known: BLOCK_VERSION,
                    node: None,
                });
            }
        }
        let mut genesis = genesis(&members);
        change(&mut genesis);
        for member in &members {
            create_home(&dir, &genesis, member);
        }
        Self { dir, genesis, members }
    }

    /// Starts a member. Its database is where it left it.
    pub async fn start(&mut self, name: &str) -> Handle {
        self.try_start(name).await.expect("the node starts")
    }

    /// Starts a member that may have reasons not to.
    pub async fn try_start(&mut self, name: &str) -> Result<Handle, NodeFailure> {
        let seed = self.member(name).seed;
        // Nobody connects to its own key.
        let bootstrap: Vec<_> = self.members.iter().filter(|other| other.seed != seed).map(address).collect();
        let (dir, genesis) = (self.dir.path().to_owned(), self.genesis.clone());
        let member = self.member(name);
        let config = config(member, &bootstrap);
        let home = dir.join(&member.name);
        let node =
            start(Start { home, config, genesis, account: Some(member.keys.clone()), known: member.known }).await?;
        let handle = node.handle().clone();
        member.node = Some(node);
        Ok(handle)
    }

    /// Starts all.
    pub async fn start_all(&mut self) {
        let names: Vec<_> = self.members.iter().map(|member| member.name.clone()).collect();
        for name in names {
            self.start(&name).await;
        }
    }

    /// Stops a member and waits for its end.
    pub async fn stop(&mut self, name: &str) {
        let node = self.member(name).node.take().expect("it runs");
        node.handle().stop_token().cancel();
        node.finish().await.expect("a clean end");
    }

    /// Puts a copy of a stopped member's database in its place, as a restored backup would be.
    pub fn restore_from_copy(&mut self, name: &str) {
        let path = self.dir.path().join(name).join("node.redb");
        let copy = path.with_extension("copy");
        std::fs::copy(&path, &copy).expect("a copy");
        std::fs::rename(&copy, &path).expect("the copy takes the place");
    }

    /// A second home with the key and database of a stopped member, as somebody makes it who copies a directory.
    pub fn copy_home(&mut self, of: &str, name: &str) {
        let (from, to) = (self.home(of), self.home(name));
        std::fs::create_dir(&to).expect("a home");
        for file in ["node.redb", "local.redb"] {
            std::fs::copy(from.join(file), to.join(file)).expect("a copy");
        }
        let original = self.member(of);
        let copy = Member {
            name: name.to_owned(),
            seed: original.seed,
            keys: original.keys.clone(),
            roles: original.roles,
            port: free_port(),
            capacity: original.capacity,
            settings: original.settings,
            known: BLOCK_VERSION,
            node: None,
        };
        self.members.push(copy);
    }

    /// Waits for the end of a member that stops by itself.
    pub async fn ended(&mut self, name: &str) -> Result<(), NodeFailure> {
        let node = self.member(name).node.take().expect("it runs");
        tokio::time::timeout(PATIENCE, node.finish()).await.unwrap_or_else(|_| panic!("{name} does not end"))
    }

    /// A member's home directory.
    pub fn home(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where a member listens for peers.
    pub fn port(&self, name: &str) -> u16 {
        self.members.iter().find(|member| member.name == name).expect("a known name").port
    }

    /// Where peers find a member.
    pub fn peer_address(&self, name: &str) -> trullo::net::PeerAddress {
        let member = self.members.iter().find(|member| member.name == name).expect("a known name");
        address(member).parse().expect("an address")
    }

    /// The names of those that run.
    pub fn running(&self) -> impl Iterator<Item = String> {
        self.members.iter().filter(|member| member.node.is_some()).map(|member| member.name.clone())
    }

    /// Stops all.
    pub async fn stop_all(&mut self) {
        let running: Vec<_> = self.members.iter().filter(|m| m.node.is_some()).map(|m| m.name.clone()).collect();
        for name in running {
            self.stop(&name).await;
        }
    }

    /// A member.
    pub fn member(&mut self, name: &str) -> &mut Member {
        self.members.iter_mut().find(|member| member.name == name).expect("a known name")
    }

    /// A running member's handle.
    pub fn handle(&self, name: &str) -> Handle {
        let member = self.members.iter().find(|member| member.name == name).expect("a known name");
        member.node.as_ref().expect("it runs").handle().clone()
    }

    /// Waits until all running members have this height.
    pub async fn reach(&self, height: u64) {
        for member in &self.members {
            let Some(node) = &member.node else { continue };
            let mut tips = node.handle().reader().watch();
            let reached = tips.wait_for(|tip| tip.as_ref().is_some_and(|tip| tip.height.get() >= height));
            let reached = tokio::time::timeout(PATIENCE, reached).await;
            reached.unwrap_or_else(|_| panic!("{} does not reach height {height}", member.name)).expect("it runs on");
        }
    }
}

/// A port that nobody listens on, and that no connection of another test is given meanwhile.
fn free_port() -> u16 {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(97);
    let mut ports = std::iter::repeat_with(|| {
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        30_000 + u16::try_from(begin.wrapping_add(next) % 2_700).expect("it is small")
    });
    let free = ports.by_ref().take(2_700).find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.expect("a free port")
}

fn address(member: &Member) -> String {
    let node = SecretKey::from_seed(&member.seed).public().node_id();
    let address: trullo::net::Address = format!("/ip4/127.0.0.1/tcp/{}", member.port).parse().expect("an address");
    address.of(node).to_string()
}

fn genesis(members: &[Member]) -> Genesis {
    let node_id = |member: &Member| SecretKey::from_seed(&member.seed).public().node_id();
    let account = |member: &Member| GenesisAccount { account: member.keys.account_id(), balance: Amount::new(BALANCE) };
    let node = |member: &Member| GenesisNode {
        account: member.keys.account_id(),
        announcement: NodeAnnouncement {
            node: node_id(member),
            name: member.name.clone(),
            operator: member.name.clone(),
            roles: member.roles,
            capacity: ByteCount::new(if member.roles.has(Role::Storage) { 4 << 30 } else { 0 }),
            addresses: vec![format!("/ip4/127.0.0.1/tcp/{}", member.port)],
            beacon_head: BeaconChain::of(&member.seed, 0).head(),
            binding: NO_BINDING,
        },
    };
    let validators = members.iter().filter(|member| member.roles.has(Role::Validator));
    let entry = |m: &Member| ValidatorEntry { node: node_id(m), power: 1, account: m.keys.account_id() };
    Genesis {
        version: GENESIS_VERSION,
        name: "test".to_owned(),
        time: Millis::new(1_700_000_000_000),
        epoch_blocks: 20,
        pending_blocks: 1_000,
        storage: StorageParams::usual(20),
        staking: ValidatorParams::usual(),
        timing: Timing { idle_interval: Millis::new(200), view_floor: Millis::new(300), view_cap: Millis::new(3_000) },
        accounts: members.iter().map(account).collect(),
        nodes: members.iter().map(node).collect(),
        validators: validators.map(entry).collect(),
    }
    .sorted()
}

fn create_home(dir: &TempDir, genesis: &Genesis, member: &Member) {
    let home = dir.path().join(&member.name);
    std::fs::create_dir(&home).expect("a home");
    let seed = Zeroizing::new(member.seed);
    let chain = genesis.chain_id();
    let identity = Identity { chain, seed, origin: KeyOrigin::Generated, incarnation: member.seed };
    Store::create(&home.join("node.redb"), &identity).expect("a database");
    Local::create(&home.join("local.redb"), chain).expect("a database");
}

fn config(member: &Member, bootstrap: &[String]) -> Config {
    let quoted: Vec<_> = bootstrap.iter().map(|address| format!("{address:?}")).collect();
    let role = member.roles.to_string();
    let text = format!(
        "[node]\nname = {:?}\nroles = [{role:?}]\noperator = {:?}\n[net]\nlisten = [\"/ip4/127.0.0.1/tcp/{}\"]\nbootstrap = [{}]\n[storage]\ncapacity = {:?}\nreserve = \"1MiB\"\n{}\n",
        member.name,
        member.name,
        member.port,
        quoted.join(", "),
        member.capacity,
        member.settings
    );
    let layers = Layers::defaults()
        .expect("defaults")
        .file(std::path::Path::new("config.toml"), &text)
        .expect("a configuration");
    Config::load(&layers).expect("a valid configuration")
}
