//! One round of one side: create, load, roll, read back.

use crate::contender::Contender;
use crate::leader::Leaders;
use crate::live::Live;
use crate::writer::{Options, Receipt, Writers};
use anyhow::{Context as _, anyhow, bail};
use k8s_openapi::api::core::v1::Pod;
use quorate::api::EtcdCluster;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{sleep, timeout_at};

/// How long the clients get to connect.
const SETTLE: Duration = Duration::from_secs(2);
/// How long is written before the change: as long as a roll takes, so that the pauses of the two can be compared.
const BEFORE: Duration = Duration::from_secs(15);
/// How long is written after the roll.
const AFTER: Duration = Duration::from_secs(3);
/// After which a round is given up.
const PATIENCE: Duration = Duration::from_mins(5);

/// What one round measured.
pub struct Round {
    /// From the creation to all members ready; of Quorate, to `Ready`.
    pub create: Duration,
    /// From the first member's deletion to all members ready on the new version; of Quorate, to the last gate
    /// passed, which is `Ready`.
    pub roll: Duration,
    /// From the first member's deletion to the last Pod ready on the new version, on either side.
    pub pods_roll: Duration,
    /// From the edit to the same end as `roll`.
    pub edit_to_done: Duration,
    /// The longest time without an acknowledged write before the edit, while nobody was touched: what this
    /// machine's disk and other work do by themselves.
    pub noise: Duration,
    /// How often another member came to lead.
    pub leader_changes: u32,
    pub receipt: Receipt,
}

impl Round {
    pub fn line(&self) -> String {
        format!(
            "create {:5.1} s   roll {:5.1} s (edit to done {:.1} s, Pods {:.1} s)   longest pause {:5} ms (before: {} ms)   {} writes, {} failed, {} lost, {} missed   {} leader changes",
            self.create.as_secs_f64(),
            self.roll.as_secs_f64(),
            self.edit_to_done.as_secs_f64(),
            self.pods_roll.as_secs_f64(),
            self.receipt.tally.longest_gap.as_millis(),
            self.noise.as_millis(),
            self.receipt.tally.acked,
            self.receipt.tally.failed,
            self.receipt.lost.len(),
            self.receipt.missed.len(),
            self.leader_changes,
        )
    }
}

pub async fn measure(side: &Contender, from: &str, to: &str, writers: usize) -> anyhow::Result<Round> {
    let (mut pods, mut clusters) = (side.pods(), side.clusters());
    // A Pod's address is all that clients know; it changes when the Pod is replaced.
    let (endpoints, known) = watch::channel(Vec::new());

    let begun = Instant::now();
    side.create(from).await?;
    let created = follow(side, &mut pods, &mut clusters, from, |_| {}).await.context("not created")?;

    endpoints.send_replace(endpoints_of(&pods.now()));
    let prefix = format!("bench/{}/", jiff::Timestamp::now().as_millisecond());
    let options = Options { prefix, writers, ..Options::default() };
    let load = Writers::start(options, known.clone()).await.map_err(|error| anyhow!(error))?;
    let leaders = Leaders::start(known);
    sleep(SETTLE).await;
    load.forget_gap();
    sleep(BEFORE).await;
    let before = load.tally();
    if before.acked == 0 {
        bail!("no write was acknowledged; can this machine reach {:?}?", endpoints_of(&pods.now()));
    }
    load.forget_gap();

    let mut rolled = Rolled::default();
    let edited = Instant::now();
    side.change_version(to).await?;
    let done = follow(side, &mut pods, &mut clusters, to, |pods| {
        endpoints.send_replace(endpoints_of(pods));
        rolled.see(pods, to);
    })
    .await
    .context("not rolled")?;
    sleep(AFTER).await;

    let leader_changes = leaders.finish();
    let receipt =
        load.finish().await.map_err(|error| anyhow!(error)).context("the writes cannot be read back")?;
    let first = rolled.first_stopped.context("no member was seen being stopped")?;
    let last = rolled.last_ready.context("the members were not seen ready")?;
    Ok(Round {
        create: created.duration_since(begun),
        roll: done.duration_since(first),
        pods_roll: last.duration_since(first),
        edit_to_done: done.duration_since(edited),
        noise: before.longest_gap,
        leader_changes,
        receipt,
    })
}

/// Looks at each change until all three Pods are ready on this version and the side is done; says when it was done.
async fn follow(
    side: &Contender,
    pods: &mut Live<Pod>,
    clusters: &mut Live<EtcdCluster>,
    version: &str,
    mut see: impl FnMut(&[Pod]),
) -> anyhow::Result<Instant> {
    let until = tokio::time::Instant::now() + PATIENCE;
    let mut done = None;
    loop {
        let now = pods.now();
        see(&now);
        let ready = all_ready(&now, version);
        if done.is_none() && side.is_done(ready, &clusters.now(), version)? {
            done = Some(Instant::now());
        }
        if let Some(done) = done.filter(|_| ready) {
            return Ok(done);
        }
        let change = async {
            tokio::select! {
                () = pods.changed() => {}
                () = clusters.changed() => {}
            }
        };
        if timeout_at(until, change).await.is_err() {
            let pods: Vec<String> = now.iter().map(state).collect();
            bail!("after {} s the Pods are: {pods:?}", PATIENCE.as_secs());
        }
    }
}

#[derive(Default)]
struct Rolled {
    first_stopped: Option<Instant>,
    last_ready: Option<Instant>,
}

impl Rolled {
    fn see(&mut self, pods: &[Pod], version: &str) {
        if self.first_stopped.is_none() && pods.iter().any(is_stopping) {
            self.first_stopped = Some(Instant::now());
        }
        if self.last_ready.is_none() && all_ready(pods, version) {
            self.last_ready = Some(Instant::now());
        }
    }
}

fn all_ready(pods: &[Pod], version: &str) -> bool {
    pods.len() == 3 && pods.iter().all(|pod| is_ready(pod) && runs(pod, version))
}

fn is_stopping(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether the kubelet says that the Pod is ready, and nobody stops it.
fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    !is_stopping(pod) && conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn runs(pod: &Pod, version: &str) -> bool {
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.any(|container| {
        container.image.as_ref().is_some_and(|image| image.ends_with(&format!(":v{version}")))
    })
}

/// As with DNS names, a member that is being stopped is still in the list.
fn endpoints_of(pods: &[Pod]) -> Vec<String> {
    let addresses = pods.iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.as_deref());
    addresses.map(|ip| format!("http://{ip}:2379")).collect()
}

fn state(pod: &Pod) -> String {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    format!("{} {phase} ready={}", pod.metadata.name.as_deref().unwrap_or_default(), is_ready(pod))
}
