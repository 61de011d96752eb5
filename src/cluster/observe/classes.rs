//! The classes of storage that Kubernetes has: asked about only while volumes are to be made, or to be others.

use super::remembered::Remembered;
use crate::cluster::context::Context;
use crate::cluster::observation::{ClusterFacts, Observation};
use crate::cluster::spec::storage_class;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use std::collections::BTreeMap;
use std::time::Duration;

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// Between two reads: a volume that grows is looked at several times a second.
const KNOWN_FOR: Duration = Duration::from_secs(2);

/// Every class, and whether its volumes may grow.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Classes(Remembered<BTreeMap<String, bool>>);

impl Classes {
    async fn all(&self, client: &Client) -> Option<BTreeMap<String, bool>> {
        let grows = |class: &StorageClass| class.allow_volume_expansion == Some(true);
        let read = || async move {
            Ok(list(client).await?.iter().map(|class| (class.name_any(), grows(class))).collect())
        };
        self.0.all(KNOWN_FOR, read).await
    }
}

async fn list(client: &Client) -> Result<Vec<StorageClass>, kube::Error> {
    Ok(Api::<StorageClass>::all(client.clone()).list(&ListParams::default()).await?.items)
}

/// Asked only while new volumes may have to be made.
pub(super) async fn default_storage_class(
    ctx: &Context,
    facts: &ClusterFacts,
) -> Result<Option<bool>, kube::Error> {
    if facts.status.cluster_id.is_some() || storage_class(&facts.spec).is_some() {
        return Ok(None);
    }
    let is_default =
        |class: &StorageClass| class.annotations().get(DEFAULT_CLASS).is_some_and(|value| value == "true");
    match list(&ctx.client).await {
        Ok(classes) => Ok(Some(classes.iter().any(is_default))),
        // An operator of single namespaces may not read what belongs to the whole cluster.
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Asked only while volumes are to be others. Who may not read classes hears from the API server what they allow.
pub(super) async fn classes(ctx: &Context, world: &Observation) -> Option<BTreeMap<String, bool>> {
    if !world.wants_other_volumes() {
        return None;
    }
    ctx.classes.all(&ctx.client).await
}
