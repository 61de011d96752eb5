//! What is read of the nodes that hold members: the zone of each, what is wrong with it, and which volumes are on it alone.

use super::remembered::Remembered;
use crate::cluster::observation::NodeTrouble;
use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, PersistentVolume};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const ZONE: &str = "topology.kubernetes.io/zone";
const HOSTNAME: &str = "kubernetes.io/hostname";
/// <https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/#non-graceful-node-shutdown>
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A node's zone does not change, but another node may take its name.
const ZONE_KNOWN_FOR: Duration = Duration::from_hours(1);
/// A cloud's controller may label a node some time after it joined.
const BLANK_FOR: Duration = Duration::from_mins(1);
/// Where a volume can be used does not change.
const HOME_KNOWN_FOR: Duration = Duration::from_mins(10);
/// Between two reads of a whole node: many clusters may wait on the same ones.
const TROUBLE_KNOWN_FOR: Duration = Duration::from_secs(2);

/// What was read of nodes.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Nodes {
    zones: Remembered<Option<String>>,
    troubles: Remembered<Option<NodeTrouble>>,
    all: Remembered<BTreeMap<String, Option<NodeTrouble>>>,
    homes: Remembered<Option<String>>,
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
        let read = |node: String| async move {
            let trouble = api.get_opt(&node).await?.as_ref().map_or(Some(NodeTrouble::Gone), trouble_of);
            Ok((trouble, TROUBLE_KNOWN_FOR))
        };
        let read = self.troubles.of(nodes, TROUBLE_KNOWN_FOR, read).await;
        read.into_iter().filter_map(|(node, trouble)| Some((node, trouble?))).collect()
    }

    /// Every node, and what is wrong with it; nothing where they cannot be read.
    pub(super) async fn all(&self, client: &Client) -> Option<BTreeMap<String, Option<NodeTrouble>>> {
        let api = &Api::<Node>::all(client.clone());
        let read = || async move {
            let nodes = api.list(&ListParams::default()).await?;
            Ok(nodes.items.iter().map(|node| (node.name_any(), trouble_of(node))).collect())
        };
        self.all.all(TROUBLE_KNOWN_FOR, read).await
    }

    /// The node of each of these volumes that can be used on one alone, as those of a disk of its own. Of a volume that
    /// cannot be read nothing is said.
    pub(super) async fn homes(
        &self,
        client: &Client,
        volumes: &BTreeSet<String>,
    ) -> BTreeMap<String, String> {
        let (volumes_api, nodes_api) =
            (&Api::<PersistentVolume>::all(client.clone()), &Api::<Node>::all(client.clone()));
        let read = |name: String| async move {
            let Some(host) = volumes_api.get(&name).await.map(|volume| host_of(&volume))? else {
                return Ok((None, HOME_KNOWN_FOR));
            };
            // A node is not always named as its host is.
            let labelled = ListParams::default().labels(&format!("{HOSTNAME}={host}")).limit(1);
            let found = nodes_api.list_metadata(&labelled).await?.items.first().map(ResourceExt::name_any);
            Ok((Some(found.unwrap_or(host)), HOME_KNOWN_FOR))
        };
        let homes = self.homes.of(volumes, BLANK_FOR, read).await;
        homes.into_iter().filter_map(|(volume, node)| Some((volume, node?))).collect()
    }
}

/// The one host on which a volume can be used; nothing where there may be another.
fn host_of(volume: &PersistentVolume) -> Option<String> {
    let affinity = volume.spec.as_ref()?.node_affinity.as_ref()?;
    let [term] = &affinity.required.as_ref()?.node_selector_terms[..] else { return None };
    let names_one = |wanted: &NodeSelectorRequirement, key: &str| {
        let [value] = &wanted.values.as_ref()?[..] else { return None };
        (wanted.key == key && wanted.operator == "In").then(|| value.clone())
    };
    let by_label = term.match_expressions.iter().flatten().find_map(|wanted| names_one(wanted, HOSTNAME));
    by_label
        .or_else(|| term.match_fields.iter().flatten().find_map(|wanted| names_one(wanted, "metadata.name")))
}

fn trouble_of(node: &Node) -> Option<NodeTrouble> {
    let mut taints = node.spec.iter().filter_map(|spec| spec.taints.as_ref()).flatten();
    let is_said_to_be_off = taints.any(|taint| taint.key == OUT_OF_SERVICE);
    let conditions = node.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    if ready.any(|condition| condition.status != "True") {
        return Some(if is_said_to_be_off { NodeTrouble::OutOfService } else { NodeTrouble::NotReady });
    }
    // A kubelet that is heard belies it, and Kubernetes takes no Pod from it for that.
    if is_said_to_be_off {
        return Some(NodeTrouble::Cordoned);
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
    #[case::shut_down(
        "{spec: {taints: [{key: node.kubernetes.io/out-of-service, effect: NoExecute}]}, \
          status: {conditions: [{type: Ready, status: Unknown}]}}",
        Some(NodeTrouble::OutOfService)
    )]
    #[case::back_and_still_said_to_be_shut_down(
        "{spec: {taints: [{key: node.kubernetes.io/out-of-service, effect: NoExecute}]}, \
          status: {conditions: [{type: Ready, status: 'True'}]}}",
        Some(NodeTrouble::Cordoned)
    )]
    #[case::another_condition("{status: {conditions: [{type: DiskPressure, status: 'False'}]}}", None)]
    fn a_node_is_in_trouble_when_it_is_cordoned_or_not_ready(
        #[case] yaml: &str,
        #[case] trouble: Option<NodeTrouble>,
    ) {
        assert_eq!(trouble_of(&serde_saphyr::from_str(yaml).unwrap()), trouble);
    }

    #[rstest]
    #[case::of_one_host(
        "matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [a]}]",
        Some("a")
    )]
    #[case::of_one_node("matchFields: [{key: metadata.name, operator: In, values: [a]}]", Some("a"))]
    #[case::of_two("matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [a, b]}]", None)]
    #[case::of_all_but_one(
        "matchExpressions: [{key: kubernetes.io/hostname, operator: NotIn, values: [a]}]",
        None
    )]
    #[case::of_a_zone(
        "matchExpressions: [{key: topology.kubernetes.io/zone, operator: In, values: [a]}]",
        None
    )]
    fn a_volume_may_be_of_one_node_alone(#[case] term: &str, #[case] node: Option<&str>) {
        let volume = format!("{{spec: {{nodeAffinity: {{required: {{nodeSelectorTerms: [{{{term}}}]}}}}}}}}");
        assert_eq!(host_of(&serde_saphyr::from_str(&volume).unwrap()).as_deref(), node);
        assert_eq!(host_of(&PersistentVolume::default()), None);
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
