//! Secrets with certificates. Those are real ones: how they are made, read and judged is the operator's own.

use super::World;
use crate::world::{NAME, NAMESPACE};
use quorate::cluster::names::authority_secret;
use quorate::cluster::objects::secrets::{Holder, authority, contents};
use quorate::cluster::observation::{Ownership, SecretFacts};
use quorate::cluster::plan::NewPair;
use quorate::cluster::wire::Wire;
use quorate::pki::{Made, Pair, issue, new_authority};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A Secret, with the UID of what it goes with.
#[derive(Clone, Debug)]
pub struct Secret {
    pub facts: Arc<SecretFacts>,
    pub made: Made,
    pub owner: Option<String>,
}

impl World {
    /// What members talk.
    pub fn wire(&self) -> Wire {
        let mut wires = self.claims.values().map(|volume| volume.facts.wire);
        if wires.any(|wire| wire == Wire::Tls) { Wire::Tls } else { Wire::Plain }
    }

    /// The Secrets whose owners are there: the others are collected.
    pub fn live_secrets(&self) -> BTreeMap<String, Arc<SecretFacts>> {
        let is_there = |uid: &String| {
            let claims = self.claims.values().chain(self.set_aside.values().map(|(_, volume)| volume));
            let cluster = self.cluster.as_ref().is_some_and(|cluster| cluster.uid == *uid);
            cluster || claims.map(|volume| &volume.facts.uid).any(|claim| claim == uid)
        };
        let live = self.secrets.iter().filter(|(_, secret)| secret.owner.as_ref().is_none_or(is_there));
        live.map(|(name, secret)| (name.clone(), Arc::clone(&secret.facts))).collect()
    }

    pub fn create_authority(&mut self, not_before: jiff::Timestamp, not_after: jiff::Timestamp) {
        let name = authority_secret(NAME);
        if self.secrets.contains_key(&name) {
            return;
        }
        let made = new_authority("prod/db", not_before, not_after).unwrap();
        let data = authority(NAMESPACE, NAME, &made, None).data.unwrap();
        let data = data.into_iter().map(|(key, value)| (key, value.0)).collect();
        self.keep(name, &data, made, None);
    }

    pub fn issue(&mut self, pair: &NewPair) {
        let Some(authority) = self.secrets.get(&authority_secret(NAME)).map(|secret| secret.made.clone())
        else {
            return;
        };
        let there = self
            .live_secrets()
            .get(&pair.secret)
            .map(|there| (there.uid.clone(), there.resource_version.clone()));
        if there != pair.replaces {
            return;
        }
        let owner = match &pair.holder {
            Holder::Member(member) => self.claims.get(member).map(|volume| volume.facts.uid.clone()),
            Holder::Operator | Holder::Application => {
                self.cluster.as_ref().map(|cluster| cluster.uid.clone())
            }
        };
        let Some(owner) = owner else { return };
        let made = issue(&pair.request, &authority).unwrap();
        let data = contents(&made, &authority.certificate);
        let data = data.into_iter().map(|(key, value)| (key, value.0)).collect();
        self.keep(pair.secret.clone(), &data, made, Some(owner));
    }

    fn keep(&mut self, name: String, data: &BTreeMap<String, Vec<u8>>, made: Made, owner: Option<String>) {
        let (uid, resource_version) = (self.uid("secret"), self.uid("version"));
        let (ownership, pair) = (Ownership::Ours, Pair::read(data));
        let facts = Arc::new(SecretFacts { uid, resource_version, ownership, pair });
        self.secrets.insert(name, Secret { facts, made, owner });
    }
}
