//! The invariants of the design, asked of the true world (not of what the operator saw).

use crate::observe::Seen;
use crate::recovery_steps;
use crate::world::World;
use quorate::api::{Action, Approval, EtcdClusterStatus};
use quorate::cluster::names::{MemberName, peer_secret, server_secret};
use quorate::cluster::objects::pod::Initial;
use quorate::cluster::plan::{NewPod, Record};
use quorate::cluster::revision::{self, Revision};
use quorate::cluster::spec::{self, deletes_volumes};
use quorate::cluster::wire::Wire;
use quorate::etcd::versions::is_known;

/// Whether a member counts for quorum right now, and is not on its way out.
pub fn counts(world: &World, member: &MemberName) -> bool {
    world.serving(member)
        && !world.isolated.contains_key(member)
        && world.pods.get(member).is_some_and(|pod| pod.deleting.is_none())
}

/// Why this member must not be stopped now, if there is a reason (invariant 1).
pub fn objection_to_a_stop(world: &World, seen: &Seen, member: &MemberName) -> Option<String> {
    let raft = world.raft_of(member)?;
    if let Some(why) = unapproved_stop(world, seen, member) {
        return Some(why);
    }
    if seen.violent != world.violent || !counts(world, member) {
        return None;
    }
    let away: Vec<String> = raft
        .voters
        .keys()
        .filter(|other| *other != member && !counts(world, other))
        .map(ToString::to_string)
        .collect();
    if !away.is_empty() {
        return Some(format!("{member} is stopped while {} is away", away.join(", ")));
    }
    let storage = world.data(member).and_then(|data| data.storage_version);
    let gets = seen.facts.cluster.status.progress.as_ref().and_then(|it| world.revisions.get(&it.revision));
    let gets = gets.map(|stored| stored.revision.version);
    if let (Some(gets), Some(storage)) = (gets, storage)
        && gets.minor < storage
    {
        return Some(format!("{member} is stopped for {gets}, and its storage version is still {storage}"));
    }
    let leads = raft.voters.len() > 1 && raft.leader.as_ref() == Some(member);
    let just_now = seen.facts.now == world.timestamp(world.now);
    (leads && just_now).then(|| format!("{member} is stopped while it leads"))
}

/// With `approval: Manual` no member is stopped for a change that nobody has approved.
fn unapproved_stop(world: &World, seen: &Seen, member: &MemberName) -> Option<String> {
    let cluster = &seen.facts.cluster;
    let action = cluster.status.progress.as_ref()?.action;
    let manual = cluster.spec.rollout.as_ref()?.approval == Some(Approval::Manual);
    if !manual || !action.follows_the_spec() {
        return None;
    }
    let version = spec::parse(&cluster.spec).ok()?.version;
    let becomes = revision::name("db", &cluster.spec, seen.facts.wire(), version);
    (!world.approved.contains(&becomes))
        .then(|| format!("{member} is stopped for a change that nobody approved"))
}

/// A member of a cluster that talks TLS finds what it shows: else its Pod would wait for it.
pub fn has_certificates(world: &mut World, member: &MemberName) {
    if world.wire() == Wire::Plain {
        return;
    }
    let live = world.live_secrets();
    for secret in [peer_secret(member), server_secret(member)] {
        if !live.contains_key(&secret) {
            world.violate(format!("{member} is started without its Secret {secret}"));
        }
    }
}

/// A Pod is removed only when it serves nobody (invariant 1).
pub fn before_a_pod_is_removed(world: &mut World, seen: &Seen, member: &MemberName) {
    if recovers(seen) {
        return for_a_recovery(world, &format!("{member}'s Pod is removed"));
    }
    let deleting = world.cluster.as_ref().is_none_or(|cluster| cluster.deleting);
    let formed = world.data(member).is_some_and(|data| {
        let votes = world.raft_of(member).is_some_and(|raft| raft.voters.contains_key(member));
        world.formed.contains(&data.cluster_id) && votes
    });
    if !deleting && formed && counts(world, member) {
        world.violate(format!("{member}'s Pod is removed while it serves"));
    }
    let keeps_data = world.claims.get(member).is_some_and(|volume| volume.facts.in_pod)
        && world.pods.get(member).is_some_and(|pod| !pod.ended);
    if !deleting && formed && keeps_data {
        world.violate(format!("{member}'s Pod is removed while it is a member, and its data with it"));
    }
}

