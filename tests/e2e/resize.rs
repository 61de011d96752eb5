//! `spec.replicas`: members come and go one at a time, beside clients that write and watch.

use crate::support::cluster::{Cluster, spec};
use crate::support::policy::Policy;
use crate::support::sampler::{Sampler, assert_nothing_lost};
use crate::support::{Chance, ROLLED_WITHIN, SAID_WITHIN, run, until};
use kube::api::{Patch, PatchParams};
use quorate::api::EtcdCluster;
use serde_json::json;
use std::time::Duration;

/// Writes may pause for a move of the leader, and for no election (a second at least).
const MOVE_OF_THE_LEADER: Duration = Duration::from_millis(900);
const NAMES: [&str; 7] = ["etcd-0", "etcd-1", "etcd-2", "etcd-3", "etcd-4", "etcd-5", "etcd-6"];

#[test]
fn it_grows_to_seven_and_shrinks_to_one_and_nothing_is_lost() {
    run("resize", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.6.16", 1)).await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        for replicas in [3, 5, 7, 5, 3, 1] {
            scale(&cluster, replicas).await;
            cluster.ready(ROLLED_WITHIN).await;
            cluster.assert_members(&NAMES[..replicas]).await;
            let status = cluster.status().await;
            assert_eq!(status.replicas, i32::try_from(replicas).ok());
            assert_eq!(status.members_ready, Some(format!("{replicas}/{replicas}")));
        }
        let receipt = assert_nothing_lost(writers).await;
        let pause = receipt.tally.longest_gap;
        assert!(pause < MOVE_OF_THE_LEADER, "{pause:?} without a write");
        assert_eq!(cluster.identity().await, before, "the first member is still there");
        assert_eq!(cluster.status().await.last_member_number, Some(6));
        let events = cluster.event_reasons().await;
        for (reason, times) in [("MemberAdded", 6), ("MemberPromoted", 6), ("MemberRemoved", 6)] {
            let said = events.iter().filter(|said| *said == reason).count();
            assert_eq!(said, times, "{reason}: {events:?}");
        }
    });
}

/// The one that leads is removed, after it has handed over.
#[test]
fn a_leader_is_removed_without_an_election() {
    run("remove-leader", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.formed(spec("3.5.35", 5)).await;
        cluster.lead("etcd-4").await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        cluster.rolled(json!({ "replicas": 3 })).await;
        cluster.assert_members(&NAMES[..3]).await;
        let receipt = assert_nothing_lost(writers).await;
        let pause = receipt.tally.longest_gap;
        assert!(pause < MOVE_OF_THE_LEADER, "{pause:?} without a write");
        let events = cluster.event_reasons().await;
        assert!(events.iter().any(|reason| reason == "LeaderMoved"), "{events:?}");
    });
}

#[test]
fn an_operator_killed_between_a_member_s_entry_and_its_pod_finishes() {
    run("killed-adding", async |space| {
        let operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.formed(spec("3.6.16", 3)).await;
        let no_pod = Policy::refuse(
            &space.client,
            &space.namespace,
            "CREATE",
            "pods",
            "object.metadata.name != 'etcd-3'",
        )
        .await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        cluster.edit(json!({ "replicas": 5 })).await;
        until("a learner is listed", ROLLED_WITHIN, async || learner(&cluster).await).await;
        operator.kill();
        assert!(!cluster.pods().await.contains_key("etcd-3"));
        no_pod.delete().await;
        let _operator = space.operator();
        cluster.ready(ROLLED_WITHIN).await;
        cluster.assert_members(&NAMES[..5]).await;
        assert_nothing_lost(writers).await;
    });
}

