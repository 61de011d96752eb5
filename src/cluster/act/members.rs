//! What is done to members: calls of etcd's own API, a stop, and the evidence of one that is given up.

use super::writes::{gone_is_fine, refusal, this};
use super::{ActError, Hands};
use crate::api::{Code, EtcdCluster, labels};
use crate::cluster::names::MemberName;
use crate::cluster::objects::container::peer_url;
use crate::cluster::observation::Answer;
use crate::cluster::observe::client_of;
use crate::cluster::plan::{Claim, Removal, Stop};
use crate::cluster::report::Outcome;
use crate::etcd::{Alarm, DowngradeCall, ErrorKind, EtcdError, Identity, MemberClient, MemberId};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, EvictParams, ListParams, LogParams, PostParams, Preconditions};

/// Lines of a container's log that are kept as evidence. A Go panic prints its cause above a long stack.
const LOG_LINES: i64 = 40;
/// They stand in the status, which must stay writable.
const LOG_BYTES: i64 = 16 << 10;
/// Calls of the Downgrade API in a row; the first shows at the next look.
const TAKES_EFFECT_WITHIN: u32 = 3;

fn without_effect(times: u32, call: DowngradeCall) -> Outcome {
    let what = match call {
        DowngradeCall::Enable(minor) => format!("lower the cluster version to {minor}"),
        DowngradeCall::Cancel => "give its downgrade job up".to_owned(),
    };
    let message = format!("etcd was asked {times} times to {what}, and its members do not say that it did");
    Outcome::refused(Code::DowngradePending, message)
}

/// What a member said no with.
fn said_by(member: &MemberName) -> impl FnOnce(EtcdError) -> ActError + use<> {
    let member = member.clone();
    move |source| ActError::Etcd { member, source }
}

/// A change of the member list that etcd does not take yet is waited for; whether one took effect is read.
fn changed_or_not_yet(through: &MemberName, result: Result<(), EtcdError>) -> Result<Outcome, ActError> {
    let Err(source) = result else { return Ok(Outcome::default()) };
    match source.kind() {
        ErrorKind::AlreadySo => Ok(Outcome::default()),
        ErrorKind::NotYet(_)
        | ErrorKind::Unhealthy
        | ErrorKind::NoLeader
        | ErrorKind::LeaderChanged
        | ErrorKind::TimedOut => {
            Ok(Outcome::refused(Code::MembershipPending, format!("{through}: {source}")))
        }
        _ => Err(said_by(through)(source)),
    }
}

