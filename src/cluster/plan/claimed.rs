//! The one member that may be away: its claim is finished, by whoever runs, before anything else is
//! disturbed.
//!
//! ```text
//! claimed, Pod as claimed   gate before → (MoveLeader) → stop     or: withdraw, nothing was touched
//! Pod gone                  assign → create                       or: withdraw, its volume is gone too
//! another Pod               gate after → release
//!                           no progress for too long → claim again, to put the last good revision back
//!                           what it lacks is a quorum, which another one brings → withdraw
//! ```
//!
//! A member that joins or leaves has files of its own, [`join`] and [`leave`].
//!
//! A put-back that comes to its stop when the member is up after all takes up again what was given up.

use super::downgrade::{self, forgetting};
use super::gates;
use super::heal::is_to_be_retired;
use super::join;
use super::leave;
use super::loss::{is_lost, lost_home, seems_lost};
use super::maintenance;
use super::put_back::{last_good, next_left_half_way, put_back, refused_for_too_long};
use super::records;
use super::request;
use super::roll::{is_canary, may_mend, next_to_mend};
use super::step::{Claim, NewPod, Next, Record, Step};
use super::view::{View, quorum};
use crate::api::{Action, Code, MemberRole, ProgressStatus};
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::objects::pod::Initial;
use crate::cluster::observation::{Ownership, PodFacts};
use std::sync::Arc;
use std::time::Duration;

/// How long the first member of a minor hop is watched.
pub(super) const SOAK: Duration = Duration::from_secs(10);
/// A policy of the network acts on other labels a moment after they are there.
const SETTLES: Duration = Duration::from_secs(5);

pub(super) fn the_member_that_may_be_away(view: &View<'_>) -> Option<Next> {
    view.cluster_id()?;
    let (progress, member) = view.claimed()?;
    if view.pod(&member).is_some_and(|pod| pod.ownership != Ownership::Ours) {
        return None;
    }
    match progress.action {
        Action::AddMember => return Some(join::go_on(view, progress, &member)),
        Action::RemoveMember | Action::RetireMember => return Some(leave::go_on(view, progress, &member)),
        Action::Defragment => return Some(maintenance::go_on(view, progress, &member)),
        _ => {}
    }
    if !view.members().contains(&member) {
        return Some(Next::withdraw(&member));
    }
    Some(match view.pod(&member) {
        None => start(view, progress, &member),
        // It neither stops nor comes up before its node is back; another member may need the claim.
        Some(_) if lost_home(view, &member).is_some() => Next::withdraw(&member),
        Some(pod) if pod.deleting => stopping(view, &member),
        Some(pod) if is_as_claimed(progress, pod) && !is_relabelled(progress, pod) => {
            stop(view, progress, &member, pod)
        }
        Some(pod) => back(view, progress, &member, pod),
    })
}

/// Whether a member's Pod is the one that was there when it was claimed.
fn is_as_claimed(progress: &ProgressStatus, pod: &PodFacts) -> bool {
    progress.pod_uid.as_deref() == Some(&pod.uid)
}

/// Whether it is of the claimed revision in place. One that is restarted as it was is of it from the beginning.
fn is_relabelled(progress: &ProgressStatus, pod: &PodFacts) -> bool {
    let gets_another = !matches!(progress.action, Action::RestartMember | Action::ClearDowngrade);
    gets_another && is_as_claimed(progress, pod) && pod.revision == progress.revision
}

fn stopping(view: &View<'_>, member: &MemberName) -> Next {
    let notice = Notice::of(Code::MemberStopping, format!("{member}'s Pod is going away"));
    Next::Wait(view.wait(notice, Some(member), format!("stopping/{member}"), 0))
}

