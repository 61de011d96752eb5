//! Carries one step out, as the operator's `act` does: with the same preconditions, in the same
//! small pieces, between any two of which the operator may be killed.

use crate::check;
use crate::databases::{compact, defragment, disarm};
use crate::metadata;
use crate::observe::Seen;
use crate::recovery_steps;
use crate::volumes;
use crate::world::catalogue::BAD_FLAG;
use crate::world::kube::{Pod, Probe, State, StoredRevision, Volume};
use crate::world::{NAME, NAMESPACE, World};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use quorate::api::{EtcdClusterStatus, MemberRole, ProgressStatus, Quantity};
use quorate::cluster::names::MemberName;
use quorate::cluster::objects::claim::Purpose;
use quorate::cluster::objects::data::data_in_pod;
use quorate::cluster::objects::pod::Initial;
use quorate::cluster::objects::probe::NewProbe;
use quorate::cluster::objects::support;
use quorate::cluster::observation::{ClaimFacts, Ownership};
use quorate::cluster::plan::{Claim, Guarded, NewPod, Record, SnapshotNote, Step, Stop};
use quorate::cluster::report::{release, remember, withdraw};
use quorate::cluster::revision::Revision;
use quorate::cluster::spec::{self, storage_class};
use std::sync::Arc;

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// A precondition did not hold, or Kubernetes said no.
    Refused,
    /// The operator was killed in the middle.
    Killed,
}

/// Carries out one step that was planned from `seen`. `pieces`: how many writes the operator lives for.
#[allow(clippy::too_many_lines, reason = "one arm a step")]
pub fn act(world: &mut World, seen: &Seen, step: &Step, pieces: usize) -> Outcome {
    let mut pieces = pieces;
    let mut alive = || {
        let alive = pieces > 0;
        pieces = pieces.saturating_sub(1);
        alive
    };
    macro_rules! each {
        ($items:expr, $do:expr) => {{
            for item in $items {
                if !alive() {
                    return Outcome::Killed;
                }
                $do(world, item);
            }
            Outcome::Done
        }};
    }
    match step {
        Step::Guard(members) => each!(members, |world: &mut World, item| guard(world, item)),
        Step::CreatePods(pods) => each!(pods, |world: &mut World, item| create_pod(world, seen, item)),
        Step::CreateAuthority { not_before, not_after } => {
            if !alive() {
                return Outcome::Killed;
            }
            world.create_authority(*not_before, *not_after);
            wrote(world);
            Outcome::Done
        }
        Step::DeleteAuthority { uid } => {
            world.secrets.retain(|_, secret| secret.facts.uid != *uid);
            wrote(world);
            Outcome::Done
        }
        Step::IssueCertificates(pairs) => each!(pairs, |world: &mut World, item| {
            world.issue(item);
            wrote(world);
        }),
        Step::CreateClaims { members, purpose } => {
            each!(members, |world: &mut World, item| create_claim(world, seen, item, purpose))
        }
        Step::NoteVoters { cluster_id, .. } => {
            let of_this = |volume: &Volume| volume.facts.cluster_id == Some(*cluster_id);
            let claims = seen.facts.claims.keys();
            let claims: Vec<MemberName> =
                claims.filter(|member| world.claims.get(member).is_some_and(of_this)).cloned().collect();
            each!(&claims, |world: &mut World, member: &MemberName| note_member(world, step, member))
        }
        Step::Assign { members, revision, afresh } => {
            each!(members, |world: &mut World, member: &MemberName| {
                if let Some(volume) = world.claims.get_mut(member) {
                    volume.facts.assigned = Some(revision.clone());
                    volume.facts.first_pod.take_if(|_| *afresh);
                    let forms = volume.facts.cluster_id.is_none();
                    if let Some(bootstrap) = seen.facts.pinned_at(revision).filter(|_| forms) {
                        volume.facts.bootstrap = Some(bootstrap);
                    }
                    wrote(world);
                }
            })
        }
        Step::CreateProbes(probes) => each!(probes, create_probe),
        Step::DeleteProbes(probes) => each!(probes, |world: &mut World, (name, uid): &(String, String)| {
            if world.probes.get(name).is_some_and(|probe| probe.uid == *uid) {
                world.probes.remove(name);
                wrote(world);
            }
        }),
        Step::DeleteRevisions(names) => each!(names, |world: &mut World, name: &String| {
            if world.revisions.remove(name).is_some() {
                wrote(world);
            }
        }),
        Step::NoteMembers { opened, good, .. } => {
            let named: std::collections::BTreeSet<_> = opened.keys().chain(good.keys()).collect();
            each!(named, |world: &mut World, member: &MemberName| note_member(world, step, member))
        }
        Step::NoteFirstPods(first) => {
            each!(first, |world: &mut World, (member, uid): (&MemberName, &String)| {
                if let Some(volume) = world.claims.get_mut(member) {
                    volume.facts.first_pod = Some(uid.clone());
                    wrote(world);
                }
            })
        }
        Step::NoteSnapshots(notes) => {
            each!(notes, |world: &mut World, (member, note): (&MemberName, &SnapshotNote)| {
                let Some(volume) = world.claims.get_mut(member) else { return };
                let (base, free) = match note {
                    SnapshotNote::CountFrom(base) => (Some(base.clone()), false),
                    SnapshotNote::FreeOfV2Entries => (None, true),
                    SnapshotNote::Forget => (None, false),
                };
                volume.facts.snapshot_base = base;
                volume.facts.free_of_v2_entries = free;
                wrote(world);
            })
        }
        Step::DeleteClaims(members) => each!(members, |world: &mut World, member: &MemberName| {
            check::before_a_claim_is_deleted(world, seen, member);
            if let Some(volume) = world.claims.get_mut(member) {
                volume.facts.deleting = true;
                wrote(world);
            } else if world.set_aside.remove(member).is_some() {
                wrote(world);
            }
        }),
        Step::ApplySupport { voters } => each!([false, true], |world: &mut World, behind_the_first| {
            apply_support(world, seen, *voters, behind_the_first);
        }),
        _ if !alive() => Outcome::Killed,
        step => one_write(world, seen, step),
    }
}

