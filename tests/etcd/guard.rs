//! The start under the guard, and what etcd's output says: a lost volume is recognised by it.

use crate::harness::{Cluster, reported};
use crate::processes;
use quorate::etcd::logs::{says_data_dir_is_empty, version_in_version_output};
use rstest::rstest;
use std::process::Command;
use std::time::Duration;

#[rstest]
#[case("3.5.9")]
#[case("3.5.10")]
#[case("3.5.35")]
#[case("3.6.16")]
#[case("3.7.3")]
fn a_binary_prints_its_version(#[case] version: &str) {
    let output = Command::new(processes::etcd(version)).arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with(&format!("etcd Version: {version}\n")), "{text}");
    assert_eq!(version_in_version_output(&text), Some(reported(version)));
}

#[rstest]
#[case("3.5.9")]
#[case("3.5.35")]
#[case("3.6.16")]
#[case("3.7.3")]
#[tokio::test]
async fn under_the_guard_etcd_starts_on_its_data_and_never_on_an_emptied_volume(#[case] version: &str) {
    let mut cluster = Cluster::of(3, version).await;
    let n = cluster.follower().await;
    let id = cluster.status(n).await.member_id;

    cluster.stop(n).await;
    cluster.start_guarded(n, version);
    cluster
        .eventually("it is back with its data", Duration::from_secs(10), async || {
            cluster.client(n).read().await.is_ok()
        })
        .await;
    assert_eq!(cluster.status(n).await.member_id, id);
    assert_eq!(cluster.client(n).member_list().await.unwrap().len(), 3);
    assert!(!says_data_dir_is_empty(&cluster.log(n)));

    cluster.stop(n).await;
    std::fs::remove_dir_all(cluster.data_dir(n)).unwrap();
    cluster.start_guarded(n, version);
    let status = cluster.process(n).ended(Duration::from_secs(10)).await;
    assert_eq!(status.code(), Some(1));

    let log = cluster.log(n);
    let last = log.lines().rfind(|line| !line.is_empty()).unwrap();
    assert!(
        last.contains(
            r#""msg":"discovery failed","error":"cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs""#
        ),
        "{last}"
    );
    assert!(says_data_dir_is_empty(&log));
    assert!(!cluster.data_dir(n).join("member/wal").exists(), "raft has started");
}
