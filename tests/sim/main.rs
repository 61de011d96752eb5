//! The simulator: the planner against a small model of Kubernetes and etcd, through faults at every
//! point. One seed, one world: `SIM_SEED=n cargo test --test sim a_seed -- --nocapture` replays it with
//! a trace; `SIM_SEEDS=n` sets how many are run, `SIM_FIRST=n` with which they begin.

#![allow(clippy::disallowed_methods, reason = "how long the seeds took is printed")]
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test binary: a panic is a verdict")]

mod act;
mod at_rest;
mod bootstrap;
mod check;
mod codes;
mod databases;
mod downgrades;
mod exhaustive;
mod faults;
mod heal;
mod holds;
mod maintenance;
mod metadata;
mod mutants;
mod named;
mod observe;
mod operator;
mod pods;
mod put_back;
mod recovery;
mod recovery_steps;
mod resize;
mod rng;
mod run;
mod seeds;
mod tables;
mod volumes;
mod world;
