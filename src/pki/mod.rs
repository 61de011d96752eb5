//! Certificates: what they say, whether they fit what they are for, and making them. It knows neither Kubernetes nor etcd,
//! reads no clock, and only [`issue`] needs randomness.

mod certificate;
mod check;
mod issue;
mod pair;

pub use certificate::{Certificate, Names, Serial};
pub use check::{Fault, Purpose, faults};
pub use issue::{IssueError, Made, Request, issue, new_authority};
pub use pair::{Key, Pair, Unreadable};
