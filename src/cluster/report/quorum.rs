//! The loss of a quorum as it stands in the status: since when, and what those who are left know. Pure.

use crate::api::{Action, EtcdClusterStatus, QuorumLossStatus, SurvivorStatus};
use crate::cluster::names::{MemberName, digest};
use crate::cluster::observation::Observation;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The loss that there is now. What was written of it stays: without a quorum nothing is committed, and one that is started
/// again may not say any more what it knows. While a recovery is under way nothing of it changes.
pub fn quorum_loss(world: &Observation, status: &EtcdClusterStatus) -> Option<QuorumLossStatus> {
    let old = world.cluster.status.quorum_loss.as_ref();
    if status.progress.as_ref().is_some_and(|progress| progress.action == Action::Recover) {
        return old.cloned();
    }
    if !world.lacks_a_quorum() {
        return None;
    }
    let voters = world.noted_voters()?;
    let survivors = voters.keys().filter_map(|member| {
        let name = member.to_string();
        let before = old.and_then(|old| old.survivors.iter().find(|before| before.member == name));
        survivor(world, member, before).or_else(|| before.cloned())
    });
    let since = old.map_or(Time(world.now), |old| old.since.clone());
    let incident = old.map_or_else(|| incident(world), |old| old.incident.clone());
    Some(QuorumLossStatus { incident, since, survivors: survivors.collect() })
}

fn incident(world: &Observation) -> String {
    let cluster = &world.cluster;
    let id = cluster.status.cluster_id.as_deref().unwrap_or_default();
    digest(format!("{}/{id}/{}", cluster.uid, world.now).as_bytes())
}

fn survivor(
    world: &Observation,
    member: &MemberName,
    before: Option<&SurvivorStatus>,
) -> Option<SurvivorStatus> {
    let answer = world.answers.get(member)?;
    let said = answer.status().map(|status| (status.revision, status.raft_index));
    // What a member has applied it knows to be committed.
    let (revision, index) =
        said.or_else(|| answer.standstill.map(|still| (still.revision, still.raft_applied_index)))?;
    let known = world.served.values().map(|served| served.revision);
    let known = known.chain(world.answers.values().filter_map(|answer| Some(answer.status()?.revision)));
    // A process that has not watched before the loss cannot tell what there was.
    let behind = known.max().filter(|_| !world.served.is_empty()).map(|known| (known - revision).max(0));
    // etcd writes what it knows to be committed with the next entry only: killed right after one, it does not know any more
    // that this one was, and a force drops it (measured with 3.5.9, 3.6.16 and 3.7.3).
    let served = world.served.get(member);
    let forgot = served.is_some_and(|served| served.revision > revision);
    let complete_until = served.map(|served| Time(served.at)).or_else(|| before?.complete_until.clone());
    Some(SurvivorStatus {
        member: member.to_string(),
        revision,
        raft_index: i64::try_from(index).unwrap_or(i64::MAX),
        behind: behind.or_else(|| before?.behind),
        complete_until: complete_until.filter(|_| !forgot),
    })
}
