//! Small builders of observations for tests: a healthy world, from which a test takes away.

use super::names::MemberName;
use super::observation::{
    Answer, ClaimFacts, ClusterFacts, ContainerFacts, Observation, Ownership, Patience, PodFacts, Presented,
    SecretFacts,
};
use super::revision::{self, Revision};
use super::spec;
use super::wire::Wire;
use crate::api::EtcdClusterStatus;
use crate::cluster::names::authority_secret;
use crate::cluster::objects::container::{client_url, peer_url};
use crate::cluster::objects::secrets::WantedPair;
use crate::cluster::objects::secrets::contents;
use crate::cluster::objects::support;
use crate::etcd::versions::Releases;
use crate::etcd::{ClusterId, EtcdVersion, ListedMember, MemberId, MemberStatus};
use crate::pki::{Made, Pair, Request, issue, new_authority};
use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudgetStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// The cluster's name: another word than the product's, so that swapped labels show.
pub const NAME: &str = "db";
/// Its namespace.
pub const NAMESPACE: &str = "prod";
/// Its UID.
pub const UID: &str = "uid-of-the-cluster";
/// Its id in etcd.
pub const CLUSTER: ClusterId = ClusterId(0xc1);

/// A member by number.
pub fn member(number: u32) -> MemberName {
    MemberName::new(NAME, number)
}

/// What members of this spec are made from.
pub fn rendered(spec_yaml: &str) -> Revision {
    let spec: crate::api::EtcdClusterSpec = serde_saphyr::from_str(spec_yaml).unwrap();
    let desired = spec::parse(&spec).unwrap();
    revision::render(NAMESPACE, NAME, &spec, &desired, desired.version, Wire::asked_for(&spec)).unwrap()
}

/// A healthy cluster that is what this spec says, led by the first member.
pub fn healthy(spec_yaml: &str) -> Observation {
    let spec: crate::api::EtcdClusterSpec = serde_saphyr::from_str(spec_yaml).unwrap();
    let desired = spec::parse(&spec).unwrap();
    let (revision, wire) = (rendered(spec_yaml), Wire::asked_for(&spec));
    let members: Vec<MemberName> = (0..desired.replicas).map(member).collect();
    let voters: BTreeMap<MemberName, MemberId> =
        members.iter().map(|member| (member.clone(), id_of(member))).collect();
    let mut budget = support::budget(NAMESPACE, NAME, members.len(), owner()).stamped();
    budget.status =
        Some(PodDisruptionBudgetStatus { disruptions_allowed: 1, ..PodDisruptionBudgetStatus::default() });
    Observation {
        now: Timestamp::UNIX_EPOCH + Duration::from_hours(1),
        cluster: ClusterFacts {
            namespace: NAMESPACE.to_owned(),
            name: NAME.to_owned(),
            uid: UID.to_owned(),
            generation: 1,
            resource_version: "7".to_owned(),
            deleting: false,
            finalizer: false,
            approve: None,
            replace: None,
            spec: spec.clone(),
            status: EtcdClusterStatus {
                cluster_id: Some(CLUSTER.to_string()),
                ..EtcdClusterStatus::default()
            },
        },
        pods: members
            .iter()
            .map(|member| (member.clone(), pod(member, &revision.name, &revision.image)))
            .collect(),
        claims: members
            .iter()
            .map(|member| {
                (
                    member.clone(),
                    claim(member, &voters, &revision.name, desired.version, Wire::asked_for(&spec)),
                )
            })
            .collect(),
        set_aside: BTreeMap::new(),
        secrets: BTreeMap::new(),
        domain: "cluster.local".into(),
        headless: Some(Arc::new(support::headless(NAMESPACE, NAME, &spec, owner()).stamped())),
        client: Some(Arc::new(support::client(NAMESPACE, NAME, &spec, owner()).stamped())),
        budget: Some(budget),
        probes: Vec::new(),
        answers: members.iter().map(|member| (member.clone(), answer(member, desired.version))).collect(),
        nodes_in_trouble: BTreeMap::new(),
        homes: BTreeMap::new(),
        hashes: BTreeMap::new(),
        recovery: super::observation::RecoveryFacts::default(),
        served: BTreeMap::new(),
        zones: members.iter().map(|member| (node_of(member), Some(zone_of(member)))).collect(),
        member_list: Some(members.iter().map(|member| listed(member, wire)).collect()),
        proposal: None,
        downgrade_job: super::observation::DowngradeJob::Absent,
        default_storage_class: Some(true),
        classes: None,
        patience: Patience::default(),
        foreign_revisions: BTreeMap::new(),
        releases: Releases::default(),
        revisions: BTreeMap::from([(revision.name.clone(), Arc::new(revision))]),
    }
}

/// The same world with another spec, as an edit makes it.
pub fn edited(mut world: Observation, spec_yaml: &str) -> Observation {
    world.cluster.spec = serde_saphyr::from_str(spec_yaml).unwrap();
    world.cluster.generation += 1;
    world
}

