//! Thousands of worlds by chance: faults first, then calm, then a spec that can be reached.

use crate::faults::{self, FIRST_VERSIONS};
use crate::named::spec;
use crate::operator::{Brain, Operator};
use crate::recovery_steps;
use crate::rng::Rng;
use crate::run::rest;
use crate::world::World;
use quorate::api::{EmptyDir, EtcdClusterSpec, TlsMode, TlsSpec};
use quorate::cluster::names::MemberName;
use quorate::cluster::plan::plan;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Less than two minutes on two cores.
const SEEDS: u64 = 20_000;

/// Of every so many seeds one has members that keep their data in their Pods.
const DATA_IN_PODS: u64 = 8;
/// One seed in so many talks TLS.
const TLS: u64 = 5;

/// How one seed ended: twice at rest, each with how.
#[derive(Debug)]
pub struct Story {
    pub ends: [&'static str; 2],
    pub seconds: u64,
    pub plans: u64,
    /// How often a cluster was made anew from one member.
    pub forced: u32,
}

/// Runs one seed to its end, or to the invariant that it breaks.
pub fn run(seed: u64, brain: Brain, tracing: bool) -> Result<Story, String> {
    let mut rng = Rng::seeded(seed);
    let version = rng.pick(FIRST_VERSIONS).unwrap();
    let replicas = *rng.pick(&[1, 3, 3, 3, 3, 3, 5]).unwrap();
    let mut first = spec(&format!(
        "{{version: {version}, replicas: {replicas}, rollout: {{memberDeadline: 20s}}, heal: {{nodeLostAfter: 40s}}}}"
    ));
    if seed.is_multiple_of(DATA_IN_PODS) && replicas > 1 {
        first.storage.get_or_insert_default().empty_dir = Some(EmptyDir::default());
    }
    if seed.is_multiple_of(TLS) {
        first.tls = Some(TlsSpec { mode: Some(TlsMode::Enabled), ..TlsSpec::default() });
    }
    let mut world = World::new(rng, first.clone());
    world.local = world.rng.permille(500);
    world.lets_grow = world.rng.permille(700);
    world.grows_offline = world.rng.permille(300);
    world.tracing = tracing;
    world.say(|| format!("seed {seed}: {replicas} members of {version}"));
    let mut operators = vec![Operator::default()];
    if world.rng.permille(700) {
        rest(&mut world, &mut operators[0], brain).map_err(|error| format!("before any fault: {error}"))?;
        if world.rng.permille(30) {
            faults::write_by_the_v2_api(&mut world);
        }
    }
    if world.rng.permille(250) {
        operators.push(Operator::default());
    }
    chaos(&mut world, &mut operators, brain, &first);
    if let Some(violation) = world.violation.take() {
        return Err(violation);
    }
    world.say(|| "calm from here on".to_owned());
    faults::heal(&mut world);
    operators[0].pending = None;
    let calm = rest(&mut world, &mut operators[0], brain).map_err(|error| format!("in calm: {error}"))?;
    if world.rng.permille(700) {
        recovery_steps::say(&mut world);
    }
    let recovery = world.cluster.as_ref().and_then(|cluster| cluster.spec.recovery.clone());
    let wanted = EtcdClusterSpec { recovery, ..faults::reachable(&world, &first) };
    world.say(|| format!("a spec that can be reached: {} x {}", wanted.version, wanted.replicas));
    world.edit_spec(|spec| *spec = wanted);
    let end = rest(&mut world, &mut operators[0], brain)
        .map_err(|error| format!("with a spec that can be reached: {error}"))?;
    let forced = world.rafts.values().map(|raft| raft.forced).sum();
    Ok(Story { ends: [calm, end], seconds: world.now / 1_000, plans: world.plans, forced })
}

fn chaos(world: &mut World, operators: &mut [Operator], brain: Brain, first: &EtcdClusterSpec) {
    let end = world.now + world.rng.range(30_000, 240_000);
    let rate = *world.rng.pick(&[5, 15, 30, 60]).unwrap();
    let kills = *world.rng.pick(&[0, 0, 20, 100]).unwrap();
    let deafness = *world.rng.pick(&[0, 0, 20, 100]).unwrap();
    while world.now < end && world.violation.is_none() {
        world.tick();
        if world.cluster.is_none() {
            world.create_cluster(first.clone());
        }
        if world.rng.permille(rate) {
            faults::by_chance(world, first);
        }
        let lags = operators.len() > 1;
        for operator in operators.iter_mut() {
            live(world, operator, brain, kills, deafness, lags);
        }
    }
}

/// What one operator does in one step of time.
fn live(world: &mut World, operator: &mut Operator, brain: Brain, kills: u64, deafness: u64, lags: bool) {
    for _ in 0..3 {
        if !operator.is_due(world) || world.violation.is_some() {
            return;
        }
        if operator.pending.is_none() {
            let deaf: BTreeSet<MemberName> =
                world.members().into_iter().filter(|_| world.rng.permille(deafness)).collect();
            operator.think(world, brain, &deaf);
            // One of two operators may come to its act only later, with what it saw then.
            if lags && world.rng.permille(300) {
                return;
            }
        }
        let pieces = if world.rng.permille(kills) {
            usize::try_from(world.rng.range(0, 3)).unwrap()
        } else {
            usize::MAX
        };
        operator.carry_out(world, pieces);
        if world.rng.permille(kills / 2) {
            world.say(|| "  * the operator restarts".to_owned());
            operator.restart();
        }
    }
}

#[test]
fn a_seed() {
    let Some(seed) = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()) else { return };
    let story = run(seed, plan, true);
    println!("{story:?}");
    story.unwrap();
}

#[test]
fn seeds_keep_every_invariant() {
    let count = std::env::var("SIM_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(SEEDS);
    let begun = Instant::now();
    let first = std::env::var("SIM_FIRST").ok().and_then(|first| first.parse().ok()).unwrap_or(0);
    let (failures, stories) = many(first, count, plan);
    let mut ends: BTreeMap<[&str; 2], usize> = BTreeMap::new();
    for story in &stories {
        *ends.entry(story.ends).or_default() += 1;
    }
    let simulated: u64 = stories.iter().map(|story| story.seconds).sum();
    let plans: u64 = stories.iter().map(|story| story.plans).sum();
    let forced: u32 = stories.iter().map(|story| story.forced).sum();
    println!(
        "{count} seeds, {} h simulated, {plans} plans, {forced} clusters made anew, in {:.1} s",
        simulated / 3_600,
        begun.elapsed().as_secs_f64()
    );
    for (ends, times) in &ends {
        println!("  {times:>6} × at rest in calm: {}, with a spec that can be reached: {}", ends[0], ends[1]);
    }
    for (seed, failure) in failures.iter().take(12) {
        println!("seed {seed}: {failure}\n  SIM_SEED={seed} cargo test --test sim a_seed -- --nocapture");
    }
    assert!(failures.is_empty(), "{} of {count} seeds fail", failures.len());
}

/// Runs so many seeds on all cores, beginning with this one.
pub fn many(first: u64, count: u64, brain: Brain) -> (Vec<(u64, String)>, Vec<Story>) {
    let next = AtomicU64::new(first);
    let results = Mutex::new((Vec::new(), Vec::new()));
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let result = run(seed, brain, false);
                    let mut results = results.lock().unwrap();
                    match result {
                        Ok(story) => results.1.push(story),
                        Err(failure) => results.0.push((seed, failure)),
                    }
                }
            });
        }
    });
    let (mut failures, stories) = results.into_inner().unwrap();
    failures.sort();
    (failures, stories)
}
