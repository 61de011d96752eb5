//! Databases in the simulated world: how they fill up, and what is done for them while members run.

use crate::act::{is_unchanged, wrote};
use crate::check;
use crate::observe::Seen;
use crate::world::World;
use crate::world::kube::{Pod, State};
use quorate::cluster::names::MemberName;
use quorate::cluster::plan::Step;
use quorate::cluster::report::make_room;
use quorate::cluster::spec;
use quorate::etcd::Alarm;

/// The databases reach their quota. `keys`: how many hundredths of it the keys take; the rest is their history, or free
/// where that is forgotten.
pub fn fill_up(world: &mut World, cluster: u64, keys: u64, compacted: bool) {
    let desired = world.cluster.as_ref().and_then(|cluster| spec::parse(&cluster.spec).ok());
    let Some(quota) = desired.map(|desired| desired.quota_bytes) else { return };
    if let Some(cluster) = &mut world.cluster {
        cluster.status.room = None;
    }
    let Some(raft) = world.rafts.get_mut(&cluster) else { return };
    (raft.alarm, raft.keys, raft.compacted) = (true, quota / 100 * keys, false);
    let in_use = if compacted { raft.keys } else { quota };
    for data in world.claims.values_mut().filter_map(|volume| volume.data.as_mut()) {
        (data.db_size, data.in_use) = (quota, in_use);
    }
    world.changed();
}

pub fn compact(world: &mut World, seen: &Seen, step: &Step, through: &MemberName) -> bool {
    let cluster = world.data(through).filter(|_| world.serving(through)).map(|data| data.cluster_id);
    let Some(cluster) = cluster.filter(|cluster| world.propose(*cluster)) else { return false };
    if let Some(raft) = world.rafts.get_mut(&cluster) {
        raft.compacted = true;
    }
    wrote(world);
    reported(world, seen, step);
    true
}

/// What the report says after the step; sometimes nobody waited for its end.
fn reported(world: &mut World, seen: &Seen, step: &Step) {
    let at = seen.facts.cluster.resource_version.parse().unwrap_or_default();
    if world.rng.permille(700) {
        world.write_status(at, |status| make_room(status, step, seen.facts.now));
    }
}

/// It serves nobody for some seconds.
pub fn defragment(world: &mut World, seen: &Seen, step: &Step, member: &MemberName) -> bool {
    let another_leaves = world.pods.iter().any(|(other, pod)| other != member && pod.deleting.is_some());
    if !is_unchanged(world, seen) || !world.serving(member) || another_leaves {
        return false;
    }
    if let Some(objection) = check::objection_to_a_stop(world, seen, member) {
        world.violate(format!("{objection} (to be defragmented)"));
    }
    let serves_at = world.now + 500 + world.rng.range(0, 6_000);
    if let Some(Pod { state: State::Running { serves_at: at, .. }, .. }) = world.pods.get_mut(member) {
        *at = serves_at;
    }
    let raft = world.raft_of(member).filter(|raft| raft.compacted).map(|raft| raft.keys);
    if let Some(data) = world.claims.get_mut(member).and_then(|volume| volume.data.as_mut()) {
        data.in_use = data.in_use.min(raft.unwrap_or(u64::MAX));
        data.db_size = data.in_use;
    }
    wrote(world);
    reported(world, seen, step);
    true
}

pub fn disarm(world: &mut World, seen: &Seen, through: &MemberName, alarm: Alarm) -> bool {
    let cluster = world.data(through).filter(|_| world.serving(through)).map(|data| data.cluster_id);
    let Some(cluster) = cluster.filter(|cluster| world.propose(*cluster)) else { return false };
    if alarm == Alarm::NoSpace {
        if let Some(raft) = world.rafts.get_mut(&cluster) {
            raft.alarm = false;
        }
        wrote(world);
        return true;
    }
    // With one alone it was a person's word.
    let voters = &world.rafts[&cluster].voters;
    let differs = |voter: &MemberName| voters.len() > 1 && world.data(voter).is_some_and(|it| it.differs);
    if voters.keys().any(differs) && seen.violent == world.violent {
        world.violate("the alarm CORRUPT is taken back while members differ".to_owned());
    }
    if let Some(raft) = world.rafts.get_mut(&cluster) {
        raft.corrupt = false;
    }
    wrote(world);
    true
}
