//! etcd's Downgrade API. A minor down begins with a job: the leader lowers the cluster version, every member
//! migrates its data, and from then on the lower binary may be put back, member by member, as in a revert. Once all
//! run it, the leader ends the job by itself.
//!
//! A job that leads elsewhere is given up: while one is enabled the cluster version never rises, and a member of
//! another minor does not start. The answers of the API are not trusted; only what is read afterwards counts.

use super::gates;
use super::loss::is_beyond_a_revision;
use super::request;
use super::step::{Next, Step};
use super::view::View;
use crate::api::{Action, Code};
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::observation::{DowngradeJob, PodFacts};
use crate::cluster::revision::{self, Revision};
use crate::etcd::versions::{Hop, STARTS_UNDER_ANY_DOWNGRADE};
use crate::etcd::{DowngradeCall, Minor};
use std::time::Duration;

/// The leader looks every 5 s whether a job has come to its end.
/// Source: `--downgrade-check-time` of <https://etcd.io/docs/v3.6/op-guide/configuration/>
const ENDS_WITHIN: Duration = Duration::from_secs(15);
const SUBJECT: &str = "downgrade-job";

/// A job that leads to another minor than the spec does is given up, whoever began it; so is any where members keep their
/// data in their Pods, since none joins under it.
pub(super) fn a_job_that_leads_elsewhere(view: &View<'_>) -> Option<Next> {
    view.cluster_id()?;
    let target = view.target.as_ref().filter(|_| view.may_change_members());
    let elsewhere = match view.world.downgrade_job {
        DowngradeJob::To(minor) => {
            let is_elsewhere = || target.is_some_and(|target| minor != target.version.minor);
            (view.keeps_data_in_pods() || is_elsewhere()) && !has_arrived(view, minor)
        }
        // Members of 3.5 do not say where it leads. A member that does not start under it says enough, whatever the spec.
        DowngradeJob::Somewhere => {
            let is_kept_out = |member: &MemberName| view.is_kept_out_by_a_downgrade(member);
            view.keeps_data_in_pods() || view.members().iter().any(is_kept_out)
        }
        DowngradeJob::Absent | DowngradeJob::Unknown => false,
    };
    elsewhere.then(|| give_up(view)).flatten()
}

/// A job that has come to its end is ended by the leader. One that is not is given up.
pub(super) fn a_job_that_has_arrived(view: &View<'_>) -> Option<Next> {
    view.cluster_id()?;
    match view.world.downgrade_job {
        DowngradeJob::To(minor) if !has_arrived(view, minor) => return None,
        DowngradeJob::To(_) | DowngradeJob::Somewhere => {}
        DowngradeJob::Absent | DowngradeJob::Unknown => return None,
    }
    if view.has_lasted(SUBJECT, ENDS_WITHIN) {
        return give_up(view);
    }
    let message = "a downgrade job is enabled; etcd ends it once all members run the version it leads to";
    Some(wait(view, message.to_owned()))
}

/// Whether all members run the minor that a job leads to.
fn has_arrived(view: &View<'_>, minor: Minor) -> bool {
    view.cluster_version() == Some(minor)
        && view
            .members()
            .iter()
            .all(|member| view.up(member).is_some_and(|up| up.status.version.minor == minor))
}

pub(super) fn give_up(view: &View<'_>) -> Option<Next> {
    let through =
        view.leader().cloned().or_else(|| view.up_members().first().map(|(member, _)| member.clone()))?;
    Some(Next::Do(Step::Downgrade { through, call: DowngradeCall::Cancel }))
}

/// Whether the cluster version has to come down before the next version on the way can be started.
pub(super) fn begins_with_a_job(view: &View<'_>) -> bool {
    matches!(request::hop(view), Some(Ok(Hop::Downgrade)))
}

/// Lowers the cluster version to that of the target. All members are up, and its image has been tried out.
pub(super) fn lower_the_cluster_version(view: &View<'_>, target: &Revision) -> Option<Next> {
    let minor = target.version.minor;
    match view.world.downgrade_job {
        DowngradeJob::To(to) if to == minor => {
            return Some(wait(view, format!("etcd lowers the cluster version to {minor}")));
        }
        DowngradeJob::Unknown => {
            let message = "no member says whether a downgrade job is enabled";
            return Some(view.wait_for(Notice::of(Code::QuorumUnproven, message), None));
        }
        _ => {}
    }
    if let Err(notice) = gates::of_all_members(view) {
        return Some(view.wait_for(notice, None));
    }
    let through = view.leader()?.clone();
    Some(Next::Do(Step::Downgrade { through, call: DowngradeCall::Enable(minor) }))
}

/// A member that has not been brought down to the minor of the target yet: cluster version and data.
pub(super) fn not_lowered_yet(view: &View<'_>, minor: Minor) -> Option<Next> {
    let above = view.world.answers.iter().find_map(|(member, answer)| {
        let versions = [("cluster", answer.cluster_version), ("storage", answer.storage_version)];
        let (what, version) = versions.into_iter().find(|(_, version)| *version > Some(minor))?;
        Some((member, what, version?))
    });
    let (member, what, version) = above?;
    Some(wait(
        view,
        format!("{member} still has the {what} version {version}; {minor} starts once it is {minor}"),
    ))
}

fn wait(view: &View<'_>, message: String) -> Next {
    Next::Wait(view.wait(Notice::of(Code::DowngradePending, message), None, SUBJECT.to_owned(), 0))
}

/// A member that is kept out by a downgrade job which is over.
pub(super) fn a_member_that_remembers_a_job(view: &View<'_>) -> Option<Next> {
    view.cluster_id()?;
    let mut kept_out = view.members().iter().filter(|member| view.is_kept_out_by_a_downgrade(member));
    kept_out.find_map(|member| forgetting(view, member, view.pod(member)?))
}

/// A member of 3.5 whose data remembers a downgrade job that is over does not start. One start on the next
/// minor makes it forget; then it gets its own version back, as in any revert. There is nothing to put back
/// meanwhile: where it does not come up, the spec's settings are what can be mended.
pub(super) fn forgetting(view: &View<'_>, member: &MemberName, pod: &PodFacts) -> Option<Next> {
    // Whether the job is over only the others can say.
    let over = view.world.downgrade_job == DowngradeJob::Absent || view.members().len() == 1;
    if pod.deleting || !over || !gates::is_down(view, member) || is_beyond_a_revision(view, member) {
        return None;
    }
    if view.keeps_data_in_its_pod(member) {
        // It is replaced where a person says so.
        return None;
    }
    let version = view.world.releases.newest(STARTS_UNDER_ANY_DOWNGRADE)?;
    let revision = revision::at(view.world, view.desired.as_ref().ok()?, version).ok()?;
    if pod.revision == revision.name {
        return None;
    }
    Some(match view.stored(&revision)? {
        Ok(name) => view.claim_member(Action::ClearDowngrade, member, &pod.uid, name, None),
        Err(store) => Next::Do(store),
    })
}
