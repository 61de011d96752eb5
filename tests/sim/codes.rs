//! Every word of the operator is said in at least one world: in one of chance, or in one made for it.

use crate::faults::{Fault, member, strike, write_by_the_v2_api};
use crate::named::{settled, spec, version};
use crate::observe::observe;
use crate::operator::Operator;
use crate::run::rest;
use crate::seeds::run;
use crate::world::World;
use crate::world::catalogue::{LIES, MISSING};
use quorate::api::{Code, EtcdClusterSpec, EtcdClusterStatus, TlsMode, TlsSpec};
use quorate::cluster::observation::{Observation, Patience};
use quorate::cluster::plan::{Next, Plan, Step, plan};
use quorate::cluster::report::{Outcome, report};
use quorate::etcd::{Alarm, ListedMember, MemberId};
use std::collections::BTreeSet;
use std::sync::Mutex;

static SAID: Mutex<BTreeSet<Code>> = Mutex::new(BTreeSet::new());

/// The planner, with its report listened to.
fn overheard(seen: &Observation) -> Plan {
    let plan = plan(seen);
    listen(seen, &plan, &Outcome::default());
    plan
}

fn listen(seen: &Observation, plan: &Plan, outcome: &Outcome) {
    let report = report(seen, plan, outcome, None);
    let mut said = SAID.lock().unwrap();
    said.extend(report.news.iter().map(|news| news.code));
    said.extend(report.status.refusals.iter().map(|refusal| refusal.code));
    said.extend(report.status.warnings.iter().map(|warning| warning.code));
    let reasons = report.status.conditions.iter().map(|condition| condition.reason.as_str());
    said.extend(reasons.filter_map(|reason| Code::ALL.iter().find(|code| code.as_str() == reason).copied()));
}

fn look(world: &World) -> Observation {
    let cluster = world.cluster.clone().unwrap();
    observe(world, &cluster, &BTreeSet::new(), Patience::default())
}

/// A settled world, edited, and gone on with for a while.
fn edited(first: &str, edit: impl FnOnce(&mut EtcdClusterSpec)) {
    let (mut world, mut operator) = settled(first);
    world.edit_spec(edit);
    let _ = rest(&mut world, &mut operator, overheard);
}

/// A settled world as it looks after a change to what is seen of it.
fn seen_as(change: impl FnOnce(&mut Observation)) {
    let (world, _) = settled("{version: 3.6.16}");
    let mut seen = look(&world);
    change(&mut seen);
    overheard(&seen);
}

/// A step that the API server says no to.
fn refused(code: Code, wanted: impl Fn(&Step) -> bool) {
    let mut world = World::new(crate::rng::Rng::seeded(7), spec("{version: 3.6.16}"));
    let mut operator = Operator::default();
    for turn in 0..200 {
        world.tick();
        if turn == 60 {
            world.edit_spec(|spec| (spec.version, spec.replicas) = ("3.6.14".to_owned(), 5));
        }
        for _ in 0..4 {
            operator.think(&mut world, plan, &BTreeSet::new());
            let (seen, planned) = operator.pending.clone().unwrap();
            if planned.next.step().is_some_and(&wanted) {
                return listen(&seen.facts, &planned, &Outcome::refused(code, "in the API server's words"));
            }
            operator.carry_out(&mut world, usize::MAX);
        }
    }
    panic!("no such step");
}

/// Volumes of two clusters, and too few of one.
fn of_an_earlier_cluster() {
    let adopts = |seen: &mut Observation| {
        seen.cluster.status = EtcdClusterStatus::default();
        "another".clone_into(&mut seen.cluster.uid);
        seen.pods.clear();
        seen.answers.clear();
    };
    seen_as(|seen| {
        adopts(seen);
        seen.claims.values_mut().next().unwrap().cluster_id.as_mut().unwrap().0 += 1;
    });
    seen_as(|seen| {
        adopts(seen);
        while seen.claims.len() > 1 {
            seen.claims.pop_last();
        }
    });
}

