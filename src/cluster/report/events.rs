//! Events: what happened, once each, with the same words as conditions and logs.

use super::conditions::mood;
use super::{Outcome, certificates};
use crate::api::{Action, Code, ConditionType, EtcdClusterStatus, PlanStatus, Severity, find_condition};
use crate::cluster::names::MemberName;
use crate::cluster::notice::{Notice, how_it_failed};
use crate::cluster::observation::Observation;
use crate::cluster::plan::{Claim, Next, Plan, Record, Step};
use crate::etcd::DowngradeCall;

/// What a change waits for before it begins.
const HOLDS: [Code; 3] = [Code::RolloutPaused, Code::ApprovalPending, Code::OutsideWindow];

/// One Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Its reason.
    pub code: Code,
    /// What was done or tried, e.g. `ReplaceMember`.
    pub action: &'static str,
    /// The sentence.
    pub note: String,
    /// The Pod that it is about.
    pub pod: Option<String>,
}

impl News {
    /// Whether it is a warning.
    pub fn is_warning(&self) -> bool {
        self.code.severity() != Severity::News
    }

    fn new(code: Code, action: &'static str, note: impl Into<String>) -> Self {
        Self { code, action, note: note.into(), pod: None }
    }

    fn about(mut self, pod: &impl ToString) -> Self {
        self.pod = Some(pod.to_string());
        self
    }
}

pub(super) fn news(
    world: &Observation,
    plan: &Plan,
    outcome: &Outcome,
    status: &EtcdClusterStatus,
) -> Vec<News> {
    let mut news = match (&plan.next, &outcome.refused) {
        (Next::Do(step), None) => done(step, status),
        _ => Vec::new(),
    };
    let old = &world.cluster.status;
    let hold = match &plan.next {
        Next::Wait(wait) if HOLDS.contains(&wait.notice.code) => Some(&wait.notice),
        _ => None,
    };
    let before = find_condition(&old.conditions, ConditionType::Reconciling)
        .and_then(|condition| HOLDS.into_iter().find(|code| code.as_str() == condition.reason));
    if let Some(notice) = hold.filter(|notice| before != Some(notice.code)) {
        news.push(News::new(notice.code, "Hold", format!("{} — {}", notice.message, notice.remedy)));
    }
    let waited = before.is_some() || old.plan.as_ref().is_some_and(|plan| plan.approved == Some(false));
    let begins = plan.held.is_none() && (old.plan.is_none() || waited);
    if let Some(begun) = status.plan.as_ref().filter(|_| begins) {
        let target = status.target_version.as_deref().unwrap_or_default();
        let note = format!("members are changed one at a time: {}; target {target}", who_is_next(begun));
        news.push(News::new(Code::RolloutStarted, "Roll", note));
    }
    if old.plan.is_some() && plan.converged && status.progress.is_none() {
        let version = status.version.as_deref().unwrap_or("the wanted version");
        news.push(News::new(
            Code::RolloutCompleted,
            "Roll",
            format!("every member runs {version} as the spec says"),
        ));
    }
    // Both are told once; the condition goes on saying them, also to an operator that has just started.
    // What etcd takes not yet is a matter of seconds.
    let is_news = |notice: &&Notice| notice.code != Code::MembershipPending && !said_before(world, notice);
    if let Some(notice) = outcome.refused.as_ref().filter(is_news) {
        news.push(News::new(notice.code, "Try", notice.message.clone()));
    }
    if let Some(notice) =
        mood(world, plan, outcome).stalled.filter(|notice| !stalled_before(world, notice, status))
    {
        let said = notice.message.contains(&notice.remedy);
        let note = if said { notice.message } else { format!("{} — {}", notice.message, notice.remedy) };
        news.push(News::new(notice.code, "Refuse", note));
    }
    news
}

