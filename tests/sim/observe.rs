//! The world as the operator sees it: the same meaning as `src/cluster/observation.rs`, where single
//! members may not answer in time.

use crate::volumes::CLASSES;
use crate::world::etcd::{Data, Raft, UNDECIDED};
use crate::world::kube::{Cluster, Pod, Probe, State, Volume};
use crate::world::{self, NAME, NAMESPACE, World};
use quorate::api::Action;
use quorate::cluster::names::MemberName;
use quorate::cluster::objects::container::{client_url, peer_url};
use quorate::cluster::objects::pod::Initial;
use quorate::cluster::observation::{
    Alone, Answer, ClaimFacts, ClusterFacts, ContainerFacts, DowngradeJob, Observation, Ownership, Patience,
    PodFacts, Presented, ProbeFacts, RecoveryFacts, RecoveryPod, SetAside,
};
use quorate::etcd::versions::{Releases, tells_of_downgrades};
use quorate::etcd::{Alarm, ClusterId, KvHash, ListedMember, MemberId, MemberStatus, Snapshots, Standstill};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// An observation, and how many violent faults had struck when it was made: what strikes between it
/// and the act is not laid at the operator's door.
#[derive(Clone, Debug)]
pub struct Seen {
    pub facts: Observation,
    pub violent: u64,
}

/// What an operator sees now. `deaf`: members whose answers do not come in time.
pub fn observe(
    world: &World,
    cluster: &Cluster,
    deaf: &BTreeSet<MemberName>,
    patience: Patience,
) -> Observation {
    let answers: BTreeMap<MemberName, Answer> = world
        .pods
        .iter()
        .filter(|(_, pod)| has_address(pod) && pod.owner.as_ref() == Some(&cluster.uid))
        .map(|(member, _)| (member.clone(), answer(world, member, deaf.contains(member))))
        .collect();
    let reader = answers.iter().find(|(_, answer)| answer.read.is_ok()).map(|(member, _)| member.clone());
    let member_list = reader.as_ref().and_then(|member| list(world, member));
    let claimed = cluster.status.progress.as_ref().is_some_and(|progress| {
        let pod = MemberName::parse(NAME, &progress.member).and_then(|member| world.pods.get(&member));
        pod.is_some_and(|pod| progress.pod_uid.as_ref() == Some(&pod.uid))
    });
    let proposal = (claimed && reader.is_some()).then(|| propose(world, reader.as_ref()));
    let mut seen = Observation {
        now: world.timestamp(world.now),
        cluster: ClusterFacts {
            namespace: NAMESPACE.to_owned(),
            name: NAME.to_owned(),
            uid: cluster.uid.clone(),
            generation: cluster.generation,
            resource_version: cluster.resource_version.to_string(),
            deleting: cluster.deleting,
            finalizer: cluster.finalizer,
            approve: cluster.approve.clone(),
            replace: cluster.replace.clone(),
            spec: cluster.spec.clone(),
            status: cluster.status.clone(),
        },
        pods: world
            .pods
            .iter()
            .map(|(member, pod)| (member.clone(), pod_facts(world, cluster, member, pod)))
            .collect(),
        claims: claims(world, cluster),
        set_aside: world
            .set_aside
            .iter()
            .map(|(member, (since, Volume { facts, .. }))| {
                let ClaimFacts { uid, deleting, cluster_id, .. } = facts.clone();
                let quarantined = since.map(|since| world.timestamp(since));
                (member.clone(), SetAside { uid, deleting, cluster_id, quarantined })
            })
            .collect(),
        revisions: world
            .revisions
            .iter()
            // Those of an earlier EtcdCluster of this name are about to be collected.
            .filter(|(_, stored)| stored.owner == cluster.uid)
            .map(|(name, stored)| (name.clone(), stored.revision.clone()))
            .collect(),
        foreign_revisions: BTreeMap::new(),
        secrets: world.live_secrets(),
        domain: "cluster.local".into(),
        headless: world.headless.clone(),
        client: world.client.clone(),
        budget: world.observed_budget(),
        probes: world.probes.iter().map(|(name, probe)| probe_facts(world, name, probe)).collect(),
        answers,
        zones: BTreeMap::new(),
        nodes_in_trouble: (0..world.nodes.len())
            .filter_map(|node| Some((format!("node-{node}"), world.trouble_of(node)?)))
            .collect(),
        homes: BTreeMap::new(),
        hashes: BTreeMap::new(),
        recovery: RecoveryFacts::default(),
        // A process that has not watched before the loss: what depends on that stands in the unit tests.
        served: BTreeMap::new(),
        member_list,
        proposal,
        downgrade_job: downgrade_job(world, reader.as_ref()),
        default_storage_class: Some(world.default_class),
        classes: Some(CLASSES.map(|class| (class.to_owned(), world.lets_grow)).into()),
        patience,
        releases: Releases::default(),
    };
    seen.homes = homes(world, &seen);
    if !seen.cluster.may_claim_a_member() {
        let pods = seen.absent().filter_map(|member| seen.pods.get(member)?.node.clone());
        let asked: BTreeSet<String> = pods.chain(seen.homes.values().cloned()).collect();
        seen.nodes_in_trouble.retain(|node, _| asked.contains(node));
    }
    if seen.revision_to_hash_at().is_some() {
        seen.hashes = seen
            .answers
            .iter()
            .filter(|(_, answer)| answer.status.is_ok())
            .filter_map(|(member, _)| Some((member.clone(), hash_of(world, member)?)))
            .collect();
    }
    let recovers = cluster.status.progress.as_ref().is_some_and(|it| it.action == Action::Recover);
    let nodes = (0..world.nodes.len()).filter(|node| !world.gone.contains(node));
    let nodes = nodes.map(|node| (format!("node-{node}"), world.trouble_of(node))).collect();
    let asked = recovers || (cluster.spec.recovery.is_some() && seen.lacks_a_quorum());
    let pods = world.recovery.iter().filter(|(_, pod)| pod.owner == cluster.uid);
    seen.recovery = RecoveryFacts {
        pods: pods.map(|(name, pod)| recovery_pod(world, name, pod)).collect(),
        nodes: asked.then_some(nodes),
    };
    seen.downgrade_job = seen.downgrade_job_by_status().unwrap_or(seen.downgrade_job);
    seen
}

