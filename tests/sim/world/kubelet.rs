//! Nodes and what runs on them: containers that are pulled, start, crash-loop and stop.

use super::World;
use super::catalogue::{self, Image};
use super::etcd::{Data, Raft, formed, joined};
use super::kube::{Deletion, State};
use quorate::api::Action;
use quorate::cluster::names::MemberName;
use quorate::cluster::objects::pod::Initial;
use quorate::cluster::observation::NodeTrouble;
use quorate::etcd::{EtcdVersion, Minor};
use std::collections::BTreeSet;

/// What etcd says on an empty directory under the guard.
const EMPTY: &str = r#"{"msg":"discovery failed","error":"cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs"}"#;

/// What etcd says on a WAL that was damaged.
const DAMAGED: &str = r#"{"msg":"discovery failed","error":"walpb: crc mismatch"}"#;

/// What 3.5 says where its data knows of a downgrade job that leads elsewhere, even one that is over.
const KEPT_OUT: &str =
    r#"{"msg":"invalid downgrade; server version is not allowed to join when downgrade is enabled"}"#;

impl World {
    pub fn node_is_up(&self, node: usize) -> bool {
        self.nodes.get(node).is_some_and(Option::is_none)
    }

    /// What the API server says of a node, where anything is wrong with it.
    pub fn trouble_of(&self, node: usize) -> Option<NodeTrouble> {
        if self.gone.contains(&node) {
            return Some(NodeTrouble::Gone);
        }
        // As late as the node controller notices.
        let silent = self.nodes[node].is_some_and(|(since, _)| self.now >= since + 40_000);
        let cordoned = || self.cordoned.contains(&node).then_some(NodeTrouble::Cordoned);
        silent.then_some(NodeTrouble::NotReady).or_else(cordoned)
    }

    /// Whether a member's etcd answers on its client port: from when it has once joined a quorum since its start.
    /// Before, it does not listen there at all (`Etcd.ReadyNotify` of `server/embed`; measured).
    pub fn serving(&self, member: &MemberName) -> bool {
        self.takes_part(member) && self.pods.get(member).is_some_and(|pod| pod.joined)
    }

    /// Whether a member's etcd talks to its peers.
    pub fn takes_part(&self, member: &MemberName) -> bool {
        let Some(pod) = self.pods.get(member) else { return false };
        let State::Running { serves_at, .. } = pod.state else { return false };
        pod.node.is_some_and(|node| self.node_is_up(node))
            && self.now >= serves_at
            && pod.deleting.as_ref().is_none_or(|deletion| self.now < deletion.answers_until)
            && self.data(member).is_some()
    }

