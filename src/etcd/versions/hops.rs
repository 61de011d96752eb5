//! Which moves from one version to another are allowed, and from which patch on.

use super::{MINORS, is_supported};
use crate::etcd::{EtcdVersion, Minor};

/// One line of the table of minor hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MinorHop {
    /// The minor that is left.
    pub from: Minor,
    /// The minor that is gone to.
    pub to: Minor,
    /// From which patch on it may be begun.
    pub start: Start,
    /// Why the start is what it is.
    pub why: &'static str,
    /// What else must be true, or is good to know.
    pub note: &'static str,
    /// Where the line comes from.
    pub source: &'static str,
}

/// From which patch on a hop may be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The floor: every member must run at least this patch before the hop begins.
    Floor(u64),
    /// Never.
    Never,
}

impl MinorHop {
    /// Whether this release of the operator begins it.
    pub fn is_begun(&self) -> bool {
        is_supported(self.from) && is_supported(self.to) && self.start != Start::Never
    }

    /// The oldest release from which it may be begun; nothing where none may.
    pub const fn floor(&self) -> Option<EtcdVersion> {
        match self.start {
            Start::Floor(patch) => Some(self.from.patch(patch)),
            Start::Never => None,
        }
    }
}

/// Upward and downward minor hops. What is not listed is not allowed.
pub const HOPS: &[MinorHop] = &[
    MinorHop {
        from: Minor::new(3, 4),
        to: Minor::new(3, 5),
        start: Start::Floor(0),
        why: "any patch of 3.4 will do",
        note: "authentication must be disabled: 3.5 writes it to the WAL in another form",
        source: "https://etcd.io/docs/v3.5/upgrades/upgrade_3_5/",
    },
    MinorHop {
        from: Minor::new(3, 5),
        to: Minor::new(3, 6),
        start: Start::Floor(26),
        why: "members that were removed come back on 3.6, unless each member was started once on 3.5.26 or later",
        note: "3.5.32 or later is better: its etcdutl finds v2 data in the WAL, which 3.6 does not start on",
        source: "https://github.com/etcd-io/etcd/issues/20967",
    },
    MinorHop {
        from: Minor::new(3, 6),
        to: Minor::new(3, 7),
        start: Start::Floor(11),
        why: "etcd's upgrade guide asks for 3.6.11 or later",
        note: "each member must have taken a raft snapshot on 3.6 before: 3.7 cannot read raft entries of 3.5",
        // Made safe by a raft snapshot on every member: see v2.rs.
        source: "https://etcd.io/docs/v3.7/upgrades/upgrade_3_7/",
    },
    MinorHop {
        from: Minor::new(3, 7),
        to: Minor::new(3, 6),
        start: Start::Floor(2),
        why: "3.7.0 and 3.7.1 look for the start of the WAL in a v2 snapshot, and the downgrade does not begin",
        note: "through etcd's Downgrade API; the gates FastLeaseKeepAlive and PriorityRequest must go before",
        source: "https://github.com/etcd-io/etcd/pull/22171",
    },
    MinorHop {
        from: Minor::new(3, 6),
        to: Minor::new(3, 5),
        start: Start::Floor(0),
        why: "any patch of 3.6 will do",
        note: "through etcd's Downgrade API; flags go back to their names of 3.5",
        source: "https://etcd.io/docs/v3.6/downgrades/downgrade_3_6/",
    },
    MinorHop {
        from: Minor::new(3, 5),
        to: Minor::new(3, 4),
        start: Start::Never,
        why: "there is no Downgrade API for it, only a workaround in 3.4, and 3.4 is not maintained any more",
        note: "a snapshot from before the upgrade can be restored into a new cluster",
        source: "https://etcd.io/docs/v3.5/downgrades/downgrade_3_5/",
    },
];

fn hop(from: Minor, to: Minor) -> Option<&'static MinorHop> {
    HOPS.iter().find(|rule| rule.from == from && rule.to == to)
}

/// The first minor whose members start under any downgrade job, and forget one that is over.
pub const STARTS_UNDER_ANY_DOWNGRADE: Minor = Minor::new(3, 6);

/// Whether the status of members of this minor says that a downgrade job is enabled. Before, it shows by
/// VALIDATE only. Source: <https://github.com/etcd-io/etcd/blob/main/CHANGELOG/CHANGELOG-3.6.md>
pub fn tells_of_downgrades(minor: Minor) -> bool {
    minor >= Minor::new(3, 6)
}

/// A move that the table allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Nothing changes.
    Stay,
    /// Within a minor, up or down.
    Patch,
    /// One minor up.
    MinorUp,
    /// Back to the minor that the cluster version still has, or has been lowered to: putting the old binary back.
    Revert,
    /// One minor down. First the cluster version is lowered, through etcd's Downgrade API; from there it is a revert.
    Downgrade,
}

