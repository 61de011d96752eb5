//! A client that watches every key during the roll, and must be told of every revision. When its member goes
//! away it goes on at another one, from the revision after the last that it saw, as any controller does.

use anyhow::{Context as _, bail};
use etcd_client::{Client, ConnectOptions, GetOptions, ResponseHeader, WatchOptions, WatchStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const CONNECT: Duration = Duration::from_secs(1);
/// The clients never stop writing: a watch that is silent for so long is tried elsewhere.
const SILENCE: Duration = Duration::from_secs(2);

/// What the client was told.
pub struct Watched {
    /// Revisions that it was never told of.
    pub missed: u64,
}

pub struct Watching {
    endpoints: watch::Receiver<Vec<String>>,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    /// The last revision that the client was told of.
    last: AtomicI64,
    missed: AtomicU64,
}

impl Watching {
    /// Begins to watch, from the revision that the cluster has now.
    pub async fn start(endpoints: watch::Receiver<Vec<String>>) -> anyhow::Result<Self> {
        let seen = Arc::new(Seen::default());
        seen.last.store(revision(&endpoints.borrow().clone()).await?, Ordering::SeqCst);
        let task = tokio::spawn(keep_watching(endpoints.clone(), Arc::clone(&seen)));
        Ok(Self { endpoints, seen, task })
    }

    /// To be called when nobody writes any more: waits until the client was told of the last revision.
    pub async fn finish(self) -> anyhow::Result<Watched> {
        let end = revision(&self.endpoints.borrow().clone()).await?;
        let until = Instant::now() + Duration::from_secs(30);
        while self.seen.last.load(Ordering::SeqCst) < end && Instant::now() < until {
            sleep(Duration::from_millis(50)).await;
        }
        self.task.abort();
        let untold = end.saturating_sub(self.seen.last.load(Ordering::SeqCst));
        Ok(Watched { missed: self.seen.missed.load(Ordering::SeqCst) + u64::try_from(untold).unwrap_or(0) })
    }
}

async fn keep_watching(endpoints: watch::Receiver<Vec<String>>, seen: Arc<Seen>) {
    for turn in 0.. {
        let known = endpoints.borrow().clone();
        let from = seen.last.load(Ordering::SeqCst) + 1;
        let opened = match known.get(turn % known.len().max(1)) {
            Some(endpoint) => open(endpoint, from).await.ok(),
            None => None,
        };
        if let Some(mut stream) = opened {
            // Ends with the member, and when the member is silent.
            while let Ok(Ok(Some(told))) = timeout(SILENCE, stream.message()).await {
                if told.canceled() {
                    break;
                }
                for event in told.events() {
                    if let Some(kv) = event.kv() {
                        note(&seen, kv.mod_revision());
                    }
                }
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Each revision must follow upon the one before; several keys of one transaction share theirs.
fn note(seen: &Seen, revision: i64) {
    let last = seen.last.fetch_max(revision, Ordering::SeqCst);
    let skipped = revision.saturating_sub(last).saturating_sub(1);
    seen.missed.fetch_add(u64::try_from(skipped).unwrap_or(0), Ordering::SeqCst);
}

async fn open(endpoint: &str, from: i64) -> anyhow::Result<WatchStream> {
    let options = WatchOptions::new().with_all_keys().with_start_revision(from);
    let mut client = connect(endpoint).await?;
    Ok(timeout(SILENCE, client.watch("", Some(options))).await??)
}

/// The cluster's revision, read linearizably.
async fn revision(endpoints: &[String]) -> anyhow::Result<i64> {
    for endpoint in endpoints {
        let Ok(mut client) = connect(endpoint).await else { continue };
        let get = client.get("bench", Some(GetOptions::new().with_count_only()));
        if let Ok(Ok(answer)) = timeout(Duration::from_secs(5), get).await {
            return answer.header().map(ResponseHeader::revision).context("an answer without a header");
        }
    }
    bail!("none of {endpoints:?} answers")
}

async fn connect(endpoint: &str) -> anyhow::Result<Client> {
    let options = ConnectOptions::new().with_connect_timeout(CONNECT);
    Ok(timeout(CONNECT, Client::connect([endpoint], Some(options))).await??)
}
