//! The guard: as soon as a member of a bootstrap has its WAL, its next start must not form a cluster.
//! It comes before `spec.paused` even: it changes annotations only, and without it a wiped volume comes
//! back as an empty cluster.

use super::step::{Guarded, Next, Step};
use super::view::View;
use crate::cluster::observation::Answer;

pub(super) fn members_with_a_wal(view: &View<'_>) -> Option<Next> {
    let open: Vec<Guarded> = unguarded(view);
    (!open.is_empty()).then_some(Next::Do(Step::Guard(open)))
}

/// A member that answers has its WAL: etcd writes it before it serves anything.
fn unguarded(view: &View<'_>) -> Vec<Guarded> {
    view.world
        .pods
        .iter()
        .filter(|(_, pod)| pod.bootstraps && !pod.deleting)
        .filter_map(|(member, pod)| {
            let status = view.answer(member).and_then(Answer::status)?;
            Some(Guarded { member: member.clone(), uid: pod.uid.clone(), version: status.version })
        })
        .collect()
}
