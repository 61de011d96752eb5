//! The first members: all start together with a static list. What they are is pinned before the first
//! Pod, in the status and on each claim, so that an edit in the middle changes nothing about who forms
//! the cluster.

use super::begun::{has_begun, may_start_on, never_serves, note_first_pods, starting_version};
use super::step::{NewPod, Next, Record, Step};
use super::view::View;
use super::{heal, pods, request, volumes};
use crate::api::{BootstrapStatus, Code, MemberRole};
use crate::cluster::names::{MemberName, bootstrap_members, first_members};
use crate::cluster::notice::Notice;
use crate::cluster::objects::claim::Purpose;
use crate::cluster::objects::pod::Initial;
use crate::cluster::revision;
use crate::cluster::spec::storage_class;
use crate::etcd::versions::{MINORS, is_supported};
use std::collections::BTreeMap;

pub(super) fn the_first_members(view: &View<'_>) -> Option<Next> {
    if view.cluster_id().is_some() {
        return None;
    }
    let Some(bootstrap) = view.bootstrap() else { return Some(begin(view)) };
    let members = bootstrap_members(&view.world.cluster.name, &bootstrap);

    if view.world.cluster.status.bootstrap.is_none() {
        let started = view.keeps_data_in_pods() && pods::were_all_there(view, &bootstrap);
        let bootstrap = BootstrapStatus { started, ..bootstrap };
        return Some(Next::Do(Step::Record(Record::Bootstrap(bootstrap))));
    }
    if let Some(left) = pods::left_of_another_attempt(view, &bootstrap) {
        return Some(left);
    }
    if let Some(version) = starting_version(view, &bootstrap).filter(|v| v.to_string() != bootstrap.version) {
        // Pinned anew before the first member starts on it: once one has served, the pin decides.
        let version = version.to_string();
        return Some(Next::Do(Step::Record(Record::Bootstrap(BootstrapStatus { version, ..bootstrap }))));
    }
    let unclaimed: Vec<MemberName> =
        members.iter().filter(|member| view.claim_of(member).is_none()).cloned().collect();
    if let Some(begin_anew) = pods::begin_anew(view, &bootstrap, &members) {
        return Some(begin_anew);
    }
    if !lost_while_forming(view).is_empty()
        || kept_aside(view).is_some()
        || volumes::of_another_kind(view).is_some()
    {
        return Some(Next::Refused);
    }
    let in_the_way = unclaimed.iter().find(|member| view.pod(member).is_some());
    if let Some(member) = in_the_way.filter(|_| view.keeps_data_in_pods()) {
        let message = format!("{member}'s Pod of an EtcdCluster before is going away");
        return Some(view.wait_for(Notice::of(Code::Bootstrapping, message), Some(member)));
    }
    if !unclaimed.is_empty() && view.keeps_data_in_pods() {
        return Some(on_the_starting_revision(view, &bootstrap, |revision| Step::CreateClaims {
            members: unclaimed,
            purpose: Purpose::Bootstrap(bootstrap.clone(), Some(revision)),
        }));
    }
    if !unclaimed.is_empty() {
        let purpose = Purpose::Bootstrap(bootstrap, None);
        return Some(Next::Do(Step::CreateClaims { members: unclaimed, purpose }));
    }
    if let Some(note) = note_first_pods(view, &members) {
        return Some(note);
    }
    let ended = members.iter().find_map(|member| {
        view.pod(member).filter(|pod| pod.ended && !pod.deleting).map(|pod| Step::remove_ended(member, pod))
    });
    if let Some(step) = ended {
        return Some(Next::Do(step));
    }
    if !view.keeps_data_in_pods()
        && let Some(step) = another_attempt(view, &bootstrap, &members)
    {
        return Some(step);
    }
    // The revisions go with an EtcdCluster that is deleted; its claims stay.
    let unassigned: Vec<MemberName> = members
        .iter()
        .filter(|member| {
            let assigned = view.claim_of(member).and_then(|claim| claim.assigned.as_deref());
            view.pod(member).is_none() && assigned.is_none_or(|name| !view.world.revisions.contains_key(name))
        })
        .cloned()
        .collect();
    if !unassigned.is_empty() {
        return Some(on_the_starting_revision(view, &bootstrap, |revision| Step::Assign {
            members: unassigned,
            revision,
            afresh: false,
        }));
    }
    let new: Vec<NewPod> =
        members.iter().filter_map(|member| first_pod(view, member, &members, &bootstrap)).collect();
    if !new.is_empty() && view.keeps_data_in_pods() && !bootstrap.started {
        // From here on one that is gone may have had data.
        let started = BootstrapStatus { started: true, ..bootstrap };
        return Some(Next::Do(Step::Record(Record::Bootstrap(started))));
    }
    if !new.is_empty() {
        return Some(Next::Do(Step::CreatePods(new)));
    }
    Some(formed(view, &members).unwrap_or_else(|| await_members(view, &bootstrap, &members)))
}

