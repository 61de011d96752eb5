//! The roll: which outdated member is next, and whether the cluster may lose it for a moment now.

use super::downgrade;
use super::exchange::{self, Numbers};
use super::gates;
use super::heal;
use super::hold;
use super::loss::is_beyond_a_revision;
use super::maintenance;
use super::probe::{images_on_every_node, v2_data_on_every_volume};
use super::request;
use super::resize;
use super::snapshots;
use super::step::{Next, Step};
use super::view::View;
use super::volumes;
use crate::api::{Action, Code, StepStatus};
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::observation::{DowngradeJob, PodFacts};
use crate::cluster::revision::Revision;
use crate::etcd::versions::Hop;
use crate::etcd::{EtcdVersion, Minor};
use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

pub(super) fn the_next_outdated_member(view: &View<'_>) -> Option<Next> {
    view.cluster_id()?;
    let target = view.target.as_ref()?;
    let outdated = order(view, view.outdated());
    let leader = view.leader();
    let first = outdated.first().filter(|_| view.held().is_none())?;
    if !view.world.revisions.contains_key(&target.name) {
        return Some(Next::Do(Step::StoreRevision(Arc::clone(target))));
    }
    // What is down already and may be mended by the change goes first: bringing it up needs no gate.
    if let Some((down, pod)) = next_to_mend(view) {
        return Some(view.claim_member(Action::ReplaceMember, &down, &pod.uid, target.name.clone(), None));
    }
    if let Some((member, notice)) =
        view.members().iter().find_map(|member| Some((member, view.why_not_up(member).err()?)))
    {
        return Some(view.wait_for(notice, Some(member)));
    }
    if let Some(alarm) = view.alarms().first().filter(|_| changes_version(view, target)) {
        return Some(view.wait_for(
            Notice::of(Code::AlarmActive, format!("no version change begins while the alarm {alarm} is set")),
            None,
        ));
    }
    if let Err(notice) = gates::nodes_are_well(view) {
        return Some(view.wait_for(notice, None));
    }
    if changes_version(view, target)
        && !hold::has_begun(view)
        && let Err(notice) = gates::databases_have_room(view)
    {
        return maintenance::room_before_a_hop(view).or_else(|| Some(view.wait_for(notice, None)));
    }
    if matches!(request::hop(view), Some(Ok(Hop::MinorUp)))
        && let Some(first) = before_a_minor_hop(view, target)
    {
        return Some(first);
    }
    // The way back must not depend on a registry.
    let reverts = matches!(request::hop(view), Some(Ok(Hop::Revert)));
    if !reverts
        && let Some(probe) =
            v2_data_on_every_volume(view).or_else(|| images_on_every_node(view, &outdated, target))
    {
        return Some(probe);
    }
    if downgrade::begins_with_a_job(view) {
        return behind(view, target.version.minor.next())
            .or_else(|| downgrade::lower_the_cluster_version(view, target));
    }
    if let Some(wait) = downgrade::not_lowered_yet(view, target.version.minor) {
        return Some(wait);
    }
    if let Some(member) = exchange::next(view).filter(|_| view.keeps_data_in_pods()) {
        if resize::asked_for(view).is_some_and(|wanted| view.voters().len() > wanted + 1) {
            // Those that are too many need no others in their places.
            return None;
        }
        return heal::exchange_now(view, member, Some(&target.name));
    }
    if let Err(notice) = gates::before(view, first) {
        return Some(view.wait_for(notice, Some(first)));
    }
    let action = action(is_given_in_place(view, first, target), leader == Some(first));
    Some(view.claim_member(action, first, &view.pod(first)?.uid, target.name.clone(), None))
}

/// How a member gets another revision.
const fn action(in_place: bool, leads: bool) -> Action {
    match leads {
        _ if in_place => Action::RelabelMember,
        true => Action::ReplaceLeader,
        false => Action::ReplaceMember,
    }
}

/// Whether a member's Pod becomes one of this revision without a restart.
pub(super) fn is_given_in_place(view: &View<'_>, member: &MemberName, target: &Revision) -> bool {
    let has = view.pod(member).and_then(|pod| view.revision(&pod.revision));
    has.is_some_and(|has| has.differs_in_metadata_alone(target))
}

