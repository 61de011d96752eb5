//! What a step does where members are processes.

use super::{Driven, NAME, NAMESPACE, now, number, owner};
use crate::processes;
use k8s_openapi::api::policy::v1::PodDisruptionBudgetStatus;
use quorate::api::MemberRole;
use quorate::cluster::names::MemberName;
use quorate::cluster::objects::claim::Purpose;
use quorate::cluster::objects::probe::NewProbe;
use quorate::cluster::objects::{pod::Initial, support};
use quorate::cluster::observation::{
    ClaimFacts, ContainerFacts, Observation, Ownership, PodFacts, ProbeFacts, ProbeState, Tries,
};
use quorate::cluster::plan::{NewPod, SnapshotNote, Step};
use quorate::cluster::revision::Revision;
use quorate::cluster::spec::{keeps_data_in_pods, storage_size};
use quorate::cluster::wire::Wire;
use quorate::etcd::logs::{says_v2_data_was_found, version_in_version_output};
use std::process::Command;

/// Flags that say who a member is and where: those of the harness.
const PLACE: [&str; 12] = [
    "name",
    "data-dir",
    "listen-peer-urls",
    "listen-client-urls",
    "listen-metrics-urls",
    "initial-advertise-peer-urls",
    "advertise-client-urls",
    "initial-cluster",
    "initial-cluster-state",
    "initial-cluster-token",
    "heartbeat-interval",
    "election-timeout",
];

impl Driven {
    /// Runs what a probe runs.
    fn probe(&self, new: &NewProbe) -> ProbeState {
        let etcd = processes::etcd(&self.revisions[&new.revision].version.to_string());
        match &new.tries {
            Tries::Image => {
                let output = Command::new(etcd).arg("--version").output().unwrap();
                ProbeState::Said(version_in_version_output(&String::from_utf8(output.stdout).unwrap()))
            }
            Tries::Volume(member) => {
                let dir = self.etcd.data_dir(usize::try_from(member.number()).unwrap());
                let output = Command::new(etcd.with_file_name("etcdutl"))
                    .args(["check", "v2store", "--data-dir"])
                    .arg(dir)
                    .output()
                    .unwrap();
                let words = String::from_utf8(output.stderr).unwrap();
                match output.status.success() {
                    true => ProbeState::FoundNothing,
                    false if says_v2_data_was_found(&words) => ProbeState::Found(words),
                    false => ProbeState::Failed(words),
                }
            }
        }
    }

