//! What goes wrong, and what people do: by chance, or chosen by name.

use crate::databases::fill_up;
use crate::metadata::CUTS_OFF;
use crate::recovery_steps;
use crate::volumes::CLASSES;
use crate::world::catalogue::BAD_FLAG;
use crate::world::kube::{Pod, State};
use crate::world::{NAME, World};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use quorate::api::{
    Approval, Duration, EtcdClusterSpec, EtcdClusterStatus, EtcdSpec, HealMode, MaintenanceWindow, Quantity,
    Retention, RolloutSpec, StorageSpec,
};
use quorate::cluster::names::MemberName;
use quorate::cluster::objects::pod::Initial;
use quorate::etcd::{DowngradeCall, Minor};

/// Versions that people write into the spec.
const VERSIONS: &[&str] = &[
    "3.5.9", "3.5.25", "3.5.30", "3.5.35", "3.5.35", "3.6.14", "3.6.16", "3.6.16", "3.6.16", "3.6.99",
    "3.6.98", "3.6.98", "3.6.97", "3.6.96", "3.5.98", "3.7.3", "3.4.45", "latest",
];

/// Versions that a cluster begins with.
pub const FIRST_VERSIONS: &[&str] = &["3.5.9", "3.5.30", "3.5.35", "3.5.35", "3.6.14", "3.6.16", "3.7.3"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    Crash,
    NodeDown,
    PodDeleted,
    ClaimLost,
    VolumeWiped,
    /// What a member has on its disk cannot be opened any more.
    Damaged,
    /// A member's keys become others than those of the others, and etcd notices.
    Corrupted,
    /// The node of a member is no more, and its volumes are gone with it.
    NodeGone,
    AllWiped,
    SlowStarts,
    Isolated,
    Drain,
    /// A node of a member is cordoned, or uncordoned.
    Cordon,
    StatusEmptied,
    Recreated,
    ForeignPod,
    Alarm,
    /// Somebody runs `etcdctl downgrade enable`.
    DowngradeJob,
    /// Somebody approves the plan in the status.
    Approve,
    /// Somebody asks for a member to be replaced.
    Replace,
    /// Somebody says spec.recovery, rightly or not, or takes it back.
    Recover,
    Edit,
    Revert,
}

/// How often each happens, beside the others.
const CHANCES: &[(Fault, u64)] = &[
    (Fault::Crash, 16),
    (Fault::NodeDown, 6),
    (Fault::PodDeleted, 10),
    (Fault::ClaimLost, 2),
    (Fault::VolumeWiped, 2),
    (Fault::Damaged, 1),
    (Fault::Corrupted, 1),
    (Fault::NodeGone, 1),
    (Fault::AllWiped, 1),
    (Fault::SlowStarts, 4),
    (Fault::Isolated, 6),
    (Fault::Drain, 16),
    (Fault::Cordon, 3),
    (Fault::StatusEmptied, 4),
    (Fault::Recreated, 2),
    (Fault::ForeignPod, 1),
    (Fault::Alarm, 2),
    (Fault::DowngradeJob, 2),
    (Fault::Approve, 6),
    (Fault::Replace, 3),
    (Fault::Recover, 8),
    (Fault::Edit, 30),
    (Fault::Revert, 12),
];

pub fn by_chance(world: &mut World, first: &EtcdClusterSpec) {
    let total: u64 = CHANCES.iter().map(|(_, weight)| weight).sum();
    let mut at = world.rng.range(0, total);
    for (fault, weight) in CHANCES {
        if at < *weight {
            let members = world.members();
            let member = world.rng.pick(&members).cloned();
            return strike(world, *fault, member.as_ref(), first);
        }
        at -= weight;
    }
}

