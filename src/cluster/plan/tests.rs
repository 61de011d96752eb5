//! Tables of the planner: one obstacle at a time, and what is done about it.

use super::{Next, Record, Step, plan};
use crate::api::{Action, FailureStatus, PlanStatus, ProgressStatus};
use crate::cluster::fixtures::{edited, healthy, member, silence};
use crate::cluster::observation::{Observation, Ownership, ProbeFacts, ProbeState, SnapshotBase, Tries};
use crate::cluster::revision::Revision;
use crate::cluster::{revision, spec};
use crate::etcd::{Alarm, ListedMember, MemberId, Minor, Snapshots};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rstest::rstest;
use std::sync::Arc;
use std::time::Duration;

mod versions;

/// What is done now, as a word.
fn next(world: &Observation) -> String {
    match plan(world).next {
        Next::Do(step) => step.name().to_owned(),
        Next::Wait(wait) if wait.overdue => format!("Overdue({})", wait.notice.code),
        Next::Wait(wait) => format!("Wait({})", wait.notice.code),
        Next::Refused => format!("Refused({})", plan(world).refusals[0].code),
        Next::Paused => "Paused".to_owned(),
        Next::Settled => "Settled".to_owned(),
    }
}

fn target(world: &Observation) -> Revision {
    let cluster = &world.cluster;
    let desired = spec::parse(&cluster.spec).unwrap();
    let wire = world.wire();
    revision::render(&cluster.namespace, &cluster.name, &cluster.spec, &desired, desired.version, wire)
        .unwrap()
}

/// Data that somebody has decided to leave behind is not looked for.
#[rstest]
#[case::searched("{version: 3.6.16}", "CreateProbes")]
#[case::not_searched(
    "{version: 3.6.16, etcd: {extraArgs: {v2-deprecation: write-only-skip-check}}}",
    "Claim"
)]
fn volumes_are_searched_for_v2_data_unless_it_is_to_be_left(#[case] yaml: &str, #[case] expected: &str) {
    assert_eq!(next(&tried_out(edited(healthy("version: 3.5.35"), yaml))), expected);
}

/// The API server is asked for nodes between two members, whatever is waited for meanwhile; else a cordon would be seen
/// too late.
#[test]
fn nodes_are_asked_for_until_a_member_is_claimed() {
    let mut world = ready_to_roll();
    assert!(world.cluster.may_claim_a_member(), "a new spec");
    world.cluster.status.observed_generation = Some(world.cluster.generation);
    assert!(!world.cluster.may_claim_a_member(), "nothing is planned");
    world.cluster.status.plan = Some(crate::api::PlanStatus::default());
    world.cluster.status.progress = claimed(1).cluster.status.progress;
    assert!(!world.cluster.may_claim_a_member(), "one is claimed");
    world.cluster.status.progress.as_mut().unwrap().action = Action::ProbeImage;
    assert!(world.cluster.may_claim_a_member(), "a wait without a claim");
}

/// The revision that is asked for is stored, and its image was tried out on every node.
fn tried_out(mut world: Observation) -> Observation {
    let target = target(&world);
    for number in 0..3 {
        world.probes.push(ProbeFacts {
            pod: format!("probe-{number}"),
            uid: format!("probe-{number}"),
            node: format!("node-{number}"),
            revision: target.name.clone(),
            tries: Tries::Image,
            state: ProbeState::Said(Some(target.version)),
        });
    }
    world.revisions.insert(target.name.clone(), Arc::new(target));
    world
}

/// A cluster on 3.6.15 that shall go to 3.6.16, for which all is ready.
fn ready_to_roll() -> Observation {
    tried_out(edited(healthy("version: 3.6.15"), "version: 3.6.16"))
}

