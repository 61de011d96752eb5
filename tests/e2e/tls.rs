//! TLS: who shows a certificate is served, who shows none or a wrong one is not, and certificates are made anew while
//! clients write.

use crate::https::get;
use crate::support::cluster::{Cluster, spec};
use crate::support::kubectl::kubectl;
use crate::support::sampler::under_load;
use crate::support::{EVERY_HOP_WITHIN, FORMED_WITHIN, ROLLED_WITHIN, SAID_WITHIN, Space, run, until};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use quorate::api::{CertificateStatus, ConditionType, EtcdCluster, find_condition};
use quorate::cluster::objects::secrets::contents;
use quorate::etcd::{Channels, Credentials, Endpoint};
use quorate::pki::{Certificate, Made, Names, Purpose, Request, issue, new_authority};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// A kubelet brings what a Secret holds to a Pod at its next look, a minute apart, and some seconds more.
const SHOWN_WITHIN: Duration = Duration::from_secs(150);
/// The operator reads a Secret every 45 s, and looks every 14 s.
const SEEN_WITHIN: Duration = Duration::from_secs(90);

fn with_tls(version: &str, replicas: i32) -> Value {
    let mut spec = spec(version, replicas);
    spec["tls"] = json!({ "mode": "Enabled" });
    spec
}

/// A cluster that talks TLS, as its applications see it.
async fn formed(space: &Space, spec: Value) -> Cluster {
    let cluster = space.cluster("etcd");
    cluster.create(spec).await;
    cluster.ready(FORMED_WITHIN).await;
    cluster.seen_by_its_application().await
}

#[test]
fn who_shows_a_certificate_of_the_cluster_is_served_and_nobody_else() {
    run("tls", async |space| {
        let _operator = space.operator();
        let mut wanted = with_tls("3.6.16", 3);
        wanted["tls"]["server"] = json!({ "dnsNames": ["etcd.example.com"] });
        let cluster = formed(space, wanted).await;
        let status = cluster.status().await;
        assert!(status.endpoints.iter().all(|url| url.starts_with("https://")), "{:?}", status.endpoints);
        assert!(status.members.iter().all(|row| row.peer_urls[0].starts_with("https://")), "{status:?}");
        let valid = find_condition(&status.conditions, ConditionType::CertificatesValid).unwrap();
        assert_eq!(valid.status, "True", "{valid:?}");
        assert_eq!(status.certificates.len(), 9, "{:?}", status.certificates);

        // As an application is served: under the name of each member, of the Service, and of a load balancer.
        let [ca, certificate, key] = cluster.secret("etcd-client-tls").await;
        let own = Some((certificate.as_str(), key.as_str()));
        let pods = cluster.pods().await;
        let ips: BTreeMap<&String, IpAddr> = pods
            .iter()
            .map(|(name, pod)| (name, pod.status.as_ref().unwrap().pod_ip.as_ref().unwrap().parse().unwrap()))
            .collect();
        let namespace = &cluster.namespace;
        for (member, ip) in &ips {
            let names = [
                format!("{member}.etcd.{namespace}.svc"),
                format!("{member}.etcd.{namespace}.svc.cluster.local"),
                format!("etcd-client.{namespace}.svc"),
                "etcd-client".to_owned(),
                "etcd.example.com".to_owned(),
            ];
            for name in names {
                get("https", (*ip, 2379), &name, &ca, own).await.unwrap();
            }
            let wrong = get("https", (*ip, 2379), "etcd.example.org", &ca, own).await.unwrap_err();
            assert!(wrong.contains("NotValidForName") || wrong.contains("not valid for name"), "{wrong}");
        }
        cluster.put("k", "v").await;
        cluster.assert_same_data().await;

        refused_are_all_others(&cluster, *ips.values().next().unwrap(), (&ca, &certificate, &key)).await;
        etcdctl_needs_no_paths(&cluster);
        // What is not secret stays open to who looks after members.
        let metrics = format!("http://{}:2381/metrics", ips.values().next().unwrap());
        let metrics = reqwest::get(metrics).await.unwrap().text().await.unwrap();
        assert!(metrics.contains("etcd_server_has_leader 1"));
    });
}

