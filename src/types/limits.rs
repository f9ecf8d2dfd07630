//! Every bound of the system, with its unit. A queue, a message or a loop without a line here is a bug.

/// Validators in one set.
pub const VALIDATORS_MAX: usize = 128;
/// Nodes that a validator talks with while one set takes over from another.
pub const CONSENSUS_PEERS_MAX: usize = 2 * VALIDATORS_MAX;
/// Stakes on the ledger: validators, those who wait to be, and those whose credits are not back yet.
pub const STAKES_MAX: usize = 2 * VALIDATORS_MAX;
/// Keys that one stake may have had within the time in which they can be accused.
pub const RETIRED_KEYS_MAX: usize = 4;
/// Sum of the power of a set that changes are allowed to lead to.
pub const POWER_MAX: u64 = 1 << 61;
/// Changes of the validator set that one proof bundle leads over.
pub const SET_CHANGES_MAX: usize = 4_096;
/// Changes of the validators in one answer to a peer.
pub const CHANGES_PER_ANSWER_MAX: usize = 64;
/// Bodies of blocks that a node keeps at the least: what it may still be asked for in passing.
pub const KEEP_BLOCKS_MIN: u64 = 64;
/// Bodies that are removed in one commit.
pub const PRUNE_STEP: usize = 64;
/// Records of one piece of a snapshot that it is cut for, bytes.
pub const PIECE_BYTES_WANTED: u64 = 1 << 20;
/// Records of one piece of a snapshot, bytes: an answer to a peer with room around it.
pub const PIECE_BYTES_MAX: u64 = 7 << 20;
/// Payload of one block, bytes. Bounded so that a block and its certificates fit one message.
pub const BLOCK_PAYLOAD_BYTES_MAX: usize = 4 << 20;
/// Transactions in one block.
pub const BLOCK_TXS_MAX: usize = 20_000;
/// One encoded transaction, bytes.
pub const TX_BYTES_MAX: usize = 64 << 10;
/// One message of the consensus protocol, bytes.
pub const CONSENSUS_MESSAGE_BYTES_MAX: usize = 6 << 20;
/// One gossip message, bytes.
pub const GOSSIP_BYTES_MAX: usize = 128 << 10;
/// Views ahead of the current one for which uncertified messages are kept (protocol rule 15).
pub const FUTURE_VIEWS_MAX: u64 = 16;
/// Past views for which late votes are still counted.
pub const PAST_VIEWS_MAX: u64 = 16;
/// Blocks that are not final and are held in memory; those voted for stay on disk beyond it.
pub const UNFINAL_BLOCKS_MAX: usize = 1_024;
/// Missing blocks that are asked for at a time.
pub const FETCHES_MAX: usize = 16;
/// Heights behind a certified block beyond which finalized blocks are caught up with, rather than fetched singly.
pub const FETCH_HEIGHTS_MAX: u64 = 8;
/// Times that blocks of one view may prove invalid before its proposals are ignored.
pub const INVALID_PROPOSALS_MAX: u32 = 4;
/// Certificates that are remembered as verified.
pub const KNOWN_CERTIFICATES_MAX: usize = 128;
/// Timeout certificates that are remembered as verified.
pub const KNOWN_TIMEOUTS_MAX: usize = 16;
/// Peers whose last answer is remembered, so that answers are rare (protocol rule 13).
pub const ANSWERED_PEERS_MAX: usize = 1_024;
/// Lost views of one epoch that count for the skip list.
pub const SKIP_VIEWS_MAX: u64 = 65_536;
/// How far a block's time may lie beyond a voter's clock, milliseconds (protocol rule 20).
pub const CLOCK_DRIFT_MS_MAX: u64 = 10_000;
/// Blocks in one answer to a sync request.
pub const SYNC_BLOCKS_MAX: usize = 256;
/// Bytes of blocks in one answer to a sync request; the first block is always sent.
pub const SYNC_BYTES_MAX: usize = 4 << 20;
/// Payloads of finalized blocks that wait for the certificate that ends their run, bytes.
pub const SYNC_RUN_BYTES_MAX: usize = 8 * SYNC_BYTES_MAX;
/// Transactions waiting in the mempool, bytes.
pub const MEMPOOL_BYTES_MAX: usize = 64 << 20;
/// Share of the mempool that one sender may hold, bytes.
pub const MEMPOOL_SENDER_BYTES_MAX: usize = 8 << 20;
/// How far ahead of its account's nonce a waiting transaction may be.
pub const NONCE_AHEAD_MAX: u64 = 4_096;
/// Final blocks after which a transaction that still waits is dropped.
pub const MEMPOOL_BLOCKS_MAX: u64 = 10_000;
/// Deadlines that one block works off; the rest wait for the next. A block can open many more small deals than it can work
/// off, so this decides how long a flood of them holds up audits.
pub const DUE_PER_BLOCK_MAX: u32 = 1_024;
/// Slots that the transactions of one block open, end or move. Each costs a few records of the state tree, most of them its own.
pub const BLOCK_SLOTS_MAX: u32 = 16_384;
/// Slots handled by deadlines of one block after which the rest wait for the next.
pub const DUE_SLOTS_PER_BLOCK: u32 = 1_024;
/// Slots that one deadline takes from a node that is gone.
pub const EVICTED_AT_ONCE: u32 = 16;
/// Samples of one storage audit: so many proofs fit one transaction, however long the slots.
pub const AUDIT_SAMPLES_MAX: usize = 24;
/// A leaf of a slot's tree, bytes: what an audit samples.
pub const LEAF_BYTES: usize = 1_024;
/// Hashes from a leaf to the root of the longest slot.
pub const LEAF_PATH_MAX: usize = 41;
/// Longest deal that a network may allow, epochs.
pub const DEAL_EPOCHS_MAX: u32 = 1 << 24;
/// Highest price that a network may ask, credits for one GiB and epoch: keeps every sum far inside 128 bits.
pub const PRICE_MAX: u64 = 1 << 32;
/// Children of a node in the sum tree over what a storage node holds.
pub const SUMS_FANOUT: u64 = 64;
/// Proof of one value in the state tree, bytes: 256 siblings of at most 65 bytes and a leaf.
pub const STATE_PROOF_BYTES_MAX: usize = 32 << 10;