/// Lets one fault happen. `member`: to whom, where it happens to one.
pub fn strike(world: &mut World, fault: Fault, member: Option<&MemberName>, first: &EtcdClusterSpec) {
    world.say(|| format!("  * {fault:?} {}", member.map(ToString::to_string).unwrap_or_default()));
    match fault {
        Fault::Edit => return edit(world),
        Fault::Revert => {
            let first = first.clone();
            return world.edit_spec(|spec| *spec = first);
        }
        Fault::StatusEmptied => {
            let at = world.cluster.as_ref().map(|cluster| cluster.resource_version).unwrap_or_default();
            world.write_status(at, |status| *status = EtcdClusterStatus::default());
            return;
        }
        Fault::Recreated => return recreate(world),
        Fault::Approve => return approve(world),
        Fault::Recover => return recovery_steps::say(world),
        Fault::AllWiped => {
            let is_guarded = |member| world.pods.get(member).is_some_and(|pod| pod.initial == Initial::Guard);
            if world.members().iter().all(is_guarded) {
                for member in world.members() {
                    wipe(world, &member);
                }
            }
            return;
        }
        _ => {}
    }
    let Some(member) = member else { return };
    match fault {
        Fault::Replace => {
            let (name, version) = (member.to_string(), world.serial());
            if let Some(cluster) = &mut world.cluster {
                cluster.replace = Some(name);
                cluster.resource_version = version;
            }
            world.changed();
        }
        Fault::Drain => {
            world.evict(member, None);
        }
        Fault::Cordon => {
            if let Some(node) = world.pods.get(member).and_then(|pod| pod.node) {
                if !world.cordoned.remove(&node) {
                    world.cordoned.insert(node);
                }
                world.changed();
            }
        }
        Fault::Crash => {
            world.violent += 1;
            if world.pods.get(member).is_some_and(|pod| matches!(pod.state, State::Running { .. })) {
                world.exit(member, 137, "");
            }
        }
        Fault::NodeDown => node_down(world, member),
        Fault::PodDeleted => {
            world.violent += 1;
            world.delete_pod(member);
        }
        Fault::ClaimLost | Fault::VolumeWiped | Fault::Damaged => lose_data(world, fault, member),
        Fault::Corrupted => corrupt(world, member),
        Fault::NodeGone => node_gone(world, member),
        Fault::SlowStarts => {
            let slow = world.rng.range(0, 60_000);
            world.slow.insert(member.clone(), slow);
        }
        Fault::Isolated => {
            world.violent += 1;
            let until = world.now + world.rng.range(1_000, 30_000);
            let longer = world.isolated.entry(member.clone()).or_insert(until);
            *longer = until.max(*longer);
        }
        Fault::ForeignPod => foreign(world, member),
        Fault::Alarm => {
            if let Some(cluster) = world.data(member).map(|data| data.cluster_id) {
                // Mostly history, mostly what was deleted since, or keys that are there.
                let (keys, compacted) = *world.rng.pick(&[(10, false), (10, true), (95, false)]).unwrap();
                fill_up(world, cluster, keys, compacted);
            }
        }
        // Between the forming of a cluster and its record nobody heals a member of it: a second, left out here.
        Fault::DowngradeJob if world.cluster.as_ref().is_none_or(|it| it.status.cluster_id.is_none()) => {}
        Fault::DowngradeJob => {
            let version = world.raft_of(member).and_then(|raft| raft.cluster_version);
            if let Some(below) = version.and_then(Minor::previous) {
                world.call_downgrade(member, DowngradeCall::Enable(below));
            }
        }
        _ => unreachable!("{fault:?} is dealt with above"),
    }
}

fn lose_data(world: &mut World, fault: Fault, member: &MemberName) {
    if !may_lose(world, member) {
        return;
    }
    if fault != Fault::ClaimLost {
        wipe(world, member);
        if let Some(volume) = world.claims.get_mut(member) {
            volume.damaged = fault == Fault::Damaged;
        }
    } else if let Some(volume) = world.claims.get_mut(member) {
        // Somebody deletes the claim and the Pod that holds it.
        volume.facts.deleting = true;
        world.violent += 1;
        world.delete_pod(member);
        world.changed();
    }
}

/// Between its first WAL and its guard a wiped member forms anew, and nobody can keep it from that:
/// some hundred milliseconds, which are left out here.
fn may_lose(world: &World, member: &MemberName) -> bool {
    let is_noted = world.claims.get(member).is_some_and(|volume| volume.facts.opened.is_some());
    world.pods.get(member).map_or(is_noted, |pod| pod.initial == Initial::Guard)
}

fn wipe(world: &mut World, member: &MemberName) {
    world.violent += 1;
    world.destroy(member);
}

fn node_down(world: &mut World, member: &MemberName) {
    let until = world.now + world.rng.range(2_000, 90_000);
    if let Some(node) = world.pods.get(member).and_then(|pod| pod.node)
        && world.node_is_up(node)
    {
        world.violent += 1;
        world.nodes[node] = Some((world.now, until));
        world.changed();
    }
}

