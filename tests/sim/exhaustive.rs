//! Every interleaving: one hop, a bounded number of faults, each at every step of time. States that
//! were seen before with at least as many faults left are not gone into again.

use crate::at_rest::at_rest;
use crate::faults::{Fault, member, strike};
use crate::named::spec;
use crate::operator::{DIES_BEFORE_THE_REPORT, Operator, words};
use crate::recovery;
use crate::rng::Rng;
use crate::run::rest;
use crate::world::World;
use crate::world::kube::State;
use quorate::api::{EtcdClusterSpec, Quantity};
use quorate::cluster::names::MemberName;
use quorate::cluster::plan::plan;
use quorate::etcd::MemberId;
use rstest::rstest;
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

/// What may happen in one step of time.
#[derive(Clone, Debug)]
enum Event {
    Nothing,
    /// The operator dies after so many writes of its next step.
    Killed(usize),
    Struck(Fault, MemberName),
    Reverted,
}

#[derive(Clone)]
struct Node {
    world: World,
    operator: Operator,
    left: u8,
    /// What happened on the way here, for people.
    path: Vec<(u64, String)>,
    /// States since the last of them, each with how much had been written.
    trail: Vec<(u64, u64)>,
}

fn step(node: &mut Node, event: &Event, first: &EtcdClusterSpec) {
    let (world, operator) = (&mut node.world, &mut node.operator);
    world.tick();
    let mut pieces = usize::MAX;
    match event {
        Event::Nothing => {}
        Event::Killed(after) => pieces = *after,
        Event::Struck(fault, member) => strike(world, *fault, Some(member), first),
        Event::Reverted => {
            let first = first.clone();
            world.edit_spec(|spec| *spec = first);
        }
    }
    if !matches!(event, Event::Nothing) {
        node.left -= 1;
        node.path.push((world.now, format!("{event:?}")));
        node.trail.clear();
    }
    for _ in 0..3 {
        if !operator.is_due(world) || world.violation.is_some() {
            return;
        }
        operator.think(world, plan, &BTreeSet::new());
        if !operator.carry_out(world, pieces) {
            pieces = usize::MAX;
        }
    }
}

/// What a state is, whenever it is reached: times relative to now, raft without its numbers.
fn fingerprint(node: &Node) -> u64 {
    let (world, operator) = (&node.world, &node.operator);
    let now = world.now;
    let mut hash = DefaultHasher::new();
    let cluster = world.cluster.as_ref().unwrap();
    let mut status = cluster.status.clone();
    let is_lost = status.quorum_loss.take().is_some();
    if let Some(progress) = &mut status.progress {
        progress.since = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.timestamp(0));
        progress.pod_uid =
            progress.pod_uid.take().filter(|uid| world.pods.values().any(|pod| pod.uid == *uid));
    }
    format!("{:?} {:?} {is_lost} {status:?}", cluster.spec.version, cluster.deleting).hash(&mut hash);
    for (member, pod) in &world.pods {
        let ahead = |at: u64| at.saturating_sub(now);
        let state = match &pod.state {
            State::Creating { until } => (1, ahead(*until), 0),
            State::Backoff { until } => (2, ahead(*until), 0),
            State::Running { since, serves_at } => (3, ahead(*serves_at), (now - since).min(12_000)),
            State::NotPulled => (4, 0, 0),
            State::Unscheduled => (5, 0, 0),
        };
        let deleting =
            pod.deleting.as_ref().map(|deletion| (ahead(deletion.answers_until), ahead(deletion.gone_at)));
        (member, state, deleting, &pod.revision, pod.ready, pod.restarts.min(4), pod.exit_code, pod.node)
            .hash(&mut hash);
    }
    for (member, volume) in &world.claims {
        // Ids and UIDs differ with the way that led here.
        let mut facts = volume.facts.clone();
        facts.uid.clear();
        facts.member_id = facts.member_id.map(|_| MemberId(0));
        let voters = facts.voters.take().map(|voters| voters.into_keys().collect::<Vec<_>>());
        let grows = volume.grows_at.map(|at| at.saturating_sub(now));
        format!("{member} {facts:?} {voters:?} {grows:?}").hash(&mut hash);
        volume
            .data
            .as_ref()
            .map(|data| (data.opened, data.cluster_version, data.storage_version, data.differs))
            .hash(&mut hash);
    }
    for raft in world.rafts.values() {
        (&raft.leader, raft.cluster_version, raft.published.len(), raft.corrupt).hash(&mut hash);
        raft.voters.keys().chain(raft.learners.keys()).collect::<Vec<_>>().hash(&mut hash);
        raft.learners.len().hash(&mut hash);
    }
    for (name, probe) in &world.probes {
        (name, probe.done_at.saturating_sub(now)).hash(&mut hash);
    }
    for node in &world.nodes {
        // A minute after it went its Pods are gone too.
        node.map(|(since, until)| ((now - since).min(60_000), until.saturating_sub(now).min(60_000)))
            .hash(&mut hash);
    }
    for (name, pod) in &world.recovery {
        let gone = pod.gone_at.map(|at| at.saturating_sub(now));
        (name, pod.done_at.saturating_sub(now), pod.forced, pod.exit_code, gone).hash(&mut hash);
    }
    world.set_aside.keys().collect::<Vec<_>>().hash(&mut hash);
    world.revisions.keys().collect::<Vec<_>>().hash(&mut hash);
    // What ends by its own patience is no rest.
    let patience = &operator.patience;
    let ends = ["grow/", "lost/", "soak/"]
        .iter()
        .any(|what| patience.subject.starts_with(what))
        .then(|| patience.without_progress.as_millis().min(90_000));
    ends.hash(&mut hash);
    let due = world.changes != operator.seen_changes;
    (due, operator.next_at.saturating_sub(now), &operator.patience.subject, operator.patience.best > 0)
        .hash(&mut hash);
    hash.finish()
}

