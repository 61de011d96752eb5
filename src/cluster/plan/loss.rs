//! Data that is gone, cannot be opened, or is out of reach for good. Starting a member on an empty volume under its old
//! id would break raft, and a new cluster under the old name would hide the loss: neither is ever done. What is not
//! proven here is never answered by taking data away.

use super::resize::is_claimed_to_be_removed;
use super::step::Next;
use super::view::View;
use crate::api::Code;
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::observation::{NodeTrouble, PodFacts};
use crate::etcd::logs::{says_data_dir_is_empty, says_data_is_unusable};
use std::fmt;

pub(super) fn all_members(view: &View<'_>) -> Option<Next> {
    (!refusals(view).is_empty()).then_some(Next::Refused)
}

/// Every member's data is gone.
pub(super) fn refusals(view: &View<'_>) -> Vec<Notice> {
    let Some(id) = view.cluster_id() else { return Vec::new() };
    let voters = view.voters();
    let namespace = &view.world.cluster.namespace;
    if voters.is_empty() && view.keeps_data_in_pods() {
        return vec![Notice::new(
            Code::AllMembersLost,
            format!("the members of cluster {id} kept their data in their Pods, and all of these are gone"),
            "delete this EtcdCluster and restore a backup into a new one",
        )];
    }
    if voters.is_empty() {
        return vec![Notice::new(
            Code::AllMembersLost,
            format!("cluster {id} has no volume claim left in namespace {namespace}"),
            "bring the volume claims back, or restore a backup into a new EtcdCluster of another name",
        )];
    }
    let mut lost = lost(view);
    lost.retain(|(_, how)| how.is_of_data());
    if lost.len() < voters.len() {
        return Vec::new();
    }
    let names: Vec<String> = lost.iter().map(|(member, how)| format!("{member} ({how})")).collect();
    vec![Notice::new(
        Code::AllMembersLost,
        format!("the data of every member of cluster {id} is lost: {}", names.join(", ")),
        if view.keeps_data_in_pods() {
            "delete this EtcdCluster and restore a backup into a new one"
        } else {
            "bring the volumes back, or delete this EtcdCluster and its claims and restore a backup into a new one"
        },
    )]
}

/// How it shows that a member has no data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It has no volume claim. One that a Pod uses does not go, so while that stands something else is wrong with it.
    NoClaim,
    /// Its Pod is gone, and it kept its data there.
    WithItsPod,
    /// etcd found its directory empty. So it does on a disk that is not mounted yet, or cannot be read.
    EmptyVolume,
    /// etcd cannot open what is there, and says what is wrong with it.
    Unusable(&'static str),
    /// Its volume can be used on one node alone, which has been lost for longer than one may be.
    Node(NodeTrouble),
}

impl Loss {
    /// Whether it is the data that is gone. With its node it may come back.
    const fn is_of_data(self) -> bool {
        !matches!(self, Self::Node(_))
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoClaim => f.write_str("its data is gone: no volume claim"),
            Self::WithItsPod => f.write_str("its data is gone with its Pod"),
            Self::EmptyVolume => f.write_str("its data is gone: empty volume"),
            Self::Unusable(damage) => write!(f, "etcd cannot open its data: {damage}"),
            Self::Node(trouble) => write!(f, "its data cannot follow it, and its node is {trouble}"),
        }
    }
}

/// Voters that have lost their data, or are lost with their nodes, and how it shows.
pub(super) fn lost(view: &View<'_>) -> Vec<(MemberName, Loss)> {
    view.voters().keys().filter_map(|member| Some((member.clone(), loss_of(view, member)?))).collect()
}

/// Whether a voter has lost its data, or is lost with its node for so long that it is not waited for.
pub(super) fn is_lost_for_good(view: &View<'_>, member: &MemberName) -> bool {
    loss_of(view, member).is_some()
}

fn loss_of(view: &View<'_>, member: &MemberName) -> Option<Loss> {
    loss_of_data(view, member).or_else(|| loss_with_its_node(view, member))
}

/// How it shows that a voter has no data, where it does.
fn loss_of_data(view: &View<'_>, member: &MemberName) -> Option<Loss> {
    view.cluster_id().filter(|_| view.voters().contains_key(member))?;
    if view.claim_of(member).is_some() {
        return shown_loss(view, member);
    }
    let uses_a_claim = |pod: &PodFacts| pod.node.is_some() && !pod.deleting;
    let is_gone = !view.world.set_aside.contains_key(member) && !view.pod(member).is_some_and(uses_a_claim);
    is_gone.then_some(if view.keeps_data_in_pods() { Loss::WithItsPod } else { Loss::NoClaim })
}

