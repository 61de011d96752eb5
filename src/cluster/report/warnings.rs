//! What somebody should know of, and what holds nothing up: known bugs of the release, an etcd that does not fit the control
//! plane that relies on it, and members that are too close together. Pure.

use super::certificates;
use crate::api::{Code, WarningStatus};
use crate::cluster::names::MemberName;
use crate::cluster::observation::Observation;
use crate::cluster::spec::Desired;
use crate::etcd::quorum;
use crate::etcd::versions::advice;
use std::collections::BTreeMap;

pub(super) fn of(world: &Observation, desired: &Desired) -> Vec<WarningStatus> {
    let kubernetes = world.cluster.spec.kubernetes.as_ref().and_then(|spec| spec.version.as_deref());
    let skew = kubernetes.and_then(|kubernetes| advice(kubernetes, desired.version));
    known_bugs(world, desired)
        .into_iter()
        .chain(skew.map(|message| WarningStatus { code: Code::VersionSkew, message }))
        .chain(not_spread(world))
        .chain(certificates::warnings(world))
        .collect()
}

/// A node or a zone that takes the quorum with it. A cluster that cannot be spread runs all the same.
fn not_spread(world: &Observation) -> Option<WarningStatus> {
    let voters = world.noted_voters()?;
    let node = |member: &MemberName| world.pods.get(member)?.node.as_deref();
    let zone = |member: &MemberName| world.zones.get(node(member)?)?.as_deref();
    let nodes = held(voters.keys(), node);
    let zones = held(voters.keys(), zone);
    let may_be_lost = voters.len().saturating_sub(quorum(voters.len()));
    let heaviest = |places: &BTreeMap<&str, Vec<String>>| {
        let heaviest = places.iter().max_by_key(|(_, members)| members.len())?;
        let (place, members) = (*heaviest.0, heaviest.1.clone());
        (voters.len() > 1 && members.len() > may_be_lost).then_some((place.to_owned(), members))
    };
    // Where all there is is one zone nothing was to be spread.
    let by_zone = || Some(("zone", heaviest(&zones).filter(|_| zones.len() > 1)?));
    let (kind, (place, members)) = heaviest(&nodes).map(|found| ("node", found)).or_else(by_zone)?;
    let message = format!(
        "the {kind} {place} holds {} of {} members ({}); its loss is the loss of the quorum",
        members.len(),
        voters.len(),
        members.join(", ")
    );
    Some(WarningStatus { code: Code::NotSpread, message })
}

fn held<'a>(
    members: impl Iterator<Item = &'a MemberName>,
    place: impl Fn(&MemberName) -> Option<&'a str>,
) -> BTreeMap<&'a str, Vec<String>> {
    let mut held: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for member in members {
        if let Some(place) = place(member) {
            held.entry(place).or_default().push(member.to_string());
        }
    }
    held
}

fn known_bugs(world: &Observation, desired: &Desired) -> Option<WarningStatus> {
    let version = desired.version;
    let faults = world.releases.known_faults(version);
    if faults.is_empty() {
        return None;
    }
    let newest = world.releases.newest(version.minor).filter(|newest| *newest > version);
    let newest = newest.map(|newest| format!("; {newest} is the newest known patch")).unwrap_or_default();
    Some(WarningStatus {
        code: Code::KnownBugs,
        message: format!("etcd {version}: {}{newest}", faults.join("; ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::{healthy, member};
    use rstest::rstest;

    #[rstest]
    #[case::apart(&["a", "b", "c"], &["x", "y", "z"], None)]
    #[case::two_on_one_node(&["a", "a", "c"], &["x", "x", "z"], Some("the node a holds 2 of 3 members (db-0, db-1)"))]
    #[case::two_in_one_zone(&["a", "b", "c"], &["x", "z", "z"], Some("the zone z holds 2 of 3 members (db-1, db-2)"))]
    #[case::there_is_one_zone(&["a", "b", "c"], &["x", "x", "x"], None)]
    #[case::enough_are_elsewhere(&["a", "a", "b", "b", "c"], &["x", "x", "y", "y", "z"], None)]
    #[case::alone(&["a"], &["x"], None)]
    fn says_which_place_takes_the_quorum_with_it(
        #[case] nodes: &[&str],
        #[case] zones: &[&str],
        #[case] said: Option<&str>,
    ) {
        let mut world = healthy(&format!("{{version: 3.6.16, replicas: {}}}", nodes.len()));
        world.zones.clear();
        for ((number, node), zone) in (0..).zip(nodes).zip(zones) {
            world.pods.get_mut(&member(number)).unwrap().node = Some((*node).to_owned());
            world.zones.insert((*node).to_owned(), Some((*zone).to_owned()));
        }
        let warning = not_spread(&world).map(|warning| warning.message);
        assert_eq!(warning.as_deref().map(|text| text.split(';').next().unwrap()), said);
    }
}
