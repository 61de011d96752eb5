//! Members whose data differ, which etcd tells by the alarm CORRUPT. Its word on who is wrong is not taken: the keys of all
//! voters, hashed at one revision, must show one alone that differs from all the others. That one is replaced, and the
//! alarm taken back once those who are left agree. Anything else is for a person.

use super::heal;
use super::step::{Next, Step};
use super::view::View;
use crate::api::Code;
use crate::cluster::names::MemberName;
use crate::cluster::notice::Notice;
use crate::etcd::{Alarm, KvHash};
use std::collections::BTreeMap;

/// Why the one that differs goes.
pub(super) const DIFFERS: &str = "its data differs from that of all the others";

/// The hashes of all voters, where all were asked and can be compared.
fn hashes<'a>(view: &'a View<'_>) -> Option<BTreeMap<&'a MemberName, KvHash>> {
    let voters = view.voters().keys();
    let hashes: BTreeMap<&MemberName, KvHash> =
        voters.map(|member| Some((member, *view.world.hashes.get(member)?))).collect::<Option<_>>()?;
    let first = hashes.values().next()?.compacted;
    hashes.values().all(|hash| hash.compacted == first).then_some(hashes)
}

fn agree(hashes: &BTreeMap<&MemberName, KvHash>) -> bool {
    hashes.values().all(|hash| Some(hash) == hashes.values().next())
}

/// The one voter whose data differs from that of all others, who agree and are a majority.
pub(super) fn the_one_that_differs(view: &View<'_>) -> Option<MemberName> {
    if view.world.hashes.is_empty() || !is_set(view) {
        return None;
    }
    let hashes = hashes(view).filter(|hashes| hashes.len() > 2)?;
    let alone = |(member, hash): &(&&MemberName, &KvHash)| {
        let mut others = hashes.iter().filter(|(other, _)| other != member).map(|(_, hash)| hash.hash);
        let first = others.next();
        others.all(|other| Some(other) == first) && first != Some(hash.hash)
    };
    hashes.iter().find(alone).map(|(member, _)| (*member).clone())
}

/// Whether a member is to be removed for what its data is: it differs from all others, or, where nobody does alone, a
/// person says that it is the one that is wrong.
pub(super) fn is_to_go(view: &View<'_>, member: &MemberName) -> bool {
    if !is_set(view) {
        return false;
    }
    match the_one_that_differs(view) {
        Some(differs) => differs == *member,
        None => hashes(view).is_some() && heal::named(view).as_ref() == Some(member),
    }
}

/// Whether members' data are said to differ.
pub(super) fn is_set(view: &View<'_>) -> bool {
    view.alarms().contains(&Alarm::Corrupt)
}

/// Whether it is not known yet if those who are left agree.
pub(super) fn is_still_open(view: &View<'_>) -> bool {
    is_set(view) && (hashes(view).is_none() || view.leader().is_none())
}

/// After the one that differed was removed: the alarm is taken back where all who are left agree.
pub(super) fn after_it_went(view: &View<'_>) -> Option<Next> {
    let through = view.leader().filter(|_| is_set(view))?;
    agree(&hashes(view)?).then(|| Next::Do(Step::Disarm { through: through.clone(), alarm: Alarm::Corrupt }))
}

/// It cannot be told who is wrong, or a person wants to be asked.
pub(super) fn refusals(view: &View<'_>) -> Option<Notice> {
    if !is_set(view) || view.claimed().is_some() {
        return None;
    }
    if let Some(member) = the_one_that_differs(view) {
        let why =
            heal::why_not_by_itself(view, &member).filter(|_| !heal::is_to_be_retired(view, &member))?;
        return Some(Notice::new(
            Code::MembersDiffer,
            format!("{member}: {DIFFERS}, and it is not replaced by itself: {why}"),
            heal::how_to_replace(view, &member),
        ));
    }
    let message = match hashes(view) {
        Some(hashes) => {
            let shown: Vec<String> =
                hashes.iter().map(|(member, hash)| format!("{member} {:08x}", hash.hash)).collect();
            let what = if agree(&hashes) {
                "the alarm CORRUPT is set, though all members' keys hash alike"
            } else {
                "the alarm CORRUPT is set, and no member differs alone from a majority that agrees"
            };
            format!("{what} ({})", shown.join(", "))
        }
        None => "the alarm CORRUPT is set, and the keys of all members could not be compared".to_owned(),
    };
    Some(Notice::of(Code::MembersDiffer, message))
}
