//! Every change that needs a restart rolls through the same engine, and what needs none touches no member.

use crate::support::cluster::{condition, spec};
use crate::support::sampler::{Sampler, assert_nothing_lost, under_load};
use crate::support::{ROLLED_WITHIN, SAID_WITHIN, run, until};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use quorate::api::ConditionType;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Whether a Pod has what was asked for.
type Sees = fn(&Pod) -> bool;

#[test]
fn a_restart_by_hand_rolls_all_members_one_at_a_time() {
    run("restarted-at", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.6.16", 3)).await;
        let uids = cluster.pod_uids().await;
        let restart = json!({ "rollout": { "restartedAt": "2030-01-02T03:04:05Z" } });
        let seen = under_load(&cluster, async || cluster.rolled(restart).await).await;
        assert_eq!((seen.made.len(), seen.made.last()), (3, seen.first_leader.as_ref()), "{:?}", seen.made);
        assert!(!seen.steps.contains(&"ProbeImage".to_owned()), "the image is known: {:?}", seen.steps);
        assert!(cluster.pod_uids().await.iter().all(|(name, uid)| uids[name] != *uid));
        assert_eq!(cluster.identity().await, before);
    });
}

#[test]
fn settings_of_etcd_and_of_pods_roll_and_are_in_force() {
    run("settings", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.10", 1)).await;
        let changes: [(Value, Sees); 5] = [
            (json!({ "etcd": { "extraArgs": { "max-txn-ops": "256" } } }), |pod| {
                has_arg(pod, "--max-txn-ops=256")
            }),
            (json!({ "etcd": { "snapshotCount": 5000 } }), |pod| has_arg(pod, "--snapshot-count=5000")),
            (json!({ "etcd": { "quotaBackendBytes": "128Mi" } }), |pod| {
                has_arg(pod, "--quota-backend-bytes=134217728")
            }),
            (json!({ "pod": { "resources": { "requests": { "cpu": "20m" } } } }), |pod| {
                let container = &pod.spec.as_ref().unwrap().containers[0];
                container.resources.as_ref().unwrap().requests.as_ref().unwrap()["cpu"].0 == "20m"
            }),
            (json!({ "pod": { "env": [{ "name": "GOGC", "value": "90" }] } }), |pod| {
                pod.spec.as_ref().unwrap().containers[0].env.iter().flatten().any(|env| env.name == "GOGC")
            }),
        ];
        for (change, in_force) in changes {
            let uids = cluster.pod_uids().await;
            cluster.rolled(change.clone()).await;
            assert_ne!(cluster.pod_uids().await, uids, "{change} needs a restart");
            assert!(cluster.pods().await.values().all(in_force), "{change} is not in force");
        }
        assert_eq!(cluster.identity().await, before);
    });
}

#[test]
fn what_needs_no_restart_touches_no_member() {
    run("no-restart", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.formed(spec("3.5.10", 1)).await;
        let runs = cluster.runs().await;
        cluster
            .rolled(
                json!({ "services": { "client": { "type": "NodePort", "labels": { "team": "storage" } } } }),
            )
            .await;
        let service = until("the Service is as asked", SAID_WITHIN, async || {
            let service = cluster.api::<Service>().get("etcd-client").await.unwrap();
            (service.spec.as_ref().unwrap().type_.as_deref() == Some("NodePort")).then_some(service)
        })
        .await;
        assert_eq!(service.labels().get("team").map(String::as_str), Some("storage"));
        cluster.rolled(json!({ "rollout": { "memberDeadline": "40s" } })).await;
        assert_eq!(cluster.runs().await, runs);
        // What somebody takes away is made again.
        cluster.api::<Service>().delete("etcd-client", &DeleteParams::default()).await.unwrap();
        let services = cluster.api::<Service>();
        let has_label = |service: &Service| service.labels().contains_key("team");
        until("the Service is back, and says all", SAID_WITHIN, async || {
            services.get_opt("etcd-client").await.unwrap().filter(has_label)
        })
        .await;
        // What the spec does not say any more goes, also from a Service that was just made.
        cluster.rolled(json!({ "services": null })).await;
        until("the Service says no more than the spec", SAID_WITHIN, async || {
            let service = services.get("etcd-client").await.unwrap();
            let plain = service.spec.as_ref().unwrap().type_.as_deref() == Some("ClusterIP");
            (plain && !has_label(&service)).then_some(())
        })
        .await;
        assert_eq!(cluster.runs().await, runs);
    });
}