/// Without the Pods of an earlier cluster.
fn claims(world: &World, cluster: &Cluster) -> BTreeMap<MemberName, ClaimFacts> {
    let is_own = |volume: &Volume| volume.owner.as_ref().is_none_or(|owner| *owner == cluster.uid);
    let own = world.claims.iter().filter(|(_, volume)| is_own(volume));
    own.map(|(member, volume)| (member.clone(), volume.facts.clone())).collect()
}

/// Where alone what absent members have can be used.
fn homes(world: &World, seen: &Observation) -> BTreeMap<MemberName, String> {
    let on_volumes = seen.absent().filter(|member| !world.claims[*member].facts.in_pod);
    let on_volumes = on_volumes
        .filter_map(|member| Some((member.clone(), format!("node-{}", world.claims[member].home?))));
    on_volumes.chain(seen.homes_in_pods()).collect()
}

fn hash_of(world: &World, member: &MemberName) -> Option<KvHash> {
    let data = world.data(member)?;
    // Two that differ from the rest differ from each other too.
    let hash = if data.differs { u32::try_from(data.member_id >> 33).unwrap_or_default() } else { 0 };
    Some(KvHash { hash, compacted: 0 })
}

fn has_address(pod: &Pod) -> bool {
    matches!(pod.state, State::Running { .. } | State::Backoff { .. })
}

/// What VALIDATE tells.
fn downgrade_job(world: &World, reader: Option<&MemberName>) -> DowngradeJob {
    match reader.and_then(|member| world.raft_of(member)) {
        None => DowngradeJob::Unknown,
        Some(raft) if raft.job.is_some() => DowngradeJob::Somewhere,
        Some(_) => DowngradeJob::Absent,
    }
}

fn propose(world: &World, through: Option<&MemberName>) -> Result<(), String> {
    let cluster = through.and_then(|member| world.data(member)).map(|data| data.cluster_id);
    match cluster.map(|cluster| world.propose(cluster)) {
        Some(true) => Ok(()),
        _ => Err("etcdserver: request timed out".to_owned()),
    }
}

