//! Why a call to a member failed.

use super::{Call, HttpError};
use crate::etcd::answers::{ErrorKind, Identity, VersionsError};
use std::error::Error;
use std::time::Duration;

/// Why a call to a member failed. `member` is its name and address; [`EtcdError::kind`] says what it means.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// No answer within the call's limit.
    #[error("{call} at {member}: no answer within {} s", limit.as_secs())]
    TimedOut {
        /// The call.
        call: Call,
        /// Whom it was made to.
        member: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// The call failed on its way, or etcd refused it.
    #[error("{call} at {member}: {}", innermost(source))]
    Grpc {
        /// The call.
        call: Call,
        /// Whom it was made to.
        member: String,
        /// The status of gRPC.
        #[source]
        source: Box<tonic::Status>,
    },
    /// The call could not be made.
    #[error("{call} at {member}: {source}")]
    Client {
        /// The call.
        call: Call,
        /// Whom it was to be made to.
        member: String,
        /// What etcd-client says.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The HTTP call failed on its way.
    #[error("{call} at {member}: {}", innermost(source))]
    Http {
        /// The call.
        call: Call,
        /// Whom it was made to.
        member: String,
        /// What went wrong.
        #[source]
        source: HttpError,
    },
    /// The HTTP answer is not etcd's.
    #[error("{call} at {member}: {source}")]
    Versions {
        /// The call.
        call: Call,
        /// Whom it was made to.
        member: String,
        /// What is wrong with it.
        #[source]
        source: VersionsError,
    },
    /// The answer lacks what etcd always sends.
    #[error("{call} at {member}: the answer has no {missing}")]
    Incomplete {
        /// The call.
        call: Call,
        /// Whom it was made to.
        member: String,
        /// What it lacks.
        missing: &'static str,
    },
    /// Somebody else answers at the member's address; the call was not made.
    #[error("{call} at {member}: not made, for {found} answers, not {expected}")]
    WrongMember {
        /// The call that was not made.
        call: Call,
        /// Whom it was to be made to.
        member: String,
        /// Who should have answered.
        expected: Identity,
        /// Who did.
        found: Identity,
    },
}

impl EtcdError {
    /// What the failure means for the next decision.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TimedOut { .. } => ErrorKind::TimedOut,
            Self::Grpc { source, .. } => kind_of_status(source),
            Self::Http { source, .. } => match source {
                HttpError::Status(_) | HttpError::Name(_) | HttpError::Request(_) => {
                    ErrorKind::Refused(source.to_string())
                }
                HttpError::Connect(_)
                | HttpError::NoConnection
                | HttpError::Exchange(_)
                | HttpError::Body(_) => ErrorKind::Unreachable,
            },
            Self::WrongMember { .. } => ErrorKind::WrongMember,
            Self::Client { .. } | Self::Versions { .. } | Self::Incomplete { .. } => {
                ErrorKind::Refused(self.to_string())
            }
        }
    }

    /// Whether the channel may be at fault, so that the next call had better dial again. etcd's own
    /// refusals prove that the channel works.
    pub(super) fn doubts_the_channel(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Client { .. } => true,
            Self::Grpc { source, .. } => ErrorKind::in_message(source.message()).is_none(),
            _ => false,
        }
    }
}

fn kind_of_status(status: &tonic::Status) -> ErrorKind {
    if let Some(kind) = ErrorKind::in_message(status.message()) {
        return kind;
    }
    match status.code() {
        // tonic's own limit, `Endpoint::timeout`, is a `Cancelled` with this text:
        // https://github.com/grpc/grpc-rust/blob/master/tonic/src/status.rs (`TimeoutExpired`).
        tonic::Code::Cancelled if status.message() == "Timeout expired" => ErrorKind::TimedOut,
        tonic::Code::DeadlineExceeded => ErrorKind::TimedOut,
        tonic::Code::Unavailable => ErrorKind::Unreachable,
        // A status that was made here and not by a server has a source: the connection broke off.
        _ if status.source().is_some() => ErrorKind::Unreachable,
        _ => ErrorKind::Refused(status.message().to_owned()),
    }
}

/// The cause at the bottom: `Connection refused` rather than `transport error`.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    match cause.downcast_ref::<tonic::Status>() {
        Some(status) => status.message().to_owned(),
        None => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use tonic::{Code, Status};

    #[rstest]
    #[case(Status::new(Code::Unavailable, "etcdserver: no leader"), ErrorKind::NoLeader, false)]
    #[case(Status::new(Code::FailedPrecondition, "etcdserver: not leader"), ErrorKind::NotLeader, false)]
    #[case(Status::new(Code::Unavailable, "tcp connect error"), ErrorKind::Unreachable, true)]
    #[case(Status::new(Code::Cancelled, "Timeout expired"), ErrorKind::TimedOut, true)]
    #[case(Status::new(Code::Unimplemented, "unknown service"), ErrorKind::Refused("unknown service".to_owned()), true)]
    fn a_status_has_a_kind_and_may_doubt_the_channel(
        #[case] status: Status,
        #[case] kind: ErrorKind,
        #[case] doubt: bool,
    ) {
        let error =
            EtcdError::Grpc { call: Call::Status, member: "etcd-0".to_owned(), source: Box::new(status) };
        assert_eq!((error.kind(), error.doubts_the_channel()), (kind, doubt));
    }
}