impl Hands<'_> {
    pub(super) async fn propose(&self, through: &MemberName, entries: u32) -> Result<(), ActError> {
        let proposed = self.client(through)?.propose(self.identity(through)?, entries).await;
        proposed.map_err(said_by(through))
    }

    /// Whom a learner's entry stands for is told by its peer URL, of which there is one for each member: to add it once
    /// more is no change.
    pub(super) async fn add_learner(
        &self,
        through: &MemberName,
        member: &MemberName,
    ) -> Result<Outcome, ActError> {
        if let Some(refused) = self.object_was_changed().await? {
            return Ok(refused);
        }
        let url = peer_url(self.world.wire(), &member.host(&self.world.cluster.namespace));
        changed_or_not_yet(through, self.client(through)?.add_learner(self.identity(through)?, url).await)
    }

    pub(super) async fn promote(&self, through: &MemberName, id: MemberId) -> Result<Outcome, ActError> {
        changed_or_not_yet(through, self.client(through)?.promote(self.identity(through)?, id).await)
    }

    pub(super) async fn remove_member(&self, removal: &Removal) -> Result<Outcome, ActError> {
        if let Some(refused) = self.object_was_changed().await? {
            return Ok(refused);
        }
        if !removal.takes_nothing_away()
            && let Some(refused) = self.another_leaves(removal.member()).await?
        {
            return Ok(refused);
        }
        let through = removal.through();
        let removed = self.client(through)?.remove_member(self.identity(through)?, removal.id()).await;
        changed_or_not_yet(through, removed)
    }

    pub(super) async fn disarm(&self, through: &MemberName, alarm: Alarm) -> Result<(), ActError> {
        let disarmed = self.client(through)?.disarm(self.identity(through)?, alarm).await;
        disarmed.map_err(said_by(through))
    }

    pub(super) async fn compact(&self, through: &MemberName, revision: i64) -> Result<(), ActError> {
        match self.client(through)?.compact(self.identity(through)?, revision).await {
            // It is done, or goes on.
            Err(source) if matches!(source.kind(), ErrorKind::AlreadySo | ErrorKind::TimedOut) => Ok(()),
            result => result.map_err(said_by(through)),
        }
    }

    /// It goes on where nobody waits for it any more, and shows in the size of the database.
    pub(super) async fn defragment(&self, member: &MemberName) -> Result<Outcome, ActError> {
        if let Some(refused) = self.objection_to_a_disturbance(member).await? {
            return Ok(refused);
        }
        match self.client(member)?.defragment(self.identity(member)?).await {
            Err(source) if source.kind() != ErrorKind::TimedOut => Err(said_by(member)(source)),
            _ => Ok(Outcome::default()),
        }
    }

    pub(super) async fn move_leader(
        &self,
        from: &MemberName,
        expected: Identity,
        to: MemberId,
    ) -> Result<(), ActError> {
        let moved = self.client(from)?.move_leader(expected, to).await;
        moved.map_err(said_by(from))
    }

    /// Whether it took effect is read, never taken from the answer: 3.5 carries it out and says that it timed out.
    /// `times` says how often in a row it was asked for before.
    pub(super) async fn downgrade(
        &self,
        through: &MemberName,
        call: DowngradeCall,
        times: u32,
    ) -> Result<Outcome, ActError> {
        if let Some(refused) = self.object_was_changed().await? {
            return Ok(refused);
        }
        match self.client(through)?.downgrade(self.identity(through)?, call).await {
            Err(source) if source.kind() != ErrorKind::TimedOut => Err(said_by(through)(source)),
            _ if times < TAKES_EFFECT_WITHIN => Ok(Outcome::default()),
            _ => Ok(without_effect(times + 1, call)),
        }
    }

    /// The answer where what a disturbance of this member rests on does not hold any more, read live.
    pub(super) async fn objection_to_a_disturbance(
        &self,
        member: &MemberName,
    ) -> Result<Option<Outcome>, ActError> {
        match self.object_was_changed().await? {
            None => self.another_leaves(member).await,
            refused => Ok(refused),
        }
    }

    /// The answer where the spec or the status is not what was observed any more.
    pub(super) async fn object_was_changed(&self) -> Result<Option<Outcome>, ActError> {
        let cluster = self.api::<EtcdCluster>().get_metadata(self.name()).await?;
        let changed =
            cluster.metadata.resource_version.as_ref() != Some(&self.world.cluster.resource_version);
        Ok(changed
            .then(|| Outcome::refused(Code::AnotherDisturbance, "the EtcdCluster was changed meanwhile")))
    }

    /// Nothing, where a member's Pod is the one that was observed, and not about to go. An eviction leaves no mark on
    /// the EtcdCluster, so that another operator's, which is under way since, shows here only.
    pub(super) async fn is_as_seen(&self, member: &MemberName) -> Result<Outcome, ActError> {
        let live = self.api::<Pod>().get_metadata_opt(&member.to_string()).await?;
        let live = live.filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let seen = self.world.pods.get(member).filter(|pod| !pod.deleting).map(|pod| &pod.uid);
        if live.as_ref().and_then(|pod| pod.metadata.uid.as_ref()) == seen {
            return Ok(Outcome::default());
        }
        Ok(Outcome::refused(Code::AnotherDisturbance, format!("the Pod of {member} has changed meanwhile")))
    }

    /// As whom a member answered when the step was planned.
    fn identity(&self, member: &MemberName) -> Result<Identity, ActError> {
        let status = self.world.answers.get(member).and_then(Answer::status);
        Ok(status.ok_or_else(|| ActError::Gone(format!("the answer of {member}")))?.identity())
    }

    /// Where a member's Pod answers.
    fn client(&self, member: &MemberName) -> Result<MemberClient, ActError> {
        let pod = self.world.pods.get(member);
        pod.and_then(|pod| client_of(&self.ctx.channels, self.world, member, pod))
            .ok_or_else(|| ActError::Gone(format!("the Pod of {member}")))
    }

    /// Through the Eviction API, so that drains and the operator share one budget. Right before it what the
    /// stop rests on is read live once more: the claim (whoever withdrew or changed it has changed the
    /// object), and that no other member has begun to go away since.
    pub(super) async fn stop(&self, stop: &Stop) -> Result<Outcome, ActError> {
        if let Some(refused) = self.object_was_changed().await? {
            return Ok(refused);
        }
        if !stop.is_down()
            && let Some(refused) = self.another_leaves(stop.member()).await?
        {
            return Ok(refused);
        }
        let params = EvictParams {
            delete_options: Some(DeleteParams {
                preconditions: Some(Preconditions {
                    resource_version: stop.resource_version().map(str::to_owned),
                    ..this(stop.uid())
                }),
                ..DeleteParams::default()
            }),
            post_options: PostParams::default(),
        };
        match self.api::<Pod>().evict(&stop.member().to_string(), &params).await {
            Err(kube::Error::Api(status)) if status.code == 429 => Ok(Outcome::refused(
                Code::DisruptionBudget,
                format!("{} is not evicted: {}", stop.member(), refusal(&status)),
            )),
            result => gone_is_fine(result.map(|_| ())).map(|()| Outcome::default()),
        }
    }

    /// The answer where another member's Pod has begun to go away since.
    async fn another_leaves(&self, member: &MemberName) -> Result<Option<Outcome>, ActError> {
        let members = ListParams::default().labels(&labels::selector_of_cluster(self.name()));
        let pods = self.api::<Pod>().list_metadata(&members).await?;
        // That of one which was removed may hang on a node that is gone, and takes nothing away.
        let is_member = |name: &str| {
            let list = self.world.member_list.as_ref();
            list.is_none_or(|list| list.iter().any(|listed| listed.name == name))
        };
        let leaving = pods.items.iter().find(|pod| {
            pod.metadata.deletion_timestamp.is_some()
                && pod.labels().contains_key(labels::MEMBER)
                && pod.name_any() != member.to_string()
                && is_member(&pod.name_any())
        });
        Ok(leaving.map(|leaving| {
            let message = format!("{member} must wait: {} has begun to go away", leaving.name_any());
            Outcome::refused(Code::AnotherDisturbance, message)
        }))
    }

    /// The end of the log of the member that is given up: of the run before, where there was one.
    pub(super) async fn evidence(&self, claim: &Claim) -> Outcome {
        if claim.failure.is_none() {
            return Outcome::default();
        }
        let name = claim.member.to_string();
        let pods = self.api::<Pod>();
        let params = |previous| LogParams {
            previous,
            tail_lines: Some(LOG_LINES),
            limit_bytes: Some(LOG_BYTES),
            ..LogParams::default()
        };
        // The kubelet answers with a line of its own where the container was removed in the same moment (seen under load).
        let is_a_log =
            |log: &String| !log.is_empty() && !log.starts_with("unable to retrieve container logs for ");
        let log = match pods.logs(&name, &params(true)).await.ok().filter(is_a_log) {
            Some(log) => Some(log),
            None => pods.logs(&name, &params(false)).await.ok().filter(is_a_log),
        };
        Outcome { refused: None, log }
    }
}
