//! The simulated world: the little of Kubernetes and of etcd that the operator can see or break.
//! Time moves in steps of [`TICK`]; everything that is left to chance comes from one seeded source.

pub mod catalogue;
pub mod etcd;
pub mod kube;
pub mod kubelet;
mod members;
pub mod recovery;
pub mod secrets;

use crate::rng::Rng;
use etcd::Raft;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{Cluster, Pod, Probe, StoredRevision, Volume};
use quorate::api::EtcdClusterSpec;
use quorate::cluster::names::MemberName;
use quorate::etcd::EtcdVersion;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Milliseconds of one step.
pub const TICK: u64 = 500;
pub const NAME: &str = "db";
pub const NAMESPACE: &str = "prod";

#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
#[derive(Clone, Debug)]
pub struct World {
    /// Milliseconds since the beginning.
    pub now: u64,
    pub rng: Rng,
    pub cluster: Option<Cluster>,
    pub pods: BTreeMap<MemberName, Pod>,
    pub claims: BTreeMap<MemberName, Volume>,
    /// Volumes of members that are none any more, and since when each is in quarantine.
    pub set_aside: BTreeMap<MemberName, (Option<u64>, Volume)>,
    pub revisions: BTreeMap<String, StoredRevision>,
    pub secrets: BTreeMap<String, secrets::Secret>,
    pub headless: Option<Arc<Service>>,
    pub client: Option<Arc<Service>>,
    pub budget: Option<PodDisruptionBudget>,
    pub probes: BTreeMap<String, Probe>,
    /// Pods of a recovery.
    pub recovery: BTreeMap<String, recovery::RecoveryPod>,
    /// Since when and until when each node is down, where it is.
    pub nodes: Vec<Option<(u64, u64)>>,
    pub cordoned: BTreeSet<usize>,
    /// Nodes that are no more.
    pub gone: BTreeSet<usize>,
    /// Whether a volume can be used only on the node where it was used first.
    pub local: bool,
    pub default_class: bool,
    /// Whether the class lets volumes grow, and whether their file systems do only when they are mounted anew.
    pub lets_grow: bool,
    pub grows_offline: bool,
    pub rafts: BTreeMap<u64, Raft>,
    /// Members cut off from the others, until then.
    pub isolated: BTreeMap<MemberName, u64>,
    /// Whether a label cuts off who has it, as the network's policy would.
    pub labels_cut_off: bool,
    /// Members whose starts come to a new stage each so many milliseconds.
    pub moving: BTreeMap<MemberName, u64>,
    /// Members whose next starts are slow, and how slow.
    pub slow: BTreeMap<MemberName, u64>,
    /// Clusters of which somebody recorded that they have formed.
    pub formed: BTreeSet<u64>,
    /// Members that ever had data, with whatever became of it.
    pub had_data: BTreeMap<u64, MemberName>,
    /// Rises with everything that a watch would show.
    pub changes: u64,
    /// How often the planner was asked.
    pub plans: u64,
    /// What the operator wrote, in all.
    pub writes: u64,
    /// Faults that no budget governs: a crash, a node, a hand.
    pub violent: u64,
    /// What people approved: the revisions that members may become.
    pub approved: BTreeSet<String>,
    /// How many Pods of members were made.
    pub made: usize,
    /// The kinds of records that were written, in order.
    pub records: Vec<&'static str>,
    pub tracing: bool,
    pub violation: Option<String>,
    serial: u64,
}

impl World {
    pub fn new(rng: Rng, spec: EtcdClusterSpec) -> Self {
        let mut world = Self {
            now: 0,
            rng,
            cluster: None,
            pods: BTreeMap::new(),
            claims: BTreeMap::new(),
            set_aside: BTreeMap::new(),
            revisions: BTreeMap::new(),
            secrets: BTreeMap::new(),
            headless: None,
            client: None,
            budget: None,
            probes: BTreeMap::new(),
            recovery: BTreeMap::new(),
            nodes: vec![None; 4],
            cordoned: BTreeSet::new(),
            gone: BTreeSet::new(),
            local: false,
            default_class: true,
            lets_grow: true,
            grows_offline: false,
            rafts: BTreeMap::new(),
            isolated: BTreeMap::new(),
            labels_cut_off: true,
            moving: BTreeMap::new(),
            slow: BTreeMap::new(),
            formed: BTreeSet::new(),
            had_data: BTreeMap::new(),
            changes: 0,
            plans: 0,
            writes: 0,
            violent: 0,
            approved: BTreeSet::new(),
            made: 0,
            records: Vec::new(),
            tracing: false,
            violation: None,
            serial: 0,
        };
        world.create_cluster(spec);
        world
    }

    /// A number never used before: UIDs and resource versions.
    pub fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub fn uid(&mut self, kind: &str) -> String {
        format!("{kind}-{}", self.serial())
    }

    #[allow(clippy::unused_self, reason = "the world's clock")]
    pub fn timestamp(&self, at: u64) -> Timestamp {
        Timestamp::from_millisecond(1_790_000_000_000 + i64::try_from(at).unwrap()).unwrap()
    }

    /// Something happened that a watch shows.
    pub fn changed(&mut self) {
        self.changes += 1;
    }

    pub fn say(&mut self, text: impl FnOnce() -> String) {
        if self.tracing {
            println!("{:>7.1} s  {}", self.now_seconds(), text());
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "seconds of a simulation, for people")]
    fn now_seconds(&self) -> f64 {
        self.now as f64 / 1_000.0
    }

    /// The first violation is the one that counts.
    pub fn violate(&mut self, what: String) {
        self.say(|| format!("VIOLATION {what}"));
        self.violation.get_or_insert(what);
    }

    pub fn tick(&mut self) {
        self.now += TICK;
        let now = self.now;
        self.isolated.retain(|_, until| *until > now);
        self.tick_nodes();
        self.tick_kubernetes();
        self.tick_kubelets();
        self.tick_recovery();
        self.tick_etcd();
    }

    /// Members in the order of their names.
    pub fn members(&self) -> Vec<MemberName> {
        self.claims.keys().chain(self.pods.keys()).cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The raft cluster that the `EtcdCluster` stands for: the one on its volumes.
    pub fn raft(&self) -> Option<&Raft> {
        self.claims.values().find_map(|volume| self.rafts.get(&volume.data.as_ref()?.cluster_id))
    }

    /// What each member's running binary is.
    pub fn running(&self) -> BTreeMap<MemberName, EtcdVersion> {
        self.members()
            .into_iter()
            .filter(|member| self.serving(member))
            .filter_map(|member| Some((member.clone(), self.data(&member)?.opened)))
            .collect()
    }
}
