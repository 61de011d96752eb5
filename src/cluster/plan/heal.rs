//! Members that are replaced by new ones, under new numbers: one whose data is gone, and one that a person names. What is
//! dead is removed before its replacement is added; what is healthy only after its replacement votes. Neither waits for
//! an approval or a window.

use super::corrupt;
use super::exchange;
use super::loss::{self, Loss};
use super::resize;
use super::roll::next_to_mend;
use super::step::{Next, Step};
use super::view::{View, quorum};
use crate::api::{Action, Code, HealMode};
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::observation::DowngradeJob;
use std::time::Duration;

/// The member that a person wants to be replaced, while it votes.
pub(super) fn named(view: &View<'_>) -> Option<MemberName> {
    let member = view.parse_member(view.world.cluster.replace.as_ref()?)?;
    view.voters().contains_key(&member).then_some(member)
}

/// The same, where it is to be replaced first and removed after that.
fn to_exchange(view: &View<'_>) -> Option<MemberName> {
    named(view).filter(|member| !goes_first(view, member))
}

/// The member that goes once another one has come for it: the one that a person names, or the next that the spec exchanges.
/// What has begun is gone on with, whatever holds up the beginning.
pub(super) fn to_go_for_another(view: &View<'_>) -> Option<MemberName> {
    named(view).or_else(|| exchange::next(view))
}

/// Whether a member that a person named goes before its replacement comes: nothing is lost with it.
fn goes_first(view: &View<'_>, member: &MemberName) -> bool {
    resize::is_broken(view, member) || corrupt::is_to_go(view, member)
}

/// Whether a member goes without a replacement before it: its data is gone, and that may be answered; or a person named
/// it, and it is down.
pub(super) fn is_to_be_retired(view: &View<'_>, member: &MemberName) -> bool {
    let has_come = || resize::asked_for(view).is_some_and(|wanted| view.voters().len() > wanted);
    if named(view).as_ref() == Some(member) {
        return goes_first(view, member) || has_come();
    }
    if to_go_for_another(view).as_ref() == Some(member) && has_come() {
        return true;
    }
    // Who is claimed has been waited for before that, and is what keeps others from being replaced.
    let claimed = resize::is_claimed_to_be_removed(view, member);
    let is_wrong = loss::is_lost_for_good(view, member) || corrupt::is_to_go(view, member);
    is_wrong && (claimed || why_not_by_itself(view, member).is_none())
}

/// Why a member is not replaced by itself now.
pub(super) fn why_not_by_itself(view: &View<'_>, member: &MemberName) -> Option<String> {
    if view.desired.as_ref().is_ok_and(|desired| desired.heal_mode == HealMode::Manual) {
        return Some("spec.heal.mode is Manual".to_owned());
    }
    if loss::went_with_its_pod(view, member) {
        // With each drain one goes, or with each reboot where it is in memory, and nothing of it can be waited for.
        return None;
    }
    let last = view.world.cluster.status.last_replacement.as_ref().filter(|last| !last.settled)?;
    Some(format!(
        "{} was replaced at {}, and the cluster has not been Ready for an hour since",
        last.member, last.time.0
    ))
}

/// Whether those who have their data are a quorum, without which nobody can be replaced.
fn may_hold_quorum(view: &View<'_>) -> bool {
    let voters = view.voters().len();
    voters - loss::lost(view).len() >= quorum(voters)
}

/// What is to be done about a member that is to be replaced, or about an even number of them: nothing, a step, or why not
/// now.
pub(super) fn due(view: &View<'_>) -> Option<Result<Next, Obstacle>> {
    view.cluster_id()?;
    retire_what_is_broken(view)
        .or_else(|| resize::to_the_next_odd_number(view))
        .or_else(|| exchange_the_named(view))
}

/// What keeps a member from coming or going, and which one.
pub(super) type Obstacle = (Notice, Option<MemberName>);

/// It is done before anything else that changes members, where it can be done now.
pub(super) fn what_can_be_done(view: &View<'_>) -> Option<Next> {
    due(view)?.ok()
}

/// Else it is waited for, unless a member that is down may be mended meanwhile.
pub(super) fn what_is_due(view: &View<'_>) -> Option<Next> {
    let (notice, member) = due(view)?.err().filter(|_| next_to_mend(view).is_none())?;
    Some(view.wait_for(notice, member.as_ref()))
}

pub(super) fn anything_due(view: &View<'_>) -> Option<Next> {
    what_can_be_done(view).or_else(|| what_is_due(view))
}

fn retire_what_is_broken(view: &View<'_>) -> Option<Result<Next, Obstacle>> {
    if !may_hold_quorum(view) {
        return wait_for_its_node(view).map(Err);
    }
    if let Some(member) = named(view).filter(|member| goes_first(view, member)) {
        let how = if corrupt::is_to_go(view, &member) { "members' data differ" } else { "it is down" };
        return Some(retire(view, &member, format!("somebody asked for another one, and {how}")));
    }
    let is_to_go = |member: &MemberName| is_to_be_retired(view, member);
    if let Some((member, how)) = loss::lost(view).into_iter().find(|(member, _)| is_to_go(member)) {
        return Some(retire_what_is_lost(view, member, how));
    }
    if let Some(member) = corrupt::the_one_that_differs(view).filter(is_to_go) {
        return Some(retire(view, &member, corrupt::DIFFERS.to_owned()));
    }
    wait_for_its_node(view).map(Err)
}

