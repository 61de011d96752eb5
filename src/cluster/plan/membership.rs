//! etcd's member list, read as members of this cluster. It is the registry: what the claims note of it follows, whoever
//! changed it. Somebody else's entry is for a person.

use super::heal;
use super::join;
use super::pods;
use super::roll::next_to_mend;
use super::step::{Next, Step};
use super::view::View;
use crate::api::Action;
use crate::cluster::names::MemberName;
use crate::cluster::objects::container::peer_url;
use crate::cluster::observation::{ClaimFacts, Ownership};
use crate::etcd::{ListedMember, MemberId};
use std::collections::BTreeMap;

impl<'a> View<'a> {
    /// The member that an entry of the list stands for: by its peer URL, which it has from the beginning. Its name it
    /// publishes when it has started. Nothing where that is none of this cluster's.
    pub fn member_of(&self, listed: &ListedMember) -> Option<MemberName> {
        let cluster = &self.world.cluster;
        let [url] = &listed.peer_urls[..] else { return None };
        let host = url.split_once("://")?.1.split(['.', ':']).next()?;
        let member = self
            .parse_member(host)
            .filter(|member| *url == peer_url(self.world.wire(), &member.host(&cluster.namespace)))?;
        (listed.name.is_empty() || listed.name == member.to_string()).then_some(member)
    }

    /// A member's entry in the list; nothing where it has none, or nobody could give the list.
    pub fn listed(&self, member: &MemberName) -> Option<&'a ListedMember> {
        let list = self.world.member_list.as_ref()?;
        list.iter().find(|listed| self.member_of(listed).as_ref() == Some(member))
    }

    /// The learner in the list that is of this cluster.
    pub fn learner(&self) -> Option<(MemberName, MemberId)> {
        let mut learners = self.world.member_list.iter().flatten().filter(|listed| listed.is_learner);
        learners.find_map(|listed| Some((self.member_of(listed)?, listed.id)))
    }

    /// The voters in the list; nothing where nobody could give it, or somebody is in it who is not of this cluster.
    fn listed_voters(&self) -> Option<BTreeMap<MemberName, MemberId>> {
        let list = self.world.member_list.as_ref()?;
        let voters = list.iter().filter(|listed| !listed.is_learner);
        let voters: BTreeMap<_, _> =
            voters.map(|listed| Some((self.member_of(listed)?, listed.id))).collect::<Option<_>>()?;
        (!voters.is_empty()).then_some(voters)
    }

    /// The highest number that a member ever had, as far as anything tells.
    fn last_number(&self) -> u32 {
        let world = self.world;
        let listed = world.member_list.iter().flatten().filter_map(|listed| self.member_of(listed));
        let known = world.claims.keys().chain(self.voters().keys()).chain(world.set_aside.keys());
        let known = known.chain(world.pods.keys()).cloned().chain(listed);
        let known = known.map(|member| member.number()).max();
        let noted = world.cluster.status.last_member_number.and_then(|number| u32::try_from(number).ok());
        let on_claims = world.claims.values().filter_map(|claim| claim.last_number).max();
        known.max(noted).max(on_claims).unwrap_or_default()
    }

    /// One that has a number which no member ever had.
    pub fn next_member(&self) -> MemberName {
        MemberName::new(&self.world.cluster.name, self.last_number() + 1)
    }
}

/// The claims say who votes as etcd says it: by that a member has its Pod, and a new EtcdCluster finds its way.
pub(super) fn who_votes(view: &View<'_>) -> Option<Next> {
    let cluster_id = view.cluster_id()?;
    let voters = view.listed_voters()?;
    let has_another_id = |(member, id): (&MemberName, &MemberId)| {
        view.claim_of(member).and_then(|claim| claim.member_id).is_some_and(|noted| noted != *id)
    };
    if voters.iter().any(has_another_id) {
        // Somebody made a member anew under this name: whose data its volume holds is for a person to say.
        return None;
    }
    let last_number = view.last_number();
    let is_old_news = view.world.claims.iter().filter(|(_, claim)| claim.cluster_id == Some(cluster_id)).all(
        |(member, claim)| {
            let id = voters.get(member);
            claim.voters.as_ref() == Some(&voters)
                && claim.last_number == Some(last_number)
                && (id.is_none() || claim.member_id.as_ref() == id)
        },
    );
    (!is_old_news).then_some(Next::Do(Step::NoteVoters { cluster_id, voters, last_number }))
}

/// A member that votes is one for clients, and one that the disruption budget counts, which says so by now.
pub(super) fn a_voter_that_is_labelled_a_learner(view: &View<'_>) -> Option<Next> {
    view.cluster_id()?;
    let (member, pod) = view
        .members()
        .iter()
        .find_map(|member| Some((member, view.pod(member).filter(|pod| pod.learner && !pod.deleting)?)))?;
    Some(Next::Do(Step::LabelVoter { member: member.clone(), uid: pod.uid.clone() }))
}

/// A learner that nobody has claimed was left by an interrupted change: it is finished or removed, whichever leads to
/// the spec.
pub(super) fn a_learner_left_behind(view: &View<'_>) -> Option<Next> {
    view.cluster_id()?;
    let (member, _) = view.learner().filter(|_| next_to_mend(view).is_none())?;
    let wanted = heal::wants_another(view);
    let assigned = view.claim_of(&member).and_then(|claim| claim.assigned.clone());
    let (action, revision) = match assigned.filter(|_| wanted) {
        Some(revision) => (Action::AddMember, revision),
        None => (Action::RemoveMember, String::new()),
    };
    Some(view.claim_change(action, &member, revision, None))
}

/// A member whose volume was made and that was never added, because something else came first.
pub(super) fn begun_and_left(view: &View<'_>) -> Option<MemberName> {
    let is_unused = |claim: &ClaimFacts| {
        let is_assigned = claim.assigned.as_ref().is_some_and(|name| view.world.revisions.contains_key(name));
        is_assigned && !join::has_been_used(claim) && !claim.deleting
    };
    let found = view.own_claims().find(|(member, claim)| {
        is_unused(claim) && !view.voters().contains_key(*member) && view.pod(member).is_none()
    });
    found.map(|(member, _)| member.clone())
}

/// What is left of a member that is not in the list and that nobody has claimed, e.g. because somebody else removed it:
/// its Pod goes, its volume is kept.
pub(super) fn what_is_of_no_member(view: &View<'_>) -> Option<Next> {
    view.cluster_id()?;
    view.listed_voters()?;
    let is_of_none =
        |member: &MemberName| view.listed(member).is_none() && !view.voters().contains_key(member);
    let mut pods = view.world.pods.iter();
    let pod =
        pods.find(|(member, pod)| pod.ownership == Ownership::Ours && !pod.deleting && is_of_none(member));
    if let Some((member, pod)) = pod {
        return Some(Next::Do(Step::remove(member, pod, "it is of no member")));
    }
    let kept_for_later = begun_and_left(view).filter(|_| heal::wants_another(view));
    let claim = view.own_claims().find(|(member, claim)| {
        !claim.deleting && is_of_none(member) && kept_for_later.as_ref() != Some(*member)
    });
    claim.map(|(member, claim)| {
        Next::Do(if claim.in_pod {
            pods::discard(member, claim)
        } else {
            Step::SetAside { member: member.clone(), quarantined: false }
        })
    })
}