fn stop(view: &View<'_>, progress: &ProgressStatus, member: &MemberName, pod: &PodFacts) -> Next {
    let withdraw = || Next::withdraw(member);
    if progress.action == Action::PutBack && gates::after(view, member, Action::ReplaceMember).is_ok() {
        // It has come up after all, late, and before it was touched: what was given up is taken up again.
        return view.claim_member(Action::ReplaceMember, member, "", pod.revision.clone(), None);
    }
    let down = gates::stop_of_a_down_member(view, member);
    if progress.action.follows_the_spec() {
        let wanted = view.target.as_ref().is_some_and(|target| target.name == progress.revision)
            && view.may_change_members()
            && !downgrade::begins_with_a_job(view);
        if !wanted || (down.is_some() && !may_mend(view)) {
            return withdraw();
        }
    }
    let in_place = relabel(view, progress, member, pod);
    if in_place.is_none() && view.keeps_data_in_its_pod(member) {
        // With its Pod its data would go.
        return withdraw();
    }
    match (down, &in_place) {
        (Some(_), Some(step)) => return Next::Do(step.clone()),
        (Some(stop), None) => return Next::Do(Step::Stop(stop)),
        (None, _) => {}
    }
    let wait = |notice: Notice| Next::Wait(view.wait(notice, Some(member), format!("stop/{member}"), 0));
    let gate = gates::before(view, member);
    let under_a_job = gate.as_ref().is_err_and(|notice| notice.code == Code::DowngradePending);
    let up = view.why_not_up(member).map(|_| ()).and(gate);
    let another_is_mendable = || next_to_mend(view).is_some_and(|(other, _)| other != *member);
    // Patience with it is counted where it is waited for.
    let another_is_lost = || view.members().iter().any(|other| other != member && seems_lost(view, other));
    let another_is_dead =
        || view.members().iter().any(|other| other != member && is_to_be_retired(view, other));
    let another_comes_first = || another_is_mendable() || another_is_lost() || another_is_dead();
    if up.is_err() && (progress.action.follows_the_spec() || another_comes_first()) {
        // Nothing was touched yet, and another member may need the claim to be mended.
        return withdraw();
    }
    if under_a_job && let Some(next) = downgrade::a_job_that_has_arrived(view) {
        return next;
    }
    if let Some(step) = in_place {
        // By a label it may lose its peers: so it is one of those that may be away, though nothing stops it.
        return match gates::stop(view, member, &pod.uid) {
            Ok(_) => Next::Do(step),
            Err(notice) => wait(notice),
        };
    }
    if let Err(notice) = gates::budget(view, member) {
        return wait(notice);
    }
    if view.members().len() > 1 && view.leader() == Some(member) {
        return move_leader_off(view, progress, member).unwrap_or_else(|| {
            wait(Notice::of(Code::LeaderMoving, format!("{member} leads and does not answer just now")))
        });
    }
    match gates::stop(view, member, &pod.uid) {
        Ok(stop) => Next::Do(Step::Stop(stop)),
        Err(notice) => wait(notice),
    }
}

/// What makes a member's Pod one of the claimed revision in place, where that can be. The claim is written first: a Pod that
/// goes in between comes back with it.
fn relabel(view: &View<'_>, progress: &ProgressStatus, member: &MemberName, pod: &PodFacts) -> Option<Step> {
    let revisions = &view.world.revisions;
    let (has, gets) = (revisions.get(&pod.revision)?, revisions.get(&progress.revision)?);
    if !has.differs_in_metadata_alone(gets) {
        return None;
    }
    if view.claim_of(member)?.assigned.as_ref() != Some(&gets.name) {
        let (members, revision) = (vec![member.clone()], gets.name.clone());
        return Some(Step::Assign { members, revision, afresh: false });
    }
    Some(Step::Relabel {
        member: member.clone(),
        uid: pod.uid.clone(),
        resource_version: pod.resource_version.clone(),
        from: has.name.clone(),
        to: gets.name.clone(),
    })
}

/// A leader is not stopped: leadership is handed to the voter that is furthest, one that runs the
/// target already if there is any, so that it need not move again.
pub(super) fn move_leader_off(
    view: &View<'_>,
    progress: &ProgressStatus,
    member: &MemberName,
) -> Option<Next> {
    let leader = view.up(member)?.status;
    let (to, heir) =
        view.up_members().into_iter().filter(|(other, _)| other != member).max_by_key(|(other, up)| {
            let on_target = view.revision_of(other) == Some(progress.revision.as_str());
            (on_target, up.status.raft_applied_index, std::cmp::Reverse(other.clone()))
        })?;
    Some(Next::Do(Step::MoveLeader {
        from: member.clone(),
        from_id: leader.member_id,
        cluster_id: leader.cluster_id,
        to,
        to_id: heir.status.member_id,
    }))
}

