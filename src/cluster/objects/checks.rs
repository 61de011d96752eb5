//! What a Pod meets in a cluster, for tests: admission by the Pod Security Standard `restricted`, and who looks for
//! members.

use super::support;
use crate::cluster::fixtures::{NAME, NAMESPACE, owner};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, Probe};
use kube::ResourceExt;
use serde_json::json;
use std::collections::BTreeMap;

/// What `restricted` refuses of a Pod.
/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/>
pub fn violations(pod: &PodSpec) -> Vec<&'static str> {
    let of_pod = pod.security_context.clone().unwrap_or_default();
    let type_of_volume =
        |volume| json!(volume).as_object().unwrap().keys().find(|key| *key != "name").cloned();
    let volumes = pod.volumes.iter().flatten().map(type_of_volume);
    let mut found: Vec<_> = [
        ("hostNamespaces", [pod.host_network, pod.host_pid, pod.host_ipc].contains(&Some(true))),
        ("volumes", volumes.flatten().any(|kind| kind != "persistentVolumeClaim")),
        ("sysctls", of_pod.sysctls.is_some()),
    ]
    .into();
    for container in pod.init_containers.iter().flatten().chain(&pod.containers) {
        let own = container.security_context.clone().unwrap_or_default();
        let capabilities = own.capabilities.unwrap_or_default();
        let user = own.run_as_user.or(of_pod.run_as_user);
        let seccomp = own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref());
        found.extend([
            ("privileged", own.privileged == Some(true)),
            ("allowPrivilegeEscalation", own.allow_privilege_escalation != Some(false)),
            ("capabilities", capabilities.drop != Some(vec!["ALL".to_owned()]) || capabilities.add.is_some()),
            ("runAsNonRoot", own.run_as_non_root.or(of_pod.run_as_non_root) != Some(true)),
            ("runAsUser", user == Some(0)),
            ("seccompProfile", seccomp.is_none_or(|profile| profile.type_ != "RuntimeDefault")),
            ("hostPorts", container.ports.iter().flatten().any(|port| port.host_port.is_some())),
            ("hostProbes", reaches_elsewhere(container)),
        ]);
    }
    found.into_iter().filter(|(_, is_so)| *is_so).map(|(what, _)| what).collect()
}

/// Since 1.34: a probe of another host than the Pod.
fn reaches_elsewhere(container: &Container) -> bool {
    let probes = [&container.startup_probe, &container.liveness_probe, &container.readiness_probe];
    let host = |probe: &Probe| {
        let by_http = probe.http_get.as_ref().and_then(|get| get.host.clone());
        by_http.or_else(|| probe.tcp_socket.as_ref()?.host.clone())
    };
    probes.into_iter().flatten().any(|probe| host(probe).is_some())
}

/// Who takes a Pod for a member of the cluster.
pub fn found_by(pod: &Pod) -> Vec<&'static str> {
    let spec = serde_saphyr::from_str("version: 3.6.16").unwrap();
    let headless = support::headless(NAMESPACE, NAME, &spec, owner()).stamped().spec.unwrap().selector;
    let client = support::client(NAMESPACE, NAME, &spec, owner()).stamped().spec.unwrap().selector;
    let budget = support::budget(NAMESPACE, NAME, 3, owner()).stamped().spec.unwrap().selector;
    let budget = budget.and_then(|selector| selector.match_labels);
    let is_found = |selector: &BTreeMap<String, String>| {
        selector.iter().all(|(label, value)| pod.labels().get(label) == Some(value))
    };
    [("headless Service", headless), ("client Service", client), ("budget", budget)]
        .into_iter()
        .filter(|(_, selector)| is_found(selector.as_ref().unwrap()))
        .map(|(who, _)| who)
        .collect()
}

#[test]
fn a_pod_that_says_nothing_is_not_restricted() {
    let pod = PodSpec { containers: vec![Container::default()], ..PodSpec::default() };
    assert_eq!(
        violations(&pod),
        ["allowPrivilegeEscalation", "capabilities", "runAsNonRoot", "seccompProfile"]
    );
}
