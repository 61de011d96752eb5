//! What etcd's cluster version is: as its members say it, as it was last known, or as it can be at most. It falls
//! by a downgrade only. Pure.

use super::view::View;
use crate::etcd::Minor;

impl View<'_> {
    /// etcd's cluster version as its members say it now: as those know it that have a quorum, or else the highest.
    pub fn cluster_version(&self) -> Option<Minor> {
        let said = || self.world.answers.values().filter_map(|answer| answer.cluster_version).max();
        self.world.witnessed_cluster_version().or_else(said)
    }

    /// The cluster version as read now, or as it was last known (it falls by a downgrade only), or else the
    /// highest that it can be.
    pub fn known_cluster_version(&self) -> Option<Minor> {
        self.proven_cluster_version().or_else(|| self.highest_possible_cluster_version())
    }

    /// What the cluster version is at least: no binary below it is started. To start one below what it may
    /// be is harmless, since etcd itself refuses then.
    pub fn proven_cluster_version(&self) -> Option<Minor> {
        self.world.last_known_cluster_version()
    }

    /// Where nobody answers and the status is lost: etcd raises the cluster version to the lowest
    /// binary and no further, so it is at most the lowest of what members last ran or were to run.
    fn highest_possible_cluster_version(&self) -> Option<Minor> {
        let minors = self.voters().keys().map(|member| {
            let claim = self.claim_of(member)?;
            let assigned = claim.assigned.as_ref().and_then(|name| self.world.revisions.get(name));
            claim.opened.max(assigned.map(|revision| revision.version)).map(|version| version.minor)
        });
        minors.flatten().min()
    }
}