/// The same with this member claimed, and a proposal that committed just now.
fn claimed(number: u32) -> Observation {
    let mut world = ready_to_roll();
    world.cluster.status.progress = Some(ProgressStatus {
        step: None,
        steps: None,
        action: Action::ReplaceMember,
        member: member(number).to_string(),
        revision: target(&world).name,
        pod_uid: Some(format!("pod-db-{number}")),
        waiting_for: None,
        reason: None,
        since: Time(world.now),
        deadline: None,
    });
    world.proposal = Some(Ok(()));
    world
}

/// The claimed member's new Pod, which does not come up.
fn claimed_and_failing() -> Observation {
    let mut world = claimed(1);
    let revision = target(&world).name;
    silence(&mut world, &member(1));
    let pod = world.pods.get_mut(&member(1)).unwrap();
    pod.uid = "pod-new".to_owned();
    pod.revision.clone_from(&revision);
    world.claims.get_mut(&member(1)).unwrap().assigned = Some(revision);
    world
}

fn out_of_patience(world: &mut Observation) {
    let Next::Wait(wait) = plan(world).next else { panic!("nothing is waited for") };
    world.patience.subject = wait.subject;
    world.patience.best = wait.progress;
    world.patience.without_progress = Duration::from_mins(5);
}

#[test]
fn a_healthy_cluster_is_settled() {
    assert_eq!(next(&healthy("version: 3.6.16")), "Settled");
}

/// Else its end would never be told: the roll is done before the cluster is as its spec says.
#[test]
fn the_plan_has_not_ended_while_a_member_migrates_its_data() {
    let mut world = healthy("version: 3.6.16");
    world.cluster.status.plan = Some(PlanStatus::default());
    world.answers.get_mut(&member(2)).unwrap().storage_version = Some(Minor::new(3, 5));
    let plan = plan(&world);
    let actions: Vec<Action> = plan.steps.iter().map(|step| step.action).collect();
    assert_eq!((actions, plan.converged), (vec![Action::AwaitClusterVersion], false));
}

/// Somebody adds a member by hand.
fn stranger(world: &mut Observation, is_learner: bool) {
    let list = world.member_list.as_mut().unwrap();
    let (name, peer_urls) = (String::new(), vec!["http://elsewhere:2380".to_owned()]);
    list.push(ListedMember { id: MemberId(0xbad), name, peer_urls, is_learner, ..list[0].clone() });
}

#[test]
fn a_roll_begins_with_its_revision_then_the_probes_then_a_claim_of_a_follower() {
    let mut world = ready_to_roll();
    let target = target(&world);
    world.revisions.remove(&target.name);
    assert_eq!(next(&world), "StoreRevision");
    world.revisions.insert(target.name.clone(), Arc::new(target));
    let probes = std::mem::take(&mut world.probes);
    assert_eq!(next(&world), "CreateProbes");
    world.probes = probes;
    let Next::Do(Step::Record(Record::Claim(claim))) = plan(&world).next else { panic!() };
    assert_eq!(claim.member, member(1), "db-0 leads and goes last");
}

