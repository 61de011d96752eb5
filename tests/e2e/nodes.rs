//! Nodes that die, that are cut off, and disks that break: what no API does.

use crate::data::kill_container;
use crate::support::cluster::{Cluster, condition, spec};
use crate::support::sampler::{Sampler, assert_nothing_lost};
use crate::support::{FORMED_WITHIN, ROLLED_WITHIN, SAID_WITHIN, lab, processes, run, run_alone, until};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use quorate::api::ConditionType;
use serde_json::json;
use std::time::Duration;

/// A node without power shows after 40 s, and the member is given some time more.
const NODE_LOST_WITHIN: Duration = Duration::from_secs(150);

/// Gives a node its power back, also where the test fails before.
struct Power(String);

impl Drop for Power {
    fn drop(&mut self) {
        let _ = processes::lab(&["start", &self.0]).status();
    }
}

/// The member of a node that is not the control plane's, and the node.
async fn on_a_worker(cluster: &Cluster) -> (String, String) {
    let pods = cluster.pods().await;
    let node = |pod: &Pod| pod.spec.as_ref().unwrap().node_name.clone().unwrap();
    let found = pods.iter().map(|(name, pod)| (name.clone(), node(pod))).find(|(_, node)| node != "node-1");
    found.expect("a member on a worker")
}

async fn is_ready(cluster: &Cluster, node: &str) -> bool {
    let node = Api::<Node>::all(cluster.client()).get(node).await.unwrap();
    let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[test]
fn a_member_is_replaced_whose_node_died_and_the_node_that_returns_does_no_harm() {
    run_alone("node-died", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let mut wanted = spec("3.6.16", 3);
        wanted["heal"] = json!({ "nodeLostAfter": "10s" });
        let before = cluster.formed(wanted).await;
        cluster.guarded().await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        let (lost, node) = on_a_worker(&cluster).await;
        let power = Power(node.clone());
        assert!(processes::lab(&["stop", &node]).status().unwrap().success());
        until("the member is replaced", NODE_LOST_WITHIN, async || {
            let listed = cluster.try_member_list().await?;
            let is_whole = listed.len() == 3 && listed.values().all(|member| !member.is_learner);
            (is_whole && !listed.contains_key(&lost) && is_well(&cluster).await).then_some(())
        })
        .await;
        drop(power);
        until("the node is back", NODE_LOST_WITHIN, async || is_ready(&cluster, &node).await.then_some(()))
            .await;
        until("the old Pod is gone", NODE_LOST_WITHIN, async || {
            (!cluster.pods().await.contains_key(&lost)).then_some(())
        })
        .await;
        let left: Vec<String> = before
            .members
            .keys()
            .filter(|name| **name != lost)
            .cloned()
            .chain(["etcd-3".to_owned()])
            .collect();
        let left: Vec<&str> = left.iter().map(String::as_str).collect();
        cluster.assert_members_kept(&left, &[&format!("data-{lost}")]).await;
        assert_nothing_lost(writers).await;
    });
}

async fn is_well(cluster: &Cluster) -> bool {
    crate::support::cluster::is_ready(&cluster.get().await)
}

/// Drops what goes to and comes from an address, in the node that forwards it.
struct Filter {
    node: String,
}

impl Filter {
    fn against(node: &str, ip: &str) -> Self {
        let rules = format!(
            "table inet quorate_e2e {{ chain forward {{ type filter hook forward priority -10; \
             ip saddr {ip} drop; ip daddr {ip} drop; }}; }}"
        );
        lab::exec(node, &["nft", &rules]);
        Self { node: node.to_owned() }
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        let _ =
            processes::lab(&["exec", &self.node, "nft", "delete", "table", "inet", "quorate_e2e"]).status();
    }
}

#[test]
fn a_member_that_is_cut_off_rejoins_and_writes_go_on_meanwhile() {
    run("cut-off", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.35", 3)).await;
        let uids = cluster.pod_uids().await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        let (name, node) = on_a_worker(&cluster).await;
        let ip = cluster.pods().await[&name].status.as_ref().unwrap().pod_ip.clone().unwrap();
        let filter = Filter::against(&node, &ip);
        let said = until("it is said who is away", ROLLED_WITHIN, async || {
            let ready = condition(&cluster.get().await, ConditionType::Ready)?.clone();
            (ready.status == "False" && ready.message.contains(&name)).then_some(ready.message)
        })
        .await;
        println!("cut-off: {said}");
        // Longer than a member may be away, and nothing of that is a reason to replace one that has its data.
        tokio::time::sleep(Duration::from_secs(30)).await;
        drop(filter);
        cluster.ready(FORMED_WITHIN).await;
        assert_eq!((cluster.identity().await, cluster.pod_uids().await), (before, uids));
        assert_nothing_lost(writers).await;
    });
}

/// The pages of its database are others. What etcd says of it stands above a long stack.
#[test]
fn a_member_whose_data_is_damaged_is_replaced() {
    run("damaged", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.formed(spec("3.6.16", 3)).await;
        cluster.guarded().await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        let pod = cluster.pods().await.remove("etcd-1").unwrap();
        let node = pod.spec.as_ref().unwrap().node_name.as_ref().unwrap();
        let claim = cluster.claims().await.remove("data-etcd-1").unwrap();
        let directory = lab::directory_of(&cluster.client(), &claim.spec.unwrap().volume_name.unwrap()).await;
        let database = format!("of={directory}/data/member/snap/db");
        let pages = ["dd", "if=/dev/urandom", &database, "bs=4096", "seek=2", "count=200", "conv=notrunc"];
        // What the process has mapped it does not read again; it must be gone before.
        kill_container(&pod);
        lab::exec(node, &pages);
        until("it is told", ROLLED_WITHIN, async || {
            let events = cluster.events().await;
            let told = events.into_iter().find(|(reason, _)| reason == "ReplacementStarted")?.1;
            assert!(told.contains("a damaged page of the database"), "{told}");
            Some(())
        })
        .await;
        cluster.ready(ROLLED_WITHIN).await;
        cluster.assert_members_kept(&["etcd-0", "etcd-2", "etcd-3"], &["data-etcd-1"]).await;
        assert_nothing_lost(writers).await;
    });
}

#[test]
fn a_database_that_is_full_gets_room_and_writes_again() {
    run("full", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let mut wanted = spec("3.6.16", 3);
        wanted["etcd"] = json!({ "quotaBackendBytes": "16Mi" });
        let before = cluster.formed(wanted).await;
        let uids = cluster.pod_uids().await;
        cluster.put("kept", "yes").await;
        let refused = cluster.fill().await;
        assert!(refused.contains("database space exceeded"), "{refused}");
        until("there is room", FORMED_WITHIN, async || {
            let events = cluster.event_reasons().await;
            events.iter().any(|reason| reason == "AlarmDisarmed").then_some(())
        })
        .await;
        cluster.put("again", "yes").await;
        assert_eq!(cluster.get_key("kept").await.as_deref(), Some("yes"));
        cluster.ready(SAID_WITHIN).await;
        let events = cluster.event_reasons().await;
        for reason in ["HistoryCompacted", "MemberDefragmented"] {
            assert!(events.iter().any(|event| event == reason), "no {reason} in {events:?}");
        }
        assert_eq!((cluster.identity().await, cluster.pod_uids().await), (before, uids));
        cluster.assert_members(&["etcd-0", "etcd-1", "etcd-2"]).await;
    });
}