fn answer(world: &World, member: &MemberName, deaf: bool) -> Answer {
    let none = |why: &str| Answer {
        status: Err(why.to_owned()),
        cluster_version: None,
        storage_version: None,
        read: Err(why.to_owned()),
        standstill: None,
        snapshots: None,
        presented: Presented::default(),
    };
    if deaf {
        return none("no answer in time");
    }
    let (Some(data), true) = (world.data(member), world.serving(member)) else {
        // It looks for a quorum.
        let standstill = world.data(member).filter(|_| world.takes_part(member)).map(|data| Standstill {
            revision: i64::try_from(data.log.1).unwrap_or(i64::MAX),
            raft_applied_index: data.log.1,
        });
        return Answer { standstill, ..none("connection refused") };
    };
    let Some(raft) = world.rafts.get(&data.cluster_id) else { return none("connection refused") };
    let connected = !world.isolated.contains_key(member);
    let leader = raft.leader.as_ref().filter(|_| connected).and_then(|leader| raft.voters.get(leader));
    Answer {
        status: Ok(MemberStatus {
            cluster_id: ClusterId(data.cluster_id),
            member_id: MemberId(data.member_id),
            version: data.opened,
            leader: leader.map(|id| MemberId(*id)),
            raft_term: if connected { raft.term } else { data.log.0 },
            raft_index: data.log.1,
            raft_applied_index: data.log.1,
            revision: i64::try_from(data.log.1).unwrap_or(i64::MAX),
            db_size: i64::try_from(data.db_size).unwrap_or(i64::MAX),
            db_size_in_use: i64::try_from(data.in_use).unwrap_or(i64::MAX),
            is_learner: is_learner(raft, data),
            alarms: [(raft.alarm, Alarm::NoSpace), (raft.corrupt, Alarm::Corrupt)]
                .into_iter()
                .filter_map(|(is_set, alarm)| is_set.then_some(alarm))
                .collect(),
            downgrade: data.job.filter(|_| tells_of_downgrades(data.opened.minor)),
        }),
        cluster_version: data.cluster_version.filter(|version| *version != UNDECIDED),
        storage_version: data.storage_version,
        read: match (is_learner(raft, data), world.reads(member)) {
            (true, _) => Err("etcdserver: rpc not supported for learner".to_owned()),
            (false, true) => Ok(()),
            (false, false) => Err("etcdserver: request timed out".to_owned()),
        },
        standstill: None,
        snapshots: world
            .pods
            .get(member)
            .map(|pod| Snapshots { process: format!("{}/{}", pod.uid, pod.restarts), taken: pod.snapshots }),
        presented: Presented::default(),
    }
}

fn is_learner(raft: &Raft, data: &Data) -> bool {
    raft.learners.values().any(|id| *id == data.member_id)
}

fn list(world: &World, through: &MemberName) -> Option<Vec<ListedMember>> {
    let raft = world.raft_of(through)?;
    let listed = raft.voters.iter().chain(&raft.learners).map(|(member, id)| {
        let published = raft.published.contains(member);
        let host = member.host(NAMESPACE);
        ListedMember {
            id: MemberId(*id),
            name: if published { member.to_string() } else { String::new() },
            peer_urls: vec![peer_url(world.wire(), &host)],
            client_urls: if published { vec![client_url(world.wire(), &host)] } else { Vec::new() },
            is_learner: raft.learners.contains_key(member),
        }
    });
    Some(listed.collect())
}

/// At most this many stages has a start.
const STAGES: u64 = 8;

fn came_to(world: &World, member: &MemberName, pod: &Pod) -> u32 {
    let (State::Running { since, serves_at }, Some(stage)) = (&pod.state, world.moving.get(member)) else {
        return 0;
    };
    let ran = world.now.min(*serves_at) - since;
    u32::try_from((ran / stage).min(STAGES)).unwrap_or_default()
}

/// In milliseconds. The kubelet looks at its containers once a second, and writes their Pod's status after that.
const KUBELET_TELLS_AFTER: u64 = 1_500;

