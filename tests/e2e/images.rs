//! Where images come from: a mirror with a port and a digest, and an admission policy that rewrites them.

use crate::support::cluster::{Cluster, spec};
use crate::support::policy::Policy;
use crate::support::sampler::under_load;
use crate::support::{lab, run};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

const UPSTREAM: &str = "gcr.io/etcd-development/etcd";
const MIRROR: &str = "mirror.example:5000/team/etcd";

#[test]
fn a_mirror_with_a_port_and_a_digest_is_rolled_as_any_other() {
    run("mirror", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let digest = digest_of("3.5.10");
        let (tagged, pinned) = (format!("{MIRROR}:v3.5.9"), format!("{MIRROR}:v3.5.10@{digest}"));
        name_on_every_node(&space.client, &format!("{UPSTREAM}:v3.5.9"), &tagged).await;
        // containerd finds an image with tag and digest by its digest alone.
        let found_by = format!("{MIRROR}@{digest}");
        name_on_every_node(&space.client, &format!("{UPSTREAM}:v3.5.10"), &found_by).await;
        let mut spec = spec("3.5.9", 3);
        spec["image"] =
            json!({ "repository": MIRROR, "overrides": [{ "version": "3.5.10", "digest": digest }] });
        let before = cluster.formed(spec).await;
        assert_eq!(images(&cluster).await, [tagged].into());
        under_load(&cluster, async || cluster.rolled(json!({ "version": "3.5.10" })).await).await;
        assert_eq!(images(&cluster).await, [pinned].into());
        cluster.assert_version("3.5.10").await;
        assert_eq!(cluster.identity().await, before);
    });
}

/// A platform's policy gives every Pod another image than the operator asked for. The operator compares Pods by
/// the name of their revision, so it neither takes them for outdated nor puts its own image back.
#[test]
fn an_admission_policy_that_rewrites_images_starts_no_fight() {
    run("rewrite", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        for version in ["3.5.9", "3.5.10"] {
            let (from, to) = (format!("{UPSTREAM}:v{version}"), format!("{MIRROR}:v{version}"));
            name_on_every_node(&space.client, &from, &to).await;
        }
        let rewrite = format!(
            "[JSONPatch{{op: 'replace', path: '/spec/containers/0/image', value: \
             object.spec.containers[0].image.replace('{UPSTREAM}', '{MIRROR}')}}]"
        );
        let policy = Policy::create(&space.client, &space.namespace, &rewrite).await;
        let before = cluster.formed(spec("3.5.9", 3)).await;
        assert_eq!(images(&cluster).await, [format!("{MIRROR}:v3.5.9")].into());
        let runs = cluster.runs().await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(cluster.runs().await, runs, "nobody fights");

        under_load(&cluster, async || cluster.rolled(json!({ "version": "3.5.10" })).await).await;
        assert_eq!(images(&cluster).await, [format!("{MIRROR}:v3.5.10")].into());
        cluster.assert_version("3.5.10").await;
        assert_eq!(cluster.identity().await, before);
        let runs = cluster.runs().await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(cluster.runs().await, runs, "each member was replaced once");
        policy.delete().await;
    });
}

async fn images(cluster: &Cluster) -> BTreeSet<String> {
    let image = |pod: Pod| pod.spec.unwrap().containers.remove(0).image.unwrap();
    cluster.pods().await.into_values().map(image).collect()
}

/// The digest under which the lab's nodes have the upstream image of this version.
fn digest_of(version: &str) -> String {
    let name = format!("{UPSTREAM}:v{version}");
    let list = lab::exec("node-1", &["ctr", "-n", "k8s.io", "images", "ls", &format!("name=={name}")]);
    let digest = list.split_whitespace().find(|word| word.starts_with("sha256:"));
    digest.expect("the lab has the image").to_owned()
}

/// Gives an image another name on every node, as if it had been pulled from there.
async fn name_on_every_node(client: &Client, from: &str, to: &str) {
    for node in Api::<Node>::all(client.clone()).list(&ListParams::default()).await.unwrap() {
        lab::exec(&node.name_any(), &["ctr", "-n", "k8s.io", "images", "tag", "--force", from, to]);
    }
}
