//! With what members are spoken to over TLS.

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::sync::Arc;

/// Why members cannot be spoken to with these.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// Something of them is no PEM.
    #[error("is not PEM: {0:?}")]
    Pem(pem::Error),
    /// They do not fit together, or are of a kind that cannot be used.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// Whom the members of one cluster are to be signed by, and who asks them. Equal where all of it is the same.
#[derive(Clone)]
pub struct Credentials {
    authorities: String,
    certificate: String,
    key: String,
    config: Arc<ClientConfig>,
    digest: [u8; 32],
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("authorities", &self.authorities).finish_non_exhaustive()
    }
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Eq for Credentials {}

impl Credentials {
    /// All three in PEM. A rustls provider must have been installed.
    ///
    /// # Errors
    /// What cannot be used.
    pub fn new(authorities: &str, certificate: &str, key: &str) -> Result<Self, CredentialsError> {
        let certificates = |pem: &str| {
            CertificateDer::pem_slice_iter(pem.as_bytes())
                .collect::<Result<Vec<_>, _>>()
                .map_err(CredentialsError::Pem)
        };
        let mut roots = RootCertStore::empty();
        for authority in certificates(authorities)? {
            roots.add(authority)?;
        }
        let own_key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(CredentialsError::Pem)?;
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(certificates(certificate)?, own_key)?;
        // A session that is taken up again shows the certificate that it began with, not the one that is served now.
        config.resumption = Resumption::disabled();
        let mut digest = Sha256::new();
        for part in [authorities, certificate, key] {
            digest.update(Sha256::digest(part));
        }
        Ok(Self {
            authorities: authorities.to_owned(),
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            config: Arc::new(config),
            digest: digest.finalize().into(),
        })
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    /// The same for a channel to a member of this name.
    pub(super) fn of_channel(&self, server_name: &str) -> etcd_client::TlsOptions {
        etcd_client::TlsOptions::new()
            .domain_name(server_name)
            .ca_certificate(etcd_client::Certificate::from_pem(&self.authorities))
            .identity(etcd_client::Identity::from_pem(&self.certificate, &self.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Made, Names, Purpose, Request, issue, new_authority};

    fn made() -> (Made, Made) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let at = |text: &str| text.parse().unwrap();
        let (not_before, not_after) = (at("2026-01-01T00:00:00Z"), at("2036-01-01T00:00:00Z"));
        let authority = new_authority("a", not_before, not_after).unwrap();
        let names = Names::default();
        let request = Request {
            common_name: "root".to_owned(),
            names,
            purpose: Purpose::Client,
            not_before,
            not_after,
        };
        let client = issue(&request, &authority).unwrap();
        (authority, client)
    }

    #[test]
    fn the_same_are_equal_and_a_key_is_not_shown() {
        let (authority, client) = made();
        let one = Credentials::new(&authority.certificate, &client.certificate, &client.key).unwrap();
        assert_eq!(one, one.clone());
        let (_, another) = made();
        let other = Credentials::new(&authority.certificate, &another.certificate, &another.key).unwrap();
        assert_ne!(one, other);
        assert!(!format!("{one:?}").contains("PRIVATE"));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let ((authority, client), (_, another)) = (made(), made());
        let error = Credentials::new(&authority.certificate, &client.certificate, &another.key).unwrap_err();
        assert!(matches!(error, CredentialsError::Tls(_)), "{error}");
        assert!(Credentials::new(&authority.certificate, &client.certificate, "no key").is_err());
        assert!(Credentials::new("-----BEGIN CERTIFICATE-----", &client.certificate, &client.key).is_err());
    }
}
