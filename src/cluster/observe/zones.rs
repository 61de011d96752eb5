//! The zone of each node that holds a member: read once, then remembered for all clusters. It is shown and
//! nothing is decided by it, so a node that cannot be read costs a blank and never an observation.

use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client, ResourceExt};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const ZONE: &str = "topology.kubernetes.io/zone";

/// A node's zone does not change, but another node may take its name.
const KNOWN_FOR: Duration = Duration::from_hours(1);
/// A cloud's controller may label a node some time after it joined.
const BLANK_FOR: Duration = Duration::from_mins(1);
/// Where nodes may not be read, that is so until somebody changes the role.
const FORBIDDEN_FOR: Duration = Duration::from_mins(10);
/// Members answer meanwhile, within limits that are not shorter.
const LIMIT: Duration = Duration::from_secs(1);

/// What was read of nodes, and until when it is not read again.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Zones(Mutex<HashMap<String, Known>>);

#[derive(Clone, Debug)]
struct Known {
    /// Nothing where the node has none.
    zone: Result<Option<String>, Unread>,
    until: Instant,
}

/// The node could not be read.
#[derive(Clone, Copy, Debug)]
struct Unread;

impl Zones {
    /// The zone of each of these nodes, nothing where it has none. A node that could not be read is not in
    /// the answer.
    pub(super) async fn of(
        &self,
        client: &Client,
        nodes: &BTreeSet<String>,
    ) -> BTreeMap<String, Option<String>> {
        let now = now();
        let unknown: Vec<&String> = {
            let mut known = self.lock();
            known.retain(|_, known| known.until > now);
            nodes.iter().filter(|node| !known.contains_key(*node)).collect()
        };
        let api = Api::<Node>::all(client.clone());
        let read = futures::future::join_all(unknown.into_iter().map(|node| {
            let api = &api;
            async move { (node, tokio::time::timeout(LIMIT, api.get_metadata(node)).await) }
        }))
        .await;
        let mut known = self.lock();
        for (node, answer) in read {
            let (zone, lasts) = match answer {
                Ok(Ok(node)) => {
                    let zone = node.labels().get(ZONE).cloned();
                    let lasts = if zone.is_some() { KNOWN_FOR } else { BLANK_FOR };
                    (Ok(zone), lasts)
                }
                Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => (Err(Unread), FORBIDDEN_FOR),
                Ok(Err(_)) | Err(_) => (Err(Unread), BLANK_FOR),
            };
            known.insert(node.clone(), Known { zone, until: now + lasts });
        }
        nodes.iter().filter_map(|node| Some((node.clone(), known.get(node)?.zone.clone().ok()?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[allow(clippy::disallowed_methods, reason = "when to read again is no fact about the cluster")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::client::Body;
    use serde_json::json;

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
        let zones = Zones::default();
        let nodes: BTreeSet<String> = ["a", "b", "c", "d"].map(str::to_owned).into();
        let known = BTreeMap::from([("a".to_owned(), Some("z".to_owned())), ("b".to_owned(), None)]);
        let observer = async move {
            for _ in 0..3 {
                assert_eq!(zones.of(&client, &nodes).await, known);
            }
        };
        let (asked, ()) = tokio::join!(server, observer);
        assert_eq!(asked, 4);
    }
}
