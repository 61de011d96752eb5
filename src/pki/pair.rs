//! A certificate with its chain, its key and the authorities to trust: what a Secret of type `kubernetes.io/tls` holds.

use super::certificate::Certificate;
use super::check::{Fault, vouched};
use rcgen::KeyPair;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::CertifiedKey;
use std::collections::BTreeMap;

/// The keys of a Secret, as cert-manager and ingresses name them.
pub(super) const AUTHORITIES: &str = "ca.crt";
pub(super) const CHAIN: &str = "tls.crt";
pub(super) const KEY: &str = "tls.key";

/// What is wrong with a key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} {why}")]
pub struct Unreadable {
    /// Which key.
    pub key: &'static str,
    /// What is wrong.
    pub why: String,
}

/// Whether a certificate's private key is there. The key itself is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// It is.
    Fits,
    /// Another one is.
    IsAnother,
}

/// What a Secret holds, without the key itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, and those that lead from it to an authority.
    pub chain: Vec<Certificate>,
    /// Whether its key is there.
    pub key: Key,
    /// The authorities to trust.
    pub trusted: Vec<Certificate>,
    /// Whether the key is of a form with which certificates can be signed here.
    pub signs: bool,
    /// Whether one of the authorities vouches for it as what is shown to a server, whatever the day.
    pub asks: Result<(), Fault>,
    /// The same as what a server shows.
    pub serves: Result<(), Fault>,
}

impl Pair {
    /// Reads what a Secret holds.
    ///
    /// # Errors
    /// The first of its keys that is missing, or holds something else.
    pub fn read<V: AsRef<[u8]>>(data: &BTreeMap<String, V>) -> Result<Self, Unreadable> {
        let of = |key: &'static str| match data.get(key) {
            Some(bytes) => Ok(bytes.as_ref()),
            None => Err(Unreadable { key, why: "is missing".to_owned() }),
        };
        let certificates = |key| Certificate::all_in(of(key)?).map_err(|why| Unreadable { key, why });
        let (chain, trusted) = (certificates(CHAIN)?, certificates(AUTHORITIES)?);
        let bytes = of(KEY)?;
        let signs = std::str::from_utf8(bytes).is_ok_and(|pem| KeyPair::from_pem(pem).is_ok());
        let key = key(bytes, &chain).map_err(|why| Unreadable { key: KEY, why })?;
        let [asks, serves] = vouched(&chain, &trusted);
        Ok(Self { chain, key, trusted, signs, asks, serves })
    }

    /// The certificate itself.
    pub fn leaf(&self) -> Option<&Certificate> {
        self.chain.first()
    }
}

fn key(pem: &[u8], chain: &[Certificate]) -> Result<Key, String> {
    if pem.iter().all(u8::is_ascii_whitespace) {
        return Err("is empty".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| "holds no private key in PEM".to_owned())?;
    let key = default_provider()
        .key_provider
        .load_private_key(key)
        .map_err(|_| "holds a private key of a kind that cannot be used; ECDSA and RSA can".to_owned())?;
    let chain = chain.iter().map(|certificate| certificate.der().clone()).collect();
    match CertifiedKey::new(chain, key).keys_match() {
        Ok(()) => Ok(Key::Fits),
        Err(_) => Ok(Key::IsAnother),
    }
}
