use super::*;
use crate::pki::{Made, Request, Serial, issue, new_authority};
use proptest::prelude::*;
use rstest::rstest;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

const MEMBER: &str = "etcd-0.etcd.prod.svc";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-11-27T12:00:00Z")
}

fn named(dns: &[&str], ips: &[&str]) -> Names {
    Names {
        dns: dns.iter().map(|name| (*name).to_owned()).collect(),
        ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
    }
}

fn authority() -> Made {
    new_authority("prod/etcd", at("2026-01-01T00:00:00Z"), at("2036-01-01T00:00:00Z")).unwrap()
}

fn request(purpose: Purpose) -> Request {
    Request {
        common_name: "etcd-0".to_owned(),
        names: named(&[MEMBER, "localhost"], &["127.0.0.1", "::1"]),
        purpose,
        not_before: at("2026-11-01T00:00:00Z"),
        not_after: at("2027-02-01T00:00:00Z"),
    }
}

type Data = BTreeMap<String, String>;

fn secret(made: &Made, trusted: &Made) -> Data {
    let entries = [("ca.crt", &trusted.certificate), ("tls.crt", &made.certificate), ("tls.key", &made.key)];
    entries.map(|(key, value)| (key.to_owned(), value.clone())).into()
}

fn good(purpose: Purpose) -> Data {
    let authority = authority();
    secret(&issue(&request(purpose), &authority).unwrap(), &authority)
}

fn faults_of(data: &Data, purpose: Purpose, names: &Names, at: Timestamp) -> Vec<String> {
    let pair = Pair::read(data).unwrap();
    faults(&pair, purpose, names, at).iter().map(ToString::to_string).collect()
}

#[rstest]
#[case(Purpose::Peer, true)]
#[case(Purpose::Server, true)]
#[case(Purpose::Client, false)]
fn what_is_made_says_what_was_asked_for_and_fits(#[case] purpose: Purpose, #[case] serves: bool) {
    let data = good(purpose);
    let pair = Pair::read(&data).unwrap();
    let (leaf, wanted) = (pair.leaf().unwrap(), request(purpose));
    assert_eq!((leaf.serves, leaf.asks, leaf.is_authority), (serves, true, false));
    assert_eq!((&leaf.names, leaf.subject.as_str()), (&wanted.names, "CN=etcd-0"));
    assert_eq!((leaf.not_before, leaf.not_after), (wanted.not_before, wanted.not_after));
    assert!(pair.trusted[0].is_authority && pair.key == Key::Fits);
    assert_eq!(faults(&pair, purpose, &wanted.names, now()), []);
    assert_eq!(Certificate::presented(leaf.der()).as_ref(), Some(leaf));
}

#[test]
fn no_serial_number_is_used_twice() {
    let authority = authority();
    let serials: BTreeSet<Serial> = (0..20)
        .map(|_| {
            let made = issue(&request(Purpose::Client), &authority).unwrap();
            Certificate::all_in(made.certificate.as_bytes()).unwrap().remove(0).serial
        })
        .collect();
    assert_eq!(serials.len(), 20);
}

#[rstest]
#[case::before_its_time(
    "2026-10-01T00:00:00Z",
    "the certificate in tls.crt does not hold before 2026-11-01T00:00:00Z"
)]
#[case::after_it("2027-02-02T00:00:00Z", "the certificate in tls.crt has expired at 2027-02-01T00:00:00Z")]
fn its_time_is_judged(#[case] moment: &str, #[case] fault: &str) {
    let names = named(&[MEMBER], &[]);
    assert_eq!(faults_of(&good(Purpose::Peer), Purpose::Peer, &names, at(moment)), [fault]);
}

#[test]
fn an_authority_that_has_expired_vouches_for_nobody() {
    let old = new_authority("old", at("2025-01-01T00:00:00Z"), at("2026-01-01T00:00:00Z")).unwrap();
    let data = secret(&issue(&request(Purpose::Peer), &old).unwrap(), &old);
    let fault = "the authority CN=old in ca.crt has expired at 2026-01-01T00:00:00Z";
    assert_eq!(faults_of(&data, Purpose::Peer, &named(&[MEMBER], &[]), now()), [fault]);
}

#[rstest]
#[case::another_member(&["etcd-1.etcd.prod.svc"], &[], "lacks etcd-1.etcd.prod.svc")]
#[case::a_load_balancer(&[MEMBER, "db.example.com"], &["10.0.0.7"], "lacks db.example.com, 10.0.0.7")]
fn every_name_must_stand_in_it(#[case] dns: &[&str], #[case] ips: &[&str], #[case] fault: &str) {
    let faults = faults_of(&good(Purpose::Server), Purpose::Server, &named(dns, ips), now());
    assert_eq!(faults, [format!("the certificate in tls.crt {fault}")]);
}

