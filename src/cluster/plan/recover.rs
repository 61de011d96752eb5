//! A quorum that is lost for good: the cluster is made anew from one member, where a person says so and takes what that
//! loses upon themselves. Nothing here is done by itself.
//!
//! The way is told by facts, so that it goes on wherever an operator died: the claim in the status (a person's word was
//! taken), no Pod of any member, the others' volumes set aside, the copy made, the survivor's volume saying that it votes
//! alone (from there on there is no way back), the force seen to have succeeded, the claim released. After that it is a
//! cluster of one like any other, and grows.

use super::loss::{self, Loss};
use super::step::{Claim, Next, Record, Step, Wait};
use super::stopped::{Whereabouts, whereabouts};
use super::view::{View, quorum};
use crate::api::{Action, Code, ProgressStatus, QuorumLossStatus, SurvivorStatus};
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::objects::claim::Purpose;
use crate::cluster::objects::recovery::NewRecoveryPod;
use crate::cluster::observation::{ClaimFacts, Ownership, PodFacts, RecoveryPod, Stage};
use crate::cluster::revision::{self, Revision};
use crate::etcd::versions::{first_to_force_cleanly, forces_cleanly};
use std::collections::BTreeSet;
use std::sync::Arc;
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
    let (survivor, revision) = accepted(view)?.ok()?;
    let revision = match view.stored(&revision)? {
        Ok(revision) => revision,
        Err(store) => return Some(Next::Do(store)),
    };
    let incident = incident(view)?;
    Some(view.claim_change(Action::Recover, &survivor, revision, Some(format!("loss {incident}"))))
}

fn is_recovery(progress: &ProgressStatus) -> bool {
    progress.action == Action::Recover
}

fn loss_of<'a>(view: &View<'a>) -> Option<&'a QuorumLossStatus> {
    view.world.cluster.status.quorum_loss.as_ref()
}

fn incident<'a>(view: &View<'a>) -> Option<&'a str> {
    loss_of(view).map(|loss| loss.incident.as_str())
}

/// What a person must know, or has said and cannot have.
pub(super) fn refusals(view: &View<'_>) -> Vec<Notice> {
    if view.claimed().is_some_and(|(progress, _)| is_recovery(progress)) {
        return Vec::new();
    }
    match accepted(view) {
        Some(Ok(_)) => Vec::new(),
        Some(Err(notice)) => vec![notice],
        None => offer(view).into_iter().collect(),
    }
}

/// The survivor that a person names, and the revision that it is started from, where all that they say is so.
fn accepted(view: &View<'_>) -> Option<Result<(MemberName, Arc<Revision>), Notice>> {
    let asked = view.world.cluster.spec.recovery.as_ref()?;
    let loss = loss_of(view).filter(|_| view.world.lacks_a_quorum())?;
    let refuse = |message: String, remedy: String| {
        Some(Err(Notice::new(Code::RecoveryRefused, format!("spec.recovery: {message}"), remedy)))
    };
    let id = view.cluster_id()?.to_string();
    if asked.cluster_id != id {
        return refuse(format!("clusterID is {}, and this is cluster {id}", asked.cluster_id), look(view));
    }
    if asked.incident != loss.incident {
        let message = format!("it is about the loss {}, and this one is {}", asked.incident, loss.incident);
        return refuse(message, look(view));
    }
    let known = loss.survivors.iter().find(|survivor| survivor.member == asked.from_member);
    let survivor = view.parse_member(&asked.from_member).filter(|member| view.voters().contains_key(member));
    let (Some(known), Some(survivor)) = (known, survivor) else {
        let names: Vec<&str> = loss.survivors.iter().map(|survivor| survivor.member.as_str()).collect();
        let message = format!(
            "fromMember {} is none of the voters that are left ({})",
            asked.from_member,
            names.join(", ")
        );
        return refuse(message, look(view));
    };
    if asked.survivor_revision != known.revision {
        let message = format!(
            "survivorRevision is {}, and {survivor} has revision {}",
            asked.survivor_revision, known.revision
        );
        return refuse(message, look(view));
    }
    if !is_lost_for_good(view, loss) {
        let message = format!(
            "so many of {} have their volumes that they are a quorum, and are brought back",
            names(view.voters().keys())
        );
        let remedy = "where a volume is gone for good though its claim is there, delete the claim; else wait";
        return refuse(message, remedy.to_owned());
    }
    if survivor_with_data(view, &survivor).is_none() {
        return refuse(format!("{survivor} has no data that etcd can open"), look(view));
    }
    let not_stopped = others(view, &survivor).into_iter().chain([survivor.clone()]).find_map(|member| {
        match whereabouts(view, &member) {
            Whereabouts::Unknown { why, remedy } => Some((why, remedy)),
            _ => None,
        }
    });
    if let Some((why, remedy)) = not_stopped {
        let message =
            format!("{why}; members that live on would form the old quorum, and what they take is lost");
        return refuse(message, remedy);
    }
    let revision = match revision_to_force_with(view, &survivor) {
        Ok(revision) => revision,
        Err(notice) => return Some(Err(notice)),
    };
    let lasted = Duration::try_from(view.world.now.duration_since(loss.since.0)).unwrap_or_default();
    (lasted >= NODES_ARE_KNOWN_AFTER).then_some(Ok((survivor, revision)))
}

