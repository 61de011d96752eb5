//! Worlds in which a cluster forms.

use crate::faults::{Fault, member, strike};
use crate::named::{THREE, codes, settled, spec, version};
use crate::operator::Operator;
use crate::rng::Rng;
use crate::run::{calm_step, calm_steps, rest, until};
use crate::world::World;
use crate::world::catalogue::{BAD_FLAG, BROKEN, LIES, MISSING};
use quorate::api::{Code, EtcdClusterSpec};
use quorate::cluster::objects::pod::Initial;
use quorate::cluster::plan::plan;
use quorate::etcd::EtcdVersion;
use rstest::rstest;
use std::collections::BTreeSet;

#[test]
fn a_bootstrap_ends_as_formed_not_as_adopted() {
    let (world, _) = settled("{version: 3.5.35, rollout: {memberDeadline: 20s}}");
    let status = &world.cluster.as_ref().unwrap().status;
    assert_eq!((status.last_member_number, &status.bootstrap), (Some(2), &None));
    assert_eq!(world.records, ["Bootstrap", "Formed"]);
}

#[test]
fn an_edit_during_bootstrap_finishes_the_pinned_one_first() {
    let mut world = World::new(Rng::seeded(3), spec(THREE));
    let mut operator = Operator::default();
    until(&mut world, &mut operator, plan, "a first member", |world| !world.running().is_empty());
    world.edit_spec(|spec| {
        spec.version = "3.6.16".to_owned();
        spec.replicas = 5;
    });
    until(&mut world, &mut operator, plan, "the cluster has formed", |world| !world.formed.is_empty());
    assert_eq!(world.raft().unwrap().voters.len(), 3);
    assert!(world.running().values().all(|version| *version == EtcdVersion::new(3, 5, 35)));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
}

/// Seed 11102: the only volume goes before the cluster has formed, and all that is left is a revision.
/// Seed 19090: the volume of one that had its WAL goes, then EtcdCluster, status and revisions too.
#[rstest]
#[case::of_one("{version: 3.6.16, replicas: 1}", &[Fault::ClaimLost])]
#[case::of_three(THREE, &[Fault::ClaimLost])]
#[case::status_and_claim("{version: 3.6.16}", &[Fault::StatusEmptied, Fault::ClaimLost])]
#[case::made_again("{version: 3.6.16}", &[Fault::ClaimLost, Fault::Recreated])]
fn a_volume_that_goes_before_the_cluster_has_formed_is_not_made_again(
    #[case] yaml: &str,
    #[case] faults: &[Fault],
) {
    let mut world = World::new(Rng::seeded(3), spec(yaml));
    let mut operator = Operator::default();
    // Step by step: between the guard and the end of the bootstrap is one note.
    while world.pods.get(&member(0)).is_none_or(|pod| pod.initial != Initial::Guard) {
        world.tick();
        operator.think(&mut world, plan, &BTreeSet::new());
        operator.carry_out(&mut world, usize::MAX);
    }
    assert!(world.cluster.as_ref().unwrap().status.cluster_id.is_none(), "it has not formed");
    for fault in faults {
        strike(&mut world, *fault, Some(&member(0)), &spec(yaml));
    }
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("lost data"));
    assert!(!world.claims.contains_key(&member(0)));
    assert_eq!(codes(&operator), [Code::MemberDataLost]);
}

/// Seeds 17560, 18295 and 133404: the version is edited at any moment of a bootstrap. All members form the cluster
/// with one version, and that is what each comes back with. A second operator carries out what it planned a step ago.
#[rstest]
#[case::by_one_operator(3, false)]
#[case::beside_a_late_one(3, true)]
#[case::alone_beside_a_late_one(1, true)]
fn an_edit_while_the_first_members_start_does_not_mix_versions(#[case] members: u32, #[case] late_too: bool) {
    for (seed, steps) in (0..20).flat_map(|seed| (1..12).map(move |steps| (seed, steps))) {
        let yaml = format!("{{version: 3.7.3, replicas: {members}, rollout: {{allowDowntime: true}}}}");
        let mut world = World::new(Rng::seeded(seed), spec(&yaml));
        let (mut operator, mut late) = (Operator::default(), Operator::default());
        for step in 0..40 {
            if step == steps {
                world.edit_spec(version("3.5.30"));
            }
            if late_too {
                world.tick();
                operator.think(&mut world, plan, &BTreeSet::new());
                operator.carry_out(&mut world, usize::MAX);
                late.carry_out(&mut world, usize::MAX);
                late.think(&mut world, plan, &BTreeSet::new());
            } else {
                calm_step(&mut world, &mut operator, plan);
            }
            assert_eq!(world.violation, None, "seed {seed}, edit after {steps} steps");
        }
        let rests = rest(&mut world, &mut operator, plan);
        assert!(matches!(rests, Ok("settled" | "hop")), "seed {seed}, edit after {steps} steps: {rests:?}");
        let versions: BTreeSet<EtcdVersion> = world.running().into_values().collect();
        assert_eq!(versions.len(), 1, "seed {seed}, edit after {steps} steps: {versions:?}");
        for number in 0..members {
            strike(&mut world, Fault::Drain, Some(&member(number)), &spec(THREE));
            assert_eq!(rest(&mut world, &mut operator, plan), rests);
        }
        assert_eq!(world.running().into_values().collect::<BTreeSet<_>>(), versions);
    }
}

