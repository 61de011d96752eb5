//! The process: its lease, its end, its silence.

use crate::support::apiserver::{ApiServer, free_ports};
use crate::support::cluster::spec;
use crate::support::operator::Operator;
use crate::support::sampler::under_load;
use crate::support::{FORMED_WITHIN, SAID_WITHIN, Space, apply_the_kind_to, lab, run, until};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use quorate::api::EtcdCluster;
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

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
        under_load(&cluster, async || {
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
        })
        .await;
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

#[test]
fn without_its_kind_it_waits_says_so_and_goes_on_when_the_kind_comes() {
    run("no-kind", async |space| {
        let server = ApiServer::start("no-kind").await;
        let [port] = free_ports();
        let listen = format!("127.0.0.1:{port}");
        let operator = space.operator_of(&server, &["--leader-elect=false", "--listen", &listen]);
        let said = until("it says what it waits for", SAID_WITHIN, async || {
            get(&listen, "/readyz").await.filter(|answer| answer.contains("is not installed"))
        })
        .await;
        assert!(said.starts_with("HTTP/1.1 503"), "{said}");
        assert!(
            said.contains("etcdclusters.quorate.dev") && said.contains("kubectl apply -f crds/"),
            "{said}"
        );
        assert!(
            get(&listen, "/livez").await.unwrap().starts_with("HTTP/1.1 200"),
            "waiting is no reason to be restarted"
        );
        // Long enough for a process that exits, or looks once only, to show it.
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(get(&listen, "/readyz").await.unwrap().starts_with("HTTP/1.1 503"));
        assert_eq!(
            operator.log().matches("is not installed").count(),
            1,
            "it says so once, not at each look"
        );

        apply_the_kind_to(&server.client).await;
        until("it is ready", SAID_WITHIN, async || {
            get(&listen, "/readyz").await.filter(|answer| answer.starts_with("HTTP/1.1 200"))
        })
        .await;
        let clusters = Api::<EtcdCluster>::namespaced(server.client.clone(), "default");
        let cluster = serde_json::from_value(json!({
            "apiVersion": "quorate.dev/v1alpha1", "kind": "EtcdCluster",
            "metadata": { "name": "etcd" }, "spec": { "version": "3.6.16" },
        }));
        clusters.create(&PostParams::default(), &cluster.unwrap()).await.unwrap();
        until("it works", SAID_WITHIN, async || {
            let status = clusters.get("etcd").await.ok()?.status?;
            (status.observed_generation == Some(1)).then_some(())
        })
        .await;
        let is_counted =
            async || get(&listen, "/metrics").await.unwrap().contains("namespace=\"default\",name=\"etcd\"");
        assert!(is_counted().await);
        clusters.delete("etcd", &DeleteParams::default()).await.unwrap();
        until("what is gone is forgotten", SAID_WITHIN, async || (!is_counted().await).then_some(())).await;
    });
}

/// A whole answer, as it comes over the wire.
async fn get(listen: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(listen).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
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