/// What a step notes on the claim of one member.
fn note_member(world: &mut World, step: &Step, member: &MemberName) {
    let Some(volume) = world.claims.get_mut(member) else { return };
    let facts = &mut volume.facts;
    match step {
        Step::NoteMembers { cluster_id, voters, opened, good } => {
            facts.cluster_id = Some(*cluster_id);
            facts.member_id = voters.get(member).copied();
            facts.voters = Some(voters.clone());
            facts.opened = opened.get(member).copied().or(facts.opened);
            facts.good = good.get(member).cloned().or_else(|| facts.good.clone());
            facts.bootstrap = None;
            facts.first_pod = None;
        }
        Step::NoteVoters { voters, last_number, .. } => {
            facts.voters = Some(voters.clone());
            facts.last_number = Some(*last_number);
            facts.member_id = voters.get(member).copied().or(facts.member_id);
        }
        _ => return,
    }
    wrote(world);
}

/// Steps of one write.
fn one_write(world: &mut World, seen: &Seen, step: &Step) -> Outcome {
    let done = match step {
        Step::Record(record) => {
            let at = seen.facts.cluster.resource_version.parse().unwrap_or_default();
            let ok = world.write_status(at, |status| apply_record(status, record));
            if ok {
                check::record(world, seen, &seen.facts.cluster.status, record);
            }
            ok
        }
        Step::DiscardPod { member, uid, .. } => discard(world, member, uid),
        Step::ExpandClaim { member, size } => volumes::expand(world, seen, member, size),
        Step::SetFinalizer(wanted) => set_finalizer(world, *wanted),
        Step::StoreRevision(revision) => {
            store(world, revision);
            true
        }
        Step::RemovePod { member, uid, resource_version, .. } => {
            let meant = world
                .pods
                .get(member)
                .is_some_and(|pod| pod.uid == *uid && pod.resource_version() == *resource_version);
            if meant {
                check::before_a_pod_is_removed(world, seen, member);
                world.delete_pod(member);
                wrote(world);
            }
            meant
        }
        Step::MoveLeader { from, from_id, cluster_id, to, to_id } => {
            let meant = world.data(to).is_some_and(|data| data.member_id == to_id.0);
            meant && world.move_leader(from, from_id.0, cluster_id.0, to)
        }
        Step::Propose { through, entries } => world.propose_many(through, u64::from(*entries)),
        // Carried out, and then its answer does not come.
        Step::Downgrade { through, call } => {
            is_unchanged(world, seen) && world.call_downgrade(through, *call)
        }
        Step::Disarm { through, alarm } => disarm(world, seen, through, *alarm),
        Step::Compact { through, .. } => compact(world, seen, step, through),
        Step::Defragment { member } => defragment(world, seen, step, member),
        Step::Stop(proven) => evict(world, seen, proven),
        step => change_of_members(world, seen, step),
    };
    if done { Outcome::Done } else { Outcome::Refused }
}

