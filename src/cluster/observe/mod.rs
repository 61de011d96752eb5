//! Observe: reads Kubernetes and every member, in parallel and with short limits. I/O; it decides
//! nothing. Only an API server that fails is an error: a member that does not answer is a fact.

mod classes;
mod facts;
mod members;
mod nodes;
mod recovery;
mod remembered;
mod secrets;
mod starts;

pub(super) use classes::Classes;
pub use members::{alone, ask_members, client_of};
pub(super) use nodes::Nodes;
pub(super) use secrets::Secrets;
pub(super) use starts::Starts;

use self::classes::{classes, default_storage_class};
use super::context::Context;
use super::names::{
    MemberName, bootstrap_members, client_service, disruption_budget, first_members, headless_service,
};
use super::objects::pod::is_not_yet;
use super::objects::probe;
use super::observation::{
    ClusterFacts, DowngradeJob, Observation, Ownership, ProbeFacts, ProbeState, RecoveryFacts, Tries,
};
use super::revision::Revision;
use super::spec::keeps_data_in_pods;
use crate::api::{Action, EtcdCluster, labels};
use crate::etcd::EtcdVersion;
use crate::etcd::logs::{says_v2_data_was_found, version_in_version_output};
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What Kubernetes and etcd say of a cluster just now; nothing when there is no such cluster.
///
/// # Errors
/// When the API server does not answer a read.
pub async fn observe(ctx: &Context, namespace: &str, name: &str) -> Result<Option<Observation>, kube::Error> {
    let Some(cluster) = Api::<EtcdCluster>::namespaced(ctx.client.clone(), namespace).get_opt(name).await?
    else {
        return Ok(None);
    };
    let facts = facts_of(cluster);
    ctx.seen(namespace, name, &facts.uid);
    let selected = ListParams::default().labels(&labels::selector_of_cluster(name));
    // While nothing is under way the API server may answer from its cache: a disturbance is decided
    // only with a claim in the status, and then everything is read live.
    let live = selected.clone();
    let in_pods = keeps_data_in_pods(&facts.spec);
    let selected = if facts.status.progress.is_none() && facts.status.cluster_id.is_some() && !in_pods {
        selected.match_any()
    } else {
        selected
    };
    let (pod_api, claim_api) = (api::<Pod>(ctx, namespace), api::<PersistentVolumeClaim>(ctx, namespace));
    let (revision_api, service_api) =
        (api::<ControllerRevision>(ctx, namespace), api::<Service>(ctx, namespace));
    let budget_api = api::<PodDisruptionBudget>(ctx, namespace);
    let (headless_name, client_name, budget_name) =
        (headless_service(name), client_service(name), disruption_budget(name));
    let (pods, claims, revisions, headless, client, budget, default_storage_class) = tokio::try_join!(
        pod_api.list(&selected),
        // By the claims it is judged whether data is lost: never from a cache.
        claim_api.list(&live),
        revision_api.list(&selected),
        service_api.get_opt(&headless_name),
        service_api.get_opt(&client_name),
        budget_api.get_opt(&budget_name),
        default_storage_class(ctx, &facts),
    )?;

    let (probe_pods, pods): (Vec<Pod>, Vec<Pod>) =
        pods.items.into_iter().partition(|pod| is_a(pod, labels::COMPONENT_PROBE));
    let (recovery_pods, member_pods): (Vec<Pod>, Vec<Pod>) =
        pods.into_iter().partition(|pod| is_a(pod, labels::COMPONENT_RECOVERY));
    let (own_revisions, foreign_revisions) = by_owner(&revisions.items, &facts);
    let (aside, in_use): (Vec<_>, Vec<_>) =
        claims.items.into_iter().partition(|claim| facts::set_aside(claim).is_some());
    let mut world = Observation {
        now: now(),
        pods: BTreeMap::new(),
        claims: claims_of(name, &in_use).map(|(member, claim)| (member, facts::claim(claim, name))).collect(),
        set_aside: claims_of(name, &aside)
            .filter_map(|(member, claim)| Some((member, facts::set_aside(claim)?)))
            .collect(),
        revisions: own_revisions,
        foreign_revisions,
        headless: headless.map(Arc::new),
        client: client.map(Arc::new),
        budget,
        secrets: BTreeMap::new(),
        domain: Arc::clone(&ctx.domain),
        recovery: RecoveryFacts { pods: recovery::pods(&recovery_pods, &facts), nodes: None },
        served: BTreeMap::new(),
        probes: probes(ctx, name, namespace, &facts.uid, probe_pods).await,
        answers: BTreeMap::new(),
        zones: BTreeMap::new(),
        nodes_in_trouble: BTreeMap::new(),
        homes: BTreeMap::new(),
        hashes: BTreeMap::new(),
        member_list: None,
        proposal: None,
        downgrade_job: DowngradeJob::Unknown,
        default_storage_class,
        classes: None,
        patience: ctx.patience(&facts.uid),
        releases: ctx.releases.clone(),
        cluster: facts,
    };
    for pod in by_member(name, member_pods.iter().map(|pod| (pod.name_any(), pod))) {
        place(&mut world, pod);
    }
    strangers_under_our_names(ctx, &mut world).await?;
    secrets::secrets(ctx, &mut world).await?;
    let nodes: BTreeSet<String> = world.pods.values().filter_map(|pod| pod.node.clone()).collect();
    let asked = if world.cluster.may_claim_a_member() { nodes.clone() } else { BTreeSet::new() };
    let ((), zones, in_trouble) = tokio::join!(
        ask_members(&ctx.channels, &mut world),
        ctx.nodes.zones(&ctx.client, &nodes),
        ctx.nodes.in_trouble(&ctx.client, &asked)
    );
    world.zones = zones;
    world.nodes_in_trouble = in_trouble;
    world.served = ctx.served(&world);
    recovery::what_it_needs(ctx, &mut world).await;
    world.classes = classes(ctx, &world).await;
    what_keeps_members_away(ctx, &mut world).await;
    starts::look_into_logs(ctx, &mut world).await;
    Ok(Some(world))
}

