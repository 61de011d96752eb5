//! The definition of `EtcdCluster` as text.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use quorate::etcd::versions::OWNED_FLAGS;

pub fn definition() -> CustomResourceDefinition {
    quorate::api::crd(OWNED_FLAGS)
}

pub fn plain() -> String {
    format!("# Generated from src/api: change it there, then run `make generate`.\n{}", yaml(&definition()))
}

/// A template and not a file under the chart's `crds/`: Helm never upgrades what lies there.
pub fn for_chart() -> String {
    let mut crd = definition();
    crd.metadata.annotations.get_or_insert_default().extend([
        // An uninstall of the operator must not delete every cluster; neither must a pruning GitOps tool.
        ("helm.sh/resource-policy".to_owned(), "keep".to_owned()),
        ("argocd.argoproj.io/sync-options".to_owned(), "Prune=false".to_owned()),
        ("kustomize.toolkit.fluxcd.io/prune".to_owned(), "disabled".to_owned()),
    ]);
    let text = yaml(&crd);
    assert!(!text.contains("{{"), "Helm would read this as a template");
    format!(
        "{{{{- /* Generated from src/api: change it there, then run `make generate`. */ -}}}}\n\
         {{{{- if .Values.crds.create }}}}\n{text}{{{{- end }}}}\n"
    )
}

pub fn yaml(value: &impl serde::Serialize) -> String {
    let mut text = serde_saphyr::to_string(value).unwrap();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[test]
fn an_object_that_nobody_has_seen_is_not_done() {
    let crd = serde_json::to_value(definition()).unwrap();
    let status = "/spec/versions/0/schema/openAPIV3Schema/properties/status/default/observedGeneration";
    assert_eq!(crd.pointer(status), Some(&serde_json::json!(-1)));
}

#[test]
fn what_people_type_is_there() {
    let crd = definition();
    let names = crd.spec.names;
    assert_eq!(names.short_names, Some(vec!["etcd".to_owned()]));
    assert_eq!(names.categories, Some(vec!["quorate".to_owned()]));
    let columns: Vec<_> = crd.spec.versions[0]
        .additional_printer_columns
        .iter()
        .flatten()
        .map(|column| column.name.as_str())
        .collect();
    assert_eq!(columns, ["Ready", "Available", "Members", "Version", "Target", "Leader", "Status", "Age"]);
}

#[test]
fn the_definition_fits_into_an_annotation() {
    // `kubectl apply` without --server-side keeps the whole object in one annotation of at most 262,144 bytes.
    let size = serde_json::to_string(&definition()).unwrap().len();
    assert!(size < 200_000, "{size} bytes");
}