async fn refused_are_all_others(cluster: &Cluster, ip: IpAddr, own: (&str, &str, &str)) {
    let (ca, certificate, key) = own;
    let name = format!("etcd-0.etcd.{}.svc", cluster.namespace);
    let [authority, signer, signers_key] = cluster.secret("etcd-ca").await;
    let request = |not_after: &str| Request {
        common_name: "etcd-client".to_owned(),
        names: Names::default(),
        purpose: Purpose::Client,
        not_before: "2026-01-01T00:00:00Z".parse().unwrap(),
        not_after: not_after.parse().unwrap(),
    };
    let of = |request: &Request, authority: &Made| issue(request, authority).unwrap();
    let long = request("2096-01-01T00:00:00Z");
    let another = of(&long, &new_authority("another", long.not_before, long.not_after).unwrap());
    let signer = Made { certificate: signer, key: signers_key };
    let expired = of(&request("2026-02-01T00:00:00Z"), &signer);
    assert_eq!(authority, ca, "what applications trust is the authority alone");
    for port in [2379, 2380] {
        let no_certificate = get("https", (ip, port), &name, ca, None).await;
        let of_another =
            get("https", (ip, port), &name, ca, Some((&another.certificate, &another.key))).await;
        let of_the_past =
            get("https", (ip, port), &name, ca, Some((&expired.certificate, &expired.key))).await;
        let plain = get("http", (ip, port), &name, ca, None).await;
        for refused in [no_certificate, of_another, of_the_past, plain] {
            assert!(refused.is_err(), "port {port}: {refused:?}");
        }
    }
    get("https", (ip, 2379), &name, ca, Some((certificate, key))).await.unwrap();
    let [_, peers, peers_key] = cluster.secret("etcd-peer-2").await;
    get("https", (ip, 2380), &name, ca, Some((&peers, &peers_key))).await.expect("a peer is let in");
    let peer = get("https", (ip, 2380), &name, ca, Some((certificate, key))).await;
    assert!(peer.is_err(), "an application is no peer: {peer:?}");
}

fn etcdctl_needs_no_paths(cluster: &Cluster) {
    let exec = |args: &[&str]| {
        let pod = ["-n", &cluster.namespace, "exec", "etcd-1", "--", "/usr/local/bin/etcdctl"];
        kubectl(&[&pod, args].concat()).unwrap()
    };
    exec(&["put", "by", "etcdctl"]);
    assert_eq!(exec(&["get", "by"]).trim(), "by\netcdctl");
    let members = exec(&["member", "list"]);
    assert!(members.contains("https://etcd-2.etcd."), "{members}");
}

/// Puts one in the place of a certificate that is in the last part of its time.
async fn grow_old(cluster: &Cluster, secret: &str, authority: &Made) {
    let [trusted, certificate, _] = cluster.secret(secret).await;
    let own = Certificate::all_in(certificate.as_bytes()).unwrap().remove(0);
    let now = jiff::Timestamp::now();
    let request = Request {
        common_name: own.subject.trim_start_matches("CN=").to_owned(),
        names: own.names,
        purpose: if own.serves { Purpose::Peer } else { Purpose::Client },
        not_before: now - jiff::SignedDuration::from_hours(2),
        not_after: now + jiff::SignedDuration::from_mins(40),
    };
    let data = contents(&issue(&request, authority).unwrap(), &trusted);
    let patch = Patch::Merge(json!({ "data": data }));
    cluster.api::<Secret>().patch(secret, &PatchParams::default(), &patch).await.unwrap();
}

