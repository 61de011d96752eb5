//! Labels and annotations that the spec gives to members' Pods. They are part of a revision as all else is; a Pod gets
//! those of another one in place, where nothing else differs, and nothing restarts for them.

use crate::api::qualified;
use crate::api::reserved::Reserved;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Labels of the spec that an object can have. The others are refused elsewhere, and keep neither a member from coming back
/// nor a Service from being what it is to be.
pub fn labels_of(mut given: BTreeMap<String, String>, reserved: &Reserved) -> BTreeMap<String, String> {
    given.retain(|name, value| {
        reserved.first_of([name]).is_none() && qualified::no_label(name, value).is_none()
    });
    given
}

/// The same of annotations.
pub fn annotations_of(
    mut annotations: BTreeMap<String, String>,
    reserved: &Reserved,
) -> BTreeMap<String, String> {
    annotations
        .retain(|name, _| reserved.first_of([name]).is_none() && qualified::no_annotation(name).is_none());
    if !qualified::fit_on_an_object(&annotations) {
        annotations.clear();
    }
    annotations
}

/// The change of a Pod's labels and annotations, as a merge patch, from what the one template gives it to what the other
/// does. What others have put there stays.
pub fn change_of_metadata(from: &PodTemplateSpec, to: &PodTemplateSpec) -> Value {
    json!({
        "labels": change(labels(from), labels(to)),
        "annotations": change(annotations(from), annotations(to)),
    })
}

fn labels(template: &PodTemplateSpec) -> Option<&BTreeMap<String, String>> {
    template.metadata.as_ref()?.labels.as_ref()
}

/// Annotations that a template gives.
pub(super) fn annotations(template: &PodTemplateSpec) -> Option<&BTreeMap<String, String>> {
    template.metadata.as_ref()?.annotations.as_ref()
}

/// What was there goes, what is wanted comes.
fn change(
    from: Option<&BTreeMap<String, String>>,
    to: Option<&BTreeMap<String, String>>,
) -> Map<String, Value> {
    let gone = from.into_iter().flatten().map(|(name, _)| (name.clone(), Value::Null));
    gone.chain(to.into_iter().flatten().map(|(name, value)| (name.clone(), json!(value)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::reserved::{POD_ANNOTATIONS, POD_LABELS};
    use crate::cluster::fixtures::rendered;

    #[test]
    fn what_is_wanted_no_more_goes_and_what_is_the_operators_stays() {
        let template = |pod: &str| rendered(&format!("{{version: 3.6.16, pod: {pod}}}")).template;
        let before = template("{labels: {a: '1', b: '2'}, annotations: {c: '3'}}");
        let mut change = change_of_metadata(&before, &template("{labels: {b: '4', d: '5'}}"));
        let of_the_operator = crate::api::labels::of_cluster("db");
        for (name, value) in &of_the_operator {
            assert_eq!(change["labels"].as_object_mut().unwrap().remove(name), Some(json!(value)), "{name}");
        }
        change["labels"].as_object_mut().unwrap().remove(crate::api::labels::COMPONENT);
        assert_eq!(
            change,
            json!({ "labels": { "a": null, "b": "4", "d": "5" }, "annotations": { "c": null } })
        );
    }

    #[test]
    fn what_no_pod_can_carry_keeps_no_member_from_coming_back() {
        let given = |yaml: &str| -> BTreeMap<String, String> { serde_saphyr::from_str(yaml).unwrap() };
        let labels = labels_of(given("{'a b': x, c: 'd e', app.kubernetes.io/name: x, f: g}"), &POD_LABELS);
        assert_eq!(json!(labels), json!({ "f": "g" }));
        let annotations = given("{'a b': x, c: 'd e', quorate.dev/revision: x}");
        assert_eq!(json!(annotations_of(annotations, &POD_ANNOTATIONS)), json!({ "c": "d e" }));
    }
}
