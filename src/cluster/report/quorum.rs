//! The loss of a quorum as it stands in the status: since when, and what those who are left know. Pure.

use crate::api::{Action, EtcdClusterStatus, QuorumLossStatus, SurvivorStatus};
use crate::cluster::names::{MemberName, digest};
use crate::cluster::observation::Observation;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The loss that there is now. What was written of it stays: without a quorum nothing is committed, and one that is started
/// again may not say any more what it knows. While a recovery is under way nothing of it changes.
pub fn quorum_loss(world: &Observation, status: &EtcdClusterStatus) -> Option<QuorumLossStatus> {
    let old = world.cluster.status.quorum_loss.as_ref();
    if status.progress.as_ref().is_some_and(|progress| progress.action == Action::Recover) {
        return old.cloned();
    }
    if !world.lacks_a_quorum() {
        return None;
    }
    let voters = world.noted_voters()?;
    let survivors = voters.keys().filter_map(|member| {
        let name = member.to_string();
        let before = old.and_then(|old| old.survivor(&name));
        survivor(world, member, before).or_else(|| before.cloned())
    });
    let since = old.map_or(Time(world.now), |old| old.since.clone());
    let incident = old.map_or_else(|| incident(world), |old| old.incident.clone());
    Some(QuorumLossStatus { incident, since, survivors: survivors.collect() })
}

fn incident(world: &Observation) -> String {
    let cluster = &world.cluster;
    let id = cluster.status.cluster_id.as_deref().unwrap_or_default();
    digest(format!("{}/{id}/{}", cluster.uid, world.now).as_bytes())
}

fn survivor(
    world: &Observation,
    member: &MemberName,
    before: Option<&SurvivorStatus>,
) -> Option<SurvivorStatus> {
    let answer = world.answers.get(member)?;
    let (revision, index) = answer.knows()?;
    let known = world.served.values().map(|served| served.revision);
    let known = known.chain(world.answers.values().filter_map(|answer| Some(answer.status()?.revision)));
    // A process that has not watched before the loss cannot tell what there was.
    let watched = known.max().filter(|_| !world.served.is_empty()).map(|known| (known - revision).max(0));
    let before_it = before.and_then(|before| before.behind.map(|behind| behind + before.revision - revision));
    let behind = watched.max(before_it.map(|behind| behind.max(0)));
    // etcd writes what it knows to be committed with the next entry only: killed right after one, it does not know any more
    // that this one was, and a force drops it (measured with 3.5.9, 3.6.16 and 3.7.3).
    let served = world.served.get(member);
    let forgot = served.is_some_and(|served| served.revision > revision)
        || before.is_some_and(|before| before.revision > revision);
    let complete_until = served.map(|served| Time(served.at)).or_else(|| before?.complete_until.clone());
    Some(SurvivorStatus {
        member: member.to_string(),
        revision,
        raft_index: i64::try_from(index).unwrap_or(i64::MAX),
        behind,
        complete_until: complete_until.filter(|_| !forgot),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::{healthy, member, silence};
    use crate::cluster::observation::Served;
    use crate::etcd::Standstill;
    use rstest::rstest;
    use std::time::Duration;

    /// Two of three are silent; the third has answered until a while ago, with revision 900.
    fn lost() -> Observation {
        let mut world = healthy("version: 3.6.16");
        for gone in [1, 2] {
            silence(&mut world, &member(gone));
        }
        let left = world.answers.get_mut(&member(0)).unwrap();
        left.read = Err("no leader".to_owned());
        world.member_list = None;
        world
    }

    /// What the status says after another look, `later` seconds on.
    fn again(world: &mut Observation, later: u64) -> Option<QuorumLossStatus> {
        let loss = quorum_loss(world, &world.cluster.status);
        world.cluster.status.quorum_loss.clone_from(&loss);
        world.now += Duration::from_secs(later);
        loss
    }

    #[test]
    fn one_loss_has_one_incident_until_somebody_serves_again() {
        let mut world = lost();
        let first = again(&mut world, 5).unwrap();
        assert_eq!(again(&mut world, 5).unwrap(), first);
        // Who can be reached and finds no quorum either ends nothing.
        let reached = healthy("version: 3.6.16").answers[&member(1)].clone();
        world.answers.insert(member(1), reached);
        world.answers.get_mut(&member(1)).unwrap().read = Err("no leader".to_owned());
        let second = again(&mut world, 5).unwrap();
        assert_eq!((&second.incident, &second.since), (&first.incident, &first.since));
        assert_eq!(second.survivors.len(), 2);
        world.answers.get_mut(&member(1)).unwrap().read = Ok(());
        assert_eq!(again(&mut world, 5), None);
        let mut another = lost();
        another.now = world.now;
        assert_ne!(again(&mut another, 0).unwrap().incident, first.incident);
    }

    #[rstest]
    #[case::nobody_watched(None, None, false)]
    #[case::it_was_the_last_to_know(Some((900, 900)), Some(0), true)]
    #[case::another_knew_more(Some((900, 930)), Some(30), true)]
    #[case::it_knew_more_itself(Some((910, 910)), Some(10), false)]
    fn what_would_be_lost_is_what_was_seen_before(
        #[case] seen: Option<(i64, i64)>,
        #[case] behind: Option<i64>,
        #[case] complete: bool,
    ) {
        let mut world = lost();
        let at = world.now;
        if let Some((own, other)) = seen {
            world.served.insert(member(0), Served { at, revision: own });
            world.served.insert(member(1), Served { at, revision: other });
        }
        let loss = again(&mut world, 0).unwrap();
        assert_eq!((loss.survivors[0].revision, loss.survivors[0].behind), (900, behind));
        assert_eq!(loss.survivors[0].complete_until.is_some(), complete);
    }

    /// It was killed, and knows less than it said before; and the operator that had watched is another one now.
    #[test]
    fn what_a_survivor_has_forgotten_since_counts_as_lost() {
        let mut world = lost();
        world.served.insert(member(0), Served { at: world.now, revision: 900 });
        assert_eq!(again(&mut world, 5).unwrap().survivors[0].behind, Some(0));
        world.served.clear();
        silence(&mut world, &member(0));
        world.answers.get_mut(&member(0)).unwrap().standstill =
            Some(Standstill { revision: 899, raft_applied_index: 990 });
        let left = again(&mut world, 5).unwrap().survivors[0].clone();
        assert_eq!((left.revision, left.raft_index, left.behind), (899, 990, Some(1)));
        assert_eq!(left.complete_until, None);
    }
}
