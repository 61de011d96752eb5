//! What surrounds the loop: lease, health and metrics server, telemetry, shutdown.
