//! Acting only while leading: stand by, lead, and give the lease back when everything that acts has ended.

use super::lease::Candidate;
use super::{Health, Metrics, Reason, Shutdown, State};
use std::future::{Future, pending};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// How long what acts may take to end in order. It leaves time to release the lease before
/// [`Reason::grace`] is over: the other replica then takes over within seconds.
const DRAIN: Duration = Duration::from_secs(2);

/// Waits for the lease (no candidate: acts at once), carries `work` on while the lease is ours, and returns
/// when it has ended. `work` is expected to end when shutdown is requested, and not before.
pub async fn act_while_leading(
    mut candidate: Option<Candidate>,
    health: &Health,
    metrics: &Metrics,
    shutdown: &Shutdown,
    work: impl Future<Output = ()> + Send + 'static,
) {
    if let Some(candidate) = &mut candidate {
        health.set(State::StandingBy);
        tokio::select! {
            _ = shutdown.requested() => {}
            () = candidate.acquire() => {}
        }
    }
    if shutdown.reason().is_none() {
        health.set(State::Leading);
        metrics.leading(true);
        let keep = async {
            match &mut candidate {
                Some(candidate) => candidate.keep().await,
                None => pending().await,
            }
        };
        // A task of its own: however busy it is, the renewals go on beside it.
        let mut work = tokio::spawn(work);
        let lost = tokio::select! {
            why = keep => Some(why),
            () = ended(&mut work, shutdown, DRAIN) => None,
        };
        metrics.leading(false);
        if let Some(why) = lost {
            tracing::error!("the lease is lost: {why}; exiting, so that two never act");
            work.abort();
            shutdown.request(Reason::LeaseLost(why));
            return;
        }
    }
    // Also if it never led: the lease may have been won the moment before.
    if let Some(candidate) = candidate {
        candidate.release().await;
    }
}

/// Resolves when `work` is over: by itself, which nobody asked for, or within `drain` of the request.
async fn ended(work: &mut JoinHandle<()>, shutdown: &Shutdown, drain: Duration) {
    let overdue = async {
        shutdown.requested().await;
        sleep(drain).await;
    };
    tokio::select! {
        // No-ops where shutdown was requested: the first reason stays.
        result = &mut *work => shutdown.request(Reason::Failed(match result {
            Ok(()) => "the controllers ended unasked".to_owned(),
            Err(error) => format!("the controllers failed: {error}"),
        })),
        () = overdue => {
            tracing::warn!("the controllers did not end within {drain:?}: they are dropped");
            work.abort();
            // Only then is nobody acting any more. Its result is that it was dropped.
            let _ = work.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lease::Timing;
    use super::super::lease::tests::{answer, candidate, failure, lease};
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn setting() -> (Health, Metrics, Shutdown) {
        (Health::default(), Metrics::new(), Shutdown::new())
    }

    #[tokio::test]
    async fn the_lease_is_released_after_the_work_has_ended() {
        let (health, metrics, shutdown) = setting();
        let (candidate, mut mock) = candidate(500);
        let ended = Arc::new(AtomicBool::new(false));
        let (asked, done) = (shutdown.clone(), ended.clone());
        let work = async move {
            asked.requested().await;
            done.store(true, Ordering::SeqCst);
        };
        let server = async {
            answer(&mut mock, "GET", 404, failure(404, "NotFound")).await;
            assert_eq!(health.get(), State::StandingBy);
            answer(&mut mock, "POST", 201, lease("1", "me")).await;
            answer(&mut mock, "PUT", 200, lease("2", "me")).await;
            assert_eq!(health.get(), State::Leading);
            assert!(metrics.encode().unwrap().contains("quorate_leader 1"));
            shutdown.request(Reason::Signal("SIGTERM"));
            let released = answer(&mut mock, "PUT", 200, lease("3", "")).await;
            assert_eq!(released["spec"].get("holderIdentity"), None);
            assert!(ended.load(Ordering::SeqCst), "only when nobody acts any more");
        };
        tokio::join!(server, act_while_leading(Some(candidate), &health, &metrics, &shutdown, work));
        assert!(metrics.encode().unwrap().contains("quorate_leader 0"));
    }

    #[tokio::test]
    async fn a_lost_lease_ends_the_work_at_once_and_the_process_with_an_error() {
        let (health, metrics, shutdown) = setting();
        let (candidate, mut mock) = candidate(50);
        let server = async {
            answer(&mut mock, "GET", 200, lease("1", "")).await;
            answer(&mut mock, "PUT", 200, lease("2", "me")).await;
            answer(&mut mock, "PUT", 409, failure(409, "Conflict")).await;
            answer(&mut mock, "GET", 200, lease("3", "it")).await;
            assert!(mock.next_request().await.is_none(), "what is lost is not released");
        };
        tokio::join!(server, act_while_leading(Some(candidate), &health, &metrics, &shutdown, pending()));
        let reason = shutdown.requested().await;
        assert_eq!(reason, Reason::LeaseLost("it holds it now".into()));
        assert_eq!(reason.exit_code(), 1);
    }

    #[test]
    fn draining_and_releasing_fit_into_the_grace_of_a_signal() {
        assert!(DRAIN + Timing::DEFAULT.retry < Reason::Signal("SIGTERM").grace());
    }

    #[tokio::test]
    async fn work_that_ends_by_itself_ends_the_process_with_an_error() {
        let (health, metrics, shutdown) = setting();
        act_while_leading(None, &health, &metrics, &shutdown, async {}).await;
        assert_eq!(shutdown.requested().await.exit_code(), 1);
    }

    #[tokio::test]
    async fn work_that_does_not_end_is_dropped() {
        let shutdown = Shutdown::new();
        shutdown.request(Reason::Signal("SIGTERM"));
        let mut work = tokio::spawn(pending());
        ended(&mut work, &shutdown, Duration::from_millis(20)).await;
        assert!(work.is_finished());
        assert_eq!(shutdown.requested().await.exit_code(), 0);
    }
}
