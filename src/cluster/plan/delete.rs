//! `storage.retentionPolicy.whenDeleted: Delete`: the volumes go with the cluster, by a finalizer that
//! waits for no etcd.

use super::certificates;
use super::step::{Next, Step};
use super::view::View;
use crate::api::Code;
use crate::cluster::notice::Notice;
use crate::cluster::observation::{ClaimFacts, Ownership};
use crate::cluster::spec::deletes_volumes;

pub(super) fn volumes_with_the_cluster(view: &View<'_>) -> Option<Next> {
    let cluster = &view.world.cluster;
    let wanted = deletes_volumes(&cluster.spec);
    if !cluster.deleting {
        return (wanted != cluster.finalizer).then_some(Next::Do(Step::SetFinalizer(wanted)));
    }
    if !cluster.finalizer {
        // The object is going and nothing of ours holds it: Kubernetes removes what it owns.
        return Some(Next::Settled);
    }
    let claims: Vec<_> = view
        .world
        .claims
        .iter()
        .filter(|(_, claim)| claim.ownership == Ownership::Ours && holds_our_data(view, claim))
        .map(|(member, _)| member.clone())
        // What was kept of members that are none any more goes too.
        .chain(view.own_set_aside().map(|(member, _)| member.clone()))
        .collect();
    if claims.is_empty() || !wanted {
        // With the last of the data goes who vouched for its members.
        if let Some(uid) = certificates::own_authority(view).filter(|_| wanted) {
            return Some(Next::Do(Step::DeleteAuthority { uid }));
        }
        return Some(Next::Do(Step::SetFinalizer(false)));
    }
    // A claim that is in use stays until its Pod is gone; the Pods go with their owner, which waits for us.
    if let Some((member, pod)) =
        view.world.pods.iter().find(|(_, pod)| pod.ownership == Ownership::Ours && !pod.deleting)
    {
        return Some(Next::Do(Step::remove(member, pod, "the cluster is being deleted")));
    }
    // So do probes, and one that looked into a volume holds its claim after it has ended.
    if !view.world.probes.is_empty() {
        return Some(Next::Do(Step::delete_probes(view.world.probes.iter())));
    }
    if !view.world.recovery.pods.is_empty() {
        return Some(Next::Do(Step::delete_recovery_pods(view.world.recovery.pods.iter())));
    }
    let open: Vec<_> = claims
        .iter()
        .filter(|member| {
            let aside = || view.world.set_aside.get(member).is_some_and(|claim| !claim.deleting);
            view.claim_of(member).map_or_else(aside, |claim| !claim.deleting)
        })
        .cloned()
        .collect();
    if !open.is_empty() {
        return Some(Next::Do(Step::DeleteClaims(open)));
    }
    Some(view.wait_for(
        Notice::of(Code::VolumesDeleting, format!("{} volume claims are going away", claims.len())),
        None,
    ))
}

/// Only what this EtcdCluster made or took over: volumes of an earlier one that were never adopted are
/// somebody's data still.
fn holds_our_data(view: &View<'_>, claim: &ClaimFacts) -> bool {
    let adopted = claim.cluster_id.is_some() && claim.cluster_id == view.cluster_id();
    let made = claim.bootstrap.as_ref().is_some_and(|bootstrap| bootstrap.token == view.world.cluster.uid);
    adopted || made
}
