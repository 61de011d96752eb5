//! A quorum that is lost for good, on real etcd, as the planner mends it once a person has said so.

use crate::driver::{Driven, Rest};
use crate::planned::{LONG, settled};
use crate::processes;
use quorate::api::{Code, RecoverySpec};
use rstest::rstest;
use std::process::Command;
use std::time::Duration;

/// Two of three have lost their data: nothing is done, and what is offered names the one that is left with what it knows.
/// Once that is said, it is the cluster, with every key that it had, under the same id; and grows back with learners.
#[rstest]
#[case::patched_on_the_way("3.5.9", "3.5.35")]
#[case("3.6.16", "3.6.16")]
#[case("3.7.3", "3.7.3")]
#[tokio::test]
async fn a_cluster_is_made_anew_from_the_member_that_is_left(
    #[case] version: &str,
    #[case] forced_with: &str,
) {
    let mut driven = settled(&format!("{{version: {version}, rollout: {{memberDeadline: 60s}}}}")).await;
    let cluster = driven.status.cluster_id.clone().unwrap();
    let before = put(&driven, 0, 20).await;
    assert_eq!(driven.rest(LONG).await, Rest::Settled, "the operator has seen it serve");
    driven.lose(1);
    driven.lose(2);
    // By its first vote it writes down what it knows to be committed.
    tokio::time::sleep(Duration::from_secs(2)).await;
    // The survivor comes back without a quorum: it serves nobody, and tells what it has in its metrics only.
    driven.crash(0);
    let offered = asked_for(&mut driven, Code::RecoveryNeeded).await;
    let loss = driven.status.quorum_loss.clone().unwrap();
    assert_eq!(loss.survivors.len(), 1, "{loss:?}");
    assert_eq!((loss.survivors[0].member.as_str(), loss.survivors[0].revision), ("etcd-0", before));
    assert_eq!(loss.survivors[0].behind, Some(0));
    assert!(
        offered.contains(&loss.incident) && offered.contains(&format!("\"survivorRevision\":{before}")),
        "{offered}"
    );

    let good = RecoverySpec {
        cluster_id: cluster.clone(),
        incident: loss.incident.clone(),
        from_member: "etcd-0".to_owned(),
        survivor_revision: before,
    };
    for (wrong, word) in [
        (RecoverySpec { cluster_id: "1".to_owned(), ..good.clone() }, "clusterID"),
        (RecoverySpec { incident: "1".to_owned(), ..good.clone() }, "the loss 1"),
        (RecoverySpec { from_member: "etcd-1".to_owned(), ..good.clone() }, "fromMember"),
        (RecoverySpec { survivor_revision: before + 1, ..good.clone() }, "survivorRevision"),
    ] {
        driven.spec.recovery = Some(wrong);
        let said = asked_for(&mut driven, Code::RecoveryRefused).await;
        assert!(said.contains(word), "{said}");
    }
    driven.spec.recovery = Some(good.clone());
    if version != forced_with {
        let said = asked_for(&mut driven, Code::RecoveryRefused).await;
        assert!(said.contains("3.5.25"), "{said}");
        driven.spec.version = forced_with.to_owned();
    }
    assert_eq!(driven.pids().iter().flatten().count(), 1, "nothing was touched");

    driven.ahead = Duration::from_secs(61);
    assert_eq!(driven.rest(LONG * 2).await, Rest::Settled);
    driven.assert_runs(forced_with).await;
    let done = driven.status.last_recovery.clone().unwrap();
    assert_eq!((done.incident, done.member, done.revision), (loss.incident, "etcd-0".to_owned(), before));
    assert_eq!(done.copy, "data-etcd-3");
    assert_eq!(driven.status.quorum_loss, None);
    assert_eq!(driven.status.cluster_id.as_ref(), Some(&cluster), "the id stays");
    assert_eq!(driven.etcd.status(0).await.cluster_id.to_string(), cluster);
    assert_eq!(driven.etcd.present(), [0, 4, 5], "numbers are never used twice, and the copy has one");
    let list = driven.etcd.client(0).member_list().await.unwrap();
    assert_eq!(list.iter().filter(|member| !member.is_learner).count(), 3, "{list:?}");
    for n in [0, 4, 5] {
        assert_eq!(keys(&driven, n).await, 20);
    }
    put(&driven, 20, 30).await;
    driven.etcd.hash().await;
    assert_copy_holds(&driven, before, forced_with);
}