fn node_gone(world: &mut World, member: &MemberName) {
    let Some(node) = world.pods.get(member).and_then(|pod| pod.node).filter(|_| world.gone.is_empty()) else {
        return;
    };
    let there: Vec<MemberName> = world
        .members()
        .into_iter()
        .filter(|other| world.pods.get(other).is_some_and(|pod| pod.node == Some(node)))
        .collect();
    if !there.iter().all(|member| may_lose(world, member)) {
        return;
    }
    for member in there {
        wipe(world, &member);
        if let Some(volume) = world.claims.get_mut(&member) {
            volume.home = Some(node);
        }
    }
    world.gone.insert(node);
    world.nodes[node] = Some((world.now, u64::MAX));
    world.changed();
}

fn corrupt(world: &mut World, member: &MemberName) {
    if !may_lose(world, member) {
        return;
    }
    let Some(data) = world.claims.get_mut(member).and_then(|volume| volume.data.as_mut()) else { return };
    data.differs = true;
    let cluster = data.cluster_id;
    world.violent += 1;
    if let Some(raft) = world.rafts.get_mut(&cluster) {
        raft.corrupt = true;
    }
    world.changed();
}

fn foreign(world: &mut World, member: &MemberName) {
    if !world.pods.contains_key(member) {
        let uid = world.uid("pod");
        let pod = Pod {
            uid,
            owner: None,
            deleting: None,
            revision: String::new(),
            image: String::new(),
            hangs: false,
            bound_at: 0,
            bad_flag: true,
            initial: Initial::Guard,
            learner: false,
            node: None,
            ready: false,
            ended: false,
            restarts: 0,
            exit_code: None,
            last_words: None,
            snapshots: 0,
            joined: false,
            state: State::Unscheduled,
        };
        world.pods.insert(member.clone(), pod);
        world.changed();
    }
}

/// What the status shows is approved.
fn approve(world: &mut World) {
    let version = world.serial();
    let Some(cluster) = &mut world.cluster else { return };
    let Some(plan) = &cluster.status.plan else { return };
    cluster.approve.clone_from(&plan.hash);
    cluster.resource_version = version;
    world.approved.extend(plan.becomes.clone());
    world.changed();
}

/// Deleted, and made again under the same name; sometimes at once, while the old Pods still go.
fn recreate(world: &mut World) {
    let Some(spec) = world.cluster.as_ref().map(|cluster| cluster.spec.clone()) else { return };
    world.violent += 1;
    world.delete_cluster();
    if world.cluster.is_none() {
        world.create_cluster(spec);
    }
}

fn edit(world: &mut World) {
    let kind = world.rng.range(0, 33);
    let number = world.rng.range(1, 4);
    let version = (*world.rng.pick(VERSIONS).unwrap()).to_owned();
    let at = world.timestamp(world.now);
    let restarted = Time(jiff::Timestamp::from_second(at.as_second()).unwrap());
    let replicas = *world.rng.pick(&[1, 2, 3, 3, 3, 5, 5, 7]).unwrap();
    world.say(|| format!("      edit {kind} {version} {replicas}"));
    world.edit_spec(|spec| match kind {
        0..=8 => spec.version = version,
        9 | 23 | 24 => spec.replicas = replicas,
        27 => spec.rollout.get_or_insert_default().paused = (number > 1).then_some(true),
        26 => spec.heal.get_or_insert_default().mode = (number > 1).then_some(HealMode::Manual),
        25 => {
            let storage = spec.storage.get_or_insert_default().retention_policy.get_or_insert_default();
            storage.when_scaled = (number > 1).then_some(Retention::Retain);
        }
        10 => spec.paused = Some(spec.paused != Some(true)),
        11 => {
            let etcd = spec.etcd.get_or_insert_default();
            if etcd.extra_args.remove(BAD_FLAG).is_none() {
                etcd.extra_args.insert(BAD_FLAG.to_owned(), "many".to_owned());
            }
        }
        12 => {
            spec.etcd.get_or_insert_default().extra_args.insert("max-txn-ops".to_owned(), number.to_string());
        }
        // Each minor has its own words for these.
        13 => {
            let etcd = spec.etcd.get_or_insert_default();
            etcd.extra_args.insert("experimental-corrupt-check-time".to_owned(), format!("{number}h"));
            etcd.feature_gates.insert("InitialCorruptCheck".to_owned(), number > 1);
        }
        14 | 15 => spec.rollout.get_or_insert_default().restarted_at = Some(restarted),
        16 => spec.rollout.get_or_insert_default().allow_downtime = Some(true),
        17 => spec.etcd.get_or_insert_default().election_timeout = Some(Duration::new(format!("{number}s"))),
        28 | 29 => {
            let class = CLASSES[usize::try_from(number).unwrap() % CLASSES.len()];
            spec.storage.get_or_insert_default().storage_class_name = Some(class.to_owned());
        }
        18 => spec.storage.get_or_insert_default().size = Some(Quantity::new(format!("{}Gi", 7 + number))),
        19 => {
            let manual = number > 1;
            spec.rollout.get_or_insert_default().approval = manual.then_some(Approval::Manual);
        }
        // Half of each minute, or never: the thirtieth of February.
        20 => {
            let schedule = if number > 1 { "* * * * *" } else { "0 0 30 2 *" }.to_owned();
            let window =
                MaintenanceWindow { schedule, duration: Duration::new("1m".to_owned()), time_zone: None };
            spec.rollout.get_or_insert_default().windows = vec![window];
        }
        // Far too many entries between two raft snapshots, where a hop to 3.7 asks for them.
        21 => spec.etcd.get_or_insert_default().snapshot_count = (number > 1).then_some(200_000),
        30 => {
            let labels = &mut spec.pod.get_or_insert_default().labels;
            labels.insert(format!("label-{number}"), restarted.0.as_second().to_string());
        }
        31 => {
            spec.pod.get_or_insert_default().labels.insert(CUTS_OFF.to_owned(), number.to_string());
        }
        32 => spec.pod.get_or_insert_default().labels.clear(),
        _ => spec.etcd.get_or_insert_default().extra_args.clear(),
    });
}

