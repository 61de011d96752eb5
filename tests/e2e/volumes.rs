//! `spec.storage` of a cluster that is there. No driver that lets volumes grow can be had for the lab: here the test plays its
//! part, on the claims' status, and says what a driver and the kubelet would.

use crate::support::cluster::{Cluster, spec};
use crate::support::kubectl::Undo;
use crate::support::sampler::{Sampler, assert_nothing_lost};
use crate::support::{EVERY_HOP_WITHIN, ROLLED_WITHIN, SAID_WITHIN, Space, run, until};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use std::collections::BTreeMap;

/// A class of the lab's own volumes. It goes when the test does.
async fn class(space: &Space, grows: bool) -> (String, Undo) {
    let name = format!("{}-{}", space.namespace, if grows { "grows" } else { "fixed" });
    let class: StorageClass = serde_json::from_value(json!({
        "metadata": { "name": name },
        "provisioner": "rancher.io/local-path",
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
        "allowVolumeExpansion": grows,
    }))
    .unwrap();
    let undo = Undo::with(&["delete", "storageclass", &name]);
    Api::<StorageClass>::all(space.client.clone()).create(&PostParams::default(), &class).await.unwrap();
    (name, undo)
}

/// What a claim asks for, and what it has.
fn sizes(claim: &PersistentVolumeClaim) -> (String, String) {
    let amount = |map: Option<&BTreeMap<String, Quantity>>| map.unwrap()["storage"].0.clone();
    let asked = claim.spec.as_ref().unwrap().resources.as_ref().unwrap().requests.as_ref();
    (amount(asked), amount(claim.status.as_ref().unwrap().capacity.as_ref()))
}

/// What a driver writes into a claim's status.
async fn drive(cluster: &Cluster, claim: &str, status: serde_json::Value) {
    let patch = Patch::Merge(json!({ "status": status }));
    let claims = cluster.api::<PersistentVolumeClaim>();
    claims.patch_status(claim, &PatchParams::default(), &patch).await.unwrap();
}

#[test]
fn volumes_grow_one_after_the_other_and_one_is_mounted_anew() {
    run("grow", async |space| {
        let _operator = space.operator();
        let (class, _undo) = class(space, true).await;
        let cluster = space.cluster("etcd");
        let mut wanted = spec("3.6.16", 3);
        wanted["storage"]["storageClassName"] = json!(class);
        let before = cluster.formed(wanted).await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        cluster.edit(json!({ "storage": { "size": "2Gi" } })).await;
        let mut grown = Vec::new();
        while grown.len() < 3 {
            let claim = until("a claim asks for more", ROLLED_WITHIN, async || {
                let claims = cluster.claims().await.into_iter();
                let asks: Vec<_> =
                    claims.filter(|(_, claim)| sizes(claim) == ("2Gi".into(), "1Gi".into())).collect();
                assert!(asks.len() <= 1, "two at once: {asks:?}");
                asks.into_iter().next().map(|(name, _)| name)
            })
            .await;
            let member = claim.strip_prefix("data-").unwrap().to_owned();
            if grown.is_empty() {
                // Its driver cannot do that while the volume is used.
                let uid = cluster.pod_uids().await[&member].clone();
                let pending = json!([{ "type": "FileSystemResizePending", "status": "True",
                    "message": "Waiting for user to (re-)start a pod to finish file system resize of volume on node." }]);
                drive(&cluster, &claim, json!({ "conditions": pending })).await;
                until("its Pod is another one", ROLLED_WITHIN, async || {
                    let uids = cluster.pod_uids().await;
                    uids.get(&member).is_some_and(|now| *now != uid).then_some(())
                })
                .await;
            }
            drive(&cluster, &claim, json!({ "capacity": { "storage": "2Gi" }, "conditions": null })).await;
            grown.push(member);
        }
        cluster.ready(EVERY_HOP_WITHIN).await;
        assert_nothing_lost(writers).await;
        sampler.stop().assert_one_away_at_a_time();
        assert_eq!(cluster.identity().await, before, "grown where they are");
        for (name, claim) in cluster.claims().await {
            assert_eq!(sizes(&claim), ("2Gi".into(), "2Gi".into()), "{name}");
        }
        let quotas = cluster.pods().await.into_values().map(|pod| {
            let args = pod.spec.unwrap().containers[0].args.clone().unwrap();
            args.into_iter().find(|arg| arg.starts_with("--quota-backend-bytes=")).unwrap()
        });
        // A little less than half of the volume.
        assert!(quotas.into_iter().all(|quota| quota == format!("--quota-backend-bytes={}", 768 << 20)));
        println!("grow: {grown:?}");
    });
}

#[test]
fn where_the_class_does_not_let_them_grow_that_is_said_and_nothing_is_touched() {
    run("fixed", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.formed(spec("3.5.35", 1)).await;
        let runs = cluster.runs().await;
        cluster.edit(json!({ "storage": { "size": "2Gi" } })).await;
        let message = cluster.stalled("StorageChangeUnsupported", SAID_WITHIN).await;
        for word in [
            "class local-path does not let volumes grow",
            "allowVolumeExpansion",
            "quorate.dev/replace=etcd-0",
        ] {
            assert!(message.contains(word), "no {word:?} in {message}");
        }
        assert_eq!(cluster.runs().await, runs);
        cluster.edit(json!({ "storage": { "size": "1Gi" } })).await;
        cluster.ready(SAID_WITHIN).await;
        assert_eq!(cluster.runs().await, runs);
        cluster.edit(json!({ "storage": { "size": "512Mi" } })).await;
        let message = cluster.stalled("StorageChangeUnsupported", SAID_WITHIN).await;
        assert!(message.contains("volumes never shrink"), "{message}");
    });
}

#[test]
fn another_class_exchanges_every_member() {
    run("class", async |space| {
        let _operator = space.operator();
        let (class, _undo) = class(space, false).await;
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.6.16", 3)).await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        cluster.edit(json!({ "storage": { "storageClassName": class } })).await;
        let shown = until("the plan is shown", SAID_WITHIN, async || {
            let plan = cluster.status().await.plan?;
            (plan.steps.len() == 6).then_some(plan)
        })
        .await;
        assert_eq!(shown.storage, Some(format!("class {class}")));
        cluster.ready(EVERY_HOP_WITHIN).await;
        let kept = ["data-etcd-0", "data-etcd-1", "data-etcd-2"];
        cluster.assert_members_kept(&["etcd-3", "etcd-4", "etcd-5"], &kept).await;
        assert_eq!(cluster.identity().await.cluster, before.cluster);
        assert_nothing_lost(writers).await;
    });
}
