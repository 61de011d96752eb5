//! Report: makes status, conditions and Events from what was observed, planned and done. Pure.

mod certificates;
mod conditions;
mod effective;
mod events;
mod members;
mod quorum;
#[cfg(test)]
mod tests;
mod warnings;

pub use events::News;
pub use quorum::quorum_loss;

use super::names::MemberName;
use super::notice::Notice;
use super::observation::{Answer, Observation};
use super::plan::{Claim, Next, Plan, REPLACED, Record, Step, Wait};
use super::spec;
use crate::api::{
    Action, Code, ConditionType, EtcdClusterStatus, FailureStatus, PlanStatus, ProgressStatus,
    RecoveryStatus, RefusalStatus, ReplacementStatus, RoomStatus, find_condition, labels,
};
use crate::etcd::{Alarm, EtcdVersion};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What came of the step that was carried out.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What the API server said no to; the step is tried again.
    pub refused: Option<Notice>,
    /// The log of a member that is given up.
    pub log: Option<String>,
}

impl Outcome {
    /// The answer was no.
    pub fn refused(code: Code, message: impl Into<String>) -> Self {
        Self { refused: Some(Notice::of(code, message)), log: None }
    }
}

/// What is written and said after a pass.
#[derive(Clone, Debug)]
pub struct Report {
    /// The new status. Written only where it differs from the old one.
    pub status: EtcdClusterStatus,
    /// What happened, once each.
    pub news: Vec<News>,
}

/// Makes the report of a pass. `docs_url` is the base of the pages that explain codes.
pub fn report(world: &Observation, plan: &Plan, outcome: &Outcome, docs_url: Option<&str>) -> Report {
    let mut status = world.cluster.status.clone();
    if let (Next::Do(Step::Record(record)), None) = (&plan.next, &outcome.refused) {
        record_in(&mut status, record, outcome, world);
    }
    if let (Next::Do(step), None) = (&plan.next, &outcome.refused) {
        make_room(&mut status, step, world.now);
    }
    // Whoever took the alarm back.
    let mut statuses = world.answers.values().filter_map(Answer::status).peekable();
    if statuses.peek().is_some() && !statuses.any(|status| status.alarms.contains(&Alarm::NoSpace)) {
        status.room = None;
    }
    status.quorum_loss = quorum_loss(world, &status);
    members::fill(&mut status, world);
    let parsed = spec::parse(&world.cluster.spec);
    if let Ok(desired) = &parsed {
        status.target_version = Some(desired.version.to_string());
        status.effective = effective::of(world, desired).or(status.effective);
    }
    status.warnings = parsed.map(|desired| warnings::of(world, &desired)).unwrap_or_default();
    status.certificates = certificates::in_use(world);
    status.observed_generation = Some(world.cluster.generation);
    status.selector = Some(format!(
        "{}={},{}={}",
        labels::CLUSTER,
        world.cluster.name,
        labels::COMPONENT,
        labels::COMPONENT_MEMBER
    ));
    status.plan = (!plan.steps.is_empty() || !plan.hops.is_empty()).then(|| PlanStatus {
        hash: plan.intent.as_ref().map(|intent| intent.hash.clone()),
        approved: plan.intent.as_ref().and_then(|intent| intent.approved),
        becomes: plan.intent.as_ref().map(|intent| intent.becomes.clone()),
        replicas: plan.intent.as_ref().and_then(|intent| intent.replicas),
        storage: plan.intent.as_ref().and_then(|intent| intent.storage.clone()),
        hops: plan.hops.iter().map(EtcdVersion::to_string).collect(),
        steps: plan.steps.clone(),
    });
    status.progress = progress(&status, plan, outcome, world);
    status.refusals = plan
        .refusals
        .iter()
        .map(|notice| RefusalStatus {
            code: notice.code,
            message: notice.message.clone(),
            remedy: notice.remedy.clone(),
        })
        .collect();
    status.conditions = conditions::of(world, plan, outcome, &status, docs_url);
    settle(&mut status, world.now);
    let news = events::news(world, plan, outcome, &status);
    Report { status, news }
}

