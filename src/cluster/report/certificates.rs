//! What is told of certificates: which are in use, and which come to their end although they should have been made anew.

use crate::api::{CertificateStatus, Code, WarningStatus};
use crate::cluster::names::{MemberName, authority_secret, peer_secret, server_secret};
use crate::cluster::observation::{Observation, Ownership, SecretFacts};
use crate::cluster::plan::{NewPair, renewed_at};
use crate::cluster::spec::{CertificateTimes, certificate_times};
use crate::cluster::wire::Wire;
use crate::pki::Certificate;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A CA is not made anew by itself, and it takes rolls: a year before.
const AUTHORITY_ENDS_SOON: SignedDuration = SignedDuration::from_hours(365 * 24);

fn leaf(secret: &SecretFacts) -> Option<&Certificate> {
    secret.pair.as_ref().ok().filter(|_| secret.ownership == Ownership::Ours)?.leaf()
}

/// The Secrets that a step makes, as people read them.
pub(super) fn listed(pairs: &[NewPair]) -> String {
    pairs.iter().map(|pair| pair.secret.as_str()).collect::<Vec<_>>().join(", ")
}

/// What members show at handshakes, by the Secret from which they have it, with their names and whom they show it to.
fn shown(world: &Observation) -> impl Iterator<Item = (String, &MemberName, &'static str, &Certificate)> {
    world.answers.iter().flat_map(|(member, answer)| {
        let to_clients =
            answer.presented.to_clients.as_ref().map(|it| (server_secret(member), member, "clients", it));
        let to_peers =
            answer.presented.to_peers.as_ref().map(|it| (peer_secret(member), member, "peers", it));
        to_clients.into_iter().chain(to_peers)
    })
}

/// The certificates in use.
pub(super) fn in_use(world: &Observation) -> Vec<CertificateStatus> {
    let shown: BTreeMap<String, &Certificate> = shown(world).map(|(secret, _, _, it)| (secret, it)).collect();
    let row = |(name, secret): (&String, &Arc<SecretFacts>)| {
        let leaf = leaf(secret)?;
        let still_shown =
            shown.get(name).filter(|it| it.serial != leaf.serial).map(|it| it.serial.to_string());
        let (not_after, serial) = (Time(leaf.not_after), leaf.serial.to_string());
        Some(CertificateStatus { name: name.clone(), not_after, serial, still_shown })
    };
    world.secrets.iter().filter_map(row).collect()
}

/// Half of the time has passed in which it should have been made anew.
fn is_late(certificate: &Certificate, times: CertificateTimes, now: Timestamp) -> bool {
    let from = renewed_at(certificate, times);
    now >= certificate.not_after - certificate.not_after.duration_since(from) / 2
}

/// What is wrong with the certificates, for people; nothing where nothing is.
fn what_is_wrong(world: &Observation) -> Vec<String> {
    let authority = authority_secret(&world.cluster.name);
    let (times, now) = (certificate_times(&world.cluster.spec).0, world.now);
    let mut wrong = Vec::new();
    for name in world.names_of_secrets() {
        let Some(leaf) = world.secrets.get(&name).and_then(|secret| leaf(secret)) else {
            wrong.push(format!("the Secret {name} is missing, or holds no certificate that can be used"));
            continue;
        };
        let until = leaf.not_after;
        if !leaf.holds_at(now) {
            wrong.push(format!("the certificate in the Secret {name} held until {until}"));
        } else if name != authority && is_late(leaf, times, now) {
            wrong.push(format!(
                "the certificate in the Secret {name} holds until {until}, and was not made anew"
            ));
        }
    }
    for (secret, member, whom, shown) in shown(world) {
        let Some(held) = world.secrets.get(&secret).and_then(|it| leaf(it)) else { continue };
        if shown.serial != held.serial && is_late(shown, times, now) {
            wrong.push(format!(
                "{member} shows {whom} the certificate {}, which holds until {}, and not {} of the Secret {secret}",
                shown.serial, shown.not_after, held.serial
            ));
        }
    }
    wrong
}

fn ends_soon(world: &Observation) -> Option<String> {
    let name = authority_secret(&world.cluster.name);
    let until = leaf(world.secrets.get(&name)?)?.not_after;
    let soon = until.duration_since(world.now) < AUTHORITY_ENDS_SOON;
    soon.then(|| format!("the CA in the Secret {name} holds until {until}, and is not made anew"))
}

/// The same as warnings.
pub(super) fn warnings(world: &Observation) -> impl Iterator<Item = WarningStatus> {
    let wrong = if has_certificates(world) { what_is_wrong(world) } else { Vec::new() };
    let warn = |message| WarningStatus { code: Code::CertificateEnding, message };
    wrong.into_iter().chain(ends_soon(world)).map(warn)
}

/// Whether there are any to judge.
fn has_certificates(world: &Observation) -> bool {
    world.wire() == Wire::Tls && !world.secrets.is_empty()
}

/// Whether all certificates hold, with the reason and a sentence; nothing where there are none.
pub(super) fn are_valid(world: &Observation) -> Option<(bool, Code, String)> {
    if !has_certificates(world) {
        return None;
    }
    let wrong = what_is_wrong(world);
    let first_end = world.secrets.values().filter_map(|secret| leaf(secret)).map(|leaf| leaf.not_after).min();
    Some(match (wrong.is_empty(), first_end) {
        (true, Some(end)) => {
            let message = format!("all {} certificates hold, the first until {end}", world.secrets.len());
            (true, Code::CertificatesCurrent, message)
        }
        _ => (false, Code::CertificateEnding, wrong.join("; ")),
    })
}
