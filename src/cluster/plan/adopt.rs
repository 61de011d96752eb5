//! A cluster whose status knows no id, while its volumes do: the EtcdCluster was deleted and made
//! again, or the status was lost. One way for both: the claims say which cluster it is.

use super::step::{Next, Record, Step};
use super::view::{View, quorum};
use super::volumes;
use crate::api::{Code, labels};
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::etcd::{ClusterId, MemberId};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn volumes_of_an_earlier_cluster(view: &View<'_>) -> Option<Next> {
    match earlier(view)? {
        Ok((cluster_id, voters)) => Some(Next::Do(Step::Record(Record::Adopted {
            cluster_id,
            last_member_number: voters
                .keys()
                .chain(view.world.claims.keys())
                .chain(view.world.set_aside.keys())
                .map(MemberName::number)
                .chain(view.world.claims.values().filter_map(|claim| claim.last_number))
                .max()
                .unwrap_or_default(),
        }))),
        Err(_) => Some(Next::Refused),
    }
}

pub(super) fn refusals(view: &View<'_>) -> Option<Notice> {
    earlier(view)?.err()
}

/// An earlier cluster and its voters.
type Earlier = (ClusterId, BTreeMap<MemberName, MemberId>);

/// The cluster that the volumes belong to: nothing when there is none, or one that is only forming.
fn earlier(view: &View<'_>) -> Option<Result<Earlier, Notice>> {
    let claims = &view.world.claims;
    // A bootstrap, in the status or on a claim, says that the cluster is still forming.
    let forming = view.world.cluster.status.bootstrap.is_some()
        || claims.values().any(|claim| claim.bootstrap.is_some());
    if view.cluster_id().is_some() || forming {
        return None;
    }
    let ids: BTreeSet<ClusterId> = claims.values().filter_map(|claim| claim.cluster_id).collect();
    let first = *ids.first()?;
    if let Some(notice) = volumes::of_another_kind(view) {
        return Some(Err(notice));
    }
    if ids.len() > 1 {
        let list: Vec<String> = claims
            .iter()
            .filter_map(|(member, claim)| Some(format!("{} of {}", member.claim(), claim.cluster_id?)))
            .collect();
        return Some(Err(Notice::of(
            Code::VolumesDisagree,
            format!("volumes of different clusters: {}", list.join(", ")),
        )));
    }
    let lists: Vec<_> = claims.values().filter_map(|claim| claim.voters.clone()).collect();
    // Members come and go one at a time, and their claims hear of it one after the other. To start one that is none
    // any more is harmless: the others turn it away.
    let voters = lists.iter().max_by_key(|list| list.len()).cloned().unwrap_or_default();
    let is_within = |list: &BTreeMap<MemberName, MemberId>| {
        list.len() + 1 >= voters.len() && list.iter().all(|(member, id)| voters.get(member) == Some(id))
    };
    if voters.is_empty() || !lists.iter().all(is_within) {
        return Some(Err(Notice::of(
            Code::VolumesDisagree,
            "the volumes do not agree on who the voters were".to_owned(),
        )));
    }
    let missing: Vec<String> = voters
        .iter()
        .filter(|(member, id)| claims.get(*member).and_then(|claim| claim.member_id) != Some(**id))
        .map(|(member, _)| member.claim())
        .collect();
    let present = voters.len() - missing.len();
    if present < quorum(voters.len()) {
        let aside: Vec<String> = voters
            .keys()
            .filter(|member| view.world.set_aside.contains_key(*member))
            .map(MemberName::claim)
            .collect();
        let remedy = if aside.is_empty() {
            "bring the missing volume claims back under their names, or give the EtcdCluster another name"
                .to_owned()
        } else {
            // A recovery was begun, and nothing was forced: else the volumes would say who is left.
            format!(
                "a recovery has set them aside and did not come to its end; take them back: kubectl label pvc -n {} {} {}-",
                view.world.cluster.namespace,
                aside.join(" "),
                labels::SET_ASIDE
            )
        };
        return Some(Err(Notice::new(
            Code::VolumesIncomplete,
            format!(
                "the earlier cluster {first} had {} voters, and only {present} of their volumes are here (missing: {})",
                voters.len(),
                missing.join(", ")
            ),
            remedy,
        )));
    }
    Some(Ok((first, voters)))
}
