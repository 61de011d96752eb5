//! What members answer beyond their status, and what a failed call means. Pure data: the planner may use it.

use super::types::{ClusterId, EtcdVersion, MemberId, MemberStatus, Minor};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Who a member is. Asked for on a channel before a mutating call is made on it: IPs are re-used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its cluster's id.
    pub cluster_id: ClusterId,
    /// Its own id.
    pub member_id: MemberId,
}

impl MemberStatus {
    /// Who the member is.
    pub const fn identity(&self) -> Identity {
        Identity { cluster_id: self.cluster_id, member_id: self.member_id }
    }
}

/// What a member's `/version` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The version of its binary.
    pub server: EtcdVersion,
    /// The cluster version that it knows: `3.0` until all members of a new cluster have come, nothing
    /// until it knows one (`not_decided`).
    pub cluster: Option<Minor>,
    /// The version of its database's schema; nothing before 3.6, and while it is `unknown`.
    pub storage: Option<Minor>,
}

/// Why a text is no answer of `/version`.
#[derive(Debug, thiserror::Error)]
pub enum VersionsError {
    /// No JSON object of the known form.
    #[error("not the JSON that etcd writes")]
    Json(#[from] serde_json::Error),
    /// `etcdserver` is no version.
    #[error("etcdserver {0:?} is no version")]
    Server(String),
}

impl Versions {
    /// Reads the body of `GET /version`, e.g.
    /// `{"etcdserver":"3.6.16","etcdcluster":"3.6.0","storage":"3.6.0"}`.
    ///
    /// # Errors
    /// When it is not JSON of that form, or the server's version cannot be read. A cluster or storage version
    /// that cannot be read is one that etcd does not know yet.
    pub fn in_body(body: &[u8]) -> Result<Self, VersionsError> {
        #[derive(Deserialize)]
        struct Body {
            etcdserver: String,
            #[serde(default)]
            etcdcluster: String,
            #[serde(default)]
            storage: String,
        }
        let body: Body = serde_json::from_slice(body)?;
        let minor = |text: &str| EtcdVersion::reported(text).map(|version| version.minor);
        Ok(Self {
            server: EtcdVersion::reported(&body.etcdserver).ok_or(VersionsError::Server(body.etcdserver))?,
            cluster: minor(&body.etcdcluster),
            storage: minor(&body.storage),
        })
    }
}

/// How many raft snapshots a member's process has saved on disk since it started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshots {
    /// The process, by the time of its start: another one counts from 0 again.
    pub process: String,
    /// How many.
    pub taken: u64,
}

impl Snapshots {
    /// Reads a member's `/metrics`; nothing where it lacks one of the two.
    pub fn in_metrics(text: &str) -> Option<Self> {
        let value = |name: &str| metric(text, name);
        Some(Self {
            process: value("process_start_time_seconds")?.to_owned(),
            // Written for every snapshot, before and after 3.6:
            // https://github.com/etcd-io/etcd/blob/v3.6.16/server/etcdserver/api/snap/metrics.go
            taken: value("etcd_debugging_snap_save_total_duration_seconds_count")?.parse().ok()?,
        })
    }
}

/// What a member has on its disk. One that has found no quorum since its start does not listen for clients, and tells it in
/// its metrics only (measured with 3.5.9, 3.6.16 and 3.7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standstill {
    /// The revision of its keys.
    pub revision: i64,
    /// The last raft entry that it has applied.
    pub raft_applied_index: u64,
}

impl Standstill {
    /// Reads a member's `/metrics`; nothing where it lacks one of the two.
    pub fn in_metrics(text: &str) -> Option<Self> {
        // Prometheus writes large numbers as 1.234567e+06.
        let value = |name: &str| metric(text, name)?.parse::<f64>().ok();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "whole numbers, not negative"
        )]
        Some(Self {
            revision: value("etcd_debugging_mvcc_current_revision")? as i64,
            raft_applied_index: value("etcd_server_proposals_applied_total")? as u64,
        })
    }
}

fn metric<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
}

/// What a member's keys hash to, all of them at one revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// The hash. Members of different minors hash alike.
    pub hash: u32,
    /// The revision up to which history was forgotten: what is forgotten is not hashed, so two hashes can be compared
    /// only where this is the same.
    pub compacted: i64,
}

/// What a failed call means for the next decision.
///
/// `Unreachable` and `TimedOut` say the same of a member at a black-holed address: of several calls side by
/// side some get the failure to connect, and some reach their limit waiting for the others' attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no connection, or it broke off. A call that changes something may have taken effect.
    Unreachable,
    /// No answer within the limit, or etcd gave up itself. A call that changes something may have taken effect.
    TimedOut,
    /// The member knows no leader.
    NoLeader,
    /// The leader changed under the call; it may be made again.
    LeaderChanged,
    /// The call is for the leader, and this member is not it.
    NotLeader,
    /// The member who should lead is no voter.
    BadTransferee,
    /// The member is a learner and serves no such call.
    Learner,
    /// etcd finds the cluster unhealthy, or itself overloaded: it passes, or shows elsewhere.
    Unhealthy,
    /// etcd takes this change of its members not yet, in its words: it passes.
    NotYet(String),
    /// What was asked for is so already.
    AlreadySo,
    /// Another member answers at this address.
    WrongMember,
    /// A write was refused because a database has reached its quota.
    NoSpace,
    /// A write was refused because a member's data differs from the others'.
    Corrupt,
    /// etcd said no for another reason, in its words, or answered what it never answers.
    Refused(String),
}

