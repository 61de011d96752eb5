//! Certificates: made before the members that show them, and made anew before they end. Nothing of it disturbs a member:
//! etcd reads what it shows at each handshake.

use super::step::{NewPair, Next, Step};
use super::view::View;
use crate::api::Code;
use crate::cluster::names::authority_secret;
use crate::cluster::notice::Notice;
use crate::cluster::objects::secrets::WantedPair;
use crate::cluster::observation::{Ownership, Patience, SecretFacts};
use crate::cluster::spec::{CertificateTimes, certificate_times};
use crate::cluster::wire::Wire;
use crate::pki::{Certificate, Key, Pair, Request, faults};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

/// Clocks of nodes differ: what was made just now must hold on each.
const BACKDATED: SignedDuration = SignedDuration::from_mins(5);
/// What was made anew just now and does not fit would not fit the next time either.
const AT_MOST_EVERY: SignedDuration = SignedDuration::from_mins(1);
/// Ten years, as kubeadm's.
const AUTHORITY_HOLDS_FOR: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);

/// Makes the authority, then whatever is missing, does not fit, or comes to its end. A cluster that forms begins with nothing
/// less; one that has formed is looked after all the same.
pub(super) fn that_are_due(view: &View<'_>) -> Option<Next> {
    if view.world.wire() == Wire::Plain || view.world.claims.is_empty() {
        return None;
    }
    let step = step(view);
    let refused = |step: &Step| view.world.patience.subject == Patience::subject_of_refused(step);
    match (step, view.cluster_id()) {
        // Steps aside for a pass after the API server said no, so that members are looked after meanwhile.
        (Some(step), Some(_)) => (!refused(&step)).then_some(Next::Do(step)),
        (None, Some(_)) => None,
        (Some(step), None) => Some(Next::Do(step)),
        (None, None) if has_all(view) => None,
        (None, None) if !refusals(view).is_empty() => Some(Next::Refused),
        (None, None) => {
            let message = "certificates of an EtcdCluster before are going away";
            Some(view.wait_for(Notice::of(Code::PreviousClusterTerminating, message), None))
        }
    }
}

fn step(view: &View<'_>) -> Option<Step> {
    let world = view.world;
    let times = certificate_times(&world.cluster.spec).0;
    let Some(authority) = world.secrets.get(&authority_secret(&world.cluster.name)) else {
        let (not_before, not_after) = (world.now - BACKDATED, world.now + AUTHORITY_HOLDS_FOR);
        return may_make_an_authority(view).then_some(Step::CreateAuthority { not_before, not_after });
    };
    let authority = usable(view, authority).ok()?;
    let due: Vec<NewPair> = world
        .wanted_pairs()
        .into_iter()
        .filter_map(|wanted| {
            let there = world.secrets.get(&wanted.secret);
            let new = new_pair(wanted.clone(), there, authority, times, world.now);
            there.is_none_or(|there| is_due(there, &wanted, &new, authority, times, world.now)).then_some(new)
        })
        .collect();
    (!due.is_empty()).then_some(Step::IssueCertificates(due))
}

fn has_all(view: &View<'_>) -> bool {
    let is_there = |wanted: &WantedPair| {
        let there = view.world.secrets.get(&wanted.secret);
        there.is_some_and(|there| there.ownership == Ownership::Ours && there.pair.is_ok())
    };
    view.world.wanted_pairs().iter().all(is_there)
}

/// Whether nobody runs who was given a certificate of an authority that is gone.
fn may_make_an_authority(view: &View<'_>) -> bool {
    let ours = || view.world.secrets.values().any(|secret| secret.ownership == Ownership::Ours);
    view.world.pods.is_empty() || (view.cluster_id().is_none() && !ours())
}

/// The authority, as long as it is this cluster's own.
pub(super) fn own_authority(view: &View<'_>) -> Option<String> {
    let authority = view.world.secrets.get(&authority_secret(&view.world.cluster.name))?;
    (authority.ownership == Ownership::Ours).then(|| authority.uid.clone())
}

