//! What the concerns of the planner ask of an observation. Pure answers; what many ask is kept.

use super::hold::{self, Intent};
use super::request;
use super::snapshots;
use super::step::{Next, Step, Wait};
use super::support;
use crate::api::{BootstrapStatus, Code, ProgressStatus};
use crate::cluster::names::{MemberName, bootstrap_members};
use crate::cluster::notice::Notice;
use crate::cluster::observation::{Answer, ClaimFacts, ContainerFacts, Observation, PodFacts};
use crate::cluster::revision::{self, Revision};
use crate::cluster::spec::{self, Desired};
use crate::etcd::logs::says_a_downgrade_keeps_it_out;
use crate::etcd::versions::HopError;
use crate::etcd::{Alarm, ClusterId, EtcdVersion, MemberId, MemberStatus};
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// A wait that the operator's own hand caused has this deadline where the spec cannot be read.
const DEADLINE: Duration = Duration::from_mins(5);

/// An observation, and what follows from it at once.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub world: &'a Observation,
    /// The spec, parsed.
    pub desired: Result<Desired, Vec<Notice>>,
    /// The revision that members get now: what the spec asks for, at the next version on the way.
    pub target: Option<Arc<Revision>>,
    /// The versions still to come, the next one first, the spec's last; nothing while it cannot be known
    /// what runs.
    pub way: Option<Result<Vec<EtcdVersion>, HopError>>,
    cluster_id: Option<ClusterId>,
    members: OnceCell<BTreeSet<MemberName>>,
    leader: OnceCell<Option<MemberName>>,
    /// What the spec asks for and cannot have.
    refusals: OnceCell<Vec<Notice>>,
    /// What the spec wants to be done to members.
    intent: OnceCell<Option<Intent>>,
    /// What a change waits for before it may begin.
    held: OnceCell<Option<Notice>>,
    /// For how many voters Services and budget must be written. Asked first and last, and costly.
    drifted_support: OnceCell<Option<usize>>,
}

/// A voter that is there in every sense: it answers under its own id in its own cluster, votes, and a
/// linearizable read through it succeeds (which proves that it has applied what the leader had
/// committed when the read began).
#[derive(Clone, Copy, Debug)]
pub(super) struct Up<'a> {
    pub status: &'a MemberStatus,
}

impl<'a> View<'a> {
    pub fn new(world: &'a Observation) -> Self {
        let desired = spec::parse(&world.cluster.spec);
        let mut view = Self {
            world,
            desired,
            target: None,
            way: None,
            cluster_id: world.cluster.status.cluster_id.as_ref().and_then(|id| id.parse().ok()),
            members: OnceCell::new(),
            leader: OnceCell::new(),
            refusals: OnceCell::new(),
            intent: OnceCell::new(),
            held: OnceCell::new(),
            drifted_support: OnceCell::new(),
        };
        view.way = request::way(&view);
        view.target = view.desired.as_ref().ok().and_then(|desired| {
            let next = view.way.as_ref().and_then(|way| way.as_ref().ok()?.first().copied());
            view.revision_at(desired, next.unwrap_or(desired.version))
        });
        view
    }

    /// What the spec asks for and cannot have.
    pub fn refusals(&self) -> &[Notice] {
        self.refusals.get_or_init(|| request::refusals(self))
    }

    /// What the spec wants to be done to members; nothing where they are as it says.
    pub fn intent(&self) -> Option<&Intent> {
        self.intent.get_or_init(|| hold::intent(self)).as_ref()
    }

    /// What the change that the spec asks for waits for before it may begin.
    pub fn held(&self) -> Option<&Notice> {
        self.held.get_or_init(|| hold::held(self)).as_ref()
    }

    /// Whether members may be given what the spec asks for: nothing of it is refused, and nothing holds it up.
    pub fn may_change_members(&self) -> bool {
        self.refusals().is_empty() && self.held().is_none()
    }

    /// For how many voters Services and budget must be written, where they say something else.
    pub fn drifted_support(&self) -> Option<usize> {
        *self.drifted_support.get_or_init(|| support::drifted(self))
    }

    pub fn parse_member(&self, name: &str) -> Option<MemberName> {
        MemberName::parse(&self.world.cluster.name, name)
    }

    /// The cluster's id, once it has formed.
    pub const fn cluster_id(&self) -> Option<ClusterId> {
        self.cluster_id
    }

