//! Worlds with a name.

use crate::faults::{Fault, member, strike, write_by_the_v2_api};
use crate::operator::Operator;
use crate::rng::Rng;
use crate::run::{calm_steps, rest, until};
use crate::world::World;
use crate::world::catalogue::{BROKEN, LIES, MISSING};
use quorate::api::{Action, Code, EtcdClusterSpec, Hops};
use quorate::cluster::names::MemberName;
use quorate::cluster::plan::{Next, plan};
use quorate::etcd::{EtcdVersion, Minor};
use rstest::rstest;

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

pub fn version(version: &str) -> impl FnOnce(&mut EtcdClusterSpec) {
    let version = version.to_owned();
    move |spec| spec.version = version
}

fn in_one_hop(to: &str) -> impl FnOnce(&mut EtcdClusterSpec) {
    let to = to.to_owned();
    move |spec| {
        spec.version = to;
        spec.rollout.get_or_insert_default().hops = Some(Hops::Single);
    }
}

pub const THREE: &str = "{version: 3.5.35, rollout: {memberDeadline: 20s}}";

/// UIDs of all Pods: what nobody touched stays the same.
pub fn uids(world: &World) -> Vec<String> {
    world.pods.values().map(|pod| pod.uid.clone()).collect()
}

/// The numbers of those who vote.
pub fn numbers(world: &World) -> Vec<u32> {
    world.raft().unwrap().voters.keys().map(MemberName::number).collect()
}

pub fn waits_for(operator: &Operator) -> Option<Code> {
    match &operator.last.as_ref()?.next {
        Next::Wait(wait) => Some(wait.notice.code),
        _ => None,
    }
}

pub fn codes(operator: &Operator) -> Vec<Code> {
    operator.last.iter().flat_map(|plan| &plan.refusals).map(|refusal| refusal.code).collect()
}