fn events(node: &Node) -> Vec<Event> {
    let mut events = vec![Event::Nothing];
    if node.left == 0 {
        return events;
    }
    // Where the operator has nothing to do a kill only costs it its patience.
    if node.operator.is_due(&node.world) {
        events.extend([Event::Killed(0), Event::Killed(1), Event::Killed(DIES_BEFORE_THE_REPORT)]);
    }
    for member in node.world.members() {
        events.push(Event::Struck(Fault::Drain, member.clone()));
        events.push(Event::Struck(Fault::Crash, member));
    }
    events.push(Event::Reverted);
    events
}

#[rstest]
#[case::one_member_patch(1, "3.6.14", "3.6.16", 2)]
#[case::one_member_minor(1, "3.5.35", "3.6.16", 2)]
#[case::three_members_patch(3, "3.6.14", "3.6.16", 1)]
#[case::three_members_minor(3, "3.5.35", "3.6.16", 1)]
fn every_interleaving_of_a_hop(
    #[case] members: u32,
    #[case] from: &str,
    #[case] to: &str,
    #[case] faults: u8,
) {
    every_interleaving(
        members,
        from,
        |world| world.edit_spec(|spec| to.clone_into(&mut spec.version)),
        faults,
        to,
    );
}

#[rstest]
#[case::one_to_three(1, 3)]
#[case::three_to_one(3, 1)]
fn every_interleaving_of_a_resize(#[case] from: u32, #[case] to: i32) {
    every_interleaving(
        from,
        "3.6.16",
        |world| world.edit_spec(|spec| spec.replicas = to),
        2,
        &format!("{to} members"),
    );
}

#[rstest]
#[case::claim(Fault::ClaimLost)]
#[case::volume(Fault::VolumeWiped)]
#[case::damage(Fault::Damaged)]
#[case::corruption(Fault::Corrupted)]
#[case::node(Fault::NodeGone)]
#[case::somebody_asks(Fault::Replace)]
fn every_interleaving_of_a_replacement(#[case] fault: Fault) {
    let begin = |world: &mut World| strike(world, fault, Some(&member(1)), &spec("{version: 3.6.16}"));
    every_interleaving(3, "3.6.16", begin, 1, &format!("{fault:?}"));
}

#[rstest]
#[case::one_member(1, false)]
#[case::one_member_that_is_restarted(1, true)]
#[case::three_members(3, false)]
#[case::three_members_that_are_restarted(3, true)]
fn every_interleaving_of_a_growth(#[case] members: u32, #[case] offline: bool) {
    let begin = |world: &mut World| {
        world.grows_offline = offline;
        world.edit_spec(|spec| {
            spec.storage.get_or_insert_default().size = Some(Quantity::new("9Gi"));
        });
    };
    every_interleaving(members, "3.6.16", begin, 1, "9Gi");
}

#[rstest]
#[case::one_member(1)]
#[case::three_members(3)]
fn every_interleaving_of_an_exchange_for_another_class(#[case] members: u32) {
    let begin = |world: &mut World| {
        world.edit_spec(|spec| {
            spec.storage.get_or_insert_default().storage_class_name = Some("fast".to_owned());
        });
    };
    every_interleaving(members, "3.6.16", begin, 1, "fast");
}

