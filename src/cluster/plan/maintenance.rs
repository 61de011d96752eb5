//! Room in the databases. A database never shrinks by itself: what is deleted or compacted leaves room inside it, and a
//! defragmentation gives that back, while its member serves nobody. Where a database reaches its quota etcd sets the alarm
//! NOSPACE and refuses writes until it is taken back: first the history of the keys goes, where that is what fills it,
//! then the room it took, then the alarm. What the keys themselves take is for a person.

use super::claimed::move_leader_off;
use super::gates;
use super::roll::{changes_version, next_to_mend};
use super::step::{Next, Record, Step};
use super::up::Up;
use super::view::View;
use crate::api::{Action, Code, DefragmentationMode, ProgressStatus, RoomStatus};
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::cluster::observation::is_fragmented;
use crate::cluster::revision::Revision;
use crate::etcd::Alarm;
use jiff::SignedDuration;

/// Hundredths of its quota from which on a database counts as full: writers shall have some time before the next alarm.
const FULL: u64 = 80;
/// Hundredths of its quota that may be in use for a defragmentation to help a full one.
const LITTLE: u64 = 70;
/// A database that takes less of its quota than this is not worth a pause in quiet times, in hundredths: one whose history
/// comes and goes would have one after each compaction.
const SMALL_OF_QUOTA: u64 = 25;

fn is_automatic(view: &View<'_>) -> bool {
    view.desired.as_ref().is_ok_and(|desired| desired.defragmentation == DefragmentationMode::Automatic)
}

/// The alarm NOSPACE is answered, whatever else is to be done: no version changes under it. A new quota comes first.
pub(super) fn room_after_an_alarm(view: &View<'_>) -> Option<Next> {
    if view.alarms() != [Alarm::NoSpace] || !is_automatic(view) {
        return None;
    }
    let target = view.target.as_ref().filter(|_| !view.outdated().is_empty() && view.may_change_members());
    let gets_settings = target.is_some_and(|target| !changes_version(view, target));
    if next_to_mend(view).is_some() || gets_settings {
        return None;
    }
    gates::of_all_members(view).ok()?;
    let through = view.leader()?.clone();
    let ups = view.up_members();
    let rooms: Vec<Room> = ups.iter().map(|(member, up)| room(view, member, *up)).collect();
    if rooms.iter().all(|room| room.size < FULL) {
        return Some(Next::Do(Step::Disarm { through, alarm: Alarm::NoSpace }));
    }
    let uses = rooms.iter().map(|room| room.in_use).max().unwrap_or_default();
    if uses < LITTLE && due(view).iter().all(|member| has_room_for_a_copy(view, member)) {
        return first_to_defragment(view);
    }
    let revision = ups.iter().map(|(_, up)| up.status.revision).min()?;
    let done = view.world.cluster.status.room.as_ref();
    if done.is_none_or(|room| is_to_be_compacted_again(view, room, revision)) {
        return Some(Next::Do(Step::Compact { through, revision }));
    }
    if let Some(defragment) = first_to_defragment(view) {
        return Some(defragment);
    }
    let without_room = due(view).into_iter().find(|member| !has_room_for_a_copy(view, member));
    if let Some(member) = without_room {
        let message = format!(
            "{member} could give room back, and its volume has none for the second copy that this writes"
        );
        return Some(view.wait_for(Notice::of(Code::NoSpace, message), None));
    }
    let message = format!(
        "the keys themselves take {} % of the quota or more, also without their history: nothing that may be forgotten is left",
        uses / 10 * 10
    );
    Some(view.wait_for(Notice::of(Code::NoSpace, message), None))
}

/// A database that is fragmented gives back what it does not use, while there is nothing else to do.
pub(super) fn a_fragmented_database(view: &View<'_>) -> Option<Next> {
    let is_at_rest = view.outdated().is_empty() && view.held().is_none() && view.alarms().is_empty();
    if !is_automatic(view) || !is_at_rest || view.intent().is_some() {
        return None;
    }
    first_to_defragment(view)
}

/// No hop begins with a database that is close to its quota: it gives back first what it does not use.
pub(super) fn room_before_a_hop(view: &View<'_>) -> Option<Next> {
    first_to_defragment(view).filter(|_| is_automatic(view))
}

fn first_to_defragment(view: &View<'_>) -> Option<Next> {
    let mut due = due(view);
    due.retain(|member| has_room_for_a_copy(view, member));
    // The leader last: so it moves once.
    due.sort_by_key(|member| (view.leader() == Some(member), member.clone()));
    let member = due.first()?;
    gates::nodes_are_well(view).ok()?;
    gates::before(view, member).ok()?;
    Some(view.claim_change(Action::Defragment, member, String::new(), None))
}

fn due(view: &View<'_>) -> Vec<MemberName> {
    view.members().iter().filter(|member| is_worth_it(view, member)).cloned().collect()
}

