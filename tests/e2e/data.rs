//! Data outlives everything but the wish to delete it, and no empty cluster takes its place.

use crate::support::cluster::{Cluster, spec};
use crate::support::sampler::{Sampler, assert_nothing_lost};
use crate::support::{FORMED_WITHIN, ROLLED_WITHIN, SAID_WITHIN, Space, lab, run, until};
use kube::ResourceExt;
use serde_json::json;
use std::time::{Duration, Instant};

#[test]
fn when_all_data_directories_are_wiped_nothing_comes_up_as_an_empty_cluster() {
    run("wiped", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.10", 3)).await;
        cluster.guarded().await;
        cluster.put("precious", "1").await;
        let pods = cluster.pods().await;
        for (name, pod) in &pods {
            let node = pod.spec.as_ref().unwrap().node_name.as_ref().unwrap();
            let claim = &cluster.claims().await[&format!("data-{name}")];
            let volume = claim.spec.as_ref().unwrap().volume_name.clone().unwrap();
            let directory = lab::directory_of(&space.client, &volume).await;
            lab::exec(node, &["rm", "-rf", &format!("{directory}/data")]);
        }
        for pod in pods.values() {
            kill_container(pod);
        }
        until("every container was started again", FORMED_WITHIN, async || {
            let runs = cluster.runs().await;
            runs.values().all(|(_, restarts)| *restarts > 0).then_some(())
        })
        .await;
        let message = cluster.stalled("AllMembersLost", FORMED_WITHIN).await;
        assert!(message.contains(&before.cluster.to_string()), "{message}");

        let until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            for (name, pod) in cluster.pods().await {
                let Some(client) = cluster.member(&pod) else { continue };
                if let Ok(status) = client.status().await {
                    panic!("{name} came up empty: {status:?}");
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(cluster.status().await.cluster_id, Some(before.cluster.to_string()), "no new cluster id");
        let uids: Vec<_> = pods.values().map(ResourceExt::uid).collect();
        let now: Vec<_> = cluster.pods().await.values().map(ResourceExt::uid).collect();
        assert_eq!(now, uids, "no Pod was replaced");
    });
}

#[test]
fn where_healing_is_manual_a_wiped_member_stays_down_until_somebody_says_so() {
    run("one-wiped", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let mut wanted = spec("3.5.10", 3);
        wanted["heal"] = json!({ "mode": "Manual" });
        let before = cluster.formed(wanted).await;
        cluster.guarded().await;
        let pod = cluster.pods().await.remove("etcd-1").unwrap();
        let node = pod.spec.as_ref().unwrap().node_name.as_ref().unwrap();
        let claim = cluster.claims().await.remove("data-etcd-1").unwrap();
        let directory = lab::directory_of(&space.client, &claim.spec.unwrap().volume_name.unwrap()).await;
        lab::exec(node, &["rm", "-rf", &format!("{directory}/data")]);
        kill_container(&pod);
        let message = cluster.stalled("MemberDataLost", FORMED_WITHIN).await;
        assert!(
            message.contains("etcd-1") && message.contains(&before.members["etcd-1"].to_string()),
            "{message}"
        );
        assert!(cluster.member(&pod).unwrap().status().await.is_err(), "it must not start empty");
        cluster.put("still", "writable").await;
        assert!(message.contains("quorate.dev/replace=etcd-1"), "{message}");
        cluster.annotate("quorate.dev/replace", "etcd-1").await;
        cluster.ready(ROLLED_WITHIN).await;
        cluster.assert_members_kept(&["etcd-0", "etcd-2", "etcd-3"], &["data-etcd-1"]).await;
    });
}

#[test]
fn a_cluster_deleted_and_created_again_has_its_data() {
    run("recreated", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.9", 3)).await;
        cluster.put("kept", "yes").await;
        cluster.delete(SAID_WITHIN).await;
        gone_but_for_the_volumes(&cluster, 3).await;
        // The members come back on what their data was on; the newer version then rolls in.
        cluster.create(spec("3.5.10", 3)).await;
        cluster.ready(FORMED_WITHIN + ROLLED_WITHIN).await;
        assert_eq!(cluster.identity().await, before);
        assert_eq!(cluster.get_key("kept").await.as_deref(), Some("yes"));
        cluster.assert_version("3.5.10").await;
        let events = cluster.event_reasons().await;
        assert!(events.iter().any(|reason| reason == "ClusterAdopted"), "{events:?}");
        assert!(!events.iter().any(|reason| reason == "ClusterFormed"), "{events:?}");
    });
}