fn retire_what_is_lost(view: &View<'_>, member: MemberName, how: Loss) -> Result<Next, Obstacle> {
    if !loss::is_beyond_doubt(view, &member, how) {
        let message = format!("{member}: {how}; where it stays so, it is replaced by a new member");
        return Err((Notice::of(Code::MemberDown, message), Some(member)));
    }
    retire(view, &member, how.to_string()).map_err(|(notice, about)| {
        let message = format!("{member}: {how}, and its replacement waits: {}", notice.message);
        (Notice { message, ..notice }, about)
    })
}

/// A member whose volume cannot follow it is waited for with its node, whatever else is refused.
fn wait_for_its_node(view: &View<'_>) -> Option<Obstacle> {
    let (member, (node, trouble)) =
        view.voters().keys().find_map(|member| Some((member, loss::lost_home(view, member)?)))?;
    let notice = Notice::new(
        Code::MemberDown,
        format!(
            "{member} is away with its node {node}, which is {trouble}, and its data cannot follow it; where it stays so \
             for spec.heal.nodeLostAfter, another member takes its place"
        ),
        format!("bring {node} back; kubectl describe node {node}"),
    );
    Some((notice, Some(member.clone())))
}

fn exchange_the_named(view: &View<'_>) -> Option<Result<Next, Obstacle>> {
    exchange_of(view, to_exchange(view)?, None)
}

/// The next step, or wait, by which a member goes for another one, of this revision where it is not what new members get.
pub(super) fn exchange_now(view: &View<'_>, member: MemberName, revision: Option<&str>) -> Option<Next> {
    let next = exchange_of(view, member, revision)?;
    Some(next.unwrap_or_else(|(notice, member)| view.wait_for(notice, member.as_ref())))
}

fn exchange_of(
    view: &View<'_>,
    member: MemberName,
    revision: Option<&str>,
) -> Option<Result<Next, Obstacle>> {
    // A downgrade that is under way comes to its end first.
    let member = Some(member).filter(|_| view.world.downgrade_job == DowngradeJob::Absent)?;
    if let Err(notice) = view.why_not_up(&member) {
        // Where it stays down, it is removed before its replacement is added.
        return Some(Err((notice, Some(member))));
    }
    if view.voters().len() > resize::asked_for(view)? {
        return Some(retire(view, &member, REPLACED.to_owned()));
    }
    Some(resize::add(view, revision))
}

/// Why a healthy member goes.
pub const REPLACED: &str = "its replacement votes";

pub(super) fn retire(view: &View<'_>, member: &MemberName, why: String) -> Result<Next, Obstacle> {
    resize::may_be_removed(view, member)?;
    Ok(view.claim_change(Action::RetireMember, member, String::new(), Some(why)))
}

/// What a person can do where members kept their data in their Pods, and too many of these are gone.
pub(super) fn how_to_save(view: &View<'_>) -> String {
    let cluster = &view.world.cluster;
    format!(
        "save what a member that runs has (kubectl port-forward -n {} pod/MEMBER 2379, etcdctl snapshot save), and make \
         another EtcdCluster from that, or from a backup",
        cluster.namespace
    )
}

/// How a person asks for a member to be replaced.
pub(super) fn how_to_replace(view: &View<'_>, member: &MemberName) -> String {
    let cluster = &view.world.cluster;
    let (namespace, name) = (&cluster.namespace, &cluster.name);
    format!("kubectl annotate etcd -n {namespace} {name} quorate.dev/replace={member} --overwrite")
}

/// Some members' data is gone, and nobody answers that.
pub(super) fn refusals(view: &View<'_>) -> Vec<Notice> {
    if !loss::refusals(view).is_empty() {
        return Vec::new();
    }
    let unanswered = |member: &MemberName| !may_hold_quorum(view) || !is_to_be_retired(view, member);
    let lost = loss::lost(view).into_iter().filter(|(member, _)| unanswered(member));
    lost.map(|(member, how)| {
        let id = view.voters().get(&member).map(ToString::to_string).unwrap_or_default();
        let message = format!("{member} (id {id}): {how}");
        let why_not = why_not_by_itself(view, &member).filter(|_| may_hold_quorum(view));
        let how_to_replace = how_to_replace(view, &member);
        let in_pods = view.keeps_data_in_pods();
        match why_not {
            Some(why) => Notice::new(
                Code::MemberDataLost,
                format!("{message}, and not replaced by itself: {why}"),
                if in_pods {
                    how_to_replace
                } else {
                    format!("{how_to_replace}, or bring what it lost back")
                },
            ),
            None => Notice::new(
                Code::MemberDataLost,
                format!("{message}, and those who have their data are no quorum"),
                if in_pods { how_to_save(view) } else { "bring back what it lost".to_owned() },
            ),
        }
    })
    .collect()
}

/// The volume of a member that was replaced is deleted once nobody came for it, and all is well.
pub(super) fn a_quarantine_that_is_over(view: &View<'_>) -> Option<Next> {
    let quarantine = view.desired.as_ref().ok()?.quarantine;
    let mut aside = view.own_set_aside().filter(|(_, claim)| !claim.deleting);
    let (member, _) = aside.find(|(member, claim)| {
        let votes = view.voters().contains_key(*member);
        let since = claim.quarantined.map(|since| view.world.now.duration_since(since));
        !votes
            && since.and_then(|since| Duration::try_from(since).ok()).is_some_and(|since| since >= quarantine)
    })?;
    Some(Next::Do(Step::DeleteClaims(vec![member.clone()])))
}

/// Whether a member that joins is still wanted: for the spec, or to take the place of one that is exchanged.
pub(super) fn wants_another(view: &View<'_>) -> bool {
    let by_the_spec = || exchange::next(view).is_some();
    let exchanged = usize::from(to_exchange(view).is_some() || by_the_spec());
    resize::asked_for(view).is_some_and(|wanted| view.voters().len() < wanted + exchanged)
}
