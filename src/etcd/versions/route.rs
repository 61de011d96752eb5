//! The way from one version to another: the hops of one edit of `spec.version`, in order.

use super::hops::{HopError, Start, hop};
use super::releases::{MINORS, Releases};
use crate::etcd::{EtcdVersion, Minor};

/// The versions on the way, the one that runs first and the target last, each one hop from the one
/// before. `from` is the lowest version that a member runs. The cluster version says whether a move to a
/// lower minor has to be begun (it is still that of `from`), or only finished (it is lower already: etcd
/// has not raised it yet, or has lowered it for a downgrade).
///
/// A stop at another patch of a minor is made only where the floor of the next hop asks for it, and then
/// at the newest known patch; minors on the way are passed on their newest known patch.
///
/// # Errors
/// The rule that forbids the way.
pub fn route(
    from: EtcdVersion,
    cluster_version: Minor,
    target: EtcdVersion,
    releases: &Releases,
) -> Result<Vec<EtcdVersion>, HopError> {
    for end in [from, target] {
        if !MINORS.iter().any(|line| line.minor == end.minor) {
            let known: Vec<String> = MINORS.iter().map(|line| line.minor.to_string()).collect();
            return Err(HopError::Unsupported { target: end, known: known.join(", ") });
        }
    }
    // Below the cluster version nothing starts:
    // https://github.com/etcd-io/etcd/blob/v3.6.16/server/etcdserver/version/downgrade.go (MustDetectDowngrade)
    if from.minor < cluster_version && target.minor <= from.minor {
        return Err(HopError::Downgrade { cluster: cluster_version, target });
    }
    if let Some(why) = releases.refused(target).filter(|_| from != target) {
        return Err(HopError::ReleaseRefused { target, why: why.to_owned() });
    }
    let newest = |minor: Minor| releases.newest(minor).ok_or(HopError::NoRelease { minor, target });

    let mut way = vec![from];
    let mut at = from;
    while at.minor != target.minor {
        let to = neighbour(at.minor, target.minor);
        let floor = floor(at.minor, to, target)?;
        let begun = to < at.minor && cluster_version < at.minor && at == from;
        if at < floor && !begun {
            at = newest(at.minor)?;
            if at < floor {
                return Err(HopError::BelowFloor { lowest: at, floor, target });
            }
            way.push(at);
        }
        at = if to == target.minor { target } else { newest(to)? };
        way.push(at);
    }
    if at != target {
        way.push(target);
    }
    Ok(way)
}

/// Whether one version may follow another directly: the rule that each pair of a route passes.
///
/// # Errors
/// The rule that forbids it.
pub fn may_go(from: EtcdVersion, to: EtcdVersion, releases: &Releases) -> Result<(), HopError> {
    if let Some(why) = releases.refused(to).filter(|_| from != to) {
        return Err(HopError::ReleaseRefused { target: to, why: why.to_owned() });
    }
    if from.minor == to.minor {
        return Ok(());
    }
    let floor = floor(from.minor, to.minor, to)?;
    if from < floor {
        return Err(HopError::BelowFloor { lowest: from, floor, target: to });
    }
    Ok(())
}

const fn neighbour(at: Minor, target: Minor) -> Minor {
    if target.major == at.major && target.minor < at.minor {
        Minor::new(at.major, at.minor - 1)
    } else {
        at.next()
    }
}

