//! Whole upgrades, one member at a time, by hand with the client's calls: what the operator will do. A writer
//! and a watcher run all the while: every write that was acknowledged must be there at the end, and was watched.

use crate::harness::{Cluster, reported};
use crate::say::say;
use crate::writer::{Options, Writers};
use quorate::etcd::MemberStatus;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// etcd sets the cluster version within this of the last member's start: its own tests wait as long.
const FLIP_LIMIT: Duration = Duration::from_secs(7);
/// The longest time without an acknowledged write that is accepted here. Leadership is handed over before its member is
/// stopped, so there is no election by timeout; a busy machine adds to it.
const GAP_LIMIT: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_patch_rolls_in_one_member_at_a_time_and_no_write_is_lost() {
    let (from, to) = ("3.5.9", "3.5.10");
    let mut cluster = Cluster::of(3, from).await;
    let writers = load(&cluster).await;
    for n in followers_then_leader(&cluster).await {
        replace(&mut cluster, n, to).await;
    }
    for n in 0..3 {
        let versions = cluster.client(n).versions().await.unwrap();
        assert_eq!((versions.server, versions.cluster), (reported(to), Some(reported(from).minor)));
    }
    assert!(assert_nothing_lost(writers, &cluster).await > 1);
}

#[tokio::test]
async fn a_minor_rolls_in_after_its_first_member_was_put_back_and_no_write_is_lost() {
    let (from, to) = ("3.5.35", "3.6.16");
    let mut cluster = Cluster::of(3, from).await;
    let writers = load(&cluster).await;
    let order = followers_then_leader(&cluster).await;
    replace(&mut cluster, order[0], to).await;
    replace(&mut cluster, order[0], from).await;
    for n in order {
        for i in 0..3 {
            let version = cluster.client(i).versions().await.unwrap();
            assert_eq!(version.cluster, Some(reported(from).minor), "it moves only after the last member");
        }
        replace(&mut cluster, n, to).await;
    }
    let minor = Some(reported(to).minor);
    cluster
        .eventually("cluster and storage version have moved on every member", FLIP_LIMIT, async || {
            for n in 0..3 {
                match cluster.client(n).versions().await {
                    Ok(versions) if versions.cluster == minor && versions.storage == minor => {}
                    _ => return false,
                }
            }
            true
        })
        .await;
    assert!(assert_nothing_lost(writers, &cluster).await > 1);
}

/// What the operator does before 3.7, through the leader and some hundred at a time, until every member has taken a
/// snapshot.
#[tokio::test]
async fn writers_hardly_notice_ten_thousand_entries_that_touch_no_key() {
    let cluster = Cluster::of(3, "3.6.16").await;
    let alone = Options { writers: 1, ..Options::default() };
    let writers = load_as(&cluster, alone).await;
    let leader = cluster.leader().await;
    let identity = cluster.status(leader).await.identity();
    let snapshots = async |n: usize| cluster.client(n).snapshots().await.unwrap().taken;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let quiet = rate(&writers, tokio::time::sleep(Duration::from_secs(5))).await;
    let base = [snapshots(0).await, snapshots(1).await, snapshots(2).await];
    writers.forget_gap();
    let busy = rate(&writers, async {
        for _ in 0..20 {
            cluster.client(leader).propose(identity, 500).await.unwrap();
        }
    })
    .await;
    let gap = writers.tally().longest_gap;
    say(&format!("{quiet:.0} writes a second before, {busy:.0} beside the entries; longest pause {gap:?}"));
    for (n, before) in base.into_iter().enumerate() {
        let taken = async || snapshots(n).await > before;
        cluster.eventually("a raft snapshot of every member", Duration::from_secs(10), taken).await;
    }
    assert!(busy > quiet / 4.0, "{busy} writes a second beside the entries, {quiet} before them");
    // A leader that is lost costs more.
    assert!(gap < Duration::from_secs(1), "{gap:?} without a write");
    assert_eq!(writers.finish().await.unwrap().broken(), [""; 0]);
}