fn pod_facts(world: &World, cluster: &Cluster, member: &MemberName, pod: &Pod) -> PodFacts {
    let ownership = match &pod.owner {
        None => Ownership::Foreign("Deployment other".to_owned()),
        Some(owner) if *owner == cluster.uid => Ownership::Ours,
        Some(_) => Ownership::EarlierCluster,
    };
    let running_since = match pod.state {
        State::Running { since, .. } => Some(since),
        _ => None,
    };
    let is_told = running_since.is_none_or(|since| world.now >= since + KUBELET_TELLS_AFTER);
    let waiting = match pod.state {
        _ if !is_told => Some(("ContainerCreating".to_owned(), String::new())),
        State::Creating { .. } => Some(("ContainerCreating".to_owned(), String::new())),
        // What a container waits for is forgotten when its Pod goes (`convertToAPIContainerStatuses` of the kubelet).
        State::NotPulled if pod.deleting.is_some() => Some(("ContainerCreating".to_owned(), String::new())),
        State::NotPulled => Some(("ImagePullBackOff".to_owned(), "not found".to_owned())),
        State::Backoff { .. } => Some(("CrashLoopBackOff".to_owned(), "back-off".to_owned())),
        State::Unscheduled | State::Running { .. } => None,
    };
    PodFacts {
        uid: pod.uid.clone(),
        resource_version: pod.resource_version(),
        ownership,
        deleting: pod.deleting.is_some(),
        revision: pod.revision.clone(),
        unguarded: pod.initial != Initial::Guard,
        told: match &pod.initial {
            Initial::New { members, .. } | Initial::Join { members } => members.iter().cloned().collect(),
            Initial::Guard => [member.clone()].into(),
        },
        learner: pod.learner,
        ip: has_address(pod).then_some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))),
        node: pod.node.map(|node| format!("node-{node}")),
        on_node_since: pod.node.map(|_| world.timestamp(pod.bound_at)),
        image: pod.image.clone(),
        ready: pod.ready,
        ended: pod.ended,
        // The scheduler has looked for a node, and found none.
        unschedulable: (pod.node.is_none() && world.free_node(member).is_none())
            .then(|| "0/4 nodes are available".to_owned()),
        container: ContainerFacts {
            waiting,
            running_since: running_since.filter(|_| is_told).map(|since| world.timestamp(since)),
            restarts: pod.restarts,
            exit_code: pod.exit_code,
            last_words: pod.last_words.clone(),
            came_to: came_to(world, member, pod),
        },
    }
}

fn recovery_pod(world: &World, name: &str, pod: &world::recovery::RecoveryPod) -> RecoveryPod {
    let member = &pod.member;
    let says = world.data(member).filter(|_| pod.forced && pod.gone_at.is_none()).map(|data| Alone {
        status: MemberStatus {
            cluster_id: ClusterId(data.cluster_id),
            member_id: MemberId(data.member_id),
            version: data.opened,
            leader: Some(MemberId(data.member_id)),
            raft_term: data.log.0,
            raft_index: data.log.1,
            raft_applied_index: data.log.1,
            revision: i64::try_from(data.log.1).unwrap_or(i64::MAX),
            db_size: 0,
            db_size_in_use: 0,
            is_learner: false,
            alarms: Vec::new(),
            downgrade: None,
        },
        list: list(world, member).unwrap_or_default(),
    });
    RecoveryPod {
        name: name.to_owned(),
        stage: pod.stage,
        incident: pod.incident.clone(),
        facts: PodFacts {
            uid: pod.uid.clone(),
            resource_version: String::new(),
            ownership: Ownership::Ours,
            deleting: pod.gone_at.is_some(),
            revision: pod.revision.clone(),
            unguarded: false,
            told: BTreeSet::new(),
            learner: false,
            ip: None,
            node: None,
            on_node_since: None,
            image: pod.image.clone(),
            ready: false,
            ended: pod.exit_code.is_some(),
            unschedulable: None,
            container: ContainerFacts { exit_code: pod.exit_code, ..ContainerFacts::default() },
        },
        says: says.ok_or_else(|| "connection refused".to_owned()),
    }
}

fn probe_facts(world: &World, name: &str, probe: &Probe) -> ProbeFacts {
    ProbeFacts {
        pod: name.to_owned(),
        uid: probe.uid.clone(),
        node: format!("node-{}", probe.node),
        revision: probe.revision.clone(),
        tries: probe.tries.clone(),
        state: world.probe(probe),
    }
}
