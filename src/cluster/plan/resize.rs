//! `spec.replicas`: one member more or less at a time. More of them come before a roll, fewer after it: so a roll always
//! has the most members to rest on. A member that is broken anyway goes at once, and before any other.

use super::gates::{self, Removal};
use super::hold;
use super::join;
use super::loss::is_lost;
use super::membership;
use super::step::Next;
use super::view::View;
use crate::api::{Action, StepStatus};
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;

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

/// Whether the spec asks for more members than there are.
pub(super) fn is_one_too_few(view: &View<'_>) -> bool {
    wanted(view).is_some_and(|wanted| view.voters().len() < wanted)
}

/// Whether nothing holds a change of their number up. An even number tolerates no more failures than one less, so what
/// has begun goes on to the next odd one.
fn may_begin(view: &View<'_>) -> bool {
    view.held().is_none() || is_between(view)
}

fn is_between(view: &View<'_>) -> bool {
    view.voters().len().is_multiple_of(2)
}

pub(super) fn a_member_too_few(view: &View<'_>) -> Option<Next> {
    if view.voters().len() >= wanted(view)? || !may_begin(view) {
        return None;
    }
    if !view.outdated().is_empty() && hold::has_begun(view) && !is_between(view) {
        // The roll that is under way ends first.
        return None;
    }
    // What is down comes up first, by a change of the spec if that is what it takes.
    if view.voters().keys().any(|member| view.up(member).is_none()) {
        return None;
    }
    if let Err(notice) = gates::of_a_new_member(view) {
        return Some(view.wait_for(notice, None));
    }
    let member = membership::begun_and_left(view).unwrap_or_else(|| view.next_member());
    Some(view.claim_member(Action::AddMember, &member, "", join::revision(view)?, None))
}

/// One that is broken, or any while their number is even: no roll begins with that. Where it cannot go now, what is down
/// may be mended.
pub(super) fn a_member_too_many_for_a_roll(view: &View<'_>) -> Option<Next> {
    let (member, _) =
        first_to_go(view).filter(|(_, broken)| (*broken && may_begin(view)) || is_between(view))?;
    removal(view, &member).ok().map(|_| claim(view, &member))
}

pub(super) fn a_member_too_many(view: &View<'_>) -> Option<Next> {
    let (member, broken) = first_to_go(view).filter(|_| may_begin(view))?;
    let mut others = view.voters().keys().filter(|other| **other != member);
    if !broken
        && let Some((other, notice)) = others.find_map(|other| Some((other, view.why_not_up(other).err()?)))
    {
        // Where it stays so, it is the one that goes.
        return Some(view.wait_for(notice, Some(other)));
    }
    Some(match removal(view, &member) {
        Ok(_) => claim(view, &member),
        Err(notice) => view.wait_for(notice, Some(&member)),
    })
}

fn removal(view: &View<'_>, member: &MemberName) -> Result<Removal, Notice> {
    let listed = view.listed(member).ok_or_else(gates::no_list)?;
    if !is_broken(view, member) {
        gates::nodes_are_well(view)?;
    }
    gates::removal(view, member, listed)
}

fn claim(view: &View<'_>, member: &MemberName) -> Next {
    view.claim_member(Action::RemoveMember, member, "", String::new(), None)
}

/// Who goes first where there are too many: one that is broken, or else the highest number.
fn first_to_go(view: &View<'_>) -> Option<(MemberName, bool)> {
    if view.voters().len() <= wanted(view)? {
        return None;
    }
    let members = view.voters().keys().map(|member| (is_broken(view, member), member));
    let (broken, member) = members.max()?;
    Some((member.clone(), broken))
}

/// Whether a member would be removed now.
pub(super) fn is_too_many(view: &View<'_>, member: &MemberName) -> bool {
    first_to_go(view).is_some_and(|(first, _)| first == *member)
}

/// Whether nothing is lost with this member: its data is, or it does not run.
pub(super) fn is_broken(view: &View<'_>, member: &MemberName) -> bool {
    // Who is claimed to be removed has been waited for before that.
    let claimed = view
        .claimed()
        .is_some_and(|(progress, claimed)| progress.action == Action::RemoveMember && claimed == *member);
    is_lost(view, member) || gates::is_down(view, member) || (claimed && gates::serves_nobody(view, member))
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
    let claimed = view.claimed().filter(|(progress, _)| progress.action == Action::RemoveMember);
    let mut members: Vec<_> = view
        .voters()
        .keys()
        .filter(|member| claimed.as_ref().is_none_or(|(_, claimed)| claimed != *member))
        .map(|member| (is_broken(view, member), member))
        .collect();
    members.sort();
    let surplus = members.len().saturating_sub(wanted(view).unwrap_or(usize::MAX));
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
