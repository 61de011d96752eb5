//! Worlds in which databases are full, or hold much that nothing uses.

use crate::databases::fill_up;
use crate::faults::member;
use crate::named::{numbers, settled, uids, version};
use crate::run::rest;
use crate::world::World;
use quorate::api::{Code, Quantity};
use quorate::cluster::plan::{Next, plan};
use rstest::rstest;

const THREE: &str = "{version: 3.6.16, rollout: {memberDeadline: 20s}}";
const OFF: &str = "{version: 3.6.16, rollout: {memberDeadline: 20s}, \
                    maintenance: {defragmentation: {mode: Disabled}}}";

fn full(world: &mut World, keys: u64, compacted: bool) {
    let cluster = world.data(&member(0)).unwrap().cluster_id;
    fill_up(world, cluster, keys, compacted);
}

#[rstest]
#[case::of_history(THREE, false)]
#[case::of_what_was_deleted(THREE, true)]
#[case::with_one_member("{version: 3.6.16, replicas: 1, rollout: {memberDeadline: 20s}}", false)]
fn a_full_database_is_made_room_in_and_the_alarm_taken_back(#[case] yaml: &str, #[case] compacted: bool) {
    let (mut world, mut operator) = settled(yaml);
    let before = (numbers(&world), uids(&world));
    let moves = world.raft().unwrap().moves;
    full(&mut world, 10, compacted);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    let raft = world.raft().unwrap();
    assert_eq!((raft.alarm, raft.compacted), (false, !compacted), "history goes only where that helps");
    assert!(raft.moves <= moves + 1, "the leader comes last");
    let sizes: Vec<u64> =
        before.0.iter().map(|number| world.data(&member(*number)).unwrap().db_size).collect();
    assert!(sizes.iter().all(|size| *size == raft.keys), "{sizes:?}");
    assert_eq!((numbers(&world), uids(&world)), before);
}

/// What the keys take themselves is for a person: to delete some, or to give them more room.
#[test]
fn keys_that_fill_the_database_are_not_touched_and_a_larger_quota_cures_it() {
    let (mut world, mut operator) = settled(THREE);
    full(&mut world, 95, false);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("alarm"));
    let Some(Next::Wait(wait)) = operator.last.as_ref().map(|plan| &plan.next) else { panic!("no wait") };
    assert_eq!((wait.notice.code, wait.overdue), (Code::NoSpace, true));
    assert!(wait.notice.message.contains("the keys themselves take 90 %"), "{}", wait.notice.message);
    world.edit_spec(|spec| {
        spec.etcd.get_or_insert_default().quota_backend_bytes = Some(Quantity::new("8Gi"));
    });
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert!(!world.raft().unwrap().alarm);
}

#[test]
fn where_it_is_disabled_nothing_is_done() {
    let (mut world, mut operator) = settled(OFF);
    full(&mut world, 10, false);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("alarm"));
    assert_eq!((world.raft().unwrap().compacted, world.raft().unwrap().alarm), (false, true));
}

/// An upgrade that was asked for meanwhile waits for the room.
#[test]
fn no_version_changes_under_the_alarm() {
    let (mut world, mut operator) = settled(THREE);
    full(&mut world, 10, false);
    world.edit_spec(version("3.7.3"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
}

#[rstest]
#[case::half_empty(1000, 400, true)]
#[case::in_use(1000, 600, false)]
#[case::a_small_part_of_its_quota(900, 100, false)]
fn what_a_database_does_not_use_is_given_back(#[case] size: u64, #[case] in_use: u64, #[case] given: bool) {
    let (mut world, mut operator) = settled(THREE);
    for data in world.claims.values_mut().filter_map(|volume| volume.data.as_mut()) {
        (data.db_size, data.in_use) = (size << 20, in_use << 20);
    }
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    let now: Vec<u64> =
        world.claims.values().map(|volume| volume.data.as_ref().unwrap().db_size >> 20).collect();
    assert_eq!(now, vec![if given { in_use } else { size }; 3]);
}