/// Whether what a member has on its disk leaves room for a defragmentation.
fn has_room_for_a_copy(view: &View<'_>, member: &MemberName) -> bool {
    let volume = view.claim_of(member).and_then(|claim| claim.size);
    let taken = volume.and_then(|volume| Some(takes_with_a_copy(view.up(member)?, volume)));
    taken.is_none_or(|taken| Some(taken) <= volume)
}

/// What a member takes of a disk of this size while it is defragmented, in bytes: that writes a second copy of what is in use
/// beside the database, and the WAL wants room too.
pub(super) fn takes_with_a_copy(up: Up<'_>, volume: u64) -> u64 {
    // Five files of 64 MB, on a volume that is large enough for that to matter.
    const WAL: u64 = 320 << 20;
    bytes(up.status.db_size) + bytes(up.status.db_size_in_use) + WAL.min(volume / 4)
}

/// What a database takes and uses, in hundredths of its quota.
#[derive(Clone, Copy, Debug)]
struct Room {
    size: u64,
    in_use: u64,
}

fn bytes(size: i64) -> u64 {
    u64::try_from(size).unwrap_or_default()
}

fn room(view: &View<'_>, member: &MemberName, up: Up<'_>) -> Room {
    // By the quota that it was started with, which may not be the spec's.
    let revision = view.pod(member).and_then(|pod| view.revision(&pod.revision));
    let asked_for = view.desired.as_ref().map(|desired| desired.quota_bytes);
    let quota = revision.and_then(Revision::quota_bytes).or(asked_for.ok()).unwrap_or(u64::MAX).max(1);
    let of_quota = |size: i64| bytes(size).saturating_mul(100) / quota;
    Room { size: of_quota(up.status.db_size), in_use: of_quota(up.status.db_size_in_use) }
}

/// Somebody may have deleted keys since, which is allowed under the alarm. So do leases, all the time.
fn is_to_be_compacted_again(view: &View<'_>, room: &RoomStatus, revision: i64) -> bool {
    const PAUSE: SignedDuration = SignedDuration::from_mins(10);
    revision > room.revision && view.world.now.duration_since(room.time.0) >= PAUSE
}

/// Whether a member was not defragmented since the history of the keys was forgotten. What that frees counts as in use
/// until the database has written twice since (bbolt releases the pages of one transaction in the next), and under the
/// alarm nothing is written: so only a defragmentation shows it (measured on 3.5.9, 3.6.16 and 3.7.3).
fn has_room_to_show(view: &View<'_>, member: &MemberName) -> bool {
    let room = view.world.cluster.status.room.as_ref().filter(|_| view.alarms().contains(&Alarm::NoSpace));
    room.is_some_and(|room| !room.defragmented.contains(&member.to_string()))
}

/// Whether a defragmentation gives back enough to be worth the pause.
fn is_worth_it(view: &View<'_>, member: &MemberName) -> bool {
    let Some(up) = view.up(member) else { return false };
    let Room { size, in_use } = room(view, member, up);
    (size >= FULL && (in_use < LITTLE || has_room_to_show(view, member)))
        || (size >= SMALL_OF_QUOTA && is_fragmented(up.status))
}

/// Claimed: leadership goes first, then the member is defragmented.
pub(super) fn go_on(view: &View<'_>, progress: &ProgressStatus, member: &MemberName) -> Next {
    let withdraw = || Next::withdraw(member);
    let defragment = Step::Defragment { member: member.clone() };
    // It says no for that long where its disk is full, say.
    let fails = view.has_been_refused_for_too_long(&defragment);
    if !view.voters().contains_key(member) || !is_automatic(view) || fails {
        return withdraw();
    }
    if view.up(member).is_none() {
        // It does not answer while it is at it; where it is down for another reason, that is waited for without a claim.
        let notice =
            Notice::of(Code::Defragmenting, format!("{member} does not answer while it is defragmented"));
        let wait = view.wait(notice, Some(member), format!("defragment/{member}"), 0);
        let runs = view.pod(member).is_some_and(|pod| pod.container.running_since.is_some() && !pod.deleting);
        let another_is_mendable = next_to_mend(view).is_some_and(|(other, _)| other != *member);
        return if wait.overdue || !runs || another_is_mendable { withdraw() } else { Next::Wait(wait) };
    }
    if !is_worth_it(view, member) {
        return Next::Do(Step::Record(Record::Release { member: member.clone(), action: progress.action }));
    }
    if gates::before(view, member).is_err() {
        // Nothing was touched yet, and another member may need the claim.
        return withdraw();
    }
    if view.voters().len() > 1 && view.leader() == Some(member) {
        return move_leader_off(view, progress, member).unwrap_or_else(withdraw);
    }
    Next::Do(defragment)
}
