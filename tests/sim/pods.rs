//! `spec.storage.emptyDir`: members keep their data in their Pods, which nobody stops to bring them back.

use crate::faults::{Fault, member, strike};
use crate::named::{settled, spec};
use crate::operator::Operator;
use crate::rng::Rng;
use crate::run::{rest, until};
use crate::world::World;
use crate::world::kube::{Pod, State};
use quorate::api::{Code, EmptyDir, EtcdClusterSpec, Quantity};
use quorate::cluster::plan::plan;
use rstest::rstest;

const THREE: &str =
    "{version: 3.6.14, storage: {emptyDir: {}}, rollout: {memberDeadline: 20s}, heal: {nodeLostAfter: 10s}}";

fn first() -> EtcdClusterSpec {
    spec(THREE)
}

fn members(world: &World) -> String {
    let names: Vec<String> = world.raft().unwrap().voters.keys().map(ToString::to_string).collect();
    names.join(" ")
}

fn codes(world: &World) -> Vec<Code> {
    world.cluster.as_ref().unwrap().status.refusals.iter().map(|refusal| refusal.code).collect()
}

/// One after the other comes and goes, the leader last, and leadership moves once.
#[rstest]
#[case::patch("3.6.14", "3.6.16")]
#[case::minor("3.5.35", "3.6.16")]
fn a_roll_is_an_exchange(#[case] from: &str, #[case] to: &str) {
    let (mut world, mut operator) = settled(&THREE.replace("3.6.14", from));
    let (leader, moves) = (world.raft().unwrap().leader.clone().unwrap(), world.raft().unwrap().moves);
    let made = world.made;
    world.edit_spec(|spec| to.clone_into(&mut spec.version));
    until(&mut world, &mut operator, plan, "the leader and two new members", |world| {
        members(world) == format!("{leader} db-3 db-4")
    });
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!((members(&world).as_str(), world.made - made), ("db-3 db-4 db-5", 3));
    assert_eq!(world.raft().unwrap().moves - moves, 1);
}

/// Several in a row: nothing of a Pod that is gone can be waited for.
#[test]
fn those_whose_pods_are_evicted_are_replaced_each_time() {
    let (mut world, mut operator) = settled(THREE);
    for (number, left) in [(1, "db-0 db-2 db-3"), (0, "db-2 db-3 db-4"), (2, "db-3 db-4 db-5")] {
        strike(&mut world, Fault::Drain, Some(&member(number)), &first());
        assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
        assert_eq!(members(&world), left);
    }
}

#[test]
fn with_mode_manual_a_person_is_asked() {
    let (mut world, mut operator) = settled(&THREE.replace("heal: {", "heal: {mode: Manual, "));
    strike(&mut world, Fault::PodDeleted, Some(&member(1)), &first());
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("lost data"));
    assert_eq!(codes(&world), [Code::MemberDataLost]);
    let remedy = &world.cluster.as_ref().unwrap().status.refusals[0].remedy;
    assert!(remedy.ends_with("quorate.dev/replace=db-1 --overwrite"), "{remedy}");
    strike(&mut world, Fault::Replace, Some(&member(1)), &first());
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(members(&world), "db-0 db-2 db-3");
}

#[test]
fn one_whose_node_is_lost_is_replaced_elsewhere() {
    let (mut world, mut operator) = settled(THREE);
    let node = world.pods[&member(1)].node.unwrap();
    world.nodes[node] = Some((world.now, u64::MAX));
    until(&mut world, &mut operator, plan, "a replacement", |world| members(world) == "db-0 db-2 db-3");
    strike(&mut world, Fault::NodeGone, Some(&member(1)), &first());
    world.gone.insert(node);
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
}

