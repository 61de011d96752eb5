//! Releases to avoid and flags that a version does not know: what is refused, and whom it does not hold up.

use super::{next, status};
use crate::cluster::fixtures::{edited, healthy, member};
use crate::cluster::revision;
use crate::etcd::versions::Releases;
use std::sync::Arc;

#[test]
fn a_release_to_avoid_is_no_fault_of_a_cluster_that_runs_it() {
    assert_eq!(next(&healthy("version: 3.6.4")), "Settled");
    // Another member is on it already: an earlier operator has begun, or the table has changed since.
    let mut world = edited(healthy("version: 3.6.16"), "version: 3.6.4");
    status(&mut world, 1).version = "3.6.4".parse().unwrap();
    assert!(!next(&world).contains("ReleaseRefused"));
    let mut world = edited(healthy("version: 3.6.16"), "version: 3.6.15");
    world.releases = Releases::parse(r#"{"refuse": {"3.6.15": "bad"}}"#).unwrap();
    assert_eq!(next(&world), "Refused(ReleaseRefused)");
}

#[test]
fn a_way_that_leads_only_through_releases_to_avoid_is_refused() {
    let mut world = edited(healthy("version: 3.5.35"), "version: 3.7.3");
    let refused: Vec<String> = (11..=16).map(|patch| format!(r#""3.6.{patch}": "bad""#)).collect();
    world.releases = Releases::parse(&format!(r#"{{"refuse": {{{}}}}}"#, refused.join(", "))).unwrap();
    assert_eq!(next(&world), "Refused(ReleaseRefused)");
}

#[test]
fn flags_that_an_earlier_operator_rendered_are_no_fault() {
    let yaml = "{version: 3.6.16, etcd: {extraArgs: {no-such-flag: '1'}}}";
    let mut world = healthy("version: 3.6.16");
    let old = world.revisions.pop_first().unwrap().1;
    world = edited(world, yaml);
    let name = revision::name(&world.cluster.name, &world.cluster.spec, world.wire(), old.version);
    for pod in world.pods.values_mut() {
        pod.revision.clone_from(&name);
    }
    for claim in world.claims.values_mut() {
        claim.assigned = Some(name.clone());
        claim.good = Some(name.clone());
    }
    world.revisions.insert(name.clone(), Arc::new(revision::Revision { name, ..Arc::unwrap_or_clone(old) }));
    assert_eq!(next(&world), "Settled");
}

#[test]
fn a_member_whose_flags_its_data_s_version_does_not_know_is_told_of() {
    let mut world =
        edited(healthy("version: 3.5.35"), "{version: 3.6.16, etcd: {extraArgs: {log-format: json}}}");
    world.revisions.clear();
    world.pods.remove(&member(1));
    world.answers.remove(&member(1));
    assert_eq!(next(&world), "Refused(FlagUnsupported)");
}