/// Invariants 3 and 5: no `new` after bootstrap, no binary that cannot open the data. And no flag that the
/// binary does not know.
pub fn before_a_pod_is_made(world: &mut World, seen: &Seen, new: &NewPod, revision: &Revision) {
    let member = &new.member;
    let id_is_known = world.cluster.as_ref().is_some_and(|cluster| cluster.status.cluster_id.is_some());
    if id_is_known && matches!(new.initial, Initial::New { .. }) {
        world.violate(format!("{member} is made as `new` after the cluster had formed"));
    }
    for arg in revision.args() {
        let flag = arg.trim_start_matches('-').split('=').next().unwrap_or_default();
        if !is_known(flag, revision.version) {
            world
                .violate(format!("{member} is made with --{flag}, which {} does not know", revision.version));
        }
    }
    let Some(raft) = world.raft_of(member) else { return };
    let minor = revision.version.minor;
    // What moved after the last member that could tell was stopped nobody can know: then the old
    // binary exits at its start, harms nothing, and the new one must come back (invariant 7).
    let known = seen.facts.last_known_cluster_version();
    if known.is_some_and(|version| minor < version) {
        let version = raft.cluster_version;
        world.violate(format!(
            "{member} is made with {} below the cluster version {version:?}",
            revision.version
        ));
        return;
    }
    let lowest = raft.voters.keys().filter_map(|voter| world.data(voter)).map(|data| data.opened.minor).min();
    if lowest.is_some_and(|lowest| minor > lowest.next()) {
        world.violate(format!(
            "{member} is made with {}, more than a minor above {lowest:?}",
            revision.version
        ));
    }
}

/// Whether a cluster is made anew from one member, because somebody says so.
fn recovers(seen: &Seen) -> bool {
    seen.facts.cluster.status.progress.as_ref().is_some_and(|progress| progress.action == Action::Recover)
}

fn is_marked(world: &World, member: &MemberName) -> bool {
    world.claims.get(member).is_some_and(|volume| volume.facts.recovering.is_some())
}

/// What only a recovery may do, it may do where the data of a quorum is lost.
fn for_a_recovery(world: &mut World, what: &str) {
    if let Some(objection) = recovery_steps::objection(world) {
        world.violate(format!("{what}: {objection}"));
    }
}

/// Whether a member is in etcd's list.
fn is_listed(world: &World, member: &MemberName) -> bool {
    let raft = world.raft_of(member).or_else(|| world.raft());
    raft.is_some_and(|raft| raft.voters.contains_key(member) || raft.learners.contains_key(member))
}

/// Invariant 4: no replacement before what is dead was removed, and one learner at a time.
pub fn before_a_member_is_added(world: &mut World, seen: &Seen, member: &MemberName) {
    let Some(raft) = world.raft().cloned() else { return };
    if seen.violent != world.violent {
        return;
    }
    let dead = raft.voters.keys().find(|voter| world.data(voter).is_none());
    if let Some(dead) = dead {
        world.violate(format!("{member} is added while {dead}, which is dead, is a member"));
    }
    if raft.removed.iter().any(|id| world.had_data.get(id) == Some(member)) {
        world.violate(format!("{member} is added under a number that was used before"));
    }
}

/// Why this member must not be removed now, if there is a reason (invariants 1, 4 and 6).
pub fn objection_to_a_removal(world: &World, seen: &Seen, member: &MemberName) -> Option<String> {
    let raft = world.raft()?;
    if seen.violent != world.violent || !raft.voters.contains_key(member) {
        return None;
    }
    let wanted = usize::try_from(seen.facts.cluster.spec.replicas).unwrap_or_default();
    // A person may say whose data is wrong, where nobody differs alone from all others.
    let differ = raft.voters.keys().filter(|voter| world.data(voter).is_some_and(|data| data.differs));
    let is_untold = raft.corrupt && (raft.voters.len() < 3 || differ.count() != 1);
    let is_named = seen.facts.cluster.replace.as_ref() == Some(&member.to_string())
        && (is_untold || !counts(world, member));
    let is_lost = world.data(member).is_none()
        || is_lost_with_its_node(world, seen, member)
        || (raft.corrupt && world.data(member).is_some_and(|data| data.differs));
    if raft.voters.len() <= wanted && !is_lost && !is_named {
        return Some(format!("{member} is removed, {wanted} members are wanted and its data is there"));
    }
    let others: Vec<&MemberName> = raft.voters.keys().filter(|other| *other != member).collect();
    let left = others.iter().filter(|other| counts(world, other)).count();
    if left < others.len() / 2 + 1 {
        return Some(format!("{member} is removed, and only {left} of {} are left", others.len()));
    }
    let better = others.iter().find(|other| !counts(world, other));
    if let Some(better) = better.filter(|_| counts(world, member)) {
        return Some(format!("{member} is removed while {better} is away"));
    }
    let just_now = seen.facts.now == world.timestamp(world.now);
    (just_now && raft.leader.as_ref() == Some(member)).then(|| format!("{member} is removed while it leads"))
}

