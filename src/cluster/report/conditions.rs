//! Conditions, by the rules of kstatus: `Reconciling` and `Stalled` are there only while true, never
//! both, and come first. `Ready` says converged, `Available` says serving.

use super::{Outcome, certificates};
use crate::api::{Action, Code, ConditionType, EtcdClusterStatus, condition};
use crate::cluster::names::{MemberName, listed};
use crate::cluster::notice::Notice;
use crate::cluster::objects::claim::Purpose;
use crate::cluster::observation::{Answer, Observation, Patience, Stage};
use crate::cluster::plan::{Next, Plan, Record, Step};
use crate::cluster::spec;
use crate::etcd::{Alarm, DowngradeCall};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use std::time::Duration;

/// What the cluster is doing, as one word and one sentence.
pub(super) struct Mood {
    /// A person must act.
    pub stalled: Option<Notice>,
    /// Work is under way.
    pub working: Option<Notice>,
}

pub(super) fn of(
    world: &Observation,
    plan: &Plan,
    outcome: &Outcome,
    status: &EtcdClusterStatus,
    docs_url: Option<&str>,
) -> Vec<Condition> {
    let mood = mood(world, plan, outcome);
    let generation = world.cluster.generation;
    let before = &world.cluster.status.conditions;
    let make = |kind, status, code: Code, message: String| {
        condition(kind, status, code, message, generation, world.now, before)
    };
    let with_link = |notice: &Notice| match docs_url {
        // Whatever a person must look at.
        Some(base) if mood.stalled.is_some() => {
            format!("{notice} (see {base}/refusals.md#{})", notice.code.as_str().to_lowercase())
        }
        _ => notice.to_string(),
    };
    let mut conditions = Vec::new();
    if let Some(notice) = &mood.stalled {
        conditions.push(make(ConditionType::Stalled, true, notice.code, with_link(notice)));
    } else if let Some(notice) = &mood.working {
        conditions.push(make(ConditionType::Reconciling, true, notice.code, with_link(notice)));
    }
    let (available, code, message) = available(world);
    conditions.push(make(ConditionType::Available, available, code, message));
    conditions.push(match mood.stalled.as_ref().or(mood.working.as_ref()) {
        // A standing refusal must not hide that a member is down.
        Some(notice) => {
            let ready = status.members_ready.as_deref().unwrap_or("0");
            let message = format!("{ready} members ready; {}", with_link(notice));
            make(ConditionType::Ready, false, notice.code, message)
        }
        None if plan.converged => {
            let members = world.answers.len();
            make(
                ConditionType::Ready,
                true,
                Code::Converged,
                format!("all {members} members run what the spec says and are healthy"),
            )
        }
        None => {
            let (code, why) = if world.cluster.deleting {
                (Code::Deleting, "the cluster is being deleted")
            } else {
                (Code::Paused, "spec.paused is true, and not all is as the spec says")
            };
            let ready = status.members_ready.as_deref().unwrap_or("0");
            make(ConditionType::Ready, false, code, format!("{ready} members ready; {why}"))
        }
    });
    if let Some((valid, code, message)) = certificates::are_valid(world) {
        conditions.push(make(ConditionType::CertificatesValid, valid, code, message));
    }
    if matches!(plan.next, Next::Paused) {
        conditions.push(make(
            ConditionType::Paused,
            true,
            Code::Paused,
            "spec.paused is true: nothing is touched".to_owned(),
        ));
    }
    conditions
}

pub(super) fn mood(world: &Observation, plan: &Plan, outcome: &Outcome) -> Mood {
    let mut mood = Mood { stalled: None, working: None };
    match &plan.next {
        Next::Do(step) if outcome.refused.is_some() => {
            if has_been_refused_for_too_long(world, step) {
                mood.stalled.clone_from(&outcome.refused);
            } else {
                mood.working.clone_from(&outcome.refused);
            }
        }
        // Tidying up and taking notes are no work that anybody waits for.
        Next::Do(_) if plan.converged => {}
        Next::Do(step) => mood.working = Some(doing(step)),
        Next::Wait(wait) if wait.overdue && !wait.close && !plan.refusals.is_empty() => {}
        Next::Wait(wait) if wait.overdue || wait.notice.is_refusal() => {
            let remedy = &wait.notice.remedy;
            let ran_out = world.patience.without_progress >= wait.deadline;
            let message = if wait.overdue && ran_out && !wait.notice.is_refusal() {
                format!("{}; no progress for {} s — {remedy}", wait.notice.message, wait.deadline.as_secs())
            } else if wait.notice.is_refusal() {
                wait.notice.message.clone()
            } else {
                format!("{} — {remedy}", wait.notice.message)
            };
            mood.stalled = Some(Notice { message, ..wait.notice.clone() });
        }
        // A refusal needs a person at once; what is not under way by our hand can be read beside it.
        Next::Wait(wait) if !wait.close && !plan.refusals.is_empty() => {}
        Next::Wait(wait) => mood.working = Some(wait.notice.clone()),
        Next::Refused | Next::Paused | Next::Settled => {}
    }
    if mood.working.is_none() && mood.stalled.is_none() && !matches!(plan.next, Next::Paused) {
        mood.stalled = plan.refusals.first().cloned();
    }
    mood
}

