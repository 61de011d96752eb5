//! etcd as seen from outside: its types, what is known of its versions, and a client.
//!
//! [`types`] and [`versions`] are pure and used by the planner; [`client`] is I/O.

pub mod client;
pub mod types;
pub mod versions;

pub use types::{Alarm, ClusterId, EtcdVersion, ListedMember, MemberId, MemberStatus, Minor};