fn start(view: &View<'_>, progress: &ProgressStatus, member: &MemberName) -> Next {
    let Some(claim) = view.claim_of(member).filter(|claim| !claim.deleting) else {
        // It is not started; another member may need the claim.
        return Next::withdraw(member);
    };
    let Some(revision) = revision_to_start(view, progress, member) else {
        let floor = view.proven_cluster_version().map(|floor| floor.to_string()).unwrap_or_default();
        let notice = Notice::new(
            Code::DowngradeUnsupported,
            format!("the cluster version is {floor}, and no revision that {member} may run starts on it"),
            format!("set spec.version to a {floor} release"),
        );
        return Next::Wait(view.wait(notice, Some(member), format!("start/{member}"), 0));
    };
    if revision != progress.revision {
        return Next::Do(Step::Record(Record::Claim(Claim {
            action: progress.action,
            member: member.clone(),
            revision,
            pod_uid: progress.pod_uid.clone().unwrap_or_default(),
            since: progress.since.0,
            failure: None,
            why: None,
        })));
    }
    if let Some(target) = view.target.as_ref().filter(|target| target.name == revision)
        && !view.world.revisions.contains_key(&revision)
    {
        return Next::Do(Step::StoreRevision(Arc::clone(target)));
    }
    if claim.assigned.as_deref() != Some(revision.as_str()) {
        return Next::Do(Step::Assign { members: vec![member.clone()], revision, afresh: false });
    }
    let create = Step::CreatePods(vec![NewPod {
        member: member.clone(),
        revision,
        initial: Initial::Guard,
        role: MemberRole::Voter,
    }]);
    refused_for_too_long(view, progress, member, &create).unwrap_or(Next::Do(create))
}

/// The binary is chosen when the Pod is made, from what is true after the old one is gone: the spec's
/// if it was edited meanwhile, and never one below the cluster version, which etcd would not start.
fn revision_to_start(view: &View<'_>, progress: &ProgressStatus, member: &MemberName) -> Option<String> {
    let floor = view.proven_cluster_version();
    let starts = |name: &String| match (view.revision(name), floor) {
        (Some(revision), Some(floor)) => revision.version.minor >= floor,
        (Some(_), None) => true,
        (None, _) => false,
    };
    let failed = view.world.cluster.status.last_failure.as_ref().map(|failure| failure.revision.clone());
    let target = view
        .target
        .as_ref()
        .filter(|target| view.may_change_members() && Some(&target.name) != failed.as_ref())
        // A hop to a new minor begins with a try of the image and with all members up, not here.
        .filter(|target| target.name == progress.revision || may_mend(view))
        .map(|target| target.name.clone());
    let own = Some(progress.revision.clone());
    let good = view.claim_of(member).and_then(|claim| claim.good.clone());
    let order = if progress.action.follows_the_spec() { [target, own, good] } else { [own, good, target] };
    // A put-back that meets a cluster version that has moved is harmless, and then even what failed
    // before is better than nothing.
    let stored = view.world.revisions.keys().cloned();
    order.into_iter().flatten().chain(failed).chain(stored).find(starts)
}

fn back(view: &View<'_>, progress: &ProgressStatus, member: &MemberName, pod: &PodFacts) -> Next {
    let notice = match gates::after(view, member, progress.action) {
        Ok(()) => return passed(view, progress, member, pod),
        Err(notice) => notice,
    };
    if pod.ended {
        return Next::Do(Step::remove_ended(member, pod));
    }
    if is_lost(view, member) {
        // What it ran before may find its volume where the new one does not: no change of the spec costs a member.
        if let Some(next) = put_back(view, member, pod, &notice) {
            return next;
        }
        // Nothing brings it up again; another member may need the claim.
        return Next::withdraw(member);
    }
    let forgets = progress.action == Action::ClearDowngrade || view.is_kept_out_by_a_downgrade(member);
    let another = if forgets {
        forgetting(view, member, pod)
    } else {
        what_starts_at_all(view, progress, member, pod).or_else(|| corrected(view, member, pod))
    };
    if let Some(next) = another {
        return next;
    }
    let mended_first = quorum_needs(view, member);
    if view.is_kept_out_by_a_downgrade(member)
        && mended_first.as_ref().is_some_and(|other| !view.is_kept_out_by_a_downgrade(other))
    {
        // Whether the job is over only a quorum can say, and another member brings that.
        return Next::withdraw(member);
    }
    let passes_the_claim_on = match notice.code {
        Code::ImageVersionMismatch => is_free_to_go_elsewhere(view, member),
        Code::MemberBehind => mended_first.is_some(),
        Code::MemberStarting | Code::MemberDown => mended_first.is_some() && view.has_stayed_up(pod),
        _ => false,
    };
    if passes_the_claim_on {
        return Next::withdraw(member);
    }
    let subject = format!("back/{member}/{}", pod.revision);
    let wait = view.wait(notice, Some(member), subject, view.start_progress(member));
    if wait.overdue
        && progress.action.follows_the_spec()
        && let Some(next) = put_back(view, member, pod, &wait.notice)
    {
        return next;
    }
    Next::Wait(wait)
}

