//! Data that is gone. Starting a member on an empty volume under its old id would break raft, and a
//! new cluster under the old name would hide the loss: neither is ever done.

use super::step::Next;
use super::view::View;
use crate::api::Code;
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::observation::PodFacts;
use crate::etcd::logs::says_data_dir_is_empty;
use std::fmt;

pub(super) fn all_members(view: &View<'_>) -> Option<Next> {
    (!refusals(view).is_empty()).then_some(Next::Refused)
}

/// Every member's data is gone.
pub(super) fn refusals(view: &View<'_>) -> Vec<Notice> {
    let Some(id) = view.cluster_id() else { return Vec::new() };
    let voters = view.voters();
    let namespace = &view.world.cluster.namespace;
    if voters.is_empty() {
        return vec![Notice::new(
            Code::AllMembersLost,
            format!("cluster {id} has no volume claim left in namespace {namespace}"),
            "bring the volume claims back, or restore a backup into a new EtcdCluster of another name",
        )];
    }
    let lost = lost(view);
    if lost.len() < voters.len() {
        return Vec::new();
    }
    let names: Vec<String> = lost.iter().map(|(member, how)| format!("{member} ({how})")).collect();
    vec![Notice::new(
        Code::AllMembersLost,
        format!("the data of every member of cluster {id} is gone: {}", names.join(", ")),
        "bring the volumes back, or delete this EtcdCluster and its claims and restore a backup into a new one",
    )]
}

/// How it shows that a member has no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It has no volume claim. One that a Pod uses does not go, so while that stands something else is wrong with it.
    NoClaim,
    /// etcd found its directory empty. So it does on a disk that is not mounted yet, or cannot be read.
    EmptyVolume,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoClaim => "no volume claim",
            Self::EmptyVolume => "empty volume",
        })
    }
}

/// Voters without data, and how it shows.
pub(super) fn lost(view: &View<'_>) -> Vec<(MemberName, Loss)> {
    view.voters().keys().filter_map(|member| Some((member.clone(), loss_of(view, member)?))).collect()
}

/// How it shows that a voter has no data, where it does.
fn loss_of(view: &View<'_>, member: &MemberName) -> Option<Loss> {
    view.cluster_id().filter(|_| view.voters().contains_key(member))?;
    if view.claim_of(member).is_some() {
        return shows_an_empty_volume(view, member).then_some(Loss::EmptyVolume);
    }
    let uses_a_claim = |pod: &PodFacts| pod.node.is_some() && !pod.deleting;
    let is_gone = !view.world.set_aside.contains_key(member) && !view.pod(member).is_some_and(uses_a_claim);
    is_gone.then_some(Loss::NoClaim)
}

/// Whether what shows has lasted: a claim that is gone is gone; a directory is empty once etcd has found it so again and
/// again, for as long as a member may be down.
pub(super) fn is_beyond_doubt(view: &View<'_>, member: &MemberName, loss: Loss) -> bool {
    const STARTS: i32 = 2;
    let again = view.pod(member).is_some_and(|pod| pod.container.restarts >= STARTS);
    loss == Loss::NoClaim || (again && view.has_been_waited_for_too_long(member))
}

/// Whether a member's etcd said that it found nothing, where it would have had to find its data.
pub(super) fn shows_an_empty_volume(view: &View<'_>, member: &MemberName) -> bool {
    // At its first start a member that joins says the same where it reaches none of the others. The kubelet shows the
    // words of a start for as long as the next one runs.
    let is_of_a_guarded_start = |pod: &&PodFacts| !pod.unguarded && pod.container.running_since.is_none();
    let Some(pod) = view.pod(member).filter(is_of_a_guarded_start) else { return false };
    let silent = view.answer(member).is_none_or(|answer| answer.status.is_err());
    silent && pod.container.last_words.as_deref().is_some_and(says_data_dir_is_empty)
}

/// Whether a member's data is known to be gone.
pub(super) fn is_lost(view: &View<'_>, member: &MemberName) -> bool {
    loss_of(view, member).is_some()
}
