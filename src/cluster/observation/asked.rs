//! What follows from an observation at once: asked while it is made, to know what else to ask, and by the planner. Pure.

use super::{Answer, ClaimFacts, DowngradeJob, Observation, PodFacts};
use crate::api::{Action, BootstrapStatus};
use crate::cluster::names::MemberName;
use crate::cluster::spec::{storage_class, storage_size};
use crate::etcd::logs::says_binary_is_below_the_cluster_version;
use crate::etcd::versions::{
    joins_by_an_entry_of_others, may_write_v2_entries, needs_a_snapshot_before, tells_of_downgrades,
};
use crate::etcd::{Alarm, ClusterId, EtcdVersion, MemberId, MemberStatus, Minor, quorum};
use std::collections::BTreeMap;
use std::time::Duration;

/// Whether a member's database would give half of itself back, and is not too small to be worth a pause in quiet times.
pub const fn is_fragmented(status: &MemberStatus) -> bool {
    const SMALL: i64 = 64 << 20;
    status.db_size >= SMALL && status.db_size_in_use <= status.db_size / 2
}

impl Observation {
    /// Whether the next hop may be one before which every member must have taken a raft snapshot: how many
    /// each took is asked only then.
    pub fn needs_snapshot_counts(&self) -> bool {
        let Ok(wanted) = self.cluster.spec.version.parse::<EtcdVersion>() else { return false };
        let runs = self.answers.values().filter_map(|answer| answer.cluster_version).max();
        runs.is_some_and(|runs| !may_write_v2_entries(runs) && needs_a_snapshot_before(runs, wanted.minor))
            && self.claims.values().any(|claim| !claim.free_of_v2_entries)
    }

    /// The revision at which members' keys are to be hashed: one that all have who answer. Nothing where nobody says
    /// that their data differ.
    pub fn revision_to_hash_at(&self) -> Option<i64> {
        // A member that lags, or is none any more, is not asked.
        let statuses = || self.witnesses().filter_map(Answer::status);
        let differ = statuses().any(|status| status.alarms.contains(&Alarm::Corrupt));
        statuses().map(|status| status.revision).min().filter(|_| differ)
    }

    /// Whether volumes that are there are to be larger, or of another class: what classes allow matters then.
    pub fn wants_other_volumes(&self) -> bool {
        let spec = &self.cluster.spec;
        let Some(size) = storage_size(spec).bytes() else { return false };
        let is_too_small = |claim: &ClaimFacts| claim.size.is_some_and(|has| has < size);
        self.claims
            .values()
            .any(|claim| claim.is_of_another_class(storage_class(spec)) || is_too_small(claim))
    }

    /// Whether a database may be defragmented soon: then nodes matter.
    pub fn may_defragment(&self) -> bool {
        let may_be = |status: &MemberStatus| status.alarms.contains(&Alarm::NoSpace) || is_fragmented(status);
        self.answers.values().filter_map(Answer::status).any(may_be)
    }

    /// All voters of the cluster that has formed, as its claims note it, whatever becomes of the status.
    pub fn noted_voters(&self) -> Option<&BTreeMap<MemberName, MemberId>> {
        let id: Option<ClusterId> = self.cluster.status.cluster_id.as_ref().and_then(|id| id.parse().ok());
        let claims = self.claims.values().filter(|claim| claim.cluster_id == id);
        // While they are being noted anew, those who know of more members.
        claims.filter_map(|claim| claim.voters.as_ref()).max_by_key(|voters| voters.len())
    }

    /// Whether the quorum is lost: nobody serves a linearizable read, and so few voters answer that they are none; from then on
    /// until somebody serves again, whoever can be reached meanwhile. Of a single member it is said in other words.
    pub fn lacks_a_quorum(&self) -> bool {
        let Some(voters) = self.noted_voters().filter(|voters| voters.len() > 1) else { return false };
        let answers = |member: &&MemberName| self.answers.get(*member).is_some_and(|it| it.status.is_ok());
        let few = || voters.keys().filter(answers).count() < quorum(voters.len());
        self.witnesses().next().is_none() && (self.cluster.status.quorum_loss.is_some() || few())
    }

    /// Members that do not answer, or are on their way out.
    pub fn absent(&self) -> impl Iterator<Item = &MemberName> {
        let is_absent = |member: &&MemberName| {
            let goes = self.pods.get(*member).is_some_and(|pod| pod.deleting);
            goes || self.answers.get(*member).is_none_or(|answer| answer.status.is_err())
        };
        self.claims.keys().filter(is_absent)
    }

