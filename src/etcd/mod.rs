//! etcd as seen from outside: its types, what is known of its versions, and a client.
//!
//! [`types`], [`answers`], [`logs`] and [`versions`] are pure and used by the planner; [`client`] is I/O.

pub mod answers;
#[allow(clippy::disallowed_types, reason = "the one place that dials members")]
pub mod client;
pub mod logs;
pub mod types;
pub mod versions;

pub use answers::{ErrorKind, Identity, KvHash, Snapshots, Standstill, Versions};
pub use client::{
    Call, Channels, Credentials, CredentialsError, Endpoint, EtcdError, HttpError, MemberClient,
};
pub use types::{
    Alarm, ClusterId, DowngradeCall, EtcdVersion, ListedMember, MemberId, MemberStatus, Minor, quorum,
};
