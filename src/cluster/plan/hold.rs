//! Whether a change may begin now: a pause of the rollout, a person's approval, and the maintenance windows. What has begun goes on;
//! bringing members back, putting them back and healing them needs neither.

use super::exchange;
use super::resize;
use super::step::{Next, Wait};
use super::view::View;
use super::volumes;
use crate::api::{Approval, Code};
use crate::cluster::names::{MemberName, digest_of};
use crate::cluster::notice::Notice;
use crate::cluster::observation::DowngradeJob;
use crate::cluster::revision;
use crate::cluster::windows::Window;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a person approves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// The hash that the annotation names.
    pub hash: String,
    /// What members become in the end: the name of a revision.
    pub becomes: String,
    /// How many there are in the end, where that changes.
    pub replicas: Option<i32>,
    /// What their volumes become, where that changes.
    pub storage: Option<String>,
    /// Whether it was approved; nothing where nobody is asked.
    pub approved: Option<bool>,
}

/// What the hash is of. It says nothing of the way's present state, so it stays while nothing moves.
#[derive(Serialize)]
struct Inputs<'a> {
    becomes: &'a str,
    members: BTreeMap<String, String>,
    hops: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storage: Option<&'a str>,
}

/// What the spec wants to be done to members; nothing where they are as it says.
pub(super) fn intent(view: &View<'_>) -> Option<Intent> {
    let desired = view.desired.as_ref().ok().filter(|_| view.cluster_id().is_some())?;
    // Between two hops all members are as the first of them made them.
    let is_the_last = view.way.iter().flatten().flatten().count() <= 1;
    let storage = volumes::change(view);
    // One more than are wanted has come for one that goes.
    let goes_for_another = storage.is_some() || exchange::next(view).is_some();
    let exchanges = goes_for_another && view.voters().len() == desired.replicas as usize + 1;
    let replicas = (resize::is_due(view) && !exchanges).then_some(desired.replicas);
    let is_as_it_says = view.outdated().is_empty() && replicas.is_none() && storage.is_none();
    if is_as_it_says && is_the_last && view.claimed().is_none() {
        return None;
    }
    let cluster = &view.world.cluster;
    let becomes = revision::name(&cluster.name, &cluster.spec, view.world.wire(), desired.version);
    let shown = |replicas: Option<u32>| replicas.and_then(|replicas| i32::try_from(replicas).ok());
    let manual = desired.approval == Approval::Manual;
    // An approval stands until that plan has ended, whatever the annotation says by then.
    let stored = cluster.status.plan.as_ref().filter(|plan| {
        let same_size = plan.replicas.is_none() && replicas.is_none()
            || plan.replicas == i32::try_from(desired.replicas).ok();
        let same_storage = storage.is_none() || plan.storage == storage;
        plan.becomes.as_ref() == Some(&becomes) && same_size && same_storage
    });
    if let Some(stored) = stored.filter(|plan| plan.approved == Some(true))
        && let Some(hash) = stored.hash.clone()
    {
        return Some(Intent {
            hash,
            becomes,
            replicas: stored.replicas.or(shown(replicas)),
            storage: stored.storage.clone().or(storage),
            approved: manual.then_some(true),
        });
    }
    let version = |member: &MemberName| {
        let runs = view.answer(member).and_then(|answer| answer.status()).map(|status| status.version);
        runs.or_else(|| view.claim_of(member)?.opened).map(|version| version.to_string()).unwrap_or_default()
    };
    let hash = digest_of(&Inputs {
        becomes: &becomes,
        members: view.members().iter().map(|member| (member.to_string(), version(member))).collect(),
        hops: view.way.iter().flatten().flatten().map(ToString::to_string).collect(),
        replicas,
        storage: storage.as_deref(),
    });
    let approved = manual.then(|| cluster.approve.as_ref() == Some(&hash));
    Some(Intent { hash, becomes, replicas: shown(replicas), storage, approved })
}

/// What a change waits for before it may begin.
pub(super) fn held(view: &View<'_>) -> Option<Notice> {
    let intent = view.intent()?;
    if view.desired.as_ref().is_ok_and(|desired| desired.rollout_paused) {
        return Some(Notice::of(Code::RolloutPaused, "spec.rollout.paused is true: members are only healed"));
    }
    if intent.approved == Some(false) {
        return Some(unapproved(view, intent));
    }
    let windows = &view.desired.as_ref().ok()?.windows;
    let now = view.world.now;
    // Members come and go one at a time, each a change of its own.
    let is_more = resize::is_due(view) || intent.storage.is_some();
    let goes_on = has_begun(view) && !(view.outdated().is_empty() && is_more);
    if windows.is_empty() || windows.iter().any(|window| window.is_open(now)) || goes_on {
        return None;
    }
    let next = windows.iter().filter_map(|window: &Window| window.next_after(now)).min();
    let next = next
        .map_or("never".to_owned(), |next| next.to_zoned(TimeZone::UTC).strftime("%F %H:%M UTC").to_string());
    Some(Notice::new(
        Code::OutsideWindow,
        format!("no maintenance window is open; the next one opens {next}"),
        "wait, or change spec.rollout.windows to begin earlier",
    ))
}

fn unapproved(view: &View<'_>, intent: &Intent) -> Notice {
    let cluster = &view.world.cluster;
    let hops: Vec<String> = super::roll::hops(view).iter().map(ToString::to_string).collect();
    let mut what = if hops.is_empty() { Vec::new() } else { vec![hops.join(" → ")] };
    if hops.is_empty() && !view.outdated().is_empty() {
        what.push("new settings".to_owned());
    }
    what.extend(intent.storage.as_ref().map(|storage| format!("volumes of {storage}")));
    what.extend(intent.replicas.map(|replicas| format!("{replicas} members in the end")));
    let (what, members) = (what.join(", "), view.members().len());
    Notice::new(
        Code::ApprovalPending,
        format!("the plan {} ({what}, {members} members one at a time) waits for approval", intent.hash),
        format!(
            "kubectl annotate etcd -n {} {} quorate.dev/approve={} --overwrite",
            cluster.namespace, cluster.name, intent.hash
        ),
    )
}

/// Whether a member has been brought to the next version on the way already: then the hop is completed.
pub(super) fn has_begun(view: &View<'_>) -> bool {
    let Some(target) = &view.target else { return false };
    view.members().iter().any(|member| view.revision_of(member) == Some(&target.name))
        || view.world.downgrade_job == DowngradeJob::To(target.version.minor)
}

pub(super) fn what_may_not_begin_yet(view: &View<'_>) -> Option<Next> {
    let notice = view.held()?.clone();
    // A person's silence is no failure: it is never overdue.
    Some(Next::Wait(Wait {
        subject: notice.code.to_string(),
        notice,
        member: None,
        progress: 0,
        deadline: Duration::ZERO,
        overdue: false,
        close: false,
    }))
}
