//! The Secrets with certificates, each read by its own name: the operator lists none and watches none. A key is kept only
//! where the operator needs it to speak to members.

use super::api;
use crate::api::labels;
use crate::cluster::context::Context;
use crate::cluster::names::operator_secret;
use crate::cluster::observation::{Observation, Ownership, SecretFacts};
use crate::cluster::wire::Wire;
use crate::etcd::Credentials;
use crate::pki::Pair;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two reads of a Secret. Whoever changes one by hand is seen so much later; what the operator writes is seen at once.
const KNOWN_FOR: Duration = Duration::from_secs(45);
/// For how long what was read is good enough where it cannot be read again.
const GOOD_FOR: Duration = Duration::from_hours(1);

/// What was read of Secrets, by the UID of the cluster and the name.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Secrets(Mutex<HashMap<(String, String), (Known, Instant)>>);

#[derive(Clone, Debug)]
struct Known {
    /// Whose it is depends on what else there is.
    facts: SecretFacts,
    metadata: ObjectMeta,
    /// Of the one that the operator shows to members.
    credentials: Option<Arc<Credentials>>,
}

impl Secrets {
    /// Has them read again: they were written.
    pub(in crate::cluster) fn forget<'a>(&self, cluster: &str, names: impl Iterator<Item = &'a str>) {
        let mut known = self.lock();
        for name in names {
            known.remove(&(cluster.to_owned(), name.to_owned()));
        }
    }

    /// What was read within this time.
    fn known(&self, cluster: &str, name: &str, within: Duration) -> Option<Known> {
        let now = now();
        let known = self.lock();
        let (known, read) = known.get(&(cluster.to_owned(), name.to_owned()))?;
        (now.saturating_duration_since(*read) < within).then(|| known.clone())
    }

    fn keep(&self, cluster: &str, read: impl Iterator<Item = (String, Known)>) {
        let now = now();
        let mut known = self.lock();
        known.retain(|_, (_, read)| now.saturating_duration_since(*read) < GOOD_FOR);
        known.extend(read.map(|(name, fact)| ((cluster.to_owned(), name), (fact, now))));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), (Known, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[allow(clippy::disallowed_methods, reason = "when to read again is no fact about the cluster")]
fn now() -> Instant {
    Instant::now()
}

/// Reads the Secrets of a cluster that talks TLS, and has the operator show itself to its members with its own: with the last
/// one that it had, where that is gone.
pub(super) async fn secrets(ctx: &Context, world: &mut Observation) -> Result<(), kube::Error> {
    let uid = world.cluster.uid.clone();
    if world.wire() == Wire::Plain {
        ctx.channels.show(&uid, None);
        return Ok(());
    }
    let own = operator_secret(&world.cluster.name);
    let secrets = api::<Secret>(ctx, &world.cluster.namespace);
    let read = join_all(world.names_of_secrets().into_iter().map(async |name| {
        if let Some(known) = ctx.secrets.known(&uid, &name, KNOWN_FOR) {
            return Ok((name, Some(known), false));
        }
        match secrets.get_opt(&name).await {
            Ok(secret) => {
                let known = secret.map(|secret| known(&secret, name == own));
                Ok((name, known, true))
            }
            // An API server that cannot open its store of Secrets must not keep members from being looked after.
            Err(error) => match ctx.secrets.known(&uid, &name, GOOD_FOR) {
                Some(known) => Ok((name, Some(known), false)),
                None => Err(error),
            },
        }
    }))
    .await;
    let read: Vec<_> = read.into_iter().collect::<Result<_, _>>()?;
    let new = read.iter().filter(|(_, _, is_new)| *is_new);
    ctx.secrets.keep(&uid, new.filter_map(|(name, known, _)| Some((name.clone(), known.clone()?))));
    let found: BTreeMap<String, Known> =
        read.into_iter().filter_map(|(name, known, _)| Some((name, known?))).collect();
    if let Some(credentials) = found.get(&own).and_then(|known| known.credentials.clone()) {
        ctx.channels.show(&uid, Some(credentials));
    }
    world.secrets = found
        .into_iter()
        .map(|(name, known)| {
            let ownership = ownership(&known.metadata, world);
            let facts = SecretFacts { ownership, ..SecretFacts::clone(&known.facts) };
            (name, Arc::new(facts))
        })
        .collect();
    Ok(())
}

fn known(secret: &Secret, is_own: bool) -> Known {
    let none = BTreeMap::new();
    let data = secret.data.as_ref().unwrap_or(&none);
    let bytes: BTreeMap<String, &[u8]> =
        data.iter().map(|(key, value)| (key.clone(), value.0.as_slice())).collect();
    let facts = SecretFacts {
        uid: secret.metadata.uid.clone().unwrap_or_default(),
        resource_version: secret.metadata.resource_version.clone().unwrap_or_default(),
        ownership: Ownership::EarlierCluster,
        pair: Pair::read(&bytes),
    };
    let text = |key: &str| std::str::from_utf8(bytes.get(key)?).ok();
    let is_ours = is_own && is_labelled(&secret.metadata);
    let credentials =
        is_ours.then(|| Credentials::new(text("ca.crt")?, text("tls.crt")?, text("tls.key")?).ok());
    let metadata = ObjectMeta { managed_fields: None, ..secret.metadata.clone() };
    Known { facts, metadata, credentials: credentials.flatten().map(Arc::new) }
}

fn is_labelled(metadata: &ObjectMeta) -> bool {
    let component = metadata.labels.as_ref().and_then(|labels| labels.get(labels::COMPONENT));
    component.is_some_and(|component| component == labels::COMPONENT_CERTIFICATE)
}

/// By its labels, as a volume claim; and by its owner, which goes, and the Secret with it, where it is not one of today.
fn ownership(metadata: &ObjectMeta, world: &Observation) -> Ownership {
    if !is_labelled(metadata) {
        return Ownership::Foreign("has no owner that this operator knows".to_owned());
    }
    let of_today =
        |uid: &str| uid == world.cluster.uid || world.claims.values().any(|claim| claim.uid == uid);
    let mut owners = metadata.owner_references.iter().flatten().peekable();
    match Ownership::of_claim(metadata, &world.cluster.name) {
        Ownership::Ours if owners.peek().is_some() && !owners.any(|owner| of_today(&owner.uid)) => {
            Ownership::EarlierCluster
        }
        ownership => ownership,
    }
}
