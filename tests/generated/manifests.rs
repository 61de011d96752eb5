//! deploy/quorate.yaml: the chart with its defaults, for people without Helm.
//!
//! It is rendered from the chart and not written by code of its own, so that the Deployment is said once.
//! That takes Helm (`HELM` names it; `make` sets it). Without, the parts that come from code are compared.

use super::{check, crd};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use quorate::cluster::rbac::{CLUSTER_RULES, Rule};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const FILE: &str = "deploy/quorate.yaml";

const HEAD: &str = "\
# Generated from charts/quorate: change it there, then run `make generate`.
#
#   kubectl apply --server-side -f deploy/quorate.yaml
apiVersion: v1
kind: Namespace
metadata:
  name: quorate-system
  labels:
    app.kubernetes.io/name: quorate
    pod-security.kubernetes.io/enforce: restricted
";

/// Lines that are about Helm, which is not there.
const OF_HELM: [&str; 4] =
    ["# Source: ", "helm.sh/chart: ", "helm.sh/resource-policy: ", "app.kubernetes.io/managed-by: Helm"];

#[test]
fn the_manifests_are_what_the_chart_renders() {
    let Some(helm) = std::env::var_os("HELM").filter(|helm| !helm.is_empty()) else {
        eprintln!("HELM is not set: {FILE} is compared with the code only, not with the chart");
        return;
    };
    let output = Command::new(&helm)
        .args(["template", "quorate", "charts/quorate", "--namespace", "quorate-system"])
        // A client that was built without its version takes the cluster for an ancient one.
        .args(["--kube-version", "1.34.4"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap_or_else(|error| panic!("{} cannot be run: {error}", helm.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rendered = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = rendered
        .lines()
        .filter(|line| !OF_HELM.iter().any(|of_helm| line.trim_start().starts_with(of_helm)))
        .collect();
    check(FILE, &format!("{HEAD}{}\n", lines.join("\n")));
}

#[test]
fn the_manifests_hold_what_the_code_says() {
    if std::env::var_os("UPDATE").is_some() {
        return;
    }
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE)).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let of_kind = |kind: &str, name: &str| {
        documents
            .iter()
            .find(|document| document["kind"] == kind && document["metadata"]["name"] == name)
            .unwrap_or_else(|| panic!("{FILE} has no {kind} {name}; run `make generate`"))
    };
    let found = of_kind("CustomResourceDefinition", "etcdclusters.quorate.dev");
    assert_eq!(found["spec"], serde_json::to_value(crd::definition().spec).unwrap(), "run `make generate`");

    let role = of_kind("ClusterRole", "quorate-system:quorate").clone();
    let role: ClusterRole = serde_json::from_value(role).unwrap();
    let mut found = role.rules.unwrap();
    let mut wanted: Vec<PolicyRule> = CLUSTER_RULES.iter().map(policy_rule).collect();
    for rules in [&mut found, &mut wanted] {
        rules.sort_by_key(|rule| rule.resources.clone());
    }
    assert_eq!(found, wanted, "run `make generate`");
}

fn policy_rule(rule: &Rule) -> PolicyRule {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    PolicyRule {
        api_groups: Some(vec![rule.group.to_owned()]),
        resources: Some(owned(rule.resources)),
        verbs: owned(rule.verbs),
        ..PolicyRule::default()
    }
}
