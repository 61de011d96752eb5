//! A member that joins. Its number is claimed before anything is made; its volume stands before etcd knows of it; and it
//! gets its vote once it has what the leader has.
//!
//! ```text
//! not listed   store → volume claim → gate → MemberAdd     or: its volume was used, or it is not wanted → remove it
//! learner      Pod → guard → in sync → gate → promote      or: not wanted any more, its data is gone → remove it
//! voter        gate after → note → release
//! ```

use super::claimed::{SOAK, soak};
use super::corrupt;
use super::downgrade;
use super::gates;
use super::heal;
use super::loss::{is_lost, lost_home, shown_loss};
use super::pods;
use super::put_back::next_left_half_way;
use super::records;
use super::resize;
use super::roll::{is_canary, may_mend, next_to_mend};
use super::step::{NewPod, Next, Record, Step};
use super::view::View;
use crate::api::{Action, Code, MemberRole, ProgressStatus};
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::objects::claim::Purpose;
use crate::cluster::objects::pod::Initial;
use crate::cluster::observation::{Answer, ClaimFacts, NodeTrouble, PodFacts};
use crate::cluster::revision::Revision;
use crate::etcd::ListedMember;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) fn go_on(view: &View<'_>, progress: &ProgressStatus, member: &MemberName) -> Next {
    if !view.voters().contains_key(member) && another_needs_the_claim(view) {
        return Next::withdraw(member);
    }
    if view.world.member_list.is_none() {
        // On an account of its own: it is no silence of the new member's.
        let subject = format!("list/{member}");
        return Next::Wait(view.wait(gates::no_list_for(member), Some(member), subject, 0));
    }
    let is_wrong = |voter: &MemberName| corrupt::is_to_go(view, voter) && heal::is_to_be_retired(view, voter);
    if !view.voters().contains_key(member) && view.voters().keys().any(is_wrong) {
        // Nobody gets a vote before that one is gone.
        return if view.listed(member).is_some() { give_up(view, member) } else { Next::withdraw(member) };
    }
    match view.listed(member) {
        Some(listed) if !listed.is_learner => vote(view, progress, member),
        _ if !heal::wants_another(view) => give_up(view, member),
        None => enter(view, progress, member),
        Some(listed) => learn(view, member, listed),
    }
}

/// A member that is down, and that comes up under a claim only, comes first: this one is gone on with after it.
pub(super) fn another_needs_the_claim(view: &View<'_>) -> bool {
    next_to_mend(view).is_some()
        || next_left_half_way(view).is_some()
        || downgrade::a_member_that_remembers_a_job(view).is_some()
}

/// It is removed again, with what was made for it. It never had a vote.
fn give_up(view: &View<'_>, member: &MemberName) -> Next {
    view.claim_change(Action::RemoveMember, member, String::new(), None)
}

/// The revision of new members: what the spec asks for, where all members have it; else what they run. Where members keep
/// their data in their Pods, that comes to new members first; but who takes the place of one that is lost gets what is known to
/// start, unless a person asked for it.
pub(super) fn revision(view: &View<'_>) -> Option<String> {
    let running =
        view.up_members().into_iter().find_map(|(member, _)| Some(view.pod(&member)?.revision.clone()));
    let is_asked_for = || view.world.cluster.replace.is_some() && heal::named(view).is_none();
    let is_one_more = || resize::asked_for(view).is_none_or(|wanted| view.voters().len() >= wanted);
    let is_free = |target: &Revision| {
        view.keeps_data_in_pods()
            && view.may_change_members()
            && may_mend(view)
            && (view.is_up_with(&target.name) || is_one_more() || is_asked_for())
    };
    let target = view.target.as_ref().filter(|target| view.outdated().is_empty() || is_free(target));
    let target = target.map(|target| target.name.clone());
    target.or(running)
}

/// Whether a member that keeps its data in its Pod may come with this revision: in a roll, or to be one more.
fn is_what_new_ones_get(view: &View<'_>, name: &String) -> bool {
    let target = view.target.as_ref().filter(|_| view.refusals().is_empty()).map(|target| &target.name);
    target == Some(name) || revision(view).as_ref() == Some(name)
}