/// Inputs of the node itself that wait for the chain thread: each is small, or the answer to what the thread has asked for,
/// which is one thing of a kind at a time. Consensus messages of peers wait in a queue that is bounded by bytes.
pub const CHAIN_INBOX_MAX: usize = 256;
/// Bytes of consensus messages that the chain thread takes for one turn; the one that goes beyond is the last.
pub const CHAIN_TURN_BYTES_MAX: usize = 12 << 20;

/// Data plus parity shards of a file: what GF(2^8) allows, less one.
pub const SLOTS_MAX: usize = 255;
/// Smallest stripe of plaintext that is erasure-coded at once, bytes.
pub const CHUNK_BYTES_MIN: u32 = 256 << 10;
/// Largest such stripe, bytes.
pub const CHUNK_BYTES_MAX: u32 = 16 << 20;
/// One STREAM segment of plaintext, bytes.
pub const SEGMENT_BYTES: usize = 64 << 10;
/// One file, bytes of plaintext.
pub const FILE_BYTES_MAX: u64 = 1 << 50;
/// A manifest's encrypted part, bytes.
pub const MANIFEST_SEALED_BYTES_MAX: usize = 8 << 10;
/// A file's name, bytes of UTF-8.
pub const FILE_NAME_BYTES_MAX: usize = 1_024;
/// One block of a slot as it is read and proven on the network, bytes. A power of two times 1 KiB.
pub const SLOT_BLOCK_BYTES: usize = 1 << 18;
/// Bytes of uploads and slots of one account that a storage node holds and no deal covers yet.
pub const UNCOMMITTED_BYTES_MAX: u64 = 1 << 40;
/// And at most one part in so many of what the node has free for the account.
pub const UNCOMMITTED_SHARE: u64 = 2;
/// What an upload or a slot that no deal covers costs beside its bytes, so that empty ones are bounded too.
pub const UNCOMMITTED_OVERHEAD_BYTES: u64 = 4 << 10;
/// Blocks for which an upload ticket is signed.
pub const TICKET_BLOCKS: u64 = 2_000;
/// Blocks for which a storage node lets a ticket hold: whoever is behind the network sees tickets of those who are not.
pub const TICKET_BLOCKS_MAX: u64 = 20_000;