impl ErrorKind {
    /// Reads an error message of etcd, e.g. `etcdserver: not leader`; nothing when it is not etcd's.
    ///
    /// Source: <https://github.com/etcd-io/etcd/blob/v3.6.4/api/v3rpc/rpctypes/error.go>; the texts that are
    /// told apart here read the same in 3.5.9, 3.5.35, 3.6.16 and 3.7.3.
    pub fn in_message(message: &str) -> Option<Self> {
        let text = message.strip_prefix("etcdserver: ")?;
        Some(match text {
            "no leader" => Self::NoLeader,
            "leader changed" => Self::LeaderChanged,
            "not leader" => Self::NotLeader,
            "bad leader transferee" => Self::BadTransferee,
            "rpc not supported for learner" => Self::Learner,
            "unhealthy cluster" | "too many requests" | "not capable" => Self::Unhealthy,
            "can only promote a learner member which is in sync with leader"
            | "re-configuration failed due to not enough started members"
            | "too many learner members in cluster" => Self::NotYet(text.to_owned()),
            "Peer URLs already exists"
            | "member not found"
            | "can only promote a learner member"
            | "mvcc: required revision has been compacted" => Self::AlreadySo,
            "mvcc: database space exceeded" => Self::NoSpace,
            "corrupt cluster" => Self::Corrupt,
            "server stopped" | "request canceled" => Self::Unreachable,
            "context deadline exceeded" => Self::TimedOut,
            _ if text.starts_with("request timed out") => Self::TimedOut,
            _ => Self::Refused(text.to_owned()),
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {} of cluster {}", self.member_id, self.cluster_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::three_five(r#"{"etcdserver":"3.5.9","etcdcluster":"3.5.0"}"#, Some(Minor::new(3, 5)), None)]
    #[case::three_six(
        r#"{"etcdserver":"3.5.9","etcdcluster":"3.6.0","storage":"3.6.0"}"#,
        Some(Minor::new(3, 6)),
        Some(Minor::new(3, 6))
    )]
    #[case::not_formed(
        r#"{"etcdserver":"3.5.9","etcdcluster":"3.0.0","storage":"unknown"}"#,
        Some(Minor::new(3, 0)),
        None
    )]
    #[case::undecided(r#"{"etcdserver":"3.5.9","etcdcluster":"not_decided"}"#, None, None)]
    fn reads_the_answer_of_version(
        #[case] body: &str,
        #[case] cluster: Option<Minor>,
        #[case] storage: Option<Minor>,
    ) {
        let server = EtcdVersion::new(3, 5, 9);
        assert_eq!(Versions::in_body(body.as_bytes()).unwrap(), Versions { server, cluster, storage });
    }

    #[test]
    fn reads_how_many_snapshots_a_process_has_taken() {
        let metrics = "# TYPE etcd_debugging_snap_save_total_duration_seconds histogram\n\
            etcd_debugging_snap_save_total_duration_seconds_sum 0.01\n\
            etcd_debugging_snap_save_total_duration_seconds_count 4\n\
            process_start_time_seconds 1.76397e+09\n";
        let expected = Snapshots { process: "1.76397e+09".to_owned(), taken: 4 };
        assert_eq!(Snapshots::in_metrics(metrics), Some(expected));
        assert_eq!(Snapshots::in_metrics("process_start_time_seconds 1.7e+09\n"), None);
    }

    #[rstest]
    #[case("<html>")]
    #[case("{}")]
    #[case(r#"{"etcdserver":"three"}"#)]
    fn another_servers_answer_is_an_error(#[case] body: &str) {
        Versions::in_body(body.as_bytes()).unwrap_err();
    }

    fn not_yet(text: &str) -> ErrorKind {
        ErrorKind::NotYet(text.to_owned())
    }

    #[rstest]
    #[case("etcdserver: no leader", Some(ErrorKind::NoLeader))]
    #[case("etcdserver: not leader", Some(ErrorKind::NotLeader))]
    #[case("etcdserver: leader changed", Some(ErrorKind::LeaderChanged))]
    #[case("etcdserver: request timed out, possibly due to connection lost", Some(ErrorKind::TimedOut))]
    #[case("etcdserver: member ID already exist", Some(ErrorKind::Refused("member ID already exist".to_owned())))]
    #[case("etcdserver: member not found", Some(ErrorKind::AlreadySo))]
    #[case("etcdserver: Peer URLs already exists", Some(ErrorKind::AlreadySo))]
    #[case("etcdserver: unhealthy cluster", Some(ErrorKind::Unhealthy))]
    #[case(
        "etcdserver: too many learner members in cluster",
        Some(not_yet("too many learner members in cluster"))
    )]
    #[case("transport error", None)]
    fn reads_etcds_error_messages(#[case] message: &str, #[case] kind: Option<ErrorKind>) {
        assert_eq!(ErrorKind::in_message(message), kind);
    }
}
