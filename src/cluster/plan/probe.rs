//! What is tried out on the nodes of members before the first of them is touched: the image of every version on the
//! way, and where the way leads to a minor that does not start on data of etcd's v2 API, every volume.

use super::hold::has_begun;
use super::step::{Next, Step};
use super::view::View;
use crate::api::Code;
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::objects::probe::NewProbe;
use crate::cluster::observation::{ProbeFacts, ProbeState, Tries};
use crate::cluster::revision::{self, Revision};
use crate::etcd::EtcdVersion;
use crate::etcd::versions::{FINDS_V2_DATA_IN, finds_v2_data, stops_on_v2_data};
use std::sync::Arc;
use std::time::Duration;

/// What patience is counted on.
const SUBJECT: &str = "probe";

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
            let revision = view.revision_at(desired, *stop)?;
            match view.stored(&revision)? {
                Ok(_) => image_on_every_node(view, &members, &revision),
                Err(store) => Some(Next::Do(store)),
            }
        })
    };
    image_on_every_node(view, outdated, target).or_else(later)
}

fn image_on_every_node(view: &View<'_>, outdated: &[MemberName], target: &Revision) -> Option<Next> {
    if !needed(view, outdated, target) {
        return None;
    }
    let mut wanted: Vec<NewProbe> = outdated
        .iter()
        .filter_map(|member| view.pod(member)?.node.clone())
        .map(|node| NewProbe { node, revision: target.name.clone(), tries: Tries::Image })
        .collect();
    wanted.sort_by(|one, other| one.node.cmp(&other.node));
    wanted.dedup();
    all(view, wanted, |probe| what_an_image_lacks(probe, target))
}

/// Data of the v2 API on any member's volume, looked for by an etcdutl that finds it.
pub(super) fn v2_data_on_every_volume(view: &View<'_>) -> Option<Next> {
    let stop = v2_data_matters_to(view)?;
    for member in view.members() {
        let Some(node) = view.pod(member)?.node.clone() else { continue };
        let Some(tool) = with_the_tool(view, member) else {
            let message = format!(
                "{member}'s volume cannot be searched for data of the v2 API: no release is known that does it with \
                 these settings; set spec.version to a later patch of {FINDS_V2_DATA_IN} first"
            );
            return Some(wait(view, Obstacle { code: Code::V2DataUnknown, message, final_word: true }));
        };
        let revision = match view.stored(&tool)? {
            Ok(revision) => revision,
            Err(store) => return Some(Next::Do(store)),
        };
        // One after the other: each reads as much as a start does, on disks that the members live on.
        let wanted = vec![NewProbe { node, revision, tries: Tries::Volume(member.clone()) }];
        if let Some(next) = all(view, wanted, |probe| what_a_volume_holds(probe, stop)) {
            return Some(next);
        }
    }
    None
}

/// Probes that hold the volume of a member which is not beside them any more, and could not come up elsewhere.
pub(super) fn that_stand_in_a_members_way(view: &View<'_>) -> Option<Next> {
    let is_beside = |probe: &ProbeFacts, member: &MemberName| {
        view.pod(member).is_some_and(|pod| !pod.deleting && pod.node.as_ref() == Some(&probe.node))
    };
    let mut in_the_way = view
        .world
        .probes
        .iter()
        .filter(|probe| matches!(&probe.tries, Tries::Volume(member) if !is_beside(probe, member)))
        .peekable();
    in_the_way.peek()?;
    Some(Next::Do(Step::delete_probes(in_the_way)))
}

/// The version on the way that does not start on data of the v2 API, until a member runs its minor.
pub(super) fn v2_data_matters_to(view: &View<'_>) -> Option<EtcdVersion> {
    if view.keeps_data_in_pods() {
        // No other Pod can look there; and who does not start is one that joins, with whom nothing is lost.
        return None;
    }
    let version = view.cluster_version()?;
    let mut way = view.way.iter().flatten().flatten();
    let stop = *way.find(|stop| stops_on_v2_data(version, stop.minor))?;
    let desired = view.desired.as_ref().ok()?;
    if view.revision_at(desired, stop)?.skips_the_check_for_v2_data() {
        return None;
    }
    (!view.running_versions().iter().any(|runs| runs.minor >= stop.minor)).then_some(stop)
}

/// The revision whose image has the etcdutl for it: the member's own, which is on its node already, or that of the
/// newest release that has one.
fn with_the_tool(view: &View<'_>, member: &MemberName) -> Option<Arc<Revision>> {
    let own = view.revision_of(member).and_then(|name| view.world.revisions.get(name));
    if let Some(own) = own.filter(|own| finds_v2_data(own.version)) {
        return Some(Arc::clone(own));
    }
    let newest = view.world.releases.newest(FINDS_V2_DATA_IN).filter(|newest| finds_v2_data(*newest))?;
    revision::at(view.world, view.desired.as_ref().ok()?, newest).ok()
}

