//! Many clusters beside one operator. A machine that runs the bench holds no thousand etcd clusters, so these are paused
//! from the beginning: they have no members, and are watched, observed, planned and reported like any other.

use crate::operator::{Memory, Operator};
use anyhow::bail;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt as _};
use quorate::api::EtcdCluster;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::sleep;

pub const CLUSTERS: usize = 1_000;
const LABEL: &str = "quorate.dev/bench";
const AT_ONCE: usize = 8;
const REPORTED_WITHIN: Duration = Duration::from_mins(5);
/// Several of the operator's health rounds.
const IDLE: Duration = Duration::from_mins(1);

/// What the operator costs beside many clusters.
pub struct Scale {
    pub memory: Memory,
    /// From the first one made to the last one reported.
    pub reported: Duration,
}

pub async fn measure(client: &Client, namespace: &str, operator: &Operator) -> anyhow::Result<Scale> {
    let api = Api::<EtcdCluster>::namespaced(client.clone(), namespace);
    println!("{CLUSTERS} more clusters");
    let began = Instant::now();
    let measured = async {
        let created = futures::stream::iter(0..CLUSTERS).map(|number| create(&api, number));
        created.buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
        until_reported(&api, began).await?;
        let reported = began.elapsed();
        sleep(IDLE).await;
        Ok(Scale { memory: operator.memory()?, reported })
    }
    .await;
    api.delete_collection(&DeleteParams::default(), &ListParams::default().labels(LABEL)).await?;
    measured
}

async fn create(api: &Api<EtcdCluster>, number: usize) -> kube::Result<()> {
    let cluster: EtcdCluster = serde_json::from_value(json!({
        "apiVersion": "quorate.dev/v1alpha1",
        "kind": "EtcdCluster",
        "metadata": { "name": format!("many-{number:04}"), "labels": { LABEL: "many" } },
        "spec": { "version": "3.6.16", "paused": true },
    }))
    .map_err(kube::Error::SerdeError)?;
    api.create(&PostParams::default(), &cluster).await.map(|_| ())
}

async fn until_reported(api: &Api<EtcdCluster>, began: Instant) -> anyhow::Result<()> {
    loop {
        let all = api.list(&ListParams::default().labels(LABEL)).await?;
        let silent = all.iter().find(|cluster| {
            let status = cluster.status.as_ref();
            status.and_then(|status| status.observed_generation) != cluster.metadata.generation
        });
        match silent {
            None if all.items.len() == CLUSTERS => return Ok(()),
            Some(silent) if began.elapsed() > REPORTED_WITHIN => {
                bail!("{} has no status after {REPORTED_WITHIN:?}", silent.name_any())
            }
            _ => sleep(Duration::from_secs(1)).await,
        }
    }
}