/// The serial numbers that members show, on both ports.
async fn shown(cluster: &Cluster) -> BTreeMap<String, String> {
    let [ca, certificate, key] = cluster.secret("etcd-client-tls").await;
    let credentials = Arc::new(Credentials::new(&ca, &certificate, &key).unwrap());
    let mut shown = BTreeMap::new();
    for (member, pod) in cluster.pods().await {
        let ip = pod.status.as_ref().unwrap().pod_ip.as_ref().unwrap().parse().unwrap();
        // A connection of its own each time: what one was made with says nothing of now.
        let channels = Channels::default();
        channels.show("now", Some(Arc::clone(&credentials)));
        let server_name = format!("{member}.etcd.{}.svc", cluster.namespace);
        let client = channels.member("now", &Endpoint { pod_uid: pod.uid().unwrap(), ip, server_name });
        let serial = |der: Option<Vec<u8>>| Certificate::presented(&der.unwrap()).unwrap().serial.to_string();
        let number = member.strip_prefix("etcd-").unwrap();
        let Ok((_, server)) = client.versions_and_certificate().await else { continue };
        shown.insert(format!("etcd-server-{number}"), serial(server));
        let Ok(peer) = client.peer_certificate(|_| false).await else { continue };
        shown.insert(format!("etcd-peer-{number}"), serial(peer));
    }
    shown
}

#[test]
fn certificates_are_made_anew_under_a_writer_and_members_show_them_without_a_restart() {
    run("tls-leaves", async |space| {
        let _operator = space.operator();
        let cluster = formed(space, with_tls("3.5.35", 3)).await;
        let (before, runs) = (shown(&cluster).await, cluster.runs().await);
        assert_eq!(before.len(), 6, "{before:?}");
        let noted = |cluster: &EtcdCluster| -> BTreeMap<String, String> {
            let status = cluster.status.clone().unwrap_or_default();
            status.certificates.into_iter().map(|row| (row.name, row.serial)).collect()
        };
        let first = noted(&cluster.get().await);
        assert!(before.iter().all(|(secret, serial)| first[secret] == *serial), "{before:?} {first:?}");
        under_load(&cluster, async || {
            let [_, signer, key] = cluster.secret("etcd-ca").await;
            let signer = Made { certificate: signer, key };
            for secret in first.keys().filter(|name| *name != "etcd-ca") {
                grow_old(&cluster, secret, &signer).await;
            }
            let all_are_new = |cluster: &EtcdCluster| {
                let hours_from_now = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(100);
                let status = cluster.status.clone().unwrap_or_default();
                let is_new = |row: &CertificateStatus| first.get(&row.name) != Some(&row.serial);
                let is_young = |row: &CertificateStatus| row.not_after.0 > hours_from_now;
                let rows = status.certificates.iter().filter(|row| row.name != "etcd-ca");
                rows.clone().count() == 8 && rows.clone().all(|row| is_new(row) && is_young(row))
            };
            cluster.until("every certificate was made anew", SEEN_WITHIN, all_are_new).await;
            until("members show what their Secrets hold", SHOWN_WITHIN, async || {
                let (held, shown) = (noted(&cluster.get().await), shown(&cluster).await);
                (shown.len() == 6 && shown.iter().all(|(secret, serial)| held[secret] == *serial))
                    .then_some(())
            })
            .await;
        })
        .await;
        let after = shown(&cluster).await;
        assert!(after.iter().all(|(secret, serial)| before[secret] != *serial), "{before:?} {after:?}");
        assert_eq!(cluster.runs().await, runs, "nobody was restarted");
        let events = cluster.event_reasons().await;
        assert!(events.contains(&"CertificatesIssued".to_owned()), "{events:?}");
    });
}

