//! The Secrets with certificates, where a cluster talks TLS.

use super::{Observation, Ownership};
use crate::cluster::names::{MemberName, authority_secret};
use crate::cluster::objects::secrets::{Place, WantedPair};
use crate::cluster::spec::further_names;
use crate::pki::{Certificate, Pair, Unreadable};

/// A Secret under a name that a certificate of the cluster has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFacts {
    /// Its UID.
    pub uid: String,
    /// Changes with anything about it.
    pub resource_version: String,
    /// To whom it belongs: by its labels, and by its owner, where it has one.
    pub ownership: Ownership,
    /// What it holds, the key itself aside.
    pub pair: Result<Pair, Unreadable>,
}

/// The certificates with which a member answered just now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presented {
    /// On the port for clients.
    pub to_clients: Option<Certificate>,
    /// On the port for peers. Asked only until it is the one that the member's Secret holds.
    pub to_peers: Option<Certificate>,
}

impl Observation {
    /// The certificates that the cluster has to have: those of every member that has something to keep its data in.
    pub fn wanted_pairs(&self) -> Vec<WantedPair> {
        let cluster = &self.cluster;
        let further = further_names(&cluster.spec).unwrap_or_default();
        let place = Place {
            namespace: &cluster.namespace,
            cluster: &cluster.name,
            domain: &self.domain,
            further: &further,
        };
        place.wanted(self.members_with_certificates())
    }

    fn members_with_certificates(&self) -> impl Iterator<Item = &MemberName> {
        let ours =
            self.claims.iter().filter(|(_, claim)| claim.ownership == Ownership::Ours && !claim.deleting);
        ours.map(|(member, _)| member)
    }

    /// The names of all Secrets with certificates.
    pub fn names_of_secrets(&self) -> Vec<String> {
        let pairs = self.wanted_pairs().into_iter().map(|pair| pair.secret);
        pairs.chain([authority_secret(&self.cluster.name)]).collect()
    }
}
