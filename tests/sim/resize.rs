//! Worlds in which `spec.replicas` is changed.

use crate::faults::{Fault, member, strike};
use crate::named::{numbers, settled, spec, uids, version, waits_for};
use crate::run::{rest, until};
use crate::world::World;
use crate::world::catalogue::{BAD_FLAG, MISSING};
use crate::world::kube::{Pod, State};
use quorate::api::{Action, Approval, Code, HealMode};
use quorate::cluster::names::MemberName;
use quorate::cluster::plan::{Plan, plan};
use rstest::rstest;

const ONE: &str = "{version: 3.6.16, replicas: 1, rollout: {memberDeadline: 20s}}";
const THREE: &str = "{version: 3.6.16, rollout: {memberDeadline: 20s}}";
const FIVE: &str = "{version: 3.6.16, replicas: 5, rollout: {memberDeadline: 20s}}";

fn resize(world: &mut World, replicas: i32) {
    world.edit_spec(|spec| spec.replicas = replicas);
}

fn steps(plan: &Plan) -> Vec<(Action, String)> {
    plan.steps.iter().map(|step| (step.action, step.member.clone().unwrap_or_default())).collect()
}

#[test]
fn it_grows_to_seven_and_shrinks_to_one_and_no_number_is_used_twice() {
    let (mut world, mut operator) = settled(ONE);
    for (replicas, left) in [
        (3, &[0, 1, 2][..]),
        (5, &[0, 1, 2, 3, 4]),
        (7, &[0, 1, 2, 3, 4, 5, 6]),
        (5, &[0, 1, 2, 3, 4]),
        (3, &[0, 1, 2]),
        (1, &[0]),
        (3, &[0, 7, 8]),
    ] {
        resize(&mut world, replicas);
        assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"), "{replicas}");
        assert_eq!(numbers(&world), left);
    }
}

#[test]
fn others_are_not_touched_while_one_joins_or_leaves() {
    let (mut world, mut operator) = settled(THREE);
    let before = uids(&world);
    for replicas in [5, 3] {
        resize(&mut world, replicas);
        assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
        assert_eq!(uids(&world)[..3], before);
    }
}

#[test]
fn a_leader_hands_over_before_it_is_removed() {
    let (mut world, mut operator) = settled(FIVE);
    let leader = world.raft().unwrap().leader.clone().unwrap();
    let ids = world.raft().unwrap().voters.clone();
    assert!(
        world.move_leader(&leader, ids[&leader], world.data(&leader).unwrap().cluster_id, &member(4))
            || leader == member(4)
    );
    let moves = world.raft().unwrap().moves;
    resize(&mut world, 3);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(numbers(&world), [0, 1, 2]);
    assert!(world.raft().unwrap().moves <= moves + 2, "once for each that may have led");
}

#[rstest]
#[case::down(Fault::NodeDown)]
#[case::without_data(Fault::VolumeWiped)]
fn a_broken_member_goes_first(#[case] fault: Fault) {
    let (mut world, mut operator) = settled(FIVE);
    // Else it would be replaced before that.
    world.edit_spec(|spec| spec.heal.get_or_insert_default().mode = Some(HealMode::Manual));
    strike(&mut world, fault, Some(&member(1)), &spec(FIVE));
    if let Some((_, until)) = world.nodes.iter_mut().flatten().next() {
        *until = u64::MAX;
    }
    let _ = rest(&mut world, &mut operator, plan);
    resize(&mut world, 3);
    let _ = rest(&mut world, &mut operator, plan);
    assert_eq!(numbers(&world), [0, 2, 3]);
}

#[test]
fn volumes_of_members_that_left_go_or_stay_as_the_policy_says() {
    let (mut world, mut operator) = settled(FIVE);
    resize(&mut world, 3);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert!(world.set_aside.is_empty());
    let kept = "{version: 3.6.16, replicas: 1, rollout: {memberDeadline: 20s}, \
                storage: {retentionPolicy: {whenScaled: Retain}}}";
    world.edit_spec(|edited| *edited = spec(kept));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    let kept: Vec<u32> = world.set_aside.keys().map(MemberName::number).collect();
    assert_eq!(kept, [1, 2]);
    assert!(world.set_aside.values().all(|(since, volume)| since.is_none() && volume.data.is_some()));
}

/// More members come before a roll, fewer after it.
#[rstest]
#[case::more(3, 5, &[Action::AddMember, Action::AddMember, Action::ReplaceMember])]
#[case::fewer(5, 3, &[Action::ReplaceMember])]
fn a_resize_and_an_upgrade_are_done_in_the_safer_order(
    #[case] from: i32,
    #[case] to: i32,
    #[case] begins: &[Action],
) {
    let (mut world, mut operator) =
        settled(&format!("{{version: 3.5.35, replicas: {from}, rollout: {{memberDeadline: 20s}}}}"));
    world.edit_spec(|spec| {
        spec.replicas = to;
        spec.version = "3.6.16".to_owned();
    });
    until(&mut world, &mut operator, plan, "a plan", |world| {
        world.cluster.as_ref().unwrap().status.plan.is_some()
    });
    let shown = steps(operator.last.as_ref().unwrap());
    let without_probes: Vec<Action> =
        shown.iter().map(|(action, _)| *action).filter(|action| *action != Action::ProbeImage).collect();
    let without_probes: Vec<Action> =
        without_probes.into_iter().filter(|action| *action != Action::ProbeVolumes).collect();
    assert_eq!(&without_probes[..begins.len()], begins, "{shown:?}");
    let most = usize::try_from(from.max(to)).unwrap();
    until(&mut world, &mut operator, plan, "the first of the new minor", |world| {
        world.running().values().any(|version| version.minor.to_string() == "3.6")
    });
    assert_eq!(numbers(&world).len(), most, "the roll has the most members to rest on");
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(numbers(&world).len(), usize::try_from(to).unwrap());
}

