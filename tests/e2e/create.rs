//! A new cluster: what is made, and what it says of itself.

use crate::support::cluster::{Cluster, condition, spec};
use crate::support::kubectl::{Undo, kubectl};
use crate::support::{FORMED_WITHIN, SAID_WITHIN, run, run_alone, until};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use quorate::api::{ConditionType, MemberRole, labels};
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn a_cluster_of_three_forms_and_says_so() {
    run("create-3", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let created = cluster.create(spec("3.6.16", 3)).await;
        let unseen = created.status.and_then(|status| status.observed_generation);
        assert_eq!(unseen, Some(-1), "kstatus must not take a new object for a finished one");
        assert_kubectl_waits(&cluster);
        assert_formed(&cluster, 3, "3.6.16").await;
        assert_objects(&cluster, 3).await;

        let nodes: std::collections::BTreeSet<_> =
            cluster.pods().await.into_values().map(|pod| pod.spec.unwrap().node_name).collect();
        assert_eq!(nodes.len(), 3, "members spread over nodes");
        for row in cluster.status().await.members {
            let node = Api::<Node>::all(space.client.clone()).get(row.node.as_ref().unwrap()).await.unwrap();
            let zone = node.labels().get("topology.kubernetes.io/zone");
            assert!(zone.is_some(), "the lab's nodes have zones");
            assert_eq!(row.zone.as_ref(), zone, "{}", row.name);
        }
        let events = cluster.events().await;
        assert!(events.iter().any(|(reason, _)| reason == "ClusterFormed"), "{events:?}");
    });
}

#[test]
fn a_cluster_of_one_forms_and_says_so() {
    run("create-1", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("db");
        cluster.formed(spec("v3.5.9", 1)).await;
        assert_formed(&cluster, 1, "3.5.9").await;
        assert_objects(&cluster, 1).await;
    });
}

/// What is the default for all is taken away from all: this test is alone on the lab meanwhile.
#[test]
fn storage_left_out_is_8gi_of_the_default_class_and_where_there_is_none_it_is_said_at_once() {
    run_alone("default-class", async |space| {
        const IS_DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
        let classes = Api::<StorageClass>::all(space.client.clone());
        let mut defaults = classes.list(&ListParams::default()).await.unwrap().items;
        defaults.retain(|class| class.annotations().get(IS_DEFAULT).is_some_and(|value| value == "true"));
        let [default] = &defaults[..] else { panic!("one default class: {defaults:?}") };
        let default = default.name_any();
        let back = Undo::with(&["annotate", "sc", &default, "--overwrite", &format!("{IS_DEFAULT}=true")]);
        kubectl(&["annotate", "sc", &default, &format!("{IS_DEFAULT}-")]).unwrap();

        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let mut without_storage = spec("3.5.10", 3);
        without_storage.as_object_mut().unwrap().remove("storage");
        cluster.create(without_storage).await;
        let message = cluster.stalled("NoStorageClass", Duration::from_secs(5)).await;
        assert!(message.contains("spec.storage.storageClassName"), "{message}");
        let refusals = cluster.status().await.refusals;
        assert!(refusals[0].remedy.contains("mark a StorageClass as default"), "{refusals:?}");
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            let (claims, pods) = (cluster.claims().await, cluster.pods().await);
            assert!(claims.is_empty() && pods.is_empty(), "{:?} {:?}", claims.keys(), pods.keys());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }

        drop(back);
        cluster.ready(FORMED_WITHIN).await;
        let claims = cluster.claims().await;
        assert_eq!(claims.len(), 3);
        for (name, claim) in claims {
            let spec = claim.spec.unwrap();
            let size = spec.resources.unwrap().requests.unwrap().remove("storage").unwrap();
            assert_eq!((size.0.as_str(), spec.storage_class_name), ("8Gi", Some(default.clone())), "{name}");
        }
    });
}

/// `kubectl wait` ends when, and only when, the cluster is ready.
fn assert_kubectl_waits(cluster: &Cluster) {
    let within = format!("--timeout={}s", FORMED_WITHIN.as_secs());
    let waited = Command::new("kubectl")
        .args(["-n", &cluster.namespace, "wait", "etcd", &cluster.name, "--for=condition=Ready", &within])
        .output()
        .unwrap();
    assert!(waited.status.success(), "{}", String::from_utf8_lossy(&waited.stderr));
    let shown = Command::new("kubectl")
        .args(["-n", &cluster.namespace, "get", "etcd", &cluster.name])
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    for word in ["READY", "MEMBERS", "3/3", "3.6.16", "Converged"] {
        assert!(shown.contains(word), "no {word} in {shown}");
    }
}

