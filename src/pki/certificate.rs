//! What a certificate says.

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A certificate's serial number in hexadecimal, as `openssl x509 -serial` writes it. With its issuer it tells one
/// certificate from every other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(String);

impl Serial {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        // A leading zero keeps the number positive and is no part of it.
        let digits = certificate.raw_serial_as_string().replace(':', "").to_ascii_uppercase();
        let trimmed = digits.trim_start_matches("00");
        Self(if trimmed.is_empty() { "00".to_owned() } else { trimmed.to_owned() })
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Under which names and addresses a server is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// DNS names, without a final dot. In a certificate the first label may be `*`.
    pub dns: BTreeSet<String>,
    /// Addresses.
    pub ips: BTreeSet<IpAddr>,
}

impl Names {
    /// Those of `wanted` that these do not cover, as people write them.
    pub fn lacks(&self, wanted: &Self) -> Vec<String> {
        let dns = wanted.dns.iter().filter(|name| !self.dns.iter().any(|own| covers(own, name)));
        let ips = wanted.ips.iter().filter(|ip| !self.ips.contains(*ip));
        dns.cloned().chain(ips.map(ToString::to_string)).collect()
    }
}

/// Whether a certificate's name stands for this one: a `*` is exactly one label, the first
/// (<https://www.rfc-editor.org/rfc/rfc6125#section-6.4.3>).
fn covers(own: &str, name: &str) -> bool {
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    match (own.strip_prefix("*."), name.split_once('.')) {
        (Some(parent), Some((first, rest))) if !first.is_empty() => same(parent, rest) || same(own, name),
        _ => same(own, name),
    }
}

/// A certificate, as far as anybody here asks.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its number.
    pub serial: Serial,
    /// Whose it is, e.g. `CN=etcd-0`.
    pub subject: String,
    /// Under which names it may be presented.
    pub names: Names,
    /// From when on it holds.
    pub not_before: Timestamp,
    /// Until when.
    pub not_after: Timestamp,
    /// Whether it may be presented by a server.
    pub serves: bool,
    /// Whether it may be presented to a server.
    pub asks: bool,
    /// Whether it may sign others.
    pub is_authority: bool,
    der: CertificateDer<'static>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { serial, subject, not_after, .. } = self;
        write!(f, "Certificate({subject}, {serial}, until {not_after})")
    }
}

impl Certificate {
    /// All of a PEM text, in their order.
    ///
    /// # Errors
    /// What is wrong with it, for a person.
    pub fn all_in(pem: &[u8]) -> Result<Vec<Self>, String> {
        if pem.iter().all(u8::is_ascii_whitespace) {
            return Err("is empty".to_owned());
        }
        let all: Vec<Self> = CertificateDer::pem_slice_iter(pem)
            .map(|der| Self::read(der.map_err(|_| "is not PEM".to_owned())?))
            .collect::<Result<_, _>>()?;
        if all.is_empty() { Err("holds no certificate in PEM".to_owned()) } else { Ok(all) }
    }

    /// As a server presents it, in DER; nothing where it is none.
    pub fn presented(der: &[u8]) -> Option<Self> {
        Self::read(der.to_vec().into()).ok()
    }

    fn read(der: CertificateDer<'static>) -> Result<Self, String> {
        let unreadable = |why: &dyn fmt::Display| format!("holds a certificate that cannot be read: {why}");
        let (rest, read) = X509Certificate::from_der(&der).map_err(|error| unreadable(&error))?;
        if !rest.is_empty() {
            return Err(unreadable(&"there is more after its end"));
        }
        let instant = |seconds: i64| Timestamp::from_second(seconds).map_err(|_| unreadable(&"its dates"));
        let usages = read.extended_key_usage().map_err(|error| unreadable(&error))?;
        // Without the extension it may be used for anything: https://www.rfc-editor.org/rfc/rfc5280#section-4.2.1.12
        let usages = usages.map(|usages| usages.value);
        Ok(Self {
            serial: Serial::of(&read),
            subject: read.subject().to_string(),
            names: names_of(&read).map_err(|error| unreadable(&error))?,
            not_before: instant(read.validity().not_before.timestamp())?,
            not_after: instant(read.validity().not_after.timestamp())?,
            serves: usages.is_none_or(|usages| usages.any || usages.server_auth),
            asks: usages.is_none_or(|usages| usages.any || usages.client_auth),
            is_authority: read.is_ca(),
            der,
        })
    }

    /// As it is sent.
    pub const fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Whether it holds at a moment.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }
}

fn names_of(read: &X509Certificate<'_>) -> Result<Names, x509_parser::error::X509Error> {
    let mut names = Names::default();
    let Some(extension) = read.subject_alternative_name()? else { return Ok(names) };
    for name in &extension.value.general_names {
        match name {
            GeneralName::DNSName(name) => {
                names.dns.insert((*name).to_owned());
            }
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                names.ips.extend(v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok());
            }
            _ => {}
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("etcd-0.etcd.prod.svc", "etcd-0.etcd.prod.svc", true)]
    #[case("*.etcd.prod.svc", "etcd-0.etcd.prod.svc", true)]
    #[case("*.etcd.prod.svc", "ETCD-0.Etcd.prod.svc", true)]
    #[case("*.etcd.prod.svc", "*.etcd.prod.svc", true)]
    #[case("*.etcd.prod.svc", "etcd.prod.svc", false)]
    #[case("*.prod.svc", "etcd-0.etcd.prod.svc", false)]
    #[case("etcd-1.etcd.prod.svc", "etcd-0.etcd.prod.svc", false)]
    #[case("*", "localhost", false)]
    #[case("*.", ".", false)]
    fn a_star_is_one_label(#[case] own: &str, #[case] name: &str, #[case] covered: bool) {
        assert_eq!(covers(own, name), covered);
    }

    #[rstest]
    #[case::nothing("", "is empty")]
    #[case::blanks(" \n", "is empty")]
    #[case::words("a certificate", "holds no certificate in PEM")]
    #[case::cut_off("-----BEGIN CERTIFICATE-----\nMIIB", "is not PEM")]
    #[case::no_base64("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n", "is not PEM")]
    #[case::no_certificate(
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "holds a certificate that cannot be read"
    )]
    #[case::a_key_alone(
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "holds no certificate in PEM"
    )]
    fn what_is_no_certificate_is_said(#[case] pem: &str, #[case] wrong: &str) {
        let error = Certificate::all_in(pem.as_bytes()).unwrap_err();
        assert!(error.starts_with(wrong), "{error}");
    }
}
