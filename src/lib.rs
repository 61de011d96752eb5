//! Quorate: a Kubernetes operator that runs etcd clusters.
//!
//! The modules tell the story, and imports point one way: `api`, `pki` and `etcd` use none of the others, `process`
//! uses `api`, `cluster` uses all of them (of `process` the metrics, the shutdown, the wording of errors):
//!
//! - [`api`]: what users say, and what they are told: the `EtcdCluster` kind, conditions, codes.
//! - [`pki`]: certificates: what they say, whether they fit, making them.
//! - [`etcd`]: etcd as seen from outside: its types, what is known of its versions, a client.
//! - [`cluster`]: the loop of one cluster: observe → plan → act → report.
//! - [`process`]: what surrounds the loop: lease, health and metrics, telemetry, shutdown.

pub mod api;
pub mod cluster;
pub mod etcd;
pub mod pki;
#[allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "the process is I/O")]
pub mod process;
