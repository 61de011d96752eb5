//! Watches: what makes the loop run. I/O; it decides nothing.

use super::context::Context;
use super::{Error, reconcile};
use crate::api::{EtcdCluster, labels};
use crate::process::Shutdown;
use futures::StreamExt;
use futures::future::join_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{self, Action, Config};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{Controller, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::Instrument;

/// Only names and labels are kept in memory; what counts is read live at each pass.
type Meta<K> = PartialObjectMeta<K>;

/// Passes that run at the same time. Most of a pass is waiting for answers.
const CONCURRENCY: u16 = 64;

/// Looks after the clusters of these namespaces, all when there are none, until the end is requested.
pub async fn run(ctx: Arc<Context>, client: &Client, namespaces: &[String], shutdown: &Shutdown) {
    let scopes: Vec<Option<&str>> = if namespaces.is_empty() {
        vec![None]
    } else {
        namespaces.iter().map(|name| Some(name.as_str())).collect()
    };
    join_all(scopes.into_iter().map(|namespace| watch(ctx.clone(), client, namespace, shutdown))).await;
}

async fn watch(ctx: Arc<Context>, client: &Client, namespace: Option<&str>, shutdown: &Shutdown) {
    let end = shutdown.clone();
    let ours = watcher::Config::default().labels(&format!("{}=quorate", labels::MANAGED_BY));
    Controller::new(api::<Meta<EtcdCluster>>(client, namespace), watcher::Config::default())
        .with_config(Config::default().concurrency(CONCURRENCY))
        .owns(api::<Meta<Pod>>(client, namespace), ours.clone())
        .owns(api::<Meta<Service>>(client, namespace), ours.clone())
        .owns(api::<Meta<PodDisruptionBudget>>(client, namespace), ours.clone())
        // Claims have no owner, so that they outlive their cluster; a label says whose they are.
        .watches(api::<Meta<PersistentVolumeClaim>>(client, namespace), ours, |claim| {
            let cluster = claim.labels().get(labels::CLUSTER)?;
            Some(ObjectRef::new(cluster).within(&claim.namespace()?))
        })
        .graceful_shutdown_on(async move {
            end.requested().await;
        })
        .run(pass, |_, _, _| Action::requeue(Duration::from_secs(1)), ctx.clone())
        .for_each(|result| {
            match result {
                // No pass is made for a cluster that is gone: this is where it shows.
                Err(controller::Error::ObjectNotFound(gone)) => {
                    ctx.forget(gone.namespace.as_deref().unwrap_or_default(), &gone.name);
                }
                Err(error) => tracing::debug!(%error, "controller"),
                Ok(_) => {}
            }
            std::future::ready(())
        })
        .await;
}

fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// One pass, timed and logged. It returns no error to the controller: how long to wait is ours to say.
#[allow(clippy::disallowed_methods, reason = "the duration of a pass is a metric, nothing is decided by it")]
async fn pass(
    cluster: Arc<Meta<EtcdCluster>>,
    ctx: Arc<Context>,
) -> Result<Action, std::convert::Infallible> {
    let (namespace, name) = (cluster.namespace().unwrap_or_default(), cluster.name_any());
    let uid = cluster.uid().unwrap_or_default();
    let span = tracing::info_span!("reconcile", namespace, cluster = name);
    let begun = Instant::now();
    let result = Box::pin(reconcile(&ctx, &namespace, &name)).instrument(span.clone()).await;
    ctx.metrics.reconciled(begun.elapsed(), result.as_ref().err().map(Error::kind));
    Ok(match result {
        Ok(Some(next)) => Action::requeue(next),
        Ok(None) => Action::await_change(),
        Err(error) => {
            let wait = if error.kind() == "conflict" {
                Duration::from_millis(50)
            } else {
                ctx.failed(&namespace, &name, &uid)
            };
            span.in_scope(|| {
                if error.kind() == "conflict" {
                    tracing::debug!(%error, "somebody else wrote first");
                } else {
                    tracing::warn!(kind = error.kind(), wait_ms = wait.as_millis(), "{error}");
                }
            });
            Action::requeue(wait)
        }
    })
}
