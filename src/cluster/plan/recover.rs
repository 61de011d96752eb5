//! A quorum that is lost for good: the cluster is made anew from one member, where a person says so and takes what that
//! loses upon themselves. Nothing here is done by itself.
//!
//! The way is told by facts, so that it goes on wherever an operator died: the claim in the status (a person's word was
//! taken), no Pod of any member, the others' volumes set aside, the copy made, the survivor's volume saying that it votes
//! alone (from there on there is no way back), the force seen to have succeeded, the claim released. After that it is a
//! cluster of one like any other, and grows.

use super::accept::{accepted, is_recovery, lasted, loss_of, revision_to_force_with};
use super::step::{Claim, Next, Record, Step, Wait};
use super::stopped::{Whereabouts, others, whereabouts};
use super::view::View;
use crate::api::{Action, Code, ProgressStatus};
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::objects::claim::Purpose;
use crate::cluster::objects::recovery::NewRecoveryPod;
use crate::cluster::observation::{ClaimFacts, Ownership, PodFacts, RecoveryPod, Stage};
use std::time::Duration;

/// A node that has just been cut off is called ready for a while yet (`--node-monitor-grace-period`, 50 s).
const NODES_ARE_KNOWN_AFTER: Duration = Duration::from_mins(1);

pub(super) fn as_a_person_says(view: &View<'_>) -> Option<Next> {
    view.cluster_id()?;
    if let Some((progress, survivor)) = view.claimed().filter(|(progress, _)| is_recovery(progress)) {
        return Some(go_on(view, progress, &survivor));
    }
    // Whatever became of the claim: nothing starts beside them.
    if let Some(next) = clear(view, None) {
        return Some(next);
    }
    if let Some((survivor, claim)) = view.own_claims().find(|(_, claim)| claim.recovering.is_some()) {
        return Some(claim_again(view, survivor, claim));
    }
    if let Some(next) = a_claim_that_is_to_go(view) {
        return Some(next);
    }
    let (survivor, revision) = accepted(view)?.ok()?;
    let loss = loss_of(view)?;
    if lasted(view, loss) < NODES_ARE_KNOWN_AFTER {
        let message = format!(
            "spec.recovery is taken; it begins once the loss has lasted for {} s",
            NODES_ARE_KNOWN_AFTER.as_secs()
        );
        return Some(wait(view, &survivor, Notice::of(Code::Recovering, message)));
    }
    let revision = match view.stored(&revision)? {
        Ok(revision) => revision,
        Err(store) => return Some(Next::Do(store)),
    };
    Some(view.claim_change(Action::Recover, &survivor, revision, Some(loss.incident.clone())))
}

/// The status was lost, and there is no way back any more.
fn claim_again(view: &View<'_>, survivor: &MemberName, claim: &ClaimFacts) -> Next {
    let stored = revision_to_force_with(view, survivor).map(|revision| view.stored(&revision));
    match stored {
        Ok(Some(Ok(revision))) => {
            view.claim_change(Action::Recover, survivor, revision, claim.recovering.clone())
        }
        Ok(Some(Err(store))) => Next::Do(store),
        // Whose revision stands under that name is refused elsewhere.
        Ok(None) => Next::Refused,
        Err(notice) => wait(view, survivor, Notice { code: Code::RecoveryStuck, ..notice }),
    }
}

/// A claim that a person has deleted, because its volume is gone for good, stays as long as a Pod has it, and one whose volume
/// cannot be mounted would have it for ever.
fn a_claim_that_is_to_go(view: &View<'_>) -> Option<Next> {
    let mut voters = view.voters().keys().filter(|_| view.world.lacks_a_quorum());
    let (member, pod) = voters.find_map(|member| {
        view.claim_of(member).filter(|claim| claim.deleting)?;
        let pod = view.pod(member).filter(|pod| pod.ownership == Ownership::Ours && !pod.deleting)?;
        (!pod.container.has_run()).then_some((member, pod))
    })?;
    Some(Next::Do(Step::remove(member, pod, "its volume claim is deleted, and it has never run with it")))
}

/// The loss that is ended: the claim says it, and the survivor's volume from the point of no return on.
fn incident<'a>(view: &View<'a>) -> &'a str {
    let claimed = view.claimed().filter(|(progress, _)| is_recovery(progress));
    claimed.and_then(|(progress, _)| progress.reason.as_deref()).unwrap_or("0")
}

