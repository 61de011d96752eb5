//! The way back of one member: to the revision with which it last passed its gate. Pure.

use super::gates;
use super::loss::is_beyond_a_revision;
use super::roll::{may_become, next_to_mend};
use super::step::{Next, Step};
use super::up::has_failed;
use super::view::{View, quorum};
use crate::api::{Action, Code, FailureStatus, ProgressStatus};
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::observation::{ClaimFacts, ContainerFacts, PodFacts};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// A member that is down with a revision on which it never passed its gate, and whose claim was lost
/// with the status or given up: what it had before still starts. Unless the spec may mend it, whatever the
/// spec asks for.
pub(super) fn a_member_left_half_way(view: &View<'_>) -> Option<Next> {
    if view.cluster_id().is_none() || next_to_mend(view).is_some() {
        return None;
    }
    let (member, pod, good) = next_left_half_way(view)?;
    Some(view.claim_member(Action::PutBack, member, &pod.uid, good, None))
}

/// The next member that is down with a revision on which it never passed its gate, and what it had before.
pub(super) fn next_left_half_way<'a>(view: &'a View<'a>) -> Option<(&'a MemberName, &'a PodFacts, String)> {
    let left = view.members().iter().filter_map(|member| {
        let pod = view.pod(member).filter(|pod| !pod.deleting && gates::is_down(view, member))?;
        let good = last_good(view, member, &pod.revision).filter(|_| !is_beyond_a_revision(view, member))?;
        may_become(view, member, &good).then_some(())?;
        Some((member, pod, good))
    });
    // What such a one needs may be a quorum first.
    left.min_by_key(|(member, ..)| view.is_kept_out_by_a_downgrade(member))
}

/// The last good revision, where the member itself is what is wrong and that one still starts.
pub(super) fn put_back(view: &View<'_>, member: &MemberName, pod: &PodFacts, why: &Notice) -> Option<Next> {
    let others_fault = [
        Code::MembershipUnexpected,
        Code::QuorumUnproven,
        Code::NoLeader,
        Code::MemberStopping,
        Code::AlarmActive,
    ];
    if others_fault.contains(&why.code) {
        return None;
    }
    let voters = view.members();
    let others = voters.iter().filter(|other| *other != member && view.up(other).is_some()).count();
    // Without the others nothing passes its gate; that its container does not even stay up is its own fault.
    let fails_itself = gates::is_down(view, member) && has_failed(&pod.container);
    if voters.len() > 1 && others < quorum(voters.len()) && !fails_itself {
        return None;
    }
    let good = last_good(view, member, &pod.revision)?;
    if why.code == Code::PodUnschedulable && are_scheduled_alike(view, &good, &pod.revision) {
        // A node that is cordoned, full or gone: with what it had before it would wait just so.
        return None;
    }
    let failure = failure(view, member, &pod.revision, &pod.container, why.code);
    Some(view.claim_member(Action::PutBack, member, &pod.uid, good, Some(failure)))
}

/// Quota, Pod Security or a webhook refuses the new Pod, and the old one is gone: what ran before is
/// put back.
pub(super) fn refused_for_too_long(
    view: &View<'_>,
    progress: &ProgressStatus,
    member: &MemberName,
    create: &Step,
) -> Option<Next> {
    if !view.has_been_refused_for_too_long(create) || progress.action == Action::PutBack {
        return None;
    }
    let good = last_good(view, member, &progress.revision)?;
    let pod_uid = progress.pod_uid.as_deref().unwrap_or_default();
    let failure = failure(view, member, &progress.revision, &ContainerFacts::default(), Code::PodRefused);
    Some(view.claim_member(Action::PutBack, member, pod_uid, good, Some(failure)))
}

/// The revision with which a member last passed its gate, where it is another one than this and etcd
/// still starts with it. Where that is not known, as after the EtcdCluster was made again, one with which another
/// member did, or is up.
pub(super) fn last_good(view: &View<'_>, member: &MemberName, other_than: &str) -> Option<String> {
    let claim = view.claim_of(member)?;
    let proven = view.proven_cluster_version();
    let minor_of = |good: &String| {
        view.world.revisions.get(good).filter(|_| good != other_than).map(|revision| revision.version.minor)
    };
    if let Some(good) = claim.good.as_ref().filter(|good| view.world.revisions.contains_key(*good)) {
        return Some(good.clone()).filter(|good| minor_of(good).is_some_and(|minor| Some(minor) >= proven));
    }
    // No member is brought to another minor by this.
    let own = proven.max(claim.opened.map(|opened| opened.minor))?;
    let on_it = |claim: &&ClaimFacts| claim.opened.is_some_and(|opened| opened.minor == own);
    let noted = view.world.claims.values().filter(on_it).filter_map(|other| other.good.clone());
    let up = view.up_members().into_iter().filter(|(_, up)| up.status.version.minor == own);
    let up = up.filter_map(|(other, _)| Some(view.pod(&other)?.revision.clone()));
    noted.chain(up).find(|good| minor_of(good) == Some(own))
}

/// Whether the scheduler has no reason to take a Pod of the one revision and not of the other: they differ in what
/// the containers run at most.
fn are_scheduled_alike(view: &View<'_>, one: &str, other: &str) -> bool {
    let asked_of_nodes = |revision: &str| {
        let mut spec = view.revision(revision)?.template.spec.clone()?;
        for container in &mut spec.containers {
            (container.image, container.args, container.env) = (None, None, None);
            (container.readiness_probe, container.liveness_probe, container.startup_probe) =
                (None, None, None);
        }
        Some(spec)
    };
    asked_of_nodes(one).is_some_and(|one| Some(one) == asked_of_nodes(other))
}

/// The evidence, as far as it is known here.
pub(super) fn failure(
    view: &View<'_>,
    member: &MemberName,
    revision: &str,
    container: &ContainerFacts,
    why: Code,
) -> FailureStatus {
    let waiting = container.waiting.as_ref().map(|(reason, _)| reason.clone());
    FailureStatus {
        member: member.to_string(),
        revision: revision.to_owned(),
        version: view.revision(revision).map(|revision| revision.version.to_string()).unwrap_or_default(),
        reason: waiting.or_else(|| Some(why.to_string())),
        exit_code: container.exit_code,
        log: container.last_words.clone(),
        time: Time(view.world.now),
    }
}
