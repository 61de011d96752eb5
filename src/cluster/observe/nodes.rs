//! Nodes of members that are cordoned or not ready. They are read whole, which is much, so only while a change is
//! about to begin with a member; a node that cannot be read says nothing, as where the role does not allow it.

use crate::cluster::observation::{ClusterFacts, NodeTrouble};
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Members answer meanwhile, within limits that are not shorter.
const LIMIT: Duration = Duration::from_secs(1);

/// Whether a member may be about to be claimed: there is a plan or a new spec, and nobody is claimed.
pub(super) fn matter_to(cluster: &ClusterFacts) -> bool {
    let status = &cluster.status;
    let is_new = status.observed_generation != Some(cluster.generation);
    status.cluster_id.is_some() && status.progress.is_none() && (is_new || status.plan.is_some())
}

/// What is wrong with each of these nodes, where anything is.
pub(super) async fn in_trouble(client: &Client, nodes: &BTreeSet<String>) -> BTreeMap<String, NodeTrouble> {
    let api = Api::<Node>::all(client.clone());
    let read = futures::future::join_all(nodes.iter().map(|node| {
        let api = &api;
        async move {
            let read = tokio::time::timeout(LIMIT, api.get(node)).await.ok()?.ok()?;
            Some((node.clone(), trouble_of(&read)?))
        }
    }));
    read.await.into_iter().flatten().collect()
}

fn trouble_of(node: &Node) -> Option<NodeTrouble> {
    let conditions = node.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    if ready.any(|condition| condition.status != "True") {
        return Some(NodeTrouble::NotReady);
    }
    let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
    cordoned.then_some(NodeTrouble::Cordoned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::well("{status: {conditions: [{type: Ready, status: 'True'}]}}", None)]
    #[case::cordoned(
        "{spec: {unschedulable: true}, status: {conditions: [{type: Ready, status: 'True'}]}}",
        Some(NodeTrouble::Cordoned)
    )]
    #[case::silent("{status: {conditions: [{type: Ready, status: Unknown}]}}", Some(NodeTrouble::NotReady))]
    #[case::another_condition("{status: {conditions: [{type: DiskPressure, status: 'False'}]}}", None)]
    fn a_node_is_in_trouble_when_it_is_cordoned_or_not_ready(
        #[case] yaml: &str,
        #[case] trouble: Option<NodeTrouble>,
    ) {
        assert_eq!(trouble_of(&serde_saphyr::from_str(yaml).unwrap()), trouble);
    }
}
