//! Changes that wait: for a person's approval, for a maintenance window.

use crate::support::cluster::{Cluster, spec};
use crate::support::sampler::under_load;
use crate::support::{ROLLED_WITHIN, SAID_WITHIN, run};
use kube::Api;
use kube::api::{Patch, PatchParams};
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
    let api: Api<EtcdCluster> = cluster.api();
    let patch = json!({ "metadata": { "annotations": { "quorate.dev/approve": hash } } });
    api.patch(&cluster.name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}