/// Seed 93177: the first members have started, nobody has noted it, and the EtcdCluster is made again and edited. Their
/// volumes are used, whatever their next Pods have come to.
#[test]
fn a_bootstrap_that_an_earlier_object_began_keeps_its_version() {
    for (seed, steps) in (0..5).flat_map(|seed| (1..40).map(move |steps| (seed, steps))) {
        let mut world = World::new(Rng::seeded(seed), spec("{version: 3.5.30}"));
        let mut operator = Operator::default();
        until(&mut world, &mut operator, plan, "a member that starts", |world| !world.rafts.is_empty());
        strike(&mut world, Fault::Recreated, None, &spec(THREE));
        calm_steps(&mut world, &mut operator, plan, steps);
        world.edit_spec(version("3.7.3"));
        let rests = rest(&mut world, &mut operator, plan);
        assert_eq!(rests, Ok("settled"), "seed {seed}, edit after {steps} steps");
        assert!(world.running().values().all(|version| *version == EtcdVersion::new(3, 7, 3)));
    }
}

/// Seed 3225: a member that has no version to start with may be deleted by hand, and the spec still be corrected.
#[test]
fn a_version_that_does_not_start_can_be_corrected_after_its_pods_were_deleted() {
    let mut world = World::new(Rng::seeded(7), spec(&format!("{{version: 3.6.{BROKEN}}}")));
    let mut operator = Operator::default();
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("bad image"));
    strike(&mut world, Fault::PodDeleted, Some(&member(1)), &spec(THREE));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("bad image"));
    world.edit_spec(version("3.5.30"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
}

/// A cluster of one whose member takes a minute to serve.
fn a_slow_first_member() -> (World, Operator) {
    let mut world = World::new(Rng::seeded(7), spec(&alone("3.5.35")));
    world.slow.insert(member(0), 60_000);
    (world, Operator::default())
}

fn alone(version: &str) -> String {
    format!("{{version: {version}, replicas: 1, rollout: {{allowDowntime: true}}}}")
}

/// Its Pod is deleted, the next one fails for a flag, and then the version is edited by two minors: that comes by way of
/// the one between.
fn goes_on_with_its_version(mut world: World, mut operator: Operator) {
    strike(&mut world, Fault::PodDeleted, Some(&member(0)), &spec(THREE));
    world.edit_spec(|spec| {
        spec.etcd.get_or_insert_default().extra_args = [(BAD_FLAG.to_owned(), String::new())].into();
    });
    until(&mut world, &mut operator, plan, "a Pod that fails", |world| {
        world.pods.get(&member(0)).is_some_and(|pod| pod.exit_code == Some(2))
    });
    world.edit_spec(|it| *it = spec(&alone("3.7.3")));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
}

/// Seeds 71446 and 79955: a first member that does not come up for want of a quorum is killed, and only then is another
/// version asked for. Its volume has been used: it goes on with the version that it was made with.
#[test]
fn a_member_that_was_killed_while_the_cluster_forms_keeps_its_version() {
    let (mut world, mut operator) = a_slow_first_member();
    for _ in 0..2 {
        calm_steps(&mut world, &mut operator, plan, 6);
        strike(&mut world, Fault::Crash, Some(&member(0)), &spec(THREE));
    }
    assert!(!world.rafts.is_empty(), "it was made");
    world.edit_spec(version("3.7.3"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(world.running().into_values().next(), Some(EtcdVersion::new(3, 7, 3)), "by way of 3.6");
}

/// Seed 79026: it ran and did not serve, its Pod was deleted, and the next one fails for another reason.
#[test]
fn a_member_that_has_run_keeps_its_version_whatever_its_next_pod_comes_to() {
    let (mut world, mut operator) = a_slow_first_member();
    calm_steps(&mut world, &mut operator, plan, 40);
    goes_on_with_its_version(world, operator);
}

/// Moments after the Pods were bound, long before the deadline.
#[rstest]
#[case::of_one(1)]
#[case::of_three(3)]
fn an_image_that_does_not_exist_is_corrected_at_once(#[case] replicas: i32) {
    for steps in 4..30 {
        let yaml = format!("{{version: 3.5.{MISSING}, rollout: {{allowDowntime: true}}}}");
        let mut world = World::new(Rng::seeded(steps), EtcdClusterSpec { replicas, ..spec(&yaml) });
        let mut operator = Operator::default();
        calm_steps(&mut world, &mut operator, plan, steps);
        world.edit_spec(version("3.6.16"));
        assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"), "after {steps} steps");
        assert!(world.now < 150_000, "after {steps} steps it took until {} ms", world.now);
    }
}

const HANGS: &str = "{version: 3.5.35, pod: {runtimeClassName: missing}, rollout: {memberDeadline: 20s, allowDowntime: true}}";

/// The kubelet never gets to the containers, and says no more than that it is at it. At any moment the spec can be
/// corrected, in its settings and in its version.
#[rstest]
#[case::settings("3.5.35", 1)]
#[case::settings_of_three("3.5.35", 3)]
#[case::version("3.7.3", 1)]
#[case::version_of_three("3.7.3", 3)]
fn containers_that_never_start_can_be_corrected(#[case] to: &str, #[case] replicas: i32) {
    for steps in [0, 3, 10, 60, 200] {
        let mut world = World::new(Rng::seeded(steps), EtcdClusterSpec { replicas, ..spec(HANGS) });
        let mut operator = Operator::default();
        calm_steps(&mut world, &mut operator, plan, steps);
        world.edit_spec(|spec| {
            spec.pod = None;
            spec.version = to.to_owned();
        });
        let rests = rest(&mut world, &mut operator, plan);
        assert_eq!(rests, Ok("settled"), "after {steps} steps");
        assert!(world.running().values().all(|version| version.to_string() == to), "after {steps} steps");
    }
}

/// It ran for a moment only, and its Pod was deleted before it had stayed up: its volume is used all the same.
#[test]
fn a_member_that_was_deleted_while_it_ran_keeps_its_version() {
    let (mut world, mut operator) = a_slow_first_member();
    while world.rafts.is_empty() {
        calm_step(&mut world, &mut operator, plan);
    }
    calm_steps(&mut world, &mut operator, plan, 4);
    goes_on_with_its_version(world, operator);
}

/// No node takes the Pods, the version is edited by two minors, and just then the nodes come one by one.
#[test]
fn members_that_start_while_the_version_is_edited_all_start_with_one() {
    for (seed, steps) in (0..40).flat_map(|seed| (0..6).map(move |steps| (seed, steps))) {
        let mut world = World::new(Rng::seeded(seed), spec("{version: 3.5.35}"));
        let mut operator = Operator::default();
        world.cordoned = (0..world.nodes.len()).collect();
        calm_steps(&mut world, &mut operator, plan, 10);
        world.edit_spec(version("3.7.3"));
        for node in 0..3 {
            calm_steps(&mut world, &mut operator, plan, steps);
            world.cordoned.remove(&node);
            world.changed();
        }
        let formed = |world: &World| world.cluster.as_ref().is_some_and(|it| it.status.cluster_id.is_some());
        until(&mut world, &mut operator, plan, "a cluster", formed);
        let versions: BTreeSet<EtcdVersion> = world.running().into_values().collect();
        assert_eq!(versions.len(), 1, "seed {seed}, {steps} steps: {versions:?}");
        assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"), "seed {seed}, {steps} steps");
    }
}

/// The version was corrected before the first member started; then the EtcdCluster is made again, and its status and
/// revisions are gone. What the members started with stands on their claims.
#[test]
fn a_corrected_version_is_kept_when_the_cluster_is_made_again_while_it_forms() {
    let mut world = World::new(Rng::seeded(7), spec("{version: 3.5.35}"));
    let mut operator = Operator::default();
    world.cordoned = (0..world.nodes.len()).collect();
    calm_steps(&mut world, &mut operator, plan, 10);
    world.edit_spec(version("3.6.16"));
    calm_steps(&mut world, &mut operator, plan, 10);
    world.cordoned.clear();
    world.changed();
    until(&mut world, &mut operator, plan, "a member that starts", |world| !world.rafts.is_empty());
    strike(&mut world, Fault::Recreated, None, &spec(THREE));
    world.edit_spec(|spec| {
        spec.version = "3.6.16".to_owned();
        spec.etcd.get_or_insert_default().snapshot_count = Some(20_000);
    });
    for _ in 0..100 {
        calm_step(&mut world, &mut operator, plan);
        assert!(world.pods.values().all(|pod| pod.image.ends_with("v3.6.16")), "{:?}", world.pods);
    }
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
}

/// Seed 10445: a cluster that formed from an image which holds another version than its tag says.
#[rstest]
#[case::patch("3.6.16")]
#[case::minor("3.7.3")]
fn an_image_that_lies_from_the_beginning_is_told_and_can_be_left(#[case] to: &str) {
    let yaml = format!("{{version: 3.6.{LIES}, rollout: {{memberDeadline: 20s}}}}");
    let mut world = World::new(Rng::seeded(7), spec(&yaml));
    let mut operator = Operator::default();
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("bad image"));
    // Other settings of the same image are tried once, and put back.
    world.edit_spec(|spec| spec.etcd.get_or_insert_default().snapshot_count = Some(5_000));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("bad image"));
    assert_eq!(world.running().len(), 3);
    world.edit_spec(version(to));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
}
