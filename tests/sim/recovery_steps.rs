//! What the steps of a recovery do to a world, what a person says of one, and when there should be none.

use crate::act::{is_unchanged, wrote};
use crate::observe::Seen;
use crate::world::recovery::RecoveryPod;
use crate::world::{NAME, World};
use quorate::api::RecoverySpec;
use quorate::cluster::objects::recovery::{self, NewRecoveryPod};
use quorate::cluster::plan::Step;

/// A step of a recovery; whether it was carried out.
pub fn carry_out(world: &mut World, seen: &Seen, step: &Step) -> bool {
    if let Step::DeleteRecoveryPods(pods) = step {
        for (name, uid) in pods {
            let gone_at = world.now + 1_000;
            if let Some(pod) = world.recovery.get_mut(name).filter(|pod| pod.uid == *uid) {
                pod.gone_at.get_or_insert(gone_at);
                wrote(world);
            }
        }
        return true;
    }
    if let Step::NoteForced(member) = step {
        if let Some(volume) = world.claims.get_mut(member) {
            volume.facts.recovering = None;
            wrote(world);
        }
        return true;
    }
    if !is_unchanged(world, seen) {
        return false;
    }
    let unseen = world.pods.keys().find(|member| !seen.facts.pods.contains_key(*member)).cloned();
    match step {
        Step::TakeBack(members) => {
            for member in members {
                let Some((_, volume)) = world.set_aside.remove(member) else { continue };
                let id = volume.data.as_ref().map(|data| data.member_id);
                let removed =
                    world.rafts.values().any(|raft| id.is_some_and(|id| raft.removed.contains(&id)));
                if removed {
                    world.violate(format!("{member}'s volume is taken back, and the cluster was forced"));
                }
                world.claims.insert(member.clone(), volume);
                wrote(world);
            }
            true
        }
        _ if unseen.is_some() => false,
        Step::LeaveAlone { member, id, incident, .. } => {
            if let Some(volume) = world.claims.get_mut(member) {
                volume.facts.voters = Some([(member.clone(), *id)].into());
                volume.facts.recovering = Some(incident.clone());
                wrote(world);
            }
            true
        }
        Step::CreateRecoveryPod(new) => create(world, seen, new),
        _ => unreachable!("{step:?} is none of a recovery"),
    }
}

fn create(world: &mut World, seen: &Seen, new: &NewRecoveryPod) -> bool {
    let NewRecoveryPod { incident, stage, member, revision, .. } = new;
    let name = recovery::name(NAME, *stage, incident);
    let Some(stored) = world.revisions.get(revision).map(|stored| stored.revision.clone()) else {
        world.violate(format!("{member} is recovered from revision {revision}, which is not stored"));
        return false;
    };
    if world.recovery.contains_key(&name) {
        return true;
    }
    let pod = RecoveryPod {
        uid: world.uid("recovery"),
        owner: seen.facts.cluster.uid.clone(),
        stage: *stage,
        incident: incident.clone(),
        member: member.clone(),
        revision: revision.clone(),
        image: stored.image.clone(),
        done_at: world.now + 500 + world.rng.range(0, 3_000),
        gone_at: None,
        exit_code: None,
        forced: false,
    };
    world.recovery.insert(name, pod);
    wrote(world);
    true
}

/// A person says what the status offers, or by mistake something else; or takes it back.
pub fn say(world: &mut World) {
    let Some(cluster) = &world.cluster else { return };
    let id = cluster.status.cluster_id.clone().unwrap_or_default();
    let loss = cluster.status.quorum_loss.clone();
    let (chance, pick) = (world.rng.range(0, 12), world.rng.range(0, 7));
    let Some(loss) = loss.filter(|_| chance > 0) else {
        return world.edit_spec(|spec| spec.recovery = None);
    };
    let survivors = loss.survivors;
    if survivors.is_empty() {
        return;
    }
    let chosen = survivors[usize::try_from(pick).unwrap() % survivors.len()].clone();
    let wrong = i64::from(chance == 1);
    world.edit_spec(|spec| {
        spec.recovery = Some(RecoverySpec {
            cluster_id: id,
            incident: loss.incident,
            from_member: chosen.member,
            survivor_revision: chosen.revision + wrong,
        });
    });
}

/// A recovery sets aside what could come back, or takes a member's Pod that serves: never with a quorum of data there.
pub fn objection(world: &World) -> Option<String> {
    let raft = world.raft()?;
    let whole = raft.voters.keys().filter(|voter| {
        let volume = world.claims.get(*voter);
        volume.is_some_and(|volume| {
            let is_there = volume.data.is_some() && !volume.damaged && !volume.facts.deleting;
            is_there && volume.home.is_none_or(|home| !world.gone.contains(&home))
        })
    });
    let whole = whole.count();
    (whole >= raft.quorum()).then(|| format!("a recovery, and {whole} voters have their data"))
}