/// A file's key as it is sealed to another account, bytes.
pub const SHARE_SEALED_BYTES_MAX: usize = 128;
/// Accounts that one file is shared with: the end of its deal takes all of these shares off the ledger in one block.
pub const SHARES_PER_FILE_MAX: usize = 64;
/// A path in a tree of folders, bytes of UTF-8.
pub const TREE_PATH_BYTES_MAX: usize = 4_096;
/// A part of a path, where it is to be a file's name on other systems, bytes.
pub const TREE_NAME_BYTES_MAX: usize = 255;
/// An entry with its versions and what is kept with it, bytes.
pub const TREE_ENTRY_BYTES_MAX: usize = 40 << 10;
/// One page of the tree, bytes: a change of one entry writes one page of each level.
pub const TREE_PAGE_BYTES_MAX: usize = 128 << 10;
/// Levels of pages above the leaves.
pub const TREE_LEVELS_MAX: u8 = 8;
/// Older contents of one file.
pub const TREE_VERSIONS_MAX: usize = 100;
/// Items in one answer of a listing.
pub const TREE_LIST_MAX: usize = 4_096;
/// Entries that one change of the root may touch; they are held in memory.
pub const TREE_CHANGE_MAX: usize = 200_000;
/// Leaves that a long walk reads ahead.
pub const TREE_AHEAD_MAX: usize = 16;
/// Operations in one batch.
pub const TREE_BATCH_OPS_MAX: usize = 4_096;
/// Batches that wait to be written together.
pub const TREE_WAITING_MAX: usize = 256;
/// Stored pieces without a path that a node remembers for all its accounts.
pub const TREE_FRESH_MAX: usize = 1 << 17;
/// Bytes of pages that a node keeps in memory, as they are encoded.
pub const TREE_CACHE_BYTES_MAX: usize = 64 << 20;

/// Addresses of one node in its registration.
pub const NODE_ADDRESSES_MAX: usize = 8;
/// One address, bytes.
pub const NODE_ADDRESS_BYTES_MAX: usize = 256;
/// A node's or operator's name, bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 64;
/// A transfer's memo, bytes of UTF-8.
pub const MEMO_BYTES_MAX: usize = 256;

/// argon2id memory that a keystore may ask for, KiB: more is refused before it is allocated.
pub const KDF_MEMORY_KIB_MAX: u32 = 1 << 20;
/// argon2id passes that a keystore may ask for.
pub const KDF_PASSES_MAX: u32 = 16;
/// argon2id lanes that a keystore may ask for.
pub const KDF_LANES_MAX: u32 = 16;

