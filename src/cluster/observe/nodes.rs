//! What is read of the nodes that hold members: the zone of each, and whether it is cordoned or not ready.

use super::remembered::Remembered;
use crate::cluster::observation::NodeTrouble;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, ResourceExt};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const ZONE: &str = "topology.kubernetes.io/zone";

/// A node's zone does not change, but another node may take its name.
const ZONE_KNOWN_FOR: Duration = Duration::from_hours(1);
/// A cloud's controller may label a node some time after it joined.
const BLANK_FOR: Duration = Duration::from_mins(1);
/// Between two reads of a whole node: many clusters may wait on the same ones.
const TROUBLE_KNOWN_FOR: Duration = Duration::from_secs(2);

/// What was read of nodes.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Nodes {
    zones: Remembered<Option<String>>,
    troubles: Remembered<Option<NodeTrouble>>,
}

impl Nodes {
    /// The zone of each of these nodes, nothing where it has none. It is shown and nothing is decided by it. A node
    /// that could not be read is not in the answer.
    pub(super) async fn zones(
        &self,
        client: &Client,
        nodes: &BTreeSet<String>,
    ) -> BTreeMap<String, Option<String>> {
        let api = &Api::<Node>::all(client.clone());
        let read = |node: String| async move {
            let zone = api.get_metadata(&node).await?.labels().get(ZONE).cloned();
            let lasts = if zone.is_some() { ZONE_KNOWN_FOR } else { BLANK_FOR };
            Ok((zone, lasts))
        };
        self.zones.of(nodes, BLANK_FOR, read).await
    }

    /// What is wrong with each of these nodes, where anything is. They are read whole, which is much: only while a
    /// member may be about to be claimed. A node that cannot be read says nothing, as where the role does not allow
    /// it.
    pub(super) async fn in_trouble(
        &self,
        client: &Client,
        nodes: &BTreeSet<String>,
    ) -> BTreeMap<String, NodeTrouble> {
        let api = &Api::<Node>::all(client.clone());
        let read = |node: String| async move { Ok((trouble_of(&api.get(&node).await?), TROUBLE_KNOWN_FOR)) };
        let read = self.troubles.of(nodes, TROUBLE_KNOWN_FOR, read).await;
        read.into_iter().filter_map(|(node, trouble)| Some((node, trouble?))).collect()
    }
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
    use kube::client::Body;
    use rstest::rstest;
    use serde_json::json;

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

    /// A node with a zone, one without, one that is not there and one that may not be read.
    #[tokio::test]
    async fn each_node_is_asked_for_once_whatever_the_answer() {
        let (service, mut mock) = tower_test::mock::pair::<http::Request<Body>, http::Response<Body>>();
        let client = Client::new(service, "default");
        let server = async move {
            let mut asked = Vec::new();
            while let Some((request, send)) = mock.next_request().await {
                let path = request.uri().path().to_owned();
                let metadata = |labels| {
                    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                        "metadata": { "name": "n", "labels": labels } })
                };
                let failure = |code: u16, reason: &str| {
                    json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason,
                        "message": reason })
                };
                let (code, body) = match path.as_str() {
                    "/api/v1/nodes/a" => (200, metadata(json!({ ZONE: "z" }))),
                    "/api/v1/nodes/b" => (200, metadata(json!({}))),
                    "/api/v1/nodes/c" => (404, failure(404, "NotFound")),
                    _ => (403, failure(403, "Forbidden")),
                };
                asked.push(path);
                let body = Body::from(serde_json::to_vec(&body).unwrap());
                send.send_response(http::Response::builder().status(code).body(body).unwrap());
            }
            asked.len()
        };
        let nodes = Nodes::default();
        let names: BTreeSet<String> = ["a", "b", "c", "d"].map(str::to_owned).into();
        let known = BTreeMap::from([("a".to_owned(), Some("z".to_owned())), ("b".to_owned(), None)]);
        let observer = async move {
            for _ in 0..3 {
                assert_eq!(nodes.zones(&client, &names).await, known);
            }
        };
        let (asked, ()) = tokio::join!(server, observer);
        assert_eq!(asked, 4);
    }
}