fn go_on(view: &View<'_>, progress: &ProgressStatus, survivor: &MemberName) -> Next {
    let has_succeeded = progress.pod_uid.as_ref().is_some_and(|uid| !uid.is_empty());
    if has_succeeded {
        return after_the_force(view, survivor);
    }
    // By its own claim: others may not have gone yet.
    let claim = view.claim_of(survivor);
    let noted = claim.and_then(|claim| claim.voters.as_ref());
    let votes_alone = noted.is_some_and(|voters| voters.keys().eq([survivor]));
    if votes_alone { force(view, progress, survivor) } else { before_the_force(view, progress, survivor) }
}

/// The Pod goes, then its mark, then the claim: with that a cluster of one is like any other.
fn after_the_force(view: &View<'_>, survivor: &MemberName) -> Next {
    if let Some(next) = clear(view, Some(survivor)) {
        return next;
    }
    if view.claim_of(survivor).is_some_and(|claim| claim.recovering.is_some()) {
        return Next::Do(Step::NoteForced(survivor.clone()));
    }
    Next::Do(Step::Record(Record::Release { member: survivor.clone(), action: Action::Recover }))
}

/// Everything up to the point of no return.
fn before_the_force(view: &View<'_>, progress: &ProgressStatus, survivor: &MemberName) -> Next {
    let is_asked =
        view.world.cluster.spec.recovery.as_ref().is_some_and(|asked| {
            asked.incident == incident(view) && asked.from_member == survivor.to_string()
        });
    if !is_asked {
        return call_off(view, survivor);
    }
    stop_everybody(view, survivor)
        .or_else(|| set_the_others_aside(view, survivor))
        .or_else(|| copy(view, progress, survivor))
        .unwrap_or_else(|| note(view, survivor))
}

/// A person has thought better of it: nothing was forced, so all is as it was once the volumes are taken back.
fn call_off(view: &View<'_>, survivor: &MemberName) -> Next {
    if let Some(next) = clear(view, Some(survivor)) {
        return next;
    }
    let aside: Vec<MemberName> = view
        .own_set_aside()
        .filter(|(member, claim)| view.voters().contains_key(*member) && !claim.deleting)
        .map(|(member, _)| member.clone())
        .collect();
    if aside.is_empty() { Next::withdraw(survivor) } else { Next::Do(Step::TakeBack(aside)) }
}

/// No Pod of any member runs, the survivor's own among them: its volume is needed.
fn stop_everybody(view: &View<'_>, survivor: &MemberName) -> Option<Next> {
    let mut going = None;
    for member in others(view, survivor).iter().chain([survivor]) {
        let pod = match whereabouts(view, member) {
            Whereabouts::Stopped(None) => continue,
            // What stands on a node that is no more goes too, before that node returns.
            Whereabouts::Stopped(Some(pod)) if pod.deleting => {
                going = going.or_else(|| Some(member.clone()).filter(|member| member == survivor));
                continue;
            }
            Whereabouts::Going => {
                going = going.or_else(|| Some(member.clone()));
                continue;
            }
            Whereabouts::Unknown { why, remedy } => {
                return Some(wait(view, survivor, Notice::new(Code::RecoveryStuck, why, remedy)));
            }
            Whereabouts::Standing(pod) | Whereabouts::Stopped(Some(pod)) => pod,
        };
        let why = format!("the cluster is made anew from {survivor}");
        return Some(Next::Do(Step::remove(member, pod, &why)));
    }
    let member = going?;
    Some(wait(view, survivor, Notice::of(Code::Recovering, format!("{member}'s Pod is going away"))))
}

/// Whoever reads the volumes later finds the survivor's alone.
fn set_the_others_aside(view: &View<'_>, survivor: &MemberName) -> Option<Next> {
    let id = view.cluster_id();
    let mut claims =
        view.world.claims.iter().filter(|(member, claim)| *member != survivor && claim.cluster_id == id);
    let (member, claim) = claims.next()?;
    if claim.ownership != Ownership::Ours {
        let message = format!("the volume claim of {member} has lost its labels");
        let remedy = format!("give them back as those of {} have them, or delete it", survivor.claim());
        return Some(wait(view, survivor, Notice::new(Code::RecoveryStuck, message, remedy)));
    }
    if claim.deleting {
        let message = format!("{} is going away", member.claim());
        return Some(wait(view, survivor, Notice::of(Code::Recovering, message)));
    }
    Some(Next::Do(Step::SetAside { member: member.clone(), quarantined: true }))
}

