//! What a member's log tells that the kubelet does not: how far a start has come that does not serve yet, and why one ended.
//! While etcd opens its data it answers nobody, and that may take minutes: without the log, one that is slow would look
//! like one that is stuck.

use super::api;
use super::remembered::Remembered;
use crate::cluster::context::Context;
use crate::cluster::names::MemberName;
use crate::cluster::objects::container::CONTAINER;
use crate::cluster::observation::Observation;
use crate::etcd::logs::stages_of_a_start;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use std::collections::BTreeMap;
use std::time::Duration;

/// Starts shorter than this are not asked about.
const USUAL: i64 = 10;
/// Between two looks into the log of one container.
const KNOWN_FOR: Duration = Duration::from_secs(5);
/// A start is told in the first lines of a log; what follows repeats itself.
const MOST: i64 = 256 << 10;

/// What an ended run says does not change.
const END_KNOWN_FOR: Duration = Duration::from_mins(10);
/// Go ends a panic so. Its cause stands above a stack that is longer than the 2,048 bytes which the kubelet keeps.
const PANICKED: i32 = 2;
/// Lines from a log's end in which the cause of a panic stands.
const LAST_LINES: i64 = 120;
/// Bytes of it: they may come to stand in the status.
const LONGEST_END: usize = 16 << 10;

/// What was read of logs, by a container's Pod, by its UID, and its restarts.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Starts {
    stages: Remembered<u32>,
    ends: Remembered<String>,
}

/// Notes for each member that runs and does not serve how many stages of a start its log tells of, and for each that ended
/// with a panic its last words, in full.
pub(super) async fn look_into_logs(ctx: &Context, world: &mut Observation) {
    how_far_starts_have_come(ctx, world).await;
    why_panics_ended(ctx, world).await;
}

async fn how_far_starts_have_come(ctx: &Context, world: &mut Observation) {
    let slow: BTreeMap<String, MemberName> = world
        .pods
        .iter()
        .filter(|(member, pod)| {
            let runs = pod.container.runs_for(world.now).is_some_and(|seconds| seconds >= USUAL);
            let serves = world.answers.get(*member).is_some_and(|answer| answer.read.is_ok());
            runs && !serves && !pod.deleting
        })
        .map(|(member, pod)| (format!("{}/{}", pod.uid, pod.container.restarts), member.clone()))
        .collect();
    let pods = &api::<Pod>(ctx, &world.cluster.namespace);
    let read = |start: String| {
        let member = slow.get(&start).map(ToString::to_string).unwrap_or_default();
        async move {
            let params = LogParams {
                container: Some(CONTAINER.to_owned()),
                limit_bytes: Some(MOST),
                ..LogParams::default()
            };
            Ok((stages_of_a_start(&pods.logs(&member, &params).await?), KNOWN_FOR))
        }
    };
    let starts = slow.keys().cloned().collect();
    for (start, stages) in ctx.starts.stages.of(&starts, KNOWN_FOR, read).await {
        if let Some(pod) = slow.get(&start).and_then(|member| world.pods.get_mut(member)) {
            pod.container.came_to = stages;
        }
    }
}

async fn why_panics_ended(ctx: &Context, world: &mut Observation) {
    // Of each the run that ended last: the one before, where another runs.
    let panicked: BTreeMap<String, (MemberName, bool)> = world
        .pods
        .iter()
        .filter(|(member, pod)| {
            let silent = world.answers.get(*member).is_none_or(|answer| answer.status.is_err());
            pod.container.exit_code == Some(PANICKED) && silent && !pod.deleting
        })
        .map(|(member, pod)| {
            let previous = pod.container.running_since.is_some();
            let run = pod.container.restarts - i32::from(previous);
            (format!("{}/{run}", pod.uid), (member.clone(), previous))
        })
        .collect();
    let pods = &api::<Pod>(ctx, &world.cluster.namespace);
    let read = |run: String| {
        let of = panicked.get(&run).map(|(member, previous)| (member.to_string(), *previous));
        let (member, previous) = of.unwrap_or_default();
        async move {
            let params = LogParams {
                container: Some(CONTAINER.to_owned()),
                previous,
                tail_lines: Some(LAST_LINES),
                limit_bytes: Some(MOST),
                ..LogParams::default()
            };
            let log = pods.logs(&member, &params).await?;
            let from = log.len().saturating_sub(LONGEST_END);
            Ok((String::from_utf8_lossy(&log.as_bytes()[from..]).into_owned(), END_KNOWN_FOR))
        }
    };
    let runs = panicked.keys().cloned().collect();
    for (run, log) in ctx.starts.ends.of(&runs, KNOWN_FOR, read).await {
        let pod = panicked.get(&run).and_then(|(member, _)| world.pods.get_mut(member));
        let words = pod.and_then(|pod| pod.container.last_words.as_mut());
        // What the kubelet answers where there is no log any more is shorter.
        if let Some(words) = words.filter(|words| words.len() < log.len()) {
            *words = log;
        }
    }
}
