//! `spec.replicas`: one member more or less at a time. More of them come before a roll, fewer after it: so a roll always
//! has the most members to rest on. A member that is broken anyway goes at once, and before any other.

use super::downgrade;
use super::gates;
use super::heal::{self, Obstacle};
use super::hold;
use super::join;
use super::loss::is_lost_for_good;
use super::membership;
use super::pods;
use super::step::Next;
use super::view::View;
use crate::api::{Action, StepStatus};
use crate::cluster::names::MemberName;

/// How many members the spec asks for; nothing where that is refused.
fn wanted(view: &View<'_>) -> Option<usize> {
    view.cluster_id()?;
    let desired = view.desired.as_ref().ok()?;
    Some(desired.replicas as usize)
}

/// Whether the number of members is to change.
pub(super) fn is_due(view: &View<'_>) -> bool {
    wanted(view).is_some_and(|wanted| !view.voters().is_empty() && wanted != view.voters().len())
}

/// How many members there should be, also where the rest of the spec is refused. A number that can never be asks for no
/// change.
pub(super) fn asked_for(view: &View<'_>) -> Option<usize> {
    let replicas = view.world.cluster.spec.replicas;
    matches!(replicas, 1 | 3 | 5 | 7).then_some(replicas.unsigned_abs() as usize)
}

pub(super) fn a_member_too_few(view: &View<'_>) -> Option<Next> {
    if view.voters().len() >= wanted(view)? || view.held().is_some() {
        return None;
    }
    if !view.outdated().is_empty() && hold::has_begun(view) {
        // The roll that is under way ends first.
        return None;
    }
    // What is down comes up first, by a change of the spec if that is what it takes.
    if view.voters().keys().any(|member| view.up(member).is_none()) {
        return None;
    }
    Some(add(view, None).unwrap_or_else(|(notice, member)| view.wait_for(notice, member.as_ref())))
}

/// An even number tolerates no more failures than one less, and two members fewer than one: what has begun, and what was
/// lost, is gone on with, whatever else is held up or refused.
pub(super) fn to_the_next_odd_number(view: &View<'_>) -> Option<Result<Next, Obstacle>> {
    let members = view.voters().len();
    if members == 0 || !members.is_multiple_of(2) {
        return None;
    }
    let grows = members < asked_for(view)?;
    // Members neither join nor leave under a downgrade job. Once their number is odd the way down is gone on with.
    if let Some(cancel) = view.world.downgrade_job.is_enabled().then(|| downgrade::give_up(view)).flatten() {
        return Some(Ok(cancel));
    }
    if grows {
        return Some(add(view, None));
    }
    let (member, _) = first_to_go(view)?;
    Some(remove(view, &member))
}

/// Claims the number of a new member, of this revision where it is not what new members get.
pub(super) fn add(view: &View<'_>, revision: Option<&str>) -> Result<Next, Obstacle> {
    for member in view.voters().keys() {
        view.why_not_up(member).map_err(|notice| (notice, Some(member.clone())))?;
    }
    gates::of_a_new_member(view).map_err(|notice| (notice, None))?;
    let revision = revision.map(str::to_owned).or_else(|| join::revision(view));
    let revision = revision.ok_or_else(|| (gates::no_list(), None))?;
    let member = membership::begun_and_left(view).unwrap_or_else(|| view.next_member());
    Ok(view.claim_change(Action::AddMember, &member, revision, None))
}

/// Where it cannot go now, what is down may be mended.
pub(super) fn a_broken_member_too_many(view: &View<'_>) -> Option<Next> {
    let (member, _) = first_to_go(view).filter(|(_, broken)| *broken && view.held().is_none())?;
    remove(view, &member).ok()
}

pub(super) fn a_member_too_many(view: &View<'_>) -> Option<Next> {
    let (member, _) = first_to_go(view).filter(|_| view.held().is_none())?;
    Some(remove(view, &member).unwrap_or_else(|(notice, member)| view.wait_for(notice, member.as_ref())))
}

fn remove(view: &View<'_>, member: &MemberName) -> Result<Next, Obstacle> {
    if !is_broken(view, member) {
        for other in view.voters().keys().filter(|other| *other != member) {
            // Where it stays so, it is the one that goes.
            view.why_not_up(other).map_err(|notice| (notice, Some(other.clone())))?;
        }
        gates::nodes_are_well(view).map_err(|notice| (notice, None))?;
    }
    if heal::to_go_for_another(view).as_ref() == Some(member) {
        return heal::retire(view, member, heal::REPLACED.to_owned());
    }
    may_be_removed(view, member)?;
    let given_up = pods::give_up_for_good(view, member);
    Ok(given_up.unwrap_or_else(|| view.claim_change(Action::RemoveMember, member, String::new(), None)))
}

