//! The two that are compared: a plain StatefulSet, and an `EtcdCluster`. How each is created, told to
//! change its version, known to be done, and removed.

use crate::live::Live;
use crate::statefulset;
use anyhow::{Context as _, bail};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolume, PersistentVolumeClaim, Pod, Service};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt as _};
use quorate::api::{ConditionType, EtcdCluster, EtcdClusterSpec, find_condition, labels};
use serde_json::json;
use std::fmt;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Both are called this; each has a namespace of its own.
pub const NAME: &str = "etcd";
const REMOVED_WITHIN: Duration = Duration::from_mins(3);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    StatefulSet,
    Quorate,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StatefulSet => "StatefulSet",
            Self::Quorate => "Quorate",
        })
    }
}

pub struct Contender {
    side: Side,
    client: Client,
    namespace: &'static str,
}

impl Contender {
    pub async fn new(client: &Client, side: Side) -> anyhow::Result<Self> {
        let namespace = match side {
            Side::StatefulSet => "bench-statefulset",
            Side::Quorate => "bench-quorate",
        };
        let metadata = ObjectMeta { name: Some(namespace.to_owned()), ..ObjectMeta::default() };
        create(&Api::all(client.clone()), Namespace { metadata, ..Namespace::default() }).await?;
        Ok(Self { side, client: client.clone(), namespace })
    }

    pub const fn side(&self) -> Side {
        self.side
    }

    pub const fn namespace(&self) -> &'static str {
        self.namespace
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    /// Asks for three members of this version.
    pub async fn create(&self, version: &str) -> anyhow::Result<()> {
        let spec = spec(version)?;
        match self.side {
            Side::StatefulSet => {
                create(&self.api::<Service>(), statefulset::service(self.namespace, &spec)).await?;
                create(&self.api::<StatefulSet>(), statefulset::statefulset(self.namespace, &spec)?).await
            }
            Side::Quorate => create(&self.api(), EtcdCluster::new(NAME, spec)).await,
        }
    }

    /// Asks for another version: the one edit that a user makes.
    pub async fn change_version(&self, version: &str) -> anyhow::Result<()> {
        let params = PatchParams::default();
        match self.side {
            Side::StatefulSet => {
                let image = statefulset::image(&spec(version)?)?;
                let containers = json!([{ "name": "etcd", "image": image }]);
                let patch = json!({ "spec": { "template": { "spec": { "containers": containers } } } });
                self.api::<StatefulSet>().patch(NAME, &params, &Patch::Strategic(patch)).await?;
            }
            Side::Quorate => {
                let patch = json!({ "spec": { "version": version } });
                self.api::<EtcdCluster>().patch(NAME, &params, &Patch::Merge(patch)).await?;
            }
        }
        Ok(())
    }

    /// The members' Pods, kept current. Pods that try an image out are not among them.
    pub fn pods(&self) -> Live<Pod> {
        Live::watch(self.api(), &format!("{}={}", labels::COMPONENT, labels::COMPONENT_MEMBER))
    }

    /// The `EtcdCluster`, kept current; nothing on the other side.
    pub fn clusters(&self) -> Live<EtcdCluster> {
        Live::watch(self.api(), "")
    }

    /// Whether all is done: of a StatefulSet when its Pods are ready, of Quorate when it says `Ready`, which comes
    /// after its last gate.
    pub fn is_done(&self, pods_ready: bool, clusters: &[EtcdCluster], version: &str) -> anyhow::Result<bool> {
        match (self.side, clusters) {
            (Side::StatefulSet, _) => Ok(pods_ready),
            (Side::Quorate, [cluster]) => is_converged(cluster, version),
            (Side::Quorate, _) => Ok(false),
        }
    }

    /// Removes everything, and waits until the volumes are gone too: the next round begins on a quiet machine.
    pub async fn remove(&self) -> anyhow::Result<()> {
        match self.side {
            Side::StatefulSet => {
                delete(&self.api::<StatefulSet>()).await?;
                delete(&self.api::<Service>()).await?;
            }
            Side::Quorate => delete(&self.api::<EtcdCluster>()).await?,
        }
        let until = Instant::now() + REMOVED_WITHIN;
        while Instant::now() < until {
            let all = ListParams::default();
            let pods = self.api::<Pod>().list_metadata(&all).await?.items.len();
            let claims = self.api::<PersistentVolumeClaim>().list_metadata(&all).await?.items.len();
            let volumes = Api::<PersistentVolume>::all(self.client.clone()).list(&all).await?;
            let ours = |volume: &&PersistentVolume| {
                let claim = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
                claim.and_then(|claim| claim.namespace.as_deref()) == Some(self.namespace)
            };
            if pods + claims + volumes.items.iter().filter(ours).count() == 0 {
                // The provisioner's helper Pods, the etcds' last fsyncs.
                sleep(Duration::from_secs(3)).await;
                return Ok(());
            }
            sleep(Duration::from_millis(500)).await;
        }
        bail!("namespace {} is not empty after {} s", self.namespace, REMOVED_WITHIN.as_secs())
    }
}

/// The spec of the `EtcdCluster`, out of which the StatefulSet's Pods are made as well.
fn spec(version: &str) -> anyhow::Result<EtcdClusterSpec> {
    let storage = json!({ "size": "1Gi", "retentionPolicy": { "whenDeleted": "Delete" } });
    Ok(serde_json::from_value(json!({ "version": version, "replicas": 3, "storage": storage }))?)
}

/// Ready for this generation, on this version, nothing left to do. An error when the operator says that it
/// will not go on.
fn is_converged(cluster: &EtcdCluster, version: &str) -> anyhow::Result<bool> {
    let Some(status) = &cluster.status else { return Ok(false) };
    if status.observed_generation != cluster.metadata.generation {
        return Ok(false);
    }
    let holds = |kind| find_condition(&status.conditions, kind).filter(|found| found.status == "True");
    if let Some(stalled) = holds(ConditionType::Stalled) {
        bail!("{}: {}", stalled.reason, stalled.message);
    }
    Ok(status.version.as_deref() == Some(version)
        && holds(ConditionType::Ready).is_some()
        && holds(ConditionType::Reconciling).is_none())
}

async fn create<K>(api: &Api<K>, object: K) -> anyhow::Result<()>
where
    K: Resource<DynamicType = ()> + Clone + fmt::Debug + serde::Serialize + serde::de::DeserializeOwned,
{
    match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        result => result
            .map(|_| ())
            .with_context(|| format!("cannot create {} {}", K::kind(&()), object.name_any())),
    }
}

async fn delete<K>(api: &Api<K>) -> anyhow::Result<()>
where
    K: Resource<DynamicType = ()> + Clone + fmt::Debug + serde::de::DeserializeOwned,
{
    match api.delete(NAME, &DeleteParams::background()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        result => result.map(|_| ()).with_context(|| format!("cannot delete {} {NAME}", K::kind(&()))),
    }
}