#[test]
fn a_clients_certificate_is_not_served_with() {
    let faults = faults_of(&good(Purpose::Client), Purpose::Server, &Names::default(), now());
    assert_eq!(faults, ["the certificate in tls.crt lacks the extended key usage serverAuth"]);
    assert!(faults_of(&good(Purpose::Server), Purpose::Client, &Names::default(), now()).is_empty());
}

#[test]
fn another_clusters_authority_vouches_for_nobody_here() {
    let data = secret(&issue(&request(Purpose::Peer), &authority()).unwrap(), &authority());
    let fault = "no authority in ca.crt has signed the certificate in tls.crt";
    assert_eq!(faults_of(&data, Purpose::Peer, &named(&[MEMBER], &[]), now()), [fault]);
}

#[test]
fn while_an_authority_is_exchanged_both_are_trusted() {
    let (old, new) = (authority(), authority());
    for signer in [&old, &new] {
        let mut data = secret(&issue(&request(Purpose::Peer), signer).unwrap(), &old);
        data.insert("ca.crt".to_owned(), format!("{}{}", old.certificate, new.certificate));
        assert!(faults_of(&data, Purpose::Peer, &named(&[MEMBER], &[]), now()).is_empty());
    }
}

#[test]
fn the_key_of_another_is_found_out() {
    let mut data = good(Purpose::Peer);
    data.insert("tls.key".to_owned(), good(Purpose::Peer)["tls.key"].clone());
    let fault = "tls.key is not the key of the certificate in tls.crt";
    assert_eq!(faults_of(&data, Purpose::Peer, &Names::default(), now()), [fault]);
}

#[rstest]
#[case::no_authority("ca.crt", None, "ca.crt is missing")]
#[case::no_certificate("tls.crt", Some(""), "tls.crt is empty")]
#[case::no_key("tls.key", Some(" "), "tls.key is empty")]
#[case::words("tls.key", Some("secret"), "tls.key holds no private key in PEM")]
#[case::a_key_of_no_kind(
    "tls.key",
    Some("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
    "tls.key holds a private key of a kind that cannot be used; ECDSA and RSA can"
)]
fn what_cannot_be_read_is_named(#[case] key: &str, #[case] value: Option<&str>, #[case] error: &str) {
    let mut data = good(Purpose::Peer);
    match value {
        Some(value) => data.insert(key.to_owned(), value.to_owned()),
        None => data.remove(key),
    };
    assert_eq!(Pair::read(&data).unwrap_err().to_string(), error);
}

/// Authorities that others make are longer than one certificate.
#[test]
fn an_authority_between_is_part_of_the_chain() {
    let root = authority();
    let data = secret(&issue(&request(Purpose::Peer), &root).unwrap(), &root);
    let mut chained = data.clone();
    chained.insert("tls.crt".to_owned(), format!("{}{}", data["tls.crt"], root.certificate));
    let pair = Pair::read(&chained).unwrap();
    assert_eq!(pair.chain.len(), 2);
    assert_eq!(faults(&pair, Purpose::Peer, &named(&[MEMBER], &[]), now()), []);
}

#[test]
fn what_no_certificate_can_bear_is_refused() {
    let mut request = request(Purpose::Server);
    request.names.dns.insert("ü.example.com".to_owned());
    let error = issue(&request, &authority()).unwrap_err().to_string();
    assert_eq!(error, "\"ü.example.com\" cannot stand in a certificate");
    let no_authority = Made { certificate: authority().certificate, key: "no key".to_owned() };
    let error = issue(&self::request(Purpose::Server), &no_authority).unwrap_err().to_string();
    assert!(error.starts_with("the authority cannot sign: "), "{error}");
}

#[test]
fn a_key_is_not_shown() {
    let made = authority();
    assert!(!format!("{made:?}").contains("PRIVATE"));
    assert!(!format!("{:?}", Pair::read(&secret(&made, &made)).unwrap()).contains("PRIVATE"));
}

proptest! {
    /// Secrets are anybody's bytes: reading them ends, with an answer.
    #[test]
    fn reading_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..400), seed: u32) {
        let mut data: BTreeMap<String, Vec<u8>> =
            good(Purpose::Peer).into_iter().map(|(key, value)| (key, value.into_bytes())).collect();
        let keys: Vec<String> = data.keys().cloned().collect();
        let bytes = data.get_mut(&keys[seed as usize % keys.len()]).unwrap();
        for (n, byte) in noise.iter().enumerate().take(8) {
            let place = (seed as usize).wrapping_mul(31 * n + 7) % bytes.len();
            bytes[place] = *byte;
        }
        if seed % 3 == 0 { *bytes = noise; }
        if let Ok(pair) = Pair::read(&data) {
            let ip: IpAddr = "10.0.0.1".parse().unwrap();
            let names = Names { ips: [ip].into(), ..Names::default() };
            let _ = faults(&pair, Purpose::Server, &names, now());
        }
    }
}
