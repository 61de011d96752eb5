//! A member that leaves: etcd lets it go first, then its Pod goes, then its volume.
//!
//! ```text
//! listed       gate → (MoveLeader) → MemberRemove     or: it is wanted after all, or another must come first → withdraw
//! not listed   Pod → volume, deleted or kept as the policy says → release
//! ```

use super::claimed::move_leader_off;
use super::corrupt;
use super::gates;
use super::heal;
use super::join::another_needs_the_claim;
use super::pods;
use super::resize::is_too_many;
use super::step::{Next, Record, Step};
use super::view::View;
use crate::api::{Action, Code, ProgressStatus};
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::spec::keeps_volumes_when_scaled;

pub(super) fn go_on(view: &View<'_>, progress: &ProgressStatus, member: &MemberName) -> Next {
    let wait = |notice: Notice| Next::Wait(view.wait(notice, Some(member), format!("leave/{member}"), 0));
    let withdraw = || Next::withdraw(member);
    if view.world.member_list.is_none() {
        if another_needs_the_claim(view) {
            return withdraw();
        }
        return wait(gates::no_list_for(member));
    }
    let Some(listed) = view.listed(member) else {
        if view.voters().contains_key(member) {
            // By another address, or another id: what is listed is not what was claimed.
            let message = format!(
                "{member} votes, and etcd's member list has it in another way than this operator does"
            );
            return wait(Notice::of(Code::MembershipUnexpected, message));
        }
        return gone(view, progress, member);
    };
    let is_wanted = match progress.action {
        Action::RetireMember => !heal::is_to_be_retired(view, member),
        _ => !is_too_many(view, member),
    };
    if !listed.is_learner && is_wanted {
        return withdraw();
    }
    let removal = match gates::removal(view, member, listed) {
        Ok(removal) => removal,
        Err(notice) if listed.is_learner => return wait(notice),
        // Nothing was touched yet, and another member may need the claim.
        Err(_) => return withdraw(),
    };
    if view.leader() == Some(member) {
        return move_leader_off(view, progress, member).unwrap_or_else(|| {
            wait(Notice::of(Code::LeaderMoving, format!("{member} leads and does not answer just now")))
        });
    }
    Next::Do(Step::RemoveMember(removal))
}

/// Its id never comes back. A process that still runs somewhere is turned away by the others.
fn gone(view: &View<'_>, progress: &ProgressStatus, member: &MemberName) -> Next {
    if progress.action == Action::RetireMember
        && let Some(disarm) = corrupt::after_it_went(view)
    {
        return disarm;
    }
    if let Some(pod) = view.pod(member).filter(|pod| !pod.deleting) {
        return Next::Do(Step::remove(member, pod, "it is no member any more"));
    }
    if let Some(claim) = view.claim_of(member).filter(|claim| !claim.deleting) {
        if claim.in_pod {
            return Next::Do(pods::discard(member, claim));
        }
        let quarantined = progress.action == Action::RetireMember;
        return Next::Do(if quarantined || keeps_volumes_when_scaled(&view.world.cluster.spec) {
            Step::SetAside { member: member.clone(), quarantined }
        } else {
            Step::DeleteClaims(vec![member.clone()])
        });
    }
    if progress.action == Action::RetireMember && corrupt::is_still_open(view) {
        // Nobody else takes the alarm back.
        let message = format!("{member} was removed, and those who are left have not been compared yet");
        let subject = format!("compare/{member}");
        let wait = view.wait(Notice::of(Code::Corrupt, message), Some(member), subject, 0);
        if !wait.overdue {
            return Next::Wait(wait);
        }
    }
    Next::Do(Step::Record(Record::Release { member: member.clone(), action: progress.action }))
}
