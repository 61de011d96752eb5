//! Members that lose their Pod, their volume, or both; and one that somebody wants to be another.

use crate::data::kill_container;
use crate::support::cluster::{Cluster, spec};
use crate::support::sampler::{Sampler, assert_nothing_lost};
use crate::support::{Chance, FORMED_WITHIN, ROLLED_WITHIN, SAID_WITHIN, lab, run, until};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::json;
use std::time::Duration;

#[test]
fn a_member_whose_pod_and_volume_are_deleted_is_replaced() {
    run("claim-lost", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.formed(spec("3.6.16", 3)).await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        lose(&cluster, "etcd-1").await;
        replaced(&cluster, "etcd-1").await;
        cluster.assert_members(&["etcd-0", "etcd-2", "etcd-3"]).await;
        assert_nothing_lost(writers).await;
        let events = cluster.event_reasons().await;
        assert!(events.iter().any(|reason| reason == "ReplacementStarted"), "{events:?}");
    });
}

/// The one that was there before all the others: no second cluster begins on its empty volume.
#[test]
fn the_first_members_wiped_volume_makes_no_second_cluster() {
    run("first-wiped", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.35", 3)).await;
        cluster.guarded().await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        wipe(&cluster, "etcd-0").await;
        replaced(&cluster, "etcd-0").await;
        cluster.assert_members_kept(&["etcd-1", "etcd-2", "etcd-3"], &["data-etcd-0"]).await;
        assert_eq!(cluster.identity().await.cluster, before.cluster);
        assert_nothing_lost(writers).await;
    });
}

#[test]
fn a_second_member_is_not_replaced_by_itself_within_the_hour() {
    run("second-lost", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.formed(spec("3.6.16", 3)).await;
        lose(&cluster, "etcd-1").await;
        replaced(&cluster, "etcd-1").await;
        lose(&cluster, "etcd-2").await;
        let message = cluster.stalled("MemberDataLost", ROLLED_WITHIN).await;
        for word in ["etcd-1 was replaced at", "Ready for an hour", "quorate.dev/replace=etcd-2"] {
            assert!(message.contains(word), "no {word:?} in {message}");
        }
        cluster.put("still", "writable").await;
        cluster.annotate("quorate.dev/replace", "etcd-2").await;
        replaced(&cluster, "etcd-2").await;
        cluster.assert_members(&["etcd-0", "etcd-3", "etcd-4"]).await;
    });
}

#[test]
fn a_healthy_member_is_exchanged_after_its_replacement_votes() {
    run("exchange", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.formed(spec("3.6.16", 3)).await;
        cluster.lead("etcd-1").await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        cluster.annotate("quorate.dev/replace", "etcd-1").await;
        until("there are four", ROLLED_WITHIN, async || {
            let listed = cluster.member_list().await;
            (listed.len() == 4 && listed.values().all(|member| !member.is_learner)).then_some(())
        })
        .await;
        replaced(&cluster, "etcd-1").await;
        cluster.assert_members_kept(&["etcd-0", "etcd-2", "etcd-3"], &["data-etcd-1"]).await;
        assert_nothing_lost(writers).await;
    });
}

#[test]
fn a_quarantine_ends_with_the_volume() {
    run("quarantine", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let mut wanted = spec("3.6.16", 1);
        wanted["storage"]["quarantine"] = json!("20s");
        cluster.formed(wanted).await;
        cluster.put("kept", "yes").await;
        cluster.annotate("quorate.dev/replace", "etcd-0").await;
        replaced(&cluster, "etcd-0").await;
        assert_eq!(cluster.get_key("kept").await.as_deref(), Some("yes"));
        until("the volume is gone", FORMED_WITHIN, async || {
            (!cluster.claims().await.contains_key("data-etcd-0")).then_some(())
        })
        .await;
        cluster.assert_members(&["etcd-1"]).await;
    });
}

#[test]
fn all_pods_at_once_come_back_with_their_data_and_the_same_members() {
    run("all-pods", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.35", 3)).await;
        cluster.put("kept", "yes").await;
        let pods = cluster.api::<Pod>();
        for name in before.members.keys() {
            pods.delete(name, &DeleteParams::default()).await.unwrap();
        }
        let old = cluster.pod_uids().await;
        until("all are made again", FORMED_WITHIN, async || {
            let now = cluster.pod_uids().await;
            (now.len() == 3 && now.iter().all(|(name, uid)| old.get(name) != Some(uid))).then_some(())
        })
        .await;
        cluster.ready(FORMED_WITHIN).await;
        assert_eq!(cluster.identity().await, before);
        assert_eq!(cluster.get_key("kept").await.as_deref(), Some("yes"));
    });
}

#[test]
fn an_operator_killed_at_random_moments_of_a_replacement_finishes() {
    run("killed-healing", async |space| {
        let mut chance = Chance::new("killed-healing");
        let mut operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.formed(spec("3.6.16", 3)).await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        lose(&cluster, "etcd-2").await;
        for _ in 0..5 {
            // Not to wait for something: the moment itself is the test.
            tokio::time::sleep(Duration::from_millis(100 + chance.below(3000))).await;
            operator.kill();
            operator = space.operator();
        }
        replaced(&cluster, "etcd-2").await;
        cluster.assert_members(&["etcd-0", "etcd-1", "etcd-3"]).await;
        assert_nothing_lost(writers).await;
    });
}

/// Its Pod and its volume claim are deleted.
pub async fn lose(cluster: &Cluster, name: &str) {
    let claims = cluster.api::<PersistentVolumeClaim>();
    let uid = claims.get(&format!("data-{name}")).await.unwrap().uid();
    claims.delete(&format!("data-{name}"), &DeleteParams::default()).await.unwrap();
    cluster.api::<Pod>().delete(name, &DeleteParams::default()).await.unwrap();
    until("the volume claim is gone", SAID_WITHIN, async || {
        let now = claims.get_opt(&format!("data-{name}")).await.unwrap();
        now.is_none_or(|claim| claim.uid() != uid).then_some(())
    })
    .await;
}

/// The data directory is emptied, and the container dies.
async fn wipe(cluster: &Cluster, name: &str) {
    let pod = cluster.pods().await.remove(name).unwrap();
    let node = pod.spec.as_ref().unwrap().node_name.as_ref().unwrap();
    let claim = cluster.claims().await.remove(&format!("data-{name}")).unwrap();
    let directory = lab::directory_of(&cluster.client(), &claim.spec.unwrap().volume_name.unwrap()).await;
    lab::exec(node, &["rm", "-rf", &format!("{directory}/data")]);
    kill_container(&pod);
}

/// Waits until the member is none any more and all is well again.
async fn replaced(cluster: &Cluster, name: &str) {
    until("the member is gone from etcd's list", ROLLED_WITHIN, async || {
        let listed = cluster.try_member_list().await?;
        let is_whole = listed.values().all(|member| !member.is_learner);
        (!listed.contains_key(name) && is_whole && crate::support::cluster::is_ready(&cluster.get().await))
            .then_some(())
    })
    .await;
}