/// Where the copy goes: a number that the claim has taken, and that no member gets.
fn copy_of(view: &View<'_>) -> MemberName {
    let cluster = &view.world.cluster;
    let last = cluster.status.last_member_number.and_then(|number| u32::try_from(number).ok());
    MemberName::new(&cluster.name, last.unwrap_or_default())
}

fn copy(view: &View<'_>, progress: &ProgressStatus, survivor: &MemberName) -> Option<Next> {
    let copy = copy_of(view);
    if !view.world.set_aside.contains_key(&copy) {
        let purpose = Purpose::Copy(view.cluster_id()?, view.world.now);
        return Some(Next::Do(Step::CreateClaims { members: vec![copy], purpose }));
    }
    let pod = match made(view, progress, survivor, Stage::Copy) {
        Ok(pod) => pod,
        Err(next) => return Some(*next),
    };
    match (pod.facts.ended, pod.facts.container.exit_code) {
        (true, Some(0)) => None,
        (true, _) => Some(failed(view, survivor, pod)),
        (false, _) => Some(runs(view, survivor, pod, "its data is copied")),
    }
}

/// The last that is written before the point of no return: that it votes alone.
fn note(view: &View<'_>, survivor: &MemberName) -> Next {
    let claim = view.claim_of(survivor).filter(|claim| !claim.deleting);
    let (Some(_), Some(id), Some(cluster_id)) = (claim, view.voters().get(survivor), view.cluster_id())
    else {
        let message = format!("the volume claim of {survivor} is not what it was");
        let remedy = "remove spec.recovery: what was set aside is taken back";
        return wait(view, survivor, Notice::new(Code::RecoveryStuck, message, remedy));
    };
    let (member, incident) = (survivor.clone(), incident(view).to_owned());
    Next::Do(Step::LeaveAlone { member, id: *id, cluster_id, incident })
}

fn force(view: &View<'_>, progress: &ProgressStatus, survivor: &MemberName) -> Next {
    if let Some(next) = another_revision(view, progress, survivor) {
        return next;
    }
    if view.claim_of(survivor).is_some_and(|claim| claim.assigned.as_ref() != Some(&progress.revision)) {
        // It is started from the same after it.
        let (members, revision) = (vec![survivor.clone()], progress.revision.clone());
        return Next::Do(Step::Assign { members, revision, afresh: false });
    }
    if view.world.recovery.pods.iter().all(|pod| pod.stage != Stage::Force)
        && let Some(next) = stop_everybody(view, survivor)
    {
        return next;
    }
    let pod = match made(view, progress, survivor, Stage::Force) {
        Ok(pod) => pod,
        Err(next) => return *next,
    };
    if pod.facts.ended {
        return failed(view, survivor, pod);
    }
    match is_alone(view, survivor, pod) {
        Ok(()) => {
            Next::Do(claimed_anew(progress, survivor, progress.revision.clone(), pod.facts.uid.clone()))
        }
        Err(Ok(why)) => runs(view, survivor, pod, &why),
        Err(Err(notice)) => wait(view, survivor, notice),
    }
}

fn claimed_anew(progress: &ProgressStatus, survivor: &MemberName, revision: String, pod_uid: String) -> Step {
    Step::Record(Record::Claim(Claim {
        action: Action::Recover,
        member: survivor.clone(),
        revision,
        pod_uid,
        since: progress.since.0,
        failure: None,
        why: progress.reason.clone(),
    }))
}

/// Where the survivor did not come up with the flag it is given what the spec has come to say since.
fn another_revision(view: &View<'_>, progress: &ProgressStatus, survivor: &MemberName) -> Option<Next> {
    let force = view.world.recovery.pods.iter().find(|pod| pod.stage == Stage::Force && pod.facts.ended)?;
    let revision = match view.stored(&revision_to_force_with(view, survivor).ok()?)? {
        Ok(revision) => revision,
        Err(store) => return Some(Next::Do(store)),
    };
    if revision != progress.revision {
        return Some(Next::Do(claimed_anew(progress, survivor, revision, String::new())));
    }
    (force.facts.revision != revision).then(|| Next::Do(Step::delete_recovery_pods(std::iter::once(force))))
}

