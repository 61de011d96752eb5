//! Data of etcd's v2 API, on which 3.6 does not start: found on the volumes of running members.

use crate::support::cluster::spec;
use crate::support::policy::Policy;
use crate::support::run;
use serde_json::json;
use std::time::Duration;

/// The operator does not let anybody switch the v2 API on; a cluster may have it from earlier days all the same.
const WITH_THE_V2_API: &str = "has(object.spec.containers[0].env) \
    ? [JSONPatch{op: 'add', path: '/spec/containers/0/env/-', \
       value: Object.spec.containers.env{name: 'ETCD_ENABLE_V2', value: 'true'}}] \
    : []";

#[test]
fn data_of_the_v2_api_is_found_before_any_member_is_touched() {
    run("v2-data", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let policy = Policy::create(&space.client, &space.namespace, WITH_THE_V2_API).await;
        cluster.formed(spec("3.5.35", 3)).await;
        policy.delete().await;
        let runs = cluster.runs().await;
        let endpoint = cluster.endpoints().await.remove(0);
        let key = format!("{endpoint}/v2/keys/custom?value=1");
        reqwest::Client::new().put(key).send().await.unwrap().error_for_status().unwrap();

        cluster.edit(json!({ "version": "3.6.16" })).await;
        let message = cluster.stalled("V2DataFound", Duration::from_mins(1)).await;
        for word in ["3.6.16", "etcd-0", "detected custom", "spec.version"] {
            assert!(message.contains(word), "no {word:?} in {message}");
        }
        assert_eq!(cluster.runs().await, runs, "no Pod was touched");
        cluster.rolled(json!({ "version": "3.5.35" })).await;
        assert_eq!(cluster.runs().await, runs, "no Pod was ever touched");
    });
}
