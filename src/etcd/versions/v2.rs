//! Raft entries of etcd's v2 API, and who can read them.
//!
//! 3.5 writes a member's attributes and the cluster version as v2 entries. 3.6 still translates them; 3.7
//! panics at its start on any that lies behind the member's last raft snapshot on disk, applied or not.
//! A quiet cluster takes a snapshot after months, so that all its members die on their first start on 3.7
//! (measured; putting 3.6 back heals). Source: <https://github.com/etcd-io/etcd/pull/21263>

use crate::etcd::Minor;

/// From this minor on members write no v2 entries, once the cluster version says that all are there.
const WRITES_NONE: Minor = Minor::new(3, 6);
/// From this minor on members cannot read them.
const READS_NONE: Minor = Minor::new(3, 7);

/// Raft entries between two snapshots on disk where `--snapshot-count` does not say otherwise, from 3.6 on.
/// Source: <https://github.com/etcd-io/etcd/blob/main/CHANGELOG/CHANGELOG-3.6.md>
pub const DEFAULT_SNAPSHOT_COUNT: u64 = 10_000;

/// Whether every member must have taken a raft snapshot at this cluster version before a hop to `target`.
pub fn needs_a_snapshot_before(cluster_version: Minor, target: Minor) -> bool {
    cluster_version < READS_NONE && target >= READS_NONE
}

/// Whether members of a cluster at this version may still write v2 entries: a snapshot taken before the
/// cluster version left them proves nothing.
pub fn may_write_v2_entries(cluster_version: Minor) -> bool {
    cluster_version < WRITES_NONE
}
