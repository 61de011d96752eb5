//! The target image runs once on every node that holds a member to be replaced, before the first of
//! them is touched.

use super::step::{Next, Step};
use super::view::View;
use crate::api::Code;
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::observation::ProbeState;
use crate::cluster::revision::Revision;
use std::collections::BTreeSet;

pub(super) fn target_image_on_every_node(
    view: &View<'_>,
    outdated: &[MemberName],
    target: &Revision,
) -> Option<Next> {
    if !needed(view, outdated, target) {
        return None;
    }
    let nodes: BTreeSet<&str> =
        outdated.iter().filter_map(|member| view.pod(member)?.node.as_deref()).collect();
    let mut missing = Vec::new();
    for node in nodes {
        let probe =
            view.world.probes.iter().find(|probe| probe.node == node && probe.revision == target.name);
        let image = &target.image;
        let notice = match probe.map(|probe| &probe.state) {
            None => {
                missing.push(node.to_owned());
                continue;
            }
            Some(ProbeState::Said(Some(version))) if *version == target.version => continue,
            Some(ProbeState::Said(Some(version))) => {
                return Some(wait(
                    view,
                    Code::ImageVersionMismatch,
                    format!("{image} holds etcd {version}, not {}", target.version),
                    true,
                ));
            }
            Some(ProbeState::Said(None)) => {
                return Some(wait(
                    view,
                    Code::ImageVersionMismatch,
                    format!("{image} does not say which etcd it holds"),
                    true,
                ));
            }
            Some(ProbeState::Failed(words)) => {
                return Some(wait(
                    view,
                    Code::ImageProbing,
                    format!("{image} does not run on {node}: {words}"),
                    true,
                ));
            }
            Some(ProbeState::Running(None)) => format!("{image} is tried out on {node}"),
            Some(ProbeState::Running(Some((reason, message)))) if message.is_empty() => {
                format!("{image} does not start on {node}: {reason}")
            }
            Some(ProbeState::Running(Some((reason, message)))) => {
                format!("{image} does not start on {node}: {reason}: {message}")
            }
        };
        return Some(wait(view, Code::ImageProbing, notice, false));
    }
    (!missing.is_empty())
        .then(|| Next::Do(Step::CreateProbes { nodes: missing, revision: target.name.clone() }))
}

/// Only another image needs a try.
pub(super) fn needed(view: &View<'_>, outdated: &[MemberName], target: &Revision) -> bool {
    outdated.iter().any(|member| {
        let running = view.revision_of(member).and_then(|name| view.revision(name));
        running.is_none_or(|running| running.image != target.image)
    })
}

fn wait(view: &View<'_>, code: Code, message: String, final_word: bool) -> Next {
    let notice = Notice::new(
        code,
        message,
        "check spec.version, spec.image and the registry; no member was touched, and setting spec.version back is always possible",
    );
    let mut wait = view.wait(notice, None, "image-probe".to_owned(), 0);
    wait.overdue |= final_word;
    Next::Wait(wait)
}
