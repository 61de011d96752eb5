//! The operator in the cluster, from its chart and its image: `make install`, again and again.

use crate::support::cluster::{condition, spec};
use crate::support::{FORMED_WITHIN, SAID_WITHIN, Space, run, until};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams};
use quorate::api::{ConditionType, EtcdCluster};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

#[test]
fn an_upgrade_of_the_operator_by_helm_restarts_no_member() {
    run("helm", async |space| {
        install(space, &[]);
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.10", 3)).await;
        let (runs, operators) = (cluster.runs().await, operators(space).await);
        assert_eq!(operators.len(), 2, "two replicas");

        install(space, &[]);
        assert_eq!(self::operators(space).await, operators, "the same chart restarts nobody");
        assert_eq!(cluster.runs().await, runs);

        // Another operator Pod, as with a newer image, finds everything as it should be.
        install(space, &["--set", "logLevel=debug"]);
        until("both replicas are others", FORMED_WITHIN, async || {
            let now = self::operators(space).await;
            (now.len() == 2 && now.is_disjoint(&operators)).then_some(())
        })
        .await;
        // It has looked once it has seen this.
        let generation =
            cluster.edit(json!({ "rollout": { "memberDeadline": "40s" } })).await.metadata.generation;
        cluster
            .until("the new operator works", FORMED_WITHIN, |cluster| {
                condition(cluster, ConditionType::Ready)
                    .is_some_and(|ready| ready.observed_generation == generation)
            })
            .await;
        cluster.ready(SAID_WITHIN).await;
        assert_eq!(cluster.runs().await, runs);

        cluster.edit(json!({ "deletionProtection": true })).await;
        let deleted = space.api::<EtcdCluster>().delete(&cluster.name, &DeleteParams::default()).await;
        let refused = deleted.unwrap_err().to_string();
        for word in
            ["spec.deletionProtection is true", "kubectl patch etcd etcd -n", "\"deletionProtection\":false"]
        {
            assert!(refused.contains(word), "no {word:?} in {refused}");
        }
        assert!(cluster.get().await.metadata.deletion_timestamp.is_none());
        cluster.edit(json!({ "deletionProtection": false })).await;

        command("helm", &["uninstall", "quorate", "-n", &space.namespace, "--wait"]);
        assert_eq!(cluster.runs().await, runs, "members outlive the operator");
        assert_eq!(cluster.identity().await, before);
    });
}

/// As `make install` does, but for this namespace alone.
fn install(space: &Space, more: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/install");
    let watch = format!("watch.namespaces={{{}}}", space.namespace);
    let mut arguments = vec!["--set", &watch, "--set", "crds.create=false,rbac.aggregate=false"];
    arguments.extend(more);
    let output = Command::new(script).args(arguments).env("NAMESPACE", &space.namespace).output().unwrap();
    assert!(
        output.status.success(),
        "hack/install: {}{} (it needs `make build`)",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn command(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The UIDs of the operator's Pods that are not going away.
async fn operators(space: &Space) -> BTreeSet<String> {
    let ours = ListParams::default().labels("app.kubernetes.io/name=quorate");
    let pods = space.api::<Pod>().list(&ours).await.unwrap();
    pods.items
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter_map(|pod| pod.uid())
        .collect()
}
