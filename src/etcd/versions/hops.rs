//! Which moves from one version to another are allowed, and from which patch on.

use super::is_supported;
use crate::etcd::{EtcdVersion, Minor};

/// One line of the table of minor hops.
#[derive(Clone, Copy, Debug)]
struct MinorHop {
    from: Minor,
    to: Minor,
    /// Every member must run at least this patch before the hop begins.
    floor: u64,
    /// Set where this release cannot make the hop safe.
    unsupported: Option<&'static str>,
    /// Where the line comes from.
    #[allow(dead_code, reason = "the source stands beside the fact; the docs generator reads it later")]
    source: &'static str,
}

/// Upward and downward minor hops. What is not listed is not allowed.
const MINOR_HOPS: &[MinorHop] = &[
    MinorHop {
        from: Minor::new(3, 5),
        to: Minor::new(3, 6),
        floor: 26,
        unsupported: None,
        // Zombie members come back on 3.6 unless each member was started once on 3.5.26 or later.
        source: "https://github.com/etcd-io/etcd/issues/20967",
    },
    MinorHop {
        from: Minor::new(3, 6),
        to: Minor::new(3, 7),
        floor: 11,
        // Made safe by a raft snapshot on every member: see v2.rs.
        unsupported: None,
        source: "https://etcd.io/docs/v3.7/upgrades/upgrade_3_7/",
    },
    MinorHop {
        from: Minor::new(3, 7),
        to: Minor::new(3, 6),
        floor: 2,
        unsupported: Some(
            "a minor downgrade goes through etcd's Downgrade API, which this release does not drive",
        ),
        source: "https://github.com/etcd-io/etcd/pull/22171",
    },
];

/// A move that the table allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Nothing changes.
    Stay,
    /// Within a minor, up or down.
    Patch,
    /// One minor up.
    MinorUp,
    /// Back to the minor that the cluster version still has: putting the old binary back.
    Revert,
}

/// Why a move is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HopError {
    /// The table does not know the target's minor.
    #[error("etcd {target} is not in the table of versions (known: {known})")]
    Unsupported {
        /// The version asked for.
        target: EtcdVersion,
        /// The minors that are known.
        known: String,
    },
    /// More than one minor at once.
    #[error("{from} to {target} skips a minor, which etcd does not support")]
    Skip {
        /// The cluster version.
        from: Minor,
        /// The version asked for.
        target: EtcdVersion,
        /// The minor that comes next.
        next: Minor,
    },
    /// A lower minor after the cluster version has moved.
    #[error("the cluster version is {cluster}; {target} is below it and could not start on this data")]
    Downgrade {
        /// The cluster version.
        cluster: Minor,
        /// The version asked for.
        target: EtcdVersion,
    },
    /// A member's patch is below the floor.
    #[error("{lowest} is below {floor}, the oldest patch from which {target} may be begun")]
    BelowFloor {
        /// The lowest version that a member runs.
        lowest: EtcdVersion,
        /// The oldest patch allowed.
        floor: EtcdVersion,
        /// The version asked for.
        target: EtcdVersion,
    },
    /// Known to be dangerous.
    #[error("{from} to {target}: {why}")]
    Dangerous {
        /// The cluster version.
        from: Minor,
        /// The version asked for.
        target: EtcdVersion,
        /// Why.
        why: &'static str,
    },
}

/// Whether a cluster at `cluster_version`, whose members run `members` (at least one), may go to
/// `target`. The cluster version decides, not the members' binaries: until etcd has raised it the
/// old binaries can be put back, afterwards they cannot.
///
/// # Errors
/// The rule that forbids the move, with the versions at hand.
pub fn check_hop(
    cluster_version: Minor,
    members: &[EtcdVersion],
    target: EtcdVersion,
) -> Result<Hop, HopError> {
    if !is_supported(target.minor) {
        let known: Vec<String> = super::SUPPORTED.iter().map(|line| line.minor.to_string()).collect();
        return Err(HopError::Unsupported { target, known: known.join(", ") });
    }
    if target.minor < cluster_version {
        return Err(HopError::Downgrade { cluster: cluster_version, target });
    }
    if target.minor == cluster_version {
        return Ok(if members.iter().all(|version| *version == target) {
            Hop::Stay
        } else if members.iter().any(|version| version.minor > target.minor) {
            Hop::Revert
        } else {
            Hop::Patch
        });
    }
    if target.minor != cluster_version.next() {
        return Err(HopError::Skip { from: cluster_version, target, next: cluster_version.next() });
    }
    let Some(rule) = MINOR_HOPS.iter().find(|rule| rule.from == cluster_version && rule.to == target.minor)
    else {
        return Err(HopError::Skip { from: cluster_version, target, next: cluster_version.next() });
    };
    if let Some(why) = rule.unsupported {
        return Err(HopError::Dangerous { from: cluster_version, target, why });
    }
    let floor = rule.from.patch(rule.floor);
    let lowest = members.iter().min().copied();
    match lowest {
        Some(lowest) if lowest < floor => Err(HopError::BelowFloor { lowest, floor, target }),
        _ => Ok(Hop::MinorUp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn v(text: &str) -> EtcdVersion {
        text.parse().unwrap()
    }

    #[rstest]
    #[case::same("3.5", &["3.5.9"], "3.5.9", Hop::Stay)]
    #[case::patch_up("3.5", &["3.5.9"], "3.5.10", Hop::Patch)]
    #[case::patch_down("3.6", &["3.6.16"], "3.6.5", Hop::Patch)]
    #[case::minor_up("3.5", &["3.5.35"], "3.6.16", Hop::MinorUp)]
    #[case::to_3_7("3.6", &["3.6.16"], "3.7.3", Hop::MinorUp)]
    #[case::half_way_up("3.5", &["3.5.35", "3.6.16"], "3.6.16", Hop::MinorUp)]
    #[case::half_way_back("3.5", &["3.5.35", "3.6.16"], "3.5.35", Hop::Revert)]
    #[case::half_way_back_to_another_patch("3.5", &["3.5.30", "3.6.16"], "3.5.35", Hop::Revert)]
    fn allows(#[case] cluster: &str, #[case] members: &[&str], #[case] target: &str, #[case] hop: Hop) {
        let members: Vec<_> = members.iter().map(|m| v(m)).collect();
        let cluster = v(&format!("{cluster}.0")).minor;
        assert_eq!(check_hop(cluster, &members, v(target)), Ok(hop));
    }

    #[rstest]
    #[case::skip("3.5", "3.5.35", "3.7.3", "skips a minor")]
    #[case::floor("3.5", "3.5.25", "3.6.16", "below 3.5.26")]
    #[case::floor_of_3_7("3.6", "3.6.10", "3.7.3", "below 3.6.11")]
    #[case::down_3_7("3.7", "3.7.3", "3.6.16", "below it")]
    #[case::down_3_6("3.6", "3.6.16", "3.5.35", "below it")]
    #[case::unknown("3.5", "3.5.35", "3.4.45", "not in the table")]
    #[case::major("3.7", "3.7.3", "4.0.0", "not in the table")]
    fn refuses(#[case] cluster: &str, #[case] member: &str, #[case] target: &str, #[case] says: &str) {
        let cluster = v(&format!("{cluster}.0")).minor;
        let error = check_hop(cluster, &[v(member)], v(target)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
