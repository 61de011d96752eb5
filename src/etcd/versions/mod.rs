//! What is known of etcd's versions, as data: one table, a source behind each line.
//!
//! The planner asks [`check_hop`] and [`route`] and never compares versions itself. etcd does not refuse a skipped
//! minor (any raise within a major is accepted), so this table is the only guard.

mod bugs;
mod flags;
mod hops;
mod releases;
mod route;

pub use bugs::{BUGS, Bug};
pub use flags::{OWNED_FLAGS, is_owned_flag};
pub use hops::{HOPS, Hop, HopError, MinorHop, Start, check_hop};
pub use releases::{MINORS, MinorLine, REFUSED, RefusedReleases, Releases, ReleasesError};
pub use route::{may_go, route};

use super::Minor;

/// The minors that members can be run on, each with its newest known patch.
pub fn supported() -> impl Iterator<Item = &'static MinorLine> {
    MINORS.iter().filter(|line| line.is_run)
}

/// Whether members of this minor can be run at all.
pub fn is_supported(minor: Minor) -> bool {
    supported().any(|line| line.minor == minor)
}
