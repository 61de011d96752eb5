//! The terms of a recovery: what a person is offered when the quorum is lost for good, and whether what they say can be
//! carried out. Whatever cannot is refused, and nothing is touched.

use super::claimed;
use super::heal;
use super::loss::{self, Loss};
use super::put_back::next_left_half_way;
use super::roll::next_to_mend;
use super::step::{Next, Wait};
use super::stopped::{Whereabouts, others, whereabouts};
use super::view::{View, quorum};
use crate::api::{Action, Code, ProgressStatus, QuorumLossStatus, SurvivorStatus};
use crate::cluster::names::{MemberName, listed};
use crate::cluster::notice::Notice;
use crate::cluster::observation::{Answer, ClaimFacts, Ownership, Stage};
use crate::cluster::revision::{self, Revision};
use crate::etcd::EtcdVersion;
use crate::etcd::versions::{first_to_force_cleanly, forces_cleanly};
use std::sync::Arc;
use std::time::Duration;

/// Whether a claim is that of a recovery: a person's word was taken.
pub(super) fn is_recovery(progress: &ProgressStatus) -> bool {
    progress.action == Action::Recover
}

/// The loss that there is, as it stands in the status.
pub(super) fn loss_of<'a>(view: &View<'a>) -> Option<&'a QuorumLossStatus> {
    view.world.cluster.status.quorum_loss.as_ref()
}

/// For how long it has lasted.
pub(super) fn lasted(view: &View<'_>, loss: &QuorumLossStatus) -> Duration {
    Duration::try_from(view.world.now.duration_since(loss.since.0)).unwrap_or_default()
}

/// What a person must know, or has said and cannot have.
pub(super) fn refusals(view: &View<'_>) -> Vec<Notice> {
    // Where nobody has data there is nothing to offer, which is told elsewhere.
    let is_under_way = view.claimed().is_some_and(|(progress, _)| is_recovery(progress));
    if is_under_way || !loss::refusals(view).is_empty() {
        return Vec::new();
    }
    match accepted(view) {
        Some(Ok(_)) => Vec::new(),
        Some(Err(notice)) => vec![notice],
        None => offer(view).into_iter().collect(),
    }
}

/// Nothing else leads on where a quorum has lost its data: whatever is claimed, or waited for, waits for a person.
pub(super) fn a_loss_for_good(view: &View<'_>) -> Option<Next> {
    let loss = loss_of(view).filter(|_| view.world.lacks_a_quorum())?;
    if !is_lost_for_good(view, loss) || refusals(view).is_empty() {
        return None;
    }
    if let Some(next) = what_may_show_the_claimed(view) {
        return Some(next);
    }
    let mended = next_to_mend(view).map(|(member, _)| member);
    let left = mended.or_else(|| Some(next_left_half_way(view)?.0.clone()));
    let Some(left) = left.filter(|member| survivor_with_data(view, member).is_some()) else {
        return Some(Next::Refused);
    };
    // It gets the claim; what another one is claimed for needs a quorum.
    let another = view.claimed().filter(|(_, member)| *member != left);
    another.map(|(_, member)| Next::withdraw(&member))
}

/// What a claimed member gets that has its data and is not seen, as after a flag with which it does not start: it may be
/// the one to go on from, and what it knows shows once it runs. Meanwhile a person is told what is known.
fn what_may_show_the_claimed(view: &View<'_>) -> Option<Next> {
    let (progress, member) = view.claimed()?;
    let is_seen = view.answer(&member).and_then(Answer::knows).is_some();
    if !progress.action.gives_a_revision() || is_seen {
        return None;
    }
    survivor_with_data(view, &member)?;
    match claimed::the_member_that_may_be_away(view)? {
        Next::Wait(wait) => Some(Next::Wait(Wait { close: false, ..wait })),
        next => Some(next),
    }
}

