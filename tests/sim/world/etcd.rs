//! A small model of etcd: data on volumes, elections, replication, the cluster version that only
//! rises. Just enough of raft to see a lost write, a second cluster or a binary that cannot start.

use super::kube::State;
use super::{TICK, World};
use quorate::cluster::names::MemberName;
use quorate::etcd::{DowngradeCall, EtcdVersion, Minor};
use std::collections::{BTreeMap, BTreeSet};

/// What a member has on its volume.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct Data {
    pub cluster_id: u64,
    pub member_id: u64,
    pub voters: BTreeMap<MemberName, u64>,
    /// Term and index of the last entry.
    pub log: (u64, u64),
    /// The binary that opened it last.
    pub opened: EtcdVersion,
    pub cluster_version: Option<Minor>,
    pub storage_version: Option<Minor>,
    /// The last entry that its last raft snapshot holds.
    pub snapshot: u64,
    /// The downgrade job that it knows of.
    pub job: Option<Minor>,
    /// Whether clients wrote through the v2 API.
    pub of_the_v2_api: bool,
    /// What its database takes on the disk and uses, in bytes.
    pub db_size: u64,
    pub in_use: u64,
    /// Whether its keys are others than those of the others.
    pub differs: bool,
}

/// One etcd cluster, as its members know it together.
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
pub struct Raft {
    pub voters: BTreeMap<MemberName, u64>,
    pub learners: BTreeMap<MemberName, u64>,
    /// Ids that never come back.
    pub removed: BTreeSet<u64>,
    pub term: u64,
    pub leader: Option<MemberName>,
    pub(super) elect_at: Option<u64>,
    /// Index of the last acknowledged write.
    pub acked: u64,
    pub cluster_version: Option<Minor>,
    flip_at: Option<u64>,
    /// The minor that the downgrade job leads to which is enabled.
    pub job: Option<Minor>,
    job_moves_at: Option<u64>,
    /// Members that have published their name and URLs.
    pub published: BTreeSet<MemberName>,
    /// How often leadership moved.
    pub moves: u32,
    /// How often it was made anew from one member.
    pub forced: u32,
    /// Whether a fault destroyed so many volumes that writes may be gone.
    pub excused: bool,
    pub alarm: bool,
    /// Whether members' data are said to differ.
    pub corrupt: bool,
    /// What the keys take without their history, in bytes.
    pub keys: u64,
    /// Whether that was forgotten.
    pub compacted: bool,
    /// The last entry of the v2 API.
    v2_entry: u64,
    /// Entries that touch no key and wait for their commit.
    proposed: u64,
}

pub const UNDECIDED: Minor = Minor::new(3, 0);

/// A number that depends on the text only.
pub fn id(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
        | 1
}

/// Data of a member that forms a new cluster.
pub fn formed(member: &MemberName, members: &[MemberName], token: &str, version: EtcdVersion) -> Data {
    let voters: BTreeMap<MemberName, u64> =
        members.iter().map(|member| (member.clone(), id(&format!("{token}/{member}")))).collect();
    Data {
        cluster_id: id(&format!("{token}/{members:?}")),
        member_id: voters.get(member).copied().unwrap_or_default(),
        voters,
        log: (0, 0),
        opened: version,
        cluster_version: None,
        storage_version: None,
        snapshot: 0,
        job: None,
        of_the_v2_api: false,
        db_size: 1 << 20,
        in_use: 1 << 20,
        differs: false,
    }
}

/// Data of a member that joins a cluster which is there.
pub fn joined(cluster_id: u64, member_id: u64, raft: &Raft, version: EtcdVersion) -> Data {
    Data {
        cluster_id,
        member_id,
        voters: raft.voters.clone(),
        log: (0, 0),
        opened: version,
        cluster_version: raft.cluster_version,
        storage_version: None,
        snapshot: 0,
        job: None,
        of_the_v2_api: false,
        db_size: 1 << 20,
        in_use: 1 << 20,
        differs: false,
    }
}

impl Raft {
    pub fn new(voters: BTreeMap<MemberName, u64>) -> Self {
        Self {
            voters,
            learners: BTreeMap::new(),
            removed: BTreeSet::new(),
            term: 1,
            leader: None,
            elect_at: None,
            acked: 0,
            cluster_version: None,
            flip_at: None,
            job: None,
            job_moves_at: None,
            published: BTreeSet::new(),
            moves: 0,
            forced: 0,
            excused: false,
            alarm: false,
            corrupt: false,
            keys: 1 << 20,
            compacted: false,
            v2_entry: 0,
            proposed: 0,
        }
    }

    pub fn quorum(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    fn lead(&mut self, member: MemberName) {
        self.term += 1;
        self.leader = Some(member);
        self.elect_at = None;
        self.moves += 1;
    }
}

impl World {
    pub fn data(&self, member: &MemberName) -> Option<&Data> {
        self.claims.get(member)?.data.as_ref()
    }

    /// The cluster that a member belongs to by its data.
    pub fn raft_of(&self, member: &MemberName) -> Option<&Raft> {
        self.rafts.get(&self.data(member)?.cluster_id)
    }

