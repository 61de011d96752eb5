//! What must be true before etcd's member list is changed, and what the list should be.

use super::{CLOSE, agree_on_a_leader, close_to_the_leader, no_data_differs, of_all_members};
use crate::api::Code;
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::objects::container::peer_url;
use crate::cluster::observation::DowngradeJob;
use crate::cluster::plan::corrupt;
use crate::cluster::plan::resize::is_broken;
use crate::cluster::plan::up::Up;
use crate::cluster::plan::view::{View, quorum};
use crate::etcd::{ListedMember, MemberId, MemberStatus};

/// The removal of a member from etcd's list. It can be built in this file only, from the proof that the others hold
/// quorum when it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    member: MemberName,
    id: MemberId,
    through: MemberName,
    takes_nothing_away: bool,
}

impl Removal {
    /// Who.
    pub const fn member(&self) -> &MemberName {
        &self.member
    }

    /// Its id.
    pub const fn id(&self) -> MemberId {
        self.id
    }

    /// Whether it is broken anyway, or has no vote, so that it may go while others are away.
    pub const fn takes_nothing_away(&self) -> bool {
        self.takes_nothing_away
    }

    /// Through whom: the leader.
    pub const fn through(&self) -> &MemberName {
        &self.through
    }
}

/// What a new member needs before it is added: the others are all up and agree, and no downgrade job is enabled, under
/// which no member with an empty directory joins (measured, on either version).
///
/// # Errors
/// The first thing that is not as it must be.
pub(in super::super) fn of_a_new_member(view: &View<'_>) -> Result<(), Notice> {
    if corrupt::is_set(view) {
        return Err(Notice::of(Code::Corrupt, "no member is added while members' data differ (CORRUPT)"));
    }
    no_downgrade_job(view)?;
    of_all_members(view)
}

fn no_downgrade_job(view: &View<'_>) -> Result<(), Notice> {
    let (code, message) = match view.world.downgrade_job {
        DowngradeJob::Absent => return Ok(()),
        DowngradeJob::Unknown => (Code::QuorumUnproven, "no member says whether a downgrade job is enabled"),
        DowngradeJob::To(_) | DowngradeJob::Somewhere => {
            (Code::DowngradePending, "members are neither added nor removed while a downgrade job is enabled")
        }
    };
    Err(Notice::of(code, message))
}

/// What a learner needs before it gets its vote: it is in sync, and with it the voters that are up hold quorum. etcd asks
/// for nine tenths of the leader's entries; this asks for all but a few.
///
/// # Errors
/// The first thing that is not as it must be.
pub(in super::super) fn of_a_promotion(
    view: &View<'_>,
    member: &MemberName,
    status: &MemberStatus,
) -> Result<(), Notice> {
    no_data_differs(view, member)?;
    let ups: Vec<Up<'_>> = view.voters().keys().filter_map(|voter| view.up(voter)).collect();
    let committed = ups.iter().map(|up| up.status.raft_index).max().unwrap_or_default();
    if committed.saturating_sub(status.raft_applied_index) >= CLOSE {
        let message = format!("{member} is a learner and {CLOSE} or more entries behind");
        return Err(Notice::of(Code::MemberJoining, message));
    }
    let voters = view.voters().len();
    if ups.len() < quorum(voters) || ups.len() + 1 < quorum(voters + 1) {
        let message = format!("{member} must wait: only {} of {voters} voters are up", ups.len());
        return Err(Notice::of(Code::QuorumUnproven, message));
    }
    agree_on_a_leader(&ups)?;
    list_is_as_wanted(view)
}

