//! What users say of encryption, and what they are told of certificates.

use super::Duration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Encryption between members and with clients, where both sides show a certificate.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsSpec {
    /// `Enabled` has members and clients show certificates to each other, of a certificate authority (CA) that the operator
    /// makes for this cluster. `Disabled` (the default) is plaintext, in which whoever reaches a member reads and writes everything. It is
    /// chosen when the cluster is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<TlsMode>,
    /// What members show to their clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerTlsSpec>,
    /// How long certificates hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificates: Option<CertificatesSpec>,
}

/// Whether members and clients show certificates to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsMode {
    /// They do, and all of it is encrypted.
    Enabled,
    /// Nobody does, and nothing is encrypted.
    Disabled,
}

/// What members show to their clients.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerTlsSpec {
    /// Further DNS names under which clients ask for members, e.g. of a load balancer. The names of members and of the
    /// Services, and localhost, are there anyway. The first label may be `*`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    #[x_kube(validation = Rule::new("self.all(n, n.matches('^([*][.])?[-A-Za-z0-9_.]+$') && !n.matches('^[0-9.]+$'))")
        .message("spec.tls.server.dnsNames takes DNS names such as etcd.example.com or *.example.com; addresses go to spec.tls.server.ipAddresses"))]
    pub dns_names: Vec<String>,
    /// Further IP addresses under which clients ask for members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 45)))]
    #[x_kube(validation = Rule::new("self.all(a, a.matches('^[0-9a-fA-F.:]+$'))")
        .message("spec.tls.server.ipAddresses takes IP addresses such as 192.0.2.7; names go to spec.tls.server.dnsNames"))]
    pub ip_addresses: Vec<String>,
}

/// How long certificates hold.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificatesSpec {
    /// For how long a new certificate holds, an hour at least. Default `2160h`. It says nothing of those that there are, nor of
    /// the CA, which holds for ten years.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// How long before its end a certificate is made anew, five minutes at least. Default: a third of its time. Nobody is restarted: etcd reads
    /// certificates at each handshake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_before: Option<Duration>,
}

/// A certificate that is in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// The Secret that holds it.
    pub name: String,
    /// Until when it holds.
    pub not_after: Time,
    /// Its serial number in hexadecimal, as `openssl x509 -serial` writes it.
    pub serial: String,
    /// The serial number of the one that its member shows at a handshake, as long as that is another: the kubelet brings what
    /// is new to the Pods within a minute or two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub still_shown: Option<String>,
}