/// Stored revisions: the cluster's own, and those of others, with whose they are.
fn by_owner(
    revisions: &[ControllerRevision],
    cluster: &ClusterFacts,
) -> (BTreeMap<String, Arc<Revision>>, BTreeMap<String, String>) {
    let mut own_revisions = BTreeMap::new();
    let mut foreign_revisions = BTreeMap::new();
    for object in revisions {
        match Ownership::of_owned(&object.metadata, &cluster.uid, &cluster.name) {
            Ownership::Ours => {
                own_revisions
                    .extend(Revision::from_object(object).map(|own| (own.name.clone(), Arc::new(own))));
            }
            // About to be collected.
            Ownership::EarlierCluster => {}
            Ownership::Foreign(whose) => {
                foreign_revisions.insert(object.name_any(), whose);
            }
        }
    }
    (own_revisions, foreign_revisions)
}

/// Of members that do not answer: where alone their volumes can be used, and what is wrong with those nodes.
async fn what_keeps_members_away(ctx: &Context, world: &mut Observation) {
    let volume_of = |member: &MemberName| Some((world.claims.get(member)?.volume.clone()?, member.clone()));
    let volumes: BTreeMap<String, MemberName> = world.absent().filter_map(volume_of).collect();
    let pods = world.absent().filter_map(|member| world.pods.get(member)?.node.clone());
    let mut nodes: BTreeSet<String> = pods.collect();
    if world.may_defragment() {
        nodes.extend(world.pods.values().filter_map(|pod| pod.node.clone()));
    }
    let homes = ctx.nodes.homes(&ctx.client, &volumes.keys().cloned().collect()).await;
    world.homes =
        homes.into_iter().filter_map(|(volume, node)| Some((volumes.get(&volume)?.clone(), node))).collect();
    let in_pods = world.homes_in_pods();
    world.homes.extend(in_pods);
    nodes.extend(world.homes.values().cloned());
    nodes.extend(world.recovery.pods.iter().filter_map(|pod| pod.facts.node.clone()));
    world.nodes_in_trouble.extend(ctx.nodes.in_trouble(&ctx.client, &nodes).await);
}

fn api<K>(ctx: &Context, namespace: &str) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(ctx.client.clone(), namespace)
}

#[allow(clippy::disallowed_methods, reason = "time enters the loop here, as a field of the observation")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

fn facts_of(cluster: EtcdCluster) -> ClusterFacts {
    let metadata = cluster.metadata;
    let mut annotations = metadata.annotations.unwrap_or_default();
    ClusterFacts {
        namespace: metadata.namespace.unwrap_or_default(),
        name: metadata.name.unwrap_or_default(),
        uid: metadata.uid.unwrap_or_default(),
        generation: metadata.generation.unwrap_or_default(),
        resource_version: metadata.resource_version.unwrap_or_default(),
        deleting: metadata.deletion_timestamp.is_some(),
        finalizer: metadata.finalizers.iter().flatten().any(|name| name == labels::FINALIZER),
        approve: annotations.remove(labels::APPROVE),
        replace: annotations.remove(labels::REPLACE),
        spec: cluster.spec,
        status: cluster.status.unwrap_or_default(),
    }
}

fn is_a(pod: &Pod, component: &str) -> bool {
    pod.labels().get(labels::COMPONENT).is_some_and(|label| label == component)
}

/// A Pod under a member's name: one that runs, or will; and what its member keeps its data in, where that is so.
fn place(world: &mut Observation, (member, pod): (MemberName, &Pod)) {
    let claim = facts::claim_in(pod, &world.cluster);
    if claim.is_none() || !is_not_yet(pod) {
        world.pods.insert(member.clone(), facts::pod(pod, &world.cluster));
    }
    world.claims.extend(claim.map(|claim| (member, claim)));
}

