//! A quorum that is lost for good, and what a person says of it.

use crate::faults::{Fault, member, strike};
use crate::named::spec;
use crate::operator::{Brain, Operator};
use crate::rng::Rng;
use crate::run::{calm_steps, rest, until};
use crate::world::World;
use crate::world::catalogue::{BAD_FLAG, CRASHES};
use quorate::api::{Action, Code, RecoverySpec};
use quorate::cluster::names::MemberName;
use quorate::cluster::observation::NodeTrouble;
use quorate::cluster::plan::{Next, plan};
use rstest::rstest;
use std::collections::BTreeSet;

fn three(world: &str) -> (World, Operator) {
    let mut world = World::new(Rng::fixed(), spec(world));
    let mut operator = Operator::default();
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    (world, operator)
}

fn first() -> quorate::api::EtcdClusterSpec {
    spec("{version: 3.6.16}")
}

fn lose_two(world: &mut World) {
    for lost in [1, 2] {
        strike(world, Fault::ClaimLost, Some(&member(lost)), &first());
    }
}

fn is_refused(world: &World, code: Code) -> bool {
    let refusals = world.cluster.iter().flat_map(|cluster| &cluster.status.refusals);
    refusals.into_iter().any(|refusal| refusal.code == code)
}

fn accept(world: &mut World) {
    let loss = world.cluster.as_ref().unwrap().status.quorum_loss.clone().unwrap();
    let id = world.cluster.as_ref().unwrap().status.cluster_id.clone().unwrap();
    world.edit_spec(|spec| {
        spec.recovery = Some(RecoverySpec {
            cluster_id: id,
            incident: loss.incident,
            from_member: loss.survivors[0].member.clone(),
            survivor_revision: loss.survivors[0].revision,
        });
    });
}

/// All that there is before it begins.
pub fn lose_two_and_accept(world: &mut World) {
    let mut operator = Operator::default();
    lose_two(world);
    let _ = rest(world, &mut operator, plan);
    accept(world);
}

/// A recovery that is refused, and then carried out.
pub fn for_everybody_to_hear(brain: Brain) {
    let (mut world, mut operator) = three("{version: 3.6.16}");
    lose_two(&mut world);
    let _ = rest(&mut world, &mut operator, brain);
    accept(&mut world);
    let right = world.cluster.as_ref().unwrap().spec.recovery.clone();
    world.edit_spec(|spec| spec.recovery.as_mut().unwrap().survivor_revision += 1);
    let _ = rest(&mut world, &mut operator, brain);
    world.edit_spec(|spec| spec.recovery = right);
    // What was to be the cluster cannot be opened, not even to be copied.
    world.claims.get_mut(&member(0)).unwrap().damaged = true;
    until(&mut world, &mut operator, brain, "a copy that fails", |world| {
        world.recovery.values().any(|pod| pod.exit_code == Some(1))
    });
    calm_steps(&mut world, &mut operator, brain, 2);
    world.claims.get_mut(&member(0)).unwrap().damaged = false;
    for pod in world.recovery.values_mut() {
        pod.gone_at = Some(0);
    }
    assert_eq!(rest(&mut world, &mut operator, brain), Ok("settled"));
}

/// It is offered and not done; said, it is done; and what was said asks for nothing any more.
#[test]
fn a_cluster_is_made_anew_from_one_member_once_somebody_says_so() {
    let (mut world, mut operator) = three("{version: 3.6.16}");
    lose_two(&mut world);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("lost data"));
    assert!(is_refused(&world, Code::RecoveryNeeded));
    assert_eq!(world.raft().unwrap().forced, 0);
    accept(&mut world);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(world.raft().unwrap().forced, 1);
    let status = &world.cluster.as_ref().unwrap().status;
    assert_eq!(status.last_recovery.as_ref().unwrap().member, "db-0");
    assert_eq!((&status.quorum_loss, &status.progress), (&None, &None));
    let members: Vec<MemberName> = world.raft().unwrap().voters.keys().cloned().collect();
    assert_eq!(members, [member(0), member(4), member(5)]);
    assert!(world.set_aside.contains_key(&member(3)), "the copy is kept");

    // The same spec, another loss: stale.
    for lost in [4, 5] {
        strike(&mut world, Fault::ClaimLost, Some(&member(lost)), &first());
    }
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("lost data"));
    assert!(is_refused(&world, Code::RecoveryRefused));
    assert_eq!(world.raft().unwrap().forced, 1, "a stale incident does nothing");
}

