//! Worlds in which a member's data goes, or somebody asks for another member.

use crate::faults::{Fault, member, strike};
use crate::named::{codes, numbers, settled, spec, uids, version};
use crate::run::{rest, until};
use crate::world::World;
use quorate::api::{Approval, Code, Duration, HealMode};
use quorate::cluster::plan::plan;
use rstest::rstest;

const ONE: &str = "{version: 3.6.16, replicas: 1, rollout: {memberDeadline: 20s}}";
const THREE: &str = "{version: 3.6.16, rollout: {memberDeadline: 20s}, heal: {nodeLostAfter: 60s}}";
const FIVE: &str = "{version: 3.6.16, replicas: 5, rollout: {memberDeadline: 20s}}";

fn replace(world: &mut World, number: u32) {
    strike(world, Fault::Replace, Some(&member(number)), &spec(THREE));
}

#[rstest]
#[case::claim(Fault::ClaimLost, 1)]
#[case::volume(Fault::VolumeWiped, 1)]
#[case::unusable(Fault::Damaged, 1)]
#[case::with_its_node(Fault::NodeGone, 1)]
#[case::claim_of_the_first(Fault::ClaimLost, 0)]
#[case::volume_of_the_first(Fault::VolumeWiped, 0)]
fn a_member_whose_data_is_gone_is_replaced(#[case] fault: Fault, #[case] lost: u32) {
    let (mut world, mut operator) = settled(THREE);
    let before = uids(&world);
    strike(&mut world, fault, Some(&member(lost)), &spec(THREE));
    if matches!(fault, Fault::VolumeWiped | Fault::Damaged) {
        strike(&mut world, Fault::Crash, Some(&member(lost)), &spec(THREE));
    }
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    let left: Vec<u32> = (0..4).filter(|number| *number != lost).collect();
    assert_eq!(numbers(&world), left);
    assert!(
        before.iter().filter(|uid| uids(&world).contains(uid)).count() == 2,
        "the others were not touched"
    );
    assert_eq!(
        world.set_aside.len(),
        usize::from(fault != Fault::ClaimLost),
        "a volume claim that is there is kept"
    );
    let last = world.cluster.as_ref().unwrap().status.last_replacement.clone().unwrap();
    assert_eq!((last.member, last.settled), (format!("db-{lost}"), false));
}

/// Whatever holds changes up, a member comes back.
#[test]
fn neither_an_approval_nor_a_refusal_holds_it_up() {
    let (mut world, mut operator) = settled(THREE);
    world.edit_spec(|spec| {
        spec.version = "3.8.0".to_owned();
        spec.rollout.get_or_insert_default().approval = Some(Approval::Manual);
    });
    strike(&mut world, Fault::ClaimLost, Some(&member(1)), &spec(THREE));
    let _ = rest(&mut world, &mut operator, plan);
    assert_eq!(numbers(&world), [0, 2, 3]);
}

#[test]
fn no_second_member_is_replaced_by_itself_before_all_was_well_for_an_hour() {
    let (mut world, mut operator) = settled(FIVE);
    strike(&mut world, Fault::ClaimLost, Some(&member(1)), &spec(FIVE));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    strike(&mut world, Fault::ClaimLost, Some(&member(2)), &spec(FIVE));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("lost data"));
    assert_eq!((numbers(&world), codes(&operator)), (vec![0, 2, 3, 4, 5], vec![Code::MemberDataLost]));
    let told = operator.last.as_ref().unwrap().refusals[0].clone();
    assert!(told.message.contains("db-1 was replaced at"), "{}", told.message);
    assert!(told.remedy.contains("quorate.dev/replace=db-2"), "{}", told.remedy);
    replace(&mut world, 2);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(numbers(&world), [0, 3, 4, 5, 6]);
}

#[test]
fn where_healing_is_manual_it_waits_for_a_word() {
    let (mut world, mut operator) = settled(THREE);
    world.edit_spec(|spec| spec.heal.get_or_insert_default().mode = Some(HealMode::Manual));
    strike(&mut world, Fault::ClaimLost, Some(&member(1)), &spec(THREE));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("lost data"));
    assert_eq!((numbers(&world), codes(&operator)), (vec![0, 1, 2], vec![Code::MemberDataLost]));
    replace(&mut world, 1);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(numbers(&world), [0, 2, 3]);
}

/// Two of three is no quorum of those who are left.
#[test]
fn without_a_quorum_nobody_is_replaced() {
    let (mut world, mut operator) = settled(THREE);
    for number in [0, 1] {
        strike(&mut world, Fault::ClaimLost, Some(&member(number)), &spec(THREE));
    }
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("lost data"));
    assert_eq!(numbers(&world), [0, 1, 2]);
}

