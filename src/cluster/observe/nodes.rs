//! Nodes of members that are cordoned or not ready. They are read whole, which is much: only while a member may be
//! about to be claimed, and for all clusters once in a moment. A node that cannot be read says nothing, as where the
//! role does not allow it.

use crate::cluster::observation::NodeTrouble;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two reads of a node: many clusters may wait on the same ones.
const KNOWN_FOR: Duration = Duration::from_secs(2);
/// Where nodes may not be read, that is so until somebody changes the role.
const FORBIDDEN_FOR: Duration = Duration::from_mins(10);
/// Members answer meanwhile, within limits that are not shorter.
const LIMIT: Duration = Duration::from_secs(1);

/// What was read of nodes, and until when it is not read again.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Nodes(Mutex<HashMap<String, (Option<NodeTrouble>, Instant)>>);

impl Nodes {
    /// What is wrong with each of these nodes, where anything is.
    pub(super) async fn in_trouble(
        &self,
        client: &Client,
        nodes: &BTreeSet<String>,
    ) -> BTreeMap<String, NodeTrouble> {
        let now = now();
        let unknown: Vec<&String> = {
            let mut known = self.lock();
            known.retain(|_, (_, until)| *until > now);
            nodes.iter().filter(|node| !known.contains_key(*node)).collect()
        };
        let api = Api::<Node>::all(client.clone());
        let read = futures::future::join_all(unknown.into_iter().map(|node| {
            let api = &api;
            async move { (node, tokio::time::timeout(LIMIT, api.get(node)).await) }
        }))
        .await;
        let mut known = self.lock();
        for (node, answer) in read {
            let (trouble, lasts) = match answer {
                Ok(Ok(node)) => (trouble_of(&node), KNOWN_FOR),
                Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => (None, FORBIDDEN_FOR),
                Ok(Err(_)) | Err(_) => (None, KNOWN_FOR),
            };
            known.insert(node.clone(), (trouble, now + lasts));
        }
        nodes.iter().filter_map(|node| Some((node.clone(), known.get(node)?.0?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Option<NodeTrouble>, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[allow(clippy::disallowed_methods, reason = "when to read again is no fact about the cluster")]
fn now() -> Instant {
    Instant::now()
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
