//! Objects of the names that the cluster needs, when they belong to somebody else: never adopted by
//! force, never overwritten.

use super::step::Next;
use super::view::View;
use crate::api::Code;
use crate::cluster::names::{client_service, disruption_budget, headless_service};
use crate::cluster::notice::Notice;
use crate::cluster::observation::Ownership;
use crate::cluster::spec::keeps_data_in_pods;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub(super) fn nothing_belongs_to_others(view: &View<'_>) -> Option<Next> {
    if !refusals(view).is_empty() {
        return Some(Next::Refused);
    }
    let world = view.world;
    let services = [&world.headless, &world.client].into_iter().flatten().map(|service| &service.metadata);
    let earlier = world
        .pods
        .iter()
        .filter(|(_, pod)| pod.ownership == Ownership::EarlierCluster)
        .map(|(member, _)| format!("the Pod {member}"))
        .chain(
            services
                .chain(world.budget.as_ref().map(|budget| &budget.metadata))
                .filter(|metadata| {
                    Ownership::of_owned(metadata, &world.cluster.uid, &world.cluster.name)
                        == Ownership::EarlierCluster
                })
                .map(|metadata| format!("the object {}", metadata.name.as_deref().unwrap_or_default())),
        )
        .next()?;
    Some(view.wait_for(
        Notice::of(
            Code::PreviousClusterTerminating,
            format!("{earlier} belongs to an earlier EtcdCluster of this name and is not gone yet"),
        ),
        None,
    ))
}

pub(super) fn refusals(view: &View<'_>) -> Vec<Notice> {
    let world = view.world;
    let cluster = &world.cluster;
    let mut found = Vec::new();
    let mut foreign = |kind: &str, name: &str, owner: &str| {
        // Never a command that deletes a claim: it may hold somebody's data.
        let remedy = if kind == "PersistentVolumeClaim" {
            "give the EtcdCluster another name".to_owned()
        } else if kind == "Pod" && keeps_data_in_pods(&cluster.spec) {
            "give the EtcdCluster another name, or, if nothing of the data that it may keep is needed, remove it".to_owned()
        } else {
            format!(
                "give the EtcdCluster another name, or remove it: kubectl -n {} delete {} {name}",
                cluster.namespace,
                kind.to_lowercase()
            )
        };
        let message = format!("this cluster needs the name of the {kind} {name}, which {owner}");
        found.push(Notice::new(Code::ForeignObject, message, remedy));
    };
    for (member, pod) in &world.pods {
        if let Ownership::Foreign(owner) = &pod.ownership {
            foreign("Pod", &member.to_string(), owner);
        }
    }
    for (member, claim) in &world.claims {
        if let Ownership::Foreign(owner) = &claim.ownership {
            foreign("PersistentVolumeClaim", &member.claim(), owner);
        }
    }
    let services = [
        (headless_service(&cluster.name), world.headless.as_ref().map(|service| &service.metadata)),
        (client_service(&cluster.name), world.client.as_ref().map(|service| &service.metadata)),
    ];
    for (name, metadata) in services {
        if let Some(owner) =
            metadata.and_then(|metadata| foreign_owner(metadata, &cluster.uid, &cluster.name))
        {
            foreign("Service", &name, &owner);
        }
    }
    let budget = world.budget.as_ref().map(|budget| &budget.metadata);
    if let Some(owner) = budget.and_then(|metadata| foreign_owner(metadata, &cluster.uid, &cluster.name)) {
        foreign("PodDisruptionBudget", &disruption_budget(&cluster.name), &owner);
    }
    for (name, owner) in &world.foreign_revisions {
        foreign("ControllerRevision", name, owner);
    }
    found
}

fn foreign_owner(metadata: &ObjectMeta, uid: &str, cluster: &str) -> Option<String> {
    match Ownership::of_owned(metadata, uid, cluster) {
        Ownership::Foreign(owner) => Some(owner),
        Ownership::Ours | Ownership::EarlierCluster => None,
    }
}
