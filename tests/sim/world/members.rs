//! etcd's member list as its API changes it, with the rules that it has for that.

use super::World;
use super::etcd::{Raft, id};
use super::kube::State;
use quorate::cluster::names::MemberName;

/// In milliseconds: for so long etcd wants members to have been connected before it changes the list (`HealthInterval`).
const CONNECTED_FOR: u64 = 5_000;

impl World {
    /// The learner that reaches the others.
    pub(super) fn connected_learner(&self, cluster: u64, raft: &Raft) -> Option<MemberName> {
        let mut learners = raft.learners.iter();
        let found = learners.find(|(member, id)| {
            self.takes_part(member)
                && !self.isolated.contains_key(*member)
                && self.data(member).is_some_and(|data| data.cluster_id == cluster && data.member_id == **id)
        });
        found.map(|(member, _)| member.clone())
    }

    /// Voters that have been connected for long enough.
    fn active(&self, cluster: u64) -> Vec<MemberName> {
        let has_been = |member: &MemberName| match self.pods.get(member).map(|pod| &pod.state) {
            Some(State::Running { serves_at, .. }) => serves_at + CONNECTED_FOR <= self.now,
            _ => false,
        };
        self.connected(cluster).into_iter().filter(has_been).collect()
    }

    /// The cluster in which a change of its members commits that is made through this one.
    fn changes_the_list(&self, through: &MemberName) -> Option<u64> {
        let cluster = self.data(through)?.cluster_id;
        (self.serving(through) && self.propose(cluster)).then_some(cluster)
    }

    /// `MemberAdd` of a learner; whether it took effect.
    pub fn add_learner(&mut self, through: &MemberName, member: &MemberName) -> bool {
        let Some(cluster) = self.changes_the_list(through) else { return false };
        let (active, serial) = (self.active(cluster).len(), self.serial());
        let Some(raft) = self.rafts.get_mut(&cluster) else { return false };
        let is_listed = raft.voters.contains_key(member) || raft.learners.contains_key(member);
        if is_listed || !raft.learners.is_empty() || active < raft.voters.len() {
            return false;
        }
        raft.learners.insert(member.clone(), id(&format!("{member}/{serial}")));
        self.changed();
        true
    }

    /// `MemberPromote`; whether it took effect.
    pub fn promote(&mut self, through: &MemberName, member_id: u64) -> bool {
        let Some(cluster) = self.changes_the_list(through) else { return false };
        let Some(raft) = self.rafts.get(&cluster) else { return false };
        let Some(member) =
            raft.learners.iter().find(|(_, id)| **id == member_id).map(|(member, _)| member.clone())
        else {
            return false;
        };
        let index = |member: &MemberName| self.data(member).map(|data| data.log.1).unwrap_or_default();
        let leads = raft.leader.as_ref().map(index).unwrap_or_default();
        if self.connected_learner(cluster, raft).is_none() || index(&member) * 10 < leads * 9 {
            return false;
        }
        let Some(raft) = self.rafts.get_mut(&cluster) else { return false };
        raft.learners.remove(&member);
        raft.voters.insert(member, member_id);
        self.changed();
        true
    }

    /// `MemberRemove`; whether it took effect.
    pub fn remove_member(&mut self, through: &MemberName, member_id: u64) -> bool {
        let Some(cluster) = self.changes_the_list(through) else { return false };
        let active = self.active(cluster);
        let Some(raft) = self.rafts.get_mut(&cluster) else { return false };
        let learner =
            raft.learners.iter().find(|(_, id)| **id == member_id).map(|(member, _)| member.clone());
        let voter = raft.voters.iter().find(|(_, id)| **id == member_id).map(|(member, _)| member.clone());
        if let Some(member) = learner {
            raft.learners.remove(&member);
        } else if let Some(member) = voter {
            let rest = active.iter().filter(|other| **other != member).count();
            let is_enough = rest > (raft.voters.len() - 1) / 2;
            if active.contains(&member) && !is_enough {
                return false;
            }
            raft.voters.remove(&member);
            raft.published.remove(&member);
            if raft.leader.as_ref() == Some(&member) {
                raft.leader = None;
                raft.elect_at = None;
            }
        } else {
            return false;
        }
        raft.removed.insert(member_id);
        self.changed();
        true
    }
}
