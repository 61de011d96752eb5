//! etcd's Downgrade API, as the client meets it: what it says, what it does, and what a job leaves behind on 3.5.

use crate::harness::{Cluster, reported, storage_is_set};
use quorate::etcd::logs::says_a_downgrade_keeps_it_out;
use quorate::etcd::{DowngradeCall, ErrorKind};
use rstest::rstest;
use std::time::Duration;

const SECONDS: Duration = Duration::from_secs(10);

#[rstest]
#[case("3.6.16", "3.5.35")]
#[case("3.7.3", "3.6.16")]
#[tokio::test]
async fn a_job_lowers_the_versions_of_all_members_and_is_cancelled(#[case] from: &str, #[case] to: &str) {
    let cluster = Cluster::of(3, from).await;
    let (from, to) = (reported(from).minor, reported(to).minor);
    let client = cluster.client(1);
    let identity = cluster.status(1).await.identity();
    assert!(!client.has_downgrade_job(from).await.unwrap());
    client.downgrade(identity, DowngradeCall::Enable(to)).await.unwrap();
    assert_eq!(cluster.status(1).await.downgrade, Some(to));
    cluster
        .eventually("cluster and storage version are lowered on all", SECONDS, async || {
            for n in 0..3 {
                let versions = cluster.client(n).versions().await.unwrap();
                let told = cluster.status(n).await.downgrade == Some(to);
                if !(told && versions.cluster == Some(to) && versions.storage == Some(to)) {
                    return false;
                }
            }
            true
        })
        .await;
    client.downgrade(identity, DowngradeCall::Cancel).await.unwrap();
    cluster
        .eventually("they rise again", SECONDS, async || {
            let versions = client.versions().await.unwrap();
            versions.cluster == Some(from) && storage_is_set(versions.storage, from)
        })
        .await;
    assert_eq!(cluster.status(1).await.downgrade, None);
}

/// On 3.5 a job is accepted and shows by VALIDATE only; whoever starts under it dies, and goes on dying after it was
/// cancelled. One start on 3.6 heals.
#[tokio::test]
async fn on_3_5_a_job_keeps_members_from_starting_until_one_start_on_3_6() {
    let (old, new) = ("3.5.35", "3.6.16");
    let mut cluster = Cluster::of(3, old).await;
    let n = cluster.follower().await;
    let other = (n + 1) % 3;
    let minor = reported(old).minor;
    let identity = cluster.status(other).await.identity();
    let answer =
        cluster.client(other).downgrade(identity, DowngradeCall::Enable(minor.previous().unwrap())).await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::TimedOut, "it was carried out all the same");
    assert!(cluster.client(other).has_downgrade_job(minor).await.unwrap());
    assert_eq!(cluster.status(other).await.downgrade, None, "3.5 does not say");

    cluster.stop(n).await;
    cluster.start_guarded(n, old);
    assert!(!cluster.process(n).ended(SECONDS).await.success());
    assert!(says_a_downgrade_keeps_it_out(&cluster.log(n)));

    let answer = cluster.client(other).downgrade(identity, DowngradeCall::Cancel).await;
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(!cluster.client(other).has_downgrade_job(minor).await.unwrap());
    cluster.start_guarded(n, old);
    assert!(!cluster.process(n).ended(SECONDS).await.success(), "its data remembers");

    for version in [new, old] {
        cluster.start_guarded(n, version);
        cluster.eventually("it starts", SECONDS, async || cluster.client(n).read().await.is_ok()).await;
        assert_eq!(cluster.status(n).await.version, reported(version));
        cluster.stop(n).await;
    }
}
