//! What must be true, read live from etcd, before a member is stopped and after it came back. Facts,
//! not pauses.

mod list;

pub use list::Removal;
pub(super) use list::{list_is_as_wanted, no_list, no_list_for, of_a_new_member, of_a_promotion, removal};

use super::corrupt;
use super::up::{Up, is_beginning};
use super::view::{View, quorum};
use crate::api::{Action, Code};
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::observation::{DowngradeJob, NodeTrouble};
use std::collections::BTreeSet;

/// A follower further behind than this is not "close": the leader would be alone with its log. etcd
/// itself refuses writes at a distance of 5,000.
const CLOSE: u64 = 1_000;

/// The stop of a member. It can be built in this file only, from the proof that the cluster holds
/// quorum without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    member: MemberName,
    uid: String,
    /// Of one that is down: as it was when it was found to be.
    down: Option<String>,
}

impl Stop {
    /// Who.
    pub const fn member(&self) -> &MemberName {
        &self.member
    }

    /// Its Pod: the precondition of the eviction.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// Whether it is down already, so that its stop takes nothing away.
    pub const fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// The resource version of the Pod of a member that is down: one that has started since is not to be stopped
    /// without a gate.
    pub fn resource_version(&self) -> Option<&str> {
        self.down.as_deref()
    }
}

/// What every disturbance needs, as far as it can be read without costing anything: before a claim,
/// and again, live, after it.
///
/// # Errors
/// The first thing that is not as it must be.
pub(super) fn before(view: &View<'_>, member: &MemberName) -> Result<(), Notice> {
    no_data_differs(view, member)?;
    if view.world.downgrade_job == DowngradeJob::Somewhere {
        let message =
            format!("{member} must wait: a downgrade job is enabled, under which 3.5 does not start");
        return Err(Notice::of(Code::DowngradePending, message));
    }
    let voters = view.voters();
    for (other, _) in voters.iter().filter(|(other, _)| *other != member) {
        if let Err(notice) = view.why_not_up(other) {
            let code = match notice.code {
                Code::MemberStopping => Code::AnotherDisturbance,
                code => code,
            };
            return Err(Notice::of(code, format!("{member} must wait: {}", notice.message)));
        }
    }
    if let Some(deleting) = view.claim_of(member).filter(|claim| claim.deleting) {
        return Err(Notice::new(
            Code::MemberDataLost,
            format!(
                "{member}'s volume claim {} is being deleted; it goes as soon as the Pod stops",
                deleting.uid
            ),
            "keep the Pod running and copy the data away, or restore the claim",
        ));
    }
    let others = voters.keys().filter(|voter| *voter != member && view.up(voter).is_some()).count();
    if voters.len() > 1 && others < quorum(voters.len()) {
        return Err(Notice::of(
            Code::QuorumUnproven,
            format!("without {member} only {others} of {} voters would be left", voters.len()),
        ));
    }
    of_those_that_are_up(view, Some(member))
}

fn no_data_differs(view: &View<'_>, member: &MemberName) -> Result<(), Notice> {
    if corrupt::is_set(view) {
        let message = format!("{member} must wait: {}", Code::Corrupt.meaning());
        return Err(Notice::of(Code::Corrupt, message));
    }
    Ok(())
}

/// What a change of the whole cluster needs, which stops nobody: every voter is up, close to the leader, and
/// agrees with the others.
///
/// # Errors
/// The first thing that is not as it must be.
pub(super) fn of_all_members(view: &View<'_>) -> Result<(), Notice> {
    view.voters().keys().try_for_each(|member| view.why_not_up(member).map(|_| ()))?;
    of_those_that_are_up(view, None)
}

fn of_those_that_are_up(view: &View<'_>, about_to_go: Option<&MemberName>) -> Result<(), Notice> {
    let ups: Vec<Up<'_>> = view.voters().keys().filter_map(|voter| view.up(voter)).collect();
    agree_on_a_leader(&ups)?;
    close_to_the_leader(view, about_to_go)?;
    list_is_as_wanted(view)
}

/// What forbids that anything begins with a member that is up, as far as it is no fault of etcd's: a node of a
/// member that is cordoned, and may be about to be drained, or that is not ready.
///
/// # Errors
/// The first such node.
pub(super) fn nodes_are_well(view: &View<'_>) -> Result<(), Notice> {
    let nodes = view.members().iter().filter_map(|member| Some((member, view.pod(member)?.node.as_ref()?)));
    for (member, node) in nodes {
        let Some(trouble) = view.world.nodes_in_trouble.get(node) else { continue };
        let remedy = match trouble {
            NodeTrouble::Cordoned => format!("wait until it has been drained, or kubectl uncordon {node}"),
            _ => format!("kubectl describe node {node}"),
        };
        let message = format!("no member is stopped while {node}, the node of {member}, is {trouble}");
        return Err(Notice::new(Code::AnotherDisturbance, message, remedy));
    }
    Ok(())
}

/// A database of this many hundredths of its quota is close to it.
const CLOSE_TO_QUOTA: u64 = 90;

/// A version change begins with room in every database. What the spec says of the quota comes with it.
///
/// # Errors
/// The first member whose database is close to its quota.
pub(super) fn databases_have_room(view: &View<'_>) -> Result<(), Notice> {
    let Ok(desired) = &view.desired else { return Ok(()) };
    for (member, up) in view.up_members() {
        let size = u64::try_from(up.status.db_size).unwrap_or_default();
        let used = size.saturating_mul(100) / desired.quota_bytes.max(1);
        if used >= CLOSE_TO_QUOTA {
            let message = format!(
                "{member}'s database takes {CLOSE_TO_QUOTA} % of its quota or more; no version change begins so close \
                 to NOSPACE"
            );
            return Err(Notice::of(Code::DatabaseNearQuota, message));
        }
    }
    Ok(())
}

