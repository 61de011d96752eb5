//! Planners with one mistake each. The invariants must catch every one, or they prove nothing.

use crate::operator::Brain;
use crate::seeds::run;
use quorate::api::Action;
use quorate::cluster::names::MemberName;
use quorate::cluster::objects::pod::Initial;
use quorate::cluster::observation::{DowngradeJob, Observation, PodFacts};
use quorate::cluster::plan::{Next, Plan, Record, Step, plan};
use quorate::etcd::Minor;
use rstest::rstest;

/// Believes that every member is there, like the first one that answers.
fn skips_the_gate(seen: &Observation) -> Plan {
    let mut seen = seen.clone();
    let good = seen.answers.values().find(|answer| answer.read.is_ok()).cloned();
    for (member, pod) in &mut seen.pods {
        pod.deleting = false;
        let id = seen.claims.get(member).and_then(|claim| claim.member_id);
        if let (Some(mut good), Some(id)) = (good.clone(), id) {
            if let Ok(status) = &mut good.status {
                status.member_id = id;
            }
            let answer = seen.answers.entry(member.clone()).or_insert_with(|| good.clone());
            if answer.read.is_err() {
                *answer = good;
            }
        }
    }
    plan(&seen)
}

/// Forgets which member it has claimed.
fn ignores_the_claim(seen: &Observation) -> Plan {
    let mut seen = seen.clone();
    seen.cluster.status.progress = None;
    plan(&seen)
}

/// Takes another member for the leader.
fn mistakes_the_leader(seen: &Observation) -> Plan {
    let mut seen = seen.clone();
    let ids: Vec<_> =
        seen.answers.values().filter_map(|answer| answer.status()).map(|s| (s.member_id, s.leader)).collect();
    let wrong = ids.iter().find(|(id, leader)| Some(*id) != *leader).map(|(id, _)| *id);
    for answer in seen.answers.values_mut() {
        if let Ok(status) = &mut answer.status {
            status.leader = wrong.filter(|_| status.leader.is_some());
        }
    }
    plan(&seen)
}

/// Does not know how far etcd has raised the cluster version.
fn forgets_the_cluster_version(seen: &Observation) -> Plan {
    let mut seen = seen.clone();
    seen.cluster.status.cluster_version = None;
    for answer in seen.answers.values_mut() {
        answer.cluster_version = answer.cluster_version.map(|_| Minor::new(3, 5));
    }
    plan(&seen)
}

/// Takes a downgrade job that is enabled for one that every member's data have followed.
fn does_not_wait_for_the_lowering(seen: &Observation) -> Plan {
    let mut seen = seen.clone();
    if let DowngradeJob::To(minor) = seen.downgrade_job {
        for answer in seen.answers.values_mut() {
            answer.cluster_version = answer.cluster_version.map(|_| minor);
            answer.storage_version = answer.storage_version.map(|_| minor);
        }
    }
    plan(&seen)
}

/// Starts every member as one of a new cluster.
fn never_guards(seen: &Observation) -> Plan {
    let mut plan = plan(seen);
    if let Next::Do(Step::CreatePods(pods)) = &mut plan.next {
        for pod in pods {
            pod.initial = Initial::New { members: vec![pod.member.clone()], token: "t".to_owned() };
        }
    }
    plan
}

/// Deletes volumes when there is nothing else to do.
fn deletes_volumes(seen: &Observation) -> Plan {
    let mut plan = plan(seen);
    if matches!(plan.next, Next::Settled) {
        plan.next = Next::Do(Step::DeleteClaims(seen.claims.keys().cloned().collect()));
    }
    plan
}

/// Removes a Pod where it should wait.
fn is_impatient(seen: &Observation) -> Plan {
    let mut plan = plan(seen);
    if let (Next::Wait(_), Some((member, pod))) = (&plan.next, seen.pods.iter().next()) {
        plan.next = Next::Do(Step::remove(member, pod, "impatience"));
    }
    plan
}