/// All that a person has to do is to take spec.recovery away, as long as nothing was forced.
#[tokio::test]
async fn it_is_called_off_before_anything_was_forced() {
    let mut driven = settled("{version: 3.6.16, replicas: 5, rollout: {memberDeadline: 60s}}").await;
    let before = put(&driven, 0, 5).await;
    for n in 2..5 {
        driven.lose(n);
    }
    asked_for(&mut driven, Code::RecoveryNeeded).await;
    let loss = driven.status.quorum_loss.clone().unwrap();
    let survivors: Vec<&str> = loss.survivors.iter().map(|survivor| survivor.member.as_str()).collect();
    assert_eq!(survivors, ["etcd-0", "etcd-1"]);
    let incident = loss.incident.clone();
    driven.spec.recovery = Some(RecoverySpec {
        cluster_id: driven.status.cluster_id.clone().unwrap(),
        incident: incident.clone(),
        from_member: "etcd-1".to_owned(),
        survivor_revision: before,
    });
    driven.ahead = Duration::from_secs(61);
    driven
        .until("the other one is set aside", LONG, |world, _| world.set_aside.values().next().map(|_| ()))
        .await;
    assert_eq!(driven.aside(), ["etcd-0"]);
    driven.spec.recovery = None;
    // It is as it was: two of five, with their data, and the offer stands.
    asked_for(&mut driven, Code::RecoveryNeeded).await;
    assert!(!driven.aside().contains(&"etcd-0".to_owned()));
    assert_eq!(driven.status.quorum_loss.as_ref().map(|loss| loss.incident.clone()), Some(incident));
    assert_eq!(driven.status.last_recovery, None);
}

/// Goes on until this is the first refusal, and says how it is put.
async fn asked_for(driven: &mut Driven, code: Code) -> String {
    driven
        .until(code.as_str(), LONG, |world, plan| {
            let notice = plan.refusals.first().filter(|notice| notice.code == code)?;
            // The status says it too by now.
            let told =
                world.cluster.status.refusals.first().is_some_and(|told| told.message == notice.message);
            told.then(|| format!("{} {}", notice.message, notice.remedy))
        })
        .await
}

/// Writes so many keys, and says the revision after them.
async fn put(driven: &Driven, from: u32, to: u32) -> i64 {
    let client = etcd_client::Client::connect([driven.etcd.client_url(0)], None).await.unwrap();
    let mut revision = 0;
    for key in from..to {
        let done = client.kv_client().put(format!("k/{key}"), "v", None).await.unwrap();
        revision = done.header().unwrap().revision();
    }
    revision
}

async fn keys(driven: &Driven, n: usize) -> usize {
    let client = etcd_client::Client::connect([driven.etcd.client_url(n)], None).await.unwrap();
    let options = etcd_client::GetOptions::new().with_prefix();
    client.kv_client().get("k/", Some(options)).await.unwrap().kvs().len()
}

/// Every revision is in the copy, which etcd's own tool reads.
fn assert_copy_holds(driven: &Driven, revision: i64, version: &str) {
    let said = Command::new(processes::etcd(version).with_file_name("etcdutl"))
        .args(["snapshot", "status", "-w", "json"])
        .arg(driven.copy().join("member/snap/db"))
        .output()
        .unwrap();
    let said: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(said["revision"], revision, "{said}");
}
