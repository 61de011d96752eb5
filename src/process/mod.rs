//! What surrounds the loop: lease, health and metrics server, telemetry, shutdown.
//!
//! All of it is I/O and clocks, but for the small pure judgements, which are tested as such.

pub mod crd;
pub mod kubernetes;
pub mod leadership;
pub mod lease;
pub mod metrics;
pub mod pod;
mod reminder;
pub mod server;
pub mod shutdown;
pub mod telemetry;

pub use metrics::Metrics;
pub use server::{Health, State};
pub use shutdown::{Reason, Shutdown};
