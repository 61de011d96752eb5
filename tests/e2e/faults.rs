//! Operators that die, operators too many, and hands other than the operator's.

use crate::support::cluster::{Cluster, condition, is_ready, spec};
use crate::support::kubectl::Drain;
use crate::support::sampler::{Sampler, assert_nothing_lost, under_load};
use crate::support::{Chance, ROLLED_WITHIN, SAID_WITHIN, run, run_alone, until};
use k8s_openapi::api::core::v1::Pod;
use kube::api::EvictParams;
use quorate::api::{ConditionType, EtcdCluster};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Times that the operator is killed in the middle of its work.
const KILLS: u32 = 10;

#[test]
fn an_operator_killed_at_ten_random_moments_loses_nothing_and_finishes() {
    run("killed", async |space| {
        let mut chance = Chance::new("killed");
        let mut operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.35", 3)).await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        cluster.edit(json!({ "version": "3.6.16" })).await;
        for kill in 1..=KILLS {
            // Not to wait for something: the moment itself is the test.
            tokio::time::sleep(Duration::from_millis(100 + chance.below(2400))).await;
            operator.kill();
            operator = space.operator();
            if is_ready(&cluster.get().await) {
                println!("killed: rolls once more after {kill} kills");
                cluster
                    .edit(json!({ "rollout": { "restartedAt": jiff::Timestamp::now().to_string() } }))
                    .await;
            }
        }
        cluster.ready(ROLLED_WITHIN).await;
        assert_nothing_lost(writers).await;
        sampler.stop().assert_one_away_at_a_time();
        cluster.assert_version("3.6.16").await;
        assert_eq!(cluster.identity().await, before);
        assert_eq!(cluster.status().await.last_failure, None);
    });
}

#[test]
fn two_operators_at_once_keep_one_member_away_at_a_time() {
    run("two-operators", async |space| {
        let _operators = (space.operator(), space.operator());
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.9", 3)).await;
        let seen = under_load(&cluster, async || cluster.rolled(json!({ "version": "3.5.10" })).await).await;
        assert_eq!(seen.made.len(), 3, "each member is replaced once: {:?}", seen.made);
        cluster.assert_version("3.5.10").await;
        assert_eq!(cluster.identity().await, before);
    });
}

#[test]
fn an_eviction_of_a_second_member_during_a_roll_is_refused_until_the_first_is_back() {
    run("eviction", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.9", 3)).await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        cluster.edit(json!({ "version": "3.5.10" })).await;
        let away =
            until("a member is away", ROLLED_WITHIN, async || sampler.so_far().away.first().cloned()).await;
        let second = before.members.keys().find(|name| **name != away).unwrap();
        let refused = evict_until_it_goes(&cluster, second).await;
        println!("eviction: {second} went after {refused} refusals, {away} was away");
        assert!(refused > 0, "the budget let {second} go while {away} was away");
        cluster.ready(ROLLED_WITHIN).await;
        assert_nothing_lost(writers).await;
        sampler.stop().assert_one_away_at_a_time();
        cluster.assert_version("3.5.10").await;
        assert_eq!(cluster.identity().await, before);
    });
}

