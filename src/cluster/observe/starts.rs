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
    let panicked: BTreeMap<String, MemberName> = world
        .pods
        .iter()
        .filter(|(_, pod)| {
            let container = &pod.container;
            container.exit_code == Some(PANICKED) && container.running_since.is_none() && !pod.deleting
        })
        .map(|(member, pod)| (format!("{}/{}", pod.uid, pod.container.restarts), member.clone()))
        .collect();
    let pods = &api::<Pod>(ctx, &world.cluster.namespace);
    let read = |start: String| {
        let member = panicked.get(&start).map(ToString::to_string).unwrap_or_default();
        async move {
            let params = LogParams {
                container: Some(CONTAINER.to_owned()),
                tail_lines: Some(LAST_LINES),
                limit_bytes: Some(MOST),
                ..LogParams::default()
            };
            Ok((pods.logs(&member, &params).await?, END_KNOWN_FOR))
        }
    };
    let starts = panicked.keys().cloned().collect();
    for (start, log) in ctx.starts.ends.of(&starts, KNOWN_FOR, read).await {
        let pod = panicked.get(&start).and_then(|member| world.pods.get_mut(member));
        // What the kubelet answers where there is no log any more is shorter.
        if let Some(words) =
            pod.and_then(|pod| pod.container.last_words.as_mut()).filter(|words| words.len() < log.len())
        {
            *words = log;
        }
    }
}
