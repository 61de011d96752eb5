//! What was read of things that are not the cluster's own, such as nodes: kept for all clusters until a moment, read
//! again after it. Whatever could not be read is unknown, and costs no observation.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Members answer meanwhile, within limits that are not shorter.
const LIMIT: Duration = Duration::from_secs(1);
/// What may not be read may not be read until somebody changes the role.
const FORBIDDEN_FOR: Duration = Duration::from_mins(10);

/// A fact by name, and until when it is not read again.
#[derive(Debug)]
pub(in crate::cluster) struct Remembered<T>(Mutex<HashMap<String, (Option<T>, Instant)>>);

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Remembered<T> {
    /// The fact of each of these names, as `read` says it, with how long it lasts. One that could not be read is not
    /// in the answer, and is not read again for `blank_for`.
    pub(super) async fn of<F>(
        &self,
        names: &BTreeSet<String>,
        blank_for: Duration,
        read: impl Fn(String) -> F,
    ) -> BTreeMap<String, T>
    where
        F: Future<Output = Result<(T, Duration), kube::Error>>,
    {
        let now = now();
        // Copied here: what is known now may be forgotten by another cluster's look while this one reads.
        let mut facts: BTreeMap<String, Option<T>> = {
            let mut known = self.lock();
            known.retain(|_, (_, until)| *until > now);
            names.iter().filter_map(|name| Some((name.clone(), known.get(name)?.0.clone()))).collect()
        };
        let unknown: Vec<String> = names.iter().filter(|name| !facts.contains_key(*name)).cloned().collect();
        let reads =
            unknown.iter().map(|name| async { tokio::time::timeout(LIMIT, read(name.clone())).await });
        let answers = futures::future::join_all(reads).await;
        let mut known = self.lock();
        for (name, answer) in unknown.into_iter().zip(answers) {
            let (fact, lasts) = match answer {
                Ok(Ok((fact, lasts))) => (Some(fact), lasts),
                Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => (None, FORBIDDEN_FOR),
                Ok(Err(_)) | Err(_) => (None, blank_for),
            };
            facts.insert(name.clone(), fact.clone());
            known.insert(name, (fact, now + lasts));
        }
        facts.into_iter().filter_map(|(name, fact)| Some((name, fact?))).collect()
    }

    /// The one fact that there is, where all of a kind are read at once.
    pub(super) async fn all<F>(&self, lasts: Duration, read: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, kube::Error>>,
    {
        let read = |_| {
            let fact = read();
            async move { Ok((fact.await?, lasts)) }
        };
        self.of(&BTreeSet::from([String::new()]), lasts, read).await.into_values().next()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Option<T>, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[allow(clippy::disallowed_methods, reason = "when to read again is no fact about the cluster")]
fn now() -> Instant {
    Instant::now()
}