/// The members of a plan in its order, with what is done to those who join or leave.
fn who_is_next(plan: &PlanStatus) -> String {
    let members = plan.steps.iter().filter_map(|step| {
        let member = step.member.as_deref()?;
        Some(match step.action {
            Action::AddMember => format!("{member} joins"),
            Action::RemoveMember | Action::RetireMember => format!("{member} leaves"),
            _ => member.to_owned(),
        })
    });
    members.collect::<Vec<_>>().join(", ")
}

/// Whether the conditions said this of the same spec: that the API server or a member says no.
fn said_before(world: &Observation, notice: &Notice) -> bool {
    let kinds = [ConditionType::Reconciling, ConditionType::Stalled];
    kinds.into_iter().filter_map(|kind| find_condition(&world.cluster.status.conditions, kind)).any(|old| {
        old.reason == notice.code.as_str()
            && old.observed_generation == Some(world.cluster.generation)
            && old.message.contains(&notice.message)
    })
}

/// Whether it was stalled for the same reason under the same spec, and for a refusal, in the same words. What
/// a wait past its deadline says of a container goes to and fro.
fn stalled_before(world: &Observation, notice: &Notice, status: &EtcdClusterStatus) -> bool {
    let old = find_condition(&world.cluster.status.conditions, ConditionType::Stalled);
    let new = find_condition(&status.conditions, ConditionType::Stalled);
    old.zip(new).is_some_and(|(old, new)| {
        old.reason == new.reason
            && old.observed_generation == new.observed_generation
            && (old.message == new.message || !notice.is_refusal())
    })
}

fn done(step: &Step, status: &EtcdClusterStatus) -> Vec<News> {
    match step {
        Step::Record(Record::Formed(id)) => {
            vec![News::new(Code::ClusterFormed, "Bootstrap", format!("cluster {id} has formed"))]
        }
        Step::Record(Record::Adopted { cluster_id, .. }) => {
            vec![News::new(
                Code::ClusterAdopted,
                "Adopt",
                format!("took over the volumes of cluster {cluster_id}"),
            )]
        }
        Step::Record(Record::Claim(claim)) => begun(claim, status).into_iter().collect(),
        Step::Record(Record::Release { member, action: Action::Recover }) => recovered(member, status),
        // What was done was told when it was done.
        Step::Record(Record::Release { action, .. }) if !action.gives_a_revision() => Vec::new(),
        Step::Record(Record::Release { member, action }) => {
            let code = if *action == crate::api::Action::PutBack {
                Code::MemberPutBack
            } else {
                Code::MemberUpdated
            };
            let version = status.members.iter().find(|row| row.name == member.to_string());
            let version = version.and_then(|row| row.version.as_deref()).unwrap_or("its version");
            vec![
                News::new(
                    code,
                    "ReplaceMember",
                    format!("{member} runs {version}, votes and answers linearizable reads"),
                )
                .about(member),
            ]
        }
        Step::Stop(proven) => vec![
            News::new(
                Code::MemberStopped,
                "ReplaceMember",
                format!("{} was evicted to be replaced", proven.member()),
            )
            .about(proven.member()),
        ],
        Step::MoveLeader { from, to, .. } => vec![
            News::new(Code::LeaderMoved, "MoveLeader", format!("leadership moved from {from} to {to}"))
                .about(from),
        ],
        Step::Downgrade { call: DowngradeCall::Enable(minor), .. } => vec![News::new(
            Code::DowngradeBegun,
            "EnableDowngrade",
            format!("etcd lowers the cluster version to {minor}; then members are replaced one at a time"),
        )],
        Step::Downgrade { call: DowngradeCall::Cancel, .. } => vec![News::new(
            Code::DowngradeCancelled,
            "CancelDowngrade",
            "an enabled downgrade job does not lead to spec.version and was cancelled",
        )],
        Step::CreatePods(pods) => pods
            .iter()
            .map(|pod| {
                News::new(
                    Code::MemberCreated,
                    "StartMember",
                    format!("created the Pod of {} from revision {}", pod.member, pod.revision),
                )
                .about(&pod.member)
            })
            .collect(),
        Step::IssueCertificates(pairs) => {
            let note = format!("made certificates: {}", certificates::listed(pairs));
            vec![News::new(Code::CertificatesIssued, "IssueCertificates", note)]
        }
        Step::DeleteClaims(members) => vec![News::new(
            Code::VolumesDeleted,
            "DeleteVolumes",
            format!(
                "deleted {}, as storage.retentionPolicy says",
                members.iter().map(MemberName::claim).collect::<Vec<_>>().join(", ")
            ),
        )],
        step => of_the_member_list(step),
    }
}

