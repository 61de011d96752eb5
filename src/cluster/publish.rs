//! Publish: writes the status where it changed, and the Events. I/O; it decides nothing.

use super::context::Context;
use super::observation::Observation;
use super::plan::{Next, Plan, Record, Step};
use super::report::{News, Outcome, Report};
use crate::api::EtcdCluster;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Resource};

/// Notes of Events are refused above 1,024 characters.
const LONGEST_NOTE: usize = 1_000;

/// Writes the report of a pass. The status is a compare-and-swap against the observation, so that a
/// claim is never made on what somebody else has changed meanwhile.
///
/// # Errors
/// When the status cannot be written, a conflict included. Events that cannot be written are logged.
pub async fn publish(
    ctx: &Context,
    world: &Observation,
    plan: &Plan,
    outcome: &Outcome,
    report: Report,
) -> Result<(), kube::Error> {
    let cluster = &world.cluster;
    ctx.metrics.conditions(&cluster.namespace, &cluster.name, &report.status.conditions);
    ctx.metrics.refusals(&cluster.namespace, &cluster.name, plan.refusals.iter().map(|notice| notice.code));
    let must_be_written = matches!(plan.next, Next::Do(Step::Record(_)));
    if report.status != cluster.status || must_be_written {
        let mut object = EtcdCluster::new(&cluster.name, cluster.spec.clone());
        object.metadata = ObjectMeta {
            name: Some(cluster.name.clone()),
            namespace: Some(cluster.namespace.clone()),
            resource_version: Some(cluster.resource_version.clone()),
            ..ObjectMeta::default()
        };
        object.status = Some(report.status);
        let api = Api::<EtcdCluster>::namespaced(ctx.client.clone(), &cluster.namespace);
        let written = api.replace_status(&cluster.name, &PostParams::default(), &object).await;
        match written {
            // The object went away under us; there is nobody left to tell.
            Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
            result => result?,
        };
    }
    let step = plan.next.step();
    if let Some(step) = step.filter(|_| outcome.refused.is_none()) {
        if let Step::Record(Record::Claim(claim)) = step {
            tracing::info!(member = %claim.member, revision = claim.revision, action = ?claim.action, "claimed");
        } else {
            tracing::info!(step = step.name(), "done");
        }
    }
    for news in &report.news {
        ctx.metrics.step(news.action, news.code);
        tell(ctx, world, news).await;
    }
    Ok(())
}

async fn tell(ctx: &Context, world: &Observation, news: &News) {
    if news.is_warning() {
        tracing::warn!(code = %news.code, action = news.action, "{}", news.note);
    } else {
        tracing::info!(code = %news.code, action = news.action, "{}", news.note);
    }
    let cluster = &world.cluster;
    let reference = |kind: &str, api: &str, name: &str, uid: Option<String>| ObjectReference {
        api_version: Some(api.to_owned()),
        kind: Some(kind.to_owned()),
        name: Some(name.to_owned()),
        namespace: Some(cluster.namespace.clone()),
        uid,
        ..ObjectReference::default()
    };
    let about = news.pod.as_deref().map(|pod| {
        let uid = world
            .pods
            .iter()
            .find(|(member, _)| member.to_string() == pod)
            .map(|(_, facts)| facts.uid.clone());
        reference("Pod", "v1", pod, uid)
    });
    let event = Event {
        type_: if news.is_warning() { EventType::Warning } else { EventType::Normal },
        reason: news.code.as_str().to_owned(),
        note: Some(news.note.chars().take(LONGEST_NOTE).collect()),
        action: news.action.to_owned(),
        secondary: about,
    };
    let regarding = reference(
        &EtcdCluster::kind(&()),
        &EtcdCluster::api_version(&()),
        &cluster.name,
        Some(cluster.uid.clone()),
    );
    // A recorder of its own for each Event: a kept one would fold the next of this reason into a series
    // that goes on showing the old note.
    if let Err(error) =
        Recorder::new(ctx.client.clone(), ctx.reporter.clone()).publish(&event, &regarding).await
    {
        tracing::warn!(code = %news.code, %error, "the Event could not be written");
    }
}