/// The survivor that a person names, and the revision that it is started from, where all that they say is so.
pub(super) fn accepted(view: &View<'_>) -> Option<Result<(MemberName, Arc<Revision>), Notice>> {
    let asked = view.world.cluster.spec.recovery.as_ref()?;
    let loss = loss_of(view).filter(|_| view.world.lacks_a_quorum())?;
    let refuse = |message: String, remedy: String| {
        Some(Err(Notice::new(Code::RecoveryRefused, format!("spec.recovery: {message}"), remedy)))
    };
    let id = view.cluster_id()?.to_string();
    if asked.cluster_id != id {
        return refuse(format!("clusterID is {}, and this is cluster {id}", asked.cluster_id), look(view));
    }
    if asked.incident != loss.incident && !is_lost_for_good(view, loss) {
        // What was said of an earlier loss stands in the spec still, and this one passes.
        return None;
    }
    if asked.incident != loss.incident {
        let message = format!("it is about the loss {}, and this one is {}", asked.incident, loss.incident);
        return refuse(message, look(view));
    }
    let known = loss.survivor(&asked.from_member);
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
    if view.keeps_data_in_pods() {
        let message = format!("{survivor} keeps its data in its Pod, which no other Pod can open");
        return refuse(message, heal::how_to_save(view));
    }
    if !is_lost_for_good(view, loss) {
        let message = format!(
            "so many of {} have their volumes that they are a quorum, and are brought back",
            listed(view.voters().keys())
        );
        let remedy = format!(
            "wait; where a volume is gone for good, say so by kubectl delete pvc -n {} data-… (and keep what may come back: set \
             persistentVolumeReclaimPolicy to Retain on its PersistentVolume first)",
            view.world.cluster.namespace
        );
        return refuse(message, remedy);
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
    Some(revision_to_force_with(view, &survivor).map(|revision| (survivor, revision)))
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
    let lost_home = |member: &MemberName| {
        let (_, trouble) = loss::lost_home(view, member).filter(|_| lasted(view, loss) >= after)?;
        Some(Loss::Node(trouble))
    };
    let how = |member: &MemberName| loss::loss_that_lasts(view, member).or_else(|| lost_home(member));
    view.voters().keys().filter_map(|member| Some((member.clone(), how(member)?))).collect()
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
            && loss::loss_that_lasts(view, member).is_none()
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
    let told = format!("the quorum is lost for good: {}", given_up.join(", "));
    if view.keeps_data_in_pods() {
        return Some(Notice::new(Code::RecoveryNeeded, told, heal::how_to_save(view)));
    }
    let Some(best) = best else {
        let remedy = "bring back what they lost, or start one of the others: what it knows shows then";
        return Some(Notice::new(Code::RecoveryNeeded, format!("{told}; nobody else has been seen"), remedy));
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
    Some(Notice::new(Code::RecoveryNeeded, format!("{told}; {}", what_is_lost(best)), remedy))
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

/// The revision of the survivor, where its etcd forces cleanly and opens its data; else what the spec asks for, where that is of
/// the same minor.
pub(super) fn revision_to_force_with(
    view: &View<'_>,
    survivor: &MemberName,
) -> Result<Arc<Revision>, Notice> {
    let claim = view.claim_of(survivor);
    let own = claim.and_then(|claim| view.world.revisions.get(claim.assigned.as_ref()?));
    let opened = claim.and_then(|claim| claim.opened).or_else(|| own.map(|own| own.version));
    let floor = view.world.last_known_cluster_version();
    let starts = |version: EtcdVersion| {
        forces_cleanly(version)
            && opened.is_none_or(|opened| opened.minor == version.minor)
            && floor.is_none_or(|floor| version.minor >= floor)
    };
    let desired = view.desired.as_ref().ok();
    let rendered = |version: EtcdVersion| {
        let spec = &view.world.cluster.spec;
        revision::of_spec(view.world, spec, desired?, version).ok().filter(|it| starts(it.version))
    };
    // Where its revision went with the EtcdCluster, what it ran is rendered anew.
    let asked_for = || rendered(desired?.version).or_else(|| rendered(opened?));
    // What a person has changed since is meant to help.
    let has_ended = view.world.recovery.pods.iter().any(|pod| pod.stage == Stage::Force && pod.facts.ended);
    let own = own.filter(|own| starts(own.version)).map(Arc::clone);
    let chosen = if has_ended { asked_for().or(own) } else { own.or_else(asked_for) };
    chosen.ok_or_else(|| {
        let runs = opened.map_or_else(|| "an unknown version".to_owned(), |runs| runs.to_string());
        let from = opened.and_then(first_to_force_cleanly);
        let wanted =
            from.map_or_else(|| "one that the table of versions knows".to_owned(), |it| it.to_string());
        Notice::new(
            Code::RecoveryRefused,
            format!(
                "spec.recovery: {survivor} is on etcd {runs}, with which what --force-new-cluster removes may come back"
            ),
            format!("set spec.version to a release of the same minor, from {wanted} on"),
        )
    })
}
