//! Keys: every setting, in one list: its name, its kind, its default, what it means.
//!
//! The configuration file's template, `config show`, the environment and the suggestions for misspelt names all come
//! from here. A key without a default is decided by the operator or by the network.

/// How a setting's text becomes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// Texts; in the environment and in `--set` separated by commas.
    List,
    /// A whole number.
    Number,
    /// Yes or no.
    Flag,
    /// A number of bytes, or text with a unit such as `10 GiB`.
    Size,
    /// A whole number of percent, or a fraction such as `2/3`.
    Percent,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Section and name, with a dot between.
    pub name: &'static str,
    /// How its text becomes a value.
    pub kind: Kind,
    /// Its value as it would stand in the file; `None` where there is none.
    pub default: Option<&'static str>,
    /// What it means, with its unit.
    pub help: &'static str,
}

const fn key(name: &'static str, kind: Kind, default: Option<&'static str>, help: &'static str) -> Key {
    Key { name, kind, default, help }
}

/// Every setting, by section.
pub const KEYS: &[Key] = &[
    key("node.name", Kind::Text, None, "Name of this node, for people: 1 to 64 bytes"),
    key("node.roles", Kind::List, None, "What it does: validator, storage, worker, relay, user"),
    key(
        "node.operator",
        Kind::Text,
        None,
        "Who runs it; a file never has two slots with one operator. Default: its name",
    ),
    key(
        "node.disk_reserve",
        Kind::Size,
        Some(r#""64 MiB""#),
        "Free bytes on the disk of the home below which the node pauses: it answers and takes in nothing; 0 for never",
    ),
    key(
        "node.keep_blocks",
        Kind::Number,
        Some("0"),
        "Bodies of blocks that this node keeps, at least 64; older ones go as new ones come. 0 for all: a network needs such archives",
    ),
    key(
        "node.snapshots",
        Kind::Flag,
        Some("true"),
        "Whether a copy of the state is kept at the end of each epoch, for nodes that join by snapshot; two at the same time",
    ),
    key(
        "sync.mode",
        Kind::Text,
        Some(r#""replay""#),
        "How a new home gets the state: replay, by all blocks since the genesis; snapshot, by a copy that is proven",
    ),
    key(
        "sync.trust",
        Kind::Text,
        None,
        "For snapshot: a final block that you trust, HEIGHT:HASH. Default: the genesis",
    ),
    key("net.listen", Kind::List, Some(r#"["/ip4/0.0.0.0/tcp/0"]"#), "Multiaddresses to listen on"),
    key(
        "net.announce",
        Kind::List,
        Some("[]"),
        "Multiaddresses under which others reach this node, where those it listens on do not lead to it: behind a router, or by name",
    ),
    key("net.bootstrap", Kind::List, Some("[]"), "Multiaddresses of nodes to find the network by"),
    key("net.connections_max", Kind::Number, Some("256"), "Connections at the same time"),
    key("net.memory_max", Kind::Size, Some(r#""512 MiB""#), "Process memory above which new connections are refused"),
    key(
        "api.listen",
        Kind::Text,
        Some(r#""127.0.0.1:0""#),
        "Address of the HTTP API; port 0 takes a free one, written to api.addr",
    ),
    key(
        "api.origins",
        Kind::List,
        Some("[]"),
        "Where browsers find the page through a proxy: scheme and name, such as https://files.example.org",
    ),
    key(
        "api.registration",
        Kind::Text,
        Some(r#""closed""#),
        "Who may make an account on this node over HTTP: open for everybody, closed for `trullo user add` alone",
    ),
    key(
        "api.welcome_credits",
        Kind::Number,
        Some("0"),
        "Credits that this node's account gives to each new user, who cannot store anything without; 0 for none",
    ),
    key("api.users_max", Kind::Number, Some("1000"), "Users that this node has at the most"),
    key("api.tokens_max", Kind::Number, Some("1000"), "Logins at the same time, of all users; a user has at most 32"),
    key("api.token_ttl_s", Kind::Number, Some("86400"), "How long a login lasts at the most, seconds. Default: a day"),
    key("api.logins_per_minute", Kind::Number, Some("10"), "Tries to log in under each user name, a minute"),
    key(
        "api.logins_per_minute_address",
        Kind::Number,
        Some("60"),
        "Tries to log in or to register from each address, a minute",
    ),
    key(
        "api.requests_per_s",
        Kind::Number,
        Some("1000"),
        "Requests of each user, and of each address without a login, a second; 0 for any number",
    ),
    key(
        "s3.listen",
        Kind::Text,
        None,
        "Address of the S3 gateway, such as 127.0.0.1:9000; port 0 takes a free one, written to s3.addr. Default: none",
    ),
    key(
        "s3.domain",
        Kind::Text,
        None,
        "Name under which buckets are hosts, such as s3.example.org. Default: buckets are paths",
    ),
    key("s3.transfers_max", Kind::Number, Some("32"), "Objects that are read from or written to at the same time"),
    key(
        "s3.upload_expiry_s",
        Kind::Number,
        Some("604800"),
        "Uploads in parts that nobody completes are given up after so many seconds. Default: 7 days",
    ),
    key(
        "consensus.view_floor_ms",
        Kind::Number,
        None,
        "Shortest time given to a view, milliseconds. Default: the network's",
    ),
    key(
        "consensus.view_cap_ms",
        Kind::Number,
        None,
        "Longest time given to a view, milliseconds. Default: the network's",
    ),
    key(
        "consensus.idle_interval_ms",
        Kind::Number,
        None,
        "Pause before an empty block, milliseconds. Default: the network's",
    ),
    key("storage.capacity", Kind::Size, Some(r#""10 GiB""#), "Bytes of slots this node offers to hold"),
    key("storage.reserve", Kind::Size, Some(r#""1 GiB""#), "Free bytes on the disk below which nothing is accepted"),
    key("storage.min_balance", Kind::Number, Some("1"), "Credits that an account must have to upload slots here"),
    key(
        "storage.scrub_every_s",
        Kind::Number,
        Some("2592000"),
        "Every slot is read in full and checked once in so many seconds; 0 for never. Default: 30 days",
    ),
    key("storage.scrub_bytes_per_s", Kind::Size, Some(r#""16 MiB""#), "How fast that reads, bytes per second"),
    key(
        "storage.repair_bytes_per_s",
        Kind::Size,
        Some(r#""256 MiB""#),
        "How fast lost slots are rebuilt, bytes read from other nodes per second",
    ),
    key(
        "storage.relief_bytes_per_s",
        Kind::Size,
        Some(r#""8 MiB""#),
        "How fast slots are given to emptier nodes, bytes per second",
    ),
    key(
        "storage.relief_percent",
        Kind::Number,
        Some("10"),
        "Slots are given to emptier nodes only while more than this part of the capacity is used; 100 for never",
    ),
    key(
        "storage.settle_epochs",
        Kind::Number,
        Some("100"),
        "A deal's nodes are paid what they have earned once in so many epochs, and when it ends; 0 for then only",
    ),
    key(
        "files.data_shards",
        Kind::Number,
        None,
        "Slots that restore a file; set with files.parity_shards. Default: by the number of storage nodes, 4 of 6",
    ),
    key(
        "files.parity_shards",
        Kind::Number,
        None,
        "Further slots: so many nodes may be lost. Default: by the number of storage nodes, 2 of 6",
    ),
    key(
        "files.chunk_size",
        Kind::Size,
        None,
        "Bytes that are erasure-coded at once: 256 KiB to 16 MiB. Default: 256 KiB for each data slot",
    ),
    key(
        "files.min_confirmations",
        Kind::Number,
        None,
        "Confirmations that make a file final, from the data shards to all slots. Default: all slots but half of the parity",
    ),
    key(
        "files.quorum_percent",
        Kind::Percent,
        None,
        "The same as a share of the slots, 1 to 100 or \"2/3\"; what asks for more of them counts. 66 and 67 are 2 of 3",
    ),
    key(
        "files.success_threshold",
        Kind::Number,
        None,
        "Confirmations at which a put waits for no more, from the quorum to all. Default: all, but 2 s after the quorum",
    ),
    key(
        "files.repair_threshold",
        Kind::Number,
        None,
        "Slots left at which others rebuild all lost ones, from the data shards to all but one. Default: at the first loss",
    ),
    key(
        "files.allow_pending",
        Kind::Flag,
        Some("true"),
        "Whether a file with too few confirmations goes to the ledger as pending, or not at all",
    ),
    key(
        "files.epochs",
        Kind::Number,
        Some("1000"),
        "Epochs that a new file is paid for; what nobody has earned comes back when its deal ends",
    ),
    key(
        "files.warn_epochs",
        Kind::Number,
        None,
        "A file is said to end soon so many epochs before it does; 0 for never. Default: in the last tenth of its time",
    ),
    key(
        "files.keep_versions",
        Kind::Number,
        Some("0"),
        "Older contents that are kept of a file in a folder, 0 to 100; they cost as much as the file itself",
    ),
    key(
        "files.timeout_ms",
        Kind::Number,
        Some("30000"),
        "How long a put waits for confirmations and for finality, milliseconds, 100 to 3600000",
    ),
    key(
        "log.level",
        Kind::Text,
        Some(r#""info""#),
        "error, warn, info, debug, trace, or a filter such as trullo::net=debug",
    ),
    key("log.format", Kind::Text, Some(r#""text""#), "text or json"),
    key(
        "account.password_file",
        Kind::Text,
        None,
        "File with the keystore's password, for a node that starts alone; must be 0600",
    ),
];

/// The setting of a name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The environment variable of a setting.
pub fn variable(key: &Key) -> String {
    format!("TRULLO_{}", key.name.replace('.', "_").to_uppercase())
}

/// The name among `known` that is nearest to a misspelt one, if any is near.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let ranked = known.map(|candidate| (distance(name, candidate), candidate));
    ranked.filter(|(cost, candidate)| *cost * 2 <= candidate.len().max(2)).min().map(|(_, candidate)| candidate)
}

/// Levenshtein's distance over characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognized_and_nonsense_is_not() {
        let names = || KEYS.iter().map(|key| key.name);
        assert_eq!(nearest("api.listn", names()), Some("api.listen"));
        assert_eq!(nearest("storage.capasity", names()), Some("storage.capacity"));
        assert_eq!(nearest("zzzzzzzzzzzz", names()), None);
    }

    #[test]
    fn names_and_variables_are_unique() {
        let names: std::collections::BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
        let variables: std::collections::BTreeSet<_> = KEYS.iter().map(variable).collect();
        assert_eq!((names.len(), variables.len()), (KEYS.len(), KEYS.len()));
    }
}
