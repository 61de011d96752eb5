//! What is known of etcd's versions, as data: one table, a source behind each line.
//!
//! The planner asks [`check_hop`] and [`stops`] and never compares versions itself. etcd does not refuse a skipped
//! minor (any raise within a major is accepted), so this table is the only guard.

mod bugs;
mod flags;
mod force;
mod gates;
mod hops;
mod known_flags;
mod kubernetes;
mod releases;
mod stops;
mod translate;
mod v2;

pub use bugs::{BUGS, Bug};
pub use flags::{OWNED_FLAGS, is_owned_flag};
pub use force::{FORCES_CLEANLY_FROM, first_to_force_cleanly, forces_cleanly};
pub use gates::{FEATURE_GATES, GATES, GRADUATED, Gate};
pub use hops::{
    HOPS, Hop, HopError, MinorHop, STARTS_UNDER_ANY_DOWNGRADE, Start, check_hop, tells_of_downgrades,
};
pub use known_flags::{FlagGroup, KNOWN_FLAGS, is_known};
pub use kubernetes::{
    ASKS_FOR_CONSISTENT_READS, CONSISTENT_READS, CONSISTENT_READS_SOURCE, KUBERNETES, KubernetesLine, advice,
    serves_consistent_reads,
};
pub use releases::{MINORS, MinorLine, Releases, ReleasesError};
pub use stops::stops;
pub use translate::{FlagError, translate};
pub use v2::{
    DEFAULT_SNAPSHOT_COUNT, FINDS_V2_DATA_IN, finds_v2_data, joins_by_an_entry_of_others,
    may_write_v2_entries, needs_a_snapshot_before, stops_on_v2_data,
};

use super::Minor;

/// Whether members of this minor can be run at all.
pub fn is_supported(minor: Minor) -> bool {
    MINORS.iter().any(|line| line.minor == minor)
}
