//! The planner: a pure function from what the spec wants and what was observed to the whole way
//! between them, of which only the first step is ever carried out.
//!
//! No client, no clock, no async, no randomness. Each concern is a file with one question; the order
//! of precedence is [`CONCERNS`], and nowhere else.

mod accept;
mod adopt;
mod begun;
mod bootstrap;
mod certificates;
mod claimed;
mod cluster_version;
mod corrupt;
mod delete;
mod downgrade;
mod exchange;
mod gates;
mod guard;
mod heal;
mod hold;
mod join;
mod leave;
mod loss;
mod maintenance;
mod membership;
mod ownership;
mod pods;
mod presence;
mod probe;
mod put_back;
mod records;
mod recover;
mod request;
mod resize;
mod roll;
mod snapshots;
mod step;
mod stopped;
mod support;
#[cfg(test)]
mod tests;
mod tidy;
mod up;
mod view;
mod volumes;

pub use certificates::renewed_at;
pub use gates::{Removal, Stop};
pub use heal::REPLACED;
pub use hold::Intent;
pub use step::{Claim, Guarded, NewPair, NewPod, Next, Plan, Record, SnapshotNote, Step, Wait};

use super::notice::Notice;
use super::observation::Observation;
use view::View;

/// A question about the cluster: what to do now, or nothing to say.
type Concern = fn(&View<'_>) -> Option<Next>;

/// The order of precedence. The first concern that has something to say decides; the rest is looked at
/// again once that is done.
const CONCERNS: &[Concern] = &[
    delete::volumes_with_the_cluster,
    guard::members_with_a_wal,
    paused,
    probe::that_stand_in_a_members_way,
    adopt::volumes_of_an_earlier_cluster,
    certificates::that_are_due,
    recover::as_a_person_says,
    membership::who_votes,
    loss::all_members,
    presence::every_member_has_a_pod,
    ownership::nothing_belongs_to_others,
    support::services_and_budget,
    membership::a_voter_that_is_labelled_a_learner,
    bootstrap::the_first_members,
    accept::a_loss_for_good,
    downgrade::a_job_that_leads_elsewhere,
    claimed::the_member_that_may_be_away,
    downgrade::a_job_that_has_arrived,
    records::what_etcd_says_of_members,
    snapshots::that_count_no_more,
    downgrade::a_member_that_remembers_a_job,
    put_back::a_member_left_half_way,
    membership::a_learner_left_behind,
    membership::what_is_of_no_member,
    heal::what_can_be_done,
    heal::what_is_due,
    maintenance::room_after_an_alarm,
    request::what_cannot_be_done,
    resize::a_broken_member_too_many,
    resize::a_member_too_few,
    volumes::a_volume_that_is_too_small,
    roll::the_next_outdated_member,
    resize::a_member_too_many,
    exchange::what_the_spec_exchanges,
    tidy::what_is_left_behind,
    presence::every_member_is_up,
    roll::the_cluster_version_has_moved,
    support::services_and_budget_again,
    heal::a_quarantine_that_is_over,
    maintenance::a_fragmented_database,
    hold::what_may_not_begin_yet,
];

/// What to do about a cluster, and the whole way.
pub fn plan(world: &Observation) -> Plan {
    let view = View::new(world);
    let next = CONCERNS.iter().find_map(|concern| concern(&view)).unwrap_or(Next::Settled);
    let mut plan = Plan {
        next,
        intent: None,
        held: None,
        hops: Vec::new(),
        steps: Vec::new(),
        converged: false,
        refusals: Vec::new(),
    };
    // Of a cluster that goes nothing is wanted any more.
    if !world.cluster.deleting {
        plan.intent = view.intent().filter(|_| view.refusals().is_empty()).cloned();
        plan.held = view.held().cloned();
        plan.hops = roll::hops(&view);
        plan.steps = roll::outline(&view);
        plan.converged = converged(&view);
        plan.refusals = refusals(&view);
    }
    plan
}

/// What the spec asks for and does not get, the gravest first.
fn refusals(view: &View<'_>) -> Vec<Notice> {
    let all = [
        ownership::refusals(view),
        adopt::refusals(view).into_iter().collect(),
        bootstrap::refusals(view),
        loss::refusals(view),
        accept::refusals(view),
        heal::refusals(view),
        corrupt::refusals(view).into_iter().collect(),
        certificates::refusals(view),
        view.refusals().to_vec(),
    ];
    all.into_iter().flatten().collect()
}

/// What must have nothing to say for a cluster to be what its spec says; notes and tidying may be due.
const CONVERGENCE: &[Concern] = &[
    delete::volumes_with_the_cluster,
    ownership::nothing_belongs_to_others,
    adopt::volumes_of_an_earlier_cluster,
    recover::as_a_person_says,
    bootstrap::the_first_members,
    loss::all_members,
    presence::every_member_has_a_pod,
    downgrade::a_job_that_leads_elsewhere,
    claimed::the_member_that_may_be_away,
    downgrade::a_job_that_has_arrived,
    downgrade::a_member_that_remembers_a_job,
    put_back::a_member_left_half_way,
    membership::a_learner_left_behind,
    request::what_cannot_be_done,
    resize::a_broken_member_too_many,
    resize::a_member_too_few,
    volumes::a_volume_that_is_too_small,
    roll::the_next_outdated_member,
    resize::a_member_too_many,
    exchange::what_the_spec_exchanges,
    presence::every_member_is_up,
    roll::the_cluster_version_has_moved,
    heal::anything_due,
    hold::what_may_not_begin_yet,
];

fn converged(view: &View<'_>) -> bool {
    let wanted = view.desired.as_ref().map(|desired| desired.version).ok();
    let there = view.cluster_id().is_none() || view.target.as_ref().map(|target| target.version) == wanted;
    there && CONVERGENCE.iter().all(|concern| concern(view).is_none())
}

/// `spec.paused`: touch nothing, whatever it is.
fn paused(view: &View<'_>) -> Option<Next> {
    view.world.cluster.spec.paused.unwrap_or(false).then_some(Next::Paused)
}
