//! Members that keep their data in their Pods, on real etcd: whatever would restart one exchanges it for a new one.

use crate::driver::Rest;
use crate::planned::{LONG, settled, write_keys};
use crate::roll::{assert_nothing_lost, load};
use quorate::cluster::observation::Answer;
use rstest::rstest;

/// What becomes of a quiet cluster, where 3.7 meets entries that 3.5 wrote, and of one that is written to. Each hop takes three
/// new members.
#[rstest]
#[case::patch("3.5.9", "3.5.35", [3, 4, 5])]
#[case::minor("3.5.35", "3.6.16", [3, 4, 5])]
#[case::all_the_way("3.5.9", "3.7.3", [9, 10, 11])]
#[tokio::test]
async fn a_way_of_exchanges_loses_nothing(
    #[case] from: &str,
    #[case] to: &str,
    #[case] left: [usize; 3],
    #[values(false, true)] is_written_to: bool,
) {
    let yaml = format!("{{version: {from}, storage: {{emptyDir: {{}}}}, rollout: {{memberDeadline: 60s}}}}");
    let mut driven = settled(&yaml).await;
    // Writers go to whoever is there.
    driven.etcd.make_room_for(12);
    write_keys(&driven).await;
    let before = driven.etcd.hash().await;
    let writers = if is_written_to { Some(load(&driven.etcd).await) } else { None };
    driven.spec.version = to.to_owned();
    assert_eq!(driven.rest(LONG).await, Rest::Settled);
    assert_eq!(driven.etcd.present(), left);
    driven.assert_runs(to).await;
    let listed = driven.etcd.client(left[0]).member_list().await.unwrap();
    assert!(listed.len() == 3 && listed.iter().all(|member| !member.is_learner), "{listed:?}");
    match writers {
        Some(writers) => drop(assert_nothing_lost(writers, &driven.etcd).await),
        None => assert_eq!(driven.etcd.hash().await, before),
    }
}

/// The version is set back while two of three are new ones: their data goes back to the older minor.
#[tokio::test]
async fn a_minor_that_is_set_back_in_the_middle_loses_nothing() {
    let mut driven =
        settled("{version: 3.5.35, storage: {emptyDir: {}}, rollout: {memberDeadline: 60s}}").await;
    driven.etcd.make_room_for(9);
    let writers = load(&driven.etcd).await;
    driven.spec.version = "3.6.16".to_owned();
    driven
        .until("two of three run 3.6", LONG, |world, _| {
            let new = |answer: &&Answer| {
                answer.status().is_some_and(|it| !it.is_learner && it.version.minor.to_string() == "3.6")
            };
            (world.answers.values().filter(new).count() == 2).then_some(())
        })
        .await;
    driven.spec.version = "3.5.35".to_owned();
    assert_eq!(driven.rest(LONG).await, Rest::Settled);
    driven.assert_runs("3.5.35").await;
    assert_nothing_lost(writers, &driven.etcd).await;
}

/// Its Pod is evicted: nothing of it is waited for, however often it happens.
#[tokio::test]
async fn those_that_lose_their_pods_are_replaced() {
    let mut driven = settled("{version: 3.6.16, storage: {emptyDir: {}}}").await;
    driven.etcd.make_room_for(5);
    let writers = load(&driven.etcd).await;
    for newest in [3, 4] {
        // Without the one that leads: a write that it was asked for may wait for its answer in vain.
        let mut lost = None;
        for n in driven.etcd.present() {
            let status = driven.etcd.status(n).await;
            lost = lost.or((status.leader != Some(status.member_id)).then_some(n));
        }
        let lost = lost.unwrap();
        let left: Vec<usize> =
            driven.etcd.present().into_iter().filter(|n| *n != lost).chain([newest]).collect();
        driven.lose_pod(lost).await;
        assert_eq!(driven.rest(LONG).await, Rest::Settled);
        assert_eq!(driven.etcd.present(), left);
    }
    assert_nothing_lost(writers, &driven.etcd).await;
}
