//! Views of folders: the JSON of the folder routes, written by the server and read by the command line.
//! Not here: how they are filled (`tree`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink,
}

/// The bytes of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ContentView {
    /// Counts the contents that the path has had, from 1.
    #[serde(default)]
    #[serde(deserialize_with = "super::whole::number")]
    pub version: u64,
    /// Bytes.
    #[serde(deserialize_with = "super::whole::number")]
    pub bytes: u64,
    /// BLAKE3 of them, hexadecimal, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<SessionText>)]
    pub hash: Option<String>,
    /// When it was put.
    #[serde(deserialize_with = "super::whole::number")]
    pub put_ms: u64,
    /// The stored files that hold it, in order; none if it is empty.
    pub pieces: Vec<PieceView>,
}

/// A stored file that holds a part of a content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PieceView {
    /// The file.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub file_id: String,
    /// Its bytes.
    #[serde(deserialize_with = "super::whole::number")]
    pub bytes: u64,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EntryView {
    /// The path, from `/` on.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits; none of a folder that has no entry of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    /// Time of the last change, nanoseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtime_ns: Option<i64>,
    /// Where a link leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What a file holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<ContentView>,
    /// Older contents, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<ContentView>,
}

/// `GET /v1/tree/list`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListView {
    /// What is there, in the order of paths.
    pub entries: Vec<EntryView>,
    /// What `after` has to be for the rest, if there is more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// 64 hexadecimal digits.
#[derive(ToSchema)]
#[schema(pattern = "^[0-9a-fA-F]{64}$")]
#[expect(dead_code, reason = "only the document has it")]
pub struct SessionText(String);

/// Which sessions are asked for, and what is stored for them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StagedRequest {
    /// Sessions of contents, each 64 hexadecimal digits.
    #[schema(max_items = 4096, value_type = Vec<SessionText>)]
    pub sessions: Vec<String>,
}

/// What is stored for sessions and is not in a folder yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StagedView {
    /// By session.
    pub contents: BTreeMap<String, ContentView>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum OpRequest {
    /// Puts a file, folder or link at a path. What is there before becomes a version if it is another content.
    Put {
        /// Where.
        path: String,
        /// What.
        kind: EntryKind,
        /// The bytes of a file, as the content route gave them.
        #[serde(default)]
        content: Option<ContentView>,
        /// Where a link leads.
        #[serde(default)]
        target: Option<String>,
        /// Permission bits; default: 0644, of a folder 0755.
        #[serde(default, deserialize_with = "super::whole::optional")]
        mode: Option<u32>,
        /// Time of the last change, nanoseconds since the Unix epoch; default: now.
        #[serde(default, deserialize_with = "super::whole::optional_signed")]
        mtime_ns: Option<i64>,
        /// Older contents that are kept; default: `files.keep_versions`, or as many as there are.
        #[serde(default, deserialize_with = "super::whole::optional")]
        keep: Option<usize>,
        /// Whether nothing may be there.
        #[serde(default)]
        new: bool,
        /// Whether a file with this content must be there: only its mode and time are changed.
        #[serde(default)]
        touch: bool,
        /// The content's session, which is done with then.
        #[serde(default)]
        #[schema(value_type = Option<SessionText>)]
        session: Option<String>,
    },
    /// Takes a path away, with all its versions.
    Remove {
        /// Which.
        path: String,
        /// Whether a folder goes with all that is in it.
        #[serde(default)]
        recursive: bool,
        /// Whether nothing need be there.
        #[serde(default)]
        missing_ok: bool,
    },
    /// Gives a file, link or folder another path; into the folder, if there is one at `to`.
    Move {
        /// From where.
        from: String,
        /// To where.
        to: String,
    },
    /// Makes an older content of a file the present one.
    Restore {
        /// The file.
        path: String,
        /// The number of the content.
        #[serde(deserialize_with = "super::whole::number")]
        version: u64,
    },
}

/// `POST /v1/tree/changes`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangesRequest {
    /// The changes, in order; all take effect, or none.
    pub ops: Vec<OpRequest>,
}

/// Changes that are final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangesView {
    /// The root of the account's folders since then.
    pub root: Option<String>,
    /// Entries changed.
    pub changed: u64,
}

/// `POST /v1/tree/collect`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CollectRequest {
    /// How old garbage is, seconds.
    #[schema(maximum = 9007199254740991_u64)]
    #[serde(deserialize_with = "super::whole::number")]
    pub older_than_s: u64,
}

/// What was collected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CollectView {
    /// Stored files that folders refer to, with those that hold the folders.
    pub reached: u64,
    /// Files that were deleted.
    pub deleted: u64,
    /// Files that could not be deleted yet.
    pub failed: u64,
    /// Files that nothing refers to and that are too young.
    pub young: u64,
}

/// `POST /v1/tree/renew`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RenewFolderRequest)]
pub struct RenewRequest {
    /// The file or folder.
    pub path: String,
    /// Epochs to add.
    #[schema(minimum = 1, maximum = 4294967295_u32)]
    #[serde(deserialize_with = "super::whole::number")]
    pub epochs: u32,
}

/// What lasts longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RenewedView {
    /// Stored contents, older versions too.
    pub contents: u64,
    /// Stored files that hold the folders.
    pub pages: u64,
    /// What could not be renewed.
    pub failed: Vec<NotRenewed>,
}

/// A stored file that could not be renewed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NotRenewed {
    /// The file.
    pub file_id: String,
    /// Why.
    pub reason: String,
}
