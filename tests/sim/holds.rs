//! Worlds in which a change waits: for a person, or for a window.

use crate::faults::{Fault, member, strike};
use crate::named::{numbers, settled, spec, uids, version, waits_for};
use crate::run::{rest, until};
use crate::world::World;
use crate::world::catalogue::CRASHES;
use quorate::api::{Approval, Code, Duration, EtcdClusterSpec, MaintenanceWindow};
use quorate::cluster::plan::plan;
use quorate::etcd::EtcdVersion;
use rstest::rstest;

const MANUAL: &str = "{version: 3.5.35, rollout: {memberDeadline: 20s, approval: Manual}}";

fn approve(world: &mut World) {
    strike(world, Fault::Approve, None, &spec(MANUAL));
}

fn hash(world: &World) -> Option<String> {
    world.cluster.as_ref()?.status.plan.as_ref()?.hash.clone()
}

#[test]
fn nothing_is_touched_before_the_plan_is_approved_and_an_approval_is_for_one_plan() {
    let (mut world, mut operator) = settled(MANUAL);
    let before = uids(&world);
    world.edit_spec(version("3.7.3"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("held"));
    assert_eq!((uids(&world), world.probes.len()), (before.clone(), 0));
    assert_eq!(waits_for(&operator), Some(Code::ApprovalPending));
    let first = hash(&world).unwrap();

    // Approved, but for something else than is asked for by now.
    approve(&mut world);
    world.edit_spec(version("3.6.16"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("held"));
    assert_eq!(uids(&world), before);
    assert_ne!(hash(&world).unwrap(), first);

    // All hops of it, although they begin from other versions than were approved.
    world.edit_spec(version("3.7.3"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"), "the annotation still names that plan");
    assert!(world.running().values().all(|version| *version == EtcdVersion::new(3, 7, 3)));
    assert_eq!(hash(&world), None);

    world.edit_spec(version("3.6.16"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("held"), "another plan, another approval");
}

#[test]
fn the_hash_stays_while_the_plan_is_carried_out() {
    let (mut world, mut operator) = settled(MANUAL);
    world.edit_spec(version("3.6.16"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("held"));
    let first = hash(&world);
    approve(&mut world);
    until(&mut world, &mut operator, plan, "the first on 3.6", |world| {
        world.running().values().any(|version| version.minor.minor == 6)
    });
    // Whoever cleans annotations up takes nothing back.
    world.cluster.as_mut().unwrap().approve = None;
    assert_eq!(hash(&world), first);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
}

#[test]
fn healing_and_putting_back_need_no_approval() {
    let (mut world, mut operator) = settled(MANUAL);
    world.edit_spec(version("3.5.34"));
    for number in 0..3 {
        strike(&mut world, Fault::PodDeleted, Some(&member(number)), &spec(MANUAL));
        assert_eq!(rest(&mut world, &mut operator, plan), Ok("held"));
        assert!(world.running().values().all(|version| *version == EtcdVersion::new(3, 5, 35)));
        assert_eq!(world.running().len(), 3);
    }
    world.edit_spec(version(&format!("3.6.{CRASHES}")));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("held"));
    approve(&mut world);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("bad image"));
    assert_eq!(world.running().len(), 3);
    assert!(world.running().values().all(|version| *version == EtcdVersion::new(3, 5, 35)));
}

#[test]
fn an_edit_in_the_middle_waits_for_another_approval_and_the_member_away_comes_back() {
    let (mut world, mut operator) = settled(MANUAL);
    world.edit_spec(version("3.5.34"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("held"));
    approve(&mut world);
    until(&mut world, &mut operator, plan, "a member away", |world| world.running().len() < 3);
    world.edit_spec(version("3.5.33"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("held"));
    assert_eq!(world.running().len(), 3);
    assert!(world.running().values().all(|version| *version != EtcdVersion::new(3, 5, 33)));
    approve(&mut world);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert!(world.running().values().all(|version| *version == EtcdVersion::new(3, 5, 33)));
}

#[test]
fn a_roll_under_way_waits_when_approval_becomes_manual() {
    let (mut world, mut operator) = settled("{version: 3.5.34, rollout: {memberDeadline: 20s}}");
    world.edit_spec(version("3.5.35"));
    until(&mut world, &mut operator, plan, "a member away", |world| world.running().len() < 3);
    world.edit_spec(|spec| spec.rollout.get_or_insert_default().approval = Some(Approval::Manual));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("held"));
    assert_eq!(world.running().len(), 3);
    approve(&mut world);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
}

/// The simulated world begins on 2026-09-21, at 14:13:20 UTC.
fn windows(schedule: &str, duration: &str) -> Vec<MaintenanceWindow> {
    vec![MaintenanceWindow {
        schedule: schedule.to_owned(),
        duration: Duration::new(duration.to_owned()),
        time_zone: None,
    }]
}

#[test]
fn outside_of_its_windows_a_change_waits_and_members_are_healed() {
    let (mut world, mut operator) = settled("{version: 3.5.35, rollout: {memberDeadline: 20s}}");
    let before = uids(&world);
    world.edit_spec(|spec| {
        spec.version = "3.6.16".to_owned();
        spec.rollout.get_or_insert_default().windows = windows("0 2 * * *", "4h");
    });
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("held"));
    assert_eq!((uids(&world), waits_for(&operator)), (before, Some(Code::OutsideWindow)));
    strike(&mut world, Fault::PodDeleted, Some(&member(1)), &spec(MANUAL));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("held"));
    assert_eq!(world.running().len(), 3);
    world.edit_spec(|spec| spec.rollout.get_or_insert_default().windows = windows("0 14 * * *", "4h"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
}

/// The window closes when the first member is away: its hop is completed, and the next one waits.
#[test]
fn a_hop_that_has_begun_is_completed_and_the_next_one_waits() {
    let (mut world, mut operator) = settled("{version: 3.5.35, rollout: {memberDeadline: 20s}}");
    world.edit_spec(version("3.7.3"));
    until(&mut world, &mut operator, plan, "the first on 3.6", |world| {
        world.running().values().any(|version| version.minor.minor == 6)
    });
    world.edit_spec(|spec| spec.rollout.get_or_insert_default().windows = windows("0 2 * * *", "4h"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("held"));
    assert!(world.running().values().all(|version| *version == EtcdVersion::new(3, 6, 16)));
    world.edit_spec(|spec| spec.rollout.get_or_insert_default().windows.clear());
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert!(world.running().values().all(|version| *version == EtcdVersion::new(3, 7, 3)));
}

#[test]
fn while_the_rollout_is_paused_no_member_is_removed() {
    let (mut world, mut operator) = settled("{version: 3.6.16, rollout: {paused: true}}");
    world.edit_spec(|spec| spec.replicas = 1);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("held"));
    assert_eq!(world.raft().unwrap().voters.len(), 3);
}

/// Up, down, in number and for what fails: nothing begins, and members are healed.
#[rstest]
#[case::up("3.6.14", |spec: &mut EtcdClusterSpec| spec.version = "3.6.16".to_owned())]
#[case::a_minor("3.5.35", |spec: &mut EtcdClusterSpec| spec.version = "3.6.16".to_owned())]
#[case::down("3.6.16", |spec: &mut EtcdClusterSpec| spec.version = "3.5.35".to_owned())]
#[case::to_what_fails("3.6.14", |spec: &mut EtcdClusterSpec| spec.version = format!("3.6.{CRASHES}"))]
#[case::more("3.6.16", |spec: &mut EtcdClusterSpec| spec.replicas = 5)]
fn while_the_rollout_is_paused_members_are_only_healed(
    #[case] from: &str,
    #[case] edit: fn(&mut EtcdClusterSpec),
) {
    let yaml = format!("{{version: {from}, rollout: {{memberDeadline: 20s, paused: true}}}}");
    let (mut world, mut operator) = settled(&yaml);
    let before = uids(&world);
    world.edit_spec(edit);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("held"));
    assert_eq!((uids(&world), waits_for(&operator)), (before.clone(), Some(Code::RolloutPaused)));
    // One that is deleted comes back as it was, one whose volume goes is replaced.
    strike(&mut world, Fault::PodDeleted, Some(&member(1)), &spec(&yaml));
    strike(&mut world, Fault::ClaimLost, Some(&member(2)), &spec(&yaml));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("held"));
    assert_eq!(numbers(&world), [0, 1, 3]);
    assert!(world.running().values().all(|version| version.to_string() == from));
    world.edit_spec(|spec| spec.rollout.as_mut().unwrap().paused = None);
    let rests = rest(&mut world, &mut operator, plan);
    assert!(matches!(rests, Ok("settled" | "bad image")), "{rests:?}");
}
