//! A cluster whose status knows no id, while its volumes do: the EtcdCluster was deleted and made
//! again, or the status was lost. One way for both: the claims say which cluster it is.

use super::step::{Next, Record, Step};
use super::view::{View, quorum};
use crate::api::Code;
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::etcd::{ClusterId, MemberId};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn volumes_of_an_earlier_cluster(view: &View<'_>) -> Option<Next> {
    match earlier(view)? {
        Ok((cluster_id, voters)) => Some(Next::Do(Step::Record(Record::Adopted {
            cluster_id,
            last_member_number: voters.keys().map(MemberName::number).max().unwrap_or_default(),
        }))),
        Err(_) => Some(Next::Refused),
    }
}

pub(super) fn refusals(view: &View<'_>) -> Option<Notice> {
    earlier(view)?.err()
}

/// The cluster that the volumes belong to: nothing when there is none, or one that is only forming.
fn earlier(view: &View<'_>) -> Option<Result<(ClusterId, BTreeMap<MemberName, MemberId>), Notice>> {
    let claims = &view.world.claims;
    // A bootstrap on record says that the cluster was never recorded as formed: it is not earlier, but
    // the one that is forming, even when the last of its claims was noted just now.
    if view.cluster_id().is_some()
        || view.world.cluster.status.bootstrap.is_some()
        || claims.values().any(|claim| claim.bootstrap.is_some())
    {
        return None;
    }
    let ids: BTreeSet<ClusterId> = claims.values().filter_map(|claim| claim.cluster_id).collect();
    let first = *ids.first()?;
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
    let voters = lists.first().cloned().unwrap_or_default();
    if voters.is_empty() || lists.iter().any(|list| *list != voters) {
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
        return Some(Err(Notice::new(
            Code::VolumesIncomplete,
            format!(
                "the earlier cluster {first} had {} voters, and only {present} of their volumes are here (missing: {})",
                voters.len(),
                missing.join(", ")
            ),
            "bring the missing volume claims back under their names, or give the EtcdCluster another name",
        )));
    }
    Some(Ok((first, voters)))
}
