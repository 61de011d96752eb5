//! Clients that write without a pause and remember every acknowledgement, one that watches, and the proof
//! afterwards that etcd still holds each write and told of it. Used by the demo, the end-to-end tests and the
//! benchmarks.

#[path = "watcher.rs"]
mod watcher;

use etcd_client::{Client, ConnectOptions, GetOptions, KeyValue, ResponseHeader, TlsOptions};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use watcher::Watcher;

/// How long one write may take before it counts as failed.
const ONE_WRITE: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_secs(1);
/// How long reading one page may take.
const ONE_READ: Duration = Duration::from_secs(10);
/// Keys that are read back at a time.
const PAGE: i64 = 5_000;

/// How to write.
#[derive(Clone, Debug)]
pub struct Options {
    /// Every key begins with it. Nothing else may write below it.
    pub prefix: String,
    /// How many clients write at once, each to a member of its own while that answers.
    pub writers: usize,
    /// Between an acknowledgement and the client's next write.
    pub pause: Duration,
    /// With what members are spoken to over TLS; nothing where they talk plaintext.
    pub tls: Option<TlsOptions>,
}

impl Default for Options {
    fn default() -> Self {
        Self { prefix: "quorate-writer/".into(), writers: 4, pause: Duration::from_millis(2), tls: None }
    }
}

/// What the clients saw so far.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Writes that etcd acknowledged.
    pub acked: u64,
    /// Writes that ended in an error or took too long. Whether etcd has them nobody knows.
    pub failed: u64,
    /// The longest time in which no client had a write acknowledged.
    pub longest_gap: Duration,
    /// The errors of failed writes, and how often each was seen.
    pub errors: BTreeMap<String, u64>,
}

/// Keys with the number that is their value, and their revision.
type Entries = BTreeMap<String, (u64, i64)>;

/// What became of everything that was written.
#[derive(Clone, Debug)]
pub struct Receipt {
    pub tally: Tally,
    /// How long was written.
    pub wrote_for: Duration,
    /// Writes that were acknowledged or watched, and that etcd no longer has, or has otherwise.
    pub lost: Vec<String>,
    /// Writes that etcd has, acknowledged or not, and that were not watched at just their revision.
    pub missed: Vec<String>,
    /// Acknowledged writes whose revision was not above that of the same client's write before, and events whose
    /// revision was not above that of the event before.
    pub revisions_back: u64,
    /// Events that were watched.
    pub events: usize,
    /// How many watches that took: one more than the watched member went away.
    pub watches: u64,
}

/// Clients at work. They stop with [`Writers::finish`], or when this is dropped.
pub struct Writers {
    options: Options,
    endpoints: watch::Receiver<Vec<String>>,
    journal: Arc<Mutex<Journal>>,
    tasks: JoinSet<()>,
    watcher: Watcher,
    began: Instant,
}

#[derive(Default)]
struct Journal {
    tally: Tally,
    last_ack: Option<Instant>,
    /// Of each client, the revisions at which its writes were acknowledged, by the write's number.
    acked: Vec<Vec<(u64, i64)>>,
}

impl Writers {
    /// Begins to watch and to write. `endpoints` are the members' client URLs; who starts this keeps them current,
    /// since a replaced Pod has another address.
    ///
    /// # Errors
    /// When no member answers for a minute.
    pub async fn start(options: Options, endpoints: watch::Receiver<Vec<String>>) -> Result<Self, String> {
        let read = async |client| read_all(client, &options.prefix).await;
        let before = ask_any(&endpoints, options.tls.as_ref(), read).await?;
        let watcher = Watcher::start(&options, before.revision, endpoints.clone());
        let journal =
            Arc::new(Mutex::new(Journal { acked: vec![Vec::new(); options.writers], ..Journal::default() }));
        let mut tasks = JoinSet::new();
        for writer in 0..options.writers {
            tasks.spawn(write(writer, options.clone(), endpoints.clone(), Arc::clone(&journal)));
        }
        Ok(Self { options, endpoints, journal, tasks, watcher, began: Instant::now() })
    }

    /// What the clients saw so far, the silence that lasts just now included.
    pub fn tally(&self) -> Tally {
        let journal = lock(&self.journal);
        let mut tally = journal.tally.clone();
        if let Some(last) = journal.last_ack {
            tally.longest_gap = tally.longest_gap.max(last.elapsed());
        }
        tally
    }

    /// Forgets the longest gap so far: from here on only what comes counts.
    pub fn forget_gap(&self) {
        let mut journal = lock(&self.journal);
        journal.tally.longest_gap = Duration::ZERO;
        journal.last_ack = Some(Instant::now());
    }

