//! Each call of the client, on healthy members and on members in trouble.

use crate::harness::{Cluster, MOVE_LEADER_LIMIT, READ_LIMIT, reported, storage_is_set};
use quorate::etcd::{Alarm, ClusterId, ErrorKind, Identity, MemberId, Minor};
use rstest::rstest;
use std::time::{Duration, Instant};

#[rstest]
#[case("3.4.23")]
#[case("3.5.9")]
#[case("3.5.35")]
#[case("3.6.16")]
#[case("3.7.3")]
#[tokio::test]
async fn every_member_tells_who_it_is_and_what_the_cluster_is(#[case] version: &str) {
    let cluster = Cluster::of(3, version).await;
    let leader = cluster.status(cluster.leader().await).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        let client = cluster.client(n);
        let status = client.status().await.unwrap();
        assert_eq!(status.version, reported(version));
        assert_eq!((status.leader, status.raft_term), (Some(leader.member_id), leader.raft_term));
        assert_eq!(status.cluster_id, leader.cluster_id);
        assert!(status.db_size > 0 && status.db_size_in_use > 0 && status.raft_applied_index > 0);
        assert!(!status.is_learner && status.alarms.is_empty());

        let versions = client.versions().await.unwrap();
        assert_eq!((versions.server, versions.cluster), (reported(version), Some(reported(version).minor)));
        assert!(storage_is_set(versions.storage, reported(version).minor), "{versions:?}");

        client.read().await.unwrap();
        client.commit_probe().await.unwrap();
        let list = client.member_list().await.unwrap();
        let me = list.iter().find(|member| member.id == status.member_id).unwrap();
        assert_eq!(me.name, Cluster::name(n));
        assert_eq!(
            (&me.peer_urls, &me.client_urls),
            (&vec![cluster.peer_url(n)], &vec![cluster.client_url(n)])
        );
        assert!(!me.is_learner);
        ids.push(status.member_id);
    }
    ids.sort();
    let mut listed: Vec<_> = cluster.client(0).member_list().await.unwrap().iter().map(|m| m.id).collect();
    listed.sort();
    assert_eq!(listed, ids);
}

#[rstest]
#[case("3.5.9")]
#[case("3.5.35")]
#[case("3.6.16")]
#[case("3.7.3")]
#[tokio::test]
async fn a_commit_probe_costs_one_raft_entry_and_reading_costs_none(#[case] version: &str) {
    let cluster = Cluster::of(3, version).await;
    let leader = cluster.leader().await;
    settled(&cluster, leader).await;

    let before = cluster.status(leader).await;
    for n in 0..3 {
        let client = cluster.client(n);
        client.status().await.unwrap();
        client.versions().await.unwrap();
        client.read().await.unwrap();
        client.member_list().await.unwrap();
    }
    assert_eq!(cluster.status(leader).await.raft_index, before.raft_index);

    for n in 0..3 {
        cluster.client(n).commit_probe().await.unwrap();
    }
    let after = cluster.status(leader).await;
    assert_eq!(after.raft_index, before.raft_index + 3);
    assert_eq!(after.revision, before.revision, "a key was touched");
}

/// Waits until the new cluster writes nothing more by itself.
async fn settled(cluster: &Cluster, leader: usize) {
    let began = Instant::now();
    let (mut index, mut since) = (0, Instant::now());
    while since.elapsed() < Duration::from_millis(700) {
        let now = cluster.status(leader).await.raft_index;
        if now != index {
            (index, since) = (now, Instant::now());
        }
        assert!(began.elapsed() < Duration::from_secs(15), "a cluster at rest goes on writing");
        crate::harness::pause().await;
    }
}

#[rstest]
#[case("3.5.9")]
#[case("3.5.35")]
#[case("3.6.16")]
#[case("3.7.3")]
#[tokio::test]
async fn a_member_without_quorum_fails_within_the_limit(#[case] version: &str) {
    let mut cluster = Cluster::of(3, version).await;
    let survivor = cluster.follower().await;
    for n in (0..3).filter(|n| *n != survivor) {
        cluster.kill(n);
    }
    let client = cluster.client(survivor);
    cluster
        .eventually("the survivor knows no leader", Duration::from_secs(5), async || {
            client.status().await.is_ok_and(|status| status.leader.is_none())
        })
        .await;

    let began = Instant::now();
    let (read, list, probe) = tokio::join!(client.read(), client.member_list(), client.commit_probe());
    assert!(began.elapsed() < READ_LIMIT, "{:?}", began.elapsed());
    for error in [read.unwrap_err(), list.unwrap_err(), probe.unwrap_err()] {
        assert!(matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::NoLeader), "{error}");
    }
    client.status().await.unwrap();
    client.versions().await.unwrap();
}

