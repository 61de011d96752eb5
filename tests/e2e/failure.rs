//! Changes that do not work: they cost nothing, or one restart of one member.

use crate::support::cluster::{condition, spec};
use crate::support::sampler::{Sampler, assert_nothing_lost};
use crate::support::{ROLLED_WITHIN, SAID_WITHIN, run};
use quorate::api::ConditionType;
use serde_json::json;
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
        let message = cluster.stalled("MemberFailed", ROLLED_WITHIN).await;
        assert!(message.contains("3.5.10"), "{message}");

        let failure = cluster.status().await.last_failure.expect("evidence");
        assert_eq!(failure.version, "3.5.10");
        // The end of a run that had ended: its last word is why.
        let kept = failure.log.as_deref().expect("a log");
        assert_eq!(kept.lines().count(), LINES_KEPT, "{kept}");
        assert!(kept.contains("max-wals"), "{kept}");
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
        let events = cluster.event_reasons().await;
        for reason in ["MemberFailed", "MemberPutBack", "RolloutCompleted"] {
            assert!(events.iter().any(|event| event == reason), "no {reason} in {events:?}");
        }
    });
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