/// Whether a member that is up, though not with the version of its revision, is to become something else by
/// now: it is rolled as any other then.
fn is_free_to_go_elsewhere(view: &View<'_>, member: &MemberName) -> bool {
    view.is_outdated(member)
        && view.may_change_members()
        && gates::after(view, member, Action::PutBack).is_ok()
}

/// The other member whose next revision may bring the quorum that is not there: the claim must pass on to it where
/// what this one lacks is the quorum, or both wait for each other for ever. One that was started without a quorum does
/// not answer at all.
fn quorum_needs(view: &View<'_>, member: &MemberName) -> Option<MemberName> {
    let voters = view.members();
    let answering =
        voters.iter().filter(|voter| view.answer(voter).is_some_and(|answer| answer.status.is_ok()));
    if answering.count() >= quorum(voters.len()) {
        return None;
    }
    let next = next_to_mend(view).map(|(other, _)| other);
    next.or_else(|| Some(next_left_half_way(view)?.0.clone())).filter(|next| next != member)
}

/// What is counted by this process's own watch: the clock of a node says nothing. A restart begins it anew.
pub(super) fn soak(pod: &PodFacts) -> String {
    format!("soak/{}/{}", pod.uid, pod.container.restarts)
}

fn passed(view: &View<'_>, progress: &ProgressStatus, member: &MemberName, pod: &PodFacts) -> Next {
    let subject = soak(pod);
    let noted = view.claim_of(member).is_some_and(|claim| claim.good.as_ref() == Some(&pod.revision));
    let watched = noted || view.has_lasted(&subject, SOAK);
    if progress.action.follows_the_spec() && is_canary(view, member) && !watched {
        let message =
            format!("{member} is the first on its new minor; it is watched for {} s", SOAK.as_secs());
        return Next::Wait(view.wait(Notice::of(Code::Soaking, message), Some(member), subject, 0));
    }
    if is_relabelled(progress, pod) && !(noted || view.has_lasted(&subject, SETTLES)) {
        let message = format!(
            "{member} has its new labels and annotations; what selects by them is given {} s to show",
            SETTLES.as_secs()
        );
        return Next::Wait(view.wait(Notice::of(Code::Soaking, message), Some(member), subject, 0));
    }
    // Only now is its revision one to come back to.
    if let Some(note) = records::note(view, |other| other == member) {
        return note;
    }
    Next::Do(Step::Record(Record::Release { member: member.clone(), action: progress.action }))
}

/// A binary below the cluster version, which nobody could know when it was chosen: one that starts takes its place.
fn what_starts_at_all(
    view: &View<'_>,
    progress: &ProgressStatus,
    member: &MemberName,
    pod: &PodFacts,
) -> Option<Next> {
    let runs = view.revision(&pod.revision)?.version.minor;
    if view.proven_cluster_version().is_none_or(|floor| runs >= floor) || !gates::is_down(view, member) {
        return None;
    }
    let revision = revision_to_start(view, progress, member).filter(|starts| *starts != pod.revision)?;
    let is_asked_for = view.target.as_ref().is_some_and(|target| target.name == revision);
    let action =
        if is_asked_for && view.may_change_members() { Action::ReplaceMember } else { Action::PutBack };
    Some(view.claim_member(action, member, &pod.uid, revision, None))
}

/// The spec was edited while the member is away: it gets what the spec says now, at once.
fn corrected(view: &View<'_>, member: &MemberName, pod: &PodFacts) -> Option<Next> {
    let target = view.target.as_ref()?;
    let failed = view.world.cluster.status.last_failure.as_ref().map(|failure| failure.revision.as_str());
    let floor = view.proven_cluster_version();
    let runs = view.revision(&pod.revision).map(|revision| revision.version);
    let another = target.name != pod.revision && failed != Some(target.name.as_str());
    let allowed = floor.is_none_or(|floor| target.version.minor >= floor);
    if !another || !allowed || !view.may_change_members() || !gates::is_down(view, member) {
        return None;
    }
    if !may_mend(view) {
        let stays = runs.filter(|runs| Some(runs.minor) <= view.known_cluster_version());
        if stays.is_some_and(|runs| request::asked_for(view, &pod.revision, runs)) {
            // It has the new settings already, and the hop comes after it is up.
            return None;
        }
        // A hop to a new minor begins with all members up: so this one goes back to what it had.
        return last_good(view, member, &pod.revision)
            .map(|good| view.claim_member(Action::PutBack, member, &pod.uid, good, None));
    }
    Some(view.claim_member(Action::ReplaceMember, member, &pod.uid, target.name.clone(), None))
}
