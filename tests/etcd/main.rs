//! The client, and upgrades by hand with it, against real etcd processes on loopback. No Kubernetes.
//!
//! Run with `cargo test --test etcd`. The binaries come from `lab/lab etcd VERSION`, which builds them once;
//! `QUORATE_LAB` names another lab.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests and tools are I/O")]
// clippy.toml allows these in tests, but clippy knows only the bodies of `#[test]` functions as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod damage;
mod downgrade;
mod driver;
mod flags;
mod guard;
mod harness;
#[path = "../support/https.rs"]
mod https;
mod planned;
mod pods;
#[path = "../support/processes.rs"]
mod processes;
mod reach;
mod recovery;
mod resize;
mod roll;
#[path = "../support/say.rs"]
mod say;
mod starts;
mod tls;
#[path = "../support/writer.rs"]
#[allow(dead_code, reason = "the demo uses the rest")]
mod writer;