/// Bytes of consensus messages that wait to be sent to one peer; the oldest go first.
pub const CONSENSUS_OUTBOX_BYTES_MAX: usize = 24 << 20;
/// The same for a peer that is not connected: what it may still want after a short absence, or one message.
pub const CONSENSUS_ABSENT_BYTES_MAX: usize = 1 << 20;
/// Bytes of consensus messages from one peer that wait to be handled; then that peer is not read from.
pub const CONSENSUS_INBOX_PEER_BYTES_MAX: usize = 12 << 20;
/// The same of all peers together, beyond what each is assured.
pub const CONSENSUS_INBOX_BYTES_MAX: usize = 96 << 20;
/// What each peer may have waiting whatever the others have: votes and timeouts with their certificates always come in.
pub const CONSENSUS_INBOX_ASSURED_BYTES: usize = 64 << 10;
/// What a message costs in a queue beside its bytes, so that empty ones are bounded too.
pub const QUEUED_MESSAGE_OVERHEAD_BYTES: usize = 128;
/// Bytes of gossip forwarded by one peer that wait to be handled; more of it is dropped.
pub const GOSSIP_INBOX_PEER_BYTES_MAX: usize = 4 << 20;
/// Bytes of gossip from all peers that wait to be handled.
pub const GOSSIP_INBOX_BYTES_MAX: usize = 64 << 20;
/// What the gossip envelope adds to its payload at most, bytes.
pub const GOSSIP_ENVELOPE_BYTES_MAX: usize = 128;
/// One request to a peer, bytes.
pub const REQUEST_BYTES_MAX: usize = 128 << 10;
/// One answer to a request, bytes.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Requests in both directions at once on one connection.
pub const REQUESTS_PER_CONNECTION_MAX: usize = 64;
/// Requests to one peer at once; further ones wait.
pub const REQUESTS_PER_PEER_MAX: usize = 8;
/// Requests of one peer that are being answered, until the peer has read the answer. More are told to come later.
pub const ANSWERS_PER_PEER_MAX: usize = 8;
/// Requests of all peers that are being answered.
pub const ANSWERS_MAX: usize = 128;
/// Own requests under way at once.
pub const REQUESTS_OUTBOUND_MAX: usize = 256;
/// Commands that wait for the network task.
pub const NET_COMMANDS_MAX: usize = 4_096;
/// Byte streams open at once with one peer, each direction.
pub const STREAMS_PER_PEER_MAX: usize = 32;
/// Byte streams open at once with all peers, each direction.
pub const STREAMS_MAX: usize = 512;
/// Multiplexed streams of any kind on one connection.
pub const STREAMS_PER_CONNECTION_MAX: usize = 256;
/// Of them, those that nodes which the ledger does not know may have: so storage is never out of reach for those it does.
pub const STREAMS_STRANGERS_MAX: usize = STREAMS_MAX / 4 * 3;
/// Whole rate of gossip that one peer brings, KiB a second; `net::Standing` says which part of it a peer has.
pub const GOSSIP_RATE: u32 = 8 << 10;
/// And at once, KiB.
pub const GOSSIP_BURST: u32 = 32 << 10;
/// What a gossip message counts beside its length, KiB: to verify it costs as much, however short it is.
pub const GOSSIP_COST: usize = 2;
/// Whole rate of one peer's requests, in the cost of the cheapest, a second.
pub const REQUEST_RATE: u32 = 1_024;
/// And at once.
pub const REQUEST_BURST: u32 = 8 << 10;
/// Cost of a request whose answer may be as long as an answer gets.
pub const REQUEST_COST_LONG: usize = 8;
/// Whole rate of streams that one peer opens, a second.
pub const STREAM_RATE: u32 = 2_048;
/// And at once.
pub const STREAM_BURST: u32 = 8 << 10;
/// Whole rate of one validator's consensus messages, a second; it has twice as much. A view needs a few.
pub const CONSENSUS_RATE: u32 = 2 << 10;
/// And at once: what was held up on a connection comes together.
pub const CONSENSUS_BURST: u32 = 16 << 10;
/// Whole rate of gossip that no node can use, KiB a second.
pub const USELESS_RATE: u32 = 128;
/// And at once, KiB.
pub const USELESS_BURST: u32 = 2 << 10;
/// Pieces over its rate for which a peer is not at fault, a minute.
pub const PATIENCE: u32 = 256;
/// The same of consensus messages: all that an honest peer's outbox holds may come at once.
pub const CONSENSUS_PATIENCE: u32 = 64 << 10;
/// The same of gossip that no node can use.
pub const USELESS_PATIENCE: u32 = 32;
/// Transactions of one account that peers bring, a second, on a mean.
pub const ACCOUNT_TXS_RATE: u32 = 500;
/// And at once.
pub const ACCOUNT_TXS_BURST: u32 = 4_096;
/// Peers that the network remembers, with their addresses.
pub const KNOWN_PEERS_MAX: usize = 4_096;
/// Established connections.
pub const CONNECTIONS_MAX: u32 = 512;
/// Established connections that peers opened.
pub const CONNECTIONS_INBOUND_MAX: u32 = 384;
/// Connections under negotiation, each direction.
pub const CONNECTIONS_PENDING_MAX: u32 = 128;
/// Connections with one peer: both sides may dial at once, and a restarted peer's old one may linger.
pub const CONNECTIONS_PER_PEER_MAX: u32 = 3;

/// Connections of the HTTP interface at once; further ones wait until one of them ends.
pub const API_CONNECTIONS_MAX: usize = 256;

/// Name of a user of a node, bytes.
pub const USER_NAME_BYTES_MAX: usize = 64;
/// A user's password, characters.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// A user's password, characters.
pub const PASSWORD_CHARS_MAX: usize = 1_024;
/// Logins of one user at the same time; a further one ends the oldest.
pub const TOKENS_PER_USER_MAX: usize = 32;
/// Passwords that are hashed at the same time, each in 64 MiB.
pub const PASSWORD_HASHES_MAX: usize = 2;
/// Requests that wait for that; further ones are told to come later.
pub const PASSWORD_HASHES_WAITING_MAX: usize = 16;
/// Clients whose rate is known one by one; beyond them all others share one.
pub const RATE_KEYS_MAX: usize = 1 << 16;

/// Access keys of one home.
pub const ACCESS_KEYS_MAX: usize = 128;
/// All of them, bytes.
pub const ACCESS_KEYS_BYTES_MAX: usize = 64 << 10;

