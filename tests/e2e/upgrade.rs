//! Upgrades under load: nothing lost, one member away at a time, the leader moved once.

use crate::support::cluster::{Cluster, Identity, spec};
use crate::support::sampler::{Sampler, assert_nothing_lost};
use crate::support::{EVERY_HOP_WITHIN, ROLLED_WITHIN, SAID_WITHIN, run, until};
use serde_json::json;

#[test]
fn a_patch_rolls_in_one_member_at_a_time_under_a_writer_and_nothing_is_lost() {
    run("patch", async |space| {
        let _operator = space.operator();
        upgrade(&space.cluster("etcd"), "3.5.9", "3.5.10").await;
    });
}

#[test]
fn a_minor_rolls_in_one_member_at_a_time_under_a_writer_and_nothing_is_lost() {
    run("minor", async |space| {
        let _operator = space.operator();
        upgrade(&space.cluster("etcd"), "3.5.35", "3.6.16").await;
    });
}

#[test]
fn one_edit_goes_from_3_5_9_to_3_7_3_hop_by_hop_under_a_writer_and_nothing_is_lost() {
    run("hops", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.9", 3)).await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        cluster.edit(json!({ "version": "3.7.3" })).await;
        let planned = cluster
            .until("the plan is shown", SAID_WITHIN, |cluster| {
                cluster.status.as_ref().is_some_and(|status| status.plan.is_some())
            })
            .await;
        let plan = planned.status.unwrap().plan.unwrap();
        assert_eq!(plan.hops, ["3.5.9", "3.5.35", "3.6.16", "3.7.3"]);
        for member in before.members.keys() {
            let restarts = plan.steps.iter().filter(|step| step.member.as_ref() == Some(member)).count();
            assert_eq!(restarts, 3, "{member} restarts once a hop, and the plan says so");
        }
        cluster.ready(EVERY_HOP_WITHIN).await;

        assert_nothing_lost(writers).await;
        let seen = sampler.stop();
        seen.assert_one_away_at_a_time();
        assert_eq!(seen.made.len(), 9, "each member once a hop: {:?}", seen.made);
        cluster.assert_version("3.7.3").await;
        assert_eq!(cluster.identity().await, before);
    });
}

/// On their own, five keys and no traffic kill every member on its first start on 3.7: nothing makes etcd
/// take the raft snapshot behind which the entries of 3.5 are. So no writer here: it would be the traffic.
#[test]
fn a_quiet_cluster_goes_from_3_5_to_3_6_and_later_to_3_7() {
    run("quiet", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.35", 3)).await;
        for key in ["a", "b", "c", "d", "e"] {
            cluster.put(key, key).await;
        }
        cluster.rolled(json!({ "version": "3.6.16" })).await;
        cluster.decided("3.6.16").await;
        cluster.rolled(json!({ "version": "3.7.3" })).await;
        cluster.assert_version("3.7.3").await;
        assert_eq!(cluster.identity().await, before);
        for (pod, (_, restarts)) in cluster.runs().await {
            assert_eq!(restarts, 0, "{pod}: no member died on the way");
        }
        for key in ["a", "b", "c", "d", "e"] {
            assert_eq!(cluster.get_key(key).await.as_deref(), Some(key));
        }
    });
}

#[test]
fn a_version_is_set_back_in_the_middle_of_a_roll_and_the_old_binaries_come_back() {
    run("revert", async |space| {
        let _operator = space.operator();
        set_back_in_the_middle(&space.cluster("etcd"), "3.5.35", "3.6.16").await;
    });
}

#[test]
fn a_minor_down_and_up_again_under_a_writer_loses_nothing() {
    run("down", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.7.3", 3)).await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        cluster.rolled(json!({ "version": "3.6.16" })).await;
        cluster.assert_version("3.6.16").await;
        cluster.decided("3.6.16").await;
        let events = cluster.event_reasons().await;
        let at = |reason: &str| events.iter().position(|other| other == reason);
        assert!(at("DowngradeBegun").is_some() && at("DowngradeBegun") < at("MemberStopped"), "{events:?}");
        assert_eq!(at("DowngradeCancelled"), None, "etcd ends the job by itself: {events:?}");
        cluster.rolled(json!({ "version": "3.7.3" })).await;

        assert_nothing_lost(writers).await;
        let seen = sampler.stop();
        seen.assert_one_away_at_a_time();
        assert_eq!(seen.made.len(), 6, "each member is replaced once each way: {:?}", seen.made);
        cluster.assert_version("3.7.3").await;
        cluster.decided("3.7.3").await;
        assert_eq!(cluster.identity().await, before);
    });
}

/// Down, another mind with two members down, and up again: the job is cancelled first.
#[test]
fn a_downgrade_is_given_up_in_the_middle_and_nothing_is_lost() {
    run("down-revert", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        set_back_in_the_middle(&cluster, "3.6.16", "3.5.35").await;
        cluster.decided("3.6.16").await;
        assert!(cluster.events().await.iter().any(|(reason, _)| reason == "DowngradeCancelled"));
    });
}

