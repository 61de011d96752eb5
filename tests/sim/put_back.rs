//! Worlds in which a member does not come up, and what ran before is put back, or is not.

use crate::faults::{Fault, member, strike};
use crate::named::{THREE, codes, settled, spec, uids, version};
use crate::operator::Operator;
use crate::rng::Rng;
use crate::run::{calm_step, rest, until};
use crate::world::World;
use crate::world::catalogue::{BAD_FLAG, CRASHES, FALTERS};
use crate::world::kube::{Pod, State};
use quorate::api::{Code, HealMode};
use quorate::cluster::names::MemberName;
use quorate::cluster::plan::{Next, plan};
use quorate::etcd::EtcdVersion;
use rstest::rstest;

#[test]
fn a_canary_that_does_not_come_up_is_put_back_and_nobody_else_is_touched() {
    let (mut world, mut operator) = settled(THREE);
    let before = uids(&world);
    world.edit_spec(version(&format!("3.6.{CRASHES}")));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("bad image"));
    let after = uids(&world);
    assert_eq!(before.iter().zip(&after).filter(|(before, after)| before != after).count(), 1);
    assert_eq!(codes(&operator), [Code::MemberFailed]);
    assert!(world.running().values().all(|version| *version == EtcdVersion::new(3, 5, 35)));
    let failure = world.cluster.as_ref().unwrap().status.last_failure.clone().unwrap();
    assert_eq!((failure.version.as_str(), failure.exit_code), ("3.6.98", Some(1)));
    assert_eq!(world.running().len(), 3);
}

/// A new minor that serves and then exits: it has passed its gate, and is still not one to come back to.
#[test]
fn a_canary_that_falters_after_its_gate_is_put_back() {
    let (mut world, mut operator) = settled(THREE);
    world.edit_spec(version(&format!("3.6.{FALTERS}")));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("bad image"));
    assert_eq!(codes(&operator), [Code::MemberFailed]);
    assert_eq!(world.running().len(), 3);
    assert!(world.running().values().all(|version| *version == EtcdVersion::new(3, 5, 35)));
}

/// A node is drained for longer than the deadline while its member is replaced. That no node takes the new Pod is no fault
/// of the new version, and the roll goes on when one does.
#[test]
fn a_drain_that_lasts_longer_than_the_deadline_fails_no_roll() {
    let (mut world, mut operator) = settled("{version: 3.6.14, rollout: {memberDeadline: 20s}}");
    world.edit_spec(version("3.6.16"));
    until(&mut world, &mut operator, plan, "a member away", |world| world.running().len() < 3);
    world.cordoned = (0..world.nodes.len()).collect();
    assert_eq!(rest(&mut world, &mut operator, plan).map_err(|_| "waits"), Err("waits"));
    let Some(Next::Wait(wait)) = operator.last.as_ref().map(|plan| &plan.next) else { panic!("no wait") };
    assert_eq!((wait.notice.code, wait.overdue), (Code::PodUnschedulable, true));
    assert_eq!(world.cluster.as_ref().unwrap().status.last_failure, None);
    world.cordoned.clear();
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert!(world.running().values().all(|version| *version == EtcdVersion::new(3, 6, 16)));
}

/// A start that takes three times its deadline: where its log tells of new stages it is slow, where not it is stuck.
#[rstest]
#[case::slow(Some(15_000), "3.6.16", None)]
#[case::stuck(None, "3.6.14", Some("3.6.16"))]
fn a_member_that_is_slow_is_told_from_one_that_is_stuck(
    #[case] stage: Option<u64>,
    #[case] runs: &str,
    #[case] failed: Option<&str>,
) {
    let (mut world, mut operator) = settled("{version: 3.6.14, rollout: {memberDeadline: 20s}}");
    for number in 0..3 {
        world.slow.insert(member(number), 60_000);
        world.moving.extend(stage.map(|stage| (member(number), stage)));
    }
    world.edit_spec(version("3.6.16"));
    until(&mut world, &mut operator, plan, "a Pod that starts", |world| world.running().len() < 3);
    world.slow.clear();
    world.slow.insert(world.members().into_iter().find(|it| !world.serving(it)).unwrap(), 60_000);
    rest(&mut world, &mut operator, plan).unwrap();
    let runs: EtcdVersion = runs.parse().unwrap();
    assert!(world.running().values().all(|version| *version == runs), "{:?}", world.running());
    let failure = world.cluster.as_ref().unwrap().status.last_failure.as_ref();
    assert_eq!(failure.map(|failure| failure.version.as_str()), failed);
}