/// Writes that are acknowledged in a second while something is done.
#[allow(clippy::cast_precision_loss, reason = "a few thousand writes")]
async fn rate(writers: &Writers, work: impl Future<Output = ()>) -> f64 {
    let (began, before) = (Instant::now(), writers.tally().acked);
    work.await;
    (writers.tally().acked - before) as f64 / began.elapsed().as_secs_f64()
}

async fn followers_then_leader(cluster: &Cluster) -> Vec<usize> {
    let leader = cluster.leader().await;
    (0..cluster.size()).filter(|n| *n != leader).chain([leader]).collect()
}

/// Stops one member, starts it on another version, and waits for the gate after.
async fn replace(cluster: &mut Cluster, n: usize, version: &str) {
    let before = gate_before(cluster, n).await;
    if before.leader == Some(before.member_id) {
        let to = cluster.status((n + 1) % cluster.size()).await.member_id;
        cluster.client(n).move_leader(before.identity(), to).await.unwrap();
    }
    cluster.stop(n).await;
    let committed = cluster.status(cluster.leader().await).await.raft_index;
    cluster.start_guarded(n, version);
    let client = cluster.client(n);
    cluster
        .eventually("the member is back", Duration::from_secs(15), async || {
            let Ok(status) = client.status().await else { return false };
            assert_eq!(status.version, reported(version));
            assert_eq!((status.member_id, status.cluster_id), (before.member_id, before.cluster_id));
            status.raft_applied_index >= committed && !status.is_learner && client.read().await.is_ok()
        })
        .await;
}

/// Waits until the cluster can do without member `n`, and says what that one is.
async fn gate_before(cluster: &Cluster, n: usize) -> MemberStatus {
    cluster
        .eventually("the cluster can do without the member", Duration::from_secs(10), async || {
            let client = cluster.client(n);
            let (read, probe, list) =
                tokio::join!(client.read(), client.commit_probe(), client.member_list());
            let mut seen = Vec::new();
            for i in 0..cluster.size() {
                match cluster.client(i).status().await {
                    Ok(status) => seen.push((status.leader, status.raft_term)),
                    Err(_) => return false,
                }
            }
            seen.dedup();
            read.is_ok()
                && probe.is_ok()
                && list.is_ok_and(|list| list.iter().all(|m| !m.name.is_empty() && !m.is_learner))
                && seen.len() == 1
        })
        .await;
    cluster.status(n).await
}

/// Writes all the time, and watches. Members keep their addresses here.
///
/// A proposal that is lost on the way to a leader that is just handing over costs its writer all its patience, for etcd
/// tells nobody. Several writers that seldom have one under way at the same time show whether the cluster writes.
pub async fn load(cluster: &Cluster) -> Writers {
    load_as(cluster, Options { writers: 8, pause: Duration::from_millis(50), ..Options::default() }).await
}

async fn load_as(cluster: &Cluster, options: Options) -> Writers {
    let (_, endpoints) = watch::channel((0..cluster.size()).map(|n| cluster.client_url(n)).collect());
    Writers::start(options, endpoints).await.unwrap()
}

/// Everything that was acknowledged is there and was watched, and all members have the same. Says how often the watch was
/// begun anew: the watched member is stopped like any other.
pub async fn assert_nothing_lost(writers: Writers, cluster: &Cluster) -> u64 {
    // A roll of empty members takes a second or two, in which a slow disk takes few writes.
    let enough = async || writers.tally().acked > 100;
    cluster.eventually("the writers go on", Duration::from_secs(20), enough).await;
    let receipt = writers.finish().await.unwrap();
    say(&receipt.line());
    assert!(receipt.tally.longest_gap < GAP_LIMIT, "{:?} without a write", receipt.tally.longest_gap);
    assert_eq!(receipt.broken(), [""; 0]);
    cluster.hash().await;
    receipt.watches
}