/// Why the members change once more.
pub(super) const AFTER_THE_HOP_BEFORE: &str = "the next hop begins when the one before it is complete";

/// Whether a member may be brought to a stored revision by a change of its Pod, or by another one: where it keeps its data in
/// its Pod, only by a change in place.
pub(super) fn may_become(view: &View<'_>, member: &MemberName, revision: &str) -> bool {
    let in_place = || view.revision(revision).is_some_and(|to| is_given_in_place(view, member, to));
    !view.keeps_data_in_its_pod(member) || in_place()
}

/// What the whole cluster must have come to before the first member of a minor hop is touched.
fn before_a_minor_hop(view: &View<'_>, target: &Revision) -> Option<Next> {
    let Some(version) = view.cluster_version() else {
        let message = "etcd has not decided its cluster version yet; no hop begins before it has";
        return Some(view.wait_for(Notice::of(Code::ClusterVersionPending, message), None));
    };
    // It has begun: what it needed was there before its first member.
    if view.running_versions().iter().any(|runs| runs.minor > version) {
        return None;
    }
    // The hop before this one ends when every member knows the cluster version and has migrated its data.
    behind(view, version).or_else(|| snapshots::on_every_member(view, target))
}

/// After the last member of a minor hop etcd raises the cluster version by itself, on every member.
pub(super) fn the_cluster_version_has_moved(view: &View<'_>) -> Option<Next> {
    view.cluster_id()?;
    if view.held().is_some() {
        return None;
    }
    behind(view, view.target.as_ref()?.version.minor)
}

/// A member that still has an older cluster or storage version than this.
fn behind(view: &View<'_>, wanted: Minor) -> Option<Next> {
    let behind = view.world.answers.iter().find(|(_, answer)| {
        answer.cluster_version.is_some_and(|cluster| {
            cluster < wanted || answer.storage_version.is_some_and(|storage| storage < wanted)
        })
    });
    let (member, answer) = behind?;
    let (what, version) = match answer.cluster_version.filter(|version| *version < wanted) {
        Some(version) => ("cluster", version),
        None => ("storage", answer.storage_version?),
    };
    Some(Next::Wait(view.wait(
        Notice::of(Code::ClusterVersionPending, format!("{member} still has the {what} version {version}")),
        Some(member),
        "cluster-version".to_owned(),
        0,
    )))
}

/// Followers first, the leader last: so a roll moves leadership once.
pub(super) fn order(view: &View<'_>, mut members: Vec<MemberName>) -> Vec<MemberName> {
    let leader = view.leader();
    members.sort_by_key(|member| (Some(member) == leader, member.clone()));
    members
}

/// The next member that is down and that the change may bring up.
pub(super) fn next_to_mend<'a>(view: &View<'a>) -> Option<(MemberName, &'a PodFacts)> {
    if !may_mend(view) || !view.may_change_members() {
        return None;
    }
    let target = &view.target.as_ref()?.name;
    let outdated = view.outdated().into_iter().filter_map(|member| Some((view.pod(&member)?, member)));
    outdated
        .filter(|(pod, member)| {
            !pod.deleting && gates::is_down(view, member) && !is_beyond_a_revision(view, member)
        })
        .filter(|(_, member)| may_become(view, member, target))
        // What such a one needs may be a quorum first.
        .min_by_key(|(_, member)| view.is_kept_out_by_a_downgrade(member))
        .map(|(pod, member)| (member, pod))
}

/// Whether the change may be what brings a down member up. A hop to a new minor begins with all members up;
/// once another one runs it, a member that is down may follow.
pub(super) fn may_mend(view: &View<'_>) -> bool {
    match request::hop(view) {
        Some(Ok(Hop::Stay | Hop::Patch | Hop::Revert)) => true,
        Some(Ok(Hop::MinorUp)) => has_begun(view),
        Some(Ok(Hop::Downgrade) | Err(_)) | None => false,
    }
}

fn has_begun(view: &View<'_>) -> bool {
    let (Some(target), Some(version)) = (&view.target, view.known_cluster_version()) else { return false };
    let minor = target.version.minor;
    view.up_members().iter().any(|(_, up)| up.status.version.minor == minor)
        && snapshots::unproven(view, version, minor).is_empty()
}

