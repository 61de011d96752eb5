//! Whether a pair fits what it is for, before anybody is given it.

use super::certificate::{Certificate, Names};
use super::pair::{Key, Pair};
use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{CertificateDer, DnsName, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, RootCertStore, crypto::ring::default_provider};
use std::sync::Arc;
use std::time::Duration;

/// What a certificate is presented for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// By members to each other, on either side of a connection.
    Peer,
    /// By a member to its clients, and to itself: etcd's own gateway asks with it.
    Server,
    /// By clients to members.
    Client,
}

impl Purpose {
    /// Whether a server presents it.
    pub const fn serves(self) -> bool {
        matches!(self, Self::Peer | Self::Server)
    }
}

/// Why a pair does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The private key is another one's.
    #[error("tls.key is not the key of the certificate in tls.crt")]
    AnotherKey,
    /// Its time has not come.
    #[error("the certificate in tls.crt does not hold before {0}")]
    NotYet(Timestamp),
    /// Its time is over.
    #[error("the certificate in tls.crt has expired at {0}")]
    Expired(Timestamp),
    /// An authority's time is over.
    #[error("the authority {subject} in ca.crt has expired at {at}")]
    AuthorityExpired {
        /// Whose.
        subject: String,
        /// When.
        at: Timestamp,
    },
    /// It may not be presented for this.
    #[error("the certificate in tls.crt lacks the extended key usage {0}")]
    Usage(&'static str),
    /// It does not bear these names.
    #[error("the certificate in tls.crt lacks {}", .0.join(", "))]
    Names(Vec<String>),
    /// No authority vouches for it.
    #[error("no authority in ca.crt has signed the certificate in tls.crt")]
    Unknown,
    /// Something else that a TLS library minds.
    #[error("the certificate in tls.crt cannot be verified: {0}")]
    Unverified(String),
}

/// All that keeps a pair from being presented for a purpose under these names at this moment, to somebody who trusts the
/// authorities in the same pair.
pub fn faults(pair: &Pair, purpose: Purpose, names: &Names, now: Timestamp) -> Vec<Fault> {
    let Some(leaf) = pair.leaf() else { return vec![Fault::Unknown] };
    let mut faults = Vec::new();
    if pair.key == Key::IsAnother {
        faults.push(Fault::AnotherKey);
    }
    if now < leaf.not_before {
        faults.push(Fault::NotYet(leaf.not_before));
    } else if now > leaf.not_after {
        faults.push(Fault::Expired(leaf.not_after));
    }
    // One of several may be on its way out.
    if let Some(last) = pair.trusted.iter().max_by_key(|authority| authority.not_after)
        && now > last.not_after
    {
        faults.push(Fault::AuthorityExpired { subject: last.subject.clone(), at: last.not_after });
    }
    if purpose.serves() && !leaf.serves {
        faults.push(Fault::Usage("serverAuth"));
    }
    // Peers ask with the certificate that they serve with, and so does the gateway.
    if !leaf.asks {
        faults.push(Fault::Usage("clientAuth"));
    }
    let missing = leaf.names.lacks(names);
    if !missing.is_empty() {
        faults.push(Fault::Names(missing));
    }
    // What a TLS library would say last is said only where nothing above explains it.
    if faults.is_empty() {
        let vouched = if purpose.serves() { [&pair.asks, &pair.serves] } else { [&pair.asks, &Ok(())] };
        faults.extend(vouched.into_iter().find_map(|verdict| verdict.clone().err()));
    }
    faults
}

/// Whether one of these authorities vouches for the first of a chain as what asks, and as what serves. Costly, and nothing of it
/// changes with time: the moment is the first at which both hold.
pub(super) fn vouched(chain: &[Certificate], trusted: &[Certificate]) -> [Result<(), Fault>; 2] {
    let Some((leaf, between)) = chain.split_first() else {
        return [Err(Fault::Unknown), Err(Fault::Unknown)];
    };
    let between: Vec<CertificateDer<'_>> = between.iter().map(|it| it.der().clone()).collect();
    let mut verdicts = [Err(Fault::Unknown), Err(Fault::Unknown)];
    for authority in trusted {
        let at = leaf.not_before.max(authority.not_before);
        let at = Duration::from_secs(u64::try_from(at.as_second()).unwrap_or_default());
        let by_this = vouched_by(leaf, &between, authority, UnixTime::since_unix_epoch(at));
        for (verdict, by_this) in verdicts.iter_mut().zip(by_this) {
            if *verdict == Err(Fault::Unknown) {
                *verdict = by_this;
            }
        }
    }
    verdicts
}

fn vouched_by(
    leaf: &Certificate,
    between: &[CertificateDer<'_>],
    authority: &Certificate,
    at: UnixTime,
) -> [Result<(), Fault>; 2] {
    let unusable = |error: &dyn std::fmt::Display| Fault::Unverified(error.to_string());
    let mut roots = RootCertStore::empty();
    if let Err(error) = roots.add(authority.der().clone()) {
        return [Err(unusable(&error)), Err(unusable(&error))];
    }
    let (roots, provider) = (Arc::new(roots), Arc::new(default_provider()));
    let asks = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
        .build()
        .map_err(|error| unusable(&error))
        .and_then(|it| {
            it.verify_client_cert(leaf.der(), between, at).map(|_| ()).map_err(|it| fault_of(&it))
        });
    // Any of its names does: which of them it must bear is asked elsewhere. One without a name is no server's.
    let mut names = leaf.names.dns.iter().filter_map(|name| DnsName::try_from(name.clone()).ok());
    let name = names.next().map(ServerName::DnsName);
    let serves = WebPkiServerVerifier::builder_with_provider(roots, provider)
        .build()
        .map_err(|error| unusable(&error))
        .and_then(|it| {
            let name = name.ok_or_else(|| Fault::Unverified("it bears no DNS name".to_owned()))?;
            it.verify_server_cert(leaf.der(), between, &name, &[], at).map(|_| ()).map_err(|it| fault_of(&it))
        });
    [asks, serves]
}

fn fault_of(error: &rustls::Error) -> Fault {
    match error {
        rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => Fault::Unknown,
        error => Fault::Unverified(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
