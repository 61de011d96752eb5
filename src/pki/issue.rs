//! Makes authorities and certificates: ECDSA on P-256. The only file that needs randomness, so only steps that are being
//! carried out call it.

use super::certificate::Names;
use super::check::Purpose;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use std::fmt;
use time::OffsetDateTime;

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// A name that no certificate can bear.
    #[error("{0:?} cannot stand in a certificate")]
    Name(String),
    /// A moment that no certificate can name.
    #[error("{0} cannot stand in a certificate")]
    Moment(Timestamp),
    /// The authority's own pair cannot be used.
    #[error("the authority cannot sign: {0}")]
    Authority(#[source] rcgen::Error),
    /// The library failed.
    #[error("no certificate was made: {0}")]
    Library(#[from] rcgen::Error),
}

/// A certificate with its key, both in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Made {
    /// The certificate.
    pub certificate: String,
    /// Its private key, as PKCS #8.
    pub key: String,
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Made").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// A certificate to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The common name of its subject.
    pub common_name: String,
    /// Under which names it is presented.
    pub names: Names,
    /// For what.
    pub purpose: Purpose,
    /// From when on it holds.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
}

/// A new authority that signs leaves only.
///
/// # Errors
/// A moment that no certificate can name; a failure of the library.
pub fn new_authority(
    common_name: &str,
    not_before: Timestamp,
    not_after: Timestamp,
) -> Result<Made, IssueError> {
    let mut params = params(common_name, not_before, not_after)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Made { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// A certificate that an authority signs, with a key of its own. `authority` is in PEM.
///
/// # Errors
/// A name or moment that no certificate can bear; an authority that cannot sign; a failure of the library.
pub fn issue(request: &Request, authority: &Made) -> Result<Made, IssueError> {
    let Request { common_name, names, purpose, not_before, not_after } = request;
    let mut params = params(common_name, *not_before, *not_after)?;
    let dns = names.dns.iter().map(|name| {
        Ok(SanType::DnsName(name.as_str().try_into().map_err(|_| IssueError::Name(name.clone()))?))
    });
    let ips = names.ips.iter().map(|ip| Ok(SanType::IpAddress(*ip)));
    params.subject_alt_names = dns.chain(ips).collect::<Result<_, IssueError>>()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if purpose.serves() {
        params.extended_key_usages.insert(0, ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.use_authority_key_identifier_extension = true;
    let signer = KeyPair::from_pem(&authority.key).map_err(IssueError::Authority)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, signer).map_err(IssueError::Authority)?;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    Ok(Made { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn params(
    common_name: &str,
    not_before: Timestamp,
    not_after: Timestamp,
) -> Result<CertificateParams, IssueError> {
    let moment = |at: Timestamp| {
        OffsetDateTime::from_unix_timestamp(at.as_second()).map_err(|_| IssueError::Moment(at))
    };
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, common_name);
    params.distinguished_name = subject;
    params.not_before = moment(not_before)?;
    params.not_after = moment(not_after)?;
    Ok(params)
}
