//! What a roll leaves behind: probe Pods, and revisions that nothing refers to any more.

use super::step::{Next, Step};
use super::view::View;
use std::collections::BTreeSet;

pub(super) fn what_is_left_behind(view: &View<'_>) -> Option<Next> {
    let world = view.world;
    view.cluster_id()?;
    if !view.outdated().is_empty() || view.claimed().is_some() {
        return None;
    }
    if !world.probes.is_empty() {
        return Some(Next::Do(Step::delete_probes(world.probes.iter())));
    }
    let target = view.target.as_ref()?;
    let used: BTreeSet<&str> = world
        .pods
        .values()
        .map(|pod| pod.revision.as_str())
        .chain(
            world
                .claims
                .values()
                .flat_map(|claim| [claim.assigned.as_deref(), claim.good.as_deref()])
                .flatten(),
        )
        .chain([target.name.as_str()])
        .collect();
    let unused: Vec<String> =
        world.revisions.keys().filter(|name| !used.contains(name.as_str())).cloned().collect();
    (!unused.is_empty()).then_some(Next::Do(Step::DeleteRevisions(unused)))
}