/// What keeps a new cluster from being begun.
pub(super) fn refusals(view: &View<'_>) -> Vec<Notice> {
    if view.cluster_id().is_some() {
        return Vec::new();
    }
    if let Some(bootstrap) = view.bootstrap() {
        let version = starting_version(view, &bootstrap);
        let mut refusals = lost_while_forming(view);
        refusals.extend(kept_aside(view));
        refusals.extend(volumes::of_another_kind(view));
        refusals.extend(version.and_then(|version| request::unsupported_flag(view, version)));
        return refusals;
    }
    let Ok(desired) = &view.desired else { return Vec::new() };
    let mut refusals: Vec<Notice> = kept_aside(view).into_iter().collect();
    refusals.extend(volumes::of_another_kind(view));
    if let Some(revision) = view.world.revisions.keys().next() {
        // The same UID would give the same cluster and member ids again, on empty volumes.
        refusals.push(Notice::new(
            Code::AllMembersLost,
            format!(
                "status and volume claims are gone, but revision {revision} says that this EtcdCluster had members"
            ),
            "bring the volume claims back; or delete this EtcdCluster and make it again to begin anew",
        ));
    }
    if !is_supported(desired.version.minor) {
        let newest = MINORS.iter().filter_map(|line| view.world.releases.newest(line.minor));
        let newest: Vec<String> = newest.map(|release| release.to_string()).collect();
        refusals.push(Notice::new(
            Code::VersionUnsupported,
            format!("spec.version {} is not of a minor that this release knows", desired.version),
            format!("set spec.version to one of {} or a patch beside them", newest.join(", ")),
        ));
    }
    refusals.extend(request::unsupported_flag(view, desired.version));
    refusals.extend(request::refused_release(view, desired.version));
    let takes_the_default = storage_class(&view.world.cluster.spec).is_none() && !view.keeps_data_in_pods();
    if takes_the_default && view.world.default_storage_class == Some(false) {
        refusals.push(Notice::of(
            Code::NoStorageClass,
            "the Kubernetes cluster has no default StorageClass and spec.storage.storageClassName is not set",
        ));
    }
    refusals
}

/// A name of the first members whose volume claim is kept aside: it holds data of a member that was.
fn kept_aside(view: &View<'_>) -> Option<Notice> {
    let world = view.world;
    let name = &world.cluster.name;
    let wanted = || first_members(name, view.desired.as_ref().map_or(0, |desired| desired.replicas));
    let members = view.bootstrap().map_or_else(wanted, |bootstrap| bootstrap_members(name, &bootstrap));
    let aside = members
        .into_iter()
        .find(|member| world.set_aside.contains_key(member) && view.claim_of(member).is_none())?;
    let (claim, namespace) = (aside.claim(), &world.cluster.namespace);
    Some(Notice::new(
        Code::ForeignObject,
        format!(
            "this cluster needs the name of the PersistentVolumeClaim {claim}, which is kept aside with data of an earlier one"
        ),
        format!(
            "give the EtcdCluster another name, or, if nothing on it is needed: kubectl -n {namespace} delete pvc {claim}"
        ),
    ))
}