#[rstest]
#[case::a_member_goes_away(|w: &mut Observation| w.pods.get_mut(&member(2)).unwrap().deleting = true, "Wait(MemberStopping)")]
#[case::an_alarm_that_is_over(|w: &mut Observation| alarm(w, Alarm::NoSpace), "Disarm")]
#[case::an_alarm_about_data(|w: &mut Observation| alarm(w, Alarm::Corrupt), "Wait(AlarmActive)")]
#[case::a_learner(|w: &mut Observation| stranger(w, true), "Wait(MembershipUnexpected)")]
#[case::a_voter(|w: &mut Observation| stranger(w, false), "Wait(MembershipUnexpected)")]
#[case::a_learner_of_our_own(|w: &mut Observation| w.member_list.as_mut().unwrap()[2].is_learner = true, "NoteVoters")]
#[case::a_stranger(|w: &mut Observation| w.member_list.as_mut().unwrap()[2].id = MemberId(0xbad), "Wait(MembershipUnexpected)")]
#[case::an_unstarted_member(|w: &mut Observation| w.member_list.as_mut().unwrap()[2].name.clear(), "Wait(MembershipUnexpected)")]
#[case::one_too_few(|w: &mut Observation| { w.member_list.as_mut().unwrap().pop(); }, "NoteVoters")]
#[case::no_list(|w: &mut Observation| w.member_list = None, "Wait(QuorumUnproven)")]
#[case::two_terms(|w: &mut Observation| status(w, 2).raft_term = 3, "Wait(NoLeader)")]
#[case::two_leaders(|w: &mut Observation| status(w, 2).leader = Some(MemberId(0xa2)), "Wait(NoLeader)")]
#[case::far_behind(|w: &mut Observation| { status(w, 0).raft_index = 9_000; status(w, 0).raft_applied_index = 9_000; }, "Wait(MemberBehind)")]
#[case::another_image(|w: &mut Observation| w.probes[0].state = ProbeState::Said(Some("3.6.1".parse().unwrap())), "Overdue(ImageVersionMismatch)")]
#[case::no_image(|w: &mut Observation| w.probes[0].state = ProbeState::Running(Some(("ErrImagePull".into(), String::new()))), "Wait(ImageUnavailable)")]
#[case::a_broken_image(|w: &mut Observation| w.probes[0].state = ProbeState::Failed("exit code 127".into()), "Overdue(ImageUnavailable)")]
#[case::a_volume_that_goes_with_the_pod(|w: &mut Observation| w.claims.get_mut(&member(1)).unwrap().deleting = true, "Wait(MemberDataLost)")]
#[case::somebody_else_s_pod(|w: &mut Observation| w.pods.get_mut(&member(2)).unwrap().ownership = Ownership::Foreign("x".into()), "Refused(ForeignObject)")]
#[case::a_revision_without_an_owner(|w: &mut Observation| { w.foreign_revisions.insert("db-x".into(), "x".into()); }, "Refused(ForeignObject)")]
#[case::nothing(|_: &mut Observation| {}, "Claim")]
fn before_a_claim(#[case] obstacle: fn(&mut Observation), #[case] expected: &str) {
    let mut world = ready_to_roll();
    obstacle(&mut world);
    assert_eq!(next(&world), expected);
}

/// A deletion that orphans leaves revisions behind; storing them anew would find their names taken for ever.
#[test]
fn a_member_whose_revision_was_orphaned_is_refused_and_not_tried_for_ever() {
    let mut world = healthy("version: 3.6.16");
    world.pods.clear();
    world.answers.clear();
    world.member_list = None;
    let (name, _) = world.revisions.pop_first().unwrap();
    assert_eq!(next(&world), "StoreRevision");
    world.foreign_revisions.insert(name.clone(), "has no owner that this operator knows".to_owned());
    assert_eq!(next(&world), "Refused(ForeignObject)");
    let remedy = &plan(&world).refusals[0].remedy;
    assert!(remedy.contains(&format!("kubectl -n prod delete controllerrevision {name}")), "{remedy}");
}

