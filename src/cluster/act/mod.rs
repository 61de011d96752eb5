//! Act: carries out one step with one call, or a small handful where they belong together. It never
//! loops, sleeps or waits, and decides nothing. Calls that are not idempotent carry a precondition.

mod certificates;
mod members;
mod recovery;
mod writes;

use crate::api::{Code, EtcdCluster, MemberRole, Quantity, labels};
use crate::cluster::context::Context;
use crate::cluster::names::{MemberName, authority_secret};
use crate::cluster::notice::Notice;
use crate::cluster::objects::claim::Purpose;
use crate::cluster::objects::metadata::change_of_metadata;
use crate::cluster::objects::pod::{Initial, initial_annotations};
use crate::cluster::objects::probe::NewProbe;
use crate::cluster::objects::{claim, pod, probe, support};
use crate::cluster::observation::Observation;
use crate::cluster::plan::{Guarded, NewPod, Record, SnapshotNote, Step};
use crate::cluster::report::Outcome;
use crate::cluster::revision::Revision;
use crate::cluster::spec::{keeps_data_in_pods, storage_class};
use crate::etcd::{ClusterId, EtcdError, EtcdVersion, Identity, MemberId};
use crate::pki::IssueError;
use crate::process::kubernetes::one_line;
use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kube::api::{Patch, PatchParams, Preconditions};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use writes::{gone_is_fine, refusal, this};

/// Why a step could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// The API server failed.
    #[error("the API server: {}", one_line(.0))]
    Kube(#[from] kube::Error),
    /// A member failed.
    #[error("{member}: {source}")]
    Etcd {
        /// Who.
        member: MemberName,
        /// What it said.
        #[source]
        source: EtcdError,
    },
    /// No certificate was made.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The observation does not hold what the step needs.
    #[error("{0} is not there any more")]
    Gone(String),
}

impl ActError {
    /// What the API server or a member answered with a no, as people read it; nothing where there was no
    /// answer at all.
    pub fn answer(&self) -> Option<Notice> {
        match self {
            Self::Kube(kube::Error::Api(status)) => Some(Notice::of(Code::StepRefused, refusal(status))),
            Self::Etcd { .. } => Some(Notice::of(Code::StepRefused, self.to_string())),
            Self::Issue(error) => Some(Notice::of(Code::StepRefused, error.to_string())),
            Self::Kube(_) | Self::Gone(_) => None,
        }
    }
}

