//! Whether what the spec asks for can be done to this cluster. What cannot is refused as a whole, and
//! nothing is touched.

use super::gates;
use super::loss::is_beyond_a_revision;
use super::snapshots;
use super::step::Next;
use super::view::View;
use super::volumes;
use crate::api::{Code, EtcdClusterSpec, Hops};
use crate::cluster::notice::{Notice, how_it_failed};
use crate::cluster::revision;
use crate::cluster::spec;
use crate::cluster::wire::Wire;
use crate::etcd::EtcdVersion;
use crate::etcd::versions::{Hop, HopError, check_hop, stops};

pub(super) fn what_cannot_be_done(view: &View<'_>) -> Option<Next> {
    (!view.refusals().is_empty()).then_some(Next::Refused)
}

pub(super) fn refusals(view: &View<'_>) -> Vec<Notice> {
    let desired = match &view.desired {
        Ok(desired) => desired,
        Err(refusals) => return refusals.clone(),
    };
    if view.cluster_id().is_none() {
        return Vec::new();
    }
    let mut refusals = Vec::new();
    refusals.extend(volumes::refusals(view));
    refusals.extend(flags(view));
    refusals.extend(
        refused_release(view, desired.version).filter(|_| !member_versions(view).contains(&desired.version)),
    );
    match hop(view) {
        Some(Err(error)) => refusals.push(refused_hop(view, &error)),
        Some(Ok(Hop::Downgrade)) if view.keeps_data_in_pods() => refusals.push(Notice::new(
            Code::DowngradeUnsupported,
            format!(
                "no member joins a cluster that goes down to {}, and those that keep their data in their Pods are exchanged \
                 for new ones",
                desired.version
            ),
            "set spec.version back; or make another EtcdCluster, and move the data",
        )),
        // Where more members are asked for, they come first.
        _ if view.members().len() == 1
            && desired.replicas == 1
            && !desired.allow_downtime && changes_the_minor(view) => refusals.push(Notice::new(
            Code::DowntimeNotAllowed,
            format!(
                "one member alone cannot go to {} without downtime, and there is no second one to try it on first",
                desired.version
            ),
            "set spec.rollout.allowDowntime to true, or stay on this minor",
        )),
        _ => {}
    }
    refusals.extend(another_wire(view));
    refusals.extend(conflicting_timeouts(view));
    refusals.extend(failed_before(view));
    refusals
}

/// Members that run go on as they began.
fn another_wire(view: &View<'_>) -> Option<Notice> {
    let here = view.world.wire();
    let asked = view.world.cluster.spec.tls.as_ref()?.mode.map(Wire::of).filter(|asked| *asked != here)?;
    let talks = |wire| if wire == Wire::Tls { "TLS" } else { "plaintext" };
    Some(Notice::new(
        Code::TlsModeChange,
        format!("the members talk {}, and spec.tls.mode asks for {}", talks(here), talks(asked)),
        format!("set spec.tls.mode to {:?}; or make another EtcdCluster, and move the data", here.mode()),
    ))
}

/// The versions on the way from what runs to what the spec wants; nothing while it cannot be known what runs.
pub(super) fn way(view: &View<'_>) -> Option<Result<Vec<EtcdVersion>, HopError>> {
    let desired = view.desired.as_ref().ok()?;
    let members = member_versions(view);
    if members.is_empty() {
        return None;
    }
    let cluster_version = view.known_cluster_version()?;
    let mut way = match desired.hops {
        Hops::Many => stops(cluster_version, &members, desired.version, &view.world.releases),
        Hops::Single => check_hop(cluster_version, &members, desired.version).map(|_| vec![desired.version]),
    };
    if let Ok(way) = &mut way
        && let Some(here) = members.iter().copied().min()
        && way.first().is_some_and(|next| next.minor != cluster_version && *next != here)
        && settings_come_first(view, here)
    {
        way.insert(0, here);
    }
    if let Ok(way) = &mut way
        && let Some(here) = snapshots::stop_for_a_lower_count(view, cluster_version, way)
    {
        way.insert(0, here);
    }
    Some(way)
}