/// A genesis file, bytes.
pub const GENESIS_BYTES_MAX: usize = 16 << 20;
/// A proof bundle, bytes.
pub const BUNDLE_BYTES_MAX: usize = 64 << 20;

/// Records of the ledger that are read at a time for a table.
pub const EXPORT_PAGE_RECORDS: usize = 128;
/// One row as a JSON line, bytes.
pub const EXPORT_LINE_BYTES_MAX: usize = 64 << 10;
/// Rows of a Parquet row group, which are held in memory.
pub const EXPORT_GROUP_ROWS: usize = 8_192;
/// Heights in one exported file, so that an interrupted export loses little.
pub const EXPORT_FILE_HEIGHTS: u64 = 100_000;

const _: () = assert!(
    TREE_ENTRY_BYTES_MAX + TREE_PATH_BYTES_MAX + 64 <= TREE_PAGE_BYTES_MAX / 2,
    "half a page and the longest entry are no more than a page"
);
const _: () = assert!(TX_BYTES_MAX <= GOSSIP_BYTES_MAX, "a transaction fits one gossip message");
const _: () = assert!(TX_BYTES_MAX <= BLOCK_PAYLOAD_BYTES_MAX, "a transaction fits a block");
const _: () = assert!(
    BLOCK_PAYLOAD_BYTES_MAX + (1 << 20) <= CONSENSUS_MESSAGE_BYTES_MAX,
    "a block and its certificates fit one message"
);
const _: () =
    assert!(SLOT_BLOCK_BYTES.is_power_of_two() && SLOT_BLOCK_BYTES >= 1024, "a slot block is a subtree of BLAKE3");
const _: () = assert!(
    AUDIT_SAMPLES_MAX * (LEAF_BYTES + 32 * LEAF_PATH_MAX + 16) + 512 <= TX_BYTES_MAX,
    "the answer to an audit fits one transaction"
);
const _: () = assert!(
    FILE_BYTES_MAX / SEGMENT_BYTES as u64 * (SEGMENT_BYTES as u64 + 16) <= (LEAF_BYTES as u64) << LEAF_PATH_MAX,
    "a path leads to every leaf of the longest slot"
);
const _: () = assert!(MEMPOOL_SENDER_BYTES_MAX <= MEMPOOL_BYTES_MAX, "one sender's share is part of the whole");
const _: () = assert!(CONSENSUS_MESSAGE_BYTES_MAX <= CONSENSUS_OUTBOX_BYTES_MAX, "one message fits the outbox");
const _: () = assert!(
    CONSENSUS_MESSAGE_BYTES_MAX + QUEUED_MESSAGE_OVERHEAD_BYTES <= CONSENSUS_INBOX_PEER_BYTES_MAX,
    "one message fits the inbox"
);
const _: () =
    assert!(CONSENSUS_INBOX_PEER_BYTES_MAX <= CONSENSUS_INBOX_BYTES_MAX, "one peer's share is part of the whole");
const _: () = assert!(SYNC_BYTES_MAX <= ANSWER_BYTES_MAX, "an answer to a sync request fits");
const _: () = assert!(CONSENSUS_MESSAGE_BYTES_MAX <= ANSWER_BYTES_MAX, "a block and its certificate fit one answer");
const _: () = assert!(
    REQUESTS_PER_PEER_MAX <= ANSWERS_PER_PEER_MAX
        && REQUESTS_PER_PEER_MAX + ANSWERS_PER_PEER_MAX <= REQUESTS_PER_CONNECTION_MAX,
    "honest peers are never told to come later"
);
const _: () = assert!(
    CONSENSUS_OUTBOX_BYTES_MAX / (2 * QUEUED_MESSAGE_OVERHEAD_BYTES)
        <= (2 * CONSENSUS_BURST + CONSENSUS_PATIENCE) as usize,
    "an honest validator's outbox is never a flood: a signed message is longer than its overhead"
);
const _: () = assert!(TX_BYTES_MAX < REQUEST_BYTES_MAX, "a transaction fits one request");
const _: () = assert!(TICKET_BLOCKS <= TICKET_BLOCKS_MAX, "a ticket holds as long as it is signed for");
const _: () = assert!(CONNECTIONS_INBOUND_MAX < CONNECTIONS_MAX, "some connections are kept for own dials");
