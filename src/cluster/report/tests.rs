//! Tables of the report: what people see of each situation.

use super::{Outcome, Report, report};
use crate::api::{Action, Code, ConditionType, ProgressStatus, find_condition};
use crate::cluster::fixtures::{edited, healthy, member, silence};
use crate::cluster::notice::Notice;
use crate::cluster::observation::{ClaimFacts, Observation, PodFacts};
use crate::cluster::plan::{Next, Plan, Step, plan};
use crate::etcd::Alarm;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::time::Duration;

fn reported(world: &Observation) -> Report {
    report(world, &plan(world), &Outcome::default(), Some("https://docs.example"))
}

/// Type, status and reason of each condition, in order.
fn conditions(report: &Report) -> Vec<(&str, &str, &str)> {
    let all = report.status.conditions.iter();
    all.map(|c| (c.type_.as_str(), c.status.as_str(), c.reason.as_str())).collect()
}

#[test]
fn a_healthy_cluster_is_available_and_ready_and_nothing_else() {
    let report = reported(&healthy("version: 3.6.16"));
    assert_eq!(conditions(&report), [("Available", "True", "Serving"), ("Ready", "True", "Converged")]);
    assert_eq!(report.status.members_ready.as_deref(), Some("3/3"));
    assert_eq!(report.status.leader.as_deref(), Some("db-0"));
    assert_eq!(report.status.version.as_deref(), Some("3.6.16"));
    assert_eq!(report.status.observed_generation, Some(1));
}

#[test]
fn a_warning_is_told_and_holds_nothing_up() {
    let report = reported(&healthy("{version: 3.5.10, kubernetes: {version: '1.34'}}"));
    assert_eq!(conditions(&report), [("Available", "True", "Serving"), ("Ready", "True", "Converged")]);
    let warnings: Vec<_> = report.status.warnings.iter().map(|w| (w.code, w.message.as_str())).collect();
    let [(Code::KnownBugs, bugs), (Code::VersionSkew, skew)] = warnings[..] else { panic!("{warnings:?}") };
    assert!(bugs.contains("3.5.35") && bugs.contains("revisions may go back"), "{bugs}");
    assert!(skew.contains("3.5.13"), "{skew}");
}

#[test]
fn a_good_release_has_no_warning() {
    let report = reported(&healthy("{version: 3.6.16, kubernetes: {version: '1.34'}}"));
    assert_eq!(report.status.warnings, []);
}

#[test]
fn what_was_reported_once_is_not_written_again() {
    let mut world = healthy("version: 3.6.16");
    world.cluster.status = reported(&world).status;
    world.now += Duration::from_mins(1);
    for answer in world.answers.values_mut() {
        // A quiet cluster moves a little all the time.
        let status = answer.status.as_mut().unwrap();
        status.raft_index += 17;
        status.raft_applied_index += 11;
        status.db_size += 4096;
    }
    let again = reported(&world);
    assert_eq!(again.status, world.cluster.status);
    assert!(again.news.is_empty(), "{:?}", again.news);
}

#[test]
fn the_zone_of_a_member_is_that_of_its_node() {
    let mut world = healthy("version: 3.6.16");
    let zones = |report: &Report| {
        let rows = report.status.members.iter();
        rows.map(|row| row.zone.clone().unwrap_or_default()).collect::<Vec<_>>()
    };
    let first = reported(&world);
    assert_eq!(zones(&first), ["zone-0", "zone-1", "zone-2"]);

    world.cluster.status = first.status;
    world.zones.remove("node-1");
    let unread = reported(&world);
    assert_eq!(zones(&unread), ["zone-0", "zone-1", "zone-2"], "what was known of a node stays");
    assert_eq!(unread.status, world.cluster.status, "and is not written again");

    world.zones.insert("node-2".to_owned(), None);
    world.pods.get_mut(&member(1)).unwrap().node = Some("node-9".to_owned());
    assert_eq!(zones(&reported(&world)), ["zone-0", "", ""], "a node without a zone, and one not read yet");
}

#[test]
fn an_edit_is_reconciling_and_not_ready_in_the_same_write() {
    let mut world = healthy("version: 3.6.15");
    world.cluster.status = reported(&world).status;
    let report = reported(&edited(world, "version: 3.6.16"));
    let types: Vec<_> = conditions(&report).iter().map(|(kind, status, _)| (*kind, *status)).collect();
    assert_eq!(types, [("Reconciling", "True"), ("Available", "True"), ("Ready", "False")]);
    assert!(report.status.conditions.iter().all(|c| c.observed_generation == Some(2)));
    let plan = report.status.plan.unwrap();
    assert_eq!(plan.hops, ["3.6.15", "3.6.16"]);
    let members: Vec<_> = plan.steps.iter().filter_map(|step| step.member.as_deref()).collect();
    assert_eq!(members, ["db-1", "db-2", "db-0"], "the leader goes last");
}

