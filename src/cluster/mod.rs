//! The loop of one cluster: observe (I/O) → plan (pure) → act (I/O) → report (pure).

#[allow(clippy::disallowed_types, reason = "carries steps out through the API server")]
pub mod act;
#[allow(clippy::disallowed_types, reason = "holds the client for the I/O files")]
pub mod context;
#[allow(clippy::disallowed_types, reason = "watches")]
pub mod controller;
#[cfg(test)]
mod fixtures;
pub mod names;
pub mod notice;
pub mod objects;
pub mod observation;
#[allow(clippy::disallowed_types, reason = "reads through the API server")]
pub mod observe;
pub mod plan;
#[allow(clippy::disallowed_types, reason = "writes status and Events")]
pub mod publish;
pub mod rbac;
pub mod report;
pub mod revision;
pub mod spec;
pub mod windows;
pub mod wire;

use crate::process::kubernetes::one_line;
use context::Context;
use plan::{Next, Plan};
use report::Outcome;
use std::time::Duration;

/// Why a pass failed. The next one observes anew.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not answer a read.
    #[error("cannot observe: {}", one_line(.0))]
    Observe(#[source] kube::Error),
    /// A step was not carried out.
    #[error("cannot carry out {step}: {source}")]
    Act {
        /// Which.
        step: &'static str,
        /// Why.
        #[source]
        source: act::ActError,
    },
    /// The status was not written.
    #[error("cannot write the status: {}", one_line(.0))]
    Publish(#[source] kube::Error),
}

impl Error {
    /// A word of a closed list, for metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Observe(_) => "observe",
            Self::Act { .. } => "act",
            Self::Publish(kube::Error::Api(status)) if status.is_conflict() => "conflict",
            Self::Publish(_) => "publish",
        }
    }
}

/// One pass over one cluster. Killing the process between any two lines is harmless: whatever a later
/// line relies on is in etcd, in Kubernetes objects, or in the status.
///
/// # Errors
/// See [`Error`]. The caller tries again, later each time.
pub async fn reconcile(ctx: &Context, namespace: &str, name: &str) -> Result<Option<Duration>, Error> {
    // Boxed: an observation's future is large, and there may be a thousand of them.
    let observed = Box::pin(observe::observe(ctx, namespace, name)).await;
    let Some(world) = observed.map_err(Error::Observe)? else {
        ctx.forget(namespace, name);
        return Ok(None);
    };
    let plan = plan::plan(&world);
    let outcome = match plan.next.step() {
        Some(step) => match act::act(ctx, &world, step).await {
            Ok(outcome) => outcome,
            // A no is a fact that people must see; silence is an error, and the next pass tries again.
            Err(source) => match source.answer() {
                Some(notice) => Outcome { refused: Some(notice), log: None },
                None => return Err(Error::Act { step: step.name(), source }),
            },
        },
        None => Outcome::default(),
    };
    let report = report::report(&world, &plan, &outcome, ctx.docs_url.as_deref());
    publish::publish(ctx, &world, &plan, &outcome, report).await.map_err(Error::Publish)?;
    let repeats = ctx.watched(&world.cluster.uid, &plan, &outcome);
    Ok(Some(next_look(&plan, &outcome, name, repeats)))
}

/// From a fifth of a second to half a minute.
fn back_off(repeats: u32) -> Duration {
    Duration::from_millis(200 << repeats.min(8)).min(Duration::from_secs(30))
}

/// When to look again. Watches tell of changes in Kubernetes; etcd has no watch for health.
fn next_look(plan: &Plan, outcome: &Outcome, name: &str, repeats: u32) -> Duration {
    match &plan.next {
        Next::Do(_) if outcome.refused.is_some() => back_off(repeats),
        // Each one brings the snapshot nearer, and the planner counts them.
        Next::Do(plan::Step::Propose { .. }) => Duration::ZERO,
        // The same step again and again changes nothing that is observed.
        Next::Do(_) if repeats > 8 => back_off(repeats - 8),
        Next::Do(_) => Duration::ZERO,
        Next::Wait(wait) if wait.overdue => Duration::from_secs(2),
        Next::Wait(wait) if wait.close => Duration::from_millis(150),
        Next::Wait(_) => Duration::from_secs(1),
        // Spread, so that a thousand clusters are not looked at in the same moment.
        Next::Refused | Next::Paused | Next::Settled => {
            let spread: u64 = name.bytes().map(u64::from).sum::<u64>() % 4_000;
            Duration::from_millis(10_000 + spread)
        }
    }
}
