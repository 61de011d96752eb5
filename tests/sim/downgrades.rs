//! Worlds that go down a minor, and worlds in which somebody else began a downgrade.

use crate::faults::{Fault, member, strike};
use crate::named::{codes, settled, spec, uids, version};
use crate::run::{rest, until};
use crate::world::World;
use crate::world::catalogue::BAD_FLAG;
use quorate::api::{Action, Code, Hops};
use quorate::cluster::plan::plan;
use quorate::etcd::{EtcdVersion, Minor};
use rstest::rstest;

const ON_3_6: &str = "{version: 3.6.16, rollout: {memberDeadline: 20s}}";
const V3_5: Minor = Minor::new(3, 5);
const V3_6: Minor = Minor::new(3, 6);

fn runs_only(world: &World, wanted: &str) -> bool {
    let wanted: EtcdVersion = wanted.parse().unwrap();
    world.running().len() == world.pods.len() && world.running().values().all(|version| *version == wanted)
}

fn job(world: &World) -> Option<Minor> {
    world.raft().unwrap().job
}

#[rstest]
#[case::one_minor("3.6.16", "3.5.35")]
#[case::from_3_7("3.7.3", "3.6.16")]
#[case::two_minors("3.7.3", "3.5.30")]
#[case::from_a_patch_that_cannot("3.7.1", "3.6.14")]
#[case::to_a_patch_without_a_way_up("3.6.16", "3.5.9")]
fn a_minor_down_is_an_edit_like_any_other(#[case] from: &str, #[case] to: &str) {
    let (mut world, mut operator) =
        settled(&format!("{{version: {from}, rollout: {{memberDeadline: 20s}}}}"));
    let acked = world.raft().unwrap().acked;
    world.edit_spec(version(to));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    let to: EtcdVersion = to.parse().unwrap();
    assert!(runs_only(&world, &to.to_string()));
    let raft = world.raft().unwrap();
    assert_eq!((raft.cluster_version, raft.job), (Some(to.minor), None));
    assert!(raft.acked > acked);
    assert_eq!(world.cluster.as_ref().unwrap().status.cluster_version, Some(to.minor.patch(0).to_string()));
    world.edit_spec(version("3.7.3"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"), "and up again");
}

#[test]
fn the_cluster_version_is_lowered_before_a_member_is_touched_and_the_leader_goes_last() {
    let (mut world, mut operator) = settled(ON_3_6);
    let (before, leader) = (uids(&world), world.raft().unwrap().leader.clone().unwrap());
    world.edit_spec(version("3.5.35"));
    until(&mut world, &mut operator, plan, "a job", |world| job(world).is_some());
    let probed = world.probes.len();
    assert_eq!((uids(&world), job(&world), probed), (before.clone(), Some(V3_5), 3));
    let steps: Vec<Action> = operator.last.as_ref().unwrap().steps.iter().map(|step| step.action).collect();
    let replaced = [Action::ReplaceMember, Action::ReplaceMember, Action::ReplaceLeader];
    let all =
        [&[Action::ProbeImage, Action::EnableDowngrade], &replaced[..], &[Action::AwaitDowngrade]].concat();
    assert_eq!(steps, all);
    until(&mut world, &mut operator, plan, "a member away", |world| world.running().len() < 3);
    assert_eq!(world.raft().unwrap().cluster_version, Some(V3_5));
    assert!(world.serving(&leader));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
}

#[rstest]
#[case::before_the_lowering(0)]
#[case::after_one(1)]
#[case::after_two(2)]
fn a_change_of_mind_half_way_gives_the_job_up_and_goes_up_again(#[case] lower: usize) {
    let (mut world, mut operator) = settled(ON_3_6);
    world.edit_spec(version("3.5.35"));
    until(&mut world, &mut operator, plan, "so many on 3.5", |world| {
        let on_3_5 = world.running().values().filter(|version| version.minor == V3_5).count();
        job(world).is_some() && on_3_5 == lower
    });
    world.edit_spec(version("3.6.16"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert!(runs_only(&world, "3.6.16"));
    assert_eq!((world.raft().unwrap().cluster_version, job(&world)), (Some(V3_6), None));
}

#[test]
fn a_member_that_does_not_come_up_on_the_way_down_is_put_back() {
    let (mut world, mut operator) = settled(ON_3_6);
    world.edit_spec(version("3.5.98"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("bad image"));
    assert_eq!(codes(&operator), [Code::MemberFailed]);
    assert!(runs_only(&world, "3.6.16"));
    world.edit_spec(version("3.6.16"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!((world.raft().unwrap().cluster_version, job(&world)), (Some(V3_6), None));
}

#[test]
fn an_image_that_is_missing_costs_nothing_and_begins_no_job() {
    let (mut world, mut operator) = settled(ON_3_6);
    let before = uids(&world);
    world.edit_spec(version("3.5.99"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("bad image"));
    assert_eq!((uids(&world), job(&world)), (before, None));
}

#[rstest]
#[case::a_patch_that_cannot("3.7.1", "3.6.16", Code::FloorNotMet)]
#[case::no_way_back("3.6.16", "3.5.9", Code::FloorNotMet)]
#[case::two("3.7.3", "3.5.35", Code::MinorSkipped)]
#[case::never("3.5.35", "3.4.45", Code::DowngradeUnsupported)]
#[case::never_from_further_up("3.6.16", "3.4.45", Code::DowngradeUnsupported)]
fn a_single_hop_down_is_refused_where_it_cannot_be_one(
    #[case] from: &str,
    #[case] to: &str,
    #[case] code: Code,
) {
    let (mut world, mut operator) = settled(&format!("{{version: {from}}}"));
    let before = uids(&world);
    world.edit_spec(version(to));
    world.edit_spec(|spec| spec.rollout.get_or_insert_default().hops = Some(Hops::Single));
    rest(&mut world, &mut operator, plan).unwrap();
    assert_eq!((uids(&world), codes(&operator), job(&world)), (before, vec![code], None));
}

/// Somebody runs `etcdctl downgrade enable`, which the spec does not ask for.
#[rstest]
#[case::on_3_5("3.5.35")]
#[case::on_3_6("3.6.16")]
#[case::on_3_7("3.7.3")]
fn a_job_that_somebody_else_began_is_given_up_and_no_member_is_touched(#[case] runs: &str) {
    let (mut world, mut operator) = settled(&format!("{{version: {runs}}}"));
    let before = uids(&world);
    strike(&mut world, Fault::DowngradeJob, Some(&member(1)), &spec(ON_3_6));
    assert!(job(&world).is_some());
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!((uids(&world), job(&world)), (before, None));
    let runs: EtcdVersion = runs.parse().unwrap();
    assert_eq!(world.raft().unwrap().cluster_version, Some(runs.minor));
}

/// Members of 3.5 die at their next start under a job, so none is stopped before it is gone.
#[test]
fn no_roll_begins_on_3_5_under_a_job() {
    let (mut world, mut operator) = settled("{version: 3.5.30}");
    strike(&mut world, Fault::DowngradeJob, Some(&member(1)), &spec(ON_3_6));
    world.edit_spec(version("3.5.35"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert!(world.pods.values().all(|pod| pod.restarts == 0), "a member was started under the job");
}

/// The one that was down when the job was cancelled still does not start: its data remembers.
#[rstest]
#[case::of_three("{version: 3.5.35, rollout: {memberDeadline: 20s}}")]
#[case::alone("{version: 3.5.35, replicas: 1, rollout: {memberDeadline: 20s, allowDowntime: true}}")]
fn a_member_that_remembers_a_job_is_started_once_on_the_next_minor(#[case] yaml: &str) {
    let (mut world, mut operator) = settled(yaml);
    strike(&mut world, Fault::DowngradeJob, Some(&member(0)), &spec(ON_3_6));
    world.tick();
    strike(&mut world, Fault::Crash, Some(&member(0)), &spec(ON_3_6));
    until(&mut world, &mut operator, plan, "a start on 3.6", |world| {
        world.running().values().any(|version| version.minor == V3_6)
    });
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert!(runs_only(&world, "3.5.35"));
    assert_eq!((world.raft().unwrap().cluster_version, job(&world)), (Some(V3_5), None));
}

/// Seed 94148: somebody enables a job while a member is away that comes up late. Its put-back must wait for the end of
/// the job, and is given up when it is there.
#[test]
fn a_member_that_is_late_under_a_job_is_not_put_back_after_all() {
    let (mut world, mut operator) = settled("{version: 3.5.30, rollout: {memberDeadline: 20s}}");
    world.edit_spec(version("3.5.35"));
    until(&mut world, &mut operator, plan, "a member away", |world| world.running().len() < 3);
    let away = member((0..3).find(|number| !world.running().contains_key(&member(*number))).unwrap());
    world.slow.insert(away.clone(), 21_000);
    let there = member((away.number() + 1) % 3);
    strike(&mut world, Fault::DowngradeJob, Some(&there), &spec(ON_3_6));
    until(&mut world, &mut operator, plan, "its put-back", |world| {
        world.cluster.as_ref().unwrap().status.last_failure.is_some()
    });
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert!(runs_only(&world, "3.5.35"));
    assert_eq!((world.cluster.as_ref().unwrap().status.last_failure.clone(), job(&world)), (None, None));
}

/// Seed 83454: every member is down for the settings that it was made again with, and the one that is mended second
/// remembers a job besides. Whether that is over only a quorum can say, which the third brings.
#[test]
fn a_member_that_remembers_a_job_waits_until_there_is_a_quorum_to_ask() {
    let (mut world, mut operator) = settled("{version: 3.5.35, rollout: {memberDeadline: 20s}}");
    strike(&mut world, Fault::DowngradeJob, Some(&member(0)), &spec(ON_3_6));
    world.tick();
    strike(&mut world, Fault::Crash, Some(&member(1)), &spec(ON_3_6));
    until(&mut world, &mut operator, plan, "the end of the job", |world| job(world).is_none());
    strike(&mut world, Fault::Recreated, None, &spec(ON_3_6));
    world.edit_spec(|spec| {
        spec.etcd.get_or_insert_default().extra_args = [(BAD_FLAG.to_owned(), String::new())].into();
    });
    rest(&mut world, &mut operator, plan).unwrap();
    assert!(world.running().is_empty());
    world.edit_spec(|spec| spec.etcd = None);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert!(runs_only(&world, "3.5.35"));
}

/// Seeds 32116 and 36765: a member that was mended while down runs an image that lies, and what it ran before
/// is not known any more. Once the spec asks for something else it is free to go there.
#[test]
fn a_claim_on_a_member_whose_image_lies_ends_with_the_next_edit() {
    let (mut world, mut operator) = settled(ON_3_6);
    world.slow.insert(member(1), 60_000);
    strike(&mut world, Fault::Crash, Some(&member(1)), &spec(ON_3_6));
    world.edit_spec(version("3.6.97"));
    until(&mut world, &mut operator, plan, "its next Pod", |world| {
        world.pods.get(&member(1)).is_some_and(|pod| pod.image.ends_with("97"))
    });
    for volume in world.claims.values_mut() {
        volume.facts.good = None;
    }
    world.slow.clear();
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("bad image"));
    world.edit_spec(version("3.6.14"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert!(runs_only(&world, "3.6.14"));
}

/// Seed 3419: a member that was mended while down does not start on the way down, and what it ran before is not
/// known any more. The others still run the higher minor, and it may follow them there.
#[test]
fn a_member_left_on_the_way_down_without_a_way_back_follows_the_others_up() {
    let (mut world, mut operator) = settled(ON_3_6);
    world.edit_spec(version("3.5.98"));
    until(&mut world, &mut operator, plan, "the lowering", |world| {
        world.raft().unwrap().cluster_version == Some(V3_5)
    });
    strike(&mut world, Fault::Recreated, None, &spec(ON_3_6));
    until(&mut world, &mut operator, plan, "a member that does not start", |world| {
        world.pods.values().any(|pod| pod.image.ends_with("98") && pod.restarts > 0)
    });
    for volume in world.claims.values_mut() {
        volume.facts.good = None;
    }
    rest(&mut world, &mut operator, plan).unwrap();
    world.edit_spec(version("3.6.16"));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert!(runs_only(&world, "3.6.16"));
    assert_eq!((world.raft().unwrap().cluster_version, job(&world)), (Some(V3_6), None));
}