/// Never gives a member back that it has claimed.
fn never_releases(seen: &Observation) -> Plan {
    let mut plan = plan(seen);
    if matches!(plan.next, Next::Do(Step::Record(Record::Release { .. }))) {
        plan.next = Next::Settled;
    }
    plan
}

/// Takes a member for good as soon as its new Pod is there.
fn skips_the_gate_after(seen: &Observation) -> Plan {
    let mut plan = plan(seen);
    let progress = seen.cluster.status.progress.as_ref();
    let back = progress.and_then(|progress| {
        let (member, pod) = seen.pods.iter().find(|(member, _)| member.to_string() == progress.member)?;
        let is_new = progress.pod_uid.as_ref() != Some(&pod.uid) && !pod.deleting;
        is_new.then(|| Record::Release { member: member.clone(), action: progress.action })
    });
    if let (Next::Wait(_), Some(release)) = (&plan.next, back) {
        plan.next = Next::Do(Step::Record(release));
    }
    plan
}

/// Leaves a member with what it does not start on.
fn never_puts_back(seen: &Observation) -> Plan {
    let mut plan = plan(seen);
    if let Next::Do(Step::Record(Record::Claim(claim))) = &plan.next
        && claim.action == Action::PutBack
    {
        plan.next = Next::Settled;
    }
    plan
}

fn crashing(seen: &Observation) -> Option<(MemberName, &PodFacts)> {
    let mut pods = seen.pods.iter().filter(|(_, pod)| !pod.deleting);
    let (member, pod) = pods.find(|(_, pod)| pod.container.restarts > 0 && !pod.ready)?;
    Some((member.clone(), pod))
}

/// Gives a member that crashes a new volume.
fn deletes_a_member_that_crashes(seen: &Observation) -> Plan {
    let mut plan = plan(seen);
    if let (Next::Wait(_), Some((member, _))) = (&plan.next, crashing(seen)) {
        plan.next = Next::Do(Step::DeleteClaims(vec![member]));
    }
    plan
}

/// Gives a member that crashes a new Pod, again and again.
fn fights_a_crash_loop(seen: &Observation) -> Plan {
    let mut plan = plan(seen);
    if let (Next::Wait(_) | Next::Refused, Some((member, pod))) = (&plan.next, crashing(seen)) {
        plan.next = Next::Do(Step::remove(&member, pod, "it crashes"));
    }
    plan
}

/// Writes what is written already.
fn writes_for_ever(seen: &Observation) -> Plan {
    let mut plan = plan(seen);
    if let (Next::Settled, Some((member, claim))) = (&plan.next, seen.claims.iter().next()) {
        let revision = claim.assigned.clone().unwrap_or_default();
        plan.next = Next::Do(Step::Assign { members: vec![member.clone()], revision, afresh: false });
    }
    plan
}

#[rstest]
#[case(skips_the_gate, "is away")]
#[case(ignores_the_claim, "is claimed while")]
#[case(skips_the_gate_after, "is released and does not serve")]
#[case(never_puts_back, "is not put back")]
#[case(deletes_a_member_that_crashes, "volume claim is deleted")]
#[case(fights_a_crash_loop, "ends")]
#[case(mistakes_the_leader, "while it leads")]
#[case(forgets_the_cluster_version, "below the cluster version")]
#[case(does_not_wait_for_the_lowering, "storage version is still")]
#[case(never_guards, "as `new`")]
#[case(deletes_volumes, "volume claim is deleted")]
#[case(is_impatient, "")]
#[case(never_releases, "settled")]
#[case(writes_for_ever, "ends")]
fn a_mistake_is_caught(#[case] brain: Brain, #[case] says: &str) {
    const ATTEMPTS: u64 = 2_000;
    let caught =
        (0..ATTEMPTS).find_map(|seed| run(seed, brain, false).err().filter(|why| why.contains(says)));
    assert!(caught.is_some(), "{ATTEMPTS} seeds and nobody noticed");
}