#[test]
fn two_clusters_roll_at_once_with_one_operator() {
    run("two-clusters", async |space| {
        let _operator = space.operator();
        let (one, two) = (space.cluster("one"), space.cluster("two"));
        let before = tokio::join!(one.formed(spec("3.5.9", 3)), two.formed(spec("3.5.9", 3)));
        let (first, second) = (Sampler::start(&one).await, Sampler::start(&two).await);
        let writers = tokio::join!(first.writers(), second.writers());
        tokio::join!(one.edit(json!({ "version": "3.5.10" })), two.edit(json!({ "version": "3.5.10" })));
        until("both roll at once", ROLLED_WITHIN, async || {
            let (one, two) = tokio::join!(one.status(), two.status());
            (one.progress.is_some() && two.progress.is_some()).then_some(())
        })
        .await;
        tokio::join!(one.ready(ROLLED_WITHIN), two.ready(ROLLED_WITHIN));
        tokio::join!(assert_nothing_lost(writers.0), assert_nothing_lost(writers.1));
        first.stop().assert_one_away_at_a_time();
        second.stop().assert_one_away_at_a_time();
        tokio::join!(one.assert_version("3.5.10"), two.assert_version("3.5.10"));
        assert_eq!(tokio::join!(one.identity(), two.identity()), before);
    });
}

/// Another mind with the second member away: everything goes back, and nothing is lost.
async fn set_back_in_the_middle(cluster: &Cluster, from: &str, to: &str) {
    let before = cluster.formed(spec(from, 3)).await;
    let sampler = Sampler::start(cluster).await;
    let writers = sampler.writers().await;
    cluster.edit(json!({ "version": to })).await;
    until("the second member is being replaced", ROLLED_WITHIN, async || {
        (sampler.so_far().made.len() == 2).then_some(())
    })
    .await;
    cluster.rolled(json!({ "version": from })).await;

    assert_nothing_lost(writers).await;
    sampler.stop().assert_one_away_at_a_time();
    cluster.assert_version(from).await;
    assert_eq!(cluster.identity().await, before);
}

async fn upgrade(cluster: &Cluster, from: &str, to: &str) {
    let before: Identity = cluster.formed(spec(from, 3)).await;
    let volumes: Vec<_> = cluster.claims().await.into_values().map(|claim| claim.metadata.uid).collect();
    let uids = cluster.pod_uids().await;
    let sampler = Sampler::start(&cluster.clone()).await;
    let writers = sampler.writers().await;
    until("writes are acknowledged", SAID_WITHIN, async || (writers.tally().acked > 50).then_some(())).await;
    cluster.rolled(json!({ "version": to })).await;

    cluster.assert_version(to).await;
    let receipt = assert_nothing_lost(writers).await;
    let seen = sampler.stop();
    println!("  {seen:?}");
    seen.assert_one_away_at_a_time();
    assert!(seen.leader_changes() <= 1, "{:?}", seen.leaders);
    assert!(receipt.watches > 1, "the watched member was stopped like any other");
    assert!(receipt.tally.longest_gap.as_secs() < 5, "no write for {:?}", receipt.tally.longest_gap);

    assert_eq!(cluster.identity().await, before, "same cluster, same members");
    let after: Vec<_> = cluster.claims().await.into_values().map(|claim| claim.metadata.uid).collect();
    assert_eq!(after, volumes, "same volumes");
    assert!(
        cluster.pod_uids().await.iter().all(|(name, uid)| uids[name] != *uid),
        "every Pod is another one"
    );
    assert_eq!(seen.made.len(), 3, "each member is replaced once: {:?}", seen.made);
    assert_eq!(seen.made.last(), seen.first_leader.as_ref(), "the leader goes last: {:?}", seen.made);

    let steps: Vec<&str> = seen.steps.iter().map(String::as_str).collect();
    let probes: &[&str] =
        if to.starts_with("3.6") { &["ProbeVolumes", "ProbeImage"] } else { &["ProbeImage"] };
    let replaced = ["ReplaceMember", "ReplaceMember", "ReplaceLeader"];
    assert!(steps.starts_with(&[probes, &replaced].concat()), "{steps:?}");
    let claimed: Vec<&String> = seen.progress.iter().map(|(_, member)| member).collect();
    assert!(seen.made.iter().all(|member| claimed.contains(&member)), "{:?}", seen.progress);
    let status = cluster.status().await;
    assert_eq!((status.version.as_deref(), status.progress, status.plan), (Some(to), None, None));

    let events = cluster.event_reasons().await;
    let told = |reason: &str| events.iter().filter(|other| *other == reason).count();
    let at = |reason: &str| {
        events.iter().position(|other| other == reason).unwrap_or_else(|| panic!("no {reason} in {events:?}"))
    };
    assert_eq!((told("MemberStopped"), told("MemberUpdated")), (3, 3), "{events:?}");
    assert!(at("ClusterFormed") < at("RolloutStarted"), "{events:?}");
    assert!(
        at("RolloutStarted") < at("MemberStopped") && at("MemberStopped") < at("MemberUpdated"),
        "{events:?}"
    );
    assert!(at("LeaderMoved") < at("RolloutCompleted"), "{events:?}");
    assert_eq!(events.last().map(String::as_str), Some("RolloutCompleted"), "{events:?}");
}