/// What is left is said to be saved; nothing is touched.
#[test]
fn a_quorum_that_is_gone_is_told() {
    let (mut world, mut operator) = settled(THREE);
    for number in [1, 2] {
        strike(&mut world, Fault::PodDeleted, Some(&member(number)), &first());
    }
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("lost data"));
    let refusals = &world.cluster.as_ref().unwrap().status.refusals;
    let save = refusals.iter().find(|refusal| refusal.code == Code::RecoveryNeeded).unwrap();
    assert!(save.remedy.contains("etcdctl snapshot save"), "{}", save.remedy);
    assert!(world.pods.contains_key(&member(0)));
}

#[test]
fn all_pods_gone_is_all_data_gone() {
    let (mut world, mut operator) = settled(THREE);
    for number in 0..3 {
        strike(&mut world, Fault::PodDeleted, Some(&member(number)), &first());
    }
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("lost data"));
    assert_eq!(codes(&world), [Code::AllMembersLost]);
    assert!(world.pods.is_empty() && world.claims.is_empty());
}

/// A mistake in the first spec, corrected: nothing that was tried before is in the way.
#[rstest]
#[case::an_image_that_is_not_there(
    "{version: 3.6.99, storage: {emptyDir: {}}, rollout: {memberDeadline: 20s}}"
)]
#[case::a_flag_that_etcd_does_not_take(
    "{version: 3.6.14, storage: {emptyDir: {}}, rollout: {memberDeadline: 20s}, etcd: {extraArgs: {max-wals: many}}}"
)]
fn a_spec_that_never_came_up_may_be_corrected(#[case] wrong: &str, #[values(false, true)] at_rest: bool) {
    let mut world = World::new(Rng::fixed(), spec(wrong));
    let mut operator = Operator::default();
    if at_rest {
        rest(&mut world, &mut operator, plan).unwrap();
    } else {
        let stands_still = |pod: &Pod| matches!(pod.state, State::NotPulled | State::Backoff { .. });
        until(&mut world, &mut operator, plan, "nobody comes up", |world| {
            world.pods.len() == 3 && world.pods.values().all(stands_still)
        });
    }
    assert_eq!(world.raft().map(|raft| raft.acked), None);
    world.edit_spec(|spec| *spec = first());
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(members(&world), "db-0 db-1 db-2");
}

/// A Pod that goes while the cluster forms may have acknowledged something.
#[test]
fn a_pod_that_goes_while_the_cluster_forms_is_told() {
    let mut world = World::new(Rng::fixed(), first());
    let mut operator = Operator::default();
    until(&mut world, &mut operator, plan, "Pods", |world| world.pods.contains_key(&member(1)));
    strike(&mut world, Fault::PodDeleted, Some(&member(1)), &first());
    until(&mut world, &mut operator, plan, "its Pod has gone", |world| !world.pods.contains_key(&member(1)));
    rest(&mut world, &mut operator, plan).unwrap();
    assert_eq!(codes(&world), [Code::MemberDataLost]);
}

/// No member joins under etcd's downgrade job.
#[test]
fn a_minor_down_is_refused() {
    let (mut world, mut operator) = settled(THREE);
    world.edit_spec(|spec| "3.5.35".clone_into(&mut spec.version));
    rest(&mut world, &mut operator, plan).unwrap();
    assert_eq!(codes(&world), [Code::DowngradeUnsupported]);
    assert_eq!(members(&world), "db-0 db-1 db-2");
}

#[test]
fn labels_are_given_in_place() {
    let (mut world, mut operator) = settled(THREE);
    let made = world.made;
    world.edit_spec(|spec| {
        spec.pod.get_or_insert_default().labels.insert("team".to_owned(), "red".to_owned());
    });
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!((world.made, members(&world).as_str()), (made, "db-0 db-1 db-2"));
}

