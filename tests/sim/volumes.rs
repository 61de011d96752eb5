//! `spec.storage` of a cluster that is there: volumes that grow, and members that are exchanged for another class.

use crate::act::wrote;
use crate::faults::{Fault, member, strike};
use crate::named::{settled, spec};
use crate::observe::Seen;
use crate::operator::Operator;
use crate::run::{calm_steps, rest, until};
use crate::world::World;
use crate::world::kube::{Cluster, Volume};
use quorate::api::{Action, Code, Quantity};
use quorate::cluster::names::MemberName;
use quorate::cluster::plan::plan;
use quorate::cluster::spec::{storage_class, storage_size};
use rstest::rstest;

/// The storage classes that there are.
pub const CLASSES: [&str; 3] = ["standard", "fast", "slow"];

/// Asks for a larger volume, where its class lets it grow.
pub fn expand(world: &mut World, seen: &Seen, member: &MemberName, size: &Quantity) -> bool {
    let (now, lets_grow) = (world.now, world.lets_grow);
    let wait = world.rng.range(0, 20_000);
    let grows = |volume: &Volume| volume.grows_at.is_some() && !volume.facts.deleting;
    let another = world.claims.iter().find(|(other, volume)| *other != member && grows(volume));
    let just_now = seen.facts.now == world.timestamp(now);
    if let Some((other, _)) = another.filter(|_| just_now) {
        let other = other.clone();
        world.violate(format!("the volume of {member} is asked to grow while that of {other} grows"));
    }
    let Some(volume) = world.claims.get_mut(member).filter(|_| lets_grow) else { return false };
    if size.bytes() < volume.facts.size {
        world.violate(format!("the volume of {member} is asked to shrink"));
        return false;
    }
    if volume.facts.size == size.bytes() {
        return true;
    }
    volume.facts.size = size.bytes();
    volume.grows_at = Some(now + wait);
    wrote(world);
    true
}

impl World {
    pub fn tick_volumes(&mut self) {
        let (now, offline) = (self.now, self.grows_offline);
        let mut changed = false;
        for (member, volume) in &mut self.claims {
            if volume.grows_at.is_none_or(|at| at > now) {
                continue;
            }
            volume.grows_at = None;
            changed = true;
            // Where nobody uses it, it is mounted anew anyway.
            if offline && self.pods.contains_key(member) {
                volume.facts.awaits_file_system = true;
            } else {
                volume.facts.capacity = volume.facts.size;
            }
        }
        if changed {
            self.changed();
        }
    }
}

/// Whether every volume is as large as the spec says, and of the class that it names.
pub fn as_the_spec_says(world: &World, cluster: &Cluster) -> Result<(), String> {
    let (size, class) = (storage_size(&cluster.spec).bytes(), storage_class(&cluster.spec));
    let wrong = world.claims.iter().find(|(_, volume)| {
        let facts = &volume.facts;
        let another = class.is_some_and(|class| facts.class.as_deref() != Some(class));
        facts.size != size || facts.capacity < size || another
    });
    wrong.map_or(Ok(()), |(member, volume)| {
        Err(format!("the volume of {member} is not as the spec says: {:?}", volume.facts))
    })
}

fn sizes(world: &World) -> Vec<u64> {
    world.claims.values().map(|volume| volume.facts.capacity.unwrap() >> 30).collect()
}

#[rstest]
#[case::while_they_are_used(false)]
#[case::when_they_are_mounted_anew(true)]
fn volumes_grow_one_at_a_time_and_the_quota_follows(#[case] offline: bool) {
    let (mut world, mut operator) = settled("{version: 3.6.16, storage: {size: 8Gi}}");
    world.grows_offline = offline;
    let (made, term) = (world.made, world.raft().unwrap().moves);
    world.edit_spec(|spec| spec.storage.as_mut().unwrap().size = Some(Quantity::new("10Gi")));
    until(&mut world, &mut operator, plan, "the plan", |world| {
        let plan = world.cluster.as_ref().unwrap().status.plan.as_ref();
        plan.is_some_and(|plan| plan.steps.is_empty() && plan.storage.is_none())
            || plan.is_some_and(|plan| plan.hash.is_some())
    });
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(sizes(&world), [10, 10, 10]);
    // Each restart for its file system, and then the roll of the quota that follows.
    assert_eq!(world.made - made, if offline { 6 } else { 3 });
    assert!(world.raft().unwrap().moves - term <= if offline { 3 } else { 2 });
}

