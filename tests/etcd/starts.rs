//! What a start tells in its log, by which one that is slow is told from one that is stuck.

use crate::harness::Cluster;
use quorate::etcd::logs::stages_of_a_start;
use rstest::rstest;
use std::time::Duration;

/// More entries than a leader keeps for followers that lag: 5,000 before its last snapshot, and it takes one after each
/// 1,001. So who misses these gets a snapshot for certain, which with 6,000 hung by a handful of entries.
const ENTRIES: u32 = 1_000;
const TIMES: u32 = 8;

/// A member that comes back to a cluster whose log has gone on without it: it opens its data, receives a snapshot and
/// applies it, and each of these shows once.
#[rstest]
#[case("3.5.9")]
#[case("3.5.35")]
#[case("3.6.16")]
#[case("3.7.3")]
#[tokio::test]
async fn a_start_tells_of_all_its_stages(#[case] version: &str) {
    let mut cluster = Cluster::unstarted(3);
    cluster.extra_args = vec!["--snapshot-count=1000".to_owned()];
    for n in 0..3 {
        cluster.start(n, version);
    }
    cluster.formed(version).await;
    let (leader, lagging) = (cluster.leader().await, cluster.follower().await);
    cluster.stop(lagging).await;
    let before = cluster.log(lagging).len();
    let identity = cluster.status(leader).await.identity();
    for _ in 0..TIMES {
        cluster.client(leader).propose(identity, ENTRIES).await.unwrap();
    }
    cluster.start(lagging, version);
    cluster
        .eventually("it serves again", Duration::from_secs(30), async || {
            cluster.client(lagging).read().await.is_ok()
        })
        .await;
    let log = cluster.log(lagging).split_off(before);
    let mut stages: Vec<u32> = Vec::new();
    for (end, _) in log.match_indices('\n') {
        stages.push(stages_of_a_start(&log[..end]));
    }
    let all = stages.last().copied().unwrap_or_default();
    stages.dedup();
    assert_eq!(all, 11, "{stages:?}\n{log}");
    assert!(stages.windows(2).all(|two| two[1] == two[0] + 1), "one after the other: {stages:?}");
}

/// A member that is started without a quorum of others does not listen for clients at all, however well it is: that it
/// does not answer says nothing of it. With a quorum it does.
#[rstest]
#[case("3.5.9")]
#[case("3.6.16")]
#[case("3.7.3")]
#[tokio::test]
async fn a_member_without_a_quorum_answers_nobody(#[case] version: &str) {
    let mut cluster = Cluster::of(3, version).await;
    for n in 0..3 {
        cluster.stop(n).await;
    }
    cluster.start(0, version);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(cluster.exit_code(0), None, "it runs");
    assert!(cluster.log(0).contains("now serving peer"), "it has come as far as that");
    assert!(cluster.client(0).status().await.is_err(), "it does not answer");
    cluster.start(1, version);
    cluster
        .eventually("with a quorum it answers", Duration::from_secs(20), async || {
            cluster.client(0).status().await.is_ok()
        })
        .await;
}