#[test]
fn an_operator_killed_between_a_member_s_removal_and_its_volume_finishes() {
    run("killed-removing", async |space| {
        let operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.formed(spec("3.6.16", 3)).await;
        let claims = "persistentvolumeclaims";
        let kept = Policy::refuse(&space.client, &space.namespace, "DELETE", claims, "false").await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        cluster.edit(json!({ "replicas": 1 })).await;
        until("a member is removed", ROLLED_WITHIN, async || {
            (cluster.member_list().await.len() == 2).then_some(())
        })
        .await;
        operator.kill();
        assert!(cluster.claims().await["data-etcd-2"].metadata.deletion_timestamp.is_none());
        kept.delete().await;
        let _operator = space.operator();
        cluster.ready(ROLLED_WITHIN).await;
        cluster.assert_members(&NAMES[..1]).await;
        assert_nothing_lost(writers).await;
    });
}

#[test]
fn an_operator_killed_at_ten_random_moments_of_a_resize_loses_nothing_and_finishes() {
    run("killed-resizing", async |space| {
        let mut chance = Chance::new("killed-resizing");
        let mut operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.formed(spec("3.5.35", 1)).await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        for replicas in [5, 1] {
            cluster.edit(json!({ "replicas": replicas })).await;
            for _ in 0..5 {
                // Not to wait for something: the moment itself is the test.
                tokio::time::sleep(Duration::from_millis(100 + chance.below(4000))).await;
                operator.kill();
                operator = space.operator();
            }
            cluster.ready(ROLLED_WITHIN).await;
            assert_eq!(cluster.member_list().await.len(), replicas);
            cluster.assert_same_data().await;
        }
        assert_nothing_lost(writers).await;
    });
}

#[test]
fn a_learner_that_does_not_start_is_removed_when_it_is_not_wanted_any_more() {
    run("unwanted", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.formed(spec("3.6.16", 1)).await;
        let uids = cluster.pod_uids().await;
        let no_pod = Policy::refuse(&space.client, &space.namespace, "CREATE", "pods", "false").await;
        cluster.edit(json!({ "replicas": 3 })).await;
        until("a learner is listed", ROLLED_WITHIN, async || learner(&cluster).await).await;
        let message = cluster.stalled("PodRefused", ROLLED_WITHIN).await;
        assert!(message.contains("a policy of the test's says no"), "{message}");
        cluster.edit(json!({ "replicas": 1 })).await;
        cluster.ready(ROLLED_WITHIN).await;
        no_pod.delete().await;
        cluster.assert_members(&NAMES[..1]).await;
        assert_eq!(cluster.pod_uids().await, uids, "the member was not touched");
    });
}

#[test]
fn volumes_of_members_that_left_are_kept_where_the_policy_says_so() {
    run("when-scaled", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let mut wanted = spec("3.5.10", 3);
        wanted["storage"]["retentionPolicy"] = json!({ "whenScaled": "Retain" });
        cluster.formed(wanted).await;
        cluster.rolled(json!({ "replicas": 1 })).await;
        let claims = cluster.claims().await;
        assert_eq!(claims.len(), 3);
        for name in ["data-etcd-1", "data-etcd-2"] {
            let labels = claims[name].metadata.labels.clone().unwrap();
            assert_eq!(labels["quorate.dev/set-aside"], "retained", "{name}");
        }
        // They are not taken again: numbers are used once.
        cluster.rolled(json!({ "replicas": 3 })).await;
        let listed: Vec<String> = cluster.member_list().await.into_keys().collect();
        assert_eq!(listed, ["etcd-0", "etcd-3", "etcd-4"]);
    });
}

/// As `kubectl scale` does.
async fn scale(cluster: &Cluster, replicas: usize) {
    let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
    let (clusters, params) = (cluster.api::<EtcdCluster>(), PatchParams::default());
    clusters.patch_scale(&cluster.name, &params, &patch).await.unwrap();
    cluster
        .until("the edit is seen", SAID_WITHIN, |cluster| {
            cluster.status.as_ref().and_then(|status| status.observed_generation)
                == cluster.metadata.generation
        })
        .await;
}

async fn learner(cluster: &Cluster) -> Option<()> {
    cluster.member_list().await.values().any(|member| member.is_learner).then_some(())
}
