//! Every member has a Pod, made from its own revision, and is up. Bringing a member up disturbs nobody.

use super::gates;
use super::loss::is_lost;
use super::step::{NewPod, Next, Step};
use super::view::View;
use crate::api::{Code, MemberRole};
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::objects::pod::Initial;
use crate::cluster::revision;

pub(super) fn every_member_has_a_pod(view: &View<'_>) -> Option<Next> {
    view.cluster_id()?;
    // A claimed member is started by its claim; one that joins or leaves, and votes, is a voter like any other.
    let claimed = view.claimed().filter(|(progress, _)| !progress.action.changes_the_list());
    let claimed = claimed.map(|(_, member)| member);
    let mut new = Vec::new();
    let mut first = None;
    let members = view.members().iter().chain(who_may_vote(view));
    for member in members.filter(|member| Some(*member) != claimed.as_ref()) {
        if let Some(pod) = view.pod(member) {
            if pod.ended && !pod.deleting {
                first = first.or(Some(Step::remove_ended(member, pod)));
            }
            continue;
        }
        if is_lost(view, member) || view.claim_of(member).is_none_or(|claim| claim.deleting || claim.in_pod) {
            continue;
        }
        // A claim that says nothing of its member is one for a person; the others go on.
        let Some(own) = own_revision(view, member) else { continue };
        match own {
            Ok(revision) => {
                let votes = view.voters().contains_key(member);
                let role = if votes { MemberRole::Voter } else { MemberRole::Learner };
                new.push(NewPod { member: member.clone(), revision, initial: Initial::Guard, role });
            }
            Err(step) => first = first.or(Some(step)),
        }
    }
    if !new.is_empty() {
        return Some(Next::Do(Step::CreatePods(new)));
    }
    first.map(Next::Do)
}

/// While nobody can give the member list: those who have data and are not noted as voters. One of them may have got its vote
/// just before, and be needed for the quorum without which nobody can say so. One that was removed is turned away.
fn who_may_vote<'a>(view: &'a View<'_>) -> impl Iterator<Item = &'a MemberName> {
    let claims = view.own_claims().filter(|_| view.world.member_list.is_none());
    let have_data = claims.filter(|(_, claim)| claim.opened.is_some());
    have_data.map(|(member, _)| member).filter(|member| !view.voters().contains_key(*member))
}

/// The revision that a member comes back with: the one assigned to it, never what the spec has come to
/// say meanwhile. Where that is not stored any more (the EtcdCluster was deleted, and its revisions
/// with it), its settings at the version that its data is on.
fn own_revision(view: &View<'_>, member: &MemberName) -> Option<Result<String, Step>> {
    let claim = view.claim_of(member)?;
    let stored = |name: &String| view.world.revisions.contains_key(name);
    if let Some(assigned) = claim.assigned.clone().filter(stored) {
        return Some(Ok(assigned));
    }
    // Flags that it would not start with are refused elsewhere.
    let rendered = revision::at(view.world, view.desired.as_ref().ok()?, claim.opened?).ok()?;
    Some(Err(match view.stored(&rendered)? {
        Ok(revision) => Step::Assign { members: vec![member.clone()], revision, afresh: false },
        Err(store) => store,
    }))
}

pub(super) fn every_member_is_up(view: &View<'_>) -> Option<Next> {
    let id = view.cluster_id()?;
    let members = view.members();
    let down: Vec<(&MemberName, Notice)> =
        members.iter().filter_map(|member| Some((member, view.why_not_up(member).err()?))).collect();
    if let Some((member, first)) = down.first() {
        let up = members.len() - down.len();
        if up == 0 && members.len() > 1 && view.world.member_list.is_none() {
            return Some(view.wait_for(
                Notice::of(
                    Code::QuorumLost,
                    format!("no member of cluster {id} serves a linearizable read; {}", first.message),
                ),
                None,
            ));
        }
        return Some(view.wait_for(first.clone(), Some(member)));
    }
    if let Some((member, notice)) =
        members.iter().find_map(|member| Some((member, gates::runs_its_version(view, member).err()?)))
    {
        return Some(view.wait_for(notice, Some(member)));
    }
    if let Err(notice) = gates::list_is_as_wanted(view) {
        return Some(view.wait_for(notice, None));
    }
    let alarm = view.alarms().first().copied()?;
    Some(view.wait_for(
        Notice::of(Code::AlarmActive, format!("etcd has the alarm {alarm} set; it refuses writes")),
        None,
    ))
}