/// Whether a voter kept its data in its Pod, and that is gone, or is empty.
pub(super) fn went_with_its_pod(view: &View<'_>, member: &MemberName) -> bool {
    let lost = matches!(loss_of_data(view, member), Some(Loss::WithItsPod | Loss::EmptyVolume));
    lost && view.keeps_data_in_pods()
}

/// How often etcd must have said it.
const STARTS: i32 = 2;

/// Whether what shows has lasted: a claim that is gone is gone; a directory is empty once etcd has found it so again and
/// again, for as long as a member may be down.
pub(super) fn is_beyond_doubt(view: &View<'_>, member: &MemberName, loss: Loss) -> bool {
    let again = view.pod(member).is_some_and(|pod| pod.container.restarts >= STARTS);
    match loss {
        Loss::NoClaim | Loss::WithItsPod | Loss::Node(_) => true,
        Loss::EmptyVolume | Loss::Unusable(_) => again && view.has_been_waited_for_too_long(member),
    }
}

/// What a member's etcd said of its data: that it found none where it would have had to, or cannot open it.
pub(super) fn shown_loss(view: &View<'_>, member: &MemberName) -> Option<Loss> {
    // The kubelet shows the words of a start for as long as the next one runs.
    let pod = view.pod(member).filter(|pod| pod.container.running_since.is_none())?;
    told_loss(view, member, pod)
}

/// The same, where etcd has said so again and again, also while the next start runs: nothing goes to and fro with a crash
/// loop, and a disk that is mounted late is none that is lost.
pub(super) fn loss_that_lasts(view: &View<'_>, member: &MemberName) -> Option<Loss> {
    let shown = match (view.claim_of(member), view.pod(member)) {
        (Some(_), Some(pod)) => told_loss(view, member, pod)?,
        (Some(_), None) => return None,
        (None, _) => loss_of_data(view, member)?,
    };
    let again = view.pod(member).is_some_and(|pod| pod.container.restarts >= STARTS);
    (matches!(shown, Loss::NoClaim | Loss::WithItsPod) || again).then_some(shown)
}

/// The same, of the last start that ended, also while the next one runs.
fn told_loss(view: &View<'_>, member: &MemberName, pod: &PodFacts) -> Option<Loss> {
    if !is_silent(view, member) {
        return None;
    }
    let words = pod.container.last_words.as_deref()?;
    // At its first start a member that joins says the same where it reaches none of the others.
    if says_data_dir_is_empty(words) {
        return (!pod.unguarded).then_some(Loss::EmptyVolume);
    }
    says_data_is_unusable(words).map(Loss::Unusable)
}

fn is_silent(view: &View<'_>, member: &MemberName) -> bool {
    view.answer(member).is_none_or(|answer| answer.status.is_err())
}

/// Whether a member's data is known to be gone.
pub(super) fn is_lost(view: &View<'_>, member: &MemberName) -> bool {
    loss_of_data(view, member).is_some()
}

/// What is wrong with the only node on which a member's volume can be used, where it cannot come up there.
pub(super) fn lost_home<'a>(view: &View<'a>, member: &MemberName) -> Option<(&'a str, NodeTrouble)> {
    let home = view.world.homes.get(member).filter(|_| is_silent(view, member))?;
    let trouble = view.world.nodes_in_trouble.get(home).filter(|trouble| trouble.is_lost())?;
    Some((home, *trouble))
}

/// Whether it looks as if a member had lost its data, or its node; by that patience with it begins anew.
pub(super) fn seems_lost(view: &View<'_>, member: &MemberName) -> bool {
    let told = |pod: &PodFacts| told_loss(view, member, pod).is_some();
    view.pod(member).is_some_and(told) || lost_home(view, member).is_some()
}

/// Whether nothing brings a member up, whatever revision it is given: its data is gone, or its node is.
pub(super) fn is_beyond_a_revision(view: &View<'_>, member: &MemberName) -> bool {
    is_lost(view, member) || lost_home(view, member).is_some()
}

/// A node is lost for good once it has been so for as long as the spec says, while this process watched.
fn loss_with_its_node(view: &View<'_>, member: &MemberName) -> Option<Loss> {
    let after = view.desired.as_ref().ok()?.node_lost_after;
    let for_good = is_claimed_to_be_removed(view, member) || view.has_been_waited_for(member, after);
    let (_, trouble) = lost_home(view, member)?;
    for_good.then_some(Loss::Node(trouble))
}
