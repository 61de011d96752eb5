//! `spec.replicas` on real etcd, as the planner goes there: more members and fewer, with a writer and a watcher.

use crate::driver::{Driven, Rest};
use crate::harness::reported;
use crate::planned::{LONG, settled};
use crate::roll::{assert_nothing_lost, load};
use crate::say::say;
use quorate::etcd::ErrorKind;
use quorate::etcd::versions::joins_by_an_entry_of_others;
use rstest::rstest;
use std::time::{Duration, Instant};

#[rstest]
#[tokio::test]
async fn it_grows_and_shrinks_and_nothing_is_lost(
    #[values("3.5.9", "3.5.35", "3.6.16", "3.7.3")] version: &str,
) {
    let yaml = format!("{{version: {version}, replicas: 1, rollout: {{memberDeadline: 60s}}}}");
    let mut driven = settled(&yaml).await;
    // Through the member that stays.
    let writers = load(&driven.etcd).await;
    for (replicas, left) in [(3, vec![0, 1, 2]), (5, vec![0, 1, 2, 3, 4]), (3, vec![0, 1, 2]), (1, vec![0])] {
        driven.spec.replicas = replicas;
        assert_eq!(driven.rest(LONG).await, Rest::Settled, "{replicas}");
        assert_eq!(driven.etcd.present(), left);
        driven.assert_runs(version).await;
        let listed = driven.etcd.client(0).member_list().await.unwrap();
        assert_eq!(listed.len(), left.len());
        assert!(listed.iter().all(|member| !member.is_learner), "{listed:?}");
        driven.etcd.hash().await;
    }
    // Everything that etcd did not take was a matter of time.
    for error in &driven.not_yet {
        let kind = error.kind();
        assert!(matches!(kind, ErrorKind::Unhealthy | ErrorKind::NotYet(_)), "{error}");
    }
    assert!(!driven.not_yet.is_empty(), "etcd wants its members to have been connected for 5 s");
    assert_nothing_lost(writers, &driven.etcd).await;
}

/// One member that has seen more than 5,000 entries, has forgotten the first of them, and is written to no more.
async fn quiet(version: &str) -> (Driven, etcd_client::Client) {
    let yaml = format!(
        "{{version: {version}, replicas: 1, etcd: {{snapshotCount: 1000}}, rollout: {{memberDeadline: 60s}}}}"
    );
    let driven = settled(&yaml).await;
    let client = etcd_client::Client::connect([driven.etcd.client_url(0)], None).await.unwrap();
    client.kv_client().put("k", "v", None).await.unwrap();
    let identity = driven.etcd.status(0).await.identity();
    for _ in 0..8 {
        driven.etcd.client(0).propose(identity, 1_000).await.unwrap();
    }
    (driven, client)
}

/// A learner that gets all it needs as one snapshot may say who it is only once one more entry has come, and serves nobody before;
/// one of 3.5 does so at once.
#[rstest]
#[tokio::test]
async fn a_learner_of_a_quiet_cluster_waits_for_an_entry(
    #[values("3.5.35", "3.6.16", "3.7.3")] version: &str,
) {
    let (mut driven, client) = Box::pin(quiet(version)).await;
    driven.etcd.make_room_for(2);
    let identity = driven.etcd.status(0).await.identity();
    driven.etcd.client(0).add_learner(identity, driven.etcd.peer_url(1)).await.unwrap();
    driven.etcd.start_with(1, version, &[0, 1], "existing");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let waits = driven.etcd.client(1).status().await.is_err();
    say(&format!("a learner of {version} in a quiet cluster {}", if waits { "hangs" } else { "comes" }));
    assert!(!waits || joins_by_an_entry_of_others(reported(version).minor), "it does not come");
    assert_eq!(driven.etcd.exit_code(1), None);
    client.kv_client().put("k", "one more", None).await.unwrap();
    let began = Instant::now();
    while driven.etcd.client(1).status().await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "it does not serve");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// So the operator proposes one now and then.
#[rstest]
#[tokio::test]
async fn a_quiet_cluster_grows(#[values("3.5.35", "3.6.16", "3.7.3")] version: &str) {
    let (mut driven, _) = Box::pin(quiet(version)).await;
    driven.spec.replicas = 3;
    assert_eq!(driven.rest(LONG).await, Rest::Settled);
    driven.assert_runs(version).await;
    driven.etcd.hash().await;
}

/// The order that keeps the most members throughout: more of them before the roll, fewer after it.
#[tokio::test]
async fn a_resize_and_a_minor_hop_at_once() {
    let mut driven = settled("{version: 3.5.35, replicas: 1, rollout: {memberDeadline: 60s}}").await;
    // The writer goes to whoever is there.
    driven.etcd.make_room_for(3);
    let writers = load(&driven.etcd).await;
    driven.spec.replicas = 3;
    driven.spec.version = "3.6.16".to_owned();
    assert_eq!(driven.rest(LONG).await, Rest::Settled);
    driven.assert_runs("3.6.16").await;
    driven.spec.replicas = 1;
    driven.spec.version = "3.5.35".to_owned();
    assert_eq!(driven.rest(LONG).await, Rest::Settled);
    driven.assert_runs("3.5.35").await;
    assert_eq!(driven.etcd.present(), [0]);
    let versions: Vec<String> =
        driven.starts.iter().map(|(n, version, _)| format!("{n}:{version}")).collect();
    assert_eq!(versions[..3], ["0:3.5.35", "1:3.5.35", "2:3.5.35"], "more members come before the roll");
    assert_eq!(versions.len(), 9, "{versions:?}");
    assert_nothing_lost(writers, &driven.etcd).await;
}

/// A member's data directory is emptied: it is removed, and another one takes its place. Then one that is well is
/// exchanged, because somebody asks for it.
#[rstest]
#[tokio::test]
async fn a_member_without_data_is_replaced_and_a_healthy_one_is_exchanged(
    #[values("3.5.9", "3.5.35", "3.6.16", "3.7.3")] version: &str,
    #[values(0, 1)] lost: usize,
) {
    let mut driven = settled(&format!("{{version: {version}, rollout: {{memberDeadline: 10s}}}}")).await;
    driven.etcd.make_room_for(5);
    let writers = load(&driven.etcd).await;
    driven.etcd.kill(lost);
    std::fs::remove_dir_all(driven.etcd.data_dir(lost)).unwrap();
    driven.etcd.start_guarded(lost, version);
    assert_eq!(driven.rest(LONG).await, Rest::Settled);
    let left: Vec<usize> = (0..4).filter(|n| *n != lost).collect();
    assert_eq!(driven.etcd.present(), left);
    driven.assert_runs(version).await;
    assert_eq!(driven.status.last_replacement.as_ref().unwrap().member, format!("etcd-{lost}"));

    driven.replace = Some("etcd-2".to_owned());
    assert_eq!(driven.rest(LONG).await, Rest::Settled);
    let left: Vec<usize> = (0..5).filter(|n| *n != lost && *n != 2).collect();
    assert_eq!(driven.etcd.present(), left);
    driven.assert_runs(version).await;
    let through = driven.etcd.client(3);
    assert_eq!(through.member_list().await.unwrap().len(), 3);
    assert_nothing_lost(writers, &driven.etcd).await;
}