/// Whether the only node on which a member's volume can be used has been down for longer than one may be.
fn is_lost_with_its_node(world: &World, seen: &Seen, member: &MemberName) -> bool {
    let home = |member: &MemberName| {
        let volume = world.claims.get(member)?;
        if volume.facts.in_pod { world.pods.get(member)?.node } else { volume.home }
    };
    let down = home(member).and_then(|node| world.nodes[node]).map(|(since, _)| since);
    let after = spec::parse(&seen.facts.cluster.spec).map(|desired| desired.node_lost_after);
    down.is_some_and(|since| after.is_ok_and(|after| u128::from(world.now - since) >= after.as_millis()))
}

/// A volume is kept aside when its member is none any more.
pub fn before_a_claim_is_set_aside(world: &mut World, seen: &Seen, member: &MemberName) {
    if recovers(seen) {
        return for_a_recovery(world, &format!("{member}'s volume is set aside"));
    }
    if is_listed(world, member) {
        world.violate(format!("{member}'s volume is set aside while it is a member"));
    }
}

/// Invariant 6: a volume goes only with the cluster, or with its member, under the policy that says so.
pub fn before_a_claim_is_deleted(world: &mut World, seen: &Seen, member: &MemberName) {
    let with_the_cluster =
        world.cluster.as_ref().is_some_and(|cluster| cluster.deleting && deletes_volumes(&cluster.spec));
    // Another operator may have released it since.
    let claimed = seen.facts.cluster.status.progress.as_ref();
    let is_over = || world.set_aside.get(member).and_then(|(since, _)| *since);
    let quarantine = spec::parse(&seen.facts.cluster.spec).map(|desired| desired.quarantine);
    let is_over = quarantine.is_ok_and(|quarantine| {
        is_over().is_some_and(|since| u128::from(world.now - since) >= quarantine.as_millis())
    });
    let with_its_member = !is_listed(world, member)
        && (is_over
            || claimed.is_some_and(|progress| {
                progress.action == Action::RemoveMember && progress.member == member.to_string()
            }));
    if !with_the_cluster && !with_its_member {
        world.violate(format!("{member}'s volume claim is deleted"));
    }
}

/// One claim at a time, and what is on record is true.
pub fn record(world: &mut World, seen: &Seen, before: &EtcdClusterStatus, record: &Record) {
    world.records.push(match record {
        Record::Bootstrap(_) => "Bootstrap",
        Record::Formed(_) => "Formed",
        Record::Adopted { .. } => "Adopted",
        Record::Claim(_) => "Claim",
        Record::Release { .. } => "Release",
        Record::Withdraw { .. } => "Withdraw",
    });
    match record {
        // Once it was forced its quorum is itself; its volume says that there is no way back.
        Record::Claim(claim) if claim.action == Action::Recover && is_marked(world, &claim.member) => {}
        Record::Claim(claim) if claim.action == Action::Recover => {
            for_a_recovery(world, &format!("{} is to be the cluster", claim.member));
        }
        Record::Claim(claim) => {
            let other =
                before.progress.as_ref().filter(|progress| progress.member != claim.member.to_string());
            if let Some(other) = other.map(|other| other.member.clone()) {
                world.violate(format!("{} is claimed while {other} is", claim.member));
            }
        }
        Record::Formed(id) => {
            if before.cluster_id.is_some() {
                world.violate("a cluster is recorded as formed twice".to_owned());
            }
            if world.rafts.get(&id.0).is_none_or(|raft| raft.published.len() < raft.voters.len()) {
                world.violate(format!("{id} is recorded as formed and is not"));
            }
            world.formed.insert(id.0);
        }
        Record::Adopted { cluster_id, .. } => {
            world.formed.insert(cluster_id.0);
        }
        Record::Release { member, action } if action.removes() => {
            if is_listed(world, member) {
                world.violate(format!("{member} is recorded as removed and is a member"));
            }
        }
        Record::Release { member, action: Action::Recover } => {
            let alone = world.raft_of(member).is_some_and(|raft| raft.voters.keys().eq([member]));
            if !alone {
                world.violate(format!("{member} is recorded as the cluster, and is not"));
            }
        }
        Record::Release { member, .. } => {
            // What happened since it was seen is not laid at the operator's door.
            let just_now = seen.facts.now == world.timestamp(world.now) && seen.violent == world.violent;
            if just_now && !world.serving(member) {
                world.violate(format!("{member} is released and does not serve"));
            }
        }
        Record::Bootstrap(_) | Record::Withdraw { .. } => {}
    }
}
