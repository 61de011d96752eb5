//! The versions on the way of one edit: etcd takes one minor at a time, and some only from a late patch.

use super::Releases;
use super::hops::{Hop, HopError, check_hop, way_back_from};
use crate::etcd::{EtcdVersion, Minor};

/// The versions that a cluster goes through to reach `target`: the one that it goes to now first, `target`
/// last. `members` is what its members run (at least one); it may be in the middle of a hop.
///
/// A stop within the minor that runs is made only where the floor of the next hop asks for one. Stops are the
/// newest known patch of their minor that is not refused, and a hop that has begun goes on to the version that
/// it began with, unless that has come to be refused. The target is the person's own choice; where it is too old
/// for the way up again, a way down leads to a later patch of its minor first.
///
/// # Errors
/// The rule that forbids the move, or one of its hops.
pub fn stops(
    cluster_version: Minor,
    members: &[EtcdVersion],
    target: EtcdVersion,
    releases: &Releases,
) -> Result<Vec<EtcdVersion>, HopError> {
    let direct = check_hop(cluster_version, members, target);
    let lands_low = way_back_from(target.minor).is_some_and(|floor| target < floor);
    let further = match &direct {
        Ok(Hop::Revert) => lands_low,
        Ok(_) => false,
        Err(error) => !matches!(error, HopError::Unsupported { .. } | HopError::Downgrade { .. }),
    };
    if !further {
        return direct.map(|_| vec![target]);
    }
    if target.minor > cluster_version {
        up(cluster_version, members, target, releases)
    } else {
        down(cluster_version, members, target, releases)
    }
}

/// One minor after the other, down. Each begins with one minor on all members, at a patch that can be gone down
/// from, and ends on one that can be gone up from again.
fn down(
    cluster_version: Minor,
    members: &[EtcdVersion],
    target: EtcdVersion,
    releases: &Releases,
) -> Result<Vec<EtcdVersion>, HopError> {
    let (mut minor, mut from) = (cluster_version, members.to_vec());
    let mut stops = Vec::new();
    // The newest patch of a minor, or what a member runs of it already: at least this one.
    let patch = |minor: Minor, from: &[EtcdVersion], floor: Option<EtcdVersion>| {
        let fits = |version: &EtcdVersion| {
            version.minor == minor && Some(*version) >= floor && releases.refused(*version).is_none()
        };
        let runs = from.iter().copied().filter(fits).max();
        runs.or_else(|| releases.newest(minor).filter(fits)).ok_or(HopError::NoRelease { minor, target })
    };
    while minor > target.minor {
        let below = minor.previous().unwrap_or(target.minor);
        let back = way_back_from(below);
        let landing =
            if below == target.minor && Some(target) >= back { target } else { patch(below, &[], back)? };
        match check_hop(minor, &from, landing) {
            Ok(_) => {
                stops.push(landing);
                (minor, from) = (below, vec![landing]);
            }
            Err(HopError::Ahead { .. }) => {
                from = vec![patch(minor, &from, None)?];
                stops.extend(&from);
            }
            Err(HopError::BelowFloor { floor, .. }) => {
                from = vec![patch(minor, &from, Some(floor))?];
                stops.extend(&from);
            }
            Err(error) => return Err(error),
        }
    }
    // A job that has lowered the cluster version already ends on such a patch too.
    if stops.is_empty() {
        stops.push(patch(minor, members, way_back_from(minor))?);
    }
    if stops.last() != Some(&target) {
        stops.push(target);
    }
    Ok(stops)
}

