//! What surrounds the loop: lease, health and metrics server, telemetry, shutdown.

pub mod metrics;
pub mod shutdown;

pub use metrics::Metrics;
pub use shutdown::{Reason, Shutdown};
