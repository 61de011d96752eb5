//! Waiting for the `CustomResourceDefinition`.
//!
//! A process that exits because its kind is not installed yet ends in a crash loop, and comes back minutes
//! after the kind was. This one waits, says so, and goes on within seconds. It looks by listing
//! `EtcdClusters`, which it must be allowed to do anyway.

use super::kubernetes::one_line;
use super::reminder::Reminder;
use super::server::{Health, State};
use crate::api::{EtcdCluster, GROUP};
use kube::api::ListParams;
use kube::{Api, Client};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(2);
/// How long one look may take.
const ONE_LOOK: Duration = Duration::from_secs(10);

/// What one look came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sight {
    Served,
    Missing,
    Forbidden(String),
    Unreachable(String),
}

impl Sight {
    fn of<T>(answer: Result<T, kube::Error>) -> Self {
        match answer {
            Ok(_) => Self::Served,
            // By code: while nobody has ever installed a kind of the group, the API server answers with
            // plain text, which has no reason.
            Err(kube::Error::Api(status)) if status.code == 404 => Self::Missing,
            Err(kube::Error::Api(status)) if status.code == 403 => Self::Forbidden(status.message),
            Err(error) => Self::Unreachable(one_line(&error)),
        }
    }

    /// What to say about it in the log and on `/readyz`; nothing when all is well. `namespace` is where
    /// it looked, `None` for everywhere.
    fn complaint(&self, namespace: Option<&str>) -> Option<String> {
        match self {
            Self::Served => None,
            Self::Missing => Some(format!(
                "the CustomResourceDefinition etcdclusters.{GROUP} is not installed; install it with \
                 `kubectl apply -f crds/` (or helm with crds.create=true); waiting"
            )),
            Self::Forbidden(message) => {
                let place =
                    namespace.map_or("in all namespaces".to_owned(), |ns| format!("in namespace {ns}"));
                Some(format!(
                    "the permission to list etcdclusters.{GROUP} {place} is missing ({message}); apply the \
                     operator's roles, or name the namespaces that it may watch with --watch-namespaces; waiting"
                ))
            }
            Self::Unreachable(why) => {
                Some(format!("the Kubernetes API cannot be asked for EtcdClusters: {why}; waiting"))
            }
        }
    }
}

/// Waits until `EtcdClusters` can be listed in each of `namespaces` (none means: everywhere).
pub async fn wait_for_crd(client: &Client, namespaces: &[String], health: &Health) {
    let mut reminder = Reminder::default();
    while let Some(complaint) = complaint(client, namespaces).await {
        if reminder.is_due(&complaint, Instant::now()) {
            tracing::warn!("{complaint}");
        }
        health.set(State::Waiting(complaint));
        sleep(EVERY).await;
    }
    tracing::info!("the CustomResourceDefinition etcdclusters.{GROUP} is installed");
}

/// The first thing that is in the way.
async fn complaint(client: &Client, namespaces: &[String]) -> Option<String> {
    if namespaces.is_empty() {
        return look(Api::all(client.clone())).await.complaint(None);
    }
    for namespace in namespaces {
        let sight = look(Api::namespaced(client.clone(), namespace)).await;
        if sight != Sight::Served {
            return sight.complaint(Some(namespace));
        }
    }
    None
}

/// Metadata only: an object that does not parse must not look like a missing kind.
async fn look(api: Api<EtcdCluster>) -> Sight {
    match timeout(ONE_LOOK, api.list_metadata(&ListParams::default().limit(1))).await {
        Ok(answer) => Sight::of(answer),
        Err(_) => Sight::Unreachable(format!("no answer within {ONE_LOOK:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn api_error(code: u16, reason: &str, message: &str) -> Result<(), kube::Error> {
        Err(kube::Error::Api(Box::new(Status::failure(message, reason).with_code(code))))
    }

    #[test]
    fn a_missing_kind_a_missing_permission_and_a_missing_server_are_told_apart() {
        assert_eq!(Sight::of(Ok(())), Sight::Served);
        assert_eq!(Sight::Served.complaint(None), None);

        for (reason, message) in [
            ("NotFound", "the server could not find the requested resource"),
            ("Failed to parse error data", "404 page not found"),
        ] {
            let text = Sight::of(api_error(404, reason, message)).complaint(None).unwrap();
            assert!(
                text.contains("etcdclusters.quorate.dev is not installed") && text.contains("kubectl apply"),
                "{text}"
            );
        }

        let forbidden = Sight::of(api_error(403, "Forbidden", "User x cannot list resource"));
        let text = forbidden.complaint(Some("apps")).unwrap();
        assert!(text.contains("permission to list etcdclusters.quorate.dev in namespace apps"), "{text}");
        assert!(text.contains("User x cannot list resource") && !text.contains("not installed"), "{text}");
        assert!(forbidden.complaint(None).unwrap().contains("in all namespaces"));

        for answer in
            [api_error(503, "ServiceUnavailable", "starting"), Err(kube::Error::Service("refused".into()))]
        {
            assert!(matches!(Sight::of(answer), Sight::Unreachable(_)));
        }
    }

    #[tokio::test]
    async fn it_goes_on_when_the_kind_appears_and_says_meanwhile_what_it_waits_for() {
        let (service, mut mock) =
            tower_test::mock::pair::<http::Request<kube::client::Body>, http::Response<_>>();
        let client = Client::new(service, "default");
        let health = Health::default();
        let answers = [
            (
                404,
                serde_json::json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound",
                "message": "the server could not find the requested resource"}),
            ),
            (
                200,
                serde_json::json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": {}, "items": []}),
            ),
        ];
        let server = async {
            for (code, body) in answers {
                let (request, send) = mock.next_request().await.unwrap();
                assert_eq!(request.uri().path(), "/apis/quorate.dev/v1alpha1/etcdclusters");
                let body = kube::client::Body::from(serde_json::to_vec(&body).unwrap());
                send.send_response(http::Response::builder().status(code).body(body).unwrap());
            }
        };
        let seen = async {
            loop {
                if let State::Waiting(text) = health.get() {
                    return text;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let start = Instant::now();
        let ((), (), text) = tokio::join!(wait_for_crd(&client, &[], &health), server, seen);
        assert!(text.contains("is not installed"), "{text}");
        assert!(start.elapsed() < Duration::from_secs(3));
    }
}