/// Carries out a step. Records are written with the report, by compare-and-swap; only their evidence is
/// fetched here.
///
/// # Errors
/// When the API server or a member fails; the next pass observes and plans anew.
#[allow(clippy::too_many_lines, reason = "one arm a step")]
pub async fn act(ctx: &Context, world: &Observation, step: &Step) -> Result<Outcome, ActError> {
    let hands = Hands { ctx, world };
    match step {
        Step::Record(Record::Claim(claim)) => return Ok(hands.evidence(claim).await),
        Step::Record(Record::Withdraw { member }) => return hands.is_as_seen(member).await,
        Step::Record(_) => {}
        Step::SetFinalizer(wanted) => hands.set_finalizer(*wanted).await?,
        Step::DeleteClaims(members) => hands.delete_claims(members).await?,
        Step::ApplySupport { voters } => hands.apply_support(*voters).await?,
        Step::StoreRevision(revision) => return hands.store_revision(revision).await,
        Step::SetAside { member, quarantined } => {
            // By now it may be a member's again.
            if let Some(refused) = hands.object_was_changed().await? {
                return Ok(refused);
            }
            hands.set_aside(member, *quarantined).await?;
        }
        Step::TakeBack(members) => return hands.take_back(members).await,
        Step::LeaveAlone { member, id, cluster_id, incident } => {
            return hands.leave_alone(member, *id, *cluster_id, incident).await;
        }
        Step::NoteForced(member) => {
            hands.annotate(member, json!({ labels::RECOVERING: Value::Null })).await?;
        }
        Step::CreateRecoveryPod(new) => return hands.create_recovery_pod(new).await,
        Step::DeleteRecoveryPods(pods) => hands.delete_recovery_pods(pods).await?,
        Step::ExpandClaim { member, size } => hands.expand_claim(member, size).await?,
        Step::CreateAuthority { not_before, not_after } => {
            return hands.create_authority(*not_before, *not_after).await;
        }
        Step::IssueCertificates(pairs) => return hands.issue_certificates(pairs).await,
        Step::DeleteAuthority { uid } => {
            hands.delete::<Secret>(&authority_secret(hands.name()), Some(this(uid))).await?;
        }
        Step::CreateClaims { members, purpose } => return hands.create_claims(members, purpose).await,
        Step::Assign { members, revision, afresh } => {
            let mut notes = json!({ labels::ASSIGNED: revision });
            if *afresh {
                notes[labels::FIRST_POD] = Value::Null;
            }
            let forming = world.pinned_at(revision);
            let notes_for = |member: &MemberName| {
                let mut notes = notes.clone();
                // A claim that knows its cluster is of one that has formed, whatever the status says yet.
                let forms = world.claims.get(member).is_some_and(|claim| claim.cluster_id.is_none());
                if let Some(bootstrap) = forming.as_ref().filter(|_| forms) {
                    notes[labels::BOOTSTRAP] = json!(claim::bootstrap_note(bootstrap));
                }
                notes
            };
            try_join_all(members.iter().map(|member| hands.annotate(member, notes_for(member)))).await?;
        }
        Step::CreatePods(new) => return hands.create_pods(new).await,
        Step::Guard(members) => hands.guard(members).await?,
        Step::NoteMembers { cluster_id, voters, opened, good } => {
            hands.note_members(*cluster_id, voters, opened, good).await?;
        }
        Step::NoteVoters { cluster_id, voters, last_number } => {
            hands.note_voters(*cluster_id, voters, *last_number).await?;
        }
        Step::NoteFirstPods(first) => {
            let note = |(member, uid)| hands.annotate(member, json!({ labels::FIRST_POD: uid }));
            try_join_all(first.iter().map(note)).await?;
        }
        Step::NoteSnapshots(notes) => hands.note_snapshots(notes).await?,
        Step::Propose { through, entries } => hands.propose(through, *entries).await?,
        Step::RemovePod { member, uid, resource_version, .. }
        | Step::DiscardPod { member, uid, resource_version } => {
            let as_seen =
                Preconditions { uid: Some(uid.clone()), resource_version: Some(resource_version.clone()) };
            hands.delete::<Pod>(&member.to_string(), Some(as_seen)).await?;
        }
        Step::AddMember { through, member } => return hands.add_learner(through, member).await,
        Step::PromoteMember { through, id, .. } => return hands.promote(through, *id).await,
        Step::RemoveMember(removal) => return hands.remove_member(removal).await,
        Step::Disarm { through, alarm } => hands.disarm(through, *alarm).await?,
        Step::Compact { through, revision } => hands.compact(through, *revision).await?,
        Step::Defragment { member } => return hands.defragment(member).await,
        Step::LabelVoter { member, uid } => {
            let role = json!({ "labels": { labels::ROLE: labels::ROLE_VOTER } });
            hands.patch_pod(member, uid, role).await?;
        }
        Step::Relabel { member, uid, resource_version, from, to } => {
            return hands.relabel(member, (uid, resource_version), from, to).await;
        }
        Step::MoveLeader { from, from_id, cluster_id, to_id, .. } => {
            hands
                .move_leader(from, Identity { cluster_id: *cluster_id, member_id: *from_id }, *to_id)
                .await?;
        }
        Step::Downgrade { through, call } => {
            let times = ctx.times_in_a_row(&world.cluster.uid, step);
            return hands.downgrade(through, *call, times).await;
        }
        Step::Stop(proven) => return hands.stop(proven).await,
        Step::CreateProbes(probes) => return hands.create_probes(probes).await,
        Step::DeleteProbes(probes) => {
            try_join_all(probes.iter().map(|(pod, uid)| hands.delete::<Pod>(pod, Some(this(uid))))).await?;
        }
        Step::DeleteRevisions(names) => {
            try_join_all(names.iter().map(|name| hands.delete::<ControllerRevision>(name, None))).await?;
        }
    }
    Ok(Outcome::default())
}

/// All voters, as they stand in the annotation of a claim.
fn voters_note(voters: &BTreeMap<MemberName, MemberId>) -> String {
    voters.iter().map(|(member, id)| format!("{member}={id}")).collect::<Vec<_>>().join(",")
}

struct Hands<'a> {
    ctx: &'a Context,
    world: &'a Observation,
}