/// How long a cluster must have been Ready before another member is replaced by itself.
const SETTLED_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// A replacement has settled once the cluster has been Ready for an hour since.
fn settle(status: &mut EtcdClusterStatus, now: Timestamp) {
    let ready =
        find_condition(&status.conditions, ConditionType::Ready).filter(|ready| ready.status == "True");
    let Some(since) = ready.map(|ready| ready.last_transition_time.0) else { return };
    if let Some(last) = status.last_replacement.as_mut().filter(|last| !last.settled) {
        last.settled = now.duration_since(since.max(last.time.0)) >= SETTLED_AFTER;
    }
}

/// Writes a fact of the planner into the status.
fn record_in(status: &mut EtcdClusterStatus, record: &Record, outcome: &Outcome, world: &Observation) {
    match record {
        Record::Bootstrap(bootstrap) => {
            status.last_member_number = Some(bootstrap.members - 1);
            status.bootstrap = Some(bootstrap.clone());
        }
        Record::Formed(cluster_id) => {
            status.cluster_id = Some(cluster_id.to_string());
            status.bootstrap = None;
            status.progress = None;
        }
        Record::Adopted { cluster_id, last_member_number } => {
            status.cluster_id = Some(cluster_id.to_string());
            let last = i32::try_from(*last_member_number).unwrap_or(i32::MAX);
            status.last_member_number = Some(status.last_member_number.unwrap_or_default().max(last));
            status.bootstrap = None;
        }
        Record::Claim(claim) => {
            remember(status, claim, world.now);
            status.progress = Some(claimed(claim, world));
            if let Some(failure) = &claim.failure {
                let mut failure = FailureStatus::clone(failure);
                failure.log = outcome.log.clone().or(failure.log);
                status.last_failure = Some(failure);
            }
        }
        Record::Release { member, action } => release(status, member, *action),
        Record::Withdraw { member } => withdraw(status, member),
    }
}

/// What outlives a claim: that a number is used, and that a member is replaced. Before the claim is written.
pub fn remember(status: &mut EtcdClusterStatus, claim: &Claim, now: Timestamp) {
    match claim.action {
        Action::AddMember => {
            let number = i32::try_from(claim.member.number()).ok();
            status.last_member_number = status.last_member_number.max(number);
        }
        // A number for the copy, once: the claim is written anew on the way.
        Action::Recover if status.progress.as_ref().is_none_or(|before| before.action != Action::Recover) => {
            status.last_member_number = Some(status.last_member_number.unwrap_or_default() + 1);
        }
        Action::RetireMember => {
            let (member, time) = (claim.member.to_string(), Time(now));
            // One whose replacement votes already was no loss.
            let settled = claim.why.as_deref() == Some(REPLACED);
            status.last_replacement = Some(ReplacementStatus { member, time, settled });
        }
        _ => {}
    }
}

/// What the status remembers of a step that makes room, which may go on after its answer. Where it is not written the step
/// is done once more.
pub fn make_room(status: &mut EtcdClusterStatus, step: &Step, now: Timestamp) {
    match step {
        Step::Compact { revision, .. } => {
            status.room = Some(RoomStatus { revision: *revision, time: Time(now), defragmented: Vec::new() });
        }
        Step::Defragment { member } => {
            if let Some(room) = &mut status.room {
                room.defragmented.push(member.to_string());
            }
        }
        _ => {}
    }
}

/// Ends a claim under which nothing was touched.
pub fn withdraw(status: &mut EtcdClusterStatus, member: &MemberName) {
    let retired = status.progress.take().is_some_and(|progress| progress.action == Action::RetireMember);
    status.last_replacement.take_if(|last| retired && last.member == member.to_string());
}

/// Ends a claim whose member is back.
pub fn release(status: &mut EtcdClusterStatus, member: &MemberName, action: Action) {
    let progress = status.progress.take();
    if action == Action::Recover {
        status.last_recovery = recovered(status, member, progress.as_ref());
        status.quorum_loss = None;
    }
    let released = progress.filter(|_| action.follows_the_spec()).map(|it| it.revision);
    // What failed once has come up.
    status.last_failure.take_if(|failure| {
        failure.member == member.to_string() && Some(&failure.revision) == released.as_ref()
    });
}

