//! What the concerns of the planner ask of an observation. Pure answers; what many ask is kept.

use super::hold::{self, Intent};
use super::loss::seems_lost;
use super::request;
use super::snapshots;
use super::step::{Claim, Next, Record, Step, Wait};
use super::support;
use crate::api::{Action, BootstrapStatus, FailureStatus, ProgressStatus};
use crate::cluster::names::{MemberName, bootstrap_members};
use crate::cluster::notice::Notice;
use crate::cluster::observation::{Answer, ClaimFacts, Observation, Ownership, PodFacts, SetAside};
use crate::cluster::revision::{self, Revision};
use crate::cluster::spec::{self, Desired};
pub(super) use crate::etcd::quorum;
use crate::etcd::versions::HopError;
use crate::etcd::{Alarm, ClusterId, EtcdVersion, MemberId};
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
        let forming = || self.world.claims.values().filter(|claim| claim.cluster_id.is_none());
        let noted = || forming().find_map(|claim| claim.bootstrap.clone());
        self.world.cluster.status.bootstrap.clone().or_else(noted)
    }

    /// Every voter with its id, as noted when the cluster formed. The claims say it, whatever becomes
    /// of the status.
    pub fn voters(&self) -> &'a BTreeMap<MemberName, MemberId> {
        static NONE: BTreeMap<MemberName, MemberId> = BTreeMap::new();
        self.world.noted_voters().unwrap_or(&NONE)
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

    /// Whether members keep their data in their Pods: as those do that there are, else as the spec says.
    pub fn keeps_data_in_pods(&self) -> bool {
        let claims = &self.world.claims;
        if claims.is_empty() {
            return spec::keeps_data_in_pods(&self.world.cluster.spec);
        }
        claims.values().any(|claim| claim.in_pod)
    }

    /// Whether this member keeps its data in its Pod.
    pub fn keeps_data_in_its_pod(&self, member: &MemberName) -> bool {
        self.claim_of(member).is_some_and(|claim| claim.in_pod)
    }

    pub fn pod(&self, member: &MemberName) -> Option<&'a PodFacts> {
        self.world.pods.get(member)
    }

    pub fn claim_of(&self, member: &MemberName) -> Option<&'a ClaimFacts> {
        self.world.claims.get(member)
    }

    /// Claims of members of this cluster, once it has formed, and of those who are to be or were some.
    pub fn own_claims(&self) -> impl Iterator<Item = (&'a MemberName, &'a ClaimFacts)> + use<'a> {
        let id = self.cluster_id();
        self.world.claims.iter().filter(move |(_, claim)| {
            claim.ownership == Ownership::Ours && claim.cluster_id.is_some() && claim.cluster_id == id
        })
    }

    /// Claims of this cluster that are kept aside.
    pub fn own_set_aside(&self) -> impl Iterator<Item = (&'a MemberName, &'a SetAside)> + use<'a> {
        let id = self.cluster_id();
        let of_this = move |claim: &SetAside| claim.cluster_id.is_some() && claim.cluster_id == id;
        self.world.set_aside.iter().filter(move |(_, claim)| of_this(claim))
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

    /// What patience with a member is counted on: by the member, not by the code, since a crash loop goes through
    /// several and is one wait.
    pub fn subject_of(&self, member: &MemberName) -> String {
        // What is lost is waited for on its own account, however long something else was wrong before.
        if seems_lost(self, member) { format!("lost/{member}") } else { format!("member/{member}") }
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

    /// Whether a member is up with this revision.
    pub fn is_up_with(&self, revision: &str) -> bool {
        self.up_members().iter().any(|(member, _)| self.revision_of(member) == Some(revision))
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
        let lowered = snapshots::lowered_at(self, stop);
        revision::of_spec(self.world, lowered.as_ref().unwrap_or(spec), desired, stop).ok()
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

    /// Claims a member: no other is touched until it is back.
    pub fn claim_member(
        &self,
        action: Action,
        member: &MemberName,
        pod_uid: &str,
        revision: String,
        failure: Option<FailureStatus>,
    ) -> Next {
        let failure = failure.map(Box::new);
        let (member, pod_uid, since) = (member.clone(), pod_uid.to_owned(), self.world.now);
        Next::Do(Step::Record(Record::Claim(Claim {
            action,
            member,
            revision,
            pod_uid,
            since,
            failure,
            why: None,
        })))
    }

    /// Claims a change of etcd's member list: by it members come and go.
    pub fn claim_change(
        &self,
        action: Action,
        member: &MemberName,
        revision: String,
        why: Option<String>,
    ) -> Next {
        let (member, pod_uid, since) = (member.clone(), String::new(), self.world.now);
        let failure = None;
        Next::Do(Step::Record(Record::Claim(Claim {
            action,
            member,
            revision,
            pod_uid,
            since,
            failure,
            why,
        })))
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
        let subject = member.map_or_else(|| notice.code.to_string(), |member| self.subject_of(member));
        Next::Wait(Wait { close: false, ..self.wait(notice, member, subject, 0) })
    }
}
