//! Lets operator and world go on together: a calm world to its rest, or a world under faults.

use crate::at_rest::at_rest;
use crate::operator::{Brain, Operator};
use crate::world::World;
use std::collections::BTreeSet;

/// One step of time with one operator that nothing happens to.
pub fn calm_step(world: &mut World, operator: &mut Operator, brain: Brain) {
    world.tick();
    // Several steps fit into one step of time.
    for _ in 0..4 {
        if !operator.is_due(world) || world.violation.is_some() {
            break;
        }
        operator.think(world, brain, &BTreeSet::new());
        operator.carry_out(world, usize::MAX);
    }
}

/// So many of them.
pub fn calm_steps(world: &mut World, operator: &mut Operator, brain: Brain, steps: u64) {
    for _ in 0..steps {
        calm_step(world, operator, brain);
    }
}

/// Goes on until nothing was written for a minute and a half: invariant 7. Whoever writes for half an hour
/// or so many times is taken to write for ever.
pub fn rest(world: &mut World, operator: &mut Operator, brain: Brain) -> Result<&'static str, String> {
    const QUIET: u64 = 90_000;
    const BOUND: u64 = 1_800_000;
    const MOST_WRITES: u64 = 1_000;
    let end = world.now + BOUND;
    let most = world.writes + MOST_WRITES;
    let mut writes = world.writes;
    let mut since = world.now;
    while world.now < end && world.writes < most {
        calm_step(world, operator, brain);
        if let Some(violation) = &world.violation {
            return Err(violation.clone());
        }
        if world.writes != writes {
            writes = world.writes;
            since = world.now;
        }
        if world.now - since >= QUIET {
            return match &operator.last {
                _ if world.cluster.is_none() => Ok("gone"),
                Some(plan) => at_rest(world, plan),
                None => Err("the operator never planned".to_owned()),
            };
        }
    }
    let last = operator.last.as_ref().map(|plan| crate::operator::words(&plan.next));
    Err(format!("writing never ends; last: {last:?}"))
}

/// Goes on until this holds.
pub fn until(
    world: &mut World,
    operator: &mut Operator,
    brain: Brain,
    what: &str,
    holds: impl Fn(&World) -> bool,
) {
    let end = world.now + 600_000;
    while !holds(world) {
        calm_step(world, operator, brain);
        assert_eq!(world.violation, None);
        let last = operator.last.as_ref().map(|plan| crate::operator::words(&plan.next));
        assert!(world.now < end, "it never comes to {what}; last: {last:?}");
    }
}