fn has_been_refused_for_too_long(world: &Observation, step: &Step) -> bool {
    const DEADLINE: Duration = Duration::from_mins(5);
    let deadline = spec::parse(&world.cluster.spec).map_or(DEADLINE, |desired| desired.member_deadline);
    let patience = &world.patience;
    patience.subject == Patience::subject_of_refused(step) && patience.without_progress >= deadline
}

fn doing(step: &Step) -> Notice {
    let (code, message) = match step {
        Step::Record(record) => recorded(record),
        Step::CreateClaims { purpose: Purpose::Bootstrap(..), .. } => {
            (Code::Bootstrapping, FIRST_MEMBERS.to_owned())
        }
        Step::CreateClaims { members, .. } => {
            (Code::MemberJoining, format!("what is to keep the data is made for {}", listed(members.iter())))
        }
        Step::Guard(guarded) => (
            Code::MemberStarting,
            format!("{} have their data, and are guarded", listed(guarded.iter().map(|it| &it.member))),
        ),
        Step::AddMember { member, .. } => {
            (Code::MemberJoining, format!("{member} is added to etcd's members as a learner"))
        }
        Step::PromoteMember { member, .. } => {
            (Code::MemberJoining, format!("{member} is in sync and gets its vote"))
        }
        Step::Relabel { member, .. } => (
            Code::MemberUpdated,
            format!("the Pod of {member} gets its labels and annotations as they are to be"),
        ),
        Step::LabelVoter { member, .. } => (Code::MemberJoining, format!("{member} has its vote")),
        Step::RemoveMember(removal) => {
            (Code::MemberRemoved, format!("{} is removed from etcd's members", removal.member()))
        }
        Step::DiscardPod { member, .. } => {
            (Code::MemberStopping, format!("the Pod of {member}, which is not needed any more, is removed"))
        }
        Step::SetAside { member, .. } => (
            Code::VolumeSetAside,
            format!("the volume of {member}, which is no member any more, is kept aside"),
        ),
        Step::TakeBack(_)
        | Step::NoteForced(_)
        | Step::LeaveAlone { .. }
        | Step::CreateRecoveryPod(_)
        | Step::DeleteRecoveryPods(_) => (Code::Recovering, recovering(step)),
        Step::ExpandClaim { member, size } => {
            (Code::VolumeGrowing, format!("the volume of {member} is to be {}", size.as_str()))
        }
        Step::Stop(proven) => (Code::MemberStopping, format!("{} is stopped", proven.member())),
        Step::Disarm { alarm, .. } => (Code::AlarmActive, format!("takes the alarm {alarm} back")),
        Step::Compact { revision, .. } => {
            (Code::NoSpace, format!("forgets the history of the keys before revision {revision}"))
        }
        Step::Defragment { member } => (Code::Defragmenting, format!("{member} is defragmented")),
        Step::MoveLeader { from, to, .. } => {
            (Code::LeaderMoving, format!("leadership is handed from {from} to {to}"))
        }
        Step::CreatePods(pods) => {
            (Code::MemberStarting, format!("starting {}", listed(pods.iter().map(|pod| &pod.member))))
        }
        Step::Assign { members, .. } => {
            (Code::MemberStarting, format!("the next revision is noted for {}", listed(members.iter())))
        }
        Step::RemovePod { member, reason, .. } => {
            (Code::MemberStarting, format!("the Pod of {member} is removed: {reason}"))
        }
        Step::CreateProbes(_) | Step::DeleteProbes(_) => {
            (Code::ImageProbing, "what the way needs is tried out before a member is touched".to_owned())
        }
        Step::CreateAuthority { .. } => {
            (Code::CertificatesIssued, "the CA of the cluster's certificates is made".to_owned())
        }
        Step::IssueCertificates(pairs) => {
            (Code::CertificatesIssued, format!("certificates are made: {}", certificates::listed(pairs)))
        }
        Step::DeleteAuthority { .. } => (Code::VolumesDeleting, "the CA is deleted".to_owned()),
        Step::DeleteClaims(_) => (Code::VolumesDeleting, "the volumes are deleted".to_owned()),
        Step::NoteMembers { .. } | Step::NoteVoters { .. } => {
            (Code::MemberUpdated, "what etcd says of its members is noted on their claims".to_owned())
        }
        Step::NoteFirstPods(first) => (
            Code::Bootstrapping,
            format!("what the first Pods have come to is noted for {}", listed(first.keys())),
        ),
        Step::NoteSnapshots(_) | Step::Propose { .. } => {
            (Code::SnapshotPending, "raft snapshots are taken, so that 3.7 can read the data".to_owned())
        }
        Step::Downgrade { call: DowngradeCall::Enable(minor), .. } => {
            (Code::DowngradePending, format!("etcd is asked to lower the cluster version to {minor}"))
        }
        Step::Downgrade { call: DowngradeCall::Cancel, .. } => {
            (Code::DowngradePending, "a downgrade job that leads elsewhere is cancelled".to_owned())
        }
        Step::ApplySupport { .. } => {
            (Code::SupportApplied, "Services and the disruption budget are brought in line".to_owned())
        }
        Step::SetFinalizer(_) | Step::StoreRevision(_) | Step::DeleteRevisions(_) => {
            (Code::RolloutStarted, "what the spec asks for is written down".to_owned())
        }
    };
    Notice::of(code, message)
}