#[test]
fn a_cluster_deleted_without_an_operator_and_created_again_has_its_data() {
    run("recreated-alone", async |space| {
        let operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.6.16", 3)).await;
        cluster.put("kept", "yes").await;
        operator.kill();
        cluster.delete(SAID_WITHIN).await;
        gone_but_for_the_volumes(&cluster, 3).await;
        cluster.create(spec("3.6.16", 3)).await;
        let _operator = space.operator();
        cluster.ready(FORMED_WITHIN).await;
        assert_eq!(cluster.identity().await, before);
        assert_eq!(cluster.get_key("kept").await.as_deref(), Some("yes"));
    });
}

#[test]
fn a_cluster_deleted_and_created_again_at_once_has_its_data() {
    run("recreated-now", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.10", 3)).await;
        cluster.put("kept", "yes").await;
        cluster.delete(SAID_WITHIN).await;
        cluster.create(spec("3.5.10", 3)).await;
        cluster.ready(FORMED_WITHIN + ROLLED_WITHIN).await;
        assert_eq!(cluster.identity().await, before);
        assert_eq!(cluster.get_key("kept").await.as_deref(), Some("yes"));
    });
}

#[test]
fn volumes_go_with_the_cluster_where_the_policy_says_so() {
    run("when-deleted", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let mut wanted = spec("3.5.10", 1);
        wanted["storage"]["retentionPolicy"] = json!({ "whenDeleted": "Delete" });
        let first = cluster.formed(wanted.clone()).await;
        cluster.delete(FORMED_WITHIN).await;
        assert!(cluster.claims().await.is_empty());
        let second = cluster.formed(wanted).await;
        assert_ne!(first.cluster, second.cluster, "a new cluster of this name is another one");
    });
}

#[test]
fn a_lost_status_is_rebuilt_and_no_member_is_touched() {
    run("status-lost", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.10", 3)).await;
        let runs = cluster.runs().await;
        lose_status(space, &cluster).await;
        cluster.ready(SAID_WITHIN).await;
        assert_eq!(cluster.status().await.cluster_id, Some(before.cluster.to_string()));
        assert_eq!(cluster.identity().await, before);
        assert_eq!(cluster.runs().await, runs);
    });
}

#[test]
fn a_status_lost_in_the_middle_of_a_roll_is_rebuilt_and_the_roll_goes_on() {
    run("status-lost-roll", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.9", 3)).await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        cluster.edit(json!({ "version": "3.5.10" })).await;
        until("a member is away", ROLLED_WITHIN, async || (!sampler.so_far().away.is_empty()).then_some(()))
            .await;
        lose_status(space, &cluster).await;
        cluster.ready(ROLLED_WITHIN).await;
        assert_nothing_lost(writers).await;
        sampler.stop().assert_one_away_at_a_time();
        cluster.assert_version("3.5.10").await;
        assert_eq!(cluster.identity().await, before);
    });
}

/// Somebody writes the status at every moment; the one who empties it tries until it is heard.
async fn lose_status(_space: &Space, cluster: &Cluster) {
    until("the status is emptied", SAID_WITHIN, async || cluster.put_status(json!({})).await.ok()).await;
}

async fn gone_but_for_the_volumes(cluster: &Cluster, volumes: usize) {
    until("the Pods are gone", FORMED_WITHIN, async || cluster.pods().await.is_empty().then_some(())).await;
    let claims = cluster.claims().await;
    assert_eq!(claims.len(), volumes, "the volumes stay");
    assert!(claims.values().all(|claim| claim.metadata.deletion_timestamp.is_none()));
}

/// By the container's own id, in its node.
pub fn kill_container(pod: &k8s_openapi::api::core::v1::Pod) {
    let node = pod.spec.as_ref().unwrap().node_name.as_ref().unwrap();
    let status = &pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0];
    let id = status.container_id.as_ref().unwrap().strip_prefix("containerd://").unwrap();
    lab::exec(node, &["ctr", "-n", "k8s.io", "task", "kill", "-s", "SIGKILL", id]);
}
