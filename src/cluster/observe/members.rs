//! Asks every member, in parallel. Each call has a limit of its own, so one that is cut off delays the
//! observation by that limit and no more.

use crate::cluster::context::Context;
use crate::cluster::names::MemberName;
use crate::cluster::observation::{Answer, Observation, Ownership, PodFacts};
use crate::etcd::{Endpoint, ListedMember, MemberClient, Minor};
use futures::future::join_all;

/// Fills in what the members say.
pub(super) async fn ask(ctx: &Context, world: &mut Observation) {
    let scope = world.cluster.uid.clone();
    let live: Vec<&str> = world.pods.values().map(|pod| pod.uid.as_str()).collect();
    ctx.channels.keep_only(&scope, &live);
    let clients: Vec<(MemberName, MemberClient)> = world
        .pods
        .iter()
        .filter(|(_, pod)| pod.ownership == Ownership::Ours && !pod.ended)
        .filter_map(|(member, pod)| Some((member.clone(), client(ctx, world, member, pod)?)))
        .collect();
    world.answers = join_all(clients.iter().map(|(member, client)| async {
        let (status, versions, read) = tokio::join!(client.status(), client.versions(), client.read());
        let versions = versions.ok();
        let answer = Answer {
            status: status.map_err(|error| error.to_string()),
            cluster_version: versions
                .as_ref()
                .and_then(|versions| versions.cluster)
                .filter(|version| *version != Minor::UNDECIDED),
            storage_version: versions.and_then(|versions| versions.storage),
            read: read.map_err(|error| error.to_string()),
            snapshots: None,
        };
        (member.clone(), answer)
    }))
    .await
    .into_iter()
    .collect();

    if world.needs_snapshot_counts() {
        let counts = join_all(clients.iter().map(|(_, client)| client.snapshots())).await;
        for ((member, _), count) in clients.iter().zip(counts) {
            if let Some(answer) = world.answers.get_mut(member) {
                answer.snapshots = count.ok();
            }
        }
    }
    let readers: Vec<&(MemberName, MemberClient)> =
        clients.iter().filter(|(member, _)| is_witness(world, member)).collect();
    world.member_list = member_list(&readers).await;
    if is_about_to_stop_a_member(world) {
        world.proposal = Some(match readers.first() {
            Some((_, client)) => client.commit_probe().await.map_err(|error| error.to_string()),
            None => Err("no member answers a linearizable read".to_owned()),
        });
    }
}

/// Whether what a member says of the cluster counts: it serves a linearizable read as itself, and is not
/// on its way out. An address may belong to somebody else by now.
fn is_witness(world: &Observation, member: &MemberName) -> bool {
    let Some(answer) = world.answers.get(member) else { return false };
    let Ok(status) = &answer.status else { return false };
    let known = world.claims.get(member).and_then(|claim| claim.member_id);
    let cluster = world.cluster.status.cluster_id.as_ref();
    answer.read.is_ok()
        && known.is_none_or(|id| id == status.member_id)
        && cluster.is_none_or(|id| *id == status.cluster_id.to_string())
        && world.pods.get(member).is_some_and(|pod| !pod.deleting)
}

/// Where a member's Pod answers.
pub(in crate::cluster) fn client(
    ctx: &Context,
    world: &Observation,
    member: &MemberName,
    pod: &PodFacts,
) -> Option<MemberClient> {
    let endpoint = Endpoint {
        pod_uid: pod.uid.clone(),
        ip: pod.ip?,
        server_name: member.host(&world.cluster.namespace),
    };
    Some(ctx.channels.member(&world.cluster.uid, &endpoint))
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