#[rstest]
#[case::all_is_well(|_: &mut Observation| {}, "Stop")]
#[case::no_proposal_was_tried(|w: &mut Observation| w.proposal = None, "Wait(QuorumUnproven)")]
#[case::no_proposal_commits(|w: &mut Observation| w.proposal = Some(Err("timed out".into())), "Wait(QuorumUnproven)")]
#[case::the_budget_says_no(|w: &mut Observation| w.budget.as_mut().unwrap().status.as_mut().unwrap().disruptions_allowed = 0, "Wait(DisruptionBudget)")]
#[case::another_goes_away(|w: &mut Observation| w.pods.get_mut(&member(2)).unwrap().deleting = true, "Withdraw")]
#[case::another_is_down(|w: &mut Observation| silence(w, &member(2)), "Withdraw")]
#[case::the_spec_went_back(|w: &mut Observation| w.cluster.spec.version = "3.6.15".into(), "Withdraw")]
#[case::the_spec_became_impossible(|w: &mut Observation| w.cluster.spec.version = "3.5.35".into(), "Withdraw")]
#[case::it_is_on_its_way_out(|w: &mut Observation| w.pods.get_mut(&member(1)).unwrap().deleting = true, "Wait(MemberStopping)")]
#[case::it_is_gone(|w: &mut Observation| { w.pods.remove(&member(1)); w.answers.remove(&member(1)); }, "Assign")]
fn with_a_claim(#[case] change: fn(&mut Observation), #[case] expected: &str) {
    let mut world = claimed(1);
    change(&mut world);
    assert_eq!(next(&world), expected);
}

#[test]
fn a_claimed_leader_hands_over_before_it_is_stopped() {
    let world = claimed(0);
    let Next::Do(Step::MoveLeader { from, to, .. }) = plan(&world).next else { panic!() };
    assert_eq!((from, to), (member(0), member(1)));
}

#[test]
fn leadership_goes_to_who_runs_the_target_already() {
    let mut world = claimed(0);
    let target = target(&world).name;
    world.pods.get_mut(&member(2)).unwrap().revision = target;
    let Next::Do(Step::MoveLeader { to, .. }) = plan(&world).next else { panic!() };
    assert_eq!(to, member(2));
}

#[test]
fn a_member_that_does_not_come_up_is_waited_for_then_put_back() {
    let mut world = claimed_and_failing();
    assert_eq!(next(&world), "Wait(MemberDown)");
    out_of_patience(&mut world);
    let Next::Do(Step::Record(Record::Claim(claim))) = plan(&world).next else { panic!() };
    assert_eq!(claim.action, Action::PutBack);
    assert_eq!(Some(&claim.revision), world.claims[&member(1)].good.as_ref());
    let failure = claim.failure.unwrap();
    assert_eq!((failure.exit_code, failure.version.as_str()), (Some(2), "3.6.16"));
}

#[test]
fn nothing_is_put_back_while_the_others_are_what_is_wrong() {
    let mut world = claimed_and_failing();
    silence(&mut world, &member(2));
    out_of_patience(&mut world);
    // That its container does not stay up is its own fault, whatever the others do.
    assert_eq!(next(&world), "Claim");
    world.pods.get_mut(&member(1)).unwrap().container.running_since = Some(world.now);
    assert!(next(&world).starts_with("Overdue"), "{}", next(&world));
}

#[test]
fn an_old_minor_is_not_put_back_once_the_cluster_version_has_moved() {
    let mut world = claimed_and_failing();
    for answer in world.answers.values_mut().filter(|answer| answer.status.is_ok()) {
        answer.cluster_version = Some(Minor::new(3, 7));
    }
    let Next::Do(Step::Record(Record::Claim(claim))) = plan(&world).next else { panic!("{}", next(&world)) };
    // The way down leads over a release of the minor that runs, and not over what it had.
    assert_eq!(claim.action, Action::ReplaceMember);
    assert_ne!(Some(&claim.revision), world.claims[&member(1)].good.as_ref());
}

#[test]
fn a_spec_corrected_while_the_member_fails_is_tried_at_once() {
    let mut world = claimed_and_failing();
    world.cluster.spec.version = "3.6.15".to_owned();
    let Next::Do(Step::Record(Record::Claim(claim))) = plan(&world).next else { panic!("{}", next(&world)) };
    assert_eq!(Some(&claim.revision), world.claims[&member(1)].good.as_ref());
}

#[test]
fn what_failed_is_not_tried_again() {
    let mut world = ready_to_roll();
    world.cluster.status.last_failure = Some(FailureStatus {
        member: "db-1".to_owned(),
        revision: target(&world).name,
        version: "3.6.16".to_owned(),
        reason: None,
        exit_code: Some(2),
        log: None,
        time: Time(Timestamp::UNIX_EPOCH),
    });
    assert_eq!(next(&world), "Refused(MemberFailed)");
}

