//! Invariant 7: once faults have stopped and nothing moves, the cluster is what its spec says, or there is a reason that is
//! true. Asked of the true world, as the others are.

use crate::check::counts;
use crate::metadata::CUTS_OFF;
use crate::volumes;
use crate::world::World;
use crate::world::catalogue::{self, BAD_FLAG, Image};
use crate::world::etcd::{Data, UNDECIDED};
use crate::world::kube::{Cluster, Volume};
use quorate::api::{Approval, Code, HealMode, Hops};
use quorate::cluster::names::MemberName;
use quorate::cluster::objects::pod::Initial;
use quorate::cluster::plan::{Next, Plan};
use quorate::cluster::revision;
use quorate::cluster::spec::{self, image_of};
use quorate::etcd::versions::{Releases, check_hop, is_supported, stops};
use quorate::etcd::{EtcdVersion, Minor};
use std::collections::BTreeMap;

/// Whether one that is lost is replaced: not where too many are, or one was just before, or a person is asked first.
fn is_healed(
    world: &World,
    cluster: &Cluster,
    mode: HealMode,
    voters: &BTreeMap<MemberName, u64>,
    lost: impl Fn(&MemberName) -> bool,
    dead: usize,
) -> bool {
    let went_with_its_pod = |member: &MemberName| lost(member) && !world.claims.contains_key(member);
    let any_time = spec::keeps_data_in_pods(&cluster.spec) && voters.keys().any(went_with_its_pod);
    let by_itself = mode == HealMode::Automatic && (cluster.status.last_replacement.is_none() || any_time);
    let named = |member: &MemberName| cluster.replace.as_ref() == Some(&member.to_string()) && lost(member);
    dead == 1 && voters.len() - dead > voters.len() / 2 && (by_itself || voters.keys().any(named))
}

/// Whether a person is told that a quorum has lost its data, and what they may do.
fn is_told_of_the_loss(plan: &Plan) -> bool {
    let codes = [
        Code::AllMembersLost,
        Code::RecoveryNeeded,
        Code::RecoveryRefused,
        Code::RecoveryStuck,
        Code::VolumesIncomplete,
        Code::VolumesDisagree,
    ];
    let waits = match &plan.next {
        Next::Wait(wait) => Some(wait.notice.code),
        _ => None,
    };
    plan.refusals.iter().map(|refusal| refusal.code).chain(waits).any(|code| codes.contains(&code))
}

/// Whether members' data differ, and it cannot be told whose is wrong, or nobody is replaced for it now.
fn nobody_is_known_to_be_wrong(world: &World, cluster: &Cluster, mode: HealMode, dead: usize) -> bool {
    let Some(raft) = world.raft().filter(|raft| raft.corrupt) else { return false };
    let differs = |voter: &&MemberName| world.data(voter).is_some_and(|data| data.differs);
    let by_itself = mode == HealMode::Automatic && cluster.status.last_replacement.is_none();
    dead > 0 || raft.voters.keys().filter(differs).count() != 1 || raft.voters.len() < 3 || !by_itself
}