impl Hands<'_> {
    fn namespace(&self) -> &str {
        &self.world.cluster.namespace
    }

    fn name(&self) -> &str {
        &self.world.cluster.name
    }

    /// `controller: true`, so that a drain and the autoscaler see managed Pods.
    fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: EtcdCluster::api_version(&()).into_owned(),
            kind: EtcdCluster::kind(&()).into_owned(),
            name: self.name().to_owned(),
            uid: self.world.cluster.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    fn revision(&self, name: &str) -> Result<&Revision, ActError> {
        self.world
            .revisions
            .get(name)
            .map(Arc::as_ref)
            .ok_or_else(|| ActError::Gone(format!("revision {name}")))
    }

    async fn set_finalizer(&self, wanted: bool) -> Result<(), ActError> {
        let api = self.api::<EtcdCluster>();
        let live = api.get_metadata(self.name()).await?;
        let mut finalizers = live.metadata.finalizers.unwrap_or_default();
        finalizers.retain(|name| name != labels::FINALIZER);
        if wanted {
            finalizers.push(labels::FINALIZER.to_owned());
        }
        // The list is replaced as a whole, so it must be the one that was read.
        let patch = json!({ "metadata": { "finalizers": finalizers, "resourceVersion": live.metadata.resource_version } });
        gone_is_fine(api.patch(self.name(), &PatchParams::default(), &Patch::Merge(patch)).await.map(|_| ()))
    }

    async fn delete_claims(&self, members: &[MemberName]) -> Result<(), ActError> {
        try_join_all(members.iter().map(|member| async move {
            let kept_aside = || Some(&self.world.set_aside.get(member)?.uid);
            let uid = self.world.claims.get(member).map(|claim| &claim.uid).or_else(kept_aside);
            let uid = uid.map(|uid| this(uid));
            self.delete::<PersistentVolumeClaim>(&member.claim(), uid).await
        }))
        .await?;
        Ok(())
    }

    async fn apply_support(&self, voters: usize) -> Result<(), ActError> {
        let (namespace, name, spec) = (self.namespace(), self.name(), &self.world.cluster.spec);
        let (headless, client) = (&self.world.headless, &self.world.client);
        let headless = headless.as_ref().map(|live| &live.metadata);
        let client = client.as_ref().map(|live| &live.metadata);
        let budget = self.world.budget.as_ref().map(|live| &live.metadata);
        tokio::try_join!(
            self.apply(support::headless(namespace, name, spec, self.owner()), headless),
            self.apply(support::client(namespace, name, spec, self.owner()), client),
            self.apply(support::budget(namespace, name, voters, self.owner()), budget),
        )?;
        Ok(())
    }

    async fn store_revision(&self, revision: &Revision) -> Result<Outcome, ActError> {
        self.create(vec![revision.to_object(self.namespace(), self.name(), self.owner())]).await
    }

    async fn create_claims(&self, members: &[MemberName], purpose: &Purpose) -> Result<Outcome, ActError> {
        let cluster = &self.world.cluster;
        match purpose {
            Purpose::Join(_, revision) | Purpose::Bootstrap(_, Some(revision))
                if keeps_data_in_pods(&cluster.spec) =>
            {
                return self.create_pods_to_come(members, purpose, revision).await;
            }
            _ => {}
        }
        let size = crate::cluster::spec::storage_size(&cluster.spec);
        let (class, wire) = (storage_class(&cluster.spec), self.world.wire());
        let claims = members
            .iter()
            .map(|member| claim::new(self.namespace(), self.name(), member, &size, class, purpose, wire))
            .collect();
        self.create(claims).await
    }

    async fn expand_claim(&self, member: &MemberName, size: &Quantity) -> Result<(), ActError> {
        let Some(claim) = self.world.claims.get(member) else { return Ok(()) };
        let patch = json!({ "spec": { "resources": { "requests": { "storage": size.as_str() } } } });
        gone_is_fine(self.patch_claim(member, &claim.uid, patch).await)
    }

    /// Pods that keep their members' data, which are started later.
    async fn create_pods_to_come(
        &self,
        members: &[MemberName],
        purpose: &Purpose,
        revision: &str,
    ) -> Result<Outcome, ActError> {
        let template = &self.revision(revision)?.template;
        let role = match purpose {
            Purpose::Join(..) => MemberRole::Learner,
            _ => MemberRole::Voter,
        };
        let pods = members.iter().map(|member| {
            let (member, revision) = (member.clone(), revision.to_owned());
            let new = NewPod { member, revision, initial: Initial::Guard, role };
            let notes = claim::notes(purpose, self.world.wire());
            pod::not_yet(self.namespace(), self.name(), &new, template, notes, self.owner())
        });
        self.create(pods.collect()).await
    }

    async fn create_pods(&self, new: &[NewPod]) -> Result<Outcome, ActError> {
        let mut pods = Vec::new();
        for new in new {
            if let Some(claim) = self.world.claims.get(&new.member).filter(|claim| claim.in_pod) {
                self.start_pod(new, claim).await?;
                continue;
            }
            let template = &self.revision(&new.revision)?.template;
            pods.push(pod::member(self.namespace(), self.name(), new, template, self.owner()));
        }
        self.create(pods).await
    }

    /// First the claim, then the Pod: should the process end between the two, the Pod still says `new` and
    /// is guarded again.
    async fn guard(&self, members: &[Guarded]) -> Result<(), ActError> {
        for Guarded { member, uid, version } in members {
            self.annotate(member, json!({ labels::OPENED: version.to_string() })).await?;
            let annotations =
                initial_annotations(self.namespace(), member, &Initial::Guard, self.world.wire());
            self.patch_pod(member, uid, json!({ "annotations": annotations })).await?;
        }
        Ok(())
    }

    /// A claim's own id is that of the voter that it belongs to; of one that is no voter it stays what it was.
    async fn note_voters(
        &self,
        cluster_id: ClusterId,
        voters: &BTreeMap<MemberName, MemberId>,
        last_number: u32,
    ) -> Result<(), ActError> {
        let list = voters_note(voters);
        let claims = self.world.claims.iter().filter(|(_, claim)| claim.cluster_id == Some(cluster_id));
        try_join_all(claims.map(|(member, _)| {
            let number = last_number.to_string();
            let mut notes = json!({ labels::VOTERS: list, labels::LAST_MEMBER_NUMBER: number });
            if let Some(id) = voters.get(member) {
                notes[labels::MEMBER_ID] = json!(id.to_string());
            }
            self.annotate(member, notes)
        }))
        .await?;
        Ok(())
    }

    /// Makes a Pod one of another revision that differs in labels and annotations alone. The Pod must be what was seen:
    /// what goes from it is what its revision gave it.
    async fn relabel(
        &self,
        member: &MemberName,
        (uid, resource_version): (&str, &str),
        from: &str,
        to: &str,
    ) -> Result<Outcome, ActError> {
        if let Some(refused) = self.objection_to_a_disturbance(member).await? {
            return Ok(refused);
        }
        let mut metadata = change_of_metadata(&self.revision(from)?.template, &self.revision(to)?.template);
        metadata["annotations"][labels::REVISION] = json!(to);
        metadata["resourceVersion"] = json!(resource_version);
        self.patch_pod(member, uid, metadata).await?;
        Ok(Outcome::default())
    }

    async fn set_aside(&self, member: &MemberName, quarantined: bool) -> Result<(), ActError> {
        let why = if quarantined { labels::SET_ASIDE_QUARANTINED } else { labels::SET_ASIDE_RETAINED };
        let Some(claim) = self.world.claims.get(member) else { return Ok(()) };
        let patch = json!({ "metadata": {
            "labels": { labels::SET_ASIDE: why },
            "annotations": { labels::SET_ASIDE_SINCE: self.world.now.to_string() },
        } });
        gone_is_fine(self.patch_claim(member, &claim.uid, patch).await)
    }

    async fn note_members(
        &self,
        cluster_id: ClusterId,
        voters: &BTreeMap<MemberName, MemberId>,
        opened: &BTreeMap<MemberName, EtcdVersion>,
        good: &BTreeMap<MemberName, String>,
    ) -> Result<(), ActError> {
        let list = voters_note(voters);
        try_join_all(opened.iter().filter_map(|(member, version)| {
            let id = voters.get(member)?;
            Some(self.annotate(
                member,
                json!({
                    labels::CLUSTER_ID: cluster_id.to_string(),
                    labels::MEMBER_ID: id.to_string(),
                    labels::VOTERS: list,
                    labels::OPENED: version.to_string(),
                    labels::GOOD: good.get(member),
                    labels::BOOTSTRAP: Value::Null,
                    labels::FIRST_POD: Value::Null,
                }),
            ))
        }))
        .await?;
        Ok(())
    }

    async fn note_snapshots(&self, notes: &BTreeMap<MemberName, SnapshotNote>) -> Result<(), ActError> {
        try_join_all(notes.iter().map(|(member, note)| {
            let (base, free) = match note {
                SnapshotNote::CountFrom(base) => (serde_json::to_string(base).ok(), None),
                SnapshotNote::FreeOfV2Entries => (None, Some("true")),
                SnapshotNote::Forget => (None, None),
            };
            self.annotate(member, json!({ labels::SNAPSHOT_BASE: base, labels::FREE_OF_V2_ENTRIES: free }))
        }))
        .await?;
        Ok(())
    }

    async fn create_probes(&self, probes: &[NewProbe]) -> Result<Outcome, ActError> {
        let pod = |new: &NewProbe| {
            let revision = self.revision(&new.revision)?;
            Ok(probe::pod(self.namespace(), self.name(), new, revision, self.owner()))
        };
        self.create(probes.iter().map(pod).collect::<Result<_, ActError>>()?).await
    }
}