/// A hop begins with all members up. One that is down with other settings than the spec's gets those
/// first, on the version that runs here. What is put back gets nothing new.
fn settings_come_first(view: &View<'_>, here: EtcdVersion) -> bool {
    let claimed = view.claimed();
    let begun = claimed.as_ref().is_some_and(|(progress, member)| {
        let untouched = view.pod(member).is_none_or(|pod| progress.pod_uid.as_deref() == Some(&pod.uid));
        untouched && progress.action.follows_the_spec() && asked_for(view, &progress.revision, here)
    });
    let has_others = |member| {
        let revision = view.revision_of(member).and_then(|name| view.world.revisions.get(name));
        revision.is_some_and(|has| !asked_for(view, &has.name, has.version))
    };
    let mut unclaimed =
        view.members().iter().filter(|member| claimed.as_ref().is_none_or(|(_, claimed)| claimed != *member));
    begun
        || unclaimed.any(|member| {
            gates::is_down(view, member) && !is_beyond_a_revision(view, member) && has_others(member)
        })
}

/// Whether a revision of this version has the settings that the spec asks for.
pub(super) fn asked_for(view: &View<'_>, revision: &str, version: EtcdVersion) -> bool {
    let cluster = &view.world.cluster;
    let is_of =
        |spec: &EtcdClusterSpec| revision == revision::name(&cluster.name, spec, view.world.wire(), version);
    is_of(&cluster.spec) || snapshots::lowered(&cluster.spec).as_ref().is_some_and(is_of)
}

/// The move from what runs to the next version on the way; nothing while it cannot be known what runs.
pub(super) fn hop(view: &View<'_>) -> Option<Result<Hop, HopError>> {
    let next = match view.way.as_ref()? {
        Ok(way) => *way.first()?,
        Err(error) => return Some(Err(error.clone())),
    };
    Some(check_hop(view.known_cluster_version()?, &member_versions(view), next))
}

/// Whether a minor is changed on the way.
fn changes_the_minor(view: &View<'_>) -> bool {
    let way = view.way.iter().flatten().flatten();
    let mut minors = way.map(|version| version.minor);
    view.known_cluster_version().is_some_and(|runs| minors.any(|minor| minor != runs))
}

/// The version of each member: as it says, or as its data was last seen to be on.
pub(super) fn member_versions(view: &View<'_>) -> Vec<EtcdVersion> {
    view.members()
        .iter()
        .filter_map(|member| {
            view.answer(member)
                .and_then(|answer| answer.status())
                .map(|status| status.version)
                .or_else(|| view.claim_of(member)?.opened)
        })
        .collect()
}

/// A release to avoid.
pub(super) fn refused_release(view: &View<'_>, version: EtcdVersion) -> Option<Notice> {
    let releases = &view.world.releases;
    let why = releases.refused(version)?;
    let newest = releases.newest(version.minor).map(|newest| format!("set spec.version to {newest}"));
    Some(Notice::new(
        Code::ReleaseRefused,
        format!("etcd {version} is a release to avoid: {why}"),
        newest.unwrap_or_else(|| Code::ReleaseRefused.remedy().to_owned()),
    ))
}

/// Flags that a version which is about to be started would not start with: each on the way to what the spec
/// wants, and that of each member that has to be rendered anew.
fn flags(view: &View<'_>) -> Option<Notice> {
    let wanted = view.desired.as_ref().ok()?.version;
    let way = view.way.iter().flatten().flatten().copied();
    let is_stored = |name: &String| view.world.revisions.contains_key(name);
    let unstored = view
        .members()
        .iter()
        .filter_map(|member| view.claim_of(member))
        .filter(|claim| !claim.assigned.as_ref().is_some_and(is_stored))
        .filter_map(|claim| claim.opened);
    way.chain([wanted]).chain(unstored).find_map(|version| unsupported_flag(view, version))
}

/// A flag that a version would not start with.
pub(super) fn unsupported_flag(view: &View<'_>, version: EtcdVersion) -> Option<Notice> {
    if view.target.as_ref().is_some_and(|target| target.version == version) {
        return None;
    }
    let cluster = &view.world.cluster;
    let error = spec::flags(&cluster.spec, version).err()?;
    // What an earlier operator rendered runs as it is.
    if view.world.revisions.contains_key(&revision::name(
        &cluster.name,
        &cluster.spec,
        view.world.wire(),
        version,
    )) {
        return None;
    }
    Some(Notice::new(
        Code::FlagUnsupported,
        format!("spec.etcd: {error}"),
        format!("in spec.etcd.extraArgs or spec.etcd.featureGates, {}", error.remedy()),
    ))
}