/// Steps by which members come and go.
fn change_of_members(world: &mut World, seen: &Seen, step: &Step) -> bool {
    match step {
        Step::AddMember { through, member } => {
            is_unchanged(world, seen) && {
                check::before_a_member_is_added(world, seen, member);
                world.add_learner(through, member)
            }
        }
        Step::PromoteMember { through, id, .. } => world.promote(through, id.0),
        Step::RemoveMember(removal) => {
            let objection = check::objection_to_a_removal(world, seen, removal.member());
            let mut others = world.pods.iter().filter(|(member, _)| *member != removal.member());
            let is_member = |member: &MemberName| {
                let list = seen.facts.member_list.as_ref();
                list.is_none_or(|list| list.iter().any(|listed| listed.name == member.to_string()))
            };
            let another_leaves = others.any(|(member, pod)| pod.deleting.is_some() && is_member(member));
            let removed = is_unchanged(world, seen)
                && (removal.takes_nothing_away() || !another_leaves)
                && world.remove_member(removal.through(), removal.id().0);
            if let Some(objection) = objection.filter(|_| removed) {
                world.violate(objection);
            }
            removed
        }
        Step::Relabel { .. } => metadata::relabel(world, seen, step),
        Step::LabelVoter { member, uid } => {
            let pod = world.pods.get_mut(member).filter(|pod| pod.uid == *uid);
            let there = pod.is_some();
            if let Some(pod) = pod {
                pod.learner = false;
                wrote(world);
            }
            there
        }
        Step::SetAside { member, quarantined } => {
            if !is_unchanged(world, seen) {
                return false;
            }
            check::before_a_claim_is_set_aside(world, seen, member);
            if let Some(volume) = world.claims.remove(member) {
                let since = quarantined.then_some(world.now);
                world.set_aside.insert(member.clone(), (since, volume));
                wrote(world);
            }
            true
        }
        Step::TakeBack(_)
        | Step::LeaveAlone { .. }
        | Step::NoteForced(_)
        | Step::CreateRecoveryPod(_)
        | Step::DeleteRecoveryPods(_) => recovery_steps::carry_out(world, seen, step),
        _ => unreachable!("steps of many writes are carried out above"),
    }
}

/// Whether the EtcdCluster is what was seen.
pub fn is_unchanged(world: &World, seen: &Seen) -> bool {
    let cluster = world.cluster.as_ref();
    cluster.is_some_and(|it| it.resource_version.to_string() == seen.facts.cluster.resource_version)
}

/// How a record becomes status.
pub fn apply_record(status: &mut EtcdClusterStatus, record: &Record) {
    match record {
        Record::Bootstrap(bootstrap) => status.bootstrap = Some(bootstrap.clone()),
        Record::Formed(cluster_id) => {
            let last = status.bootstrap.take().map(|bootstrap| bootstrap.members - 1);
            status.cluster_id = Some(cluster_id.to_string());
            status.last_member_number = last.or(status.last_member_number);
        }
        Record::Adopted { cluster_id, last_member_number } => {
            status.bootstrap = None;
            status.cluster_id = Some(cluster_id.to_string());
            status.last_member_number = i32::try_from(*last_member_number).ok();
        }
        Record::Claim(claim) => {
            // One time for all, so that states which differ in nothing else are the same.
            remember(status, claim, Timestamp::UNIX_EPOCH);
            status.progress = Some(progress(claim));
            if claim.failure.is_some() {
                status.last_failure = claim.failure.as_deref().cloned();
            }
        }
        Record::Release { member, action } => release(status, member, *action),
        Record::Withdraw { member } => withdraw(status, member),
    }
}

fn progress(claim: &Claim) -> ProgressStatus {
    ProgressStatus {
        step: None,
        steps: None,
        action: claim.action,
        member: claim.member.to_string(),
        revision: claim.revision.clone(),
        pod_uid: Some(claim.pod_uid.clone()),
        waiting_for: None,
        reason: claim.why.clone(),
        since: Time(claim.since),
        deadline: None,
    }
}

pub fn wrote(world: &mut World) {
    world.writes += 1;
    world.changed();
}

