//! Hundreds of clusters under one operator. Those that are stuck delay no other: no worker waits for them.

use crate::support::cluster::{Cluster, spec};
use crate::support::sampler::under_load;
use crate::support::say::say;
use crate::support::{FORMED_WITHIN, ROLLED_WITHIN, SAID_WITHIN, Space, run_alone, until};
use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use quorate::api::EtcdCluster;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const STUCK: usize = 200;
/// So many requests of the test itself at a time.
const AT_ONCE: usize = 16;
/// What a roll may take beside them, in times of what it takes alone, and more. Two cores have two hundred Pods to
/// schedule, too: 44 s were seen beside 14, and 78 beside 12. Were it to wait for a connection to each of the silent ones in
/// turn, each of its some fifty looks would take a minute and a half.
const TIMES: u32 = 3;
const MORE: Duration = Duration::from_secs(90);

#[test]
fn two_hundred_clusters_that_are_stuck_delay_no_other() {
    run_alone("many", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.formed(spec("3.6.16", 3)).await;
        let alone = restart(&cluster, "2030-01-01T00:00:00Z").await;

        let stuck: Vec<Cluster> = (0..STUCK).map(|n| space.cluster(&format!("stuck-{n}"))).collect();
        let asked = Instant::now();
        stream::iter(&stuck)
            .for_each_concurrent(AT_ONCE, async |stuck| drop(stuck.create(on_no_node()).await))
            .await;
        let told = |cluster: &EtcdCluster| {
            let conditions = cluster.status.iter().flat_map(|status| &status.conditions);
            conditions.into_iter().any(|condition| condition.message.contains("no node takes"))
        };
        until("each is told why it is stuck", ROLLED_WITHIN, async || {
            let all = space.api::<EtcdCluster>().list(&ListParams::default()).await.unwrap();
            (all.items.iter().filter(|cluster| told(cluster)).count() == STUCK).then_some(())
        })
        .await;
        let told_after = asked.elapsed();
        silence_half_of_them(space, &cluster).await;

        let mut beside = Duration::ZERO;
        let seen =
            under_load(&cluster, async || beside = restart(&cluster, "2030-01-02T00:00:00Z").await).await;
        assert_eq!(seen.made.len(), 3, "{:?}", seen.made);
        say(&format!(
            "{STUCK} clusters are told why they are stuck after {} s; a restart of three members takes {:.1} s beside them, {:.1} s alone",
            told_after.as_secs(),
            beside.as_secs_f64(),
            alone.as_secs_f64()
        ));
        assert!(beside < alone * TIMES + MORE, "{beside:?} beside them, {alone:?} alone");

        // One is helped, and another one comes.
        let helped = Instant::now();
        stuck[0].edit(json!({ "pod": { "nodeSelector": null } })).await;
        stuck[0].ready(FORMED_WITHIN).await;
        space.cluster("new").formed(spec("3.6.16", 3)).await;
        assert!(helped.elapsed() < FORMED_WITHIN, "{:?}", helped.elapsed());
        // The rest says what it said.
        let last = space.api::<EtcdCluster>().get(&stuck[STUCK - 1].name).await.unwrap();
        assert!(told(&last), "{:?}", last.status);
    });
}

/// How long a restart of all members takes.
async fn restart(cluster: &Cluster, at: &str) -> Duration {
    let begun = Instant::now();
    cluster.rolled(json!({ "rollout": { "restartedAt": at } })).await;
    begun.elapsed()
}

fn on_no_node() -> Value {
    let mut one = spec("3.6.16", 1);
    one["pod"]["nodeSelector"] = json!({ "none": "has-this" });
    one
}

/// Their Pods get an address, which no kubelet says of a Pod that has no node, in the lab's own network, where nobody
/// answers: each look at such a cluster lasts until a connection is given up.
async fn silence_half_of_them(space: &Space, cluster: &Cluster) {
    let pods = cluster.pods().await;
    let address = pods["etcd-0"].status.as_ref().unwrap().pod_ip.clone().unwrap();
    let nobody = format!("{}.253", address.rsplit_once('.').unwrap().0);
    let all = space.api::<Pod>().list(&ListParams::default()).await.unwrap();
    assert!(!all.items.iter().any(|pod| pod.status.as_ref().unwrap().pod_ip.as_ref() == Some(&nobody)));
    let stuck = all.items.iter().filter(|pod| pod.name_any().starts_with("stuck-")).take(STUCK / 2);
    stream::iter(stuck)
        .for_each_concurrent(AT_ONCE, async |pod| {
            let status = json!({ "status": { "podIP": nobody, "podIPs": [{ "ip": nobody }] } });
            let pods = space.api::<Pod>();
            pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        })
        .await;
    until("their members are asked in vain", SAID_WITHIN, async || {
        let pods = space.api::<Pod>().list(&ListParams::default()).await.unwrap();
        let has = |pod: &&Pod| pod.status.as_ref().unwrap().pod_ip.as_ref() == Some(&nobody);
        (pods.items.iter().filter(has).count() == STUCK / 2).then_some(())
    })
    .await;
}