/// A Secret with a certificate.
pub fn secret(made: &Made, trusted: &Made) -> SecretFacts {
    let data = contents(made, &trusted.certificate).into_iter().map(|(key, value)| (key, value.0)).collect();
    let pair = Pair::read::<Vec<u8>>(&data);
    SecretFacts { uid: "uid".to_owned(), resource_version: "1".to_owned(), ownership: Ownership::Ours, pair }
}

/// The same world with all its certificates, which hold from then until then; and who signed them.
pub fn certified(mut world: Observation, from: Timestamp, until: Timestamp) -> (Observation, Made) {
    let authority = new_authority("test", from, until + Duration::from_hours(100_000)).unwrap();
    let of = |wanted: WantedPair| {
        let WantedPair { secret: name, purpose, common_name, names, .. } = wanted;
        let request = Request { common_name, names, purpose, not_before: from, not_after: until };
        (name, Arc::new(secret(&issue(&request, &authority).unwrap(), &authority)))
    };
    let pairs = world.wanted_pairs().into_iter().map(of).collect();
    world.secrets = pairs;
    world.secrets.insert(authority_secret(NAME), Arc::new(secret(&authority, &authority)));
    (world, authority)
}

/// Takes a member's answer away, as when it is down.
pub fn silence(world: &mut Observation, member: &MemberName) {
    world.answers.insert(
        member.clone(),
        Answer {
            status: Err("connection refused".to_owned()),
            cluster_version: None,
            storage_version: None,
            read: Err("connection refused".to_owned()),
            standstill: None,
            snapshots: None,
            presented: Presented::default(),
        },
    );
    if let Some(pod) = world.pods.get_mut(member) {
        pod.ready = false;
        pod.container = ContainerFacts {
            waiting: Some(("CrashLoopBackOff".to_owned(), String::new())),
            restarts: 3,
            exit_code: Some(2),
            last_words: Some("flag provided but not defined".to_owned()),
            ..ContainerFacts::default()
        };
    }
}

/// The cluster, as its objects refer to it.
pub fn owner() -> OwnerReference {
    OwnerReference {
        kind: "EtcdCluster".to_owned(),
        name: NAME.to_owned(),
        uid: UID.to_owned(),
        controller: Some(true),
        ..OwnerReference::default()
    }
}

fn id_of(member: &MemberName) -> MemberId {
    MemberId(0xa0 + u64::from(member.number()))
}

fn node_of(member: &MemberName) -> String {
    format!("node-{}", member.number())
}

fn zone_of(member: &MemberName) -> String {
    format!("zone-{}", member.number())
}

fn pod(member: &MemberName, revision: &str, image: &str) -> PodFacts {
    PodFacts {
        uid: format!("pod-{member}"),
        resource_version: "1".to_owned(),
        ownership: Ownership::Ours,
        deleting: false,
        revision: revision.to_owned(),
        unguarded: false,
        told: BTreeSet::from([member.clone()]),
        learner: false,
        ip: Some([10, 0, 0, u8::try_from(member.number()).unwrap()].into()),
        node: Some(node_of(member)),
        image: image.to_owned(),
        ready: true,
        ended: false,
        on_node_since: None,
        unschedulable: None,
        container: ContainerFacts { running_since: Some(Timestamp::UNIX_EPOCH), ..ContainerFacts::default() },
    }
}

fn claim(
    member: &MemberName,
    voters: &BTreeMap<MemberName, MemberId>,
    revision: &str,
    version: EtcdVersion,
    wire: Wire,
) -> ClaimFacts {
    ClaimFacts {
        in_pod: false,
        uid: format!("claim-{member}"),
        resource_version: String::new(),
        ownership: Ownership::Ours,
        deleting: false,
        cluster_id: Some(CLUSTER),
        member_id: Some(id_of(member)),
        voters: Some(voters.clone()),
        last_number: voters.keys().map(MemberName::number).max(),
        bootstrap: None,
        wire,
        assigned: Some(revision.to_owned()),
        good: Some(revision.to_owned()),
        opened: Some(version),
        first_pod: None,
        recovering: None,
        snapshot_base: None,
        free_of_v2_entries: false,
        size: Some(8 << 30),
        capacity: Some(8 << 30),
        awaits_file_system: false,
        resize_error: None,
        class: Some("fast".to_owned()),
        volume: None,
    }
}

fn answer(member: &MemberName, version: EtcdVersion) -> Answer {
    Answer {
        status: Ok(MemberStatus {
            cluster_id: CLUSTER,
            member_id: id_of(member),
            version,
            leader: Some(MemberId(0xa0)),
            raft_term: 2,
            raft_index: 1_000,
            raft_applied_index: 1_000,
            revision: 900,
            db_size: 25 << 20,
            db_size_in_use: 24 << 20,
            is_learner: false,
            alarms: Vec::new(),
            downgrade: None,
        }),
        cluster_version: Some(version.minor),
        storage_version: None,
        read: Ok(()),
        standstill: None,
        snapshots: None,
        presented: Presented::default(),
    }
}

fn listed(member: &MemberName, wire: Wire) -> ListedMember {
    ListedMember {
        id: id_of(member),
        name: member.to_string(),
        peer_urls: vec![peer_url(wire, &member.host(NAMESPACE))],
        client_urls: vec![client_url(wire, &member.host(NAMESPACE))],
        is_learner: false,
    }
}