/// Whether this member is the first one of a minor hop, on which the new version shows what it is worth.
pub(super) fn is_canary(view: &View<'_>, member: &MemberName) -> bool {
    let Some(target) = &view.target else { return false };
    matches!(request::hop(view), Some(Ok(Hop::MinorUp)))
        && view.members().iter().all(|other| other == member || view.revision_of(other) != Some(&target.name))
}

pub(super) fn changes_version(view: &View<'_>, target: &Revision) -> bool {
    !matches!(request::hop(view), Some(Ok(Hop::Revert)))
        && view.running_versions().iter().any(|version| *version != target.version)
}

/// The versions on the way, from the one that runs: in the middle of a hop, the one that is left.
pub(super) fn hops(view: &View<'_>) -> Vec<EtcdVersion> {
    let run = request::member_versions(view);
    let (Some(Ok(way)), true) = (&view.way, view.refusals().is_empty() && view.cluster_id().is_some()) else {
        return Vec::new();
    };
    let Some(next) = way.first() else { return Vec::new() };
    let left = run
        .into_iter()
        .filter(|runs| runs != next)
        .max_by_key(|runs| (runs.minor > next.minor, Reverse(*runs)));
    match left {
        Some(left) => std::iter::once(left).chain(way.iter().copied()).collect(),
        None if way.len() > 1 => way.clone(),
        None => Vec::new(),
    }
}

/// What is left, in order, each with why.
pub(super) fn outline(view: &View<'_>) -> Vec<StepStatus> {
    let Some(target) = view.target.as_ref().filter(|_| view.cluster_id().is_some()) else {
        return Vec::new();
    };
    if !view.refusals().is_empty() {
        return Vec::new();
    }
    let leader = view.leader();
    let mut steps = Vec::new();
    let claimed = view.claimed();
    if let Some((progress, member)) = &claimed {
        let to = view.revision(&progress.revision).map(|revision| revision.version.to_string());
        steps.push(StepStatus {
            action: progress.action,
            member: Some(member.to_string()),
            to,
            reason: "under way; see status.progress".to_owned(),
        });
    }
    let mut outdated = order(view, view.outdated());
    outdated.retain(|member| claimed.as_ref().is_none_or(|(_, claimed)| claimed != member));
    steps.extend(resize::members_to_add(view));
    steps.extend(volumes::volumes_to_grow(view));
    let at = view.known_cluster_version();
    steps.extend(take_snapshots(view, at, target.version));
    if super::probe::v2_data_matters_to(view).is_some() {
        steps.push(StepStatus {
            action: Action::ProbeVolumes,
            member: None,
            to: None,
            reason:
                "data of etcd's v2 API, on which 3.6 does not start, must be found before a member is touched"
                    .to_owned(),
        });
    }
    if super::probe::needed(view, &outdated, target) {
        steps.push(StepStatus {
            action: Action::ProbeImage,
            member: None,
            to: Some(target.image.clone()),
            reason: "an image that is missing or does not run must cost nothing".to_owned(),
        });
    }
    steps.extend(lower_cluster_version(at, target.version));
    let in_pods = view.keeps_data_in_pods();
    let mut numbers = Numbers::new(view);
    let mut to_exchange = Vec::new();
    for member in outdated {
        let runs = view.answer(&member).and_then(|answer| answer.status()).map(|status| status.version);
        let in_place = is_given_in_place(view, &member, target);
        let why = match runs {
            Some(version) if version != target.version => format!("it runs {version}"),
            Some(_) if snapshots::lowered_at(view, target.version).is_some() => {
                "it gets a lower snapshotCount until 3.7, for which every member takes a raft snapshot"
                    .to_owned()
            }
            Some(_) if in_place => "labels and annotations are given in place; nothing restarts".to_owned(),
            Some(_) => "its settings changed".to_owned(),
            None => "it is down, and the change may mend it".to_owned(),
        };
        if in_pods && !in_place {
            to_exchange.push((member, why));
            continue;
        }
        let leads = leader == Some(&member) && view.members().len() > 1;
        steps.push(StepStatus {
            action: action(in_place, leads),
            member: Some(member.to_string()),
            to: Some(target.version.to_string()),
            reason: match (leads, view.members().len()) {
                _ if in_place => why,
                (_, 1) => format!("{why}; it is the only one, so its restart is downtime"),
                (true, _) => format!("{why}; it leads, so it goes last, after MoveLeader"),
                (false, _) => why,
            },
        });
    }
    let too_many = resize::members_to_remove(view);
    let (first, last) = if in_pods { (too_many, Vec::new()) } else { (Vec::new(), too_many) };
    numbers.lose(view, &first);
    steps.extend(first);
    steps.extend(numbers.of_a_roll(to_exchange, target.version));
    steps.extend(await_etcd(at, target.version).or_else(|| await_the_rest(view, target.version.minor)));
    steps.extend(later_hops(view, target, &mut numbers));
    steps.extend(last);
    steps.extend(exchange::for_the_class(view));
    steps
}