fn up(
    cluster_version: Minor,
    members: &[EtcdVersion],
    target: EtcdVersion,
    releases: &Releases,
) -> Result<Vec<EtcdVersion>, HopError> {
    let is_refused = |version: EtcdVersion| releases.refused(version).is_some();
    let (mut minor, mut from) = (cluster_version, members.to_vec());
    let mut stops = Vec::new();
    while minor < target.minor {
        let next = minor.next();
        let begun = from.iter().copied().filter(|version| version.minor == next).max();
        let stop = match begun {
            _ if next == target.minor => target,
            Some(begun) if !is_refused(begun) => begun,
            _ => releases.newest(next).ok_or(HopError::NoRelease { minor: next, target })?,
        };
        match check_hop(minor, &from, stop) {
            Ok(_) => {
                stops.push(stop);
                (minor, from) = (next, vec![stop]);
            }
            // The old patch goes first; in the middle of a hop that is a revert, which nobody asked for.
            Err(HopError::BelowFloor { floor, .. }) if begun.is_none() => {
                // A member may be ahead of the table.
                let ahead = from.iter().copied().filter(|version| !is_refused(*version)).max();
                let patch = releases.newest(minor).max(ahead).filter(|patch| *patch >= floor);
                let patch = patch.ok_or(HopError::NoRelease { minor, target })?;
                stops.push(patch);
                from = vec![patch];
            }
            Err(error) => return Err(error),
        }
    }
    Ok(stops)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;
    use std::ops::RangeInclusive;

    fn v(text: &str) -> EtcdVersion {
        text.parse().unwrap()
    }

    #[rstest]
    #[case::nothing("3.5", &["3.5.9"], "3.5.9", &["3.5.9"])]
    #[case::patch("3.5", &["3.5.9"], "3.5.10", &["3.5.10"])]
    #[case::patch_down("3.5", &["3.5.35"], "3.5.9", &["3.5.9"])]
    #[case::one_minor("3.5", &["3.5.30"], "3.6.16", &["3.6.16"])]
    #[case::a_floor("3.5", &["3.5.9"], "3.6.16", &["3.5.35", "3.6.16"])]
    #[case::all_of_them("3.5", &["3.5.9"], "3.7.3", &["3.5.35", "3.6.16", "3.7.3"])]
    #[case::two_minors("3.5", &["3.5.30"], "3.7.2", &["3.6.16", "3.7.2"])]
    #[case::another_floor("3.6", &["3.6.5"], "3.7.3", &["3.6.16", "3.7.3"])]
    #[case::the_lowest_counts("3.5", &["3.5.9", "3.5.35", "3.5.35"], "3.7.3", &["3.5.35", "3.6.16", "3.7.3"])]
    #[case::in_the_middle("3.5", &["3.5.35", "3.6.16"], "3.7.3", &["3.6.16", "3.7.3"])]
    #[case::begun_with_an_older_patch("3.5", &["3.5.35", "3.6.13"], "3.7.3", &["3.6.13", "3.7.3"])]
    #[case::begun_below_the_next_floor("3.5", &["3.5.35", "3.6.5"], "3.7.3", &["3.6.5", "3.6.16", "3.7.3"])]
    #[case::not_flipped_yet("3.5", &["3.6.16"], "3.7.3", &["3.6.16", "3.7.3"])]
    #[case::back("3.5", &["3.5.35", "3.6.16"], "3.5.35", &["3.5.35"])]
    #[case::left_behind("3.6", &["3.5.35", "3.6.16"], "3.7.3", &["3.6.16", "3.7.3"])]
    #[case::down("3.6", &["3.6.16"], "3.5.35", &["3.5.35"])]
    #[case::down_two("3.7", &["3.7.3"], "3.5.30", &["3.6.16", "3.5.30"])]
    #[case::down_from_a_patch_that_cannot("3.7", &["3.7.1"], "3.6.14", &["3.7.3", "3.6.14"])]
    #[case::down_to_a_patch_without_a_way_up("3.6", &["3.6.16"], "3.5.9", &["3.5.35", "3.5.9"])]
    #[case::down_while_the_version_is_lowered("3.5", &["3.6.16"], "3.5.9", &["3.5.35", "3.5.9"])]
    #[case::half_way_down("3.5", &["3.5.33", "3.6.16"], "3.5.9", &["3.5.33", "3.5.9"])]
    #[case::half_way_down_and_up_again("3.5", &["3.5.35", "3.6.16"], "3.6.16", &["3.6.16"])]
    #[case::half_way_up_and_down_two("3.6", &["3.6.14", "3.7.3"], "3.5.35", &["3.6.14", "3.5.35"])]
    #[case::left_behind_and_down("3.6", &["3.5.35", "3.6.16"], "3.5.35", &["3.6.16", "3.5.35"])]
    #[case::newer_than_the_table("3.5", &["3.5.99"], "3.7.99", &["3.6.16", "3.7.99"])]
    #[case::ahead_of_the_table("3.5", &["3.5.9", "3.5.36"], "3.6.16", &["3.5.36", "3.6.16"])]
    #[case::away_from_a_release_to_avoid("3.6", &["3.6.2"], "3.6.16", &["3.6.16"])]
    #[case::begun_with_a_release_to_avoid("3.5", &["3.5.35", "3.6.4"], "3.7.3", &["3.6.16", "3.7.3"])]
    fn goes(#[case] cluster: &str, #[case] members: &[&str], #[case] target: &str, #[case] way: &[&str]) {
        assert_eq!(goes_with(cluster, members, target, &Releases::default()), Ok(way.join(" ")));
    }

    fn goes_with(cluster: &str, members: &[&str], target: &str, of: &Releases) -> Result<String, HopError> {
        let members: Vec<_> = members.iter().map(|member| v(member)).collect();
        let way = stops(v(&format!("{cluster}.0")).minor, &members, v(target), of)?;
        Ok(way.iter().map(EtcdVersion::to_string).collect::<Vec<_>>().join(" "))
    }

    #[rstest]
    #[case::a_newer_patch(r#"{"known": ["3.5.36", "3.6.17"]}"#, "3.5.36 3.6.17 3.7.3")]
    #[case::a_refused_one(r#"{"refuse": {"3.5.35": "bad", "3.6.16": "bad"}}"#, "3.5.34 3.6.15 3.7.3")]
    fn additions_and_verdicts_move_the_stops(#[case] file: &str, #[case] way: &str) {
        let releases = Releases::parse(file).unwrap();
        assert_eq!(goes_with("3.5", &["3.5.9"], "3.7.3", &releases).as_deref(), Ok(way));
    }

    #[rstest]
    #[case::of_the_minor_that_runs("3.5.9", "3.6.16", 5, 26..=35)]
    #[case::of_a_minor_on_the_way("3.5.35", "3.7.3", 6, 0..=16)]
    #[case::of_a_minor_on_the_way_from_its_floor_on("3.5.35", "3.7.3", 6, 11..=16)]
    fn no_refused_release_is_a_stop(
        #[case] runs: &str,
        #[case] target: &str,
        #[case] minor: u64,
        #[case] refused: RangeInclusive<u64>,
    ) {
        let refused: Vec<String> = refused.map(|patch| format!(r#""3.{minor}.{patch}": "bad""#)).collect();
        let releases = Releases::parse(&format!(r#"{{"refuse": {{{}}}}}"#, refused.join(", "))).unwrap();
        let error = goes_with("3.5", &[runs], target, &releases).unwrap_err();
        assert_eq!(error, HopError::NoRelease { minor: Minor::new(3, minor), target: v(target) });
    }

    #[rstest]
    #[case::down_to_3_4("3.6", &["3.6.16"], "3.4.45", "3.4 is not maintained")]
    #[case::unknown("3.5", &["3.5.35"], "3.9.0", "not in the table")]
    #[case::below_the_floor_in_the_middle("3.5", &["3.5.9", "3.6.16"], "3.6.16", "below 3.5.26")]
    fn refuses(#[case] cluster: &str, #[case] members: &[&str], #[case] target: &str, #[case] says: &str) {
        let error = goes_with(cluster, members, target, &Releases::default()).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }

    proptest! {
        #[test]
        fn every_hop_is_allowed_and_the_last_one_reaches_the_target(
            from in 5u64..=7, patch in 0u64..40, to in 5u64..=7, target in 0u64..40,
        ) {
            let (runs, target) = (EtcdVersion::new(3, from, patch), EtcdVersion::new(3, to, target));
            let way = stops(runs.minor, &[runs], target, &Releases::default());
            let way = way.map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!(way.last(), Some(&target));
            let mut at = runs;
            for stop in way {
                prop_assert!(check_hop(at.minor, &[at], stop).is_ok());
                prop_assert!(stop.minor <= at.minor.next() && at.minor <= stop.minor.next());
                at = stop;
            }
        }
    }
}