#[test]
fn members_that_talk_tls_roll_and_are_replaced_under_load() {
    run("tls-life", async |space| {
        let _operator = space.operator();
        let cluster = formed(space, with_tls("3.5.35", 3)).await;
        under_load(&cluster, async || {
            cluster.rolled(json!({ "version": "3.6.16" })).await;
            cluster.assert_version("3.6.16").await;
            cluster.annotate("quorate.dev/replace", "etcd-1").await;
            cluster
                .until("etcd-1 is replaced", ROLLED_WITHIN, |cluster| {
                    let status = cluster.status.clone().unwrap_or_default();
                    status.last_replacement.is_some_and(|last| last.member == "etcd-1")
                })
                .await;
            cluster.ready(ROLLED_WITHIN).await;
        })
        .await;
        cluster.assert_members_kept(&["etcd-0", "etcd-2", "etcd-3"], &["data-etcd-1"]).await;
        let names: Vec<_> = cluster.status().await.certificates.into_iter().map(|row| row.name).collect();
        assert!(names.contains(&"etcd-peer-3".to_owned()), "{names:?}");
    });
}

#[test]
fn one_edit_goes_from_3_5_35_to_3_7_3_where_members_talk_tls() {
    run("tls-hops", async |space| {
        let _operator = space.operator();
        let cluster = formed(space, with_tls("3.5.35", 3)).await;
        under_load(&cluster, async || {
            cluster.edit(json!({ "version": "3.7.3" })).await;
            cluster.ready(EVERY_HOP_WITHIN).await;
        })
        .await;
        cluster.assert_version("3.7.3").await;
    });
}

#[test]
fn an_authority_that_is_gone_is_said_and_members_go_on() {
    run("tls-authority", async |space| {
        let _operator = space.operator();
        let cluster = formed(space, with_tls("3.6.16", 3)).await;
        let runs = cluster.runs().await;
        let secrets = cluster.api::<Secret>();
        let mut authority = secrets.get("etcd-ca").await.unwrap();
        assert_eq!(authority.owner_references(), [], "it stays with the data");
        secrets.delete("etcd-ca", &DeleteParams::default()).await.unwrap();
        let message = cluster.stalled("AuthorityLost", SEEN_WITHIN).await;
        assert!(
            message.contains("the CA in the Secret etcd-ca cannot sign certificates: it is gone"),
            "{message}"
        );
        cluster.put("still", "writable").await;
        assert!(secrets.get_opt("etcd-ca").await.unwrap().is_none(), "no other takes its place");
        authority.metadata.resource_version = None;
        authority.metadata.uid = None;
        secrets.create(&PostParams::default(), &authority).await.unwrap();
        cluster.ready(SEEN_WITHIN).await;

        // One that a member shows, or an application, is made again.
        for secret in ["etcd-server-0", "etcd-client-tls"] {
            secrets.delete(secret, &DeleteParams::default()).await.unwrap();
            until("it is made again", SEEN_WITHIN, async || secrets.get_opt(secret).await.unwrap()).await;
        }
        let refused = "the members talk TLS, and spec.tls.mode asks for plaintext";
        cluster.edit(json!({ "tls": { "mode": "Disabled" } })).await;
        assert!(cluster.stalled("TlsModeChange", SAID_WITHIN).await.contains(refused));
        cluster.edit(json!({ "tls": { "mode": "Enabled" } })).await;
        cluster.ready(SAID_WITHIN).await;
        assert_eq!(cluster.runs().await, runs, "no member was touched");
    });
}

#[test]
fn an_etcdcluster_made_again_goes_on_with_the_authority_of_the_data() {
    run("tls-again", async |space| {
        let _operator = space.operator();
        let cluster = formed(space, with_tls("3.6.16", 3)).await;
        let identity = cluster.identity().await;
        cluster.put("precious", "1").await;
        let [authority, ..] = cluster.secret("etcd-ca").await;
        cluster.delete(SAID_WITHIN).await;
        // What it talks is not asked for again: it stands with the data.
        cluster.create(spec("3.6.16", 3)).await;
        cluster.ready(FORMED_WITHIN).await;
        let cluster = cluster.seen_by_its_application().await;
        assert_eq!(cluster.identity().await, identity);
        assert_eq!(cluster.get_key("precious").await.as_deref(), Some("1"));
        assert_eq!(cluster.secret("etcd-ca").await[0], authority);
    });
}
