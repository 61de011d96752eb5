//! Bad input: the API server says which field is wrong and what would be right, and nothing is made.

use crate::specs::{self, Refused};
use crate::support::cluster::spec;
use crate::support::{SAID_WITHIN, Space, run};
use http::Method;
use kube::ResourceExt as _;
use quorate::api::EtcdCluster;
use rstest::rstest;
use serde_json::{Value, json};

/// tests/generated asks a library of the rules; here the one answers that people will hear.
#[test]
fn the_table_of_specs_is_answered_by_an_api_server_as_it_says() {
    run("specs", async |space| {
        for Refused { case, before, cluster, says } in specs::refused() {
            let error = try_out(space, before, cluster).await.expect_err(case);
            assert!(matches!(&error, kube::Error::Api(status) if status.code == 422), "{case}: {error}");
            let error = error.to_string();
            for word in says {
                assert!(error.contains(word), "{case}: no {word:?} in {error}");
            }
        }
        for (case, cluster) in specs::accepted() {
            try_out(space, None, cluster).await.unwrap_or_else(|error| panic!("{case}: {error}"));
        }
        for (case, before, after) in specs::accepted_changes() {
            try_out(space, Some(before), after).await.unwrap_or_else(|error| panic!("{case}: {error}"));
        }
    });
}

/// The rest of what people get wrong, for real: nothing comes of it.
#[test]
fn bad_input_is_refused_with_the_field_and_nothing_is_made_or_changed() {
    run("bad-input", async |space| {
        let cases: &[(&str, Value, &str)] = &[
            ("no version", json!({ "version": null }), "spec.version"),
            ("a field that is none", json!({ "vresion": "3.6.16" }), "spec.vresion"),
        ];
        let cluster = space.cluster("etcd");
        for (what, change, field) in cases {
            let mut wanted = spec("3.6.16", 3);
            merge(&mut wanted, change);
            let error = cluster.try_create(wanted).await.expect_err(what).to_string();
            assert!(error.contains(field), "{what}: no {field} in {error}");
        }
        assert!(cluster.api::<EtcdCluster>().get_opt("etcd").await.unwrap().is_none(), "nothing was made");

        cluster.create(spec("3.6.16", 3)).await;
        let edits: &[(&str, Value, &str)] = &[
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

/// What the API server says to a cluster, or to a change of `before` into it, in a dry run: it asks all that it asks
/// at a write, and writes nothing.
async fn try_out(
    space: &Space,
    before: Option<Value>,
    mut cluster: Value,
) -> Result<EtcdCluster, kube::Error> {
    const DRY: &str = "?fieldValidation=Strict&dryRun=All";
    let Some(before) = before else { return send(space, Method::POST, DRY, cluster).await };
    // It must be there to be changed, and is there for this one change. No operator looks after it.
    let made = send(space, Method::POST, "", before).await.unwrap();
    let (name, version) = (made.name_any(), made.resource_version());
    cluster["metadata"]["resourceVersion"] = json!(version);
    let answer = send(space, Method::PUT, &format!("/{name}{DRY}"), cluster).await;
    assert_eq!(space.cluster(&name).get().await.resource_version(), version, "nothing was written");
    space.cluster(&name).delete(SAID_WITHIN).await;
    answer
}

/// As kubectl sends it, not as our types would write it. `path` begins after the collection's.
async fn send(
    space: &Space,
    method: Method,
    path: &str,
    mut cluster: Value,
) -> Result<EtcdCluster, kube::Error> {
    cluster["metadata"]["namespace"] = json!(space.namespace);
    let clusters = format!("/apis/quorate.dev/v1alpha1/namespaces/{}/etcdclusters", space.namespace);
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{clusters}{path}"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&cluster).unwrap())
        .unwrap();
    space.client.request(request).await
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