/// Those that are missing have their volumes: they are brought back, whatever a person says.
#[test]
fn nothing_is_forced_while_the_volumes_of_a_quorum_are_there() {
    let (mut world, mut operator) = three("{version: 3.6.16}");
    for away in [1, 2] {
        let node = world.pods[&member(away)].node.unwrap();
        world.nodes[node] = Some((world.now, world.now + 150_000));
    }
    world.violent += 1;
    until(&mut world, &mut operator, plan, "a loss", |world| {
        world.cluster.as_ref().unwrap().status.quorum_loss.is_some()
    });
    calm_steps(&mut world, &mut operator, plan, 60);
    accept(&mut world);
    calm_steps(&mut world, &mut operator, plan, 100);
    assert!(is_refused(&world, Code::RecoveryRefused));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(world.raft().unwrap().forced, 0);
    assert_eq!(world.cluster.as_ref().unwrap().status.quorum_loss, None);
}

/// A node that is silent, with the only volume of its member: that is lost, and may run. Somebody says the recovery anyway.
fn while_a_node_is_silent(brain: Brain) -> (World, Operator, usize) {
    let mut world = World::new(Rng::fixed(), spec("{version: 3.6.16, heal: {nodeLostAfter: 90s}}"));
    world.local = true;
    let mut operator = Operator::default();
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    let node = world.pods[&member(2)].node.unwrap();
    world.nodes[node] = Some((world.now, u64::MAX));
    strike(&mut world, Fault::ClaimLost, Some(&member(1)), &first());
    until(&mut world, &mut operator, plan, "the offer", |world| is_refused(world, Code::RecoveryNeeded));
    accept(&mut world);
    calm_steps(&mut world, &mut operator, brain, 400);
    (world, operator, node)
}

#[test]
fn nothing_is_forced_while_another_member_may_run_somewhere() {
    let (mut world, mut operator, node) = while_a_node_is_silent(plan);
    assert!(is_refused(&world, Code::RecoveryRefused));
    assert_eq!(world.raft().unwrap().forced, 0);
    assert!(world.pods.contains_key(&member(0)) && world.set_aside.is_empty(), "nothing was touched");
    // Its node object is deleted: that proves that nothing of it runs.
    world.gone.insert(node);
    world.changed();
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(world.raft().unwrap().forced, 1);
}

/// A planner that takes a silent node for a dead one would be found out.
#[test]
fn the_simulator_sees_two_clusters_coming() {
    let brain: Brain = |seen| {
        let mut seen = seen.clone();
        for trouble in seen.recovery.nodes.iter_mut().flat_map(|nodes| nodes.values_mut()) {
            *trouble = trouble.map(|_| NodeTrouble::Gone);
        }
        plan(&seen)
    };
    let (world, ..) = while_a_node_is_silent(brain);
    let violation = world.violation.unwrap_or_default();
    assert!(violation.contains("2 voters have their data"), "{violation}");
}

/// Killed after every single write of it, the way goes on where it was.
#[rstest]
#[case::before_its_write(0)]
#[case::after_one_write(1)]
#[case::before_the_report(crate::operator::DIES_BEFORE_THE_REPORT)]
fn an_operator_that_dies_at_each_line_of_it_goes_on(#[case] pieces: usize) {
    for moment in 0..60 {
        let (mut world, mut operator) = three("{version: 3.6.16}");
        lose_two(&mut world);
        until(&mut world, &mut operator, plan, "the offer", |world| is_refused(world, Code::RecoveryNeeded));
        calm_steps(&mut world, &mut operator, plan, 130);
        accept(&mut world);
        let mut steps = 0;
        while world.cluster.as_ref().unwrap().status.last_recovery.is_none() && steps < 400 {
            world.tick();
            for _ in 0..4 {
                if operator.is_due(&world) {
                    operator.think(&mut world, plan, &std::collections::BTreeSet::new());
                    let dies = steps == moment;
                    operator.carry_out(&mut world, if dies { pieces } else { usize::MAX });
                }
            }
            steps += 1;
        }
        assert_eq!(world.violation, None, "moment {moment}");
        assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"), "moment {moment}");
        assert_eq!(world.raft().unwrap().voters.len(), 3, "moment {moment}");
    }
}