/// What keeps the cluster from ever reaching its spec, by the true world.
#[allow(clippy::too_many_lines, reason = "a list, one after the other")]
fn excuse(world: &World, plan: &Plan) -> Option<&'static str> {
    let cluster = world.cluster.as_ref()?;
    let Ok(desired) = spec::parse(&cluster.spec) else { return Some("invalid spec") };
    if cluster.spec.paused == Some(true) {
        return Some("paused");
    }
    if world.pods.values().any(|pod| pod.owner.is_none()) {
        return Some("foreign Pod");
    }
    let voters = world.raft().map(|raft| raft.voters.clone()).unwrap_or_default();
    let lost = |member: &MemberName| world.data(member).is_none() || world.claims[member].facts.deleting;
    if voters.is_empty() && !is_supported(desired.version.minor) {
        return Some("unsupported");
    }
    let dead = voters.keys().filter(|member| lost(member)).count();
    let formed = cluster.status.cluster_id.is_some();
    let healed = formed && is_healed(world, cluster, desired.heal_mode, &voters, lost, dead);
    let may_be_lost = voters.len().saturating_sub(voters.len() / 2 + 1);
    // etcd that does not get as far as to open its data tells nothing of it.
    let is_hidden = |member: &&MemberName| {
        lost(member)
            && !world.claims.get(*member).is_none_or(|claim| claim.facts.deleting)
            && world.pods.get(*member).is_some_and(|pod| pod.bad_flag)
    };
    let hidden = voters.keys().filter(is_hidden).count();
    // A node is waited for longer than a world that rests is watched.
    let waits = !world.gone.is_empty();
    if dead - hidden > may_be_lost && formed && !waits && !is_told_of_the_loss(plan) {
        return None;
    }
    if (dead > 0 && !healed) || (voters.is_empty() && !world.rafts.is_empty()) {
        return Some("lost data");
    }
    if nobody_is_known_to_be_wrong(world, cluster, desired.heal_mode, dead) {
        return Some("corrupt");
    }
    let told = [Code::AllMembersLost, Code::MemberDataLost, Code::RecoveryNeeded];
    let told = plan.refusals.iter().any(|refusal| told.contains(&refusal.code));
    let all_were_there =
        !world.revisions.is_empty() || world.claims.values().any(|volume| volume.facts.assigned.is_some());
    let noted = world.claims.values().find_map(|volume| volume.facts.bootstrap.as_ref());
    let pinned = cluster.status.bootstrap.as_ref().or(noted).map(|bootstrap| bootstrap.members);
    let there = i32::try_from(world.claims.len()).unwrap_or(i32::MAX);
    let gone = pinned.is_none_or(|pinned| there < pinned);
    if voters.is_empty() && told && all_were_there && gone {
        return Some("lost data");
    }
    if !formed && plan.refusals.iter().any(|refusal| refusal.message.contains("is kept aside")) {
        return Some("kept aside");
    }
    let in_pods = spec::keeps_data_in_pods(&cluster.spec);
    if world.claims.values().any(|volume| volume.facts.in_pod != in_pods) {
        return Some("storage");
    }
    let wanted = desired.storage_size.bytes();
    let does_not_fit = |volume: &Volume| {
        let taken = volume.data.as_ref().map(|data| data.db_size + data.in_use);
        volume.facts.in_pod && volume.facts.size > wanted && taken > wanted.map(|wanted| wanted / 4 * 3)
    };
    if formed && world.claims.values().any(does_not_fit) {
        return Some("storage");
    }
    let cannot_be = |volume: &Volume| {
        !volume.facts.in_pod
            && (volume.facts.size > wanted || (volume.facts.size < wanted && !world.lets_grow))
    };
    if formed && world.claims.values().any(cannot_be) {
        return Some("storage");
    }
    let kept_out = |member: &&MemberName| is_kept_out(world, member);
    if voters.keys().filter(kept_out).any(|member| world.data(member).is_some_and(|data| data.of_the_v2_api))
    {
        // What would make it forget the job does not start on that.
        return Some("data of the v2 API");
    }
    if in_pods && voters.keys().any(|member| kept_out(&member)) {
        // A start on another version would cost it its data: a person has it replaced.
        return Some("kept out by a downgrade job");
    }
    if voters.keys().filter(kept_out).count() + dead > voters.len().saturating_sub(voters.len() / 2 + 1) {
        return Some("kept out by a downgrade job");
    }
    if world.raft().is_some_and(|raft| raft.alarm) {
        return Some("alarm");
    }
    if cluster.spec.etcd.as_ref().is_some_and(|etcd| etcd.extra_args.contains_key(BAD_FLAG)) {
        return Some("bad flag");
    }
    if cluster.spec.pod.as_ref().is_some_and(|pod| pod.labels.contains_key(CUTS_OFF)) {
        return Some("cuts off");
    }
    let current = world.raft().and_then(|raft| raft.cluster_version).filter(|version| *version != UNDECIDED);
    let members: Vec<EtcdVersion> =
        voters.keys().filter_map(|voter| world.data(voter)).map(|data| data.opened).collect();
    let way = |current| match desired.hops {
        Hops::Many => stops(current, &members, desired.version, &Releases::default()),
        Hops::Single => check_hop(current, &members, desired.version).map(|_| vec![desired.version]),
    };
    if in_pods && current.is_some_and(|current| desired.version.minor < current) {
        // No member joins under the job that it takes.
        return Some("hop");
    }
    let way = match current.map(way) {
        Some(Err(_)) => return Some("hop"),
        Some(Ok(way)) => way,
        None => vec![desired.version],
    };
    let changes_the_minor = way.iter().any(|stop| Some(stop.minor) != current);
    if current.is_some()
        && changes_the_minor
        && voters.len() == 1
        && desired.replicas == 1
        && !desired.allow_downtime
    {
        return Some("downtime");
    }
    let may_be_held =
        desired.rollout_paused || desired.approval == Approval::Manual || !desired.windows.is_empty();
    if plan.held.is_some() && may_be_held {
        return Some("held");
    }
    let has_v2_data = |voter| world.data(voter).is_some_and(|data| data.of_the_v2_api);
    if way.iter().any(|stop| stop.minor >= Minor::new(3, 6)) && voters.keys().any(has_v2_data) {
        return Some("data of the v2 API");
    }
    // What an earlier stop needs is needed too.
    let is_bad =
        |stop: &EtcdVersion| catalogue::image(&image_of(&cluster.spec, *stop)) != Image::Holds(*stop);
    if way.iter().any(is_bad) {
        return Some("bad image");
    }
    // Members get a lower count on the way to 3.7 than the spec says, first on what they run.
    let mut lowered = cluster.spec.clone();
    lowered.etcd.get_or_insert_default().snapshot_count = Some(10_000);
    let next = way.first().copied().unwrap_or(desired.version);
    let is_of = |failed: &str, version: EtcdVersion| {
        [&cluster.spec, &lowered]
            .into_iter()
            .any(|spec| failed == revision::name("db", spec, world.wire(), version))
    };
    let failed = cluster.status.last_failure.as_ref().map(|failure| &failure.revision);
    if failed.is_some_and(|failed| members.iter().chain([&next]).any(|version| is_of(failed, *version))) {
        return Some("failed before");
    }
    plan.refusals.iter().find(|refusal| refusal.code == Code::VolumesIncomplete).map(|_| "volumes incomplete")
}