async fn assert_formed(cluster: &Cluster, members: usize, version: &str) {
    cluster.ready(SAID_WITHIN).await;
    cluster.decided(version).await;
    let object = cluster.get().await;
    let status = object.status.as_ref().unwrap();
    let identity = cluster.identity().await;
    assert_eq!(identity.members.len(), members);
    assert_eq!(status.cluster_id, Some(identity.cluster.to_string()));
    assert_eq!(status.members_ready, Some(format!("{members}/{members}")));
    assert_eq!(status.version.as_deref(), Some(version));
    assert_eq!(status.target_version.as_deref(), Some(version));
    assert_eq!(
        (status.bootstrap.as_ref(), status.progress.as_ref(), status.plan.as_ref()),
        (None, None, None)
    );
    assert!(status.refusals.is_empty(), "{:?}", status.refusals);

    for kind in [ConditionType::Available, ConditionType::Ready] {
        let condition = condition(&object, kind).unwrap();
        assert_eq!(condition.status, "True", "{condition:?}");
        assert_eq!(condition.observed_generation, object.metadata.generation);
    }
    for kind in [ConditionType::Reconciling, ConditionType::Stalled] {
        assert!(condition(&object, kind).is_none(), "{kind} is there only while it is true");
    }

    let listed = cluster.member_list().await;
    let host = |name: &str| format!("{name}.{}.{}.svc", cluster.name, cluster.namespace);
    for number in 0..members {
        let name = format!("{}-{number}", cluster.name);
        let member = &listed[&name];
        assert_eq!(member.id, identity.members[&name]);
        assert_eq!(member.peer_urls, [format!("http://{}:2380", host(&name))]);
        assert_eq!(member.client_urls, [format!("http://{}:2379", host(&name))]);
        let row = status.members.iter().find(|row| row.name == name).unwrap();
        assert_eq!(row.id, Some(member.id.to_string()));
        assert_eq!((row.role, row.ready), (Some(MemberRole::Voter), true));
        assert_eq!((&row.peer_urls, &row.client_urls), (&member.peer_urls, &member.client_urls));
        assert_eq!(row.raft_lag, Some(0));
    }
    assert_eq!(listed.len(), members);
    let leaders: Vec<_> =
        cluster.statuses().await.into_iter().filter(|(_, s)| s.leader == Some(s.member_id)).collect();
    assert_eq!(status.leader.as_ref(), leaders.first().map(|(name, _)| name));
}

async fn assert_objects(cluster: &Cluster, members: usize) {
    let object = cluster.get().await;
    let uid = object.uid().unwrap();
    let claims = cluster.claims().await;
    assert_eq!(claims.len(), members);
    for (name, claim) in &claims {
        assert!(claim.owner_references().is_empty(), "{name} must outlive the EtcdCluster");
        let id = object.status.as_ref().unwrap().cluster_id.as_ref();
        assert_eq!(claim.annotations().get(labels::CLUSTER_ID), id, "{name}");
    }
    for (name, pod) in cluster.pods().await {
        let owner = &pod.owner_references()[0];
        assert_eq!((owner.uid.as_str(), owner.controller), (uid.as_str(), Some(true)), "{name}");
        // etcd itself refuses to start on an empty volume from now on.
        let note = |key| pod.annotations().get(key).map(String::as_str);
        assert_eq!(note(labels::INITIAL_CLUSTER_STATE), Some("existing"), "{name} is not guarded");
        let itself = format!("{name}=http://{name}.{}.{}.svc:2380", cluster.name, cluster.namespace);
        assert_eq!(note(labels::INITIAL_CLUSTER), Some(itself.as_str()));
        assert!(!pod.labels().contains_key("app.kubernetes.io/instance"));
        assert_eq!(pod.spec.as_ref().unwrap().automount_service_account_token, Some(false));
    }
    for name in [cluster.name.clone(), format!("{}-client", cluster.name)] {
        assert_eq!(cluster.api::<Service>().get(&name).await.unwrap().owner_references()[0].uid, uid);
    }
    let budget = until("the budget", SAID_WITHIN, async || {
        cluster.api::<PodDisruptionBudget>().get_opt(&cluster.name).await.unwrap()
    })
    .await
    .spec
    .unwrap();
    assert_eq!(budget.min_available, Some(IntOrString::Int(i32::try_from(members).unwrap() - 1)));
    assert_eq!(budget.max_unavailable, None);
}