/// The schema lets nobody do that; a schema may be lost.
#[test]
fn how_data_is_kept_does_not_change() {
    let (mut world, mut operator) = settled(THREE);
    world.edit_spec(|spec| spec.storage = None);
    rest(&mut world, &mut operator, plan).unwrap();
    assert_eq!(codes(&world), [Code::StorageChangeUnsupported]);
    assert_eq!(members(&world), "db-0 db-1 db-2");

    let (mut world, mut operator) = settled("{version: 3.6.14}");
    world.edit_spec(|spec| spec.storage.get_or_insert_default().empty_dir = Some(EmptyDir::default()));
    rest(&mut world, &mut operator, plan).unwrap();
    assert_eq!(codes(&world), [Code::StorageChangeUnsupported]);
    assert_eq!(members(&world), "db-0 db-1 db-2");
}

/// Volumes that an earlier cluster left are somebody's data.
#[test]
fn volumes_of_an_earlier_cluster_are_in_the_way() {
    let (mut world, mut operator) = settled("{version: 3.6.14}");
    world.delete_cluster();
    world.create_cluster(first());
    rest(&mut world, &mut operator, plan).unwrap();
    assert_eq!(codes(&world).first(), Some(&Code::StorageChangeUnsupported));
    assert!(world.claims.values().all(|volume| volume.data.is_some() && !volume.facts.deleting));
}

/// What does not come up, or not again once it votes, is removed and told, and not tried once more. A member that is lost
/// meanwhile is replaced by one that is known to start.
#[rstest]
#[case::it_does_not_start("3.6.98", false)]
#[case::it_does_not_start_again("3.6.16", true)]
fn a_version_that_does_not_start_costs_nothing(#[case] version: &str, #[case] has_a_vote: bool) {
    let (mut world, mut operator) = settled(THREE);
    let (made, tries) = (world.made, 1);
    world.edit_spec(|spec| version.clone_into(&mut spec.version));
    if has_a_vote {
        until(&mut world, &mut operator, plan, "a vote", |world| world.raft().unwrap().voters.len() == 4);
        world.pods.get_mut(&member(3)).unwrap().bad_flag = true;
        strike(&mut world, Fault::Crash, Some(&member(3)), &first());
    }
    rest(&mut world, &mut operator, plan).unwrap();
    assert_eq!((members(&world).as_str(), codes(&world)), ("db-0 db-1 db-2", vec![Code::MemberFailed]));
    assert_eq!(world.made - made, tries);
    let failure = world.cluster.as_ref().unwrap().status.last_failure.clone().unwrap();
    assert_eq!((failure.member.as_str(), failure.version.as_str()), ("db-3", version));
    strike(&mut world, Fault::PodDeleted, Some(&member(1)), &first());
    rest(&mut world, &mut operator, plan).unwrap();
    assert_eq!((members(&world).as_str(), codes(&world)), ("db-0 db-2 db-4", vec![Code::MemberFailed]));
    world.edit_spec(|spec| "3.6.14".clone_into(&mut spec.version));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!(members(&world), "db-0 db-2 db-4");
}

/// Those that are too many go first, and nobody comes in their places.
#[test]
fn fewer_members_and_a_version_at_once() {
    let (mut world, mut operator) = settled(&THREE.replace("{version", "{replicas: 5, version"));
    let made = world.made;
    world.edit_spec(|spec| (spec.replicas, spec.version) = (3, "3.6.16".to_owned()));
    assert_eq!(rest(&mut world, &mut operator, plan), Ok("settled"));
    assert_eq!((members(&world).as_str(), world.made - made), ("db-5 db-6 db-7", 3));
}

/// What a kubelet would evict new members for is refused before there is one.
#[test]
fn a_size_that_the_databases_do_not_fit_in_is_refused() {
    let (mut world, mut operator) = settled(THREE);
    for data in world.claims.values_mut().filter_map(|volume| volume.data.as_mut()) {
        (data.db_size, data.in_use) = (150 << 20, 100 << 20);
    }
    world.edit_spec(|spec| spec.storage.get_or_insert_default().size = Some(Quantity::new("256Mi")));
    rest(&mut world, &mut operator, plan).unwrap();
    assert_eq!(
        (members(&world).as_str(), codes(&world)),
        ("db-0 db-1 db-2", vec![Code::StorageChangeUnsupported])
    );
}
