//! Changes `spec.version` of an `EtcdCluster` while clients write, and shows what happens: the heart of
//! `make demo`. It only edits the spec and looks; everything else is the operator's doing.

#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests and tools are I/O")]
#![allow(missing_docs, clippy::print_stdout, reason = "a program for the terminal")]

mod screen;
#[path = "../tests/support/writer.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod writer;

use anyhow::{Context as _, bail};
use clap::Parser;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::config::KubeConfigOptions;
use kube::{Client, Config, ResourceExt as _};
use quorate::api::{ConditionType, EtcdCluster, find_condition, labels};
use screen::Screen;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{interval, sleep};
use writer::{Options, Receipt, Writers};

/// How often the cluster is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long is written before the change, and after it.
const QUIET: Duration = Duration::from_secs(2);

/// Changes the version of an etcd cluster while clients write, and shows how its members are replaced.
#[derive(Parser)]
struct Args {
    /// The context of the kubeconfig; the current one when absent.
    #[arg(long)]
    context: Option<String>,
    #[arg(long, default_value = "default")]
    namespace: String,
    /// The `EtcdCluster`.
    #[arg(long, default_value = "etcd")]
    cluster: String,
    /// The version to go to.
    #[arg(long)]
    to: String,
    /// Client URLs that stay the same, e.g. of port-forwards. The Pods' own addresses when absent.
    #[arg(long, value_delimiter = ',')]
    endpoints: Vec<String>,
    /// How many clients write.
    #[arg(long, default_value_t = 4)]
    writers: usize,
    /// Give up after so many seconds.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Print the receipt as JSON too, into this file.
    #[arg(long)]
    json: Option<std::path::PathBuf>,
}

/// What was seen at one look.
pub struct Look {
    pub cluster: EtcdCluster,
    pub pods: Vec<Pod>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let args = Args::parse();
    let client = client(args.context.as_deref()).await?;
    let clusters: Api<EtcdCluster> = Api::namespaced(client.clone(), &args.namespace);
    let pods: Api<Pod> = Api::namespaced(client, &args.namespace);

    let first = look(&clusters, &pods, &args.cluster).await?;
    let from = first.cluster.spec.version.clone();
    let (endpoints, known) = watch::channel(endpoints_of(&first, &args.endpoints));
    let options = Options {
        prefix: format!("quorate-demo/{}/", jiff::Timestamp::now().as_millisecond()),
        writers: args.writers,
        ..Options::default()
    };
    let writers = Writers::start(options, known).await.map_err(anyhow::Error::msg)?;
    let mut screen = Screen::new(&from, &args.to);
    let mut roll = Roll::default();
    let mut ticks = interval(LOOK);
    let until = Instant::now() + Duration::from_secs(args.seconds);

    let quiet = Instant::now();
    while quiet.elapsed() < QUIET {
        ticks.tick().await;
        let seen = look(&clusters, &pods, &args.cluster).await?;
        screen.draw(&seen, &writers.tally(), None);
    }
    if writers.tally().acked == 0 {
        bail!(
            "no write was acknowledged within {} s; can this machine reach {}?",
            QUIET.as_secs(),
            endpoints_of(&first, &args.endpoints).join(", ")
        );
    }
    writers.forget_gap();

    let patch = Patch::Merge(serde_json::json!({ "spec": { "version": args.to } }));
    clusters.patch(&args.cluster, &PatchParams::default(), &patch).await.context("the change was refused")?;
    let edited = Instant::now();
    let outcome = loop {
        ticks.tick().await;
        let seen = match look(&clusters, &pods, &args.cluster).await {
            Ok(seen) => seen,
            Err(_) if Instant::now() < until => continue,
            Err(error) => return Err(error),
        };
        let _ = endpoints.send(endpoints_of(&seen, &args.endpoints));
        roll.watch(&seen);
        screen.draw(&seen, &writers.tally(), Some(edited.elapsed()));
        if let Some(outcome) = ended(&seen.cluster, &args.to) {
            break outcome;
        }
        if Instant::now() > until {
            break Err(format!("not done after {} s", args.seconds));
        }
    };
    let (to_ready, ready) = (edited.elapsed(), Instant::now());
    sleep(QUIET).await;
    let receipt =
        writers.finish().await.map_err(anyhow::Error::msg).context("the writes cannot be read back")?;
    println!();
    if let Err(why) = outcome {
        bail!("{why}");
    }
    report(&args, &from, &roll, to_ready, ready, &receipt)
}

async fn client(context: Option<&str>) -> anyhow::Result<Client> {
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let config = Config::from_kubeconfig(&options).await.context("the kubeconfig cannot be used")?;
    Ok(Client::try_from(config)?)
}

async fn look(clusters: &Api<EtcdCluster>, pods: &Api<Pod>, name: &str) -> anyhow::Result<Look> {
    let members =
        format!("{},{}={}", labels::selector_of_cluster(name), labels::COMPONENT, labels::COMPONENT_MEMBER);
    let params = ListParams::default().labels(&members);
    let (cluster, pods) = tokio::try_join!(clusters.get(name), pods.list(&params))?;
    Ok(Look { cluster, pods: pods.items })
}