fn store(world: &mut World, revision: &Arc<Revision>) {
    if !world.revisions.contains_key(&revision.name) {
        let owner = world.owner().uid;
        let stored = StoredRevision { owner, revision: Arc::clone(revision) };
        world.revisions.insert(revision.name.clone(), stored);
        wrote(world);
    }
}

/// The headless Service, then the rest.
fn apply_support(world: &mut World, seen: &Seen, voters: usize, behind_the_first: bool) {
    let (owner, spec) = (world.owner(), &seen.facts.cluster.spec);
    if behind_the_first {
        world.client = Some(Arc::new(support::client(NAMESPACE, NAME, spec, owner.clone()).stamped()));
        world.budget = Some(support::budget(NAMESPACE, NAME, voters, owner).stamped());
    } else {
        world.headless = Some(Arc::new(support::headless(NAMESPACE, NAME, spec, owner).stamped()));
    }
    wrote(world);
}

fn set_finalizer(world: &mut World, wanted: bool) -> bool {
    let version = world.serial();
    let Some(cluster) = &mut world.cluster else { return false };
    // The API server lets nobody add a finalizer to what is being deleted.
    if cluster.deleting && wanted {
        return false;
    }
    cluster.finalizer = wanted;
    cluster.resource_version = version;
    if cluster.deleting {
        world.cluster = None;
    }
    wrote(world);
    true
}

fn create_claim(world: &mut World, seen: &Seen, member: &MemberName, purpose: &Purpose) {
    if world.claims.contains_key(member) || world.set_aside.contains_key(member) {
        return;
    }
    let (bootstrap, cluster_id, assigned) = match purpose {
        Purpose::Bootstrap(bootstrap, revision) => (Some(bootstrap.clone()), None, revision.clone()),
        Purpose::Join(cluster_id, revision) => (None, Some(*cluster_id), Some(revision.clone())),
        Purpose::Copy(cluster_id, _) => (None, Some(*cluster_id), None),
    };
    let (spec, uid) = (&seen.facts.cluster.spec, world.uid("claim"));
    let in_pod = spec::keeps_data_in_pods(spec);
    let owner = in_pod.then(|| seen.facts.cluster.uid.clone());
    if in_pod && !is_made(world, seen, member, assigned.as_ref()) {
        return;
    }
    // A Pod has what its revision says.
    let in_its_pod = assigned.as_ref().filter(|_| in_pod).and_then(|revision| {
        let template = &world.revisions[revision].revision.template;
        Quantity::new(data_in_pod(template.spec.as_ref()?)?.size_limit.clone()?.0).bytes()
    });
    let size = in_its_pod.or_else(|| spec::storage_size(spec).bytes());
    let facts = ClaimFacts {
        in_pod,
        uid,
        resource_version: String::new(),
        ownership: Ownership::Ours,
        deleting: false,
        cluster_id,
        member_id: None,
        voters: None,
        last_number: None,
        bootstrap,
        wire: seen.facts.wire(),
        assigned,
        good: None,
        opened: None,
        first_pod: None,
        recovering: None,
        snapshot_base: None,
        free_of_v2_entries: false,
        size,
        capacity: size,
        awaits_file_system: false,
        resize_error: None,
        class: (!in_pod).then(|| storage_class(spec).unwrap_or("standard").to_owned()),
        volume: None,
    };
    let volume = Volume { facts, owner, data: None, damaged: false, home: None, grows_at: None };
    if let Purpose::Copy(..) = purpose {
        world.set_aside.insert(member.clone(), (Some(world.now), volume));
    } else {
        world.claims.insert(member.clone(), volume);
    }
    wrote(world);
}

/// Whether a Pod is made that keeps its member's data and is not started yet.
fn is_made(world: &mut World, seen: &Seen, member: &MemberName, revision: Option<&String>) -> bool {
    let is_stored = revision.is_some_and(|revision| world.revisions.contains_key(revision));
    if !is_stored {
        world.violate(format!("{member}'s Pod is made from {revision:?}, which is not stored"));
    }
    let is_there = world.cluster.as_ref().is_some_and(|cluster| cluster.uid == seen.facts.cluster.uid);
    is_stored && is_there && !world.pods.contains_key(member)
}

