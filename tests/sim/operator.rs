//! The operator's loop over the simulated world: observe → plan → act → report. What it keeps in
//! memory is lost when it is killed.

use crate::act::{Outcome, act};
use crate::observe::{Seen, observe};
use crate::world::World;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use quorate::api::{PlanStatus, RefusalStatus};
use quorate::cluster::names::MemberName;
use quorate::cluster::notice::Notice;
use quorate::cluster::observation::{Observation, Patience};
use quorate::cluster::plan::{Next, Plan, Wait};
use quorate::cluster::report::quorum_loss;
use std::collections::BTreeSet;
use std::time::Duration;

/// The planner, or a mutant of it.
pub type Brain = fn(&Observation) -> Plan;

/// A look at the world this often while nothing is expected to move.
const ROUND: u64 = 10_000;

/// Lives through the whole act and dies before the report.
pub const DIES_BEFORE_THE_REPORT: usize = usize::MAX - 1;

#[derive(Clone, Debug, Default)]
pub struct Operator {
    pub patience: Patience,
    pub planned_at: Option<u64>,
    pub next_at: u64,
    pub seen_changes: u64,
    /// A plan that was made and not carried out yet.
    pub pending: Option<(Seen, Plan)>,
    pub last: Option<Plan>,
}

impl Operator {
    /// It is killed and started again.
    pub fn restart(&mut self) {
        *self = Self::default();
    }

    /// Whether a watch or the clock wakes it.
    pub fn is_due(&self, world: &World) -> bool {
        self.pending.is_some() || world.changes != self.seen_changes || world.now >= self.next_at
    }

    /// Observes and plans, and keeps the plan.
    pub fn think(&mut self, world: &mut World, brain: Brain, deaf: &BTreeSet<MemberName>) {
        let Some(cluster) = &world.cluster else {
            self.restart();
            self.next_at = world.now + ROUND;
            self.seen_changes = world.changes;
            return;
        };
        self.seen_changes = world.changes;
        let violent = world.violent;
        let facts = observe(world, cluster, deaf, self.patience_now(world));
        world.plans += 1;
        let plan = brain(&facts);
        self.patience = patience_after(&facts.patience, &plan.next);
        self.planned_at = Some(world.now);
        self.next_at = match &plan.next {
            Next::Do(_) => world.now,
            Next::Wait(wait) if wait.close => world.now + 1_000,
            _ => world.now + ROUND,
        };
        self.pending = Some((Seen { facts, violent }, plan));
    }

    /// Patience with the time since the last plan added; whether it counts is for the plan to say.
    fn patience_now(&self, world: &World) -> Patience {
        let elapsed = self.planned_at.map(|at| Duration::from_millis(world.now - at)).unwrap_or_default();
        let mut patience = self.patience.clone();
        if !patience.subject.is_empty() {
            patience.without_progress += elapsed;
        }
        patience
    }

    /// Carries the plan out and reports. `pieces`: how many writes it lives for; whether it lived.
    pub fn carry_out(&mut self, world: &mut World, pieces: usize) -> bool {
        let Some((seen, plan)) = self.pending.take() else { return true };
        if let Next::Do(step) = &plan.next {
            let outcome = act(world, &seen, step, pieces);
            world.say(|| format!("{outcome:?}: {}", brief(&format!("{step:?}"))));
            match outcome {
                Outcome::Killed => {
                    self.restart();
                    return false;
                }
                _ if pieces == DIES_BEFORE_THE_REPORT => {
                    self.restart();
                    return false;
                }
                Outcome::Refused => self.next_at = world.now + 1_000,
                Outcome::Done => {}
            }
        } else if world.tracing && self.last.as_ref().map(|last| words(&last.next)) != Some(words(&plan.next))
        {
            world.say(|| format!("      {}", words(&plan.next)));
        }
        report(world, &seen, &plan);
        self.last = Some(plan);
        true
    }
}

/// The same wait without a better progress keeps its count; anything else begins anew.
fn patience_after(before: &Patience, next: &Next) -> Patience {
    match next {
        Next::Wait(wait) if wait.subject == before.subject && wait.progress <= before.best => before.clone(),
        Next::Wait(Wait { subject, progress, .. }) => {
            Patience { subject: subject.clone(), best: *progress, without_progress: Duration::ZERO }
        }
        _ => Patience::default(),
    }
}

pub fn words(next: &Next) -> String {
    match next {
        Next::Do(step) => format!("{step:?}"),
        Next::Wait(wait) => format!("wait {}: {}", wait.notice.code, wait.notice.message),
        Next::Refused => "refused".to_owned(),
        Next::Paused => "paused".to_owned(),
        Next::Settled => "settled".to_owned(),
    }
}

/// A step on one line.
fn brief(text: &str) -> String {
    let text = text.replace("MemberName { cluster: \"db\", number: ", "db-").replace(" }", "}");
    text.chars().take(160).collect()
}

/// Writes what a person reads, on a change only.
fn report(world: &mut World, seen: &Seen, plan: &Plan) {
    let Some(cluster) = world.cluster.as_ref().filter(|cluster| cluster.uid == seen.facts.cluster.uid) else {
        return;
    };
    let at = cluster.resource_version;
    let generation = seen.facts.cluster.generation;
    let known = seen.facts.last_known_cluster_version();
    let refusals = plan.refusals.iter().map(|Notice { code, message, remedy }| RefusalStatus {
        code: *code,
        message: message.clone(),
        remedy: remedy.clone(),
    });
    let refusals: Vec<RefusalStatus> = refusals.collect();
    // While steps follow each other only the last word of them is worth a write.
    let said = (!matches!(plan.next, Next::Do(_))).then(|| words(&plan.next));
    let condition = said.map(|said| Condition {
        type_: "Ready".to_owned(),
        status: if matches!(plan.next, Next::Settled) { "True" } else { "False" }.to_owned(),
        reason: said.split(':').next().unwrap_or_default().to_owned(),
        message: said,
        observed_generation: Some(generation),
        last_transition_time: Time(world.timestamp(0)),
    });
    let shown = plan.intent.as_ref().map(|intent| PlanStatus {
        storage: intent.storage.clone(),
        hash: Some(intent.hash.clone()),
        approved: intent.approved,
        becomes: Some(intent.becomes.clone()),
        replicas: intent.replicas,
        hops: Vec::new(),
        steps: Vec::new(),
    });
    world.write_status(at, |status| {
        status.quorum_loss = quorum_loss(&seen.facts, status);
        status.observed_generation = Some(generation);
        status.cluster_version = known.map(|known| known.patch(0).to_string());
        status.refusals = refusals;
        status.plan = shown;
        if let Some(condition) = condition {
            status.conditions = vec![condition];
        }
    });
}
