//! Operators that die, operators too many, and hands other than the operator's.

use crate::support::cluster::{Cluster, is_ready, spec};
use crate::support::sampler::{Sampler, assert_nothing_lost, under_load};
use crate::support::{ROLLED_WITHIN, run, until};
use k8s_openapi::api::core::v1::Pod;
use kube::api::EvictParams;
use serde_json::json;
use std::time::Duration;

/// Times that the operator is killed in the middle of its work.
const KILLS: u32 = 10;

#[test]
fn an_operator_killed_at_ten_random_moments_loses_nothing_and_finishes() {
    run("killed", async |space| {
        let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let seed =
            seed.unwrap_or_else(|| u64::from(jiff::Timestamp::now().subsec_nanosecond().unsigned_abs()));
        println!("killed: SEED={seed}");
        let mut chance = Chance(seed | 1);
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
fn a_drain_of_a_second_node_during_a_roll_is_refused_or_waited_for() {
    run("drain", async |space| {
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
        println!("drain: {second} went after {refused} refusals, {away} was away");
        assert!(refused > 0, "the budget let {second} go while {away} was away");
        cluster.ready(ROLLED_WITHIN).await;
        assert_nothing_lost(writers).await;
        sampler.stop().assert_one_away_at_a_time();
        cluster.assert_version("3.5.10").await;
        assert_eq!(cluster.identity().await, before);
    });
}

#[test]
fn a_drained_member_comes_back_and_nothing_else_is_touched() {
    run("drained", async |space| {
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

/// Marsaglia's xorshift: numbers that a seed gives again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