fn create_pod(world: &mut World, seen: &Seen, new: &NewPod) {
    let Some(revision) = world.revisions.get(&new.revision).map(|stored| stored.revision.clone()) else {
        world.violate(format!("{} is made from revision {}, which is not stored", new.member, new.revision));
        return;
    };
    if world.cluster.as_ref().is_none_or(|cluster| cluster.uid != seen.facts.cluster.uid) {
        // Kubernetes would take it and the garbage collector would delete it at once.
        return;
    }
    if world.pods.contains_key(&new.member) {
        return;
    }
    let own = |claim: &ClaimFacts| claim.in_pod.then(|| claim.uid.clone());
    let seen_as = seen.facts.claims.get(&new.member).and_then(own);
    let claim = world.claims.get(&new.member).map(|volume| &volume.facts);
    if seen_as.is_some() && claim.and_then(own) != seen_as {
        return;
    }
    let assigned = claim.and_then(|claim| claim.assigned.clone());
    if seen_as.is_some() && assigned.as_ref() != Some(&new.revision) {
        world.violate(format!("{} is started from {}, its Pod is of {assigned:?}", new.member, new.revision));
    }
    check::before_a_pod_is_made(world, seen, new, &revision);
    check::has_certificates(world, &new.member);
    let pod = Pod {
        uid: seen_as.unwrap_or_else(|| world.uid("pod")),
        owner: Some(seen.facts.cluster.uid.clone()),
        deleting: None,
        revision: new.revision.clone(),
        image: revision.image.clone(),
        bad_flag: revision.args().any(|arg| arg.contains(BAD_FLAG)),
        hangs: revision.template.spec.as_ref().is_some_and(|spec| spec.runtime_class_name.is_some()),
        bound_at: 0,
        initial: new.initial.clone(),
        learner: new.role == MemberRole::Learner,
        node: None,
        ready: false,
        ended: false,
        restarts: 0,
        exit_code: None,
        last_words: None,
        snapshots: 0,
        joined: false,
        state: State::Unscheduled,
    };
    world.pods.insert(new.member.clone(), pod);
    metadata::feel(world, &new.member);
    world.made += 1;
    wrote(world);
}

/// A Pod that no node has goes at once; one that another operator has started since is not what was seen.
fn discard(world: &mut World, member: &MemberName, uid: &str) -> bool {
    let is_it = world.claims.get(member).is_some_and(|volume| volume.facts.uid == uid);
    let is_it = is_it && !world.pods.contains_key(member);
    if is_it {
        world.claims.remove(member);
        wrote(world);
    }
    is_it
}

fn guard(world: &mut World, guarded: &Guarded) {
    let Some(pod) = world.pods.get_mut(&guarded.member).filter(|pod| pod.uid == guarded.uid) else { return };
    pod.initial = Initial::Guard;
    if let Some(volume) = world.claims.get_mut(&guarded.member) {
        volume.facts.opened = Some(guarded.version);
    }
    wrote(world);
}

fn create_probe(world: &mut World, new: &NewProbe) {
    let NewProbe { node, revision, tries } = new;
    let name = format!("{NAME}-probe-{node}-{revision}-{tries:?}");
    let number = node.rsplit_once('-').and_then(|(_, number)| number.parse().ok());
    let image = world.revisions.get(revision).map(|stored| stored.revision.image.clone());
    let (Some(node), Some(image)) = (number, image) else { return };
    if world.probes.contains_key(&name) {
        return;
    }
    let owner = world.owner().uid;
    let done_at = world.now + 500 + world.rng.range(0, 4_000);
    let uid = world.uid("probe");
    let (revision, tries) = (revision.clone(), tries.clone());
    world.probes.insert(name, Probe { uid, owner, node, revision, image, tries, done_at });
    wrote(world);
}

fn evict(world: &mut World, seen: &Seen, stop: &Stop) -> bool {
    let objection = check::objection_to_a_stop(world, seen, stop.member());
    let keeps_data = world.claims.get(stop.member()).is_some_and(|volume| volume.facts.in_pod);
    let with_its_data = || format!("{} is stopped, and its data goes with its Pod", stop.member());
    let objection = objection.or_else(|| keeps_data.then(with_its_data));
    let already = world.pods.get(stop.member()).is_some_and(|pod| pod.deleting.is_some());
    let as_seen = stop.resource_version().is_none_or(|version| {
        world.pods.get(stop.member()).is_some_and(|pod| pod.resource_version() == version)
    });
    let granted = as_seen && world.evict(stop.member(), Some(stop.uid()));
    if granted && !already {
        world.writes += 1;
        if let Some(objection) = objection {
            world.violate(objection);
        }
    }
    granted
}