#[rstest]
#[case::skip("version: 3.5.35", "{version: 3.7.3, rollout: {hops: Single}}", "Refused(MinorSkipped)")]
#[case::down_to_3_4("version: 3.6.16", "version: 3.4.45", "Refused(DowngradeUnsupported)")]
#[case::down_two_at_once(
    "version: 3.7.3",
    "{version: 3.5.35, rollout: {hops: Single}}",
    "Refused(MinorSkipped)"
)]
#[case::down_without_a_way_up(
    "version: 3.6.16",
    "{version: 3.5.9, rollout: {hops: Single}}",
    "Refused(FloorNotMet)"
)]
#[case::floor("version: 3.5.9", "{version: 3.6.16, rollout: {hops: Single}}", "Refused(FloorNotMet)")]
#[case::never("version: 3.5.35", "version: 3.4.45", "Refused(DowngradeUnsupported)")]
#[case::unknown("version: 3.5.35", "version: 3.8.0", "Refused(VersionUnsupported)")]
#[case::alone(
    "{version: 3.5.35, replicas: 1}",
    "{version: 3.6.16, replicas: 1}",
    "Refused(DowntimeNotAllowed)"
)]
#[case::smaller_volumes(
    "version: 3.6.16",
    "{version: 3.6.16, storage: {size: 7Gi}}",
    "Refused(StorageChangeUnsupported)"
)]
#[case::heartbeat(
    "version: 3.6.16",
    "{version: 3.6.16, etcd: {heartbeatInterval: 1s, electionTimeout: 10s}}",
    "Refused(ElectionTimeoutConflict)"
)]
#[case::a_release_to_avoid("version: 3.6.16", "{version: 3.6.4}", "Refused(ReleaseRefused)")]
#[case::unknown_flag(
    "version: 3.6.16",
    "{version: 3.6.16, etcd: {extraArgs: {no-such-flag: '1'}}}",
    "Refused(FlagUnsupported)"
)]
#[case::flag_of_a_later_minor(
    "version: 3.5.34",
    "{version: 3.5.35, etcd: {extraArgs: {log-format: json}}}",
    "Refused(FlagUnsupported)"
)]
#[case::unknown_gate(
    "version: 3.6.16",
    "{version: 3.6.16, etcd: {featureGates: {PriorityRequest: true}}}",
    "Refused(FlagUnsupported)"
)]
#[case::a_gate_that_a_stop_on_the_way_does_not_know(
    "version: 3.5.30",
    "{version: 3.7.3, etcd: {featureGates: {PriorityRequest: true}}}",
    "Refused(FlagUnsupported)"
)]
#[case::owned("version: 3.6.16", "{version: 3.6.16, etcd: {extraArgs: {name: x}}}", "Refused(InvalidSpec)")]
fn refuses_and_touches_nothing(#[case] from: &str, #[case] to: &str, #[case] expected: &str) {
    assert_eq!(next(&edited(healthy(from), to)), expected);
}

/// A cluster on 3.6 that shall go to 3.7, and what each member says of its raft snapshots.
fn before_3_7(taken: u64) -> Observation {
    let mut world = edited(healthy("version: 3.6.16"), "version: 3.7.3");
    let target = target(&world);
    world.revisions.insert(target.name.clone(), target.into());
    for answer in world.answers.values_mut() {
        answer.snapshots = Some(Snapshots { process: "1".to_owned(), taken });
    }
    world
}

fn count_from(world: &mut Observation, process: &str, taken: u64, raft_index: u64) {
    for claim in world.claims.values_mut() {
        let snapshots = Snapshots { process: process.to_owned(), taken };
        claim.snapshot_base = Some(SnapshotBase { snapshots, raft_index });
    }
}