    /// The bootstrap, from the status or, where that was lost, from the claims.
    pub fn bootstrap(&self) -> Option<BootstrapStatus> {
        self.world.cluster.status.bootstrap.clone().or_else(|| {
            self.world.claims.values().find_map(|claim| {
                let noted = claim.bootstrap.clone()?;
                // It may have been pinned anew since the claim was made.
                let assigned = claim.assigned.as_ref().and_then(|name| self.world.revisions.get(name));
                let version = assigned.map_or(noted.version, |revision| revision.version.to_string());
                Some(BootstrapStatus { version, ..noted })
            })
        })
    }

    /// Every voter with its id, as noted when the cluster formed. The claims say it, whatever becomes
    /// of the status.
    pub fn voters(&self) -> &'a BTreeMap<MemberName, MemberId> {
        static NONE: BTreeMap<MemberName, MemberId> = BTreeMap::new();
        let id = self.cluster_id();
        self.world
            .claims
            .values()
            .filter(|claim| claim.cluster_id == id)
            .find_map(|claim| claim.voters.as_ref())
            .unwrap_or(&NONE)
    }

    /// The members that should have Pods: voters, or those of the bootstrap.
    pub fn members(&self) -> &BTreeSet<MemberName> {
        self.members.get_or_init(|| {
            if self.cluster_id().is_some() {
                return self.voters().keys().cloned().collect();
            }
            self.bootstrap()
                .map(|bootstrap| {
                    bootstrap_members(&self.world.cluster.name, &bootstrap).into_iter().collect()
                })
                .unwrap_or_default()
        })
    }

    pub fn pod(&self, member: &MemberName) -> Option<&'a PodFacts> {
        self.world.pods.get(member)
    }

    pub fn claim_of(&self, member: &MemberName) -> Option<&'a ClaimFacts> {
        self.world.claims.get(member)
    }

    pub fn answer(&self, member: &MemberName) -> Option<&'a Answer> {
        self.world.answers.get(member)
    }

    /// The claim on the one member that may be away.
    pub fn claimed(&self) -> Option<(&'a ProgressStatus, MemberName)> {
        let progress = self.world.cluster.status.progress.as_ref()?;
        if !progress.action.is_claim() {
            return None;
        }
        Some((progress, self.parse_member(&progress.member)?))
    }

    /// Whether a member is there in every sense.
    pub fn up(&self, member: &MemberName) -> Option<Up<'a>> {
        self.why_not_up(member).ok()
    }

    /// Whether a member is there in every sense, or else why not.
    pub fn why_not_up(&self, member: &MemberName) -> Result<Up<'a>, Notice> {
        let starting = |message: String| Err(Notice::of(Code::MemberStarting, message));
        let Some(pod) = self.pod(member) else {
            return starting(format!("{member} has no Pod"));
        };
        if pod.deleting {
            return Err(Notice::of(Code::MemberStopping, format!("{member}'s Pod is going away")));
        }
        if let Some(words) = &pod.unschedulable {
            return Err(Notice::of(Code::PodUnschedulable, format!("no node takes {member}: {words}")));
        }
        let Some(answer) = self.answer(member) else {
            return starting(format!("{member} {}", container_words(pod)));
        };
        let status = match &answer.status {
            Ok(status) => status,
            Err(_) if self.has_just_started(pod) => return starting(format!("{member} does not answer yet")),
            Err(_) if is_kept_out(pod) => {
                let message = format!(
                    "{member} does not start: its data remembers a downgrade job that leads to another minor than its \
                     own; one start on the next minor makes it forget"
                );
                return Err(Notice::of(Code::MemberDown, message));
            }
            Err(_) => {
                return Err(Notice::of(Code::MemberDown, format!("{member} {}", container_words(pod))));
            }
        };
        if let Some(expected) = self.cluster_id().filter(|id| *id != status.cluster_id) {
            return Err(Notice::of(
                Code::MembershipUnexpected,
                format!("{member} answers for cluster {}, not {expected}", status.cluster_id),
            ));
        }
        if let Some(expected) = self.voters().get(member).filter(|id| **id != status.member_id) {
            return Err(Notice::of(
                Code::MembershipUnexpected,
                format!("{member} answers as member {}, not {expected}", status.member_id),
            ));
        }
        if status.is_learner {
            return Err(Notice::of(Code::MembershipUnexpected, format!("{member} is a learner")));
        }
        if answer.read.is_err() {
            return Err(Notice::of(
                Code::MemberBehind,
                format!("a linearizable read through {member} does not answer"),
            ));
        }
        Ok(Up { status })
    }

    /// Whether a container runs for a moment only: etcd may still be opening its data.
    fn has_just_started(&self, pod: &PodFacts) -> bool {
        const A_MOMENT: i64 = 60;
        let since = pod.container.running_since;
        pod.container.restarts == 0
            && since.is_some_and(|since| self.world.now.duration_since(since).as_secs() < A_MOMENT)
    }

    /// Whether a member's Pod was made and nothing says yet that it does not come up as it is.
    pub fn is_on_its_way(&self, member: &MemberName, pod: &PodFacts) -> bool {
        let patience = &self.world.patience;
        let for_too_long = patience.subject == Self::subject_of(member)
            && patience.without_progress >= self.member_deadline();
        !has_failed(&pod.container) && pod.unschedulable.is_none() && !for_too_long
    }

    /// What patience with a member is counted on: by the member, not by the code, since a crash loop goes through
    /// several and is one wait.
    fn subject_of(member: &MemberName) -> String {
        format!("member/{member}")
    }

    /// Members that are up.
    pub fn up_members(&self) -> Vec<(MemberName, Up<'a>)> {
        self.members().iter().filter_map(|member| Some((member.clone(), self.up(member)?))).collect()
    }

    /// The leader, if the members that are up agree on one that is a member.
    pub fn leader(&self) -> Option<&MemberName> {
        let agreed = || {
            let ids: BTreeSet<_> = self.up_members().iter().map(|(_, up)| up.status.leader).collect();
            let [Some(id)] = ids.into_iter().collect::<Vec<_>>()[..] else { return None };
            self.voters().iter().find(|(_, voter)| **voter == id).map(|(member, _)| member.clone())
        };
        self.leader.get_or_init(agreed).as_ref()
    }

    /// Whether a member does not start because of a downgrade job, enabled or remembered, that leads to another
    /// minor than its own.
    pub fn is_kept_out_by_a_downgrade(&self, member: &MemberName) -> bool {
        self.up(member).is_none() && self.pod(member).is_some_and(is_kept_out)
    }

    /// Alarms that are set, as any member reports them.
    pub fn alarms(&self) -> Vec<Alarm> {
        let all: BTreeSet<Alarm> = self
            .world
            .answers
            .values()
            .filter_map(Answer::status)
            .flat_map(|status| status.alarms.iter().copied())
            .collect();
        all.into_iter().collect()
    }

    /// The version that each answering voter's binary says.
    pub fn running_versions(&self) -> Vec<EtcdVersion> {
        self.members()
            .iter()
            .filter_map(|member| self.answer(member)?.status().map(|status| status.version))
            .collect()
    }

    /// The revision of a member's Pod, where it has one, else the one assigned to its next.
    pub fn revision_of(&self, member: &MemberName) -> Option<&str> {
        self.pod(member)
            .map(|pod| pod.revision.as_str())
            .or_else(|| self.claim_of(member)?.assigned.as_deref())
    }

    /// Whether a member's Pod comes from another revision than the spec asks for.
    pub fn is_outdated(&self, member: &MemberName) -> bool {
        self.target.as_ref().is_some_and(|target| self.revision_of(member) != Some(target.name.as_str()))
    }

    /// Members that the spec wants to look different.
    pub fn outdated(&self) -> Vec<MemberName> {
        self.members().iter().filter(|member| self.is_outdated(member)).cloned().collect()
    }

    /// A stored revision, or the one that the spec asks for.
    pub fn revision(&self, name: &str) -> Option<&Revision> {
        let asked_for = || self.target.as_ref().filter(|target| target.name == name);
        self.world.revisions.get(name).or_else(asked_for).map(Arc::as_ref)
    }

    /// What members get at a version on the way; nothing where it would not start with the spec's flags.
    pub fn revision_at(&self, desired: &Desired, stop: EtcdVersion) -> Option<Arc<Revision>> {
        let spec = &self.world.cluster.spec;
        match snapshots::lowered(spec).filter(|_| snapshots::are_due_after(self, stop)) {
            Some(lowered) => revision::of_spec(self.world, &lowered, desired, stop).ok(),
            None => revision::at(self.world, desired, stop).ok(),
        }
    }

    /// The name of a revision that may be used, or the step that stores it first; nothing where its name is taken by
    /// somebody else's, which is refused elsewhere and says what to do.
    pub fn stored(&self, revision: &Arc<Revision>) -> Option<Result<String, Step>> {
        if self.world.revisions.contains_key(&revision.name) {
            return Some(Ok(revision.name.clone()));
        }
        if self.world.foreign_revisions.contains_key(&revision.name) {
            return None;
        }
        Some(Err(Step::StoreRevision(Arc::clone(revision))))
    }

    /// How long a member may make no progress.
    pub fn member_deadline(&self) -> Duration {
        self.desired.as_ref().map_or(DEADLINE, |desired| desired.member_deadline)
    }

    /// A wait, with what this process knows of its patience.
    pub fn wait(&self, notice: Notice, member: Option<&MemberName>, subject: String, progress: u64) -> Wait {
        let patience = &self.world.patience;
        let deadline = self.member_deadline();
        let overdue =
            patience.subject == subject && progress <= patience.best && patience.without_progress >= deadline;
        Wait { notice, member: member.cloned(), subject, progress, deadline, overdue, close: true }
    }

    /// A wait for something that is not under way by our hand: its subject is its code, and it is
    /// looked at less closely.
    pub fn wait_for(&self, notice: Notice, member: Option<&MemberName>) -> Next {
        let subject = member.map_or_else(|| notice.code.to_string(), Self::subject_of);
        Next::Wait(Wait { close: false, ..self.wait(notice, member, subject, 0) })
    }

    /// How far a member has come since its Pod was made: grows through the stages of a start, then with
    /// each raft entry that it applies. A crash loop reaches its best stage once and then no better.
    pub fn start_progress(&self, member: &MemberName) -> u64 {
        const STAGE: u64 = 1 << 48;
        let Some(pod) = self.pod(member).filter(|pod| !pod.deleting) else { return 0 };
        if pod.unschedulable.is_some() || pod.node.is_none() {
            return STAGE;
        }
        if !pod.container.has_run() {
            return 2 * STAGE;
        }
        if self.up(member).is_some() {
            // It is there; what its gate still asks for does not come by applying entries.
            return 5 * STAGE;
        }
        match self.answer(member).and_then(Answer::status) {
            None => 3 * STAGE,
            // Each start of a crash loop gets a little further in a busy cluster; that is no progress.
            Some(_) if pod.container.restarts > 0 => 4 * STAGE,
            Some(status) => 4 * STAGE + status.raft_applied_index.min(STAGE - 1),
        }
    }
}

