//! What cannot be done safely is refused: a word, numbers, a remedy, and no member is touched.

use crate::support::cluster::{Cluster, spec};
use crate::support::sampler::under_load;
use crate::support::{FORMED_WITHIN, ROLLED_WITHIN, SAID_WITHIN, run, until};
use serde_json::{Value, json};

#[test]
fn moves_that_the_table_of_versions_forbids_are_refused_and_touch_nothing() {
    run("refused-hops", async |space| {
        let _operator = space.operator();
        let (old, new) = (space.cluster("old"), space.cluster("new"));
        tokio::join!(old.formed(spec("3.5.9", 1)), new.formed(spec("3.6.16", 1)));
        // Skips a minor.
        let one_hop = |version: &str| json!({ "version": version, "rollout": { "hops": "Single" } });
        refused(&old, one_hop("3.7.3"), "MinorSkipped", &["3.5", "3.7.3", "3.6"]).await;
        // Below the floor of the hop.
        refused(&old, one_hop("3.6.16"), "FloorNotMet", &["3.5.9", "3.5.26", "3.6.16"]).await;
        // A minor that nothing leads back to, and one that nobody knows.
        refused(&old, json!({ "version": "3.4.30" }), "DowngradeUnsupported", &["3.4.30", "not maintained"])
            .await;
        refused(&new, json!({ "version": "4.0.0" }), "VersionUnsupported", &["4.0.0"]).await;
        // Releases that lose data, and flags that the version does not know.
        refused(&new, json!({ "version": "3.6.4" }), "ReleaseRefused", &["3.6.4", "3.6.16"]).await;
        let unknown = json!({ "etcd": { "extraArgs": { "log-format": "json" } } });
        refused(&old, unknown, "FlagUnsupported", &["log-format", "3.5.9", "3.6.0"]).await;
        // A minor down to a patch from which the way up again may not be begun.
        refused(&new, one_hop("3.5.9"), "FloorNotMet", &["3.5.9", "3.5.26"]).await;
    });
}

/// As a platform's team tells it with `--releases`, of a patch that the table knows no harm of. Told nothing, the
/// same operator goes there.
#[test]
fn a_release_that_the_file_of_releases_refuses_is_refused_for_its_reason_and_another_one_is_named() {
    run("releases", async |space| {
        let why = "it came to us without a signature";
        let file = tempfile::NamedTempFile::new().unwrap();
        let releases = json!({ "known": ["3.5.36"], "refuse": { "3.5.10": why } });
        std::fs::write(file.path(), releases.to_string()).unwrap();
        let operator = space.operator_and(&["--releases", file.path().to_str().unwrap()]);
        let cluster = space.cluster("etcd");
        cluster.formed(spec("3.5.9", 1)).await;
        let words = ["3.5.10", why, "set spec.version to 3.5.36"];
        refused(&cluster, json!({ "version": "3.5.10" }), "ReleaseRefused", &words).await;
        // Not even a new cluster begins there.
        let new = space.cluster("new");
        new.create(spec("3.5.10", 1)).await;
        let message = new.stalled("ReleaseRefused", SAID_WITHIN).await;
        assert!(message.contains(why), "{message}");
        assert!(new.pods().await.is_empty() && new.claims().await.is_empty());

        operator.kill();
        let _operator = space.operator();
        cluster.rolled(json!({ "version": "3.5.10" })).await;
        cluster.assert_version("3.5.10").await;
        new.ready(FORMED_WITHIN).await;
    });
}

#[test]
fn settings_that_would_hurt_a_running_cluster_are_refused_and_touch_nothing() {
    run("refused-settings", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.formed(spec("3.5.10", 3)).await;
        refused(
            &cluster,
            json!({ "storage": { "storageClassName": "fast" } }),
            "StorageChangeUnsupported",
            &["fast"],
        )
        .await;
        // At the old election timeout of a second: followers on the old one would never stop asking for votes.
        let slow = json!({ "etcd": { "heartbeatInterval": "1s", "electionTimeout": "10s" } });
        refused(&cluster, slow, "ElectionTimeoutConflict", &["1000ms"]).await;
        let slower = json!({ "etcd": { "heartbeatInterval": "2s", "electionTimeout": "20s" } });
        refused(&cluster, slower, "ElectionTimeoutConflict", &["2000ms", "1000ms"]).await;
    });
}

#[test]
fn one_member_changes_its_minor_only_where_downtime_is_allowed() {
    run("downtime", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.35", 1)).await;
        cluster.put("kept", "yes").await;
        refused(&cluster, json!({ "version": "3.6.16" }), "DowntimeNotAllowed", &["3.6.16"]).await;
        let allowed = json!({ "version": "3.6.16", "rollout": { "allowDowntime": true } });
        under_load(&cluster, async || cluster.rolled(allowed).await).await;
        cluster.assert_version("3.6.16").await;
        assert_eq!(cluster.identity().await, before);
        assert_eq!(cluster.get_key("kept").await.as_deref(), Some("yes"));
    });
}

#[test]
fn an_edit_of_replicas_and_version_during_bootstrap_does_not_change_who_forms_the_cluster() {
    run("edit-bootstrap", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.create(spec("3.5.9", 3)).await;
        cluster
            .until("the bootstrap is pinned", SAID_WITHIN, |cluster| {
                cluster.status.as_ref().is_some_and(|status| status.bootstrap.is_some())
            })
            .await;
        cluster.edit(json!({ "replicas": 5, "version": "3.5.10" })).await;
        let formed = until("the pinned members have formed a cluster", FORMED_WITHIN, async || {
            cluster.status().await.cluster_id?;
            Some(cluster.member_list().await)
        })
        .await;
        let first = formed.values().filter(|member| !member.is_learner);
        let names: Vec<&str> = first.map(|member| member.name.as_str()).collect();
        assert_eq!(names[..3], ["etcd-0", "etcd-1", "etcd-2"]);
        cluster.ready(2 * ROLLED_WITHIN).await;
        cluster.decided("3.5.10").await;
        let listed = cluster.member_list().await;
        assert_eq!(listed.len(), 5);
        assert!(
            names.iter().all(|name| listed[*name].id == formed[*name].id),
            "who formed it is still there"
        );
    });
}

/// The change is refused for this reason, in these words; nothing is touched; taking it back is ready.
async fn refused(cluster: &Cluster, change: Value, code: &str, words: &[&str]) {
    let before = serde_json::to_value(cluster.get().await.spec).unwrap();
    let runs = cluster.runs().await;
    cluster.edit(change.clone()).await;
    let message = cluster.stalled(code, SAID_WITHIN).await;
    for word in words {
        assert!(message.contains(word), "no {word:?} in {message}");
    }
    let refusals = cluster.status().await.refusals;
    let refusal = refusals.iter().find(|refusal| refusal.code.as_str() == code).expect("in the status too");
    assert!(!refusal.remedy.is_empty() && message.contains(&refusal.remedy), "{message}");
    assert_eq!(cluster.runs().await, runs, "touched by {change}");

    let mut back = change;
    set_back(&mut back, &before);
    cluster.edit(back).await;
    cluster.ready(SAID_WITHIN).await;
    assert_eq!(cluster.runs().await, runs, "touched after {code} was taken back");
}

/// Every field of a merge patch gets the value that it had.
fn set_back(patch: &mut Value, before: &Value) {
    match patch {
        Value::Object(fields) => {
            for (name, value) in fields {
                set_back(value, before.get(name).unwrap_or(&Value::Null));
            }
        }
        value => *value = before.clone(),
    }
}