/// Where clients connect: as with DNS names, a member that is being stopped is still in the list.
fn endpoints_of(look: &Look, fixed: &[String]) -> Vec<String> {
    if !fixed.is_empty() {
        return fixed.to_vec();
    }
    let addresses = look.pods.iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.clone());
    addresses
        .map(|ip| if ip.contains(':') { format!("http://[{ip}]:2379") } else { format!("http://{ip}:2379") })
        .collect()
}

/// Whether the operator is done with this generation, or says that it will not go on.
fn ended(cluster: &EtcdCluster, to: &str) -> Option<Result<(), String>> {
    let status = cluster.status.as_ref()?;
    if status.observed_generation != cluster.metadata.generation {
        return None;
    }
    let holds =
        |kind| find_condition(&status.conditions, kind).filter(|condition| condition.status == "True");
    if let Some(stalled) = holds(ConditionType::Stalled) {
        let remedies =
            status.refusals.iter().map(|refusal| refusal.remedy.as_str()).collect::<Vec<_>>().join(" ");
        return Some(Err(format!("{}: {} {remedies}", stalled.reason, stalled.message)));
    }
    let version = status.version.as_deref() == Some(to.trim_start_matches('v'));
    (version && holds(ConditionType::Ready).is_some() && holds(ConditionType::Reconciling).is_none())
        .then_some(Ok(()))
}

/// What is noted of the roll while it is watched.
#[derive(Default)]
struct Roll {
    uids: BTreeMap<String, String>,
    first_stopped: Option<Instant>,
    leader: Option<String>,
    leader_changes: u32,
    most_away: usize,
}

impl Roll {
    fn watch(&mut self, look: &Look) {
        let mut away = 0;
        for pod in &look.pods {
            let uid = pod.uid().unwrap_or_default();
            let before = self.uids.insert(pod.name_any(), uid.clone());
            let replaced = before.is_some_and(|before| before != uid);
            if self.first_stopped.is_none() && (replaced || pod.metadata.deletion_timestamp.is_some()) {
                self.first_stopped = Some(Instant::now());
            }
            away += usize::from(!screen::is_ready(pod));
        }
        away += self.uids.len().saturating_sub(look.pods.len());
        self.most_away = self.most_away.max(away);
        let leader = look.cluster.status.as_ref().and_then(|status| status.leader.clone());
        if leader.is_some() && leader != self.leader {
            self.leader_changes += u32::from(self.leader.is_some());
            self.leader = leader;
        }
    }
}

fn report(
    args: &Args,
    from: &str,
    roll: &Roll,
    to_ready: Duration,
    ready: Instant,
    receipt: &Receipt,
) -> anyhow::Result<()> {
    let length = roll.first_stopped.map_or(Duration::ZERO, |first| ready.duration_since(first));
    let rows = [
        ("roll, first Pod stopped to Ready", format!("{:.1} s", length.as_secs_f64())),
        ("edit of spec.version to Ready", format!("{:.1} s", to_ready.as_secs_f64())),
        ("longest pause of writes", format!("{} ms", receipt.tally.longest_gap.as_millis())),
        ("acknowledged writes", screen::grouped(receipt.tally.acked)),
        ("failed writes", failed(receipt)),
        ("lost writes", screen::grouped(receipt.lost.len() as u64)),
        ("missed watch events", screen::grouped(receipt.missed.len() as u64)),
        ("most members away at once", roll.most_away.to_string()),
        ("moves of the leader", roll.leader_changes.to_string()),
    ];
    println!("  etcd {from} → {}, {} clients writing all the while", args.to, args.writers);
    println!("  {}", "─".repeat(60));
    for (what, figure) in rows {
        println!("  {what:<36}{figure}");
    }
    println!("  {}", "─".repeat(60));
    if args.endpoints.is_empty() {
        println!("  Every acknowledged write was read back from etcd, linearizably,");
        println!("  and a watch had told of it.");
    } else {
        println!("  Every acknowledged write was read back. The writes went through port-forwards,");
        println!("  which end with their Pod: pauses and failed writes are theirs as well.");
    }
    if let Some(file) = &args.json {
        let mut json = receipt.json();
        json["rollMillis"] = writer::millis(length).into();
        json["editToReadyMillis"] = writer::millis(to_ready).into();
        json["mostAway"] = roll.most_away.into();
        json["leaderChanges"] = roll.leader_changes.into();
        std::fs::write(file, format!("{json:#}\n"))?;
    }
    let broken = receipt.broken();
    if !broken.is_empty() {
        bail!("a promise of etcd's was broken: {}", broken.join("; "));
    }
    Ok(())
}

fn failed(receipt: &Receipt) -> String {
    let errors: Vec<&str> = receipt.tally.errors.keys().map(String::as_str).collect();
    match receipt.tally.failed {
        0 => "0".to_owned(),
        count => format!("{count}  ({})", errors.join("; ").chars().take(90).collect::<String>()),
    }
}
