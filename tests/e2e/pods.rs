//! `spec.storage.emptyDir`: members keep their data in their Pods, and have no volumes.

use crate::support::cluster::{Cluster, spec};
use crate::support::sampler::{Sampler, assert_nothing_lost};
use crate::support::{
    Chance, EVERY_HOP_WITHIN, FORMED_WITHIN, ROLLED_WITHIN, SAID_WITHIN, Space, run, until,
};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, EvictParams};
use serde_json::{Value, json};
use std::time::Duration;

/// Writes may pause for a move of the leader, and for no election (a second at least).
const MOVE_OF_THE_LEADER: Duration = Duration::from_millis(900);

fn in_pods(version: &str) -> Value {
    let mut spec = spec(version, 3);
    spec["storage"] = json!({ "size": "1Gi", "emptyDir": {} });
    spec
}

async fn formed(space: &Space, version: &str) -> Cluster {
    let cluster = space.cluster("etcd");
    cluster.formed(in_pods(version)).await;
    cluster
}

async fn is_replaced(cluster: &Cluster, gone: &str, left: &[&str]) {
    until("another member votes in its place", ROLLED_WITHIN, async || {
        let list = cluster.try_member_list().await?;
        (!list.contains_key(gone) && list.len() == 3 && list.values().all(|it| !it.is_learner)).then_some(())
    })
    .await;
    cluster.ready(ROLLED_WITHIN).await;
    cluster.assert_members(left).await;
}

/// A minor and then a patch's worth of settings: six new members, each of which votes before an old one goes.
#[test]
fn a_roll_exchanges_every_member_and_nothing_is_lost() {
    run("in-pods-roll", async |space| {
        let _operator = space.operator();
        let cluster = formed(space, "3.5.35").await;
        let before = cluster.identity().await.cluster;
        cluster.lead("etcd-0").await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        cluster.edit(json!({ "version": "3.6.16" })).await;
        let plan = until("the plan", SAID_WITHIN, async || {
            let plan = cluster.status().await.plan?;
            let steps = plan
                .steps
                .iter()
                .filter_map(|step| Some(format!("{:?} {}", step.action, step.member.as_ref()?)));
            Some(steps.collect::<Vec<_>>()).filter(|steps| !steps.is_empty())
        });
        let plan = plan.await;
        let exchange = ["AddMember etcd-3", "RetireMember etcd-1", "AddMember etcd-4", "RetireMember etcd-2"];
        let leader_last = ["AddMember etcd-5", "RetireMember etcd-0"];
        assert_eq!(plan, [&exchange[..], &leader_last[..]].concat());
        cluster.ready(EVERY_HOP_WITHIN).await;
        cluster.assert_members(&["etcd-3", "etcd-4", "etcd-5"]).await;
        cluster.edit(json!({ "etcd": { "extraArgs": { "max-txn-ops": "256" } } })).await;
        cluster.ready(EVERY_HOP_WITHIN).await;
        cluster.assert_members(&["etcd-6", "etcd-7", "etcd-8"]).await;
        let receipt = assert_nothing_lost(writers).await;
        let pause = receipt.tally.longest_gap;
        assert!(pause < MOVE_OF_THE_LEADER, "{pause:?} without a write");
        assert_eq!(cluster.identity().await.cluster, before);
        assert!(cluster.claims().await.is_empty(), "there are no volumes");
        let events = cluster.event_reasons().await;
        assert!(!events.iter().any(|reason| reason == "MemberStopped"), "{events:?}");

        // What needs no restart exchanges nobody.
        let uids = cluster.pod_uids().await;
        cluster.rolled(json!({ "pod": { "labels": { "team": "red" } } })).await;
        assert_eq!(cluster.pod_uids().await, uids);
        let one_member = cluster.try_edit(json!({ "replicas": 1 })).await.unwrap_err().to_string();
        assert!(
            one_member.contains("spec.storage.emptyDir needs spec.replicas of 3 or more"),
            "{one_member}"
        );
    });
}

/// Evicted, as a drain does it, and deleted, and then a second one within the hour; and at last all of them.
#[test]
fn members_that_lose_their_pods_are_replaced_until_none_has_its_data() {
    run("in-pods-lost", async |space| {
        let _operator = space.operator();
        let cluster = formed(space, "3.6.16").await;
        let pods = cluster.api::<Pod>();
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        pods.evict("etcd-1", &EvictParams::default()).await.unwrap();
        is_replaced(&cluster, "etcd-1", &["etcd-0", "etcd-2", "etcd-3"]).await;
        pods.delete("etcd-0", &DeleteParams::default()).await.unwrap();
        is_replaced(&cluster, "etcd-0", &["etcd-2", "etcd-3", "etcd-4"]).await;
        assert_nothing_lost(writers).await;

        for pod in cluster.pods().await.keys() {
            pods.delete(pod, &DeleteParams::default()).await.unwrap();
        }
        let message = cluster.stalled("AllMembersLost", ROLLED_WITHIN).await;
        assert!(message.contains("kept their data in their Pods"), "{message}");
        assert!(cluster.pods().await.is_empty(), "nothing is made in their place");
    });
}

/// From the first Pod to the last of a roll.
#[test]
fn an_operator_killed_at_random_moments_forms_and_exchanges_all_the_same() {
    run("in-pods-killed", async |space| {
        let mut chance = Chance::new("in-pods-killed");
        let mut operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.create(in_pods("3.6.16")).await;
        for _ in 0..4 {
            tokio::time::sleep(Duration::from_millis(100 + chance.below(1_000))).await;
            operator.kill();
            operator = space.operator();
        }
        cluster.ready(FORMED_WITHIN).await;
        cluster.assert_members(&["etcd-0", "etcd-1", "etcd-2"]).await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        cluster.edit(json!({ "etcd": { "extraArgs": { "max-txn-ops": "256" } } })).await;
        for _ in 0..6 {
            tokio::time::sleep(Duration::from_millis(100 + chance.below(4_000))).await;
            operator.kill();
            operator = space.operator();
        }
        cluster.ready(EVERY_HOP_WITHIN).await;
        assert_eq!(cluster.member_list().await.len(), 3);
        cluster.assert_same_data().await;
        assert_nothing_lost(writers).await;
    });
}

/// An image that is not there: nobody has to be deleted by hand.
#[test]
fn a_first_spec_that_does_not_start_is_corrected() {
    run("in-pods-wrong", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let mut wrong = in_pods("3.6.16");
        wrong["image"] = json!({ "repository": "registry.example/none" });
        cluster.create(wrong).await;
        until("nobody gets its image", FORMED_WITHIN, async || {
            let pods = cluster.pods().await;
            let waits = |pod: &Pod| {
                let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?.state.clone()?;
                status.waiting?.reason.filter(|reason| reason.contains("Pull"))
            };
            (pods.len() == 3 && pods.values().all(|pod| waits(pod).is_some())).then_some(())
        })
        .await;
        cluster.edit(json!({ "image": null })).await;
        cluster.ready(FORMED_WITHIN).await;
        cluster.assert_members(&["etcd-0", "etcd-1", "etcd-2"]).await;
    });
}