/// Taken away before the force, all is as it was; after it, there is no way back.
#[test]
fn a_word_that_is_taken_back_undoes_all_that_can_be_undone() {
    for moment in 0..60 {
        let (mut world, mut operator) = three("{version: 3.6.16, replicas: 5}");
        for lost in [2, 3, 4] {
            strike(&mut world, Fault::ClaimLost, Some(&member(lost)), &first());
        }
        until(&mut world, &mut operator, plan, "the offer", |world| is_refused(world, Code::RecoveryNeeded));
        calm_steps(&mut world, &mut operator, plan, 130);
        accept(&mut world);
        calm_steps(&mut world, &mut operator, plan, moment);
        world.edit_spec(|spec| spec.recovery = None);
        let end = rest(&mut world, &mut operator, plan);
        let recovered = world.cluster.as_ref().unwrap().status.last_recovery.is_some();
        if recovered {
            assert_eq!((end, world.raft().unwrap().forced), (Ok("settled"), 1), "moment {moment}");
        } else {
            assert_eq!((end, world.raft().unwrap().forced), (Ok("lost data"), 0), "moment {moment}");
            assert!(world.claims.contains_key(&member(1)), "moment {moment}: the other survivor's volume");
            assert!(world.pods.contains_key(&member(0)) && world.pods.contains_key(&member(1)));
        }
    }
}

/// The status is emptied on the way: what the volumes say is enough to go on, or to say what a person must do.
#[test]
fn a_status_that_is_lost_in_the_middle_is_no_dead_end() {
    let mut ends = BTreeSet::new();
    for moment in 0..60 {
        let (mut world, mut operator) = three("{version: 3.6.16}");
        // One has its claim still, which is set aside.
        strike(&mut world, Fault::ClaimLost, Some(&member(1)), &first());
        strike(&mut world, Fault::Damaged, Some(&member(2)), &first());
        strike(&mut world, Fault::Crash, Some(&member(2)), &first());
        until(&mut world, &mut operator, plan, "the offer", |world| is_refused(world, Code::RecoveryNeeded));
        calm_steps(&mut world, &mut operator, plan, 130);
        accept(&mut world);
        calm_steps(&mut world, &mut operator, plan, moment);
        strike(&mut world, Fault::StatusEmptied, None, &first());
        let end = rest(&mut world, &mut operator, plan);
        let forced = world.raft().unwrap().forced > 0;
        let end = end.unwrap_or_else(|error| panic!("moment {moment}: {error}"));
        // Before the note: volumes are missing, or there is a new loss, and the old words are stale.
        let expected: &[&str] = if forced { &["settled"] } else { &["lost data", "volumes incomplete"] };
        assert!(expected.contains(&end), "moment {moment}: {end}, forced: {forced}");
        ends.insert(end);
    }
    assert!(ends.len() >= 2, "{ends:?}");
}

/// With a finalizer of ours on it: nothing of the recovery holds a claim for ever.
#[test]
fn a_cluster_that_is_deleted_in_the_middle_of_it_goes_with_its_volumes() {
    for moment in 0..60 {
        let (mut world, mut operator) =
            three("{version: 3.6.16, storage: {retentionPolicy: {whenDeleted: Delete}}}");
        lose_two(&mut world);
        until(&mut world, &mut operator, plan, "the offer", |world| is_refused(world, Code::RecoveryNeeded));
        calm_steps(&mut world, &mut operator, plan, 130);
        accept(&mut world);
        calm_steps(&mut world, &mut operator, plan, moment);
        world.delete_cluster();
        assert_eq!(rest(&mut world, &mut operator, plan), Ok("gone"), "moment {moment}");
        assert!(world.claims.is_empty() && world.set_aside.is_empty(), "moment {moment}");
    }
}