/// Whether the disruption budget lets the member go. Its controller needs a moment to see that another
/// member is back, so asking first spares a refused eviction.
///
/// # Errors
/// When it does not.
pub(super) fn budget(view: &View<'_>, member: &MemberName) -> Result<(), Notice> {
    let status = view.world.budget.as_ref().and_then(|budget| budget.status.as_ref());
    let allowed = status.map_or(0, |status| status.disruptions_allowed);
    if allowed > 0 || view.pod(member).is_some_and(|pod| !pod.ready) {
        return Ok(());
    }
    Err(Notice::of(
        Code::DisruptionBudget,
        format!("{member} must wait: its disruption budget allows no eviction just now"),
    ))
}

/// The gate before a stop, in full: [`before`], and a proposal that committed just now.
///
/// # Errors
/// The first thing that is not as it must be.
pub(super) fn stop(view: &View<'_>, member: &MemberName, uid: &str) -> Result<Stop, Notice> {
    before(view, member)?;
    match &view.world.proposal {
        Some(Ok(())) => Ok(Stop { member: member.clone(), uid: uid.to_owned(), down: None }),
        Some(Err(error)) => {
            Err(Notice::of(Code::QuorumUnproven, format!("a proposal did not commit: {error}")))
        }
        None => Err(Notice::of(Code::QuorumUnproven, "no proposal was tried yet")),
    }
}

/// The stop of a member that is down already: its Pod is replaced to bring it up, which takes nothing
/// away from quorum, so that it needs no gate. It must really be down.
pub(super) fn stop_of_a_down_member(view: &View<'_>, member: &MemberName) -> Option<Stop> {
    let pod = view.pod(member).filter(|_| is_down(view, member))?;
    Some(Stop { member: member.clone(), uid: pod.uid.clone(), down: Some(pod.resource_version.clone()) })
}

/// Whether a member is down by more than one witness. That it did not answer us in time is not enough:
/// its readiness probe must fail too, and where the others do not hold quorum without it, so that an
/// error would cost quorum, its container must not even run. One that is only starting is not down.
pub(super) fn is_down(view: &View<'_>, member: &MemberName) -> bool {
    view.pod(member).is_some_and(|pod| !view.is_on_its_way(member, pod)) && serves_nobody(view, member)
}

/// The same, of one that may be only starting.
pub(super) fn serves_nobody(view: &View<'_>, member: &MemberName) -> bool {
    let Some(pod) = view.pod(member) else { return false };
    let silent = view.answer(member).is_none_or(|answer| answer.status.is_err());
    let voters = view.members();
    let others = voters.iter().filter(|other| *other != member && view.up(other).is_some()).count();
    let spared = voters.len() > 1 && others >= quorum(voters.len());
    silent && !pod.ready && !is_beginning(&pod.container) && (spared || pod.container.running_since.is_none())
}

fn agree_on_a_leader(ups: &[Up<'_>]) -> Result<(), Notice> {
    let leaders: BTreeSet<_> = ups.iter().map(|up| up.status.leader).collect();
    let terms: BTreeSet<_> = ups.iter().map(|up| up.status.raft_term).collect();
    if leaders.len() == 1 && terms.len() == 1 && leaders.iter().all(Option::is_some) {
        return Ok(());
    }
    Err(Notice::of(Code::NoLeader, "the members do not agree on one leader in one term"))
}

fn close_to_the_leader(view: &View<'_>, about_to_go: Option<&MemberName>) -> Result<(), Notice> {
    let committed = view.up_members().iter().map(|(_, up)| up.status.raft_index).max().unwrap_or_default();
    for (other, up) in view.up_members() {
        let lag = committed.saturating_sub(up.status.raft_applied_index);
        if Some(&other) != about_to_go && lag >= CLOSE {
            let waits = about_to_go.map(|member| format!("{member} must wait: ")).unwrap_or_default();
            return Err(Notice::of(
                Code::MemberBehind,
                format!("{waits}{other} is {CLOSE} or more entries behind"),
            ));
        }
    }
    Ok(())
}

/// What a member must show after it was started: its own id in its own cluster, a vote, a linearizable
/// read through it, and the version of its revision. What is put back need not have that: it comes back as
/// it was.
///
/// # Errors
/// The first thing that is not as it must be.
pub(super) fn after(view: &View<'_>, member: &MemberName, action: Action) -> Result<(), Notice> {
    view.why_not_up(member)?;
    if action != Action::PutBack {
        runs_its_version(view, member)?;
    }
    list_is_as_wanted(view)
}

/// An image holds what somebody put into it, whatever its tag says.
///
/// # Errors
/// When a member that is up runs another version than its revision says.
pub(super) fn runs_its_version(view: &View<'_>, member: &MemberName) -> Result<(), Notice> {
    let (Some(up), Some(pod)) = (view.up(member), view.pod(member)) else { return Ok(()) };
    let wanted = view.revision(&pod.revision).map(|revision| revision.version);
    if let Some(wanted) = wanted.filter(|wanted| *wanted != up.status.version) {
        return Err(Notice::new(
            Code::ImageVersionMismatch,
            format!("{member} runs etcd {}, its image should hold {wanted}", up.status.version),
            "correct spec.version or spec.image.overrides",
        ));
    }
    Ok(())
}