/// The removal of a member, where the others hold quorum without it. What is broken anyway may go while others are
/// broken too; nobody else is touched before all others are up.
///
/// # Errors
/// The first thing that is not as it must be.
pub(in super::super) fn removal(
    view: &View<'_>,
    member: &MemberName,
    listed: &ListedMember,
) -> Result<Removal, Notice> {
    // The one that is wrong goes for that, and a learner decides nothing.
    let is_wrong = corrupt::is_to_go(view, member);
    if !is_wrong && !listed.is_learner {
        no_data_differs(view, member)?;
    }
    let broken = is_broken(view, member);
    let others: Vec<&MemberName> = view.voters().keys().filter(|voter| *voter != member).collect();
    let ups: Vec<Up<'_>> = others.iter().filter_map(|voter| view.up(voter)).collect();
    if !broken && !listed.is_learner {
        if !is_wrong {
            no_downgrade_job(view)?;
        }
        for other in &others {
            view.why_not_up(other).map_err(|notice| {
                Notice::of(notice.code, format!("{member} must wait: {}", notice.message))
            })?;
        }
    }
    if ups.is_empty() || ups.len() < quorum(others.len()) {
        return Err(Notice::of(
            Code::QuorumUnproven,
            format!("without {member} only {} of {} voters would be up", ups.len(), others.len()),
        ));
    }
    agree_on_a_leader(&ups)?;
    close_to_the_leader(view, Some(member))?;
    list_is_as_wanted(view)?;
    let through = view.leader().ok_or_else(|| {
        Notice::of(Code::NoLeader, format!("{member} must wait: the members do not agree on one leader"))
    })?;
    let takes_nothing_away = broken || listed.is_learner;
    Ok(Removal { member: member.clone(), id: listed.id, through: through.clone(), takes_nothing_away })
}

/// Nobody could give the member list.
pub(in super::super) fn no_list() -> Notice {
    Notice::of(Code::QuorumUnproven, "no member could give a linearizable member list")
}

/// The same, of a member that comes or goes.
pub(in super::super) fn no_list_for(member: &MemberName) -> Notice {
    let notice = no_list();
    Notice { message: format!("{member} must wait: {}", notice.message), ..notice }
}

/// The member list is exactly the voters that we know, all of them started, and no learner but one of this cluster's own.
pub(in super::super) fn list_is_as_wanted(view: &View<'_>) -> Result<(), Notice> {
    let Some(list) = &view.world.member_list else { return Err(no_list()) };
    // A learner of this cluster's is finished or removed in its turn.
    let is_joining = |listed: &&ListedMember| listed.is_learner && view.member_of(listed).is_some();
    let list: Vec<&ListedMember> = list.iter().filter(|listed| !is_joining(listed)).collect();
    let (voters, namespace) = (view.voters(), &view.world.cluster.namespace);
    for listed in &list {
        let id = listed.id;
        if listed.is_learner {
            return Err(Notice::new(
                Code::MembershipUnexpected,
                format!("member {id} ({:?}) is a learner that nobody here added", listed.name),
                format!("promote it, or remove it with `etcdctl member remove {id}`"),
            ));
        }
        if listed.name.is_empty() {
            return Err(Notice::of(Code::MembershipUnexpected, format!("member {id} has not started yet")));
        }
        let known = view.parse_member(&listed.name).and_then(|name| voters.get(&name).copied());
        let home =
            view.parse_member(&listed.name).map(|name| peer_url(view.world.wire(), &name.host(namespace)));
        if known == Some(id) && home.as_ref().is_some_and(|home| listed.peer_urls != [home.as_str()]) {
            return Err(Notice::of(
                Code::MembershipUnexpected,
                format!("member {id} ({:?}) is listed at {}", listed.name, listed.peer_urls.join(", ")),
            ));
        }
        if known != Some(id) {
            return Err(Notice::of(
                Code::MembershipUnexpected,
                format!("member {id} ({:?}) is not one of this cluster's members", listed.name),
            ));
        }
    }
    if list.len() != voters.len() {
        return Err(Notice::of(
            Code::MembershipUnexpected,
            format!("etcd lists {} members, {} are expected", list.len(), voters.len()),
        ));
    }
    Ok(())
}