    /// Stops writing, reads everything back, linearizably, and compares it with what was watched.
    ///
    /// # Errors
    /// When no member answers for a minute: then nothing is known, which is not the same as lost.
    pub async fn finish(mut self) -> Result<Receipt, String> {
        let tally = self.tally();
        let wrote_for = self.began.elapsed();
        self.tasks.shutdown().await;
        let (prefix, tls) = (&self.options.prefix, self.options.tls.as_ref());
        let stored = ask_any(&self.endpoints, tls, async |client| read_all(client, prefix).await).await?;
        let newest = stored.entries.values().map(|(_, revision)| *revision).max();
        let told = self.watcher.finish(newest.unwrap_or(0)).await;
        let journal = lock(&self.journal);
        let (mut lost, mut revisions_back) = (Vec::new(), told.back);
        for (writer, acked) in journal.acked.iter().enumerate() {
            let mut before = 0;
            for (number, revision) in acked {
                let key = key(prefix, writer, *number);
                // The value is the number and nobody writes a key twice, so its revision is the acknowledged one.
                if stored.entries.get(&key) != Some(&(*number, *revision)) {
                    lost.push(key);
                }
                revisions_back += u64::from(*revision <= before);
                before = *revision;
            }
        }
        // A write that was under way when the clients stopped may have come after the reading.
        let events = told.events.iter().filter(|(_, (_, revision))| *revision <= stored.revision);
        let gone = events.filter(|(key, value)| stored.entries.get(*key) != Some(value));
        lost.extend(gone.map(|(key, _)| key.clone()));
        let untold = stored.entries.iter().filter(|(key, value)| told.events.get(*key) != Some(value));
        let missed = untold.map(|(key, _)| key.clone()).collect();
        let (events, watches) = (told.events.len(), told.watches);
        Ok(Receipt { tally, wrote_for, lost, missed, revisions_back, events, watches })
    }
}

impl Receipt {
    /// What etcd promises and did not keep.
    pub fn broken(&self) -> Vec<String> {
        let writes = [("lost writes", &self.lost), ("missed watch events", &self.missed)];
        let writes = writes.into_iter().filter_map(|(what, keys)| {
            Some(format!("{} {what}, the first is {}", keys.len(), keys.first()?))
        });
        let back = self.revisions_back;
        writes.chain((back > 0).then(|| format!("{back} revisions that went back"))).collect()
    }

    /// One line for a person.
    pub fn line(&self) -> String {
        let Tally { acked, failed, longest_gap, errors } = &self.tally;
        let errors = if errors.is_empty() { String::new() } else { format!(" {errors:?}") };
        format!(
            "{acked} writes, {failed} failed{errors}, {} lost; longest pause {} ms; {} watch events over {} watches, {} missed; {} revisions went back",
            self.lost.len(),
            millis(*longest_gap),
            self.events,
            self.watches,
            self.missed.len(),
            self.revisions_back,
        )
    }

    /// One JSON object.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "acked": self.tally.acked,
            "failed": self.tally.failed,
            "lost": self.lost.len(),
            "watchEvents": self.events,
            "missedWatchEvents": self.missed.len(),
            "longestGapMillis": millis(self.tally.longest_gap),
            "revisionsMonotonic": self.revisions_back == 0,
            "wroteForMillis": millis(self.wrote_for),
            "errors": self.tally.errors,
        })
    }
}

