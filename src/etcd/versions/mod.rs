//! What is known of etcd's versions, as data: one table, a source behind each line.
//!
//! The planner asks [`check_hop`] and never compares versions itself. etcd does not refuse a skipped
//! minor (any raise within a major is accepted), so this table is the only guard.

mod flags;
mod hops;
mod stops;
mod v2;

pub use flags::{OWNED_FLAGS, is_owned_flag};
pub use hops::{Hop, HopError, check_hop};
pub use stops::stops;
pub use v2::{DEFAULT_SNAPSHOT_COUNT, may_write_v2_entries, needs_a_snapshot_before};

use super::{EtcdVersion, Minor};

/// The minor lines that a new cluster may start on, each with its newest known patch.
pub const SUPPORTED: &[Supported] = &[
    Supported { minor: Minor::new(3, 5), newest_patch: 35 },
    Supported { minor: Minor::new(3, 6), newest_patch: 16 },
    Supported { minor: Minor::new(3, 7), newest_patch: 3 },
];

/// A minor line that is maintained upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supported {
    /// The line.
    pub minor: Minor,
    /// Its newest patch when this table was written (2026-10-22). Newer ones are fine.
    pub newest_patch: u64,
}

/// Whether members of this minor can be run at all.
pub fn is_supported(minor: Minor) -> bool {
    SUPPORTED.iter().any(|line| line.minor == minor)
}

/// The newest patch of a minor that this table knows.
pub fn newest_patch(minor: Minor) -> Option<EtcdVersion> {
    SUPPORTED.iter().find(|line| line.minor == minor).map(|line| minor.patch(line.newest_patch))
}
