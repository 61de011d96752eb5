//! Asks every member, in parallel. Each call has a limit of its own, so one that is cut off delays the
//! observation by that limit and no more.

use crate::cluster::names::{MemberName, peer_secret};
use crate::cluster::observation::{Alone, Answer, DowngradeJob, Observation, Ownership, PodFacts, Presented};
use crate::etcd::{Channels, Endpoint, EtcdError, ListedMember, MemberClient, Minor};
use crate::pki::Certificate;
use futures::future::join_all;

/// Fills in what the members say.
pub async fn ask_members(channels: &Channels, world: &mut Observation) {
    let scope = world.cluster.uid.clone();
    let forced = world.recovery.pods.iter().map(|pod| &pod.facts);
    let live: Vec<&str> = world.pods.values().chain(forced).map(|pod| pod.uid.as_str()).collect();
    channels.keep_only(&scope, &live);
    let clients: Vec<(MemberName, MemberClient)> = world
        .pods
        .iter()
        .filter(|(_, pod)| pod.ownership == Ownership::Ours && !pod.ended)
        .filter_map(|(member, pod)| Some((member.clone(), client_of(channels, world, member, pod)?)))
        .collect();
    world.answers = join_all(clients.iter().map(|(member, client)| async {
        let (status, versions, read) =
            tokio::join!(client.status(), client.versions_and_certificate(), client.read());
        let (versions, certificate) = versions.ok().unzip();
        let to_clients = certificate.flatten().and_then(|der| Certificate::presented(&der));
        let answer = Answer {
            status: status.map_err(|error| error.to_string()),
            cluster_version: versions
                .as_ref()
                .and_then(|versions| versions.cluster)
                .filter(|version| *version != Minor::UNDECIDED),
            storage_version: versions.and_then(|versions| versions.storage),
            read: read.map_err(|error| error.to_string()),
            standstill: None,
            snapshots: None,
            presented: Presented { to_clients, to_peers: None },
        };
        (member.clone(), answer)
    }))
    .await
    .into_iter()
    .collect();

    what_peers_are_shown(world, &clients).await;
    if world.lacks_a_quorum() {
        // Who has found no quorum since its start serves nobody.
        let silent = clients.iter().filter(|(member, _)| world.answers[member].status.is_err());
        let told =
            join_all(silent.map(|(member, client)| async move { (member, client.standstill().await.ok()) }));
        for (member, standstill) in told.await {
            if let Some(answer) = world.answers.get_mut(member) {
                answer.standstill = standstill;
            }
        }
    }
    if world.needs_snapshot_counts() {
        let counts = join_all(clients.iter().map(|(_, client)| client.snapshots())).await;
        for ((member, _), count) in clients.iter().zip(counts) {
            if let Some(answer) = world.answers.get_mut(member) {
                answer.snapshots = count.ok();
            }
        }
    }
    if let Some(revision) = world.revision_to_hash_at() {
        let witnesses: Vec<_> = clients.iter().filter(|(member, _)| world.is_witness(member)).collect();
        let hashes = join_all(witnesses.iter().map(|(member, client)| {
            let run = world.pods.get(member).map(|pod| pod.container.restarts).unwrap_or_default();
            client.hash_kv(revision, run)
        }))
        .await;
        let of_each = witnesses.into_iter().zip(hashes);
        world.hashes = of_each.filter_map(|((member, _), hash)| Some((member.clone(), hash.ok()?))).collect();
    }
    let readers: Vec<&(MemberName, MemberClient)> =
        clients.iter().filter(|(member, _)| world.is_witness(member)).collect();
    let (list, job) = tokio::join!(member_list(&readers), downgrade_job(world, &readers));
    (world.member_list, world.downgrade_job) = (list, job);
    if is_about_to_stop_a_member(world) || world.a_learner_may_wait_for_an_entry() {
        world.proposal = Some(match readers.first() {
            Some((_, client)) => client.commit_probe().await.map_err(|error| error.to_string()),
            None => Err("no member answers a linearizable read".to_owned()),
        });
    }
}

/// Which certificate each member shows to the others, where it has one in a Secret.
async fn what_peers_are_shown(world: &mut Observation, clients: &[(MemberName, MemberClient)]) {
    let held = |member: &MemberName| {
        let secret = world.secrets.get(&peer_secret(member))?;
        Some(secret.pair.as_ref().ok()?.leaf()?.der().clone())
    };
    let answers = |member: &MemberName| world.answers.get(member)?.status();
    let asked = clients
        .iter()
        .filter_map(|(member, client)| answers(member).and(Some((member, client, held(member)?))));
    let shown = join_all(asked.map(async |(member, client, held)| {
        (member, client.peer_certificate(|der| *held == *der).await.ok().flatten())
    }));
    for (member, der) in shown.await {
        if let Some(answer) = world.answers.get_mut(member) {
            answer.presented.to_peers = der.and_then(|der| Certificate::presented(&der));
        }
    }
}

async fn downgrade_job(world: &Observation, readers: &[&(MemberName, MemberClient)]) -> DowngradeJob {
    if let Some(told) = world.downgrade_job_by_status() {
        return told;
    }
    let Some(version) = world.witnessed_cluster_version() else { return DowngradeJob::Unknown };
    for (_, client) in readers {
        match client.has_downgrade_job(version).await {
            Ok(true) => return DowngradeJob::Somewhere,
            Ok(false) => return DowngradeJob::Absent,
            Err(_) => {}
        }
    }
    DowngradeJob::Unknown
}

/// Where a member's Pod answers.
pub fn client_of(
    channels: &Channels,
    world: &Observation,
    member: &MemberName,
    pod: &PodFacts,
) -> Option<MemberClient> {
    let endpoint = Endpoint {
        pod_uid: pod.uid.clone(),
        ip: pod.ip?,
        server_name: member.host(&world.cluster.namespace),
    };
    Some(channels.member(&world.cluster.uid, &endpoint))
}

/// What a member says that runs in a Pod of a recovery.
///
/// # Errors
/// While it does not answer, or serves no linearizable read.
pub async fn alone(client: &MemberClient) -> Result<Alone, EtcdError> {
    Ok(Alone { status: client.status().await?, list: client.member_list().await? })
}

async fn member_list(readers: &[&(MemberName, MemberClient)]) -> Option<Vec<ListedMember>> {
    for (_, client) in readers {
        if let Ok(list) = client.member_list().await {
            return Some(list);
        }
    }
    None
}

/// A member is claimed, its Pod still stands and may be evicted: a proposal must commit before it goes. It
/// costs a raft entry, so it is not asked at other times.
fn is_about_to_stop_a_member(world: &Observation) -> bool {
    let Some(progress) = &world.cluster.status.progress else { return false };
    let status = world.budget.as_ref().and_then(|budget| budget.status.as_ref());
    let allowed = status.is_some_and(|status| status.disruptions_allowed > 0);
    world
        .pods
        .values()
        .any(|pod| Some(&pod.uid) == progress.pod_uid.as_ref() && !pod.deleting && (allowed || !pod.ready))
}