fn recovered(
    status: &EtcdClusterStatus,
    member: &MemberName,
    progress: Option<&ProgressStatus>,
) -> Option<RecoveryStatus> {
    let loss = status.quorum_loss.as_ref();
    let survivor = loss.and_then(|loss| loss.survivor(&member.to_string()));
    let copy = status.last_member_number.and_then(|number| u32::try_from(number).ok())?;
    Some(RecoveryStatus {
        incident: progress?.reason.clone().unwrap_or_default(),
        member: member.to_string(),
        // Not known where the status was lost on the way.
        revision: survivor.map(|survivor| survivor.revision).unwrap_or_default(),
        time: progress?.since.clone(),
        copy: member.sibling(copy).claim(),
    })
}

fn claimed(claim: &Claim, world: &Observation) -> ProgressStatus {
    ProgressStatus {
        step: None,
        steps: None,
        action: claim.action,
        member: claim.member.to_string(),
        revision: claim.revision.clone(),
        pod_uid: Some(claim.pod_uid.clone()),
        waiting_for: None,
        reason: claim.why.clone(),
        since: Time(claim.since),
        deadline: spec::parse(&world.cluster.spec).ok().map(|desired| seconds(desired.member_deadline)),
    }
}

/// The claim, with what it waits for; or, without a claim, whatever else is under way.
fn progress(
    status: &EtcdClusterStatus,
    plan: &Plan,
    outcome: &Outcome,
    world: &Observation,
) -> Option<ProgressStatus> {
    let wait = match &plan.next {
        Next::Wait(wait) => Some(wait),
        _ => None,
    };
    let words =
        outcome.refused.as_ref().or(wait.map(|wait| &wait.notice)).map(|notice| notice.message.clone());
    if let Some(claim) = status.progress.clone().filter(|progress| progress.action.is_claim()) {
        if !claim.action.gives_a_revision() {
            return Some(ProgressStatus { waiting_for: words, ..claim });
        }
        let members = status.members.len();
        let done = world
            .pods
            .values()
            .filter(|pod| pod.revision == claim.revision && Some(&pod.uid) != claim.pod_uid.as_ref())
            .count();
        let current = usize::from(
            world
                .pods
                .iter()
                .any(|(member, pod)| member.to_string() == claim.member && pod.revision == claim.revision),
        );
        return Some(ProgressStatus {
            step: i32::try_from(done - current.min(done) + 1).ok(),
            steps: i32::try_from(members.max(1)).ok(),
            waiting_for: words,
            ..claim
        });
    }
    let wait = wait?;
    let action = other_action(wait)?;
    let before = status.progress.as_ref().filter(|before| before.action == action);
    Some(ProgressStatus {
        step: None,
        steps: None,
        action,
        member: wait.member.as_ref().map(ToString::to_string).unwrap_or_default(),
        revision: String::new(),
        pod_uid: None,
        waiting_for: words,
        reason: None,
        since: before.map_or(Time(world.now), |before| before.since.clone()),
        deadline: Some(seconds(wait.deadline)),
    })
}

fn other_action(wait: &Wait) -> Option<Action> {
    match wait.notice.code {
        Code::Bootstrapping => Some(Action::Bootstrap),
        Code::ImageProbing | Code::ImageUnavailable => Some(Action::ProbeImage),
        Code::V2DataUnknown | Code::V2DataFound => Some(Action::ProbeVolumes),
        Code::ClusterVersionPending => Some(Action::AwaitClusterVersion),
        Code::DowngradePending => Some(Action::AwaitDowngrade),
        Code::SnapshotPending => Some(Action::TakeSnapshots),
        Code::VolumesDeleting => Some(Action::DeleteVolumes),
        Code::MemberStarting | Code::PodUnschedulable | Code::MemberDown => Some(Action::StartMember),
        _ => None,
    }
}

fn seconds(span: std::time::Duration) -> String {
    format!("{}s", span.as_secs())
}