/// Whether the force has made a cluster of one: the same cluster and member, alone in its list, leading, with what it had.
fn is_alone(view: &View<'_>, survivor: &MemberName, pod: &RecoveryPod) -> Result<(), Result<String, Notice>> {
    let says = pod.says.as_ref().map_err(|why| Ok(format!("its etcd does not answer yet ({why})")))?;
    let (status, id) = (&says.status, view.voters().get(survivor).copied());
    let listed: Vec<_> = says.list.iter().map(|listed| Some(listed.id)).collect();
    if Some(status.cluster_id) != view.cluster_id() || Some(status.member_id) != id {
        return Err(Ok(format!("it answers as {}", status.identity())));
    }
    if listed != [id] || status.leader != id || status.is_learner {
        return Err(Ok(format!("it does not lead alone yet: {} members in its list", listed.len())));
    }
    let known =
        loss_of(view).and_then(|loss| loss.survivor(&survivor.to_string())).map(|known| known.revision);
    let accepted = view.world.cluster.spec.recovery.as_ref().map(|asked| asked.survivor_revision);
    let Some(expected) = known.into_iter().chain(accepted).min().filter(|known| status.revision < *known)
    else {
        return Ok(());
    };
    // etcd writes what is committed down with the next entry only, and a force drops the rest.
    let message = format!(
        "{survivor} is on its own with revision {}, and {expected} was accepted; it was killed since, and has lost the rest",
        status.revision
    );
    let remedy = format!("to accept that, set spec.recovery.survivorRevision to {}", status.revision);
    Err(Err(Notice::new(Code::RecoveryStuck, message, remedy)))
}

/// The Pod of this stage, or how it comes to be.
fn made<'a>(
    view: &View<'a>,
    progress: &ProgressStatus,
    survivor: &MemberName,
    stage: Stage,
) -> Result<&'a RecoveryPod, Box<Next>> {
    let incident = incident(view);
    let mut pods = view.world.recovery.pods.iter();
    let Some(pod) = pods.find(|pod| pod.stage == stage && pod.incident == incident) else {
        let create = Step::CreateRecoveryPod(NewRecoveryPod {
            incident: incident.to_owned(),
            stage,
            member: survivor.clone(),
            copy: copy_of(view),
            revision: progress.revision.clone(),
        });
        return Err(Box::new(Next::Do(create)));
    };
    if pod.facts.deleting {
        let notice = view.why_it_goes(Code::Recovering, &format!("the Pod {}", pod.name), &pod.facts);
        return Err(Box::new(wait(view, survivor, notice)));
    }
    Ok(pod)
}

/// No Pod of a recovery is left.
fn clear(view: &View<'_>, survivor: Option<&MemberName>) -> Option<Next> {
    let pods = &view.world.recovery.pods;
    let first = pods.first()?;
    let mut left = pods.iter().filter(|pod| !pod.facts.deleting).peekable();
    if left.peek().is_none() {
        let notice = view.why_it_goes(Code::Recovering, &format!("the Pod {}", first.name), &first.facts);
        return Some(Next::Wait(view.wait(notice, survivor, "recovery Pods".to_owned(), 0)));
    }
    Some(Next::Do(Step::delete_recovery_pods(left)))
}

fn failed(view: &View<'_>, survivor: &MemberName, pod: &RecoveryPod) -> Next {
    let RecoveryPod { name, facts: PodFacts { container, .. }, .. } = pod;
    // Turned away by the kubelet, evicted, or told to go by a node that was shut down: nothing is wrong with it.
    let Some(code) = container.exit_code.filter(|code| *code != 143) else {
        return Next::Do(Step::delete_recovery_pods(std::iter::once(pod)));
    };
    let words = container.last_words.as_deref().unwrap_or("it left no words").trim();
    let remedy = format!(
        "mend what it says, in the spec where that is the cause; kubectl delete pod -n {} {name} tries it again",
        view.world.cluster.namespace
    );
    let notice =
        Notice::new(Code::RecoveryStuck, format!("the Pod {name} ended with {code}: {words}"), remedy);
    wait(view, survivor, notice)
}

fn runs(view: &View<'_>, survivor: &MemberName, pod: &RecoveryPod, what: &str) -> Next {
    let facts = &pod.facts;
    let words = match (&facts.unschedulable, &facts.container.waiting) {
        (Some(words), _) => format!(": no node takes it: {words}"),
        (None, Some((reason, message))) if message.is_empty() => format!(" ({reason})"),
        (None, Some((reason, message))) => format!(" ({reason}: {message})"),
        (None, None) => String::new(),
    };
    let message = format!("the cluster is made anew from {survivor}; {what}; Pod {}{words}", pod.name);
    wait(view, survivor, Notice::of(Code::Recovering, message))
}

fn wait(view: &View<'_>, survivor: &MemberName, notice: Notice) -> Next {
    let wait = view.wait(notice, Some(survivor), format!("recover/{survivor}"), 0);
    Next::Wait(Wait { close: !wait.notice.is_refusal(), ..wait })
}
