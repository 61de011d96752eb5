//! The ways to write to the API server, each with the precondition that makes it harmless to come
//! second: created only where nothing is, changed and deleted only where it is what was observed.

use super::{ActError, Hands};
use crate::api::{Code, FIELD_MANAGER, labels};
use crate::cluster::names::MemberName;
use crate::cluster::objects::pod::initial_annotations;
use crate::cluster::objects::support::{Specified, Wanted};
use crate::cluster::observation::ClaimFacts;
use crate::cluster::plan::NewPod;
use crate::cluster::report::Outcome;
use futures::future::join_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Status;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;

impl Hands<'_> {
    pub(super) fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::namespaced(self.ctx.client.clone(), &self.world.cluster.namespace)
    }

    /// Creates what may exist already: whoever came first made the same.
    pub(super) async fn create<K>(&self, objects: Vec<K>) -> Result<Outcome, ActError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        self.create_or_say(Code::PodRefused, objects).await
    }

    /// The same, with the word for a no of the API server.
    pub(super) async fn create_or_say<K>(&self, code: Code, objects: Vec<K>) -> Result<Outcome, ActError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        let api = self.api::<K>();
        let post = post();
        let mut outcome = Outcome::default();
        for result in join_all(objects.iter().map(|object| api.create(&post, object))).await {
            match result {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                Err(kube::Error::Api(status)) if status.is_forbidden() || status.is_invalid() => {
                    outcome = Outcome::refused(code, refusal(&status));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(outcome)
    }

    /// Server-side apply to the very object that was observed. Where there was none its skeleton is
    /// created first: an apply takes over whatever stands under the name, also what somebody else has put
    /// there since the observation.
    pub(super) async fn apply<K>(
        &self,
        wanted: Wanted<K>,
        observed: Option<&ObjectMeta>,
    ) -> Result<(), ActError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Specified
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let mut object = wanted.stamped();
        let api = self.api::<K>();
        object.meta_mut().uid = match observed {
            Some(metadata) => metadata.uid.clone(),
            None => match api.create(&post(), &object.skeleton()).await {
                Ok(created) => created.meta().uid.clone(),
                // Whose it is shows at the next look.
                Err(kube::Error::Api(status)) if status.is_already_exists() => return Ok(()),
                Err(error) => return Err(error.into()),
            },
        };
        let name = object.meta().name.clone().unwrap_or_default();
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match api.patch(&name, &params, &Patch::Apply(&object)).await {
            Err(kube::Error::Api(status)) if is_another_object(&status) => Ok(()),
            result => gone_is_fine(result.map(|_| ())),
        }
    }

    pub(super) async fn delete<K>(
        &self,
        name: &str,
        preconditions: Option<Preconditions>,
    ) -> Result<(), ActError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let params = DeleteParams { preconditions, ..DeleteParams::default() };
        gone_is_fine(self.api::<K>().delete(name, &params).await.map(|_| ()))
    }

    /// Writes on the claim that was observed: one made again under its name meanwhile says nothing of us.
    pub(super) async fn annotate(&self, member: &MemberName, annotations: Value) -> Result<(), ActError> {
        let claim =
            self.world.claims.get(member).ok_or_else(|| ActError::Gone(format!("the claim of {member}")))?;
        if claim.in_pod {
            return self.patch_pod(member, &claim.uid, json!({ "annotations": annotations })).await;
        }
        let patch = json!({ "metadata": { "annotations": annotations } });
        Ok(self.patch_claim(member, &claim.uid, patch).await?)
    }

    /// Changes the claim of this UID.
    pub(super) async fn patch_claim(
        &self,
        member: &MemberName,
        uid: &str,
        mut patch: Value,
    ) -> Result<(), kube::Error> {
        patch["metadata"]["uid"] = json!(uid);
        let claims = self.api::<PersistentVolumeClaim>();
        claims.patch(&member.claim(), &PatchParams::default(), &Patch::Merge(patch)).await.map(|_| ())
    }

    /// Changes labels and annotations of the Pod that was observed.
    pub(super) async fn patch_pod(
        &self,
        member: &MemberName,
        uid: &str,
        mut metadata: Value,
    ) -> Result<(), ActError> {
        metadata["uid"] = json!(uid);
        self.patch_this_pod(member, &Patch::Merge(json!({ "metadata": metadata }))).await
    }

    /// Lets a Pod be started that was made before: its member may have an address from here on. It must be what was seen, so
    /// that nobody comes late to one that runs; gates of others stay.
    pub(super) async fn start_pod(&self, new: &NewPod, seen: &ClaimFacts) -> Result<(), ActError> {
        let mut annotations =
            json!(initial_annotations(self.namespace(), &new.member, &new.initial, self.world.wire()));
        annotations[labels::REVISION] = json!(new.revision);
        let labels = json!({ labels::ROLE: labels::role(new.role) });
        let metadata = json!({
            "uid": seen.uid, "resourceVersion": seen.resource_version, "annotations": annotations, "labels": labels
        });
        let gates = json!([{ "$patch": "delete", "name": labels::GATE }]);
        let patch = json!({ "metadata": metadata, "spec": { "schedulingGates": gates } });
        self.patch_this_pod(&new.member, &Patch::Strategic(patch)).await
    }

    async fn patch_this_pod(&self, member: &MemberName, patch: &Patch<Value>) -> Result<(), ActError> {
        let patched = self.api::<Pod>().patch(&member.to_string(), &PatchParams::default(), patch).await;
        gone_is_fine(patched.map(|_| ()))
    }
}

/// The object of this UID, whatever it has become.
pub(super) fn this(uid: &str) -> Preconditions {
    Preconditions { uid: Some(uid.to_owned()), resource_version: None }
}

fn post() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

/// An apply to a UID that is not the live object's is refused as a change of an immutable field.
fn is_another_object(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| details.causes.iter());
    status.is_invalid() && causes.into_iter().any(|cause| cause.field == "metadata.uid")
}

/// Somebody else was first, or the object is another one by now: the next observation shows what is.
pub(super) fn gone_is_fine(result: Result<(), kube::Error>) -> Result<(), ActError> {
    match result {
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        result => Ok(result?),
    }
}

pub(super) fn refusal(status: &Status) -> String {
    let cause =
        status.details.iter().flat_map(|details| details.causes.iter()).map(|cause| cause.message.clone());
    let causes: Vec<String> =
        cause.filter(|message| !message.is_empty() && !status.message.contains(message)).collect();
    if causes.is_empty() {
        status.message.clone()
    } else {
        format!("{} ({})", status.message, causes.join("; "))
    }
}
