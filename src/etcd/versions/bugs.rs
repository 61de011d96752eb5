//! Known bugs of etcd releases, as data. They are named in warnings; the gravest refuse releases as targets.

use crate::etcd::{EtcdVersion, Minor};

/// A bug that is worth another patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bug {
    /// What happens.
    pub what: &'static str,
    /// The first release without it, of each minor that had it.
    pub fixed: &'static [EtcdVersion],
    /// The first patch of those minors that has it.
    pub since: u64,
    /// A minor of which the releases that have it are refused as targets. A cluster that runs one goes on.
    pub refused: Option<Minor>,
    /// Where it is described.
    pub source: &'static str,
}

const fn v(minor: u64, patch: u64) -> EtcdVersion {
    EtcdVersion::new(3, minor, patch)
}

const fn bug(what: &'static str, fixed: &'static [EtcdVersion], source: &'static str) -> Bug {
    Bug { what, fixed, since: 0, refused: None, source }
}

impl Bug {
    /// The release that cures a version of this bug; nothing where the version does not have it.
    pub fn fix_for(&self, version: EtcdVersion) -> Option<EtcdVersion> {
        let fix = self.fixed.iter().copied().find(|fix| fix.minor == version.minor)?;
        (version < fix && version.patch >= self.since).then_some(fix)
    }

    /// Whether a version is refused as a target because of it.
    pub fn refuses(&self, version: EtcdVersion) -> bool {
        self.refused == Some(version.minor) && self.fix_for(version).is_some()
    }

    const fn refused_of(self, minor: Minor) -> Self {
        Self { refused: Some(minor), ..self }
    }
}

/// By the release that fixed them.
pub const BUGS: &[Bug] = &[
    bug(
        "a member that crashes under load may come back with other data than the rest",
        &[v(5, 3)],
        "https://github.com/etcd-io/etcd/issues/13766",
    )
    .refused_of(Minor::new(3, 5)),
    bug(
        "a cluster of one member may lose an acknowledged write in a crash",
        &[v(5, 5)],
        "https://github.com/etcd-io/etcd/issues/14370",
    ),
    Bug {
        what: "users and roles may differ on a member that was added",
        fixed: &[v(5, 6)],
        since: 5,
        refused: None,
        source: "https://github.com/etcd-io/etcd/issues/14571",
    },
    bug(
        "a crash during a defragmentation may corrupt data",
        &[v(5, 6)],
        "https://github.com/etcd-io/etcd/issues/14685",
    ),
    bug(
        "revisions may go back after a crash during a compaction",
        &[v(5, 14)],
        "https://github.com/etcd-io/etcd/issues/17780",
    ),
    bug(
        "a member may take raft messages that were meant for another one",
        &[v(5, 14)],
        "https://github.com/etcd-io/etcd/pull/17813",
    ),
    bug(
        "a transaction that is refused may have been applied in part",
        &[v(5, 17)],
        "https://github.com/etcd-io/etcd/pull/18799",
    ),
    bug(
        "a member that was promoted from learner may be a learner again on 3.6",
        &[v(5, 20)],
        "https://github.com/etcd-io/etcd/issues/19557",
    ),
    bug(
        "a defragmentation during the receipt of a snapshot may corrupt data",
        &[v(5, 23), v(6, 5)],
        "https://github.com/etcd-io/etcd/issues/20271",
    )
    .refused_of(Minor::new(3, 6)),
    bug(
        "a member that was promoted from learner may not start",
        &[v(6, 5)],
        "https://github.com/etcd-io/etcd/pull/20387",
    )
    .refused_of(Minor::new(3, 6)),
    bug(
        "a new member may get a wrong member list with its snapshot, which shows on 3.6",
        &[v(5, 24)],
        "https://github.com/etcd-io/etcd/issues/20793",
    ),
    bug(
        "linearizable reads may be stale",
        &[v(5, 28), v(6, 9)],
        "https://github.com/etcd-io/etcd/issues/20418",
    ),
    bug(
        "several calls pass without authorization (CVE-2026-33413)",
        &[v(5, 28), v(6, 9)],
        "https://github.com/etcd-io/etcd/security/advisories/GHSA-q8m4-xhhv-38mg",
    ),
    bug(
        "nested transactions pass without authorization (CVE-2026-33343)",
        &[v(5, 28), v(6, 9)],
        "https://github.com/etcd-io/etcd/security/advisories/GHSA-rfx7-8w68-q57q",
    ),
    bug(
        "no member can be added while one is down",
        &[v(5, 30), v(6, 11)],
        "https://github.com/etcd-io/etcd/pull/21667",
    ),
    bug(
        "a put within a transaction may return or attach what its user may not read (CVE-2026-44283)",
        &[v(5, 30), v(6, 11)],
        "https://github.com/etcd-io/etcd/pull/21682",
    ),
    bug(
        "changing the peer URLs of a learner makes it a voter",
        &[v(5, 31), v(6, 12)],
        "https://github.com/etcd-io/etcd/issues/21694",
    ),
    bug(
        "anybody who reaches a TLS port can exhaust it with unfinished handshakes",
        &[v(5, 33), v(6, 14), v(7, 1)],
        "https://github.com/etcd-io/etcd/security/advisories/GHSA-6vch-q96h-7gc3",
    ),
    bug(
        "a user who may read one key can watch every key after it",
        &[v(5, 33), v(6, 14), v(7, 1)],
        "https://github.com/etcd-io/etcd/security/advisories/GHSA-xg4h-6gfc-h4m8",
    ),
];