    pub(super) async fn act(&mut self, world: &Observation, step: &Step) {
        match step {
            Step::StoreRevision(revision) => {
                self.revisions.insert(revision.name.clone(), revision.clone());
            }
            Step::DeleteRevisions(names) => self.revisions.retain(|name, _| !names.contains(name)),
            Step::CreateClaims { members, purpose } => {
                for member in members {
                    let claim = self.new_claim(member, purpose);
                    let is_aside = matches!(purpose, Purpose::Copy(..));
                    let claims = if is_aside { &mut self.aside } else { &mut self.claims };
                    claims.insert(member.clone(), claim);
                }
            }
            Step::CreateAuthority { .. } | Step::DeleteAuthority { .. } | Step::IssueCertificates(_) => {
                panic!("a cluster in plaintext: {step:?}")
            }
            Step::LabelVoter { member, .. } => self.pods.get_mut(member).unwrap().learner = false,
            Step::Relabel { member, to, .. } => {
                self.pods.get_mut(member).unwrap().revision.clone_from(to);
            }
            Step::DeleteClaims(members) => members.iter().for_each(|member| self.forget(member)),
            Step::DiscardPod { member, .. } => self.forget(member),
            Step::Assign { members, revision, .. } => {
                for member in members {
                    self.claims.get_mut(member).unwrap().assigned = Some(revision.clone());
                }
            }
            Step::CreatePods(pods) => pods.iter().for_each(|pod| self.start(pod)),
            Step::Guard(members) => {
                for guarded in members {
                    self.pods.get_mut(&guarded.member).unwrap().unguarded = false;
                    self.claims.get_mut(&guarded.member).unwrap().opened = Some(guarded.version);
                }
            }
            Step::NoteMembers { .. } | Step::NoteVoters { .. } | Step::ExpandClaim { .. } => self.note(step),
            Step::NoteFirstPods(first) => {
                for (member, uid) in first {
                    self.claims.get_mut(member).unwrap().first_pod = Some(uid.clone());
                }
            }
            Step::NoteSnapshots(notes) => {
                for (member, note) in notes {
                    let claim = self.claims.get_mut(member).unwrap();
                    claim.free_of_v2_entries = matches!(note, SnapshotNote::FreeOfV2Entries);
                    claim.snapshot_base = match note {
                        SnapshotNote::CountFrom(base) => Some(base.clone()),
                        _ => None,
                    };
                }
            }
            Step::ApplySupport { voters } => {
                let mut budget = support::budget(NAMESPACE, NAME, *voters, owner()).stamped();
                budget.status =
                    Some(PodDisruptionBudgetStatus { disruptions_allowed: 1, ..Default::default() });
                self.supported = Some(budget);
            }
            Step::Propose { .. }
            | Step::MoveLeader { .. }
            | Step::Disarm { .. }
            | Step::Compact { .. }
            | Step::Defragment { .. }
            | Step::Downgrade { .. } => self.ask(world, step).await,
            Step::Stop(proven) => self.stop(proven.member()).await,
            Step::RemovePod { member, .. } => self.stop(member).await,
            Step::CreateProbes(probes) => {
                for new in probes {
                    let state = self.probe(new);
                    let name = format!("probe-{}", self.probes.len());
                    let NewProbe { node, revision, tries } = new.clone();
                    self.probes.push(ProbeFacts {
                        pod: name.clone(),
                        uid: name,
                        node,
                        revision,
                        tries,
                        state,
                    });
                }
            }
            Step::DeleteProbes(gone) => {
                self.probes.retain(|probe| !gone.iter().any(|(pod, _)| *pod == probe.pod));
            }
            // Written with the report.
            Step::Record(_) => {}
            Step::AddMember { .. } | Step::PromoteMember { .. } | Step::RemoveMember(_) => {
                self.change_the_list(world, step).await;
            }
            Step::SetAside { member, .. } => {
                let claim = self.claims.remove(member).unwrap();
                self.aside.insert(member.clone(), claim);
            }
            Step::TakeBack(_)
            | Step::LeaveAlone { .. }
            | Step::NoteForced(_)
            | Step::CreateRecoveryPod(_)
            | Step::DeleteRecoveryPods(_) => self.recover(step).await,
            Step::SetFinalizer(_) => panic!("nothing is deleted here: {step:?}"),
        }
    }

    /// The answer of a member may be a no: what became of it is seen at the next look.
    async fn ask(&self, world: &Observation, step: &Step) {
        let identity = |member: &MemberName| world.answers[member].status().unwrap().identity();
        match step {
            Step::Propose { through, entries } => {
                let _ = self.client(world, through).propose(identity(through), *entries).await;
            }
            Step::MoveLeader { from, to_id, .. } => {
                let _ = self.client(world, from).move_leader(identity(from), *to_id).await;
            }
            Step::Disarm { through, alarm } => {
                let _ = self.client(world, through).disarm(identity(through), *alarm).await;
            }
            Step::Compact { through, revision } => {
                let _ = self.client(world, through).compact(identity(through), *revision).await;
            }
            Step::Defragment { member } => {
                let _ = self.client(world, member).defragment(identity(member)).await;
            }
            Step::Downgrade { through, call } => {
                let _ = self.client(world, through).downgrade(identity(through), *call).await;
            }
            _ => panic!("no call of etcd's: {step:?}"),
        }
    }

    fn note(&mut self, step: &Step) {
        match step {
            Step::NoteMembers { cluster_id, voters, opened, good } => {
                for member in opened.keys().chain(good.keys()) {
                    let claim = self.claims.get_mut(member).unwrap();
                    claim.cluster_id = Some(*cluster_id);
                    claim.member_id = voters.get(member).copied();
                    claim.voters = Some(voters.clone());
                    claim.opened = opened.get(member).copied().or(claim.opened);
                    claim.good = good.get(member).cloned().or(claim.good.take());
                    claim.bootstrap = None;
                    claim.first_pod = None;
                }
            }
            Step::NoteVoters { cluster_id, voters, last_number } => {
                for (member, claim) in &mut self.claims {
                    assert_eq!(claim.cluster_id, Some(*cluster_id));
                    claim.voters = Some(voters.clone());
                    claim.last_number = Some(*last_number);
                    claim.member_id = voters.get(member).copied().or(claim.member_id);
                }
            }
            Step::ExpandClaim { member, size } => {
                let claim = self.claims.get_mut(member).unwrap();
                (claim.size, claim.capacity) = (size.bytes(), size.bytes());
            }
            _ => panic!("no note: {step:?}"),
        }
    }

