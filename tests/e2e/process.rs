//! The process: its lease, its end, its silence.

use crate::support::cluster::spec;
use crate::support::operator::Operator;
use crate::support::{FORMED_WITHIN, SAID_WITHIN, Space, lab, run, until};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use serde_json::json;
use std::time::Duration;

#[test]
fn of_two_replicas_one_works_and_the_other_takes_over() {
    run("lease", async |space| {
        let first = elected(space);
        let holder = until("the first holds the lease", SAID_WITHIN, async || holder(space).await).await;
        let second = elected(space);
        let cluster = space.cluster("etcd");
        cluster.formed(spec("3.5.10", 1)).await;
        assert!(!second.log().contains("\"done\""), "the second must wait");

        first.kill();
        let next = until("the second holds the lease", Duration::from_mins(1), async || {
            self::holder(space).await.filter(|now| *now != holder)
        })
        .await;
        cluster.rolled(json!({ "pod": { "labels": { "by": "the-second" } } })).await;

        // Who ends in order gives the lease back, and the next one need not wait until it runs out.
        let third = elected(space);
        let (status, took) = second.terminate(Duration::from_secs(10)).await;
        assert!(status.success(), "{status}");
        assert!(took < Duration::from_secs(5), "it took {took:?}");
        until("the third holds the lease", Duration::from_secs(10), async || {
            self::holder(space).await.filter(|now| *now != next)
        })
        .await;
        drop(third);
    });
}

#[test]
fn sigterm_ends_the_operator_within_five_seconds_in_the_middle_of_a_roll() {
    run("sigterm", async |space| {
        let operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.formed(spec("3.5.9", 1)).await;
        cluster.edit(json!({ "version": "3.5.10" })).await;
        cluster
            .until("the roll has begun", SAID_WITHIN, |cluster| {
                cluster.status.as_ref().is_some_and(|status| status.progress.is_some())
            })
            .await;
        let (status, took) = operator.terminate(Duration::from_secs(10)).await;
        assert!(status.success(), "{status}");
        assert!(took < Duration::from_secs(5), "it took {took:?}");
        let _operator = space.operator();
        cluster.ready(FORMED_WITHIN).await;
        cluster.assert_version("3.5.10").await;
    });
}

#[test]
fn nothing_is_written_while_nothing_changes() {
    run("idle", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.formed(spec("3.6.16", 3)).await;
        // etcd decides its cluster version and then its storage version some seconds after a cluster formed: news.
        cluster.decided("3.6.16").await;
        cluster
            .until("the storage version is in the status", SAID_WITHIN, |cluster| {
                cluster.status.as_ref().and_then(|status| status.storage_version.as_deref()) == Some("3.6.0")
            })
            .await;
        let before = cluster.status().await;
        let writes = quiet(space, Duration::from_secs(30)).await;
        let after = cluster.status().await;
        assert!(writes.is_empty(), "{writes:?}; the status was {before:#?} and is {after:#?}");
    });
}

fn elected(space: &Space) -> Operator {
    space.operator_with(&[
        "--leader-elect",
        "--lease-namespace",
        &space.namespace,
        "--watch-namespaces",
        &space.namespace,
    ])
}

async fn holder(space: &Space) -> Option<String> {
    let leases: Api<Lease> = space.api();
    leases.get_opt("quorate").await.unwrap()?.spec?.holder_identity.filter(|holder| !holder.is_empty())
}

/// What operators wrote in this namespace during that time, by the audit log.
async fn quiet(space: &Space, time: Duration) -> Vec<String> {
    let from = lab::audit_size();
    tokio::time::sleep(time).await;
    let lines = lab::audit_log(from);
    lines
        .iter()
        .filter(|line| line["userAgent"].as_str().is_some_and(|agent| agent.starts_with("quorate/")))
        .filter(|line| line["objectRef"]["namespace"] == space.namespace.as_str())
        .filter(|line| !["get", "list", "watch"].contains(&line["verb"].as_str().unwrap()))
        .map(|line| format!("{} {}", line["verb"], line["requestURI"]))
        .collect()
}