    /// Members of a cluster that reach each other.
    pub fn connected(&self, cluster: u64) -> Vec<MemberName> {
        let Some(raft) = self.rafts.get(&cluster) else { return Vec::new() };
        raft.voters
            .keys()
            .filter(|member| {
                self.takes_part(member)
                    && !self.isolated.contains_key(*member)
                    && self.data(member).is_some_and(|data| data.cluster_id == cluster)
            })
            .cloned()
            .collect()
    }

    /// Whether a linearizable read through a member answers.
    pub fn reads(&self, member: &MemberName) -> bool {
        let Some(data) = self.data(member) else { return false };
        let connected = self.connected(data.cluster_id);
        self.rafts.get(&data.cluster_id).is_some_and(|raft| {
            raft.leader.as_ref().is_some_and(|leader| connected.contains(leader))
                && connected.contains(member)
                && connected.len() >= raft.quorum()
                && data.log.1 >= raft.acked
        })
    }

    /// Hands leadership over, as `MoveLeader` does.
    pub fn move_leader(&mut self, from: &MemberName, from_id: u64, cluster: u64, to: &MemberName) -> bool {
        let connected = self.connected(cluster);
        let caught_up = self.data(to).map(|data| data.log.1);
        let Some(raft) = self.rafts.get_mut(&cluster) else { return false };
        let ready = raft.leader.as_ref() == Some(from)
            && raft.voters.get(from) == Some(&from_id)
            && connected.contains(from)
            && connected.contains(to)
            && connected.len() >= raft.quorum()
            && caught_up.is_some_and(|index| index >= raft.acked);
        if ready {
            raft.lead(to.clone());
        }
        ready
    }

    /// An entry that changes no key; whether it committed.
    pub fn propose(&self, cluster: u64) -> bool {
        let connected = self.connected(cluster);
        let Some(raft) = self.rafts.get(&cluster) else { return false };
        let leads = raft.leader.as_ref().is_some_and(|leader| connected.contains(leader));
        leads && connected.len() >= raft.quorum()
    }

    /// Entries that change no key; whether they will commit.
    pub fn propose_many(&mut self, through: &MemberName, entries: u64) -> bool {
        let Some(cluster) = self.data(through).map(|data| data.cluster_id) else { return false };
        let commits = self.serving(through) && self.propose(cluster);
        if let Some(raft) = self.rafts.get_mut(&cluster).filter(|_| commits) {
            raft.proposed += entries;
        }
        commits
    }

    /// Whether a member's log holds entries of the v2 API behind its last snapshot: 3.7 panics at them.
    pub fn holds_v2_entries(&self, data: &Data) -> bool {
        self.rafts
            .get(&data.cluster_id)
            .is_some_and(|raft| data.snapshot < raft.v2_entry && raft.v2_entry <= data.log.1)
    }

    pub fn tick_etcd(&mut self) {
        for cluster in self.rafts.keys().copied().collect::<Vec<_>>() {
            self.tick_raft(cluster);
        }
    }

    fn tick_raft(&mut self, cluster: u64) {
        let connected = self.connected(cluster);
        let Some(mut raft) = self.rafts.remove(&cluster) else { return };
        if raft.leader.as_ref().is_some_and(|leader| !connected.contains(leader)) {
            let graceful = raft.leader.as_ref().and_then(|leader| self.pods.get(leader));
            let graceful = graceful.is_some_and(|pod| pod.deleting.is_some());
            raft.leader = None;
            // A leader that is told to stop hands over; one that is killed is missed first.
            let wait = if graceful { 0 } else { self.rng.range(1_000, 2_000) };
            raft.elect_at = Some(self.now + wait);
        }
        if connected.len() < raft.quorum() {
            raft.leader = None;
            raft.elect_at = None;
            raft.flip_at = None;
        } else if raft.leader.is_none() {
            let at = *raft.elect_at.get_or_insert(self.now + 500);
            if self.now >= at {
                self.elect(&mut raft, &connected);
            }
        }
        if let Some(leader) = raft.leader.clone() {
            let learner = self.connected_learner(cluster, &raft);
            let all: Vec<MemberName> = connected.iter().cloned().chain(learner).collect();
            self.replicate(&mut raft, &leader, &all);
            self.decide_cluster_version(&mut raft, &all);
        }
        self.rafts.insert(cluster, raft);
    }

    fn elect(&mut self, raft: &mut Raft, connected: &[MemberName]) {
        let log = |member: &MemberName| self.data(member).map(|data| data.log).unwrap_or_default();
        let Some(best) = connected.iter().map(log).max() else { return };
        let candidates: Vec<MemberName> =
            connected.iter().filter(|member| log(member) == best).cloned().collect();
        if best.1 < raft.acked {
            if !raft.excused {
                self.violate(format!(
                    "an acknowledged write is lost: {candidates:?} lead with index {}, {} was acknowledged",
                    best.1, raft.acked
                ));
            }
            raft.acked = best.1;
        }
        if let Some(member) = self.rng.pick(&candidates).cloned() {
            raft.lead(member);
        }
    }

