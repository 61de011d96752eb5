//! Names of a cluster's objects. Pure; the one place that knows how they are built.

use crate::api::BootstrapStatus;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// A member's name, `<cluster>-<number>`: its name in etcd, and its Pod's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MemberName {
    cluster: Arc<str>,
    number: u32,
}

impl MemberName {
    /// The member of this number.
    pub fn new(cluster: &str, number: u32) -> Self {
        Self { cluster: cluster.into(), number }
    }

    /// Reads a name of this cluster; nothing where it is none (`etcd-01`, `other-1`, `etcd-x`).
    pub fn parse(cluster: &str, name: &str) -> Option<Self> {
        let number: u32 = name.strip_prefix(cluster)?.strip_prefix('-')?.parse().ok()?;
        Some(Self::new(cluster, number)).filter(|parsed| parsed.to_string() == name)
    }

    /// Its number. Numbers are never used twice.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Another member of its cluster.
    #[must_use]
    pub fn sibling(&self, number: u32) -> Self {
        Self { cluster: Arc::clone(&self.cluster), number }
    }

    /// The name of its volume claim.
    pub fn claim(&self) -> String {
        format!("data-{self}")
    }

    /// Its DNS name: stable, resolved through the headless Service.
    pub fn host(&self, namespace: &str) -> String {
        format!("{self}.{}.{namespace}.svc", self.cluster)
    }
}

/// By number first: it tells the members of one cluster apart, and they are looked up by name all the time.
impl Ord for MemberName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.number.cmp(&other.number).then_with(|| self.cluster.cmp(&other.cluster))
    }
}

impl PartialOrd for MemberName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.cluster, self.number)
    }
}

/// Members as people read them.
pub fn listed<'a>(members: impl Iterator<Item = &'a MemberName>) -> String {
    members.map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// The Service through which members find each other.
pub fn headless_service(cluster: &str) -> String {
    cluster.to_owned()
}

/// The Service for clients: ready members only.
pub fn client_service(cluster: &str) -> String {
    format!("{cluster}-client")
}

/// The Secret of the authority that signs all certificates of the cluster.
pub fn authority_secret(cluster: &str) -> String {
    format!("{cluster}-ca")
}

/// The Secret with what a member shows to the others.
pub fn peer_secret(member: &MemberName) -> String {
    format!("{}-peer-{}", member.cluster, member.number)
}

/// The Secret with what a member shows to clients.
pub fn server_secret(member: &MemberName) -> String {
    format!("{}-server-{}", member.cluster, member.number)
}

/// The Secret with what the operator shows to members.
pub fn operator_secret(cluster: &str) -> String {
    format!("{cluster}-operator-tls")
}

/// The Secret with what applications show to members.
pub fn application_secret(cluster: &str) -> String {
    format!("{cluster}-client-tls")
}

/// The PodDisruptionBudget.
pub fn disruption_budget(cluster: &str) -> String {
    cluster.to_owned()
}

/// Ten hexadecimal digits that stand for a text in a name.
pub fn digest(text: &[u8]) -> String {
    ten_digits(Sha256::digest(text).into())
}

/// The same for the JSON of a value. Plain data with string keys always serialises, and its maps are
/// ordered.
pub fn digest_of(value: &impl Serialize) -> String {
    let mut hash = Sha256::new();
    let _ = serde_json::to_writer(&mut hash, value);
    ten_digits(hash.finalize().into())
}

fn ten_digits(bytes: [u8; 32]) -> String {
    let head = bytes.first_chunk().copied().map(u64::from_be_bytes).unwrap_or_default();
    format!("{:010x}", head >> 24)
}

/// The members of a bootstrap, in order.
pub fn bootstrap_members(cluster: &str, bootstrap: &BootstrapStatus) -> Vec<MemberName> {
    first_members(cluster, u32::try_from(bootstrap.members).unwrap_or(0))
}

/// So many members, numbered from 0.
pub fn first_members(cluster: &str, count: u32) -> Vec<MemberName> {
    (0..count).map(|number| MemberName::new(cluster, number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("db-2", Some(2))]
    #[case("db-02", None)]
    #[case("db-x", None)]
    #[case("db2-2", None)]
    #[case("db-client", None)]
    #[case("db", None)]
    fn reads_names_of_this_cluster_only(#[case] name: &str, #[case] number: Option<u32>) {
        assert_eq!(MemberName::parse("db", name).map(|m| m.number()), number);
    }

    #[test]
    fn hosts_are_names_of_the_headless_service() {
        assert_eq!(MemberName::new("db", 1).host("prod"), "db-1.db.prod.svc");
    }
}