/// Whether a container has ended, or cannot start for what it is made of.
pub(super) fn has_failed(container: &ContainerFacts) -> bool {
    let begins =
        |(reason, _): &(String, String)| ["ContainerCreating", "PodInitializing"].contains(&reason.as_str());
    let has_ended = container.exit_code.is_some() || container.restarts > 0;
    has_ended || !container.waiting.as_ref().is_none_or(begins)
}

fn is_kept_out(pod: &PodFacts) -> bool {
    pod.container.last_words.as_deref().is_some_and(says_a_downgrade_keeps_it_out)
}

/// What the kubelet says of a member that does not answer. A crash loop waits and runs in turn, and is
/// told as one, so that the status is not written at each turn.
fn container_words(pod: &PodFacts) -> String {
    let container = &pod.container;
    match (&container.waiting, container.exit_code) {
        (waiting, Some(code)) if container.restarts > 0 || waiting.is_some() => {
            let reason = waiting
                .as_ref()
                .map(|(reason, _)| reason.as_str())
                .filter(|reason| *reason != "CrashLoopBackOff");
            let reason = reason.map(|reason| format!("{reason}, ")).unwrap_or_default();
            format!("does not stay up ({reason}last exit code {code})")
        }
        (Some((reason, message)), _) if message.is_empty() => format!("is not running yet ({reason})"),
        (Some((reason, message)), _) => format!("is not running yet ({reason}: {message})"),
        (None, Some(code)) if container.running_since.is_none() => format!("has ended with exit code {code}"),
        (None, _) if container.running_since.is_some() => "runs and does not answer".to_owned(),
        (None, _) => "is not running yet".to_owned(),
    }
}

/// n/2+1.
pub(super) const fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}
