//! What etcd's v2 API leaves behind, and who can read it: data of its own, and raft entries.
//!
//! Data that clients wrote through the v2 API stays, also once 3.5 runs without `--enable-v2`, and 3.6 does not
//! start on it. etcdutl of 3.5 finds it on the volume of a member that runs (measured, 0.1 s).
//! Source: <https://etcd.io/docs/v3.6/upgrades/upgrade_3_6/>
//!
//! 3.5 writes a member's attributes and the cluster version as v2 entries. 3.6 still translates them; 3.7
//! panics at its start on any that lies behind the member's last raft snapshot on disk, applied or not.
//! A quiet cluster takes a snapshot after months, so that all its members die on their first start on 3.7
//! (measured; putting 3.6 back heals). Source: <https://github.com/etcd-io/etcd/pull/21263>

use crate::etcd::{EtcdVersion, Minor};

/// From this minor on members write no v2 entries, once the cluster version says that all are there.
const WRITES_NONE: Minor = Minor::new(3, 6);
/// From this minor on members cannot read them.
const READS_NONE: Minor = Minor::new(3, 7);

/// From this minor on members do not start on data of the v2 API.
const STARTS_ON_NO_V2_DATA: Minor = Minor::new(3, 6);
/// The oldest release whose `etcdutl check v2store` finds v2 data in the WAL too. Later minors have no such command.
/// Source: <https://github.com/etcd-io/etcd/pull/21889>
const FINDS_V2_DATA: EtcdVersion = EtcdVersion::new(3, 5, 32);

/// Raft entries between two snapshots on disk where `--snapshot-count` does not say otherwise, from 3.6 on.
/// Source: <https://github.com/etcd-io/etcd/blob/main/CHANGELOG/CHANGELOG-3.6.md>
pub const DEFAULT_SNAPSHOT_COUNT: u64 = 10_000;

/// Whether every member must have taken a raft snapshot at this cluster version before a hop to `target`.
pub fn needs_a_snapshot_before(cluster_version: Minor, target: Minor) -> bool {
    cluster_version < READS_NONE && target >= READS_NONE
}

/// Whether data of the v2 API that a cluster at this version may have would stop a member of `target`.
pub fn stops_on_v2_data(cluster_version: Minor, target: Minor) -> bool {
    cluster_version < STARTS_ON_NO_V2_DATA && target >= STARTS_ON_NO_V2_DATA
}

/// Whether a new member of this minor may hang in a cluster that nobody writes to. It says who it is through the v3 API, which
/// takes nothing from a member that is 5,000 entries behind; and one that got its data as a single snapshot does not count that
/// as applied before one more entry comes (`applySnapshot` sets no applied index). Until it has said it, it serves nobody. It does
/// not where it was quicker than the snapshot. Before, members said it through the v2 API, without that check (measured on
/// 3.5.35, which always comes, and on 3.6.16 and 3.7.3, which may not).
/// Source: `publishV3` and `processInternalRaftRequestOnce` of
/// <https://github.com/etcd-io/etcd/tree/v3.6.0/server/etcdserver>
pub fn joins_by_an_entry_of_others(minor: Minor) -> bool {
    minor >= WRITES_NONE
}

/// Whether the etcdutl of a release finds data of the v2 API.
pub fn finds_v2_data(version: EtcdVersion) -> bool {
    version >= FINDS_V2_DATA && version.minor < STARTS_ON_NO_V2_DATA
}

/// The minor whose etcdutl finds data of the v2 API.
pub const FINDS_V2_DATA_IN: Minor = FINDS_V2_DATA.minor;

/// Whether members of a cluster at this version may still write v2 entries: a snapshot taken before the
/// cluster version left them proves nothing.
pub fn may_write_v2_entries(cluster_version: Minor) -> bool {
    cluster_version < WRITES_NONE
}