/// A volume that is gone after members of the bootstrap may have run: a new one would start empty under a
/// member id that may have voted and acknowledged writes already.
///
/// What came after the claims proves that all of them were there: revisions are stored then and assigned
/// to each claim, and only then are Pods made. The status proves nothing: it can be lost (docs/adr/0007).
fn lost_while_forming(view: &View<'_>) -> Vec<Notice> {
    let Some(bootstrap) = view.bootstrap() else { return Vec::new() };
    let world = view.world;
    let all_were_there = if view.keeps_data_in_pods() {
        pods::were_all_there(view, &bootstrap)
    } else {
        !world.revisions.is_empty() || world.claims.values().any(|claim| claim.assigned.is_some())
    };
    let unclaimed = bootstrap_members(&world.cluster.name, &bootstrap)
        .into_iter()
        .find(|member| view.claim_of(member).is_none())
        .filter(|_| all_were_there);
    let Some(member) = unclaimed else { return Vec::new() };
    if view.keeps_data_in_pods() {
        let message = format!("{member}'s Pod went while the cluster was forming, and its data with it");
        return vec![Notice::new(
            Code::MemberDataLost,
            message,
            format!(
                "delete this EtcdCluster and make it again; if it was written to already, {}",
                heal::how_to_save(view)
            ),
        )];
    }
    vec![Notice::new(
        Code::MemberDataLost,
        format!(
            "{member}'s volume claim went while the cluster was forming; it is not started empty under its old id"
        ),
        "bring the claim back; or delete this EtcdCluster and all its claims, and make it again",
    )]
}

fn begin(view: &View<'_>) -> Next {
    let Ok(desired) = &view.desired else { return Next::Refused };
    if !refusals(view).is_empty() {
        return Next::Refused;
    }
    Next::Do(Step::Record(Record::Bootstrap(BootstrapStatus {
        members: i32::try_from(desired.replicas).unwrap_or_default(),
        version: desired.version.to_string(),
        // Else a cluster made again under this name would have the same cluster and member ids.
        token: view.world.cluster.uid.clone(),
        started: false,
        tls: view.world.wire().noted(),
    })))
}

fn on_the_starting_revision(
    view: &View<'_>,
    bootstrap: &BootstrapStatus,
    step: impl FnOnce(String) -> Step,
) -> Next {
    let (Ok(desired), Some(version)) = (&view.desired, starting_version(view, bootstrap)) else {
        return Next::Refused;
    };
    let Ok(revision) = revision::at(view.world, desired, version) else { return Next::Refused };
    if view.world.revisions.contains_key(&revision.name) {
        Next::Do(step(revision.name.clone()))
    } else {
        Next::Do(Step::StoreRevision(revision))
    }
}

/// A member that does not come up may be tried again from a corrected spec: nobody relies on it yet,
/// and its data, if it has any, stays.
fn another_attempt(view: &View<'_>, bootstrap: &BootstrapStatus, members: &[MemberName]) -> Option<Next> {
    view.desired.as_ref().ok()?;
    let version = starting_version(view, bootstrap)?;
    let cluster = &view.world.cluster;
    let wanted = revision::name(&cluster.name, &cluster.spec, view.world.wire(), version);
    for member in members {
        let assigned = view.claim_of(member)?.assigned.as_deref();
        if !never_serves(view, member) {
            // It has begun while another revision was being assigned to it: that is what it has.
            let begun =
                view.pod(member).map(|pod| pod.revision.as_str()).filter(|begun| assigned != Some(begun));
            if let Some(begun) = begun.filter(|begun| view.world.revisions.contains_key(*begun)) {
                let (members, revision) = (vec![member.clone()], begun.to_owned());
                return Some(Next::Do(Step::Assign { members, revision, afresh: false }));
            }
            continue;
        }
        if assigned != Some(wanted.as_str()) {
            return Some(on_the_starting_revision(view, bootstrap, |revision| Step::Assign {
                members: vec![member.clone()],
                revision,
                afresh: !has_begun(view, member),
            }));
        }
        let stale = view.pod(member).filter(|pod| !pod.deleting && pod.revision != wanted);
        if let Some(pod) = stale {
            return Some(Next::Do(Step::remove(member, pod, "it never served, and the spec was changed")));
        }
    }
    None
}

