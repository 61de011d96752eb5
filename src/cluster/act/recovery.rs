//! What is done to make a cluster anew from one member.

use super::writes::{gone_is_fine, this};
use super::{ActError, Hands, voters_note};
use crate::api::{Code, labels};
use crate::cluster::names::MemberName;
use crate::cluster::objects::recovery::{self, NewRecoveryPod};
use crate::cluster::observation::SetAside;
use crate::cluster::report::Outcome;
use crate::etcd::{ClusterId, MemberId};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

impl Hands<'_> {
    pub(super) async fn take_back(&self, members: &[MemberName]) -> Result<Outcome, ActError> {
        if let Some(refused) = self.object_was_changed().await? {
            return Ok(refused);
        }
        let aside = members.iter().filter_map(|member| Some((member, self.world.set_aside.get(member)?)));
        let patch = json!({ "metadata": {
            "labels": { labels::SET_ASIDE: Value::Null },
            "annotations": { labels::SET_ASIDE_SINCE: Value::Null },
        } });
        let take_back = async |(member, claim): (&MemberName, &SetAside)| {
            gone_is_fine(self.patch_claim(member, &claim.uid, patch.clone()).await)
        };
        try_join_all(aside.map(take_back)).await?;
        Ok(Outcome::default())
    }

    pub(super) async fn leave_alone(
        &self,
        member: &MemberName,
        id: MemberId,
        cluster_id: ClusterId,
        incident: &str,
    ) -> Result<Outcome, ActError> {
        if let Some(refused) = self.object_was_changed().await? {
            return Ok(refused);
        }
        if let Some(refused) = self.unseen_pod().await? {
            return Ok(refused);
        }
        let alone = BTreeMap::from([(member.clone(), id)]);
        let notes = json!({
            labels::CLUSTER_ID: cluster_id.to_string(),
            labels::VOTERS: voters_note(&alone),
            labels::RECOVERING: incident,
        });
        self.annotate(member, notes).await?;
        Ok(Outcome::default())
    }

    pub(super) async fn create_recovery_pod(&self, new: &NewRecoveryPod) -> Result<Outcome, ActError> {
        if let Some(refused) = self.object_was_changed().await? {
            return Ok(refused);
        }
        if let Some(refused) = self.unseen_pod().await? {
            return Ok(refused);
        }
        let revision = self.revision(&new.revision)?;
        self.create(vec![recovery::pod(self.namespace(), self.name(), new, revision, self.owner())]).await
    }

    pub(super) async fn delete_recovery_pods(&self, pods: &[(String, String)]) -> Result<(), ActError> {
        try_join_all(pods.iter().map(|(pod, uid)| self.delete::<Pod>(pod, Some(this(uid))))).await?;
        Ok(())
    }

    /// The answer where a Pod of a member stands that was not seen when this was decided.
    async fn unseen_pod(&self) -> Result<Option<Outcome>, ActError> {
        let members = ListParams::default().labels(&labels::selector_of_cluster(self.name()));
        let pods = self.api::<Pod>().list_metadata(&members).await?;
        let seen: BTreeSet<&str> = self.world.pods.values().map(|pod| pod.uid.as_str()).collect();
        let mut unseen = pods.items.iter().filter(|pod| {
            let is_seen = pod.metadata.uid.as_deref().is_some_and(|uid| seen.contains(uid));
            pod.labels().contains_key(labels::MEMBER) && !is_seen
        });
        Ok(unseen.next().map(|pod| {
            let message = format!("the Pod {} was made meanwhile", pod.name_any());
            Outcome::refused(Code::AnotherDisturbance, message)
        }))
    }
}
