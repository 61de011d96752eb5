//! Changes that wait: for a person's approval, for a maintenance window, for the end of an alarm.

use crate::support::cluster::{Cluster, condition, spec};
use crate::support::sampler::{Sampler, assert_nothing_lost, under_load};
use crate::support::{ROLLED_WITHIN, SAID_WITHIN, run};
use etcd_client::AlarmAction;
use quorate::api::{ConditionType, EtcdCluster, find_condition};
use serde_json::json;
use std::time::Duration;

#[test]
fn nothing_is_touched_before_the_plan_is_approved() {
    run("approval", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.9", 3)).await;
        let uids = cluster.pod_uids().await;
        cluster.edit(json!({ "version": "3.5.10", "rollout": { "approval": "Manual" } })).await;
        let waiting = held(&cluster, "ApprovalPending").await;
        let plan = waiting.status.unwrap().plan.unwrap();
        let hash = plan.hash.unwrap();
        assert_eq!((plan.approved, plan.hops), (Some(false), vec!["3.5.9".to_owned(), "3.5.10".to_owned()]));
        approve(&cluster, "another").await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(cluster.pod_uids().await, uids, "nothing was touched");

        under_load(&cluster, async || {
            approve(&cluster, &hash).await;
            cluster.ready(ROLLED_WITHIN).await;
        })
        .await;
        cluster.assert_version("3.5.10").await;
        assert_eq!(cluster.identity().await, before);
        assert_eq!(cluster.status().await.plan, None);

        // Another plan needs another approval.
        let uids = cluster.pod_uids().await;
        cluster.edit(json!({ "version": "3.5.9" })).await;
        let waiting = held(&cluster, "ApprovalPending").await;
        assert_ne!(waiting.status.unwrap().plan.unwrap().hash, Some(hash));
        assert_eq!(cluster.pod_uids().await, uids);
    });
}

#[test]
fn a_change_waits_for_its_window() {
    run("windows", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.formed(spec("3.5.9", 1)).await;
        let uids = cluster.pod_uids().await;
        let far = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(12);
        let hour = far.to_zoned(jiff::tz::TimeZone::UTC).hour();
        let window = |schedule: String| json!([{ "schedule": schedule, "duration": "1h" }]);
        let closed =
            json!({ "version": "3.5.10", "rollout": { "windows": window(format!("0 {hour} * * *")) } });
        cluster.edit(closed).await;
        let waiting = held(&cluster, "OutsideWindow").await;
        let said = find_condition(&waiting.status.unwrap().conditions, ConditionType::Reconciling).cloned();
        assert!(said.unwrap().message.contains(&format!("{hour:02}:00 UTC")));
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(cluster.pod_uids().await, uids, "nothing was touched");
        let open = json!({ "rollout": { "windows": window("* * * * *".to_owned()) } });
        under_load(&cluster, async || cluster.rolled(open).await).await;
        cluster.assert_version("3.5.10").await;
    });
}

#[test]
fn no_version_change_begins_under_an_alarm_and_it_goes_on_by_itself_when_the_alarm_is_over() {
    run("alarm", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let mut wanted = spec("3.5.35", 3);
        wanted["maintenance"] = json!({ "defragmentation": { "mode": "Disabled" } });
        let before = cluster.formed(wanted).await;
        let runs = cluster.runs().await;
        let sampler = Sampler::start(&cluster).await;
        let member = before.members["etcd-0"];
        cluster.no_space(AlarmAction::Activate, member).await;
        cluster.edit(json!({ "version": "3.6.16" })).await;
        held(&cluster, "AlarmActive").await;
        // Nobody cures it within the deadline of a member.
        let message = cluster.stalled("AlarmActive", 2 * SAID_WITHIN).await;
        for word in ["no version change begins", "NOSPACE", "etcdctl alarm list", "etcdctl alarm disarm"] {
            assert!(message.contains(word), "no {word:?} in {message}");
        }
        let available = condition(&cluster.get().await, ConditionType::Available).unwrap().clone();
        assert_eq!((available.status.as_str(), available.reason.as_str()), ("False", "NoSpace"));
        assert!(available.message.contains("spec.etcd.quotaBackendBytes"), "{}", available.message);
        assert_eq!(cluster.runs().await, runs, "no member was touched");
        assert!(sampler.so_far().away.is_empty());

        cluster.no_space(AlarmAction::Deactivate, member).await;
        let writers = sampler.writers().await;
        cluster.ready(ROLLED_WITHIN).await;
        assert_nothing_lost(writers).await;
        let seen = sampler.stop();
        seen.assert_one_away_at_a_time();
        assert_eq!(seen.made.len(), 3, "each member is replaced once: {:?}", seen.made);
        cluster.assert_version("3.6.16").await;
        assert_eq!(cluster.identity().await, before);
    });
}

async fn held(cluster: &Cluster, reason: &str) -> EtcdCluster {
    cluster
        .until(reason, SAID_WITHIN, |cluster| {
            let conditions = cluster.status.as_ref().map(|status| &status.conditions);
            conditions
                .and_then(|conditions| find_condition(conditions, ConditionType::Reconciling))
                .is_some_and(|condition| condition.reason == reason)
        })
        .await
}

async fn approve(cluster: &Cluster, hash: &str) {
    cluster.annotate("quorate.dev/approve", hash).await;
}