#[allow(clippy::single_match_else, reason = "two ways to a connection, side by side")]
async fn write(
    writer: usize,
    options: Options,
    endpoints: watch::Receiver<Vec<String>>,
    journal: Arc<Mutex<Journal>>,
) {
    let mut turn = writer;
    let mut connected: Option<(String, Client)> = None;
    let mut number = 0;
    loop {
        let known = endpoints.borrow().clone();
        if known.is_empty() {
            sleep(Duration::from_millis(20)).await;
            continue;
        }
        // A member that went away and came back has another address: drop the connection to the old one.
        let (endpoint, client) = match connected.take().filter(|(endpoint, _)| known.contains(endpoint)) {
            Some(connection) => connection,
            None => {
                let endpoint = known[turn % known.len()].clone();
                match connect(&endpoint, options.tls.as_ref()).await {
                    Ok(client) => (endpoint, client),
                    // No write was begun, so none failed: like any etcd client, this one looks for a member
                    // that takes connections. The time without an acknowledgement counts all the same.
                    Err(_) => {
                        turn += 1;
                        sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                }
            }
        };
        number += 1;
        let mut kv = client.kv_client();
        let put = kv.put(key(&options.prefix, writer, number), number.to_string(), None);
        let error = match timeout(ONE_WRITE, put).await {
            Ok(Ok(answer)) => {
                let revision = answer.header().map_or(0, ResponseHeader::revision);
                acknowledge(&journal, writer, number, revision);
                connected = Some((endpoint, client));
                sleep(options.pause).await;
                continue;
            }
            // Nothing was sent: the member is gone since the last write. Again no write failed.
            Ok(Err(etcd_client::Error::GRpcStatus(status))) if status.message() == "tcp connect error" => {
                turn += 1;
                continue;
            }
            Ok(Err(etcd_client::Error::GRpcStatus(status))) => {
                format!("{:?}: {}", status.code(), status.message())
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", ONE_WRITE.as_secs()),
        };
        fail(&journal, &error);
        turn += 1;
    }
}

async fn connect(endpoint: &str, tls: Option<&TlsOptions>) -> Result<Client, String> {
    // The client dials only at its first call; whether somebody listens must be known before.
    let address = endpoint.split_once("://").map_or(endpoint, |(_, address)| address);
    match timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err(format!("no connection within {} s", CONNECT.as_secs())),
    }
    let options = ConnectOptions::new().with_connect_timeout(CONNECT);
    let options = match tls {
        Some(tls) => options.with_tls(tls.clone()),
        None => options,
    };
    Client::connect([endpoint], Some(options)).await.map_err(|error| error.to_string())
}

fn acknowledge(journal: &Mutex<Journal>, writer: usize, number: u64, revision: i64) {
    let now = Instant::now();
    let mut journal = lock(journal);
    journal.tally.acked += 1;
    journal.acked[writer].push((number, revision));
    if let Some(last) = journal.last_ack.replace(now) {
        let gap = now.saturating_duration_since(last);
        journal.tally.longest_gap = journal.tally.longest_gap.max(gap);
    }
}

fn fail(journal: &Mutex<Journal>, error: &str) {
    let mut journal = lock(journal);
    journal.tally.failed += 1;
    *journal.tally.errors.entry(error.to_owned()).or_default() += 1;
}

/// Asks one member after the other until one answers, for a minute.
async fn ask_any<T>(
    endpoints: &watch::Receiver<Vec<String>>,
    tls: Option<&TlsOptions>,
    ask: impl AsyncFn(Client) -> Result<T, String>,
) -> Result<T, String> {
    let until = Instant::now() + Duration::from_mins(1);
    loop {
        let known = endpoints.borrow().clone();
        let mut why = "no member is known".to_owned();
        for endpoint in known {
            let answer = match connect(&endpoint, tls).await {
                Ok(client) => Box::pin(ask(client)).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => why = format!("{endpoint}: {error}"),
            }
        }
        if Instant::now() > until {
            return Err(why);
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// What etcd has below the prefix.
#[derive(Default)]
struct Stored {
    /// The cluster's revision at which all of it was read.
    revision: i64,
    entries: Entries,
}

/// Page by page, linearizably, at one revision.
async fn read_all(client: Client, prefix: &str) -> Result<Stored, String> {
    let mut kv = client.kv_client();
    let mut stored = Stored::default();
    let mut from = prefix.as_bytes().to_vec();
    // One byte up from the prefix ends the range; the prefix is ours and ends in a slash.
    let mut end = from.clone();
    if let Some(byte) = end.last_mut() {
        *byte += 1;
    }
    loop {
        let options =
            GetOptions::new().with_range(end.clone()).with_limit(PAGE).with_revision(stored.revision);
        let answer = timeout(ONE_READ, kv.get(from.clone(), Some(options)))
            .await
            .map_err(|_| format!("no answer within {} s", ONE_READ.as_secs()))?
            .map_err(|error| error.to_string())?;
        if stored.revision == 0 {
            stored.revision = answer.header().map_or(0, ResponseHeader::revision);
        }
        stored.entries.extend(answer.kvs().iter().map(entry));
        let Some(last) = answer.kvs().last().filter(|_| answer.more()) else { return Ok(stored) };
        from = [last.key(), &[0]].concat();
    }
}

fn entry(kv: &KeyValue) -> (String, (u64, i64)) {
    let number = kv.value_str().ok().and_then(|value| value.parse().ok()).unwrap_or(0);
    (String::from_utf8_lossy(kv.key()).into_owned(), (number, kv.mod_revision()))
}

fn key(prefix: &str, writer: usize, number: u64) -> String {
    format!("{prefix}{writer}/{number:010}")
}

/// Whole milliseconds.
pub fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