#[rstest]
#[case::one_member(1)]
#[case::three_members(3)]
fn every_interleaving_of_labels(#[case] members: u32) {
    let begin = |world: &mut World| {
        world.edit_spec(|spec| {
            spec.pod.get_or_insert_default().labels.insert("team".to_owned(), "red".to_owned());
        });
    };
    every_interleaving(members, "3.6.16", begin, 2, "labels");
}

/// Members that keep their data in their Pods: a patch, a minor, and a Pod that goes.
#[rstest]
#[case::patch("3.6.14", "3.6.16")]
#[case::minor("3.5.35", "3.6.16")]
fn every_interleaving_of_a_hop_with_data_in_pods(#[case] from: &str, #[case] to: &str) {
    let begin = |world: &mut World| world.edit_spec(|spec| to.clone_into(&mut spec.version));
    every_interleaving_of(&in_pods(from), begin, 1, to);
}

#[test]
fn every_interleaving_of_a_pod_that_goes_with_its_data() {
    let first = in_pods("3.6.16");
    let begin = |world: &mut World| strike(world, Fault::PodDeleted, Some(&member(1)), &first);
    every_interleaving_of(&first, begin, 1, "a Pod less");
}

/// From the word of a person on.
#[test]
fn every_interleaving_of_a_recovery() {
    every_interleaving(3, "3.6.16", recovery::lose_two_and_accept, 1, "one that is left");
}

#[rstest]
#[case::patch("3.6.14", "3.6.16")]
#[case::minor("3.5.35", "3.6.16")]
#[ignore = "minutes: part of `make soak`"]
fn every_interleaving_of_a_hop_of_three_members_with_two_faults(#[case] from: &str, #[case] to: &str) {
    every_interleaving(3, from, |world| world.edit_spec(|spec| to.clone_into(&mut spec.version)), 2, to);
}

fn in_pods(version: &str) -> EtcdClusterSpec {
    spec(&format!(
        "{{version: {version}, storage: {{emptyDir: {{}}}}, rollout: {{memberDeadline: 20s}}, \
         heal: {{nodeLostAfter: 10s}}}}"
    ))
}

fn every_interleaving(members: u32, from: &str, disturb: impl FnOnce(&mut World), faults: u8, to: &str) {
    let first = spec(&format!(
        "{{version: {from}, replicas: {members}, rollout: {{memberDeadline: 20s, allowDowntime: true}}, \
         heal: {{nodeLostAfter: 10s}}}}"
    ));
    every_interleaving_of(&first, disturb, faults, to);
}

fn every_interleaving_of(first: &EtcdClusterSpec, disturb: impl FnOnce(&mut World), faults: u8, to: &str) {
    let mut world = World::new(Rng::fixed(), first.clone());
    let mut operator = Operator::default();
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    disturb(&mut world);
    let begun = world.now;

    let mut seen: HashMap<u64, u8> = HashMap::new();
    let mut open = vec![Node { world, operator, left: faults, path: Vec::new(), trail: Vec::new() }];
    let mut ends = 0;
    while let Some(node) = open.pop() {
        for event in events(&node) {
            let mut next = node.clone();
            step(&mut next, &event, first);
            assert_eq!(next.world.violation, None, "{:?}", next.path);
            let last = next.operator.last.as_ref().map(|plan| words(&plan.next));
            assert!(next.world.now < begun + 900_000, "it never ends: {:?}, {last:?}", next.path);
            let state = fingerprint(&next);
            // Round and round without a fault: that is rest, and it must be a good one.
            let circle = next.trail.iter().find(|(before, _)| *before == state).copied();
            if let (Some((_, writes)), Some(last)) = (circle, &next.operator.last) {
                ends += 1;
                assert_eq!(next.world.writes, writes, "it writes for ever: {:?}", next.path);
                let end = at_rest(&next.world, last);
                let reverted = next.path.iter().any(|(_, event)| event == "Reverted");
                assert!(
                    end == Ok("settled")
                        || reverted && matches!(end, Ok("hop" | "failed before" | "storage" | "lost data")),
                    "{end:?} {:?}",
                    next.path
                );
                continue;
            }
            if seen.get(&state).is_some_and(|left| *left >= next.left) {
                continue;
            }
            next.trail.push((state, next.world.writes));
            seen.insert(state, next.left);
            open.push(next);
        }
    }
    let (members, from) = (first.replicas, &first.version);
    println!("{members} × {from} → {to}, {faults} faults: {} states, {ends} ends", seen.len());
    assert!(seen.len() > 100 && ends > 0);
}
