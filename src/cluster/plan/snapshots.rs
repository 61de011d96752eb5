//! Raft snapshots before a hop to a minor that reads no v2 entries: every member must have taken one since
//! such entries can have been written last, else it panics at its start. Where a cluster is too quiet to take
//! one in time, entries that touch no key are proposed until it does.
//!
//! Proof is a count that is higher than when the cluster version was first seen to be high enough, in the
//! same process. A count alone proves nothing: a snapshot may be older than the last v2 entry (measured).

use super::request::member_versions;
use super::step::{Next, SnapshotNote, Step};
use super::view::View;
use crate::api::{Code, EtcdClusterSpec};
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::observation::SnapshotBase;
use crate::cluster::revision::{self, Revision};
use crate::etcd::versions::{DEFAULT_SNAPSHOT_COUNT, may_write_v2_entries, needs_a_snapshot_before};
use crate::etcd::{EtcdVersion, Minor};
use std::collections::BTreeMap;

/// Entries of one step: a fraction of a second, 20 s where a commit takes 160 ms. Then everything is looked at again.
const ENTRIES_AT_ONCE: u32 = 500;
/// A larger `snapshotCount` would ask for more entries than may be written unasked: a lower one is rolled in first.
const LARGEST_COUNT: i64 = 100_000;
const LOWERED_COUNT: i64 = DEFAULT_SNAPSHOT_COUNT.cast_signed();
/// A member takes its snapshot when it applies, which lags a little behind what is proposed.
const SLACK: u64 = 5_000;

/// Snapshots that were counted before the cluster version went back, which a downgrade does, count no more.
pub(super) fn that_count_no_more(view: &View<'_>) -> Option<Next> {
    let version = view.cluster_version().filter(|version| may_write_v2_entries(*version))?;
    let runs_all =
        view.world.answers.values().all(|answer| answer.cluster_version.is_none_or(|known| known == version));
    let noted = view
        .world
        .claims
        .iter()
        .filter(|(_, claim)| claim.free_of_v2_entries || claim.snapshot_base.is_some());
    let forget: BTreeMap<MemberName, SnapshotNote> =
        noted.map(|(member, _)| (member.clone(), SnapshotNote::Forget)).collect();
    (runs_all && !forget.is_empty()).then_some(Next::Do(Step::NoteSnapshots(forget)))
}

/// Members without the proof, where the hop to this minor asks for one.
pub(super) fn unproven(view: &View<'_>, cluster_version: Minor, target: Minor) -> Vec<MemberName> {
    if !needs_a_snapshot_before(cluster_version, target) {
        return Vec::new();
    }
    let free = |member: &MemberName| view.claim_of(member).is_some_and(|claim| claim.free_of_v2_entries);
    view.members().iter().filter(|member| !free(member)).cloned().collect()
}

/// What is to be done before this hop; nothing once every member has its proof. All members are up.
pub(super) fn on_every_member(view: &View<'_>, target: &Revision) -> Option<Next> {
    let version = view.cluster_version()?;
    let unproven = unproven(view, version, target.version.minor);
    let first = unproven.first()?;
    let count = snapshot_count(view);
    let wait = |message: String, member: &MemberName, progress| {
        let notice = Notice::new(Code::SnapshotPending, message, "look at the member's /metrics and log");
        Some(Next::Wait(view.wait(notice, Some(member), "raft-snapshots".to_owned(), progress)))
    };
    let mut notes = BTreeMap::new();
    let mut written = 0;
    for member in &unproven {
        let (answer, up) = (view.answer(member)?, view.up(member)?);
        let (Some(snapshots), true) = (&answer.snapshots, answer.cluster_version == Some(version)) else {
            let message = format!("{member} does not say yet how many raft snapshots it took");
            return wait(message, member, 0);
        };
        let base = view.claim_of(member).and_then(|claim| claim.snapshot_base.as_ref());
        match base.filter(|base| base.snapshots.process == snapshots.process) {
            Some(base) if snapshots.taken > base.snapshots.taken => {
                notes.insert(member.clone(), SnapshotNote::FreeOfV2Entries);
            }
            Some(base) => written = written.max(up.status.raft_index.saturating_sub(base.raft_index)),
            None => {
                let raft_index = up.status.raft_index;
                let base = SnapshotBase { snapshots: snapshots.clone(), raft_index };
                notes.insert(member.clone(), SnapshotNote::CountFrom(base));
            }
        }
    }
    if !notes.is_empty() {
        return Some(Next::Do(Step::NoteSnapshots(notes)));
    }
    if written >= count + SLACK {
        let message = format!("{first} took no raft snapshot within {count} entries and {SLACK} more");
        return wait(message, first, u64::from(ENTRIES_AT_ONCE));
    }
    let through = view.leader()?.clone();
    Some(Next::Do(Step::Propose { through, entries: ENTRIES_AT_ONCE }))
}

/// The spec with fewer entries between two snapshots, where it asks for far too many; for the way to a minor before
/// which every member must take one.
pub(super) fn lowered(spec: &EtcdClusterSpec) -> Option<EtcdClusterSpec> {
    spec.etcd.as_ref()?.snapshot_count.filter(|count| *count > LARGEST_COUNT)?;
    let mut lowered = spec.clone();
    lowered.etcd.as_mut()?.snapshot_count = Some(LOWERED_COUNT);
    Some(lowered)
}

/// The same for members that run this version on the way, where they must take raft snapshots before it goes on.
pub(super) fn lowered_at(view: &View<'_>, stop: EtcdVersion) -> Option<EtcdClusterSpec> {
    let mut later = view.way.iter().flatten().flatten().filter(|later| **later > stop);
    let are_due = !may_write_v2_entries(stop.minor)
        && later.any(|later| needs_a_snapshot_before(stop.minor, later.minor));
    lowered(&view.world.cluster.spec).filter(|_| are_due)
}

/// The version that runs, where it must be rolled once more, with a lower count, before a hop that asks for snapshots.
pub(super) fn stop_for_a_lower_count(
    view: &View<'_>,
    cluster_version: Minor,
    way: &[EtcdVersion],
) -> Option<EtcdVersion> {
    let cluster = &view.world.cluster;
    let lowered = lowered(&cluster.spec)?;
    if may_write_v2_entries(cluster_version) || unproven(view, cluster_version, way.first()?.minor).is_empty()
    {
        return None;
    }
    let here = member_versions(view).into_iter().max().filter(|here| here.minor == cluster_version)?;
    let name = revision::name(&cluster.name, &lowered, view.world.wire(), here);
    let all_have_it = view.members().iter().all(|member| view.revision_of(member) == Some(&name));
    (!all_have_it).then_some(here)
}

/// The most entries that any member lets pass between two snapshots.
fn snapshot_count(view: &View<'_>) -> u64 {
    let of = |member: &MemberName| view.revision(view.revision_of(member)?).map(Revision::snapshot_count);
    view.members().iter().filter_map(of).max().unwrap_or(DEFAULT_SNAPSHOT_COUNT)
}
