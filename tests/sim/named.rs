//! Worlds with a name.

use crate::operator::Operator;
use crate::rng::Rng;
use crate::run::{rest, until};
use crate::world::World;
use quorate::api::EtcdClusterSpec;
use quorate::cluster::plan::plan;

pub fn spec(yaml: &str) -> EtcdClusterSpec {
    serde_saphyr::from_str(yaml).unwrap()
}

/// A formed, settled cluster.
pub fn settled(yaml: &str) -> (World, Operator) {
    let mut world = World::new(Rng::seeded(7), spec(yaml));
    world.tracing = std::env::var("SIM_TRACE").is_ok();
    let mut operator = Operator::default();
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    (world, operator)
}

#[test]
fn a_patch_roll_takes_the_leader_last_and_moves_leadership_once() {
    let (mut world, mut operator) = settled("{version: 3.6.14, rollout: {memberDeadline: 20s}}");
    let leader = world.raft().unwrap().leader.clone().unwrap();
    let moves = world.raft().unwrap().moves;
    world.edit_spec(|spec| spec.version = "3.6.16".to_owned());
    until(&mut world, &mut operator, plan, "the roll", |world| world.running().len() < 3);
    assert!(world.serving(&leader));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(world.raft().unwrap().moves, moves + 1);
}

#[test]
fn a_bootstrap_ends_as_formed_not_as_adopted() {
    let (world, _) = settled("{version: 3.5.35, rollout: {memberDeadline: 20s}}");
    let status = &world.cluster.as_ref().unwrap().status;
    assert_eq!((status.last_member_number, &status.bootstrap), (Some(2), &None));
    assert_eq!(world.records, ["Bootstrap", "Formed"]);
}