/// By kubectl itself, of whole nodes, one after the other as for an upgrade of Kubernetes: the first drain waits until
/// the roll's own member is back, the next one meets a member that is away and gives up.
#[test]
fn nodes_are_drained_by_kubectl_during_a_roll_and_never_are_two_members_away() {
    run_alone("nodes", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("drained");
        let before = cluster.formed(spec("3.5.9", 3)).await;
        let (uids, nodes) = (cluster.pod_uids().await, nodes(&cluster).await);
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        // The nodes stay away for longer than the other tests give a member.
        cluster.edit(json!({ "version": "3.5.10", "rollout": { "memberDeadline": "2m" } })).await;
        let rolled = going_away(&cluster).await;
        let [drained, last] = &uids.keys().filter(|name| **name != rolled).collect::<Vec<_>>()[..] else {
            panic!("{uids:?}")
        };

        let mut drain = Drain::begin(space, &cluster.name, &nodes[*drained], ROLLED_WITHIN);
        let said = drain.ended(ROLLED_WITHIN).await.unwrap();
        assert!(said.contains("disruption budget"), "{drained} went while {rolled} was away: {said}");
        // Its volume is on the node that takes no Pod. It may get its next revision; the last one may not.
        nothing_begins(&cluster, drained, |cluster| {
            let progress = cluster.status.as_ref().and_then(|status| status.progress.as_ref());
            progress.is_none_or(|progress| progress.member == **drained)
        })
        .await;

        let mut drain_of_last = Drain::begin(space, &cluster.name, &nodes[*last], Duration::from_secs(4));
        let said = drain_of_last.ended(SAID_WITHIN).await.unwrap_err();
        assert!(said.contains("disruption budget"), "{last} may not go while {drained} is away: {said}");
        drop(drain);
        let waits = format!("{}, the node of {last}, is cordoned", nodes[*last]);
        let waits = |cluster: &EtcdCluster| {
            condition(cluster, ConditionType::Reconciling).is_some_and(|condition| {
                condition.reason == "AnotherDisturbance" && condition.message.contains(&waits)
            })
        };
        nothing_begins(&cluster, "", waits).await;
        assert_eq!(cluster.pod_uids().await[*last], uids[*last]);

        drop(drain_of_last);
        cluster.ready(ROLLED_WITHIN).await;
        assert_nothing_lost(writers).await;
        sampler.stop().assert_one_away_at_a_time();
        cluster.assert_version("3.5.10").await;
        assert_eq!(cluster.identity().await, before);
    });
}

#[test]
fn an_evicted_member_comes_back_and_nothing_else_is_touched() {
    run("evicted", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.10", 3)).await;
        let uids = cluster.pod_uids().await;
        evict_until_it_goes(&cluster, "etcd-1").await;
        until("it is another Pod", ROLLED_WITHIN, async || {
            cluster.pod_uids().await.get("etcd-1").is_some_and(|uid| *uid != uids["etcd-1"]).then_some(())
        })
        .await;
        cluster.ready(ROLLED_WITHIN).await;
        let now = cluster.pod_uids().await;
        assert_eq!((&now["etcd-0"], &now["etcd-2"]), (&uids["etcd-0"], &uids["etcd-2"]));
        assert_eq!(cluster.identity().await, before);
    });
}

/// The node of each member, each another one.
async fn nodes(cluster: &Cluster) -> BTreeMap<String, String> {
    let node = |pod: Pod| pod.spec.unwrap().node_name.unwrap();
    let nodes: BTreeMap<_, _> =
        cluster.pods().await.into_iter().map(|(name, pod)| (name, node(pod))).collect();
    let different: BTreeSet<_> = nodes.values().collect();
    assert_eq!(different.len(), nodes.len(), "{nodes:?}");
    nodes
}

/// The next member whose Pod goes away.
async fn going_away(cluster: &Cluster) -> String {
    until("a member goes away", ROLLED_WITHIN, async || {
        let pods = cluster.pods().await;
        pods.into_iter().find(|(_, pod)| pod.metadata.deletion_timestamp.is_some()).map(|(name, _)| name)
    })
    .await
}

/// Once the cluster is as asked it stays so, and so do the Pods of all but one member that is away, for longer than the
/// operator needs to begin with a member.
async fn nothing_begins(cluster: &Cluster, but_for: &str, holds: impl Fn(&EtcdCluster) -> bool) {
    let pods = async || {
        let mut pods = cluster.pod_uids().await;
        pods.remove(but_for);
        pods
    };
    cluster.until("nothing is under way", ROLLED_WITHIN, &holds).await;
    let before = pods().await;
    let until = Instant::now() + Duration::from_secs(8);
    while Instant::now() < until {
        cluster.until("nothing begins", Duration::ZERO, &holds).await;
        assert_eq!(pods().await, before);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// As `kubectl drain` does: again and again until the budget lets it go. Returns how often it did not.
async fn evict_until_it_goes(cluster: &Cluster, member: &str) -> u32 {
    let mut refused = 0;
    until("the eviction is allowed", ROLLED_WITHIN, async || {
        match cluster.api::<Pod>().evict(member, &EvictParams::default()).await {
            Ok(_) => Some(()),
            Err(kube::Error::Api(status)) if status.code == 429 => {
                refused += 1;
                None
            }
            Err(kube::Error::Api(status)) if status.code == 404 => None,
            Err(error) => panic!("{error}"),
        }
    })
    .await;
    refused
}
