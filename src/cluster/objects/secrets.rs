//! The Secrets of a cluster that talks TLS: which there are, for whom, and what stands in them.

use super::certificates::peers_name;
use crate::api::labels;
use crate::cluster::names::{
    MemberName, application_secret, authority_secret, client_service, headless_service, operator_secret,
    peer_secret, server_secret,
};
use crate::pki::{Made, Names, Purpose};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// For whom a certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// For a member: the Secret goes with its volume claim.
    Member(MemberName),
    /// For the operator itself.
    Operator,
    /// For the applications that use the cluster.
    Application,
}

/// A certificate that a cluster has to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedPair {
    /// The name of the Secret.
    pub secret: String,
    /// For whom.
    pub holder: Holder,
    /// For what.
    pub purpose: Purpose,
    /// Whom it names: with etcd's auth this is a user.
    pub common_name: String,
    /// Under which names it is presented.
    pub names: Names,
}

/// Where a cluster is, and under which names it is asked for besides its own.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The cluster's namespace.
    pub namespace: &'a str,
    /// Its name.
    pub cluster: &'a str,
    /// The domain of the Kubernetes cluster, e.g. `cluster.local`.
    pub domain: &'a str,
    /// The names and addresses that the spec adds to what members show to clients.
    pub further: &'a Names,
}

impl Place<'_> {
    /// All certificates of a cluster of these members, and under which names.
    pub fn wanted<'m>(&self, members: impl Iterator<Item = &'m MemberName>) -> Vec<WantedPair> {
        let mut wanted: Vec<WantedPair> = members.flat_map(|member| self.of_member(member)).collect();
        let client = |secret, holder, common_name: &str| WantedPair {
            secret,
            holder,
            purpose: Purpose::Client,
            common_name: common_name.to_owned(),
            names: Names::default(),
        };
        wanted.push(client(operator_secret(self.cluster), Holder::Operator, "root"));
        let application = client_service(self.cluster);
        wanted.push(client(application_secret(self.cluster), Holder::Application, &application));
        wanted
    }

    fn of_member(&self, member: &MemberName) -> [WantedPair; 2] {
        let own = BTreeSet::from(self.with_domain(member.host(self.namespace)));
        let peers = peers_name(self.namespace, self.cluster);
        let peer = Names { dns: own.iter().cloned().chain([peers]).collect(), ips: BTreeSet::new() };
        let mut server = Names {
            dns: own,
            ips: [IpAddr::from([127, 0, 0, 1]), IpAddr::from([0u16, 0, 0, 0, 0, 0, 0, 1])].into(),
        };
        for service in [client_service(self.cluster), headless_service(self.cluster)] {
            let short = format!("{service}.{}", self.namespace);
            server.dns.extend(self.with_domain(format!("{short}.svc")));
            server.dns.extend([service, short]);
        }
        server.dns.insert("localhost".to_owned());
        server.dns.extend(self.further.dns.iter().cloned());
        server.ips.extend(&self.further.ips);
        let pair = |secret, purpose, names| WantedPair {
            secret,
            holder: Holder::Member(member.clone()),
            purpose,
            common_name: member.to_string(),
            names,
        };
        [pair(peer_secret(member), Purpose::Peer, peer), pair(server_secret(member), Purpose::Server, server)]
    }

    fn with_domain(&self, host: String) -> [String; 2] {
        [format!("{host}.{}", self.domain), host]
    }
}

/// The Secret of the authority. Only the operator reads it. It has no owner where the data outlives the `EtcdCluster`: so does
/// what it signed, and a new one of that name goes on with it.
pub fn authority(namespace: &str, cluster: &str, made: &Made, owner: Option<OwnerReference>) -> Secret {
    secret(namespace, cluster, authority_secret(cluster), contents(made, &made.certificate), owner)
}

/// The Secret of a certificate.
pub fn pair(
    namespace: &str,
    cluster: &str,
    name: &str,
    made: &Made,
    trusted: &str,
    owner: OwnerReference,
) -> Secret {
    secret(namespace, cluster, name.to_owned(), contents(made, trusted), Some(owner))
}

/// What stands in a Secret, under the keys that cert-manager and ingresses use too.
pub fn contents(made: &Made, trusted: &str) -> BTreeMap<String, ByteString> {
    let entries = [("ca.crt", trusted), ("tls.crt", &made.certificate), ("tls.key", &made.key)];
    entries.into_iter().map(|(key, text)| (key.to_owned(), ByteString(text.as_bytes().to_vec()))).collect()
}

fn secret(
    namespace: &str,
    cluster: &str,
    name: String,
    data: BTreeMap<String, ByteString>,
    owner: Option<OwnerReference>,
) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels::of_component(cluster, labels::COMPONENT_CERTIFICATE)),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some(data),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::{NAME, NAMESPACE, member};

    fn wanted(further: &Names) -> Vec<WantedPair> {
        let place = Place { namespace: NAMESPACE, cluster: NAME, domain: "k8s.example", further };
        place.wanted([member(0), member(7)].iter())
    }

    fn names(pair: &WantedPair) -> Vec<String> {
        let ips = pair.names.ips.iter().map(ToString::to_string);
        pair.names.dns.iter().cloned().chain(ips).collect()
    }

    #[test]
    fn each_member_has_two_and_clients_have_their_own() {
        let all: Vec<_> =
            wanted(&Names::default()).into_iter().map(|it| (it.secret, it.purpose, it.common_name)).collect();
        let of =
            |secret: &str, purpose, common_name: &str| (secret.to_owned(), purpose, common_name.to_owned());
        assert_eq!(
            all,
            [
                of("db-peer-0", Purpose::Peer, "db-0"),
                of("db-server-0", Purpose::Server, "db-0"),
                of("db-peer-7", Purpose::Peer, "db-7"),
                of("db-server-7", Purpose::Server, "db-7"),
                of("db-operator-tls", Purpose::Client, "root"),
                of("db-client-tls", Purpose::Client, "db-client"),
            ]
        );
    }

    /// That of all peers is what keeps an application from being one.
    #[test]
    fn a_peer_bears_its_own_name_and_that_of_all_peers() {
        let all = wanted(&Names::default());
        let own = ["db-7.db.prod.svc", "db-7.db.prod.svc.k8s.example", "peers.db.prod.svc"];
        assert_eq!(names(&all[2]), own);
        assert!(all[4..].iter().all(|client| names(client).is_empty()));
    }

    #[test]
    fn a_server_bears_every_name_that_clients_ask_for() {
        let further =
            Names { dns: ["etcd.example.com".to_owned()].into(), ips: ["192.0.2.7".parse().unwrap()].into() };
        assert_eq!(
            names(&wanted(&further)[1]),
            [
                "db",
                "db-0.db.prod.svc",
                "db-0.db.prod.svc.k8s.example",
                "db-client",
                "db-client.prod",
                "db-client.prod.svc",
                "db-client.prod.svc.k8s.example",
                "db.prod",
                "db.prod.svc",
                "db.prod.svc.k8s.example",
                "etcd.example.com",
                "localhost",
                "127.0.0.1",
                "192.0.2.7",
                "::1",
            ]
        );
    }
}
