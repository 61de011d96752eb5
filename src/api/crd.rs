//! The `CustomResourceDefinition` as it is installed: what the derive makes of the types, and the two
//! things that it cannot say.

use super::EtcdCluster;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, ValidationRule,
};
use kube::CustomResourceExt;
use std::collections::BTreeMap;

/// The definition of [`EtcdCluster`]. `crds/`, `deploy/` and the chart carry it as text; a test compares.
///
/// `owned_flags` are the flags that `spec.etcd.extraArgs` may not name, each with the reason. They are an
/// argument because what is known of etcd lives in [`crate::etcd`], which this module stands below.
pub fn crd(owned_flags: &[(&str, &str)]) -> CustomResourceDefinition {
    let mut crd = EtcdCluster::crd();
    let schemas = crd.spec.versions.iter_mut().filter_map(|version| version.schema.as_mut());
    for root in schemas.filter_map(|schema| schema.open_api_v3_schema.as_mut()) {
        if let Some(status) = property(root, &["status"]) {
            // Without it an object that no operator has seen counts as done: kstatus, and with it Flux and
            // `helm --wait`, skip an observedGeneration that is not there.
            // https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md
            status.default = Some(JSON(serde_json::json!({ "observedGeneration": -1 })));
        }
        if let Some(args) = property(root, &["spec", "etcd", "extraArgs"]) {
            let rules = args.x_kubernetes_validations.get_or_insert_default();
            rules.extend(owned_flag_rules(owned_flags));
        }
    }
    crd
}

/// One rule a reason, so that the message can say it.
fn owned_flag_rules(owned_flags: &[(&str, &str)]) -> Vec<ValidationRule> {
    let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (flag, why) in owned_flags {
        by_reason.entry(why).or_default().push(flag);
    }
    by_reason
        .into_iter()
        .map(|(why, flags)| ValidationRule {
            rule: format!("self.all(f, !(f in ['{}']))", flags.join("', '")),
            message: Some(format!("spec.etcd.extraArgs may not set {}: {why}", flags.join(", "))),
            ..ValidationRule::default()
        })
        .collect()
}

fn property<'a>(schema: &'a mut JSONSchemaProps, path: &[&str]) -> Option<&'a mut JSONSchemaProps> {
    path.iter().try_fold(schema, |schema, name| schema.properties.as_mut()?.get_mut(*name))
}