#[rstest]
#[case("3.5.9")]
#[case("3.5.35")]
#[case("3.6.16")]
#[case("3.7.3")]
#[tokio::test]
async fn only_the_leader_moves_the_lead_and_only_if_it_is_who_was_meant(#[case] version: &str) {
    let cluster = Cluster::of(3, version).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let (leads, follows) = (cluster.status(leader).await, cluster.status(follower).await);

    let refused = cluster.client(follower).move_leader(follows.identity(), follows.member_id).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotLeader);

    let wrong = [
        Identity { member_id: follows.member_id, ..leads.identity() },
        Identity { cluster_id: ClusterId(leads.cluster_id.0 + 1), ..leads.identity() },
    ];
    for expected in wrong {
        let error = cluster.client(leader).move_leader(expected, follows.member_id).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongMember, "{error}");
    }
    let nobody = cluster.client(leader).move_leader(leads.identity(), MemberId(1)).await;
    assert_eq!(nobody.unwrap_err().kind(), ErrorKind::BadTransferee);
    let now = cluster.status(leader).await;
    assert_eq!((now.leader, now.raft_term), (Some(leads.member_id), leads.raft_term), "the lead moved");

    cluster.client(leader).move_leader(leads.identity(), follows.member_id).await.unwrap();
    assert_eq!(cluster.status(leader).await.leader, Some(follows.member_id));
    assert_eq!(cluster.leader().await, follower);
}

#[rstest]
#[case("3.5.9")]
#[case("3.5.35")]
#[case("3.6.16")]
#[case("3.7.3")]
#[tokio::test]
async fn a_cluster_that_has_not_formed_shows_by_its_version_and_a_member_without_client_urls(
    #[case] version: &str,
) {
    let mut cluster = Cluster::unstarted(3);
    cluster.start(0, version);
    cluster.start(1, version);
    let client = cluster.client(0);
    cluster
        .eventually("two of three serve", Duration::from_secs(10), async || {
            client.read().await.is_ok()
                && client.versions().await.is_ok_and(|v| v.cluster == Some(Minor::new(3, 0)))
        })
        .await;
    let list = client.member_list().await.unwrap();
    let not_started: Vec<_> =
        list.iter().filter(|m| m.client_urls.is_empty()).map(|m| m.name.as_str()).collect();
    // The name is in the list from the bootstrap on; only a member that was added later has none before its start.
    assert_eq!((list.len(), not_started), (3, vec!["etcd-2"]));
    // From 3.6 on the storage version is unknown, or read as 3.5, until the cluster version is set.
    assert_ne!(client.versions().await.unwrap().storage, Some(reported(version).minor));
}

#[tokio::test]
async fn moving_the_lead_to_a_member_that_is_down_times_out_and_leaves_it() {
    let mut cluster = Cluster::of(3, "3.6.16").await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let (leads, follows) = (cluster.status(leader).await, cluster.status(follower).await);
    cluster.kill(follower);
    let began = Instant::now();
    let error = cluster.client(leader).move_leader(leads.identity(), follows.member_id).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(began.elapsed() < MOVE_LEADER_LIMIT, "{:?}", began.elapsed());
    assert_eq!(cluster.status(leader).await.leader, Some(leads.member_id));
    cluster.client(leader).commit_probe().await.unwrap();
}

#[rstest]
#[case("3.5.9")]
#[case("3.7.3")]
#[tokio::test]
async fn a_learner_answers_its_status_and_says_that_it_serves_no_reads(#[case] version: &str) {
    let mut cluster = Cluster::unstarted(2);
    cluster.start_with(0, version, &[0], "new");
    cluster
        .eventually("the first member serves", Duration::from_secs(10), async || {
            cluster.client(0).read().await.is_ok()
        })
        .await;
    let client = etcd_client::Client::connect([cluster.client_url(0)], None).await.unwrap();
    let learner = etcd_client::MemberAddOptions::new().with_is_learner();
    client.cluster_client().member_add([cluster.peer_url(1)], Some(learner)).await.unwrap();
    let unnamed = cluster.client(0).member_list().await.unwrap();
    assert!(unnamed.iter().any(|m| m.name.is_empty() && m.client_urls.is_empty() && m.is_learner));

    cluster.start_with(1, version, &[0, 1], "existing");
    cluster
        .eventually("the learner answers", Duration::from_secs(10), async || {
            cluster.client(1).status().await.is_ok_and(|status| status.is_learner && status.leader.is_some())
        })
        .await;
    let client = cluster.client(1);
    client.versions().await.unwrap();
    assert_eq!(client.read().await.unwrap_err().kind(), ErrorKind::Learner);
    assert_eq!(client.member_list().await.unwrap_err().kind(), ErrorKind::Learner);
}

#[rstest]
#[case("3.5.9")]
#[case("3.7.3")]
#[tokio::test]
async fn a_full_database_shows_as_an_alarm_and_lets_a_probe_commit(#[case] version: &str) {
    let mut cluster = Cluster::unstarted(1);
    cluster.extra_args = vec!["--quota-backend-bytes=4194304".to_owned()];
    cluster.start(0, version);
    let client = cluster.client(0);
    cluster.eventually("it serves", Duration::from_secs(10), async || client.read().await.is_ok()).await;
    let writer = etcd_client::Client::connect([cluster.client_url(0)], None).await.unwrap();
    cluster
        .eventually("the alarm shows", Duration::from_secs(10), async || {
            // The size is compared with the quota when a write is applied, and grows when a batch of them is committed,
            // some 100 ms later: so it takes more than the writes that fill it.
            let _ = writer.kv_client().put("key", vec![b'x'; 1 << 20], None).await;
            client.status().await.is_ok_and(|status| status.alarms == [Alarm::NoSpace])
        })
        .await;
    client.read().await.unwrap();
    client.commit_probe().await.unwrap();
}