fn first_pod(
    view: &View<'_>,
    member: &MemberName,
    members: &[MemberName],
    bootstrap: &BootstrapStatus,
) -> Option<NewPod> {
    let claim = view.claim_of(member)?;
    if view.pod(member).is_some() || claim.deleting {
        return None;
    }
    let initial = if claim.opened.is_some() {
        Initial::Guard
    } else {
        Initial::New { members: members.to_vec(), token: bootstrap.token.clone() }
    };
    let (member, revision) = (member.clone(), claim.assigned.clone()?);
    Some(NewPod { member, revision, initial, role: MemberRole::Voter })
}

/// Formed: every member is listed with its client URLs (its name stands there before it ever came) and
/// serves a linearizable read. etcd's cluster version is not waited for: where one peer could not be
/// reached when the leader first looked, it stays undecided for 4 s more, and only a hop to another minor
/// needs it (docs/adr/0004).
fn formed(view: &View<'_>, members: &[MemberName]) -> Option<Next> {
    let list = view.world.member_list.as_ref()?;
    let voters: BTreeMap<_, _> = list
        .iter()
        .filter(|listed| !listed.client_urls.is_empty() && !listed.is_learner)
        .filter_map(|listed| Some((view.parse_member(&listed.name)?, listed.id)))
        .collect();
    let complete = list.len() == members.len() && members.iter().all(|member| voters.contains_key(member));
    let statuses: BTreeMap<&MemberName, _> =
        members.iter().filter_map(|member| Some((member, view.up(member)?.status))).collect();
    if !complete || statuses.len() < members.len() {
        return None;
    }
    let cluster_id = statuses.values().next()?.cluster_id;
    if statuses.values().any(|status| status.cluster_id != cluster_id) {
        return None;
    }
    let noted = members.iter().all(|member| {
        view.claim_of(member)
            .is_some_and(|claim| claim.cluster_id == Some(cluster_id) && claim.bootstrap.is_none())
    });
    if noted {
        return Some(Next::Do(Step::Record(Record::Formed(cluster_id))));
    }
    Some(Next::Do(Step::NoteMembers {
        cluster_id,
        voters,
        opened: statuses.iter().map(|(member, status)| ((*member).clone(), status.version)).collect(),
        good: members
            .iter()
            .filter_map(|member| Some((member.clone(), view.pod(member)?.revision.clone())))
            .collect(),
    }))
}

fn await_members(view: &View<'_>, bootstrap: &BootstrapStatus, members: &[MemberName]) -> Next {
    let progress = members.iter().map(|member| view.start_progress(member) >> 48).sum();
    let waiting: Vec<(&MemberName, Notice)> =
        members.iter().filter_map(|member| Some((member, view.why_not_up(member).err()?))).collect();
    let (mut notice, member) = match waiting.first() {
        None => {
            (Notice::of(Code::Bootstrapping, "waiting for the member list to name all client URLs"), None)
        }
        Some((member, first)) if first.code == Code::PodUnschedulable => (first.clone(), Some(*member)),
        Some((member, first)) => {
            let up = members.len() - waiting.len();
            let message = format!("{up} of {} members are up; {}", members.len(), first.message);
            (Notice::of(Code::Bootstrapping, message), Some(*member))
        }
    };
    let wanted = view.desired.as_ref().ok().map(|desired| desired.version);
    let wanted =
        wanted.filter(|wanted| may_start_on(view, *wanted) && wanted.to_string() != bootstrap.version);
    if let Some(wanted) = wanted {
        let pinned = &bootstrap.version;
        let after = format!(
            "the first members began with {pinned}, {wanted} comes once they have formed the cluster"
        );
        notice.message = format!("{}; {after}", notice.message);
        notice.remedy = format!(
            "{} Where {pinned} never comes up, make it start (spec.image, spec.pod, spec.etcd), or, if nothing in it is \
             needed, delete this EtcdCluster and its claims, and make it again",
            notice.remedy
        );
    }
    Next::Wait(view.wait(notice, member, "bootstrap".to_owned(), progress))
}
