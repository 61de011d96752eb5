//! Whether nothing of a member runs any more. An old member that lives on somewhere can form the old quorum with others, and
//! acknowledge writes that are lost when it meets the new one (measured), so before a cluster is made anew each must be
//! proven stopped: its Pod ended by the kubelet, its node gone, or a person's word that the node is shut down.

use super::view::View;
use crate::cluster::names::MemberName;
use crate::cluster::observation::{NodeTrouble, Ownership, PodFacts};
use std::collections::BTreeSet;

/// What is known of where a member runs.
pub(super) enum Whereabouts<'a> {
    /// Nothing of it runs. The object of a Pod may be there still, on a node that is no more.
    Stopped(Option<&'a PodFacts>),
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
    if pod.is_some_and(|pod| pod.ownership != Ownership::Ours) {
        let namespace = &view.world.cluster.namespace;
        return Whereabouts::Unknown {
            why: format!("the Pod {member} is none of this cluster's"),
            remedy: format!("remove it: kubectl delete pod -n {namespace} {member}"),
        };
    }
    let here = pod.and_then(|pod| pod.node.as_ref());
    // Whoever force-deletes a Pod on a node that is silent leaves its process behind, whatever was made in its place.
    let last = last_node(view, member);
    let silent = |node: &&String| nodes.get(*node) == Some(&Some(NodeTrouble::NotReady));
    let ended_here = |node: &&String| here == Some(*node) && pod.is_some_and(|pod| pod.ended);
    let known: Vec<&String> = here.into_iter().chain(last).collect();
    let asked: Vec<&String> = if known.is_empty() { nodes.keys().collect() } else { known };
    let suspects = asked.into_iter().filter(silent).filter(|node| !ended_here(node));
    let suspects: BTreeSet<&str> = suspects.map(String::as_str).collect();
    if let Some(first) = suspects.first() {
        return may_run(member, first, &suspects);
    }
    let Some(pod) = pod else { return Whereabouts::Stopped(None) };
    let is_alive = |node: &String| {
        !matches!(nodes.get(node), None | Some(Some(NodeTrouble::Gone | NodeTrouble::OutOfService)))
    };
    let is_silent = here.is_some_and(|node| silent(&node));
    match (here.is_none_or(is_alive) && !is_silent, pod.deleting) {
        (false, _) => Whereabouts::Stopped(Some(pod)),
        (true, true) => Whereabouts::Going,
        (true, false) => Whereabouts::Standing(pod),
    }
}

/// Everybody else of this cluster, whatever is left of them.
pub(super) fn others(view: &View<'_>, survivor: &MemberName) -> BTreeSet<MemberName> {
    let voters = view.voters().keys();
    let claims = view.own_claims().map(|(member, _)| member);
    let all = voters.chain(view.world.pods.keys()).chain(claims);
    all.filter(|member| *member != survivor).cloned().collect()
}

fn last_node<'a>(view: &View<'a>, member: &MemberName) -> Option<&'a String> {
    let name = member.to_string();
    view.world.cluster.status.members.iter().find(|row| row.name == name)?.node.as_ref()
}

fn may_run<'a>(member: &MemberName, node: &str, nodes: &BTreeSet<&str>) -> Whereabouts<'a> {
    let all: Vec<&str> = nodes.iter().copied().collect();
    Whereabouts::Unknown {
        why: format!("{member} may still run on {}, which is not ready", all.join(" or ")),
        remedy: format!(
            "once it is switched off for sure, kubectl delete node {node}, or kubectl taint node {node} \
             node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::MemberStatus;
    use crate::cluster::fixtures::{healthy, member};
    use rstest::rstest;

    /// Where member 1 runs, whose Pod is on `here` and ran last on `last`.
    fn answer(here: Option<&str>, last: Option<&str>, silent: &[&str], out: &[&str], ended: bool) -> String {
        let mut world = healthy("version: 3.6.16");
        let nodes = ["a", "b", "c"].map(|node| {
            let trouble = silent.contains(&node).then_some(NodeTrouble::NotReady);
            (node.to_owned(), trouble.or_else(|| out.contains(&node).then_some(NodeTrouble::OutOfService)))
        });
        world.recovery.nodes = Some(nodes.into());
        match here {
            Some(node) => {
                let pod = world.pods.get_mut(&member(1)).unwrap();
                (pod.node, pod.ended) = (Some(node.to_owned()), ended);
            }
            None => drop(world.pods.remove(&member(1))),
        }
        world.cluster.status.members = last
            .map(|node| MemberStatus {
                name: member(1).to_string(),
                node: Some(node.to_owned()),
                ..MemberStatus::default()
            })
            .into_iter()
            .collect();
        match whereabouts(&View::new(&world), &member(1)) {
            Whereabouts::Stopped(pod) => {
                format!("stopped, {}", if pod.is_some() { "an object" } else { "gone" })
            }
            Whereabouts::Standing(_) => "standing".to_owned(),
            Whereabouts::Going => "going".to_owned(),
            Whereabouts::Unknown { why, .. } => why,
        }
    }

    const B: &str = "db-1 may still run on b, which is not ready";

    #[rstest]
    #[case::on_a_node_that_is_heard(Some("a"), None, &[], &[], false, "standing")]
    #[case::on_a_node_that_is_silent(Some("b"), None, &["b"], &[], false, B)]
    #[case::ended_on_it_before(Some("b"), Some("b"), &["b"], &[], true, "stopped, an object")]
    #[case::on_a_node_that_is_shut_down(Some("b"), None, &[], &["b"], false, "stopped, an object")]
    #[case::on_a_node_that_is_no_more(Some("z"), None, &[], &[], false, "stopped, an object")]
    #[case::made_again_and_forced_off_before(Some("a"), Some("b"), &["b"], &[], false, B)]
    #[case::gone_from_a_node_that_is_heard(None, Some("a"), &["c"], &[], false, "stopped, gone")]
    #[case::gone_from_a_node_that_is_silent(None, Some("b"), &["b"], &[], false, B)]
    #[case::gone_from_nobody_knows_where(None, None, &["b"], &[], false, B)]
    #[case::gone_and_all_are_heard(None, None, &[], &["c"], false, "stopped, gone")]
    fn what_is_not_proven_may_run(
        #[case] here: Option<&str>,
        #[case] last: Option<&str>,
        #[case] silent: &[&str],
        #[case] out: &[&str],
        #[case] ended: bool,
        #[case] expected: &str,
    ) {
        assert_eq!(answer(here, last, silent, out, ended), expected);
    }

    #[test]
    fn nothing_is_proven_where_nodes_may_not_be_read() {
        let world = healthy("version: 3.6.16");
        let unknown = whereabouts(&View::new(&world), &member(1));
        assert!(matches!(unknown, Whereabouts::Unknown { why, .. } if why.contains("may not read nodes")));
    }
}
