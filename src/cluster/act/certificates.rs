//! Makes the authority of a cluster, and certificates.

use super::writes::gone_is_fine;
use super::{ActError, Hands};
use crate::api::{Code, FIELD_MANAGER};
use crate::cluster::names::authority_secret;
use crate::cluster::objects::secrets::{self, Holder};
use crate::cluster::plan::NewPair;
use crate::cluster::report::Outcome;
use crate::cluster::spec::keeps_data_in_pods;
use crate::pki::{Made, issue, new_authority};
use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource;
use kube::api::{Patch, PatchParams};
use serde_json::json;

impl Hands<'_> {
    /// Created where nothing is: whoever came first made the one that counts.
    pub(super) async fn create_authority(
        &self,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<Outcome, ActError> {
        let whose = format!("{}/{}", self.namespace(), self.name());
        let made = new_authority(&whose, not_before, not_after)?;
        // Where the data goes with the EtcdCluster, so does who vouched for its members.
        let owner = keeps_data_in_pods(&self.world.cluster.spec).then(|| self.owner());
        let secret = secrets::authority(self.namespace(), self.name(), &made, owner);
        let outcome = self.create_or_say(Code::StepRefused, vec![secret]).await;
        self.forget_secrets([authority_secret(self.name()).as_str()].into_iter());
        outcome
    }

    pub(super) async fn issue_certificates(&self, pairs: &[NewPair]) -> Result<Outcome, ActError> {
        let (authority, trusted) = self.authority().await?;
        let mut new = Vec::new();
        let mut renewed = Vec::new();
        for pair in pairs {
            let made = issue(&pair.request, &authority)?;
            let Some(owner) = self.owner_of(&pair.holder) else { continue };
            if let Some((uid, resource_version)) = &pair.replaces {
                let mut metadata = json!({ "uid": uid, "resourceVersion": resource_version });
                metadata["ownerReferences"] = json!([owner]);
                let data = secrets::contents(&made, &trusted);
                renewed.push((&pair.secret, json!({ "metadata": metadata, "data": data })));
            } else {
                let (namespace, cluster) = (self.namespace(), self.name());
                new.push(secrets::pair(namespace, cluster, &pair.secret, &made, &trusted, owner));
            }
        }
        let outcome = self.create_or_say(Code::StepRefused, new).await;
        let api = self.api::<Secret>();
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let renewals = renewed.iter().map(async |(name, patch)| {
            gone_is_fine(api.patch(name, &params, &Patch::Merge(patch)).await.map(|_| ()))
        });
        let renewals = try_join_all(renewals).await;
        self.forget_secrets(pairs.iter().map(|pair| pair.secret.as_str()));
        renewals?;
        outcome
    }

    /// The authority with its key, and whom its certificates trust; the very one that was observed.
    async fn authority(&self) -> Result<(Made, String), ActError> {
        let name = authority_secret(self.name());
        let gone = || ActError::Gone(format!("the Secret {name}"));
        let seen = self.world.secrets.get(&name).ok_or_else(gone)?;
        let secret = self.api::<Secret>().get(&name).await?;
        if secret.metadata.uid.as_ref() != Some(&seen.uid)
            || secret.metadata.resource_version.as_ref() != Some(&seen.resource_version)
        {
            self.forget_secrets([name.as_str()].into_iter());
            return Err(gone());
        }
        let data = secret.data.unwrap_or_default();
        let text = |key: &str| {
            data.get(key).and_then(|bytes| String::from_utf8(bytes.0.clone()).ok()).ok_or_else(gone)
        };
        Ok((Made { certificate: text("tls.crt")?, key: text("tls.key")? }, text("ca.crt")?))
    }

    /// What a member shows goes with what it keeps its data in, and all else with the `EtcdCluster`.
    fn owner_of(&self, holder: &Holder) -> Option<OwnerReference> {
        let Holder::Member(member) = holder else { return Some(self.owner()) };
        let claim = self.world.claims.get(member)?;
        let (api_version, kind, name) = if claim.in_pod {
            (Pod::api_version(&()), Pod::kind(&()), member.to_string())
        } else {
            let kind = PersistentVolumeClaim::kind(&());
            (PersistentVolumeClaim::api_version(&()), kind, member.claim())
        };
        Some(OwnerReference {
            api_version: api_version.into_owned(),
            kind: kind.into_owned(),
            name,
            uid: claim.uid.clone(),
            controller: None,
            block_owner_deletion: None,
        })
    }

    fn forget_secrets<'a>(&self, names: impl Iterator<Item = &'a str>) {
        self.ctx.secrets.forget(&self.world.cluster.uid, names);
    }
}
