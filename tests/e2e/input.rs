//! Bad input: the API server says which field is wrong and what would be right, and nothing is made.

use crate::support::cluster::spec;
use crate::support::run;
use rstest::rstest;
use serde_json::{Value, json};

#[test]
fn bad_input_is_refused_with_the_field_and_what_would_be_right() {
    run("bad-input", async |space| {
        let cases: &[(&str, Value, &str, &str)] = &[
            ("a version that is none", json!({ "version": "three" }), "spec.version", "3.6.16"),
            ("no version", json!({ "version": null }), "spec.version", ""),
            ("latest", json!({ "version": "latest" }), "spec.version", "latest"),
            ("a pre-release", json!({ "version": "3.6.0-rc.1" }), "spec.version", "pre-release"),
            ("a minor alone", json!({ "version": "3.6" }), "spec.version", "three parts"),
            ("no members", json!({ "replicas": 0 }), "spec.replicas", "1, 3, 5 or 7"),
            ("two members", json!({ "replicas": 2 }), "spec.replicas", "1, 3, 5 or 7"),
            ("four members", json!({ "replicas": 4 }), "spec.replicas", "1, 3, 5 or 7"),
            ("less than none", json!({ "replicas": -1 }), "spec.replicas", "1, 3, 5 or 7"),
            ("a size that is none", json!({ "storage": { "size": "lots" } }), "spec.storage.size", "8Gi"),
            ("an empty volume", json!({ "storage": { "size": "0" } }), "spec.storage.size", "8Gi"),
            (
                "an owned flag",
                json!({ "etcd": { "extraArgs": { "data-dir": "/x" } } }),
                "spec.etcd.extraArgs",
                "data-dir",
            ),
            (
                "a flag that would lose writes",
                json!({ "etcd": { "extraArgs": { "unsafe-no-fsync": "true" } } }),
                "spec.etcd.extraArgs",
                "unsafe-no-fsync",
            ),
            (
                "a flag with dashes",
                json!({ "etcd": { "extraArgs": { "--x": "1" } } }),
                "spec.etcd.extraArgs",
                "dashes",
            ),
            (
                "an environment of etcd",
                json!({ "pod": { "env": [{ "name": "ETCD_NAME", "value": "x" }] } }),
                "spec.pod.env",
                "ETCD_",
            ),
            (
                "a label of ours",
                json!({ "pod": { "labels": { "quorate.dev/role": "x" } } }),
                "spec.pod.labels",
                "quorate.dev/",
            ),
            (
                "an annotation of ours",
                json!({ "services": { "client": { "annotations": { "quorate.dev/applied": "x" } } } }),
                "spec.services.client.annotations",
                "a prefix of your own",
            ),
            (
                "a tag in the repository",
                json!({ "image": { "repository": "r/etcd:v3" } }),
                "spec.image.repository",
                "overrides",
            ),
            ("a field that is none", json!({ "vresion": "3.6.16" }), "spec.vresion", ""),
        ];
        for (what, change, field, word) in cases {
            let mut wanted = spec("3.6.16", 3);
            merge(&mut wanted, change);
            let error = space.cluster("etcd").try_create(wanted).await.expect_err(what).to_string();
            assert!(error.contains(field), "{what}: no {field} in {error}");
            assert!(error.contains(word), "{what}: no {word:?} in {error}");
        }
        for name in ["a-name-that-is-a-little-longer-than-dns-allows", "1st"] {
            let error = space.cluster(name).try_create(spec("3.6.16", 3)).await.expect_err(name).to_string();
            assert!(error.contains("metadata.name") && error.contains("45"), "{error}");
        }

        let cluster = space.cluster("etcd");
        cluster.create(spec("3.6.16", 3)).await;
        let edits: &[(&str, Value, &str)] = &[
            ("shrinks", json!({ "storage": { "size": "512Mi" } }), "spec.storage.size"),
            ("is taken away", json!({ "storage": { "size": null } }), "spec.storage.size"),
            ("even", json!({ "replicas": 2 }), "spec.replicas"),
            ("latest", json!({ "version": "latest" }), "spec.version"),
        ];
        let generation = cluster.get().await.metadata.generation;
        for (what, change, field) in edits {
            let error = cluster.try_edit(change.clone()).await.expect_err(what).to_string();
            assert!(error.contains(field), "{what}: no {field} in {error}");
        }
        assert_eq!(cluster.get().await.metadata.generation, generation, "nothing was changed");
    });
}

#[rstest]
#[case(json!({ "a": { "b": 1 } }), json!({ "a": { "c": 2 } }), json!({ "a": { "b": 1, "c": 2 } }))]
#[case(json!({ "a": 1 }), json!({ "a": null }), json!({}))]
fn merging_is_that_of_a_merge_patch(#[case] mut into: Value, #[case] patch: Value, #[case] merged: Value) {
    merge(&mut into, &patch);
    assert_eq!(into, merged);
}

fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return *into = patch.clone() };
    for (name, value) in patch {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(name);
        } else {
            if !into[name].is_object() {
                into[name] = json!({});
            }
            merge(&mut into[name], value);
        }
    }
}
