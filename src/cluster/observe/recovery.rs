//! What a recovery from one member needs to know: its Pods, what etcd in them answers, and every node.

use super::facts;
use super::members::{alone, client_of};
use crate::api::{Action, labels};
use crate::cluster::context::Context;
use crate::cluster::names::MemberName;
use crate::cluster::observation::{ClusterFacts, Observation, Ownership, RecoveryPod, Stage};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

/// The Pods of a recovery that are this cluster's.
pub(super) fn pods(pods: &[Pod], cluster: &ClusterFacts) -> Vec<RecoveryPod> {
    let read = |pod: &Pod| {
        let annotations = pod.annotations();
        let facts = facts::pod(pod, cluster);
        (facts.ownership == Ownership::Ours).then_some(RecoveryPod {
            name: pod.name_any(),
            stage: Stage::parse(annotations.get(labels::STAGE)?)?,
            incident: annotations.get(labels::INCIDENT)?.clone(),
            facts,
            says: Err("no address yet".to_owned()),
        })
    };
    pods.iter().filter_map(read).collect()
}

/// Every node, where a recovery is asked for or under way; and what the survivor says that was forced.
pub(super) async fn what_it_needs(ctx: &Context, world: &mut Observation) {
    let progress = world.cluster.status.progress.as_ref();
    let claim = progress.filter(|progress| progress.action == Action::Recover);
    if claim.is_none() && (world.cluster.spec.recovery.is_none() || !world.lacks_a_quorum()) {
        return;
    }
    world.recovery.nodes = ctx.nodes.all(&ctx.client).await;
    let survivor = claim.and_then(|claim| MemberName::parse(&world.cluster.name, &claim.member));
    let Some(survivor) = survivor else { return };
    let mut pods = std::mem::take(&mut world.recovery.pods);
    for pod in pods.iter_mut().filter(|pod| pod.stage == Stage::Force && !pod.facts.ended) {
        if let Some(client) = client_of(&ctx.channels, world, &survivor, &pod.facts) {
            pod.says = alone(&client).await.map_err(|error| error.to_string());
        }
    }
    world.recovery.pods = pods;
}
