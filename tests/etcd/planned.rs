//! Whole ways between versions on real etcd, as the planner goes them: every ordered pair, and what can happen in
//! the middle.

use crate::driver::{Driven, Rest};
use crate::harness::reported;
use crate::roll::{assert_nothing_lost, load};
use quorate::api::{Code, Hops, MemberRole, RolloutSpec};
use quorate::cluster::plan::Next;
use quorate::etcd::DowngradeCall;
use rstest::rstest;
use std::cell::Cell;
use std::time::Duration;

/// Three hops, with some 10,000 entries before the last of them, on a busy machine.
pub const LONG: Duration = Duration::from_mins(4);

pub async fn settled(yaml: &str) -> Driven {
    let mut driven = Driven::new(yaml);
    assert_eq!(driven.rest(LONG).await, Rest::Settled);
    driven
}

pub async fn write_keys(driven: &Driven) {
    let client = etcd_client::Client::connect([driven.etcd.client_url(0)], None).await.unwrap();
    for i in 0..20 {
        client.kv_client().put(format!("k/{i}"), format!("v{i}"), None).await.unwrap();
    }
    client.kv_client().delete("k/7", None).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn every_pair_of_versions(
    #[values("3.5.9", "3.5.35", "3.6.16", "3.7.3")] from: &str,
    #[values("3.4.23", "3.5.9", "3.5.35", "3.6.16", "3.7.3")] to: &str,
) {
    let mut driven = settled(&format!("{{version: {from}, rollout: {{memberDeadline: 60s}}}}")).await;
    write_keys(&driven).await;
    let (before, pids) = (driven.etcd.hash().await, driven.pids());
    driven.spec.version = to.to_owned();
    let rest = driven.rest(LONG).await;
    if reported(to) < reported("3.5.0") {
        assert_eq!(rest, Rest::Refused(vec![Code::DowngradeUnsupported]));
        assert_eq!(driven.pids(), pids, "nothing was touched");
        driven.assert_runs(from).await;
    } else {
        assert_eq!(rest, Rest::Settled);
        driven.assert_runs(to).await;
    }
    assert_eq!(driven.etcd.hash().await, before);
}

/// The pairs are quiet, since a writer would be the traffic that keeps 3.7 from its trap. The longest ways up and down
/// once more, with a writer and a watcher.
#[rstest]
#[case::up("3.5.9", "3.7.3", 9)]
#[case::down("3.7.3", "3.5.35", 6)]
#[tokio::test]
async fn a_writer_and_a_watcher_lose_nothing_on_the_way(
    #[case] from: &str,
    #[case] to: &str,
    #[case] replaced: usize,
) {
    let mut driven = settled(&format!("{{version: {from}, rollout: {{memberDeadline: 60s}}}}")).await;
    let writers = load(&driven.etcd).await;
    driven.spec.version = to.to_owned();
    assert_eq!(driven.rest(LONG).await, Rest::Settled);
    driven.assert_runs(to).await;
    assert_eq!(driven.starts.len(), 3 + replaced);
    assert!(assert_nothing_lost(writers, &driven.etcd).await > 1);
}

/// No member of 3.4 is run, so no cluster begins with it.
#[tokio::test]
async fn no_cluster_begins_on_a_minor_that_is_not_run() {
    let mut driven = Driven::new("{version: 3.4.23}");
    assert_eq!(driven.rest(LONG).await, Rest::Refused(vec![Code::VersionUnsupported]));
    assert!(driven.starts.is_empty());
}

/// The pairs that begin with 3.4: what runs is understood, and left alone whatever is asked for.
#[tokio::test]
async fn no_way_leads_from_a_minor_that_is_not_run() {
    let mut driven = Driven::found("{version: 3.4.23}").await;
    write_keys(&driven).await;
    let (before, pids) = (driven.etcd.hash().await, driven.pids());
    for hops in [Hops::Many, Hops::Single] {
        for to in ["3.5.9", "3.5.35", "3.6.16", "3.7.3", "3.4.23"] {
            driven.spec.version = to.to_owned();
            driven.spec.rollout = Some(RolloutSpec { hops: Some(hops), ..RolloutSpec::default() });
            let looks = Cell::new(0);
            let stays_refused = driven.until("it is refused three times", LONG, |_, plan| {
                if !matches!(plan.next, Next::Refused) {
                    assert_eq!(looks.get(), 0, "to {to}: {:?}", plan.next);
                    return None;
                }
                let [refusal] = &plan.refusals[..] else { panic!("to {to}: {:?}", plan.refusals) };
                assert_eq!(refusal.code, Code::VersionUnsupported, "to {to}");
                assert!(refusal.message.contains("members run etcd 3.4.23"), "{}", refusal.message);
                assert!(
                    !plan.converged && plan.steps.is_empty() && plan.hops.is_empty(),
                    "to {to}: {plan:?}"
                );
                looks.set(looks.get() + 1);
                (looks.get() == 3).then_some(())
            });
            stays_refused.await;
        }
    }
    let told = &driven.status;
    assert_eq!((told.cluster_version.as_deref(), told.storage_version.as_deref()), (Some("3.4.0"), None));
    assert_eq!((told.members_ready.as_deref(), told.replicas), (Some("3/3"), Some(3)));
    for member in &told.members {
        assert_eq!(member.version.as_deref(), Some("3.4.23"), "{member:?}");
        assert_eq!((member.ready, member.role), (true, Some(MemberRole::Voter)), "{member:?}");
    }
    assert_eq!(driven.starts.len(), 3, "nothing was started: {:?}", driven.starts);
    assert_eq!(driven.pids(), pids, "nothing was stopped");
    driven.assert_runs("3.4.23").await;
    assert_eq!(driven.etcd.hash().await, before);
}

/// The counterpart: on a minor that is run, a cluster that is there already is taken on as it is, and goes its way.
#[tokio::test]
async fn a_cluster_that_is_there_already_goes_its_way() {
    let mut driven = Driven::found("{version: 3.5.35, rollout: {memberDeadline: 60s}}").await;
    write_keys(&driven).await;
    let (before, pids) = (driven.etcd.hash().await, driven.pids());
    assert_eq!(driven.rest(LONG).await, Rest::Settled);
    assert_eq!(driven.pids(), pids, "nothing was touched");
    driven.spec.version = "3.6.16".to_owned();
    assert_eq!(driven.rest(LONG).await, Rest::Settled);
    driven.assert_runs("3.6.16").await;
    assert_eq!(driven.etcd.hash().await, before);
}

#[rstest]
#[case::up_and_back("3.5.35", "3.6.16")]
#[case::down_and_up_again("3.6.16", "3.5.35")]
#[case::down_from_3_7_and_up_again("3.7.3", "3.6.16")]
#[tokio::test]
async fn a_change_of_mind_with_one_member_on_the_new_version(#[case] from: &str, #[case] to: &str) {
    let mut driven = settled(&format!("{{version: {from}, rollout: {{memberDeadline: 60s}}}}")).await;
    let writers = load(&driven.etcd).await;
    driven.spec.version = to.to_owned();
    let wanted = reported(to);
    driven
        .until("one member on the new version", LONG, |world, _| {
            let statuses = world.answers.values().filter_map(|answer| answer.status());
            (statuses.filter(|status| status.version == wanted).count() == 1).then_some(())
        })
        .await;
    driven.spec.version = from.to_owned();
    assert_eq!(driven.rest(LONG).await, Rest::Settled);
    driven.assert_runs(from).await;
    assert_nothing_lost(writers, &driven.etcd).await;
}

/// Flags of 3.5 go up to 3.7 and down again with their members, each in the words of its version.
#[tokio::test]
async fn flags_are_carried_up_and_down() {
    let mut driven = settled(
        "{version: 3.5.35, rollout: {memberDeadline: 60s}, etcd: {extraArgs: \
         {experimental-corrupt-check-time: 5h, experimental-initial-corrupt-check: 'true'}}}",
    )
    .await;
    for to in ["3.7.3", "3.5.35"] {
        driven.spec.version = to.to_owned();
        assert_eq!(driven.rest(LONG).await, Rest::Settled);
        driven.assert_runs(to).await;
    }
    for (n, version, flags) in &driven.starts {
        // 3.6 takes the old words still.
        let old = version.minor < reported("3.7.0").minor;
        let time = if old { "--experimental-corrupt-check-time=5h" } else { "--corrupt-check-time=5h" };
        let check = if old {
            "--experimental-initial-corrupt-check=true"
        } else {
            "--feature-gates=InitialCorruptCheck=true"
        };
        assert!(flags.iter().any(|flag| flag == time), "etcd-{n} {version}: {flags:?}");
        assert!(flags.iter().any(|flag| flag == check), "etcd-{n} {version}: {flags:?}");
    }
}

/// Where raft snapshots come far too seldom for 3.7, a lower `snapshotCount` goes in with 3.6, and the spec's again
/// with 3.7.
#[tokio::test]
async fn a_snapshot_count_far_too_high_is_lowered_on_the_way_to_3_7() {
    let mut driven =
        settled("{version: 3.5.35, rollout: {memberDeadline: 60s}, etcd: {snapshotCount: 200000}}").await;
    write_keys(&driven).await;
    let before = driven.etcd.hash().await;
    driven.spec.version = "3.7.3".to_owned();
    assert_eq!(driven.rest(LONG).await, Rest::Settled);
    driven.assert_runs("3.7.3").await;
    assert_eq!(driven.etcd.hash().await, before);
    for (n, version, flags) in &driven.starts {
        let on_the_way = version.minor == reported("3.6.0").minor;
        let count = if on_the_way { "--snapshot-count=10000" } else { "--snapshot-count=200000" };
        assert!(flags.iter().any(|flag| flag == count), "etcd-{n} {version}: {flags:?}");
    }
    assert_eq!(driven.starts.len(), 9, "no roll but the hops themselves");
}

/// Data of the v2 API is found on the volumes of running members before any of them is touched. Once it is deleted
/// and each member has taken a raft snapshot, the way is free.
#[tokio::test]
async fn data_of_the_v2_api_is_found_before_3_6_and_may_be_mended() {
    let mut driven =
        Driven::new("{version: 3.5.35, rollout: {memberDeadline: 60s}, etcd: {snapshotCount: 50}}");
    driven.inherited = vec!["--enable-v2=true".to_owned()];
    assert_eq!(driven.rest(LONG).await, Rest::Settled);
    let key = format!("{}/v2/keys/custom", driven.etcd.client_url(0));
    let http = reqwest::Client::new();
    http.put(format!("{key}?value=1")).send().await.unwrap().error_for_status().unwrap();
    let pids = driven.pids();
    driven.spec.version = "3.6.16".to_owned();
    let said = driven.until("it is found", LONG, |_, plan| match &plan.next {
        Next::Wait(wait) if wait.overdue => Some(wait.notice.code),
        _ => None,
    });
    assert_eq!(said.await, Code::V2DataFound);
    assert_eq!(driven.pids(), pids, "nothing was touched");

    driven.spec.version = "3.5.35".to_owned();
    assert_eq!(driven.rest(LONG).await, Rest::Settled);
    http.delete(&key).send().await.unwrap().error_for_status().unwrap();
    for _ in 0..5 {
        write_keys(&driven).await;
    }
    let before = driven.etcd.hash().await;
    driven.inherited.clear();
    driven.spec.version = "3.6.16".to_owned();
    assert_eq!(driven.rest(LONG).await, Rest::Settled);
    driven.assert_runs("3.6.16").await;
    assert_eq!(driven.etcd.hash().await, before);
}

/// Somebody enables a job on 3.5 by hand, and a member crashes: it is cancelled, and the member, whose data
/// remembers it, is healed by one start on 3.6.
#[tokio::test]
async fn a_stray_job_on_3_5_is_cancelled_and_its_victim_healed() {
    let mut driven = settled("{version: 3.5.35, rollout: {memberDeadline: 60s}}").await;
    write_keys(&driven).await;
    let before = driven.etcd.hash().await;
    let identity = driven.etcd.status(1).await.identity();
    let below = reported("3.4.0").minor;
    driven.etcd.client(1).downgrade(identity, DowngradeCall::Enable(below)).await.unwrap_err();
    driven.crash(0);
    driven
        .until("it was started on 3.6", LONG, |world, _| {
            let mut statuses = world.answers.values().filter_map(|answer| answer.status());
            statuses.any(|status| status.version == reported("3.6.16")).then_some(())
        })
        .await;
    assert_eq!(driven.rest(LONG).await, Rest::Settled);
    driven.assert_runs("3.5.35").await;
    assert_eq!(driven.etcd.hash().await, before);
}