/// Whether a member does not start for a downgrade job that it remembers.
fn is_kept_out(world: &World, member: &MemberName) -> bool {
    let remembers = |data: &Data| data.job.is_some_and(|job| job != data.opened.minor);
    !world.takes_part(member) && world.data(member).is_some_and(remembers)
}

/// Invariant 7, once faults have stopped and nothing moves: the spec, or a reason that is true.
pub fn at_rest(world: &World, plan: &Plan) -> Result<&'static str, String> {
    if world.cluster.is_none() {
        return Ok("gone");
    }
    if let Next::Do(step) = &plan.next {
        return Err(format!("it never rests; the last step is {step:?}"));
    }
    if let Some(member) = left_down(world, plan) {
        return Err(format!("{member} is down, and what it ran before is not put back: {:?}", plan.next));
    }
    let reached = as_the_spec_says(world, plan);
    // A spec that has been reached needs no excuse.
    if let Some(excuse) = excuse(world, plan).filter(|_| reached.is_err()) {
        // What a person must do about the spec is said.
        let told = match &plan.next {
            Next::Paused => true,
            Next::Wait(wait) => wait.notice.is_refusal(),
            _ => false,
        };
        let silent = plan.refusals.is_empty() && plan.held.is_none() && !told;
        if silent && matches!(excuse, "hop" | "storage" | "downtime" | "failed before" | "invalid spec") {
            return Err(format!("{excuse}, and nobody is told: {:?}", plan.next));
        }
        return Ok(excuse);
    }
    reached.map(|()| "settled")
}