fn look(view: &View<'_>) -> String {
    let cluster = &view.world.cluster;
    let (namespace, name) = (&cluster.namespace, &cluster.name);
    format!("compare with status.quorumLoss: kubectl get etcd -n {namespace} {name} -o yaml")
}

/// Voters that do not come back by themselves: their data is gone, or has been out of reach for as long as the spec lets a
/// node be lost.
fn given_up(view: &View<'_>, loss: &QuorumLossStatus) -> Vec<(MemberName, Loss)> {
    let after = view.desired.as_ref().map_or(Duration::MAX, |desired| desired.node_lost_after);
    let lasted = Duration::try_from(view.world.now.duration_since(loss.since.0)).unwrap_or_default();
    let lost_home = |member: &MemberName| {
        let (_, trouble) = loss::lost_home(view, member).filter(|_| lasted >= after)?;
        Some(Loss::Node(trouble))
    };
    let voters = view.voters().keys();
    voters
        .filter_map(|member| {
            Some((member.clone(), loss::loss_of_data(view, member).or_else(|| lost_home(member))?))
        })
        .collect()
}

fn is_lost_for_good(view: &View<'_>, loss: &QuorumLossStatus) -> bool {
    let voters = view.voters().len();
    voters - given_up(view, loss).len() < quorum(voters)
}

/// The claim of a voter that can be the one.
fn survivor_with_data<'a>(view: &View<'a>, member: &MemberName) -> Option<&'a ClaimFacts> {
    let votes =
        view.answer(member).and_then(|answer| answer.status()).is_none_or(|status| !status.is_learner);
    view.claim_of(member).filter(|claim| {
        let is_its_own = claim.member_id.as_ref() == view.voters().get(member);
        votes
            && is_its_own
            && claim.ownership == Ownership::Ours
            && !claim.deleting
            && loss::loss_of_data(view, member).is_none()
    })
}

/// How a person gives up what only the others knew.
fn offer(view: &View<'_>) -> Option<Notice> {
    let loss = loss_of(view).filter(|_| view.world.lacks_a_quorum())?;
    let id = view.cluster_id().filter(|_| is_lost_for_good(view, loss))?;
    let given_up: Vec<String> =
        given_up(view, loss).iter().map(|(member, how)| format!("{member} ({how})")).collect();
    let has_data = |survivor: &&SurvivorStatus| {
        view.parse_member(&survivor.member).is_some_and(|member| survivor_with_data(view, &member).is_some())
    };
    let best = loss.survivors.iter().filter(has_data).max_by_key(|known| (known.revision, known.raft_index));
    let lost = format!("the quorum is lost for good: {}", given_up.join(", "));
    let Some(best) = best else {
        let remedy = "bring back what they lost, or start one of the others: what it knows shows then";
        return Some(Notice::new(Code::RecoveryNeeded, format!("{lost}; nobody else has been seen"), remedy));
    };
    let cluster = &view.world.cluster;
    let patch = serde_json::json!({ "spec": { "recovery": {
        "clusterID": id.to_string(),
        "incident": loss.incident,
        "fromMember": best.member,
        "survivorRevision": best.revision,
    } } });
    let remedy = format!(
        "bring back what they lost; only where that cannot be done, make the cluster anew from {}: \
         kubectl patch etcd -n {} {} --type merge -p '{patch}'",
        best.member, cluster.namespace, cluster.name
    );
    Some(Notice::new(Code::RecoveryNeeded, format!("{lost}; {}", what_is_lost(best)), remedy))
}

/// What a recovery from this survivor would lose, in revisions and time.
fn what_is_lost(survivor: &SurvivorStatus) -> String {
    let SurvivorStatus { member, revision, .. } = survivor;
    let behind = match survivor.behind {
        Some(0) => "no later one is known".to_owned(),
        Some(behind) => format!("{behind} later ones are known and would be lost"),
        None => "how many later ones there were is not known".to_owned(),
    };
    let complete = survivor.complete_until.as_ref().map_or_else(
        || "since when it may lack writes is not known".to_owned(),
        |until| format!("it has every write acknowledged before {}", until.0),
    );
    format!("{member} is left with revision {revision}; {behind}, and {complete}")
}