#[test]
fn a_refused_edit_is_stalled_with_evidence_remedy_and_link() {
    let world = edited(healthy("version: 3.5.35"), "{version: 3.7.3, rollout: {hops: Single}}");
    let report = reported(&world);
    assert_eq!(
        conditions(&report),
        [
            ("Stalled", "True", "MinorSkipped"),
            ("Available", "True", "Serving"),
            ("Ready", "False", "MinorSkipped")
        ]
    );
    let message = &find_condition(&report.status.conditions, ConditionType::Stalled).unwrap().message;
    for part in [
        "3.5",
        "3.7.3",
        "set spec.rollout.hops to Many, or spec.version to a 3.6 release first",
        "https://docs.example/refusals.md#minorskipped",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(report.status.refusals[0].code, Code::MinorSkipped);
    assert!(report.status.plan.is_none(), "nothing is planned that is not done");
}

#[test]
fn a_refusal_is_one_event_and_not_one_a_pass() {
    let mut world = edited(healthy("version: 3.5.35"), "{version: 3.7.3, rollout: {hops: Single}}");
    let first = reported(&world);
    assert_eq!(first.news.iter().map(|news| news.code).collect::<Vec<_>>(), [Code::MinorSkipped]);
    world.cluster.status = first.status;
    assert!(reported(&world).news.is_empty());
}

#[test]
fn a_refusal_is_told_again_when_it_says_something_else() {
    let codes = |report: &Report| report.news.iter().map(|news| news.code).collect::<Vec<_>>();
    let mut world = edited(healthy("version: 3.5.35"), "{version: 3.7.3, rollout: {hops: Single}}");
    world.cluster.status = reported(&world).status;
    let mut world = edited(world, "{version: 3.7.2, rollout: {hops: Single}}");
    let again = reported(&world);
    assert_eq!(codes(&again), [Code::MinorSkipped]);
    assert!(again.news[0].note.contains("3.7.2"), "{:?}", again.news);
    world.cluster.status = again.status;
    assert!(reported(&world).news.is_empty());
}

#[test]
fn a_wait_past_its_deadline_is_one_event_whatever_the_container_says_meanwhile() {
    let mut world = healthy("version: 3.6.16");
    silence(&mut world, &member(2));
    world.patience.subject = "member/db-2".to_owned();
    world.patience.without_progress = Duration::from_secs(301);
    let first = reported(&world);
    assert_eq!(first.news.iter().map(|news| news.code).collect::<Vec<_>>(), [Code::MemberDown]);
    world.cluster.status = first.status;
    world.pods.get_mut(&member(2)).unwrap().container.exit_code = Some(137);
    let second = reported(&world);
    assert_ne!(second.status, world.cluster.status);
    assert!(second.news.is_empty(), "{:?}", second.news);
}

/// A member that is down is what is waited for first; the roll has begun with the approval all the same.
#[test]
fn a_roll_that_waits_for_approval_has_not_started_whatever_else_is_waited_for() {
    let told = |world: &Observation| reported(world).news.iter().map(|news| news.code).collect::<Vec<_>>();
    let mut world = edited(healthy("version: 3.6.14"), "{version: 3.6.16, rollout: {approval: Manual}}");
    silence(&mut world, &member(2));
    assert_eq!(told(&world), []);
    world.cluster.status = reported(&world).status;
    world.cluster.approve = world.cluster.status.plan.as_ref().and_then(|plan| plan.hash.clone());
    assert_eq!(told(&world), [Code::RolloutStarted]);
    world.cluster.status = reported(&world).status;
    assert_eq!(told(&world), []);
}

/// The claim of a roll, as the status holds it while its member is waited for.
fn claimed(world: &mut Observation) {
    world.cluster.status.progress = Some(ProgressStatus {
        step: Some(1),
        steps: Some(3),
        action: Action::ReplaceMember,
        member: "db-1".to_owned(),
        revision: world.pods[&member(1)].revision.clone(),
        pod_uid: Some("an-earlier-pod".to_owned()),
        waiting_for: Some("what was waited for before".to_owned()),
        reason: None,
        since: Time(world.now),
        deadline: Some("300s".to_owned()),
    });
}

#[test]
fn what_is_waited_for_is_what_the_present_wait_says_or_nothing() {
    let mut world = healthy("version: 3.6.16");
    claimed(&mut world);
    silence(&mut world, &member(1));
    let waits = plan(&world);
    let Next::Wait(wait) = &waits.next else { panic!("{waits:?}") };
    let progress = reported(&world).status.progress.unwrap();
    assert_eq!(progress.waiting_for.as_ref(), Some(&wait.notice.message));

    let mut done = waits.clone();
    done.next = Next::Do(Step::StoreRevision(world.revisions.values().next().unwrap().clone()));
    for next in [done.next, Next::Refused, Next::Paused] {
        let plan = Plan { next, ..waits.clone() };
        let progress = report(&world, &plan, &Outcome::default(), None).status.progress.unwrap();
        assert_eq!(progress.waiting_for, None, "{:?}", plan.next);
    }
}

#[test]
fn two_of_three_are_available_and_not_ready() {
    let mut world = healthy("version: 3.6.16");
    silence(&mut world, &member(2));
    let report = reported(&world);
    assert_eq!(
        conditions(&report),
        [
            ("Reconciling", "True", "MemberDown"),
            ("Available", "True", "Serving"),
            ("Ready", "False", "MemberDown")
        ]
    );
    assert_eq!(report.status.members_ready.as_deref(), Some("2/3"));
}

/// Its Pod and its volume are deleted, and Kubernetes lets them go a moment later.
#[test]
fn one_that_was_removed_is_no_member_any_more() {
    let mut world = healthy("version: 3.6.16");
    let claim = ClaimFacts { deleting: true, ..world.claims[&member(2)].clone() };
    world.claims.insert(member(3), claim);
    world.pods.insert(member(3), PodFacts { deleting: true, ..world.pods[&member(2)].clone() });
    let status = reported(&world).status;
    assert_eq!((status.members_ready.as_deref(), status.members.len()), (Some("3/3"), 3));
    // Whoever cannot be told from a member is shown.
    world.member_list = None;
    assert_eq!(reported(&world).status.members.len(), 4);
}

#[test]
fn a_wait_past_its_deadline_is_stalled() {
    let mut world = healthy("version: 3.6.16");
    silence(&mut world, &member(2));
    world.patience.subject = "member/db-2".to_owned();
    world.patience.without_progress = Duration::from_secs(301);
    assert_eq!(conditions(&reported(&world))[0], ("Stalled", "True", "MemberDown"));
}

#[test]
fn no_reader_is_no_availability() {
    let mut world = healthy("version: 3.6.16");
    for number in 0..3 {
        silence(&mut world, &member(number));
    }
    world.member_list = None;
    let report = reported(&world);
    assert_eq!(conditions(&report)[1], ("Available", "False", "QuorumLost"));
}

#[test]
fn a_lost_quorum_says_who_is_gone_and_what_is_left() {
    let mut world = healthy("version: 3.6.16");
    silence(&mut world, &member(1));
    silence(&mut world, &member(2));
    world.pods.remove(&member(2));
    world.answers.get_mut(&member(0)).unwrap().read = Err("etcdserver: request timed out".to_owned());
    world.member_list = None;
    let report = reported(&world);
    let available = find_condition(&report.status.conditions, ConditionType::Available).unwrap();
    let who = "gone: db-1 (on node-1), db-2 (no Pod); left: db-0 (raft index 1000, revision 900)";
    assert!(available.message.contains(who), "{}", available.message);
}

#[test]
fn nospace_is_no_availability_with_a_reason_of_its_own() {
    let mut world = healthy("version: 3.6.16");
    for answer in world.answers.values_mut() {
        answer.status.as_mut().unwrap().alarms.push(Alarm::NoSpace);
    }
    let report = reported(&world);
    let available = find_condition(&report.status.conditions, ConditionType::Available).unwrap();
    assert_eq!((available.status.as_str(), available.reason.as_str()), ("False", "NoSpace"));
    assert!(available.message.contains("disarm"), "{}", available.message);
}

#[test]
fn paused_says_so_and_keeps_its_last_honest_ready() {
    let world = healthy("{version: 3.6.16, paused: true}");
    assert_eq!(
        conditions(&reported(&world)),
        [("Available", "True", "Serving"), ("Ready", "True", "Converged"), ("Paused", "True", "Paused")]
    );
}

#[test]
fn what_the_api_server_refuses_is_said_in_its_own_words() {
    let mut world = healthy("version: 3.6.16");
    world.pods.remove(&member(1));
    world.answers.remove(&member(1));
    let words = "pods \"db-1\" is forbidden: exceeded quota";
    let outcome = Outcome { refused: Some(Notice::of(Code::PodRefused, words)), log: None };
    let report = report(&world, &plan(&world), &outcome, None);
    let reconciling = find_condition(&report.status.conditions, ConditionType::Reconciling).unwrap();
    assert_eq!(reconciling.reason, "PodRefused");
    assert!(reconciling.message.contains("exceeded quota"));
    assert_eq!(report.news.iter().map(|news| news.code).collect::<Vec<_>>(), [Code::PodRefused]);

    // By the condition it is known to whoever comes next, also after a restart.
    world.cluster.status = report.status;
    assert!(super::report(&world, &plan(&world), &outcome, None).news.is_empty());
    let words = "pods \"db-1\" is forbidden: violates PodSecurity";
    let outcome = Outcome { refused: Some(Notice::of(Code::PodRefused, words)), log: None };
    assert_eq!(super::report(&world, &plan(&world), &outcome, None).news.len(), 1, "another no");
}
