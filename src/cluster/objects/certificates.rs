//! What a member's Pod has of TLS: the Secrets in it, and the flags that tell etcd of them.
//!
//! etcd reads a certificate and its key anew for each handshake, so a Secret that is renewed is served without a restart;
//! whom it trusts it reads once, when it starts (<https://github.com/etcd-io/etcd/issues/11555>). The Secrets are mounted as a
//! whole: the kubelet never renews what is mounted by `subPath`.

use crate::cluster::names::{MemberName, headless_service, peer_secret, server_secret};
use crate::cluster::wire::Wire;
use crate::etcd::EtcdVersion;
use crate::etcd::versions::translate;
use k8s_openapi::api::core::v1::{EnvVar, PodSpec, PodTemplateSpec, SecretVolumeSource, Volume, VolumeMount};
use std::collections::BTreeMap;

const PEER: &str = "peer-tls";
const SERVER: &str = "server-tls";
const PEER_DIR: &str = "/etc/etcd/tls/peer";
const SERVER_DIR: &str = "/etc/etcd/tls/server";
/// For etcd's group alone.
const MODE: i32 = 0o440;

/// The flags of TLS, as this version takes them.
pub(super) fn flags(
    namespace: &str,
    cluster: &str,
    version: EtcdVersion,
    wire: Wire,
) -> impl Iterator<Item = String> {
    let all = if wire == Wire::Tls { flags_of_tls(namespace, cluster, version) } else { Vec::new() };
    all.into_iter().map(|(flag, value)| format!("--{flag}={value}"))
}

fn flags_of_tls(namespace: &str, cluster: &str, version: EtcdVersion) -> Vec<(String, String)> {
    let said = |flag: &str, value: String| (flag.to_owned(), value);
    let mut flags = vec![
        said("cert-file", format!("{SERVER_DIR}/tls.crt")),
        said("key-file", format!("{SERVER_DIR}/tls.key")),
        said("trusted-ca-file", format!("{SERVER_DIR}/ca.crt")),
        said("client-cert-auth", "true".to_owned()),
        said("peer-cert-file", format!("{PEER_DIR}/tls.crt")),
        said("peer-key-file", format!("{PEER_DIR}/tls.key")),
        said("peer-trusted-ca-file", format!("{PEER_DIR}/ca.crt")),
        said("peer-client-cert-auth", "true".to_owned()),
        // What an application shows is signed by the same authority, and does not bear this name: it is no peer.
        said("peer-cert-allowed-hostname", peers_name(namespace, cluster)),
    ];
    // Else a member that comes back with another address is turned away by the others until DNS has heard of it: etcd looks the
    // names in its certificate up, and compares.
    let skip = BTreeMap::from([said("peer-skip-client-san-verification", "true".to_owned())]);
    flags.extend(translate(&skip, version).unwrap_or_default());
    flags
}

/// The name that every peer's certificate bears, and no other. Nobody answers there: it is in the domain of the members, and
/// none is called so.
pub(super) fn peers_name(namespace: &str, cluster: &str) -> String {
    format!("peers.{}.{namespace}.svc", headless_service(cluster))
}

/// Where the container has its certificates.
pub(super) fn mounts(wire: Wire) -> impl Iterator<Item = VolumeMount> {
    let mount = |(name, path): (&str, &str)| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    [(PEER, PEER_DIR), (SERVER, SERVER_DIR)].into_iter().filter(move |_| wire == Wire::Tls).map(mount)
}

/// The Secrets of a member. Where the Pod has no group of its own, who runs it is not known here.
pub(super) fn volumes_of(wire: Wire, member: &MemberName, spec: &PodSpec) -> Vec<Volume> {
    let has_a_group = spec.security_context.as_ref().is_some_and(|context| context.fs_group.is_some());
    let volume = |(name, secret): (&str, String)| Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: has_a_group.then_some(MODE),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    match wire {
        Wire::Plain => Vec::new(),
        Wire::Tls => [(PEER, peer_secret(member)), (SERVER, server_secret(member))].map(volume).into(),
    }
}

/// What etcdctl in the container reads, so that nobody types paths.
pub(super) fn for_etcdctl(wire: Wire) -> impl Iterator<Item = EnvVar> {
    let variable = |(name, value): (&str, String)| EnvVar {
        name: name.to_owned(),
        value: Some(value),
        value_from: None,
    };
    [
        ("ETCDCTL_ENDPOINTS", "https://127.0.0.1:2379".to_owned()),
        ("ETCDCTL_CACERT", format!("{SERVER_DIR}/ca.crt")),
        ("ETCDCTL_CERT", format!("{SERVER_DIR}/tls.crt")),
        ("ETCDCTL_KEY", format!("{SERVER_DIR}/tls.key")),
    ]
    .into_iter()
    .filter(move |_| wire == Wire::Tls)
    .map(variable)
}

