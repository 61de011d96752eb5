//! Single concerns of the planner: one obstacle each, put into an observation in which the next thing
//! to do is known.

use crate::named::{settled, spec};
use crate::observe::observe;
use crate::operator::Operator;
use crate::world::World;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use quorate::api::{Action, Code};
use quorate::cluster::names::MemberName;
use quorate::cluster::observation::{NodeTrouble, Observation, Ownership, Patience};
use quorate::cluster::plan::{Next, Plan, Record, Step, plan};
use quorate::etcd::{Alarm, ListedMember, MemberId};
use rstest::rstest;
use std::collections::BTreeSet;

/// Three settled members that are asked to restart; the plan is the first claim. With `claimed` one
/// step on: the claim is on record, and the plan is the stop.
fn about_to_roll(claimed: bool) -> Observation {
    let (mut world, mut operator) = settled("{version: 3.6.16, rollout: {memberDeadline: 20s}}");
    world.edit_spec(|spec| {
        spec.rollout.get_or_insert_default().restarted_at =
            Some(Time("2026-11-24T00:00:00Z".parse().unwrap()));
    });
    loop {
        let seen = look(&mut world);
        let next = plan(&seen).next;
        if matches!(
            (&next, claimed),
            (Next::Do(Step::Record(Record::Claim(_))), false) | (Next::Do(Step::Stop(_)), true)
        ) {
            return seen;
        }
        go_on(&mut world, &mut operator);
    }
}

fn look(world: &mut World) -> Observation {
    let cluster = world.cluster.clone().unwrap();
    observe(world, &cluster, &BTreeSet::new(), Patience::default())
}

fn go_on(world: &mut World, operator: &mut Operator) {
    operator.think(world, plan, &BTreeSet::new());
    operator.carry_out(world, usize::MAX);
}

/// A member that is not the next one to go, nor the leader.
fn other(seen: &Observation) -> MemberName {
    let leader = seen.answers.values().find_map(|answer| answer.status()?.leader).unwrap();
    let is_leader = |member: &&MemberName| seen.answers[*member].status().unwrap().member_id == leader;
    seen.pods.keys().filter(|member| !is_leader(member)).nth(1).unwrap().clone()
}

fn away(seen: &mut Observation) {
    let other = other(seen);
    seen.pods.get_mut(&other).unwrap().deleting = true;
}

fn silent(seen: &mut Observation) {
    let other = other(seen);
    seen.answers.get_mut(&other).unwrap().status = Err("timed out".to_owned());
}

fn gone(seen: &mut Observation) {
    let other = other(seen);
    seen.answers.get_mut(&other).unwrap().read = Err("timed out".to_owned());
}

fn two_leaders(seen: &mut Observation) {
    let other = other(seen);
    seen.answers.get_mut(&other).unwrap().status.as_mut().unwrap().leader = Some(MemberId(7));
}

fn two_terms(seen: &mut Observation) {
    let other = other(seen);
    seen.answers.get_mut(&other).unwrap().status.as_mut().unwrap().raft_term += 1;
}

fn behind(seen: &mut Observation) {
    for answer in seen.answers.values_mut() {
        answer.status.as_mut().unwrap().raft_index += 5_000;
        answer.status.as_mut().unwrap().raft_applied_index += 5_000;
    }
    let other = other(seen);
    seen.answers.get_mut(&other).unwrap().status.as_mut().unwrap().raft_applied_index -= 4_000;
}

fn no_list(seen: &mut Observation) {
    seen.member_list = None;
}

fn a_learner(seen: &mut Observation) {
    seen.member_list.as_mut().unwrap().push(ListedMember {
        id: MemberId(9),
        name: "guest".to_owned(),
        peer_urls: Vec::new(),
        client_urls: Vec::new(),
        is_learner: true,
    });
}

fn another_cluster(seen: &mut Observation) {
    let other = other(seen);
    seen.answers.get_mut(&other).unwrap().status.as_mut().unwrap().cluster_id.0 += 1;
}

fn another_member(seen: &mut Observation) {
    let other = other(seen);
    seen.answers.get_mut(&other).unwrap().status.as_mut().unwrap().member_id.0 += 1;
}

fn own_volume_goes(seen: &mut Observation) {
    let leader = seen.answers.values().find_map(|answer| answer.status()?.leader).unwrap();
    let first = seen.pods.keys().find(|m| seen.answers[*m].status().unwrap().member_id != leader).unwrap();
    seen.claims.get_mut(&first.clone()).unwrap().deleting = true;
}

#[rstest]
#[case::away(away, Code::MemberStopping)]
#[case::silent(silent, Code::MemberDown)]
#[case::reads_nothing(gone, Code::MemberBehind)]
#[case::two_leaders(two_leaders, Code::NoLeader)]
#[case::two_terms(two_terms, Code::NoLeader)]
#[case::behind(behind, Code::MemberBehind)]
#[case::no_list(no_list, Code::QuorumUnproven)]
#[case::a_learner(a_learner, Code::MembershipUnexpected)]
#[case::another_cluster(another_cluster, Code::MembershipUnexpected)]
#[case::another_member(another_member, Code::MembershipUnexpected)]
#[case::own_volume_goes(own_volume_goes, Code::MemberDataLost)]
fn before_a_claim(#[case] obstacle: fn(&mut Observation), #[case] code: Code) {
    let mut seen = about_to_roll(false);
    obstacle(&mut seen);
    let next = plan(&seen).next;
    let Next::Wait(wait) = next else { panic!("{next:?}") };
    assert_eq!(wait.notice.code, code, "{}", wait.notice.message);
}