/// The revision of the survivor, where its etcd forces cleanly; else what the spec asks for, where that is another patch of
/// the same minor.
fn revision_to_force_with(view: &View<'_>, survivor: &MemberName) -> Result<Arc<Revision>, Notice> {
    let claim = view.claim_of(survivor);
    let own = claim.and_then(|claim| view.world.revisions.get(claim.assigned.as_ref()?));
    let opened = own.map(|own| own.version).or_else(|| claim?.opened);
    if let Some(own) = own.filter(|own| forces_cleanly(own.version)) {
        return Ok(Arc::clone(own));
    }
    let desired = view.desired.as_ref().ok();
    let versions = [opened, desired.map(|desired| desired.version)].into_iter().flatten();
    let clean = |version: &crate::etcd::EtcdVersion| {
        forces_cleanly(*version) && opened.is_none_or(|opened| opened.minor == version.minor)
    };
    let rendered = versions.filter(clean).find_map(|version| {
        let desired = desired?;
        revision::of_spec(view.world, &view.world.cluster.spec, desired, version).ok()
    });
    rendered.ok_or_else(|| {
        let runs = opened.map_or_else(|| "an unknown version".to_owned(), |runs| runs.to_string());
        let from = opened.and_then(first_to_force_cleanly);
        let wanted = from.map_or_else(|| "one that the table of versions knows".to_owned(), |it| it.to_string());
        Notice::new(
            Code::RecoveryRefused,
            format!(
                "spec.recovery: {survivor} is on etcd {runs}, with which what --force-new-cluster removes may come back"
            ),
            format!("set spec.version to a release of the same minor, from {wanted} on"),
        )
    })
}

/// Everybody else of this cluster, whatever is left of them.
fn others(view: &View<'_>, survivor: &MemberName) -> BTreeSet<MemberName> {
    let voters = view.voters().keys();
    let claims = view.own_claims().map(|(member, _)| member);
    let all = voters.chain(view.world.pods.keys()).chain(claims);
    all.filter(|member| *member != survivor).cloned().collect()
}

fn names<'a>(members: impl Iterator<Item = &'a MemberName>) -> String {
    members.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn go_on(view: &View<'_>, progress: &ProgressStatus, survivor: &MemberName) -> Next {
    let has_succeeded = progress.pod_uid.as_ref().is_some_and(|uid| !uid.is_empty());
    if has_succeeded {
        let release = || Record::Release { member: survivor.clone(), action: Action::Recover };
        return clear(view, Some(survivor)).unwrap_or_else(|| Next::Do(Step::Record(release())));
    }
    let votes_alone = view.voters().len() == 1 && view.voters().contains_key(survivor);
    let next = if votes_alone { None } else { before_the_force(view, progress, survivor) };
    next.unwrap_or_else(|| force(view, progress, survivor))
}

/// Everything up to the point of no return.
fn before_the_force(view: &View<'_>, progress: &ProgressStatus, survivor: &MemberName) -> Option<Next> {
    let is_asked = view.world.cluster.spec.recovery.as_ref().is_some_and(|asked| {
        Some(asked.incident.as_str()) == incident(view) && asked.from_member == survivor.to_string()
    });
    if !is_asked {
        return Some(call_off(view, survivor));
    }
    stop_everybody(view, survivor)
        .or_else(|| set_the_others_aside(view, survivor))
        .or_else(|| copy(view, progress, survivor))
        .or_else(|| note(view, progress, survivor))
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
            // What stands on a node that is no more goes with it.
            Whereabouts::Stopped => continue,
            Whereabouts::Going => {
                going = going.or_else(|| Some(member.clone()));
                continue;
            }
            Whereabouts::Unknown { why, remedy } => {
                return Some(wait(view, survivor, Notice::new(Code::RecoveryRefused, why, remedy)));
            }
            Whereabouts::Standing(pod) => pod,
        };
        let why = format!("the cluster is made anew from {survivor}");
        return Some(Next::Do(Step::remove(member, pod, &why)));
    }
    let member = going?;
    Some(wait(view, survivor, Notice::of(Code::Recovering, format!("{member}'s Pod is going away"))))
}

fn set_the_others_aside(view: &View<'_>, survivor: &MemberName) -> Option<Next> {
    let mut claims = view.own_claims().filter(|(member, claim)| *member != survivor && !claim.deleting);
    let (member, _) = claims.next()?;
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
        Err(next) => return Some(next),
    };
    match (pod.facts.ended, pod.facts.container.exit_code) {
        (true, Some(0)) => None,
        (true, _) => Some(failed(view, survivor, pod)),
        (false, _) => Some(runs(view, survivor, pod, "its data is copied")),
    }
}