    /// Whether a learner may hang because nobody writes (see [`joins_by_an_entry_of_others`]): some entries every few
    /// seconds, while such a one has not been silent for too long.
    pub fn a_learner_may_wait_for_an_entry(&self) -> bool {
        const EVERY: i64 = 5;
        const FOR: Duration = Duration::from_mins(2);
        let joins = self.cluster.status.progress.as_ref().filter(|it| it.action == Action::AddMember);
        let waits_for_one = |revision: &str| {
            let revision = self.revisions.get(revision);
            revision.is_some_and(|revision| joins_by_an_entry_of_others(revision.version.minor))
        };
        let silent = |(member, pod): (&MemberName, &PodFacts)| {
            joins.is_some_and(|joins| joins.member == member.to_string())
                && waits_for_one(&pod.revision)
                && pod.container.running_since.is_some()
                && self.answers.get(member).is_none_or(|answer| answer.status.is_err())
        };
        let is_new = self.patience.without_progress < FOR;
        is_new && self.now.as_second() % EVERY == 0 && self.pods.iter().any(silent)
    }

    /// The nodes of members that do not answer and keep their data in their Pods.
    pub fn homes_in_pods(&self) -> BTreeMap<MemberName, String> {
        let in_pods = self.absent().filter(|member| self.claims[*member].in_pod);
        in_pods.filter_map(|member| Some((member.clone(), self.pods.get(member)?.node.clone()?))).collect()
    }

    /// Whether what a member says of the cluster counts: it serves a linearizable read as itself, and is not
    /// on its way out. An address may belong to somebody else by now.
    pub fn is_witness(&self, member: &MemberName) -> bool {
        let Some(answer) = self.answers.get(member) else { return false };
        let Ok(status) = &answer.status else { return false };
        let known = self.claims.get(member).and_then(|claim| claim.member_id);
        let cluster = self.cluster.status.cluster_id.as_ref();
        answer.read.is_ok()
            && known.is_none_or(|id| id == status.member_id)
            && cluster.is_none_or(|id| *id == status.cluster_id.to_string())
            && self.pods.get(member).is_some_and(|pod| !pod.deleting)
    }

    /// etcd's cluster version as its witnesses know it just now. A downgrade lowers it, so what was said
    /// before, or is said by a member that is cut off, counts only where there is no witness.
    pub fn witnessed_cluster_version(&self) -> Option<Minor> {
        self.witnesses().filter_map(|answer| answer.cluster_version).max()
    }

    /// The same, or without a witness the highest that anybody said, now or before. A binary that does not start
    /// because it is below the cluster version has said so too.
    pub fn last_known_cluster_version(&self) -> Option<Minor> {
        self.witnessed_cluster_version().or_else(|| {
            let said = self.answers.values().filter_map(|answer| answer.cluster_version).max();
            let noted = self.cluster.status.cluster_version.as_deref().and_then(EtcdVersion::reported);
            said.max(noted.map(|version| version.minor)).max(self.cluster_version_by_last_words())
        })
    }

    /// While the cluster forms: its bootstrap, pinned at the version of this revision. It is noted on a claim beside the
    /// revision, which goes with the `EtcdCluster`.
    pub fn pinned_at(&self, revision: &str) -> Option<BootstrapStatus> {
        let pinned = self.cluster.status.bootstrap.clone()?;
        let version = self.revisions.get(revision)?.version.to_string();
        Some(BootstrapStatus { version, ..pinned })
    }

    /// A cluster version that moved unseen before its last witness stopped shows in the log of the old
    /// binary that does not start on it.
    fn cluster_version_by_last_words(&self) -> Option<Minor> {
        let too_old = self.pods.values().filter(|pod| {
            pod.container.last_words.as_deref().is_some_and(says_binary_is_below_the_cluster_version)
        });
        too_old.filter_map(|pod| Some(self.revisions.get(&pod.revision)?.version.minor.next())).max()
    }

    /// Whether a downgrade job is enabled, where a witness tells: from 3.6 on members do. Before, it shows by
    /// VALIDATE only.
    pub fn downgrade_job_by_status(&self) -> Option<DowngradeJob> {
        let statuses = || self.witnesses().filter_map(Answer::status);
        let enabled = statuses().find_map(|status| status.downgrade).map(DowngradeJob::To);
        let tells = || statuses().any(|status| tells_of_downgrades(status.version.minor));
        enabled.or_else(|| tells().then_some(DowngradeJob::Absent))
    }

    fn witnesses(&self) -> impl Iterator<Item = &Answer> {
        self.answers.iter().filter(|(member, _)| self.is_witness(member)).map(|(_, answer)| answer)
    }
}