/// The pair of an authority that can sign, or why it cannot.
fn usable<'a>(view: &View<'_>, authority: &'a SecretFacts) -> Result<&'a Pair, String> {
    let pair = authority.pair.as_ref().map_err(ToString::to_string)?;
    let now = view.world.now;
    let leaf = pair.leaf().ok_or("tls.crt is empty")?;
    if authority.ownership != Ownership::Ours {
        return Err("it is not this cluster's".to_owned());
    }
    if !leaf.is_authority {
        return Err("tls.crt is no certificate of a CA".to_owned());
    }
    if now < leaf.not_before {
        return Err(format!("it does not hold before {}", leaf.not_before));
    }
    if now > leaf.not_after {
        return Err(format!("it held until {}", leaf.not_after));
    }
    if pair.key == Key::IsAnother {
        return Err("tls.key is not the key of the certificate in tls.crt".to_owned());
    }
    if !pair.signs {
        return Err("tls.key is not in PKCS #8, or is of a kind that cannot sign here".to_owned());
    }
    if !pair.trusted.contains(leaf) {
        return Err("ca.crt does not hold the certificate in tls.crt".to_owned());
    }
    // What members trust they read when they start: by another one they would be cut off from each other.
    let of_ours = view.world.secrets.values().filter(|secret| secret.ownership == Ownership::Ours);
    let mut trust = of_ours.filter_map(|secret| secret.pair.as_ref().ok());
    if !view.world.pods.is_empty() && trust.any(|pair| !pair.trusted.contains(leaf)) {
        return Err(format!("it is another one ({}) than members trust", leaf.serial));
    }
    Ok(pair)
}

fn is_due(
    there: &SecretFacts,
    wanted: &WantedPair,
    new: &NewPair,
    authority: &Pair,
    times: CertificateTimes,
    now: Timestamp,
) -> bool {
    match there.ownership {
        Ownership::Ours => {}
        // It goes, unless it is given another owner.
        Ownership::EarlierCluster => return true,
        // Never overwritten.
        Ownership::Foreign(_) => return false,
    }
    let Ok(pair) = &there.pair else { return true };
    let Some(leaf) = pair.leaf() else { return true };
    if now < leaf.not_before + BACKDATED + AT_MOST_EVERY {
        return false;
    }
    // One that ends with its authority is not made anew for nothing.
    let ends = now >= renewed_at(leaf, times) && new.request.not_after > leaf.not_after + AT_MOST_EVERY;
    ends || pair.trusted != authority.trusted || !faults(pair, wanted.purpose, &wanted.names, now).is_empty()
}

/// When a certificate is made anew.
pub fn renewed_at(leaf: &Certificate, times: CertificateTimes) -> Timestamp {
    let life = leaf.not_after.duration_since(leaf.not_before);
    let before = times.renew_before.and_then(|before| SignedDuration::try_from(before).ok());
    leaf.not_after - before.unwrap_or(life / 3)
}

fn new_pair(
    wanted: WantedPair,
    there: Option<&Arc<SecretFacts>>,
    authority: &Pair,
    times: CertificateTimes,
    now: Timestamp,
) -> NewPair {
    let WantedPair { secret, holder, purpose, common_name, names } = wanted;
    let replaces = there.map(|there| (there.uid.clone(), there.resource_version.clone()));
    let until = SignedDuration::try_from(times.duration).map_or(now, |duration| now + duration);
    // Nothing outlives who vouches for it.
    let not_after = authority.leaf().map_or(until, |authority| until.min(authority.not_after));
    let request = Request { common_name, names, purpose, not_before: now - BACKDATED, not_after };
    NewPair { secret, holder, request, replaces }
}