/// Why a member is claimed, where the plan does not say so.
fn begun(claim: &Claim, status: &EtcdClusterStatus) -> Option<News> {
    let member = &claim.member;
    if let Some(failure) = &claim.failure {
        // With the log that was fetched for it.
        let failure = status.last_failure.as_ref().unwrap_or(failure);
        let (action, what) = if claim.action.removes() {
            ("RemoveMember", "it is removed again".to_owned())
        } else {
            ("PutBack", format!("its last good revision {} is put back", claim.revision))
        };
        let (version, how) = (&failure.version, how_it_failed(failure));
        let note = format!("{member} did not come up with {version}{how}; {what}");
        return Some(News::new(Code::MemberFailed, action, note).about(member));
    }
    if claim.action == Action::Recover {
        // It is claimed anew when the force has succeeded.
        let note = format!("the cluster is made anew from {member}, as spec.recovery says");
        let news = News::new(Code::RecoveryStarted, "Recover", note);
        return claim.pod_uid.is_empty().then_some(news);
    }
    let note = format!("{member} is replaced by a new member: {}", claim.why.as_ref()?);
    Some(News::new(Code::ReplacementStarted, "RetireMember", note))
}

fn recovered(member: &MemberName, status: &EtcdClusterStatus) -> Vec<News> {
    let Some(done) = &status.last_recovery else { return Vec::new() };
    let note = format!(
        "{member} is a cluster of its own with revision {}, and grows back; a copy of its data from before is in {}",
        done.revision, done.copy
    );
    vec![News::new(Code::Recovered, "Recover", note)]
}

fn of_the_member_list(step: &Step) -> Vec<News> {
    match step {
        Step::AddMember { member, .. } => vec![News::new(
            Code::MemberAdded,
            "AddMember",
            format!("{member} was added as a learner; it votes once it is in sync"),
        )],
        Step::PromoteMember { member, .. } => {
            vec![News::new(Code::MemberPromoted, "AddMember", format!("{member} votes")).about(member)]
        }
        Step::RemoveMember(removal) => {
            let (member, id) = (removal.member(), removal.id());
            let note =
                format!("{member} (member {id}) was removed; its Pod goes, and its data as the policy says");
            vec![News::new(Code::MemberRemoved, "RemoveMember", note).about(member)]
        }
        Step::Disarm { alarm, .. } => {
            let note = format!("the alarm {alarm} was taken back; writes are accepted again");
            vec![News::new(Code::AlarmDisarmed, "Disarm", note)]
        }
        Step::Compact { revision, .. } => {
            let note = format!(
                "the history of the keys before revision {revision} was forgotten, since the database is full"
            );
            vec![News::new(Code::HistoryCompacted, "Compact", note)]
        }
        Step::Defragment { member } => {
            let note = format!("{member}'s database gave back what it did not use");
            vec![News::new(Code::MemberDefragmented, "Defragment", note).about(member)]
        }
        Step::ExpandClaim { member, size } => {
            let note = format!("the volume of {member} was asked to grow to {}", size.as_str());
            vec![News::new(Code::VolumeExpanded, "ExpandVolume", note)]
        }
        Step::SetAside { member, quarantined } => {
            let how_long = if *quarantined { " until storage.quarantine has passed" } else { "" };
            let claim = member.claim();
            let note = format!("the volume claim {claim} is kept aside{how_long}; no member gets it again");
            vec![News::new(Code::VolumeSetAside, "RemoveMember", note)]
        }
        _ => Vec::new(),
    }
}