/// The hops after the first, on the way from `target`.
fn later_hops(view: &View<'_>, target: &Revision, numbers: &mut Numbers) -> Vec<StepStatus> {
    let mut at = Some(target.version.minor);
    let order: Vec<MemberName> = order(view, view.members().iter().cloned().collect());
    let replace = |stop: &EtcdVersion| {
        let replaced = order.iter().map(|member| StepStatus {
            action: Action::ReplaceMember,
            member: Some(member.to_string()),
            to: Some(stop.to_string()),
            reason: AFTER_THE_HOP_BEFORE.to_owned(),
        });
        replaced.collect()
    };
    let mut steps = Vec::new();
    for stop in view.way.iter().flatten().flatten().skip(1) {
        steps.extend(take_snapshots(view, at, *stop));
        steps.extend(lower_cluster_version(at, *stop));
        let exchanged = view.keeps_data_in_pods().then(|| numbers.of_the_next_hop(*stop));
        steps.extend(exchanged.unwrap_or_else(|| replace(stop)));
        steps.extend(await_etcd(at, *stop));
        at = Some(stop.minor);
    }
    steps
}

/// The raft snapshots that are due before the hop to `stop`.
fn take_snapshots(view: &View<'_>, at: Option<Minor>, stop: EtcdVersion) -> Option<StepStatus> {
    let due = !snapshots::unproven(view, at?, stop.minor).is_empty();
    due.then(|| StepStatus {
        action: Action::TakeSnapshots,
        member: None,
        to: None,
        reason: format!(
            "{} cannot read raft entries that 3.5 wrote; no restart is needed for it",
            stop.minor
        ),
    })
}

/// The beginning of a minor hop down.
fn lower_cluster_version(at: Option<Minor>, stop: EtcdVersion) -> Option<StepStatus> {
    at.is_some_and(|version| version > stop.minor).then(|| StepStatus {
        action: Action::EnableDowngrade,
        member: None,
        to: Some(stop.minor.to_string()),
        reason:
            "etcd lowers the cluster version and migrates each member's data before a lower binary starts; \
                 it needs no restart"
                .to_owned(),
    })
}

/// The end of a minor hop: etcd has the last word.
fn await_etcd(at: Option<Minor>, stop: EtcdVersion) -> Option<StepStatus> {
    let (action, reason) = match at?.cmp(&stop.minor) {
        Ordering::Less => (
            Action::AwaitClusterVersion,
            "etcd raises it by itself once all members run the new minor; from then on only a downgrade leads back",
        ),
        Ordering::Greater => {
            (Action::AwaitDowngrade, "etcd ends the downgrade by itself once all members run it")
        }
        Ordering::Equal => return None,
    };
    Some(StepStatus { action, member: None, to: Some(stop.minor.to_string()), reason: reason.to_owned() })
}

/// The same where all members have come to the end, and one of them or the job is a moment behind: until then the plan
/// has not ended.
fn await_the_rest(view: &View<'_>, minor: Minor) -> Option<StepStatus> {
    view.world.cluster.status.plan.as_ref()?;
    let action = match view.world.downgrade_job {
        DowngradeJob::To(to) if to == minor => Action::AwaitDowngrade,
        DowngradeJob::Somewhere => Action::AwaitDowngrade,
        _ => behind(view, minor).map(|_| Action::AwaitClusterVersion)?,
    };
    let reason = "etcd does that by itself, in a few seconds".to_owned();
    Some(StepStatus { action, member: None, to: Some(minor.to_string()), reason })
}