/// It is not in the list yet.
fn enter(view: &View<'_>, progress: &ProgressStatus, member: &MemberName) -> Next {
    let Some(cluster_id) = view.cluster_id() else { return give_up(view, member) };
    if view.pod(member).is_some() || view.claim_of(member).is_some_and(has_been_used) {
        // It was in the list, and somebody took it out: what its volume holds is of an id that never comes back.
        return give_up(view, member);
    }
    if view.voters().keys().any(|voter| is_lost(view, voter)) {
        // What is dead goes first.
        return give_up(view, member);
    }
    if view.voters().keys().any(|voter| view.up(voter).is_none()) {
        // Nothing was added yet, and whoever is down may need the claim.
        return Next::withdraw(member);
    }
    let revision = &progress.revision;
    if view.keeps_data_in_pods() && view.claim_of(member).is_none() && !is_what_new_ones_get(view, revision) {
        // The spec was edited before its Pod was made, which may be what the API server refuses.
        return Next::withdraw(member);
    }
    match view.claim_of(member) {
        Some(claim) if claim.deleting => return give_up(view, member),
        Some(claim) if claim.assigned.as_ref() != Some(revision) => {
            // Its volume was made for what new members were then. A Pod stays what it is.
            if claim.in_pod {
                return give_up(view, member);
            }
            let (members, revision) = (vec![member.clone()], revision.clone());
            return if view.world.revisions.contains_key(&revision) {
                Next::Do(Step::Assign { members, revision, afresh: false })
            } else {
                give_up(view, member)
            };
        }
        Some(_) => {}
        None if view.world.revisions.contains_key(revision) => {
            let purpose = Purpose::Join(cluster_id, revision.clone());
            return Next::Do(Step::CreateClaims { members: vec![member.clone()], purpose });
        }
        None => match view.target.as_ref().filter(|target| target.name == *revision) {
            Some(target) => return Next::Do(Step::StoreRevision(Arc::clone(target))),
            // The spec was edited before anything was made.
            None => return give_up(view, member),
        },
    }
    match (gates::of_a_new_member(view), view.leader()) {
        (Ok(()), Some(leader)) => {
            Next::Do(Step::AddMember { through: leader.clone(), member: member.clone() })
        }
        (Ok(()), None) => wait(view, member, no_leader()),
        (Err(notice), _) => {
            if notice.code != Code::DowngradePending {
                return wait(view, member, notice);
            }
            // Nothing was added yet, and a way down that the spec asks for needs the claim.
            downgrade::a_job_that_has_arrived(view).unwrap_or_else(|| Next::withdraw(member))
        }
    }
}

pub(super) const fn has_been_used(claim: &ClaimFacts) -> bool {
    claim.opened.is_some() || claim.member_id.is_some()
}

/// It is in the list and has no vote.
fn learn(view: &View<'_>, member: &MemberName, listed: &ListedMember) -> Next {
    let Some(claim) = view.claim_of(member).filter(|claim| !claim.deleting) else {
        return give_up(view, member);
    };
    let starting = |message: String| {
        let notice = Notice::of(Code::MemberJoining, message);
        Next::Wait(view.wait(notice, Some(member), subject(member), view.start_progress(member)))
    };
    if let Some((_, trouble)) = lost_home(view, member)
        && (trouble != NodeTrouble::NotReady || view.has_lasted(&subject(member), view.member_deadline()))
    {
        // Its volume cannot follow it, and another one has room elsewhere.
        return give_up(view, member);
    }
    let Some(pod) = view.pod(member) else { return start(view, member, claim) };
    if pod.deleting {
        return starting(format!("{member}'s Pod is going away"));
    }
    if pod.ended {
        return Next::Do(Step::remove_ended(member, pod));
    }
    if shown_loss(view, member).is_some() {
        return give_up(view, member);
    }
    let Some(status) = view.answer(member).and_then(Answer::status) else {
        if view.world.downgrade_job.is_enabled()
            && let Some(cancel) = downgrade::give_up(view)
        {
            // No member joins under it, and it is none of ours: those begin with nobody claimed.
            return cancel;
        }
        let listed = view.world.member_list.iter().flatten();
        let listed: Option<BTreeSet<MemberName>> = listed.map(|listed| view.member_of(listed)).collect();
        if pod.unguarded && listed.is_some_and(|listed| listed != pod.told) {
            let why = "the members have changed since it was told who they are";
            return Next::Do(Step::remove(member, pod, why));
        }
        let words = view.why_not_up(member).map_or_else(|notice| notice.message, |_| String::new());
        let next = corrected(view, member, claim, pod).unwrap_or_else(|| starting(words));
        let is_overdue = matches!(&next, Next::Wait(wait) if wait.overdue);
        if let Some(given_up) = is_overdue.then(|| pods::give_up_for_good(view, member)).flatten() {
            return given_up;
        }
        // A voter that is dead, and that may be replaced, matters more than one that does not come.
        let mut dead = view.voters().keys().filter(|voter| heal::is_to_be_retired(view, voter));
        return if is_overdue && dead.next().is_some() { give_up(view, member) } else { next };
    };
    if status.member_id != listed.id || Some(status.cluster_id) != view.cluster_id() {
        let message = format!("{member} answers as {}, not as member {}", status.identity(), listed.id);
        return wait(view, member, Notice::of(Code::MembershipUnexpected, message));
    }
    match (gates::of_a_promotion(view, member, status), view.leader()) {
        (Ok(()), Some(_)) if is_to_be_watched(view, member, pod) => {
            let (subject, seconds) = (soak(pod), SOAK.as_secs());
            let message = format!("{member} is the first on its new minor; it is watched for {seconds} s");
            Next::Wait(view.wait(Notice::of(Code::Soaking, message), Some(member), subject, 0))
        }
        (Ok(()), Some(leader)) => {
            Next::Do(Step::PromoteMember { through: leader.clone(), member: member.clone(), id: listed.id })
        }
        (Ok(()), None) => wait(view, member, no_leader()),
        (Err(notice), _) => {
            Next::Wait(view.wait(notice, Some(member), subject(member), view.start_progress(member)))
        }
    }
}

