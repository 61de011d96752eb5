//! Whole upgrades, one member at a time, by hand with the client's calls: what the operator will do. A writer
//! runs all the while, and every write that was acknowledged must be there at the end.

use crate::harness::{Cluster, reported};
use quorate::etcd::MemberStatus;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// etcd sets the cluster version within this of the last member's start: its own tests wait as long.
const FLIP_LIMIT: Duration = Duration::from_secs(7);
/// The longest time without an acknowledged write that is accepted here. Leadership is handed over before its member is
/// stopped, so there is no election by timeout; a busy machine adds to it.
const GAP_LIMIT: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_patch_rolls_in_one_member_at_a_time_and_no_write_is_lost() {
    let (from, to) = ("3.5.9", "3.5.10");
    let mut cluster = Cluster::of(3, from).await;
    let writer = Writer::start(&cluster).await;
    for n in followers_then_leader(&cluster).await {
        replace(&mut cluster, n, to).await;
    }
    for n in 0..3 {
        let versions = cluster.client(n).versions().await.unwrap();
        assert_eq!((versions.server, versions.cluster), (reported(to), Some(reported(from).minor)));
    }
    writer.finish(&cluster).await;
}

#[tokio::test]
async fn a_minor_rolls_in_after_its_first_member_was_put_back_and_no_write_is_lost() {
    let (from, to) = ("3.5.35", "3.6.16");
    let mut cluster = Cluster::of(3, from).await;
    let writer = Writer::start(&cluster).await;
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
    writer.finish(&cluster).await;
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

/// Writes a new key as fast as it can, through all members, and remembers what was acknowledged.
struct Writer {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Written>,
}

struct Written {
    /// Key to revision.
    acknowledged: BTreeMap<String, i64>,
    failed: u32,
    longest_gap: Duration,
}

impl Writer {
    async fn start(cluster: &Cluster) -> Self {
        let urls: Vec<_> = (0..cluster.size()).map(|n| cluster.client_url(n)).collect();
        let client = etcd_client::Client::connect(urls, None).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(write(client, stop.clone()));
        Self { stop, task }
    }

    /// Stops writing and looks for every acknowledged write, on every member.
    async fn finish(self, cluster: &Cluster) {
        self.stop.store(true, Ordering::Relaxed);
        let written = self.task.await.unwrap();
        let count = written.acknowledged.len();
        eprintln!(
            "{count} writes acknowledged, {} failed, longest time without one {:?}",
            written.failed, written.longest_gap
        );
        assert!(count > 100, "the writer hardly wrote");
        assert!(written.longest_gap < GAP_LIMIT, "{:?} without a write", written.longest_gap);
        let revisions: Vec<_> = written.acknowledged.values().collect();
        assert!(revisions.is_sorted_by(|a, b| a < b), "a revision went back");
        for n in 0..cluster.size() {
            let client = etcd_client::Client::connect([cluster.client_url(n)], None).await.unwrap();
            let all = etcd_client::GetOptions::new().with_prefix();
            let answer = client.kv_client().get("w/", Some(all)).await.unwrap();
            let kept: BTreeMap<_, _> =
                answer.kvs().iter().map(|kv| (kv.key_str().unwrap().to_owned(), kv.mod_revision())).collect();
            for (key, revision) in &written.acknowledged {
                assert_eq!(kept.get(key), Some(revision), "{key} is lost on {}", Cluster::name(n));
            }
        }
    }
}

async fn write(client: etcd_client::Client, stop: Arc<AtomicBool>) -> Written {
    let mut written = Written { acknowledged: BTreeMap::new(), failed: 0, longest_gap: Duration::ZERO };
    let mut last = Instant::now();
    for i in 0..1_000_000 {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("w/{i:06}");
        let put = client.kv_client();
        let put = async { put.clone().put(key.as_str(), "x", None).await };
        match tokio::time::timeout(Duration::from_secs(1), put).await {
            Ok(Ok(answer)) => {
                written.acknowledged.insert(key, answer.header().unwrap().revision());
                written.longest_gap = written.longest_gap.max(last.elapsed());
                last = Instant::now();
            }
            _ => written.failed += 1,
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    written.longest_gap = written.longest_gap.max(last.elapsed());
    written
}