    fn replicate(&mut self, raft: &mut Raft, leader: &MemberName, connected: &[MemberName]) {
        let writes =
            if raft.alarm { 0 } else { 1 + self.rng.range(0, 4) } + std::mem::take(&mut raft.proposed);
        let index = self.data(leader).map(|data| data.log.1).unwrap_or_default() + writes;
        if self.publishes_by_v2(connected) {
            raft.v2_entry = index;
        }
        raft.acked = index;
        let version = raft.cluster_version.or(Some(UNDECIDED));
        raft.cluster_version = version;
        let storage_moves = self.rng.permille(700);
        for member in connected {
            raft.published.insert(member.clone());
            let Some(data) = self.claims.get_mut(member).and_then(|claim| claim.data.as_mut()) else {
                continue;
            };
            data.log = (raft.term, index);
            data.voters.clone_from(&raft.voters);
            data.cluster_version = version;
            data.job = raft.job;
            if data.db_size < raft.keys {
                // A member that joins gets what the others have.
                (data.db_size, data.in_use) = (raft.keys, raft.keys);
            }
            // The data follow the cluster version in a moment.
            if storage_moves || data.opened.minor < Minor::new(3, 6) {
                data.storage_version = version.filter(|_| data.opened.minor >= Minor::new(3, 6));
            }
            let Some(pod) = self.pods.get_mut(member) else { continue };
            pod.joined = true;
            let given = self.revisions.get(&pod.revision).map(|stored| stored.revision.snapshot_count());
            let every = given.filter(|_| data.opened.minor >= Minor::new(3, 6)).unwrap_or(100_000);
            if index - data.snapshot.min(index) > every {
                data.snapshot = index;
                pod.snapshots += 1;
            }
        }
    }

    /// Whether a member before 3.6 has come since the last step of time: it writes its name as a v2 entry.
    fn publishes_by_v2(&self, connected: &[MemberName]) -> bool {
        connected.iter().any(|member| {
            let old = self.data(member).is_some_and(|data| data.opened.minor < Minor::new(3, 6));
            let pod = self.pods.get(member);
            let new = pod.is_some_and(|pod| match pod.state {
                State::Running { serves_at, .. } => serves_at + TICK >= self.now,
                _ => false,
            });
            old && new
        })
    }

    /// What the Downgrade API does with a call; whether it took effect.
    pub fn call_downgrade(&mut self, through: &MemberName, call: DowngradeCall) -> bool {
        let Some(cluster) = self.data(through).map(|data| data.cluster_id) else { return false };
        let commits = self.serving(through) && self.propose(cluster);
        let Some(raft) = self.rafts.get_mut(&cluster).filter(|_| commits) else { return false };
        match call {
            DowngradeCall::Enable(minor) => {
                let below = raft.cluster_version.and_then(Minor::previous);
                if raft.job.is_some() || below != Some(minor) {
                    return false;
                }
                raft.job = Some(minor);
            }
            DowngradeCall::Cancel => raft.job = None,
        }
        raft.job_moves_at = None;
        self.changed();
        true
    }

    /// The leader lowers the cluster version, and ends the job once all members run the minor that it leads to.
    fn carry_the_job_on(&mut self, raft: &mut Raft, job: Minor, binaries: &[Minor]) {
        let all = |minor| binaries.iter().all(|binary| *binary == minor);
        let lowers = raft.cluster_version == Some(job.next()) && all(job.next()) && job >= Minor::new(3, 5);
        let ends = raft.cluster_version == Some(job) && all(job);
        if !lowers && !ends {
            raft.job_moves_at = None;
            return;
        }
        let wait = self.rng.range(200, 5_000);
        let at = *raft.job_moves_at.get_or_insert(self.now + wait);
        if self.now >= at {
            raft.job_moves_at = None;
            if ends {
                raft.job = None;
            } else {
                raft.cluster_version = Some(job);
            }
        }
    }

    /// The lowest binary of all members, decided by the leader once it reaches them all; only upward, and not
    /// under a downgrade job.
    fn decide_cluster_version(&mut self, raft: &mut Raft, connected: &[MemberName]) {
        let members = raft.voters.len() + raft.learners.len();
        if connected.len() < members || raft.published.len() < members {
            raft.flip_at = None;
            return;
        }
        let binaries: Vec<Minor> =
            connected.iter().filter_map(|member| self.data(member)).map(|data| data.opened.minor).collect();
        if let Some(job) = raft.job {
            raft.flip_at = None;
            return self.carry_the_job_on(raft, job, &binaries);
        }
        let Some(lowest) = binaries.into_iter().min().filter(|lowest| Some(*lowest) > raft.cluster_version)
        else {
            raft.flip_at = None;
            return;
        };
        let wait = self.rng.range(1_000, 3_300);
        let at = *raft.flip_at.get_or_insert(self.now + wait);
        if self.now >= at {
            if lowest < Minor::new(3, 6) {
                raft.v2_entry = raft.acked;
            }
            raft.cluster_version = Some(lowest);
            raft.flip_at = None;
        }
    }
}