/// A spec that the survivor does not start with is mended where it stands, also behind the point of no return.
#[test]
fn a_force_that_fails_gets_what_the_spec_has_come_to_say() {
    let (mut world, mut operator) = three("{version: 3.5.9}");
    lose_two(&mut world);
    until(&mut world, &mut operator, plan, "the offer", |world| is_refused(world, Code::RecoveryNeeded));
    calm_steps(&mut world, &mut operator, plan, 130);
    accept(&mut world);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("lost data"));
    assert!(is_refused(&world, Code::RecoveryRefused), "3.5.9 does not force cleanly");
    world.edit_spec(|spec| spec.version = format!("3.5.{CRASHES}"));
    let _ = rest(&mut world, &mut operator, plan);
    assert!(world.recovery.values().any(|pod| pod.exit_code == Some(1)), "it ran and failed");
    let last = operator.last.as_ref().map(|last| crate::operator::words(&last.next)).unwrap();
    assert!(last.contains("RecoveryStuck"), "{last}");
    world.edit_spec(|spec| "3.5.35".clone_into(&mut spec.version));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(world.raft().unwrap().forced, 1);
}

/// One that was about to be removed waits for a quorum that does not come back: that is what is told.
#[test]
fn a_removal_that_was_claimed_before_the_loss_does_not_hide_it() {
    let (mut world, mut operator) = three("{version: 3.6.16}");
    strike(&mut world, Fault::ClaimLost, Some(&member(1)), &first());
    until(&mut world, &mut operator, plan, "the claim", |world| {
        let status = &world.cluster.as_ref().unwrap().status;
        status.progress.as_ref().is_some_and(|it| it.action == Action::RetireMember)
    });
    strike(&mut world, Fault::ClaimLost, Some(&member(2)), &first());
    if world.raft().unwrap().voters.len() < 3 {
        return;
    }
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("lost data"));
    assert!(matches!(operator.last.as_ref().unwrap().next, Next::Refused), "{:?}", operator.last);
    assert!(is_refused(&world, Code::RecoveryNeeded));
    accept(&mut world);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
}

/// A flag with which it does not start hides the only one that is left: it gets back what it ran before, and then tells
/// what it knows.
#[test]
fn one_that_does_not_start_is_put_back_to_be_seen() {
    let (mut world, mut operator) = three("{version: 3.6.16, rollout: {memberDeadline: 20s}}");
    world.edit_spec(|spec| {
        spec.etcd.get_or_insert_default().extra_args = [(BAD_FLAG.to_owned(), String::new())].into();
    });
    until(&mut world, &mut operator, plan, "the flag", |world| world.pods.values().any(|pod| pod.bad_flag));
    let left = world.pods.iter().find(|(_, pod)| pod.bad_flag).map(|(member, _)| member.clone()).unwrap();
    for lost in world.raft().unwrap().voters.keys().cloned().collect::<Vec<_>>() {
        if lost != left {
            strike(&mut world, Fault::ClaimLost, Some(&lost), &first());
        }
    }
    until(&mut world, &mut operator, plan, "the offer", |world| {
        let loss = world.cluster.as_ref().unwrap().status.quorum_loss.as_ref();
        let seen = loss.is_some_and(|it| it.survivors.iter().any(|it| it.member == left.to_string()));
        seen && is_refused(world, Code::RecoveryNeeded) && !world.pods[&left].bad_flag
    });
    accept(&mut world);
    world.edit_spec(|spec| spec.etcd = None);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
}

/// What is claimed for anything else gives way.
#[test]
fn a_claim_of_before_the_loss_does_not_stand_in_its_way() {
    let (mut world, mut operator) = three("{version: 3.6.14}");
    world.edit_spec(|spec| "3.6.16".clone_into(&mut spec.version));
    until(&mut world, &mut operator, plan, "a claim", |world| {
        world.cluster.as_ref().unwrap().status.progress.as_ref().is_some_and(|it| it.action.is_claim())
    });
    lose_two(&mut world);
    until(&mut world, &mut operator, plan, "the offer", |world| is_refused(world, Code::RecoveryNeeded));
    calm_steps(&mut world, &mut operator, plan, 130);
    accept(&mut world);
    until(&mut world, &mut operator, plan, "the recovery", |world| {
        let status = &world.cluster.as_ref().unwrap().status;
        status.progress.as_ref().is_some_and(|it| it.action == Action::Recover)
    });
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
}