/// What the members of a template talk.
pub fn wire_of(template: &PodTemplateSpec) -> Wire {
    let containers = template.spec.iter().flat_map(|spec| &spec.containers);
    let mut mounts = containers.flat_map(|container| container.volume_mounts.iter().flatten());
    if mounts.any(|mount| mount.name == PEER) { Wire::Tls } else { Wire::Plain }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::MemberRole;
    use crate::cluster::fixtures::{NAME, NAMESPACE, member as named, owner, rendered};
    use crate::cluster::objects::pod::{Initial, NewPod, member};
    use crate::etcd::versions::is_owned_flag;
    use k8s_openapi::api::core::v1::Pod;
    use rstest::rstest;
    use serde_json::json;

    fn made(yaml: &str) -> Pod {
        let revision = rendered(yaml);
        let (role, initial) = (MemberRole::Voter, Initial::Guard);
        let new = NewPod { member: named(1), revision: revision.name, initial, role };
        member(NAMESPACE, NAME, &new, &revision.template, owner())
    }

    fn new_args(version: &str) -> Vec<String> {
        let args = |tls: &str| {
            let pod = made(&format!("{{version: {version}{tls}}}"));
            pod.spec.unwrap().containers.remove(0).args.unwrap()
        };
        let plain = args("");
        args(", tls: {mode: Enabled}").into_iter().filter(|arg| !plain.contains(arg)).collect()
    }

    #[rstest]
    #[case("3.5.9", "--experimental-peer-skip-client-san-verification=true")]
    #[case("3.5.35", "--experimental-peer-skip-client-san-verification=true")]
    #[case("3.6.16", "--peer-skip-client-san-verification=true")]
    #[case("3.7.3", "--peer-skip-client-san-verification=true")]
    fn etcd_talks_tls_on_both_ports_and_plain_http_for_probes(#[case] version: &str, #[case] skip: &str) {
        let host = "$(QUORATE_MEMBER).db.prod.svc";
        assert_eq!(
            new_args(version),
            [
                "--listen-peer-urls=https://0.0.0.0:2380",
                "--listen-client-urls=https://0.0.0.0:2379",
                &format!("--initial-advertise-peer-urls=https://{host}:2380"),
                &format!("--advertise-client-urls=https://{host}:2379"),
                "--cert-file=/etc/etcd/tls/server/tls.crt",
                "--key-file=/etc/etcd/tls/server/tls.key",
                "--trusted-ca-file=/etc/etcd/tls/server/ca.crt",
                "--client-cert-auth=true",
                "--peer-cert-file=/etc/etcd/tls/peer/tls.crt",
                "--peer-key-file=/etc/etcd/tls/peer/tls.key",
                "--peer-trusted-ca-file=/etc/etcd/tls/peer/ca.crt",
                "--peer-client-cert-auth=true",
                "--peer-cert-allowed-hostname=peers.db.prod.svc",
                skip,
            ]
        );
    }

    #[test]
    fn its_flags_are_kept_from_the_users() {
        for version in ["3.5.9", "3.7.3"] {
            for arg in new_args(version) {
                let flag = arg[2..].split('=').next().unwrap();
                assert!(is_owned_flag(flag).is_some(), "{flag}");
            }
        }
    }

    #[test]
    fn a_member_has_its_own_secrets_and_nobody_elses() {
        let spec = json!(made("{version: 3.6.16, tls: {mode: Enabled}}").spec);
        let secret = |name: &str, secret: &str| json!({ "name": name, "secret": { "secretName": secret, "defaultMode": 288 } });
        let volumes = spec["volumes"].as_array().unwrap();
        assert_eq!(volumes[1..], [secret("peer-tls", "db-peer-1"), secret("server-tls", "db-server-1")]);
        let mounts = spec["containers"][0]["volumeMounts"].as_array().unwrap();
        let mount = |name: &str, path: &str| json!({ "name": name, "mountPath": path, "readOnly": true });
        let wanted = [mount("peer-tls", "/etc/etcd/tls/peer"), mount("server-tls", "/etc/etcd/tls/server")];
        assert_eq!(mounts[1..], wanted, "never a subPath, which the kubelet does not renew");
    }

    #[test]
    fn etcdctl_finds_its_certificates_and_a_person_has_the_last_word() {
        let env = |pod: &str| {
            let pod = made(&format!("{{version: 3.6.16, tls: {{mode: Enabled}}{pod}}}"));
            let env = pod.spec.unwrap().containers.remove(0).env.unwrap();
            let said = env.iter().filter(|it| it.name == "ETCDCTL_ENDPOINTS");
            let said: Vec<_> = said.map(|it| it.value.clone().unwrap()).collect();
            (env.len(), said)
        };
        assert_eq!(env(""), (8, vec!["https://127.0.0.1:2379".to_owned()]));
        let given = ", pod: {env: [{name: ETCDCTL_ENDPOINTS, value: 'https://db-client:2379'}]}";
        assert_eq!(env(given), (8, vec!["https://db-client:2379".to_owned()]));
    }

    #[test]
    fn what_a_template_talks_shows_in_it() {
        let wire = |yaml: &str| wire_of(&rendered(yaml).template);
        assert_eq!(wire("{version: 3.6.16, tls: {mode: Enabled}}"), Wire::Tls);
        assert_eq!(wire("{version: 3.6.16, tls: {mode: Disabled}}"), Wire::Plain);
        assert_eq!(
            rendered("{version: 3.6.16, tls: {mode: Disabled}}").name,
            rendered("version: 3.6.16").name
        );
    }
}