fn floor(from: Minor, to: Minor, target: EtcdVersion) -> Result<EtcdVersion, HopError> {
    let Some(rule) = hop(from, to) else {
        return Err(HopError::Skip { from, target, next: neighbour(from, to) });
    };
    match rule.start {
        Start::Floor(patch) => Ok(from.patch(patch)),
        Start::Never => Err(HopError::Dangerous { from, target, why: rule.why }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn v(text: &str) -> EtcdVersion {
        text.parse().unwrap()
    }

    fn way(from: &str, cluster: Minor, target: &str) -> Result<String, HopError> {
        let way = route(v(from), cluster, v(target), &Releases::default())?;
        Ok(way.iter().map(EtcdVersion::to_string).collect::<Vec<_>>().join(" "))
    }

    #[rstest]
    #[case::stays("3.6.16", "3.6.16", "3.6.16")]
    #[case::a_patch_up("3.5.9", "3.5.10", "3.5.9 3.5.10")]
    #[case::a_patch_down("3.6.16", "3.6.5", "3.6.16 3.6.5")]
    #[case::one_minor("3.5.30", "3.6.16", "3.5.30 3.6.16")]
    #[case::the_floor_itself("3.5.26", "3.6.5", "3.5.26 3.6.5")]
    #[case::below_the_floor("3.5.25", "3.6.16", "3.5.25 3.5.35 3.6.16")]
    #[case::two_minors("3.5.9", "3.7.3", "3.5.9 3.5.35 3.6.16 3.7.3")]
    #[case::two_minors_without_a_stop("3.5.30", "3.7.1", "3.5.30 3.6.16 3.7.1")]
    #[case::below_the_second_floor("3.6.10", "3.7.3", "3.6.10 3.6.16 3.7.3")]
    #[case::from_3_4("3.4.23", "3.7.3", "3.4.23 3.5.35 3.6.16 3.7.3")]
    #[case::from_3_4_to_an_old_patch("3.4.23", "3.5.9", "3.4.23 3.5.9")]
    #[case::one_down("3.7.3", "3.6.16", "3.7.3 3.6.16")]
    #[case::one_down_below_the_floor("3.7.1", "3.6.16", "3.7.1 3.7.3 3.6.16")]
    #[case::two_down("3.7.3", "3.5.35", "3.7.3 3.6.16 3.5.35")]
    #[case::away_from_a_release_to_avoid("3.6.2", "3.6.16", "3.6.2 3.6.16")]
    #[case::stays_on_a_release_to_avoid("3.6.2", "3.6.2", "3.6.2")]
    #[case::newer_than_the_table("3.6.99", "3.7.99", "3.6.99 3.7.99")]
    fn leads(#[case] from: &str, #[case] target: &str, #[case] wanted: &str) {
        assert_eq!(way(from, v(from).minor, target).unwrap(), wanted);
    }

    #[rstest]
    #[case::back_before_it_was_raised("3.7.1", (3, 6), "3.6.16", "3.7.1 3.6.16")]
    #[case::down_after_it_was_lowered("3.6.16", (3, 5), "3.5.35", "3.6.16 3.5.35")]
    #[case::back_and_further_down("3.7.1", (3, 6), "3.5.35", "3.7.1 3.6.16 3.5.35")]
    #[case::on_before_it_was_raised("3.6.16", (3, 5), "3.7.3", "3.6.16 3.7.3")]
    #[case::up_again_after_it_was_lowered("3.7.3", (3, 6), "3.7.3", "3.7.3")]
    #[case::a_member_that_was_left_behind("3.5.35", (3, 6), "3.7.3", "3.5.35 3.6.16 3.7.3")]
    fn a_hop_in_progress_has_no_floor(
        #[case] from: &str,
        #[case] cluster: (u64, u64),
        #[case] target: &str,
        #[case] wanted: &str,
    ) {
        assert_eq!(way(from, Minor::new(cluster.0, cluster.1), target).unwrap(), wanted);
    }

    #[rstest]
    #[case::back_to_3_4("3.5.35", "3.4.45", "3.4 is not maintained")]
    #[case::back_to_3_4_from_afar("3.7.3", "3.4.45", "3.4 is not maintained")]
    #[case::an_unknown_minor("3.7.3", "3.8.0", "not in the table")]
    #[case::an_unknown_major("3.7.3", "4.0.0", "not in the table")]
    #[case::from_an_unknown_minor("3.3.27", "3.5.35", "not in the table")]
    #[case::a_release_to_avoid("3.5.35", "3.6.4", "release to avoid")]
    #[case::a_patch_to_avoid("3.5.35", "3.5.1", "release to avoid")]
    fn refuses(#[case] from: &str, #[case] target: &str, #[case] says: &str) {
        let error = way(from, v(from).minor, target).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn a_lower_cluster_version_is_no_way_below_it() {
        let error = way("3.5.35", Minor::new(3, 6), "3.5.35").unwrap_err();
        assert!(matches!(error, HopError::Downgrade { .. }), "{error}");
    }

    #[test]
    fn additions_and_verdicts_move_the_stops() {
        let releases = Releases::parse(r#"{"known": ["3.5.36"], "refuse": {"3.6.16": "bad"}}"#).unwrap();
        let way = route(v("3.5.9"), v("3.5.9").minor, v("3.7.3"), &releases).unwrap();
        assert_eq!(way, ["3.5.9", "3.5.36", "3.6.15", "3.7.3"].map(v));
    }

    fn any_version() -> impl Strategy<Value = EtcdVersion> {
        (3_u64..=8, 0_u64..=40).prop_map(|(minor, patch)| EtcdVersion::new(3, minor, patch))
    }

    proptest! {
        #[test]
        fn each_pair_of_a_route_may_follow(from in any_version(), target in any_version()) {
            let releases = Releases::default();
            if let Ok(way) = route(from, from.minor, target, &releases) {
                prop_assert_eq!(way[0], from);
                prop_assert_eq!(way[way.len() - 1], target);
                for pair in way.windows(2) {
                    prop_assert!(pair[0] != pair[1]);
                    prop_assert_eq!(may_go(pair[0], pair[1], &releases), Ok(()));
                    let (a, b) = (pair[0].minor.minor, pair[1].minor.minor);
                    prop_assert!(a.abs_diff(b) <= 1);
                }
                // One stop a minor, and one more where the route begins below a floor.
                let minors = from.minor.minor.abs_diff(target.minor.minor);
                prop_assert!(way.len() as u64 <= minors + 2);
            }
        }

        #[test]
        fn what_may_follow_directly_is_a_route(from in any_version(), target in any_version()) {
            let releases = Releases::default();
            let known = |version: EtcdVersion| MINORS.iter().any(|line| line.minor == version.minor);
            if known(from) && known(target) && from != target && may_go(from, target, &releases).is_ok() {
                prop_assert_eq!(route(from, from.minor, target, &releases), Ok(vec![from, target]));
            }
        }
    }
}
