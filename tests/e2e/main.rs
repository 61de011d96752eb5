//! The operator on a real Kubernetes. Each test has a namespace and an operator process of its own, and
//! asserts from etcd's API and from Pod UIDs, not from the operator's word alone. What is done to more than a
//! namespace is done in a test that runs alone, see [`support::run_alone`].
//!
//! Run with `cargo test --test e2e` after `eval "$(lab/lab env)"`. The lab needs the images of
//! [`support::IMAGES`]. `QUORATE_OPERATOR` names another operator than the one that cargo built,
//! `QUORATE_KEEP=1` leaves the namespace of a test that failed.

// clippy.toml allows these in tests, but clippy knows only the bodies of `#[test]` functions as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests and tools are I/O")]

mod changes;
mod create;
mod data;
mod failure;
mod faults;
mod flags;
mod heal;
mod holds;
#[path = "../support/https.rs"]
mod https;
mod images;
mod input;
mod many;
mod nodes;
mod pods;
mod process;
mod recovery;
mod refusals;
mod resize;
mod ship;
#[path = "../support/specs.rs"]
mod specs;
mod strangers;
mod support;
mod tls;
mod upgrade;
mod v2_data;
mod volumes;
