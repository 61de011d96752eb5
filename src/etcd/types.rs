//! etcd's own words as types. Pure data.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An etcd release, e.g. `3.6.16`. Pre-releases are no releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EtcdVersion {
    /// The minor line.
    pub minor: Minor,
    /// The patch.
    pub patch: u64,
}

/// A minor line of etcd, e.g. `3.6`. Cluster and storage versions are of this kind: etcd writes
/// them as `3.6.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minor {
    /// The major version.
    pub major: u64,
    /// The minor version.
    pub minor: u64,
}

/// Why a text is no etcd version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// Not of the form `MAJOR.MINOR.PATCH`.
    #[error("{0:?} is no version; write MAJOR.MINOR.PATCH, e.g. 3.6.16")]
    Malformed(String),
    /// An alpha, beta or release candidate.
    #[error("{0:?} is a pre-release; only releases are run")]
    PreRelease(String),
}

impl EtcdVersion {
    /// `major.minor.patch`.
    pub const fn new(major: u64, minor: u64, patch: u64) -> Self {
        Self { minor: Minor { major, minor }, patch }
    }

    /// What a running etcd says of itself. Unlike [`FromStr`] it takes pre-releases, by their release.
    pub fn reported(text: &str) -> Option<Self> {
        let version = semver::Version::parse(text.trim_start_matches('v')).ok()?;
        Some(Self::new(version.major, version.minor, version.patch))
    }
}

impl Minor {
    /// `major.minor`.
    pub const fn new(major: u64, minor: u64) -> Self {
        Self { major, minor }
    }

    /// What etcd calls its cluster version until all members of a new cluster have published theirs.
    pub const UNDECIDED: Self = Self::new(3, 0);

    /// The next minor of the same major.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { major: self.major, minor: self.minor + 1 }
    }

    /// The minor before this one of the same major; nothing where there is none.
    pub const fn previous(self) -> Option<Self> {
        match self.minor {
            0 => None,
            minor => Some(Self { major: self.major, minor: minor - 1 }),
        }
    }

    /// A release of this line.
    pub const fn patch(self, patch: u64) -> EtcdVersion {
        EtcdVersion { minor: self, patch }
    }
}

impl FromStr for EtcdVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let bare = text.strip_prefix('v').unwrap_or(text);
        let version = semver::Version::parse(bare).map_err(|_| VersionError::Malformed(text.to_owned()))?;
        if !version.pre.is_empty() || !version.build.is_empty() {
            return Err(VersionError::PreRelease(text.to_owned()));
        }
        Ok(Self::new(version.major, version.minor, version.patch))
    }
}

impl TryFrom<String> for EtcdVersion {
    type Error = VersionError;
    fn try_from(text: String) -> Result<Self, VersionError> {
        text.parse()
    }
}

impl From<EtcdVersion> for String {
    fn from(version: EtcdVersion) -> Self {
        version.to_string()
    }
}

impl fmt::Display for EtcdVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.minor, self.patch)
    }
}

impl fmt::Display for Minor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:x}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                u64::from_str_radix(text, 16).map(Self)
            }
        }
    };
}

hex_id!(
    /// A member's id, written in hexadecimal as etcdctl does.
    MemberId
);
hex_id!(
    /// A cluster's id, written in hexadecimal as etcdctl does.
    ClusterId
);

/// An entry of the member list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedMember {
    /// Its id.
    pub id: MemberId,
    /// Its name; empty until it has started for the first time.
    pub name: String,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started for the first time.
    pub client_urls: Vec<String>,
    /// Whether it does not vote yet.
    pub is_learner: bool,
}

/// What a member says of itself (`Maintenance.Status`, local, not linearizable).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its cluster's id.
    pub cluster_id: ClusterId,
    /// Its own id.
    pub member_id: MemberId,
    /// The version of its binary, despite the name in the protocol.
    pub version: EtcdVersion,
    /// The leader that it knows; nothing while there is none.
    pub leader: Option<MemberId>,
    /// Its raft term.
    pub raft_term: u64,
    /// The raft index that it knows to be committed.
    pub raft_index: u64,
    /// The raft index that it has applied.
    pub raft_applied_index: u64,
    /// The key-value revision that it has.
    pub revision: i64,
    /// Size of its database on disk, in bytes.
    pub db_size: i64,
    /// Size of its database in use, in bytes.
    pub db_size_in_use: i64,
    /// Whether it does not vote yet.
    pub is_learner: bool,
    /// Alarms of the whole cluster, as `Status.errors` names them; reading them here costs no raft
    /// entry, which `AlarmList` does.
    pub alarms: Vec<Alarm>,
    /// The minor that a downgrade job leads to, while one is enabled. Members before 3.6 never say.
    pub downgrade: Option<Minor>,
}

/// What etcd's Downgrade API is asked for. Its answer is never trusted: whether it took effect is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DowngradeCall {
    /// Begin: the leader lowers the cluster version to this minor, and members migrate their data.
    Enable(Minor),
    /// Give a job up, whatever it leads to. The cluster version rises again once all members run the higher minor.
    Cancel,
}

/// A cluster-wide alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alarm {
    /// A database has reached its quota; writes are refused.
    NoSpace,
    /// A member's data differs from the others'; writes are refused.
    Corrupt,
}

impl Alarm {
    /// Reads one entry of `Status.errors`, e.g. `memberID:8211… alarm:NOSPACE `. The text differs by
    /// a blank in 3.7, so only the name counts.
    pub fn in_status_error(text: &str) -> Option<Self> {
        if text.contains("NOSPACE") {
            Some(Self::NoSpace)
        } else if text.contains("CORRUPT") {
            Some(Self::Corrupt)
        } else {
            None
        }
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSpace => "NOSPACE",
            Self::Corrupt => "CORRUPT",
        })
    }
}

/// How many of so many voters are a quorum: n/2+1.
pub const fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("3.6.16", Some(EtcdVersion::new(3, 6, 16)))]
    #[case("v3.5.9", Some(EtcdVersion::new(3, 5, 9)))]
    #[case("latest", None)]
    #[case("3.6", None)]
    #[case("3.7.0-rc.0", None)]
    #[case("3.6.1+arm", None)]
    #[case("", None)]
    fn reads_versions(#[case] text: &str, #[case] version: Option<EtcdVersion>) {
        assert_eq!(text.parse().ok(), version);
    }

    #[test]
    fn a_running_pre_release_counts_as_its_release() {
        assert_eq!(EtcdVersion::reported("3.7.0-rc.0"), Some(EtcdVersion::new(3, 7, 0)));
    }

    #[test]
    fn versions_order_by_number_not_by_text() {
        assert!(EtcdVersion::new(3, 5, 9) < EtcdVersion::new(3, 5, 10));
    }

    #[test]
    fn ids_are_written_as_etcdctl_writes_them() {
        let id: MemberId = "8e9e05c52164694d".parse().unwrap();
        assert_eq!(id.to_string(), "8e9e05c52164694d");
    }
}
