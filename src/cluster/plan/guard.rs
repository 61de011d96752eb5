//! The guard: as soon as a member has its WAL, its next start must neither form a cluster nor join one anew.
//! It comes before `spec.paused` even: it changes annotations only, and without it a wiped volume comes
//! back as an empty cluster.
//!
//! The kubelet needs a moment to take it: a container that started 1.0 s after the annotations were patched
//! still got the old ones (measured on 1.34.4), though the kubelet lists the new ones within 0.1 s. A sync of
//! the Pod that waits for the next look at the runtime, a second at most, keeps the Pod that it began with:
//! <https://github.com/kubernetes/kubernetes/blob/v1.34.4/pkg/kubelet/pod_workers.go> (`GetNewerThan`). So what
//! is wiped and restarted within that moment after it formed may start as new.

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
        .filter(|(_, pod)| pod.unguarded && !pod.deleting)
        .filter_map(|(member, pod)| {
            let status = view.answer(member).and_then(Answer::status)?;
            Some(Guarded { member: member.clone(), uid: pod.uid.clone(), version: status.version })
        })
        .collect()
}