/// Seed 10030: every member is down for the settings that it was made again with, and the spec that mends
/// them asks for another minor too. No hop begins with members down: the settings come first.
#[test]
fn settings_that_keep_members_down_are_mended_before_a_hop() {
    let (mut world, mut operator) = settled(THREE);
    strike(&mut world, Fault::Recreated, None, &spec(THREE));
    world.edit_spec(|spec| {
        spec.etcd.get_or_insert_default().extra_args = [(BAD_FLAG.to_owned(), String::new())].into();
    });
    rest(&mut world, &mut operator, plan).unwrap();
    assert!(world.running().is_empty());
    world.edit_spec(|spec| {
        spec.version = "3.6.16".to_owned();
        spec.etcd = None;
    });
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert!(world.running().values().all(|version| *version == EtcdVersion::new(3, 6, 16)));
}

/// Seed 11438: the status is lost while the only member crashes on a new minor. Nobody knows any more
/// whether etcd has raised its cluster version, so what ran before is tried: etcd itself says no to it.
#[test]
fn a_status_lost_over_a_crash_loop_on_a_new_minor_is_put_back() {
    let (mut world, mut operator) =
        settled("{version: 3.5.35, replicas: 1, rollout: {memberDeadline: 20s, allowDowntime: true}}");
    world.edit_spec(version(&format!("3.6.{CRASHES}")));
    until(&mut world, &mut operator, plan, "a crash", |world| {
        world.pods.get(&member(0)).is_some_and(|pod| pod.restarts > 0)
    });
    strike(&mut world, Fault::StatusEmptied, None, &spec(THREE));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("bad image"));
    world.edit_spec(version("3.5.35"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
}

/// Seed 104433: the EtcdCluster was made again with other settings, and its old revisions went with it. What the other
/// members are up with is put back where the member's own is not known.
#[test]
fn after_the_cluster_was_made_again_a_member_is_put_back_to_what_the_others_run() {
    for seed in 0..20 {
        let mut world = World::new(Rng::seeded(seed), spec(THREE));
        let mut operator = Operator::default();
        assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
        strike(&mut world, Fault::Recreated, None, &spec(THREE));
        world.edit_spec(|spec| {
            spec.version = format!("3.5.{CRASHES}");
            spec.etcd.get_or_insert_default().snapshot_count = Some(20_000);
        });
        let uid = world.cluster.as_ref().unwrap().uid.clone();
        let runs_anew =
            |pod: &Pod| pod.owner.as_ref() == Some(&uid) && matches!(pod.state, State::Running { .. });
        let running = |world: &World| -> Vec<MemberName> {
            let pods = world.pods.iter().filter(|(_, pod)| runs_anew(pod));
            pods.map(|(member, _)| member.clone()).collect()
        };
        let mut first = running(&world);
        while running(&world).len() < 2 {
            first = running(&world);
            calm_step(&mut world, &mut operator, plan);
        }
        let second = running(&world).into_iter().find(|member| !first.contains(member)).unwrap();
        strike(&mut world, Fault::Crash, Some(&second), &spec(THREE));
        let rests = rest(&mut world, &mut operator, plan);
        assert_eq!((rests, codes(&operator)), (Ok("bad image"), vec![Code::MemberFailed]), "seed {seed}");
        assert_eq!(world.running().len(), 3, "seed {seed}");
    }
}

/// Seed 156125: a claim on a member whose volume went meanwhile ends; others may need it.
#[test]
fn a_claim_does_not_outlive_the_volume_of_its_member() {
    let (mut world, mut operator) = settled(THREE);
    world.edit_spec(version("3.5.25"));
    until(&mut world, &mut operator, plan, "a member that is away", |world| world.running().len() < 3);
    let away = world.members().into_iter().find(|member| !world.running().contains_key(member)).unwrap();
    world.edit_spec(|spec| spec.heal.get_or_insert_default().mode = Some(HealMode::Manual));
    strike(&mut world, Fault::ClaimLost, Some(&away), &spec(THREE));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("lost data"));
    assert_eq!(world.cluster.as_ref().unwrap().status.progress, None);
    assert_eq!(world.running().len(), 2);
}
