//! Labels and annotations of `spec.pod`: given in place, one member at a time as any other change, and nobody is restarted for
//! them.

use crate::act::{is_unchanged, wrote};
use crate::check;
use crate::faults::{Fault, member, strike};
use crate::named::{settled, spec, uids};
use crate::observe::Seen;
use crate::run::{calm_steps, rest, until};
use crate::world::World;
use quorate::api::EtcdClusterSpec;
use quorate::cluster::names::MemberName;
use quorate::cluster::plan::{Step, plan};
use quorate::cluster::revision;
use quorate::cluster::wire::Wire;

/// A label for which the policy of the network is another: who has it loses the others.
pub const CUTS_OFF: &str = "cuts-off";

/// Makes a Pod one of another revision in place.
pub fn relabel(world: &mut World, seen: &Seen, step: &Step) -> bool {
    let Step::Relabel { member, uid, resource_version, from, to } = step else { return false };
    let another_leaves = world.pods.iter().any(|(other, pod)| other != member && pod.deleting.is_some());
    if !is_unchanged(world, seen) || another_leaves {
        return false;
    }
    let spec =
        |world: &World, name: &str| world.revisions.get(name).map(|it| it.revision.template.spec.clone());
    if spec(world, from) != spec(world, to) {
        world.violate(format!("{member} is made one of {to} in place, which is more than other labels"));
    }
    // A leader goes on leading: by the others it is known by then what the labels do.
    let objection =
        check::objection_to_a_stop(world, seen, member).filter(|it| !it.contains("while it leads"));
    let live = world.pods.get_mut(member);
    let Some(live) = live.filter(|it| it.uid == *uid && it.resource_version() == *resource_version) else {
        return false;
    };
    live.revision.clone_from(to);
    feel(world, member);
    wrote(world);
    if let Some(objection) = objection {
        world.violate(objection);
    }
    true
}

/// What its labels do to a member.
pub fn feel(world: &mut World, member: &MemberName) {
    let revision = world.pods.get(member).map(|pod| pod.revision.clone()).unwrap_or_default();
    let template = world.revisions.get(&revision).map(|stored| &stored.revision.template);
    let labels = template.and_then(|template| template.metadata.as_ref()?.labels.as_ref());
    if world.labels_cut_off && labels.is_some_and(|labels| labels.contains_key(CUTS_OFF)) {
        world.isolated.insert(member.clone(), u64::MAX);
    } else if world.isolated.get(member) == Some(&u64::MAX) {
        world.isolated.remove(member);
    }
}

fn team(team: &str) -> impl FnOnce(&mut EtcdClusterSpec) {
    let team = team.to_owned();
    move |spec| {
        spec.pod.get_or_insert_default().labels.insert("team".to_owned(), team);
    }
}

/// Whether every Pod is of the revision that the spec asks for.
fn all_have_it(world: &World) -> bool {
    let spec = &world.cluster.as_ref().unwrap().spec;
    let wanted = revision::name("db", spec, Wire::asked_for(spec), spec.version.parse().unwrap());
    world.pods.values().all(|pod| pod.revision == wanted)
}

const THREE: &str = "{version: 3.6.16, rollout: {memberDeadline: 20s}}";

#[test]
fn nobody_is_restarted_for_a_label() {
    let (mut world, mut operator) = settled(THREE);
    let before = uids(&world);
    for name in ["red", "blue"] {
        world.edit_spec(team(name));
        assert!(!all_have_it(&world));
        assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
        assert!(all_have_it(&world));
    }
    world.edit_spec(|spec| spec.pod = None);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert!(all_have_it(&world));
    assert_eq!(uids(&world), before);
}

/// It costs the first member, which gets its labels back, and no other.
#[test]
fn a_label_that_cuts_members_off_costs_one_for_a_while() {
    let (mut world, mut operator) = settled(THREE);
    let before = uids(&world);
    world.edit_spec(|spec| {
        spec.pod.get_or_insert_default().labels.insert(CUTS_OFF.to_owned(), "x".to_owned());
    });
    until(&mut world, &mut operator, plan, "one is cut off", |world| !world.isolated.is_empty());
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("cuts off"));
    assert_eq!((world.isolated.len(), world.running().len()), (0, 3));
    assert_eq!(uids(&world), before);
    world.edit_spec(|spec| spec.pod = None);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(uids(&world), before);
}

/// What is asked for later waits for it, and a Pod that goes comes back as it was.
#[test]
fn one_that_goes_meanwhile_comes_back_as_it_was() {
    let (mut world, mut operator) =
        settled("{version: 3.6.16, rollout: {memberDeadline: 20s, paused: true}}");
    let revision = world.pods[&member(1)].revision.clone();
    world.edit_spec(team("red"));
    let before = world.pods[&member(1)].uid.clone();
    strike(&mut world, Fault::PodDeleted, Some(&member(1)), &spec(THREE));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("held"));
    assert_eq!(world.running().len(), 3);
    assert!(world.pods[&member(1)].uid != before && world.pods[&member(1)].revision == revision);
}

#[test]
fn with_a_version_at_once_it_is_one_roll() {
    let (mut world, mut operator) = settled("{version: 3.6.14, rollout: {memberDeadline: 20s}}");
    let made = world.made;
    world.edit_spec(team("red"));
    world.edit_spec(|spec| spec.version = "3.6.16".to_owned());
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert!(all_have_it(&world));
    assert_eq!(world.made, made + 3);
}

/// It is not taken by halves.
#[test]
fn a_spec_that_is_refused_gives_nothing() {
    let (mut world, mut operator) = settled("{version: 3.5.9, rollout: {memberDeadline: 20s, hops: Single}}");
    world.edit_spec(team("red"));
    world.edit_spec(|spec| spec.version = "3.7.3".to_owned());
    let before = world.pods[&member(0)].revision.clone();
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("hop"));
    assert_eq!(world.pods[&member(0)].revision, before);
    world.edit_spec(|spec| spec.version = "3.5.9".to_owned());
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert!(all_have_it(&world));
}

/// It is refused, and the member comes back without it.
#[test]
fn what_is_no_label_keeps_no_member_away() {
    let (mut world, mut operator) = settled(THREE);
    world.edit_spec(team("red and blue"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("invalid spec"));
    let before = world.pods[&member(1)].uid.clone();
    strike(&mut world, Fault::PodDeleted, Some(&member(1)), &spec(THREE));
    until(&mut world, &mut operator, plan, "the member that comes back", |world| {
        world.pods.get(&member(1)).is_some_and(|pod| pod.uid != before) && world.running().len() == 3
    });
}

/// A member that is cut off by what it got is no reason to stop another.
#[test]
fn it_needs_a_quorum_without_the_member() {
    let (mut world, mut operator) = settled(THREE);
    strike(&mut world, Fault::Isolated, Some(&member(2)), &spec(THREE));
    world.isolated.insert(member(2), u64::MAX - 1);
    world.edit_spec(team("red"));
    let before = world.pods[&member(0)].revision.clone();
    calm_steps(&mut world, &mut operator, plan, 100);
    assert_eq!(world.pods[&member(0)].revision, before);
    world.isolated.clear();
    {
        assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
        assert!(all_have_it(&world));
    }
}