/// One alone may change its minor without downtime where it gets company first.
#[test]
fn one_member_that_gets_company_needs_no_leave_for_downtime() {
    let (mut world, mut operator) = settled("{version: 3.5.35, replicas: 1, rollout: {memberDeadline: 20s}}");
    world.edit_spec(|spec| {
        spec.replicas = 3;
        spec.version = "3.6.16".to_owned();
    });
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
}

#[test]
fn a_learner_that_is_not_wanted_any_more_is_removed() {
    let (mut world, mut operator) = settled(THREE);
    resize(&mut world, 5);
    until(&mut world, &mut operator, plan, "a learner", |world| !world.raft().unwrap().learners.is_empty());
    resize(&mut world, 3);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(numbers(&world), [0, 1, 2]);
}

#[test]
fn a_learner_whose_status_was_lost_is_finished() {
    let (mut world, mut operator) = settled(THREE);
    resize(&mut world, 5);
    until(&mut world, &mut operator, plan, "a learner", |world| !world.raft().unwrap().learners.is_empty());
    strike(&mut world, Fault::StatusEmptied, None, &spec(THREE));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(numbers(&world).len(), 5);
}

#[test]
fn a_learner_whose_image_is_missing_comes_up_once_the_spec_is_mended() {
    let (mut world, mut operator) = settled(ONE);
    // The roll is held up by the image; more members of what runs come first.
    world.edit_spec(version(&format!("3.6.{MISSING}")));
    resize(&mut world, 3);
    let _ = rest(&mut world, &mut operator, plan);
    assert_eq!(numbers(&world), [0, 1, 2]);
}

/// A flag with which it does not start came to it, and by now another version is wanted: that comes to voters first, and
/// they wait for the one that joins.
#[test]
fn a_learner_that_does_not_start_gets_what_voters_run() {
    let (mut world, mut operator) = settled("{version: 3.6.14, rollout: {memberDeadline: 20s}}");
    resize(&mut world, 5);
    let is = |world: &World, is: fn(&Pod) -> bool| world.pods.get(&member(3)).is_some_and(is);
    until(&mut world, &mut operator, plan, "a learner", |world| {
        is(world, |pod| matches!(pod.state, State::Running { .. }))
    });
    world.edit_spec(|spec| {
        spec.etcd.get_or_insert_default().extra_args = [(BAD_FLAG.to_owned(), String::new())].into();
    });
    strike(&mut world, Fault::Crash, Some(&member(3)), &spec(ONE));
    until(&mut world, &mut operator, plan, "the flag", |world| is(world, |pod| pod.bad_flag));
    world.edit_spec(|spec| spec.etcd = None);
    world.edit_spec(version("3.6.16"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(numbers(&world).len(), 5);
}

#[test]
fn more_members_wait_for_approval_and_an_even_number_does_not() {
    let (mut world, mut operator) = settled(ONE);
    world.edit_spec(|spec| spec.rollout.get_or_insert_default().approval = Some(Approval::Manual));
    resize(&mut world, 3);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("held"));
    assert_eq!((numbers(&world), waits_for(&operator)), (vec![0], Some(Code::ApprovalPending)));
    let shown = world.cluster.as_ref().unwrap().status.plan.clone().unwrap();
    assert_eq!((shown.replicas, shown.approved), (Some(3), Some(false)));
    strike(&mut world, Fault::Approve, None, &spec(ONE));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(numbers(&world), [0, 1, 2]);
    // Another number is another plan.
    resize(&mut world, 5);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("held"));
}

#[test]
fn nothing_joins_while_a_member_is_away() {
    let (mut world, mut operator) = settled(THREE);
    strike(&mut world, Fault::NodeDown, Some(&member(2)), &spec(THREE));
    if let Some((_, until)) = world.nodes.iter_mut().flatten().next() {
        *until = world.now + 120_000;
    }
    resize(&mut world, 5);
    until(&mut world, &mut operator, plan, "a minute", |world| world.now > 150_000);
    assert_eq!(numbers(&world).len(), 3);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
}

#[test]
fn members_come_and_go_within_a_window_only() {
    let (mut world, mut operator) = settled(THREE);
    world.edit_spec(|edited| {
        *edited = spec(
            "{version: 3.6.16, rollout: {memberDeadline: 20s, windows: [{schedule: '0 0 30 2 *', duration: 1m}]}}",
        );
    });
    for replicas in [5, 1] {
        resize(&mut world, replicas);
        assert_eq!(rest(&mut world, &mut operator, plan), Ok("held"), "{replicas}");
        assert_eq!((numbers(&world), waits_for(&operator)), (vec![0, 1, 2], Some(Code::OutsideWindow)));
    }
}

/// Somebody removes a member by hand while a learner has not started yet: it is told anew who the members are.
#[test]
fn a_learner_that_was_told_of_others_is_told_again() {
    let (mut world, mut operator) = settled(FIVE);
    resize(&mut world, 7);
    until(&mut world, &mut operator, plan, "a learner's Pod", |world| world.pods.contains_key(&member(5)));
    let id = world.raft().unwrap().voters[&member(4)];
    assert!(world.remove_member(&member(0), id));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(numbers(&world), [0, 1, 2, 3, 5, 6, 7]);
}
