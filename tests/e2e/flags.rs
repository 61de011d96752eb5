//! Flags of etcd that a hop renames: they go with their member, each in the words of its version.

use crate::support::cluster::{is_ready, spec};
use crate::support::sampler::under_load;
use crate::support::store::connect;
use crate::support::{EVERY_HOP_WITHIN, run, until};
use etcd_client::WatchOptions;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::timeout;

/// 3.6 takes the words of 3.5 still.
const OLD: [&str; 3] = [
    "--experimental-corrupt-check-time=1h",
    "--experimental-initial-corrupt-check=true",
    "--experimental-watch-progress-notify-interval=1s",
];
const NEW: [&str; 3] = [
    "--corrupt-check-time=1h",
    "--feature-gates=InitialCorruptCheck=true",
    "--watch-progress-notify-interval=1s",
];
/// What a member logs of the first two at its start.
const LOGGED: [&str; 2] = [r#""corrupt-check-time-interval":"1h0m0s""#, "initial corruption checking passed"];
/// How long a member may take to say that nothing happened; without the flag it takes ten minutes.
const NOTIFIED_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn flags_of_3_5_go_up_to_3_7_in_the_words_of_each_version_and_stay_in_force() {
    run("flags", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let mut wanted = spec("3.5.35", 3);
        let flags = OLD.map(|flag| flag.trim_start_matches("--").split_once('=').unwrap());
        wanted["etcd"] = json!({ "extraArgs": BTreeMap::from(flags) });
        let before = cluster.formed(wanted).await;

        let mut given = BTreeMap::new();
        under_load(&cluster, async || {
            cluster.edit(json!({ "version": "3.7.3" })).await;
            until("Ready", EVERY_HOP_WITHIN, async || {
                for (member, pod) in cluster.pods().await {
                    given.insert((version_of(&pod), member), flags_of(&pod));
                }
                is_ready(&cluster.get().await).then_some(())
            })
            .await;
        })
        .await;

        for (version, words) in [("3.5.35", OLD), ("3.6.16", OLD), ("3.7.3", NEW)] {
            for member in before.members.keys() {
                let flags = given.get(&(version.to_owned(), member.clone()));
                assert_eq!(flags, Some(&words.map(str::to_owned).into()), "{member} on {version}");
            }
        }
        for member in before.members.keys() {
            let log = space.api::<Pod>().logs(member, &LogParams::default()).await.unwrap();
            for words in LOGGED {
                assert!(log.contains(words), "no {words} in the log of {member}");
            }
        }
        for endpoint in cluster.endpoints().await {
            assert_progress_is_told(&endpoint).await;
        }
        cluster.assert_version("3.7.3").await;
        assert_eq!(cluster.identity().await, before);
    });
}

fn version_of(pod: &Pod) -> String {
    let image = pod.spec.as_ref().unwrap().containers[0].image.as_ref().unwrap();
    image.rsplit_once(":v").unwrap().1.to_owned()
}

/// Those of a Pod's flags that are in question here, under whichever name.
fn flags_of(pod: &Pod) -> BTreeSet<String> {
    let about = |flag: &&String| {
        ["corrupt", "feature-gates", "notify-interval"].iter().any(|word| flag.contains(word))
    };
    pod.spec.as_ref().unwrap().containers[0].args.iter().flatten().filter(about).cloned().collect()
}

async fn assert_progress_is_told(endpoint: &str) {
    let mut client = connect(endpoint, None).await;
    let options = WatchOptions::new().with_progress_notify();
    let mut stream = client.watch("nobody/writes/here", Some(options)).await.unwrap();
    let told = timeout(NOTIFIED_WITHIN, async {
        loop {
            let told = stream.message().await.unwrap().expect("a member that goes on");
            if !told.created() {
                return told;
            }
        }
    });
    let told = told.await.expect("word of a member on which nothing happens");
    assert!(told.events().is_empty() && !told.canceled(), "{told:?}");
}
