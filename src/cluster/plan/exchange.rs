//! Members that are exchanged for new ones because the spec says so: each goes once another one votes in its place. So are
//! those whose volumes are to be of another class, and those who keep their data in their Pods and would be restarted
//! elsewhere.

use super::pods;
use super::roll::{AFTER_THE_HOP_BEFORE, order};
use super::step::Next;
use super::view::View;
use super::{heal, volumes};
use crate::api::{Action, StepStatus};
use crate::cluster::names::MemberName;
use crate::cluster::spec::storage_class;
use crate::etcd::EtcdVersion;

/// The next member that the spec exchanges.
pub(super) fn next(view: &View<'_>) -> Option<MemberName> {
    view.cluster_id()?;
    if view.keeps_data_in_pods() { pods::to_exchange(view) } else { volumes::to_exchange(view) }
}

/// Once everything else is as the spec says, and nothing holds it up. What a roll exchanges goes by its own gates.
pub(super) fn what_the_spec_exchanges(view: &View<'_>) -> Option<Next> {
    let member = next(view).filter(|_| view.may_change_members() && !view.keeps_data_in_pods())?;
    heal::exchange_now(view, member, None)
}

/// One that goes for another, in words.
struct Exchange {
    member: MemberName,
    /// What the other one gets.
    to: String,
    /// Why.
    why: String,
    /// What becomes of what it leaves.
    leaves: &'static str,
}

/// The steps that exchange members for the class of their volumes, after those of a roll.
pub(super) fn for_the_class(view: &View<'_>) -> Vec<StepStatus> {
    let Some(class) = storage_class(&view.world.cluster.spec) else { return Vec::new() };
    let others =
        volumes::claims(view).into_iter().filter(|(_, claim)| volumes::has_another_class(view, claim));
    let exchanges = others.map(|(member, claim)| {
        let old = claim.class.as_deref().unwrap_or_default();
        Exchange {
            member,
            to: class.to_owned(),
            why: format!("its volume is of class {old}"),
            leaves: "its volume is kept for storage.quarantine",
        }
    });
    Numbers::new(view).steps(exchanges.collect())
}

/// What becomes of the data of one that keeps it in its Pod.
const WITH_ITS_POD: &str = "its data goes with its Pod";

/// Who comes and goes in an outline, and under which numbers.
pub(super) struct Numbers {
    /// Who is there, and stays.
    there: Vec<MemberName>,
    next: MemberName,
    /// How many have come already, or join, in the place of the first.
    come: usize,
}

impl Numbers {
    pub fn new(view: &View<'_>) -> Self {
        let claimed = view.claimed();
        let joins = claimed.as_ref().filter(|(progress, _)| progress.action == Action::AddMember);
        let leaves = claimed.as_ref().filter(|(progress, _)| progress.action.removes());
        let voters = order(view, view.voters().keys().cloned().collect()).into_iter();
        let stays = |member: &MemberName| leaves.is_none_or(|(_, leaves)| leaves != member);
        let joins = joins.map(|(_, joins)| joins.clone()).filter(|joins| !view.voters().contains_key(joins));
        let there = voters.filter(stays).chain(joins).collect();
        let mut numbers = Self { come: 0, there, next: view.next_member() };
        numbers.lose(view, &[]);
        numbers
    }

    /// Without those that these steps remove.
    pub fn lose(&mut self, view: &View<'_>, removals: &[StepStatus]) {
        let goes = |member: &MemberName| removals.iter().any(|step| step.member == Some(member.to_string()));
        self.there.retain(|member| !goes(member));
        let wanted = view.world.cluster.spec.replicas.unsigned_abs() as usize;
        self.come = self.there.len().saturating_sub(wanted).min(1);
    }

    /// Of members that keep their data in their Pods and are not what they are to be, each with why.
    pub fn of_a_roll(&mut self, outdated: Vec<(MemberName, String)>, to: EtcdVersion) -> Vec<StepStatus> {
        let exchanges = outdated.into_iter().map(|(member, why)| {
            let (to, leaves) = (to.to_string(), WITH_ITS_POD);
            Exchange { member, to, why, leaves }
        });
        self.steps(exchanges.collect())
    }

    /// Of all that are there then.
    pub fn of_the_next_hop(&mut self, to: EtcdVersion) -> Vec<StepStatus> {
        let all = self.there.iter().map(|member| (member.clone(), AFTER_THE_HOP_BEFORE.to_owned()));
        let all = all.collect();
        self.of_a_roll(all, to)
    }

    fn steps(&mut self, exchanges: Vec<Exchange>) -> Vec<StepStatus> {
        let mut steps = Vec::new();
        for Exchange { member, to, why, leaves } in exchanges {
            let Some(at) = self.there.iter().position(|there| *there == member) else { continue };
            self.there.remove(at);
            if self.come == 0 {
                steps.push(StepStatus {
                    action: Action::AddMember,
                    member: Some(self.next.to_string()),
                    to: Some(to),
                    reason: format!("it takes the place of {member}: {why}"),
                });
                self.there.push(self.next.clone());
                self.next = self.next.sibling(self.next.number() + 1);
            }
            self.come = self.come.saturating_sub(1);
            steps.push(StepStatus {
                action: Action::RetireMember,
                member: Some(member.to_string()),
                to: None,
                reason: format!("{why}; once its replacement votes it goes, and {leaves}"),
            });
        }
        steps
    }
}
