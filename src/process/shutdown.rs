//! Shutdown: who asked for it, why, and how long it may take.
//!
//! Everything that runs for long holds a [`Shutdown`] and ends when [`Shutdown::requested`] resolves.
//! Whoever finds that the process cannot go on calls [`Shutdown::request`]; the first reason stays.
//! Signals and the clock live here and nowhere else in the process.

use std::fmt;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Why the process ends. It decides the exit code and how long the end may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Somebody asked for it: `SIGTERM` or `SIGINT`.
    Signal(&'static str),
    /// The lease is somebody else's, or could not be renewed in time. Another replica may already act.
    LeaseLost(String),
    /// A part of the process, without which it is of no use, ended.
    Failed(String),
}

impl Reason {
    /// 0 where it was asked for, 1 where it was not.
    pub const fn exit_code(&self) -> i32 {
        match self {
            Self::Signal(_) => 0,
            Self::LeaseLost(_) | Self::Failed(_) => 1,
        }
    }

    /// How long the end may take before the process exits anyway. Without the lease every moment is a
    /// moment with two that act; else there is time to finish the calls in flight.
    pub const fn grace(&self) -> Duration {
        match self {
            Self::LeaseLost(_) => Duration::from_millis(500),
            Self::Signal(_) | Self::Failed(_) => Duration::from_millis(4_500),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal(name) => write!(f, "{name}"),
            Self::LeaseLost(why) => write!(f, "lease lost: {why}"),
            Self::Failed(why) => write!(f, "{why}"),
        }
    }
}

/// A request to end, seen by every clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Sender<Option<Reason>>);

impl Default for Shutdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shutdown {
    /// Nothing is requested yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Asks everything to end. The first reason stays: what follows is mostly its consequence.
    pub fn request(&self, reason: Reason) {
        self.0.send_if_modified(|seen| {
            let first = seen.is_none();
            if first {
                tracing::info!(reason = %reason, exit_code = reason.exit_code(), "shutting down");
                *seen = Some(reason);
            }
            first
        });
    }

    /// Waits until the end is requested, and says why. Cancel-safe; resolves at once ever after.
    pub async fn requested(&self) -> Reason {
        let mut receiver = self.0.subscribe();
        match receiver.wait_for(Option::is_some).await.map(|seen| seen.clone()) {
            Ok(Some(reason)) => reason,
            // Never: we hold a sender, and waited for a reason.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }

    /// The reason, if the end is requested.
    pub fn reason(&self) -> Option<Reason> {
        self.0.borrow().clone()
    }

    /// Listens for `SIGTERM` and `SIGINT`. A second one exits at once, for people at a terminal.
    /// Needs a tokio runtime; fails where the system refuses a signal handler.
    pub fn on_signals(&self) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = self.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                if shutdown.reason().is_some() {
                    tracing::warn!(signal = name, "a second signal: exiting at once");
                    std::process::exit(1);
                }
                shutdown.request(Reason::Signal(name));
            }
        });
        Ok(())
    }

    /// Exits the process when the end takes longer than [`Reason::grace`]. On a thread of its own: it
    /// works however busy the runtime's workers are.
    pub fn enforce(&self) -> std::io::Result<()> {
        let shutdown = self.clone();
        std::thread::Builder::new()
            .name("exit-deadline".into())
            .stack_size(128 * 1024)
            .spawn(move || {
                let reason = futures::executor::block_on(shutdown.requested());
                std::thread::sleep(reason.grace());
                tracing::error!(reason = %reason, grace = ?reason.grace(), "the end took too long: exiting now");
                std::process::exit(1);
            })
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_stays_and_every_clone_sees_it() {
        let shutdown = Shutdown::new();
        let clone = shutdown.clone();
        assert_eq!(clone.reason(), None);
        let waiting = tokio::spawn(async move { clone.requested().await });
        shutdown.request(Reason::Signal("SIGTERM"));
        shutdown.request(Reason::Failed("a consequence".into()));
        assert_eq!(waiting.await.unwrap(), Reason::Signal("SIGTERM"));
        assert_eq!(shutdown.requested().await, Reason::Signal("SIGTERM"), "resolves ever after");
    }

    #[test]
    fn only_what_was_asked_for_exits_zero_and_all_end_in_time() {
        for (reason, code, within) in [
            (Reason::Signal("SIGTERM"), 0, 5_000),
            (Reason::LeaseLost("taken".into()), 1, 1_000),
            (Reason::Failed("server".into()), 1, 5_000),
        ] {
            assert_eq!(reason.exit_code(), code, "{reason}");
            assert!(reason.grace() < Duration::from_millis(within), "{reason}");
        }
    }
}
