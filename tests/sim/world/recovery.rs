//! Pods that make a cluster anew from one member: a copy, and a force that rewrites who votes.

use super::World;
use super::catalogue::{self, Image};
use super::kube::State;
use quorate::cluster::names::MemberName;
use quorate::cluster::observation::Stage;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
pub struct RecoveryPod {
    pub uid: String,
    pub owner: String,
    pub stage: Stage,
    pub incident: String,
    pub member: MemberName,
    pub revision: String,
    pub image: String,
    /// When the copy is made, or the forced member serves.
    pub done_at: u64,
    /// When it is gone, once it was told to go.
    pub gone_at: Option<u64>,
    /// How it ended, where it has.
    pub exit_code: Option<i32>,
    /// Whether its member is on its own.
    pub forced: bool,
}

impl World {
    pub fn tick_recovery(&mut self) {
        let owner = self.cluster.as_ref().map(|cluster| cluster.uid.clone());
        let now = self.now;
        for pod in self.recovery.values_mut().filter(|pod| Some(&pod.owner) != owner.as_ref()) {
            pod.gone_at.get_or_insert(now + 1_000);
        }
        let before = self.recovery.len();
        self.recovery.retain(|_, pod| pod.gone_at.is_none_or(|at| at > now));
        if self.recovery.len() != before {
            self.changed();
        }
        let due: Vec<String> = self
            .recovery
            .iter()
            .filter(|(_, pod)| {
                pod.done_at <= now && pod.exit_code.is_none() && !pod.forced && pod.gone_at.is_none()
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in due {
            self.finish(&name);
        }
    }

    fn finish(&mut self, name: &str) {
        let Some(pod) = self.recovery.get(name).cloned() else { return };
        // Its volume is on that node alone.
        let home = self.claims.get(&pod.member).and_then(|volume| volume.home);
        if home.is_some_and(|home| !self.node_is_up(home)) {
            return;
        }
        let starts = match catalogue::image(&pod.image) {
            Image::Holds(_) => true,
            // Its tools do run.
            Image::Crashes(_) | Image::Falters(_) => pod.stage == Stage::Copy,
            Image::Missing | Image::Broken => false,
        };
        let has_data = self.data(&pod.member).is_some()
            && self.claims.get(&pod.member).is_some_and(|volume| !volume.damaged);
        let code = match (pod.stage, starts && has_data) {
            (_, false) => Some(1),
            (Stage::Copy, true) => Some(0),
            (Stage::Force, true) => {
                self.force(&pod.member);
                None
            }
        };
        if let Some(pod) = self.recovery.get_mut(name) {
            pod.exit_code = code;
            pod.forced = code.is_none();
        }
        self.say(|| format!("{name} is done: {code:?}"));
        self.changed();
    }

    /// What `--force-new-cluster` does.
    fn force(&mut self, member: &MemberName) {
        let Some(data) = self.data(member).cloned() else { return };
        if self.pods.get(member).is_some_and(|pod| matches!(pod.state, State::Running { .. })) {
            self.violate(format!("{member} is forced while another process of it runs"));
        }
        let Some(mut raft) = self.rafts.remove(&data.cluster_id) else { return };
        // Whoever has data, and a Pod wherever it may be, may run: a node that is cut off is one too.
        let others = raft.voters.keys().filter(|other| *other != member);
        let may_run = |other: &&MemberName| {
            let pod = self.pods.get(other);
            pod.and_then(|pod| pod.node).is_some_and(|node| !self.gone.contains(&node))
        };
        let alive: Vec<String> = others.filter(may_run).map(ToString::to_string).collect();
        if !alive.is_empty() {
            self.violate(format!("{member} is forced while {} may run", alive.join(", ")));
        }
        let alone = BTreeMap::from([(member.clone(), data.member_id)]);
        let gone: BTreeSet<u64> = raft.voters.values().chain(raft.learners.values()).copied().collect();
        raft.removed.extend(gone.into_iter().filter(|id| *id != data.member_id));
        raft.voters.clone_from(&alone);
        raft.learners.clear();
        raft.published.retain(|other| other == member);
        raft.leader = None;
        raft.elect_at = None;
        // What a person has taken upon themselves.
        raft.acked = raft.acked.min(data.log.1);
        raft.forced += 1;
        self.rafts.insert(data.cluster_id, raft);
        if let Some(data) = self.claims.get_mut(member).and_then(|volume| volume.data.as_mut()) {
            data.voters = alone;
        }
    }
}