const FIRST_MEMBERS: &str = "the first members are started";

fn recorded(record: &Record) -> (Code, String) {
    match record {
        Record::Bootstrap(_) | Record::Formed(_) => (Code::Bootstrapping, FIRST_MEMBERS.to_owned()),
        Record::Adopted { cluster_id, .. } => {
            (Code::ClusterAdopted, format!("volumes of cluster {cluster_id} are taken over"))
        }
        Record::Claim(claim) if claim.action == Action::Recover => {
            (Code::Recovering, format!("the cluster is made anew from {}", claim.member))
        }
        Record::Claim(claim) => {
            let what = match claim.action {
                Action::AddMember => "added",
                Action::RemoveMember | Action::RetireMember => "removed",
                _ => "replaced",
            };
            (Code::RolloutStarted, format!("{} is next to be {what}", claim.member))
        }
        Record::Release { member, .. } => (Code::MemberUpdated, format!("{member} is released")),
        Record::Withdraw { member } => (Code::MemberUpdated, format!("the claim on {member} is withdrawn")),
    }
}

fn recovering(step: &Step) -> String {
    match step {
        Step::TakeBack(members) => format!("the volumes of {} are taken back", listed(members.iter())),
        Step::LeaveAlone { member, .. } => format!("{member} is to vote alone"),
        Step::NoteForced(member) => format!("{member} votes alone"),
        Step::CreateRecoveryPod(new) if new.stage == Stage::Copy => format!("{} is copied", new.member),
        Step::CreateRecoveryPod(new) => format!("{} is forced to be a cluster of its own", new.member),
        Step::DeleteRecoveryPods(pods) => {
            let names: Vec<&str> = pods.iter().map(|(name, _)| name.as_str()).collect();
            format!("{} has done its work", names.join(", "))
        }
        step => step.name().to_owned(),
    }
}

fn available(world: &Observation) -> (bool, Code, String) {
    let alarms: Vec<Alarm> =
        world.answers.values().filter_map(Answer::status).flat_map(|status| status.alarms.clone()).collect();
    if alarms.contains(&Alarm::Corrupt) {
        return (false, Code::Corrupt, Code::Corrupt.meaning().to_owned());
    }
    if alarms.contains(&Alarm::NoSpace) {
        let quota = Code::NoSpace;
        return (false, quota, format!("{} — {}", quota.meaning(), quota.remedy()));
    }
    if world.answers.values().any(|answer| answer.read.is_ok()) {
        return (true, Code::Serving, Code::Serving.meaning().to_owned());
    }
    if world.cluster.status.cluster_id.is_none() {
        return (false, Code::Bootstrapping, "the cluster has not formed yet".to_owned());
    }
    let remedy = Code::QuorumLost.remedy();
    (
        false,
        Code::QuorumLost,
        format!("no member serves a linearizable read; {} — {remedy}", who_is_left(world)),
    )
}

/// Who does not answer, and what those who do would know. Without a quorum nothing is committed, so that it stays.
fn who_is_left(world: &Observation) -> String {
    let members = world
        .noted_voters()
        .map_or_else(|| world.claims.keys().collect(), |voters| voters.keys().collect::<Vec<_>>());
    let knows = |member: &MemberName| world.answers.get(member).and_then(Answer::knows);
    let gone = members.iter().filter(|member| knows(member).is_none()).map(|member| {
        match world.pods.get(*member).map(|pod| pod.node.as_ref()) {
            Some(Some(node)) => format!("{member} (on {node})"),
            Some(None) => format!("{member} (on no node)"),
            None if world.claims.contains_key(*member) => format!("{member} (no Pod)"),
            None if world.set_aside.contains_key(*member) => format!("{member} (volume set aside)"),
            None if spec::keeps_data_in_pods(&world.cluster.spec) => format!("{member} (no Pod)"),
            None => format!("{member} (no volume claim)"),
        }
    });
    let left = members.iter().filter_map(|member| {
        let (revision, index) = knows(member)?;
        Some(format!("{member} (raft index {index}, revision {revision})"))
    });
    let list = |names: Vec<String>| if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
    format!("gone: {}; left: {}", list(gone.collect()), list(left.collect()))
}