fn refused_hop(view: &View<'_>, error: &HopError) -> Notice {
    let running =
        member_versions(view).into_iter().min().map(|version| version.to_string()).unwrap_or_default();
    let stay = format!("set spec.version back to {running}");
    match error {
        HopError::Unsupported { version, known } if view.running_versions().contains(version) => Notice::new(
            Code::VersionUnsupported,
            format!("members run etcd {version}, and no members of that minor are run here (known: {known})"),
            "bring the data to one of these minors by etcd itself first, or restore a backup into a new EtcdCluster",
        ),
        HopError::Unsupported { known, .. } => Notice::new(
            Code::VersionUnsupported,
            error.to_string(),
            format!("choose a version of the minors {known}; {stay} to change nothing"),
        ),
        HopError::Skip { next, .. } => Notice::new(
            Code::MinorSkipped,
            error.to_string(),
            format!(
                "set spec.rollout.hops to Many, or spec.version to a {next} release first; {stay} to change nothing"
            ),
        ),
        HopError::Ahead { cluster, .. } => Notice::new(
            Code::DowngradeUnsupported,
            error.to_string(),
            format!("set spec.rollout.hops to Many, or spec.version to a {cluster} release first"),
        ),
        HopError::Downgrade { cluster, .. } => Notice::new(
            Code::DowngradeUnsupported,
            error.to_string(),
            format!("set spec.version to a {cluster} release"),
        ),
        HopError::BelowFloor { floor, .. } | HopError::NoWayBack { floor, .. } => Notice::new(
            Code::FloorNotMet,
            error.to_string(),
            format!(
                "set spec.rollout.hops to Many, or spec.version to {floor} or a later patch of {} first; {stay} to \
                 change nothing",
                floor.minor
            ),
        ),
        HopError::NoRelease { minor, .. } => Notice::new(
            Code::ReleaseRefused,
            error.to_string(),
            format!("let the operator use a release of {minor} again (--releases); {stay} to change nothing"),
        ),
    }
}

/// While a roll is under way members with old and new timeouts vote together. A follower that waits
/// for less than the leader's heartbeat never stops asking for votes.
fn conflicting_timeouts(view: &View<'_>) -> Option<Notice> {
    let target = view.target.as_ref()?;
    view.outdated().iter().find_map(|member| {
        let running = view.revision(view.revision_of(member)?)?;
        let (heartbeat, timeout, whose) = if target.heartbeat_ms >= running.election_timeout_ms {
            (target.heartbeat_ms, running.election_timeout_ms, "in force")
        } else if running.heartbeat_ms >= target.election_timeout_ms {
            (running.heartbeat_ms, target.election_timeout_ms, "asked for")
        } else {
            return None;
        };
        Some(Notice::new(
            Code::ElectionTimeoutConflict,
            format!(
                "members with a heartbeat of {heartbeat}ms and others with an election timeout of {timeout}ms ({whose}) \
                 would vote together during the roll, and elections would never settle"
            ),
            "change spec.etcd.electionTimeout first, let it roll, then spec.etcd.heartbeatInterval \
             (the other way round to lower both)",
        ))
    })
}

/// A revision that failed is not tried again: another one is.
fn failed_before(view: &View<'_>) -> Option<Notice> {
    let failure = view.world.cluster.status.last_failure.as_ref()?;
    let target = view.target.as_ref()?;
    if failure.revision != target.name || view.outdated().is_empty() {
        return None;
    }
    // It has come up late, and stays.
    let its = view.members().iter().find(|member| member.to_string() == failure.member);
    let is_as_wanted = |member| gates::runs_its_version(view, member).is_ok() && !view.is_outdated(member);
    if its.is_some_and(|member| view.up(member).is_some() && is_as_wanted(member)) {
        return None;
    }
    Some(Notice::new(
        Code::MemberFailed,
        format!(
            "{} did not come up with {}{}; {}, and no other member is touched",
            failure.member,
            failure.version,
            how_it_failed(failure),
            if its.is_none() { "it was removed again" } else { "its last good revision was put back" }
        ),
        "read status.lastFailure.log and mend the spec, or set it back; set spec.rollout.restartedAt to try the \
         same once more, and spec.rollout.memberDeadline higher where it is only slow",
    ))
}
