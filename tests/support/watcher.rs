//! A client that watches what the writers write, and must be told of every write once and in order. When its
//! member goes away it goes on at another one, from the revision after the last that it saw, as any controller
//! does: never from what is new by then.

use super::{Entries, Options, connect, entry, lock};
use etcd_client::{TlsOptions, WatchOptions, WatchStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The clients never stop writing: a watch that is silent for so long is tried elsewhere.
const SILENCE: Duration = Duration::from_secs(2);
/// How long the last event may take.
const LAST_EVENT: Duration = Duration::from_secs(30);

/// A client at work. It stops with [`Watcher::finish`], or when this is dropped.
pub struct Watcher {
    told: Arc<Mutex<Told>>,
    tasks: JoinSet<()>,
}

/// What the client was told.
#[derive(Clone, Default)]
pub struct Told {
    /// The events, by key.
    pub events: Entries,
    /// The revision of the last event; before the first one, that from which the client watches.
    last: i64,
    /// Events whose revision was not above that of the event before.
    pub back: u64,
    /// How many watches that took, one after the other.
    pub watches: u64,
}

impl Watcher {
    /// Begins to watch what is written below the prefix after this revision.
    pub fn start(options: &Options, after: i64, endpoints: watch::Receiver<Vec<String>>) -> Self {
        let told = Arc::new(Mutex::new(Told { last: after, ..Told::default() }));
        let mut tasks = JoinSet::new();
        tasks.spawn(keep_watching(options.clone(), endpoints, Arc::clone(&told)));
        Self { told, tasks }
    }

    /// Waits until the client was told of this revision, but no longer than it may take.
    pub async fn finish(mut self, last: i64) -> Told {
        let until = Instant::now() + LAST_EVENT;
        while lock(&self.told).last < last && Instant::now() < until {
            sleep(Duration::from_millis(50)).await;
        }
        self.tasks.shutdown().await;
        lock(&self.told).clone()
    }
}

async fn keep_watching(options: Options, endpoints: watch::Receiver<Vec<String>>, told: Arc<Mutex<Told>>) {
    for turn in 0.. {
        let known = endpoints.borrow().clone();
        let from = lock(&told).last + 1;
        if let Some(endpoint) = known.get(turn % known.len().max(1))
            && let Ok(mut stream) = open(endpoint, options.tls.as_ref(), &options.prefix, from).await
        {
            lock(&told).watches += 1;
            // Ends with the member, and when the member is silent.
            while let Ok(Ok(Some(answer))) = timeout(SILENCE, stream.message()).await {
                if answer.canceled() {
                    break;
                }
                let mut told = lock(&told);
                for (key, value) in answer.events().iter().filter_map(|event| event.kv()).map(entry) {
                    told.note(key, value);
                }
            }
        }
        sleep(Duration::from_millis(20)).await;
    }
}

impl Told {
    fn note(&mut self, key: String, (number, revision): (u64, i64)) {
        self.back += u64::from(revision <= self.last);
        self.last = self.last.max(revision);
        self.events.insert(key, (number, revision));
    }
}

async fn open(
    endpoint: &str,
    tls: Option<&TlsOptions>,
    prefix: &str,
    from: i64,
) -> Result<WatchStream, String> {
    let options = WatchOptions::new().with_prefix().with_start_revision(from);
    let mut client = connect(endpoint, tls).await?;
    let opened = timeout(SILENCE, client.watch(prefix, Some(options))).await;
    opened.map_err(|_| "no answer".to_owned())?.map_err(|error| error.to_string())
}
