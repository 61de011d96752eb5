//! The Services and the disruption budget.

use super::step::{Next, Step};
use super::view::View;
use crate::cluster::objects::support;
use crate::cluster::observation::{Ownership, Patience};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

/// Steps aside for a pass after the API server said no, so that members are looked after meanwhile.
pub(super) fn services_and_budget(view: &View<'_>) -> Option<Next> {
    let voters = view.drifted_support()?;
    let step = Step::ApplySupport { voters };
    let refused = view.world.patience.subject == Patience::subject_of_refused(&step);
    (!refused || view.cluster_id().is_none()).then_some(Next::Do(step))
}

/// When nothing else is to be done, it is tried again, whatever was said before.
pub(super) fn services_and_budget_again(view: &View<'_>) -> Option<Next> {
    view.drifted_support().map(|voters| Next::Do(Step::ApplySupport { voters }))
}

/// For how many voters Services and budget must be written, where they say something else.
pub(super) fn drifted(view: &View<'_>) -> Option<usize> {
    let world = view.world;
    let (namespace, name, spec) = (&world.cluster.namespace, &world.cluster.name, &world.cluster.spec);
    let voters = budgeted_voters(view)?;
    // Ownership is another concern; here only what the objects say is compared.
    let nobody = OwnerReference::default;
    let settled = world
        .headless
        .as_ref()
        .is_some_and(|live| support::headless(namespace, name, spec, nobody()).is_said_by(live))
        && world
            .client
            .as_ref()
            .is_some_and(|live| support::client(namespace, name, spec, nobody()).is_said_by(live))
        && world
            .budget
            .as_ref()
            .is_some_and(|live| support::budget(namespace, name, voters, nobody()).is_said_by(live));
    (!settled).then_some(voters)
}

/// Voters, or Pods that are labelled as theirs, whichever is more: a budget that is too strict makes people wait, one
/// that is too loose loses quorum. One that was removed may still stand there; and who has got its vote is not
/// labelled before the budget counts it. The number that the spec asks for does not matter (docs/adr/0013).
fn budgeted_voters(view: &View<'_>) -> Option<usize> {
    let labelled = view.world.pods.values();
    let labelled = labelled.filter(|pod| pod.ownership == Ownership::Ours && !pod.learner && !pod.deleting);
    // While one comes or goes, all that are there stay: one more is asked for than there are.
    let changes = view.claimed().is_some_and(|(progress, member)| {
        let is_there = || view.claim_of(&member).is_some_and(|claim| claim.opened.is_some());
        progress.action.removes() || (progress.action.changes_the_list() && is_there())
    });
    let live =
        view.members().len().max(labelled.count()) + usize::from(changes && view.cluster_id().is_some());
    let wanted = match view.cluster_id() {
        Some(_) => 0,
        None => view.desired.as_ref().map_or(0, |desired| desired.replicas as usize),
    };
    Some(live.max(wanted)).filter(|voters| *voters > 0)
}
