//! A quorum that is lost: brought back where its volumes are, and made anew from one member where somebody says so.

use crate::heal::lose;
use crate::support::cluster::{Cluster, condition, spec};
use crate::support::kubectl::{Undo, kubectl};
use crate::support::sampler::{Sampler, assert_nothing_lost};
use crate::support::{Chance, FORMED_WITHIN, ROLLED_WITHIN, SAID_WITHIN, run, run_alone, until};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams};
use quorate::api::{ConditionType, QuorumLossStatus};
use serde_json::json;
use std::time::Duration;

/// A recovery is not begun within the first minute of a loss.
const RECOVERED_WITHIN: Duration = Duration::from_mins(4);

/// The loss, once the status says how it would be mended.
async fn offered(cluster: &Cluster) -> (QuorumLossStatus, String) {
    let message = cluster.stalled("RecoveryNeeded", FORMED_WITHIN).await;
    let status = cluster.status().await;
    (status.quorum_loss.expect("a loss"), message)
}

fn is_available(cluster: &quorate::api::EtcdCluster) -> (String, String) {
    let available = condition(cluster, ConditionType::Available).unwrap();
    (available.status.clone(), format!("{}: {}", available.reason, available.message))
}

/// The command of the message is what a person types.
fn command_of(message: &str) -> Vec<String> {
    let command = message.split_once("kubectl ").unwrap().1;
    let (words, rest) = command.split_once('\'').unwrap();
    let (patch, _) = rest.split_once('\'').unwrap();
    words.split_whitespace().map(str::to_owned).chain([patch.to_owned()]).collect()
}

/// Two volumes of three are gone. Nothing is done before somebody types the command that the status shows; then the
/// operator is killed again and again on the way.
#[test]
fn a_cluster_is_made_anew_from_the_member_that_is_left() {
    run("recovered", async |space| {
        let mut operator = Some(space.operator());
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.6.16", 3)).await;
        cluster.guarded().await;
        for n in 0..50 {
            cluster.put(&format!("kept/{n}"), "yes").await;
        }
        // The next health round has seen them.
        tokio::time::sleep(Duration::from_secs(15)).await;
        let revision = cluster.statuses().await["etcd-0"].revision;
        lose(&cluster, "etcd-1").await;
        lose(&cluster, "etcd-2").await;
        let (loss, message) = offered(&cluster).await;
        println!("recovered: {message}");
        let (status, why) = is_available(&cluster.get().await);
        assert_eq!(status, "False");
        for word in ["QuorumLost", "etcd-1 (no volume claim)", &format!("revision {revision}")] {
            assert!(why.contains(word), "no {word:?} in {why}");
        }
        let [left] = &loss.survivors[..] else { panic!("{loss:?}") };
        assert_eq!((left.member.as_str(), left.revision, left.behind), ("etcd-0", revision, Some(0)));
        assert!(left.complete_until.is_some(), "{left:?}");

        let uid = cluster.pod_uids().await["etcd-0"].clone();
        let mut words = command_of(&message);
        let patch = words.pop().unwrap();
        let type_it = |patch: &str| {
            let args: Vec<&str> = words.iter().map(String::as_str).chain([patch]).collect();
            kubectl(&args).unwrap()
        };
        type_it(&patch.replace(&loss.incident, "0123456789"));
        let said = cluster.stalled("RecoveryRefused", SAID_WITHIN).await;
        assert!(said.contains(&loss.incident), "{said}");
        assert_eq!(cluster.pod_uids().await["etcd-0"], uid, "nothing was touched");
        type_it(&patch);

        // Killed at moments of chance, each a little later than the operator's next write or two.
        let mut chance = Chance::new("recovered");
        let mut kills = 0;
        until("it is recovered", RECOVERED_WITHIN, async || {
            let status = cluster.status().await;
            if status.last_recovery.is_some() {
                return Some(());
            }
            if status.progress.is_some_and(|progress| progress.action == quorate::api::Action::Recover) {
                operator.take().unwrap().kill();
                kills += 1;
                operator = Some(space.operator());
            }
            tokio::time::sleep(Duration::from_millis(chance.below(4_000))).await;
            None
        })
        .await;
        println!("recovered: the operator was killed {kills} times");
        assert!(kills > 0);
        cluster.ready(ROLLED_WITHIN).await;
        let done = cluster.status().await.last_recovery.unwrap();
        assert_eq!((done.member.as_str(), done.revision), ("etcd-0", revision));
        let copy = done.copy.clone();
        let members: Vec<String> = cluster.member_list().await.into_keys().collect();
        let names: Vec<&str> = members.iter().map(String::as_str).collect();
        cluster.assert_members_kept(&names, &[&copy]).await;
        assert_eq!(names.first(), Some(&"etcd-0"));
        assert_eq!(cluster.identity().await.cluster, before.cluster);
        for n in 0..50 {
            assert_eq!(cluster.get_key(&format!("kept/{n}")).await.as_deref(), Some("yes"));
        }
        let leftover = cluster.api::<Pod>().list(&ListParams::default()).await.unwrap();
        assert_eq!(leftover.items.len(), 3, "no Pod of the recovery is left");
        let events = cluster.event_reasons().await;
        for reason in ["RecoveryNeeded", "RecoveryStarted", "Recovered"] {
            assert!(events.iter().any(|event| event == reason), "no {reason} in {events:?}");
        }
        // It goes on as any cluster, with the same words in its spec.
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        cluster.rolled(json!({ "etcd": { "snapshotCount": 9000 } })).await;
        assert_nothing_lost(writers).await;
    });
}

/// Two of three are away and their volumes are there: whatever a person says, they are brought back.
#[test]
fn a_quorum_that_is_away_comes_back_with_its_volumes() {
    run_alone("quorum-back", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.35", 3)).await;
        cluster.guarded().await;
        cluster.put("kept", "yes").await;
        let pods = cluster.pods().await;
        let mut cordons = Vec::new();
        for member in ["etcd-1", "etcd-2"] {
            let node = pods[member].spec.as_ref().unwrap().node_name.clone().unwrap();
            cordons.push(Undo::with(&["uncordon", &node]));
            kubectl(&["cordon", &node]).unwrap();
        }
        for member in ["etcd-1", "etcd-2"] {
            cluster.api::<Pod>().delete(member, &DeleteParams::default()).await.unwrap();
        }
        let told = cluster
            .until("the loss is told", FORMED_WITHIN, |cluster| {
                cluster.status.as_ref().is_some_and(|status| {
                    status.quorum_loss.as_ref().is_some_and(|loss| loss.survivors.len() == 1)
                })
            })
            .await;
        let (status, why) = is_available(&told);
        assert_eq!(status, "False", "{why}");
        let loss = told.status.unwrap().quorum_loss.unwrap();
        cluster
            .edit(json!({ "recovery": {
                "clusterID": before.cluster.to_string(),
                "incident": loss.incident,
                "fromMember": "etcd-0",
                "survivorRevision": loss.survivors[0].revision,
            } }))
            .await;
        let said = cluster.stalled("RecoveryRefused", SAID_WITHIN).await;
        assert!(said.contains("have their volumes"), "{said}");
        drop(cordons);
        cluster.ready(FORMED_WITHIN).await;
        assert_eq!(cluster.identity().await, before);
        assert_eq!(cluster.get_key("kept").await.as_deref(), Some("yes"));
        let status = cluster.status().await;
        assert_eq!((status.quorum_loss, status.last_recovery), (None, None));
        cluster.assert_members(&["etcd-0", "etcd-1", "etcd-2"]).await;
    });
}
