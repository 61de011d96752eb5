//! Leader election by a Lease, with the rules of Kubernetes' own client-go: one replica acts.
//!
//! Whether a lease has expired is judged by when *this* process last saw it change, never by comparing
//! clocks of two machines. Every write carries the resourceVersion of what was read (compare-and-swap),
//! so of two that try one loses. A lease keeps replicas from working against each other; it does not
//! make that impossible (a paused process wakes up believing in it), so steps that disturb a member have
//! a compare-and-swap of their own.

use super::kubernetes::one_line;
use super::reminder::Reminder;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// The three times of an election. They are ordered: `retry` < `renew_deadline` < `duration`.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long the others wait after the last change that they saw, before they take over.
    pub duration: Duration,
    /// How long the holder tries in vain to renew before it gives up. The difference to `duration` is
    /// the time in which nobody acts, and the margin for all that takes longer than it should.
    pub renew_deadline: Duration,
    /// How often the holder renews and the others look.
    pub retry: Duration,
}

impl Timing {
    /// The times that controller-runtime uses.
    pub const DEFAULT: Self = Self {
        duration: Duration::from_secs(15),
        renew_deadline: Duration::from_secs(10),
        retry: Duration::from_secs(2),
    };

    /// How long one try may take: short enough that a dead connection leaves time for another.
    fn one_try(self) -> Duration {
        self.renew_deadline * 3 / 10
    }
}

/// What to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is nobody's, or its holder let it expire.
    Acquire,
    /// It is ours.
    Renew,
    /// It is somebody else's, for this much longer at least.
    Wait(Duration),
}

/// Judges a lease. `unchanged_for` is how long this process has seen it as it is, by its own monotonic
/// clock; `fallback` is the duration of a lease that does not say its own.
pub fn evaluate(lease: Option<&LeaseSpec>, me: &str, unchanged_for: Duration, fallback: Duration) -> Verdict {
    let Some(spec) = lease else { return Verdict::Acquire };
    match spec.holder_identity.as_deref() {
        None | Some("") => Verdict::Acquire,
        Some(holder) if holder == me => Verdict::Renew,
        Some(_) => {
            let duration = spec
                .lease_duration_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .filter(|seconds| *seconds > 0)
                .map_or(fallback, Duration::from_secs);
            match duration.checked_sub(unchanged_for) {
                None | Some(Duration::ZERO) => Verdict::Acquire,
                Some(left) => Verdict::Wait(left),
            }
        }
    }
}

/// The lease as we want it: ours from `now` on, or ours for longer.
fn held(before: Option<&LeaseSpec>, me: &str, now: MicroTime, duration: Duration) -> LeaseSpec {
    let mut spec = before.cloned().unwrap_or_default();
    if spec.holder_identity.as_deref() != Some(me) {
        // Transitions count changes of hands: a lease that is new has had none.
        spec.lease_transitions =
            Some(before.map_or(0, |old| old.lease_transitions.unwrap_or(0).saturating_add(1)));
        spec.holder_identity = Some(me.to_owned());
        spec.acquire_time = Some(now.clone());
    }
    spec.lease_duration_seconds = Some(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX).max(1));
    spec.renew_time = Some(now);
    spec
}

/// The lease given back: nobody's, so that the next replica that looks takes it at once.
fn released(before: &LeaseSpec, now: MicroTime) -> LeaseSpec {
    LeaseSpec {
        holder_identity: None,
        lease_duration_seconds: Some(1),
        renew_time: Some(now),
        ..before.clone()
    }
}

/// What one try came to.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    Held,
    Waiting {
        holder: String,
        left: Duration,
    },
    /// Somebody wrote between our read and our write.
    Raced,
}

/// A replica in the election.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    me: String,
    timing: Timing,
    /// What was last seen, and since when it has been so.
    seen: Option<(LeaseSpec, Instant)>,
    /// The lease as we last wrote it: the holder need not read before it renews.
    mine: Option<Lease>,
    /// When the last write that made or kept the lease ours was sent.
    renewed: Instant,
}