#[test]
fn a_minor_hop_ends_with_the_new_cluster_version() {
    let (mut world, mut operator) = settled(THREE);
    world.edit_spec(version("3.6.16"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(world.raft().unwrap().cluster_version, Some(Minor::new(3, 6)));
    assert_eq!(world.cluster.unwrap().status.cluster_version.as_deref(), Some("3.6.0"));
}

#[rstest]
#[case::missing(MISSING)]
#[case::lies(LIES)]
#[case::broken(BROKEN)]
fn a_bad_image_costs_nothing(#[case] patch: u64) {
    let (mut world, mut operator) = settled(THREE);
    let before = uids(&world);
    world.edit_spec(version(&format!("3.6.{patch}")));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("bad image"));
    assert_eq!(uids(&world), before);
    world.edit_spec(version("3.5.35"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(uids(&world), before);
}

/// Of the last of three hops; what the way leads through is there.
#[rstest]
#[case::missing(MISSING)]
#[case::lies(LIES)]
#[case::broken(BROKEN)]
fn a_bad_image_two_hops_away_costs_nothing_either(#[case] patch: u64) {
    let (mut world, mut operator) = settled("{version: 3.5.9, rollout: {memberDeadline: 20s}}");
    let before = uids(&world);
    world.edit_spec(version(&format!("3.7.{patch}")));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("bad image"));
    assert_eq!(uids(&world), before);
    world.edit_spec(version("3.5.9"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(uids(&world), before);
}

/// One edit from 3.5.9: nothing is touched, not even for the patch that comes before.
#[rstest]
#[case::next("3.5.35", "3.6.16")]
#[case::two_hops_away("3.5.9", "3.6.16")]
#[case::three_hops_away("3.5.9", "3.7.3")]
fn data_of_the_v2_api_is_found_before_anything_is_touched(#[case] from: &str, #[case] to: &str) {
    let (mut world, mut operator) =
        settled(&format!("{{version: {from}, rollout: {{memberDeadline: 20s}}}}"));
    let before = uids(&world);
    write_by_the_v2_api(&mut world);
    world.edit_spec(version(to));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("data of the v2 API"));
    let Some(Next::Wait(wait)) = operator.last.as_ref().map(|plan| &plan.next) else { panic!("it waits") };
    assert_eq!((wait.notice.code, wait.overdue), (Code::V2DataFound, true));
    assert_eq!(uids(&world), before);
    world.edit_spec(version(from));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!((uids(&world), world.probes.len()), (before, 0));
}

/// A probe that has ended holds the claim that it looked into: without it the volumes would never go.
#[test]
fn a_cluster_that_is_stopped_by_v2_data_can_be_deleted_with_its_volumes() {
    let (mut world, mut operator) =
        settled("{version: 3.5.35, storage: {retentionPolicy: {whenDeleted: Delete}}}");
    write_by_the_v2_api(&mut world);
    world.edit_spec(version("3.6.16"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("data of the v2 API"));
    assert_eq!(world.probes.len(), 1, "one after the other, and the first has found something");
    world.delete_cluster();
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("gone"));
    assert_eq!((world.claims.len(), world.probes.len()), (0, 0));
}

/// A member that has to go elsewhere while its volume is searched does not find it held.
#[test]
fn a_probe_goes_when_its_member_does() {
    let (mut world, mut operator) = settled("{version: 3.5.35, rollout: {memberDeadline: 20s}}");
    write_by_the_v2_api(&mut world);
    world.edit_spec(version("3.6.16"));
    rest(&mut world, &mut operator, plan).unwrap();
    let probe = world.probes.values().next().unwrap().uid.clone();
    strike(&mut world, Fault::PodDeleted, Some(&member(0)), &spec(THREE));
    rest(&mut world, &mut operator, plan).unwrap();
    assert!(world.probes.values().all(|other| other.uid != probe));
}

#[rstest]
#[case::skip("3.5.35", in_one_hop("3.7.3"), Code::MinorSkipped)]
#[case::floor("3.5.25", in_one_hop("3.6.16"), Code::FloorNotMet)]
#[case::never("3.5.35", version("3.4.45"), Code::DowngradeUnsupported)]
#[case::unknown("3.5.35", version("3.8.0"), Code::VersionUnsupported)]
#[case::nonsense("3.5.35", version("latest"), Code::InvalidSpec)]
fn what_cannot_be_done_touches_nothing(
    #[case] from: &str,
    #[case] edit: impl FnOnce(&mut EtcdClusterSpec),
    #[case] code: Code,
) {
    let (mut world, mut operator) = settled(&format!("{{version: {from}}}"));
    let before = uids(&world);
    world.edit_spec(edit);
    rest(&mut world, &mut operator, plan).unwrap();
    assert_eq!((uids(&world), codes(&operator)), (before, vec![code]));
}

/// What the world would call a trap is walked around: see `check` and `World::holds_v2_entries`.
#[rstest]
#[case::one_edit(&["3.7.3"])]
#[case::two_edits(&["3.6.16", "3.7.3"])]
fn a_quiet_cluster_goes_from_3_5_to_3_7(#[case] edits: &[&str]) {
    let (mut world, mut operator) = settled("{version: 3.5.9, rollout: {memberDeadline: 20s}}");
    for edit in edits {
        world.edit_spec(version(edit));
        assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    }
    assert_eq!(world.raft().unwrap().cluster_version, Some(Minor::new(3, 7)));
    assert!(world.running().values().all(|version| *version == EtcdVersion::new(3, 7, 3)));
}

/// Where raft snapshots come far too seldom, members get a lower `snapshotCount` on 3.6, and the spec's again on 3.7:
/// with the hop to 3.6 where that is on the way, else in a roll of its own.
#[rstest]
#[case::with_the_hop("3.5.35", &[3, 3])]
#[case::on_its_own("3.6.16", &[3, 3])]
fn a_snapshot_count_far_too_high_is_lowered_before_3_7(#[case] from: &str, #[case] rolls: &[usize]) {
    let rare = "{snapshotCount: 200000}";
    let (mut world, mut operator) =
        settled(&format!("{{version: {from}, etcd: {rare}, rollout: {{memberDeadline: 20s}}}}"));
    let before = world.made;
    world.edit_spec(version("3.7.3"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(world.made - before, rolls.iter().sum::<usize>(), "Pods made");
    let counts = world.pods.values().map(|pod| world.revisions[&pod.revision].revision.snapshot_count());
    assert_eq!(counts.collect::<Vec<_>>(), [200_000; 3]);
}

/// A node of a member that is cordoned may be about to be drained: nothing begins meanwhile.
#[test]
fn no_member_is_stopped_while_a_node_of_one_is_cordoned() {
    let (mut world, mut operator) = settled("{version: 3.6.14, rollout: {memberDeadline: 20s}}");
    let before = uids(&world);
    strike(&mut world, Fault::Cordon, Some(&member(1)), &spec(THREE));
    world.edit_spec(version("3.6.16"));
    calm_steps(&mut world, &mut operator, plan, 200);
    let Some(Next::Wait(wait)) = operator.last.as_ref().map(|plan| &plan.next) else { panic!("it waits") };
    assert_eq!((wait.notice.code, wait.overdue), (Code::AnotherDisturbance, true));
    assert_eq!(uids(&world), before);
    strike(&mut world, Fault::Cordon, Some(&member(1)), &spec(THREE));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
}

#[test]
fn the_plan_shows_every_hop_and_how_often_members_restart() {
    let (mut world, mut operator) = settled("{version: 3.5.9, rollout: {memberDeadline: 20s}}");
    world.edit_spec(version("3.7.3"));
    until(&mut world, &mut operator, plan, "a member away", |world| world.running().len() < 3);
    let last = operator.last.as_ref().unwrap();
    let hops: Vec<String> = last.hops.iter().map(ToString::to_string).collect();
    assert_eq!(hops, ["3.5.9", "3.5.35", "3.6.16", "3.7.3"]);
    let restarts = |name: &str| last.steps.iter().filter(|step| step.member.as_deref() == Some(name)).count();
    assert_eq!([restarts("db-0"), restarts("db-1"), restarts("db-2")], [3, 3, 3]);
    let actions: Vec<Action> =
        last.steps.iter().filter(|step| step.member.is_none()).map(|step| step.action).collect();
    let minors = [Action::AwaitClusterVersion, Action::TakeSnapshots, Action::AwaitClusterVersion];
    assert_eq!(actions, [&[Action::ProbeVolumes, Action::ProbeImage], &minors[..]].concat());
}

#[test]
fn another_target_between_hops_is_planned_from_what_is_true_then() {
    let (mut world, mut operator) = settled("{version: 3.5.9, rollout: {memberDeadline: 20s}}");
    world.edit_spec(version("3.7.3"));
    until(&mut world, &mut operator, plan, "the first on 3.6", |world| {
        world.running().values().any(|version| version.minor == Minor::new(3, 6))
    });
    world.edit_spec(version("3.5.35"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert!(world.running().values().all(|version| *version == EtcdVersion::new(3, 5, 35)));
}

#[test]
fn a_revert_half_way_goes_back() {
    let (mut world, mut operator) = settled(THREE);
    world.edit_spec(version("3.6.16"));
    until(&mut world, &mut operator, plan, "two on 3.6", |world| {
        world.running().values().filter(|version| version.minor == Minor::new(3, 6)).count() == 2
    });
    world.edit_spec(version("3.5.35"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(world.raft().unwrap().cluster_version, Some(Minor::new(3, 5)));
}

#[test]
fn all_volumes_wiped_is_a_refusal_and_nothing_is_made() {
    let (mut world, mut operator) = settled(THREE);
    let first = spec(THREE);
    strike(&mut world, Fault::AllWiped, None, &first);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("lost data"));
    assert_eq!(codes(&operator), [Code::AllMembersLost]);
    assert!(world.claims.values().all(|volume| volume.data.is_none()));
}

#[test]
fn deleted_and_made_again_it_adopts_its_volumes() {
    let (mut world, mut operator) = settled(THREE);
    let acked = world.raft().unwrap().acked;
    strike(&mut world, Fault::Recreated, None, &spec(THREE));
    world.edit_spec(version("3.6.16"));
    world.records.clear();
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(world.records.first(), Some(&"Adopted"));
    assert!(world.raft().unwrap().acked > acked);
}

#[test]
fn a_lost_status_is_built_again_and_no_pod_is_touched() {
    let (mut world, mut operator) = settled(THREE);
    let before = uids(&world);
    strike(&mut world, Fault::StatusEmptied, None, &spec(THREE));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(uids(&world), before);
    let status = world.cluster.unwrap().status;
    assert!(status.cluster_id.is_some() && status.cluster_version.is_some());
}

#[test]
fn volumes_go_with_the_cluster_only_where_it_says_so() {
    for (policy, left) in [("Delete", 0), ("Retain", 3)] {
        let yaml = format!("{{version: 3.6.16, storage: {{retentionPolicy: {{whenDeleted: {policy}}}}}}}");
        let (mut world, mut operator) = settled(&yaml);
        world.delete_cluster();
        assert_eq!(rest(&mut world, &mut operator, plan), Ok("gone"));
        assert_eq!((world.claims.len(), world.pods.len()), (left, 0));
    }
}

#[test]
fn a_foreign_pod_is_a_refusal() {
    let mut world = World::new(Rng::seeded(1), spec(THREE));
    let mut operator = Operator::default();
    strike(&mut world, Fault::ForeignPod, Some(&member(1)), &spec(THREE));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("foreign Pod"));
    assert_eq!((codes(&operator), world.pods.len()), (vec![Code::ForeignObject], 1));
}

#[test]
fn drains_during_a_roll_wait_for_it_and_it_for_them() {
    let (mut world, mut operator) = settled(THREE);
    world.edit_spec(version("3.6.16"));
    for turn in 0..60 {
        calm_steps(&mut world, &mut operator, plan, 3);
        strike(&mut world, Fault::Drain, Some(&member(turn % 3)), &spec(THREE));
        assert!(world.running().len() >= 2, "two members were away at {} ms", world.now);
    }
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
}