/// Waits for these probes, and makes those that are not there.
fn all(
    view: &View<'_>,
    wanted: Vec<NewProbe>,
    obstacle: impl Fn(&ProbeFacts) -> Option<Obstacle>,
) -> Option<Next> {
    let mut missing = Vec::new();
    for new in wanted {
        let is_it = |probe: &&ProbeFacts| {
            (&probe.node, &probe.revision, &probe.tries) == (&new.node, &new.revision, &new.tries)
        };
        match view.world.probes.iter().find(is_it) {
            None => missing.push(new),
            Some(probe) if is_worth_another_try(view, probe) => {
                return Some(Next::Do(Step::delete_probes(std::iter::once(probe))));
            }
            Some(probe) => {
                if let Some(obstacle) = obstacle(probe) {
                    return Some(wait(view, obstacle));
                }
            }
        }
    }
    (!missing.is_empty()).then_some(Next::Do(Step::CreateProbes(missing)))
}

/// A probe that never ran says nothing; after a while the node may have room.
fn is_worth_another_try(view: &View<'_>, probe: &ProbeFacts) -> bool {
    let patience = &view.world.patience;
    matches!(probe.state, ProbeState::Rejected(_))
        && patience.subject == SUBJECT
        && patience.without_progress >= Duration::from_secs(20)
}

/// What a probe says against going on.
struct Obstacle {
    code: Code,
    message: String,
    /// Whether the probe has ended: nothing will change by itself.
    final_word: bool,
}

fn what_an_image_lacks(probe: &ProbeFacts, target: &Revision) -> Option<Obstacle> {
    let (image, node) = (&target.image, &probe.node);
    let (code, message, final_word) = match &probe.state {
        ProbeState::Said(Some(version)) if *version == target.version => return None,
        ProbeState::Said(Some(version)) => (
            Code::ImageVersionMismatch,
            format!("{image} holds etcd {version}, not {}", target.version),
            true,
        ),
        ProbeState::Said(None) | ProbeState::FoundNothing | ProbeState::Found(_) => {
            (Code::ImageVersionMismatch, format!("{image} does not say which etcd it holds"), true)
        }
        ProbeState::Failed(words) => {
            (Code::ImageUnavailable, format!("{image} does not run on {node}: {words}"), true)
        }
        ProbeState::Rejected(why) => {
            (Code::ImageUnavailable, format!("the probe {} did not run on {node}: {why}", probe.pod), false)
        }
        ProbeState::Running(None) => (Code::ImageProbing, format!("{image} is tried out on {node}"), false),
        ProbeState::Running(Some(why)) => {
            (Code::ImageUnavailable, format!("{image} does not start on {node}: {}", cause(why)), false)
        }
    };
    Some(Obstacle { code, message, final_word })
}

fn what_a_volume_holds(probe: &ProbeFacts, stop: EtcdVersion) -> Option<Obstacle> {
    let Tries::Volume(member) = &probe.tries else { return None };
    let pod = &probe.pod;
    let (code, message, final_word) = match &probe.state {
        ProbeState::FoundNothing => return None,
        ProbeState::Found(words) => {
            // What stands in the WAL alone goes with the next raft snapshot.
            let passes = if words.contains("v2store") { "" } else { ", until its next raft snapshot" };
            (Code::V2DataFound, format!("{stop} would not start on {member}'s volume{passes}: {words}"), true)
        }
        ProbeState::Running(None) => {
            (Code::V2DataUnknown, format!("{member}'s volume is searched by the Pod {pod}"), false)
        }
        ProbeState::Running(Some(why)) => {
            (Code::V2DataUnknown, format!("{member}'s volume is not searched: {pod}: {}", cause(why)), false)
        }
        ProbeState::Rejected(why) => {
            (Code::V2DataUnknown, format!("{member}'s volume is not searched: {pod}: {why}"), false)
        }
        ProbeState::Failed(words) => {
            (Code::V2DataUnknown, format!("{member}'s volume was not searched: {pod}: {words}"), true)
        }
        ProbeState::Said(_) => (Code::V2DataUnknown, format!("{pod} did something else"), true),
    };
    Some(Obstacle { code, message, final_word })
}

fn cause((reason, message): &(String, String)) -> &str {
    if message.is_empty() { reason } else { message }
}

/// Only another image needs a try.
pub(super) fn needed(view: &View<'_>, outdated: &[MemberName], target: &Revision) -> bool {
    outdated.iter().any(|member| {
        let running = view.revision_of(member).and_then(|name| view.revision(name));
        running.is_none_or(|running| running.image != target.image)
    })
}

fn wait(view: &View<'_>, obstacle: Obstacle) -> Next {
    let remedy = match obstacle.code {
        code @ (Code::V2DataFound | Code::V2DataUnknown) => code.remedy(),
        _ => {
            "check spec.version, spec.image and the registry; no member was touched, and setting \
             spec.version back is always possible"
        }
    };
    let notice = Notice::new(obstacle.code, obstacle.message, remedy);
    let mut wait = view.wait(notice, None, SUBJECT.to_owned(), 0);
    wait.overdue |= obstacle.final_word;
    Next::Wait(wait)
}