impl Candidate {
    /// A candidate for lease `name` in `namespace` that goes by `me`.
    pub fn new(client: Client, namespace: &str, name: &str, me: String, timing: Timing) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name: name.to_owned(), me, timing, seen: None, mine: None, renewed: Instant::now() }
    }

    /// Stands by until the lease is ours. Says in the log who holds it meanwhile, or why it cannot tell.
    /// May be dropped at any time; [`Self::release`] then gives back what may have been won already.
    pub async fn acquire(&mut self) {
        let mut reminder = Reminder::default();
        loop {
            let sent = Instant::now();
            let pause = match self.attempt_in_time().await {
                Ok(Attempt::Held) => {
                    self.renewed = sent;
                    tracing::info!(lease = %self.name, identity = %self.me, "the lease is ours: leading");
                    return;
                }
                Ok(Attempt::Waiting { holder, left }) => {
                    if reminder.is_due(&holder, sent) {
                        tracing::info!(lease = %self.name, identity = %self.me, %holder, "standing by");
                    }
                    left.min(self.timing.retry)
                }
                Ok(Attempt::Raced) => self.timing.retry,
                Err(why) => {
                    if reminder.is_due(&why, sent) {
                        tracing::warn!(lease = %self.name, "cannot stand for the lease: {why}; trying again");
                    }
                    self.timing.retry
                }
            };
            sleep(pause).await;
        }
    }

    /// Renews the lease for as long as that works, and says why it no longer does. Whoever hears it must
    /// stop acting at once.
    pub async fn keep(&mut self) -> String {
        let mut next = self.renewed + self.timing.retry;
        let mut failure = None;
        loop {
            let deadline = self.renewed + self.timing.renew_deadline;
            sleep_until(next.min(deadline)).await;
            let sent = Instant::now();
            if sent >= deadline {
                let why = failure.as_deref().unwrap_or("this process did not get to run");
                return format!("not renewed for {:?}: {why}", self.timing.renew_deadline);
            }
            next = sent + self.timing.retry;
            match tokio::time::timeout_at(deadline, self.attempt_in_time()).await {
                Ok(Ok(Attempt::Held)) => {
                    self.renewed = sent;
                    failure = None;
                }
                Ok(Ok(Attempt::Waiting { holder, .. })) => return format!("{holder} holds it now"),
                // Look at once: it may already be somebody else's.
                Ok(Ok(Attempt::Raced)) => {
                    failure = Some("somebody else wrote it".to_owned());
                    next = sent + self.timing.retry / 10;
                }
                Ok(Err(why)) => {
                    tracing::warn!(lease = %self.name, "the lease could not be renewed: {why}; trying again");
                    failure = Some(why);
                }
                // The deadline came in the middle of a try: the top of the loop says so.
                Err(_) => failure = failure.or_else(|| Some("no answer".to_owned())),
            }
        }
    }

    /// Gives the lease back if it is ours. Call it when everything that acts has ended. It tries for a
    /// moment only: who fails to release is succeeded when the lease expires.
    pub async fn release(mut self) {
        for _ in 0..2 {
            match timeout(self.timing.retry / 2, self.give_back()).await {
                Ok(Ok(true)) => return tracing::info!(lease = %self.name, "the lease is released"),
                Ok(Ok(false)) => return,
                // What we knew of it may be stale: the next try reads it.
                Ok(Err(error)) => tracing::debug!(lease = %self.name, "not released: {}", one_line(&error)),
                Err(_) => tracing::debug!(lease = %self.name, "not released: no answer"),
            }
        }
        tracing::warn!(lease = %self.name, "the lease could not be released; it expires by itself");
    }

    /// Whether it was ours to give.
    async fn give_back(&mut self) -> Result<bool, kube::Error> {
        let known = match self.mine.take() {
            Some(lease) => Some(lease),
            None => self.api.get_opt(&self.name).await?,
        };
        let Some(mut lease) = known else { return Ok(false) };
        let Some(spec) = lease.spec.take().filter(|spec| spec.holder_identity.as_ref() == Some(&self.me))
        else {
            return Ok(false);
        };
        lease.spec = Some(released(&spec, now()));
        self.api.replace(&self.name, &PostParams::default(), &lease).await.map(|_| true)
    }

    async fn attempt_in_time(&mut self) -> Result<Attempt, String> {
        match timeout(self.timing.one_try(), self.attempt()).await {
            Ok(Ok(attempt)) => Ok(attempt),
            Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => Err(format!(
                "{}; needed are get, create and update on leases.coordination.k8s.io in the operator's own namespace",
                status.message
            )),
            Ok(Err(error)) => Err(one_line(&error)),
            Err(_) => Err("the Kubernetes API did not answer in time".to_owned()),
        }
    }

    /// One look, where one is needed, and one write, where the lease is to be had.
    async fn attempt(&mut self) -> Result<Attempt, kube::Error> {
        // Taken out: if this try fails, or is dropped half-way, the next one reads.
        let known = match self.mine.take() {
            Some(lease) => Some(lease),
            None => self.api.get_opt(&self.name).await?,
        };
        let spec = known.as_ref().and_then(|lease| lease.spec.as_ref());
        let unchanged_for = self.observe(spec, Instant::now());
        if let Verdict::Wait(left) = evaluate(spec, &self.me, unchanged_for, self.timing.duration) {
            let holder = spec.and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
            return Ok(Attempt::Waiting { holder, left });
        }
        let wanted = Some(held(spec, &self.me, now(), self.timing.duration));
        let params = PostParams::default();
        let written = if let Some(lease) = known {
            // What was read keeps its resourceVersion, so this is a compare-and-swap.
            self.api.replace(&self.name, &params, &Lease { spec: wanted, ..lease }).await
        } else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            self.api.create(&params, &Lease { metadata, spec: wanted }).await
        };
        match written {
            Ok(lease) => {
                self.mine = Some(lease);
                Ok(Attempt::Held)
            }
            // Changed, made, or deleted in between.
            Err(kube::Error::Api(s)) if s.is_conflict() || s.is_already_exists() || s.is_not_found() => {
                Ok(Attempt::Raced)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes note of what the lease says at `now`; answers for how long it has said so.
    fn observe(&mut self, spec: Option<&LeaseSpec>, now: Instant) -> Duration {
        match (&self.seen, spec) {
            (Some((seen, since)), Some(spec)) if seen == spec => now.duration_since(*since),
            _ => {
                self.seen = spec.cloned().map(|spec| (spec, now));
                Duration::ZERO
            }
        }
    }
}

/// For people who read the lease; nothing is judged by it.
fn now() -> MicroTime {
    MicroTime(jiff::Timestamp::now())
}

#[cfg(test)]
pub(super) mod tests;
