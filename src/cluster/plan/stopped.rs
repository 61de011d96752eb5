//! Whether nothing of a member runs any more. An old member that lives on somewhere can form the old quorum with others, and
//! acknowledge writes that are lost when it meets the new one (measured), so before a cluster is made anew each must be
//! proven stopped: its Pod ended by the kubelet, its node gone, or a person's word that the node is shut down.

use super::view::View;
use crate::cluster::names::MemberName;
use crate::cluster::observation::{NodeTrouble, Ownership, PodFacts};

/// What is known of where a member runs.
pub(super) enum Whereabouts<'a> {
    /// Nothing of it runs, and no Pod of it can start.
    Stopped,
    /// Its Pod stands where it can be told to go, and can be seen to be gone.
    Standing(&'a PodFacts),
    /// Its Pod is on its way out.
    Going,
    /// Something of it may run.
    Unknown {
        /// What that would be.
        why: String,
        /// What proves that it does not.
        remedy: String,
    },
}

pub(super) fn whereabouts<'a>(view: &View<'a>, member: &MemberName) -> Whereabouts<'a> {
    let Some(nodes) = view.world.recovery.nodes.as_ref() else {
        return Whereabouts::Unknown {
            why: format!("whether {member} still runs cannot be told: the operator may not read nodes"),
            remedy: "let it get and list nodes, as the chart does where it watches all namespaces".to_owned(),
        };
    };
    let pod = view.pod(member);
    if let Some(pod) = pod.filter(|pod| pod.ownership != Ownership::Ours) {
        return Whereabouts::Unknown {
            why: format!("the Pod {member} is none of this cluster's"),
            remedy: format!("remove it: kubectl delete pod {member}, uid {}", pod.uid),
        };
    }
    let Some(node) = pod.and_then(|pod| pod.node.as_ref()) else {
        // Whoever force-deletes a Pod on a node that is silent leaves its process behind.
        let ran_on = last_node(view, member).map(|node| vec![node]);
        let silent = |node: &&String| nodes.get(*node) == Some(&Some(NodeTrouble::NotReady));
        let suspects: Vec<String> =
            ran_on.unwrap_or_else(|| nodes.keys().collect()).into_iter().filter(silent).cloned().collect();
        return match (suspects.is_empty(), pod) {
            (false, _) => may_run(member, &suspects),
            (true, Some(pod)) if pod.deleting => Whereabouts::Going,
            (true, Some(pod)) => Whereabouts::Standing(pod),
            (true, None) => Whereabouts::Stopped,
        };
    };
    let ended = pod.is_some_and(|pod| pod.ended);
    match nodes.get(node).copied() {
        None | Some(Some(NodeTrouble::Gone | NodeTrouble::OutOfService)) => Whereabouts::Stopped,
        Some(Some(NodeTrouble::NotReady)) if ended => Whereabouts::Stopped,
        Some(Some(NodeTrouble::NotReady)) => may_run(member, std::slice::from_ref(node)),
        Some(_) => match pod {
            Some(pod) if pod.deleting => Whereabouts::Going,
            Some(pod) => Whereabouts::Standing(pod),
            None => Whereabouts::Stopped,
        },
    }
}

fn last_node<'a>(view: &View<'a>, member: &MemberName) -> Option<&'a String> {
    let name = member.to_string();
    view.world.cluster.status.members.iter().find(|row| row.name == name)?.node.as_ref()
}

fn may_run<'a>(member: &MemberName, nodes: &[String]) -> Whereabouts<'a> {
    let node = nodes.first().map(String::as_str).unwrap_or_default();
    Whereabouts::Unknown {
        why: format!("{member} may still run on {}, which is not ready", nodes.join(" or ")),
        remedy: format!(
            "once it is switched off for sure, kubectl delete node {node}, or kubectl taint node {node} \
             node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
        ),
    }
}