/// The gate before a removal is claimed; once it is, it is passed again.
pub(super) fn may_be_removed(view: &View<'_>, member: &MemberName) -> Result<(), Obstacle> {
    let listed = view.listed(member).ok_or_else(gates::no_list);
    let gate = listed.and_then(|listed| gates::removal(view, member, listed));
    gate.map(|_| ()).map_err(|notice| (notice, Some(member.clone())))
}

/// Who goes first where there are too many: the one that a person named, or one that is broken, or else the highest number.
fn first_to_go(view: &View<'_>) -> Option<(MemberName, bool)> {
    if view.voters().len() <= asked_for(view)? {
        return None;
    }
    if let Some(named) = heal::to_go_for_another(view)
        .filter(|_| Some(view.voters().len()) == asked_for(view).map(|wanted| wanted + 1))
    {
        // There is one too many for its sake only.
        let broken = is_broken(view, &named);
        let by_a_roll = view.keeps_data_in_pods() && !view.outdated().is_empty();
        let is_worse = |member: &&MemberName| **member != named && is_broken(view, member);
        if let Some(worse) = view.voters().keys().find(is_worse).filter(|_| by_a_roll && !broken) {
            // It came in vain, or another one has come in its place; it cannot be mended.
            return Some((worse.clone(), true));
        }
        return Some((named, broken));
    }
    let (broken, member) = view.voters().keys().map(|member| (is_broken(view, member), member)).max()?;
    Some((member.clone(), broken))
}

/// Whether a member would be removed now.
pub(super) fn is_too_many(view: &View<'_>, member: &MemberName) -> bool {
    first_to_go(view).is_some_and(|(first, _)| first == *member)
}

/// Whether nothing is lost with this member: its data is, or it has been down for longer than the deadline. One that has
/// just crashed comes back.
pub(super) fn is_broken(view: &View<'_>, member: &MemberName) -> bool {
    let silent = view.answer(member).is_none_or(|answer| answer.status.is_err());
    let stands_still = silent && view.pod(member).is_none_or(|pod| !pod.ready);
    let for_too_long = || is_claimed_to_be_removed(view, member) || view.has_been_waited_for_too_long(member);
    is_lost_for_good(view, member) || (stands_still && for_too_long())
}

/// Who is claimed to be removed has been waited for before that.
pub(super) fn is_claimed_to_be_removed(view: &View<'_>, member: &MemberName) -> bool {
    view.claimed().is_some_and(|(progress, claimed)| progress.action.removes() && claimed == *member)
}

/// The steps that add members, before those of a roll.
pub(super) fn members_to_add(view: &View<'_>) -> Vec<StepStatus> {
    let claimed = view.claimed().filter(|(progress, member)| {
        progress.action == Action::AddMember && !view.voters().contains_key(member)
    });
    let there = view.voters().len() + usize::from(claimed.is_some());
    let missing = wanted(view).unwrap_or_default().saturating_sub(there);
    let first = view.next_member().number();
    let to = join::revision(view).and_then(|name| Some(view.revision(&name)?.version.to_string()));
    (0..u32::try_from(missing).unwrap_or_default())
        .map(|n| StepStatus {
            action: Action::AddMember,
            member: Some(MemberName::new(&view.world.cluster.name, first + n).to_string()),
            to: to.clone(),
            reason: "spec.replicas asks for more members; it joins as a learner and votes once it is in sync"
                .to_owned(),
        })
        .collect()
}

/// The steps that remove members, after those of a roll.
pub(super) fn members_to_remove(view: &View<'_>) -> Vec<StepStatus> {
    let claimed = view.claimed().filter(|(progress, _)| progress.action.removes());
    let mut members: Vec<_> = view
        .voters()
        .keys()
        .filter(|member| claimed.as_ref().is_none_or(|(_, claimed)| claimed != *member))
        .map(|member| (is_broken(view, member), member))
        .collect();
    members.sort();
    let mut surplus = members.len().saturating_sub(wanted(view).unwrap_or(usize::MAX));
    if surplus == 1 && heal::to_go_for_another(view).is_some() {
        // One more has come for its sake.
        surplus = 0;
    }
    let gone = members.iter().rev().take(surplus);
    gone.map(|(broken, member)| StepStatus {
        action: Action::RemoveMember,
        member: Some(member.to_string()),
        to: None,
        reason: if *broken {
            "spec.replicas asks for fewer members; this one is broken, so it goes first".to_owned()
        } else {
            "spec.replicas asks for fewer members; the highest number goes first, after MoveLeader where it leads"
                .to_owned()
        },
    })
    .collect()
}
