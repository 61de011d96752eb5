//! The Services and the disruption budget.

use super::step::{Next, Step};
use super::view::View;
use crate::cluster::objects::support;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

pub(super) fn services_and_budget(view: &View<'_>) -> Option<Next> {
    let world = view.world;
    let (namespace, name, spec) = (&world.cluster.namespace, &world.cluster.name, &world.cluster.spec);
    let voters = budgeted_voters(view)?;
    // Ownership is another concern; here only what the objects say is compared.
    let bare = |mut metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
        metadata.owner_references = None;
        metadata
    };
    let mut headless = support::headless(namespace, name, spec, OwnerReference::default());
    let mut client = support::client(namespace, name, spec, OwnerReference::default());
    let mut budget = support::budget(namespace, name, voters, OwnerReference::default());
    headless.metadata = bare(headless.metadata);
    client.metadata = bare(client.metadata);
    budget.metadata = bare(budget.metadata);
    let settled = world.headless.as_ref().is_some_and(|live| support::says(live, &headless))
        && world.client.as_ref().is_some_and(|live| support::says(live, &client))
        && world.budget.as_ref().is_some_and(|live| support::says(live, &budget));
    (!settled).then_some(Next::Do(Step::ApplySupport { voters }))
}

/// Live voters or voters wanted, whichever is more: a budget that is too strict makes people wait, one
/// that is too loose loses quorum.
fn budgeted_voters(view: &View<'_>) -> Option<usize> {
    let live = view.members().len();
    let wanted = match view.cluster_id() {
        Some(_) => 0,
        None => view.desired.as_ref().map_or(0, |desired| desired.replicas as usize),
    };
    Some(live.max(wanted)).filter(|voters| *voters > 0)
}