/// Full ones, and such as differ.
fn of_databases() {
    let (mut world, mut operator) = settled("{version: 3.6.16}");
    let cluster = world.data(&member(0)).unwrap().cluster_id;
    crate::databases::fill_up(&mut world, cluster, 10, false);
    let _ = rest(&mut world, &mut operator, overheard);

    seen_as(|seen| {
        "3.6.14".clone_into(&mut seen.cluster.spec.version);
        for answer in seen.answers.values_mut() {
            let status = answer.status.as_mut().unwrap();
            (status.db_size, status.db_size_in_use) = (8 << 30, 8 << 30);
        }
        let Next::Do(Step::StoreRevision(revision)) = plan(seen).next else { panic!("nothing to store") };
        seen.revisions.insert(revision.name.clone(), revision);
    });
    edited("{version: 3.6.16}", |spec| {
        spec.storage.get_or_insert_default().storage_class_name = Some("other".to_owned());
    });

    // One that differs alone is replaced; with two nobody can tell.
    for differ in [1, 2] {
        let (mut world, mut operator) = settled("{version: 3.6.16}");
        for number in 0..differ {
            strike(&mut world, Fault::Corrupted, Some(&member(number)), &spec("{version: 3.6.16}"));
        }
        let _ = rest(&mut world, &mut operator, overheard);
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a list of worlds")]
fn every_code_is_said_in_a_world() {
    for seed in 0..100 {
        run(seed, overheard, false).unwrap();
    }
    edited("{version: 3.6.14}", version("3.6.16"));
    edited("{version: 3.6.14}", version(&format!("3.6.{LIES}")));
    edited("{version: 3.6.14}", |spec| {
        *spec = self::spec("{version: 3.6.16, rollout: {windows: [{schedule: '0 2 * * *', duration: 4h}]}}");
    });
    for held in ["approval: Manual", "paused: true"] {
        edited("{version: 3.6.14}", |spec| {
            *spec = self::spec(&format!("{{version: 3.6.16, rollout: {{{held}}}}}"));
        });
    }
    edited("{version: 3.5.35}", version("3.7.3"));
    edited("{version: 3.5.35}", version("3.6.4"));
    edited("{version: 3.5.35}", version("3.5.10"));
    edited("{version: 3.5.35}", version("3.8.0"));
    edited("{version: 3.5.9}", |spec| *spec = self::spec("{version: 3.6.16, rollout: {hops: Single}}"));
    edited("{version: 3.5.35}", |spec| *spec = self::spec("{version: 3.7.3, rollout: {hops: Single}}"));
    edited("{version: 3.5.35}", version("3.4.45"));
    edited("{version: 3.5.35, replicas: 1}", version("3.6.16"));
    edited("{version: 3.5.9}", |spec| *spec = self::spec("{version: 3.5.9, kubernetes: {version: '1.34'}}"));
    edited("{version: 3.6.16}", |spec| {
        *spec = self::spec("{version: 3.6.16, etcd: {extraArgs: {no-such-flag: '1'}}}");
    });
    edited("{version: 3.6.16}", |spec| {
        *spec = self::spec("{version: 3.6.16, etcd: {heartbeatInterval: 1s, electionTimeout: 10s}}");
    });
    edited("{version: 3.6.16}", |spec| {
        spec.services = self::spec("{version: 3.6.16, services: {client: {type: LoadBalancer}}}").services;
    });

    let mut bare = World::new(crate::rng::Rng::seeded(7), spec("{version: 3.6.16}"));
    bare.default_class = false;
    let _ = rest(&mut bare, &mut Operator::default(), overheard);

    seen_as(|seen| {
        for answer in seen.answers.values_mut() {
            answer.status.as_mut().unwrap().alarms = vec![Alarm::Corrupt];
        }
    });
    let (mut world, mut operator) = settled("{version: 3.5.35}");
    write_by_the_v2_api(&mut world);
    world.edit_spec(version("3.6.16"));
    let _ = rest(&mut world, &mut operator, overheard);
    seen_as(|seen| {
        seen.cluster.spec.version = "3.6.14".to_owned();
        for answer in seen.answers.values_mut() {
            answer.status.as_mut().unwrap().db_size = 4 << 30;
        }
        let Next::Do(Step::StoreRevision(revision)) = plan(seen).next else {
            panic!("{:?}", plan(seen).next)
        };
        seen.revisions.insert(revision.name.clone(), revision);
    });
    seen_as(|seen| {
        seen.cluster.spec = self::spec("{version: 3.6.16, rollout: {restartedAt: '2026-01-01T00:00:00Z'}}");
        let Next::Do(Step::StoreRevision(revision)) = plan(seen).next else {
            panic!("{:?}", plan(seen).next)
        };
        seen.revisions.insert(revision.name.clone(), revision);
        seen.answers.values_mut().next().unwrap().status.as_mut().unwrap().leader = None;
    });
    seen_as(|seen| {
        seen.pods.values_mut().next().unwrap().unschedulable = Some("0/4 nodes are available".to_owned());
    });
    seen_as(|seen| seen.member_list = None);
    seen_as(|seen| {
        for pod in seen.pods.values_mut() {
            pod.node = Some("node-0".to_owned());
        }
    });
    seen_as(|seen| {
        let list = seen.member_list.as_mut().unwrap();
        let peer_urls = vec!["http://elsewhere:2380".to_owned()];
        list.push(ListedMember { is_learner: true, id: MemberId(9), peer_urls, ..list[0].clone() });
    });
    seen_as(|seen| seen.cluster.deleting = true);
    let tls = "{version: 3.6.16, tls: {mode: Enabled}}";
    edited(tls, |spec| spec.tls = Some(TlsSpec { mode: Some(TlsMode::Disabled), ..TlsSpec::default() }));
    let (mut world, _) = settled(tls);
    world.secrets.remove("db-ca");
    overheard(&look(&world));
    edited("{version: 3.6.14}", version(&format!("3.6.{MISSING}")));
    of_an_earlier_cluster();
    edited("{version: 3.6.16}", |spec| {
        *spec =
            self::spec("{version: 3.6.16, replicas: 1, storage: {retentionPolicy: {whenScaled: Retain}}}");
    });
    refused(Code::PodRefused, |step| matches!(step, Step::CreatePods(_)));
    refused(Code::DisruptionBudget, |step| matches!(step, Step::Stop(_)));
    refused(Code::AnotherDisturbance, |step| matches!(step, Step::Stop(_)));
    refused(Code::MembershipPending, |step| matches!(step, Step::AddMember { .. }));
    refused(Code::StepRefused, |step| matches!(step, Step::ApplySupport { .. }));

    let (mut world, mut operator) =
        settled("{version: 3.6.16, storage: {retentionPolicy: {whenDeleted: Delete}}}");
    world.delete_cluster();
    let _ = rest(&mut world, &mut operator, overheard);

    let mut world = World::new(crate::rng::Rng::seeded(1), spec("{version: 3.6.16}"));
    strike(&mut world, Fault::ForeignPod, Some(&member(1)), &spec("{version: 3.6.16}"));
    let _ = rest(&mut world, &mut Operator::default(), overheard);

    let (mut world, mut operator) = settled("{version: 3.6.16}");
    for number in 0..2 {
        strike(&mut world, Fault::VolumeWiped, Some(&member(number)), &spec("{version: 3.6.16}"));
    }
    let _ = rest(&mut world, &mut operator, overheard);

    of_databases();
    crate::recovery::for_everybody_to_hear(overheard);

    let said = SAID.lock().unwrap();
    let silent: Vec<&Code> = Code::ALL.iter().filter(|code| !said.contains(code)).collect();
    assert!(silent.is_empty(), "never said: {silent:?}");
}
