//! Changes that do not work: they cost nothing, or one restart of one member.

use crate::support::cluster::{Cluster, condition, spec};
use crate::support::sampler::{Sampler, assert_nothing_lost};
use crate::support::{ROLLED_WITHIN, SAID_WITHIN, run};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::api::LogParams;
use quorate::api::{ConditionType, FailureStatus};
use serde_json::json;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::{Duration, Instant};

/// How much is kept of the log of a member that is given up.
const LINES_KEPT: usize = 40;

#[test]
fn an_image_that_does_not_exist_touches_no_member_and_setting_it_back_is_ready() {
    run("no-image", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        cluster.formed(spec("3.5.9", 3)).await;
        let runs = cluster.runs().await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        cluster.edit(json!({ "version": "3.5.99", "rollout": { "memberDeadline": "5s" } })).await;
        let message = cluster.stalled("ImageUnavailable", Duration::from_mins(1)).await;
        for word in ["v3.5.99", "spec.version", "no member was touched"] {
            assert!(message.contains(word), "no {word:?} in {message}");
        }
        let available = condition(&cluster.get().await, ConditionType::Available).unwrap().clone();
        assert_eq!(available.status, "True");
        assert_eq!(cluster.runs().await, runs);

        cluster.rolled(json!({ "version": "3.5.9" })).await;
        assert_eq!(cluster.runs().await, runs, "no Pod was ever touched");
        assert_eq!(assert_nothing_lost(writers).await.tally.failed, 0);
        assert!(sampler.stop().away.is_empty());
        cluster.assert_version("3.5.9").await;
    });
}

#[test]
fn a_version_whose_member_does_not_start_costs_one_restart_and_is_put_back() {
    run("bad-flag", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let before = cluster.formed(spec("3.5.9", 3)).await;
        let uids = cluster.pod_uids().await;
        let sampler = Sampler::start(&cluster).await;
        let writers = sampler.writers().await;
        cluster
            .edit(json!({
                "version": "3.5.10",
                "etcd": { "extraArgs": { "max-wals": "many" } },
                // Go prints hundreds of lines then, with the times of the run that it is.
                "pod": { "env": [{ "name": "GODEBUG", "value": "inittrace=1" }] },
                "rollout": { "memberDeadline": "5s" },
            }))
            .await;
        let mut ended = BTreeMap::new();
        let message = tokio::select! {
            message = cluster.stalled("MemberFailed", ROLLED_WITHIN) => message,
            never = note_ended_runs(&cluster, &mut ended) => match never {},
        };
        assert!(message.contains("3.5.10"), "{message}");

        let failure = cluster.status().await.last_failure.expect("evidence");
        assert_eq!(failure.version, "3.5.10");
        assert_is_of_the_run_before(&failure, &ended);
        let (reason, code) = (failure.reason.as_deref().unwrap_or_default(), failure.exit_code.unwrap());
        assert!(!reason.is_empty() && code != 0, "{failure:?}");
        let how = format!("({reason}, exit code {code})");
        assert!(message.contains(&how), "no {how:?} in {message}");
        let events = cluster.events().await;
        let told: Vec<_> = events.iter().filter(|(reason, _)| reason == "MemberFailed").collect();
        assert!(!told.is_empty() && told.iter().all(|(_, note)| note.contains(&how)), "{how:?}: {events:?}");
        let seen = sampler.so_far();
        assert!(
            seen.made.iter().all(|member| *member == failure.member),
            "only the first one: {:?}",
            seen.made
        );
        let now = cluster.pod_uids().await;
        assert!(now.iter().all(|(name, uid)| (*name == failure.member) == (uids[name] != *uid)));
        cluster.assert_version("3.5.9").await;

        // It stays so until the spec changes.
        let runs = cluster.runs().await;
        let until = Instant::now() + Duration::from_secs(8);
        while Instant::now() < until {
            cluster.stalled("MemberFailed", Duration::ZERO).await;
            assert_eq!(cluster.runs().await, runs);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        cluster.rolled(json!({ "etcd": null, "pod": { "env": null } })).await;
        cluster.assert_version("3.5.10").await;
        assert_nothing_lost(writers).await;
        sampler.stop().assert_one_away_at_a_time();
        assert_eq!(cluster.identity().await, before);
        let events: Vec<String> = cluster.events().await.into_iter().map(|(reason, _)| reason).collect();
        for reason in ["MemberFailed", "MemberPutBack", "RolloutCompleted"] {
            assert!(events.iter().any(|event| event == reason), "no {reason} in {events:?}");
        }
    });
}

/// How a run of a container ended, and all that it printed.
struct EndedRun {
    how: ContainerStateTerminated,
    log: String,
}

/// Notes, by container, each run before the present one of a member's container, while the kubelet has it.
async fn note_ended_runs(cluster: &Cluster, ended: &mut BTreeMap<String, EndedRun>) -> Infallible {
    let last_run = |pod: &Pod| {
        let containers = pod.status.as_ref()?.container_statuses.as_ref()?;
        containers.first()?.last_state.as_ref()?.terminated.clone()
    };
    let previous = LogParams { previous: true, ..LogParams::default() };
    loop {
        for (name, pod) in cluster.pods().await {
            let Some((id, how)) = last_run(&pod).and_then(|how| Some((how.container_id.clone()?, how)))
            else {
                continue;
            };
            let Ok(log) = cluster.api::<Pod>().logs(&name, &previous).await else { continue };
            // Another run may have ended meanwhile.
            let is_the_same = |pod: &Pod| last_run(pod).is_some_and(|now| now == how);
            if cluster.pods().await.get(&name).is_some_and(is_the_same) {
                ended.insert(id, EndedRun { how, log });
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The end of what the run printed that had ended last when the member was given up, and how that run ended.
fn assert_is_of_the_run_before(failure: &FailureStatus, ended: &BTreeMap<String, EndedRun>) {
    let finished = |run: &&EndedRun| run.how.finished_at.as_ref().map_or(Timestamp::MAX, |time| time.0);
    let before = ended.values().filter(|run| finished(run) <= failure.time.0).max_by_key(finished);
    let before = before.expect("a run before the present one");
    let printed: Vec<&str> = before.log.lines().collect();
    assert!(printed.len() > LINES_KEPT, "{} lines would show no limit", printed.len());
    let kept = failure.log.as_deref().expect("a log");
    assert_eq!(kept.lines().collect::<Vec<_>>(), printed[printed.len() - LINES_KEPT..]);
    let same = ended.values().filter(|run| run.log.ends_with(kept)).count();
    assert_eq!(same, 1, "the log says which of {} runs it is of", ended.len());
    assert!(kept.contains("max-wals"), "{kept}");
    assert_eq!(failure.exit_code, Some(before.how.exit_code));
}

/// Without a writer: there is nothing to write to before the correction.
#[test]
fn a_mistake_in_the_first_spec_is_corrected_before_anything_served() {
    run("first-mistake", async |space| {
        let _operator = space.operator();
        let cluster = space.cluster("etcd");
        let mut wrong = spec("3.5.99", 3);
        wrong["rollout"]["memberDeadline"] = json!("5s");
        cluster.create(wrong).await;
        let message = cluster.stalled("Bootstrapping", Duration::from_mins(1)).await;
        assert!(message.contains("etcd-0"), "{message}");
        cluster.rolled(json!({ "version": "3.5.10" })).await;
        cluster.decided("3.5.10").await;
        assert_eq!(cluster.status().await.last_failure, None);
        cluster.ready(SAID_WITHIN).await;
    });
}
