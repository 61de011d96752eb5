//! What the first members have begun with: from then on their volumes are used, and the version that a spec asks for
//! comes after the cluster has formed. What has not begun may still be corrected.

use super::step::{Next, Step};
use super::up::has_failed;
use super::view::View;
use crate::api::BootstrapStatus;
use crate::api::labels::HAS_RUN;
use crate::cluster::names::{MemberName, bootstrap_members};
use crate::cluster::observation::{Answer, PodFacts};
use crate::etcd::EtcdVersion;
use crate::etcd::versions::is_supported;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The version that members start on: the one that a member has begun with, or is about to. Where none has,
/// the spec's, since a mistake in it may still be corrected then.
pub(super) fn starting_version(view: &View<'_>, bootstrap: &BootstrapStatus) -> Option<EtcdVersion> {
    let pinned: Option<EtcdVersion> = bootstrap.version.parse().ok();
    let members = bootstrap_members(&view.world.cluster.name, bootstrap);
    let versions = |are_meant: fn(&View<'_>, &MemberName) -> bool| -> BTreeSet<Option<EtcdVersion>> {
        let meant = members.iter().filter(|member| are_meant(view, member));
        meant
            .map(|member| {
                let revision = view.revision_of(member).and_then(|name| view.revision(name));
                revision.map(|revision| revision.version).or_else(|| view.claim_of(member)?.opened)
            })
            .collect()
    };
    // Whose revision is only assigned follows those that have more to show.
    let mut begun = versions(shows_that_it_has_begun);
    if begun.is_empty() {
        begun = versions(is_assigned_only);
    }
    if begun.is_empty() {
        let wanted = view.desired.as_ref().ok().map(|desired| desired.version);
        return wanted.filter(|wanted| may_start_on(view, *wanted)).or(pinned);
    }
    // An edit met a member that was just starting: where they differ, the pin decides as far as it can.
    if begun.contains(&pinned) { pinned } else { begun.into_iter().flatten().next().or(pinned) }
}

/// Which Pods are the first ones. Another one that stands there later is made for a volume that may have been used; and
/// one that was seen to run has used it.
pub(super) fn note_first_pods(view: &View<'_>, members: &[MemberName]) -> Option<Next> {
    let first = members.iter().filter_map(|member| {
        let (claim, pod) = (view.claim_of(member)?, view.pod(member)?);
        let has_run = has_used_its_volume(view, pod).then(|| HAS_RUN.to_owned());
        let is_first = claim.first_pod.is_none() && claim.assigned.as_ref() == Some(&pod.revision);
        let note = has_run.or_else(|| (is_first && !pod.deleting).then(|| pod.uid.clone()))?;
        let is_news = claim.cluster_id.is_none() && claim.first_pod.as_ref() != Some(&note);
        is_news.then(|| (member.clone(), note))
    });
    let first: BTreeMap<MemberName, String> = first.collect();
    (!first.is_empty()).then_some(Next::Do(Step::NoteFirstPods(first)))
}

pub(super) fn may_start_on(view: &View<'_>, version: EtcdVersion) -> bool {
    is_supported(version.minor) && view.world.releases.refused(version).is_none()
}

/// Whether a member has opened its data, serves, or is about to; or has no Pod, and may have had one that nobody noted.
pub(super) fn has_begun(view: &View<'_>, member: &MemberName) -> bool {
    shows_that_it_has_begun(view, member) || is_assigned_only(view, member)
}

fn is_assigned_only(view: &View<'_>, member: &MemberName) -> bool {
    view.pod(member).is_none() && view.claim_of(member).is_some_and(|claim| claim.assigned.is_some())
}

pub(super) fn shows_that_it_has_begun(view: &View<'_>, member: &MemberName) -> bool {
    let Some(claim) = view.claim_of(member) else { return false };
    let by_its_pod = match (view.pod(member), claim.first_pod.as_deref()) {
        (_, Some(HAS_RUN)) => true,
        (None, first) => first.is_some(),
        (Some(pod), first) => {
            // One that fails says more than that it is not the first: what it is made from does not start.
            let is_another = first.is_some_and(|first| first != pod.uid) && !has_failed(&pod.container);
            is_another || may_be_starting(view, member, pod) || has_used_its_volume(view, pod)
        }
    };
    by_its_pod || claim.opened.is_some() || view.answer(member).is_some_and(|answer| answer.status.is_ok())
}

/// Whether a member's container has come further than to what keeps etcd from starting at all.
fn has_used_its_volume(view: &View<'_>, pod: &PodFacts) -> bool {
    let container = &pod.container;
    // Of one that goes nothing more will be seen.
    let goes_while_it_runs = pod.deleting && container.running_since.is_some() && container.restarts == 0;
    view.has_stayed_up(pod) || container.was_stopped() || goes_while_it_runs
}

/// By more than one witness: it does not answer, its probe fails, and its container does not run.
pub(super) fn never_serves(view: &View<'_>, member: &MemberName) -> bool {
    let silent = view.answer(member).and_then(Answer::status).is_none();
    let stands_still = |pod: &PodFacts| {
        !pod.ready && pod.container.running_since.is_none() && !may_be_starting(view, member, pod)
    };
    silent && view.pod(member).is_none_or(stands_still)
}

/// The kubelet tells of a start a moment after it: what is on a node and has not failed may be running. What has been
/// there for longer than the deadline and was never said to run is not: a volume that it mounts does not exist, say
/// (docs/adr/0012).
fn may_be_starting(view: &View<'_>, member: &MemberName, pod: &PodFacts) -> bool {
    let deadline = view.member_deadline();
    // An age below nothing is that of a clock ahead of ours.
    let is_new = pod.on_node_since.is_some_and(|since| {
        Duration::try_from(view.world.now.duration_since(since)).map_or(true, |there| there < deadline)
    });
    // The kubelet says of one that goes that it is being created, whatever had become of it.
    let is_given_up = pod.deleting
        && view
            .claim_of(member)
            .is_some_and(|claim| claim.first_pod.is_none() && claim.assigned.as_ref() != Some(&pod.revision));
    !has_failed(&pod.container) && (pod.container.running_since.is_some() || (is_new && !is_given_up))
}