#[rstest]
#[case::a_count_alone_proves_nothing(7, |_: &mut Observation| {}, "NoteSnapshots")]
#[case::none_since(7, |w: &mut Observation| count_from(w, "1", 7, 900), "Propose")]
#[case::another_process_counts_anew(7, |w: &mut Observation| count_from(w, "0", 2, 900), "NoteSnapshots")]
#[case::one_since(8, |w: &mut Observation| count_from(w, "1", 7, 900), "NoteSnapshots")]
#[case::none_after_enough_entries(
    7,
    |w: &mut Observation| { count_from(w, "1", 7, 900); status(w, 0).raft_index = 16_000; },
    "Wait(SnapshotPending)"
)]
#[case::no_answer(7, |w: &mut Observation| w.answers.get_mut(&member(1)).unwrap().snapshots = None, "Wait(SnapshotPending)")]
#[case::a_member_is_down(7, |w: &mut Observation| silence(w, &member(2)), "Wait(MemberDown)")]
#[case::proven(7, |w: &mut Observation| for claim in w.claims.values_mut() { claim.free_of_v2_entries = true }, "CreateProbes")]
#[case::one_is_not(7, |w: &mut Observation| {
    for claim in w.claims.values_mut() { claim.free_of_v2_entries = true }
    w.claims.get_mut(&member(1)).unwrap().free_of_v2_entries = false;
}, "NoteSnapshots")]
fn before_3_7_every_member_takes_a_snapshot(
    #[case] taken: u64,
    #[case] change: fn(&mut Observation),
    #[case] expected: &str,
) {
    let mut world = before_3_7(taken);
    change(&mut world);
    assert_eq!(next(&world), expected);
}

#[test]
fn a_snapshot_counts_no_more_once_the_cluster_version_went_back() {
    let mut world = healthy("version: 3.6.16");
    for claim in world.claims.values_mut() {
        claim.free_of_v2_entries = true;
    }
    assert_eq!(next(&world), "Settled");
    for answer in world.answers.values_mut() {
        answer.cluster_version = Some(Minor::new(3, 5));
    }
    assert_eq!(next(&world), "NoteSnapshots");
}

#[test]
fn a_refused_spec_still_brings_members_back_with_their_own_revision() {
    let mut world = edited(healthy("version: 3.6.16"), "version: 3.5.35");
    world.pods.remove(&member(1));
    world.answers.remove(&member(1));
    let Next::Do(Step::CreatePods(pods)) = plan(&world).next else { panic!("{}", next(&world)) };
    assert_eq!(Some(&pods[0].revision), world.claims[&member(1)].assigned.as_ref());
}

#[test]
fn a_down_member_goes_first_where_the_change_may_mend_it() {
    let mut world = ready_to_roll();
    silence(&mut world, &member(2));
    world.cluster.spec.version = "3.6.15".to_owned();
    world.cluster.spec.etcd = Some(serde_saphyr::from_str("{snapshotCount: 5000}").unwrap());
    let target = target(&world);
    world.revisions.insert(target.name.clone(), Arc::new(target));
    let Next::Do(Step::Record(Record::Claim(claim))) = plan(&world).next else { panic!("{}", next(&world)) };
    assert_eq!(claim.member, member(2));
}

#[test]
fn paused_touches_nothing_not_even_a_missing_pod() {
    let mut world = edited(healthy("version: 3.6.15"), "{version: 3.6.16, paused: true}");
    world.pods.remove(&member(1));
    assert_eq!(next(&world), "Paused");
}

fn status(world: &mut Observation, number: u32) -> &mut crate::etcd::MemberStatus {
    world.answers.get_mut(&member(number)).unwrap().status.as_mut().unwrap()
}

fn alarm(world: &mut Observation, alarm: Alarm) {
    status(world, 0).alarms.push(alarm);
}
