//! Members that keep their data in their Pods (`storage.emptyDir`): with its Pod a member's data goes. So the Pod is what a
//! volume claim is elsewhere. It is made behind a scheduling gate, and started once all that it must know is written on it;
//! none is ever stopped to come back, and whatever would restart a member exchanges it (docs/adr/0018).

use super::begun::{may_start_on, never_serves, shows_that_it_has_begun};
use super::loss;
use super::put_back;
use super::request;
use super::roll::{is_given_in_place, order};
use super::step::{Next, Record, Step};
use super::view::View;
use crate::api::{Action, BootstrapStatus, Code};
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::observation::ClaimFacts;
use crate::cluster::revision;

/// Whether all Pods of a bootstrap were there once, so that one which is not has gone.
pub(super) fn were_all_there(view: &View<'_>, bootstrap: &BootstrapStatus) -> bool {
    let is_started = |member: &MemberName| view.claim_of(member).is_some_and(|claim| is_of(claim, bootstrap));
    bootstrap.started || view.world.pods.keys().any(is_started)
}

fn is_of(claim: &ClaimFacts, bootstrap: &BootstrapStatus) -> bool {
    claim.in_pod && claim.bootstrap.as_ref().is_none_or(|noted| noted.token == bootstrap.token)
}

/// Pods of an attempt at a bootstrap that was given up.
pub(super) fn left_of_another_attempt(view: &View<'_>, bootstrap: &BootstrapStatus) -> Option<Next> {
    let in_pods = || view.world.claims.iter().filter(|(_, claim)| claim.in_pod);
    let (member, claim) = in_pods().find(|(_, claim)| !is_of(claim, bootstrap))?;
    // One that serves has found a quorum.
    let serves = |(member, claim): &(&MemberName, &ClaimFacts)| {
        claim.opened.is_some() || view.answer(member).is_some_and(|answer| answer.status.is_ok())
    };
    let came_up = in_pods().filter(|(_, claim)| !is_of(claim, bootstrap)).find(serves);
    let noted = came_up.and_then(|(_, claim)| claim.bootstrap.clone());
    if let Some(noted) = noted
        && !in_pods().filter(|(_, claim)| is_of(claim, bootstrap)).any(|it| serves(&it))
    {
        // It has come up after all, late, and somebody may have written to it: it is the one that goes on.
        let taken_up = BootstrapStatus { started: true, ..noted };
        return Some(Next::Do(Step::Record(Record::Bootstrap(taken_up))));
    }
    if claim.deleting {
        let message = format!("{member}'s Pod of an earlier attempt is going away");
        return Some(view.wait_for(Notice::of(Code::Bootstrapping, message), Some(member)));
    }
    Some(Next::Do(match view.pod(member) {
        Some(pod) => Step::remove(member, pod, "it never served, and the spec was changed"),
        None => discard(member, claim),
    }))
}

/// A spec that is corrected while no first member comes up begins anew, under another token: so with other ids, under which
/// nothing ever was.
pub(super) fn begin_anew(
    view: &View<'_>,
    bootstrap: &BootstrapStatus,
    members: &[MemberName],
) -> Option<Next> {
    let desired = view.desired.as_ref().ok().filter(|_| view.keeps_data_in_pods())?;
    let cluster = &view.world.cluster;
    let wanted = revision::name(&cluster.name, &cluster.spec, view.world.wire(), desired.version);
    let is_another = |member: &MemberName| {
        let claim = view.claim_of(member);
        claim.is_some_and(|claim| claim.assigned.as_ref() != Some(&wanted))
    };
    let replicas = i32::try_from(desired.replicas).unwrap_or_default();
    let is_changed = members.iter().any(is_another) || replicas != bootstrap.members;
    let starts =
        may_start_on(view, desired.version) && request::unsupported_flag(view, desired.version).is_none();
    let stands_still =
        |member: &MemberName| never_serves(view, member) && !shows_that_it_has_begun(view, member);
    let token = format!("{}-{}", cluster.uid, cluster.generation);
    if bootstrap.started && members.iter().any(|member| view.claim_of(member).is_none()) {
        // One that is gone may have taken a write with others that are gone.
        return None;
    }
    if !is_changed || !starts || token == bootstrap.token || !members.iter().all(stands_still) {
        return None;
    }
    let (members, version) = (replicas, desired.version.to_string());
    let anew = BootstrapStatus { members, version, token, started: false, tls: view.world.wire().noted() };
    Some(Next::Do(Step::Record(Record::Bootstrap(anew))))
}

/// Removes a Pod that was never started.
pub(super) fn discard(member: &MemberName, claim: &ClaimFacts) -> Step {
    Step::DiscardPod {
        member: member.clone(),
        uid: claim.uid.clone(),
        resource_version: claim.resource_version.clone(),
    }
}

/// Claims the removal of a member that does not stay up with what the spec asks for: with the evidence, so that the same is not
/// tried again. One that joins, where another one is up with the same, is waited for.
pub(super) fn give_up_for_good(view: &View<'_>, member: &MemberName) -> Option<Next> {
    let pod = view.pod(member).filter(|_| view.keeps_data_in_pods())?;
    let target = view.target.as_ref().filter(|target| target.name == pod.revision)?;
    let notice = view.why_not_up(member).err()?;
    if loss::lost_home(view, member).is_some() {
        return None;
    }
    let others = || view.own_claims().filter(|(other, _)| *other != member);
    let is_proven =
        view.is_up_with(&target.name) || others().any(|(_, claim)| claim.good.as_ref() == Some(&target.name));
    let joins = !view.voters().contains_key(member);
    if (joins && is_proven) || view.outdated().is_empty() || notice.code == Code::PodUnschedulable {
        // It is not what it is made from that is wrong.
        return None;
    }
    let failure = put_back::failure(view, member, &pod.revision, &pod.container, notice.code);
    Some(view.claim_member(Action::RemoveMember, member, "", String::new(), Some(failure)))
}

/// The next member that goes for another one which is what the spec says: the leader last.
pub(super) fn to_exchange(view: &View<'_>) -> Option<MemberName> {
    let target = view.target.as_ref()?;
    let outdated = order(view, view.outdated());
    outdated.into_iter().find(|member| !is_given_in_place(view, member, target))
}