    pub fn tick_nodes(&mut self) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_some_and(|(_, until)| until <= self.now) {
                self.nodes[node] = None;
                self.say(|| format!("node {node} is back"));
                for member in self.members_on(node) {
                    if let Some(pod) = self.pods.get_mut(&member)
                        && matches!(pod.state, State::Running { .. } | State::Backoff { .. })
                    {
                        pod.state = State::Backoff { until: self.now };
                    }
                }
                self.changed();
            }
        }
    }

    fn members_on(&self, node: usize) -> Vec<MemberName> {
        self.pods.iter().filter(|(_, pod)| pod.node == Some(node)).map(|(member, _)| member.clone()).collect()
    }

    pub fn tick_kubelets(&mut self) {
        for member in self.pods.keys().cloned().collect::<Vec<_>>() {
            self.schedule(&member);
            self.tick_pod(&member);
        }
    }

    /// The node that the scheduler would take.
    pub fn free_node(&self, member: &MemberName) -> Option<usize> {
        let home = self.claims.get(member).and_then(|volume| volume.home);
        (0..self.nodes.len())
            .filter(|node| self.node_is_up(*node) && !self.cordoned.contains(node))
            .filter(|node| home.is_none_or(|home| home == *node))
            .min_by_key(|node| self.members_on(*node).len())
    }

    fn schedule(&mut self, member: &MemberName) {
        let waits = self.pods.get(member).is_some_and(|pod| pod.node.is_none() && pod.deleting.is_none());
        let claimed = self.claims.get(member).is_some_and(|volume| !volume.facts.deleting);
        if !waits || !claimed {
            return;
        }
        let free = self.free_node(member);
        let until = self.now + self.rng.range(0, 1_500);
        if let (Some(node), Some(pod)) = (free, self.pods.get_mut(member)) {
            pod.node = Some(node);
            pod.bound_at = self.now;
            pod.state = State::Creating { until };
            if let Some(volume) = self.claims.get_mut(member).filter(|_| self.local) {
                volume.home = Some(node);
            }
            self.changed();
        }
    }

    fn tick_pod(&mut self, member: &MemberName) {
        let serving = self.serving(member) && !self.isolated.contains_key(member);
        let Some(pod) = self.pods.get_mut(member) else { return };
        let Some(node) = pod.node else { return };
        if let Some((since, _)) = self.nodes[node] {
            // The kubelet is silent: what it said last still stands, until the node controller notices.
            if pod.ready && self.now >= since + 40_000 {
                pod.ready = false;
                self.changed();
            }
            return;
        }
        if pod.ready != serving {
            pod.ready = serving;
            self.changed();
        }
        let Some(pod) = self.pods.get_mut(member) else { return };
        if pod.deleting.is_some() || pod.ended {
            return;
        }
        match pod.state {
            State::Creating { until } if until <= self.now && !pod.hangs => self.pull(member),
            State::Backoff { until } if until <= self.now => {
                pod.restarts += 1;
                self.start(member);
            }
            State::Running { .. } => self.run(member),
            _ => {}
        }
    }

    fn pull(&mut self, member: &MemberName) {
        let Some(pod) = self.pods.get_mut(member) else { return };
        if catalogue::image(&pod.image) == Image::Missing {
            pod.state = State::NotPulled;
            self.changed();
        } else {
            self.start(member);
        }
    }

    /// The container starts: etcd opens its data, or exits.
    fn start(&mut self, member: &MemberName) {
        let slow = self.slow.get(member).copied().unwrap_or_default();
        let delay = self.rng.range(100, 1_500) + slow;
        let Some(pod) = self.pods.get(member).cloned() else { return };
        self.changed();
        let version = match catalogue::image(&pod.image) {
            Image::Holds(version) | Image::Falters(version) if !pod.bad_flag => version,
            Image::Holds(_) | Image::Falters(_) => {
                return self.exit(member, 2, "invalid value \"many\" for flag -max-wals: parse error");
            }
            Image::Crashes(_) => return self.exit(member, 1, "panic: it does not start"),
            Image::Broken | Image::Missing => return self.exit(member, 127, "exec format error"),
        };
        let Some(volume) = self.claims.get(member) else { return };
        if volume.damaged {
            return self.exit(member, 1, DAMAGED);
        }
        match &volume.data {
            None => match &pod.initial {
                Initial::Guard => return self.exit(member, 1, EMPTY),
                Initial::New { members, token } => self.form(member, members, token, version),
                Initial::Join { members } => {
                    if let Err(words) = self.join(member, members, version) {
                        return self.exit(member, 1, words);
                    }
                }
            },
            Some(data) => {
                let known = self.rafts.get(&data.cluster_id).and_then(|raft| raft.cluster_version);
                if Some(version.minor) < known.max(data.cluster_version).max(data.storage_version) {
                    self.say(|| format!("{member} is started with {version} below the cluster version"));
                    return self.exit(member, 1, "server version is lower than determined cluster version");
                }
                let told = data.job.filter(|job| version.minor < Minor::new(3, 6) && *job != version.minor);
                if told.is_some() {
                    return self.exit(member, 2, KEPT_OUT);
                }
                if version.minor >= Minor::new(3, 6) && data.of_the_v2_api {
                    // To make a member forget a downgrade job is tried, and harms nothing; so may be what is left of it
                    // where the status was lost.
                    let progress = self.cluster.as_ref().and_then(|cluster| cluster.status.progress.as_ref());
                    let forgets = progress.is_some_and(|progress| progress.action == Action::ClearDowngrade);
                    if !forgets && data.job.is_none() {
                        self.violate(format!("{member} is started with {version} on data of the v2 API"));
                    }
                    return self.exit(member, 1, "detected disallowed custom content in v2store");
                }
                if version.minor >= Minor::new(3, 7) && self.holds_v2_entries(data) {
                    self.violate(format!("{member} is started with {version} on entries that 3.5 wrote"));
                    return self.exit(member, 2, "panic: unmarshal should never fail");
                }
            }
        }
        if let Some(pod) = self.pods.get_mut(member) {
            pod.snapshots = 0;
            pod.joined = false;
        }
        if let Some(data) = self.claims.get_mut(member).and_then(|volume| volume.data.as_mut()) {
            data.opened = version;
        }
        if let Some(volume) = self.claims.get_mut(member).filter(|volume| volume.facts.awaits_file_system) {
            // It is mounted anew.
            volume.facts.awaits_file_system = false;
            volume.facts.capacity = volume.facts.size;
        }
        let (since, serves_at) = (self.now, self.now + delay);
        if let Some(pod) = self.pods.get_mut(member) {
            pod.state = State::Running { since, serves_at };
            self.say(|| format!("{member} starts {version}"));
        }
    }

    /// It asks the others who the members are, and starts where that is what it was told.
    fn join(
        &mut self,
        member: &MemberName,
        members: &[MemberName],
        version: EtcdVersion,
    ) -> Result<(), &'static str> {
        let asked = members
            .iter()
            .find(|other| *other != member && self.serving(other) && !self.isolated.contains_key(*other));
        let cluster = asked.and_then(|other| self.data(other)).map(|data| data.cluster_id).ok_or(EMPTY)?;
        let raft = &self.rafts[&cluster];
        let listed: BTreeSet<&MemberName> = raft.voters.keys().chain(raft.learners.keys()).collect();
        if listed != members.iter().collect() {
            return Err("member count is unequal");
        }
        if Some(version.minor) < raft.cluster_version {
            return Err("version is not supported");
        }
        if raft.job.is_some() {
            return Err("downgrade job is enabled");
        }
        let is_voter = raft.voters.contains_key(member);
        let id = raft.voters.get(member).or_else(|| raft.learners.get(member)).copied().unwrap_or_default();
        // What it gets begins with the leader's last raft snapshot.
        let snapshot = raft.leader.as_ref().and_then(|leader| self.data(leader)).map(|data| data.snapshot);
        let data = Data { snapshot: snapshot.unwrap_or_default(), ..joined(cluster, id, raft, version) };
        if is_voter || self.had_data.contains_key(&id) {
            self.violate(format!("{member} starts on an empty volume under an id that had data"));
        }
        self.had_data.insert(id, member.clone());
        if let Some(volume) = self.claims.get_mut(member) {
            volume.data = Some(data);
        }
        Ok(())
    }

    fn form(&mut self, member: &MemberName, members: &[MemberName], token: &str, version: EtcdVersion) {
        let data = formed(member, members, token, version);
        if self.formed.contains(&data.cluster_id) {
            self.violate(format!("{member} starts as `new` on an empty volume after its cluster had formed"));
        } else if self.had_data.contains_key(&data.member_id) {
            self.violate(format!("{member} starts as `new` on an empty volume under an id that had data"));
        }
        self.had_data.insert(data.member_id, member.clone());
        self.rafts.entry(data.cluster_id).or_insert_with(|| Raft::new(data.voters.clone()));
        if let Some(volume) = self.claims.get_mut(member) {
            volume.data = Some(data);
        }
    }

    /// A running etcd notices that its world has gone.
    fn run(&mut self, member: &MemberName) {
        let Some(data) = self.data(member) else {
            return self.exit(member, 2, "panic: the data directory is gone");
        };
        let raft = self.rafts.get(&data.cluster_id);
        if raft.is_some_and(|raft| raft.removed.contains(&data.member_id))
            && !self.isolated.contains_key(member)
        {
            return self.exit(member, 0, "the member has been permanently removed from the cluster");
        }
        let known = raft.and_then(|raft| raft.cluster_version);
        if Some(data.opened.minor) < known && self.serving(member) {
            return self.exit(member, 1, "server version is lower than determined cluster version");
        }
        let Some(pod) = self.pods.get(member) else { return };
        let served = match pod.state {
            State::Running { serves_at, .. } if pod.joined => self.now.saturating_sub(serves_at),
            _ => 0,
        };
        if served >= 3_000 && matches!(catalogue::image(&pod.image), Image::Falters(_)) {
            self.exit(member, 2, "panic: it served, and then it did not");
        }
    }

    /// The container ends; the kubelet starts it again after a pause.
    pub fn exit(&mut self, member: &MemberName, code: i32, words: &str) {
        let now = self.now;
        if let Some(pod) = self.pods.get_mut(member) {
            let pause = if pod.restarts == 0 { 0 } else { 5_000 << pod.restarts.min(3) };
            pod.exit_code = Some(code);
            pod.last_words = Some(words.to_owned());
            pod.ready = false;
            pod.state = State::Backoff { until: now + pause };
            self.changed();
            self.say(|| format!("{member} exits {code}: {}", words.get(..40).unwrap_or(words)));
        }
    }

    /// The Pod is told to go: etcd still answers for a while, hands over and stops.
    pub fn delete_pod(&mut self, member: &MemberName) {
        let (answers, rest) = (self.rng.range(0, 7_000), self.rng.range(0, 1_500));
        let now = self.now;
        if let Some(pod) = self.pods.get_mut(member)
            && pod.deleting.is_none()
        {
            let runs = matches!(pod.state, State::Running { .. });
            let answers_until = now + if runs { answers } else { 0 };
            pod.deleting = Some(Deletion { answers_until, gone_at: answers_until + rest });
            if let Some(volume) = self.claims.get_mut(member).filter(|volume| volume.facts.in_pod) {
                volume.facts.deleting = true;
            }
            self.changed();
        }
    }
}