#[rstest]
#[case::away(away)]
#[case::silent(silent)]
#[case::reads_nothing(gone)]
#[case::two_leaders(two_leaders)]
#[case::behind(behind)]
#[case::no_list(no_list)]
#[case::a_learner(a_learner)]
#[case::own_volume_goes(own_volume_goes)]
fn a_claim_is_withdrawn(#[case] obstacle: fn(&mut Observation)) {
    let mut seen = about_to_roll(true);
    obstacle(&mut seen);
    let next = plan(&seen).next;
    assert!(matches!(next, Next::Do(Step::Record(Record::Withdraw { .. }))), "{next:?}");
}

/// Patience with a member that is lost with its node is counted only where that is waited for, and it goes on for ever
/// where a member that is up waits to be put back.
#[test]
fn a_claim_to_put_a_member_back_gives_way_to_one_that_is_lost() {
    let mut seen = about_to_roll(true);
    seen.cluster.status.progress.as_mut().unwrap().action = Action::PutBack;
    let claimed = seen.cluster.status.progress.as_ref().unwrap().member.clone();
    // Its image holds another version than it says.
    let claimed = seen.answers.get_mut(&MemberName::parse("db", &claimed).unwrap()).unwrap();
    claimed.status.as_mut().unwrap().version = "3.6.10".parse().unwrap();
    let lost = other(&seen);
    silent(&mut seen);
    seen.homes.insert(lost, "node-9".to_owned());
    seen.nodes_in_trouble.insert("node-9".to_owned(), NodeTrouble::Gone);
    let next = plan(&seen).next;
    assert!(matches!(next, Next::Do(Step::Record(Record::Withdraw { .. }))), "{next:?}");
}

#[rstest]
#[case::not_tried(None)]
#[case::not_committed(Some(Err("timed out".to_owned())))]
fn no_stop_without_a_proposal(#[case] proposal: Option<Result<(), String>>) {
    let mut seen = about_to_roll(true);
    seen.proposal = proposal;
    let next = plan(&seen).next;
    let Next::Wait(wait) = next else { panic!("{next:?}") };
    assert_eq!(wait.notice.code, Code::QuorumUnproven);
}

#[test]
fn one_timeout_does_not_make_a_claimed_member_down() {
    let mut seen = about_to_roll(true);
    let claimed = seen.cluster.status.progress.as_ref().unwrap().member.clone();
    let claimed = MemberName::parse("db", &claimed).unwrap();
    seen.answers.get_mut(&claimed).unwrap().status = Err("timed out".to_owned());
    assert!(!matches!(plan(&seen).next, Next::Do(Step::Stop(_))));
}

#[test]
fn an_alarm_forbids_a_version_but_not_a_restart() {
    let alarm = |seen: &mut Observation| {
        for answer in seen.answers.values_mut() {
            answer.status.as_mut().unwrap().alarms = vec![Alarm::NoSpace];
        }
    };
    let mut seen = about_to_roll(false);
    alarm(&mut seen);
    assert!(matches!(plan(&seen).next, Next::Do(Step::Record(Record::Claim(_)))));
    seen.cluster.spec.version = "3.6.14".to_owned();
    let Next::Do(Step::Disarm { .. }) = plan(&seen).next else { panic!("there is room") };
    seen.cluster.spec.maintenance =
        self::spec("{version: 3.6.14, maintenance: {defragmentation: {mode: Disabled}}}").maintenance;
    // Storing a revision touches nobody.
    let stored = plan(&seen).next;
    let Next::Do(Step::StoreRevision(revision)) = stored else { panic!("{stored:?}") };
    seen.revisions.insert(revision.name.clone(), revision);
    let next = plan(&seen).next;
    let Next::Wait(wait) = next else { panic!("{next:?}") };
    assert_eq!(wait.notice.code, Code::AlarmActive);
}

/// What comes before what, from the last to the first: each is added to what was there.
#[test]
fn the_order_of_precedence() {
    let mut seen = about_to_roll(true);
    let code = |plan: &Plan| plan.refusals.first().map(|refusal| refusal.code);
    assert!(matches!(plan(&seen).next, Next::Do(Step::Stop(_))));
    let other = other(&seen);
    let gone = seen.pods.remove(&other).unwrap();
    seen.answers.remove(&other);
    seen.budget = None;
    assert!(matches!(plan(&seen).next, Next::Do(Step::CreatePods(_))), "a Pod comes before a budget");
    seen.pods.insert(
        other,
        quorate::cluster::observation::PodFacts {
            ownership: Ownership::Foreign("Deployment web".to_owned()),
            ..gone
        },
    );
    assert!(matches!(plan(&seen).next, Next::Refused), "what belongs to others before all that is made");
    assert_eq!(code(&plan(&seen)), Some(Code::ForeignObject));
    seen.cluster.spec.paused = Some(true);
    assert!(matches!(plan(&seen).next, Next::Paused), "a pause before everything that is done");
    seen.cluster.spec.storage =
        spec("{version: 3.6.16, storage: {retentionPolicy: {whenDeleted: Delete}}}").storage;
    assert!(matches!(plan(&seen).next, Next::Do(Step::SetFinalizer(true))), "but not before the finalizer");
}

#[test]
fn the_leader_goes_last_and_after_it_has_handed_over() {
    let seen = about_to_roll(false);
    let steps = plan(&seen).steps;
    let actions: Vec<Action> = steps.iter().map(|step| step.action).collect();
    assert_eq!(actions, [Action::ReplaceMember, Action::ReplaceMember, Action::ReplaceLeader]);
    let leader = seen.answers.values().find_map(|answer| answer.status()?.leader).unwrap();
    let name =
        seen.answers.iter().find(|(_, answer)| answer.status().unwrap().member_id == leader).unwrap().0;
    assert_eq!(steps[2].member, Some(name.to_string()));
}
