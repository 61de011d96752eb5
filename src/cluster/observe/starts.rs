//! How far the start of a member has come that does not serve yet, as its log tells. While etcd opens its data it answers
//! nobody, and that may take minutes: without the log, one that is slow would look like one that is stuck.

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

/// How far each container has come, by its Pod's UID and its restarts.
pub(in crate::cluster) type Starts = Remembered<u32>;

/// Notes for each member that runs and does not serve how many stages of a start its log tells of.
pub(super) async fn look_into_logs(ctx: &Context, world: &mut Observation) {
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
    for (start, stages) in ctx.starts.of(&starts, KNOWN_FOR, read).await {
        if let Some(pod) = slow.get(&start).and_then(|member| world.pods.get_mut(member)) {
            pod.container.came_to = stages;
        }
    }
}