/// Why a move is not allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HopError {
    /// No members of a minor are run: that of the target, or the one that runs.
    #[error("etcd {version} is not in the table of versions (known: {known})")]
    Unsupported {
        /// The version.
        version: EtcdVersion,
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
    /// A lower minor that etcd cannot be brought to.
    #[error("the cluster version is {cluster}; {target} is below it and could not start on this data: {why}")]
    Downgrade {
        /// The cluster version.
        cluster: Minor,
        /// The version asked for.
        target: EtcdVersion,
        /// Why it is not made able to.
        why: &'static str,
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
    /// A member runs a minor above the cluster version: the hop up that has begun comes to an end first.
    #[error(
        "{ahead} runs in a cluster of version {cluster}; a downgrade to {target} begins with one minor on all"
    )]
    Ahead {
        /// What the member runs.
        ahead: EtcdVersion,
        /// The cluster version.
        cluster: Minor,
        /// The version asked for.
        target: EtcdVersion,
    },
    /// A downgrade to a patch from which the way up again may not be begun.
    #[error("{target} is below {floor}, from which the way up again may be begun; a downgrade ends no lower")]
    NoWayBack {
        /// The version asked for.
        target: EtcdVersion,
        /// The oldest patch allowed.
        floor: EtcdVersion,
    },
    /// Every release of a minor that the way to the target could lead through is refused.
    #[error(
        "no release of {minor} is known that the way to {target} could lead through and that is not refused"
    )]
    NoRelease {
        /// The minor on the way.
        minor: Minor,
        /// The version asked for.
        target: EtcdVersion,
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
    let never =
        HOPS.iter().find(|rule| rule.to == target.minor && rule.from > rule.to && rule.floor().is_none());
    if let Some(never) = never.filter(|_| target.minor < cluster_version) {
        return Err(HopError::Downgrade { cluster: cluster_version, target, why: never.why });
    }
    for version in members.iter().copied().min().into_iter().chain([target]) {
        if !is_supported(version.minor) {
            let known: Vec<String> = MINORS.iter().map(|line| line.minor.to_string()).collect();
            return Err(HopError::Unsupported { version, known: known.join(", ") });
        }
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
    let down = target.minor < cluster_version;
    let rule = hop(cluster_version, target.minor).filter(|rule| rule.is_begun());
    let Some(floor) = rule.and_then(MinorHop::floor) else {
        let next = if down { cluster_version.previous() } else { Some(cluster_version.next()) };
        return Err(HopError::Skip { from: cluster_version, target, next: next.unwrap_or(target.minor) });
    };
    let ahead = members.iter().copied().max().filter(|highest| down && highest.minor > cluster_version);
    if let Some(ahead) = ahead {
        return Err(HopError::Ahead { ahead, cluster: cluster_version, target });
    }
    if let Some(lowest) = members.iter().copied().min().filter(|lowest| *lowest < floor) {
        return Err(HopError::BelowFloor { lowest, floor, target });
    }
    if !down {
        return Ok(Hop::MinorUp);
    }
    match way_back_from(target.minor) {
        Some(floor) if target < floor => Err(HopError::NoWayBack { target, floor }),
        _ => Ok(Hop::Downgrade),
    }
}

/// The oldest patch of a minor from which the hop to the next one may be begun. A downgrade that is given up
/// half way goes up again from there.
pub(super) fn way_back_from(minor: Minor) -> Option<EtcdVersion> {
    hop(minor, minor.next()).and_then(MinorHop::floor)
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
    #[case::down("3.6", &["3.6.16"], "3.5.35", Hop::Downgrade)]
    #[case::down_from_3_7("3.7", &["3.7.3"], "3.6.16", Hop::Downgrade)]
    #[case::down_after_the_lowering("3.5", &["3.6.16"], "3.5.35", Hop::Revert)]
    #[case::half_way_down("3.5", &["3.5.35", "3.6.16"], "3.5.35", Hop::Revert)]
    #[case::half_way_down_and_up_again("3.5", &["3.5.35", "3.6.16"], "3.6.16", Hop::MinorUp)]
    fn allows(#[case] cluster: &str, #[case] members: &[&str], #[case] target: &str, #[case] hop: Hop) {
        let members: Vec<_> = members.iter().map(|m| v(m)).collect();
        let cluster = v(&format!("{cluster}.0")).minor;
        assert_eq!(check_hop(cluster, &members, v(target)), Ok(hop));
    }

    #[rstest]
    #[case::skip("3.5", "3.5.35", "3.7.3", "skips a minor")]
    #[case::floor("3.5", "3.5.25", "3.6.16", "below 3.5.26")]
    #[case::floor_of_3_7("3.6", "3.6.10", "3.7.3", "below 3.6.11")]
    #[case::down_3_5("3.5", "3.5.35", "3.4.45", "3.4 is not maintained")]
    #[case::down_to_3_4_from_further_up("3.7", "3.7.3", "3.4.45", "3.4 is not maintained")]
    #[case::down_two("3.7", "3.7.3", "3.5.35", "skips a minor")]
    #[case::down_from_a_patch_that_cannot("3.7", "3.7.1", "3.6.16", "below 3.7.2")]
    #[case::down_below_the_way_back("3.6", "3.6.16", "3.5.9", "below 3.5.26, from which the way up again")]
    #[case::down_from_half_way_up("3.6", "3.7.3", "3.5.35", "3.7.3 runs in a cluster of version 3.6")]
    #[case::unknown("3.7", "3.7.3", "3.8.0", "3.8.0 is not in the table")]
    #[case::from_a_minor_that_is_not_run("3.4", "3.4.45", "3.5.35", "3.4.45 is not in the table")]
    #[case::major("3.7", "3.7.3", "4.0.0", "not in the table")]
    fn refuses(#[case] cluster: &str, #[case] member: &str, #[case] target: &str, #[case] says: &str) {
        let cluster = v(&format!("{cluster}.0")).minor;
        let error = check_hop(cluster, &[v(member)], v(target)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }

    #[test]
    fn every_hop_up_has_a_line_for_the_way_down() {
        for rule in HOPS.iter().filter(|rule| rule.from < rule.to) {
            assert!(hop(rule.to, rule.from).is_some(), "{} to {}", rule.to, rule.from);
        }
    }

    #[test]
    fn every_minor_that_is_run_leads_to_the_next() {
        for pair in MINORS.windows(2) {
            assert_eq!(pair[0].minor.next(), pair[1].minor);
            assert!(hop(pair[0].minor, pair[1].minor).is_some_and(|rule| rule.floor().is_some()));
        }
    }
}
