//! Releases whose `--force-new-cluster` leaves nothing of the old members behind.

use crate::etcd::EtcdVersion;

/// The first release of each minor that does. Before, what it removed could come back from a snapshot or from the v2 store
/// (<https://github.com/etcd-io/etcd/issues/20896>, <https://github.com/etcd-io/etcd/pull/20339>).
pub const FORCES_CLEANLY_FROM: &[EtcdVersion] =
    &[EtcdVersion::new(3, 5, 25), EtcdVersion::new(3, 6, 6), EtcdVersion::new(3, 7, 0)];

/// Whether `--force-new-cluster` of this release leaves nothing behind.
pub fn forces_cleanly(version: EtcdVersion) -> bool {
    FORCES_CLEANLY_FROM.iter().any(|first| first.minor == version.minor && version >= *first)
}

/// The first release of this version's minor that does.
pub fn first_to_force_cleanly(version: EtcdVersion) -> Option<EtcdVersion> {
    FORCES_CLEANLY_FROM.iter().copied().find(|first| first.minor == version.minor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("3.5.24", false)]
    #[case("3.5.25", true)]
    #[case("3.6.5", false)]
    #[case("3.6.6", true)]
    #[case("3.7.0", true)]
    #[case("3.4.30", false)]
    fn is_a_matter_of_the_patch(#[case] version: &str, #[case] is_clean: bool) {
        assert_eq!(forces_cleanly(version.parse().unwrap()), is_clean);
    }
}