/// A member that is down on a revision which it never served with, though what it had before would start.
fn left_down<'a>(world: &'a World, plan: &Plan) -> Option<&'a MemberName> {
    // Before it has formed nothing is put back: the spec may be corrected.
    world.cluster.as_ref()?.status.cluster_id.as_ref()?;
    let raft = world.raft()?;
    // A wait that has not lasted long enough yet is no rest.
    let still_waits = matches!(&plan.next, Next::Wait(wait) if !wait.overdue);
    if still_waits || matches!(plan.next, Next::Paused) {
        return None;
    }
    raft.voters.keys().filter(|member| !is_kept_out(world, member)).find(|member| {
        let (Some(pod), Some(volume)) = (world.pods.get(member), world.claims.get(member)) else {
            return false;
        };
        let good = volume.facts.good.as_ref().filter(|good| **good != pod.revision);
        let good = good.and_then(|good| world.revisions.get(good)).map(|stored| &stored.revision);
        let starts = good.is_some_and(|good| {
            catalogue::image(&good.image) == Image::Holds(good.version)
                && !good.args().any(|arg| arg.contains(BAD_FLAG))
                && Some(good.version.minor) >= raft.cluster_version
        });
        starts
            && pod.owner.is_some()
            && volume.data.is_some()
            && !volume.facts.deleting
            && !volume.facts.in_pod
            && !world.takes_part(member)
    })
}

/// Whether the cluster is what its spec says and the operator says so.
fn as_the_spec_says(world: &World, plan: &Plan) -> Result<(), String> {
    let cluster = world.cluster.as_ref().ok_or("no EtcdCluster")?;
    let target = spec::parse(&cluster.spec)
        .map(|desired| revision::name("db", &cluster.spec, world.wire(), desired.version))
        .unwrap_or_default();
    let raft = world.raft().ok_or("no cluster")?;
    volumes::as_the_spec_says(world, cluster)?;
    if let Some(job) = raft.job {
        return Err(format!("a downgrade job to {job} is left: {:?}", plan.next));
    }
    let wanted = usize::try_from(cluster.spec.replicas).unwrap_or_default();
    if raft.voters.len() != wanted || !raft.learners.is_empty() {
        return Err(format!(
            "{} voters and {} learners, {wanted} members are wanted: {:?} {:?}",
            raft.voters.len(),
            raft.learners.len(),
            plan.next,
            plan.refusals
        ));
    }
    let stranger = world.members().into_iter().find(|member| !raft.voters.contains_key(member));
    if let Some(stranger) = stranger {
        return Err(format!("{stranger} is no member, and is left: {:?}", plan.next));
    }
    for member in raft.voters.keys() {
        let pod = world.pods.get(member).ok_or_else(|| format!("{member} has no Pod: {:?}", plan.next))?;
        if pod.revision != target || !counts(world, member) {
            return Err(format!(
                "{member} is not as the spec says, and nothing is done: {:?} {:?}",
                plan.next, plan.refusals
            ));
        }
        if pod.initial != Initial::Guard {
            return Err(format!("{member} is not guarded"));
        }
        if pod.learner {
            return Err(format!("{member} votes and is labelled a learner"));
        }
    }
    match (&plan.next, &cluster.status.progress, plan.refusals.is_empty()) {
        (Next::Settled, None, true) => Ok(()),
        (next, progress, _) => Err(format!("not settled: {next:?}, {progress:?}, {:?}", plan.refusals)),
    }
}
