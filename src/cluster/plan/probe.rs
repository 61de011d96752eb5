//! The image of every version on the way runs once on every node that holds a member to be replaced, before the
//! first of them is touched.

use super::hold::has_begun;
use super::step::{Next, Step};
use super::view::View;
use crate::api::Code;
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::observation::{ProbeFacts, ProbeState};
use crate::cluster::revision::{self, Revision};
use std::collections::BTreeSet;
use std::time::Duration;

/// What patience is counted on.
const SUBJECT: &str = "image-probe";

/// The image of the next version, and before the first member is touched those of all that come after it: what is
/// missing three hops away costs nothing either.
pub(super) fn images_on_every_node(
    view: &View<'_>,
    outdated: &[MemberName],
    target: &Revision,
) -> Option<Next> {
    let later = || {
        let members: Vec<MemberName> = view.members().iter().cloned().collect();
        let desired = view.desired.as_ref().ok().filter(|_| !has_begun(view))?;
        view.way.iter().flatten().flatten().skip(1).find_map(|stop| {
            let revision = revision::at(view.world, desired, *stop).ok()?;
            if !view.world.revisions.contains_key(&revision.name) {
                return Some(Next::Do(Step::StoreRevision(revision)));
            }
            image_on_every_node(view, &members, &revision)
        })
    };
    image_on_every_node(view, outdated, target).or_else(later)
}

fn image_on_every_node(view: &View<'_>, outdated: &[MemberName], target: &Revision) -> Option<Next> {
    if !needed(view, outdated, target) {
        return None;
    }
    let nodes: BTreeSet<&str> =
        outdated.iter().filter_map(|member| view.pod(member)?.node.as_deref()).collect();
    let mut missing = Vec::new();
    for node in nodes {
        let probe =
            view.world.probes.iter().find(|probe| probe.node == node && probe.revision == target.name);
        match probe {
            None => missing.push(node.to_owned()),
            Some(probe) if is_worth_another_try(view, probe) => {
                return Some(Next::Do(Step::DeleteProbes(vec![(probe.pod.clone(), probe.uid.clone())])));
            }
            Some(probe) => {
                if let Some(obstacle) = obstacle(probe, target) {
                    return Some(wait(view, obstacle));
                }
            }
        }
    }
    (!missing.is_empty())
        .then(|| Next::Do(Step::CreateProbes { nodes: missing, revision: target.name.clone() }))
}

/// A probe that never ran says nothing about the image; after a while the node may have room.
fn is_worth_another_try(view: &View<'_>, probe: &ProbeFacts) -> bool {
    let patience = &view.world.patience;
    matches!(probe.state, ProbeState::Rejected(_))
        && patience.subject == SUBJECT
        && patience.without_progress >= Duration::from_secs(20)
}

/// What a probe says against its image.
struct Obstacle {
    code: Code,
    message: String,
    /// Whether the probe has ended: nothing will change by itself.
    final_word: bool,
}

fn obstacle(probe: &ProbeFacts, target: &Revision) -> Option<Obstacle> {
    let (image, node) = (&target.image, &probe.node);
    let (code, message, final_word) = match &probe.state {
        ProbeState::Said(Some(version)) if *version == target.version => return None,
        ProbeState::Said(Some(version)) => (
            Code::ImageVersionMismatch,
            format!("{image} holds etcd {version}, not {}", target.version),
            true,
        ),
        ProbeState::Said(None) => {
            (Code::ImageVersionMismatch, format!("{image} does not say which etcd it holds"), true)
        }
        ProbeState::Failed(words) => {
            (Code::ImageUnavailable, format!("{image} does not run on {node}: {words}"), true)
        }
        ProbeState::Rejected(why) => {
            (Code::ImageUnavailable, format!("the probe {} did not run on {node}: {why}", probe.pod), false)
        }
        ProbeState::Running(None) => (Code::ImageProbing, format!("{image} is tried out on {node}"), false),
        ProbeState::Running(Some((reason, message))) => {
            let cause = if message.is_empty() { reason } else { message };
            (Code::ImageUnavailable, format!("{image} does not start on {node}: {cause}"), false)
        }
    };
    Some(Obstacle { code, message, final_word })
}

/// Only another image needs a try.
pub(super) fn needed(view: &View<'_>, outdated: &[MemberName], target: &Revision) -> bool {
    outdated.iter().any(|member| {
        let running = view.revision_of(member).and_then(|name| view.revision(name));
        running.is_none_or(|running| running.image != target.image)
    })
}

fn wait(view: &View<'_>, obstacle: Obstacle) -> Next {
    let remedy = "check spec.version, spec.image and the registry; no member was touched, and setting \
                  spec.version back is always possible";
    let notice = Notice::new(obstacle.code, obstacle.message, remedy);
    let mut wait = view.wait(notice, None, SUBJECT.to_owned(), 0);
    wait.overdue |= obstacle.final_word;
    Next::Wait(wait)
}