#[rstest]
#[case::one(ONE, 0, &[1])]
#[case::of_three(THREE, 1, &[0, 2, 3])]
#[case::the_first(THREE, 0, &[1, 2, 3])]
fn a_healthy_member_goes_after_its_replacement_votes(
    #[case] yaml: &str,
    #[case] number: u32,
    #[case] left: &[u32],
) {
    let (mut world, mut operator) = settled(yaml);
    let most = left.len() + 1;
    replace(&mut world, number);
    until(&mut world, &mut operator, plan, "the replacement", |world| numbers(world).len() == most);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(numbers(&world), left);
    assert!(world.set_aside[&member(number)].1.data.is_some(), "its volume is kept");
}

#[test]
fn a_quarantine_ends() {
    let (mut world, mut operator) = settled(THREE);
    world.edit_spec(|spec| {
        spec.storage.get_or_insert_default().quarantine = Some(Duration::new("10m"));
    });
    replace(&mut world, 1);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(world.set_aside.len(), 1);
    let replaced_at = world.now;
    until(&mut world, &mut operator, plan, "the end of the quarantine", |world| world.set_aside.is_empty());
    assert!(world.now - replaced_at > 400_000);
}

/// The one that a person named, and an upgrade at the same time.
#[test]
fn an_exchange_comes_before_a_roll() {
    let (mut world, mut operator) = settled("{version: 3.5.35, rollout: {memberDeadline: 20s}}");
    replace(&mut world, 2);
    world.edit_spec(version("3.6.16"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(numbers(&world), [0, 1, 3]);
}

/// A claim that lost its labels, or that somebody set aside by hand, is no lost data while its member runs.
#[test]
fn a_member_that_runs_has_not_lost_its_volume_whatever_became_of_its_labels() {
    let (world, _) = settled(THREE);
    let mut seen = crate::observe::observe(
        &world,
        &world.cluster.clone().unwrap(),
        &std::collections::BTreeSet::new(),
        quorate::cluster::observation::Patience::default(),
    );
    seen.claims.remove(&member(1));
    let plan = plan(&seen);
    assert!(plan.next.step().is_none_or(|step| step.name() != "Claim"), "{:?}", plan.next);
    assert!(plan.refusals.is_empty(), "{:?}", plan.refusals);
}

/// A disk that is mounted late looks empty for a while.
#[test]
fn an_empty_volume_is_believed_only_after_the_deadline() {
    let (mut world, mut operator) = settled(THREE);
    let data = world.claims[&member(1)].data.clone();
    strike(&mut world, Fault::VolumeWiped, Some(&member(1)), &spec(THREE));
    let wiped_at = world.now;
    until(&mut world, &mut operator, plan, "some starts", |world| world.now > wiped_at + 4_000);
    assert_eq!(numbers(&world), [0, 1, 2]);
    world.claims.get_mut(&member(1)).unwrap().data = data;
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(numbers(&world), [0, 1, 2]);
}

/// There is one too many for the sake of the one that is exchanged: no other goes for it, though it is down.
#[test]
fn an_exchange_costs_no_other_member() {
    let (mut world, mut operator) = settled(THREE);
    replace(&mut world, 1);
    until(&mut world, &mut operator, plan, "the replacement", |world| numbers(world).len() == 4);
    strike(&mut world, Fault::NodeDown, Some(&member(2)), &spec(THREE));
    let down_until = world.now + 120_000;
    if let Some((_, until)) = world.nodes.iter_mut().flatten().next() {
        *until = down_until;
    }
    until(&mut world, &mut operator, plan, "more than the deadline", |world| world.now > down_until);
    assert!(numbers(&world).contains(&2), "{:?}", numbers(&world));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(numbers(&world), [0, 2, 3]);
    assert!(world.set_aside.contains_key(&member(1)));
}

/// Lets the node of a member be silent for so many seconds.
fn silence(world: &mut World, number: u32, seconds: u64) {
    strike(world, Fault::NodeDown, Some(&member(number)), &spec(THREE));
    let until = world.now + seconds * 1_000;
    world.nodes.iter_mut().flatten().for_each(|(_, end)| *end = until);
}

/// Disks of the nodes, as those of a provisioner of local volumes.
fn on_local_disks(yaml: &str) -> (World, crate::operator::Operator) {
    let (mut world, operator) = settled(yaml);
    world.local = true;
    for (member, pod) in &world.pods {
        world.claims.get_mut(member).unwrap().home = pod.node;
    }
    (world, operator)
}

/// The volume of a disk of its own waits with its node; another one can follow its member, which is waited for.
#[rstest]
#[case::local(true, &[0, 2, 3])]
#[case::that_can_follow(false, &[0, 1, 2])]
fn a_member_goes_with_its_node_where_its_volume_cannot_follow_it(#[case] local: bool, #[case] left: &[u32]) {
    let (mut world, mut operator) = if local { on_local_disks(THREE) } else { settled(THREE) };
    silence(&mut world, 1, 300);
    let silent_until = world.now + 300_000;
    until(&mut world, &mut operator, plan, "the node's return", |world| world.now > silent_until);
    assert_eq!(numbers(&world), left, "before it returns");
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(numbers(&world), left, "it does no harm when it returns");
}

#[test]
fn a_node_that_is_back_in_time_costs_no_member() {
    let (mut world, mut operator) = on_local_disks(THREE);
    let before = uids(&world);
    silence(&mut world, 1, 50);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!((numbers(&world), uids(&world)), (vec![0, 1, 2], before));
}

/// The roll has just told a member to stop, and its node dies: it neither stops nor holds up its own replacement.
#[test]
fn a_node_that_dies_in_the_middle_of_a_roll_costs_the_member_and_not_the_roll() {
    let (mut world, mut operator) = on_local_disks(THREE);
    world.edit_spec(version("3.6.14"));
    world.edit_spec(|spec| spec.version = "3.6.16".to_owned());
    world.edit_spec(|spec| {
        spec.etcd.get_or_insert_default().extra_args.insert("max-txn-ops".to_owned(), "256".to_owned());
    });
    until(&mut world, &mut operator, plan, "a stop", |world| {
        world.pods.values().any(|pod| pod.deleting.is_some())
    });
    let stopping =
        world.pods.iter().find(|(_, pod)| pod.deleting.is_some()).map(|(member, _)| member.number());
    strike(&mut world, Fault::NodeGone, Some(&member(stopping.unwrap())), &spec(THREE));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert!(!numbers(&world).contains(&stopping.unwrap()), "{:?}", numbers(&world));
}

/// Whoever it is, also the one that leads; and whatever the alarm says of it.
#[rstest]
fn the_one_whose_data_differs_is_replaced_and_the_alarm_taken_back(#[values(0, 1, 2)] wrong: u32) {
    let (mut world, mut operator) = settled(THREE);
    strike(&mut world, Fault::Corrupted, Some(&member(wrong)), &spec(THREE));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    let left: Vec<u32> = (0..4).filter(|number| *number != wrong).collect();
    assert_eq!(numbers(&world), left);
    assert!(world.set_aside[&member(wrong)].1.data.is_some(), "its volume is kept");
}

#[rstest]
#[case::of_one(ONE, &[0])]
#[case::two_of_three(THREE, &[0, 1])]
#[case::two_of_five(FIVE, &[0, 1])]
fn where_it_cannot_be_told_who_is_wrong_nobody_is_touched(#[case] yaml: &str, #[case] wrong: &[u32]) {
    let (mut world, mut operator) = settled(yaml);
    let before = uids(&world);
    for number in wrong {
        strike(&mut world, Fault::Corrupted, Some(&member(*number)), &spec(yaml));
    }
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("corrupt"));
    assert_eq!((uids(&world), codes(&operator)), (before, vec![Code::MembersDiffer]));
}

/// A person's word, where the hashes do not tell; and the alarm stays while the others differ.
#[test]
fn a_person_may_say_whose_data_is_wrong() {
    let (mut world, mut operator) = settled(FIVE);
    for number in [0, 1] {
        strike(&mut world, Fault::Corrupted, Some(&member(number)), &spec(FIVE));
    }
    replace(&mut world, 1);
    // The other one differs alone then; but one was replaced just now.
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("corrupt"));
    assert_eq!((numbers(&world), codes(&operator)), (vec![0, 2, 3, 4], vec![Code::MembersDiffer]));
    replace(&mut world, 0);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(numbers(&world), [2, 3, 4, 5, 6]);
}

/// What the hashes show counts more than a name, which may have been meant for something else.
#[test]
fn a_name_does_not_take_a_good_member_where_another_one_is_known_to_be_wrong() {
    let (mut world, mut operator) = settled(THREE);
    strike(&mut world, Fault::Corrupted, Some(&member(2)), &spec(THREE));
    replace(&mut world, 1);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(numbers(&world), [0, 3, 4], "the wrong one went first, and then the other was exchanged");
}

/// It was down for another reason for longer than a member may be; that its node is not ready has just begun.
#[test]
fn the_time_of_another_trouble_does_not_count_for_a_lost_node() {
    let (mut world, mut operator) = on_local_disks(THREE);
    let home = world.claims[&member(1)].home.unwrap();
    world.cordoned.insert(home);
    strike(&mut world, Fault::PodDeleted, Some(&member(1)), &spec(THREE));
    let began = world.now;
    until(&mut world, &mut operator, plan, "long enough", |world| world.now > began + 120_000);
    world.nodes[home] = Some((world.now, world.now + 80_000));
    let down_until = world.now + 80_000;
    until(&mut world, &mut operator, plan, "the node's return", |world| world.now > down_until);
    world.cordoned.clear();
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(numbers(&world), [0, 1, 2]);
}