fn by_member<T>(cluster: &str, items: impl Iterator<Item = (String, T)>) -> BTreeMap<MemberName, T> {
    items.filter_map(|(name, item)| Some((MemberName::parse(cluster, &name)?, item))).collect()
}

fn claims_of<'a>(
    cluster: &str,
    claims: &'a [PersistentVolumeClaim],
) -> impl Iterator<Item = (MemberName, &'a PersistentVolumeClaim)> {
    let member =
        |claim: &PersistentVolumeClaim| MemberName::parse(cluster, claim.name_any().strip_prefix("data-")?);
    claims.iter().filter_map(move |claim| Some((member(claim)?, claim)))
}

/// A Pod or claim under a name that we need, without our labels, is found by its name only.
async fn strangers_under_our_names(ctx: &Context, world: &mut Observation) -> Result<(), kube::Error> {
    let cluster = &world.cluster;
    let joins = cluster.status.progress.as_ref().filter(|progress| progress.action == Action::AddMember);
    let joins = joins.and_then(|progress| MemberName::parse(&cluster.name, &progress.member));
    let expected: Vec<MemberName> = match (&cluster.status.cluster_id, &cluster.status.bootstrap) {
        // Claims that have lost their labels are found by the names of those who vote.
        (Some(_), _) => {
            let noted = world.claims.values().filter_map(|claim| claim.voters.as_ref());
            let voters = noted.flat_map(|voters| voters.keys());
            // Where nothing has its labels any more, the status remembers who was there.
            let rows = cluster.status.members.iter();
            let shown = rows.filter_map(|row| MemberName::parse(&cluster.name, &row.name));
            let known = world.claims.keys().chain(voters).cloned().chain(joins);
            let named: BTreeSet<_> = known.chain(shown).collect();
            named.into_iter().filter(|member| !world.set_aside.contains_key(member)).collect()
        }
        (None, Some(bootstrap)) => bootstrap_members(&cluster.name, bootstrap),
        (None, None) => first_members(&cluster.name, cluster.spec.replicas.clamp(0, 7).unsigned_abs()),
    };
    let in_pods = keeps_data_in_pods(&cluster.spec);
    let pods = api::<Pod>(ctx, &cluster.namespace);
    let claims = api::<PersistentVolumeClaim>(ctx, &cluster.namespace);
    for member in expected {
        if !world.pods.contains_key(&member)
            && let Some(pod) = pods.get_opt(&member.to_string()).await?
        {
            place(world, (member.clone(), &pod));
        }
        if !in_pods
            && !world.claims.contains_key(&member)
            && let Some(claim) = claims.get_opt(&member.claim()).await?
        {
            world.claims.insert(member, facts::claim(&claim, &world.cluster.name));
        }
    }
    Ok(())
}

async fn probes(
    ctx: &Context,
    cluster: &str,
    namespace: &str,
    cluster_uid: &str,
    pods: Vec<Pod>,
) -> Vec<ProbeFacts> {
    let mut probes = Vec::new();
    for pod in pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let uid = pod.uid().unwrap_or_default();
        let status = facts::container(&pod);
        let tries = probe::tries(&pod, cluster);
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let state = match phase {
            Some("Succeeded") if tries != Tries::Image => ProbeState::FoundNothing,
            // A log that cannot be read just now says nothing yet.
            Some("Succeeded") => match said(ctx, namespace, cluster_uid, &pod, &uid).await {
                Some(said) => ProbeState::Said(said),
                None => ProbeState::Running(None),
            },
            Some("Failed") => match status.exit_code {
                Some(code) => {
                    let words = status.last_words.as_deref().unwrap_or("no output").trim();
                    let reason = facts::why_ended(&pod).map(|why| format!(", {why}")).unwrap_or_default();
                    if tries != Tries::Image && says_v2_data_was_found(words) {
                        ProbeState::Found(words.to_owned())
                    } else {
                        ProbeState::Failed(format!("exit code {code}{reason}: {words}"))
                    }
                }
                None => ProbeState::Rejected(facts::why_rejected(&pod)),
            },
            _ => ProbeState::Running(status.waiting.filter(|(reason, _)| reason != "ContainerCreating")),
        };
        probes.push(ProbeFacts {
            pod: pod.name_any(),
            uid,
            node: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
            revision: pod.annotations().get(labels::REVISION).cloned().unwrap_or_default(),
            tries,
            state,
        });
    }
    probes
}

/// What a probe said, read once: nothing where its log cannot be read, or nothing in it is a version.
async fn said(
    ctx: &Context,
    namespace: &str,
    cluster_uid: &str,
    pod: &Pod,
    uid: &str,
) -> Option<Option<EtcdVersion>> {
    if let Some(said) = ctx.probe_said(cluster_uid, uid) {
        return Some(said);
    }
    let log = api::<Pod>(ctx, namespace).logs(&pod.name_any(), &LogParams::default()).await.ok()?;
    let said = version_in_version_output(&log);
    ctx.keep_probe(cluster_uid, uid, said);
    Some(said)
}