/// Labels and annotations of Pods: given in place and taken back in place, one member at a time. A Pod that is made anew is
/// what it was.
#[test]
fn labels_and_annotations_of_pods_are_given_without_a_restart() {
    run("pod-metadata", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.9", 3)).await;
        let runs = cluster.runs().await;
        let own = cluster.pods().await["etcd-0"].labels().clone();
        let have = async |wanted: &Value| {
            until(&format!("Pods have {wanted}"), SAID_WITHIN, async || {
                let has = |all: &BTreeMap<String, String>, kind: &str| {
                    let is_said = |(name, value): (&String, &Value)| {
                        all.get(name).map(String::as_str) == value.as_str()
                    };
                    wanted[kind].as_object().unwrap().iter().all(is_said)
                };
                let all_have =
                    |pod: &Pod| has(pod.labels(), "labels") && has(pod.annotations(), "annotations");
                cluster.pods().await.values().all(all_have).then_some(())
            })
            .await;
        };
        let first = json!({ "labels": { "team": "red", "tier": "1" }, "annotations": { "note": "a" } });
        let seen = under_load(&cluster, async || cluster.rolled(json!({ "pod": first.clone() })).await).await;
        assert!(
            seen.steps.iter().all(|step| step == "RelabelMember") && seen.steps.len() == 3,
            "{:?}",
            seen.steps
        );
        assert_eq!((seen.made.len(), seen.leader_changes()), (0, 0));
        have(&json!({ "labels": { "team": "red", "tier": "1" }, "annotations": { "note": "a" } })).await;
        // A value changes, two go, and what somebody else put there stays.
        let theirs = json!({ "metadata": { "labels": { "theirs": "x" } } });
        cluster.api::<Pod>().patch("etcd-0", &PatchParams::default(), &Patch::Merge(theirs)).await.unwrap();
        cluster
            .rolled(json!({ "pod": { "labels": { "team": "blue", "tier": null }, "annotations": null } }))
            .await;
        have(&json!({ "labels": { "team": "blue", "tier": null }, "annotations": { "note": null } })).await;
        let pods = cluster.pods().await;
        assert!(pods["etcd-0"].labels().contains_key("theirs"));
        assert!(own.iter().all(|(name, value)| pods["etcd-0"].labels().get(name) == Some(value)));
        // What no Pod can carry is refused, and keeps no member away.
        cluster.edit(json!({ "pod": { "labels": { "team": "red and blue" } } })).await;
        let message = cluster.stalled("InvalidSpec", SAID_WITHIN).await;
        assert!(message.contains("spec.pod.labels") && message.contains("red and blue"), "{message}");
        assert_eq!(cluster.runs().await, runs, "nobody was restarted");
        cluster.api::<Pod>().delete("etcd-1", &DeleteParams::default()).await.unwrap();
        until("the member is back", ROLLED_WITHIN, async || {
            let pods = cluster.pods().await;
            let back = pods.get("etcd-1").filter(|pod| pod.uid().as_ref() != Some(&runs["etcd-1"].0))?;
            let conditions = back.status.as_ref()?.conditions.as_ref()?;
            assert_eq!(back.labels().get("team").map(String::as_str), Some("blue"));
            conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True").then_some(())
        })
        .await;
        // With a version it is one roll, and the Pods that it makes have them.
        let runs = cluster.runs().await;
        cluster.rolled(json!({ "version": "3.5.10", "pod": { "labels": { "team": "green" } } })).await;
        have(&json!({ "labels": { "team": "green" }, "annotations": {} })).await;
        let after = cluster.runs().await;
        assert!(
            after.iter().all(|(name, (uid, restarts))| runs[name].0 != *uid && *restarts == 0),
            "{after:?}"
        );
        cluster.assert_version("3.5.10").await;
        assert_eq!(cluster.identity().await, before);
    });
}

#[test]
fn a_paused_cluster_is_not_touched_and_goes_on_when_it_is_not_paused_any_more() {
    run("paused", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.9", 1)).await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        cluster.edit(json!({ "paused": true })).await;
        cluster
            .until("Paused", SAID_WITHIN, |cluster| {
                condition(cluster, ConditionType::Paused).is_some_and(|paused| paused.status == "True")
            })
            .await;
        cluster.edit(json!({ "version": "3.5.10" })).await;
        let generation = cluster.get().await.metadata.generation;
        cluster
            .until("the edit is seen", SAID_WITHIN, |cluster| {
                cluster.status.as_ref().and_then(|status| status.observed_generation) == generation
            })
            .await;
        cluster.api::<Pod>().delete("etcd-0", &DeleteParams::default()).await.unwrap();
        until("the Pod is gone", SAID_WITHIN, async || cluster.pods().await.is_empty().then_some(())).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(cluster.pods().await.is_empty(), "paused means that nothing is touched");
        cluster.rolled(json!({ "paused": null })).await;
        assert_nothing_lost(writers).await;
        cluster.assert_version("3.5.10").await;
        assert_eq!(cluster.identity().await, before);
    });
}

fn has_arg(pod: &Pod, arg: &str) -> bool {
    pod.spec.as_ref().unwrap().containers[0].args.iter().flatten().any(|given| given == arg)
}
