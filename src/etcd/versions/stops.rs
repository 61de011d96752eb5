//! The versions on the way of one edit: etcd takes one minor at a time, and some only from a late patch.

use super::hops::{HopError, check_hop};
use super::newest_patch;
use crate::etcd::{EtcdVersion, Minor};

/// The versions that a cluster goes through to reach `target`: the one that it goes to now first, `target`
/// last. `members` is what its members run (at least one); it may be in the middle of a hop.
///
/// A stop within the minor that runs is made only where the floor of the next hop asks for one. Stops
/// are the newest known patch of their minor, and a hop that has begun goes on to the version that it
/// began with.
///
/// # Errors
/// The rule that forbids the move, or one of its hops.
pub fn stops(
    cluster_version: Minor,
    members: &[EtcdVersion],
    target: EtcdVersion,
) -> Result<Vec<EtcdVersion>, HopError> {
    let direct = check_hop(cluster_version, members, target);
    if !matches!(direct, Err(HopError::Skip { .. } | HopError::BelowFloor { .. })) {
        return direct.map(|_| vec![target]);
    }
    let (mut minor, mut from) = (cluster_version, members.to_vec());
    let mut stops = Vec::new();
    while minor < target.minor {
        let next = minor.next();
        let begun = from.iter().filter(|version| version.minor == next).max();
        let stop = match begun {
            _ if next == target.minor => target,
            Some(begun) => *begun,
            None => newest_patch(next).ok_or(HopError::Skip { from: minor, target, next })?,
        };
        match check_hop(minor, &from, stop) {
            Ok(_) => {
                stops.push(stop);
                (minor, from) = (next, vec![stop]);
            }
            // The old patch goes first; in the middle of a hop that is a revert, which nobody asked for.
            Err(HopError::BelowFloor { floor, .. }) if begun.is_none() => {
                let patch = newest_patch(minor).filter(|patch| *patch >= floor).unwrap_or(floor);
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
    fn goes(#[case] cluster: &str, #[case] members: &[&str], #[case] target: &str, #[case] way: &[&str]) {
        let members: Vec<_> = members.iter().map(|member| v(member)).collect();
        let way: Vec<_> = way.iter().map(|stop| v(stop)).collect();
        assert_eq!(stops(v(&format!("{cluster}.0")).minor, &members, v(target)), Ok(way));
    }

    #[rstest]
    #[case::down("3.6", &["3.6.16"], "3.5.35", "below it")]
    #[case::unknown("3.5", &["3.5.35"], "3.9.0", "not in the table")]
    #[case::below_the_floor_in_the_middle("3.5", &["3.5.9", "3.6.16"], "3.6.16", "below 3.5.26")]
    fn refuses(#[case] cluster: &str, #[case] members: &[&str], #[case] target: &str, #[case] says: &str) {
        let members: Vec<_> = members.iter().map(|member| v(member)).collect();
        let error = stops(v(&format!("{cluster}.0")).minor, &members, v(target)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }

    proptest! {
        #[test]
        fn every_hop_is_allowed_and_the_last_one_reaches_the_target(
            from in 5u64..=7, patch in 0u64..40, to in 5u64..=7, target in 0u64..40,
        ) {
            let (runs, target) = (EtcdVersion::new(3, from, patch), EtcdVersion::new(3, to, target));
            if let Ok(way) = stops(runs.minor, &[runs], target) {
                prop_assert_eq!(way.last(), Some(&target));
                let mut at = runs;
                for stop in way {
                    prop_assert!(check_hop(at.minor, &[at], stop).is_ok());
                    prop_assert!(stop.minor <= at.minor.next());
                    at = stop;
                }
            } else {
                prop_assert!(target.minor < runs.minor);
            }
        }
    }
}