/// A class that does not let volumes grow: nothing is touched, and what helps is said.
#[test]
fn where_they_cannot_grow_members_are_exchanged_by_hand() {
    let (mut world, mut operator) =
        settled("{version: 3.6.16, storage: {size: 8Gi}, etcd: {quotaBackendBytes: 2Gi}}");
    world.lets_grow = false;
    world.edit_spec(|spec| spec.storage.as_mut().unwrap().size = Some(Quantity::new("10Gi")));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("storage"));
    let refusals = &world.cluster.as_ref().unwrap().status.refusals;
    assert_eq!(refusals[0].code, Code::StorageChangeUnsupported);
    assert!(refusals[0].remedy.contains("quorate.dev/replace=db-"), "{}", refusals[0].remedy);
    for number in [1, 2, 0] {
        strike(&mut world, Fault::Replace, Some(&member(number)), &spec("{version: 3.6.16}"));
        let end = rest(&mut world, &mut operator, plan);
        assert_eq!(end, Ok(if number == 0 { "settled" } else { "storage" }));
    }
    assert_eq!(sizes(&world), [10, 10, 10]);
}

#[test]
fn another_class_exchanges_every_member_and_shows_how() {
    let (mut world, mut operator) = settled("{version: 3.6.16}");
    world.edit_spec(|spec| spec.storage.get_or_insert_default().storage_class_name = Some("fast".to_owned()));
    calm_steps(&mut world, &mut operator, plan, 2);
    let steps = operator.last.as_ref().unwrap().steps.clone();
    let shown: Vec<(Action, &str)> =
        steps.iter().map(|step| (step.action, step.member.as_deref().unwrap_or_default())).collect();
    let leader = world.raft().unwrap().leader.clone().unwrap().to_string();
    let joins = shown.iter().filter(|(action, _)| *action == Action::AddMember).map(|(_, member)| *member);
    assert_eq!(joins.collect::<Vec<_>>(), ["db-3", "db-4", "db-5"], "{shown:?}");
    assert_eq!(shown.iter().filter(|(action, _)| *action == Action::RetireMember).count(), 3, "{shown:?}");
    assert_eq!(shown.last(), Some(&(Action::RetireMember, leader.as_str())), "the leader goes last");
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    let members: Vec<MemberName> = world.raft().unwrap().voters.keys().cloned().collect();
    assert_eq!(members, [member(3), member(4), member(5)]);
    assert_eq!(world.set_aside.len(), 3, "the old volumes are kept for a while");
    let last = world.cluster.as_ref().unwrap().status.last_replacement.clone().unwrap();
    assert!(last.settled, "nothing was lost, so the next one that is lost is replaced at once");
}

/// Nor is another one asked to grow where the spec has come to want more.
#[test]
fn a_size_that_is_raised_in_the_middle_goes_to_the_one_that_grows() {
    let (mut world, mut operator) = settled("{version: 3.6.16, storage: {size: 8Gi}}");
    let raise = |world: &mut World, size: &str| {
        world.edit_spec(|spec| spec.storage.as_mut().unwrap().size = Some(Quantity::new(size)));
    };
    raise(&mut world, "9Gi");
    until(&mut world, &mut operator, plan, "the second", |world| {
        world.claims[&member(0)].facts.capacity == Some(9 << 30)
            && world.claims.values().any(|volume| volume.grows_at.is_some())
    });
    raise(&mut world, "10Gi");
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(sizes(&world), [10, 10, 10]);
}

