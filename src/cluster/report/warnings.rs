//! What somebody should know of, and what holds nothing up: known bugs of the release, and an etcd that
//! does not fit the control plane that relies on it. Pure.

use crate::api::{Code, WarningStatus};
use crate::cluster::observation::Observation;
use crate::cluster::spec::Desired;
use crate::etcd::versions::advice;

pub(super) fn of(world: &Observation, desired: &Desired) -> Vec<WarningStatus> {
    let kubernetes = world.cluster.spec.kubernetes.as_ref().and_then(|spec| spec.version.as_deref());
    let skew = kubernetes.and_then(|kubernetes| advice(kubernetes, desired.version));
    known_bugs(world, desired)
        .into_iter()
        .chain(skew.map(|message| WarningStatus { code: Code::VersionSkew, message }))
        .collect()
}

fn known_bugs(world: &Observation, desired: &Desired) -> Option<WarningStatus> {
    let version = desired.version;
    let faults = world.releases.known_faults(version);
    if faults.is_empty() {
        return None;
    }
    let newest = world.releases.newest(version.minor).filter(|newest| *newest > version);
    let newest = newest.map(|newest| format!("; {newest} is the newest known patch")).unwrap_or_default();
    Some(WarningStatus {
        code: Code::KnownBugs,
        message: format!("etcd {version}: {}{newest}", faults.join("; ")),
    })
}
