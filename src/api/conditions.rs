//! The conditions of an `EtcdCluster`, as `metav1.Condition`.

use super::Code;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use std::fmt;

/// The closed list of condition types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// Work is under way. Present only while true (kstatus).
    Reconciling,
    /// A person must act. Present only while true (kstatus).
    Stalled,
    /// A linearizable read answers and writes are accepted.
    Available,
    /// The cluster is what its spec says and every member is healthy.
    Ready,
    /// Every certificate holds, and those that come to their end are made anew. Absent without TLS.
    CertificatesValid,
    /// `spec.paused` is set. Present only while true.
    Paused,
}

impl ConditionType {
    /// The type as it stands in the condition.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Available => "Available",
            Self::Ready => "Ready",
            Self::CertificatesValid => "CertificatesValid",
            Self::Paused => "Paused",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Finds a condition by its type.
pub fn find_condition(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == kind.as_str())
}

/// Makes a condition; `lastTransitionTime` moves only when the status differs from `before`.
pub fn condition(
    kind: ConditionType,
    status: bool,
    code: Code,
    message: String,
    generation: i64,
    now: jiff::Timestamp,
    before: &[Condition],
) -> Condition {
    let status = if status { "True" } else { "False" };
    let since = find_condition(before, kind)
        .filter(|old| old.status == status)
        .map_or(Time(now), |old| old.last_transition_time.clone());
    Condition {
        type_: kind.as_str().to_owned(),
        status: status.to_owned(),
        reason: code.as_str().to_owned(),
        message,
        observed_generation: Some(generation),
        last_transition_time: since,
    }
}