/// What stands in the way of making certificates, and what nobody may be given.
pub(super) fn refusals(view: &View<'_>) -> Vec<Notice> {
    let world = view.world;
    let name = authority_secret(&world.cluster.name);
    if world.wire() == Wire::Plain || world.claims.is_empty() {
        return Vec::new();
    }
    let mut refusals: Vec<Notice> = world
        .secrets
        .iter()
        .filter_map(|(name, secret)| match &secret.ownership {
            Ownership::Foreign(owner) => Some(Notice::new(
                Code::ForeignObject,
                format!("this cluster needs the name of the Secret {name}, which {owner}"),
                format!("give the EtcdCluster another name, or move the Secret {name} away"),
            )),
            Ownership::Ours | Ownership::EarlierCluster => None,
        })
        .collect();
    let why = match world.secrets.get(&name) {
        None if may_make_an_authority(view) => None,
        None => Some("it is gone".to_owned()),
        Some(secret) if secret.ownership != Ownership::Ours => None,
        Some(secret) => usable(view, secret).err(),
    };
    refusals.extend(why.map(|why| {
        Notice::of(
            Code::AuthorityLost,
            format!("the CA in the Secret {name} cannot sign certificates: {why}"),
        )
    }));
    refusals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fixtures::{NAME, certified, healthy, secret};
    use crate::cluster::names::server_secret;
    use crate::cluster::observation::Observation;
    use crate::cluster::plan::plan;
    use crate::pki::{Made, issue, new_authority};
    use rstest::rstest;

    const TLS: &str = "{version: 3.6.16, tls: {mode: Enabled}}";
    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    /// Certificates of 90 hours, an hour old.
    fn world(yaml: &str) -> (Observation, Made) {
        let world = healthy(yaml);
        let (from, until) = (world.now - HOUR, world.now + HOUR * 89);
        certified(world, from, until)
    }

    /// The Secrets that are made, or made anew.
    fn due(world: &Observation) -> Vec<String> {
        match that_are_due(&View::new(world)).unwrap_or(Next::Settled) {
            Next::Do(Step::IssueCertificates(pairs)) => pairs.into_iter().map(|pair| pair.secret).collect(),
            Next::Do(Step::CreateAuthority { .. }) => vec!["the authority".to_owned()],
            _ => Vec::new(),
        }
    }

    fn said(world: &Observation) -> Vec<String> {
        plan(world)
            .refusals
            .into_iter()
            .map(|notice| format!("{}: {}", notice.code, notice.message))
            .collect()
    }

    const ALL: [&str; 8] = [
        "db-peer-0",
        "db-server-0",
        "db-peer-1",
        "db-server-1",
        "db-peer-2",
        "db-server-2",
        "db-operator-tls",
        "db-client-tls",
    ];

    #[test]
    fn nothing_is_made_where_nothing_is_due_and_nothing_in_plaintext() {
        let (world, _) = world(TLS);
        assert_eq!((due(&world), said(&world)), (vec![], vec![]));
        let plain = healthy("version: 3.6.16");
        assert_eq!((due(&plain), said(&plain)), (vec![], vec![]));
    }

    #[test]
    fn the_authority_comes_first_and_then_all_that_it_signs() {
        let mut world = healthy(TLS);
        world.cluster.status.cluster_id = None;
        assert_eq!(due(&world), ["the authority"]);
        let authority = new_authority("test", world.now - HOUR, world.now + HOUR * 9_000).unwrap();
        world.secrets.insert("db-ca".to_owned(), Arc::new(secret(&authority, &authority)));
        assert_eq!(due(&world), ALL);
    }

    #[rstest]
    #[case::before("", 59, false)]
    #[case::at_two_thirds("", 60, true)]
    #[case::as_late_as_is_said(", certificates: {renewBefore: 10h}", 79, false)]
    #[case::and_then(", certificates: {renewBefore: 10h}", 80, true)]
    fn they_are_made_anew_before_their_end(#[case] said: &str, #[case] age: i64, #[case] is_due: bool) {
        let (mut world, _) = world(&format!("{{version: 3.6.16, tls: {{mode: Enabled{said}}}}}"));
        world.now += HOUR * i32::try_from(age - 1).unwrap();
        assert_eq!(due(&world), if is_due { ALL.map(str::to_owned).to_vec() } else { Vec::new() });
    }

    #[test]
    fn what_is_gone_or_spoilt_or_lacks_a_name_is_made_again() {
        let (mut world, authority) = world(TLS);
        let spoil = |name: &str, world: &mut Observation, change: fn(&mut SecretFacts)| {
            change(Arc::make_mut(world.secrets.get_mut(name).unwrap()));
        };
        world.secrets.remove("db-peer-0");
        spoil("db-server-1", &mut world, |facts| {
            facts.pair = Err(crate::pki::Unreadable { key: "tls.key", why: "is empty".to_owned() });
        });
        let other = new_authority("other", world.now - HOUR, world.now + HOUR * 100).unwrap();
        let strange = secret(&issue(&a_peer(&world), &other).unwrap(), &authority);
        world.secrets.insert("db-peer-2".to_owned(), Arc::new(strange));
        assert_eq!(due(&world), ["db-peer-0", "db-server-1", "db-peer-2"]);

        let (mut world, _) = self::world(TLS);
        let further = "{version: 3.6.16, tls: {mode: Enabled, server: {dnsNames: [etcd.example.com]}}}";
        world.cluster.spec = serde_saphyr::from_str(further).unwrap();
        assert_eq!(due(&world), ["db-server-0", "db-server-1", "db-server-2"]);
    }

    fn a_peer(world: &Observation) -> Request {
        let WantedPair { common_name, names, purpose, .. } = world.wanted_pairs().remove(4);
        Request { common_name, names, purpose, not_before: world.now - HOUR, not_after: world.now + HOUR }
    }

    #[test]
    fn an_authority_that_is_gone_is_not_made_anew_and_somebody_elses_secret_is_not_touched() {
        let (mut world, _) = world(TLS);
        let authority = world.secrets.remove("db-ca").unwrap();
        assert_eq!(due(&world), [""; 0]);
        assert_eq!(
            said(&world),
            ["AuthorityLost: the CA in the Secret db-ca cannot sign certificates: it is gone"]
        );

        world.secrets.insert("db-ca".to_owned(), authority);
        let name = server_secret(&crate::cluster::fixtures::member(1));
        let theirs = Arc::make_mut(world.secrets.get_mut(&name).unwrap());
        theirs.ownership = Ownership::Foreign("has no owner that this operator knows".to_owned());
        theirs.pair = Err(crate::pki::Unreadable { key: "ca.crt", why: "is missing".to_owned() });
        assert_eq!(due(&world), [""; 0]);
        let foreign = "ForeignObject: this cluster needs the name of the Secret db-server-1, which has no owner that this operator knows";
        assert_eq!(said(&world), [foreign]);
    }

    #[rstest]
    #[case::of_somebody(|facts: &mut SecretFacts, _: &Made| facts.pair.as_mut().unwrap().signs = false, "tls.key is not in PKCS #8, or is of a kind that cannot sign here")]
    #[case::not_in_its_bundle(|facts: &mut SecretFacts, _: &Made| facts.pair.as_mut().unwrap().trusted.clear(), "ca.crt does not hold the certificate in tls.crt")]
    #[case::no_authority(|facts: &mut SecretFacts, made: &Made| *facts = secret(made, made), "tls.crt is no certificate of a CA")]
    fn an_authority_that_cannot_sign_is_not_tried(
        #[case] change: fn(&mut SecretFacts, &Made),
        #[case] why: &str,
    ) {
        let (mut world, authority) = world(TLS);
        let leaf = issue(&a_peer(&world), &authority).unwrap();
        change(Arc::make_mut(world.secrets.get_mut("db-ca").unwrap()), &leaf);
        world.secrets.remove("db-client-tls");
        assert_eq!(due(&world), [""; 0]);
        assert_eq!(
            said(&world),
            [format!("AuthorityLost: the CA in the Secret db-ca cannot sign certificates: {why}")]
        );
    }

    /// Members read whom they trust when they start.
    #[test]
    fn another_authority_signs_nothing_while_members_run_and_all_where_none_does() {
        let (mut world, _) = world(TLS);
        let other = new_authority("other", world.now - HOUR, world.now + HOUR * 9_000).unwrap();
        world.secrets.insert("db-ca".to_owned(), Arc::new(secret(&other, &other)));
        assert_eq!(due(&world), [""; 0]);
        assert!(said(&world)[0].ends_with("than members trust"), "{:?}", said(&world));
        world.pods.clear();
        assert_eq!(due(&world), ALL);
    }

    #[test]
    fn what_goes_with_an_earlier_owner_gets_a_new_one() {
        let (mut world, _) = world(TLS);
        let facts = Arc::make_mut(world.secrets.get_mut("db-client-tls").unwrap());
        facts.ownership = Ownership::EarlierCluster;
        assert_eq!(due(&world), ["db-client-tls"]);
    }

    /// Else it would be made anew with every look.
    #[test]
    fn what_was_made_a_moment_ago_is_not_made_again() {
        let (mut world, authority) = world(TLS);
        let other = new_authority("other", world.now - HOUR, world.now + HOUR * 100).unwrap();
        let request = Request { not_before: world.now - BACKDATED, ..a_peer(&world) };
        let strange = secret(&issue(&request, &other).unwrap(), &authority);
        world.secrets.insert("db-peer-2".to_owned(), Arc::new(strange));
        assert_eq!(due(&world), [""; 0]);
        world.now += AT_MOST_EVERY;
        assert_eq!(due(&world), ["db-peer-2"]);
    }

    #[test]
    fn members_are_looked_after_while_the_api_server_refuses_certificates() {
        let (mut world, _) = world(TLS);
        world.secrets.remove("db-client-tls");
        world.patience.subject = Patience::subject_of_refused(&Step::IssueCertificates(Vec::new()));
        assert_eq!(due(&world), [""; 0]);
        world.cluster.status.cluster_id = None;
        assert_eq!(due(&world), ["db-client-tls"], "nobody begins without");
    }

    #[test]
    fn nothing_outlives_its_authority() {
        let mut world = healthy(TLS);
        let ends = world.now + HOUR * 24;
        let authority = new_authority("test", world.now - HOUR, ends).unwrap();
        world.secrets.insert(format!("{NAME}-ca"), Arc::new(secret(&authority, &authority)));
        let Next::Do(Step::IssueCertificates(pairs)) = plan(&world).next else {
            panic!("{:?}", plan(&world).next)
        };
        assert!(pairs.iter().all(|pair| pair.request.not_after == ends), "{pairs:?}");
    }
}