/// A restart for it waits as any other does, and claims nobody meanwhile.
#[test]
fn a_restart_for_a_file_system_waits_for_a_member_that_is_down() {
    let (mut world, mut operator) = settled("{version: 3.6.16, storage: {size: 8Gi}, heal: {mode: Manual}}");
    world.grows_offline = true;
    world.edit_spec(|spec| spec.storage.as_mut().unwrap().size = Some(Quantity::new("9Gi")));
    until(&mut world, &mut operator, plan, "a file system that waits", |world| {
        world.claims.values().any(|volume| volume.facts.awaits_file_system)
    });
    let grows = world.claims.iter().find(|(_, volume)| volume.facts.awaits_file_system).unwrap().0.number();
    strike(&mut world, Fault::ClaimLost, Some(&member((grows + 1) % 3)), &spec("{version: 3.6.16}"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("lost data"));
    assert_eq!(world.cluster.as_ref().unwrap().status.progress, None);
}

/// One that is not there would leave a volume waiting for ever.
#[test]
fn a_class_that_is_not_there_is_refused() {
    let (mut world, mut operator) = settled("{version: 3.6.16}");
    world.edit_spec(|spec| spec.storage.get_or_insert_default().storage_class_name = Some("fats".to_owned()));
    calm_steps(&mut world, &mut operator, plan, 10);
    let refusals = &world.cluster.as_ref().unwrap().status.refusals;
    assert_eq!(refusals[0].code, Code::StorageChangeUnsupported);
    assert!(refusals[0].remedy.contains("fast, slow, standard"), "{}", refusals[0].remedy);
    assert_eq!(world.raft().unwrap().voters.len(), 3);
    assert_eq!(world.claims.len(), 3);
}

/// With a version in the same edit: the roll first, on the members that are there.
#[test]
fn a_version_and_a_class_at_once() {
    let (mut world, mut operator) = settled("{version: 3.6.14}");
    world.edit_spec(|spec| {
        "3.6.16".clone_into(&mut spec.version);
        spec.storage.get_or_insert_default().storage_class_name = Some("fast".to_owned());
    });
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(world.made, 9, "three at first, three rolled, three that came for them");
}

/// Where a person is asked nothing grows and nobody goes before that.
#[test]
fn an_approval_is_of_the_volumes_too() {
    for (field, size) in [("size: 10Gi", 10), ("size: 8Gi, storageClassName: fast", 8)] {
        let (mut world, mut operator) =
            settled("{version: 3.6.16, storage: {size: 8Gi}, rollout: {approval: Manual}}");
        world.edit_spec(|spec| {
            *spec = self::spec(&format!(
                "{{version: 3.6.16, storage: {{{field}}}, rollout: {{approval: Manual}}}}"
            ));
        });
        assert_eq!(rest(&mut world, &mut operator, plan), Ok("held"), "{field}");
        assert_eq!(sizes(&world), [8, 8, 8]);
        strike(&mut world, Fault::Approve, None, &spec("{version: 3.6.16}"));
        assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"), "{field}");
        assert_eq!(sizes(&world), [size, size, size]);
    }
}

/// Set back in the middle of it: whoever joins is not wanted any more, or stays.
#[test]
fn a_class_that_is_set_back_in_the_middle_leads_back() {
    for moment in 0..40 {
        let (mut world, mut operator) = settled("{version: 3.6.16, storage: {storageClassName: standard}}");
        world.edit_spec(|spec| spec.storage.as_mut().unwrap().storage_class_name = Some("fast".to_owned()));
        calm_steps(&mut world, &mut operator, plan, moment * 3);
        operator = Operator::default();
        world.edit_spec(|spec| {
            spec.storage.as_mut().unwrap().storage_class_name = Some("standard".to_owned());
        });
        assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"), "moment {moment}");
        assert_eq!(world.raft().unwrap().voters.len(), 3);
    }
}