/// A spec that this cluster can reach, whatever was done to it.
pub fn reachable(world: &World, first: &EtcdClusterSpec) -> EtcdClusterSpec {
    let newest = |minor: &str| match minor {
        "3.5" => "3.5.35".to_owned(),
        "3.6" => "3.6.16".to_owned(),
        _ => "3.7.3".to_owned(),
    };
    let raft = world.raft();
    let current = raft.and_then(|raft| raft.cluster_version).map(|version| newest(&version.to_string()));
    let pinned = world.cluster.as_ref().and_then(|cluster| cluster.status.bootstrap.as_ref());
    // Volumes are not made smaller.
    let size = world.claims.values().filter_map(|volume| volume.facts.size).max();
    let known = current.filter(|version| version != "3.7.3" || raft.is_some_and(|raft| raft.acked > 0));
    EtcdClusterSpec {
        version: known.unwrap_or_else(|| first.version.clone()),
        replicas: pinned.map_or(first.replicas, |pinned| pinned.members),
        paused: None,
        storage: size.map(|bytes| StorageSpec {
            size: Some(Quantity::new(bytes.to_string())),
            empty_dir: first.storage.as_ref().and_then(|storage| storage.empty_dir.clone()),
            ..StorageSpec::default()
        }),
        etcd: None::<EtcdSpec>,
        rollout: Some(RolloutSpec {
            member_deadline: Some(Duration::new("20s")),
            restarted_at: Some(Time(jiff::Timestamp::from_second(1_790_000_000 + 999_999).unwrap())),
            allow_downtime: Some(true),
            ..RolloutSpec::default()
        }),
        ..first.clone()
    }
}

/// The name of a member by its number.
pub fn member(number: u32) -> MemberName {
    MemberName::new(NAME, number)
}

/// Clients write through the v2 API, which 3.5 still has.
pub fn write_by_the_v2_api(world: &mut World) {
    for volume in world.claims.values_mut() {
        if let Some(data) = volume.data.as_mut().filter(|data| data.opened.minor < Minor::new(3, 6)) {
            data.of_the_v2_api = true;
        }
    }
}

/// What is over when the faults are.
pub fn heal(world: &mut World) {
    world.isolated.clear();
    world.labels_cut_off = false;
    world.slow.clear();
    world.cordoned.clear();
    for (_, until) in world.nodes.iter_mut().flatten().filter(|(_, until)| *until != u64::MAX) {
        *until = 0;
    }
    world.pods.retain(|_, pod| pod.owner.is_some());
    for raft in world.rafts.values_mut() {
        (raft.alarm, raft.keys) = (false, 1 << 20);
    }
    for data in world.claims.values_mut().filter_map(|volume| volume.data.as_mut()) {
        (data.db_size, data.in_use) = (1 << 20, 1 << 20);
    }
    world.changed();
}
