//! The table of members, quantised so that a quiet cluster writes nothing.

use crate::api::{EtcdClusterStatus, MemberRole, MemberStatus};
use crate::cluster::names::MemberName;
use crate::cluster::objects::container::client_url;
use crate::cluster::observation::{Answer, Observation};
use crate::etcd::{ListedMember, Minor};
use std::collections::BTreeSet;

/// A lag below this is none.
const LAG_GRAIN: u64 = 1_000;

pub(super) fn fill(status: &mut EtcdClusterStatus, world: &Observation) {
    // One that has lost both is a member of etcd's still, and so is one that a recovery has set aside.
    let voters = world.noted_voters().into_iter().flatten().map(|(member, _)| member);
    // A Pod and a volume stand for a moment longer than the member that was removed.
    let is_left_over = |name: &MemberName| world.member_list.is_some() && listed(world, name).is_none();
    let claims = world.claims.iter().map(|(name, claim)| (name, claim.deleting));
    let pods = world.pods.iter().map(|(name, pod)| (name, pod.deleting));
    let there = claims.chain(pods).filter(|(name, goes)| !(*goes && is_left_over(name)));
    let names: BTreeSet<&MemberName> = there.map(|(name, _)| name).chain(voters).collect();
    let committed = statuses(world).map(|status| status.raft_index).max().unwrap_or_default();
    let old = std::mem::take(&mut status.members);
    status.members = names
        .iter()
        .map(|name| member(world, name, committed, old.iter().find(|old| old.name == name.to_string())))
        .collect();

    let ready = status.members.iter().filter(|member| member.ready).count();
    let asked_for = usize::try_from(world.cluster.spec.replicas).unwrap_or_default();
    let wanted = status.bootstrap.as_ref().map_or(status.members.len().max(asked_for), |bootstrap| {
        usize::try_from(bootstrap.members).unwrap_or_default()
    });
    status.members_ready = (wanted > 0).then(|| format!("{ready}/{wanted}"));
    if let Some(list) = &world.member_list {
        status.replicas = i32::try_from(list.len()).ok();
    }
    // The lowest version is the one that the cluster can be said to run.
    if let Some(lowest) = statuses(world).map(|status| status.version).min() {
        status.version = Some(lowest.to_string());
    }
    let written = |minor: Minor| minor.patch(0).to_string();
    if let Some(version) = world.last_known_cluster_version() {
        status.cluster_version = Some(written(version));
    }
    if let Some(version) = world.answers.values().filter_map(|answer| answer.storage_version).max() {
        status.storage_version = Some(written(version));
    }
    status.leader = leader(world);
    let (wire, namespace) = (world.wire(), &world.cluster.namespace);
    status.endpoints = names.iter().map(|name| client_url(wire, &name.host(namespace))).collect();
}

fn statuses(world: &Observation) -> impl Iterator<Item = &crate::etcd::MemberStatus> {
    world.answers.values().filter_map(Answer::status)
}

fn leader(world: &Observation) -> Option<String> {
    let id = statuses(world).find_map(|status| status.leader)?;
    world
        .answers
        .iter()
        .find(|(_, answer)| answer.status().is_some_and(|status| status.member_id == id))
        .map(|(member, _)| member.to_string())
}

fn member(
    world: &Observation,
    name: &MemberName,
    committed: u64,
    old: Option<&MemberStatus>,
) -> MemberStatus {
    let pod = world.pods.get(name);
    // Where it ran last tells where something of it may still run: a Pod that has not run yet changes nothing of that.
    let last = old.and_then(|old| old.node.as_ref());
    let runs_on =
        pod.filter(|pod| pod.container.has_run() || last.is_none()).and_then(|pod| pod.node.as_ref());
    let node = runs_on.or(last);
    let answer = world.answers.get(name);
    let status = answer.and_then(Answer::status);
    let listed = listed(world, name);
    let id = status
        .map(|status| status.member_id)
        .or_else(|| listed.map(|listed| listed.id))
        .or_else(|| world.claims.get(name)?.member_id);
    let is_learner =
        status.map(|status| status.is_learner).or_else(|| listed.map(|listed| listed.is_learner));
    MemberStatus {
        name: name.to_string(),
        id: id.map(|id| id.to_string()),
        role: is_learner.map(|learner| if learner { MemberRole::Learner } else { MemberRole::Voter }),
        ready: pod.is_some_and(|pod| !pod.deleting) && answer.is_some_and(|answer| answer.read.is_ok()),
        version: status.map(|status| status.version.to_string()),
        image: pod.map(|pod| pod.image.clone()),
        revision: pod.map(|pod| pod.revision.clone()),
        zone: node.and_then(|node| match world.zones.get(node) {
            Some(zone) => zone.clone(),
            // A node that could not be read now is no reason to take away what was known of it.
            None => old.filter(|old| old.node.as_ref() == Some(node))?.zone.clone(),
        }),
        node: node.cloned(),
        // A list that could not be read now is no reason to take away what was known.
        peer_urls: listed
            .map(|listed| listed.peer_urls.clone())
            .or_else(|| old.map(|old| old.peer_urls.clone()))
            .unwrap_or_default(),
        client_urls: listed
            .map(|listed| listed.client_urls.clone())
            .or_else(|| old.map(|old| old.client_urls.clone()))
            .unwrap_or_default(),
        db_size: status.map(|status| two_digits(status.db_size)),
        db_size_in_use: status.map(|status| two_digits(status.db_size_in_use)),
        raft_lag: status.map(|status| {
            let lag = committed.saturating_sub(status.raft_applied_index);
            i64::try_from(lag / LAG_GRAIN * LAG_GRAIN).unwrap_or(i64::MAX)
        }),
    }
}

fn listed<'a>(world: &'a Observation, name: &MemberName) -> Option<&'a ListedMember> {
    let name = name.to_string();
    world.member_list.as_ref()?.iter().find(|listed| listed.name == name)
}

/// Bytes to two significant digits, e.g. `1.2Gi`.
fn two_digits(bytes: i64) -> String {
    let mut amount = u64::try_from(bytes).unwrap_or_default() * 10;
    for unit in ["", "Ki", "Mi", "Gi", "Ti"] {
        if amount < 10_240 {
            return match amount {
                0..100 if !amount.is_multiple_of(10) => format!("{}.{}{unit}", amount / 10, amount % 10),
                0..1_000 => format!("{}{unit}", amount / 10),
                _ => format!("{}{unit}", amount / 100 * 10),
            };
        }
        amount /= 1_024;
    }
    format!("{}Pi", amount / 10)
}

#[cfg(test)]
mod tests {
    use super::two_digits;
    use rstest::rstest;

    #[rstest]
    #[case(0, "0")]
    #[case(20_480, "20Ki")]
    #[case(1_258_291, "1.1Mi")]
    #[case(2 << 30, "2Gi")]
    #[case(345 << 20, "340Mi")]
    fn sizes_have_two_digits(#[case] bytes: i64, #[case] text: &str) {
        assert_eq!(two_digits(bytes), text);
    }
}