    async fn change_the_list(&mut self, world: &Observation, step: &Step) {
        let identity = |member: &MemberName| world.answers[member].status().unwrap().identity();
        match step {
            // What etcd takes not yet it is asked for again.
            Step::AddMember { through, member } => {
                self.etcd.make_room_for(number(member) + 1);
                let url = self.etcd.peer_url(number(member));
                let added = self.client(world, through).add_learner(identity(through), url).await;
                self.not_yet.extend(added.err());
            }
            Step::PromoteMember { through, id, .. } => {
                let promoted = self.client(world, through).promote(identity(through), *id).await;
                self.not_yet.extend(promoted.err());
            }
            Step::RemoveMember(removal) => {
                let through = removal.through();
                let removed =
                    self.client(world, through).remove_member(identity(through), removal.id()).await;
                self.not_yet.extend(removed.err());
            }
            _ => panic!("no change of the list: {step:?}"),
        }
    }

    fn new_claim(&self, member: &MemberName, purpose: &Purpose) -> ClaimFacts {
        let (bootstrap, cluster_id, assigned) = match purpose.clone() {
            Purpose::Bootstrap(bootstrap, revision) => (Some(bootstrap), None, revision),
            Purpose::Join(cluster_id, revision) => (None, Some(cluster_id), Some(revision)),
            Purpose::Copy(cluster_id, _) => (None, Some(cluster_id), None),
        };
        ClaimFacts {
            in_pod: keeps_data_in_pods(&self.spec),
            uid: format!("claim-{member}"),
            resource_version: String::new(),
            ownership: Ownership::Ours,
            deleting: false,
            cluster_id,
            member_id: None,
            voters: None,
            last_number: None,
            bootstrap,
            wire: Wire::Plain,
            assigned,
            good: None,
            opened: None,
            first_pod: None,
            recovering: None,
            snapshot_base: None,
            free_of_v2_entries: false,
            size: storage_size(&self.spec).bytes(),
            capacity: storage_size(&self.spec).bytes(),
            awaits_file_system: false,
            resize_error: None,
            class: None,
            volume: None,
        }
    }

    /// Its data goes.
    fn forget(&mut self, member: &MemberName) {
        self.claims.remove(member);
        let _ = std::fs::remove_dir_all(self.etcd.data_dir(number(member)));
    }

    fn start(&mut self, new: &NewPod) {
        let n = number(&new.member);
        let revision = self.revisions[&new.revision].clone();
        self.writes += 1;
        let flags = self.flags_of(&revision);
        let version = revision.version.to_string();
        match &new.initial {
            Initial::New { .. } => self.etcd.start(n, &version),
            Initial::Join { members } => {
                let members: Vec<usize> = members.iter().map(number).collect();
                self.etcd.start_with(n, &version, &members, "existing");
            }
            Initial::Guard => self.etcd.start_guarded(n, &version),
        }
        self.starts.push((n, revision.version, flags));
        let pod = PodFacts {
            uid: format!("pod-{}", self.writes),
            resource_version: String::new(),
            ownership: Ownership::Ours,
            deleting: false,
            revision: new.revision.clone(),
            unguarded: new.initial != Initial::Guard,
            told: match &new.initial {
                Initial::New { members, .. } | Initial::Join { members } => members.iter().cloned().collect(),
                Initial::Guard => [new.member.clone()].into(),
            },
            learner: new.role == MemberRole::Learner,
            ip: Some(self.etcd.ip(n)),
            node: Some(format!("node-{n}")),
            image: revision.image.clone(),
            ready: false,
            ended: false,
            on_node_since: Some(now()),
            unschedulable: None,
            container: ContainerFacts { running_since: Some(now()), ..ContainerFacts::default() },
        };
        self.pods.insert(new.member.clone(), pod);
    }

    /// The flags of a revision, as the next process gets them.
    pub(super) fn flags_of(&mut self, revision: &Revision) -> Vec<String> {
        let flags: Vec<String> =
            revision.args().filter(|arg| !is_of_the_place(arg)).map(str::to_owned).collect();
        self.etcd.extra_args = [flags.clone(), self.inherited.clone()].concat();
        flags
    }

    pub(super) async fn stop(&mut self, member: &MemberName) {
        if self.etcd.exit_code(number(member)).is_none() {
            self.etcd.stop(number(member)).await;
        }
        self.etcd.kill(number(member));
        self.pods.remove(member);
        if self.claims.get(member).is_some_and(|claim| claim.in_pod) {
            self.forget(member);
        }
    }
}

fn is_of_the_place(arg: &str) -> bool {
    let flag = arg.trim_start_matches('-').split('=').next().unwrap_or_default();
    PLACE.contains(&flag)
}
