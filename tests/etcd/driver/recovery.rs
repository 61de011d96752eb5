//! A recovery where members are processes: the copy, the force, and who is left.

use super::{Driven, NAME, now, number};
use crate::processes;
use quorate::cluster::names::MemberName;
use quorate::cluster::objects::recovery::{self, NewRecoveryPod};
use quorate::cluster::observation::{
    ContainerFacts, Observation, Ownership, PodFacts, RecoveryFacts, RecoveryPod, Served, Stage,
};
use quorate::cluster::observe::{alone, client_of};
use quorate::cluster::plan::Step;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

impl Driven {
    /// A member's process, its Pod, its claim and its data are no more.
    pub fn lose(&mut self, n: usize) {
        let member = MemberName::new(NAME, u32::try_from(n).unwrap());
        self.etcd.kill(n);
        self.pods.remove(&member);
        self.claims.remove(&member);
        std::fs::remove_dir_all(self.etcd.data_dir(n)).unwrap();
    }

    /// Where the survivor's data was copied to.
    pub fn copy(&self) -> PathBuf {
        self.etcd.data_dir(0).with_file_name("copy")
    }

    /// Members whose volumes are kept aside.
    pub fn aside(&self) -> Vec<String> {
        self.aside.keys().map(ToString::to_string).collect()
    }

    pub(super) fn what_a_recovery_needs(&self) -> RecoveryFacts {
        let nodes = (0..self.etcd.size()).map(|n| (format!("node-{n}"), None));
        RecoveryFacts { pods: self.recovery.clone(), nodes: Some(nodes.collect()) }
    }

    pub(super) async fn ask_the_forced(&mut self, world: &mut Observation) {
        let member = self.status.progress.as_ref().and_then(|it| MemberName::parse(NAME, &it.member));
        let Some(member) = member else { return };
        let mut pods = std::mem::take(&mut world.recovery.pods);
        for pod in pods.iter_mut().filter(|pod| pod.stage == Stage::Force) {
            let client = client_of(&self.etcd.channels, world, &member, &pod.facts).unwrap();
            pod.says = alone(&client).await.map_err(|error| error.to_string());
        }
        world.recovery.pods = pods;
    }

    pub(super) fn remember_who_serves(&mut self, world: &Observation) {
        for (member, answer) in world.answers.iter().filter(|(member, _)| world.is_witness(member)) {
            let revision = answer.status().unwrap().revision;
            self.served.insert(member.clone(), Served { at: world.now, revision });
        }
    }

    pub(super) async fn recover(&mut self, step: &Step) {
        match step {
            Step::TakeBack(members) => {
                for member in members {
                    let claim = self.aside.remove(member).unwrap();
                    self.claims.insert(member.clone(), claim);
                }
            }
            Step::LeaveAlone { member, id, .. } => {
                let alone = BTreeMap::from([(member.clone(), *id)]);
                self.claims.get_mut(member).unwrap().voters = Some(alone);
            }
            Step::NoteForced(_) => {}
            Step::CreateRecoveryPod(new) => self.run(new),
            Step::DeleteRecoveryPods(pods) => {
                let (gone, left): (Vec<_>, Vec<_>) = std::mem::take(&mut self.recovery)
                    .into_iter()
                    .partition(|pod| pods.iter().any(|(name, _)| *name == pod.name));
                self.recovery = left;
                for pod in gone.into_iter().filter(|pod| pod.stage == Stage::Force) {
                    let member = MemberName::parse(NAME, &pod.facts.image).unwrap();
                    self.stop(&member).await;
                }
            }
            step => panic!("no step of a recovery: {step:?}"),
        }
    }

    fn run(&mut self, new: &NewRecoveryPod) {
        let n = number(&new.member);
        assert_eq!(self.etcd.pid(n), None, "two processes on one volume");
        let revision = self.revisions[&new.revision].clone();
        let version = revision.version.to_string();
        let mut container = ContainerFacts::default();
        match new.stage {
            Stage::Copy => {
                let done = Command::new(processes::etcd(&version).with_file_name("etcdutl"))
                    .args(["snapshot", "restore"])
                    .arg(self.etcd.data_dir(n).join("member/snap/db"))
                    .args(["--skip-hash-check", "--data-dir"])
                    .arg(self.copy())
                    .output()
                    .unwrap();
                container.exit_code = done.status.code();
            }
            Stage::Force => {
                self.flags_of(&revision);
                self.etcd.extra_args.push("--force-new-cluster".to_owned());
                self.etcd.start_guarded(n, &version);
                container.running_since = Some(now());
            }
        }
        self.writes += 1;
        self.recovery.push(RecoveryPod {
            name: recovery::name(NAME, new.stage, &new.incident),
            stage: new.stage,
            incident: new.incident.clone(),
            facts: PodFacts {
                uid: format!("recovery-{}", self.writes),
                resource_version: String::new(),
                ownership: Ownership::Ours,
                deleting: false,
                revision: new.revision.clone(),
                unguarded: false,
                told: BTreeSet::new(),
                learner: false,
                ip: Some(self.etcd.ip(n)),
                node: Some(format!("node-{n}")),
                on_node_since: None,
                // Whose it is.
                image: new.member.to_string(),
                ready: false,
                ended: new.stage == Stage::Copy,
                unschedulable: None,
                container,
            },
            says: Err("nobody was asked".to_owned()),
        });
    }
}