/// Whether a learner is the first on its minor, and has not shown for long enough what that is worth.
fn is_to_be_watched(view: &View<'_>, member: &MemberName, pod: &PodFacts) -> bool {
    let target = view.target.as_ref().is_some_and(|target| target.name == pod.revision);
    target && is_canary(view, member) && !view.has_lasted(&soak(pod), SOAK)
}

fn start(view: &View<'_>, member: &MemberName, claim: &ClaimFacts) -> Next {
    let Some(revision) = claim.assigned.clone().filter(|name| view.world.revisions.contains_key(name)) else {
        return give_up(view, member);
    };
    let list = view.world.member_list.iter().flatten();
    let Some(members) = list.map(|listed| view.member_of(listed)).collect::<Option<Vec<_>>>() else {
        let message =
            format!("{member} must wait: somebody is in etcd's member list who is none of this cluster's");
        return wait(view, member, Notice::of(Code::MembershipUnexpected, message));
    };
    // Where it has its WAL already, the guard is right.
    let initial = if claim.opened.is_some() { Initial::Guard } else { Initial::Join { members } };
    let role = MemberRole::Learner;
    Next::Do(Step::CreatePods(vec![NewPod { member: member.clone(), revision, initial, role }]))
}

/// A learner that does not come up gets what new members are made from now: nobody relies on it.
fn corrected(view: &View<'_>, member: &MemberName, claim: &ClaimFacts, pod: &PodFacts) -> Option<Next> {
    if pod.ready || view.is_on_its_way(member, pod) {
        return None;
    }
    if claim.in_pod {
        // A Pod stays what it is; one that no new member would be made from goes for another one.
        return (!is_what_new_ones_get(view, &pod.revision)).then(|| give_up(view, member));
    }
    let runs_elsewhere = |version| view.running_versions().contains(&version);
    let target = view.target.as_ref().filter(|target| {
        view.refusals().is_empty() && (view.outdated().is_empty() || runs_elsewhere(target.version))
    });
    let revision = match target {
        Some(target) => match view.stored(target)? {
            Ok(revision) => revision,
            Err(store) => return Some(Next::Do(store)),
        },
        // A version that none runs yet comes to voters first, and they wait for this one: it gets what they run.
        None => revision(view).filter(|name| view.world.revisions.contains_key(name))?,
    };
    if pod.revision == revision {
        return None;
    }
    if claim.assigned.as_ref() != Some(&revision) {
        return Some(Next::Do(Step::Assign { members: vec![member.clone()], revision, afresh: false }));
    }
    Some(Next::Do(Step::remove(member, pod, "it does not come up, and the spec was changed")))
}

/// It has its vote.
fn vote(view: &View<'_>, progress: &ProgressStatus, member: &MemberName) -> Next {
    let withdraw = || Next::withdraw(member);
    // From here on it is a member like any other.
    let Some(pod) = view.pod(member).filter(|pod| !pod.ended) else { return withdraw() };
    if pod.deleting || is_lost(view, member) {
        return withdraw();
    }
    match gates::after(view, member, progress.action) {
        Ok(()) => records::note(view, |other| other == member).unwrap_or_else(|| {
            Next::Do(Step::Record(Record::Release { member: member.clone(), action: progress.action }))
        }),
        Err(notice) => {
            let wait = view.wait(notice, Some(member), subject(member), view.start_progress(member));
            if wait.overdue { withdraw() } else { Next::Wait(wait) }
        }
    }
}

fn no_leader() -> Notice {
    Notice::of(Code::NoLeader, "the members do not agree on one leader")
}

fn wait(view: &View<'_>, member: &MemberName, notice: Notice) -> Next {
    Next::Wait(view.wait(notice, Some(member), subject(member), 0))
}

fn subject(member: &MemberName) -> String {
    format!("join/{member}")
}
