//! What etcd says of its members, noted on their claims: by it a new EtcdCluster finds its way when
//! this one and its status are gone. Notes are hints; etcd's answers decide.

use super::step::{Next, Step};
use super::view::View;
use crate::cluster::names::MemberName;
use crate::etcd::EtcdVersion;
use std::collections::BTreeMap;

pub(super) fn what_etcd_says_of_members(view: &View<'_>) -> Option<Next> {
    let claimed = view.claimed().map(|(_, member)| member);
    note(view, |member| Some(member) != claimed.as_ref())
}

/// Notes the version and the revision of members that are up, where the claims say something else.
pub(super) fn note(view: &View<'_>, of: impl Fn(&MemberName) -> bool) -> Option<Next> {
    let cluster_id = view.cluster_id()?;
    let mut opened: BTreeMap<MemberName, EtcdVersion> = BTreeMap::new();
    let mut good = BTreeMap::new();
    for (member, up) in view.up_members().into_iter().filter(|(member, _)| of(member)) {
        let (Some(claim), Some(pod)) = (view.claim_of(&member), view.pod(&member)) else { continue };
        if claim.opened != Some(up.status.version) || claim.good.as_deref() != Some(&pod.revision) {
            opened.insert(member.clone(), up.status.version);
            good.insert(member, pod.revision.clone());
        }
    }
    (!opened.is_empty())
        .then(|| Next::Do(Step::NoteMembers { cluster_id, voters: view.voters().clone(), opened, good }))
}