/// The last that is written before the point of no return: from which revision the survivor starts, and that it votes alone.
fn note(view: &View<'_>, progress: &ProgressStatus, survivor: &MemberName) -> Option<Next> {
    let claim = view.claim_of(survivor)?;
    if claim.assigned.as_ref() != Some(&progress.revision) {
        let (members, revision) = (vec![survivor.clone()], progress.revision.clone());
        return Some(Next::Do(Step::Assign { members, revision, afresh: false }));
    }
    let (cluster_id, id) = (view.cluster_id()?, *view.voters().get(survivor)?);
    Some(Next::Do(Step::LeaveAlone { member: survivor.clone(), id, cluster_id }))
}

fn force(view: &View<'_>, progress: &ProgressStatus, survivor: &MemberName) -> Next {
    let pod = match made(view, progress, survivor, Stage::Force) {
        Ok(pod) => pod,
        Err(next) => return next,
    };
    if pod.facts.ended {
        return failed(view, survivor, pod);
    }
    match is_alone(view, survivor, pod) {
        Ok(()) => Next::Do(Step::Record(Record::Claim(Claim {
            action: Action::Recover,
            member: survivor.clone(),
            revision: progress.revision.clone(),
            pod_uid: pod.facts.uid.clone(),
            since: progress.since.0,
            failure: None,
            why: progress.reason.clone(),
        }))),
        Err(why) => runs(view, survivor, pod, &why),
    }
}

/// Whether the force has made a cluster of one: the same cluster and member, alone in its list, leading, with what it had.
fn is_alone(view: &View<'_>, survivor: &MemberName, pod: &RecoveryPod) -> Result<(), String> {
    let says = pod.says.as_ref().map_err(|why| format!("its etcd does not answer yet ({why})"))?;
    let (status, id) = (&says.status, view.voters().get(survivor).copied());
    let listed: Vec<_> = says.list.iter().map(|listed| Some(listed.id)).collect();
    let known = loss_of(view)
        .and_then(|loss| loss.survivors.iter().find(|known| known.member == survivor.to_string()));
    if Some(status.cluster_id) != view.cluster_id() || Some(status.member_id) != id {
        return Err(format!("it answers as {}", status.identity()));
    }
    if listed != [id] || status.leader != id || status.is_learner {
        return Err(format!("it does not lead alone yet: {} members in its list", listed.len()));
    }
    match known.filter(|known| status.revision < known.revision) {
        Some(known) => Err(format!("it has revision {}, and had {}", status.revision, known.revision)),
        None => Ok(()),
    }
}

/// The Pod of this stage, or how it comes to be.
fn made<'a>(
    view: &View<'a>,
    progress: &ProgressStatus,
    survivor: &MemberName,
    stage: Stage,
) -> Result<&'a RecoveryPod, Next> {
    let incident = incident(view).unwrap_or("0");
    let mut pods = view.world.recovery.pods.iter();
    let Some(pod) = pods.find(|pod| pod.stage == stage && pod.incident == incident) else {
        return Err(Next::Do(Step::CreateRecoveryPod(NewRecoveryPod {
            incident: incident.to_owned(),
            stage,
            member: survivor.clone(),
            copy: copy_of(view),
            revision: progress.revision.clone(),
        })));
    };
    if pod.facts.deleting {
        return Err(wait(
            view,
            survivor,
            Notice::of(Code::Recovering, format!("{} is going away", pod.name)),
        ));
    }
    Ok(pod)
}

/// No Pod of a recovery is left.
fn clear(view: &View<'_>, survivor: Option<&MemberName>) -> Option<Next> {
    let pods = &view.world.recovery.pods;
    let first = pods.first()?;
    let left: Vec<(String, String)> = pods
        .iter()
        .filter(|pod| !pod.facts.deleting)
        .map(|pod| (pod.name.clone(), pod.facts.uid.clone()))
        .collect();
    if left.is_empty() {
        let notice = Notice::of(Code::Recovering, format!("{} is going away", first.name));
        return Some(Next::Wait(view.wait(notice, survivor, "recovery Pods".to_owned(), 0)));
    }
    Some(Next::Do(Step::DeleteRecoveryPods(left)))
}

fn failed(view: &View<'_>, survivor: &MemberName, pod: &RecoveryPod) -> Next {
    let RecoveryPod { name, facts: PodFacts { container, .. }, .. } = pod;
    let code =
        container.exit_code.map_or_else(|| "without an exit code".to_owned(), |code| format!("with {code}"));
    let words = container.last_words.as_deref().unwrap_or("it left no words").trim();
    let remedy = format!(
        "mend what it says, then kubectl delete pod -n {} {name}: it is tried again",
        view.world.cluster.namespace
    );
    let notice = Notice::new(Code::RecoveryRefused, format!("the Pod {name} ended {code}: {words}"), remedy);
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
